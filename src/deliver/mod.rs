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
use crate::net::ByteSize;
use crate::record::Document;
use crate::store::{Batch, Bounds, Entry, Location, Store, StoreError, Writer, WriterCounters};
use courier::{Board, Courier};
pub use form::Form;
use place::Place;

/// Lines for the log that nobody has read yet.
const LINES: usize = 64;

/// What alerts may take in memory, where there is no file for them.
const IN_MEMORY: ByteSize = ByteSize(64 << 20);

/// Why alerts cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The directory of a file.
    #[error("{}: the directory cannot be made (`deliver.file`)", .path.display())]
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
    /// The store's file; none if alerts are delivered, but nothing is to be kept.
    path: Option<PathBuf>,
    /// Why the directory of the file could not be made.
    fault: Option<String>,
    places: Vec<Place>,
}

impl Prepared {
    /// Reads the files of TLS, looks names up, and makes the directories of the store, which is in `path`, and of files for
    /// their `owner`; none if nothing is kept or delivered.
    ///
    /// # Errors
    /// If a file of TLS cannot be used, or a directory of files not be made. That of the store is missed in
    /// [`Prepared::open`].
    pub fn read(
        config: &Config,
        path: Option<PathBuf>,
        owner: Option<(u32, u32)>,
    ) -> Result<Option<Self>, DeliverError> {
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
        if path.is_none() && places.is_empty() {
            return Ok(None);
        }
        for folder in places.iter().filter_map(Place::directory) {
            make(folder, owner).map_err(|source| DeliverError::Directory { path: folder.to_owned(), source })?;
        }
        let made = path.as_deref().and_then(Path::parent).map_or(Ok(()), |folder| make(folder, owner));
        let fault = made.err().map(|error| format!("its directory cannot be made: {error}"));
        Ok(Some(Self { path, fault, places }))
    }

    /// Opens the store: its file, or, where that cannot be used, one in memory.
    ///
    /// # Errors
    /// If there is no memory for that either.
    pub fn open(self) -> Result<Opened, DeliverError> {
        let Self { path, fault, places } = self;
        let opened = path.map(|path| match fault {
            Some(reason) => Err(StoreError::Open { path, reason }),
            None => Store::open(&path).map(|store| (Location::File(path), store)),
        });
        let fault = match opened {
            Some(Ok((location, store))) => return Ok(Opened { location, store, fault: None, places }),
            Some(Err(fault)) => Some(fault),
            None => None,
        };
        let location = Location::memory();
        let store = Store::open_at(&location)?;
        Ok(Opened { location, store, fault, places })
    }

    /// Whether there is a place to deliver to.
    pub fn delivers(&self) -> bool {
        !self.places.is_empty()
    }

    /// Whether one of them is a collector, to be sent to.
    pub fn sends(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Collector(_)))
    }

    /// The store's directory and those of files, which stay open to a process that is confined.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        // One that is not there cannot be opened to anybody.
        let store = self.path.as_deref().and_then(Path::parent).filter(|folder| folder.is_dir());
        store.into_iter().chain(self.places.iter().filter_map(Place::directory))
    }

    /// The ports to which connections are made over TCP.
    pub fn ports(&self) -> Vec<u16> {
        self.places.iter().filter_map(Place::port).collect()
    }
}

/// Makes a directory, if it is not there, for its owner alone.
fn make(folder: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    owner.map_or(Ok(()), |(user, group)| std::os::unix::fs::chown(folder, Some(user), Some(group)))
}

/// A store that is open, and places to deliver to.
#[derive(Debug)]
pub struct Opened {
    location: Location,
    store: Store,
    fault: Option<StoreError>,
    places: Vec<Place>,
}

impl Opened {
    /// Where the store is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Why it is not in its file; none if it is, or if nothing is to be kept.
    pub fn fault(&self) -> Option<&StoreError> {
        self.fault.as_ref()
    }

    /// Forgets which uploads were running when the last sensor ended; for the sensor that follows it, and nobody beside one.
    pub fn forget_running(&self) {
        // Where that cannot be written, the transactions will say so.
        let _ = self.store.forget_running();
    }

    /// [`Opened::fault`], for whoever gives up over it.
    pub fn take_fault(&mut self) -> Option<StoreError> {
        self.fault.take()
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
    /// What was normal here when the store was opened, if that is kept.
    baseline: Option<Vec<Row>>,
    wakers: Vec<Sender<()>>,
    couriers: Vec<Employed>,
    log: Receiver<String>,
}

impl Delivery {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the store fails, or a thread cannot be started.
    pub fn start(opened: Opened, config: &Config) -> Result<Self, DeliverError> {
        let Opened { location, mut store, places, .. } = opened;
        let (say, log) = bounded(LINES);
        let in_memory = matches!(location, Location::Memory(_));
        store.forget_unseen(config.store.baseline_age)?;
        let baseline = if in_memory { None } else { Some(store.baseline()?.0) };
        let (mut wakers, mut couriers) = (Vec::new(), Vec::new());
        for place in places {
            let (waker, wake) = bounded(1);
            let board = Arc::new(Board::default());
            let (name, minimum_severity) = (place.name(), place.minimum_severity());
            let courier = Courier {
                place,
                store: Store::join(&location)?,
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
        let mut bounds = Bounds::of(&config.store);
        if in_memory {
            bounds.bytes = bounds.bytes.min(IN_MEMORY);
        }
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

    /// An alert's entry, with the places that it goes to.
    pub fn addressed(&self, document: &Document<'_>) -> (Entry, Vec<String>) {
        let entry = Entry::of(document);
        let destinations = self.wanted(document, &entry);
        (entry, destinations)
    }

    /// Takes an alert's document, and waits for the disk where that is slower; for a replay, which loses nothing by it.
    pub fn put_patiently(&self, document: &Document<'_>) {
        self.writer.put_patiently(Batch { alerts: vec![self.addressed(document)], ..Batch::default() });
    }

    fn wanted(&self, document: &Document<'_>, entry: &Entry) -> Vec<String> {
        // What an exception covers is kept, but nobody is told.
        let told = document.get("outfall.alert.suppressed_by").is_none();
        let wanted = self.couriers.iter().filter(|courier| told && entry.severity >= courier.minimum_severity);
        wanted.map(|courier| courier.name.clone()).collect()
    }

    /// What is known of what is normal here, once; none if that is not kept.
    pub fn baseline(&mut self) -> Option<Vec<Row>> {
        self.baseline.take()
    }

    /// Where alerts and uploads go, with what these changed of what is normal here.
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
