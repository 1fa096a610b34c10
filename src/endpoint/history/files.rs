//! The file events of one host, by name, by process and by content.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use super::{Named, ProcessRecord};
use super::{Rank, owned, size_of_text};
use crate::endpoint::{FileEvent, Guid, Operation, Origin, base_name};
use crate::net::Timestamp;

/// A process touched a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// When.
    pub ts: Timestamp,
    /// The process id, if it was told.
    pub pid: Option<u32>,
    /// When the process started.
    pub start: Option<Timestamp>,
    /// The process's identity in Sysmon's log.
    pub guid: Option<Guid>,
    /// The path of the process's executable, where the event named it.
    pub image: Option<Arc<str>>,
    /// The process's account, where the event named it.
    pub user: Option<Arc<str>>,
    /// What it did.
    pub op: Operation,
    /// To which file.
    pub path: Arc<str>,
    /// Its new path, of a rename.
    pub new_path: Option<Arc<str>>,
    /// The file's size in bytes.
    pub size: Option<u64>,
    /// The file's SHA-256, lower-case hexadecimal.
    pub sha256: Option<Arc<str>>,
    sequence: u64,
}

impl FileRecord {
    /// What it names its process by.
    pub fn named(&self) -> Named<'_> {
        Named { pid: self.pid, start: self.start, guid: self.guid, image: self.image.as_deref() }
    }

    /// Where the file is after the event.
    pub fn path_after(&self) -> &Arc<str> {
        self.new_path.as_ref().unwrap_or(&self.path)
    }

    /// The event's place in the order of its host's file events: by time, then by arrival.
    pub fn order(&self) -> (Timestamp, u64) {
        (self.ts, self.sequence)
    }

    fn repeats(&self, other: &Self) -> bool {
        let who = |of: &Self| (of.pid, of.start, of.guid, of.op, of.size);
        who(self) == who(other)
            && (&self.path, &self.new_path, &self.sha256) == (&other.path, &other.new_path, &other.sha256)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let old = base_name(&self.path).to_lowercase();
        let new = self.new_path.as_deref().map(|path| base_name(path).to_lowercase()).filter(|new| *new != old);
        std::iter::once(old).chain(new)
    }

    fn bytes(&self) -> u64 {
        // Beside the record: its place in the order and its share of each index, whose keys are texts themselves.
        const PER_INDEX: u64 = 190;
        let texts =
            [Some(&self.path), self.new_path.as_ref(), self.sha256.as_ref(), self.image.as_ref(), self.user.as_ref()];
        let keys: u64 = texts.into_iter().take(3).flatten().map(|_| PER_INDEX).sum();
        let texts: u64 = texts.into_iter().flatten().map(|text| size_of_text(text)).sum();
        size_of::<Self>() as u64 + PER_INDEX + keys + texts
    }
}

type Key = (Timestamp, u64);

/// The file events of one host.
#[derive(Debug, Default)]
pub struct Files {
    events: BTreeMap<Key, FileRecord>,
    by_name: HashMap<String, VecDeque<Key>>,
    by_pid: HashMap<u32, VecDeque<Key>>,
    by_guid: HashMap<Guid, VecDeque<Key>>,
    by_sha256: HashMap<Arc<str>, VecDeque<Key>>,
    sequence: u64,
    bytes: u64,
}

