//! The sensor's watch over itself: from what happened to lines of the log and alerts on the sensor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lapse::Lapse;
use super::shedding::{KINDS, Step};
use super::thread::Notice;
use crate::alert::{Health, Loss, Trouble};
use crate::capture::live::{self, Condition};
use crate::config;
use crate::net::{Timestamp, group_digits};

/// Troubles that go on, and what is said of them.
pub(super) struct Watch {
    loss_per_million: u64,
    gaps_per_million: u64,
    hold: Duration,
    /// By what it is about.
    troubles: BTreeMap<String, Lasting>,
}

struct Lasting {
    start: Timestamp,
    last: Instant,
    trouble: Trouble,
}

/// What came of a look.
#[derive(Default)]
pub(super) struct Said {
    /// Lines for the log.
    pub(super) lines: Vec<String>,
    /// Alerts on the sensor.
    pub(super) alerts: Vec<Health>,
    /// Times at which packets were lost.
    pub(super) losses: Vec<(Timestamp, Timestamp, Loss)>,
    /// Times at which streams lacked bytes.
    pub(super) gaps: Vec<(Timestamp, Timestamp, Loss)>,
}

impl Watch {
    pub(super) fn new(settings: &config::Capture) -> Self {
        let hold = Duration::from_nanos(settings.shed_hold.0);
        let config::Capture { loss_per_million, gaps_per_million, .. } = *settings;
        Self { loss_per_million, gaps_per_million, hold, troubles: BTreeMap::new() }
    }

