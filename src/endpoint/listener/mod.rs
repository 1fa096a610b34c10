//! Taking events from endpoints over the network: from helpers over TLS, from programs on this machine without.
//!
//! A connection is read line by line in bounded memory. What is new goes two ways: to the history, which another thread
//! owns and asks for with [`Listener::take`], and to the journal, which is on the disk before a helper is told that its
//! events are stored. Both queues are bounded in bytes, and where they are full connections are not read: the helper
//! waits, and nothing is lost. Where the disk refuses, events go to the history alone, nothing is acknowledged, and
//! helpers send again once it takes more.

mod commit;
mod connection;
mod hosts;
mod journal;
mod lines;
mod queue;
mod reason;
mod server;
mod session;
mod shared;
mod sockets;
mod tls;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;

use super::authority::{Authority, AuthorityError, Roll};
use super::intake::{Following, Intake};
use super::{Counters, History, Observation};
use crate::config::Config;
use crate::net::{ByteSize, Span};
pub use hosts::{HelperStatus, Hosts};
use journal::Journal;
pub use journal::{Entry, JournalCounters, Kind, Limits, Past};
pub use lines::{Lines, Pool, Refused};
use queue::{Receiver, Sender};
pub use reason::Reason;
use server::Thread;
pub use session::{Batch, Peer, Session};
use shared::Shared;
use sockets::Sockets;

