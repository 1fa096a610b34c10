//! Stretches of a stream that arrived before their turn.
//!
//! Knows offsets and bytes, nothing of TCP. Stretches never overlap: where a new one covers an old one, the
//! old one's bytes stay.

use std::collections::BTreeMap;

use crate::net::Timestamp;

/// What one stretch costs beside its bytes, so that many tiny ones are not free.
pub(super) const OVERHEAD: usize = 64;

/// A stretch that waits.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Empty if the stretch is known to be lost (cut by the snap length).
    pub(super) bytes: Box<[u8]>,
    pub(super) ts: Timestamp,
    /// Place in the input of the packet that brought it.
    pub(super) index: u64,
}

impl Stretch {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// The stretches of one direction, by offset.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// By `start`, not overlapping, none empty. A tree, so that a flood of tiny stretches costs no more each.
    stretches: BTreeMap<u64, Stretch>,
    cost: usize,
}

/// What putting a stretch in did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Put {
    /// Bytes of memory that it took.
    pub(super) cost: usize,
    /// Bytes that were there already.
    pub(super) duplicate: u64,
    /// Some bytes that were there already are different.
    pub(super) conflict: bool,
}

impl Assembler {
    /// Puts in what is new of `[start, start + bytes.len())`.
    pub(super) fn put(&mut self, start: u64, bytes: &[u8], ts: Timestamp, index: u64) -> Put {
        self.insert(start, start + bytes.len() as u64, Some(bytes), ts, index)
    }

    /// Puts in a stretch that is known to be lost.
    pub(super) fn put_lost(&mut self, start: u64, length: u64, ts: Timestamp, index: u64) -> Put {
        self.insert(start, start + length, None, ts, index)
    }

    fn insert(&mut self, start: u64, end: u64, bytes: Option<&[u8]>, ts: Timestamp, index: u64) -> Put {
        let mut put = Put::default();
        let mut at = start;
        let part = |from: u64, to: u64| {
            bytes.map_or(&[][..], |b| b.get((from - start) as usize..(to - start) as usize).unwrap_or_default())
        };
        while at < end {
            let before = self.stretches.range(..=at).next_back().map(|(_, stretch)| stretch);
            let Some(there) = before.filter(|stretch| stretch.end > at) else {
                let next = self.stretches.range(at..).next();
                let room_end = next.map_or(end, |(start, _)| end.min(*start));
                let stretch = Stretch { start: at, end: room_end, bytes: part(at, room_end).into(), ts, index };
                put.cost += stretch.cost();
                self.stretches.insert(at, stretch);
                at = room_end;
                continue;
            };
            let covered = there.end.min(end);
            put.duplicate += covered - at;
            let (from, to) = ((at - there.start) as usize, (covered - there.start) as usize);
            let new = part(at, covered);
            if let Some(old) = there.bytes.get(from..to)
                && !new.is_empty()
                && old != new
            {
                put.conflict = true;
            }
            at = covered;
        }
        self.cost += put.cost;
        put
    }

    /// The first stretch.
    pub(super) fn first(&self) -> Option<&Stretch> {
        self.stretches.first_key_value().map(|(_, stretch)| stretch)
    }

    /// Takes the first stretch out.
    pub(super) fn pop(&mut self) -> Option<Stretch> {
        let (_, stretch) = self.stretches.pop_first()?;
        self.cost -= stretch.cost();
        Some(stretch)
    }

    /// Bytes of memory held.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Moves every offset down by `by`, which is at most the first stretch's start.
    pub(super) fn shift_down(&mut self, by: u64) {
        let stretches = std::mem::take(&mut self.stretches).into_values();
        let shifted = stretches.map(|s| (s.start - by, Stretch { start: s.start - by, end: s.end - by, ..s }));
        self.stretches = shifted.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(a: &mut Assembler, start: u64, bytes: &[u8]) -> Put {
        a.put(start, bytes, Timestamp(0), 0)
    }

    #[test]
    fn the_first_data_wins_and_a_conflict_is_told() {
        let mut a = Assembler::default();
        assert!(!put(&mut a, 10, b"bbb").conflict);
        let second = put(&mut a, 8, b"aaaaaaa");
        assert!(second.conflict);
        assert_eq!(second.duplicate, 3);
        let all: Vec<u8> = std::iter::from_fn(|| a.pop()).flat_map(|s| s.bytes.to_vec()).collect();
        assert_eq!(all, b"aabbbaa");
        assert_eq!(a.cost(), 0);
    }

    #[test]
    fn the_same_bytes_again_are_no_conflict() {
        let mut a = Assembler::default();
        put(&mut a, 0, b"hello");
        let again = put(&mut a, 1, b"ell");
        assert_eq!(again, Put { cost: 0, duplicate: 3, conflict: false });
    }

    #[test]
    fn a_flood_of_tiny_stretches_from_both_ends_to_the_middle_costs_the_same_each() {
        let mut a = Assembler::default();
        let started = std::time::Instant::now();
        for n in 0..100_000 {
            put(&mut a, 2 * n, b"x");
            put(&mut a, 1_000_000 - 2 * n, b"x");
        }
        // It takes a tenth of a second; with a memory move each it took many.
        assert!(started.elapsed().as_secs() < 5);
    }

    proptest! {
        #[test]
        fn stretches_never_overlap_and_keep_the_first_bytes(
            parts in prop::collection::vec((0u64..64, prop::collection::vec(any::<u8>(), 1..16)), 1..24)
        ) {
            let mut a = Assembler::default();
            let mut reference = vec![None; 96];
            for (start, bytes) in &parts {
                put(&mut a, *start, bytes);
                for (n, byte) in bytes.iter().enumerate() {
                    reference[*start as usize + n].get_or_insert(*byte);
                }
            }
            let mut seen = vec![None; 96];
            let mut last = 0;
            while let Some(s) = a.pop() {
                prop_assert!(s.start >= last && s.end > s.start);
                last = s.end;
                for (n, byte) in s.bytes.iter().enumerate() {
                    seen[s.start as usize + n] = Some(*byte);
                }
            }
            prop_assert_eq!(seen, reference);
            prop_assert_eq!(a.cost(), 0);
        }
    }
}
