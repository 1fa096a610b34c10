//! The TCP connections of one host, by their two ends.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::{Rank, owned, size_of_text};
use crate::endpoint::{ConnectionEvent, Source};
use crate::net::{Endpoint, Timestamp};

/// A connection that a process opened or accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// When it was seen.
    pub ts: Timestamp,
    /// The process id.
    pub pid: u32,
    /// When the process started.
    pub start: Option<Timestamp>,
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
    fn key(&self) -> (Timestamp, u64) {
        (self.ts, self.sequence)
    }

    fn bytes(&self) -> u64 {
        // Beside the record: its place in the order, and its share of the index.
        const INDEXES: u64 = 320;
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
    order: BTreeMap<(Timestamp, u64), Tuple>,
    sequence: u64,
    bytes: u64,
}

impl Connections {
    /// The events of this connection from `from` to `to`, both included, oldest first.
    pub fn between(
        &self,
        local: Endpoint,
        remote: Endpoint,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = &ConnectionRecord> {
        let records = self.by_tuple.get(&(local, remote));
        records.into_iter().flat_map(move |records| {
            let first = records.partition_point(|record| record.ts < from);
            records.iter().skip(first).take_while(move |record| record.ts <= to)
        })
    }

    /// The time of the event of this connection that is nearest to `time`.
    pub fn nearest(&self, local: Endpoint, remote: Endpoint, time: Timestamp) -> Option<Timestamp> {
        let records = self.by_tuple.get(&(local, remote))?;
        let after = records.partition_point(|record| record.ts < time);
        let before = after.checked_sub(1).and_then(|at| records.get(at));
        let times = before.into_iter().chain(records.get(after)).map(|record| record.ts);
        times.min_by_key(|ts| ts.distance(time))
    }

    /// How many events are known.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn insert(&mut self, event: ConnectionEvent, source: Source) {
        let tuple = (event.local, event.remote);
        let record = ConnectionRecord {
            ts: event.ts,
            pid: event.pid,
            start: event.start,
            initiated: event.initiated,
            source,
            image: owned(event.image),
            user: owned(event.user),
            sequence: self.sequence,
        };
        let records = self.by_tuple.entry(tuple).or_insert_with(|| VecDeque::with_capacity(1));
        let at = records.partition_point(|other| other.ts <= record.ts);
        // Logs repeat their records.
        let repeated = records
            .iter()
            .take(at)
            .rev()
            .take_while(|other| other.ts == record.ts)
            .any(|other| (other.pid, other.start, &other.image) == (record.pid, record.start, &record.image));
        if repeated {
            return;
        }
        self.sequence += 1;
        self.bytes += record.bytes();
        self.order.insert(record.key(), tuple);
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
        connections.between(local, remote, Timestamp(from), Timestamp(to)).map(|record| record.pid).collect()
    }

    #[test]
    fn events_are_found_in_order_whatever_order_they_came_in() {
        let mut connections = Connections::default();
        for (ts, pid) in [(30, 3), (10, 1), (20, 2), (20, 2)] {
            connections.insert(event(ts, pid), Source::Etw);
        }
        assert_eq!(pids(&connections, 10, 20), [1, 2], "the repeated record is kept once");
        assert_eq!(pids(&connections, 11, 19), [0; 0]);
        let nearest = |time| connections.nearest(end("10.0.0.1:5000"), end("192.0.2.1:21"), Timestamp(time));
        assert_eq!(nearest(27), Some(Timestamp(30)));
        assert_eq!(nearest(0), Some(Timestamp(10)));
        assert_eq!(connections.nearest(end("192.0.2.1:21"), end("10.0.0.1:5000"), Timestamp(1)), None);
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_of_it_stays() {
        let mut connections = Connections::default();
        for ts in [30, 10, 20] {
            connections.insert(event(ts, ts as u32), Source::Etw);
        }
        connections.forget_oldest();
        assert_eq!(pids(&connections, 0, 99), [20, 30]);
        connections.forget_oldest();
        connections.forget_oldest();
        assert_eq!((connections.bytes(), connections.by_tuple.len(), connections.len()), (0, 0, 0));
    }
}
