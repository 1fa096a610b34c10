//! The listener of a live sensor: its start, what it says in the log, and its part of the closing summary.

use std::time::{Duration, Instant};

use super::counters::line;
use super::summary::Lost;
use crate::config::Config;
use crate::endpoint::History;
use crate::endpoint::listener::{Bound, HelperStatus, Listener, ListenerCounters, ListenerError};
use crate::net::Span;
use crate::sensor::Judgement;

/// How long events are handed on at a time, so that what was captured does not wait.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How often the clocks of helpers are told to the join.
const CLOCKS: Duration = Duration::from_secs(1);

/// A listener at work.
pub struct Listening {
    listener: Listener,
    places: String,
    clocks: Instant,
}

impl Listening {
    /// Opens the sockets; none if the configuration names none. What is written is to be its `owner`'s, a user and a group.
    ///
    /// # Errors
    /// If the state directory cannot be used, or an address not be listened on.
    pub fn bind(config: &Config, owner: Option<(u32, u32)>) -> Result<Option<Bound>, ListenerError> {
        Bound::open(config, owner)
    }

    /// Takes up the journal and starts the threads.
    ///
    /// # Errors
    /// If the journal cannot be taken up, or a thread not be started.
    pub fn start(bound: Bound, config: &Config) -> Result<Self, ListenerError> {
        let (tls, tcp) = bound.addresses();
        let unix = config.listener.local.iter().filter(|place| place.starts_with('/')).cloned();
        let tls = tls.iter().map(|address| format!("{address} (TLS)"));
        let tcp = tcp.iter().map(ToString::to_string);
        let places = tls.chain(tcp).chain(unix).collect::<Vec<_>>().join(", ");
        Ok(Self { listener: Listener::start(bound, config)?, places, clocks: Instant::now() })
    }

    /// Lets connections in.
    pub fn begin(&mut self, log: &mut impl FnMut(String)) {
        self.listener.begin();
        log(format!("listening on {}", self.places));
    }

    /// What was counted so far.
    pub fn counters(&self) -> ListenerCounters {
        self.listener.counters()
    }

    /// Helpers that are known, and those of them that are connected.
    pub fn known_and_connected(&self) -> (u64, u64) {
        let helpers = self.listener.helpers();
        (helpers.len() as u64, helpers.iter().filter(|helper| helper.connected).count() as u64)
    }

    /// How often the journal could not be written so far.
    pub fn journal_refused(&self) -> u64 {
        self.listener.counters().journal.refused
    }

    /// Hands on what came, and how far the clocks of helpers are off, and says what there is to say.
    pub fn take(&mut self, judgement: &mut Judgement, log: &mut impl FnMut(String)) {
        self.listener.take(judgement.history_mut(), AT_ONCE);
        self.listener.log().into_iter().for_each(log);
        if self.clocks.elapsed() >= CLOCKS {
            self.clocks = Instant::now();
            for helper in self.listener.helpers() {
                judgement.history_mut().lagged(&helper.host, helper.lag);
                if let Some(behind) = helper.offset.filter(|_| helper.connected) {
                    judgement.measured(&helper.host, behind.saturating_neg());
                }
            }
        }
    }

    /// Lines for the log: all counts since the start, and the hosts whose helpers need a look.
    pub fn report(&self) -> Vec<String> {
        let mut lines = vec![counters(&self.listener.counters())];
        lines.push(helpers(&self.listener.helpers()));
        lines
    }

    /// Ends it: what came is handed on and stored.
    pub fn finish(self, history: &mut History, log: &mut impl FnMut(String)) -> ListenerCounters {
        let helpers = helpers(&self.listener.helpers());
        let counted = self.listener.finish(history);
        log(counters(&counted));
        log(helpers);
        counted
    }
}

pub(super) fn counters(counted: &ListenerCounters) -> String {
    let journal = &counted.journal;
    let counts = [
        ("open", counted.open),
        ("accepted", counted.accepted),
        ("accept_errors", counted.accept_errors),
        ("events", counted.events),
        ("restored", counted.restored),
        ("missing", counted.missing),
        ("repeated", counted.repeated),
        ("refused", counted.refused),
        ("malformed", counted.intake.malformed),
        ("unknown_type", counted.intake.unknown_type),
        ("oversized", counted.oversized),
        ("paced", counted.paced),
        ("line_bytes", counted.lines_memory),
        ("journal_bytes", journal.size),
        ("journal_blocks", journal.blocks),
        ("journal_evicted", journal.evicted),
        ("journal_expired", journal.expired),
        ("journal_torn", journal.torn),
        ("journal_refused", journal.refused),
        ("faults", faults(counted)),
    ];
    let ends = counted.ends.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name(), *count));
    line("listener", counts.into_iter().chain(ends))
}

/// Connections that ended as they should not.
fn faults(counted: &ListenerCounters) -> u64 {
    counted.ends.iter().filter(|(reason, _)| reason.is_fault()).map(|(_, count)| count).sum()
}

/// All helpers in a line, and the worst of each kind by name.
fn helpers(all: &[HelperStatus]) -> String {
    let connected = all.iter().filter(|helper| helper.connected).count();
    let mut text = format!("counters helpers known={} connected={connected}", all.len());
    let mut worst = |name: &str, of: &dyn Fn(&HelperStatus) -> u64| {
        if let Some((value, helper)) = all.iter().map(|helper| (of(helper), helper)).max_by_key(|(value, _)| *value)
            && value > 0
        {
            text.push_str(&format!(" {name}={value}@{}", crate::endpoint::printable(&helper.host)));
        }
    };
    let milliseconds = |span: Span| span.0 / 1_000_000;
    worst("lag_ms", &|helper| if helper.connected { milliseconds(helper.lag) } else { 0 });
    worst("offset_ms", &|helper| helper.offset.unwrap_or(0).unsigned_abs() / 1_000_000);
    worst("missing", &|helper| helper.missing);
    worst("dropped", &|helper| helper.dropped);
    text
}

/// What a listener can lose; only what happened is for the summary.
pub fn losses(counted: &ListenerCounters) -> Vec<Lost> {
    let journal = &counted.journal;
    vec![
        ("missing", "events that helpers lost before sending them", counted.missing),
        ("refused", "events for a host of another certificate, refused", counted.refused),
        ("oversized", "lines of connections that were too long", counted.oversized),
        ("faults", "connections refused or dropped", faults(counted)),
        ("accept_errors", "connections that the system could not accept", counted.accept_errors),
        ("journal_refused", "times that the journal could not be written", journal.refused),
        ("journal_evicted", "parts of the journal deleted for want of room", journal.evicted),
        ("journal_torn", "bytes of the journal torn by a sudden end", journal.torn),
    ]
}
