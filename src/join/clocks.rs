//! By how much each time field of each host's log is off, learnt from the connections that match exactly.
//!
//! A flow and an event with the same two ends are one connection, whatever their times say; the difference of their times is
//! a sample of the offset. What most samples near in time agree on is the offset; the rest are outliers (another
//! connection that had the same ends). When a connection is judged, its own sample does not count.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::FlowSeen;
use crate::endpoint::{Clock, ConnectionRecord, History};
use crate::net::{Endpoint, Span, Timestamp};

/// Samples kept per host and time field; beyond, the oldest goes.
const MOST_SAMPLES: usize = 256;

/// Samples that are looked at first, the nearest in time: a clock may be set, or run away.
const NEAREST: usize = 15;

/// Samples that agree are within this of each other: records are written late, and some to whole seconds.
const AGREE: i64 = 5_000_000_000;

/// What is less than this is the lateness of a log, and no offset of a wall clock.
const LATENESS: i64 = 5_000_000_000;

/// By how much a time field is ahead of the capture's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The time field.
    pub clock: Clock,
    /// Nanoseconds that it is ahead, negative if it is behind.
    pub ahead: i64,
    /// The flows that agree on it; 0 if it was measured, or is a whole zone that one flow tells.
    pub flows: usize,
    /// A helper's heartbeats told it.
    pub measured: bool,
}

/// What is learnt of every host's clocks.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    hosts: HashMap<Arc<str>, Vec<(Clock, VecDeque<Sample>)>>,
    measured: HashMap<Arc<str>, i64>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    ahead: i64,
    ends: (Endpoint, Endpoint),
}

impl Clocks {
    /// Learns from a connection whose opening was seen.
    pub(super) fn learn(&mut self, history: &History, flow: FlowSeen) {
        let ends = [(flow.connection.client, flow.connection.server), (flow.connection.server, flow.connection.client)];
        for (local, remote) in ends {
            for host in history.ever_owners(local.address) {
                for (clock, ahead) in samples(host.connections().of(local, remote), flow.start) {
                    let sample = Sample { at: flow.start, ahead, ends: (local, remote) };
                    self.add(host.id(), clock, sample);
                }
            }
        }
    }

    /// Takes an offset that was measured by other means: by how many nanoseconds the host's clock is ahead.
    pub(super) fn measure(&mut self, host: Arc<str>, ahead: i64) {
        self.measured.insert(host, ahead);
    }

    /// The offset of a host's time field around a time, as other connections than this one tell it.
    pub(super) fn offset(
        &self,
        host: &str,
        clock: Clock,
        at: Timestamp,
        except: Option<(Endpoint, Endpoint)>,
    ) -> Option<Offset> {
        let samples = self.hosts.get(host).and_then(|clocks| clocks.iter().find(|(known, _)| *known == clock));
        let others = samples.into_iter().flat_map(|(_, samples)| samples.iter());
        let mut others: Vec<&Sample> = others.filter(|sample| Some(sample.ends) != except).collect();
        others.sort_by_key(|sample| (sample.at.distance(at), sample.at, sample.ends));
        let agreed = |samples: &[&Sample]| agreement(samples.iter().map(|sample| sample.ahead).collect());
        let near = others.get(..NEAREST.min(others.len())).and_then(agreed);
        let found = near.filter(|(_, flows)| *flows > 1).or_else(|| agreed(&others));
        let learnt = found.map(|(ahead, flows)| Offset { clock, ahead, flows, measured: false });
        let measured = self.measured.get(host).filter(|_| clock == Clock::Event);
        let measured = measured.map(|ahead| Offset { clock, ahead: *ahead, flows: 0, measured: true });
        learnt.filter(|learnt| learnt.flows > 1).or(measured).or(learnt)
    }

    /// By how many nanoseconds the host's wall clock is ahead around a time; 0 if nothing is known.
    pub(super) fn wall(&self, host: &str, at: Timestamp) -> i64 {
        let clocks = [Clock::Event, Clock::SecurityRecord, Clock::SysmonRecord];
        let offsets = clocks.into_iter().filter_map(|clock| self.offset(host, clock, at, None));
        let sure = |offset: &Offset| offset.flows > 1 || offset.measured;
        offsets.into_iter().find(sure).map_or(0, |offset| if offset.ahead.abs() < LATENESS { 0 } else { offset.ahead })
    }

    /// Everything learnt of a host, as it stands.
    pub(super) fn of(&self, host: &str) -> Vec<Offset> {
        let clocks = [Clock::Event, Clock::SecurityRecord, Clock::SysmonRecord, Clock::SysmonUtc];
        clocks.into_iter().filter_map(|clock| self.offset(host, clock, Timestamp(u64::MAX), None)).collect()
    }

    fn add(&mut self, host: &Arc<str>, clock: Clock, sample: Sample) {
        let clocks = match self.hosts.get_mut(host) {
            Some(clocks) => clocks,
            None => self.hosts.entry(host.clone()).or_default(),
        };
        if !clocks.iter().any(|(known, _)| *known == clock) {
            clocks.push((clock, VecDeque::new()));
        }
        let Some((_, samples)) = clocks.iter_mut().find(|(known, _)| *known == clock) else { return };
        // The same connection may be seen more than once, and counts once.
        if samples.iter().any(|known| known.ends == sample.ends && known.at.distance(sample.at) < Span::seconds(1)) {
            return;
        }
        samples.push_back(sample);
        if samples.len() > MOST_SAMPLES {
            samples.pop_front();
        }
    }
}

