//! What `outfall watch` shows: sections of lines, made of two answers of the sensor and of its database.

use std::time::Duration;

use super::scrape::Samples;
use crate::detect::Severity;
use crate::endpoint::{printable, shortened};
use crate::net::{ByteSize, group_digits};
use crate::store::{Newest, NewestUpload};

/// How a line is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// As bad as it gets.
    Worst,
    /// Something was lost, or is amiss.
    Bad,
    /// Worth a look.
    Warn,
    /// Nothing to see.
    Quiet,
}

/// Lines under a heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) lines: Vec<(Tone, String)>,
}

impl Section {
    /// Its sensor does not answer: what ran may not run any more.
    fn of_before(mut self) -> Self {
        if self.title == RUNNING && self.lines.iter().any(|(tone, _)| *tone != Tone::Quiet) {
            self.lines.insert(0, (Tone::Quiet, "as of the sensor's last word".to_owned()));
        }
        self
    }
}

/// The heading of what has not ended.
const RUNNING: &str = "Newest uploads running, by what was seen of them when they grew large";

/// What parts of a counter's name tell that it counts what was lost.
const LOST: [&str; 13] = [
    "dropped",
    "lost",
    "refused",
    "_full",
    "forgotten",
    "_deleted",
    "torn",
    "unread",
    "ignored",
    "gaps_total",
    "losses",
    "failures",
    "evicted",
];

/// The last two answers, and what the database has.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The sensor's last answer.
    pub(super) now: Option<Samples>,
    /// The one before it, and how long before.
    pub(super) before: Option<(Samples, Duration)>,
    /// Why there is no newer answer.
    pub(super) gone: Option<String>,
    /// Alerts and uploads; an error says why there are none.
    pub(super) newest: Option<Result<Newest, String>>,
}

fn whole(value: f64) -> u64 {
    // Counters are whole and positive.
    value.max(0.0) as u64
}

impl View {
    /// None while the sensor does not answer: the last rate is that of another time.
    fn rate(&self, family: &str) -> Option<f64> {
        if self.gone.is_some() {
            return None;
        }
        let (now, (before, since)) = (self.now.as_ref()?, self.before.as_ref()?);
        let grown = (now.sum(family) - before.sum(family)).max(0.0);
        Some(grown / since.as_secs_f64().max(0.001))
    }

    fn rated(&self, what: &str, family: &str) -> (Tone, String) {
        let total = self.now.as_ref().map_or(0.0, |now| now.sum(family));
        let rate = self.rate(family).map_or_else(|| "-".to_owned(), |rate| format!("{}/s", group_digits(whole(rate))));
        (Tone::Plain, format!("{what:<18} {rate:>14}  {:>18}", group_digits(whole(total))))
    }

    /// Everything, in the order of its weight.
    pub(super) fn sections(&self) -> Vec<Section> {
        let mut stored = self.newest.iter().flat_map(stored);
        let mut all = vec![self.sensor()];
        all.extend(stored.next());
        all.extend(self.now.as_ref().map(|now| self.losses(now)));
        let gone = self.gone.is_some();
        all.extend(stored.map(|section| if gone { section.of_before() } else { section }));
        if let Some(now) = &self.now {
            all.extend([self.rates(), attribution(now), queues(now)]);
        }
        all
    }

    fn sensor(&self) -> Section {
        let mut lines = Vec::new();
        if let Some(gone) = &self.gone {
            lines.push((Tone::Bad, format!("! the sensor does not answer: {}", printable(gone))));
        }
        match &self.now {
            Some(now) => {
                let (memory, lag) = (now.sum("process_resident_memory_bytes"), now.of("outfall_capture_lag_seconds"));
                let lag = lag.map(|(_, lag)| lag).fold(0.0, f64::max);
                let shed = now.of("outfall_shed_level").map(|(_, level)| level).fold(0.0, f64::max);
                let old = if self.gone.is_some() { " (its last answer)" } else { "" };
                lines.push((
                    Tone::Plain,
                    format!("running{old}: {} of memory, reading lags {lag:.3} s", ByteSize(whole(memory))),
                ));
                if shed > 0.0 {
                    lines.push((Tone::Bad, format!("! too much to do: {shed} of 4 kinds of work given up")));
                }
            }
            None if self.gone.is_none() => lines.push((Tone::Quiet, "no answer yet".to_owned())),
            None => {}
        }
        Section { title: "Sensor", lines }
    }

