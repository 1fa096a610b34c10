//! Bringing alerts from the outbox to syslog collectors and files.
//!
//! In come alerts, which go to the store; a thread for each place takes them from its outbox, and notes there what has
//! arrived. Whoever raises an alert waits for nothing. Each place gets every alert at least once and in order; what
//! comes again has the same `event.id`.

mod courier;
mod file;
mod form;
mod names;
mod place;
mod syslog;
mod transport;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::Config;
use crate::detect::Row;
use crate::record::Document;
use crate::store::{Bounds, Entry, Store, StoreError, Writer, WriterCounters, file_of};
use courier::{Board, Courier};
pub use form::Form;
use place::Place;

/// Lines for the log that nobody has read yet.
const LINES: usize = 64;

/// Why alerts cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// A directory of the store or of a file.
    #[error("{}: the directory cannot be made (`{key}`)", .path.display())]
    Directory {
        /// The setting that names it.
        key: &'static str,
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
    /// The same place twice.
    #[error("deliver: {0} is named twice")]
    Twice(String),
    /// A thread.
    #[error("a thread for delivery could not be started")]
    Thread(#[source] std::io::Error),
}

/// What was read while all files could be; nothing is connected yet.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    places: Vec<Place>,
}

impl Prepared {
    /// Reads the files of TLS, looks names up, and makes the directories of the store and of files for their `owner`; none
    /// if nothing is kept.
    ///
    /// # Errors
    /// If a file cannot be used, or a directory not be made.
    pub fn read(config: &Config, owner: Option<(u32, u32)>) -> Result<Option<Self>, DeliverError> {
        let Some(path) = file_of(config) else { return Ok(None) };
        let settings = &config.deliver;
        let sensor = match settings.sensor.as_str() {
            "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned(),
            sensor => sensor.to_owned(),
        };
        let collectors = settings.syslog.iter().map(|collector| Place::collector(collector, settings, &sensor));
        let files = settings.file.iter().map(|file| Ok(Place::file(file, &sensor)));
        let places = collectors.chain(files).collect::<Result<Vec<_>, _>>().map_err(DeliverError::Tls)?;
        let mut names = std::collections::BTreeSet::new();
        if let Some(twice) = places.iter().map(Place::name).find(|name| !names.insert(name.clone())) {
            return Err(DeliverError::Twice(twice));
        }
        let prepared = Self { path, places };
        for (n, folder) in prepared.directories().enumerate() {
            let key = if n == 0 { "store.path" } else { "deliver.file" };
            let failed = |source| DeliverError::Directory { key, path: folder.to_owned(), source };
            if !folder.is_dir() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
                if let Some((user, group)) = owner {
                    std::os::unix::fs::chown(folder, Some(user), Some(group)).map_err(failed)?;
                }
            }
        }
        Ok(Some(prepared))
    }

    /// The store's file.
    pub fn store(&self) -> &Path {
        &self.path
    }

    /// Whether there is a place to deliver to.
    pub fn delivers(&self) -> bool {
        !self.places.is_empty()
    }

    /// The store's directory and those of files, which stay open to a process that is confined.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        let store = self.path.parent().unwrap_or(Path::new("/"));
        std::iter::once(store).chain(self.places.iter().filter_map(Place::directory))
    }

    /// The ports to which connections are made over TCP.
    pub fn ports(&self) -> Vec<u16> {
        self.places.iter().filter_map(Place::port).collect()
    }
}

/// What became of the alerts for a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorCounters {
    /// The place: `tls://192.0.2.7:6514`, `file:/var/log/outfall/alerts.json`.
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
    /// By place.
    pub collectors: Vec<CollectorCounters>,
}

/// A courier at work.
struct Employed {
    /// Of its place.
    name: String,
    minimum_severity: u64,
    board: Arc<Board>,
    thread: JoinHandle<()>,
}

