//! From a capture thread to the thread that judges: facts over a channel, on which capture never waits. How many may be
//! under way is bounded for all threads together.
//!
//! They go in batches. To wake the judging thread for every fact, or for what every block of a ring brings, takes both
//! threads longer than to find and to judge it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::protocol::Fact;
use crate::sensor::worker::Placed;

/// As many facts are handed over at once, or fewer where threads could keep a good part of the room to themselves.
const ENOUGH: usize = 1024;

/// Fewer are, once the first of them has waited for so long.
const SOON: Duration = Duration::from_millis(10);

/// How often a thread that may wait looks whether there is room again.
const LOOK: Duration = Duration::from_millis(1);

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

/// Facts and the thread that found them.
pub(super) struct Found {
    pub(super) thread: usize,
    pub(super) placed: Vec<Placed>,
}

/// The way of the facts of so many threads, which has room for `most` at most.
pub(super) fn channel(most: usize, threads: usize) -> (Way, Inlet) {
    let (to, from) = unbounded();
    let under_way = Arc::new(AtomicUsize::new(0));
    let enough = (most / 8 / threads.max(1)).clamp(1, ENOUGH);
    (Way { to, under_way: Arc::clone(&under_way), most, enough }, Inlet { from, under_way, most })
}

/// Where outlets are made.
#[derive(Clone)]
pub(super) struct Way {
    to: Sender<Found>,
    /// Facts that were found and not yet taken.
    under_way: Arc<AtomicUsize>,
    most: usize,
    /// As many are handed over at once.
    enough: usize,
}

/// Where facts are taken.
pub(super) struct Inlet {
    from: Receiver<Found>,
    under_way: Arc<AtomicUsize>,
    /// How many facts there is room for.
    pub(super) most: usize,
}

/// One thread's way out.
pub(super) struct Outlet {
    thread: usize,
    way: Way,
    gathered: Vec<Placed>,
    /// When the first of them was found.
    since: Instant,
    pub(super) dropped: Dropped,
}

impl Inlet {
    /// What a thread handed over; nothing if none does within `wait`, or there is none any more.
    pub(super) fn take(&self, wait: Duration) -> Option<Found> {
        let found = match wait {
            // To wait for no time would take some.
            Duration::ZERO => self.from.try_recv().ok()?,
            wait => self.from.recv_timeout(wait).ok()?,
        };
        self.under_way.fetch_sub(found.placed.len(), Ordering::Relaxed);
        Some(found)
    }

    /// How many facts were found and not yet taken.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

impl Way {
    /// Whether there is room for one more. Threads that look at the same moment may be over it by one each.
    fn has_room(&self, upload: bool) -> bool {
        // From three quarters on only uploads are taken.
        let most = if upload { self.most } else { self.most / 4 * 3 };
        self.under_way.load(Ordering::Relaxed) < most
    }
}

impl Outlet {
    pub(super) fn new(thread: usize, way: Way) -> Self {
        Self { thread, way, gathered: Vec::new(), since: Instant::now(), dropped: Dropped::default() }
    }

    /// Takes what there is room for, and hands it over where that is enough; counts the rest.
    pub(super) fn put(&mut self, facts: impl Iterator<Item = Placed>) {
        for placed in facts {
            if !self.way.has_room(matches!(placed.fact, Fact::Upload(_))) {
                self.drop(&placed.fact);
                continue;
            }
            self.way.under_way.fetch_add(1, Ordering::Relaxed);
            if self.gathered.is_empty() {
                self.since = Instant::now();
            }
            self.gathered.push(placed);
            if self.gathered.len() >= self.way.enough {
                self.hand_over();
            }
        }
    }

    /// Within which time what was gathered is to be handed over; nothing if nothing was.
    pub(super) fn due_within(&self) -> Option<Duration> {
        (!self.gathered.is_empty()).then(|| SOON.saturating_sub(self.since.elapsed()))
    }

    /// Hands over what was gathered.
    pub(super) fn hand_over(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        // As much room again, since as much will likely be found.
        let next = Vec::with_capacity(self.gathered.len());
        let found = Found { thread: self.thread, placed: std::mem::replace(&mut self.gathered, next) };
        if let Err(refused) = self.way.to.send(found) {
            let placed = refused.into_inner().placed;
            self.way.under_way.fetch_sub(placed.len(), Ordering::Relaxed);
            placed.iter().for_each(|placed| self.drop(&placed.fact));
        }
    }

