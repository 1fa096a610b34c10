//! The flow table: which connection a segment belongs to, its life and its end.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::half::{Arrival, Half, Next, Origin};
use super::timer::{TICK, Timers, tick_at};
use super::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use crate::config;
use crate::net::{Endpoint, Span, Timestamp};
use crate::packet::Segment;
use crate::record::Ending;

/// What became of segments and connections, and what each bound cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Connections begun.
    pub opened: u64,
    /// Of them, without a SYN in the capture.
    pub mid_stream: u64,
    /// Connections ended, by [`Ending`] in its order.
    pub endings: [u64; 6],
    /// Payload bytes that came again.
    pub duplicate_bytes: u64,
    /// Segments that came before their turn.
    pub out_of_order: u64,
    /// Segments that overlapped earlier ones with different bytes.
    pub conflicts: u64,
    /// Segments further ahead than any window allows.
    pub out_of_window: u64,
    /// Stretches that the tap lost.
    pub gaps: u64,
    /// Bytes in them.
    pub gap_bytes: u64,
    /// Holes closed early because the stream's or the lane's reassembly memory was used up.
    pub memory_gaps: u64,
    /// Resets to connections that were never seen, and other stray packets without payload.
    pub strays: u64,
    /// The most connections open at once, summed over lanes.
    pub peak: u64,
}

impl FlowCounters {
    /// Adds another lane's counts.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.mid_stream += other.mid_stream;
        for (to, from) in self.endings.iter_mut().zip(other.endings) {
            *to += from;
        }
        self.duplicate_bytes += other.duplicate_bytes;
        self.out_of_order += other.out_of_order;
        self.conflicts += other.conflicts;
        self.out_of_window += other.out_of_window;
        self.gaps += other.gaps;
        self.gap_bytes += other.gap_bytes;
        self.memory_gaps += other.memory_gaps;
        self.strays += other.strays;
        self.peak += other.peak;
    }

    /// How many connections came to this end.
    pub fn ended(&self, ending: Ending) -> u64 {
        self.endings.get(ending as usize).copied().unwrap_or(0)
    }
}

/// How many slots are looked at to find the one idle longest when the table is full.
const EVICTION_SAMPLE: usize = 16;

/// How long after a flow's last packet a hole is waited for where few packets come; where many come, their number
/// counts.
const OVERDUE: Span = Span::seconds(10);

#[derive(Debug)]
struct Entry<S> {
    link: Link,
    halves: Both<Half>,
    /// The pipeline's clock at the last packet.
    seen: Timestamp,
    /// The tick at which this flow is looked at next.
    tick: u64,
    reset: Option<Side>,
    state: S,
}

impl<S> Entry<S> {
    fn closed(&self) -> bool {
        self.reset.is_some() || (self.halves.of(Side::Low).fin_seen() && self.halves.of(Side::High).fin_seen())
    }

    fn established(&self) -> bool {
        self.halves.of(Side::Low).has_data()
            || self.halves.of(Side::High).has_data()
            || (self.halves.of(Side::Low).placed() && self.halves.of(Side::High).placed())
    }
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
    index: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
    slots: Vec<Option<Entry<A::State>>>,
    free: Vec<u32>,
    timers: Timers,
    /// The last tick that has passed.
    tick: u64,
    /// Place in the input of the last segment.
    last_index: u64,
    /// Bytes waiting in all streams.
    held: usize,
    hand: usize,
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
        let per_flow = size_of::<Option<Entry<A::State>>>() + 2 * size_of::<u32>();
        Self {
            app,
            index: HashTable::new(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
            slots: Vec::new(),
            free: Vec::new(),
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
            for (handle, slot) in self.slots.iter_mut().enumerate() {
                if let Some(entry) = slot
                    && entry.tick > now
                {
                    entry.tick = now;
                    self.timers.add(now, handle as u32);
                }
            }
        }
    }

    /// What became of segments and connections so far.
    pub fn counters(&self) -> &FlowCounters {
        &self.counters
    }

