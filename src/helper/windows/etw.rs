//! The source that listens to the kernel's own events.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::drives::drives;
use super::trace::{Event, Look, Lost, Reading, Session};
use super::{process, tcp};
use crate::endpoint;
use crate::helper::log::now;
use crate::helper::sighting::What;
use crate::helper::source::etw::{Kernel, Provider, Tracker, decode};
use crate::helper::source::poll::{Connections, Details, Listed, Processes};
use crate::helper::source::{Sink, Source, SourceError};
use crate::helper::stop::Stop;

const SESSION: &str = "outfall-helper";

/// How long an event of our own may take to come back.
const PROOF: Duration = Duration::from_secs(10);

/// How often the session is asked what it has lost.
const ASK: Duration = Duration::from_secs(5);

/// Event Tracing for Windows.
#[derive(Debug, Default)]
pub struct Etw;

/// What is done to see whether it comes back.
struct Probe {
    file: PathBuf,
    name: String,
    file_seen: AtomicBool,
    end: SocketAddr,
    connection_seen: AtomicBool,
    listener: TcpListener,
}

impl Probe {
    fn new() -> std::io::Result<Self> {
        let name = format!("outfall-probe-{:016x}", u64::from_le_bytes(crate::helper::random()?));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Self {
            file: std::env::temp_dir().join(&name),
            name,
            file_seen: AtomicBool::new(false),
            end: listener.local_addr()?,
            connection_seen: AtomicBool::new(false),
            listener,
        })
    }

    fn act(&self) -> std::io::Result<()> {
        std::fs::write(&self.file, b"probe")?;
        std::fs::remove_file(&self.file)?;
        drop(TcpStream::connect(self.end)?);
        drop(self.listener.accept()?);
        Ok(())
    }

    /// Takes note if the event is ours.
    fn see(&self, event: &Kernel) {
        match event {
            Kernel::Open { path, .. } if path.ends_with(&self.name) => self.file_seen.store(true, Ordering::Relaxed),
            Kernel::Connection { remote, .. } if *remote == self.end => {
                self.connection_seen.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// What has not come back.
    fn missing(&self) -> Option<&'static str> {
        let (file, connection) = (&self.file_seen, &self.connection_seen);
        match (file.load(Ordering::Relaxed), connection.load(Ordering::Relaxed)) {
            (true, true) => None,
            (true, false) => Some("the connection"),
            (false, true) => Some("the file"),
            (false, false) => Some("the file and the connection"),
        }
    }
}

struct System;

impl Details for System {
    fn of(&mut self, listed: &Listed) -> endpoint::ProcessStart {
        process::details(listed.pid)
    }
}

impl Source for Etw {
    fn kind(&self) -> endpoint::Source {
        endpoint::Source::Etw
    }

    fn run(&mut self, sink: &Sink, stop: &Stop) -> Result<(), SourceError> {
        let refused = |what: &str, error: std::io::Error| SourceError(format!("{what}: {error}"));
        let probe = Probe::new().map_err(|error| refused("cannot make an event of its own", error))?;
        let session = Session::start(SESSION).map_err(|error| refused("no session", os_error(error)))?;
        let tracker = Mutex::new(Tracker::new(drives()));
        let own = std::process::id();
        let look = |event: Event<'_>| {
            let Some(provider) = Provider::ALL.into_iter().find(|provider| provider.guid() == event.provider) else {
                return;
            };
            let ids = provider.ids();
            match decode(provider, event.id, event.version, event.data, event.pointer) {
                Some(decoded) if event.pid == own => probe.see(&decoded),
                Some(decoded) => {
                    let what = tracker.lock().unwrap_or_else(PoisonError::into_inner).see(decoded, event.pid, event.ts);
                    what.map(complete).into_iter().for_each(|what| sink.see(what));
                }
                // Cut short, or of a layout that nobody knows.
                None if ids.contains(&event.id) => sink.lost(1),
                None => {}
            }
        };
        let look: Look<'_> = &look;
        let reading = Reading::open(SESSION, look).map_err(|error| refused("the session cannot be read", error))?;
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let session = session;
            let (reading, ended) = (&reading, &ended);
            scope.spawn(move || {
                reading.run();
                ended.store(true, Ordering::Relaxed);
            });
            let result = enable(&session).and_then(|()| {
                rundown(sink, &tracker);
                prove(&probe, stop)
            });
            if result.is_ok() {
                sink.set_state("running");
                watch(&session, sink, &tracker, ended, stop);
            }
            // The end of the session ends the reading of it.
            drop(session);
            match result {
                Ok(()) if !stop.is_set() => Err(SourceError("the session was ended by someone else".to_owned())),
                result => result,
            }
        })
    }
}

