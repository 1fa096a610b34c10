//! Which work is given up under overload: the least valuable first, one kind after the other, and back.

use std::time::{Duration, Instant};

use crate::config;
use crate::net::Span;
use crate::sensor::worker::Shed;

/// The kinds of work, in the order in which they are given up.
pub(super) const KINDS: [&str; 4] = ["hashing", "file typing", "idle flows", "all of encrypted flows but their count"];

/// How far one thread has gone.
pub(super) struct Shedding {
    level: usize,
    limit: Duration,
    hold: Duration,
    idle: Span,
    /// The last time that it was too much.
    pressed: Instant,
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// How many of [`KINDS`] are given up now.
    pub(super) level: usize,
    /// Whether it was a step up, to less work.
    pub(super) up: bool,
}

impl Shedding {
    pub(super) fn new(settings: &config::Capture) -> Self {
        let time = |span: Span| Duration::from_nanos(span.0);
        let (limit, hold) = (time(settings.shed_lag), time(settings.shed_hold));
        Self { level: 0, limit, hold, idle: settings.shed_idle_timeout, pressed: Instant::now() }
    }

    /// Once a second: by how much more reading lagged in it at most than packets wait by design, and how many packets the ring had no room for.
    pub(super) fn look(&mut self, lag: Duration, dropped: u64, now: Instant) -> Option<Step> {
        if self.limit.is_zero() {
            return None;
        }
        if dropped > 0 || lag > self.limit {
            self.pressed = now;
            if self.level == KINDS.len() {
                return None;
            }
            self.level += 1;
            return Some(Step { level: self.level, up: true });
        }
        if self.level == 0 || now.saturating_duration_since(self.pressed) < self.hold {
            return None;
        }
        // The next step back needs a calm of its own.
        self.pressed = now;
        self.level -= 1;
        Some(Step { level: self.level, up: false })
    }

    pub(super) fn shed(&self) -> Shed {
        Shed {
            hashing: self.level >= 1,
            typing: self.level >= 2,
            idle: (self.level >= 3).then_some(self.idle),
            encrypted: self.level >= 4,
        }
    }

    pub(super) fn level(&self) -> usize {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_given_up_step_by_step_and_taken_up_after_a_calm() {
        let settings = config::Capture::default();
        let mut shedding = Shedding::new(&settings);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let second = Duration::from_secs(1);
        assert_eq!(shedding.look(Duration::ZERO, 0, at(0)), None);
        for level in 1..=4 {
            assert_eq!(shedding.look(second, 0, at(level)), Some(Step { level: level as usize, up: true }));
        }
        assert_eq!(shedding.look(Duration::ZERO, 7, at(5)), None, "there is nothing more to give up");
        assert!(shedding.shed().encrypted);
        assert_eq!(shedding.look(Duration::ZERO, 0, at(14)), None);
        assert_eq!(shedding.look(Duration::ZERO, 0, at(15)), Some(Step { level: 3, up: false }));
        assert_eq!(shedding.look(Duration::ZERO, 0, at(16)), None);
        assert_eq!(shedding.shed().idle, Some(settings.shed_idle_timeout));
    }

    #[test]
    fn without_a_limit_nothing_is_given_up() {
        let mut shedding = Shedding::new(&config::Capture { shed_lag: Span(0), ..config::Capture::default() });
        assert_eq!(shedding.look(Duration::from_secs(9), 9, Instant::now()), None);
    }
}
