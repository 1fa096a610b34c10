//! Replaying captures: a reader, workers, and their facts in one order.
//!
//! The same input gives the same facts in the same order, whatever the number of workers.

mod turns;
mod waiting;

use crossbeam_channel::bounded;

use super::worker::{LANES, SensorCounters, Worker};
use crate::capture::{Batch, CaptureError, Reader};
use crate::config::Config;
use crate::flow::Moment;
use crate::net::Timestamp;
use crate::protocol::Fact;
use turns::Turns;
use waiting::{Merging, Results, Waiting};

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

/// How many times workers may hand something on before anybody looks at it.
const HANDED_ON: usize = 32;

/// A replay under way.
pub struct Replay<'r> {
    reader: &'r mut Reader,
    config: &'r Config,
    workers: usize,
    seed: u64,
    waiting: Waiting,
}

impl<'r> Replay<'r> {
    /// A replay of what the reader reads, by 1 to 16 workers.
    pub fn new(reader: &'r mut Reader, config: &'r Config, workers: usize) -> Self {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Self { reader, config, workers: workers.clamp(1, LANES), seed, waiting: Waiting::default() }
    }

    /// Runs to the end. `fact` is called with every fact in order, `progress` from time to time with how many bytes of the
    /// input were consumed; where it returns false, nobody wants more and the replay ends.
    ///
    /// # Errors
    /// If the input cannot be read any further. What was read before has been handed on.
    pub fn run(
        self,
        mut fact: impl FnMut(Fact),
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<SensorCounters, ReplayError> {
        if self.workers == 1 { self.alone(&mut fact, &mut progress) } else { self.together(&mut fact, &mut progress) }
    }

    fn alone(
        mut self,
        fact: &mut impl FnMut(Fact),
        progress: &mut impl FnMut(u64) -> bool,
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
            worker.take(&batch, None, self.waiting.more());
            clock = batch.clock();
            self.waiting.release(start_of(clock), fact);
            if !progress(self.reader.position()) {
                break Ok(());
            }
        };
        worker.finish(clock, &mut |part, moment| {
            self.waiting.more().append(part);
            self.waiting.release(moment, fact);
        });
        self.waiting.release_all(fact);
        let mut counters = SensorCounters::default();
        worker.count(&mut counters);
        ended?;
        Ok(counters)
    }

    fn together(
        self,
        fact: &mut impl FnMut(Fact),
        progress: &mut impl FnMut(u64) -> bool,
    ) -> Result<SensorCounters, ReplayError> {
        let Self { reader, config, workers, seed, .. } = self;
        let (turns, queues) = Turns::new(reader, workers);
        let counters = std::thread::scope(|scope| {
            let turns = &turns;
            let (results, from) = bounded::<Results>(HANDED_ON);
            let mut crew = Vec::new();
            for (number, own) in queues.into_iter().enumerate() {
                let results = results.clone();
                let mut worker = Worker::new(config, number, workers, seed);
                let handle = std::thread::Builder::new()
                    .name(format!("worker-{number}"))
                    .spawn_scoped(scope, move || {
                        turns::serve(turns, number, own, &mut worker, &results);
                        // Its memory is given back while others judge.
                        drop(results);
                        let mut counters = SensorCounters::default();
                        worker.count(&mut counters);
                        counters
                    })
                    .map_err(|error| ReplayError::Worker(error.to_string()))?;
                crew.push(handle);
            }
            drop(results);
            Merging::new(workers).run(&from, fact, || {
                if !progress(turns.position()) {
                    turns.stop();
                }
            });
            let mut counters = SensorCounters::default();
            for handle in crew {
                counters.add(&handle.join().map_err(|_| ReplayError::Worker("panicked".to_owned()))?);
            }
            Ok::<_, ReplayError>(counters)
        })?;
        turns.ended()?;
        Ok(counters)
    }
}