    /// Hands over everything: nothing is captured any more, so the thread may wait, until then.
    pub(super) fn put_last(&mut self, facts: impl Iterator<Item = Placed>, until: Instant) {
        for placed in facts {
            if !self.way.has_room(false) {
                self.hand_over();
            }
            while !self.way.has_room(false) && Instant::now() < until {
                std::thread::sleep(LOOK);
            }
            self.put(std::iter::once(placed));
        }
        self.hand_over();
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

    fn placed(fact: Fact) -> Placed {
        Placed { moment: Moment::default(), lane: 0, fact }
    }

    fn name() -> Placed {
        let address = Address::v4([10, 0, 0, 5]);
        let name = Name { host: address, address, name: "a.example".into(), told: Timestamp(0), ttl: Span(1) };
        placed(Fact::Name(Box::new(name)))
    }

    fn upload() -> Placed {
        placed(Fact::Upload(Box::new(crate::join::tests::upload(1, &[]))))
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_never_waited_for() {
        let (way, inlet) = channel(64, 1);
        let mut outlet = Outlet::new(0, way);
        outlet.put((0..50).map(|_| name()));
        // The last quarter is kept for uploads.
        assert_eq!((inlet.under_way(), outlet.dropped), (48, Dropped { names: 2, ..Dropped::default() }));
        outlet.put((0..17).map(|_| upload()));
        assert_eq!((inlet.under_way(), outlet.dropped.uploads), (64, 1));
        let batches = || std::iter::from_fn(|| inlet.take(Duration::ZERO)).map(|found| found.placed.len());
        assert_eq!(batches().collect::<Vec<_>>(), [8; 8], "an eighth of the room at a time");
        assert_eq!(inlet.under_way(), 0);
        outlet.put((0..3).map(|_| name()));
        assert_eq!((batches().count(), inlet.under_way()), (0, 3), "what was not handed over counts, too");
        outlet.put_last((0..60).map(|_| name()), Instant::now());
        assert_eq!((batches().sum::<usize>(), outlet.dropped.names), (48, 2 + 15));
    }

    #[test]
    fn facts_are_handed_over_soon_and_many_at_once() {
        let (way, inlet) = channel(100_000, 2);
        let mut outlet = Outlet::new(0, way);
        assert_eq!(outlet.due_within(), None);
        outlet.put(std::iter::once(name()));
        assert!(outlet.due_within().is_some_and(|wait| wait <= SOON));
        std::thread::sleep(SOON);
        assert_eq!(outlet.due_within(), Some(Duration::ZERO));
        outlet.hand_over();
        outlet.put((0..=ENOUGH).map(|_| name()));
        let batches: Vec<usize> =
            std::iter::from_fn(|| inlet.take(Duration::ZERO)).map(|found| found.placed.len()).collect();
        assert_eq!((batches, inlet.under_way()), (vec![1, ENOUGH], 1));
    }

    #[test]
    fn at_the_end_a_thread_waits_for_room() {
        let (way, inlet) = channel(8, 1);
        let mut outlet = Outlet::new(0, way);
        let taken = std::thread::scope(|scope| {
            scope.spawn(|| outlet.put_last((0..100).map(|_| name()), Instant::now() + Duration::from_secs(60)));
            let batches = std::iter::from_fn(|| inlet.take(Duration::from_secs(10)));
            let mut taken = 0;
            batches
                .take_while(|found| {
                    taken += found.placed.len();
                    taken < 100
                })
                .for_each(drop);
            taken
        });
        assert_eq!((taken, outlet.dropped), (100, Dropped::default()));
    }

    #[test]
    fn what_nobody_takes_any_more_is_counted() {
        let (way, inlet) = channel(8, 1);
        drop(inlet);
        let mut outlet = Outlet::new(0, way);
        outlet.put(std::iter::once(name()));
        outlet.hand_over();
        assert_eq!(outlet.dropped.names, 1);
    }
}