/// Why the listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The state directory.
    #[error("{}: the state directory cannot be used (`listener.state`)", .path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A certificate or key that TLS does not take.
    #[error("the sensor's certificate cannot be used: {0}")]
    Tls(String),
    /// A socket.
    #[error("{place}: cannot be listened on")]
    Bind {
        /// The address or path.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The journal.
    #[error("{}: the journal cannot be read", .path.display())]
    Journal {
        /// Its folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread.
    #[error("a thread of the listener could not be started")]
    Thread(#[source] std::io::Error),
}

/// Sockets that are open, and what listening on them takes. Nothing is read yet.
#[derive(Debug)]
pub struct Bound {
    sockets: Sockets,
    tls: Option<Arc<rustls::ServerConfig>>,
    state: PathBuf,
}

/// The folder of the journal in a state directory.
pub fn journal_folder(state: &Path) -> PathBuf {
    state.join("journal")
}

impl Bound {
    /// Opens what the configuration names, with the rights that the process still has; none if it names nothing. The
    /// state directory is made, with the authority in it, where it is not there, and belongs to `owner`.
    ///
    /// # Errors
    /// If the state directory cannot be used, or an address not be listened on.
    pub fn open(config: &Config, owner: Option<(u32, u32)>) -> Result<Option<Self>, ListenerError> {
        let settings = &config.listener;
        if settings.tls.is_empty() && settings.local.is_empty() {
            return Ok(None);
        }
        let state = PathBuf::from(&settings.state);
        for folder in [&state, &journal_folder(&state)] {
            let failed = |source| ListenerError::State { path: folder.clone(), source };
            if !folder.is_dir() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
                if let Some((user, group)) = owner {
                    std::os::unix::fs::chown(folder, Some(user), Some(group)).map_err(failed)?;
                }
            }
        }
        let tls = if settings.tls.is_empty() {
            None
        } else {
            if !state.join("sensor.crt").exists() {
                Authority::open(&state)?;
            }
            Some(tls::configuration(&state)?)
        };
        Ok(Some(Self { sockets: Sockets::bind(settings)?, tls, state }))
    }

    /// What stays open to a process that is confined: the state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The addresses of TLS, as the system gave them, and those without.
    pub fn addresses(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        (self.sockets.tls_addresses(), self.sockets.local_addresses())
    }
}

/// What the listener counted.
#[derive(Clone, Debug, Default)]
pub struct ListenerCounters {
    /// Lines of all connections, as an intake counts them.
    pub intake: Counters,
    /// Connections open now.
    pub open: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that the system could not hand over.
    pub accept_errors: u64,
    /// Connections that ended, by reason.
    pub ends: Vec<(Reason, u64)>,
    /// Events that are new.
    pub events: u64,
    /// Events that helpers lost before they sent them, by the gaps in their numbers.
    pub missing: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Events that spoke for another host.
    pub refused: u64,
    /// Lines that were too long.
    pub oversized: u64,
    /// Times that a connection was not read for a while because it was too fast.
    pub paced: u64,
    /// Events of an earlier run, taken up from the journal.
    pub restored: u64,
    /// Memory for lines that are not complete, in bytes.
    pub lines_memory: u64,
    /// Bytes in the queues to the history and to the journal.
    pub queued: u64,
    /// The journal.
    pub journal: JournalCounters,
}

/// The listener at work.
pub struct Listener {
    shared: Arc<Shared>,
    gate: Arc<Barrier>,
    crew: Vec<JoinHandle<std::io::Result<()>>>,
    scribe: JoinHandle<()>,
    events: Receiver<Vec<Observation>>,
    log: mpsc::Receiver<String>,
}

impl Listener {
    /// Takes up the journal and starts the threads. None accepts a connection before [`Listener::begin`], so that the
    /// process can still be locked up.
    ///
    /// # Errors
    /// If the journal cannot be taken up, or a thread not be started.
    pub fn start(bound: Bound, config: &Config) -> Result<Self, ListenerError> {
        let Bound { sockets, tls, state } = bound;
        let settings = config.listener.clone();
        let limits = Limits {
            bytes: settings.journal,
            time: Span(settings.journal_time.0.max(config.join.look_back.0)),
            hosts: usize::try_from(settings.hosts).unwrap_or(usize::MAX),
        };
        let folder = journal_folder(&state);
        let unread = |source| ListenerError::Journal { path: folder.clone(), source };
        let journal = Journal::open(&folder, limits).map_err(unread)?;
        let (to_events, events) = queue::queue(settings.queue.0);
        let (to_requests, requests) = queue::queue(settings.queue.0);
        let roll = Roll::read(&state)?;
        let threads = usize::try_from(settings.threads).unwrap_or(1).max(1);
        raise_descriptors(settings.connections);
        let (shared, log) = Shared::new(settings, roll, to_events.clone(), to_requests);
        let shared = Arc::new(shared);
        for (host, mark) in journal.marks() {
            shared.hosts.restore(host, mark);
        }
        shared.publish(journal.counters());
        // The threads of connections, the journal's, the one that restores, and the caller.
        let gate = Arc::new(Barrier::new(threads + 3));
        let mut crew = Vec::new();
        for number in 0..threads {
            let thread = Thread {
                number,
                sockets: sockets.another().map_err(ListenerError::Thread)?,
                acceptor: tls.clone().map(Into::into),
                shared: Arc::clone(&shared),
                state: state.clone(),
            };
            crew.push(spawn(&format!("listener-{number}"), &gate, move |gate| thread.run(gate))?);
        }
        crew.push({
            let (shared, past, max_line) = (Arc::clone(&shared), journal.past(), config.endpoint.max_line);
            spawn("restore", &gate, move |gate| {
                gate.wait();
                gate.wait();
                restore(past, max_line, &shared, &to_events)
            })?
        });
        let scribe = {
            let shared = Arc::clone(&shared);
            spawn("journal", &gate, move |gate| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                gate.wait();
                gate.wait();
                match runtime {
                    Ok(runtime) => runtime.block_on(commit::run(requests, journal, shared)),
                    // Nothing is acknowledged then.
                    Err(error) => {
                        shared.disk.refuse();
                        shared.log(format!("warning: the journal cannot be written: {error}"));
                    }
                }
            })?
        };
        // All have what they need rights for.
        gate.wait();
        Ok(Self { shared, gate, crew, scribe, events, log })
    }

    /// Lets the threads accept.
    pub fn begin(&self) {
        self.gate.wait();
    }

    /// Hands what has come to the history, for so long at most; whether there is more.
    pub fn take(&mut self, history: &mut History, most: Duration) -> bool {
        let until = Instant::now() + most;
        while Instant::now() < until {
            match self.events.try_take() {
                Ok(observations) => observations.into_iter().for_each(|observation| history.insert(observation)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    /// Lines for the log since the last call.
    pub fn log(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.log.try_iter().collect();
        match self.shared.take_unlogged() {
            0 => {}
            count => lines.push(format!("listener: {count} more lines were not logged")),
        }
        lines
    }

    /// How each host's helper is, by name.
    pub fn helpers(&self) -> Vec<HelperStatus> {
        self.shared.hosts.statuses()
    }

    /// What was counted.
    pub fn counters(&self) -> ListenerCounters {
        let (shared, tally) = (&self.shared, &self.shared.tally);
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        ListenerCounters {
            intake: shared.intake(),
            open: shared.open.load(Ordering::Relaxed) as u64,
            accepted: count(&shared.accepted),
            accept_errors: count(&shared.accept_errors),
            ends: shared.ends.all(),
            events: count(&tally.events),
            missing: count(&tally.missing),
            repeated: count(&tally.repeated),
            refused: count(&tally.refused),
            oversized: count(&tally.oversized),
            paced: count(&shared.paced),
            restored: count(&tally.restored),
            lines_memory: shared.pool.used(),
            queued: shared.events.used() + shared.requests.used(),
            journal: shared.journal(),
        }
    }

    /// Ends: every connection is told, what came goes to the history, and what waits for the journal is written.
    pub fn finish(mut self, history: &mut History) -> ListenerCounters {
        self.shared.stop();
        let threads = |listener: &Self| listener.crew.iter().all(JoinHandle::is_finished);
        while !threads(&self) {
            self.take(history, Duration::from_millis(50));
            std::thread::sleep(Duration::from_millis(5));
        }
        self.take(history, Duration::from_secs(1));
        self.shared.close();
        let scribe_ends = Instant::now() + Duration::from_secs(5);
        while !self.scribe.is_finished() && Instant::now() < scribe_ends {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.counters()
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    gate: &Arc<Barrier>,
    run: impl FnOnce(&Barrier) -> T + Send + 'static,
) -> Result<JoinHandle<T>, ListenerError> {
    let gate = Arc::clone(gate);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&gate)).map_err(ListenerError::Thread)
}

/// Each connection needs a descriptor. Where the system allows fewer, the counter of those that it refused tells.
fn raise_descriptors(connections: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = connections.saturating_add(256).min(most);
    if wanted > now {
        // What it cannot have it does without.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, most);
    }
}

/// Hands the events of earlier runs to the history, while new ones come already.
fn restore(past: Past, max_line: ByteSize, shared: &Shared, events: &Sender<Vec<Observation>>) -> std::io::Result<()> {
    let mut intake = Intake::new(max_line);
    let mut count = 0;
    let read = past.read(|_, entry| {
        let mut following = if entry.host.is_empty() {
            Following::new("journal".to_owned())
        } else {
            Following::of_host("journal".to_owned(), Arc::clone(&entry.host))
        };
        let mut observations = Vec::new();
        // They were read once, and were events then.
        let _ = intake.follow(&mut following, &entry.lines, &mut |mut observation| {
            if entry.kind == Kind::Stream && observation.host.eq_ignore_ascii_case(&entry.host) {
                observation.host = Arc::clone(&entry.host);
            }
            observations.push(observation);
        });
        count += observations.len() as u64;
        shared.tally.restored.store(count, Ordering::Relaxed);
        let bytes = connection::size(&observations, entry.lines.len());
        observations.is_empty() || (!shared.is_stopping() && events.put_blocking(bytes, observations))
    });
    match &read {
        Ok(()) if count > 0 => shared.log(format!("listener: {count} events of earlier runs were taken up")),
        Ok(()) => {}
        Err(error) => shared.log(format!("warning: listener: the journal cannot be read further: {error}")),
    }
    read
}
