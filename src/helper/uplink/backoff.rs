//! How long to wait before the sensor is tried again.

use std::time::Duration;

use super::super::random;
use crate::net::Span;

/// Waits that double, less a random part, so that a thousand helpers do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    wait: Duration,
}

impl Backoff {
    pub(super) fn new(least: Span, most: Span) -> Self {
        let least = Duration::from_nanos(least.0);
        Self { least, most: Duration::from_nanos(most.0), wait: least }
    }

    /// The next wait: between half of the present one and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let whole = self.wait;
        self.wait = (self.wait * 2).min(self.most);
        let part = f64::from(random::<2>().map_or(0, u16::from_le_bytes)) / f64::from(u16::MAX);
        whole.div_f64(2.0).mul_f64(1.0 + part)
    }

    /// Begins again with the shortest wait.
    pub(super) fn reset(&mut self) {
        self.wait = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Span::seconds(1), Span::seconds(10));
        for whole in [1, 2, 4, 8, 10, 10] {
            let wait = backoff.next().as_secs_f64();
            let whole = f64::from(whole);
            assert!(wait >= whole / 2.0 && wait <= whole, "{wait} of {whole}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
    }
}
