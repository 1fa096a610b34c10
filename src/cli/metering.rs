//! The metrics of a live sensor: what every part has counted, gathered about once a second for whoever asks.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use super::counters::{self, line};
use super::delivering::Delivering;
use super::events::Events;
use super::evidencing::Evidencing;
use super::listening::Listening;
use super::summary::Lost;
use crate::capture::live::now;
use crate::config::Config;
use crate::metrics::{Alerts, Bound, Level, MetricsError, Process, Sample, Server, ServerCounters, ThreadSample};
use crate::protocol::Uploading;
use crate::sensor::live::{Held, Live, LiveCounters, ThreadCounters};
use crate::sensor::{Judgement, Outcome};

/// How often counts are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// The parts of a sensor at work, to gather from.
#[derive(Clone, Copy)]
pub struct Parts<'p> {
    /// The capture threads.
    pub sensor: &'p Live,
    /// The join and the verdict.
    pub judgement: &'p Judgement,
    /// Files of events.
    pub events: &'p Events,
    /// The listener.
    pub listening: Option<&'p Listening>,
    /// The store and the deliveries.
    pub delivering: &'p Delivering,
    /// The evidence of alerts.
    pub evidencing: &'p Evidencing,
    /// Lines of the output that could not be written.
    pub output_lost: u64,
}

/// Metrics at work, if somebody may ask for them.
pub struct Metering {
    server: Option<Server>,
    alerts: Alerts,
    gathered: Option<Instant>,
    /// What the system tells of the process; opened while it could be.
    status: Option<File>,
    started: f64,
    store: Store,
}

/// Whether alerts can be stored: by the last of them that was stored, or was not.
#[derive(Default)]
struct Store {
    stored: u64,
    lost: u64,
    fails: bool,
}

impl Metering {
    /// Opens the socket. Where that is not possible the sensor goes on without; the log says so.
    pub fn bind(config: &Config, log: &mut impl FnMut(String)) -> Option<Bound> {
        Bound::open(&config.metrics).unwrap_or_else(|error| {
            log(format!("warning: there are no metrics: {error}"));
            None
        })
    }

    /// Starts the thread. What the system tells of the process is opened before the process is confined: `status`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(bound: Option<Bound>, status: Option<File>, config: &Config) -> Result<Self, MetricsError> {
        let server = bound.map(|bound| Server::start(bound, &config.metrics)).transpose()?;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Ok(Self { server, alerts: Alerts::default(), gathered: None, status, started, store: Store::default() })
    }

    /// What the system tells of this process.
    pub fn status() -> Option<File> {
        File::open("/proc/self/status").ok()
    }

    /// Whether somebody may ask.
    pub fn is_at_work(&self) -> bool {
        self.server.is_some()
    }

    /// Lets connections in.
    pub fn begin(&self, log: &mut impl FnMut(String)) {
        if let Some(server) = &self.server {
            server.begin();
            log(format!("metrics on http://{}/metrics", server.address()));
        }
    }

    /// Counts what is handed out now.
    pub fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Alert(alert) => self.alerts.note(alert, now()),
            Outcome::Health(health) => self.alerts.note_health(health),
            Outcome::Upload(_) | Outcome::Flow(..) => {}
        }
    }

    /// Gathers what is counted, if it is time to.
    pub fn gather(&mut self, parts: Parts<'_>, config: &Config) {
        if self.server.is_some() && self.gathered.is_none_or(|gathered| gathered.elapsed() >= GATHER) {
            self.gathered = Some(Instant::now());
            self.publish(parts, config, false);
        }
    }

    /// Says that the sensor ends.
    pub fn ending(&mut self, parts: Parts<'_>, config: &Config) {
        self.publish(parts, config, true);
    }

    fn publish(&mut self, parts: Parts<'_>, config: &Config, ending: bool) {
        let Parts { sensor, delivering, .. } = parts;
        let Some(server) = &self.server else { return };
        let delivery = delivering.counters();
        if let Some(delivery) = &delivery {
            self.store.look(delivery.store.stored, delivery.store.queue_full + delivery.store.failed);
        }
        server.publish(Sample {
            alerts: self.alerts.clone(),
            delivery,
            process: self.process(),
            queues: queues(parts, config),
            troubles: sensor.troubles(),
            stuck: sensor.stuck(),
            store_fails: self.store.fails,
            ending,
            ..sample(parts, config)
        });
    }

    fn process(&self) -> Process {
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default();
        Process { cpu, resident: self.status.as_ref().and_then(resident), started: self.started }
    }

    /// What was counted so far.
    pub fn counters(&self) -> Option<ServerCounters> {
        self.server.as_ref().map(Server::counters)
    }

    /// Ends it.
    pub fn finish(self) -> Option<ServerCounters> {
        self.server.map(Server::finish)
    }
}

