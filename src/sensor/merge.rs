//! Facts of several threads, each one's in order, as one.

use std::collections::VecDeque;

use super::worker::Placed;

/// Facts that wait, by the thread that found them. Where several have the same place, the first thread's come first.
pub(super) struct Merge {
    queues: Vec<VecDeque<Placed>>,
}

impl Merge {
    /// Of so many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self { queues: std::iter::repeat_with(VecDeque::new).take(threads).collect() }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Adds what a thread found, in any order. It seldom comes before what waits already.
    pub(super) fn put(&mut self, thread: usize, mut placed: Vec<Placed>) {
        placed.sort_by_key(Placed::key);
        let (Some(queue), Some(first)) = (self.queues.get_mut(thread), placed.first().map(Placed::key)) else { return };
        let mut behind: Vec<Placed> = Vec::new();
        while queue.back().is_some_and(|last| last.key() > first) {
            behind.extend(queue.pop_back());
        }
        if !behind.is_empty() {
            behind.reverse();
            behind.append(&mut placed);
            behind.sort_by_key(Placed::key);
            placed = behind;
        }
        queue.extend(placed);
    }

    /// The next fact, if it may go.
    pub(super) fn next_if(&mut self, may: impl Fn(&Placed) -> bool) -> Option<Placed> {
        let heads = self.queues.iter_mut().filter(|queue| !queue.is_empty());
        let first = heads.min_by_key(|queue| queue.front().map(Placed::key))?;
        if first.front().is_some_and(may) { first.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::Moment;
    use crate::net::{Address, Span, Timestamp};
    use crate::protocol::{Fact, Name};

    /// A fact of a second and a lane, with a number that tells it from others.
    fn placed(second: u64, lane: usize, number: usize) -> Placed {
        let (address, told) = (Address::v4([10, 0, 0, 5]), Timestamp::from_parts(second, 0));
        let name = Name { host: address, address, name: number.to_string(), told, ttl: Span(1) };
        let moment = Moment { clock: told, by_packet: false, index: 0 };
        Placed { moment, lane, fact: Fact::Name(Box::new(name)) }
    }

    fn number(placed: &Placed) -> usize {
        match &placed.fact {
            Fact::Name(name) => name.name.parse().unwrap(),
            _ => usize::MAX,
        }
    }

    proptest! {
        #[test]
        fn facts_come_by_their_place_then_by_thread_then_as_they_were_found(
            found in prop::collection::vec((0..3_usize, prop::collection::vec((0..9_u64, 0..2_usize), 0..6)), 0..12)
        ) {
            let mut merge = Merge::new(3);
            let (mut expected, mut count) = (Vec::new(), 0);
            for (thread, places) in found {
                let mut facts = Vec::new();
                for (second, lane) in places {
                    expected.push(((second, lane, thread), count));
                    facts.push(placed(second, lane, count));
                    count += 1;
                }
                merge.put(thread, facts);
            }
            expected.sort_by_key(|(place, _)| *place);
            prop_assert_eq!(merge.len(), count);
            let mut seen = Vec::new();
            for second in 1..=9 {
                let before = |placed: &Placed| placed.moment.clock < Timestamp::from_parts(second, 0);
                while let Some(next) = merge.next_if(before) {
                    prop_assert!(before(&next));
                    seen.push(number(&next));
                }
                let due = expected.iter().filter(|((other, ..), _)| *other < second).count();
                prop_assert_eq!(seen.len(), due);
            }
            prop_assert_eq!(seen, expected.into_iter().map(|(_, number)| number).collect::<Vec<_>>());
        }
    }
}
