//! How much hosts, users, processes and destinations send and are sent, and what is more than usual.
//!
//! Every upload is *counted* in hours, alerts too, so that a slow drip adds up over flows and days ([`Volumes::count`]); what was no
//! alert *teaches* what is usual: the sizes of uploads, the totals of days, the hours of the day. Sizes are kept in
//! sketches (DDSketch: quantiles with a relative error of 5 %, in bounded memory; the library has no unsafe code, a stable
//! form on the disk, and merges), so memory does not grow with uploads. [`Volumes::assess`] then says of an upload:
//!
//! | finding | holds when |
//! | --- | --- |
//! | window | the host sent the destination, in several uploads within `volume_window`, `data_transfer_size_threshold` or more |
//! | size | the upload is larger than `unusual_factor` times what 99 of 100 uploads of its host, of its user, or to its destination, are, and its process's too where that is known |
//! | day | the day so far of the host, the user, the process or the destination is more than `unusual_factor` times what 99 of 100 of its days are |
//! | hour | the host never sends at this hour of the day, nor at the one before or after |
//! | ratio | of what the host sent and received within a day, almost all was sent; only beside one of the others |
//!
//! What is learnt counts from `mature_uploads` uploads or `mature_days` days on, and for uploads of `unusual_size` or more.

mod habit;

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};

use super::baseline::{Change, Kind, Route, Row, Table, program_of};
use crate::config::Detect;
use crate::join::Attribution;
use crate::net::{Address, Span, Timestamp};
use crate::record::Upload;
use habit::{Habit, Total};

/// A day.
const DAY: Span = Span::seconds(86_400);

/// Hosts and hours whose connections are gathered before they are added.
const MOST_FLOWS: usize = 8_192;

/// Of sent and received together, how much more must be sent than received for the ratio to be worth saying.
const RATIO: f64 = 0.8;

/// Several uploads to one destination that together are large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowReached {
    /// Their bytes.
    pub bytes: u64,
    /// How many they are.
    pub uploads: u64,
    /// `volume_window`.
    pub window: Span,
}

/// Whose habit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The sending host's.
    Host,
    /// The user's.
    User,
    /// The program's, on whatever host.
    Process,
    /// That of all who send there.
    Destination,
}

impl Subject {
    /// As records and reasons name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::User => "user",
            Self::Process => "process",
            Self::Destination => "destination",
        }
    }
}

/// A size that is larger than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusual {
    /// For whom.
    pub of: Subject,
    /// The bytes.
    pub bytes: u64,
    /// What 99 of 100 do not exceed.
    pub usual: u64,
    /// Of how many that is learnt.
    pub samples: u64,
}

/// An hour of the day at which nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusualHour {
    /// 0 to 23, UTC.
    pub hour: u64,
    /// On how many days the host sent anything.
    pub days: u64,
}

/// What is more than usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Findings {
    /// Small uploads that add up.
    pub window: Option<WindowReached>,
    /// The upload's size.
    pub size: Option<Unusual>,
    /// The day of the host, the user, the process or the destination.
    pub day: Option<Unusual>,
    /// The time.
    pub hour: Option<UnusualHour>,
    /// (sent - received) / (sent + received) of the host within a day.
    pub ratio: Option<f64>,
}

impl Findings {
    /// How many habits it breaks.
    pub fn habits_broken(&self) -> usize {
        [self.size.is_some(), self.day.is_some(), self.hour.is_some()].into_iter().filter(|broken| *broken).count()
    }
}

/// How much is sent by whom and to whom.
#[derive(Debug)]
pub struct Volumes {
    hosts: Table<Habit>,
    users: Table<Habit>,
    processes: Table<Habit>,
    destinations: Table<Habit>,
    pairs: Table<Habit>,
    /// What connections carried out and back, by host and hour, before it is added to the hosts: there are many connections.
    flows: HashMap<(Address, u32), (Timestamp, u64, u64), foldhash::fast::RandomState>,
    /// Hosts that uploaded something: of the others no connection is counted.
    senders: HashSet<Address, foldhash::fast::RandomState>,
    most_senders: usize,
    policy: Policy,
    unread: u64,
}

#[derive(Debug)]
struct Policy {
    window: Span,
    threshold: u64,
    factor: u64,
    least: u64,
    uploads: u64,
    days: u64,
}

impl Policy {
    fn of(detect: &Detect) -> Self {
        Self {
            window: detect.volume_window,
            threshold: detect.data_transfer_size_threshold.0,
            factor: detect.unusual_factor,
            least: detect.unusual_size.0,
            uploads: detect.mature_uploads,
            days: detect.mature_days,
        }
    }
}

