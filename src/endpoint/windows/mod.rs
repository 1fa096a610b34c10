//! Windows event logs, in every shape in which they are shipped: from a record to the events of the schema.
//!
//! One adapter per shape ([`json`], [`xml`], [`evtx`]) gives a [`record::Record`]: log, id, host, time and named values. One
//! mapper per event ([`sysmon`], [`security`]) makes an [`Event`] and its [`Origin`] of that. What tells nothing of interest
//! is counted and left.

pub(super) mod evtx;
mod json;
mod record;
mod security;
mod sysmon;
mod time;
mod xml;
mod zone;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Clock, Event, Line, Observation, Origin, Source};
use crate::net::Timestamp;
use record::{Log, Record};

/// An event and where it is from.
type Mapped = (Event, Origin);

/// The host's wall clock when a record was written, as far as it is known.
type Wall = Option<Timestamp>;

/// Hosts whose zone is remembered.
const MOST_HOSTS: usize = 65_536;

/// Events that wait, over all hosts, until a record tells their host's zone.
const MOST_HELD: usize = 20_000;

/// The kinds of events that are read, as counters name them.
pub const KINDS: [&str; 13] = [
    "sysmon-1",
    "sysmon-3",
    "sysmon-5",
    "sysmon-11",
    "sysmon-15",
    "sysmon-22",
    "sysmon-23",
    "sysmon-26",
    "sysmon-29",
    "security-4663",
    "security-4688",
    "security-4689",
    "security-5156",
];

/// The place of a kind in [`KINDS`].
fn kind(log: Log, id: u32) -> Option<usize> {
    let ids: &[u32] = match log {
        Log::Sysmon => &[1, 3, 5, 11, 15, 22, 23, 26, 29],
        Log::Security => &[4663, 4688, 4689, 5156],
        Log::Other => &[],
    };
    let first = if log == Log::Security { 9 } else { 0 };
    ids.iter().position(|known| *known == id).map(|at| first + at)
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// An event of this place in [`KINDS`], handed on or held.
    Event(usize),
    /// It tells nothing of interest.
    Unused,
}

/// A host of Windows logs.
#[derive(Debug)]
struct Host {
    id: Arc<str>,
    /// By how many seconds its written times are to be put forward.
    zone: Option<i64>,
    held: Vec<Mapped>,
}

/// What is remembered from record to record.
#[derive(Debug, Default)]
pub(super) struct Windows {
    hosts: HashMap<String, Host>,
    held: usize,
}

impl Windows {
    /// Takes a JSON object of a line; nothing if it is no Windows event.
    pub(super) fn object(
        &mut self,
        object: &Map<String, Value>,
        sink: &mut dyn FnMut(Observation),
    ) -> Option<Result<Taken, String>> {
        Some(json::record(object)?.and_then(|record| self.take(&record, sink)))
    }

    /// Takes an event of an `.evtx` file.
    pub(super) fn tree(&mut self, tree: &Value, sink: &mut dyn FnMut(Observation)) -> Result<Taken, String> {
        let event = tree.get("Event").and_then(Value::as_object).ok_or("a record that is no event")?;
        let record = json::tree(event)?;
        self.take(&record, sink)
    }

    /// Takes rendered event XML.
    pub(super) fn xml(&mut self, text: &[u8], sink: &mut dyn FnMut(Observation)) -> Result<Taken, String> {
        let record = xml::record(&String::from_utf8_lossy(text))?;
        self.take(&record, sink)
    }

    /// Hands on what waits for a zone, as nothing will tell it any more.
    pub(super) fn release(&mut self, sink: &mut dyn FnMut(Observation)) {
        if self.held == 0 {
            return;
        }
        self.held = 0;
        for host in self.hosts.values_mut() {
            hand_on(host, sink);
        }
    }

    fn take(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(Observation)) -> Result<Taken, String> {
        let Some(kind) = kind(record.log, record.id) else { return Ok(Taken::Unused) };
        let host = host(&mut self.hosts, record.host.as_ref());
        let written = record.time.map(|written| written.time);
        // Whatever its zone, what is written with another than `Z` has been put right by it.
        let certain = record.zone.is_some();
        if !certain
            && let (Log::Sysmon, false, Some(local)) = (record.log, matches!(record.id, 3 | 22), written)
            && let Some(utc) = record.moment("UtcTime")
            && let Some(zone) = zone::between(local, utc.time)
        {
            host.zone = Some(zone);
            self.held -= host.held.len();
            hand_on(host, sink);
        }
        let forward = record.zone.or(host.zone);
        let put_right = record.time.is_some_and(|written| written.zoned && record.zone.is_some());
        let wall = written.map(|time| if put_right { time } else { zone::shifted(time, forward.unwrap_or(0)) });
        let mapped = match record.log {
            Log::Sysmon => sysmon::map(record, wall)?,
            Log::Security => security::map(record, wall)?,
            Log::Other => None,
        };
        let Some((event, origin)) = mapped else { return Ok(Taken::Unused) };
        if forward.is_none() && matches!(origin.clock, Clock::SecurityRecord | Clock::SysmonRecord) {
            host.held.push((event, origin));
            self.held += 1;
            if self.held > MOST_HELD {
                self.release(sink);
            }
        } else {
            sink(observation(host, event, origin));
        }
        Ok(Taken::Event(kind))
    }
}

fn host<'a>(hosts: &'a mut HashMap<String, Host>, name: &str) -> &'a mut Host {
    let key = name.trim().to_lowercase();
    if hosts.len() >= MOST_HOSTS && !hosts.contains_key(&key) {
        // What is forgotten is learnt again; what waits must not be.
        hosts.retain(|_, host| !host.held.is_empty());
    }
    let id = || Host { id: name.trim().into(), zone: None, held: Vec::new() };
    hosts.entry(key).or_insert_with(id)
}

fn hand_on(host: &mut Host, sink: &mut dyn FnMut(Observation)) {
    for (mut event, origin) in std::mem::take(&mut host.held) {
        put_forward(&mut event, host.zone.unwrap_or(0));
        sink(observation(host, event, origin));
    }
}

fn observation(host: &Host, event: Event, origin: Origin) -> Observation {
    let line = Line { seq: None, source: Source::EventLog, event };
    Observation { host: Arc::clone(&host.id), line, origin: Some(Box::new(origin)) }
}

fn put_forward(event: &mut Event, seconds: i64) {
    let ts = match event {
        Event::Hello(event) => &mut event.ts,
        Event::ProcessStart(event) => &mut event.ts,
        Event::ProcessEnd(event) => &mut event.ts,
        Event::Connection(event) => &mut event.ts,
        Event::File(event) => &mut event.ts,
        Event::Heartbeat(event) => &mut event.ts,
    };
    *ts = zone::shifted(*ts, seconds);
}

#[cfg(test)]
mod tests;
