//! The helper at work: sources, gatherer, spool and uplink, and the threads that they run on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::config::Config;
use super::gather::{Gathered, Gatherer};
use super::hash::Hasher;
use super::log::{Log, now};
use super::random;
use super::sighting::Report;
use super::source::{Message, Sink, Source, SourceError, Status};
use super::spool::Spool;
use super::stop::Stop;
use super::uplink::{Shared, TlsError, Uplink};
use crate::endpoint::Heartbeat;

/// How many messages wait for the gatherer; then the sources wait.
const WAITING: usize = 16_384;

/// Messages are taken in so often, many at a time.
const BEAT: Duration = Duration::from_millis(200);

/// So many reports go to the disk before their time.
const UNWRITTEN: usize = 4096;

/// How often the gatherer looks for what is due.
const TICK: Duration = Duration::from_millis(500);

/// How long the end may wait for the link to take what is there.
const PARTING: Duration = Duration::from_secs(2);

/// Why the helper does not work.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The spool cannot be used.
    #[error("spool.folder: {folder}: {reason}")]
    Spool {
        /// The folder.
        folder: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The link cannot be made.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// No thread, or no random numbers.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// Nothing to watch with.
    #[error("no source is configured that works here: see [sources]")]
    NoSource,
}

/// Works until `stop`, or with `once` until the sources have ended and the sensor has everything.
///
/// # Errors
/// If it cannot begin.
pub fn run(config: &Config, log: &Arc<Log>, stop: &Arc<Stop>, once: bool) -> Result<(), AgentError> {
    let stream: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = config.spool.folder.display().to_string();
    let spool = Spool::open(&config.spool.folder, config.spool.size.0, &stream)
        .map_err(|reason| AgentError::Spool { folder, reason })?;
    let shared = Arc::new(Shared::new(spool));
    let (messages, receiver) = sync_channel(WAITING);
    let hashed = messages.clone();
    let hasher =
        Hasher::start(&config.files, stop.clone(), move |wish| drop(hashed.send(Message::Hashed(Box::new(wish)))))?;
    let uplink = Uplink::new(config, shared.clone(), log.clone(), stop.clone())?;
    let running = Arc::<AtomicUsize>::default();
    let sources = start_sources(config, &messages, log, stop, &running)?;
    drop(messages);
    log.line(&format!("outfall-helper {}, {} sources", env!("CARGO_PKG_VERSION"), sources.len()));
    let link = std::thread::Builder::new().name("uplink".to_owned()).spawn(move || uplink.run())?;
    let mut core = Core {
        gatherer: Gatherer::new(&config.files),
        hasher,
        shared,
        sources,
        log: log.clone(),
        begin: Instant::now(),
        heartbeat: Duration::from_nanos(config.uplink.heartbeat.0),
        delay: Duration::from_nanos(config.spool.delay.0),
        unwritten: 0,
        written: Duration::ZERO,
        disk_failed: false,
        dropped: 0,
    };
    core.run(&receiver, stop, &running, once);
    // A link that waits for its sensor looks at `stop` at once; one that connects may take longer, and is left.
    let end = Instant::now() + PARTING;
    while !link.is_finished() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    log.line("outfall-helper ends");
    Ok(())
}

/// Each entry is a row of sources of which the next takes over when one cannot watch.
fn start_sources(
    config: &Config,
    messages: &SyncSender<Message>,
    log: &Arc<Log>,
    stop: &Arc<Stop>,
    running: &Arc<AtomicUsize>,
) -> Result<Vec<Arc<Status>>, AgentError> {
    let mut statuses = Vec::new();
    for row in super::source::configured(config) {
        let mut row: Vec<(Box<dyn Source>, Sink)> = row
            .into_iter()
            .map(|source| {
                let sink = Sink::new(source.kind(), messages.clone());
                statuses.push(sink.status());
                (source, sink)
            })
            .collect();
        let (log, stop, ended) = (log.clone(), stop.clone(), running.clone());
        running.fetch_add(1, Ordering::SeqCst);
        std::thread::Builder::new().name("source".to_owned()).spawn(move || {
            for (source, sink) in row.iter_mut() {
                let name = super::source::name(source.kind());
                match source.run(sink, &stop) {
                    Ok(()) => break,
                    Err(SourceError(reason)) => {
                        sink.set_state(&format!("failed: {reason}"));
                        log.line(&format!("{name}: {reason}"));
                    }
                }
            }
            for (_, sink) in &row {
                sink.end();
            }
            ended.fetch_sub(1, Ordering::SeqCst);
        })?;
    }
    if statuses.is_empty() { Err(AgentError::NoSource) } else { Ok(statuses) }
}