impl Volumes {
    /// Of which nothing is known yet.
    pub fn new(detect: &Detect) -> Self {
        let table = |kind| Table::new(kind, detect.volumes);
        Self {
            hosts: table(Kind::HostVolume),
            users: table(Kind::UserVolume),
            processes: table(Kind::ProcessVolume),
            destinations: table(Kind::DestinationVolume),
            pairs: table(Kind::HostDestinationVolume),
            flows: HashMap::default(),
            senders: HashSet::default(),
            most_senders: usize::try_from(detect.volumes).unwrap_or(usize::MAX),
            policy: Policy::of(detect),
            unread: 0,
        }
    }

    /// Takes up another policy; what is known stays, within the new bounds.
    pub fn configure(&mut self, detect: &Detect) {
        self.policy = Policy::of(detect);
        self.tables().into_iter().for_each(|table| table.hold(detect.volumes));
    }

    /// The most that one of the tables remembers.
    pub fn size(&self) -> usize {
        let tables = [&self.hosts, &self.users, &self.processes, &self.destinations, &self.pairs];
        tables.into_iter().map(Table::len).max().unwrap_or(0)
    }

    fn tables(&mut self) -> [&mut Table<Habit>; 5] {
        [&mut self.hosts, &mut self.users, &mut self.processes, &mut self.destinations, &mut self.pairs]
    }

    /// Takes back a row; says whether it is one of these.
    pub fn restore(&mut self, row: &Row) -> bool {
        let table = match row.key.kind {
            Kind::HostVolume => &mut self.hosts,
            Kind::UserVolume => &mut self.users,
            Kind::ProcessVolume => &mut self.processes,
            Kind::DestinationVolume => &mut self.destinations,
            Kind::HostDestinationVolume => &mut self.pairs,
            _ => return false,
        };
        self.unread += u64::from(!table.restore(row));
        if row.key.kind == Kind::HostVolume {
            self.senders.extend(row.key.key.parse::<IpAddr>().ok().map(Address::from));
        }
        true
    }

    /// From now on changes are remembered until they are asked for.
    pub fn keep(&mut self) {
        self.tables().into_iter().for_each(Table::keep);
    }

    /// What changed since the last call.
    pub fn changes(&mut self, into: &mut Vec<Change>) {
        self.add_flows();
        self.tables().into_iter().for_each(|table| table.changes(into));
    }

    /// Whether connections of this host are counted: it uploaded something before.
    pub fn counts_flows_of(&self, host: Address) -> bool {
        self.senders.contains(&host)
    }

    /// Counts a connection of a home host: what it sent and received.
    pub fn count_flow(&mut self, host: Address, at: Timestamp, sent: u64, received: u64) {
        let (last, out, back) = self.flows.entry((host, habit::hour_of(at))).or_insert((at, 0, 0));
        *last = at.max(*last);
        (*out, *back) = (out.saturating_add(sent), back.saturating_add(received));
        if self.flows.len() >= MOST_FLOWS {
            self.add_flows();
        }
    }

    fn add_flows(&mut self) {
        let mut flows: Vec<_> = self.flows.drain().collect();
        // The same flows change the same tables in the same order.
        flows.sort_unstable();
        for ((host, _), (at, out, back)) in flows {
            self.hosts.change(&host.to_string(), "").count_flow(at, out, back);
        }
    }

    /// Counts an upload, whatever comes of it; it teaches, unless it was an alert.
    pub fn count(&mut self, upload: &Upload, route: &Route, attribution: &Attribution, alert: bool) {
        let (at, bytes) = (upload.end, upload.bytes);
        if self.senders.len() >= self.most_senders {
            // Whoever goes on comes back with the next upload.
            self.senders.clear();
        }
        self.senders.insert(upload.connection.client.address);
        // A host and a destination have no habits together: what is asked for is what adds up.
        self.pairs.change(&route.host, &route.destination).count(at, bytes);
        for habit in [self.hosts.change(&route.host, ""), self.destinations.change(&route.destination, "")] {
            habit.take(at, bytes, alert);
        }
        self.count_late(upload, attribution, alert);
    }

    /// The process of an upload that was counted has become known; it teaches, unless it was an alert.
    pub fn count_late(&mut self, upload: &Upload, attribution: &Attribution, alert: bool) {
        let process = attribution.process();
        let user = process.and_then(|process| process.user.as_deref()).map(|user| self.users.change(user, ""));
        let program = process.and_then(program_of).map(|program| self.processes.change(&program.id, ""));
        for habit in user.into_iter().chain(program) {
            habit.take(upload.end, upload.bytes, alert);
        }
    }

