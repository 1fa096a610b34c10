//! Writes the evidence of live alerts by itself, on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde_json::Value;

use super::keeper::{Given, Keeper, Request};
use super::shelf::Shelf;
use super::{Case, EvidenceError, Made, Missing, NoBaseline, Wanted};
use crate::config::Config;
use crate::net::ByteSize;
use crate::store::Reading;

/// How long what waits may still be written when the sensor ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a bundle takes beside packets, events and documents, at most: headers, and the manifest.
const MORE: u64 = 64 << 10;

/// What the header of a packet takes in the file.
const HEADER: u64 = 48;

/// The keeper of each capture thread, which both that thread and the writer look into.
pub type Keepers = Vec<Arc<Mutex<Keeper>>>;

/// An alert that is to have its evidence.
#[derive(Debug)]
pub struct Task {
    /// Its document.
    pub alert: Value,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// What counts as the destination of its upload.
    pub destination: String,
    /// Events of its host, one JSON object a line, how many, and how many more there were.
    pub events: (Vec<u8>, u64, u64),
}

/// What became of alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounters {
    /// Alerts whose evidence was written.
    pub written: u64,
    /// Alerts for which there was no room to wait.
    pub queue_full: u64,
    /// Alerts for whose evidence there was no room on the disk.
    pub no_room: u64,
    /// Alerts whose evidence could not be written.
    pub failed: u64,
    /// Alerts of which no packet was kept any more; their evidence has the rest.
    pub without_packets: u64,
    /// Evidence that was removed to make room.
    pub removed: u64,
    /// Evidence on the disk.
    pub bundles: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Alerts that wait.
    pub waiting: u64,
}

/// What the thread works with.
struct Desk {
    shelf: Shelf,
    keepers: Keepers,
    /// The database, if there is one.
    database: Option<PathBuf>,
    counters: Arc<Mutex<WriterCounters>>,
    log: Sender<String>,
}

/// The thread, from outside.
pub struct Writer {
    tasks: Sender<Task>,
    thread: JoinHandle<()>,
    counters: Arc<Mutex<WriterCounters>>,
    log: Receiver<String>,
    until: Arc<Mutex<Option<Instant>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that died has left is still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(shelf: Shelf, keepers: Keepers, database: Option<PathBuf>, config: &Config) -> std::io::Result<Self> {
        let most = usize::try_from(config.evidence.queue).unwrap_or(usize::MAX);
        let (tasks, wanted) = bounded::<Task>(most);
        let (say, log) = bounded(most);
        let counters = Arc::new(Mutex::new(WriterCounters::default()));
        let until: Arc<Mutex<Option<Instant>>> = Arc::default();
        let mut desk = Desk { shelf, keepers, database, counters: Arc::clone(&counters), log: say };
        let ends = Arc::clone(&until);
        desk.note(|_| ());
        let thread = std::thread::Builder::new().name("evidence".to_owned()).spawn(move || {
            for task in wanted {
                let late = locked(&ends).is_some_and(|end| Instant::now() > end);
                if late {
                    desk.note(|counters| counters.failed += 1);
                } else {
                    desk.take(task);
                }
            }
        })?;
        Ok(Self { tasks, thread, counters, log, until })
    }

    /// Takes an alert, if there is room for it to wait.
    pub fn put(&self, task: Task) {
        match self.tasks.try_send(task) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => locked(&self.counters).queue_full += 1,
            // The thread has died.
            Err(TrySendError::Disconnected(_)) => locked(&self.counters).failed += 1,
        }
    }

    /// What there is to say.
    pub fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// The counts so far.
    pub fn counters(&self) -> WriterCounters {
        WriterCounters { waiting: self.tasks.len() as u64, ..*locked(&self.counters) }
    }

    /// Ends: what waits is still written, as far as there is time. Gives the counts and what there is to say.
    pub fn finish(self) -> (WriterCounters, Vec<String>) {
        let Self { tasks, thread, counters, log, until } = self;
        *locked(&until) = Some(Instant::now() + PATIENCE);
        drop(tasks);
        let ended = thread.join();
        let mut counters = *locked(&counters);
        counters.failed += u64::from(ended.is_err());
        (counters, log.try_iter().collect())
    }
}

