//! The processes of one host and their ancestry.
//!
//! A process is known by its GUID where a log gives one, else by its pid and start. Several logs may tell of one process,
//! each a part: what is the same process becomes one record.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Rank, owned, size_of_text};
use crate::endpoint::{Guid, Origin, ProcessEnd, ProcessStart, base_name};
use crate::net::{Span, Timestamp, without_passwords};

/// How far apart two logs may stamp the start of one process: some write whole seconds.
const SAME_START: Span = Span::seconds(2);

/// How far an event of a log may be before the start of its process, or after its end.
const STAMPED_LATE: Span = Span::seconds(1);

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// The process id, if it was told.
    pub pid: Option<u32>,
    /// When it started.
    pub start: Timestamp,
    /// When it ended, once that was reported.
    pub end: Option<Timestamp>,
    /// Its identity in Sysmon's log.
    pub guid: Option<Guid>,
    /// The parent's process id.
    pub parent_pid: Option<u32>,
    /// When the parent started.
    pub parent_start: Option<Timestamp>,
    /// The parent's identity in Sysmon's log.
    pub parent_guid: Option<Guid>,
    /// The path of the parent's executable, as the child's event told it.
    pub parent_image: Option<Arc<str>>,
    /// The parent's command line, likewise.
    pub parent_command_line: Option<Arc<str>>,
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
    /// Its start was told, and not only worked out from its GUID.
    start_told: bool,
    key: Key,
}

#[cfg(test)]
impl ProcessRecord {
    /// A process of which nothing else is known.
    pub(super) fn of_pid(pid: u32) -> Self {
        Self { pid: Some(pid), ..Self::default() }
    }
}

/// A process's place in its host's history, for as long as it is known.
pub type Key = u64;

/// What an event names its process by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named<'a> {
    /// The process id.
    pub pid: Option<u32>,
    /// When it started.
    pub start: Option<Timestamp>,
    /// Its identity in Sysmon's log.
    pub guid: Option<Guid>,
    /// The path of its executable.
    pub image: Option<&'a str>,
}

impl ProcessRecord {
    /// Which of its host's processes it is.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Whether it was running at that time, as far as is known.
    pub fn alive_at(&self, time: Timestamp) -> bool {
        self.start <= time && self.end.is_none_or(|end| end >= time)
    }

    fn texts(&self) -> [&Option<Arc<str>>; 8] {
        [
            &self.image,
            &self.command_line,
            &self.user,
            &self.sid,
            &self.sha256,
            &self.signer,
            &self.parent_image,
            &self.parent_command_line,
        ]
    }

    fn bytes(&self) -> u64 {
        // Beside the record: its places in the indexes.
        const INDEXES: u64 = 480;
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
    records: HashMap<Key, ProcessRecord>,
    by_pid: HashMap<u32, BTreeSet<(Timestamp, Key)>>,
    by_guid: HashMap<Guid, Key>,
    by_start: BTreeSet<(Timestamp, Key)>,
    by_parent: HashMap<u32, BTreeSet<(Timestamp, Key)>>,
    by_parent_guid: HashMap<Guid, BTreeSet<(Timestamp, Key)>>,
    order: BTreeSet<(Rank, Key)>,
    next: Key,
    bytes: u64,
}

impl Processes {
    /// The process in this place.
    pub fn get(&self, key: Key) -> Option<&ProcessRecord> {
        self.records.get(&key)
    }

    /// The process with exactly this pid and start.
    pub fn exact(&self, pid: u32, start: Timestamp) -> Option<&ProcessRecord> {
        let born = self.by_pid.get(&pid)?;
        born.range((start, 0)..).next().filter(|(at, _)| *at == start).and_then(|(_, key)| self.get(*key))
    }

    /// The process with this identity in Sysmon's log.
    pub fn identified(&self, guid: Guid) -> Option<&ProcessRecord> {
        self.by_guid.get(&guid).and_then(|key| self.get(*key))
    }

    /// The process that had this pid at that time: the newest that started before, if it had not ended.
    pub fn at(&self, pid: u32, time: Timestamp) -> Option<&ProcessRecord> {
        let born = self.by_pid.get(&pid)?;
        let newest = born.range(..=(time, Key::MAX)).next_back();
        newest.and_then(|(_, key)| self.get(*key)).filter(|record| record.alive_at(time))
    }

