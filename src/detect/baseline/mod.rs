//! What is normal here: destinations and processes, as far as uploads that were no alert have taught it.
//!
//! An upload is first *noted* ([`Baseline::note`]), so that the host counts as one that uploads there, whatever comes of it; in a
//! replay that is a while before it is judged, as a sensor that looks back knows more than one that looks on. Then it is
//! *settled* ([`Baseline::settle`]): it teaches, unless it was an alert.
//!
//! A **destination** is known by the registrable part of its name, or by its network; how many hosts and users uploaded there
//! within `detect.prevalence_window`, since when, how often and how much. A **process** is known by the pattern of its path with
//! its signer, or its hash; what is learned are its pairs with protocols and destinations, and the pair of its parent with it.
//! A pair is *learned* once it was seen on `detect.learned_days` days and, with a protocol, on `detect.learned_hosts` hosts.
//!
//! Every table is bounded; what is forgotten is counted. Everything can be given out as [`Row`]s and taken back.

mod entry;
mod identity;
mod row;
mod table;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::config::Detect;
use crate::join::{Attribution, Process};
use crate::net::{Address, Span, Timestamp};
use crate::record::Upload;

pub(super) use entry::day_of;
use entry::{Entry, Lesson};
use identity::parent_of;
pub(super) use identity::program_of;
pub use identity::{Route, destination_of};
pub use row::{Change, Kind, Row, RowKey};
pub(super) use table::{Kept, Table};

type Seed = foldhash::fast::RandomState;

/// What the bounds of the baseline cost, and what was kept but cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BaselineCounters {
    /// Destinations that were forgotten.
    pub destinations_forgotten: u64,
    /// Processes and pairs that were forgotten.
    pub processes_forgotten: u64,
    /// Rows that could not be taken back.
    pub rows_unread: u64,
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prevalence {
    /// Home hosts that uploaded there in the window, the one that is asked for included.
    pub hosts: u64,
    /// Users that did, as far as they are known.
    pub users: u64,
    /// How long ago the first upload was that was no alert; none if there was none.
    pub age: Option<Span>,
    /// Uploads that were no alert.
    pub uploads: u64,
}

/// How well a pair is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Familiarity {
    /// Days on which it was seen.
    pub days: u64,
    /// Hosts on which it was, as far as they are kept.
    pub hosts: u64,
}

/// What a process is known for, of what it does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Using this protocol.
    pub protocol: Familiarity,
    /// Uploading to this destination.
    pub destination: Familiarity,
    /// Being started by this parent.
    pub parent: Familiarity,
}

/// Destinations and processes, and what is normal of them.
#[derive(Debug)]
pub struct Baseline {
    destinations: Table<Entry>,
    programs: Table<Entry>,
    contents: Table<Entry>,
    protocols: Table<Entry>,
    reached: Table<Entry>,
    parents: Table<Entry>,
    /// When the first upload was seen.
    since: Option<Timestamp>,
    since_changed: bool,
    /// Uploads that taught, and that were alerts.
    taught: u64,
    alerted: u64,
    /// Hosts that upload to a destination, before it is known what comes of it, and until when they count.
    noted: VecDeque<(Timestamp, Arc<str>, Address)>,
    hosts_noted: HashMap<Arc<str>, HashMap<Address, u64, Seed>, Seed>,
    /// It outlives the program, and so has time to learn.
    kept: bool,
    policy: Policy,
    unread: u64,
}

#[derive(Debug)]
struct Policy {
    window: Span,
    learning: Span,
    visitors: usize,
}

impl Policy {
    fn of(detect: &Detect) -> Self {
        let most = detect.rare_below_hosts.max(detect.learned_hosts).max(detect.visitors);
        Self {
            window: detect.prevalence_window,
            learning: detect.learning,
            visitors: usize::try_from(most).unwrap_or(usize::MAX),
        }
    }
}

impl Baseline {
    /// Of which nothing is known yet.
    pub fn new(detect: &Detect) -> Self {
        Self {
            destinations: Table::new(Kind::Destination, detect.destinations),
            programs: Table::new(Kind::Process, detect.processes),
            contents: Table::new(Kind::ProgramContent, detect.processes),
            protocols: Table::new(Kind::ProcessProtocol, detect.processes),
            reached: Table::new(Kind::ProcessDestination, detect.pairs),
            parents: Table::new(Kind::ParentChild, detect.pairs),
            since: None,
            since_changed: false,
            taught: 0,
            alerted: 0,
            noted: VecDeque::new(),
            hosts_noted: HashMap::default(),
            kept: false,
            policy: Policy::of(detect),
            unread: 0,
        }
    }

