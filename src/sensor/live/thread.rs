//! A capture thread: its rings and its worker in one, so that no packet goes from one thread to another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::keeping::{IntoWorker, Keeping};
use super::lapse::Lapse;
use super::outlet::{Dropped, Outlet};
use super::relieving::Relieving;
use super::shedding::{Shedding, Step};
use crate::alert::Loss;
use crate::capture::Packet;
use crate::capture::live::{self, AT_ONCE, Condition, Feed, FeedCounters, Relief, ReliefCounters, Sink};
use crate::evidence::{Keeper, KeeperCounters};
use crate::net::{Span, Timestamp};
use crate::sensor::worker::{Held, Placed, SensorCounters, Worker};

/// How long a thread waits for packets before time moves on without them.
const WAIT: Duration = Duration::from_millis(100);

/// How often a thread looks at its counters and interfaces.
const SECOND: Duration = Duration::from_secs(1);

/// How long a thread that cannot keep up puts that off.
const BEHIND: Duration = Duration::from_secs(3);

/// After so long, at least, what came before a connection was put into the kernel's table was read.
const RELIEVED_AFTER: Duration = Duration::from_millis(500);

/// How long a thread may go on reading what was in its rings when it was told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// How long it may wait for its last facts to be taken.
const HAND_OVER: Duration = Duration::from_secs(30);

/// What a thread tells the others.
#[derive(Default)]
pub(super) struct Board {
    /// The time up to which everything was found and handed over, in nanoseconds.
    clock: AtomicU64,
    /// Grows as long as the thread is not stuck.
    beat: AtomicU64,
    report: Mutex<ThreadCounters>,
}

/// What became of everything on one thread, as of its last look.
#[derive(Clone, Debug, Default)]
pub struct ThreadCounters {
    /// Of the rings.
    pub feed: FeedCounters,
    /// Of what the kernel only counted.
    pub relief: ReliefCounters,
    /// Of what was in the packets.
    pub sensor: SensorCounters,
    /// Of packets that are kept for alerts.
    pub kept: KeeperCounters,
    /// What the worker holds now.
    pub held: Held,
    /// Of what was found.
    pub dropped: Dropped,
    /// How many kinds of work are given up.
    pub shed: usize,
    /// How many times a further kind was given up.
    pub shed_steps: u64,
    /// How far reading lagged behind arrival, at most, in the last second.
    pub lag: Duration,
}

/// Something that happened.
pub(super) enum Notice {
    /// An interface is in another condition.
    Interface(String, Condition),
    /// Work was given up, or taken up again.
    Shed { thread: usize, step: Step, lag: Duration, dropped: u64 },
    /// The kernel does not relieve a thread of packets, and why.
    NoRelief { thread: usize, why: std::io::Error },
    /// Packets were lost.
    Loss(Lapse),
}

impl Board {
    /// The time up to which everything was handed over; none before the first packet.
    pub(super) fn clock(&self) -> Option<Timestamp> {
        match self.clock.load(Ordering::Acquire) {
            0 => None,
            clock => Some(Timestamp(clock)),
        }
    }

    pub(super) fn beat(&self) -> u64 {
        self.beat.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self) -> ThreadCounters {
        // A thread that died left the counters as they were.
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A thread's work.
pub(super) struct Thread {
    pub(super) number: usize,
    pub(super) feed: Feed,
    pub(super) worker: Worker,
    pub(super) relief: Option<Relief>,
    /// Where packets are kept for alerts, if they are.
    pub(super) keeper: Option<Arc<Mutex<Keeper>>>,
    pub(super) outlet: Outlet,
    pub(super) notices: Sender<Notice>,
    pub(super) shedding: Shedding,
    pub(super) board: Arc<Board>,
    pub(super) stop: Arc<AtomicBool>,
}

/// Packets go from the rings into the worker.
struct Into<'t> {
    worker: &'t mut Worker,
    found: &'t mut Vec<Placed>,
}

impl Sink for Into<'_> {
    #[inline]
    fn take<'p>(&mut self, packets: impl Iterator<Item = Packet<'p>>) {
        self.worker.follow(packets, self.found);
    }
}

impl IntoWorker for Into<'_> {
    fn worker(&mut self) -> &mut Worker {
        self.worker
    }
}

impl IntoWorker for Relieving<'_> {
    fn worker(&mut self) -> &mut Worker {
        self.worker
    }
}