/// Delivery at work.
pub struct Delivery {
    writer: Writer,
    /// What was normal here when the store was opened.
    baseline: Vec<Row>,
    wakers: Vec<Sender<()>>,
    couriers: Vec<Employed>,
    log: Receiver<String>,
}

impl Delivery {
    /// Opens the store and starts the threads.
    ///
    /// # Errors
    /// If the store cannot be used, or a thread not be started.
    pub fn start(prepared: Prepared, config: &Config) -> Result<Self, DeliverError> {
        let Prepared { path, places } = prepared;
        let (say, log) = bounded(LINES);
        let mut store = Store::open(&path)?;
        store.forget_unseen(config.store.baseline_age)?;
        let baseline = store.baseline()?.0;
        let (mut wakers, mut couriers) = (Vec::new(), Vec::new());
        for place in places {
            let (waker, wake) = bounded(1);
            let board = Arc::new(Board::default());
            let (name, minimum_severity) = (place.name(), place.minimum_severity());
            let courier = Courier {
                place,
                store: Store::open(&path)?,
                settings: config.deliver.clone(),
                wake,
                board: Arc::clone(&board),
                log: say.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("deliver-{}", couriers.len()));
            let thread = thread.spawn(move || courier.run()).map_err(DeliverError::Thread)?;
            wakers.push(waker);
            couriers.push(Employed { name, minimum_severity, board, thread });
        }
        let bounds = Bounds::of(&config.store);
        let queue = usize::try_from(config.store.queue).unwrap_or(usize::MAX);
        let tell = wakers.clone();
        // One that is awake already needs no second call.
        let writer = Writer::start(store, bounds, queue, move || tell.iter().for_each(|waker| _ = waker.try_send(())))?;
        Ok(Self { writer, baseline, wakers, couriers, log })
    }

    /// The places, by name.
    pub fn names(&self) -> Vec<String> {
        self.couriers.iter().map(|courier| courier.name.clone()).collect()
    }

    /// Takes an alert's document. Never waits.
    pub fn put(&self, document: &Document) {
        let entry = Entry::of(document);
        let destinations = self.wanted(document, &entry);
        self.writer.put(entry, destinations);
    }

    /// As [`Delivery::put`], but waits for the disk where that is slower; for a replay, which loses nothing by it.
    pub fn put_patiently(&self, document: &Document) {
        let entry = Entry::of(document);
        let destinations = self.wanted(document, &entry);
        self.writer.put_patiently(entry, destinations);
    }

    fn wanted(&self, document: &Document, entry: &Entry) -> Vec<String> {
        // What an exception covers is kept, but nobody is told.
        let told = document.get("outfall.alert.suppressed_by").is_none();
        let wanted = self.couriers.iter().filter(|courier| told && entry.severity >= courier.minimum_severity);
        wanted.map(|courier| courier.name.clone()).collect()
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
        let collectors = self.couriers.iter().map(|courier| counters(&courier.name, &courier.board)).collect();
        Counters { store: self.writer.counters(), collectors }
    }

    /// Ends: all is stored, and what can be is delivered within `deliver.drain`.
    pub fn finish(self) -> Counters {
        let store = self.writer.finish();
        drop(self.wakers);
        let ended = self.couriers.into_iter().map(|Employed { name, board, thread, .. }| {
            // A thread that panicked has ended the process.
            let _ = thread.join();
            counters(&name, &board)
        });
        Counters { store, collectors: ended.collect() }
    }
}

fn counters(name: &str, board: &Board) -> CollectorCounters {
    let Board { sent, retried, dropped, reduced, waiting, failures } = board;
    CollectorCounters {
        name: name.to_owned(),
        sent: sent.load(Ordering::Relaxed),
        retried: retried.load(Ordering::Relaxed),
        dropped: dropped.load(Ordering::Relaxed),
        reduced: reduced.load(Ordering::Relaxed),
        waiting: waiting.load(Ordering::Relaxed),
        failures: failures.load(Ordering::Relaxed),
    }
}