    /// Takes one segment. The caller has called [`Tracker::advance`] with the segment's clock.
    pub fn push(&mut self, segment: &Segment<'_>) {
        let now = Moment { clock: segment.clock, by_packet: true, index: segment.index };
        self.last_index = segment.index;
        let side = if segment.source <= segment.destination { Side::Low } else { Side::High };
        let ends = match side {
            Side::Low => Both::new(segment.source, segment.destination),
            Side::High => Both::new(segment.destination, segment.source),
        };
        let hash = hash(&self.hasher, &ends);
        let slots = &self.slots;
        let same = |handle: &u32| entry(slots, *handle).is_some_and(|e| e.link.ends == ends);
        let found = self.index.find(hash, same).copied();
        let handle = match found {
            Some(handle) if !self.superseded(handle, side, segment) => handle,
            Some(handle) => {
                self.close(handle, Ending::Reused, now);
                self.open(ends, hash, side, segment, now)
            }
            None => {
                if segment.flags.rst() || (segment.payload.is_empty() && segment.flags.fin()) {
                    // The late echo of a connection that is over, or was never seen.
                    self.counters.strays += 1;
                    return;
                }
                self.open(ends, hash, side, segment, now)
            }
        };
        self.take(handle, side, segment, now);
        while let Some(slot) = self.app.too_much(now) {
            let Some(entry) = entry_mut(&mut self.slots, slot) else { continue };
            self.app.give_way(&mut entry.state, &mut entry.link, entry.seen, now);
        }
    }