fn os_error(error: u32) -> std::io::Error {
    std::io::Error::from_raw_os_error(i32::try_from(error).unwrap_or(i32::MAX))
}

fn enable(session: &Session) -> Result<(), SourceError> {
    for provider in Provider::ALL {
        session
            .enable(provider.guid(), provider.keywords(), provider.ids())
            .map_err(|error| SourceError(format!("the provider {provider:?} is refused: {}", os_error(error))))?;
    }
    Ok(())
}

/// What is there already: processes and connections, as a snapshot has them.
fn rundown(sink: &Sink, tracker: &Mutex<Tracker>) {
    let mut processes = Processes::default();
    let sightings = process::list().map(|listed| processes.compare(listed, now(), &mut System)).unwrap_or_default();
    let mut tracker = tracker.lock().unwrap_or_else(PoisonError::into_inner);
    for what in &sightings {
        if let What::ProcessStart(event) = what
            && let Some(start) = event.start
        {
            tracker.found(event.pid, start);
        }
    }
    drop(tracker);
    sightings.into_iter().for_each(|what| sink.see(what));
    if let Ok(rows) = tcp::connections(&mut Vec::new()) {
        Connections::default().compare(&rows, now(), &processes).into_iter().for_each(|what| sink.see(what));
    }
}

fn prove(probe: &Probe, stop: &Stop) -> Result<(), SourceError> {
    let end = Instant::now() + PROOF;
    let mut acted = None;
    while let Some(missing) = probe.missing() {
        // Again and again: providers may take a moment until they send.
        if acted.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(2)) {
            probe.act().map_err(|error| SourceError(format!("cannot make an event of its own: {error}")))?;
            acted = Some(Instant::now());
        }
        if Instant::now() > end {
            return Err(SourceError(format!("not believed: {missing} that it made itself never came back")));
        }
        if stop.wait(Duration::from_millis(100)) {
            break;
        }
    }
    Ok(())
}

fn watch(session: &Session, sink: &Sink, tracker: &Mutex<Tracker>, ended: &AtomicBool, stop: &Stop) {
    let mut before = Lost::default();
    while !stop.wait(ASK) && !ended.load(Ordering::Relaxed) {
        if let Some(lost) = session.lost() {
            sink.lost(u64::from(lost.events.saturating_sub(before.events)));
            sink.lost(u64::from(lost.buffers.saturating_sub(before.buffers)));
            before = lost;
        }
        let unknown = tracker.lock().unwrap_or_else(PoisonError::into_inner).unknown();
        if before.buffers > 0 || unknown > 0 {
            let buffers = before.buffers;
            sink.set_state(&format!("running, {buffers} buffers lost, {unknown} operations on files opened before"));
        }
    }
}

/// Adds what only the system knows of a process that has just started.
fn complete(what: What) -> What {
    let What::ProcessStart(mut event) = what else { return what };
    let details = process::details(event.pid);
    // By now the id may be another process's.
    if details.start == event.start {
        event.image = details.image.or(event.image);
        event.command_line = details.command_line;
        (event.user, event.sid) = (details.user, details.sid);
    }
    What::ProcessStart(event)
}
