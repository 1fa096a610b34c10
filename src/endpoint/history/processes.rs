//! The processes of one host and their ancestry.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Rank, owned, size_of_text};
use crate::endpoint::{ProcessEnd, ProcessStart};
use crate::net::{Timestamp, without_passwords};

/// A process: on its host, the pid and the start together are its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// The process id.
    pub pid: u32,
    /// When it started.
    pub start: Timestamp,
    /// When it ended, once that was reported.
    pub end: Option<Timestamp>,
    /// The parent's process id.
    pub parent_pid: Option<u32>,
    /// When the parent started.
    pub parent_start: Option<Timestamp>,
    /// The path of the executable.
    pub image: Option<Arc<str>>,
    /// The command line.
    pub command_line: Option<Arc<str>>,
    /// The account, as `DOMAIN\name`.
    pub user: Option<Arc<str>>,
    /// The account's security identifier.
    pub sid: Option<Arc<str>>,
    /// The executable's SHA-256, hexadecimal.
    pub sha256: Option<Arc<str>>,
    /// The subject of the executable's signature.
    pub signer: Option<Arc<str>>,
}

impl ProcessRecord {
    /// Whether it was running at that time, as far as is known.
    pub fn alive_at(&self, time: Timestamp) -> bool {
        self.start <= time && self.end.is_none_or(|end| end >= time)
    }

    fn texts(&self) -> [&Option<Arc<str>>; 6] {
        [&self.image, &self.command_line, &self.user, &self.sid, &self.sha256, &self.signer]
    }

    fn bytes(&self) -> u64 {
        // Beside the record: its places in the three indexes.
        const INDEXES: u64 = 200;
        let texts: u64 = self.texts().into_iter().flatten().map(|text| size_of_text(text)).sum();
        size_of::<Self>() as u64 + INDEXES + texts
    }

    fn rank(&self) -> Rank {
        match self.end {
            Some(end) => (0, end),
            None => (1, self.start),
        }
    }
}

/// The processes of one host.
#[derive(Debug, Default)]
pub struct Processes {
    by_pid: HashMap<u32, Vec<ProcessRecord>>,
    by_parent: HashMap<u32, BTreeSet<(Timestamp, u32)>>,
    order: BTreeSet<(Rank, u32, Timestamp)>,
    bytes: u64,
}

impl Processes {
    /// The process with exactly this identity.
    pub fn exact(&self, pid: u32, start: Timestamp) -> Option<&ProcessRecord> {
        let records = self.by_pid.get(&pid)?;
        records.binary_search_by_key(&start, |record| record.start).ok().and_then(|at| records.get(at))
    }

    /// The process that had this pid at that time: the newest that started before, if it had not ended.
    pub fn at(&self, pid: u32, time: Timestamp) -> Option<&ProcessRecord> {
        let records = self.by_pid.get(&pid)?;
        let after = records.partition_point(|record| record.start <= time);
        after.checked_sub(1).and_then(|at| records.get(at)).filter(|record| record.alive_at(time))
    }

    /// The process that an event names by pid, start if it has one, and its own time.
    pub fn resolve(&self, pid: u32, start: Option<Timestamp>, time: Timestamp) -> Option<&ProcessRecord> {
        match start {
            Some(start) => self.exact(pid, start),
            None => self.at(pid, time),
        }
    }

    /// The parent, if it is known.
    pub fn parent(&self, process: &ProcessRecord) -> Option<&ProcessRecord> {
        let pid = process.parent_pid?;
        let parent = match process.parent_start {
            Some(start) => self.exact(pid, start),
            None => self.at(pid, process.start),
        };
        // A process that names itself or a later one as its parent would make a circle.
        parent.filter(|parent| {
            (parent.start, parent.pid) != (process.start, process.pid) && parent.start <= process.start
        })
    }

