//! Facts of several threads, in the order of the moments that caused them, and late enough for what endpoints report.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::outlet::Found;
use crate::flow::Moment;
use crate::net::{Span, Timestamp};
use crate::protocol::Fact;
use crate::sensor::worker::Placed;

/// Facts that wait.
pub(super) struct Order {
    waiting: BinaryHeap<Reverse<Waiting>>,
    most: usize,
    arrivals: u64,
    /// Facts that had to go before their time.
    pub(super) early: u64,
}

/// Ordered by its key alone.
struct Waiting {
    key: (Moment, usize, usize, u64),
    fact: Fact,
}

impl Order {
    /// Keeps at most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: BinaryHeap::new(), most: most.max(1), arrivals: 0, early: 0 }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn put(&mut self, found: Found) {
        let Found { thread, placed } = found;
        for Placed { moment, lane, fact } in placed {
            // As in a replay: by moment and lane; within these, as they were found.
            let key = (moment, lane, thread, self.arrivals);
            self.arrivals += 1;
            self.waiting.push(Reverse(Waiting { key, fact }));
        }
    }

    /// The next fact whose moment is `grace` before `clock`, or for which there is no room.
    pub(super) fn next(&mut self, clock: Timestamp, grace: Span) -> Option<Fact> {
        let due = self.waiting.peek().is_some_and(|Reverse(first)| first.key.0.clock.after(grace) < clock);
        if !due {
            if self.waiting.len() <= self.most {
                return None;
            }
            self.early += 1;
        }
        self.next_of_all()
    }

    /// The next fact, due or not.
    pub(super) fn next_of_all(&mut self) -> Option<Fact> {
        self.waiting.pop().map(|Reverse(first)| first.fact)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;
    use crate::protocol::Name;

    fn found(thread: usize, seconds: u64) -> Found {
        let address = Address::v4([10, 0, 0, 5]);
        let told = Timestamp::from_parts(seconds, 0);
        let name = Name { host: address, address, name: "a.example".into(), told, ttl: Span(1) };
        let moment = Moment { clock: told, by_packet: true, index: 0 };
        Found { thread, placed: vec![Placed { moment, lane: 0, fact: Fact::Name(Box::new(name)) }] }
    }

    fn told(fact: Option<Fact>) -> Option<u64> {
        match fact {
            Some(Fact::Name(name)) => Some(name.told.0 / 1_000_000_000),
            _ => None,
        }
    }

    #[test]
    fn facts_come_in_the_order_of_time_once_the_grace_is_over() {
        let mut order = Order::new(100);
        for (thread, seconds) in [(0, 10), (1, 9), (0, 12), (1, 11)] {
            order.put(found(thread, seconds));
        }
        let mut next = |clock| told(order.next(Timestamp::from_parts(clock, 0), Span::seconds(5)));
        assert_eq!((next(14), next(15), next(16), next(16)), (None, Some(9), Some(10), None));
        assert_eq!((told(order.next_of_all()), told(order.next_of_all())), (Some(11), Some(12)));
        assert_eq!(order.early, 0);
    }

    #[test]
    fn where_too_many_wait_the_oldest_goes_early_and_is_counted() {
        let mut order = Order::new(2);
        for seconds in [3, 1, 2] {
            order.put(found(0, seconds));
        }
        assert_eq!(told(order.next(Timestamp(0), Span::seconds(5))), Some(1));
        assert_eq!(told(order.next(Timestamp(0), Span::seconds(5))), None);
        assert_eq!(order.early, 1);
    }
}