    /// Whether this segment begins a new connection on an old one's five-tuple. A SYN alone proves it only
    /// if the old connection is over: otherwise it may be forged or stray, and the proof is that the other
    /// side answers it, or that data follows it.
    fn superseded(&mut self, handle: u32, side: Side, segment: &Segment<'_>) -> bool {
        let Some(entry) = entry_mut(&mut self.slots, handle) else { return false };
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

    fn open(&mut self, ends: Both<Endpoint>, hash: u64, side: Side, segment: &Segment<'_>, now: Moment) -> u32 {
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
            start: segment.ts,
            first_index: segment.index,
            layers: segment.layers,
            slot: self.free.last().copied().unwrap_or(self.slots.len() as u32),
        };
        let state = self.app.open(&mut link, side, now);
        let tick = tick_at(now.clock.after(self.limits.half_open)).max(self.tick + 1);
        let entry = Entry {
            link,
            halves: Both::new(Half::default(), Half::default()),
            seen: now.clock,
            tick,
            reset: None,
            state,
        };
        let handle = match self.free.pop() {
            Some(handle) => {
                if let Some(slot) = self.slots.get_mut(handle as usize) {
                    *slot = Some(entry);
                }
                handle
            }
            None => {
                self.slots.push(Some(entry));
                (self.slots.len() - 1) as u32
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, handle, |handle| {
            super::table::entry(slots, *handle).map_or(0, |e| super::table::hash(hasher, &e.link.ends))
        });
        self.timers.add(tick, handle);
        self.counters.opened += 1;
        self.counters.peak = self.counters.peak.max(self.index.len() as u64);
        handle
    }

    fn take(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) {
        let Some(entry) = entry_mut(&mut self.slots, handle) else { return };
        entry.seen = now.clock;
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
            handshake(entry, side, seq, segment);
        }
        if flags.rst() {
            reset(entry, side, segment.seq);
        } else {
            if flags.ack() {
                let patience = self.limits.patience;
                entry.halves.of_mut(side.peer()).acknowledge(segment.ack, segment.index, patience);
            }
            let length = segment.payload.len() as u64;
            if self.count_opaque && length > 0 && !flags.fin() && self.app.is_opaque(&entry.state) {
                self.held -= entry.halves.of_mut(side).count(seq, length + u64::from(segment.cut));
            } else if length > 0 || segment.cut > 0 || flags.fin() {
                if entry.reset == Some(side) && !entry.halves.of(side).fin_seen() && length > 0 {
                    // Who resets does not go on sending: the reset was forged or ignored.
                    entry.reset = None;
                }
                let half = entry.halves.of_mut(side);
                if half.is_next(seq) && length > 0 && segment.cut == 0 && !flags.fin() {
                    let offset = half.advance(length);
                    let data = Data { side, offset, ts: segment.ts, bytes: segment.payload };
                    self.app.data(&mut entry.state, &mut entry.link, data, now);
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
        let Some(entry) = entry_mut(&mut self.slots, handle) else { return false };
        match entry.halves.of_mut(side).pop(index, self.limits.patience, force) {
            Next::Data { offset, bytes, ts, freed } => {
                self.held -= freed;
                let data = Data { side, offset, ts, bytes: &bytes };
                self.app.data(&mut entry.state, &mut entry.link, data, now);
            }
            Next::Gap { offset, length, ts, freed } => {
                self.held -= freed;
                self.counters.gaps += 1;
                self.counters.gap_bytes += length;
                self.app.gap(&mut entry.state, &mut entry.link, Gap { side, offset, ts, length }, now);
            }
            Next::Finish => self.app.finish(&mut entry.state, &mut entry.link, side, now),
            Next::Nothing => return false,
        }
        true
    }

    /// Closes holes early, the oldest first, while more waits than memory allows. Who holds the memory pays.
    fn relieve(&mut self, handle: u32, side: Side, now: Moment) {
        let mut first = true;
        loop {
            let held = entry(&self.slots, handle).map_or(0, |e| e.halves.of(side).held());
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
        let Some(entry) = entry_mut(&mut self.slots, handle) else { return };
        let receiver_seen = entry.halves.of(side.peer()).packets > 0;
        let freed = entry.halves.of_mut(side).forget_implausible(receiver_seen);
        self.held -= freed;
        self.counters.out_of_window += u64::from(freed > 0);
    }

    /// Looks at a flow earlier than planned if its state asks for it.
    fn reschedule(&mut self, handle: u32, now: Moment) {
        let limits = self.limits;
        let Some(entry) = entry_mut(&mut self.slots, handle) else { return };
        if entry.closed() || entry.halves.of(Side::Low).waits() || entry.halves.of(Side::High).waits() {
            let wanted = if entry.closed() { limits.linger } else { Span(TICK) };
            let tick = tick_at(now.clock.after(wanted)).max(self.tick + 1);
            if tick < entry.tick {
                entry.tick = tick;
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
        let limits = self.limits;
        let Some(entry) = entry_mut(&mut self.slots, handle) else { return };
        if entry.tick != due {
            return;
        }
        let clock = Timestamp(due * TICK);
        let now = Moment { clock, by_packet: false, index: entry.link.first_index };
        let (timeout, ending) = if entry.closed() {
            (limits.linger, if entry.reset.is_some() { Ending::Reset } else { Ending::Finished })
        } else if entry.established() {
            (limits.idle, Ending::Idle)
        } else {
            (limits.half_open, Ending::Idle)
        };
        let deadline = entry.seen.after(timeout);
        if deadline <= clock {
            self.close(handle, ending, now);
            return;
        }
        let mut next = tick_at(deadline).max(due + 1);
        if entry.halves.of(Side::Low).waits() || entry.halves.of(Side::High).waits() {
            // Later than any tap delivers: what the receiver has acknowledged is lost.
            let overdue = entry.seen.after(OVERDUE) <= clock;
            let index = if overdue { u64::MAX } else { self.last_index };
            if !overdue {
                next = due + 1;
            }
            self.drain(handle, Side::Low, index, false, now);
            self.drain(handle, Side::High, index, false, now);
        }
        if let Some(entry) = entry_mut(&mut self.slots, handle) {
            entry.tick = next;
            self.timers.add(next, handle);
        }
    }

    /// Makes room: the flow that was idle longest, among a few.
    fn evict(&mut self, now: Moment) {
        let mut victim: Option<(Timestamp, u32)> = None;
        let mut looked = 0;
        for _ in 0..self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len();
            let handle = self.hand as u32;
            if let Some(entry) = entry(&self.slots, handle) {
                if victim.is_none_or(|(seen, _)| entry.seen < seen) {
                    victim = Some((entry.seen, handle));
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
        let Some(entry) = entry_mut(&mut self.slots, handle) else { return };
        let hash = hash(&self.hasher, &entry.link.ends);
        let client = entry.link.client;
        for side in [client, client.peer()] {
            if let Some(entry) = entry_mut(&mut self.slots, handle) {
                entry.halves.of_mut(side).settle();
            }
            self.forget_implausible(handle, side);
            self.drain(handle, side, u64::MAX, true, now);
        }
        if let Ok(occupied) = self.index.find_entry(hash, |h| *h == handle) {
            occupied.remove();
        }
        let Some(entry) = self.slots.get_mut(handle as usize).and_then(Option::take) else { return };
        self.free.push(handle);
        let (low, high) = (entry.halves.of(Side::Low), entry.halves.of(Side::High));
        // Where the receiver has finished too, it has most likely acknowledged a FIN.
        let low_fin = u64::from(low.end_is_doubtful() && high.fin_seen());
        let high_fin = u64::from(high.end_is_doubtful() && low.fin_seen());
        let totals = Totals {
            bytes: Both::new(low.next - low_fin, high.next - high_fin),
            missing: Both::new(low.missing - low_fin, high.missing - high_fin),
            packets: Both::new(low.packets, high.packets),
            end: low.last.max(high.last),
            ending,
        };
        self.counters.mid_stream += u64::from(!entry.link.client_known);
        if let Some(count) = self.counters.endings.get_mut(ending as usize) {
            *count += 1;
        }
        self.app.close(entry.state, &entry.link, &totals, now);
    }

    /// Ends every connection, in the order in which they began: the input is over.
    pub fn finish(&mut self, clock: Timestamp) {
        let mut handles: Vec<(u64, u32)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(n, slot)| slot.as_ref().map(|e| (e.link.first_index, n as u32)))
            .collect();
        handles.sort_unstable();
        for (index, handle) in handles {
            let ending = match entry(&self.slots, handle) {
                Some(e) if e.reset.is_some() => Ending::Reset,
                Some(e) if e.closed() => Ending::Finished,
                _ => Ending::CaptureEnd,
            };
            self.close(handle, ending, Moment { clock, by_packet: true, index });
        }
    }
}

fn hash(hasher: &foldhash::fast::FixedState, ends: &Both<Endpoint>) -> u64 {
    let (low, high) = (ends.of(Side::Low), ends.of(Side::High));
    let ports = (u32::from(low.port) << 16) | u32::from(high.port);
    hasher.hash_one((low.address.bits(), high.address.bits(), ports))
}

fn entry<S>(slots: &[Option<Entry<S>>], handle: u32) -> Option<&Entry<S>> {
    slots.get(handle as usize)?.as_ref()
}

fn entry_mut<S>(slots: &mut [Option<Entry<S>>], handle: u32) -> Option<&mut Entry<S>> {
    slots.get_mut(handle as usize)?.as_mut()
}

/// Places streams by SYN and SYN-ACK. `first` is the sequence number after the SYN.
fn handshake<S>(entry: &mut Entry<S>, side: Side, first: u32, segment: &Segment<'_>) {
    let answer = segment.flags.ack();
    entry.halves.of_mut(side).open(first, segment.payload.len() as u32);
    entry.reset = None;
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
fn reset<S>(entry: &mut Entry<S>, side: Side, seq: u32) {
    let half = entry.halves.of(side);
    let near = !matches!(half.origin, Origin::Syn | Origin::Picked) || {
        let distance = seq.wrapping_sub(half.base().wrapping_add(half.next as u32)) as i32;
        distance.unsigned_abs() < 1 << 20
    };
    if near {
        entry.reset = Some(side);
    }
}