impl Store {
    fn look(&mut self, stored: u64, lost: u64) {
        if lost > self.lost {
            self.fails = true;
        } else if stored > self.stored {
            self.fails = false;
        }
        (self.stored, self.lost) = (stored, lost);
    }
}

/// `VmRSS:   12345 kB`
fn resident(status: &File) -> Option<u64> {
    let mut text = [0; 4_096];
    let length = status.read_at(&mut text, 0).ok()?;
    let text = String::from_utf8_lossy(text.get(..length)?);
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

fn sample(parts: Parts<'_>, config: &Config) -> Sample {
    let Parts { sensor, judgement, events, listening, delivering, evidencing, output_lost } = parts;
    let counted: LiveCounters = sensor.counters();
    let (_, totals) = counters::totals(&counted);
    let judged = judgement.counters();
    let (stories, history) = (judgement.stories(), judgement.history());
    let listener = listening.map(Listening::counters);
    let mut intake = events.counters();
    if let Some(listener) = &listener {
        intake.add(&listener.intake);
    }
    let bound = |bound, used, limit| Level { bound, used, limit };
    let threads = || counted.threads.iter();
    let held = |of: fn(&Held) -> u64| threads().map(|thread| of(&thread.held)).sum::<u64>();
    let kept = threads().map(|thread| thread.kept.used).sum();
    let mut memory = vec![
        bound("packet.fragment_memory", held(|held| held.fragments), config.packet.fragment_memory.0),
        bound("flow.table_memory", held(|held| held.table), config.flow.table_memory.0),
        bound("flow.reassembly_memory", held(|held| held.reassembly), config.flow.reassembly_memory.0),
        bound("protocol.memory", held(|held| held.readers), config.protocol.memory.0),
        bound("files.memory", held(|held| held.content), config.files.memory.0),
        bound("endpoint.memory", history.memory().0, config.endpoint.memory.0),
    ];
    let mut disk = Vec::new();
    if let Some(listener) = &listener {
        memory.push(bound("listener.memory", listener.lines_memory, config.listener.memory.0));
        // There are two queues of that size.
        memory.push(bound("listener.queue", listener.queued, config.listener.queue.0.saturating_mul(2)));
        disk.push(bound("listener.journal", listener.journal.size, config.listener.journal.0));
    }
    if let Some(delivery) = delivering.counters() {
        disk.push(bound("store.max_bytes", delivery.store.documents, config.store.max_bytes.0));
    }
    let evidence = evidencing.counters();
    if let Some(evidence) = &evidence {
        memory.push(bound("evidence.memory", kept, config.evidence.memory.0));
        disk.push(bound("evidence.max_disk", evidence.bytes, config.evidence.max_disk.0));
    }
    let mut uploading = Uploading::default();
    threads().for_each(|thread| uploading.add(&thread.held.uploading));
    // Packets that the kernel counted are told apart there.
    let relieved: u64 = counted.threads.iter().map(|thread| thread.relief.packets).sum();
    let mut packet = totals.packet;
    packet.tcp = packet.tcp.saturating_sub(relieved);
    Sample {
        threads: counted.threads.iter().map(thread).collect(),
        interfaces: counted.interfaces,
        packet,
        fragment: totals.fragment,
        flow: totals.flow,
        protocol: totals.protocol,
        intake,
        history: history.counters(),
        helpers: listening.map(Listening::known_and_connected).unwrap_or_default(),
        listener,
        names_forgotten: judgement.names_dropped(),
        joined_early: counted.joined_early,
        corrected: judged.corrected,
        uncorrected: judged.uncorrected,
        uploads: judged.by_protocol.clone(),
        outbound: judged.outbound,
        coverage: judged.coverage.total.clone(),
        held: judged.held,
        stories: (stories.stories, stories.grouped, stories.ended_early),
        baseline: judgement.baseline(),
        memory,
        disk,
        tables: tables(judgement, config),
        uploading,
        evidence,
        output_lost,
        ..Sample::default()
    }
}

fn thread(counted: &ThreadCounters) -> ThreadSample {
    let ThreadCounters { feed, relief, kept, dropped, shed, shed_steps, lag, .. } = counted;
    ThreadSample {
        feed: *feed,
        relief: *relief,
        kept: *kept,
        dropped: [("flow", dropped.flows), ("name", dropped.names), ("upload", dropped.uploads)],
        shed: *shed as u64,
        shed_steps: *shed_steps,
        lag: *lag,
    }
}

/// How full the tables are that are bounded in entries.
fn tables(judgement: &Judgement, config: &Config) -> Vec<Level> {
    let detect = &config.detect;
    let limits = [detect.destinations, detect.processes, detect.pairs, detect.volumes, config.protocol.names];
    let remembered = judgement.remembered().into_iter().zip(limits);
    remembered.map(|((bound, used), limit)| Level { bound, used: used as u64, limit }).collect()
}

/// Lines for the log: what is held under each bound.
pub fn levels(parts: Parts<'_>, config: &Config) -> Vec<String> {
    let Sample { memory, disk, tables, .. } = sample(parts, config);
    let kinds = [("memory", memory), ("disk", disk), ("tables", tables), ("queues", queues(parts, config))];
    let told = kinds.into_iter().filter(|(_, levels)| !levels.is_empty());
    told.map(|(about, levels)| line(about, levels.iter().map(|level| (level.bound, level.used)))).collect()
}

fn queues(parts: Parts<'_>, config: &Config) -> Vec<Level> {
    let Parts { sensor, judgement, delivering, evidencing, .. } = parts;
    let (facts, waiting) = sensor.queued();
    let unanswered = judgement.correctable();
    let mut queues = vec![
        Level { bound: "capture.facts", used: facts as u64, limit: config.capture.facts },
        Level { bound: "capture.waiting", used: waiting as u64, limit: config.capture.waiting },
        Level { bound: "join.max_correctable", used: unanswered as u64, limit: config.join.max_correctable },
    ];
    if let Some(delivery) = delivering.counters() {
        queues.push(Level { bound: "store.queue", used: delivery.store.waiting, limit: config.store.queue });
    }
    if let Some(evidence) = evidencing.counters() {
        queues.push(Level { bound: "evidence.queue", used: evidence.waiting, limit: config.evidence.queue });
    }
    queues
}

/// What the endpoint can lose; only what happened is for the summary.
pub fn losses(counted: &ServerCounters) -> Vec<Lost> {
    vec![("dropped", "connections for metrics dropped", counted.all_dropped())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_fails_from_an_alert_that_it_lost_to_one_that_it_took() {
        let mut store = Store::default();
        let looks = [(5, 0, false), (5, 1, true), (5, 1, true), (6, 2, true), (7, 2, false)];
        for (stored, lost, fails) in looks {
            store.look(stored, lost);
            assert_eq!(store.fails, fails, "{stored} {lost}");
        }
    }

    #[test]
    fn the_system_tells_how_much_memory_is_in_use() {
        assert!(resident(&Metering::status().unwrap()).unwrap() > 1 << 20);
    }
}
