//! What watches: each source runs on a thread of its own and hands on what it sees.

#[cfg(any(windows, test))]
pub mod etw;
#[cfg(any(windows, test))]
pub mod poll;
pub mod script;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use super::config::Config;
use super::gather::Wish;
use super::sighting::{Sighting, What};
use super::stop::Stop;
use crate::endpoint::{self, SourceState};

/// A source of sightings.
pub trait Source: Send {
    /// What its events are stamped with.
    fn kind(&self) -> endpoint::Source;

    /// Watches until `stop`, or until there is nothing more to see.
    ///
    /// # Errors
    /// If it cannot watch, or cannot go on.
    fn run(&mut self, sink: &Sink, stop: &Stop) -> Result<(), SourceError>;
}

/// Why a source does not watch.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// What comes to the gatherer.
#[derive(Debug)]
pub enum Message {
    /// Something was seen.
    Seen(Sighting),
    /// A hash is there.
    Hashed(Box<Wish>),
}

/// Where a source hands on what it sees.
#[derive(Clone, Debug)]
pub struct Sink {
    kind: endpoint::Source,
    messages: SyncSender<Message>,
    status: Arc<Status>,
}

impl Sink {
    /// For the source of a kind.
    pub fn new(kind: endpoint::Source, messages: SyncSender<Message>) -> Self {
        Self { kind, messages, status: Arc::new(Status::new(name(kind))) }
    }

    /// Hands a sighting on. Waits while the gatherer is behind: what a source then loses it can count itself.
    pub fn see(&self, what: What) {
        // The gatherer is gone only when the helper ends.
        let _ = self.messages.send(Message::Seen(Sighting { source: self.kind, what }));
    }

    /// Counts events that are lost to the source.
    #[cfg(windows)]
    pub fn lost(&self, events: u64) {
        self.status.lost.fetch_add(events, Ordering::Relaxed);
    }

    /// Says what the source is doing.
    pub fn set_state(&self, state: &str) {
        state.clone_into(&mut self.status.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says that the source has ended, unless it has said why.
    pub fn end(&self) {
        let mut state = self.status.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.as_str(), "starting" | "running") {
            *state = if *state == "running" { "ended" } else { "not needed" }.to_owned();
        }
    }

    /// What a heartbeat reads.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }
}

/// What a source is doing.
#[derive(Debug)]
pub struct Status {
    name: &'static str,
    state: Mutex<String>,
    lost: AtomicU64,
}

impl Status {
    fn new(name: &'static str) -> Self {
        Self { name, state: Mutex::new("starting".to_owned()), lost: AtomicU64::new(0) }
    }

    /// For a heartbeat.
    pub fn state(&self) -> SourceState {
        SourceState {
            name: self.name.to_owned(),
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

/// A source's name in the schema.
pub fn name(kind: endpoint::Source) -> &'static str {
    match kind {
        endpoint::Source::Etw => "etw",
        endpoint::Source::EventLog => "eventlog",
        endpoint::Source::Poll => "poll",
        endpoint::Source::Script => "script",
        endpoint::Source::Unknown => "unknown",
    }
}

/// The sources that the configuration wants and this system has: rows of which the next takes over when one fails.
pub fn configured(config: &Config) -> Vec<Vec<Box<dyn Source>>> {
    let sources = &config.sources;
    let mut rows: Vec<Vec<Box<dyn Source>>> = Vec::new();
    if !sources.script.as_os_str().is_empty() {
        rows.push(vec![Box::new(script::Script::new(sources.script.clone(), sources.script_rate))]);
    }
    #[cfg(windows)]
    rows.extend(super::windows::sources(config));
    rows
}
