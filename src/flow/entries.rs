//! What is kept per connection, by handle: the little that ordinary segments need, and the rest.

use super::brief::Brief;
use super::half::Half;
use super::slab::Slab;
use super::{Both, Link, Moment, Side};
use crate::capture::near;
use crate::net::{Endpoint, Timestamp};
use crate::packet::Segment;

/// What a connection's ordinary segments need, in two cache lines of 64 bytes.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Hot {
    pub(super) ends: Both<Endpoint>,
    /// Nobody's any more, or not yet again.
    pub(super) free: bool,
    /// The halves are in [`Cold::halves`], as there is more to them than their brief form can say.
    pub(super) full: bool,
    /// [`Link::deaf`].
    pub(super) deaf: bool,
    pub(super) reset: Option<Side>,
    /// The pipeline's clock at the last packet.
    pub(super) seen: Timestamp,
    /// The tick at which this flow is looked at next.
    pub(super) tick: u64,
    /// [`Link::start`].
    pub(super) start: Timestamp,
    pub(super) halves: Both<Brief>,
}

impl Hot {
    /// Whether the segment, sent from that side, is this connection's.
    #[inline(always)]
    pub(super) fn is_of(&self, side: Side, segment: &Segment<'_>) -> bool {
        *self.ends.of(side) == segment.source && *self.ends.of(side.peer()) == segment.destination && !self.free
    }

    /// Whether so far all was ordinary, and the segment has nothing by which it would change that by itself.
    #[inline(always)]
    pub(super) fn is_plain(&self, segment: &Segment<'_>) -> bool {
        !self.full && self.reset.is_none() && segment.cut == 0 && segment.ts >= self.start
    }

    /// In brief form only.
    pub(super) fn closed(&self) -> bool {
        self.reset.is_some() || (self.halves.of(Side::Low).fin_seen() && self.halves.of(Side::High).fin_seen())
    }

    /// In brief form only: one side has finished.
    #[inline]
    pub(super) fn ends_soon(&self) -> bool {
        self.halves.of(Side::Low).fin_seen() | self.halves.of(Side::High).fin_seen()
    }

    /// In brief form only: each side has acknowledged the other's end.
    fn settled(&self) -> bool {
        self.halves.of(Side::Low).end_acked() && self.halves.of(Side::High).end_acked()
    }

    fn established(&self) -> bool {
        let (low, high) = (self.halves.of(Side::Low), self.halves.of(Side::High));
        low.next() > 0 || high.next() > 0 || (low.placed() && high.placed())
    }
}

/// How far a connection's life has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Both sides have finished, or one has reset it.
    pub(super) closed: bool,
    /// Both have finished and have acknowledged it to each other, and all of it was ordinary.
    pub(super) settled: bool,
    /// Both sides were seen, or bytes.
    pub(super) established: bool,
    /// A hole or an unplaced beginning keeps something waiting.
    pub(super) waits: bool,
}

/// The rest of a connection. In this order, what new bytes need is in the first two cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Cold<S> {
    pub(super) halves: Option<Box<Both<Half>>>,
    /// Of each half in its brief form, place in the input of the last acknowledgement that said something new.
    pub(super) acked_index: Both<u64>,
    pub(super) state: S,
    pub(super) link: Link,
}

/// A connection's parts, for what is out of the ordinary.
pub(super) struct Entry<'e, S> {
    pub(super) hot: &'e mut Hot,
    pub(super) link: &'e mut Link,
    pub(super) state: &'e mut S,
    pub(super) halves: &'e mut Both<Half>,
}

impl<S> Entry<'_, S> {
    pub(super) fn closed(&self) -> bool {
        self.hot.reset.is_some() || (self.halves.of(Side::Low).fin_seen() && self.halves.of(Side::High).fin_seen())
    }

    pub(super) fn established(&self) -> bool {
        self.halves.of(Side::Low).has_data()
            || self.halves.of(Side::High).has_data()
            || (self.halves.of(Side::Low).placed() && self.halves.of(Side::High).placed())
    }
}

/// How many boxes are kept for the next time.
const MOST_SPARE: usize = 64;

/// All connections of a lane.
#[derive(Debug)]
pub(super) struct Entries<S> {
    hot: Slab<Hot>,
    cold: Slab<Option<Cold<S>>>,
    /// Boxes that were needed for a while; they go back to the connections as they are.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Both<Half>>>,
    /// How many are unfolded.
    unfolded: usize,
}

impl<S> Default for Entries<S> {
    fn default() -> Self {
        Self { hot: Slab::default(), cold: Slab::default(), spare: Vec::new(), unfolded: 0 }
    }
}

impl<S> Entries<S> {
    const EACH: usize = size_of::<Hot>() + size_of::<Option<Cold<S>>>();

    /// The most bytes that a connection takes.
    pub(super) const MOST: usize = Self::EACH + size_of::<Both<Half>>();

    /// Bytes that all connections take.
    pub(super) fn cost(&self) -> usize {
        self.hot.used() * Self::EACH + (self.unfolded + self.spare.len()) * size_of::<Both<Half>>()
    }

    /// The handle that [`Entries::add`] will give next.
    pub(super) fn next(&self) -> u32 {
        self.hot.next()
    }

    /// One more than the highest handle that was ever given.
    pub(super) fn reach(&self) -> u32 {
        self.hot.reach()
    }