/// The moment before which nothing comes any more once the clock is there.
fn start_of(clock: Timestamp) -> Moment {
    Moment { clock, by_packet: false, index: 0 }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// So many DNS answers to as many hosts, each so many seconds after the one before.
    pub(super) fn answers(count: u32, seconds: u32) -> tempfile::NamedTempFile {
        let mut file = std::io::BufWriter::new(tempfile::NamedTempFile::new().unwrap());
        file.write_all(&[0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1]).unwrap();
        let question = b"\x01a\x07example\x00\x00\x01\x00\x01";
        for n in 0..count {
            let mut dns = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
            dns.extend_from_slice(question);
            dns.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            dns.extend_from_slice(&n.to_be_bytes());
            let length = |more: usize| (dns.len() + more) as u16;
            let mut frame = [&[2; 12][..], &[8, 0, 0x45, 0]].concat();
            frame.extend_from_slice(&length(28).to_be_bytes());
            frame.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 53, 10]);
            frame.extend_from_slice(&n.to_be_bytes()[1..]);
            frame.extend_from_slice(&[0, 53, 200, 0]);
            frame.extend_from_slice(&length(8).to_be_bytes());
            frame.extend_from_slice(&[0, 0]);
            frame.extend_from_slice(&dns);
            let size = (frame.len() as u32).to_be_bytes();
            let time = (0x6000_0000 + n * seconds).to_be_bytes();
            file.write_all(&[time, [0; 4], size, size].concat()).unwrap();
            file.write_all(&frame).unwrap();
        }
        file.into_inner().unwrap()
    }

    #[test]
    fn facts_of_one_time_come_in_one_order_from_any_number_of_workers() {
        let (count, config) = (100_000, Config::default());
        let capture = answers(count, 0);
        let replay = |workers| {
            let mut reader = Reader::open(&[capture.path().to_owned()]).unwrap();
            let (mut facts, mut bytes) = (Vec::new(), 0);
            let run = Replay::new(&mut reader, &config, workers);
            let counters = run
                .run(
                    |fact| facts.push(format!("{fact:?}")),
                    |now| {
                        bytes = now;
                        true
                    },
                )
                .unwrap();
            assert_eq!(bytes, capture.path().metadata().unwrap().len());
            (facts, counters)
        };
        let (facts, counters) = replay(1);
        assert_eq!((facts.len(), counters.protocol.dns_names), (count as usize, u64::from(count)));
        for workers in [2, 3, 16] {
            assert!(replay(workers) == (facts.clone(), counters.clone()), "{workers} workers");
        }
    }

    #[test]
    fn what_came_through_a_pipe_is_handed_on_before_more_comes() {
        use nix::sys::stat::Mode;
        let folder = tempfile::tempdir().unwrap();
        let (pipe, config) = (folder.path().join("pipe"), Config::default());
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let bytes = std::fs::read(answers(10, 1).path()).unwrap();
        for workers in [1, 3] {
            let (seen, heard) = std::sync::mpsc::channel();
            let (pipe, bytes) = (&pipe, &bytes);
            std::thread::scope(|scope| {
                let writer = scope.spawn(move || {
                    let mut to = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
                    to.write_all(bytes).unwrap();
                    // The pipe stays open until they were heard.
                    (0..9).all(|_| heard.recv_timeout(std::time::Duration::from_secs(30)).is_ok())
                });
                let mut reader = Reader::open(std::slice::from_ref(pipe)).unwrap();
                let run = Replay::new(&mut reader, &config, workers);
                run.run(|_| seen.send(()).unwrap_or_default(), |_| true).unwrap();
                assert!(writer.join().unwrap(), "{workers} workers");
            });
        }
    }

    #[test]
    fn where_nobody_wants_more_the_workers_stop() {
        let capture = answers(300_000, 0);
        let mut reader = Reader::open(&[capture.path().to_owned()]).unwrap();
        let config = Config::default();
        let counters = Replay::new(&mut reader, &config, 3).run(|_| {}, |_| false).unwrap();
        let read = counters.protocol.dns_names;
        assert!((1..300_000).contains(&read), "{read} were read");
    }
}
