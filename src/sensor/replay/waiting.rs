//! Facts that wait for what may still come before them.

use crossbeam_channel::Receiver;

use crate::capture::near;
use crate::flow::Moment;
use crate::protocol::Fact;
use crate::sensor::merge::Merge;
use crate::sensor::worker::Placed;

/// How many facts before it is handed on the memory of one is asked for.
const SOON: usize = 8;

/// What a worker finished.
pub(super) struct Results {
    /// Its number.
    pub(super) worker: usize,
    /// In order, which leaves less to the one thread that merges.
    pub(super) placed: Vec<Placed>,
    /// The moment before which it finishes nothing more.
    pub(super) until: Moment,
}

/// Facts of one worker, in no order yet.
#[derive(Default)]
pub(super) struct Waiting {
    facts: Vec<Placed>,
}

impl Waiting {
    /// Where more facts are put.
    pub(super) fn more(&mut self) -> &mut Vec<Placed> {
        &mut self.facts
    }

    /// Hands on, in order, what comes before a moment.
    pub(super) fn release(&mut self, moment: Moment, fact: &mut impl FnMut(Fact)) {
        if self.facts.is_empty() {
            return;
        }
        self.facts.sort_by_key(Placed::key);
        let ready = self.facts.partition_point(|placed| placed.moment < moment);
        self.hand_on(ready, fact);
    }

    /// Hands on, in order, what is left.
    pub(super) fn release_all(&mut self, fact: &mut impl FnMut(Fact)) {
        self.facts.sort_by_key(Placed::key);
        self.hand_on(self.facts.len(), fact);
    }

    fn hand_on(&mut self, ready: usize, fact: &mut impl FnMut(Fact)) {
        let mut ready = self.facts.drain(..ready);
        while let Some(placed) = ready.next() {
            // Where many connections end at once, their facts have gone far by now.
            if let Some(Placed { fact: Fact::Flow(flow), .. }) = ready.as_slice().get(SOON) {
                near::fetch::<4, _>(&**flow);
            }
            fact(placed.fact);
        }
    }
}

/// Facts of several workers, and how far each has come.
pub(super) struct Merging {
    facts: Merge,
    come: Vec<Moment>,
}

impl Merging {
    pub(super) fn new(workers: usize) -> Self {
        Self { facts: Merge::new(workers), come: vec![Moment::default(); workers] }
    }

    /// Hands on, in order, what the workers finish, as far as every one of them has come, until none finishes any more; then
    /// the rest. `each` is called whenever one has come further.
    ///
    /// It takes what comes from any of them, so that none waits for another to be heard.
    pub(super) fn run(mut self, from: &Receiver<Results>, fact: &mut impl FnMut(Fact), mut each: impl FnMut()) {
        for Results { worker, placed, until } in from {
            self.facts.put(worker, placed);
            self.come.get_mut(worker).into_iter().for_each(|come| *come = until);
            let come = self.come.iter().min().copied().unwrap_or_default();
            while let Some(placed) = self.facts.next_if(|placed| placed.moment < come) {
                fact(placed.fact);
            }
            each();
        }
        while let Some(placed) = self.facts.next_if(|_| true) {
            fact(placed.fact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Address, Span, Timestamp};
    use crate::protocol::Name;

    fn moment(seconds: u64) -> Moment {
        Moment { clock: Timestamp::from_parts(seconds, 0), by_packet: false, index: 0 }
    }

    fn results(worker: usize, seconds: &[u64], until: u64) -> Results {
        let placed = |seconds: &u64| {
            let (address, told) = (Address::v4([10, 0, 0, 5]), Timestamp::from_parts(*seconds, 0));
            let name = Name { host: address, address, name: "a.example".into(), told, ttl: Span(1) };
            Placed { moment: moment(*seconds), lane: worker, fact: Fact::Name(Box::new(name)) }
        };
        Results { worker, placed: seconds.iter().map(placed).collect(), until: moment(until) }
    }

    #[test]
    fn facts_go_on_in_order_once_every_worker_has_come_further() {
        let (to, from) = crossbeam_channel::unbounded();
        // The first worker is ahead; and what it finishes next comes before what of it waits already.
        let told = [results(0, &[1, 4, 9], 3), results(1, &[2, 3], 3), results(0, &[3, 5], 6), results(1, &[7], 8)];
        told.into_iter().for_each(|results| to.send(results).unwrap());
        drop(to);
        let (seen, steps) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
        let mut fact = |fact| {
            if let Fact::Name(name) = fact {
                seen.borrow_mut().push(name.told.0 / 1_000_000_000);
            }
        };
        Merging::new(2).run(&from, &mut fact, || steps.borrow_mut().push(seen.borrow().len()));
        assert_eq!(seen.into_inner(), [1, 2, 3, 3, 4, 5, 7, 9]);
        assert_eq!(steps.into_inner(), [0, 2, 2, 6]);
    }
}