    /// What ordinary segments need.
    #[inline]
    pub(super) fn hot(&self, handle: u32) -> Option<&Hot> {
        self.hot.get(handle)
    }

    /// The rest.
    #[inline]
    pub(super) fn cold(&self, handle: u32) -> Option<&Cold<S>> {
        self.cold.get(handle)?.as_ref()
    }

    /// Brings near what ordinary segments need.
    #[inline]
    pub(super) fn fetch_hot(&self, handle: u32) {
        if let Some(hot) = self.hot(handle) {
            near::fetch::<2, _>(hot);
        }
    }

    /// Brings the rest near, as far as new bytes need it.
    #[inline]
    pub(super) fn fetch_cold(&self, handle: u32) {
        if let Some(place) = self.cold.get(handle) {
            near::fetch::<2, _>(place);
        }
    }

    /// Brings near where the next connection will be kept: who was there before has long been silent.
    #[inline]
    pub(super) fn fetch_next(&self) {
        let handle = self.next();
        self.fetch_hot(handle);
        if let Some(place) = self.cold.get(handle) {
            near::fetch::<4, _>(place);
        }
    }

    /// What ordinary segments need, to change.
    #[inline]
    pub(super) fn hot_mut(&mut self, handle: u32) -> Option<&mut Hot> {
        self.hot.get_mut(handle)
    }

    /// Both parts.
    #[inline]
    pub(super) fn both(&mut self, handle: u32) -> Option<(&mut Hot, &mut Cold<S>)> {
        Some((self.hot.get_mut(handle)?, self.cold.get_mut(handle)?.as_mut()?))
    }

    /// A connection's parts, if it is unfolded.
    #[inline]
    pub(super) fn entry(&mut self, handle: u32) -> Option<Entry<'_, S>> {
        let (hot, Cold { link, state, halves, .. }) = self.both(handle)?;
        Some(Entry { hot, link, state, halves: halves.as_mut()? })
    }

    /// How far the connection has come, in whatever form it is.
    pub(super) fn standing(&mut self, handle: u32) -> Option<Standing> {
        let hot = self.hot.get(handle)?;
        if !hot.full {
            let settled = hot.settled() && hot.reset.is_none();
            return Some(Standing { closed: hot.closed(), settled, established: hot.established(), waits: false });
        }
        let entry = self.entry(handle)?;
        let waits = entry.halves.of(Side::Low).waits() || entry.halves.of(Side::High).waits();
        Some(Standing { closed: entry.closed(), settled: false, established: entry.established(), waits })
    }

    /// Adds a connection, in brief form, of which nothing was seen yet. Its handle, and when the last connection of
    /// that handle was to be looked at.
    pub(super) fn add(&mut self, link: Link, state: S, tick: u64, now: Moment) -> (u32, Option<u64>) {
        let before = self.hot.get(self.hot.next()).map(|hot| hot.tick);
        let handle = self.hot.add(Hot {
            ends: link.ends,
            free: false,
            full: false,
            deaf: link.deaf,
            reset: None,
            seen: now.clock,
            tick,
            start: link.start,
            halves: Both::default(),
        });
        // Both slabs are asked and given back together, so that the handle is the same.
        self.cold.add(Some(Cold { halves: None, state, link, acked_index: Both::default() }));
        (handle, before)
    }

    /// Takes a connection out. Its brief halves say nothing if it has full ones.
    pub(super) fn remove(&mut self, handle: u32) -> Option<(Both<Brief>, Cold<S>)> {
        let cold = self.cold.get_mut(handle)?.take()?;
        let hot = self.hot.get_mut(handle)?;
        hot.free = true;
        let brief = hot.halves;
        self.unfolded -= usize::from(cold.halves.is_some());
        self.hot.forget(handle);
        self.cold.forget(handle);
        Some((brief, cold))
    }

    /// Keeps a box for the next time.
    pub(super) fn spare(&mut self, halves: Box<Both<Half>>) {
        if self.spare.len() < MOST_SPARE {
            self.spare.push(halves);
        }
    }

    /// Gives the halves their full form.
    pub(super) fn unfold(&mut self, handle: u32) {
        let Some(hot) = self.hot.get_mut(handle).filter(|hot| !hot.full) else { return };
        let Some(Some(cold)) = self.cold.get_mut(handle) else { return };
        let mut halves = self.spare.pop().unwrap_or_default();
        let half = |side| hot.halves.of(side).half(*cold.acked_index.of(side));
        *halves = Both::new(half(Side::Low), half(Side::High));
        cold.halves = Some(halves);
        hot.full = true;
        self.unfolded += 1;
    }

    /// Gives the halves their brief form again, if that says all.
    pub(super) fn fold(&mut self, handle: u32) {
        let Some((hot, cold)) = self.both(handle) else { return };
        (hot.deaf, hot.start) = (cold.link.deaf, cold.link.start);
        let Some(halves) = &cold.halves else { return };
        if let Some(low) = Brief::of(halves.of(Side::Low))
            && let Some(high) = Brief::of(halves.of(Side::High))
        {
            hot.halves = Both::new(low, high);
            cold.acked_index = Both::new(halves.of(Side::Low).acked_index, halves.of(Side::High).acked_index);
            hot.full = false;
            if let Some(halves) = cold.halves.take() {
                self.unfolded -= 1;
                self.spare(halves);
            }
        }
    }
}