    fn rates(&self) -> Section {
        let mut lines = vec![
            self.rated("packets", "outfall_capture_packets_total"),
            self.rated("bytes", "outfall_capture_bytes_total"),
            self.rated("connections", "outfall_flows_total"),
            self.rated("uploads", "outfall_uploads_total"),
            self.rated("uploaded bytes", "outfall_upload_bytes_total"),
            self.rated("endpoint events", "outfall_endpoint_events_total"),
            self.rated("alerts", "outfall_alerts_total"),
        ];
        lines.extend(self.now.as_ref().map(in_flight));
        Section { title: "Rates and totals", lines }
    }

    fn losses(&self, now: &Samples) -> Section {
        let families = now.families().into_iter().filter(|name| LOST.iter().any(|part| name.contains(part)));
        let mut lines: Vec<_> = families
            .filter_map(|family| {
                let total = whole(now.sum(family));
                let name = family.trim_start_matches("outfall_").trim_end_matches("_total");
                let grows = self.rate(family).is_some_and(|rate| rate > 0.0);
                let (tone, mark) = if grows { (Tone::Bad, "! ") } else { (Tone::Plain, "  ") };
                (total > 0).then(|| (tone, format!("{mark}{:<44} {:>14}", printable(name), group_digits(total))))
            })
            .collect();
        if lines.is_empty() {
            lines.push((Tone::Quiet, "nothing was lost".to_owned()));
        }
        Section { title: "Lost, at every layer (! grows now)", lines }
    }
}

/// Uploads under way.
fn in_flight(now: &Samples) -> (Tone, String) {
    let by = now.of("outfall_uploads_in_flight");
    let by: Vec<String> = by.map(|(labels, count)| format!("{} {count}", printable(value(labels)))).collect();
    let all = group_digits(whole(now.sum("outfall_uploads_in_flight")));
    (Tone::Plain, format!("{:<18} {all:>14}  {:>18}", "uploads in flight", by.join(", ")))
}

fn attribution(now: &Samples) -> Section {
    let family = "outfall_attribution_uploads";
    let all = now.sum(family);
    let lines = now.of(family).filter(|(_, count)| *count > 0.0).map(|(labels, count)| {
        let why = value(labels);
        let share = 100.0 * count / all.max(1.0);
        (Tone::Plain, format!("{:<30} {:>12} {share:>5.1} %", printable(why), group_digits(whole(count))))
    });
    let mut lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        lines.push((Tone::Quiet, "no uploads yet".to_owned()));
    }
    Section { title: "Whose uploads", lines }
}

fn queues(now: &Samples) -> Section {
    let mut lines = levels(now, "outfall_queue", "length", "limit", group_digits);
    lines.extend(levels(now, "outfall_table", "entries", "limit", group_digits));
    lines.extend(levels(now, "outfall_memory", "bytes", "limit_bytes", |bytes| ByteSize(bytes).to_string()));
    for (labels, waiting) in now.of("outfall_outbox_waiting_alerts").filter(|(_, waiting)| *waiting > 0.0) {
        let waiting = group_digits(whole(waiting));
        lines.push((Tone::Plain, format!("  waiting for {:<30} {waiting:>12}", shortened(value(labels), 30))));
    }
    Section { title: "Queues and memory, of what is allowed (! nearly full)", lines }
}

/// How full everything of a kind is.
fn levels(now: &Samples, kind: &str, used: &str, allowed: &str, shown: fn(u64) -> String) -> Vec<(Tone, String)> {
    let line = |(labels, level): (&str, f64)| {
        let limit = now.one(&format!("{kind}_{allowed}"), labels)?;
        let (tone, mark) = if level >= limit * 0.8 { (Tone::Bad, "! ") } else { (Tone::Plain, "  ") };
        let level = format!("{} of {}", shown(whole(level)), shown(whole(limit)));
        Some((tone, format!("{mark}{:<30} {level:>24}", printable(value(labels)))))
    };
    now.of(&format!("{kind}_{used}")).filter_map(line).collect()
}

/// Of the only label.
fn value(labels: &str) -> &str {
    labels.split('"').nth(1).unwrap_or(labels)
}

