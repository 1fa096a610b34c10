//! What a host's events say of one connection, and which of them to believe.

use std::sync::Arc;

use super::Confidence;
use super::attribution::{Attribution, FlowSeen, Joiner, Process};
use super::clocks::{Offset, ahead, put_right};
use crate::endpoint::{Clock, ConnectionRecord, HostHistory, ProcessRecord, same_image};
use crate::net::{Span, Timestamp};

/// Zones go in quarters of an hour.
const QUARTER: i64 = 900_000_000_000;

/// The furthest zone, with half a day for a clock of twelve hours.
const FURTHEST_ZONE: i64 = 108 * QUARTER;

/// How long before the first packet a connection may have been opened whose opening was not captured.
const OPENED_BEFORE: Span = Span::seconds(3_600);

/// An event of the connection whose time fits, and the process that it names.
pub(super) struct Claim<'a> {
    host: &'a HostHistory,
    record: &'a ConnectionRecord,
    process: Option<&'a ProcessRecord>,
    fit: Fit,
}

/// How an event's time fits a flow's.
#[derive(Clone, Copy)]
struct Fit {
    /// How far it is from the start, the offset taken off.
    off: Span,
    offset: Option<Offset>,
    /// Nothing but a zone of whole quarters of an hour makes it fit.
    zone: bool,
}

impl<'a> Claim<'a> {
    /// Nothing if the event's time does not fit the flow's.
    pub(super) fn new(
        joiner: &Joiner,
        host: &'a HostHistory,
        record: &'a ConnectionRecord,
        flow: FlowSeen,
    ) -> Option<Self> {
        let times = [Some((record.clock, record.ts)), record.utc.map(|utc| (Clock::SysmonUtc, utc))];
        let fits = times.into_iter().flatten().filter_map(|(clock, time)| fit(joiner, host, clock, time, flow));
        let fit = fits.min_by_key(|fit| (fit.zone, fit.off))?;
        let process = host.processes().resolve(record.named(), record.ts);
        Some(Self { host, record, process, fit })
    }

    fn pid(&self) -> Option<u32> {
        self.record.pid.or(self.process.and_then(|process| process.pid))
    }

    fn start(&self) -> Option<Timestamp> {
        self.record.start.or(self.process.map(|process| process.start))
    }

    fn image(&self) -> Option<&Arc<str>> {
        self.process.and_then(|process| process.image.as_ref()).or(self.record.image.as_ref())
    }

    fn is_same_process(&self, other: &Self) -> bool {
        if self.host.id() != other.host.id() {
            return false;
        }
        if let (Some(one), Some(two)) = (self.process, other.process)
            && one.key() == two.key()
        {
            return true;
        }
        if let (Some(one), Some(two)) = (self.record.guid, other.record.guid) {
            return one == two;
        }
        let alike = same_image(self.image().map(AsRef::as_ref), other.image().map(AsRef::as_ref));
        match (self.pid(), other.pid()) {
            (Some(one), Some(two)) if self.record.guid.is_none() && other.record.guid.is_none() => {
                let starts_agree = !matches!((self.start(), other.start()), (Some(a), Some(b)) if a != b);
                one == two && starts_agree
            }
            (Some(one), Some(two)) => one == two && alike,
            _ => alike,
        }
    }
}

fn fit(joiner: &Joiner, host: &HostHistory, clock: Clock, time: Timestamp, flow: FlowSeen) -> Option<Fit> {
    let window = joiner.config.connection_window;
    let before = if flow.opening_seen { window } else { window.max(OPENED_BEFORE) };
    let from = flow.start.before(before);
    let to = flow.end.max(flow.start).after(joiner.config.grace.max(window));
    let with = |ahead: i64| {
        let right = put_right(time, ahead);
        (from..=to).contains(&right).then(|| right.distance(flow.start))
    };
    let ends = (flow.connection.client, flow.connection.server);
    let learnt = joiner.clocks.offset(host.id(), clock, flow.start, Some(ends));
    if let Some(offset) = learnt {
        if let Some(off) = with(offset.ahead) {
            return Some(Fit { off, offset: Some(offset), zone: false });
        }
        // A single other flow may have been the one that was wrong.
        if offset.flows > 1 {
            return None;
        }
    }
    if let Some(off) = with(0) {
        return Some(Fit { off, offset: None, zone: false });
    }
    let quarters = ahead(time, flow.start)?.checked_add(QUARTER / 2)?.div_euclid(QUARTER) * QUARTER;
    if quarters == 0 || quarters.abs() > FURTHEST_ZONE || clock == Clock::SysmonUtc {
        return None;
    }
    let offset = Offset { clock, ahead: quarters, flows: 0, measured: false };
    // Less than for a learnt offset, as here there is no other witness.
    with(quarters).filter(|off| *off <= window).map(|off| Fit { off, offset: Some(offset), zone: true })
}

