//! What one thread reads: the packets of its rings, in the order of time, and time itself where no packet comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::relief::Relief;
use super::ring::{Raw, Ring, Take, system_time};
use super::{Condition, system};
use crate::capture::Packet;
use crate::capture::clock::Clock;
use crate::config;
use crate::net::{Span, Timestamp};

/// Packets that are taken from a ring at a time, or up to a block more: more than a block holds of the smallest ones, so
/// that whoever takes so many has more than one block's.
pub const AT_ONCE: usize = 8192;

/// Bytes that are copied out of a ring at a time, where several are merged.
const COPIED: usize = 1 << 20;

/// Packets that lie further behind the time tell that the system's clock was set back: their times no longer move the
/// time on, until they reach it again.
const SET_BACK: Span = Span::seconds(60);

/// What became of the packets of a thread's rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounters {
    /// Packets that the kernel had for these rings, those that it dropped included.
    pub received: u64,
    /// Packets that the kernel dropped because a ring was full.
    pub dropped: u64,
    /// Times that a ring was full and stood still.
    pub freezes: u64,
    /// Packets handed on.
    pub packets: u64,
    /// Bytes that they had on the wire.
    pub wire_bytes: u64,
    /// Packets that are in a ring, or were copied out of it, and are not handed on.
    pub waiting: u64,
    /// Packets that came before every ring was ready, or before reading began where the rings could not hold all of these, and
    /// were passed over.
    pub before_start: u64,
    /// Packets whose time is earlier than that of the packet before.
    pub backward_timestamps: u64,
}

/// What a thread knows of time. Packets move it on; where none come, the time that has passed does.
#[derive(Debug, Default)]
pub struct LiveClock {
    clock: Option<(Clock, Instant)>,
    ticked: Timestamp,
}

impl LiveClock {
    /// A packet of this time: what the time is.
    #[inline]
    pub fn observe(&mut self, ts: Timestamp) -> Timestamp {
        let now = match &mut self.clock {
            Some((clock, _)) => clock.observe(ts),
            None => {
                let clock = Clock::starting(ts, None);
                let now = clock.now();
                self.clock = Some((clock, Instant::now()));
                now
            }
        };
        now.max(self.ticked)
    }

    /// The rings are empty: what the time is now, less a `margin` for what is on its way into them.
    pub fn tick(&mut self, seen: Instant, margin: Duration) -> Timestamp {
        if let Some((clock, _)) = &self.clock {
            let passed = seen.elapsed().saturating_sub(margin);
            let passed = Span(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
            self.ticked = self.ticked.max(clock.now().after(passed));
        }
        self.now()
    }

    /// So much time passed, whatever the packets say.
    fn pass(&mut self, passed: Duration) {
        let passed = Span(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        self.ticked = self.now().after(passed);
    }

    /// The time; zero before the first packet.
    pub fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or(Timestamp(0), |(clock, _)| clock.now()).max(self.ticked)
    }
}

/// What takes a thread's packets.
pub trait Sink {
    /// Packets in their order, as many as lie side by side: more than one can be looked at before the first is followed.
    fn take<'p>(&mut self, packets: impl Iterator<Item = Packet<'p>>);
}

/// The packets of one thread.
pub struct Feed {
    rings: Vec<(Ring, Queue)>,
    passage: Passage,
    block_timeout: Duration,
    relief: Option<Relief>,
    /// What the rings had no room for until the next look at their counters came before reading began.
    late: bool,
}

/// What every packet passes on its way out: it gets its place in time and is counted.
struct Passage {
    clock: LiveClock,
    /// When the last packet was handed on.
    seen: Instant,
    index: u64,
    last: Timestamp,
    counters: FeedCounters,
}

/// Packets copied out of a ring, to be merged with those of others.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    packets: VecDeque<(Timestamp, u32, usize, usize)>,
}

impl Feed {
    pub(super) fn new(rings: Vec<Ring>, relief: Option<Relief>, settings: &config::Capture) -> Self {
        let passage = Passage {
            clock: LiveClock::default(),
            seen: Instant::now(),
            index: 0,
            last: Timestamp(0),
            counters: FeedCounters::default(),
        };
        let rings = rings.into_iter().map(|ring| (ring, Queue::default())).collect();
        Self { rings, passage, block_timeout: Duration::from_nanos(settings.block_timeout.0), relief, late: false }
    }

    /// Reading begins now, maybe long after the rings were opened. Where they could not hold what came since, nothing of that is
    /// handed on: it would have a hole in it.
    pub fn begin(&mut self) {
        self.late = true;
        self.counters();
        self.late = self.passage.counters.before_start > 0;
        if self.late {
            let now = system_time();
            self.rings.iter_mut().for_each(|(ring, _)| ring.pass_over(now));
        }
    }