fn stored(newest: &Result<Newest, String>) -> Vec<Section> {
    let newest = match newest {
        Ok(newest) => newest,
        Err(why) => {
            let line = format!("! the database cannot be read: {}", printable(why));
            return vec![Section { title: "Alerts", lines: vec![(Tone::Bad, line)] }];
        }
    };
    let mut alerts: Vec<_> = newest
        .alerts
        .iter()
        .map(|alert| {
            let (tone, letter) = match Severity::of(alert.severity) {
                Severity::Critical => (Tone::Worst, 'C'),
                Severity::High => (Tone::Bad, 'H'),
                Severity::Medium => (Tone::Warn, 'M'),
                Severity::Low => (Tone::Quiet, 'L'),
            };
            let text = shortened(&alert.text, 96);
            (tone, format!("{} {letter} {} {text}", day(&alert.time), printable(&alert.id)))
        })
        .collect();
    if alerts.is_empty() {
        alerts.push((Tone::Quiet, "none".to_owned()));
    }
    vec![
        Section { title: "Newest alerts (C critical, H high, M medium, L low)", lines: alerts },
        Section { title: RUNNING, lines: uploads(&newest.running) },
        Section { title: "Newest uploads that ended", lines: uploads(&newest.uploads) },
    ]
}

fn day(time: &str) -> String {
    printable(time).chars().take(19).collect::<String>().replace('T', " ")
}

fn uploads(all: &[NewestUpload]) -> Vec<(Tone, String)> {
    let mut lines: Vec<_> = all
        .iter()
        .map(|upload| {
            let process =
                upload.process.as_deref().map_or("(not known)", |path| path.rsplit('\\').next().unwrap_or(path));
            let text = format!(
                "{} {:<9} {:>10} {} {} -> {}",
                day(&upload.time),
                shortened(&upload.protocol, 9),
                ByteSize(upload.bytes).to_string(),
                shortened(&upload.host, 24),
                shortened(process, 24),
                shortened(&upload.destination, 40),
            );
            (Tone::Plain, text)
        })
        .collect();
    if lines.is_empty() {
        lines.push((Tone::Quiet, "none".to_owned()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NewestAlert, NewestUpload};

    fn view() -> View {
        let text = |packets: u64, dropped: u64| {
            Samples::read(&format!(
                "# HELP x y\noutfall_build_info{{version=\"1\"}} 1\noutfall_capture_packets_total{{thread=\"0\",path=\"read\"}} {packets}\n\
                 outfall_kernel_dropped_packets_total{{thread=\"0\"}} {dropped}\noutfall_queue_length{{bound=\"store.queue\"}} 90\n\
                 outfall_queue_limit{{bound=\"store.queue\"}} 100\noutfall_attribution_uploads{{outcome=\"known\"}} 3\n\
                 outfall_attribution_uploads{{outcome=\"no-endpoint\"}} 1\nnonsense\n"
            ))
        };
        let hostile = "a\u{1b}[2Jb\u{202e}".to_owned();
        let alert =
            NewestAlert { id: "id".into(), time: "2026-01-02T03:04:05.6Z".into(), severity: 73, text: hostile.clone() };
        let upload = NewestUpload {
            time: "\u{1b}[2J6-01-02T03:04:05.6Z".into(),
            protocol: "ftp".into(),
            bytes: 2_048,
            host: hostile.clone(),
            process: Some(format!("C:\\x\\{hostile}")),
            destination: hostile,
        };
        View {
            now: Some(text(3_000, 7)),
            before: Some((text(1_000, 5), Duration::from_secs(2))),
            gone: None,
            newest: Some(Ok(Newest { alerts: vec![alert], uploads: vec![upload.clone()], running: vec![upload] })),
        }
    }

    fn text(view: &View) -> String {
        let lines = |section: Section| section.lines.into_iter().map(|(_, line)| line + "\n").collect::<String>();
        view.sections().into_iter().map(lines).collect()
    }

    #[test]
    fn rates_losses_shares_and_queues_are_those_of_the_metrics() {
        let shown = text(&view());
        for part in ["1,000/s", "3,000", "! kernel_dropped_packets", "75.0 %", "! store.queue", "90 of 100", " H id "] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn what_strangers_named_moves_no_cursor() {
        let shown = text(&view());
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}') && shown.contains("[2J"), "{shown}");
    }

    #[test]
    fn a_sensor_that_went_away_is_said_and_its_last_numbers_are_no_rates() {
        let view = View { gone: Some("refused".to_owned()), ..view() };
        let shown = text(&view);
        assert!(shown.contains("does not answer: refused") && shown.contains("its last answer"), "{shown}");
        assert!(shown.contains("as of the sensor's last word"), "{shown}");
        assert!(!shown.contains("/s") && !shown.contains("! kernel_dropped"), "nothing grows now: {shown}");
    }
}