impl Files {
    /// The events from `from` to `to` whose path, before or after them, ends in this name; the newest first.
    /// Upper and lower case are the same.
    pub fn named(&self, name: &str, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &FileRecord> {
        self.newest_first(self.by_name.get(&name.to_lowercase()), from, to)
    }

    /// The events from `from` to `to` of a file with this SHA-256 (hexadecimal), the newest first.
    pub fn hashed(&self, sha256: &str, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &FileRecord> {
        self.newest_first(self.by_sha256.get(sha256.to_ascii_lowercase().as_str()), from, to)
    }

    /// The events from `from` to `to` of a process, those that name it by its GUID first, each part with its newest first.
    /// Those that name it by a pid alone may be of another that had the pid at another time.
    pub fn of<'a>(
        &'a self,
        process: &ProcessRecord,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = &'a FileRecord> {
        let identified = process.guid.and_then(|guid| self.by_guid.get(&guid));
        let numbered = process.pid.and_then(|pid| self.by_pid.get(&pid));
        let numbered = self.newest_first(numbered, from, to).filter(|record| record.guid.is_none());
        self.newest_first(identified, from, to).chain(numbered)
    }

    /// All events from `from` to `to`, both included, oldest first.
    pub fn during(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &FileRecord> {
        self.events.range((from, 0)..=(to, u64::MAX)).map(|(_, record)| record)
    }

    /// How many events are known.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn newest_first<'a>(
        &'a self,
        keys: Option<&'a VecDeque<Key>>,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = &'a FileRecord> {
        keys.into_iter().flat_map(move |keys| {
            let first = keys.partition_point(|(ts, _)| *ts < from);
            let end = keys.partition_point(|(ts, _)| *ts <= to);
            let wanted = end.saturating_sub(first);
            keys.iter().skip(first).take(wanted).rev().filter_map(|key| self.events.get(key))
        })
    }

    pub(super) fn insert(&mut self, event: FileEvent, origin: Option<&Origin>) {
        let record = FileRecord {
            ts: event.ts,
            pid: Some(event.pid).filter(|pid| origin.is_none() || *pid != 0),
            start: event.start,
            guid: origin.and_then(|origin| origin.guid),
            image: origin.and_then(|origin| origin.image.as_deref()).map(Into::into),
            user: origin.and_then(|origin| origin.user.as_deref()).map(Into::into),
            op: event.op,
            path: event.path.into(),
            new_path: owned(event.new_path),
            size: event.size,
            sha256: owned(event.sha256.map(|hash| hash.to_ascii_lowercase())),
            sequence: self.sequence,
        };
        // Logs repeat their records.
        let same_time = self.events.range((record.ts, 0)..=(record.ts, u64::MAX));
        if origin.is_some() && same_time.map(|(_, other)| other).any(|other| record.repeats(other)) {
            return;
        }
        self.sequence += 1;
        self.bytes += record.bytes();
        let key = record.order();
        for name in record.names() {
            add(&mut self.by_name, name, key);
        }
        if let Some(pid) = record.pid {
            add(&mut self.by_pid, pid, key);
        }
        if let Some(guid) = record.guid {
            add(&mut self.by_guid, guid, key);
        }
        if let Some(sha256) = &record.sha256 {
            add(&mut self.by_sha256, sha256.clone(), key);
        }
        self.events.insert(key, record);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Rank> {
        self.events.first_key_value().map(|((ts, _), _)| (0, *ts))
    }

    pub(super) fn forget_oldest(&mut self) {
        let Some((key, record)) = self.events.pop_first() else { return };
        self.bytes = self.bytes.saturating_sub(record.bytes());
        for name in record.names() {
            drop_first(&mut self.by_name, &name, key);
        }
        if let Some(pid) = record.pid {
            drop_first(&mut self.by_pid, &pid, key);
        }
        if let Some(guid) = record.guid {
            drop_first(&mut self.by_guid, &guid, key);
        }
        if let Some(sha256) = &record.sha256 {
            drop_first(&mut self.by_sha256, sha256, key);
        }
    }
}

fn add<K: Hash + Eq>(index: &mut HashMap<K, VecDeque<Key>>, name: K, key: Key) {
    let keys = index.entry(name).or_insert_with(|| VecDeque::with_capacity(1));
    let at = keys.partition_point(|other| *other < key);
    keys.insert(at, key);
}

/// What is oldest of all is oldest in each index, too.
fn drop_first<K: Hash + Eq>(index: &mut HashMap<K, VecDeque<Key>>, name: &K, key: Key) {
    let Some(keys) = index.get_mut(name) else { return };
    if keys.front() == Some(&key) {
        keys.pop_front();
    }
    if keys.is_empty() {
        index.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ts: u64, pid: u32, path: &str) -> FileEvent {
        FileEvent {
            ts: Timestamp(ts),
            pid,
            start: None,
            op: Operation::Write,
            path: path.into(),
            new_path: None,
            size: None,
            sha256: None,
        }
    }

    impl Files {
        fn take(&mut self, event: FileEvent) {
            self.insert(event, None);
        }
    }

    fn all() -> (Timestamp, Timestamp) {
        (Timestamp(0), Timestamp(u64::MAX))
    }

    #[test]
    fn names_are_found_in_any_case_and_on_both_sides_of_a_rename() {
        let mut files = Files::default();
        files.take(FileEvent {
            op: Operation::Rename,
            new_path: Some("D:\\Ümlaut.7Z".into()),
            sha256: Some("AB".into()),
            ..event(5, 1, "C:\\a\\Tmp.1")
        });
        let (from, to) = all();
        assert_eq!(files.named("TMP.1", from, to).count(), 1);
        assert_eq!(files.named("ümlaut.7z", from, to).count(), 1);
        assert_eq!(files.hashed("Ab", from, to).count(), 1);
        assert_eq!(files.named("a", from, to).count(), 0);
    }

    #[test]
    fn the_window_includes_both_of_its_edges() {
        let mut files = Files::default();
        for ts in [30, 10, 20, 40] {
            files.take(event(ts, 7, "C:\\x"));
        }
        let process = ProcessRecord::of_pid(7);
        let found: Vec<u64> = files.of(&process, Timestamp(20), Timestamp(30)).map(|record| record.ts.0).collect();
        assert_eq!(found, [30, 20]);
        assert_eq!(files.of(&process, Timestamp(31), Timestamp(39)).count(), 0);
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_of_it_stays() {
        let mut files = Files::default();
        for ts in [30, 10, 20] {
            files.take(FileEvent { sha256: Some("ab".into()), ..event(ts, 7, "C:\\x") });
        }
        let (from, to) = all();
        files.forget_oldest();
        assert_eq!(files.named("x", from, to).map(|record| record.ts.0).collect::<Vec<_>>(), [30, 20]);
        files.forget_oldest();
        files.forget_oldest();
        assert_eq!((files.bytes(), files.by_name.len(), files.by_pid.len(), files.by_sha256.len()), (0, 0, 0, 0));
    }
}