    /// Hands on the packets that are there, up to a few thousand; gives how many these were. Where there are none, waits for
    /// at most `wait`.
    pub fn take(&mut self, wait: Duration, sink: &mut impl Sink) -> usize {
        let count = |feed: &Self| feed.passage.counters.packets + feed.passage.counters.before_start;
        let before = count(self);
        self.take_ready(sink);
        if count(self) == before && !wait.is_zero() {
            self.wait(wait);
            self.take_ready(sink);
        }
        (count(self) - before) as usize
    }

    /// What relieves this thread of packets, if the configuration asks for it; once.
    pub fn relief(&mut self) -> Option<Relief> {
        self.relief.take()
    }

    /// The place of the next packet.
    pub fn index(&self) -> u64 {
        self.passage.index
    }

    fn take_ready(&mut self, sink: &mut impl Sink) {
        match self.rings.as_mut_slice() {
            [(ring, _)] => {
                let (link, start) = (ring.link, ring.start);
                ring.take(AT_ONCE, &mut Through { passage: &mut self.passage, link, start, sink });
            }
            several => merge(several, &mut self.passage, self.block_timeout, sink),
        }
    }

    fn wait(&self, wait: Duration) {
        let held = self.rings.iter().any(|(_, queue)| !queue.packets.is_empty());
        if held || self.rings.iter().all(|(ring, _)| ring.condition() != Condition::Up) {
            // What is held waits for time to pass; and the socket of an interface that is down is never at rest.
            std::thread::sleep(wait.min(self.block_timeout));
            return;
        }
        let mut sockets: Vec<PollFd<'_>> =
            self.rings.iter().map(|(ring, _)| PollFd::new(ring.socket(), PollFlags::POLLIN)).collect();
        let wait = u16::try_from(wait.as_millis()).unwrap_or(u16::MAX);
        // A wait that a signal ends early is as good.
        let _ = poll(&mut sockets, PollTimeout::from(wait));
        if sockets
            .iter()
            .any(|socket| socket.revents().is_some_and(|found| !found.contains(PollFlags::POLLIN) && !found.is_empty()))
        {
            self.rings.iter().for_each(|(ring, _)| ring.clear_error());
            // An error may stay until `look` has found its reason.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Moves time on where no packet does; gives the time.
    pub fn tick(&mut self) -> Timestamp {
        self.passage.clock.tick(self.passage.seen, 2 * self.block_timeout)
    }

    /// Remembers that packets came just now.
    pub fn seen(&mut self) {
        let now = Instant::now();
        if self.passage.clock.now().since(self.passage.last) > SET_BACK {
            self.passage.clock.pass(now.duration_since(self.passage.seen));
        }
        self.passage.seen = now;
    }

    /// The time.
    pub fn clock(&self) -> Timestamp {
        self.passage.clock.now()
    }

    /// How far what is read now lies behind what arrives now, by the time of the last packet that was handed on.
    pub fn lag(&self) -> Duration {
        if self.passage.last == Timestamp(0) {
            return Duration::ZERO;
        }
        Duration::from_nanos(system_time().since(self.passage.last).0)
    }

    /// What became of packets so far. Asks the kernel.
    pub fn counters(&mut self) -> FeedCounters {
        let late = std::mem::take(&mut self.late);
        for (ring, _) in &self.rings {
            let system::RingStatistics { packets, drops, freezes } = ring.statistics();
            let counters = &mut self.passage.counters;
            counters.received += packets;
            if late {
                counters.before_start += drops;
            } else {
                counters.dropped += drops;
                counters.freezes += freezes;
            }
        }
        let FeedCounters { received, dropped, packets, before_start, .. } = self.passage.counters;
        let waiting = |(ring, queue): &(Ring, Queue)| Some(ring.waiting()? + queue.packets.len() as u64);
        // What is in libpcap's rings can only be told by what is missing.
        let rest = || received.saturating_sub(dropped + packets + before_start);
        self.passage.counters.waiting = self.rings.iter().map(waiting).sum::<Option<u64>>().unwrap_or_else(rest);
        self.passage.counters
    }

    /// The time of the last packet.
    pub fn latest(&self) -> Timestamp {
        self.passage.last
    }

    /// How long it takes at most until a packet that is in a ring is handed on.
    pub fn settles_within(&self) -> Duration {
        4 * self.block_timeout
    }

    /// Looks at the interfaces; gives those whose condition has changed, in its order.
    pub fn look(&mut self) -> Vec<(String, Condition)> {
        let mut changed = Vec::new();
        for (ring, queue) in &mut self.rings {
            let said = ring.look(queue.packets.is_empty()).into_iter().flatten();
            changed.extend(said.map(|condition| (ring.name.clone(), condition)));
        }
        changed
    }

    /// The interfaces that are not up, and how they are.
    pub fn troubled(&self) -> Vec<(String, Condition)> {
        let rings = self.rings.iter().map(|(ring, _)| (ring.name.clone(), ring.condition()));
        rings.filter(|(_, condition)| *condition != Condition::Up).collect()
    }
}

/// Hands on packets of several rings in the order of their times. A ring that has none may yet get older ones than the
/// others have, until the kernel has had the time to hand over a block.
fn merge(rings: &mut [(Ring, Queue)], passage: &mut Passage, block_timeout: Duration, sink: &mut impl Sink) {
    let now = system_time();
    let settled = now.before(Span(2 * block_timeout.as_nanos() as u64));
    for _ in 0..AT_ONCE {
        for (ring, queue) in rings.iter_mut().filter(|(_, queue)| queue.packets.is_empty()) {
            queue.fill(ring);
        }
        let empty = rings.iter().any(|(_, queue)| queue.packets.is_empty());
        let first = |(_, queue): &(Ring, Queue)| queue.packets.front().map(|(ts, ..)| *ts);
        let next = rings.iter_mut().filter(|ring| first(ring).is_some()).min_by_key(|ring| first(ring));
        let Some((ring, queue)) = next else { return };
        let Some(&(ts, wire_length, from, to)) = queue.packets.front() else { return };
        // A time that is yet to come tells that the clock was set back: there is nothing to wait for.
        if empty && ts > settled && ts <= now {
            return;
        }
        queue.packets.pop_front();
        let bytes = queue.bytes.get(from..to).unwrap_or_default();
        sink.take(passage.pass(ring.link, ring.start, Raw { ts, wire_length, bytes }).into_iter());
    }
}

impl Passage {
    #[inline]
    fn pass<'p>(&mut self, link: u16, start: Timestamp, raw: Raw<'p>) -> Option<Packet<'p>> {
        let Raw { ts, wire_length, bytes } = raw;
        if ts < start {
            self.counters.before_start += 1;
            return None;
        }
        self.counters.backward_timestamps += u64::from(ts < self.last);
        self.last = ts;
        self.counters.packets += 1;
        self.counters.wire_bytes += u64::from(wire_length);
        let clock = self.clock.observe(ts);
        let index = self.index;
        self.index += 1;
        Some(Packet { index, ts, clock, link, wire_length, bytes })
    }
}

