//! Workers that read in turns: one that has little before it reads the next batches, for all of them.
//!
//! Every worker is given every batch, in the order of the input, and follows what is its own of it. With a thread that
//! only reads, two workers would be three threads' work for two processors, and no packet would lie near the processor
//! that follows it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::start_of;
use super::waiting::Results;
use crate::capture::{Batch, CaptureError, Reader};
use crate::net::Timestamp;
use crate::sensor::worker::{Placed, Spread, Worker};

/// How many batches are read in one turn: to wake another worker takes as long as to follow a good part of one.
const AT_ONCE: usize = 2;

/// How many turns' batches may wait for one worker while another has nothing to do.
const MOST_WAITING: usize = 16;

/// A worker with fewer turns' batches before it reads more, unless another is reading or input is slow in coming.
const FEW: usize = 8;

/// After how many turns' batches a worker hands on what it finished; earlier if there may be none for long.
const PART: usize = 8;

/// What was read in one turn, on its way to all workers.
#[derive(Default)]
pub(super) struct Work {
    batches: [(Batch, Spread); AT_ONCE],
    filled: usize,
}

impl Work {
    /// Reads anew; how the input ended, if it did.
    fn fill(&mut self, reader: &mut Reader, workers: usize) -> Option<Result<(), CaptureError>> {
        self.filled = 0;
        let most = if reader.is_interactive() { 1 } else { AT_ONCE };
        for (batch, spread) in self.batches.iter_mut().take(most) {
            match reader.fill(batch) {
                Ok(true) => spread.over(batch, workers),
                Ok(false) => return Some(Ok(())),
                Err(error) => return Some(Err(error)),
            }
            self.filled += 1;
        }
        None
    }

    fn batches(&self) -> impl Iterator<Item = &(Batch, Spread)> {
        self.batches.iter().take(self.filled)
    }
}

/// The input, which one worker at a time reads.
pub(super) struct Turns<'r> {
    reading: Mutex<Reading<'r>>,
    position: AtomicU64,
    stopped: AtomicBool,
    /// The input may be long in coming.
    interactive: bool,
}

struct Reading<'r> {
    reader: &'r mut Reader,
    /// To each worker; nobody once the input is over.
    to: Vec<Sender<Arc<Work>>>,
    /// What was handed out and may still be looked at, oldest first.
    handed_out: VecDeque<Arc<Work>>,
    ended: Result<(), CaptureError>,
}

impl<'r> Turns<'r> {
    /// The input for so many workers, with what each is given of it.
    pub(super) fn new(reader: &'r mut Reader, workers: usize) -> (Self, Vec<Receiver<Arc<Work>>>) {
        let (to, own) = (0..workers).map(|_| bounded(MOST_WAITING)).unzip();
        let interactive = reader.is_interactive();
        let reading = Mutex::new(Reading { reader, to, handed_out: VecDeque::new(), ended: Ok(()) });
        (Self { reading, position: AtomicU64::new(0), stopped: AtomicBool::new(false), interactive }, own)
    }

    /// How many bytes of the input were consumed.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// The input counts as over.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the input was read to its end, or to where nobody wanted more.
    pub(super) fn ended(self) -> Result<(), CaptureError> {
        self.reading.into_inner().unwrap_or_else(PoisonError::into_inner).ended
    }

    /// Reads for all, unless another does, or the worker that is given `own` has enough before it.
    fn read(&self, own: &Receiver<Arc<Work>>) {
        // Who waits for a pipe while it has work before it would keep what comes of that to itself.
        let enough = if self.interactive { 1 } else { FEW };
        if own.len() >= enough {
            return;
        }
        let Ok(mut reading) = self.reading.try_lock() else { return };
        if own.len() >= enough {
            // Another was just done: only who reads adds to it.
            return;
        }
        if self.stopped.load(Ordering::Relaxed) {
            reading.to.clear();
        }
        if !reading.to.is_empty() {
            reading.next();
            self.position.store(reading.reader.position(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reading<'r>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    fn next(&mut self) {
        let mut work = match self.handed_out.pop_front().map(Arc::try_unwrap) {
            Some(Ok(work)) => work,
            Some(Err(looked_at)) => {
                self.handed_out.push_front(looked_at);
                Work::default()
            }
            None => Work::default(),
        };
        let ended = work.fill(self.reader, self.to.len());
        if work.filled > 0 {
            let work = Arc::new(work);
            for to in &self.to {
                // Who has ended early wants nothing more.
                let _ = to.send(Arc::clone(&work));
            }
            self.handed_out.push_back(work);
        }
        if let Some(ended) = ended {
            self.ended = ended;
            self.to.clear();
        }
    }
}

/// A worker that has gone, for whatever reason, will read for nobody.
struct Leaving<'t, 'r>(&'t Turns<'r>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().to.clear();
    }
}

/// Lets worker `number` follow the input to its end, and hands on to `results` what it finishes, until nobody takes that.
pub(super) fn serve(
    turns: &Turns<'_>,
    number: usize,
    own: Receiver<Arc<Work>>,
    worker: &mut Worker,
    results: &Sender<Results>,
) {
    // Whoever waits to give this worker something is to go on before anybody waits for the input: in this order, `own`
    // goes first.
    let _leaving = Leaving(turns);
    let own = own;
    let hand_on = |mut placed: Vec<Placed>, until| {
        placed.sort_by_key(Placed::key);
        results.send(Results { worker: number, placed, until }).is_ok()
    };
    let (mut out, mut clock, mut turns_followed) = (Vec::new(), Timestamp::default(), 0);
    loop {
        let nothing_waits = turns_followed > 0 && own.is_empty();
        if turns_followed >= PART || (turns.interactive && nothing_waits) {
            if !hand_on(std::mem::take(&mut out), start_of(clock)) {
                return;
            }
            turns_followed = 0;
        }
        turns.read(&own);
        let Ok(work) = own.recv() else { break };
        for (batch, spread) in work.batches() {
            worker.take(batch, Some(spread), &mut out);
            clock = batch.clock();
        }
        turns_followed += 1;
    }
    if !hand_on(out, start_of(clock)) {
        return;
    }
    worker.finish(clock, &mut |part, moment| {
        // Nobody takes it only if the replay was given up.
        let _ = hand_on(std::mem::take(part), moment);
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::answers;
    use super::*;
    use crate::config::Config;

    #[test]
    fn workers_whose_results_nobody_takes_do_not_wait_for_each_other() {
        let capture = answers(100_000, 0);
        let mut reader = Reader::open(&[capture.path().to_owned()]).unwrap();
        let (turns, queues) = Turns::new(&mut reader, 3);
        let (results, from) = bounded(1);
        let config = Config::default();
        std::thread::scope(|scope| {
            for (number, own) in queues.into_iter().enumerate() {
                let (turns, results, mut worker) = (&turns, results.clone(), Worker::new(&config, number, 3, 1));
                scope.spawn(move || serve(turns, number, own, &mut worker, &results));
            }
            drop(from);
        });
        assert!(turns.position() < capture.path().metadata().unwrap().len());
        assert!(turns.ended().is_ok());
    }
}
