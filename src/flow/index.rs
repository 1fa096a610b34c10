//! Which flow a five-tuple belongs to: hash tags to handles.
//!
//! A tag is 32 bits of a seeded hash, enough to be right by itself almost always, so that a flow's memory can be
//! asked for before anybody looks at it; whoever finds a handle still compares the five-tuple. Open addressing with
//! linear probing: a look-up touches one cache line as a rule, and its place is known beforehand.

use crate::capture::near;

/// No handle.
pub(super) const NOBODY: u32 = u32::MAX;

/// Handles by tag.
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two of them.
    slots: Vec<Slot>,
    len: usize,
}

/// Free if the handle is [`NOBODY`].
#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    handle: u32,
}

const FREE: Slot = Slot { tag: 0, handle: NOBODY };

impl Default for Index {
    fn default() -> Self {
        Self { slots: vec![FREE; 64], len: 0 }
    }
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
        let mut place = tag as usize;
        loop {
            let slot = self.slot(place);
            if slot.handle == NOBODY {
                return None;
            }
            if slot.tag == tag && same(slot.handle) {
                return Some(slot.handle);
            }
            place = place.wrapping_add(1);
        }
    }

    /// Adds a handle that is not there yet.
    pub(super) fn insert(&mut self, tag: u32, handle: u32) {
        // At most five eighths are taken, so that probing stays short.
        if (self.len + 1) * 8 > self.slots.len() * 5 {
            let twice = vec![FREE; self.slots.len() * 2];
            let old = std::mem::replace(&mut self.slots, twice);
            old.into_iter().filter(|slot| slot.handle != NOBODY).for_each(|slot| self.place(slot));
        }
        self.place(Slot { tag, handle });
        self.len += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mut place = slot.tag as usize;
        while self.slot(place).handle != NOBODY {
            place = place.wrapping_add(1);
        }
        self.set(place, slot);
    }

    /// Forgets a handle.
    pub(super) fn remove(&mut self, tag: u32, handle: u32) {
        let mut hole = tag as usize;
        while self.slot(hole).handle != handle {
            if self.slot(hole).handle == NOBODY {
                return;
            }
            hole = hole.wrapping_add(1);
        }
        // What was pushed behind it by the lack of room moves up.
        let mask = self.slots.len() - 1;
        let mut place = hole;
        loop {
            place = place.wrapping_add(1);
            let slot = self.slot(place);
            if slot.handle == NOBODY {
                break;
            }
            let wanted = slot.tag as usize & mask;
            let from_wanted = place.wrapping_sub(wanted) & mask;
            let from_hole = place.wrapping_sub(hole) & mask;
            if from_wanted >= from_hole {
                self.set(hole, slot);
                hole = place;
            }
        }
        self.set(hole, FREE);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn handles_are_found_as_in_a_plain_map(steps in prop::collection::vec((any::<bool>(), 0u32..120), 0..600)) {
            let mut index = Index::default();
            let mut plain: HashMap<u32, u32> = HashMap::new();
            for (add, n) in steps {
                // Few tags, near the end of the table too, so that they crowd.
                let tag = u32::wrapping_sub(n % 9, 4);
                if add && !plain.contains_key(&n) {
                    index.insert(tag, n);
                    plain.insert(n, tag);
                } else if !add && let Some(tag) = plain.remove(&n) {
                    index.remove(tag, n);
                }
                prop_assert_eq!(index.len(), plain.len());
            }
            for n in 0..120 {
                let tag = u32::wrapping_sub(n % 9, 4);
                prop_assert_eq!(index.find(tag, |handle| handle == n), plain.contains_key(&n).then_some(n));
            }
        }
    }
}
