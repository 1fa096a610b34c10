//! The flow table: which connection a segment belongs to, and what the segment does to it.

mod life;
mod ordinary;

use std::hash::BuildHasher;

use super::counters::FlowCounters;
use super::entries::{Entries, Entry, Standing};
use super::half::{Arrival, Next, Origin, is_near};
use super::index::{Index, NOBODY};
use super::timer::{TICK, Timers};
use super::{Application, Data, Gap, Moment, Side};
use crate::config;
use crate::net::{Endpoint, Span, Timestamp};
use crate::packet::Segment;
use crate::record::Ending;

/// How many slots are looked at to find the one idle longest when the table is full.
const EVICTION_SAMPLE: usize = 16;

/// The most ticks between two looks at a flow. What is no longer true waits in the timers for no longer than that.
const LOOK: u64 = 30;

/// How far ahead the end of what is not needed may lie: sequence numbers tell before from behind only so far.
const FURTHEST: u64 = 1 << 30;

/// What a flow's place in the index, in the timers and among the free ones costs, in bytes.
const PLACE: usize = 10 * size_of::<u32>();

/// How long after a flow's last packet a hole is waited for where few packets come; where many come, their number
/// counts.
const OVERDUE: Span = Span::seconds(10);

/// A segment's connection and direction, with what finds them.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    side: Side,
    tag: u32,
    likely: u32,
}

/// What is not needed of a connection any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needless {
    /// Nothing is needed.
    All,
    /// What a side sends before these sequence numbers is not.
    Before {
        /// That of who sent the segment that was asked about.
        sender: u32,
        /// That of the other side.
        peer: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    table_memory: usize,
    lane_memory: usize,
    stream_memory: usize,
    patience: u64,
    half_open: Span,
    idle: Span,
    linger: Span,
    settled_linger: Span,
}

impl Limits {
    /// How long a closed connection is remembered.
    fn linger_of(&self, standing: Standing) -> Span {
        if standing.settled { self.settled_linger } else { self.linger }
    }
}

/// The connections of one lane and their application.
#[derive(Debug)]
pub struct Tracker<A: Application> {
    app: A,
    index: Index,
    hasher: foldhash::fast::FixedState,
    entries: Entries<A::State>,
    timers: Timers,
    /// The last tick that has passed.
    tick: u64,
    /// When the next one has.
    next_tick: Timestamp,
    /// Place in the input of the last segment.
    last_index: u64,
    /// Bytes waiting in all streams.
    held: usize,
    hand: u32,
    limits: Limits,
    /// The configured idle timeout, while a shorter one holds.
    idle: Span,
    /// The bytes of connections that tell nothing are counted, not put in order.
    count_opaque: bool,
    counters: FlowCounters,
}