/// The way of a single ring's packets.
struct Through<'f, S> {
    passage: &'f mut Passage,
    link: u16,
    start: Timestamp,
    sink: &'f mut S,
}

impl<S: Sink> Take for Through<'_, S> {
    #[inline]
    fn take<'p>(&mut self, packets: impl Iterator<Item = Raw<'p>>) {
        let Self { passage, link, start, sink } = self;
        sink.take(packets.filter_map(|raw| passage.pass(*link, *start, raw)));
    }
}

impl Take for Queue {
    fn take<'p>(&mut self, packets: impl Iterator<Item = Raw<'p>>) {
        for raw in packets {
            let from = self.bytes.len();
            self.bytes.extend_from_slice(raw.bytes);
            self.packets.push_back((raw.ts, raw.wire_length, from, self.bytes.len()));
        }
    }
}

impl Queue {
    fn fill(&mut self, ring: &mut Ring) {
        self.bytes.clear();
        // Of the usual size; a run of larger packets makes the buffer grow by as much as is taken at a time.
        ring.take(COPIED / 2048, self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_where_no_packet_comes() {
        let mut clock = LiveClock::default();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        assert_eq!(clock.tick(long_ago, Duration::ZERO), Timestamp(0), "there is no time before the first packet");
        let first = Timestamp::from_parts(1_700_000_000, 0);
        clock.observe(first);
        let ticked = clock.tick(long_ago, Duration::from_secs(1));
        assert!((98.9..100.0).contains(&ticked.since(first).as_seconds()), "{ticked}");
        // What comes late does not turn it back.
        assert_eq!(clock.observe(first.after(Span::seconds(5))), ticked);
        assert_eq!(clock.observe(ticked.after(Span::seconds(5))), ticked.after(Span::seconds(5)));
        assert_eq!(clock.tick(Instant::now(), Duration::ZERO).since(ticked).as_seconds().round(), 5.0);
        // Nor does a clock that was set back, behind which time goes on.
        let before = clock.now();
        clock.observe(first.before(Span::seconds(3600)));
        clock.pass(Duration::from_secs(2));
        assert_eq!(clock.now(), before.after(Span::seconds(2)));
    }
}
