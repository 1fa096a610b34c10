//! Replaying captures: a reader, workers, and their facts in one order.
//!
//! The same input gives the same facts in the same order, whatever the number of workers.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::worker::{LANES, Placed, SensorCounters, Spread, Worker};
use crate::capture::{Batch, CaptureError, Reader};
use crate::config::Config;
use crate::flow::Moment;
use crate::net::Timestamp;
use crate::protocol::Fact;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The input could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A worker thread could not be started, or ended early.
    #[error("a worker thread could not be started or ended early: {0}")]
    Worker(String),
}

/// How many batches are under way at once.
const IN_FLIGHT: usize = 16;

/// A batch on its way to all workers.
#[derive(Default)]
struct Work {
    packets: Batch,
    spread: Spread,
}

impl Work {
    fn fill(&mut self, reader: &mut Reader) -> Result<bool, CaptureError> {
        let filled = reader.fill(&mut self.packets);
        self.spread.over(&self.packets);
        filled
    }
}

/// What a worker finished, and the moment before which it finishes nothing more.
type Results = (Vec<Placed>, Moment);

/// A replay under way.
pub struct Replay<'r> {
    reader: &'r mut Reader,
    config: &'r Config,
    workers: usize,
    seed: u64,
    waiting: Vec<Placed>,
}

impl<'r> Replay<'r> {
    /// A replay of what the reader reads, by 1 to 16 workers.
    pub fn new(reader: &'r mut Reader, config: &'r Config, workers: usize) -> Self {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Self { reader, config, workers: workers.clamp(1, LANES), seed, waiting: Vec::new() }
    }

    /// Runs to the end. `fact` is called with every fact in order, `progress` after every batch; where it returns
    /// false, nobody wants more and the replay ends.
    ///
    /// # Errors
    /// If the input cannot be read any further. What was read before has been handed on.
    pub fn run(
        mut self,
        mut fact: impl FnMut(Fact),
        mut progress: impl FnMut(&Reader) -> bool,
    ) -> Result<SensorCounters, ReplayError> {
        if self.workers == 1 { self.alone(&mut fact, &mut progress) } else { self.together(&mut fact, &mut progress) }
    }

    fn alone(
        &mut self,
        fact: &mut impl FnMut(Fact),
        progress: &mut impl FnMut(&Reader) -> bool,
    ) -> Result<SensorCounters, ReplayError> {
        let mut worker = Worker::new(self.config, 0, 1, self.seed);
        let mut batch = Batch::default();
        let mut clock = Timestamp::default();
        let ended = loop {
            match self.reader.fill(&mut batch) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
            worker.take(&batch, None, &mut self.waiting);
            clock = batch.clock();
            self.release(start_of(clock), fact);
            if !progress(self.reader) {
                break Ok(());
            }
        };
        worker.finish(clock, &mut |part, moment| {
            self.waiting.append(part);
            self.release(moment, fact);
        });
        self.release_all(fact);
        let mut counters = SensorCounters::default();
        worker.count(&mut counters);
        ended?;
        Ok(counters)
    }

