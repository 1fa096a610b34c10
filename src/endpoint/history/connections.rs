//! The TCP connections of one host, by their two ends.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::Named;
use super::{Rank, owned, size_of_text};
use crate::endpoint::{Clock, ConnectionEvent, Guid, Origin, Source};
use crate::net::{Address, Endpoint, Timestamp};

/// A connection that a process opened or accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// When it was seen.
    pub ts: Timestamp,
    /// What `ts` was taken from.
    pub clock: Clock,
    /// Sysmon's `UtcTime`, which runs by [`Clock::SysmonUtc`].
    pub utc: Option<Timestamp>,
    /// The process id, if it was told.
    pub pid: Option<u32>,
    /// When the process started.
    pub start: Option<Timestamp>,
    /// The process's identity in Sysmon's log.
    pub guid: Option<Guid>,
    /// Whether this host opened it.
    pub initiated: Option<bool>,
    /// What saw it.
    pub source: Source,
    /// The path of the executable, where the event named it.
    pub image: Option<Arc<str>>,
    /// The account, where the event named it.
    pub user: Option<Arc<str>>,
    sequence: u64,
}

impl ConnectionRecord {
    /// What it names its process by.
    pub fn named(&self) -> Named<'_> {
        Named { pid: self.pid, start: self.start, guid: self.guid, image: self.image.as_deref() }
    }

    fn key(&self) -> (Timestamp, u64) {
        (self.ts, self.sequence)
    }

    fn bytes(&self) -> u64 {
        // Beside the record: its place in the order, and its share of the index.
        const INDEXES: u64 = 440;
        let texts: u64 = [&self.image, &self.user].into_iter().flatten().map(|text| size_of_text(text)).sum();
        size_of::<Self>() as u64 + INDEXES + texts
    }
}

/// The ends of a connection, this host's first.
type Tuple = (Endpoint, Endpoint);

/// The TCP connections of one host.
#[derive(Debug, Default)]
pub struct Connections {
    by_tuple: HashMap<Tuple, VecDeque<ConnectionRecord>>,
    by_remote: BTreeMap<(Address, Timestamp, u64), Tuple>,
    order: BTreeMap<(Timestamp, u64), Tuple>,
    sequence: u64,
    bytes: u64,
}

impl Connections {
    /// All events of this connection, oldest first.
    pub fn of(&self, local: Endpoint, remote: Endpoint) -> impl Iterator<Item = &ConnectionRecord> + Clone {
        self.by_tuple.get(&(local, remote)).into_iter().flatten()
    }

    /// The events of connections from this host to an address, from `from` to `to`, both included, oldest first.
    pub fn to(
        &self,
        remote: Address,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (Endpoint, &ConnectionRecord)> {
        let first = (remote, from, 0);
        self.by_remote.range(first..=(remote, to, u64::MAX)).filter_map(|((_, ts, sequence), tuple)| {
            let records = self.by_tuple.get(tuple)?;
            let record = records.iter().find(|record| record.key() == (*ts, *sequence))?;
            Some((tuple.1, record))
        })
    }

    /// All events from `from` to `to`, both included, oldest first, with the ends of their connection, this host's first.
    pub fn during(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = ((Endpoint, Endpoint), &ConnectionRecord)> {
        self.order.range((from, 0)..=(to, u64::MAX)).filter_map(|(key, tuple)| {
            let record = self.by_tuple.get(tuple)?.iter().find(|record| record.key() == *key)?;
            Some((*tuple, record))
        })
    }

    /// How many events are known.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn insert(&mut self, event: ConnectionEvent, source: Source, origin: Option<&Origin>) {
        let tuple = (event.local, event.remote);
        let record = ConnectionRecord {
            ts: event.ts,
            clock: origin.map_or(Clock::Event, |origin| origin.clock),
            utc: origin.and_then(|origin| origin.utc),
            pid: Some(event.pid).filter(|pid| origin.is_none() || *pid != 0),
            start: event.start,
            guid: origin.and_then(|origin| origin.guid),
            initiated: event.initiated,
            source,
            image: owned(event.image),
            user: owned(event.user),
            sequence: self.sequence,
        };
        let records = self.by_tuple.entry(tuple).or_insert_with(|| VecDeque::with_capacity(1));
        let at = records.partition_point(|other| other.ts <= record.ts);
        // Logs repeat their records.
        let repeated = records.iter().take(at).rev().take_while(|other| other.ts == record.ts).any(|other| {
            let identity = |of: &ConnectionRecord| (of.pid, of.start, of.guid, of.clock, of.utc);
            identity(other) == identity(&record) && other.image == record.image
        });
        if repeated {
            return;
        }
        self.sequence += 1;
        self.bytes += record.bytes();
        self.order.insert(record.key(), tuple);
        self.by_remote.insert((tuple.1.address, record.ts, record.sequence), tuple);
        records.insert(at, record);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Rank> {
        self.order.first_key_value().map(|((ts, _), _)| (0, *ts))
    }

    pub(super) fn forget_oldest(&mut self) {
        let Some((key, tuple)) = self.order.pop_first() else { return };
        self.by_remote.remove(&(tuple.1.address, key.0, key.1));
        let Some(records) = self.by_tuple.get_mut(&tuple) else { return };
        // What is oldest of all is oldest of its own connection, too.
        if records.front().is_some_and(|record| record.key() == key)
            && let Some(record) = records.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(record.bytes());
        }
        if records.is_empty() {
            self.by_tuple.remove(&tuple);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Transport;

    fn end(text: &str) -> Endpoint {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    fn event(ts: u64, pid: u32) -> ConnectionEvent {
        ConnectionEvent {
            ts: Timestamp(ts),
            pid,
            start: None,
            protocol: Transport::Tcp,
            local: end("10.0.0.1:5000"),
            remote: end("192.0.2.1:21"),
            initiated: Some(true),
            image: None,
            user: None,
        }
    }

    fn pids(connections: &Connections, from: u64, to: u64) -> Vec<u32> {
        let (local, remote) = (end("10.0.0.1:5000"), end("192.0.2.1:21"));
        let within = |record: &&ConnectionRecord| (Timestamp(from)..=Timestamp(to)).contains(&record.ts);
        connections.of(local, remote).filter(within).filter_map(|record| record.pid).collect()
    }

    #[test]
    fn events_are_found_in_order_whatever_order_they_came_in() {
        let mut connections = Connections::default();
        for (ts, pid) in [(30, 3), (10, 1), (20, 2), (20, 2)] {
            connections.insert(event(ts, pid), Source::Etw, None);
        }
        assert_eq!(pids(&connections, 10, 20), [1, 2], "the repeated record is kept once");
        assert_eq!(pids(&connections, 11, 19), [0; 0]);
        let to = |from, to| connections.to(end("192.0.2.1:1").address, Timestamp(from), Timestamp(to)).count();
        assert_eq!((to(10, 20), to(11, 19), to(0, 99)), (2, 0, 3));
        assert_eq!(connections.of(end("192.0.2.1:21"), end("10.0.0.1:5000")).count(), 0);
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_of_it_stays() {
        let mut connections = Connections::default();
        for ts in [30, 10, 20] {
            connections.insert(event(ts, ts as u32), Source::Etw, None);
        }
        connections.forget_oldest();
        assert_eq!(pids(&connections, 0, 99), [20, 30]);
        connections.forget_oldest();
        connections.forget_oldest();
        assert_eq!((connections.bytes(), connections.by_tuple.len(), connections.len()), (0, 0, 0));
        assert!(connections.by_remote.is_empty());
    }
}
