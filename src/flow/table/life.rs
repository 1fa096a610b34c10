//! The life of a connection in the table: it is opened, looked at from time to time, and ended.

use super::super::brief::Brief;
use super::super::entries::Entries;
use super::super::half::Half;
use super::super::index::MOST;
use super::super::timer::{TICK, tick_at};
use super::super::{Application, Both, Link, Moment, Patience, Side, Totals};
use super::{EVICTION_SAMPLE, Key, LOOK, OVERDUE, PLACE, Tracker, tag};
use crate::net::{Span, Timestamp};
use crate::packet::Segment;
use crate::record::Ending;

/// How many flows before it is looked at the memory of one is asked for.
const SOON: usize = 8;

impl<A: Application> Tracker<A> {
    /// Adds the connection of a segment that belongs to none.
    pub(super) fn open(&mut self, key: &Key, segment: &Segment<'_>, now: Moment) -> u32 {
        let side = key.side;
        let ends = match side {
            Side::Low => Both::new(segment.source, segment.destination),
            Side::High => Both::new(segment.destination, segment.source),
        };
        let flags = segment.flags;
        let client_known = flags.syn();
        let client = match (flags.syn(), flags.ack()) {
            (true, false) => side,
            (true, true) => side.peer(),
            // The lower port is more often the server's.
            _ if segment.source.port >= segment.destination.port => side,
            _ => side.peer(),
        };
        let mut link = Link {
            ends,
            client,
            client_known,
            mid_stream: !client_known,
            conflict: false,
            deaf: false,
            start: segment.ts,
            first_index: segment.index,
            layers: segment.layers,
            slot: self.entries.next(),
        };
        let state = self.app.open(&mut link, side, now);
        let tick = tick_at(now.clock.after(self.limits.half_open)).min(self.tick + LOOK).max(self.tick + 1);
        let (handle, before) = self.entries.add(link, state, tick, now);
        self.entries.fetch_next();
        self.index.insert(key.tag, handle);
        match before {
            // Who had the handle before is still to be looked at: it will be this one.
            Some(earlier) if (self.tick + 1..=tick).contains(&earlier) => self.look_first(handle, earlier),
            _ => self.timers.add(tick, handle),
        }
        self.counters.opened += 1;
        self.counters.peak = self.counters.peak.max(self.index.len() as u64);
        handle
    }

    /// Looks at a flow earlier than planned if its state asks for it.
    pub(super) fn reschedule(&mut self, handle: u32, now: Moment) {
        let Some(standing) = self.entries.standing(handle) else { return };
        if standing.closed || standing.waits {
            let wanted = if standing.closed { self.limits.linger_of(standing) } else { Span(TICK) };
            self.look_by(handle, now.clock.after(wanted));
        }
    }

    /// Sees to it that the flow is looked at by then.
    pub(super) fn look_by(&mut self, handle: u32, time: Timestamp) {
        let tick = tick_at(time).max(self.tick + 1);
        if let Some(hot) = self.entries.hot_mut(handle)
            && tick < hot.tick
        {
            hot.tick = tick;
            self.timers.add(tick, handle);
        }
    }

    /// Brings near what looking at the flows behind the `n`th will need: of the farther one, whether it is due; of the
    /// nearer one, the rest.
    pub(super) fn look_soon(&self, handles: &[u32], n: usize, due: u64) {
        if let Some(&handle) = handles.get(n + 2 * SOON) {
            self.entries.fetch_hot(handle);
        }
        if let Some(&handle) = handles.get(n + SOON)
            && self.entries.hot(handle).is_some_and(|hot| !hot.free && hot.tick == due)
        {
            self.entries.fetch_cold(handle);
        }
    }

    pub(super) fn look_at(&mut self, handle: u32, due: u64) {
        let Some(hot) = self.entries.hot(handle).filter(|hot| !hot.free && hot.tick == due) else { return };
        let (seen, reset) = (hot.seen, hot.reset.is_some());
        let Some(standing) = self.entries.standing(handle) else { return };
        let limits = self.limits;
        let (timeout, ending) = match (standing.closed, standing.established) {
            (true, _) => (limits.linger_of(standing), if reset { Ending::Reset } else { Ending::Finished }),
            (false, true) => (limits.idle, Ending::Idle),
            (false, false) => (limits.half_open, Ending::Idle),
        };
        let clock = Timestamp(due * TICK);
        let mut deadline = seen.after(timeout);
        if deadline <= clock && standing.established && !standing.closed {
            let patience = self.entries.cold(handle).map(|cold| self.app.patience(&cold.state));
            deadline = match patience.unwrap_or(Patience::Little) {
                Patience::Little => deadline,
                Patience::Usual => seen.after(self.idle),
                Patience::Endless => Timestamp(u64::MAX),
            };
        }
        if deadline <= clock || standing.waits {
            let index = self.entries.cold(handle).map_or(0, |cold| cold.link.first_index);
            let now = Moment { clock, by_packet: false, index };
            if deadline <= clock {
                self.close(handle, ending, now);
                return;
            }
            // Later than any tap delivers: what the receiver has acknowledged is lost.
            let overdue = seen.after(OVERDUE) <= clock;
            let index = if overdue { u64::MAX } else { self.last_index };
            self.drain(handle, Side::Low, index, false, now);
            self.drain(handle, Side::High, index, false, now);
            self.entries.fold(handle);
            if !overdue {
                self.look_next(handle, due + 1);
                return;
            }
        }
        self.look_next(handle, tick_at(deadline).min(due + LOOK).max(due + 1));
    }

    fn look_first(&mut self, handle: u32, tick: u64) {
        if let Some(hot) = self.entries.hot_mut(handle) {
            hot.tick = tick;
        }
    }

