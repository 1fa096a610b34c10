//! Counts of alerts that were handed out, and how long after the upload.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::{Alert, Health};
use crate::net::Timestamp;

/// Upper bounds of the histogram's buckets, in seconds. `join.grace` alone is five of them, by default.
pub const BUCKETS: [f64; 14] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// A histogram of times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// How many took no longer than the bound in [`BUCKETS`], and longer than the one before.
    pub counts: [u64; BUCKETS.len()],
    /// How many there were, those beyond the last bound included.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Latency {
    /// Takes a time.
    pub fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let fits = BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = fits.and_then(|bucket| self.counts.get_mut(bucket)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// Alerts that were handed out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts {
    /// By severity, those told anew included.
    pub by_severity: BTreeMap<&'static str, u64>,
    /// Alerts of the sensor on itself, by condition; the beginning and the end are one each.
    pub health: BTreeMap<&'static str, u64>,
    /// From the last packet of the upload to the moment at which its alert was handed out; of alerts on one upload, as
    /// those on several are told again long after the first.
    pub latency: Latency,
}

impl Alerts {
    /// Counts an alert that is handed out `now`.
    pub fn note(&mut self, alert: &Alert, now: Timestamp) {
        *self.by_severity.entry(alert.verdict.severity.name()).or_default() += 1;
        if alert.story.is_none() {
            // Clocks of adapters may be ahead.
            self.latency.observe(Duration::from_nanos(now.0.saturating_sub(alert.upload.end.0)));
        }
    }

    /// Counts an alert of the sensor on itself.
    pub fn note_health(&mut self, health: &Health) {
        *self.health.entry(health.trouble.name()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_that_holds_it() {
        let mut latency = Latency::default();
        for milliseconds in [0, 100, 101, 600_000, 600_001] {
            latency.observe(Duration::from_millis(milliseconds));
        }
        let mut counts = [0; BUCKETS.len()];
        (counts[0], counts[1], counts[13]) = (2, 1, 1);
        assert_eq!((latency.counts, latency.count), (counts, 5));
        assert!((latency.sum - 1_200.202).abs() < 1e-6);
    }
}
