//! The hosts whose helpers have spoken: how far each is heard and stored, and how it is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::journal::Mark;
use crate::endpoint::Event;
use crate::net::{Span, Timestamp};

/// Times of arrival that are compared for the clock's offset.
const SAMPLES: usize = 32;

/// How a host's helper is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HelperStatus {
    /// The host, as its certificate names it.
    pub host: String,
    /// Where it connected from.
    pub address: String,
    /// The helper's version.
    pub version: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
    /// When its last line came.
    pub last_seen: Timestamp,
    /// How much later than it happened the last event came, the clock's offset taken off.
    pub lag: Span,
    /// By how many nanoseconds this clock is before the helper's, as far as the fastest of its last heartbeats tells:
    /// what is left of it is the time on the way.
    pub offset: Option<i64>,
    /// Events that came, each once.
    pub events: u64,
    /// Numbers that the helper passed over: events that it lost.
    pub missing: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Events of other hosts, refused.
    pub refused: u64,
    /// Events that it says it sent.
    pub sent: u64,
    /// Events that it says it lost.
    pub dropped: u64,
}

/// A host and what is known of its helper.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stream: u64,
    /// The highest number that the history has, that the journal was given, and that is on the disk.
    progress: Progress,
    stored: u64,
    /// The connection that counts.
    connection: u64,
    samples: VecDeque<i64>,
    status: HelperStatus,
}

/// How far a stream was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// By the history.
    pub(super) seen: u64,
    /// By the journal, whether it is on the disk or not.
    pub(super) queued: u64,
}

impl Host {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection the one that counts; gives how far its stream is.
    pub(super) fn claim(&self, connection: u64, stream: u64, address: &str) -> Progress {
        let mut state = self.state();
        if state.stream != stream {
            (state.stream, state.progress, state.stored) = (stream, Progress::default(), 0);
        }
        state.connection = connection;
        state.status.connected = true;
        state.status.address = address.to_owned();
        state.progress
    }

    /// Takes lines in, if the connection still counts: `send` runs while no other can.
    pub(super) fn advance(&self, connection: u64, progress: Progress, send: impl FnOnce()) -> bool {
        let mut state = self.state();
        if state.connection != connection {
            return false;
        }
        state.progress = progress;
        send();
        true
    }

    /// Whether a connection still counts.
    pub(super) fn is_current(&self, connection: u64) -> bool {
        self.state().connection == connection
    }

    /// A connection is over.
    pub(super) fn leave(&self, connection: u64) {
        let mut state = self.state();
        if state.connection == connection {
            state.status.connected = false;
        }
    }

    /// The journal has a stream on the disk up to that number.
    pub(super) fn store(&self, stream: u64, seq: u64) {
        let mut state = self.state();
        if state.stream == stream {
            state.stored = state.stored.max(seq);
        }
    }

    /// The number up to which the stream is on the disk.
    pub(super) fn stored(&self) -> u64 {
        self.state().stored
    }

    /// Adds to what is known of the helper.
    pub(super) fn note(&self, tally: &Tally) {
        let mut state = self.state();
        state.status.events += tally.events;
        state.status.missing += tally.missing;
        state.status.repeated += tally.repeated;
        state.status.refused += tally.refused;
        state.status.last_seen = tally.received;
        for sample in &tally.samples {
            if state.samples.len() >= SAMPLES {
                state.samples.pop_front();
            }
            state.samples.push_back(*sample);
        }
        state.status.offset = state.samples.iter().min().copied();
        if let Some((sent, dropped)) = tally.beat {
            (state.status.sent, state.status.dropped) = (sent, dropped);
        }
        if tally.version.is_some() {
            state.status.version.clone_from(&tally.version);
        }
        if let Some(ts) = tally.last {
            let late = difference(tally.received, ts).saturating_sub(state.status.offset.unwrap_or(0));
            state.status.lag = Span(u64::try_from(late).unwrap_or(0));
        }
    }

    fn status(&self) -> HelperStatus {
        HelperStatus { host: self.name.to_string(), ..self.state().status.clone() }
    }

    fn last_seen(&self) -> (bool, Timestamp) {
        let state = self.state();
        (state.status.connected, state.status.last_seen)
    }
}

fn difference(a: Timestamp, b: Timestamp) -> i64 {
    i64::try_from(i128::from(a.0) - i128::from(b.0)).unwrap_or(if a > b { i64::MAX } else { i64::MIN })
}

/// What some lines add to what is known of a helper.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) received: Timestamp,
    pub(super) events: u64,
    pub(super) missing: u64,
    pub(super) repeated: u64,
    pub(super) refused: u64,
    samples: Vec<i64>,
    beat: Option<(u64, u64)>,
    version: Option<String>,
    last: Option<Timestamp>,
}

impl Tally {
    pub(super) fn new(received: Timestamp) -> Self {
        Self { received, ..Self::default() }
    }

    /// Learns from an event that came just now.
    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Hello(hello) => {
                self.samples.push(difference(self.received, hello.ts));
                self.version.clone_from(&hello.helper);
            }
            Event::Heartbeat(beat) => {
                self.samples.push(difference(self.received, beat.ts));
                self.beat = Some((beat.sent, beat.dropped));
            }
            other => self.last = Some(other.ts()),
        }
    }
}

/// All hosts, bounded in number.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    most: usize,
}

impl Hosts {
    pub(super) fn new(most: usize) -> Self {
        Self { hosts: Mutex::default(), most }
    }

    /// The host of that name, upper and lower case alike; a new one if it was never heard of. Where there are too many, those
    /// that were silent longest and are not connected are forgotten, an eighth at once.
    pub(super) fn named(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = name.to_ascii_lowercase();
        if let Some(host) = hosts.get(&key) {
            return Arc::clone(host);
        }
        if hosts.len() >= self.most {
            let mut silent: Vec<(Timestamp, String)> = hosts
                .iter()
                .map(|(key, host)| (host.last_seen(), key))
                .filter(|((connected, _), _)| !connected)
                .map(|((_, at), key)| (at, key.clone()))
                .collect();
            silent.sort_unstable();
            for (_, key) in silent.iter().take(self.most / 8 + 1) {
                hosts.remove(key);
            }
        }
        let host = Arc::new(Host { name: name.into(), state: Mutex::default() });
        hosts.insert(key, Arc::clone(&host));
        host
    }

    /// Takes up how far a host's stream was stored by an earlier run.
    pub(super) fn restore(&self, name: &str, mark: Mark) {
        let host = self.named(name);
        let mut state = host.state();
        state.stream = mark.stream;
        state.progress = Progress { seen: mark.seq, queued: mark.seq };
        state.stored = mark.seq;
        state.status.last_seen = mark.at;
    }

    /// How all of them are, by name.
    pub(super) fn statuses(&self) -> Vec<HelperStatus> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<HelperStatus> = hosts.values().map(|host| host.status()).collect();
        all.sort_by(|a, b| a.host.cmp(&b.host));
        all
    }
}
