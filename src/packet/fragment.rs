//! Reassembly of IP fragments (RFC 791 section 3.2, RFC 8200 section 4.5), bounded in bytes and time.
//!
//! Fragments come in; a whole payload goes out when its last hole closes. Where fragments overlap, the
//! first bytes win and the overlap is counted (RFC 5722 forbids them for IPv6; hosts differ).

use std::hash::BuildHasher as _;

use lru::LruCache;

use crate::config;
use crate::net::{Address, Span, Timestamp};

/// What fragments of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentKey {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) id: u32,
    pub(super) protocol: u8,
}

/// What became of fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragmentCounters {
    /// Packets made whole.
    pub reassembled: u64,
    /// Fragments that overlapped an earlier one.
    pub overlaps: u64,
    /// Incomplete packets given up for want of memory.
    pub evicted: u64,
    /// Incomplete packets given up because their rest did not come in time.
    pub expired: u64,
    /// Packets that were incomplete when the input ended.
    pub unfinished: u64,
    /// The most bytes held at once.
    pub peak: u64,
}

impl FragmentCounters {
    /// Incomplete packets given up, for whatever reason.
    pub fn abandoned(&self) -> u64 {
        self.evicted + self.expired + self.unfinished
    }

    /// Adds the counts of another decoder.
    pub fn add(&mut self, other: &Self) {
        self.reassembled += other.reassembled;
        self.overlaps += other.overlaps;
        self.evicted += other.evicted;
        self.expired += other.expired;
        self.unfinished += other.unfinished;
        self.peak += other.peak;
    }
}

/// What one fragment costs beside its bytes; keeps tiny ones from being free.
const OVERHEAD: usize = 128;
/// The largest payload that an IP packet can have.
const LARGEST: usize = 65_535;

#[derive(Debug)]
struct Partial {
    /// Sorted by offset, not overlapping.
    pieces: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
    since: Timestamp,
    cost: usize,
}

#[derive(Debug)]
pub(super) struct Fragments {
    waiting: LruCache<FragmentKey, Partial>,
    held: usize,
    memory: usize,
    patience: Span,
    /// What the last fragment is a part of, until that is forgotten.
    pub(super) part_of: Option<u64>,
    counters: FragmentCounters,
}