    /// Troubles that go on.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        self.troubles.values().map(|lasting| lasting.trouble.clone()).collect()
    }

    pub(super) fn notice(&mut self, notice: Notice, said: &mut Said) {
        match notice {
            Notice::Interface(name, Condition::Up) => {
                said.lines.push(format!("{name} {}", Condition::Up.text()));
                self.over(&format!("interface {name}"), said);
            }
            Notice::Interface(name, condition) => {
                let key = format!("interface {name}");
                said.lines.push(format!("{name} {}", condition.text()));
                self.begin(&key, Trouble::Interface(name, condition.text()), said);
            }
            Notice::Shed { thread, step, lag, dropped } => self.shed(thread, step, lag, dropped, said),
            Notice::NoRelief { thread, why } => said.lines.push(format!(
                "thread {thread}: the kernel refuses relief ({why}), and packets are read as without it: see `outfall check`, or \
                 leave `capture.kernel_relief` off"
            )),
            Notice::Loss(lapse) => self.loss(lapse, said),
        }
    }

    /// Packets were lost.
    pub(super) fn loss(&mut self, lapse: Lapse, said: &mut Said) {
        if self.lapse("loss", "losing packets", Trouble::PacketLoss, self.loss_per_million, lapse, said) {
            said.losses.push((lapse.from, lapse.to, lapse.loss));
        }
    }

    /// Streams lack bytes that their receivers acknowledged.
    pub(super) fn gaps(&mut self, lapse: Lapse, said: &mut Said) {
        if self.lapse("gaps", "bytes are lost before the sensor", Trouble::TapGaps, self.gaps_per_million, lapse, said)
        {
            said.gaps.push((lapse.from, lapse.to, lapse.loss));
        }
    }

    /// Whether it is a share that counts.
    fn lapse(
        &mut self,
        key: &str,
        line: &str,
        trouble: fn(Loss) -> Trouble,
        per_million: u64,
        lapse: Lapse,
        said: &mut Said,
    ) -> bool {
        let Lapse { loss, whole, .. } = lapse;
        if loss.lost == 0 || whole.per_million() < per_million {
            return false;
        }
        match self.troubles.get_mut(key) {
            Some(Lasting { last, trouble: Trouble::PacketLoss(so_far) | Trouble::TapGaps(so_far), .. }) => {
                *last = Instant::now();
                so_far.lost += loss.lost;
                so_far.of += loss.of;
            }
            _ => {
                let (lost, of) = (group_digits(whole.lost), group_digits(whole.of.max(whole.lost)));
                said.lines.push(format!("{line}: {lost} of {of}"));
                self.begin(key, trouble(loss), said);
            }
        }
        true
    }

    /// So many uploads were dropped since the last look.
    pub(super) fn uploads_dropped(&mut self, count: u64, said: &mut Said) {
        let line = "dropping uploads: they are not joined and written as fast as they come";
        self.counted("uploads", line, Trouble::UploadsDropped, count, said);
    }

    /// So many times since the last look the journal could not be written.
    pub(super) fn journal_refused(&mut self, count: u64, said: &mut Said) {
        let line = "the journal of endpoint events cannot be written: helpers keep what they sent";
        self.counted("journal", line, Trouble::JournalNotWritten, count, said);
    }

    /// So many times since the last look the store could not be written to.
    pub(super) fn store_refused(&mut self, count: u64, said: &mut Said) {
        let line = "the store cannot be written to: alerts and uploads wait for as long as there is room";
        self.counted("store", line, Trouble::StoreNotWritten, count, said);
    }

    /// The output cannot be written; so many lines were lost for it since the last look, which may be none yet.
    pub(super) fn output_refused(&mut self, count: u64, said: &mut Said) {
        let line = "the output cannot be written: what was found is lost to it until it can";
        self.lasts("output", line, Trouble::OutputNotWritten, count, said);
    }

    /// So many alerts since the last look were given up on their way.
    pub(super) fn alerts_dropped(&mut self, count: u64, said: &mut Said) {
        let line = "alerts are given up: they are not stored or delivered before there is no room for them";
        self.counted("alerts", line, Trouble::AlertsDropped, count, said);
    }

    /// The store could not be opened, and still is not.
    pub(super) fn store_missing(&mut self, said: &mut Said) {
        match self.troubles.get_mut("store") {
            Some(lasting) => lasting.last = Instant::now(),
            None => self.begin("store", Trouble::StoreNotWritten(1), said),
        }
    }

    fn counted(&mut self, key: &str, line: &str, trouble: fn(u64) -> Trouble, count: u64, said: &mut Said) {
        if count > 0 {
            self.lasts(key, line, trouble, count, said);
        }
    }

    fn lasts(&mut self, key: &str, line: &str, trouble: fn(u64) -> Trouble, count: u64, said: &mut Said) {
        match self.troubles.get_mut(key) {
            Some(Lasting {
                last,
                trouble:
                    Trouble::UploadsDropped(so_far)
                    | Trouble::JournalNotWritten(so_far)
                    | Trouble::StoreNotWritten(so_far)
                    | Trouble::OutputNotWritten(so_far)
                    | Trouble::AlertsDropped(so_far),
                ..
            }) => {
                *last = Instant::now();
                *so_far += count;
            }
            _ => {
                said.lines.push(line.to_owned());
                self.begin(key, trouble(count), said);
            }
        }
    }

    /// Says what is over.
    pub(super) fn look(&mut self, said: &mut Said) {
        for key in ["loss", "gaps", "uploads", "journal", "store", "output", "alerts"] {
            if self.troubles.get(key).is_some_and(|lasting| lasting.last.elapsed() >= self.hold) {
                if let Some(lasting) = self.troubles.get(key) {
                    let health = Health { start: lasting.start, end: None, trouble: lasting.trouble.clone() };
                    said.lines.push(format!("{} is over: {}", lasting.trouble.name(), health.line()));
                }
                self.over(key, said);
            }
        }
    }

    fn shed(&mut self, thread: usize, step: Step, lag: Duration, dropped: u64, said: &mut Said) {
        let key = format!("shed {thread}");
        let Step { level, up } = step;
        let milliseconds = lag.as_millis();
        if up {
            let what = level.checked_sub(1).and_then(|kind| KINDS.get(kind)).copied().unwrap_or_default();
            said.lines.push(format!(
                "thread {thread} has too much to do (lag {milliseconds} ms, {} packets dropped): gives up {what}",
                group_digits(dropped)
            ));
            match self.troubles.get_mut(&key) {
                Some(lasting) => lasting.trouble = Trouble::Shedding(what),
                None => self.begin(&key, Trouble::Shedding(what), said),
            }
        } else {
            let what = KINDS.get(level).copied().unwrap_or_default();
            said.lines.push(format!("thread {thread} takes up again: {what}"));
            if level == 0 {
                self.over(&key, said);
            }
        }
    }

    fn begin(&mut self, key: &str, trouble: Trouble, said: &mut Said) {
        let start = self.troubles.get(key).map_or_else(live::now, |lasting| lasting.start);
        said.alerts.push(Health { start, end: None, trouble: trouble.clone() });
        self.troubles.insert(key.to_owned(), Lasting { start, last: Instant::now(), trouble });
    }

    fn over(&mut self, key: &str, said: &mut Said) {
        if let Some(Lasting { start, trouble, .. }) = self.troubles.remove(key) {
            said.alerts.push(Health { start, end: Some(live::now()), trouble });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(loss_per_million: u64) -> Watch {
        let settings =
            config::Capture { loss_per_million, shed_hold: crate::net::Span(0), ..config::Capture::default() };
        Watch::new(&settings)
    }

    #[test]
    fn a_loss_above_the_share_raises_one_alert_and_its_end_another() {
        let (mut watch, mut said) = (watch(1_000), Said::default());
        let at = Timestamp::from_parts(5, 0);
        let lapse = |lost| {
            let loss = Loss { lost, of: 10_000 };
            Lapse { from: at, to: at, loss, whole: loss }
        };
        watch.loss(lapse(9), &mut said);
        assert_eq!((said.alerts.len(), said.losses.len()), (0, 0), "less than the share");
        for _ in 0..2 {
            watch.loss(lapse(10), &mut said);
        }
        assert_eq!((said.alerts.len(), said.losses.len(), said.lines.len()), (1, 2, 1));
        watch.look(&mut said);
        let end = said.alerts.last().unwrap();
        assert_eq!(end.trouble, Trouble::PacketLoss(Loss { lost: 20, of: 20_000 }));
        assert!(end.end.is_some());
    }

    #[test]
    fn streams_that_lack_too_much_raise_one_alert_of_their_own_and_its_end_another() {
        let (mut watch, mut said) = (watch(0), Said::default());
        watch.gaps_per_million = 10_000;
        let at = Timestamp::from_parts(5, 0);
        let lapse = |lost, of| {
            let whole = Loss { lost, of };
            Lapse { from: at, to: at, loss: Loss { lost: lost / 2, of: of / 2 }, whole }
        };
        watch.gaps(lapse(999, 100_000), &mut said);
        assert_eq!((said.alerts.len(), said.gaps.len()), (0, 0), "less than the share");
        for _ in 0..2 {
            watch.gaps(lapse(1_000, 100_000), &mut said);
        }
        assert_eq!((said.alerts.len(), said.gaps.len(), said.losses.len(), said.lines.len()), (1, 2, 0, 1));
        watch.look(&mut said);
        let end = said.alerts.last().unwrap();
        assert_eq!((&end.trouble, end.end.is_some()), (&Trouble::TapGaps(Loss { lost: 1_000, of: 100_000 }), true));
    }

    #[test]
    fn a_journal_that_cannot_be_written_raises_one_alert_that_counts_on_and_its_end_another() {
        let (mut watch, mut said) = (watch(0), Said::default());
        for times in [0, 2, 3] {
            watch.journal_refused(times, &mut said);
        }
        assert_eq!((said.alerts.len(), said.lines.len()), (1, 1));
        watch.look(&mut said);
        let end = said.alerts.last().unwrap();
        assert_eq!((&end.trouble, end.end.is_some()), (&Trouble::JournalNotWritten(5), true));
    }

    #[test]
    fn alerts_that_were_given_up_raise_one_alert_that_says_how_many() {
        let (mut watch, mut said) = (watch(0), Said::default());
        for count in [0, 7, 5] {
            watch.alerts_dropped(count, &mut said);
        }
        assert_eq!((said.alerts.len(), said.lines.len()), (1, 1));
        watch.look(&mut said);
        let over = said.alerts.last().unwrap();
        assert_eq!(over.trouble, Trouble::AlertsDropped(12));
        assert!(over.line().contains("12 alerts or deliveries"), "{}", over.line());
    }

    #[test]
    fn an_interface_that_goes_and_comes_is_said_twice() {
        let (mut watch, mut said) = (watch(0), Said::default());
        for condition in [Condition::Down, Condition::Gone, Condition::Up] {
            watch.notice(Notice::Interface("tap0".to_owned(), condition), &mut said);
        }
        assert_eq!(said.lines, ["tap0 is down", "tap0 is gone", "tap0 is up"]);
        assert!(said.alerts.iter().map(|alert| alert.start).all(|start| start == said.alerts[0].start));
        assert_eq!(said.alerts.iter().filter(|alert| alert.end.is_some()).count(), 1);
    }
}
