//! When packets were lost that the interfaces counted, and of how many: their own counters are read every second, those of
//! the drivers less often, and what these tell may have happened at any time since they were asked before.

use crate::alert::Loss;
use crate::net::{Span, Timestamp};

/// Counters may be behind what happened by so much.
const BEHIND: Span = Span::seconds(1);

/// A time in which packets were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lapse {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// What is new.
    pub(super) loss: Loss,
    /// All that was lost in this time, some of which an earlier one may have told: by this it is judged.
    pub(super) whole: Loss,
}

/// What the interfaces have counted by now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) at: Timestamp,
    /// Packets, lost ones included.
    pub(super) packets: u64,
    pub(super) lost: u64,
    /// Of them, those that only a driver told of.
    pub(super) by_drivers: u64,
}

/// From counts to times.
pub(super) struct Lapses {
    looked: Counted,
    /// When the drivers were asked.
    asked: Counted,
}

impl Lapses {
    /// Nothing was counted before.
    pub(super) fn from(at: Timestamp) -> Self {
        let none = Counted { at, ..Counted::default() };
        Self { looked: none, asked: none }
    }

    /// What was lost since the last look; with `asked`, what the drivers told, too.
    pub(super) fn look(&mut self, now: Counted, asked: bool) -> Vec<Lapse> {
        let before = std::mem::replace(&mut self.looked, now);
        let by_drivers = now.by_drivers.saturating_sub(before.by_drivers);
        let seen = now.lost.saturating_sub(before.lost).saturating_sub(by_drivers);
        let mut found: Vec<Lapse> = (seen > 0).then(|| now.since(&before, seen, seen)).into_iter().collect();
        if asked {
            let before = std::mem::replace(&mut self.asked, now);
            let all = now.lost.saturating_sub(before.lost);
            found.extend((by_drivers > 0).then(|| now.since(&before, by_drivers, all)));
        }
        found
    }
}

impl Counted {
    /// The time since `base`, in which so many were lost.
    fn since(&self, base: &Self, lost: u64, whole: u64) -> Lapse {
        let of = self.packets.saturating_sub(base.packets);
        let loss = |lost| Loss { lost, of };
        Lapse { from: base.at.before(BEHIND), to: self.at, loss: loss(lost), whole: loss(whole) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(second: u64, packets: u64, lost: u64, by_drivers: u64) -> Counted {
        Counted { at: Timestamp::from_parts(second, 0), packets, lost, by_drivers }
    }

    fn span(lapse: &Lapse) -> (u64, u64) {
        (lapse.from.0 / 1_000_000_000, lapse.to.0 / 1_000_000_000)
    }

    #[test]
    fn what_a_driver_tells_was_lost_since_it_was_asked_before_of_the_packets_since_then() {
        let mut lapses = Lapses::from(Timestamp::from_parts(100, 0));
        for second in 1..4 {
            assert_eq!(lapses.look(counted(100 + second, 10_000 * second, 0, 0), false), []);
        }
        // 300 of a million, all along.
        let found = lapses.look(counted(104, 40_000, 12, 12), true);
        let [lapse] = found[..] else { panic!("{found:?}") };
        assert_eq!((lapse.loss, lapse.whole.per_million()), (Loss { lost: 12, of: 40_000 }, 300));
        assert_eq!(span(&lapse), (99, 104));
        assert_eq!(lapses.look(counted(105, 50_000, 12, 12), false), []);
        let found = lapses.look(counted(108, 80_000, 24, 24), true);
        assert_eq!(found.iter().map(span).collect::<Vec<_>>(), [(103, 108)]);
    }

    #[test]
    fn what_the_interface_tells_was_lost_since_the_last_look() {
        let mut lapses = Lapses::from(Timestamp::from_parts(100, 0));
        lapses.look(counted(103, 30_000, 0, 0), false);
        for (second, asked) in [(104, true), (105, false)] {
            let lost = 10 * (second - 103);
            let found = lapses.look(counted(second, 10_000 * (second - 100), lost, 0), asked);
            let [lapse] = found[..] else { panic!("{found:?}") };
            assert_eq!((lapse.loss, span(&lapse)), (Loss { lost: 10, of: 10_000 }, (second - 2, second)));
        }
    }

    #[test]
    fn what_both_tell_is_told_once_and_judged_together() {
        let mut lapses = Lapses::from(Timestamp::from_parts(100, 0));
        let mut told = 0;
        for second in 1..4 {
            told += lapses.look(counted(100 + second, 10_000 * second, second, 0), false)[0].loss.lost;
        }
        let found = lapses.look(counted(104, 40_000, 16, 12), true);
        told += found.iter().map(|lapse| lapse.loss.lost).sum::<u64>();
        assert_eq!((told, found.last().unwrap().whole.per_million()), (16, 400));
    }
}