impl Desk {
    fn note(&mut self, change: impl FnOnce(&mut WriterCounters)) {
        let mut counters = locked(&self.counters);
        change(&mut counters);
        (counters.bundles, counters.bytes, counters.removed) = self.shelf.holds();
    }

    fn take(&mut self, task: Task) {
        let id = task.alert.pointer("/event/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        match self.write(task) {
            Ok(Some((place, made))) => {
                let none = u64::from(made.cut.packets == 0);
                self.note(|counters| {
                    counters.written += 1;
                    counters.without_packets += none;
                });
                let place = place.display().to_string();
                let place = crate::endpoint::printable(&place);
                self.say(format!(
                    "evidence of alert {id}: {place}: {} packets, manifest SHA-256 {}",
                    made.cut.packets, made.manifest
                ));
            }
            Ok(None) => {
                self.note(|counters| counters.no_room += 1);
                self.say(format!(
                    "evidence of alert {id} is not written: no room within `evidence.max_disk` and `evidence.min_free`"
                ));
            }
            Err(error) => {
                self.note(|counters| counters.failed += 1);
                let text = match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                self.say(format!("evidence of alert {id} is not written: {}", crate::endpoint::printable(&text)));
            }
        }
    }

    fn say(&self, line: String) {
        // Where more is said than anybody listens to, the counters still tell.
        let _ = self.log.try_send(line);
    }

    /// Writes it, if there is room.
    fn write(&mut self, task: Task) -> Result<Option<(PathBuf, Made)>, EvidenceError> {
        let Task { alert, config, destination, events } = task;
        let wanted = Wanted::of(&alert)?;
        let request = Request { connections: wanted.connections.clone(), client: wanted.client };
        let given: Vec<Given> = self.keepers.iter().map(|keeper| locked(keeper).give(&request)).collect();
        let packets = given.iter().flat_map(|given| &given.packets);
        let bytes: u64 = packets.map(|packet| packet.packet().bytes.len() as u64 + HEADER).sum();
        let carved = if config.evidence.carve { bytes.min(config.evidence.max_carved.0) } else { 0 };
        let baseline = self.database.as_deref().ok_or(NoBaseline::NotKept);
        let baseline = baseline.and_then(|path| facts(path, &alert, &destination));
        let documents = events.0.len() as u64
            + baseline.as_ref().map_or(0, |rows| format!("{rows:#}").len() as u64)
            + 2 * alert.to_string().len() as u64;
        let most = ByteSize(bytes.min(config.evidence.max_packets.0));
        if !self.shelf.make_room(most.0 + carved + documents + MORE)? {
            return Ok(None);
        }
        let folder = self.shelf.begin()?;
        let mut origin = vec![
            ("captures", Value::from("kept live, from the first moment of each upload")),
            ("endpoint_events_are", "told anew from what the sensor keeps of the host".into()),
            ("endpoint_events_left_out", events.2.into()),
        ];
        if !config.deliver.sensor.is_empty() {
            origin.push(("sensor", config.deliver.sensor.as_str().into()));
        }
        let case =
            Case { alert: &alert, wanted: &wanted, config: &config, baseline, events: (events.0, events.1), origin };
        let made = case.write(folder.path(), config.evidence.max_packets, |cutter| {
            let mut packets: Vec<_> = given.iter().flat_map(|given| &given.packets).collect();
            packets.sort_by_key(|packet| packet.order());
            for packet in packets {
                cutter.take(&packet.packet())?;
            }
            let gone = given.iter().map(|given| given.gone).sum();
            let forgotten = given.iter().map(|given| given.forgotten).sum();
            Ok::<_, EvidenceError>(Missing { gone, forgotten, cut_captures: 0 })
        })?;
        let place = self.shelf.put(folder, &wanted.id)?;
        Ok(Some((place, made)))
    }
}

/// What was normal.
fn facts(database: &Path, alert: &Value, destination: &str) -> Result<Value, NoBaseline> {
    let facts = Reading::open(database).and_then(|reading| reading.facts(alert, Some(destination)));
    facts.map_err(|_| NoBaseline::Unread)
}
