//! Which flow a five-tuple belongs to: hash tags to handles.
//!
//! A tag is 32 bits of a seeded hash. Of these, where a handle stands tells some, and eight are kept beside it: enough to
//! be right by itself nearly always, so that a flow's memory can be asked for before anybody looks at it; whoever finds a
//! handle still compares the five-tuple. Open addressing with linear probing: a look-up touches one cache line as a rule,
//! and its place is known beforehand. Every packet looks up a place at random, so what counts is how few pages of memory
//! all places take.

use crate::capture::near;

/// No handle.
pub(super) const NOBODY: u32 = u32::MAX;

/// How many handles there may be, from 0 on.
pub(super) const MOST: usize = GONE as usize & HANDLE as usize;

/// A handle, with eight bits of its tag above it; or one of the marks.
type Slot = u32;

/// The handle's bits in a slot.
const HANDLE: u32 = (1 << 24) - 1;

/// Nothing is here, nor was anything pushed further.
const FREE: Slot = u32::MAX;

/// Nothing is here any more, but what was pushed further may be.
const GONE: Slot = FREE - 1;

/// Handles by tag.
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two of them.
    slots: Vec<Slot>,
    /// The whole tags, by handle.
    tags: Vec<u32>,
    len: usize,
    /// How many slots are [`GONE`].
    gone: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self { slots: vec![FREE; 64], tags: Vec::new(), len: 0, gone: 0 }
    }
}

/// What of the tag is kept in a slot.
#[inline(always)]
fn kept(tag: u32) -> u32 {
    tag & !HANDLE
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn slot(&self, place: usize) -> Slot {
        self.slots.get(place & (self.slots.len() - 1)).copied().unwrap_or(FREE)
    }

    fn set(&mut self, place: usize, slot: Slot) {
        let mask = self.slots.len() - 1;
        if let Some(to) = self.slots.get_mut(place & mask) {
            *to = slot;
        }
    }

    /// Brings the place of the tag near.
    #[inline(always)]
    pub(super) fn fetch(&self, tag: u32) {
        if let Some(slot) = self.slots.get(tag as usize & (self.slots.len() - 1)) {
            near::fetch::<1, _>(slot);
        }
    }

    /// The most likely handle for the tag, unchecked, or [`NOBODY`].
    #[inline]
    pub(super) fn likely(&self, tag: u32) -> u32 {
        self.find(tag, |_| true).unwrap_or(NOBODY)
    }

    /// The handle with the tag for which `same` holds.
    #[inline]
    pub(super) fn find(&self, tag: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        self.place_of(tag, same).map(|place| self.slot(place) & HANDLE)
    }

    #[inline]
    fn place_of(&self, tag: u32, same: impl Fn(u32) -> bool) -> Option<usize> {
        let mut place = tag as usize;
        loop {
            let slot = self.slot(place);
            if slot == FREE {
                return None;
            }
            if kept(slot) == kept(tag) && slot != GONE && same(slot & HANDLE) {
                return Some(place);
            }
            place = place.wrapping_add(1);
        }
    }

    /// Adds a handle that is not there yet, below [`MOST`].
    pub(super) fn insert(&mut self, tag: u32, handle: u32) {
        // At most five eighths are taken, so that probing stays short.
        if (self.len + self.gone + 1) * 8 > self.slots.len() * 5 {
            self.rebuild();
        }
        if self.tags.len() <= handle as usize {
            self.tags.resize(handle as usize + 1, 0);
        }
        if let Some(known) = self.tags.get_mut(handle as usize) {
            *known = tag;
        }
        self.place(tag, handle);
        self.len += 1;
    }

    /// With more slots, unless those that are taken in vain are many.
    fn rebuild(&mut self) {
        let size = if self.gone > self.len / 2 { self.slots.len() } else { self.slots.len() * 2 };
        let old = std::mem::replace(&mut self.slots, vec![FREE; size]);
        self.gone = 0;
        for slot in old.into_iter().filter(|slot| *slot < GONE) {
            let handle = slot & HANDLE;
            let tag = self.tags.get(handle as usize).copied().unwrap_or_default();
            self.place(tag, handle);
        }
    }

    fn place(&mut self, tag: u32, handle: u32) {
        let mut place = tag as usize;
        while self.slot(place) < GONE {
            place = place.wrapping_add(1);
        }
        if self.slot(place) == GONE {
            self.gone -= 1;
        }
        self.set(place, kept(tag) | handle);
    }

    /// Forgets a handle.
    pub(super) fn remove(&mut self, tag: u32, handle: u32) {
        let Some(mut place) = self.place_of(tag, |known| known == handle) else { return };
        self.len -= 1;
        if self.slot(place.wrapping_add(1)) != FREE {
            self.set(place, GONE);
            self.gone += 1;
            return;
        }
        // Nothing was pushed further than this, nor than what has gone right before it.
        self.set(place, FREE);
        place = place.wrapping_sub(1);
        while self.slot(place) == GONE {
            self.set(place, FREE);
            self.gone -= 1;
            place = place.wrapping_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Few tags, near the end of the table too, so that they crowd, and with all that is kept of a mark.
    fn tag_of(n: u32) -> u32 {
        u32::wrapping_sub(n % 9, 4) ^ (n % 2) << 24
    }

    #[test]
    fn connections_that_come_and_go_leave_no_more_slots_than_are_needed() {
        let mut index = Index::default();
        for n in 0..1_000_000_u32 {
            let tag = |n: u32| n.wrapping_mul(0x9e37_79b9);
            index.insert(tag(n), n % 128);
            if let Some(old) = n.checked_sub(100) {
                index.remove(tag(old), old % 128);
            }
        }
        assert_eq!((index.len(), index.tags.len()), (100, 128));
        assert!(index.slots.len() <= 512, "{}", index.slots.len());
    }

    #[test]
    fn the_last_handle_is_none_of_the_marks() {
        let mut index = Index::default();
        let last = MOST as u32 - 1;
        index.insert(u32::MAX, last);
        assert_eq!(index.find(u32::MAX, |handle| handle == last), Some(last));
        assert_eq!((index.find(u32::MAX, |handle| handle == last - 1), index.likely(7)), (None, NOBODY));
        index.remove(u32::MAX, last);
        assert_eq!((index.likely(u32::MAX), index.gone), (NOBODY, 0));
    }

    proptest! {
        #[test]
        fn handles_are_found_as_in_a_plain_map(steps in prop::collection::vec((any::<bool>(), 0u32..120), 0..600)) {
            let mut index = Index::default();
            let mut plain: HashMap<u32, u32> = HashMap::new();
            for (add, n) in steps {
                let tag = tag_of(n);
                if add && !plain.contains_key(&n) {
                    index.insert(tag, n);
                    plain.insert(n, tag);
                } else if !add && let Some(tag) = plain.remove(&n) {
                    index.remove(tag, n);
                }
                prop_assert_eq!(index.len(), plain.len());
                let count = |slot| index.slots.iter().filter(|known| **known == slot).count();
                prop_assert_eq!(index.gone, count(GONE));
                prop_assert_eq!(index.len + index.gone + count(FREE), index.slots.len());
            }
            for n in 0..120 {
                let tag = tag_of(n);
                prop_assert_eq!(index.find(tag, |handle| handle == n), plain.contains_key(&n).then_some(n));
            }
        }
    }
}
