//! What the contents of a lane share: the settings, the rate of hashing, the memory, and the counters.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config;
use crate::net::Timestamp;
use crate::record::{Carved, NotHashed, State, Upload};

/// What became of the content of files and bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCounters {
    /// Bytes that were hashed, also those of what got no hash in the end.
    pub hashed_bytes: u64,
    /// Files and bodies with a hash.
    pub hashed: u64,
    /// Files and bodies without a hash, by the reason's place in [`NotHashed::ALL`].
    pub not_hashed: [u64; NotHashed::ALL.len()],
    /// Bodies with a Content-Encoding that were decoded to their end.
    pub decoded: u64,
    /// Bodies with a Content-Encoding that were to be decoded, and were not.
    pub not_decoded: u64,
    /// 7z archives whose end there was no memory to keep.
    pub archive_memory: u64,
}

impl FileCounters {
    /// Adds another lane's counts.
    pub fn add(&mut self, other: &Self) {
        self.hashed_bytes += other.hashed_bytes;
        self.hashed += other.hashed;
        for (own, other) in self.not_hashed.iter_mut().zip(other.not_hashed) {
            *own += other;
        }
        self.decoded += other.decoded;
        self.not_decoded += other.not_decoded;
        self.archive_memory += other.archive_memory;
    }

    /// Files and bodies without a hash for this reason.
    pub fn not_hashed_for(&self, why: NotHashed) -> u64 {
        NotHashed::ALL.iter().zip(self.not_hashed).find(|(reason, _)| **reason == why).map_or(0, |(_, count)| count)
    }

    /// Counts an upload that is over.
    pub(in crate::protocol) fn count(&mut self, upload: &Upload) {
        if upload.state == State::Running {
            return;
        }
        let body = (&upload.body.sha256, upload.body.not_hashed);
        let files = upload.files.iter().map(|file| (&file.sha256, file.not_hashed));
        for (sha256, why) in files.chain([body]) {
            self.hashed += u64::from(sha256.is_some());
            let place = NotHashed::ALL.iter().position(|reason| Some(*reason) == why);
            if let Some(count) = place.and_then(|place| self.not_hashed.get_mut(place)) {
                *count += 1;
            }
        }
        self.decoded += u64::from(upload.body.decoded_bytes.is_some());
        self.not_decoded += u64::from(upload.body.not_decoded.is_some());
    }
}

/// What the contents of a lane share.
#[derive(Debug)]
pub(in crate::protocol) struct Meter {
    pub(super) settings: config::Files,
    pub(in crate::protocol) counters: FileCounters,
    /// Bytes that may be hashed per second of packet time on this lane.
    rate: u64,
    /// The present second, and how many of its bytes are left.
    second: u64,
    left: u64,
    memory: u64,
    taken: Arc<AtomicU64>,
    /// Bytes of content that may still be copied, where copies are wanted.
    copies: Option<Arc<AtomicU64>>,
    /// Content is not hashed for now, as there is too much to do.
    pub(in crate::protocol) no_hashing: bool,
    /// Nor is its type told.
    pub(in crate::protocol) no_typing: bool,
}

/// Memory that is taken from the lane's, until this goes.
#[derive(Debug)]
pub(super) struct Share {
    bytes: u64,
    taken: Arc<AtomicU64>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A copy of content, for as long as there is room.
#[derive(Debug)]
pub(super) struct Carving {
    bytes: Option<Vec<u8>>,
    left: Arc<AtomicU64>,
    /// Somebody has all of it, and so its room.
    handed_out: Cell<bool>,
}

impl Drop for Carving {
    fn drop(&mut self) {
        if !self.handed_out.get() {
            self.give_back();
        }
    }
}

impl Carving {
    pub(super) fn take(&mut self, more: &[u8]) {
        let Some(bytes) = &mut self.bytes else { return };
        let left = self.left.load(Ordering::Relaxed);
        match left.checked_sub(more.len() as u64) {
            Some(less) => {
                self.left.store(less, Ordering::Relaxed);
                bytes.extend_from_slice(more);
            }
            None => {
                self.give_back();
            }
        }
    }

    /// What was copied in vain makes room for others.
    fn give_back(&mut self) {
        let bytes = self.bytes.take().map_or(0, |bytes| bytes.len() as u64);
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All of it, if there was room.
    pub(super) fn whole(&self) -> Option<Carved> {
        self.handed_out.set(self.bytes.is_some());
        self.bytes.as_deref().map(|bytes| Carved(bytes.into()))
    }
}

impl Meter {
    /// With `1 / lanes` of the configured rate and memory.
    pub(in crate::protocol) fn new(settings: &config::Files, lanes: usize) -> Self {
        let lanes = (lanes as u64).max(1);
        let rate = match settings.hash_rate.0 {
            0 => u64::MAX,
            rate => (rate / lanes).max(1),
        };
        Self {
            settings: settings.clone(),
            counters: FileCounters::default(),
            rate,
            second: 0,
            left: rate,
            memory: settings.memory.0 / lanes,
            taken: Arc::default(),
            copies: None,
            no_hashing: false,
            no_typing: false,
        }
    }

    /// Whether this many bytes may be hashed at this time.
    ///
    /// The budget is that of a lane and a second of packet time, so it does not depend on how many workers share the
    /// lanes or how fast they are. It does depend on which second a packet came in: where the budget is reached
    /// at all, a capture whose packets are in another order may give another upload the last of it.
    pub(super) fn may_hash(&mut self, bytes: u64, now: Timestamp) -> bool {
        if self.rate == u64::MAX {
            return true;
        }
        let second = now.0 / 1_000_000_000;
        if second != self.second {
            (self.second, self.left) = (second, self.rate);
        }
        let may = bytes <= self.left;
        if may {
            self.left -= bytes;
        }
        may
    }

    /// From now on, content that is hashed is copied too, so many bytes in all.
    pub(in crate::protocol) fn carve(&mut self, most: u64) {
        self.copies = Some(Arc::new(AtomicU64::new(most)));
    }

    /// A copy for content that begins.
    pub(super) fn copy(&self) -> Option<Carving> {
        self.copies.clone().map(|left| Carving { bytes: Some(Vec::new()), left, handed_out: Cell::new(false) })
    }

    /// Bytes that are taken.
    pub(in crate::protocol) fn memory(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes memory, if that much is left.
    pub(super) fn take(&self, bytes: u64) -> Option<Share> {
        // Only this lane's thread takes of it: the atomic is for the lane to be handed to that thread.
        if self.taken.load(Ordering::Relaxed).saturating_add(bytes) > self.memory {
            return None;
        }
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Some(Share { bytes, taken: self.taken.clone() })
    }
}