impl<A: Application> Tracker<A> {
    /// A tracker with `1 / lanes` of the configured memory. `seed` keeps the hash apart from what a sender
    /// could guess; it changes no result.
    pub fn new(config: &config::Flow, lanes: usize, seed: u64, app: A) -> Self {
        let share = |size: crate::net::ByteSize| (size.0 as usize / lanes.max(1)).max(1);
        Self {
            app,
            index: Index::default(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
            entries: Entries::default(),
            timers: Timers::default(),
            tick: 0,
            next_tick: Timestamp(0),
            last_index: 0,
            held: 0,
            hand: 0,
            limits: Limits {
                table_memory: share(config.table_memory),
                lane_memory: share(config.reassembly_memory),
                stream_memory: config.reassembly_per_stream.0 as usize,
                patience: config.reorder_packets,
                half_open: config.half_open_timeout,
                idle: config.idle_timeout,
                linger: config.closed_linger,
                settled_linger: config.settled_linger.min(config.closed_linger),
            },
            idle: config.idle_timeout,
            count_opaque: false,
            counters: FlowCounters::default(),
        }
    }

    /// Bytes that connections take in the table, and bytes that wait for what comes before them.
    pub fn memory(&self) -> (u64, u64) {
        (self.cost() as u64, self.held as u64)
    }

    /// The application.
    pub fn app(&mut self) -> &mut A {
        &mut self.app
    }

    /// Gives up work, or takes it up again: connections that were silent for `idle` are ended, if that is shorter than what
    /// the configuration says and the application has no more [`Patience`]; with `count_opaque`, bytes that tell the application nothing are counted by their
    /// sequence numbers alone, so that none of them is held, and a hole in them is no gap.
    pub fn shed(&mut self, idle: Option<Span>, count_opaque: bool) {
        self.limits.idle = idle.map_or(self.idle, |idle| idle.min(self.idle));
        self.count_opaque = count_opaque;
        if idle.is_some() {
            // Each was to be looked at when the longer time is over.
            let now = self.tick + 1;
            for handle in 0..self.entries.reach() {
                if let Some(hot) = self.entries.hot_mut(handle).filter(|hot| !hot.free && hot.tick > now) {
                    hot.tick = now;
                    self.timers.add(now, handle);
                }
            }
        }
    }

    /// What became of segments and connections so far.
    pub fn counters(&self) -> &FlowCounters {
        &self.counters
    }

    /// What finds the segment's connection.
    ///
    /// With it, several segments may be prepared together in these steps, which spares [`Tracker::push_keyed`] most of
    /// the waiting for memory: [`Tracker::approach`], [`Tracker::look_up`], [`Tracker::look_closely`].
    #[inline(always)]
    pub fn key(&self, segment: &Segment<'_>) -> Key {
        let (source, destination) = (segment.source, segment.destination);
        let side = |source_is_low| if source_is_low { Side::Low } else { Side::High };
        let (side, tag) = match (source.v4_bits(), destination.v4_bits()) {
            (Some(from), Some(to)) => (side(from <= to), v4_tag(&self.hasher, from.min(to), from.max(to))),
            _ if source <= destination => (Side::Low, tag(&self.hasher, source, destination)),
            _ => (Side::High, tag(&self.hasher, destination, source)),
        };
        Key { side, tag, likely: NOBODY }
    }

    /// Brings near where the key will be looked up.
    #[inline]
    pub fn approach(&self, key: &Key) {
        self.index.fetch(key.tag);
    }

    /// Looks the key up, as things stand, and brings near what was found.
    #[inline]
    pub fn look_up(&self, key: &mut Key) {
        key.likely = self.index.likely(key.tag);
        self.entries.fetch_hot(key.likely);
    }

    /// Brings near the rest of what was found, if the segment asks for more than the ordinary.
    #[inline]
    pub fn look_closely(&self, key: &Key, segment: &Segment<'_>) {
        let Some(hot) = self.entries.hot(key.likely) else { return };
        let silent = segment.payload.is_empty() && !segment.flags.fin();
        if !hot.full && !hot.ends_soon() && (silent || hot.deaf) {
            return;
        }
        self.entries.fetch_cold(key.likely);
    }

    /// What is not needed any more of the segment's connection, if that is ordinary in every way, both its sides were seen and
    /// it has carried `after` bytes. Of one whose application only counts so many more, it is what comes before their end.
    pub fn needless(&self, key: &Key, segment: &Segment<'_>, after: u64) -> Option<Needless> {
        let handle = self.find(key, segment)?;
        let hot = self.entries.hot(handle).filter(|hot| !hot.full)?;
        let (sender, peer) = (hot.halves.of(key.side), hot.halves.of(key.side.peer()));
        // Where a stream stands is known only of one that was seen.
        if sender.next().saturating_add(peer.next()) < after || !sender.placed() || !peer.placed() {
            return None;
        }
        if hot.deaf {
            return Some(Needless::All);
        }
        let state = &self.entries.cold(handle)?.state;
        let counts = |side| self.app.passes_over(state, side).min(FURTHEST);
        let more = counts(key.side);
        // Where the other side sends what is needed, one would have to look again and again.
        let goes_on = !hot.ends_soon() && hot.reset.is_none() && !self.app.awaits(state, key.side.peer());
        (goes_on && more > 0 && more >= after).then(|| Needless::Before {
            sender: sender.seq_behind(more),
            peer: peer.seq_behind(counts(key.side.peer())),
        })
    }

    /// Whether the segment's connection is there, and its application would only count the segment's bytes.
    pub fn passes_over(&self, key: &Key, segment: &Segment<'_>) -> bool {
        let Some(handle) = self.find(key, segment) else { return false };
        let counted = |cold: &super::entries::Cold<A::State>| self.app.passes_over(&cold.state, key.side);
        self.entries.hot(handle).is_some_and(|hot| hot.deaf)
            || self.entries.cold(handle).is_some_and(|cold| counted(cold) >= segment.payload.len() as u64)
    }

    /// Whether the segment's connection is there, and its application needs no more bytes of it.
    pub fn counts_only(&self, key: &Key, segment: &Segment<'_>) -> bool {
        self.found(key, segment).is_some_and(|hot| hot.deaf)
    }

    /// The sequence number that is next in the stream of the segment's sender, and how many bytes may come there before what
    /// waits or the end; none where nothing has placed the stream yet.
    pub fn stands(&self, key: &Key, segment: &Segment<'_>) -> Option<(u32, u64)> {
        let handle = self.find(key, segment)?;
        let hot = self.entries.hot(handle)?;
        if !hot.full {
            let half = hot.halves.of(key.side);
            return half.placed().then(|| (half.seq_behind(0), if half.fin_seen() { 0 } else { u64::MAX }));
        }
        self.entries.cold(handle)?.halves.as_ref()?.of(key.side).stands()
    }

    /// Sets right how many packets like this segment there were, where so many were `counted`.
    pub fn recount(&mut self, key: &Key, segment: &Segment<'_>, packets: u64, counted: u64) {
        let Some(handle) = self.find(key, segment) else { return };
        self.entries.unfold(handle);
        if let Some(entry) = self.entries.entry(handle) {
            let half = entry.halves.of_mut(key.side);
            half.packets = half.packets.saturating_add(packets).saturating_sub(counted);
        }
        self.entries.fold(handle);
    }

    fn found(&self, key: &Key, segment: &Segment<'_>) -> Option<&super::entries::Hot> {
        self.find(key, segment).and_then(|handle| self.entries.hot(handle))
    }

    /// The segment's connection.
    #[inline]
    fn find(&self, key: &Key, segment: &Segment<'_>) -> Option<u32> {
        let same = |handle| self.entries.hot(handle).is_some_and(|hot| hot.is_of(key.side, segment));
        if same(key.likely) { Some(key.likely) } else { self.index.find(key.tag, same) }
    }

    /// Takes one segment. The caller has called [`Tracker::advance`] with the segment's clock.
    pub fn push(&mut self, segment: &Segment<'_>) {
        let key = self.key(segment);
        self.push_keyed(segment, &key);
    }

    /// [`Tracker::push`] with a key that [`Tracker::key`] gave for this segment, however long ago.
    #[inline(always)]
    pub fn push_keyed(&mut self, segment: &Segment<'_>, key: &Key) {
        let now = Moment { clock: segment.clock, by_packet: true, index: segment.index };
        self.last_index = segment.index;
        if !self.goes_on(key.likely, key.side, segment, now) {
            self.push_rest(segment, key, now);
        }
    }

    /// Takes a segment that is not plainly the next one of its connection.
    #[inline(never)]
    fn push_rest(&mut self, segment: &Segment<'_>, key: &Key, now: Moment) {
        let side = key.side;
        let handle = match self.find(key, segment) {
            Some(handle) if self.goes_on(handle, side, segment, now) => return,
            Some(handle) if self.turns(handle, side, segment, now) => return,
            Some(handle) => {
                self.entries.unfold(handle);
                if self.superseded(handle, side, segment) {
                    self.close(handle, Ending::Reused, now);
                    self.open(key, segment, now)
                } else {
                    handle
                }
            }
            None => {
                if segment.flags.rst() || (segment.payload.is_empty() && segment.flags.fin()) {
                    // The late echo of a connection that is over, or was never seen.
                    self.counters.strays += 1;
                    return;
                }
                if !self.make_place(segment, now) {
                    self.counters.refused += 1;
                    return;
                }
                let handle = self.open(key, segment, now);
                if self.begins(handle, side, segment) {
                    return;
                }
                handle
            }
        };
        self.entries.unfold(handle);
        self.take(handle, side, segment, now);
        self.entries.fold(handle);
        if !self.has_room(0) {
            // What is out of the ordinary takes more of it.
            self.evict(Span::default(), now);
        }
        self.make_room(now);
    }

    /// Lets connections give way where the application keeps too much.
    #[inline]
    fn make_room(&mut self, now: Moment) {
        while let Some(slot) = self.app.too_much(now) {
            let Some((hot, cold)) = self.entries.both(slot) else { return };
            self.app.give_way(&mut cold.state, &mut cold.link, hot.seen, now);
            hot.deaf = cold.link.deaf;
        }
    }

    /// Whether this segment begins a new connection on an old one's five-tuple. A SYN alone proves it only
    /// if the old connection is over: otherwise it may be forged or stray, and the proof is that the other
    /// side answers it, or that data follows it.
    fn superseded(&mut self, handle: u32, side: Side, segment: &Segment<'_>) -> bool {
        let Some(entry) = self.entries.entry(handle) else { return false };
        let flags = segment.flags;
        if flags.syn() && !flags.ack() {
            let first = segment.seq.wrapping_add(1);
            let closed = entry.closed();
            let half = entry.halves.of_mut(side);
            // Data that came before any SYN may be this one's: where it lies will tell.
            let unplaced = matches!(half.origin, Origin::Unknown | Origin::Provisional);
            if unplaced || half.base() == first || !entry.established() {
                return false;
            }
            if closed {
                return true;
            }
            entry.halves.of_mut(side).candidate = Some(first);
            return false;
        }
        if flags.syn() && flags.ack() && !flags.rst() {
            let peer = entry.halves.of(side.peer());
            return peer.candidate == Some(segment.ack) && peer.base() != segment.ack;
        }
        if !segment.payload.is_empty() {
            let half = entry.halves.of(side);
            return half.candidate == Some(segment.seq)
                && !half.is_next(segment.seq)
                && entry.halves.of(side.peer()).candidate.is_none();
        }
        false
    }

    fn take(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) {
        let Some(mut entry) = self.entries.entry(handle) else { return };
        entry.hot.seen = now.clock;
        if segment.ts < entry.link.start {
            entry.link.start = segment.ts;
        }
        let flags = segment.flags;
        let half = entry.halves.of_mut(side);
        half.packets += 1;
        if segment.ts > half.last {
            half.last = segment.ts;
        }
        let mut seq = segment.seq;
        if flags.syn() {
            seq = seq.wrapping_add(1);
            handshake(&mut entry, side, seq, segment);
        }
        if flags.rst() {
            reset(&mut entry, side, segment.seq);
        } else {
            if flags.ack() {
                let patience = self.limits.patience;
                entry.halves.of_mut(side.peer()).acknowledge(segment.ack, segment.index, patience);
            }
            let length = segment.payload.len() as u64;
            if self.count_opaque && entry.link.deaf && length > 0 && !flags.fin() {
                self.held -= entry.halves.of_mut(side).count(seq, length + u64::from(segment.cut));
            } else if length > 0 || segment.cut > 0 || flags.fin() {
                if entry.hot.reset == Some(side) && !entry.halves.of(side).fin_seen() && length > 0 {
                    // Who resets does not go on sending: the reset was forged or ignored.
                    entry.hot.reset = None;
                }
                let half = entry.halves.of_mut(side);
                if half.is_next(seq) && length > 0 && segment.cut == 0 && !flags.fin() {
                    let offset = half.advance(length, segment.ts);
                    if !entry.link.deaf {
                        let data = Data { side, offset, ts: segment.ts, bytes: segment.payload };
                        self.app.data(entry.state, entry.link, data, now);
                    }
                } else {
                    let arrival = Arrival {
                        seq,
                        bytes: segment.payload,
                        cut: segment.cut,
                        fin: flags.fin(),
                        ts: segment.ts,
                        index: segment.index,
                    };
                    let waited = half.waits();
                    let effect = half.arrive(arrival);
                    self.held += effect.held;
                    self.counters.duplicate_bytes += effect.duplicate;
                    self.counters.out_of_window += u64::from(effect.out_of_window);
                    if effect.conflict {
                        entry.link.conflict = true;
                        self.counters.conflicts += 1;
                    }
                    let half = entry.halves.of(side);
                    self.counters.out_of_order += u64::from(half.waits() && waited);
                }
            } else if !flags.syn() {
                entry.halves.of_mut(side).stands_at(seq);
            }
        }
        if entry.halves.of(side).waits() || entry.halves.of(side.peer()).waits() || flags.fin() {
            self.drain(handle, side, segment.index, false, now);
            self.drain(handle, side.peer(), segment.index, false, now);
            self.relieve(handle, side, now);
        }
        self.reschedule(handle, now);
    }

    /// Delivers what can be delivered of one direction.
    fn drain(&mut self, handle: u32, side: Side, index: u64, force: bool, now: Moment) {
        while self.drain_one(handle, side, index, force, now) {}
    }

    /// Delivers the next stretch or gap; false if there is none.
    fn drain_one(&mut self, handle: u32, side: Side, index: u64, force: bool, now: Moment) -> bool {
        let Some(entry) = self.entries.entry(handle) else { return false };
        match entry.halves.of_mut(side).pop(index, self.limits.patience, force) {
            Next::Data { offset, bytes, ts, freed } => {
                self.held -= freed;
                if !entry.link.deaf {
                    let data = Data { side, offset, ts, bytes: &bytes };
                    self.app.data(entry.state, entry.link, data, now);
                }
            }
            Next::Gap { offset, length, ts, freed } => {
                self.held -= freed;
                self.counters.gaps += 1;
                self.counters.gap_bytes += length;
                if !entry.link.deaf {
                    self.app.gap(entry.state, entry.link, Gap { side, offset, ts, length }, now);
                }
            }
            Next::Finish if entry.link.deaf => {}
            Next::Finish => self.app.finish(entry.state, entry.link, side, now),
            Next::Nothing => return false,
        }
        true
    }

    /// Closes holes early, the oldest first, while more waits than memory allows. Who holds the memory pays.
    fn relieve(&mut self, handle: u32, side: Side, now: Moment) {
        let mut first = true;
        loop {
            let entry = self.entries.entry(handle);
            let held = entry.map_or(0, |e| e.halves.of(side).held());
            if held <= self.limits.stream_memory && (held == 0 || self.held <= self.limits.lane_memory) {
                return;
            }
            if std::mem::take(&mut first) {
                self.counters.memory_gaps += 1;
                self.forget_implausible(handle, side);
                continue;
            }
            // Closes one hole, and delivers what that frees.
            self.drain_one(handle, side, u64::MAX, true, now);
            self.drain(handle, side, self.last_index, false, now);
        }
    }

    /// Forgets what a forged sequence number or acknowledgement promised.
    fn forget_implausible(&mut self, handle: u32, side: Side) {
        let Some(entry) = self.entries.entry(handle) else { return };
        let receiver_seen = entry.halves.of(side.peer()).packets > 0;
        let freed = entry.halves.of_mut(side).forget_implausible(receiver_seen);
        self.held -= freed;
        self.counters.out_of_window += u64::from(freed > 0);
    }

    /// Moves time on to `clock`: ends what is idle, closes what is overdue.
    #[inline]
    pub fn advance(&mut self, clock: Timestamp) {
        if clock >= self.next_tick {
            self.advance_to(clock.0 / TICK);
        }
    }

    #[inline(never)]
    fn advance_to(&mut self, tick: u64) {
        let begun = self.tick > 0;
        while begun && let Some((due, mut handles)) = self.timers.pop(tick) {
            self.tick = due.max(self.tick);
            // In the order in which they lie in memory, and nearly that in which they began.
            handles.sort_unstable();
            for (n, &handle) in handles.iter().enumerate() {
                self.look_soon(&handles, n, due);
                self.look_at(handle, due);
            }
            self.app.tick(Moment { clock: Timestamp(due * TICK), by_packet: false, index: u64::MAX });
        }
        self.tick = tick;
        self.next_tick = Timestamp((tick + 1).saturating_mul(TICK));
        if begun {
            self.app.tick(Moment { clock: Timestamp(tick * TICK), by_packet: false, index: u64::MAX });
        }
    }
}

/// 32 bits of a hash that no sender can foresee.
#[inline(never)]
fn tag(hasher: &foldhash::fast::FixedState, low: Endpoint, high: Endpoint) -> u32 {
    if let (Some(low), Some(high)) = (low.v4_bits(), high.v4_bits()) {
        return v4_tag(hasher, low, high);
    }
    let ports = (u32::from(low.port) << 16) | u32::from(high.port);
    let hash = hasher.hash_one((low.address.bits(), high.address.bits(), ports));
    (hash ^ (hash >> 32)) as u32
}

/// [`tag`] of two ends with IPv4 addresses.
#[inline]
fn v4_tag(hasher: &foldhash::fast::FixedState, low: u64, high: u64) -> u32 {
    let hash = hasher.hash_one((low, high));
    (hash ^ (hash >> 32)) as u32
}

/// Places streams by SYN and SYN-ACK. `first` is the sequence number after the SYN.
fn handshake<S>(entry: &mut Entry<'_, S>, side: Side, first: u32, segment: &Segment<'_>) {
    let answer = segment.flags.ack();
    entry.halves.of_mut(side).open(first, segment.payload.len() as u32);
    entry.hot.reset = None;
    // A SYN behind data that was read already is another's, or too late to change who asked whom.
    let read = entry.halves.of(Side::Low).next > 0 || entry.halves.of(Side::High).next > 0;
    if !entry.link.client_known && !read {
        entry.link.client = if answer { side.peer() } else { side };
        entry.link.client_known = true;
    }
    if answer && !segment.flags.rst() {
        entry.halves.of_mut(side.peer()).answered(segment.ack);
    }
    // The tap may deliver the SYN after what follows it.
    let picked = |side| entry.halves.of(side).origin == Origin::Picked;
    entry.link.mid_stream = entry.link.mid_stream && (picked(Side::Low) || picked(Side::High));
}

/// Notes a reset that lies where a true one must (RFC 9293 section 3.10.7.4, leniently).
fn reset<S>(entry: &mut Entry<'_, S>, side: Side, seq: u32) {
    let half = entry.halves.of(side);
    let near = !matches!(half.origin, Origin::Syn | Origin::Picked) || {
        is_near(seq.wrapping_sub(half.base().wrapping_add(half.next as u32)) as i32)
    };
    if near {
        entry.hot.reset = Some(side);
    }
}
