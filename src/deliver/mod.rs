//! Bringing alerts from the outbox to syslog collectors.
//!
//! In come alerts, which go to the store; a thread for each collector takes them from its outbox, and notes there what has
//! arrived. Whoever raises an alert waits for nothing. Each collector gets every alert at least once and in order; what
//! comes again has the same `event.id`.

mod courier;
mod syslog;
mod transport;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::{Config, SyslogCollector, Transport};
use crate::detect::Row;
use crate::record::Document;
use crate::store::{Bounds, Entry, Store, StoreError, Writer, WriterCounters, file_of};
use courier::{Board, Courier};
pub use syslog::{Formatter, Message, OPTIONAL};
use transport::Tls;

/// Lines for the log that nobody has read yet.
const LINES: usize = 64;

/// Why alerts cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The store's directory.
    #[error("{}: the directory of the store cannot be made (`store.path`)", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of TLS.
    #[error("deliver.syslog: {0}")]
    Tls(String),
    /// The same collector twice.
    #[error("deliver.syslog: {0} is named twice")]
    Twice(String),
    /// A thread.
    #[error("a thread for delivery could not be started")]
    Thread(#[source] std::io::Error),
}

/// What was read while all files could be; nothing is connected yet.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    collectors: Vec<(SyslogCollector, Option<Tls>)>,
    /// The name of this machine.
    host: String,
}

impl Prepared {
    /// Reads the files of TLS, and makes the directory of the store for its `owner`; none if nothing is kept.
    ///
    /// # Errors
    /// If a file cannot be used, or the directory not be made.
    pub fn read(config: &Config, owner: Option<(u32, u32)>) -> Result<Option<Self>, DeliverError> {
        let Some(path) = file_of(config) else { return Ok(None) };
        let mut collectors: Vec<(SyslogCollector, Option<Tls>)> = Vec::new();
        for collector in &config.deliver.syslog {
            if collectors.iter().any(|(other, _)| other.name() == collector.name()) {
                return Err(DeliverError::Twice(collector.name()));
            }
            let tls = (collector.transport == Transport::Tls).then(|| Tls::read(collector)).transpose();
            collectors.push((collector.clone(), tls.map_err(DeliverError::Tls)?));
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned();
        let prepared = Self { path, collectors, host };
        let folder = prepared.directory();
        let failed = |source| DeliverError::Directory { path: folder.to_owned(), source };
        if !folder.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
            if let Some((user, group)) = owner {
                std::os::unix::fs::chown(folder, Some(user), Some(group)).map_err(failed)?;
            }
        }
        Ok(Some(prepared))
    }

    /// The store's directory, which stays open to a process that is confined.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The ports to which connections are made over TCP.
    pub fn ports(&self) -> Vec<u16> {
        let streams = self.collectors.iter().filter(|(collector, _)| collector.transport != Transport::Udp);
        streams.map(|(collector, _)| collector.address.port()).collect()
    }
}

/// What became of the alerts for a collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorCounters {
    /// The collector: `tls://192.0.2.7:6514`.
    pub name: String,
    /// Messages written, repeated ones included.
    pub sent: u64,
    /// Messages that were written on a connection that broke soon after, and so are sent again.
    pub retried: u64,
    /// Alerts that fit no message.
    pub dropped: u64,
    /// Messages that left out parts of their alert to fit.
    pub reduced: u64,
    /// Alerts that wait, those that are written but not confirmed included.
    pub waiting: u64,
    /// Times that it could not be delivered to.
    pub failures: u64,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The store.
    pub store: WriterCounters,
    /// By collector.
    pub collectors: Vec<CollectorCounters>,
}

/// Delivery at work.
pub struct Delivery {
    writer: Writer,
    /// What was normal here when the store was opened.
    baseline: Vec<Row>,
    wakers: Vec<Sender<()>>,
    couriers: Vec<(SyslogCollector, Arc<Board>, JoinHandle<()>)>,
    log: Receiver<String>,
}

impl Delivery {
    /// Opens the store and starts the threads.
    ///
    /// # Errors
    /// If the store cannot be used, or a thread not be started.
    pub fn start(prepared: Prepared, config: &Config) -> Result<Self, DeliverError> {
        let Prepared { path, collectors, host } = prepared;
        let (say, log) = bounded(LINES);
        let mut store = Store::open(&path)?;
        store.forget_unseen(config.store.baseline_age)?;
        let baseline = store.baseline()?.0;
        let (mut wakers, mut couriers) = (Vec::new(), Vec::new());
        for (collector, tls) in collectors {
            let (waker, wake) = bounded(1);
            let board = Arc::new(Board::default());
            let courier = Courier {
                formatter: Formatter::new(&collector, &host, std::process::id()),
                collector: collector.clone(),
                tls,
                store: Store::open(&path)?,
                settings: config.deliver.clone(),
                wake,
                board: Arc::clone(&board),
                log: say.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("deliver-{}", couriers.len()));
            let thread = thread.spawn(move || courier.run()).map_err(DeliverError::Thread)?;
            wakers.push(waker);
            couriers.push((collector, board, thread));
        }
        let bounds = Bounds::of(&config.store);
        let queue = usize::try_from(config.store.queue).unwrap_or(usize::MAX);
        let tell = wakers.clone();
        // One that is awake already needs no second call.
        let writer = Writer::start(store, bounds, queue, move || tell.iter().for_each(|waker| _ = waker.try_send(())))?;
        Ok(Self { writer, baseline, wakers, couriers, log })
    }

    /// The collectors, by name.
    pub fn names(&self) -> Vec<String> {
        self.couriers.iter().map(|(collector, ..)| collector.name()).collect()
    }

    /// Takes an alert's document. Never waits.
    pub fn put(&self, document: &Document) {
        let entry = Entry::of(document);
        let wanted = self.couriers.iter().filter(|(collector, ..)| entry.severity >= collector.minimum_severity);
        let destinations = wanted.map(|(collector, ..)| collector.name()).collect();
        self.writer.put(entry, destinations);
    }

    /// What is known of what is normal here, once.
    pub fn baseline(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.baseline)
    }

    /// Where uploads go, with what they changed of what is normal here.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Lines for the log since the last call.
    pub fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        let collectors = self.couriers.iter().map(|(collector, board, _)| counters(collector, board)).collect();
        Counters { store: self.writer.counters(), collectors }
    }

    /// Ends: all is stored, and what can be is delivered within `deliver.drain`.
    pub fn finish(self) -> Counters {
        let store = self.writer.finish();
        drop(self.wakers);
        let ended = self.couriers.into_iter().map(|(collector, board, thread)| {
            // A thread that panicked has ended the process.
            let _ = thread.join();
            counters(&collector, &board)
        });
        Counters { store, collectors: ended.collect() }
    }
}

fn counters(collector: &SyslogCollector, board: &Board) -> CollectorCounters {
    let Board { sent, retried, dropped, reduced, waiting, failures } = board;
    CollectorCounters {
        name: collector.name(),
        sent: sent.load(Ordering::Relaxed),
        retried: retried.load(Ordering::Relaxed),
        dropped: dropped.load(Ordering::Relaxed),
        reduced: reduced.load(Ordering::Relaxed),
        waiting: waiting.load(Ordering::Relaxed),
        failures: failures.load(Ordering::Relaxed),
    }
}
