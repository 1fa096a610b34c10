//! All exceptions, and what has passed under each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lru::LruCache;

use super::{Exception, ExceptionId};
use crate::detect::{Reason, Verdict};
use crate::join::Attribution;
use crate::net::{ByteSize, Timestamp};
use crate::record::{EventId, Upload};

/// Days of which the bytes that passed are remembered, for each exception.
const DAYS: usize = 8;

/// Uploads that are remembered, so that one that is judged again counts once.
const RECENT: usize = 16_384;

/// A day, UTC, in nanoseconds.
const DAY: u64 = 86_400_000_000_000;

/// What exceptions have hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExceptionCounters {
    /// Alerts that were suppressed; one that is judged again counts once.
    pub suppressed: u64,
    /// The bytes of their uploads.
    pub bytes: u64,
    /// Exceptions that suppressed at least one.
    pub exceptions: u64,
    /// Alerts that an exception would have covered, had its ceiling not been passed.
    pub above_ceiling: u64,
}

/// An upload that passed.
#[derive(Clone, Copy, Debug)]
struct Passed {
    under: ExceptionId,
    day: u64,
    bytes: u64,
}

/// All exceptions, the narrowest first, and by their identifier where none is narrower.
#[derive(Debug)]
pub struct Exceptions {
    list: Vec<Exception>,
    used: HashMap<ExceptionId, BTreeMap<u64, u64>>,
    recent: LruCache<EventId, Passed>,
    matched: BTreeSet<ExceptionId>,
    counters: ExceptionCounters,
}

impl Default for Exceptions {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Exceptions {
    /// With these; nothing has passed yet.
    pub fn new(list: Vec<Exception>) -> Self {
        let mut exceptions = Self {
            list: Vec::new(),
            used: HashMap::new(),
            recent: LruCache::unbounded(),
            matched: BTreeSet::new(),
            counters: ExceptionCounters::default(),
        };
        exceptions.replace(list);
        exceptions
    }

    /// From now on these hold. What has passed under one that stays still counts towards its ceiling.
    pub fn replace(&mut self, mut list: Vec<Exception>) {
        list.sort_by_cached_key(|exception| (std::cmp::Reverse(exception.scope.narrowness()), exception.id));
        let known: BTreeSet<ExceptionId> = list.iter().map(|exception| exception.id).collect();
        self.used.retain(|id, _| known.contains(id));
        self.list = list;
    }

    /// How many there are, expired ones included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes back what has passed under an exception on the day of `at`, as an earlier run knows it.
    pub fn restore(&mut self, id: ExceptionId, at: Timestamp, bytes: u64) {
        self.pass(id, at.0 / DAY, bytes);
    }

    /// The exception that covers an upload with that verdict, counted; it is the narrowest that holds when the upload ends.
    /// Where a ceiling is all that keeps one from covering it, the verdict says so.
    pub fn rule(&mut self, upload: &Upload, attribution: &Attribution, verdict: &mut Verdict) -> Option<ExceptionId> {
        let day = upload.end.0 / DAY;
        // An upload that is judged again has already passed: it must not stand in its own way, nor count twice.
        let before = self.recent.pop(&upload.id);
        if let Some(before) = before {
            self.take_back(before);
        }
        let mut above = None;
        let covering = self.list.iter().find(|exception| {
            if !exception.holds(upload.end) || !exception.scope.covers(upload, attribution) {
                return false;
            }
            let Some(ceiling) = exception.scope.ceiling else { return true };
            let used = self.used.get(&exception.id).and_then(|days| days.get(&day)).copied().unwrap_or(0);
            if used.saturating_add(upload.bytes) <= ceiling.0 {
                return true;
            }
            above.get_or_insert((exception.id, ceiling, used));
            false
        });
        match (covering.map(|exception| exception.id), above) {
            (Some(id), _) => {
                self.pass(id, day, upload.bytes);
                self.recent.put(upload.id, Passed { under: id, day, bytes: upload.bytes });
                if self.recent.len() > RECENT {
                    self.recent.pop_lru();
                }
                self.matched.insert(id);
                self.counters.suppressed += 1;
                self.counters.bytes = self.counters.bytes.saturating_add(upload.bytes);
                self.counters.exceptions = self.matched.len() as u64;
                Some(id)
            }
            (None, Some((id, ceiling, used))) => {
                self.counters.above_ceiling += 1;
                let exception = id.to_string();
                verdict.reasons.push(Reason::ExceptionCeiling { exception, ceiling: ceiling.0, used });
                None
            }
            (None, None) => None,
        }
    }

    /// What has passed under an exception on the day of `at`.
    pub fn used(&self, id: ExceptionId, at: Timestamp) -> ByteSize {
        ByteSize(self.used.get(&id).and_then(|days| days.get(&(at.0 / DAY))).copied().unwrap_or(0))
    }

    /// The counts so far.
    pub fn counters(&self) -> &ExceptionCounters {
        &self.counters
    }

    fn pass(&mut self, id: ExceptionId, day: u64, bytes: u64) {
        let days = self.used.entry(id).or_default();
        let used = days.entry(day).or_default();
        *used = used.saturating_add(bytes);
        while days.len() > DAYS {
            days.pop_first();
        }
    }

    fn take_back(&mut self, passed: Passed) {
        let Passed { under, day, bytes } = passed;
        if let Some(used) = self.used.get_mut(&under).and_then(|days| days.get_mut(&day)) {
            *used = used.saturating_sub(bytes);
        }
        self.counters.suppressed = self.counters.suppressed.saturating_sub(1);
        self.counters.bytes = self.counters.bytes.saturating_sub(bytes);
    }
}