impl Thread {
    /// Reads until it is told to stop.
    pub(super) fn run(mut self) {
        let mut found = Vec::new();
        let mut last = self.begin(&mut found);
        let mut looked = Instant::now();
        let mut lag = Duration::ZERO;
        let mut steps = 0;
        let mut loss_from = live::now();
        while !self.stop.load(Ordering::Relaxed) {
            let packets = self.turn(self.outlet.due_within().map_or(WAIT, |within| within.min(WAIT)), &mut found);
            if packets > 0 {
                lag = lag.max(self.feed.lag());
            }
            // With as many as can be taken at a time there may be more, older than what the kernel has counted since.
            let behind = self.relief.is_some() && packets >= AT_ONCE && looked.elapsed() < BEHIND;
            if looked.elapsed() < SECOND || behind {
                continue;
            }
            looked = Instant::now();
            // What is in the table for so long has nothing older in a ring.
            self.settle(RELIEVED_AFTER.max(self.feed.settles_within()) + lag, &mut found);
            if let Some(why) = self.relief.as_mut().and_then(Relief::refusal) {
                self.tell(Notice::NoRelief { thread: self.number, why });
            }
            let counters = self.feed.counters();
            let dropped = counters.dropped - last.dropped;
            if dropped > 0 {
                let loss = Loss { lost: dropped, of: counters.received - last.received };
                // What was dropped came after what is read now, and at the earliest when the counters were last read.
                self.tell(Notice::Loss(Lapse { from: loss_from, to: live::now(), loss, whole: loss }));
            }
            loss_from = self.feed.clock().before(Span::seconds(1));
            last = counters;
            // A packet may wait for its block to be handed over however little there is to do.
            let late = lag.saturating_sub(self.feed.settles_within());
            if let Some(step) = self.shedding.look(late, dropped, looked) {
                self.worker.shed(&self.shedding.shed());
                steps += u64::from(step.up);
                self.tell(Notice::Shed { thread: self.number, step, lag, dropped });
            }
            for (name, condition) in self.feed.look() {
                // All threads see the same.
                if self.number == 0 {
                    self.tell(Notice::Interface(name, condition));
                }
            }
            self.report(counters, steps, lag);
            lag = Duration::ZERO;
        }
        self.finish(found, steps);
    }

    /// Reads what came before there was somebody to read it, such as while a large store was looked over: that it waited tells
    /// nothing of how fast the thread is.
    fn begin(&mut self, found: &mut Vec<Placed>) -> FeedCounters {
        let begun = Instant::now();
        self.feed.begin();
        while self.turn(Duration::ZERO, found) >= AT_ONCE
            && begun.elapsed() < BEHIND
            && !self.stop.load(Ordering::Relaxed)
        {}
        self.feed.counters()
    }

    /// Reads what is there, or moves time on; gives the number of packets.
    fn turn(&mut self, wait: Duration, found: &mut Vec<Placed>) -> usize {
        let Self { feed, worker, relief, keeper, .. } = self;
        let packets = match (relief, keeper) {
            (None, None) => feed.take(wait, &mut Into { worker, found }),
            (Some(relief), None) => feed.take(wait, &mut Relieving { worker, found, relief }),
            (None, Some(keeper)) => feed.take(wait, &mut Keeping { sink: Into { worker, found }, keeper }),
            (Some(relief), Some(keeper)) => {
                feed.take(wait, &mut Keeping { sink: Relieving { worker, found, relief }, keeper })
            }
        };
        let clock = if packets > 0 {
            feed.seen();
            feed.clock()
        } else {
            feed.tick()
        };
        if clock > Timestamp(0) {
            worker.advance(clock, found);
        }
        self.outlet.put(found.drain(..));
        // Where no packet comes, there is time; where some do, what they brought is not for every block of them alone.
        if packets == 0 || self.outlet.due_within().is_none_or(|within| within.is_zero()) {
            self.outlet.hand_over();
            self.board.clock.store(clock.0, Ordering::Release);
        }
        self.board.beat.fetch_add(1, Ordering::Relaxed);
        packets
    }

    /// What is in the rings is still read; then every connection is over.
    fn finish(mut self, mut found: Vec<Placed>, steps: u64) {
        let (begin, told) = (Instant::now(), live::now());
        // The kernel hands a block over when its time is up.
        let settled = self.feed.settles_within();
        loop {
            let packets = self.turn(WAIT.min(settled), &mut found);
            let elapsed = begin.elapsed();
            if (packets == 0 && elapsed > settled) || self.feed.latest() > told || elapsed > DRAIN {
                break;
            }
        }
        self.settle(Duration::ZERO, &mut found);
        self.outlet.put(found.drain(..));
        let until = Instant::now() + HAND_OVER;
        let (worker, outlet) = (&mut self.worker, &mut self.outlet);
        worker.finish(self.feed.clock(), &mut |part, _| outlet.put_last(part.drain(..), until));
        let counters = self.feed.counters();
        self.report(counters, steps, Duration::ZERO);
    }

    /// Takes over what the kernel has counted of connections that are in its table for so long.
    fn settle(&mut self, settled: Duration, found: &mut Vec<Placed>) {
        let Some(relief) = &mut self.relief else { return };
        let (clock, index) = (self.feed.clock(), self.feed.index());
        for relieved in relief.all(settled) {
            self.worker.relieved(&relieved, clock, index, found);
        }
    }

    fn report(&mut self, feed: FeedCounters, shed_steps: u64, lag: Duration) {
        let mut sensor = SensorCounters::default();
        self.worker.count(&mut sensor);
        let (dropped, shed) = (self.outlet.dropped, self.shedding.level());
        let relief = self.relief.as_ref().map(Relief::counters).unwrap_or_default();
        let kept = self.keeper.as_ref().map(|keeper| keeper.lock().unwrap_or_else(PoisonError::into_inner).counters());
        let kept = kept.unwrap_or_default();
        let held = self.worker.held();
        let report = ThreadCounters { feed, relief, sensor, kept, held, dropped, shed, shed_steps, lag };
        *self.board.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    fn tell(&self, notice: Notice) {
        // Where nobody listens any more, the sensor is about to end.
        let _ = self.notices.try_send(notice);
    }
}
