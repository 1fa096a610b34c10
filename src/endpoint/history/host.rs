//! What is known of one host: everything here can be held apart from other hosts, and moved.

use std::sync::Arc;

use super::processes::same_image;
use super::{Connections, Files, Kind, Processes, Rank};
use crate::endpoint::{ConnectionEvent, Event, Line, Origin, Source, Transport};
use crate::net::{Address, Endpoint, Span, Timestamp};

/// A helper that says nothing for longer than this was silent; heartbeats come more often.
const QUIET: Span = Span::seconds(600);

/// How far apart two logs may stamp one connection.
const SAME_CONNECTION: Span = Span::seconds(120);

/// Stretches of time kept; beyond that the two nearest become one.
const MAX_STRETCHES: usize = 1_024;

/// The history of one host.
#[derive(Debug)]
pub struct HostHistory {
    id: Arc<str>,
    name: Option<Arc<str>>,
    domain: Option<Arc<str>>,
    processes: Processes,
    connections: Connections,
    files: Files,
    heard: Vec<(Timestamp, Timestamp)>,
    dropped: u64,
    /// When events were lost: from the last heartbeat before to the one that told of it.
    losses: Vec<(Timestamp, Timestamp)>,
    beat: Option<Timestamp>,
    events: u64,
    log: bool,
    pub(super) lag: Option<Span>,
    pub(super) presented: Option<Timestamp>,
    pub(super) addresses: Vec<Address>,
}