    fn together(
        &mut self,
        fact: &mut impl FnMut(Fact),
        progress: &mut impl FnMut(&Reader) -> bool,
    ) -> Result<SensorCounters, ReplayError> {
        let stopped = || ReplayError::Worker("no result".to_owned());
        std::thread::scope(|scope| {
            let mut crew = Vec::new();
            for number in 0..self.workers {
                // Room for every batch under way, so that handing out never waits.
                let (to, batches) = bounded::<Arc<Work>>(IN_FLIGHT + 1);
                let (results, from) = bounded::<Results>(IN_FLIGHT + 2);
                let mut worker = Worker::new(self.config, number, self.workers, self.seed);
                let handle = std::thread::Builder::new()
                    .name(format!("worker-{number}"))
                    .spawn_scoped(scope, move || {
                        serve(&mut worker, &batches, &results);
                        worker
                    })
                    .map_err(|error| ReplayError::Worker(error.to_string()))?;
                crew.push((to, from, handle));
            }
            let mut under_way: VecDeque<Arc<Work>> = VecDeque::new();
            let mut spare: Vec<Arc<Work>> = Vec::new();
            let ended = loop {
                let mut batch = spare.pop().unwrap_or_default();
                let filled = match Arc::get_mut(&mut batch) {
                    Some(work) => work.fill(self.reader),
                    None => {
                        batch = Arc::default();
                        match Arc::get_mut(&mut batch) {
                            Some(work) => work.fill(self.reader),
                            None => Ok(false),
                        }
                    }
                };
                match filled {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                }
                for (to, ..) in &crew {
                    to.send(Arc::clone(&batch)).map_err(|_| stopped())?;
                }
                under_way.push_back(batch);
                if under_way.len() > IN_FLIGHT
                    && let Some(done) = under_way.pop_front()
                {
                    for (_, from, _) in &crew {
                        self.waiting.extend(from.recv().map_err(|_| stopped())?.0);
                    }
                    self.release(start_of(done.packets.clock()), fact);
                    spare.push(done);
                    if !progress(self.reader) {
                        break Ok(());
                    }
                }
            };
            let mut counters = SensorCounters::default();
            let mut finals = Vec::new();
            for (to, from, handle) in crew {
                drop(to);
                finals.push((from, handle));
            }
            for done in under_way {
                for (from, _) in &finals {
                    self.waiting.extend(from.recv().map_err(|_| stopped())?.0);
                }
                self.release(start_of(done.packets.clock()), fact);
            }
            self.merge(finals.iter().map(|(from, _)| from), fact);
            for (_, handle) in finals {
                let mut worker = handle.join().map_err(|_| ReplayError::Worker("panicked".to_owned()))?;
                worker.count(&mut counters);
            }
            self.release_all(fact);
            ended?;
            Ok(counters)
        })
    }

    /// Hands on what the workers finish in the end, as far as every one of them has come.
    fn merge<'s>(&mut self, from: impl Iterator<Item = &'s Receiver<Results>>, fact: &mut impl FnMut(Fact)) {
        let mut under_way: Vec<(Moment, &Receiver<Results>)> = from.map(|from| (Moment::default(), from)).collect();
        while let Some(slowest) = (0..under_way.len()).min_by_key(|n| under_way.get(*n).map(|(moment, _)| *moment)) {
            let Some((moment, from)) = under_way.get_mut(slowest) else { return };
            match from.recv() {
                Ok((placed, until)) => {
                    self.waiting.extend(placed);
                    *moment = until;
                }
                Err(_) => drop(under_way.swap_remove(slowest)),
            }
            if let Some(moment) = under_way.iter().map(|(moment, _)| *moment).min() {
                self.release(moment, fact);
            }
        }
    }

    /// Hands on, in order, what comes before a moment.
    fn release(&mut self, moment: Moment, fact: &mut impl FnMut(Fact)) {
        if self.waiting.is_empty() {
            return;
        }
        self.waiting.sort_by_key(Placed::key);
        let ready = self.waiting.partition_point(|placed| placed.moment < moment);
        self.waiting.drain(..ready).for_each(|placed| fact(placed.fact));
    }

    fn release_all(&mut self, fact: &mut impl FnMut(Fact)) {
        self.waiting.sort_by_key(Placed::key);
        self.waiting.drain(..).for_each(|placed| fact(placed.fact));
    }
}

/// The moment before which nothing comes any more once the clock is there.
fn start_of(clock: Timestamp) -> Moment {
    Moment { clock, by_packet: false, index: 0 }
}

fn serve(worker: &mut Worker, batches: &Receiver<Arc<Work>>, results: &Sender<Results>) {
    let mut clock = Timestamp::default();
    for batch in batches {
        let mut out = Vec::new();
        worker.take(&batch.packets, Some(&batch.spread), &mut out);
        clock = batch.packets.clock();
        // Let go of it first, so that the reader can fill it again.
        drop(batch);
        if results.send((out, start_of(clock))).is_err() {
            return;
        }
    }
    worker.finish(clock, &mut |part, moment| {
        // The reader is gone only if the replay was given up.
        let _ = results.send((std::mem::take(part), moment));
    });
}
