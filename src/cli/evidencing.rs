//! The evidence that a live sensor writes by itself, where it has a directory for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;

use super::counters::line;
use super::summary::Lost;
use crate::config::{Config, beside};
use crate::detect::destination_of;
use crate::endpoint::{History, printable};
use crate::evidence::{Keepers, Shelf, Task, Wanted, Writer, WriterCounters};
use crate::net::Span;
use crate::sensor::Outcome;

/// How long around an upload what its host reported belongs to it, beside `join.look_back`.
pub const AROUND: Span = Span::seconds(3_600);

/// The writer, if there is one, and the alerts that it has not got yet.
pub struct Evidencing {
    writer: Option<Writer>,
    /// With what counts as the destination of each.
    alerts: Vec<(Value, String)>,
    /// In force.
    config: Arc<Config>,
}

/// The directory of the configuration, made if it is not there: for the user that the process becomes, and nobody else.
///
/// # Errors
/// If it cannot be made.
pub fn directory(config: &Config, file: Option<&Path>, owner: Option<(u32, u32)>) -> anyhow::Result<Option<PathBuf>> {
    if config.evidence.directory.is_empty() {
        return Ok(None);
    }
    let directory = beside(&config.evidence.directory, file).with_context(|| {
        format!("{}: `evidence.directory` is relative, and there is no configuration file", config.evidence.directory)
    })?;
    let shown = directory.display().to_string();
    let unmade = || format!("{}: the directory of evidence cannot be made", printable(&shown));
    if directory.symlink_metadata().is_err() {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory).with_context(unmade)?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&directory, Some(user), Some(group)).with_context(unmade)?;
        }
    }
    Ok(Some(directory))
}

impl Evidencing {
    /// Starts the writer.
    ///
    /// # Errors
    /// If the directory cannot be read, or the thread not be started.
    pub fn start(
        directory: Option<&Path>,
        keepers: Keepers,
        database: Option<PathBuf>,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let start = |directory: &Path| -> anyhow::Result<Writer> {
            let shelf = Shelf::open(directory, &config.evidence)?;
            Writer::start(shelf, keepers, database, config).context("the thread that writes evidence cannot be started")
        };
        Ok(Self { writer: directory.map(start).transpose()?, alerts: Vec::new(), config: Arc::new(config.clone()) })
    }

    /// Whether there is a writer.
    pub fn is_at_work(&self) -> bool {
        self.writer.is_some()
    }

    /// Takes up another configuration, for alerts to come.
    pub fn configure(&mut self, config: &Config) {
        self.config = Arc::new(config.clone());
    }

    /// Takes what is an alert that somebody is told of.
    pub fn put(&mut self, outcome: &Outcome) {
        if let (Some(_), Outcome::Alert(alert)) = (&self.writer, outcome)
            && alert.suppressed.is_none()
        {
            let document: Value = serde_json::from_str(&alert.document().to_string()).unwrap_or_default();
            let severity = document.pointer("/event/severity").and_then(Value::as_u64);
            if severity.unwrap_or_default() >= self.config.evidence.least() {
                self.alerts.push((document, destination_of(&alert.upload)));
            }
        }
    }

    /// Hands the alerts on, with what their hosts reported; says what there is to say.
    pub fn keep(&mut self, history: &History, log: &mut impl FnMut(String)) {
        let Some(writer) = &self.writer else { return };
        for (alert, destination) in self.alerts.drain(..) {
            let config = Arc::clone(&self.config);
            let events = told(&alert, history, &config);
            writer.put(Task { alert, config, destination, events });
        }
        writer.log().into_iter().for_each(log);
    }

    /// What was counted so far.
    pub fn counters(&self) -> Option<WriterCounters> {
        self.writer.as_ref().map(Writer::counters)
    }

    /// A line for the log: all counts since the start.
    pub fn report(&self) -> Vec<String> {
        self.counters().map(|counted| vec![counts(&counted)]).unwrap_or_default()
    }

    /// Ends: what waits is written, as far as there is time.
    pub fn finish(self, log: &mut impl FnMut(String)) -> Option<WriterCounters> {
        let (counted, lines) = self.writer?.finish();
        lines.into_iter().chain([counts(&counted)]).for_each(log);
        Some(counted)
    }
}

/// What the alert's host reported around it, and how much more there is.
fn told(alert: &Value, history: &History, config: &Config) -> (Vec<u8>, u64, u64) {
    let (look_back, most) = (config.join.look_back, usize::try_from(config.evidence.max_events).unwrap_or(usize::MAX));
    let host = alert.pointer("/host/id").and_then(Value::as_str).and_then(|id| history.host(id));
    let (Some(host), Ok(Wanted { span: (start, end), .. })) = (host, Wanted::of(alert)) else {
        return (Vec::new(), 0, 0);
    };
    let (lines, more) = host.retell(start.before(look_back).before(AROUND), end.after(AROUND), most);
    let text: String = lines.iter().map(|line| line.written(host.id())).collect();
    (text.into_bytes(), lines.len() as u64, more)
}

pub(super) fn counts(counted: &WriterCounters) -> String {
    line(
        "evidence",
        [
            ("written", counted.written),
            ("queue_full", counted.queue_full),
            ("no_room", counted.no_room),
            ("failed", counted.failed),
            ("without_packets", counted.without_packets),
            ("removed", counted.removed),
            ("kept", counted.bundles),
        ],
    )
}

/// What can be lost; only what happened is for the summary.
pub fn losses(counted: &WriterCounters) -> Vec<Lost> {
    vec![
        ("queue_full", "alerts without evidence, too many at once", counted.queue_full),
        ("no_room", "alerts without evidence, no room on the disk", counted.no_room),
        ("failed", "alerts without evidence, it could not be written", counted.failed),
        ("without_packets", "evidence without packets, none was kept any more", counted.without_packets),
        ("removed", "evidence removed to make room", counted.removed),
    ]
}
