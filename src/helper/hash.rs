//! SHA-256 of the files that matter, one after the other and slowly.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::config::Files;
use super::gather::Wish;
use super::guard::Guarded;
use super::stop::Stop;

/// How many files may wait; further ones are reported without a hash, and counted.
const WAITING: usize = 256;

/// How often a file that cannot be read, or changes meanwhile, is tried again, and after how long.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// How many hashes are remembered, so that a file that stays as it is is read once.
const REMEMBERED: usize = 512;

const CHUNK: usize = 64 << 10;

/// How often is asked whether somebody else wants the file.
const LOOK: Duration = Duration::from_millis(20);

/// Where wishes go.
#[derive(Clone, Debug)]
pub struct Hasher {
    wishes: SyncSender<Wish>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    pending: AtomicUsize,
    skipped: AtomicU64,
    broken_off: AtomicU64,
    untold: AtomicU64,
}

impl Hasher {
    /// Begins; each wish that comes true goes to `done`.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(config: &Files, stop: Arc<Stop>, done: impl Fn(Wish) + Send + 'static) -> io::Result<Self> {
        let (wishes, receiver) = sync_channel(WAITING);
        let counts = Arc::<Counts>::default();
        let work = Work {
            most: config.hash_size.0,
            rate: config.hash_rate.0.max(1),
            remembered: VecDeque::new(),
            counts: counts.clone(),
            stop,
        };
        std::thread::Builder::new().name("hash".to_owned()).spawn(move || {
            super::host::lower_priority();
            work.run(&receiver, &done);
        })?;
        Ok(Self { wishes, counts })
    }

    /// Wants a file's hash.
    pub fn want(&self, wish: Wish) {
        self.counts.pending.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.wishes.try_send(wish) {
            self.counts.pending.fetch_sub(1, Ordering::Relaxed);
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many files wait.
    pub fn pending(&self) -> usize {
        self.counts.pending.load(Ordering::Relaxed)
    }

    /// How often hashing was broken off because somebody else wanted the file.
    pub fn broken_off(&self) -> u64 {
        self.counts.broken_off.load(Ordering::Relaxed)
    }

    /// How many files were read in pieces, because the system does not tell when somebody else wants them.
    pub fn untold(&self) -> u64 {
        self.counts.untold.load(Ordering::Relaxed)
    }

    /// How many files could not be hashed: too many waited, or they could not be read, or were never left alone.
    pub fn skipped(&self) -> u64 {
        self.counts.skipped.load(Ordering::Relaxed)
    }
}

/// What tells whether a file has changed.
type Stamp = (u64, Option<SystemTime>);

struct Work {
    most: u64,
    rate: u64,
    remembered: VecDeque<(String, Stamp, String)>,
    counts: Arc<Counts>,
    stop: Arc<Stop>,
}

impl Work {
    fn run(mut self, wishes: &Receiver<Wish>, done: &dyn Fn(Wish)) {
        let mut again: VecDeque<(Instant, u32, Wish)> = VecDeque::new();
        while !self.stop.is_set() {
            let now = Instant::now();
            let (tries, wish) = if again.front().is_some_and(|(due, _, _)| *due <= now) {
                let Some((_, tries, wish)) = again.pop_front() else { continue };
                (tries, wish)
            } else {
                match wishes.recv_timeout(Duration::from_millis(500)) {
                    Ok(wish) => (0, wish),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            let event = &wish.report.event;
            let path = event.new_path.as_deref().unwrap_or(&event.path).to_owned();
            match self.hash(&path) {
                Ok(None) => {}
                Ok(Some((sha256, size))) => {
                    let mut wish = wish;
                    wish.report.event.sha256 = Some(sha256);
                    wish.report.event.size = Some(size);
                    done(wish);
                }
                Err(_) if tries + 1 < TRIES && again.len() < WAITING => {
                    again.push_back((now + TRY_AGAIN, tries + 1, wish));
                    continue;
                }
                Err(_) => {
                    self.counts.skipped.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.counts.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Hash and size; nothing if the file is none, or larger than what is hashed.
    fn hash(&mut self, path: &str) -> io::Result<Option<(String, u64)>> {
        let mut guarded = Guarded::open(Path::new(path))?;
        let metadata = guarded.file.metadata()?;
        let stamp = stamp(&metadata);
        if !metadata.is_file() || stamp.0 > self.most {
            return Ok(None);
        }
        if let Some((_, _, sha256)) = self.remembered.iter().find(|(of, at, _)| of == path && *at == stamp) {
            return Ok(Some((sha256.clone(), stamp.0)));
        }
        if !guarded.is_told() {
            self.counts.untold.fetch_add(1, Ordering::Relaxed);
        }
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let (begin, mut read) = (Instant::now(), 0_u64);
        loop {
            let length = guarded.file.read(&mut chunk)?;
            if length == 0 {
                break;
            }
            hash.update(chunk.get(..length).unwrap_or_default());
            read = read.saturating_add(length as u64);
            let due = Duration::from_secs_f64(read as f64 / self.rate as f64);
            loop {
                if guarded.is_wanted() {
                    self.counts.broken_off.fetch_add(1, Ordering::Relaxed);
                    return Err(io::Error::other("somebody else wants it"));
                }
                if guarded.is_due() {
                    guarded = guarded.reopen(Path::new(path), read, |rest| self.stop.wait(rest))?;
                    if super::hash::stamp(&guarded.file.metadata()?) != stamp {
                        return Err(io::Error::other("it changed meanwhile"));
                    }
                }
                let early = due.saturating_sub(begin.elapsed());
                if self.stop.wait(early.min(LOOK)) {
                    return Err(io::Error::other("the helper ends"));
                }
                if early <= LOOK {
                    break;
                }
            }
        }
        if read != stamp.0 || super::hash::stamp(&guarded.file.metadata()?) != stamp {
            return Err(io::Error::other("it changed meanwhile"));
        }
        let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.remembered.truncate(REMEMBERED - 1);
        self.remembered.push_front((path.to_owned(), stamp, sha256.clone()));
        Ok(Some((sha256, read)))
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.len(), metadata.modified().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{FileEvent, Operation, Source};
    use crate::helper::sighting::FileReport;
    use crate::net::{ByteSize, Timestamp};
    use std::sync::mpsc::channel;

    fn wish(path: &Path) -> Wish {
        let event = FileEvent {
            ts: Timestamp(1),
            pid: 1,
            start: None,
            op: Operation::Write,
            path: path.to_str().unwrap().to_owned(),
            new_path: None,
            size: None,
            sha256: None,
        };
        Wish { source: Source::Poll, report: FileReport { event, last: Timestamp(1), bytes: 0 } }
    }

    #[test]
    fn small_files_are_hashed_and_large_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (small, large) = (folder.path().join("small"), folder.path().join("large"));
        std::fs::write(&small, "abc").unwrap();
        std::fs::write(&large, vec![0; 2000]).unwrap();
        let (sender, receiver) = channel();
        let config = Files { hash_size: ByteSize(1000), ..Files::default() };
        let stop = Arc::new(Stop::default());
        let hasher = Hasher::start(&config, stop.clone(), move |wish| drop(sender.send(wish))).unwrap();
        for path in [&large, &small, &small] {
            hasher.want(wish(path));
        }
        for _ in 0..2 {
            let event = receiver.recv_timeout(Duration::from_secs(10)).unwrap().report.event;
            let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
            assert_eq!((event.sha256.as_deref(), event.size), (Some(known), Some(3)));
        }
        stop.set();
        assert!(receiver.recv_timeout(Duration::from_secs(10)).is_err());
        assert_eq!(hasher.skipped(), 0);
    }

    #[test]
    fn a_file_that_takes_long_is_let_go_in_between_and_its_hash_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slow");
        let content: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let (sender, receiver) = channel();
        // Two thirds of a second: two times that it is let go.
        let config = Files { hash_rate: ByteSize(300_000), ..Files::default() };
        let stop = Arc::new(Stop::default());
        let hasher = Hasher::start(&config, stop.clone(), move |wish| drop(sender.send(wish))).unwrap();
        hasher.want(wish(&path));
        let event = receiver.recv_timeout(Duration::from_secs(10)).unwrap().report.event;
        let known: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((event.sha256, event.size), (Some(known), Some(200_000)));
        assert_eq!((hasher.broken_off(), hasher.skipped()), (0, 0));
        // Windows itself grants a lock, and the file is read in one piece.
        assert!(hasher.untold() == 1 || cfg!(windows));
        stop.set();
    }
}
