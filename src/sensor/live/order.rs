//! Facts of several threads, in the order of the moments that caused them, and late enough for what endpoints report.

use super::outlet::Found;
use crate::net::{Span, Timestamp};
use crate::protocol::Fact;
use crate::sensor::merge::Merge;

/// Facts that wait.
pub(super) struct Order {
    waiting: Merge,
    most: usize,
    /// Facts that had to go before their time.
    pub(super) early: u64,
}

impl Order {
    /// Of so many threads; keeps at most `most`.
    pub(super) fn new(threads: usize, most: usize) -> Self {
        Self { waiting: Merge::new(threads), most: most.max(1), early: 0 }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts them in order, as in a replay: by moment and lane; within these, as they were found.
    pub(super) fn put(&mut self, found: Found) {
        self.waiting.put(found.thread, found.placed);
    }

    /// The next fact whose moment is `grace` before `clock`, or for which there is no room.
    pub(super) fn next(&mut self, clock: Timestamp, grace: Span) -> Option<Fact> {
        if let Some(due) = self.waiting.next_if(|first| first.moment.clock.after(grace) < clock) {
            return Some(due.fact);
        }
        if self.waiting.len() <= self.most {
            return None;
        }
        self.early += 1;
        self.next_of_all()
    }

    /// The next fact, due or not.
    pub(super) fn next_of_all(&mut self) -> Option<Fact> {
        self.waiting.next_if(|_| true).map(|first| first.fact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Moment;
    use crate::net::Address;
    use crate::protocol::Name;
    use crate::sensor::worker::Placed;

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
        let mut order = Order::new(2, 100);
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
        let mut order = Order::new(1, 2);
        for seconds in [3, 1, 2] {
            order.put(found(0, seconds));
        }
        assert_eq!(told(order.next(Timestamp(0), Span::seconds(5))), Some(1));
        assert_eq!(told(order.next(Timestamp(0), Span::seconds(5))), None);
        assert_eq!(order.early, 1);
    }
}
