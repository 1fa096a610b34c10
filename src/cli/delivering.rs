//! What a live sensor keeps and delivers: its start, what it says in the log, and its part of the closing summary.

use std::fmt::Write as _;

use super::counters::line;
use super::keeping::Learned;
use crate::config::Config;
use crate::deliver::{CollectorCounters, Counters, DeliverError, Delivery, Prepared};
use crate::detect::{Change, Row};
use crate::net::group_digits;
use crate::sensor::Outcome;

/// The store and delivery at work, if anything is kept.
pub struct Delivering {
    delivery: Option<Delivery>,
    learned: Learned,
    /// Uploads that may wait for the store.
    most: usize,
}

impl Delivering {
    /// Opens the store and starts the threads.
    ///
    /// # Errors
    /// If the store cannot be used, or a thread not be started.
    pub fn start(prepared: Option<Prepared>, config: &Config) -> Result<Self, DeliverError> {
        let delivery = prepared.map(|prepared| Delivery::start(prepared, config)).transpose()?;
        let most = usize::try_from(config.store.queue).unwrap_or(usize::MAX);
        Ok(Self { delivery, learned: Learned::default(), most })
    }

    /// Whether anything is kept.
    pub fn is_at_work(&self) -> bool {
        self.delivery.is_some()
    }

    /// What is known of what is normal here, if anything is kept.
    pub fn baseline(&mut self) -> Option<Vec<Row>> {
        self.delivery.as_mut().map(Delivery::baseline)
    }

    /// Hands what was found to the store, with what it changed of what is normal here.
    pub fn keep(&mut self, changes: Vec<Change>) {
        let Some(delivery) = &self.delivery else { return };
        let writer = delivery.writer();
        let lost = self.learned.hand_over(changes, self.most, |uploads, changes| writer.learn(uploads, changes));
        writer.lost_uploads(lost);
    }

    /// How often the store could not be written to.
    pub fn refused(&self) -> u64 {
        self.delivery.as_ref().map_or(0, |delivery| delivery.writer().counters().refused)
    }

    /// Says where alerts go.
    pub fn begin(&self, log: &mut impl FnMut(String)) {
        match self.delivery.as_ref().map(Delivery::names) {
            Some(names) if !names.is_empty() => log(format!("delivering to {}", names.join(", "))),
            Some(_) => {}
            None => {
                log("nothing is kept, and what is normal here is forgotten at the end: see `store.path`".to_owned())
            }
        }
    }

    /// Takes what is kept or delivered.
    pub fn put(&mut self, outcome: &Outcome) {
        let Some(delivery) = &self.delivery else { return };
        self.learned.put(outcome);
        match outcome {
            Outcome::Alert(alert) => delivery.put(&alert.document()),
            Outcome::Health(health) => delivery.put(&health.document()),
            Outcome::Upload(_) | Outcome::Flow(_) => {}
        }
    }

    /// Takes what is an alert of a replay, which waits for the disk.
    pub fn put_patiently(&self, outcome: &Outcome) {
        if let (Some(delivery), Outcome::Alert(alert)) = (&self.delivery, outcome) {
            delivery.put_patiently(&alert.document());
        }
    }

    /// What there is to say.
    pub fn log(&self) -> Vec<String> {
        self.delivery.as_ref().map(Delivery::log).unwrap_or_default()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Option<Counters> {
        self.delivery.as_ref().map(Delivery::counters)
    }

    /// Lines for the log: all counts since the start.
    pub fn report(&self) -> Vec<String> {
        self.delivery.as_ref().map(|delivery| lines(&delivery.counters())).unwrap_or_default()
    }

    /// Ends it: what can be is delivered in the time that there is.
    pub fn finish(self, log: &mut impl FnMut(String)) -> Option<Counters> {
        let counted = self.delivery?.finish();
        lines(&counted).into_iter().for_each(log);
        Some(counted)
    }
}

fn lines(counted: &Counters) -> Vec<String> {
    let store = &counted.store;
    let kept = [
        ("stored", store.stored),
        ("uploads", store.uploads),
        ("queue_full", store.queue_full),
        ("failed", store.failed),
        ("uploads_lost", store.uploads_lost),
        ("refused", store.refused),
        ("pruned", store.pruned),
        ("pruned_waiting", store.pruned_waiting),
        ("pruned_uploads", store.pruned_uploads),
        ("pruned_baseline", store.pruned_baseline),
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
        ("uploads not stored, the disk slow or failing", store.uploads_lost),
        ("alerts deleted from the store, too old or too many", store.pruned),
        ("uploads deleted from the store, too old or too many", store.pruned_uploads),
        ("deliveries given up, as their alert was deleted", store.pruned_waiting),
        ("alerts that fit in no message", counted.collectors.iter().map(|collector| collector.dropped).sum()),
    ]
}

/// A line for each place that has not got everything.
pub fn waiting(counted: &Counters) -> Vec<String> {
    let behind = counted.collectors.iter().filter(|place| place.waiting > 0);
    behind
        .map(|place| {
            let (count, name) = (group_digits(place.waiting), &place.name);
            format!(
                "{count} alerts still wait for {name}: they are sent by the next `outfall run` or `replay --deliver`"
            )
        })
        .collect()
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