    /// The process that an event of that time names: by its GUID, else by pid and start, else by its pid alone, where the
    /// process that had it then is none of another image.
    pub fn resolve(&self, named: Named<'_>, time: Timestamp) -> Option<&ProcessRecord> {
        if let Some(guid) = named.guid {
            return self.identified(guid);
        }
        let pid = named.pid?;
        if let Some(start) = named.start {
            return self.exact(pid, start);
        }
        let fits = |record: &&ProcessRecord| same_image(record.image.as_deref(), named.image);
        // Only logs name the image; they stamp late, and some to whole seconds.
        let loosely = || {
            let record = self.at(pid, time.after(STAMPED_LATE)).or_else(|| self.at(pid, time.before(STAMPED_LATE)));
            record.filter(|_| named.image.is_some())
        };
        self.at(pid, time).filter(fits).or_else(|| loosely().filter(fits))
    }

    /// The parent, if it is known.
    pub fn parent(&self, process: &ProcessRecord) -> Option<&ProcessRecord> {
        let identified = process.parent_guid.and_then(|guid| self.identified(guid));
        let parent = identified.or_else(|| match (process.parent_pid?, process.parent_start) {
            (pid, Some(start)) => self.exact(pid, start),
            (pid, None) => self.at(pid, process.start),
        });
        // A process that names itself or a later one as its parent would make a circle.
        parent.filter(|parent| parent.key != process.key && parent.start <= process.start)
    }

    /// The children, oldest first.
    pub fn children(&self, process: &ProcessRecord) -> impl Iterator<Item = &ProcessRecord> {
        let by_pid = process.pid.and_then(|pid| self.by_parent.get(&pid));
        let by_guid = process.guid.and_then(|guid| self.by_parent_guid.get(&guid));
        let (start, key) = (process.start, process.key);
        let born = [by_pid, by_guid].into_iter().flatten().flat_map(move |born| born.range((start, 0)..));
        let born: BTreeSet<(Timestamp, Key)> = born.copied().collect();
        born.into_iter()
            .filter_map(|(_, key)| self.get(key))
            .filter(move |child| self.parent(child).is_some_and(|parent| parent.key == key))
    }