struct Core {
    gatherer: Gatherer,
    hasher: Hasher,
    shared: Arc<Shared>,
    sources: Vec<Arc<Status>>,
    log: Arc<Log>,
    begin: Instant,
    heartbeat: Duration,
    /// How long a report may wait for the disk.
    delay: Duration,
    /// Reports that are not on the disk yet, and since when there are any.
    unwritten: usize,
    written: Duration,
    disk_failed: bool,
    dropped: u64,
}

impl Core {
    fn run(&mut self, messages: &Receiver<Message>, stop: &Stop, running: &AtomicUsize, once: bool) {
        let (mut beat, mut tick) = (Duration::ZERO, Duration::ZERO);
        let mut out = Gathered::default();
        loop {
            let ends = stop.is_set();
            // Asked before the messages: what a source sent before it ended is then still to come.
            let all_ended = running.load(Ordering::SeqCst) == 0;
            let due = if self.unwritten > 0 { self.delay.min(TICK) } else { TICK };
            let idle = match messages.recv_timeout(if ends { Duration::ZERO } else { due }) {
                Ok(message) => {
                    if !ends {
                        stop.wait(BEAT.min(self.delay));
                    }
                    self.take(message, &mut out);
                    for message in messages.try_iter().take(WAITING * 2) {
                        self.take(message, &mut out);
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => true,
            };
            let now = self.begin.elapsed();
            let over = idle && once && all_ended;
            if over || ends {
                self.gatherer.finish(now, &mut out);
            } else if now >= tick {
                self.gatherer.tick(now, &mut out);
                tick = now + TICK;
            }
            self.write(&mut out);
            if now >= beat {
                self.beat();
                beat = now + self.heartbeat;
            }
            if self.unwritten > 0
                && (ends || over || self.unwritten >= UNWRITTEN || now.saturating_sub(self.written) >= self.delay)
            {
                self.flush(now);
            }
            if ends {
                break;
            }
            if over && self.hasher.pending() == 0 && !self.shared.spool().is_waiting() {
                stop.set();
                break;
            }
        }
    }

    fn take(&mut self, message: Message, out: &mut Gathered) {
        match message {
            Message::Seen(sighting) => self.gatherer.take(sighting, self.begin.elapsed(), out),
            Message::Hashed(wish) => out.reports.push((wish.source, Report::File(Box::new(wish.report)))),
        }
    }

    fn write(&mut self, out: &mut Gathered) {
        for wish in out.wishes.drain(..) {
            self.hasher.want(wish);
        }
        if out.reports.is_empty() {
            return;
        }
        if self.unwritten == 0 {
            self.written = self.begin.elapsed();
        }
        self.unwritten += out.reports.len();
        let bodies = out.reports.drain(..).map(|(source, report)| (report.class(), report.body(source)));
        let bodies: Vec<_> = bodies.collect();
        let mut spool = self.shared.spool();
        let mut result = Ok(());
        for (class, body) in bodies {
            if let Err(error) = spool.append(class, &body) {
                result = Err(error);
            }
        }
        drop(spool);
        self.check(result);
    }

    fn beat(&mut self) {
        let mut spool = self.shared.spool();
        let dropped = spool.dropped();
        let beat = Heartbeat {
            ts: now(),
            sent: spool.sent(),
            dropped: dropped.total(),
            sources: self.sources.iter().map(|status| status.state()).collect(),
        };
        // Nothing in them can fail to be written.
        let body = serde_json::to_string(&beat).unwrap_or_default();
        let by = serde_json::to_string(&dropped).unwrap_or_default();
        let inside = body.strip_prefix('{').and_then(|body| body.strip_suffix('}')).unwrap_or_default();
        spool.set_heartbeat(&format!(
            "\"type\":\"heartbeat\",{inside},\"dropped_by\":{by},\"ignored\":{},\"not_hashed\":{},\"hash_broken_off\":{},\"hash_untold\":{}",
            self.gatherer.ignored(),
            self.hasher.skipped(),
            self.hasher.broken_off(),
            self.hasher.untold()
        ));
        drop(spool);
        self.shared.wake();
        if dropped.total() > self.dropped {
            self.log.line(&format!(
                "spool: full: given up so far are {} file events, {} of processes, {} of connections",
                dropped.files, dropped.processes, dropped.connections
            ));
            self.dropped = dropped.total();
        }
    }

    /// Brings what was reported to the disk, and has it sent.
    fn flush(&mut self, now: Duration) {
        let result = self.shared.spool().flush();
        self.check(result);
        self.unwritten = 0;
        self.written = now;
        self.shared.wake();
    }

    /// Says once that the disk fails, and once that it works again.
    fn check(&mut self, result: io::Result<()>) {
        match result {
            Err(error) if !self.disk_failed => {
                self.disk_failed = true;
                self.log.line(&format!("spool: {error}; what cannot be written is counted as dropped"));
            }
            Ok(()) if self.disk_failed => {
                self.disk_failed = false;
                self.log.line("spool: works again");
            }
            _ => {}
        }
    }
}
