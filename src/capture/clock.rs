//! The clock of the input: packet timestamps in, a time that never goes back out.
//!
//! Capture files hold timestamps that are plainly wrong: a card that was not yet synchronised, a damaged record.
//! One such packet must not throw every timer behind it years ahead, so a jump forward of more than a day is
//! believed only once the very next packet confirms it. The rule looks at the timestamps alone and so gives the
//! same answer in every run.

use crate::net::{Span, Timestamp};

/// The furthest that one packet alone may move the clock, and the furthest that a packet may lie from a doubted
/// one and still confirm it.
const LEAP: Span = Span::seconds(86_400);

/// The largest believable timestamp so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: Timestamp,
    doubted: Option<Timestamp>,
}

impl Clock {
    /// A clock that has yet to observe `first`, which `second` follows.
    ///
    /// A start too early heals with the next confirmed jump, a start too late never would: where the two lie more
    /// than a day apart, the earlier counts.
    pub(super) fn starting(first: Timestamp, second: Option<Timestamp>) -> Self {
        let now = match second {
            Some(second) if second.after(LEAP) < first => second,
            _ => first,
        };
        Self { now, doubted: None }
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// The time after a packet of time `ts`, judged by the packets up to it.
    #[inline]
    pub(super) fn observe(&mut self, ts: Timestamp) -> Timestamp {
        if ts.since(self.now) <= LEAP {
            self.now = self.now.max(ts);
            self.doubted = None;
        } else {
            self.leap(ts);
        }
        self.now
    }

    /// The time after a packet of time `ts` that `next` follows: a jump that `next` confirms is believed at once.
    #[inline]
    pub(super) fn observe_before(&mut self, ts: Timestamp, next: Option<Timestamp>) -> Timestamp {
        if ts.since(self.now) <= LEAP || next.is_some_and(|next| next.distance(ts) <= LEAP) {
            self.now = self.now.max(ts);
        }
        self.now
    }

    #[cold]
    fn leap(&mut self, ts: Timestamp) {
        match self.doubted {
            Some(doubted) if doubted.distance(ts) <= LEAP => {
                self.now = doubted.max(ts);
                self.doubted = None;
            }
            _ => self.doubted = Some(ts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000_000;

    fn clocks(times: &[u64]) -> Vec<u64> {
        let mut clock = Clock::starting(Timestamp(times[0]), times.get(1).map(|t| Timestamp(*t)));
        times.iter().map(|t| clock.observe(Timestamp(*t)).0).collect()
    }

    #[test]
    fn the_clock_is_the_largest_timestamp_so_far() {
        assert_eq!(clocks(&[5, 7, 6, 9]), [5, 7, 7, 9]);
        assert_eq!(clocks(&[5, 5 + DAY]), [5, 5 + DAY]);
    }

    #[test]
    fn one_wild_timestamp_does_not_move_the_clock() {
        assert_eq!(clocks(&[5, 900 * DAY, 6, 7]), [5, 5, 6, 7]);
        assert_eq!(clocks(&[5, 900 * DAY, 6, 900 * DAY, 7]), [5, 5, 6, 6, 7]);
        assert_eq!(clocks(&[5, 900 * DAY, 500 * DAY, 7]), [5, 5, 5, 7]);
    }

    #[test]
    fn a_jump_counts_once_the_next_packet_confirms_it() {
        assert_eq!(clocks(&[5, 9 * DAY, 9 * DAY + 1, 9 * DAY + 2]), [5, 5, 9 * DAY + 1, 9 * DAY + 2]);
        assert_eq!(clocks(&[5, 9 * DAY, 9 * DAY - 1]), [5, 5, 9 * DAY]);
    }

    #[test]
    fn a_wild_first_packet_does_not_start_the_clock() {
        assert_eq!(clocks(&[900 * DAY, 5, 6]), [5, 5, 6]);
        assert_eq!(clocks(&[9 * DAY, 0, 9 * DAY, 9 * DAY + 1]), [0, 0, 0, 9 * DAY + 1]);
        assert_eq!(clocks(&[u64::MAX]), [u64::MAX]);
    }

    #[test]
    fn with_the_next_packet_in_view_a_real_jump_counts_at_once() {
        let mut clock = Clock::starting(Timestamp(5), None);
        assert_eq!(clock.observe_before(Timestamp(9 * DAY), Some(Timestamp(9 * DAY + 1))).0, 9 * DAY);
        assert_eq!(clock.observe_before(Timestamp(99 * DAY), Some(Timestamp(9 * DAY + 1))).0, 9 * DAY);
        assert_eq!(clock.observe_before(Timestamp(99 * DAY), None).0, 9 * DAY);
        assert_eq!(clock.observe_before(Timestamp(7 * DAY), None).0, 9 * DAY);
    }
}