    /// Those that ran at some time from `from` to `to`, as far as is known, oldest first.
    pub fn during(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &ProcessRecord> {
        let begun = self.by_start.range(..=(to, Key::MAX)).filter_map(|(_, key)| self.get(*key));
        begun.filter(move |process| process.end.is_none_or(|end| end >= from))
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn started(&mut self, event: ProcessStart, origin: Option<Origin>) {
        let from_log = origin.is_some();
        let origin = origin.unwrap_or_default();
        self.merge(
            ProcessRecord {
                pid: Some(event.pid).filter(|pid| !from_log || *pid != 0),
                start: event.start.unwrap_or(event.ts),
                guid: origin.guid,
                parent_pid: event.ppid,
                parent_start: event.parent_start,
                parent_guid: origin.parent_guid,
                parent_image: owned(origin.parent_image),
                parent_command_line: command_line(origin.parent_command_line),
                image: owned(event.image),
                command_line: command_line(event.command_line),
                user: owned(event.user),
                sid: owned(event.sid),
                sha256: owned(event.sha256),
                signer: owned(event.signer),
                start_told: !from_log || event.start.is_none(),
                ..ProcessRecord::default()
            },
            from_log,
        );
    }

    pub(super) fn ended(&mut self, event: ProcessEnd, origin: Option<&Origin>) {
        let pid = Some(event.pid).filter(|pid| origin.is_none() || *pid != 0);
        let (guid, image) = origin.map_or((None, None), |origin| (origin.guid, origin.image.as_deref()));
        let known = self.resolve(Named { pid, start: event.start, guid, image }, event.ts);
        let (key, start) = (known.map(|process| process.key), known.map(|process| process.start));
        if let Some(key) = key {
            return self.change(key, |record| record.end = record.end.or(Some(event.ts)));
        }
        // The end may be told before the start is: what is known of it waits for the rest.
        if let Some(start) = start.or(event.start).or(guid.map(Guid::start)) {
            let image = image.map(Into::into);
            let end = Some(event.ts);
            self.merge(ProcessRecord { pid, start, end, guid, image, ..ProcessRecord::default() }, origin.is_some());
        }
    }

    /// An event of a log named a process by its GUID: whatever it tells of it is kept.
    pub(super) fn seen(&mut self, guid: Guid, pid: Option<u32>, image: Option<&str>, user: Option<&str>) {
        match self.identified(guid) {
            Some(known) => {
                let news = (known.pid.is_none() && pid.is_some())
                    || (known.image.is_none() && image.is_some())
                    || (known.user.is_none() && user.is_some());
                if news {
                    self.change(known.key, |record| {
                        record.pid = record.pid.or(pid);
                        record.image = record.image.take().or_else(|| image.map(Into::into));
                        record.user = record.user.take().or_else(|| user.map(Into::into));
                    });
                }
            }
            None => {
                let (image, user) = (image.map(Into::into), user.map(Into::into));
                let guid_start = guid.start();
                let guid = Some(guid);
                self.merge(
                    ProcessRecord { pid, start: guid_start, guid, image, user, ..ProcessRecord::default() },
                    true,
                );
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Rank> {
        self.order.first().map(|(rank, ..)| *rank)
    }

    pub(super) fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.first().copied() {
            self.take(key);
        }
    }

    fn merge(&mut self, mut new: ProcessRecord, from_log: bool) {
        let same = new.guid.and_then(|guid| self.identified(guid)).or_else(|| self.exact(new.pid?, new.start));
        let same = same.filter(|record| record.guid.is_none() || new.guid.is_none() || record.guid == new.guid);
        let same = same.or_else(|| self.alike(&new).filter(|_| from_log));
        let record = match same.map(|record| record.key) {
            Some(key) => match self.take(key) {
                Some(old) => combined(old, new),
                None => new,
            },
            None => {
                self.next += 1;
                new.key = self.next;
                new
            }
        };
        self.put(record);
    }

    /// The one process that another log told of, which starts at the same time with the same image, where neither its pid
    /// nor its GUID tells against it.
    fn alike(&self, new: &ProcessRecord) -> Option<&ProcessRecord> {
        let image = new.image.as_deref()?;
        let (from, to) = (new.start.before(SAME_START), new.start.after(SAME_START));
        let near = self.by_start.range((from, 0)..=(to, Key::MAX)).filter_map(|(_, key)| self.get(*key));
        let mut alike = near.filter(|record| {
            let against = |a: bool, b: bool, equal: bool| a && b && !equal;
            let lines = (record.command_line.as_deref(), new.command_line.as_deref());
            !against(record.pid.is_some(), new.pid.is_some(), record.pid == new.pid)
                && !against(record.guid.is_some(), new.guid.is_some(), record.guid == new.guid)
                && !matches!(lines, (Some(a), Some(b)) if a.trim() != b.trim())
                && record.image.as_deref().is_some_and(|other| same_image(Some(other), Some(image)))
        });
        let first = alike.next()?;
        let told_both = first.pid.is_some() && new.pid.is_some();
        // Of two that are alike neither is known to be the one, unless its pid tells.
        (told_both || alike.next().is_none()).then_some(first)
    }

    fn change(&mut self, key: Key, change: impl FnOnce(&mut ProcessRecord)) {
        if let Some(mut record) = self.take(key) {
            change(&mut record);
            self.put(record);
        }
    }

    fn put(&mut self, record: ProcessRecord) {
        self.bytes += record.bytes();
        let (key, place) = (record.key, (record.start, record.key));
        self.order.insert((record.rank(), key));
        self.by_start.insert(place);
        if let Some(pid) = record.pid {
            self.by_pid.entry(pid).or_default().insert(place);
        }
        if let Some(guid) = record.guid {
            self.by_guid.insert(guid, key);
        }
        if let Some(parent) = record.parent_pid {
            self.by_parent.entry(parent).or_default().insert(place);
        }
        if let Some(parent) = record.parent_guid {
            self.by_parent_guid.entry(parent).or_default().insert(place);
        }
        self.records.insert(key, record);
    }

    fn take(&mut self, key: Key) -> Option<ProcessRecord> {
        let record = self.records.remove(&key)?;
        let place = (record.start, key);
        self.bytes = self.bytes.saturating_sub(record.bytes());
        self.order.remove(&(record.rank(), key));
        self.by_start.remove(&place);
        if let Some(pid) = record.pid {
            leave(&mut self.by_pid, pid, place);
        }
        if let Some(guid) = record.guid {
            self.by_guid.remove(&guid);
        }
        if let Some(parent) = record.parent_pid {
            leave(&mut self.by_parent, parent, place);
        }
        if let Some(parent) = record.parent_guid {
            leave(&mut self.by_parent_guid, parent, place);
        }
        Some(record)
    }
}

fn leave<K: std::hash::Hash + Eq>(
    index: &mut HashMap<K, BTreeSet<(Timestamp, Key)>>,
    name: K,
    place: (Timestamp, Key),
) {
    let Some(places) = index.get_mut(&name) else { return };
    places.remove(&place);
    if places.is_empty() {
        index.remove(&name);
    }
}

fn command_line(text: Option<String>) -> Option<Arc<str>> {
    owned(text.map(|line| without_passwords(&line).into_owned()))
}

/// Whether two paths may be of one executable: logs write them in different cases, and with a device for the drive. One
/// that is not told may be any.
pub(crate) fn same_image(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => {
            let (a, b) = (base_name(a), base_name(b));
            a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase()
        }
        _ => true,
    }
}

/// Several sources may tell of one process, each of them a part.
fn combined(old: ProcessRecord, new: ProcessRecord) -> ProcessRecord {
    // Sysmon stamps the start itself; another log stamps its record, some to whole seconds.
    let start = match (old.start_told, new.start_told) {
        (true, true) if new.guid.is_some() && old.guid.is_none() => new.start,
        (true, _) | (false, false) => old.start,
        (false, true) => new.start,
    };
    ProcessRecord {
        pid: old.pid.or(new.pid),
        start,
        end: old.end.or(new.end),
        guid: old.guid.or(new.guid),
        parent_pid: old.parent_pid.or(new.parent_pid),
        parent_start: old.parent_start.or(new.parent_start),
        parent_guid: old.parent_guid.or(new.parent_guid),
        parent_image: old.parent_image.or(new.parent_image),
        parent_command_line: old.parent_command_line.or(new.parent_command_line),
        image: old.image.or(new.image),
        command_line: old.command_line.or(new.command_line),
        user: old.user.or(new.user),
        sid: old.sid.or(new.sid),
        sha256: old.sha256.or(new.sha256),
        signer: old.signer.or(new.signer),
        start_told: old.start_told || new.start_told,
        key: old.key,
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

    impl Processes {
        fn start(&mut self, event: ProcessStart) {
            self.started(event, None);
        }

        fn end(&mut self, event: ProcessEnd) {
            self.ended(event, None);
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
        processes.start(start(8, 50, None, "new"));
        processes.start(start(8, 10, None, "old"));
        processes.end(end(8, Some(10), 40));
        assert_eq!(image(processes.at(8, Timestamp(30))), Some("old"));
        assert_eq!(image(processes.at(8, Timestamp(45))), None, "between the two nobody had it");
        assert_eq!(image(processes.at(8, Timestamp(50))), Some("new"));
        assert_eq!(image(processes.at(8, Timestamp(9))), None);
        let named = Named { pid: Some(8), start: Some(Timestamp(11)), ..Named::default() };
        assert_eq!(image(processes.resolve(named, Timestamp(60))), None, "a start is never guessed");
    }

    #[test]
    fn the_parent_is_the_newest_of_its_pid_that_ran_at_the_time() {
        let mut processes = Processes::default();
        processes.start(start(4, 1, None, "first"));
        processes.start(start(4, 20, None, "second"));
        processes.start(start(4, 90, None, "third"));
        processes.start(start(9, 30, Some((4, None)), "child"));
        processes.start(start(10, 31, Some((4, Some(1))), "named"));
        let parent = |pid, at| image(processes.parent(processes.exact(pid, Timestamp(at)).unwrap()));
        assert_eq!(parent(9, 30), Some("second"));
        assert_eq!(parent(10, 31), Some("first"));
        let children: Vec<Option<u32>> =
            processes.children(processes.exact(4, Timestamp(20)).unwrap()).map(|child| child.pid).collect();
        assert_eq!(children, [Some(9)]);
    }

    #[test]
    fn a_process_that_ended_before_is_no_parent() {
        let mut processes = Processes::default();
        processes.start(start(4, 1, None, "gone"));
        processes.end(end(4, None, 20));
        processes.start(start(9, 30, Some((4, None)), "child"));
        assert_eq!(processes.parent(processes.exact(9, Timestamp(30)).unwrap()), None);
    }

    #[test]
    fn a_process_cannot_be_its_own_ancestor() {
        let mut processes = Processes::default();
        processes.start(start(4, 10, Some((5, Some(20))), "a"));
        processes.start(start(5, 20, Some((4, Some(10))), "b"));
        processes.start(start(6, 30, Some((6, Some(30))), "c"));
        assert_eq!(processes.parent(processes.exact(4, Timestamp(10)).unwrap()), None);
        assert_eq!(image(processes.parent(processes.exact(5, Timestamp(20)).unwrap())), Some("a"));
        assert_eq!(processes.parent(processes.exact(6, Timestamp(30)).unwrap()), None);
    }

    #[test]
    fn an_end_that_comes_before_its_start_is_kept() {
        let mut processes = Processes::default();
        processes.end(end(8, Some(10), 40));
        processes.start(start(8, 10, None, "late"));
        let record = processes.exact(8, Timestamp(10)).unwrap();
        assert_eq!((record.end, image(Some(record))), (Some(Timestamp(40)), Some("late")));
        assert_eq!(processes.len(), 1);
    }

    #[test]
    fn those_that_ended_are_forgotten_before_those_that_run() {
        let mut processes = Processes::default();
        processes.start(start(1, 1, None, "shell"));
        processes.start(start(2, 5, Some((1, Some(1))), "tool"));
        processes.end(end(2, Some(5), 6));
        processes.forget_oldest();
        assert!(processes.exact(1, Timestamp(1)).is_some());
        processes.forget_oldest();
        assert!(processes.is_empty());
        assert_eq!(processes.bytes(), 0);
        assert!(processes.by_parent.is_empty() && processes.by_pid.is_empty());
    }

    fn guid(text: &str) -> Origin {
        Origin { guid: Some(text.parse().unwrap()), ..Origin::default() }
    }

    /// Whose start is 1600448616.
    const GUID: &str = "{d273d0f0-e868-5f64-2700-000000000800}";

    #[test]
    fn a_process_that_two_logs_tell_of_is_one() {
        let mut processes = Processes::default();
        let at = |ms: u64| Timestamp(1_600_448_616_000_000_000 + ms * 1_000_000);
        let sysmon = ProcessStart { ts: at(250), image: Some("C:\\x\\7z.exe".into()), ..ProcessStart::default() };
        processes.started(sysmon.clone(), Some(guid(GUID)));
        let security =
            ProcessStart { ts: at(500), pid: 77, image: Some("C:\\X\\7z.exe".into()), ..ProcessStart::default() };
        processes.started(security, Some(Origin::default()));
        assert_eq!(processes.len(), 1);
        let record = processes.identified(GUID.parse().unwrap()).unwrap();
        assert_eq!((record.pid, record.start), (Some(77), at(250)), "Sysmon's start is the finer one");
        let other =
            ProcessStart { ts: at(600), pid: 78, image: Some("C:\\x\\7z.exe".into()), ..ProcessStart::default() };
        processes.started(other, Some(Origin::default()));
        assert_eq!(processes.len(), 2, "another pid is another process");
    }

    #[test]
    fn a_pid_in_use_by_another_image_is_not_taken_for_the_process() {
        let mut processes = Processes::default();
        processes.start(start(8, 50, None, "C:\\a\\old.exe"));
        let named = |image| Named { pid: Some(8), image: Some(image), ..Named::default() };
        assert!(processes.resolve(named("\\device\\harddiskvolume2\\a\\OLD.exe"), Timestamp(60)).is_some());
        assert!(processes.resolve(named("C:\\a\\new.exe"), Timestamp(60)).is_none());
    }

    #[test]
    fn what_a_log_tells_of_a_guid_is_put_together() {
        let mut processes = Processes::default();
        let id: Guid = GUID.parse().unwrap();
        processes.seen(id, None, Some("C:\\a.exe"), None);
        processes.seen(id, Some(12), None, Some("CORP\\ann"));
        let record = processes.identified(id).unwrap();
        assert_eq!((record.pid, image(Some(record)), record.start), (Some(12), Some("C:\\a.exe"), id.start()));
        processes.forget_oldest();
        assert!(processes.is_empty() && processes.by_guid.is_empty() && processes.by_start.is_empty());
        assert_eq!(processes.bytes(), 0);
    }
}
