//! Reassembly of IP fragments (RFC 791 section 3.2, RFC 8200 section 4.5), bounded in bytes and time.
//!
//! Fragments come in; a whole payload goes out when its last hole closes. Where fragments overlap, the
//! first bytes win and the overlap is counted (RFC 5722 forbids them for IPv6; hosts differ).

use lru::LruCache;

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
    /// Incomplete packets given up, for want of room, after thirty seconds, or because the input ended.
    pub abandoned: u64,
}

impl FragmentCounters {
    /// Adds the counts of another decoder.
    pub fn add(&mut self, other: &Self) {
        self.reassembled += other.reassembled;
        self.overlaps += other.overlaps;
        self.abandoned += other.abandoned;
    }
}

/// The longest a packet waits for its rest (RFC 8200 section 4.5 says 60 s, hosts use 30 s).
const PATIENCE: Span = Span::seconds(30);
/// The most bytes held, all packets together.
const MEMORY: usize = 16 << 20;
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
    counters: FragmentCounters,
}

impl Default for Fragments {
    fn default() -> Self {
        Self { waiting: LruCache::unbounded(), held: 0, counters: FragmentCounters::default() }
    }
}

impl Fragments {
    pub(super) fn counters(&self) -> &FragmentCounters {
        &self.counters
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
        self.expire(clock);
        let end = offset.checked_add(bytes.len()).filter(|end| *end <= LARGEST)?;
        let mut partial = match self.waiting.pop(&key) {
            Some(partial) => {
                self.held -= partial.cost;
                partial
            }
            // Fragments without a byte would be free otherwise.
            None => Partial { pieces: Vec::new(), length: None, since: clock, cost: 2 * OVERHEAD },
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
        while self.held > MEMORY {
            self.abandon();
        }
        None
    }

    fn expire(&mut self, clock: Timestamp) {
        while let Some((_, oldest)) = self.waiting.peek_lru() {
            if clock.since(oldest.since) <= PATIENCE {
                break;
            }
            self.abandon();
        }
    }

    /// The input is over: what is not whole never will be.
    pub(super) fn finish(&mut self) {
        while !self.waiting.is_empty() {
            self.abandon();
        }
    }

    fn abandon(&mut self) {
        if let Some((_, partial)) = self.waiting.pop_lru() {
            self.held -= partial.cost;
            self.counters.abandoned += 1;
        }
    }
}

impl Partial {
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

    #[test]
    fn fragments_without_a_byte_are_not_free() {
        let mut fragments = Fragments::default();
        let address = Address::v4([10, 0, 0, 1]);
        for id in 0..200_000 {
            let key = FragmentKey { source: address, destination: address, id, protocol: 17 };
            fragments.push(key, 0, true, &[], Timestamp(0));
        }
        assert!(fragments.waiting.len() <= MEMORY / OVERHEAD);
        assert!(fragments.counters.abandoned > 0);
    }
}
