//! Facts that wait for what may still come before them.

use crossbeam_channel::Receiver;

use crate::flow::Moment;
use crate::protocol::Fact;
use crate::sensor::worker::Placed;

/// What a worker finished.
pub(super) struct Results {
    /// Its number.
    pub(super) worker: usize,
    pub(super) placed: Vec<Placed>,
    /// The moment before which it finishes nothing more.
    pub(super) until: Moment,
}

/// Facts in no order yet.
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
        self.facts.drain(..ready).for_each(|placed| fact(placed.fact));
    }

    /// Hands on, in order, what is left.
    pub(super) fn release_all(&mut self, fact: &mut impl FnMut(Fact)) {
        self.facts.sort_by_key(Placed::key);
        self.facts.drain(..).for_each(|placed| fact(placed.fact));
    }

    /// Hands on what so many workers finish, as far as every one of them has come, until none finishes any more.
    /// `each` is called whenever one has come further.
    ///
    /// It takes what comes from any of them, so that none waits for another to be heard.
    pub(super) fn merge(
        &mut self,
        workers: usize,
        from: &Receiver<Results>,
        fact: &mut impl FnMut(Fact),
        mut each: impl FnMut(),
    ) {
        let mut come = vec![Moment::default(); workers];
        for Results { worker, placed, until } in from {
            self.facts.extend(placed);
            if let Some(moment) = come.get_mut(worker) {
                *moment = until;
            }
            if let Some(&moment) = come.iter().min() {
                self.release(moment, fact);
            }
            each();
        }
    }
}
