//! The live sensor: capture threads, and the one thread that puts what they find in order, joins and judges it.
//!
//! A capture thread is a worker with rings of its own. What it finds goes, in batches and bounded in number, to the thread
//! that calls [`Live::turn`]; there it waits until `join.grace` has passed, in packet time, and is judged with the
//! prevalence that is known by then. Capture never waits for the judging thread: what there is no room for is dropped and
//! counted.

mod gaps;
mod keeping;
mod lapse;
mod order;
mod outlet;
mod relieving;
mod shedding;
mod thread;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

pub use super::worker::Held;
use super::worker::Worker;
use super::{Judgement, Outcome};
use crate::alert::Trouble;
use crate::capture::live::{Condition, Feed, InterfaceCounters, Interfaces, now};
use crate::config::Config;
use crate::evidence::{Keeper, Keepers};
use crate::net::{Span, Timestamp};
use gaps::{Followed, Gaps};
use lapse::{Counted, Lapses};
use order::Order;
pub use outlet::Dropped;
use outlet::{Inlet, Outlet};
use shedding::Shedding;
pub use thread::ThreadCounters;
use thread::{Board, Notice, Thread};
use watch::{Said, Watch};

/// Why the sensor cannot run, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum LiveSensorError {
    /// A thread could not be started.
    #[error("a capture thread could not be started")]
    Start(#[source] std::io::Error),
    /// A thread is not there any more.
    #[error("capture thread {0} ended early")]
    Ended(usize),
    /// An interface is another one now, which a locked process cannot open.
    #[error(
        "{0} disappeared and came back as another interface, which cannot be taken up, or not once more (`capture.spare_sockets`); start the sensor anew"
    )]
    Replaced(String),
}

/// Notices under way, for all threads.
const NOTICES: usize = 1_024;

/// A thread that made no turn for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// What became of everything.
#[derive(Clone, Debug, Default)]
pub struct LiveCounters {
    /// By thread.
    pub threads: Vec<ThreadCounters>,
    /// By interface.
    pub interfaces: Vec<(String, InterfaceCounters)>,
    /// Facts that were joined before `join.grace` was over, for want of room.
    pub joined_early: u64,
}

/// A live sensor.
pub struct Live {
    crew: Vec<(JoinHandle<()>, Arc<Board>)>,
    keepers: Keepers,
    gate: Arc<Barrier>,
    stop: Arc<AtomicBool>,
    facts: Inlet,
    notices: Receiver<Notice>,
    order: Order,
    interfaces: Interfaces,
    watch: Watch,
    /// What is still to be said.
    said: Said,
    looked: Instant,
    /// What the interfaces lose.
    lapses: Lapses,
    /// What streams lack.
    gaps: Gaps,
    /// Uploads dropped up to the last look.
    uploads_dropped: u64,
    /// By thread: its beat, and since when it is the same.
    beats: Vec<(u64, Instant)>,
}