    /// What of an upload is more than usual; `counted` says whether it was counted before, as it is judged again.
    pub fn assess(&self, upload: &Upload, route: &Route, attribution: &Attribution, counted: bool) -> Findings {
        let at = upload.end;
        let more = if counted { 0 } else { upload.bytes };
        let window = self.window(upload, route, counted);
        let mut findings = Findings { window, ..Findings::default() };
        let habit = self.hosts.get(&route.host, "");
        let process = attribution.process();
        let user = process.and_then(|process| process.user.as_deref()).and_then(|user| self.users.get(user, ""));
        let program = process.and_then(program_of).and_then(|program| self.processes.get(&program.id, ""));
        let known = [
            (Subject::Host, habit),
            (Subject::User, user),
            (Subject::Process, program),
            (Subject::Destination, self.destinations.get(&route.destination, "")),
        ];
        let known = || known.into_iter().filter_map(|(of, habit)| Some((of, habit?)));
        if upload.bytes >= self.policy.least {
            // Who is not known well enough speaks neither for nor against.
            let usual_of = |(of, habit): (Subject, &Habit)| {
                let usual = (habit.sizes.count() >= self.policy.uploads).then(|| habit.sizes.usual())??;
                Some(Unusual { of, bytes: upload.bytes, usual, samples: habit.sizes.count() })
            };
            let mut sizes = known().filter_map(usual_of);
            let exceeded = |unusual: &Unusual| self.exceeds(upload.bytes, unusual.usual);
            let common = known().filter_map(usual_of).any(|usual| usual.of == Subject::Process && !exceeded(&usual));
            findings.size = sizes.find(|usual| usual.of != Subject::Process && exceeded(usual)).filter(|_| !common);
        }
        findings.day = known().find_map(|(of, habit)| {
            let (bytes, samples) = (habit.on_day(at).saturating_add(more), habit.daily.count());
            if bytes < self.policy.least || samples < self.policy.days {
                return None;
            }
            let usual = habit.daily.usual().filter(|usual| self.exceeds(bytes, *usual))?;
            Some(Unusual { of, bytes, usual, samples })
        });
        let days = habit.map_or(0, |habit| habit.days.into());
        // Its own day does not make the hour usual.
        let usual = habit.is_none_or(|habit| habit.days_at(at) > u64::from(counted));
        if days >= self.policy.days && !usual {
            findings.hour = Some(UnusualHour { hour: (habit::hour_of(at) % 24).into(), days });
        }
        if findings.window.is_some() || findings.habits_broken() > 0 {
            let Total { mut out, mut back, .. } = habit.map(|habit| habit.total(at, DAY)).unwrap_or_default();
            let (from, to) = (habit::hour_of(at.before(DAY)), habit::hour_of(at));
            for hour in from..=to {
                if let Some((_, sent, received)) = self.flows.get(&(upload.connection.client.address, hour)) {
                    (out, back) = (out.saturating_add(*sent), back.saturating_add(*received));
                }
            }
            // The connection of the upload itself may not be over yet.
            let (out, back) = (out.max(upload.bytes) as f64, back as f64);
            findings.ratio = Some((out - back) / (out + back)).filter(|ratio| *ratio >= RATIO);
        }
        findings
    }

    fn window(&self, upload: &Upload, route: &Route, counted: bool) -> Option<WindowReached> {
        let window = self.policy.window;
        let total = self.pairs.get(&route.host, &route.destination)?.total(upload.end, window);
        let (bytes, uploads) = if counted { (0, 0) } else { (upload.bytes, 1) };
        let (bytes, uploads) = (total.sent.saturating_add(bytes), total.uploads.saturating_add(uploads));
        (uploads > 1 && bytes >= self.policy.threshold).then_some(WindowReached { bytes, uploads, window })
    }

    fn exceeds(&self, bytes: u64, usual: u64) -> bool {
        bytes > usual.saturating_mul(self.policy.factor)
    }

    /// Hosts, users and others that were forgotten, for want of room.
    pub fn forgotten(&self) -> u64 {
        [&self.hosts, &self.users, &self.processes, &self.destinations, &self.pairs]
            .iter()
            .map(|table| table.forgotten)
            .sum()
    }

    /// Rows that could not be taken back.
    pub fn unread(&self) -> u64 {
        self.unread
    }
}

#[cfg(test)]
mod tests;