impl HostHistory {
    pub(super) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            name: None,
            domain: None,
            processes: Processes::default(),
            connections: Connections::default(),
            files: Files::default(),
            heard: Vec::new(),
            dropped: 0,
            losses: Vec::new(),
            beat: None,
            events: 0,
            log: false,
            lag: None,
            presented: None,
            addresses: Vec::new(),
        }
    }

    /// The host's identity.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The host's name, if it said it.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// The domain that the host is a member of, if it said it.
    pub fn domain(&self) -> Option<&Arc<str>> {
        self.domain.as_ref()
    }

    /// Its processes.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Its TCP connections.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Its file events.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// How many events its helper says it lost.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether its helper lost events at some time from `from` to `to`.
    pub fn lost(&self, from: Timestamp, to: Timestamp) -> bool {
        self.losses.iter().any(|(begin, end)| *begin <= to && from <= *end)
    }

    /// How many events it told.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether its events are from a Windows event log rather than from a helper.
    pub fn is_log(&self) -> bool {
        self.log
    }

    /// The longest that its events took to come, where they came over a connection.
    pub fn lag(&self) -> Option<Span> {
        self.lag
    }

    /// When the host was heard first.
    pub fn first_heard(&self) -> Option<Timestamp> {
        self.heard.first().map(|(start, _)| *start)
    }

    /// When the host was heard last before a time.
    pub fn last_heard(&self, before: Timestamp) -> Option<Timestamp> {
        let after = self.heard.partition_point(|(start, _)| *start <= before);
        after.checked_sub(1).and_then(|at| self.heard.get(at)).map(|(_, end)| (*end).min(before))
    }

    /// Whether the host was heard at some time from `from` to `to`; between two events no more than ten minutes apart
    /// and for ten minutes after one, it counts as heard.
    pub fn heard(&self, from: Timestamp, to: Timestamp) -> bool {
        let after = self.heard.partition_point(|(start, _)| *start <= to);
        after.checked_sub(1).and_then(|at| self.heard.get(at)).is_some_and(|(_, end)| end.after(QUIET) >= from)
    }

    pub(super) fn take(&mut self, line: Line, origin: Option<Origin>) {
        self.hear(line.event.ts());
        self.events = self.events.saturating_add(1);
        if origin.is_some() {
            self.be_log();
        }
        let origin_ref = origin.as_ref();
        match line.event {
            Event::Hello(hello) => {
                self.name = hello.host.name.map(Into::into).or(self.name.take());
                self.domain = hello.host.domain.map(Into::into).or(self.domain.take());
            }
            Event::ProcessStart(event) => self.processes.started(event, origin),
            Event::ProcessEnd(event) => self.processes.ended(event, origin_ref),
            Event::Connection(event) => {
                if let Some(guid) = origin_ref.and_then(|origin| origin.guid) {
                    let pid = Some(event.pid).filter(|pid| *pid != 0);
                    self.processes.seen(guid, pid, event.image.as_deref(), event.user.as_deref());
                }
                if event.protocol == Transport::Tcp {
                    self.connect(event, line.source, origin_ref);
                }
            }
            Event::File(event) => {
                if let Some((origin, guid)) = origin_ref.and_then(|origin| origin.guid.map(|guid| (origin, guid))) {
                    let pid = Some(event.pid).filter(|pid| *pid != 0);
                    self.processes.seen(guid, pid, origin.image.as_deref(), origin.user.as_deref());
                }
                self.files.insert(event, origin_ref);
            }
            Event::Heartbeat(event) => {
                if event.dropped > self.dropped {
                    let from = self.beat.or(self.first_heard()).unwrap_or(event.ts);
                    self.losses.push((from.min(event.ts), event.ts));
                    if self.losses.len() > MAX_STRETCHES {
                        self.losses.remove(0);
                    }
                }
                self.dropped = self.dropped.max(event.dropped);
                self.beat = self.beat.max(Some(event.ts));
            }
        }
    }

    /// A log names its host `WKS-7.corp.example`, and nothing else of it.
    fn be_log(&mut self) {
        if std::mem::replace(&mut self.log, true) || self.name.is_some() {
            return;
        }
        let (name, domain) =
            self.id.split_once('.').map_or((self.id.as_ref(), None), |(name, rest)| (name, Some(rest)));
        self.name = Some(name.into());
        self.domain = domain.map(Into::into);
    }

    fn connect(&mut self, event: ConnectionEvent, source: Source, origin: Option<&Origin>) {
        let (local, remote) = (event.local, event.remote);
        self.connections.insert(event, source, origin);
        if origin.is_some() {
            self.complete(local, remote);
        }
    }

    /// Sysmon may leave the pid out, which the Security log has.
    fn complete(&mut self, local: Endpoint, remote: Endpoint) {
        let records = self.connections.of(local, remote);
        let identified = records.clone().filter(|record| record.guid.is_some() && record.pid.is_none());
        let pairs = identified.flat_map(|sysmon| {
            let near = records.clone().filter(move |other| {
                other.guid.is_none()
                    && other.ts.distance(sysmon.ts) <= SAME_CONNECTION
                    && other.initiated == sysmon.initiated
                    && sysmon.image.is_some()
                    && same_image(other.image.as_deref(), sysmon.image.as_deref())
            });
            near.map(move |other| (sysmon.guid, other.pid))
        });
        let learnt: Vec<_> = pairs.take(4).collect();
        for (guid, pid) in learnt {
            if let Some(guid) = guid {
                self.processes.seen(guid, pid, None, None);
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.processes.bytes() + self.connections.bytes() + self.files.bytes()
    }

    pub(super) fn oldest(&self, kind: Kind) -> Option<Rank> {
        match kind {
            Kind::File => self.files.oldest(),
            Kind::Connection => self.connections.oldest(),
            Kind::Process => self.processes.oldest(),
        }
    }

    pub(super) fn forget_oldest(&mut self, kind: Kind) {
        match kind {
            Kind::File => self.files.forget_oldest(),
            Kind::Connection => self.connections.forget_oldest(),
            Kind::Process => self.processes.forget_oldest(),
        }
    }

    fn hear(&mut self, ts: Timestamp) {
        let after = self.heard.partition_point(|(start, _)| *start <= ts);
        let before = after.checked_sub(1);
        let joins_before = before.and_then(|at| self.heard.get(at)).is_some_and(|(_, end)| end.after(QUIET) >= ts);
        let joins_after = self.heard.get(after).is_some_and(|(start, _)| ts.after(QUIET) >= *start);
        match (joins_before, joins_after) {
            (true, true) => self.bridge(after),
            (true, false) => {
                if let Some((_, end)) = before.and_then(|at| self.heard.get_mut(at)) {
                    *end = (*end).max(ts);
                }
            }
            (false, true) => {
                if let Some((start, _)) = self.heard.get_mut(after) {
                    *start = ts;
                }
            }
            (false, false) => {
                self.heard.insert(after, (ts, ts));
                if self.heard.len() > MAX_STRETCHES {
                    let gap = |at: usize| match (self.heard.get(at - 1), self.heard.get(at)) {
                        (Some(left), Some(right)) => right.0.since(left.1),
                        _ => Span(u64::MAX),
                    };
                    let narrowest = (1..self.heard.len()).min_by_key(|at| gap(*at));
                    narrowest.into_iter().for_each(|at| self.bridge(at));
                }
            }
        }
    }

    /// Makes the stretch at this place one with the one before it.
    fn bridge(&mut self, at: usize) {
        if at == 0 || at >= self.heard.len() {
            return;
        }
        let (_, end) = self.heard.remove(at);
        if let Some((_, last)) = self.heard.get_mut(at - 1) {
            *last = (*last).max(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_parts(seconds, 0)
    }

    #[test]
    fn silence_is_told_from_quiet() {
        let mut host = HostHistory::new("a".into());
        for seconds in [5_000, 1_000, 1_500] {
            host.hear(at(seconds));
        }
        let heard = |from, to| host.heard(at(from), at(to));
        assert!(heard(1_200, 1_200), "between two events");
        assert!(heard(2_000, 2_000), "soon after one");
        assert!(!heard(2_200, 2_200) && !heard(4_990, 4_990) && !heard(900, 999));
        assert!(heard(4_990, 5_000));
    }

    #[test]
    fn an_event_that_fills_a_hole_joins_both_sides() {
        let mut host = HostHistory::new("a".into());
        for seconds in [1_000, 2_100, 1_550] {
            host.hear(at(seconds));
        }
        assert_eq!(host.heard, [(at(1_000), at(2_100))]);
    }

    #[test]
    fn the_stretches_are_bounded() {
        let mut host = HostHistory::new("a".into());
        for n in 0..3_000 {
            host.hear(at(n * 10_000));
        }
        assert_eq!(host.heard.len(), MAX_STRETCHES);
    }
}
