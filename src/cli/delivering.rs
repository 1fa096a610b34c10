//! What a live sensor keeps and delivers: its start, what it says in the log, and its part of the closing summary.

use std::fmt::Write as _;

use super::counters::line;
use super::keeping::Found;
use super::summary::Lost;
use crate::config::Config;
use crate::deliver::{CollectorCounters, Counters, DeliverError, Delivery, Opened};
use crate::detect::{Change, Row};
use crate::net::group_digits;
use crate::sensor::Outcome;
use crate::store::{Location, Losses};

/// The store and delivery at work, if anything is kept.
pub struct Delivering {
    delivery: Option<Delivery>,
    /// Whether uploads and what is normal here are kept.
    keeps: bool,
    /// Whether they should be, and are not.
    missing: bool,
    found: Found,
    /// Alerts and uploads that may wait for the store.
    most: usize,
}

impl Delivering {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the store fails, or a thread cannot be started.
    pub fn start(opened: Option<Opened>, config: &Config) -> Result<Self, DeliverError> {
        let missing = opened.as_ref().is_some_and(|opened| opened.fault().is_some());
        let keeps = opened.as_ref().is_some_and(|opened| matches!(opened.location(), Location::File(_)));
        let delivery = opened.map(|opened| Delivery::start(opened, config)).transpose()?;
        let most = usize::try_from(config.store.queue).unwrap_or(usize::MAX);
        Ok(Self { delivery, keeps, missing, found: Found::default(), most })
    }

    /// Whether there is no file of the store, though there should be.
    pub fn is_without_store(&self) -> bool {
        self.missing
    }

    /// Whether anything is kept.
    pub fn is_at_work(&self) -> bool {
        self.delivery.is_some()
    }

    /// What is known of what is normal here, if anything is kept.
    pub fn baseline(&mut self) -> Option<Vec<Row>> {
        self.delivery.as_mut().and_then(Delivery::baseline)
    }

    /// Hands what was found to the store, with what it changed of what is normal here.
    pub fn keep(&mut self, changes: Vec<Change>) {
        let Some(delivery) = &self.delivery else { return };
        let (writer, mut lost) = (delivery.writer(), 0);
        if !self.keeps {
            let uploads = self.found.forget_uploads();
            lost = if self.missing { uploads } else { 0 };
        }
        let changes = if self.keeps { changes } else { Vec::new() };
        let (alerts, uploads) = self.found.hand_over(changes, self.most, |batch| writer.put(batch));
        writer.lost(alerts, uploads + lost);
    }

    /// Whether something should be handed over at once.
    pub fn is_urgent(&self) -> bool {
        self.found.is_urgent()
    }

    /// How often the store could not be written to.
    pub fn refused(&self) -> u64 {
        self.delivery.as_ref().map_or(0, |delivery| delivery.writer().counters().refused)
    }

    /// Alerts and deliveries of alerts that were given up.
    pub fn given_up(&self) -> u64 {
        let of = |counted: Counters| {
            let store = counted.store;
            let fits: u64 = counted.collectors.iter().map(|collector| collector.dropped).sum();
            store.queue_full + store.failed + store.pruned_waiting + fits
        };
        self.counters().map_or(0, of)
    }

    /// Keeps what was lost so far in the run that began at this time.
    pub fn keep_losses(&mut self, run: i64, losses: &[Lost]) {
        if self.keeps {
            self.found
                .losses(Losses { run, counts: losses.iter().map(|(_, what, amount)| (*what, *amount)).collect() });
        }
    }

    /// Says where alerts go.
    pub fn begin(&self, log: &mut impl FnMut(String)) {
        if !self.keeps && !self.missing {
            log("nothing is kept, and what is normal here is forgotten at the end: see `store.path`".to_owned());
        }
        let names = self.delivery.as_ref().map(Delivery::names).unwrap_or_default();
        if !names.is_empty() {
            log(format!("delivering to {}", names.join(", ")));
        }
    }

    /// Takes what is kept or delivered.
    pub fn put(&mut self, outcome: &Outcome) {
        let Some(delivery) = &self.delivery else { return };
        self.found.put(outcome);
        let document = match outcome {
            Outcome::Alert(alert) => alert.document(),
            Outcome::Health(health) => health.document(),
            Outcome::Upload(_) | Outcome::Flow(..) => return,
        };
        let (entry, destinations) = delivery.addressed(&document);
        self.found.alert(entry, destinations);
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

pub(super) fn lines(counted: &Counters) -> Vec<String> {
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
pub fn losses(counted: &Counters) -> Vec<Lost> {
    let store = &counted.store;
    vec![
        ("queue_full", "alerts not stored or sent, too many at once", store.queue_full),
        ("failed", "alerts not stored or sent, the disk failed", store.failed),
        ("uploads_lost", "uploads not stored, the disk slow or failing", store.uploads_lost),
        ("pruned", "alerts deleted from the store, too old or too many", store.pruned),
        ("pruned_uploads", "uploads deleted from the store, too old or too many", store.pruned_uploads),
        ("pruned_waiting", "deliveries given up, as their alert was deleted", store.pruned_waiting),
        (
            "dropped",
            "alerts that fit in no message",
            counted.collectors.iter().map(|collector| collector.dropped).sum(),
        ),
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