/// One sample per time field; none where the events of that field are of several connections.
fn samples<'a>(records: impl Iterator<Item = &'a ConnectionRecord>, start: Timestamp) -> Vec<(Clock, i64)> {
    let mut found: Vec<(Clock, i64, bool)> = Vec::new();
    for record in records {
        let times = [Some((record.clock, record.ts)), record.utc.map(|utc| (Clock::SysmonUtc, utc))];
        for (clock, time) in times.into_iter().flatten() {
            let Some(ahead) = ahead(time, start) else { continue };
            match found.iter_mut().find(|(known, ..)| *known == clock) {
                Some((_, first, alone)) => *alone &= first.abs_diff(ahead) <= AGREE.unsigned_abs(),
                None => found.push((clock, ahead, true)),
            }
        }
    }
    found.into_iter().filter(|(.., alone)| *alone).map(|(clock, ahead, _)| (clock, ahead)).collect()
}

/// By how many nanoseconds a time is after another, or before it.
pub(super) fn ahead(time: Timestamp, other: Timestamp) -> Option<i64> {
    i64::try_from(i128::from(time.0) - i128::from(other.0)).ok()
}

/// The time that is so far ahead, put right.
pub(super) fn put_right(time: Timestamp, ahead: i64) -> Timestamp {
    let span = Span(ahead.unsigned_abs());
    if ahead < 0 { time.after(span) } else { time.before(span) }
}

/// The median of the most samples that agree, and how many they are; of two such groups, the one nearer to no offset.
fn agreement(mut samples: Vec<i64>) -> Option<(i64, usize)> {
    samples.sort_unstable();
    let mut best: Option<(usize, usize)> = None;
    let mut from = 0;
    for (to, last) in samples.iter().enumerate() {
        while samples.get(from).is_some_and(|first| last.abs_diff(*first) > AGREE.unsigned_abs()) {
            from += 1;
        }
        let median = |(from, to): (usize, usize)| samples.get((from + to) / 2).copied().unwrap_or_default();
        let better = best.is_none_or(|known| {
            let (size, known_size) = (to - from, known.1 - known.0);
            size > known_size || (size == known_size && median((from, to)).abs() < median(known).abs())
        });
        if better {
            best = Some((from, to));
        }
    }
    let (from, to) = best?;
    Some((samples.get((from + to) / 2).copied()?, to - from + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn sample(at: u64, ahead: i64, port: u16) -> Sample {
        let end = |port| Endpoint { address: crate::net::Address::v4([10, 0, 0, 1]), port };
        Sample { at: Timestamp::from_parts(at, 0), ahead, ends: (end(port), end(80)) }
    }

    fn clocks(samples: &[Sample]) -> Clocks {
        let mut clocks = Clocks::default();
        samples.iter().for_each(|sample| clocks.add(&"a".into(), Clock::Event, *sample));
        clocks
    }

    #[test]
    fn outliers_do_not_count() {
        let all =
            clocks(&[sample(1, 40 * S, 1), sample(2, 41 * S, 2), sample(3, 42 * S, 3), sample(4, -900_000 * S, 4)]);
        let offset = all.offset("a", Clock::Event, Timestamp(0), None).unwrap();
        assert_eq!((offset.ahead, offset.flows), (41 * S, 3));
        assert_eq!(all.offset("a", Clock::SysmonUtc, Timestamp(0), None), None, "each field has its own");
        assert_eq!(all.offset("b", Clock::Event, Timestamp(0), None), None);
    }

    #[test]
    fn a_connection_is_no_witness_for_itself() {
        let own = sample(1, 40 * S, 1);
        assert_eq!(clocks(&[own]).offset("a", Clock::Event, own.at, Some(own.ends)), None);
    }

    #[test]
    fn a_clock_that_runs_away_is_followed() {
        let samples: Vec<Sample> = (0..200).map(|n| sample(n * 2, n as i64 * S / 4, n as u16)).collect();
        let all = clocks(&samples);
        let at = |seconds| all.offset("a", Clock::Event, Timestamp::from_parts(seconds, 0), None).unwrap().ahead;
        assert!((at(100) - 50 * S / 4).abs() < 2 * S && (at(390) - 195 * S / 4).abs() < 3 * S);
    }

    #[test]
    fn what_was_measured_holds_until_flows_tell_better() {
        let mut all = clocks(&[sample(1, 40 * S, 1)]);
        all.measure("a".into(), 30 * S);
        assert_eq!(all.offset("a", Clock::Event, Timestamp(0), None).map(|offset| offset.ahead), Some(30 * S));
        assert_eq!(all.wall("a", Timestamp(0)), 30 * S);
        all.add(&"a".into(), Clock::Event, sample(2, 41 * S, 2));
        assert_eq!(all.offset("a", Clock::Event, Timestamp(0), None).map(|offset| offset.ahead / S), Some(40));
    }
}
