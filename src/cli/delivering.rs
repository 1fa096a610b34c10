//! The delivery of a live sensor's alerts: its start, what it says in the log, and its part of the closing summary.

use std::fmt::Write as _;

use super::counters::line;
use crate::config::Config;
use crate::deliver::{CollectorCounters, Counters, DeliverError, Delivery, Prepared};
use crate::net::group_digits;
use crate::sensor::Outcome;

/// Delivery at work, if there is somewhere to deliver to.
pub struct Delivering(Option<Delivery>);

impl Delivering {
    /// Opens the store and starts the threads.
    ///
    /// # Errors
    /// If the store cannot be used, or a thread not be started.
    pub fn start(prepared: Option<Prepared>, config: &Config) -> Result<Self, DeliverError> {
        Ok(Self(prepared.map(|prepared| Delivery::start(prepared, config)).transpose()?))
    }

    /// Whether there is somewhere to deliver to.
    pub fn is_at_work(&self) -> bool {
        self.0.is_some()
    }

    /// Says where alerts go.
    pub fn begin(&self, log: &mut impl FnMut(String)) {
        if let Some(delivery) = &self.0 {
            log(format!("delivering to {}", delivery.names().join(", ")));
        }
    }

    /// Takes what is an alert.
    pub fn put(&self, outcome: &Outcome) {
        let Some(delivery) = &self.0 else { return };
        match outcome {
            Outcome::Alert(alert) => delivery.put(&alert.document()),
            Outcome::Health(health) => delivery.put(&health.document()),
            Outcome::Upload(_) | Outcome::Flow(_) => {}
        }
    }

    /// What there is to say.
    pub fn log(&self) -> Vec<String> {
        self.0.as_ref().map(Delivery::log).unwrap_or_default()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Option<Counters> {
        self.0.as_ref().map(Delivery::counters)
    }

    /// Lines for the log: all counts since the start.
    pub fn report(&self) -> Vec<String> {
        self.0.as_ref().map(|delivery| lines(&delivery.counters())).unwrap_or_default()
    }

    /// Ends it: what can be is delivered in the time that there is.
    pub fn finish(self, log: &mut impl FnMut(String)) -> Option<Counters> {
        let counted = self.0?.finish();
        lines(&counted).into_iter().for_each(log);
        Some(counted)
    }
}

fn lines(counted: &Counters) -> Vec<String> {
    let store = &counted.store;
    let kept = [
        ("stored", store.stored),
        ("queue_full", store.queue_full),
        ("failed", store.failed),
        ("pruned", store.pruned),
        ("pruned_waiting", store.pruned_waiting),
    ];
    let mut lines = vec![line("store", kept)];
    for collector in &counted.collectors {
        let CollectorCounters { name, sent, retried, dropped, reduced, waiting, failures } = collector;
        let counts = [
            ("sent", *sent),
            ("retried", *retried),
            ("dropped", *dropped),
            ("reduced", *reduced),
            ("waiting", *waiting),
            ("failures", *failures),
        ];
        lines.push(line(&format!("deliver={name}"), counts));
    }
    lines
}

/// What can be lost on the way; only what happened is for the summary.
pub fn losses(counted: &Counters) -> Vec<(&'static str, u64)> {
    let store = &counted.store;
    vec![
        ("alerts not stored or sent, too many at once", store.queue_full),
        ("alerts not stored or sent, the disk failed", store.failed),
        ("alerts deleted from the store, too old or too many", store.pruned),
        ("deliveries given up, as their alert was deleted", store.pruned_waiting),
        ("alerts that fit in no message", counted.collectors.iter().map(|collector| collector.dropped).sum()),
    ]
}

/// Lines for the end of the summary.
pub fn summary(counted: &Counters) -> String {
    let mut text = String::new();
    for (n, collector) in counted.collectors.iter().enumerate() {
        let name = if n == 0 { "delivered" } else { "" };
        let count = group_digits;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<12} to {}", collector.name);
        let _ = writeln!(
            text,
            "  {:<12} {} sent, {} of them again, {} made smaller, {} waiting",
            "",
            count(collector.sent),
            count(collector.retried),
            count(collector.reduced),
            count(collector.waiting)
        );
    }
    text
}