impl Fragments {
    pub(super) fn new(limits: &config::Packet) -> Self {
        Self {
            waiting: LruCache::unbounded(),
            held: 0,
            memory: usize::try_from(limits.fragment_memory.0).unwrap_or(usize::MAX),
            patience: limits.fragment_timeout,
            part_of: None,
            counters: FragmentCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> &FragmentCounters {
        &self.counters
    }

    /// Bytes held.
    pub(super) fn held(&self) -> u64 {
        self.held as u64
    }

    /// Takes a fragment; the whole payload if this was the last one missing.
    pub(super) fn push(
        &mut self,
        key: FragmentKey,
        offset: usize,
        more: bool,
        bytes: &[u8],
        clock: Timestamp,
    ) -> Option<Vec<u8>> {
        self.part_of = Some(foldhash::quality::FixedState::default().hash_one(key));
        self.expire(clock);
        let end = offset.checked_add(bytes.len()).filter(|end| *end <= LARGEST)?;
        let mut partial = match self.waiting.pop(&key) {
            Some(partial) => {
                self.held -= partial.cost;
                if clock.since(partial.since) <= self.patience {
                    partial
                } else {
                    self.counters.expired += 1;
                    Partial::new(clock)
                }
            }
            None => Partial::new(clock),
        };
        if !more && partial.length.is_none() {
            partial.length = Some(end);
        }
        if partial.insert(offset, bytes) {
            self.counters.overlaps += 1;
        }
        if let Some(whole) = partial.whole() {
            self.counters.reassembled += 1;
            return Some(whole);
        }
        self.held += partial.cost;
        self.waiting.push(key, partial);
        while self.held > self.memory && self.abandon() {
            self.counters.evicted += 1;
        }
        self.counters.peak = self.counters.peak.max(self.held as u64);
        None
    }

    fn expire(&mut self, clock: Timestamp) {
        while let Some((_, oldest)) = self.waiting.peek_lru() {
            if clock.since(oldest.since) <= self.patience {
                break;
            }
            self.abandon();
            self.counters.expired += 1;
        }
    }

    /// The input is over: what is not whole never will be.
    pub(super) fn finish(&mut self) {
        while self.abandon() {
            self.counters.unfinished += 1;
        }
    }

    /// Gives up the packet that was added to the longest ago; false if none waits.
    fn abandon(&mut self) -> bool {
        let Some((_, partial)) = self.waiting.pop_lru() else { return false };
        self.held -= partial.cost;
        true
    }
}

impl Partial {
    fn new(since: Timestamp) -> Self {
        // Fragments without a byte would be free otherwise.
        Self { pieces: Vec::new(), length: None, since, cost: 2 * OVERHEAD }
    }

    /// Adds what is new of the bytes; true if some were there already.
    fn insert(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let mut overlapped = false;
        let (mut at, mut rest) = (offset, bytes);
        let mut place = 0;
        while !rest.is_empty() {
            let Some((start, piece)) = self.pieces.get(place) else { break };
            let (start, end) = (*start, *start + piece.len());
            if end <= at {
                place += 1;
                continue;
            }
            if start <= at {
                overlapped = true;
                let covered = (end - at).min(rest.len());
                rest = rest.get(covered..).unwrap_or_default();
                at += covered;
                place += 1;
                continue;
            }
            let room = (start - at).min(rest.len());
            let (fits, after) = rest.split_at(room);
            self.add(place, at, fits);
            at += room;
            rest = after;
            place += 1;
        }
        if !rest.is_empty() {
            self.add(self.pieces.len(), at, rest);
        }
        overlapped
    }

    fn add(&mut self, place: usize, at: usize, bytes: &[u8]) {
        self.cost += bytes.len() + OVERHEAD;
        self.pieces.insert(place, (at, bytes.to_vec()));
    }

    fn whole(&self) -> Option<Vec<u8>> {
        let length = self.length?;
        let mut next = 0;
        for (start, piece) in &self.pieces {
            if *start != next {
                return None;
            }
            next += piece.len();
        }
        if next < length {
            return None;
        }
        let mut whole = Vec::with_capacity(next);
        for (_, piece) in &self.pieces {
            whole.extend_from_slice(piece);
        }
        whole.truncate(length);
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ByteSize;

    fn key(id: u32) -> FragmentKey {
        let address = Address::v4([10, 0, 0, 1]);
        FragmentKey { source: address, destination: address, id, protocol: 17 }
    }

    fn limits(memory: u64, seconds: u64) -> config::Packet {
        let (fragment_memory, fragment_timeout) = (ByteSize(memory), Span::seconds(seconds));
        config::Packet { fragment_memory, fragment_timeout, ..config::Packet::default() }
    }

    #[test]
    fn fragments_without_a_byte_are_not_free() {
        let mut fragments = Fragments::new(&limits(1 << 20, 30));
        for id in 0..200_000 {
            fragments.push(key(id), 0, true, &[], Timestamp(0));
        }
        assert!(fragments.waiting.len() <= (1 << 20) / OVERHEAD);
        assert_eq!(fragments.counters.evicted, 200_000 - fragments.waiting.len() as u64);
        assert!((1 << 19..=1 << 20).contains(&fragments.counters.peak));
    }

    #[test]
    fn fragments_take_no_more_memory_than_is_set() {
        let mut fragments = Fragments::new(&limits(128 << 10, 30));
        for id in 0..10 {
            fragments.push(key(id), 0, true, &[7; 30_000], Timestamp(0));
            assert!(fragments.held <= 128 << 10);
        }
        assert_eq!((fragments.counters.evicted, fragments.waiting.len()), (6, 4));
    }

    #[test]
    fn a_packet_waits_for_its_rest_as_long_as_is_set() {
        let second = 1_000_000_000;
        for (at, whole) in [(5, true), (6, false)] {
            let mut fragments = Fragments::new(&limits(1 << 20, 5));
            fragments.push(key(1), 0, true, &[1; 8], Timestamp(0));
            fragments.push(key(2), 0, true, &[2; 8], Timestamp(second));
            // Added to, it is no longer the one that waited longest without a word.
            fragments.push(key(1), 16, true, &[1; 8], Timestamp(2 * second));
            fragments.push(key(1), 24, false, &[1; 8], Timestamp(3 * second));
            let rest = fragments.push(key(1), 8, true, &[1; 8], Timestamp(at * second));
            assert_eq!((rest.is_some(), fragments.counters.expired), (whole, u64::from(!whole)));
        }
    }
}