    /// The children, oldest first.
    pub fn children(&self, process: &ProcessRecord) -> impl Iterator<Item = &ProcessRecord> {
        let born = self.by_parent.get(&process.pid);
        let (pid, start) = (process.pid, process.start);
        born.into_iter()
            .flat_map(move |born| born.range((start, 0)..))
            .filter_map(|(start, child)| self.exact(*child, *start))
            .filter(move |child| self.parent(child).is_some_and(|parent| (parent.pid, parent.start) == (pid, start)))
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn started(&mut self, event: ProcessStart) {
        self.merge(ProcessRecord {
            pid: event.pid,
            start: event.start.unwrap_or(event.ts),
            end: None,
            parent_pid: event.ppid,
            parent_start: event.parent_start,
            image: owned(event.image),
            command_line: owned(event.command_line.map(|line| without_passwords(&line).into_owned())),
            user: owned(event.user),
            sid: owned(event.sid),
            sha256: owned(event.sha256),
            signer: owned(event.signer),
        });
    }

    pub(super) fn ended(&mut self, event: ProcessEnd) {
        let start = event.start.or_else(|| self.at(event.pid, event.ts).map(|process| process.start));
        // The end may be told before the start is: what is known of it waits for the rest.
        if let Some(start) = start {
            self.merge(ProcessRecord { pid: event.pid, start, end: Some(event.ts), ..ProcessRecord::default() });
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Rank> {
        self.order.first().map(|(rank, ..)| *rank)
    }

    pub(super) fn forget_oldest(&mut self) {
        let Some((_, pid, start)) = self.order.first().copied() else { return };
        if let Some(record) = self.take(pid, start) {
            self.unlink(&record);
        }
    }

    fn merge(&mut self, new: ProcessRecord) {
        let record = match self.take(new.pid, new.start) {
            Some(old) => {
                self.unlink(&old);
                combined(old, new)
            }
            None => new,
        };
        self.bytes += record.bytes();
        self.order.insert((record.rank(), record.pid, record.start));
        if let Some(parent) = record.parent_pid {
            self.by_parent.entry(parent).or_default().insert((record.start, record.pid));
        }
        let records = self.by_pid.entry(record.pid).or_default();
        let at = records.partition_point(|other| other.start < record.start);
        records.insert(at, record);
    }

    fn take(&mut self, pid: u32, start: Timestamp) -> Option<ProcessRecord> {
        let records = self.by_pid.get_mut(&pid)?;
        let at = records.binary_search_by_key(&start, |record| record.start).ok()?;
        let record = records.remove(at);
        if records.is_empty() {
            self.by_pid.remove(&pid);
        }
        Some(record)
    }

    fn unlink(&mut self, record: &ProcessRecord) {
        self.bytes = self.bytes.saturating_sub(record.bytes());
        self.order.remove(&(record.rank(), record.pid, record.start));
        let Some(parent) = record.parent_pid else { return };
        if let Some(born) = self.by_parent.get_mut(&parent) {
            born.remove(&(record.start, record.pid));
            if born.is_empty() {
                self.by_parent.remove(&parent);
            }
        }
    }
}

/// Several sources may tell of one process, each of them a part.
fn combined(old: ProcessRecord, new: ProcessRecord) -> ProcessRecord {
    ProcessRecord {
        pid: old.pid,
        start: old.start,
        end: old.end.or(new.end),
        parent_pid: old.parent_pid.or(new.parent_pid),
        parent_start: old.parent_start.or(new.parent_start),
        image: old.image.or(new.image),
        command_line: old.command_line.or(new.command_line),
        user: old.user.or(new.user),
        sid: old.sid.or(new.sid),
        sha256: old.sha256.or(new.sha256),
        signer: old.signer.or(new.signer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(pid: u32, start: u64, parent: Option<(u32, Option<u64>)>, image: &str) -> ProcessStart {
        ProcessStart {
            ts: Timestamp(start),
            pid,
            start: Some(Timestamp(start)),
            ppid: parent.map(|p| p.0),
            parent_start: parent.and_then(|p| p.1).map(Timestamp),
            image: Some(image.into()),
            ..ProcessStart::default()
        }
    }

    fn end(pid: u32, start: Option<u64>, ts: u64) -> ProcessEnd {
        ProcessEnd { ts: Timestamp(ts), pid, start: start.map(Timestamp) }
    }

    fn image(record: Option<&ProcessRecord>) -> Option<&str> {
        record.and_then(|record| record.image.as_deref())
    }

    #[test]
    fn a_reused_pid_is_told_apart_by_time() {
        let mut processes = Processes::default();
        processes.started(start(8, 50, None, "new"));
        processes.started(start(8, 10, None, "old"));
        processes.ended(end(8, Some(10), 40));
        assert_eq!(image(processes.at(8, Timestamp(30))), Some("old"));
        assert_eq!(image(processes.at(8, Timestamp(45))), None, "between the two nobody had it");
        assert_eq!(image(processes.at(8, Timestamp(50))), Some("new"));
        assert_eq!(image(processes.at(8, Timestamp(9))), None);
        assert_eq!(image(processes.resolve(8, Some(Timestamp(11)), Timestamp(60))), None, "a start is never guessed");
    }

    #[test]
    fn the_parent_is_the_newest_of_its_pid_that_ran_at_the_time() {
        let mut processes = Processes::default();
        processes.started(start(4, 1, None, "first"));
        processes.started(start(4, 20, None, "second"));
        processes.started(start(4, 90, None, "third"));
        processes.started(start(9, 30, Some((4, None)), "child"));
        processes.started(start(10, 31, Some((4, Some(1))), "named"));
        let parent = |pid, at| image(processes.parent(processes.exact(pid, Timestamp(at)).unwrap()));
        assert_eq!(parent(9, 30), Some("second"));
        assert_eq!(parent(10, 31), Some("first"));
        let children: Vec<u32> =
            processes.children(processes.exact(4, Timestamp(20)).unwrap()).map(|child| child.pid).collect();
        assert_eq!(children, [9]);
    }

    #[test]
    fn a_process_that_ended_before_is_no_parent() {
        let mut processes = Processes::default();
        processes.started(start(4, 1, None, "gone"));
        processes.ended(end(4, None, 20));
        processes.started(start(9, 30, Some((4, None)), "child"));
        assert_eq!(processes.parent(processes.exact(9, Timestamp(30)).unwrap()), None);
    }

    #[test]
    fn a_process_cannot_be_its_own_ancestor() {
        let mut processes = Processes::default();
        processes.started(start(4, 10, Some((5, Some(20))), "a"));
        processes.started(start(5, 20, Some((4, Some(10))), "b"));
        processes.started(start(6, 30, Some((6, Some(30))), "c"));
        assert_eq!(processes.parent(processes.exact(4, Timestamp(10)).unwrap()), None);
        assert_eq!(image(processes.parent(processes.exact(5, Timestamp(20)).unwrap())), Some("a"));
        assert_eq!(processes.parent(processes.exact(6, Timestamp(30)).unwrap()), None);
    }

    #[test]
    fn an_end_that_comes_before_its_start_is_kept() {
        let mut processes = Processes::default();
        processes.ended(end(8, Some(10), 40));
        processes.started(start(8, 10, None, "late"));
        let record = processes.exact(8, Timestamp(10)).unwrap();
        assert_eq!((record.end, image(Some(record))), (Some(Timestamp(40)), Some("late")));
        assert_eq!(processes.len(), 1);
    }

    #[test]
    fn those_that_ended_are_forgotten_before_those_that_run() {
        let mut processes = Processes::default();
        processes.started(start(1, 1, None, "shell"));
        processes.started(start(2, 5, Some((1, Some(1))), "tool"));
        processes.ended(end(2, Some(5), 6));
        processes.forget_oldest();
        assert!(processes.exact(1, Timestamp(1)).is_some());
        processes.forget_oldest();
        assert!(processes.is_empty());
        assert_eq!(processes.bytes(), 0);
        assert!(processes.by_parent.is_empty() && processes.by_pid.is_empty());
    }
}
