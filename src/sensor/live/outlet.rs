//! From a capture thread to the thread that judges: facts over a bounded channel, on which capture never waits.

use std::time::Instant;

use crossbeam_channel::{SendTimeoutError, Sender, TrySendError};

use crate::protocol::Fact;
use crate::sensor::worker::Placed;

/// Facts that the judging thread was too slow for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Flow records.
    pub flows: u64,
    /// Names from DNS.
    pub names: u64,
    /// Uploads.
    pub uploads: u64,
}

/// A fact and the thread that found it.
pub(super) struct Found {
    pub(super) thread: usize,
    pub(super) placed: Placed,
}

/// One thread's way out.
pub(super) struct Outlet {
    thread: usize,
    to: Sender<Found>,
    /// From this many on, only uploads are taken.
    crowded: usize,
    pub(super) dropped: Dropped,
}

impl Outlet {
    pub(super) fn new(thread: usize, to: Sender<Found>) -> Self {
        let crowded = to.capacity().unwrap_or(usize::MAX) / 4 * 3;
        Self { thread, to, crowded, dropped: Dropped::default() }
    }

    /// Sends what there is room for; counts the rest.
    pub(super) fn send(&mut self, facts: impl Iterator<Item = Placed>) {
        for placed in facts {
            if !matches!(placed.fact, Fact::Upload(_)) && self.to.len() >= self.crowded {
                self.drop(&placed.fact);
                continue;
            }
            match self.to.try_send(Found { thread: self.thread, placed }) {
                Ok(()) => {}
                Err(TrySendError::Full(found) | TrySendError::Disconnected(found)) => self.drop(&found.placed.fact),
            }
        }
    }

    /// Sends everything: nothing is captured any more, so the thread may wait, until then.
    pub(super) fn send_last(&mut self, facts: impl Iterator<Item = Placed>, until: Instant) {
        for placed in facts {
            let left = until.saturating_duration_since(Instant::now());
            match self.to.send_timeout(Found { thread: self.thread, placed }, left) {
                Ok(()) => {}
                Err(SendTimeoutError::Timeout(found) | SendTimeoutError::Disconnected(found)) => {
                    self.drop(&found.placed.fact);
                }
            }
        }
    }

    fn drop(&mut self, fact: &Fact) {
        *match fact {
            Fact::Flow(_) => &mut self.dropped.flows,
            Fact::Name(_) => &mut self.dropped.names,
            Fact::Upload(_) => &mut self.dropped.uploads,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Moment;
    use crate::net::{Address, Span, Timestamp};
    use crate::protocol::Name;

    fn name() -> Placed {
        let address = Address::v4([10, 0, 0, 5]);
        let name = Name { host: address, address, name: "a.example".into(), told: Timestamp(0), ttl: Span(1) };
        Placed { moment: Moment::default(), lane: 0, fact: Fact::Name(Box::new(name)) }
    }

    #[test]
    fn a_full_channel_is_counted_and_never_waited_for() {
        let (to, from) = crossbeam_channel::bounded(8);
        let mut outlet = Outlet::new(0, to);
        outlet.send((0..10).map(|_| name()));
        // The last quarter is kept for uploads.
        assert_eq!((from.len(), outlet.dropped), (6, Dropped { names: 4, ..Dropped::default() }));
        outlet.send_last((0..10).map(|_| name()), Instant::now());
        assert_eq!((from.len(), outlet.dropped.names), (8, 12));
    }
}
