//! The flow table: which connection a segment belongs to, its life and its end.

use std::hash::BuildHasher;

use super::counters::FlowCounters;
use super::entries::{Entries, Entry};
use super::half::{Arrival, Next, Origin};
use super::index::{Index, NOBODY};
use super::timer::{TICK, Timers, tick_at};
use super::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use crate::config;
use crate::net::{Endpoint, Span, Timestamp};
use crate::packet::Segment;
use crate::record::Ending;

/// How many slots are looked at to find the one idle longest when the table is full.
const EVICTION_SAMPLE: usize = 16;

/// How long after a flow's last packet a hole is waited for where few packets come; where many come, their number
/// counts.
const OVERDUE: Span = Span::seconds(10);

/// A segment's connection and direction, with what finds them.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    ends: Both<Endpoint>,
    side: Side,
    tag: u32,
    likely: u32,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    flows: usize,
    lane_memory: usize,
    stream_memory: usize,
    patience: u64,
    half_open: Span,
    idle: Span,
    linger: Span,
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
        let per_flow = Entries::<A::State>::COST + 6 * size_of::<u32>();
        Self {
            app,
            index: Index::default(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
            entries: Entries::default(),
            timers: Timers::default(),
            tick: 0,
            last_index: 0,
            held: 0,
            hand: 0,
            limits: Limits {
                flows: (share(config.table_memory) / per_flow).max(EVICTION_SAMPLE),
                lane_memory: share(config.reassembly_memory),
                stream_memory: config.reassembly_per_stream.0 as usize,
                patience: config.reorder_packets,
                half_open: config.half_open_timeout,
                idle: config.idle_timeout,
                linger: config.closed_linger,
            },
            idle: config.idle_timeout,
            count_opaque: false,
            counters: FlowCounters::default(),
        }
    }

    /// The application.
    pub fn app(&mut self) -> &mut A {
        &mut self.app
    }

    /// Gives up work, or takes it up again: connections that were silent for `idle` are ended, if that is shorter than what
    /// the configuration says; with `count_opaque`, bytes that tell the application nothing are counted by their
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
    /// the waiting for memory: [`Tracker::approach`], [`Tracker::look_up`], [`Tracker::look_ahead`], [`Tracker::look_closely`].
    #[inline]
    pub fn key(&self, segment: &Segment<'_>) -> Key {
        let side = if segment.source <= segment.destination { Side::Low } else { Side::High };
        let ends = match side {
            Side::Low => Both::new(segment.source, segment.destination),
            Side::High => Both::new(segment.destination, segment.source),
        };
        Key { ends, side, tag: tag(&self.hasher, &ends), likely: NOBODY }
    }

    /// Brings near where the key will be looked up. What it returns means nothing.
    #[inline]
    pub fn approach(&self, key: &Key) -> u32 {
        self.index.touch(key.tag)
    }

    /// Looks the key up, as things stand.
    #[inline]
    pub fn look_up(&self, key: &mut Key) {
        key.likely = self.index.likely(key.tag);
    }

    /// Brings near what was found. What it returns means nothing.
    #[inline]
    pub fn look_ahead(&self, key: &Key) -> u32 {
        self.entries
            .hot(key.likely)
            .map_or(0, |hot| u32::from(hot.free) ^ u32::from(hot.halves.of(Side::High).fin_seen()))
    }

    /// Brings near the rest of what was found, if the segment asks for more than the ordinary. What it returns means
    /// nothing.
    #[inline]
    pub fn look_closely(&self, key: &Key, segment: &Segment<'_>) -> u32 {
        let Some(hot) = self.entries.hot(key.likely) else { return 0 };
        if segment.flags.goes_on() && !hot.full && (segment.payload.is_empty() || hot.deaf) {
            return 0;
        }
        let Some(cold) = self.entries.cold(key.likely) else { return 0 };
        u32::from(cold.halves.is_some()) ^ cold.link.start.0 as u32
    }

    /// Whether the segment's connection is ordinary in every way, has carried that many bytes, and its application needs
    /// no more of them.
    pub fn is_deaf(&self, key: &Key, after: u64) -> bool {
        let carried = |hot: &super::entries::Hot| {
            hot.halves.of(Side::Low).delivered().saturating_add(hot.halves.of(Side::High).delivered())
        };
        self.found(key).is_some_and(|hot| hot.deaf && !hot.full && carried(hot) >= after)
    }

    /// Whether the segment's connection is there, and its application needs no more bytes of it.
    pub fn counts_only(&self, key: &Key) -> bool {
        self.found(key).is_some_and(|hot| hot.deaf)
    }

    fn found(&self, key: &Key) -> Option<&super::entries::Hot> {
        let same = |handle: u32| self.entries.hot(handle).is_some_and(|hot| hot.ends == key.ends && !hot.free);
        let found = if same(key.likely) { Some(key.likely) } else { self.index.find(key.tag, same) };
        found.and_then(|handle| self.entries.hot(handle))
    }

    /// Takes one segment. The caller has called [`Tracker::advance`] with the segment's clock.
    pub fn push(&mut self, segment: &Segment<'_>) {
        let key = self.key(segment);
        self.push_keyed(segment, &key);
    }

    /// [`Tracker::push`] with a key that [`Tracker::key`] gave for this segment, however long ago.
    #[inline]
    pub fn push_keyed(&mut self, segment: &Segment<'_>, key: &Key) {
        let now = Moment { clock: segment.clock, by_packet: true, index: segment.index };
        self.last_index = segment.index;
        let &Key { ends, side, tag, likely } = key;
        let entries = &self.entries;
        let same = |handle: u32| entries.hot(handle).is_some_and(|hot| hot.ends == ends && !hot.free);
        let found = if same(likely) { Some(likely) } else { self.index.find(tag, same) };
        let handle = match found {
            Some(handle) if self.ordinary(handle, side, segment, now) => return,
            Some(handle) => {
                self.entries.unfold(handle);
                if self.superseded(handle, side, segment) {
                    self.close(handle, Ending::Reused, now);
                    self.open(ends, tag, side, segment, now)
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
                self.open(ends, tag, side, segment, now)
            }
        };
        self.take(handle, side, segment, now);
        self.entries.fold(handle);
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

    /// Takes a segment that is ordinary in every way, on an ordinary connection; false if it is not, and nothing
    /// has happened.
    #[inline]
    fn ordinary(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) -> bool {
        let Some(hot) = self.entries.hot_mut(handle) else { return false };
        let (mine, peer) = (hot.halves.of(side), hot.halves.of(side.peer()));
        let length = segment.payload.len();
        let flags = segment.flags;
        if hot.full
            || !flags.goes_on()
            || segment.cut > 0
            || segment.ts < hot.start
            || hot.reset.is_some()
            || (mine.fin_seen() && peer.fin_seen())
            || !mine.is_ordinary(segment.seq, length)
            || (flags.ack() && !peer.is_acked(segment.ack))
        {
            return false;
        }
        hot.seen = now.clock;
        let offset = hot.halves.of_mut(side).take(length, segment.ts);
        if length > 0
            && !hot.deaf
            && let Some((hot, cold)) = self.entries.both(handle)
        {
            let data = Data { side, offset, ts: segment.ts, bytes: segment.payload };
            self.app.data(&mut cold.state, &mut cold.link, data, now);
            hot.deaf = cold.link.deaf;
            self.make_room(now);
        }
        true
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

    fn open(&mut self, ends: Both<Endpoint>, tag: u32, side: Side, segment: &Segment<'_>, now: Moment) -> u32 {
        if self.index.len() >= self.limits.flows {
            self.evict(now);
        }
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
        let tick = tick_at(now.clock.after(self.limits.half_open)).max(self.tick + 1);
        let handle = self.entries.add(link, state, tick, now);
        self.index.insert(tag, handle);
        self.timers.add(tick, handle);
        self.counters.opened += 1;
        self.counters.peak = self.counters.peak.max(self.index.len() as u64);
        handle
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

    /// Looks at a flow earlier than planned if its state asks for it.
    fn reschedule(&mut self, handle: u32, now: Moment) {
        let limits = self.limits;
        let Some(entry) = self.entries.entry(handle) else { return };
        if entry.closed() || entry.halves.of(Side::Low).waits() || entry.halves.of(Side::High).waits() {
            let wanted = if entry.closed() { limits.linger } else { Span(TICK) };
            let tick = tick_at(now.clock.after(wanted)).max(self.tick + 1);
            if tick < entry.hot.tick {
                entry.hot.tick = tick;
                self.timers.add(tick, handle);
            }
        }
    }

    /// Moves time on to `clock`: ends what is idle, closes what is overdue.
    #[inline]
    pub fn advance(&mut self, clock: Timestamp) {
        let tick = clock.0 / TICK;
        if tick > self.tick {
            self.advance_to(tick);
        }
    }

    fn advance_to(&mut self, tick: u64) {
        if self.tick == 0 {
            self.tick = tick;
            return;
        }
        while let Some((due, handles)) = self.timers.pop(tick) {
            self.tick = due.max(self.tick);
            for handle in handles {
                self.look_at(handle, due);
            }
            self.app.tick(Moment { clock: Timestamp(due * TICK), by_packet: false, index: u64::MAX });
        }
        self.tick = tick;
        self.app.tick(Moment { clock: Timestamp(tick * TICK), by_packet: false, index: u64::MAX });
    }

    fn look_at(&mut self, handle: u32, due: u64) {
        if self.entries.hot(handle).is_none_or(|hot| hot.free || hot.tick != due) {
            return;
        }
        let limits = self.limits;
        self.entries.unfold(handle);
        let Some(entry) = self.entries.entry(handle) else { return };
        let clock = Timestamp(due * TICK);
        let now = Moment { clock, by_packet: false, index: entry.link.first_index };
        let (timeout, ending) = if entry.closed() {
            (limits.linger, if entry.hot.reset.is_some() { Ending::Reset } else { Ending::Finished })
        } else if entry.established() {
            (limits.idle, Ending::Idle)
        } else {
            (limits.half_open, Ending::Idle)
        };
        let deadline = entry.hot.seen.after(timeout);
        if deadline <= clock {
            self.close(handle, ending, now);
            return;
        }
        let mut next = tick_at(deadline).max(due + 1);
        if entry.halves.of(Side::Low).waits() || entry.halves.of(Side::High).waits() {
            // Later than any tap delivers: what the receiver has acknowledged is lost.
            let overdue = entry.hot.seen.after(OVERDUE) <= clock;
            let index = if overdue { u64::MAX } else { self.last_index };
            if !overdue {
                next = due + 1;
            }
            self.drain(handle, Side::Low, index, false, now);
            self.drain(handle, Side::High, index, false, now);
        }
        if let Some(entry) = self.entries.entry(handle) {
            entry.hot.tick = next;
            self.timers.add(next, handle);
        }
        self.entries.fold(handle);
    }

    /// Makes room: the flow that was idle longest, among a few.
    fn evict(&mut self, now: Moment) {
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
        if let Some((_, handle)) = victim {
            self.close(handle, Ending::Evicted, now);
        }
    }

    fn close(&mut self, handle: u32, ending: Ending, now: Moment) {
        self.entries.unfold(handle);
        let Some(entry) = self.entries.entry(handle) else { return };
        let tag = tag(&self.hasher, &entry.link.ends);
        let client = entry.link.client;
        for side in [client, client.peer()] {
            if let Some(entry) = self.entries.entry(handle) {
                entry.halves.of_mut(side).settle();
            }
            self.forget_implausible(handle, side);
            self.drain(handle, side, u64::MAX, true, now);
        }
        self.index.remove(tag, handle);
        let Some(cold) = self.entries.remove(handle) else { return };
        let Some(halves) = cold.halves else { return };
        let (low, high) = (halves.of(Side::Low), halves.of(Side::High));
        // Where the receiver has finished too, it has most likely acknowledged a FIN.
        let low_fin = u64::from(low.end_is_doubtful() && high.fin_seen());
        let high_fin = u64::from(high.end_is_doubtful() && low.fin_seen());
        let totals = Totals {
            bytes: Both::new(low.next - low_fin, high.next - high_fin),
            missing: Both::new(low.missing - low_fin, high.missing - high_fin),
            packets: Both::new(low.packets, high.packets),
            last_data: Both::new(low.last_data, high.last_data),
            end: low.last.max(high.last),
            ending,
        };
        self.counters.mid_stream += u64::from(!cold.link.client_known);
        if let Some(count) = self.counters.endings.get_mut(ending as usize) {
            *count += 1;
        }
        self.entries.spare(halves);
        self.app.close(cold.state, &cold.link, &totals, now);
    }

    /// Every open connection: the place of its first packet in the input, and a handle for [`Tracker::end`].
    pub fn open_connections(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let begun = |handle| Some((self.entries.cold(handle)?.link.first_index, handle));
        (0..self.entries.reach()).filter_map(begun)
    }

    /// Ends a connection because the input is over.
    pub fn end(&mut self, handle: u32, now: Moment) {
        self.entries.unfold(handle);
        let ending = match self.entries.entry(handle) {
            Some(e) if e.hot.reset.is_some() => Ending::Reset,
            Some(e) if e.closed() => Ending::Finished,
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

/// 32 bits of a hash that no sender can foresee.
#[inline]
fn tag(hasher: &foldhash::fast::FixedState, ends: &Both<Endpoint>) -> u32 {
    let (low, high) = (ends.of(Side::Low), ends.of(Side::High));
    let ports = (u32::from(low.port) << 16) | u32::from(high.port);
    let hash = hasher.hash_one((low.address.bits(), high.address.bits(), ports));
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
        let distance = seq.wrapping_sub(half.base().wrapping_add(half.next as u32)) as i32;
        distance.unsigned_abs() < 1 << 20
    };
    if near {
        entry.hot.reset = Some(side);
    }
}