/// The claims of one process, the best first.
pub(super) struct Group<'a> {
    claims: Vec<Claim<'a>>,
    contested: bool,
}

impl<'a> Group<'a> {
    /// The claims of the process that is named, else of the nearest; an error if there is another process as near.
    pub(super) fn best(mut claims: Vec<Claim<'a>>) -> Result<Option<Self>, &'a HostHistory> {
        // Ties are broken by what says most, then by time, so that the order of arrival decides nothing.
        claims.sort_by(|a, b| {
            let key = |claim: &Claim<'a>| {
                let unnamed = claim.image().is_none();
                (unnamed, claim.fit.zone, claim.fit.off, claim.process.is_none(), claim.record.ts, claim.record.pid)
            };
            key(a).cmp(&key(b)).then_with(|| a.host.id().cmp(b.host.id()))
        });
        let mut claims = claims.into_iter();
        let Some(first) = claims.next() else { return Ok(None) };
        let (same, others): (Vec<_>, Vec<_>) = claims.partition(|claim| claim.is_same_process(&first));
        // What names nothing says nothing against a name.
        let named = |claim: &&Claim<'_>| claim.image().is_some() || first.image().is_none();
        let mut rivals = others.iter().filter(named).peekable();
        let contested = rivals.peek().is_some();
        if rivals.any(|rival| rival.fit.off == first.fit.off) {
            return Err(first.host);
        }
        let claims = std::iter::once(first).chain(same).collect();
        Ok(Some(Self { claims, contested }))
    }

    /// The claims, if they are all of one process.
    pub(super) fn only(claims: Vec<Claim<'a>>) -> Option<Self> {
        Self::best(claims).ok().flatten().filter(|group| !group.contested)
    }

    /// The process, put together from all that tell of it.
    pub(super) fn attribution(self, rule: &'static str) -> Attribution {
        let records = || self.claims.iter().filter_map(|claim| claim.process.map(|process| (claim, process)));
        let identified = records().find(|(_, process)| process.guid.is_some()).or_else(|| records().next());
        let Some(first) = self.claims.first() else {
            return Attribution::Unknown { why: super::Why::NoConnection, host: None };
        };
        let mut process = match identified {
            Some((claim, record)) => Process::from_record(claim.host, record),
            None => Process::from_name(first.host, first.record.named()),
        };
        let told_by_process = process.image.is_some() && identified.is_some();
        process.pid = process.pid.or_else(|| self.claims.iter().find_map(Claim::pid));
        if !told_by_process {
            // A drive's letter says more than a device's number.
            let images = || self.claims.iter().filter_map(|claim| claim.image());
            let plain = images().find(|image| !image.starts_with(['\\', '/']));
            process.image = plain.or_else(|| images().next()).cloned();
        }
        process.user = process.user.or_else(|| self.claims.iter().find_map(|claim| claim.record.user.clone()));
        let exact = self.claims.iter().any(|claim| claim.record.start.is_some() || claim.record.guid.is_some());
        let confidence = match (&process.image, told_by_process, exact) {
            (None, ..) => Confidence::Medium,
            (Some(_), true, true) => Confidence::Certain,
            (Some(_), ..) => Confidence::High,
        };
        let lowered = self.contested || first.fit.zone;
        let confidence = if lowered { confidence.min(Confidence::High) } else { confidence };
        let confidence = if rule == "translated" { confidence.min(Confidence::Low) } else { confidence };
        Attribution::Known { process: Box::new(process), rule, confidence, offset: first.fit.offset }
    }
}