    fn look_next(&mut self, handle: u32, tick: u64) {
        if let Some(hot) = self.entries.hot_mut(handle) {
            hot.tick = tick;
            self.timers.add(tick, handle);
        }
    }

    /// Makes room in the table for the connection of a segment that belongs to none; false if it has to stay out.
    ///
    /// Whoever opens a connection gets the place of the one that was silent longest. What goes on without having been
    /// seen to open gets it only if that one was silent for a while: of more connections than there is room for, as
    /// many as possible are followed from beginning to end, rather than each for a segment at a time.
    pub(super) fn make_place(&mut self, segment: &Segment<'_>, now: Moment) -> bool {
        let patience = if segment.flags.syn() { Span::default() } else { OVERDUE };
        while !self.has_room(Entries::<A::State>::MOST + PLACE) {
            if !self.evict(patience, now) {
                return false;
            }
        }
        true
    }

    /// Bytes that all connections take, with their places.
    pub(super) fn cost(&self) -> usize {
        self.entries.cost() + self.index.len() * PLACE
    }

    /// Whether the table has room for so many more bytes.
    pub(super) fn has_room(&self, more: usize) -> bool {
        let fits = self.cost() + more <= self.limits.table_memory && self.index.len() < MOST;
        fits || self.index.len() < EVICTION_SAMPLE
    }

    /// Ends the flow that was idle longest, among a few; false if none was for so long.
    pub(super) fn evict(&mut self, patience: Span, now: Moment) -> bool {
        let mut victim: Option<(Timestamp, u32)> = None;
        let mut looked = 0;
        for _ in 0..self.entries.reach() {
            self.hand = (self.hand + 1) % self.entries.reach();
            if let Some(hot) = self.entries.hot(self.hand).filter(|hot| !hot.free) {
                if victim.is_none_or(|(seen, _)| hot.seen < seen) {
                    victim = Some((hot.seen, self.hand));
                }
                looked += 1;
                if looked == EVICTION_SAMPLE {
                    break;
                }
            }
        }
        match victim {
            Some((seen, handle)) if seen.after(patience) <= now.clock => {
                self.close(handle, Ending::Evicted, now);
                true
            }
            _ => false,
        }
    }

    pub(super) fn close(&mut self, handle: u32, ending: Ending, now: Moment) {
        let Some((hot, cold)) = self.entries.both(handle) else { return };
        let tag = tag(&self.hasher, *hot.ends.of(Side::Low), *hot.ends.of(Side::High));
        if hot.full || !hot.halves.of(Side::Low).is_settled() || !hot.halves.of(Side::High).is_settled() {
            let client = cold.link.client;
            self.entries.unfold(handle);
            for side in [client, client.peer()] {
                if let Some(entry) = self.entries.entry(handle) {
                    entry.halves.of_mut(side).settle();
                }
                self.forget_implausible(handle, side);
                self.drain(handle, side, u64::MAX, true, now);
            }
        }
        self.index.remove(tag, handle);
        let Some((brief, cold)) = self.entries.remove(handle) else { return };
        let totals = match cold.halves {
            Some(halves) => {
                let totals = totals(&halves, ending);
                self.entries.spare(halves);
                totals
            }
            None => brief_totals(&brief, ending),
        };
        self.counters.mid_stream += u64::from(!cold.link.client_known);
        if let Some(count) = self.counters.endings.get_mut(ending as usize) {
            *count += 1;
        }
        self.app.close(cold.state, &cold.link, &totals, now);
    }

    /// Every open connection: the place of its first packet in the input, and a handle for [`Tracker::end`].
    pub fn open_connections(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let begun = |handle| Some((self.entries.cold(handle)?.link.first_index, handle));
        (0..self.entries.reach()).filter_map(begun)
    }

    /// Ends a connection because the input is over.
    pub fn end(&mut self, handle: u32, now: Moment) {
        let reset = self.entries.hot(handle).is_some_and(|hot| hot.reset.is_some());
        let ending = match self.entries.standing(handle) {
            _ if reset => Ending::Reset,
            Some(standing) if standing.closed => Ending::Finished,
            _ => Ending::CaptureEnd,
        };
        self.close(handle, ending, now);
    }

    /// Ends every connection, in the order in which they began: the input is over.
    pub fn finish(&mut self, clock: Timestamp) {
        let mut open: Vec<(u64, u32)> = self.open_connections().collect();
        open.sort_unstable();
        for (index, handle) in open {
            self.end(handle, Moment { clock, by_packet: true, index });
        }
    }
}

fn totals(halves: &Both<Half>, ending: Ending) -> Totals {
    let (low, high) = (halves.of(Side::Low), halves.of(Side::High));
    // Where the receiver has finished too, it has most likely acknowledged a FIN.
    let low_fin = u64::from(low.end_is_doubtful() && high.fin_seen());
    let high_fin = u64::from(high.end_is_doubtful() && low.fin_seen());
    Totals {
        bytes: Both::new(low.next - low_fin, high.next - high_fin),
        missing: Both::new(low.missing - low_fin, high.missing - high_fin),
        packets: Both::new(low.packets, high.packets),
        last_data: Both::new(low.last_data, high.last_data),
        end: low.last.max(high.last),
        ending,
    }
}

fn brief_totals(halves: &Both<Brief>, ending: Ending) -> Totals {
    let (low, high) = (halves.of(Side::Low), halves.of(Side::High));
    Totals {
        bytes: Both::new(low.next(), high.next()),
        missing: Both::default(),
        packets: Both::new(low.packets(), high.packets()),
        last_data: Both::new(low.last_data(), high.last_data()),
        end: low.last().max(high.last()),
        ending,
    }
}