impl Live {
    /// Starts a thread for each feed. None reads before [`Live::begin`], so that the process can still be locked up.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(feeds: Vec<Feed>, interfaces: Interfaces, config: &Config) -> Result<Self, LiveSensorError> {
        let settings = &config.capture;
        let threads = feeds.len();
        let (way, facts) = outlet::channel(usize::try_from(settings.facts).unwrap_or(usize::MAX), threads);
        let (tell, notices) = bounded(NOTICES);
        let gate = Arc::new(Barrier::new(threads + 1));
        let stop = Arc::new(AtomicBool::new(false));
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        let processors = if settings.pin { processors() } else { Vec::new() };
        let mut watch = Watch::new(settings);
        let mut said = Said::default();
        let (mut crew, mut keepers) = (Vec::new(), Vec::new());
        for (number, mut feed) in feeds.into_iter().enumerate() {
            if number == 0 {
                for (name, condition) in feed.troubled() {
                    watch.notice(Notice::Interface(name, condition), &mut said);
                }
            }
            let board = Arc::new(Board::default());
            let relief = feed.relief();
            let mut worker = Worker::live(config, threads, seed);
            if relief.is_some() {
                worker.note_needless(settings.relief_after);
            }
            let keeper = (!config.evidence.directory.is_empty()).then(|| {
                worker.note_begun();
                let keeper = Keeper::new(&config.evidence, &config.packet, threads);
                Arc::new(Mutex::new(keeper))
            });
            keepers.extend(keeper.clone());
            let thread = Thread {
                number,
                feed,
                relief,
                keeper,
                worker,
                outlet: Outlet::new(number, way.clone()),
                notices: tell.clone(),
                shedding: Shedding::new(settings),
                board: Arc::clone(&board),
                stop: Arc::clone(&stop),
            };
            let gate = Arc::clone(&gate);
            let processor = processors.get(number % processors.len().max(1)).copied();
            let handle = std::thread::Builder::new()
                .name(format!("capture-{number}"))
                .spawn(move || {
                    if let Some(processor) = processor {
                        keep_to(processor);
                    }
                    gate.wait();
                    // Now the process may be locked up.
                    gate.wait();
                    thread.run();
                })
                .map_err(LiveSensorError::Start)?;
            crew.push((handle, board));
        }
        // A locked process refuses threads that come late their names and processors.
        gate.wait();
        let beats = crew.iter().map(|_| (0, Instant::now())).collect();
        let order = Order::new(crew.len(), usize::try_from(settings.waiting).unwrap_or(usize::MAX));
        let looked = Instant::now();
        Ok(Self {
            crew,
            keepers,
            gate,
            stop,
            facts,
            notices,
            order,
            interfaces,
            watch,
            said,
            looked,
            lapses: Lapses::from(now()),
            gaps: Gaps::new(settings.gaps_least),
            uploads_dropped: 0,
            beats,
        })
    }

    /// The journal of endpoint events could not be written so many times more; the next [`Live::turn`] says so.
    pub fn journal_refused(&mut self, times: u64) {
        self.watch.journal_refused(times, &mut self.said);
    }

    /// The store could not be written to so many times more; the next [`Live::turn`] says so.
    pub fn store_refused(&mut self, times: u64) {
        self.watch.store_refused(times, &mut self.said);
    }

    /// The output cannot be written, and so many lines more are lost for it; the next [`Live::turn`] says so.
    pub fn output_refused(&mut self, lines: u64) {
        self.watch.output_refused(lines, &mut self.said);
    }

    /// So many alerts more were given up on their way; the next [`Live::turn`] says so.
    pub fn alerts_dropped(&mut self, count: u64) {
        self.watch.alerts_dropped(count, &mut self.said);
    }

    /// The store could not be opened at the start, and so is still missing.
    pub fn store_missing(&mut self) {
        self.watch.store_missing(&mut self.said);
    }

    /// Where each thread keeps packets for alerts; nowhere without `evidence.directory`.
    pub fn keepers(&self) -> Keepers {
        self.keepers.clone()
    }

    /// Lets the threads read.
    pub fn begin(&self) {
        self.gate.wait();
    }

    /// Takes what was found within `wait`; what comes of it goes to `sink`, and lines for the log to `log`.
    ///
    /// # Errors
    /// If a thread is not there any more, or an interface cannot be read on.
    pub fn turn(
        &mut self,
        wait: Duration,
        grace: Span,
        judgement: &mut Judgement,
        sink: &mut impl FnMut(Outcome),
        log: &mut impl FnMut(String),
    ) -> Result<(), LiveSensorError> {
        self.take(wait, grace, judgement, sink);
        let mut said = std::mem::take(&mut self.said);
        let mut replaced = None;
        while let Ok(notice) = self.notices.try_recv() {
            match &notice {
                Notice::Interface(name, Condition::Replaced) => replaced = Some(name.clone()),
                Notice::Interface(name, Condition::TakenUp) => self.interfaces.replaced(name),
                _ => {}
            }
            self.watch.notice(notice, &mut said);
        }
        if self.looked.elapsed() >= Duration::from_secs(1) {
            self.looked = Instant::now();
            self.look(&mut said);
            if let Some(ended) = self.crew.iter().position(|(handle, _)| handle.is_finished()) {
                return Err(LiveSensorError::Ended(ended));
            }
        }
        for (from, to, loss) in said.losses {
            judgement.note_loss(from, to, loss);
        }
        for (from, to, loss) in said.gaps {
            judgement.note_gaps(from, to, loss);
        }
        said.lines.into_iter().for_each(&mut *log);
        for health in said.alerts {
            sink(Outcome::Health(Box::new(health)));
        }
        replaced.map_or(Ok(()), |name| Err(LiveSensorError::Replaced(name)))
    }

    fn take(&mut self, wait: Duration, grace: Span, judgement: &mut Judgement, sink: &mut impl FnMut(Outcome)) {
        // Read before the facts are taken: what was found up to then is in the channel by now.
        let clock = self.crew.iter().filter_map(|(_, board)| board.clock()).min().unwrap_or_default();
        let (mut wait, mut taken) = (wait, 0);
        // No more than there is room for, so that a turn ends.
        while taken < self.facts.most
            && let Some(found) = self.facts.take(wait)
        {
            (wait, taken) = (Duration::ZERO, taken + found.placed.len());
            self.order.put(found);
        }
        while let Some(fact) = self.order.next(clock, grace) {
            judgement.take(fact, sink);
        }
    }

    /// Looks, once a second, at what only all threads together tell.
    fn look(&mut self, said: &mut Said) {
        let asked = self.interfaces.update();
        let none = Counted { at: now(), ..Counted::default() };
        let counted = self.interfaces.counters().fold(none, |sum, (_, counters)| Counted {
            packets: sum.packets + counters.packets + counters.lost(),
            lost: sum.lost + counters.lost(),
            by_drivers: sum.by_drivers + counters.by_driver,
            ..sum
        });
        for lapse in self.lapses.look(counted, asked) {
            self.watch.loss(lapse, said);
        }
        let (mut followed, mut dropped) = (Followed { at: now(), ..Followed::default() }, 0);
        for (_, board) in &self.crew {
            let ThreadCounters { feed, sensor, dropped: found, .. } = board.report();
            dropped += found.uploads;
            followed.bytes += feed.wire_bytes;
            followed.gaps += sensor.flow.gaps;
            followed.gap_bytes += sensor.flow.gap_bytes;
            followed.cut += sensor.packet.snapped;
        }
        if let Some(lapse) = self.gaps.look(followed) {
            self.watch.gaps(lapse, said);
        }
        let before = std::mem::replace(&mut self.uploads_dropped, dropped);
        self.watch.uploads_dropped(dropped.saturating_sub(before), said);
        self.watch.look(said);
        for (n, (_, board)) in self.crew.iter().enumerate() {
            let Some((beat, since)) = self.beats.get_mut(n) else { continue };
            if *beat != board.beat() {
                (*beat, *since) = (board.beat(), Instant::now());
            }
        }
    }

    /// The threads that make no progress.
    pub fn stuck(&self) -> Vec<usize> {
        self.beats.iter().enumerate().filter(|(_, (_, since))| since.elapsed() >= STUCK).map(|(n, _)| n).collect()
    }

    /// Facts on their way from the threads, and those that wait for `join.grace` to pass.
    pub fn queued(&self) -> (usize, usize) {
        (self.facts.under_way(), self.order.len())
    }

    /// What keeps the sensor from seeing all, for now.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.watch.troubles()
    }

    /// The time up to which all threads have read; zero before the first packet.
    pub fn clock(&self) -> Timestamp {
        self.crew.iter().filter_map(|(_, board)| board.clock()).min().unwrap_or_default()
    }

    /// The counts as of the last second.
    pub fn counters(&self) -> LiveCounters {
        LiveCounters {
            threads: self.crew.iter().map(|(_, board)| board.report()).collect(),
            interfaces: self.interfaces.counters().map(|(name, counters)| (name.to_owned(), counters)).collect(),
            joined_early: self.order.early,
        }
    }

    /// Ends: what is in the rings is read, every connection is over, and all that was found is judged.
    ///
    /// # Errors
    /// If a thread ended early. What the others found has been handed on.
    pub fn finish(
        mut self,
        judgement: &mut Judgement,
        sink: &mut impl FnMut(Outcome),
    ) -> Result<LiveCounters, LiveSensorError> {
        self.stop.store(true, Ordering::Relaxed);
        // Nothing is released before all threads are done: their last facts may be older than what waits.
        while self.crew.iter().any(|(handle, _)| !handle.is_finished()) {
            if let Some(found) = self.facts.take(Duration::from_millis(10)) {
                self.order.put(found);
            }
        }
        while let Some(found) = self.facts.take(Duration::ZERO) {
            self.order.put(found);
        }
        while let Some(fact) = self.order.next_of_all() {
            judgement.take(fact, sink);
        }
        judgement.finish(sink);
        self.interfaces.update_all();
        let counters = self.counters();
        let mut ended = Ok(());
        for (number, (handle, _)) in self.crew.into_iter().enumerate() {
            if handle.join().is_err() {
                ended = Err(LiveSensorError::Ended(number));
            }
        }
        ended.map(|()| counters)
    }
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or_default();
    (0..nix::sched::CpuSet::count()).filter(|processor| set.is_set(*processor).unwrap_or(false)).collect()
}

fn keep_to(processor: usize) {
    let mut set = nix::sched::CpuSet::new();
    // A thread that runs elsewhere works as well, only slower.
    let _ = set.set(processor).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
}
