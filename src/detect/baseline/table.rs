//! The entries of one kind, bounded, with what changed among them.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use lru::LruCache;

use super::row::{Change, Kind, Row, RowKey};

/// Between the halves of a pair: in no path, no name and no domain.
const BETWEEN: &str = "\0";

/// What can be known of a key, and kept as a row.
pub(in super::super) trait Kept: Default {
    /// Whether it changed since the changes were asked for.
    fn changed(&mut self) -> &mut bool;

    /// It as a row.
    fn row(&self, key: RowKey) -> Row;

    /// What a row says; none if it is not one of ours.
    fn from_row(row: &Row) -> Option<Self>;
}

/// The entries of one kind. Full: the one that was not used for the longest time is forgotten.
#[derive(Debug)]
pub(in super::super) struct Table<E> {
    kind: Kind,
    most: NonZeroUsize,
    entries: LruCache<String, E>,
    /// Entries that changed, each once.
    changed: Vec<String>,
    /// Entries that are kept on the disk and were forgotten here.
    gone: Vec<String>,
    /// Changes are wanted.
    kept: bool,
    pub(in super::super) forgotten: u64,
}

impl<E: Kept> Table<E> {
    pub(in super::super) fn new(kind: Kind, most: u64) -> Self {
        // Growth on demand: most networks have few of each.
        let entries = LruCache::unbounded();
        Self { kind, most: bound(most), entries, changed: Vec::new(), gone: Vec::new(), kept: false, forgotten: 0 }
    }

    pub(in super::super) fn hold(&mut self, most: u64) {
        self.most = bound(most);
        while self.entries.len() > self.most.get() {
            self.forget_one();
        }
    }

    /// From now on changes are remembered until they are asked for.
    pub(in super::super) fn keep(&mut self) {
        self.kept = true;
    }

    pub(in super::super) fn get(&self, key: &str, other: &str) -> Option<&E> {
        self.entries.peek(joined(key, other).as_ref())
    }

    /// The entry, made if it is not there, to be changed.
    pub(in super::super) fn change(&mut self, key: &str, other: &str) -> &mut E {
        let whole = joined(key, other);
        if self.entries.len() >= self.most.get() && !self.entries.contains(whole.as_ref()) {
            self.forget_one();
        }
        let entry = self.entries.get_or_insert_mut_ref(whole.as_ref(), E::default);
        if self.kept && !std::mem::replace(entry.changed(), true) {
            self.changed.push(whole.into_owned());
        }
        entry
    }

    fn forget_one(&mut self) {
        if let Some((key, _)) = self.entries.pop_lru() {
            self.forgotten += 1;
            if self.kept {
                self.gone.push(key);
            }
        }
    }

    pub(in super::super) fn restore(&mut self, row: &Row) -> bool {
        let Some(entry) = E::from_row(row) else { return false };
        if self.entries.len() >= self.most.get() {
            self.forget_one();
        }
        self.entries.put(joined(&row.key.key, &row.key.other).into_owned(), entry);
        true
    }

    /// What changed since the last call.
    pub(in super::super) fn changes(&mut self, into: &mut Vec<Change>) {
        let kind = self.kind;
        let key = |whole: &str| {
            let (key, other) = whole.split_once(BETWEEN).unwrap_or((whole, ""));
            RowKey { kind, key: key.to_owned(), other: other.to_owned() }
        };
        // One that was forgotten and came again is put after it is taken away.
        into.extend(self.gone.drain(..).map(|gone| Change::Forget(key(&gone))));
        for whole in self.changed.drain(..) {
            if let Some(entry) = self.entries.peek_mut(&whole) {
                // It may have been forgotten and come again, and so be listed twice.
                if std::mem::take(entry.changed()) {
                    into.push(Change::Put(entry.row(key(&whole))));
                }
            }
        }
    }

    pub(in super::super) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn bound(most: u64) -> NonZeroUsize {
    NonZeroUsize::new(usize::try_from(most).unwrap_or(usize::MAX)).unwrap_or(NonZeroUsize::MIN)
}

fn joined<'a>(key: &'a str, other: &str) -> Cow<'a, str> {
    if other.is_empty() { Cow::Borrowed(key) } else { Cow::Owned([key, BETWEEN, other].concat()) }
}
