//! What streams lack though their receivers acknowledged it: lost before it came to the sensor, as by a mirror port that is to
//! carry more than it can, which counts its loss nowhere that the sensor can look. Where the sensor loses packets itself,
//! streams lack these, too.

use std::collections::VecDeque;

use super::lapse::Lapse;
use crate::alert::Loss;
use crate::net::{Span, Timestamp};

/// So many looks, one a second, are judged together: of one alone there would be too little to tell a share by.
const LOOKS: usize = 10;

/// A gap is known once its receiver has acknowledged what lies behind it, and some packets more have come; and what threads
/// have counted is up to a second old.
const BEHIND: Span = Span::seconds(2);

/// What all threads have counted by now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Followed {
    pub(super) at: Timestamp,
    /// Bytes of packets that were read.
    pub(super) bytes: u64,
    pub(super) gaps: u64,
    pub(super) gap_bytes: u64,
    /// Packets that were cut, which leaves gaps that nobody lost.
    pub(super) cut: u64,
}

/// The last looks.
pub(super) struct Gaps {
    /// Fewer gaps than this tell of no share.
    least: u64,
    /// The earliest first.
    looks: VecDeque<Followed>,
    /// Up to where gaps were told.
    told: Followed,
}

impl Gaps {
    pub(super) fn new(least: u64) -> Self {
        Self { least, looks: VecDeque::new(), told: Followed::default() }
    }

    /// What streams lack of the last looks' packets, if there is enough to judge it by.
    pub(super) fn look(&mut self, now: Followed) -> Option<Lapse> {
        self.looks.push_back(now);
        if self.looks.len() > LOOKS + 1 {
            self.looks.pop_front();
        }
        let first = *self.looks.front()?;
        if now.gaps.saturating_sub(first.gaps) < self.least || now.cut > first.cut {
            return None;
        }
        let whole = now.since(&first);
        let untold = if self.told.at > first.at { self.told } else { first };
        let loss = now.since(&untold);
        self.told = now;
        Some(Lapse { from: untold.at.before(BEHIND), to: now.at, loss, whole })
    }
}

impl Followed {
    fn since(&self, base: &Self) -> Loss {
        let lost = self.gap_bytes.saturating_sub(base.gap_bytes);
        Loss { lost, of: self.bytes.saturating_sub(base.bytes).saturating_add(lost) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each second: gaps of 1,000 bytes, bytes that were read, and packets that were cut.
    fn looks(seconds: impl IntoIterator<Item = (u64, u64, u64)>) -> Vec<Option<Lapse>> {
        let mut gaps = Gaps::new(20);
        let mut now = Followed { at: Timestamp::from_parts(100, 0), ..Followed::default() };
        gaps.look(now);
        let look = |(more, bytes, cut)| {
            now.at = now.at.after(Span::seconds(1));
            (now.gaps, now.gap_bytes, now.bytes) = (now.gaps + more, now.gap_bytes + 1_000 * more, now.bytes + bytes);
            now.cut += cut;
            gaps.look(now)
        };
        seconds.into_iter().map(look).collect()
    }

    fn told(looks: &[Option<Lapse>]) -> u64 {
        looks.iter().flatten().map(|lapse| lapse.loss.lost).sum()
    }

    #[test]
    fn gaps_of_ten_seconds_are_judged_together_and_each_is_told_once() {
        let found = looks([(5, 995_000, 0); 30]);
        assert!(found[..3].iter().all(Option::is_none), "{found:?}");
        let first = found[3].unwrap();
        assert_eq!((first.loss, first.whole), (Loss { lost: 20_000, of: 4_000_000 }, first.loss));
        assert_eq!((first.from, first.to), (Timestamp::from_parts(98, 0), Timestamp::from_parts(104, 0)));
        let last = found[29].unwrap();
        assert_eq!(last.whole, Loss { lost: 50_000, of: 10_000_000 });
        assert_eq!((last.loss, told(&found)), (Loss { lost: 5_000, of: 1_000_000 }, 150_000));
    }

    #[test]
    fn few_gaps_are_no_share_however_little_was_read() {
        assert_eq!(told(&looks([(1, 1_000, 0); 60])), 0);
        let after_a_burst = looks([(19, 0, 0)].into_iter().chain([(0, 0, 0); 10]).chain([(19, 0, 0)]));
        assert_eq!(told(&after_a_burst), 0);
    }

    #[test]
    fn packets_that_the_snap_length_cuts_lack_what_nobody_lost() {
        assert_eq!(told(&looks([(50, 1_000, 50); 20])), 0);
        let found = looks([(50, 1_000, 1)].into_iter().chain([(50, 1_000, 0); 10]));
        assert_eq!(found.iter().position(Option::is_some), Some(10));
    }
}