    /// Takes up another policy; what was learned stays, within the new bounds.
    pub fn configure(&mut self, detect: &Detect) {
        self.policy = Policy::of(detect);
        self.destinations.hold(detect.destinations);
        self.programs.hold(detect.processes);
        self.contents.hold(detect.processes);
        self.protocols.hold(detect.processes);
        self.reached.hold(detect.pairs);
        self.parents.hold(detect.pairs);
    }

    /// Takes back what was kept, however little: from now on it learns, and [`Baseline::changes`] gives out what changes.
    pub fn restore(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.kept = true;
        for row in rows {
            let taken = match row.key.kind {
                Kind::Whole => {
                    self.since = Some(row.first_seen);
                    (self.taught, self.alerted) = (row.uploads, row.alerted);
                    true
                }
                kind => self.table(kind).is_some_and(|table| table.restore(&row)),
            };
            self.unread += u64::from(!taken);
        }
        for table in self.tables() {
            table.keep();
        }
    }

    /// What changed since the last call, oldest first; nothing before [`Baseline::restore`].
    pub fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for table in self.tables() {
            table.changes(&mut changes);
        }
        if self.kept
            && std::mem::take(&mut self.since_changed)
            && let Some(since) = self.since
        {
            let key = RowKey { kind: Kind::Whole, key: String::new(), other: String::new() };
            let (uploads, alerted) = (self.taught, self.alerted);
            let detail = "{}".to_owned();
            let last_seen = since;
            changes.push(Change::Put(Row {
                key,
                first_seen: since,
                last_seen,
                days: 0,
                uploads,
                bytes: 0,
                alerted,
                detail,
            }));
        }
        changes
    }

    fn tables(&mut self) -> [&mut Table<Entry>; 6] {
        [
            &mut self.destinations,
            &mut self.programs,
            &mut self.contents,
            &mut self.protocols,
            &mut self.reached,
            &mut self.parents,
        ]
    }

    fn table(&mut self, kind: Kind) -> Option<&mut Table<Entry>> {
        match kind {
            Kind::Destination => Some(&mut self.destinations),
            Kind::Process => Some(&mut self.programs),
            Kind::ProgramContent => Some(&mut self.contents),
            Kind::ProcessProtocol => Some(&mut self.protocols),
            Kind::ProcessDestination => Some(&mut self.reached),
            Kind::ParentChild => Some(&mut self.parents),
            _ => None,
        }
    }

    /// The host uploads there: it counts until `until`, whatever comes of it.
    pub fn note(&mut self, destination: &Arc<str>, host: Address, until: Timestamp) {
        *self.hosts_noted.entry(Arc::clone(destination)).or_default().entry(host).or_default() += 1;
        self.noted.push_back((until, Arc::clone(destination), host));
    }

    /// What was only noted, until earlier than this, counts no longer.
    pub fn forget_noted(&mut self, before: Timestamp) {
        while self.noted.front().is_some_and(|(until, ..)| *until < before) {
            let Some((_, destination, host)) = self.noted.pop_front() else { return };
            let Some(hosts) = self.hosts_noted.get_mut(&destination) else { continue };
            if let Some(times) = hosts.get_mut(&host) {
                *times -= 1;
                if *times == 0 {
                    hosts.remove(&host);
                }
            }
            if hosts.is_empty() {
                self.hosts_noted.remove(&destination);
            }
        }
    }

    /// What is known of a destination at that time.
    pub fn prevalence(&self, destination: &str, at: Timestamp) -> Prevalence {
        let noted = self.hosts_noted.get(destination);
        let hosts = noted.map_or(0, HashMap::len);
        let Some(entry) = self.destinations.get(destination, "") else {
            return Prevalence { hosts: hosts as u64, ..Prevalence::default() };
        };
        let day = day_of(at.before(self.policy.window));
        let is_other = |host: &&Address| noted.is_none_or(|noted| !noted.contains_key(*host));
        let others = entry.hosts.since(day).filter(is_other).count();
        Prevalence {
            hosts: (hosts + others) as u64,
            users: entry.users.since(day).count() as u64,
            age: (entry.uploads > 0).then(|| at.since(entry.first_seen)),
            uploads: entry.uploads,
        }
    }

    /// What a process is known for, of what it does now.
    pub fn learned(&self, process: &Process, protocol: &str, destination: &str) -> Learned {
        let Some(program) = program_of(process) else { return Learned::default() };
        let familiar = |entry: Option<&Entry>| {
            let entry = entry.filter(|entry| entry.uploads > 0);
            entry.map_or(Familiarity::default(), |entry| Familiarity {
                days: entry.days.into(),
                hosts: entry.hosts.since(0).count() as u64,
            })
        };
        let parent = parent_of(&process.ancestors);
        Learned {
            protocol: familiar(self.protocols.get(&program.id, protocol)),
            destination: familiar(self.reached.get(&program.id, destination)),
            parent: familiar(parent.and_then(|parent| self.parents.get(&parent, &program.id))),
        }
    }

    /// The other names, in lower case, under which the program of this process ran.
    pub fn other_names(&self, process: &Process) -> Vec<String> {
        let name = process.name().map(str::to_lowercase).unwrap_or_default();
        let entry = process.sha256.as_deref().and_then(|hash| self.contents.get(hash, ""));
        let names = entry.into_iter().flat_map(|entry| entry.users.since(0));
        names.filter(|known| ***known != *name).map(|known| known.to_string()).collect()
    }

    /// The verdict has come: the upload teaches, unless it was an alert.
    pub fn settle(
        &mut self,
        upload: &Upload,
        attribution: &Attribution,
        protocol: &str,
        destination: &str,
        alert: bool,
    ) {
        let at = upload.start;
        let process = attribution.process();
        let user = process.and_then(|process| process.user.as_deref());
        let host = upload.connection.client.address;
        let lesson = Lesson { at, bytes: upload.bytes, host, user, most: self.policy.visitors };
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
        self.since_changed = true;
        let count = if alert { &mut self.alerted } else { &mut self.taught };
        *count = count.saturating_add(1);
        learn(self.destinations.change(destination, ""), lesson, alert);
        self.settle_process(process, protocol, destination, lesson, alert);
    }

    /// The process of an upload that was settled without it has become known.
    pub fn settle_late(
        &mut self,
        upload: &Upload,
        attribution: &Attribution,
        protocol: &str,
        destination: &str,
        alert: bool,
    ) {
        let process = attribution.process();
        let user = process.and_then(|process| process.user.as_deref());
        let host = upload.connection.client.address;
        let lesson = Lesson { at: upload.start, bytes: upload.bytes, host, user, most: self.policy.visitors };
        self.settle_process(process, protocol, destination, lesson, alert);
    }

    fn settle_process(
        &mut self,
        process: Option<&Process>,
        protocol: &str,
        destination: &str,
        lesson: Lesson<'_>,
        alert: bool,
    ) {
        if let Some((hash, name)) = process.and_then(|process| Some((process.sha256.as_deref()?, process.name()?))) {
            // Under what names a program runs is a fact, whatever comes of it.
            self.contents.change(hash, "").teach(Lesson { user: Some(&name.to_lowercase()), ..lesson });
        }
        let Some((process, program)) = process.and_then(|process| Some((process, program_of(process)?))) else {
            return;
        };
        learn(self.programs.change(&program.id, ""), lesson, alert);
        learn(self.protocols.change(&program.id, protocol), lesson, alert);
        learn(self.reached.change(&program.id, destination), lesson, alert);
        if let Some(parent) = parent_of(&process.ancestors) {
            learn(self.parents.change(&parent, &program.id), lesson, alert);
        }
    }

    /// How long it still learns at that time; none if it does not. One that ends with the program does not learn.
    pub fn learning(&self, at: Timestamp) -> Option<Span> {
        if !self.kept {
            return None;
        }
        let since = self.since.unwrap_or(at);
        let left = since.after(self.policy.learning).since(at);
        (left > Span(0)).then_some(left)
    }

    /// What the bounds cost so far.
    pub fn counters(&self) -> BaselineCounters {
        let programs = [&self.programs, &self.contents, &self.protocols, &self.reached, &self.parents];
        BaselineCounters {
            destinations_forgotten: self.destinations.forgotten,
            processes_forgotten: programs.iter().map(|table| table.forgotten).sum(),
            rows_unread: self.unread,
        }
    }

    /// Destinations and processes that are known, and pairs: of tables that share a bound, the fuller one.
    pub fn size(&self) -> (usize, usize, usize) {
        let processes = self.programs.len().max(self.contents.len()).max(self.protocols.len());
        (self.destinations.len(), processes, self.reached.len().max(self.parents.len()))
    }
}

fn learn(entry: &mut Entry, lesson: Lesson<'_>, alert: bool) {
    if alert { entry.alerted(lesson.at) } else { entry.teach(lesson) }
}

#[cfg(test)]
mod tests;
