//! Whether the sensor is alive, and whether it sees and keeps everything.

use std::time::Duration;

use super::Sample;
use crate::alert::Trouble;

/// The thread that judges takes its turn many times a second; one that is silent for so long is stuck.
const SILENT: Duration = Duration::from_secs(10);

/// What there is to say of the sensor, each reason as a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Why it is not alive; empty if it is.
    pub dead: Vec<String>,
    /// Why it is not ready; empty if it is.
    pub unready: Vec<String>,
    /// What it does less well than it could, though it is ready.
    pub limited: Vec<String>,
}

impl Condition {
    /// From what was last known, so long ago. None was known yet while it starts.
    pub fn of(sample: Option<&Sample>, age: Duration) -> Self {
        let mut condition = Self::default();
        let Some(sample) = sample else {
            condition.unready.push("it starts: nothing is captured yet".to_owned());
            return condition;
        };
        if sample.ending {
            // What is open is written now, which may take a while.
            condition.unready.push("it ends: nothing is captured any more".to_owned());
            return condition;
        }
        if age >= SILENT {
            condition.dead.push(format!("what was found is not joined and judged for {} s", age.as_secs()));
        }
        for thread in &sample.stuck {
            condition.dead.push(format!("capture thread {thread} makes no progress"));
        }
        condition.unready.clone_from(&condition.dead);
        for trouble in &sample.troubles {
            let (name, text) = (trouble.name(), trouble.text());
            let list = match trouble {
                Trouble::Shedding(_) => &mut condition.limited,
                _ => &mut condition.unready,
            };
            list.push(format!("{name}: {text}"));
        }
        if sample.store_fails {
            condition.unready.push("the store: alerts cannot be written; look at the disk".to_owned());
        }
        condition
    }

    /// The page on life: whether it is alive, and its lines.
    pub fn health(&self) -> (bool, String) {
        page(&self.dead, &[], "alive")
    }

    /// The page on readiness.
    pub fn readiness(&self) -> (bool, String) {
        page(&self.unready, &self.limited, "ready")
    }
}

fn page(against: &[String], besides: &[String], what: &str) -> (bool, String) {
    let fine = against.is_empty();
    let first = if fine { what.to_owned() } else { format!("not {what}") };
    let lines = std::iter::once(&first).chain(against).chain(besides);
    (fine, lines.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Loss;

    fn of(sample: Sample) -> Condition {
        Condition::of(Some(&sample), Duration::ZERO)
    }

    #[test]
    fn a_sensor_that_starts_or_ends_is_alive_and_not_ready() {
        let ends = Sample { ending: true, ..Sample::default() };
        for condition in [Condition::of(None, Duration::MAX), Condition::of(Some(&ends), Duration::from_secs(60))] {
            assert!(condition.health().0 && !condition.readiness().0, "{condition:?}");
        }
    }

    #[test]
    fn one_that_captures_without_loss_is_ready() {
        assert_eq!(of(Sample::default()).readiness(), (true, "ready\n".to_owned()));
        assert_eq!(of(Sample::default()).health(), (true, "alive\n".to_owned()));
    }

    #[test]
    fn what_is_not_seen_or_not_kept_makes_it_unready_and_says_why() {
        let loss = Trouble::PacketLoss(Loss { lost: 5, of: 10 });
        for (sample, why) in [
            (Sample { troubles: vec![loss], ..Sample::default() }, "packet-loss: 5 of 10 packets lost"),
            (
                Sample { troubles: vec![Trouble::Interface("tap0".into(), "is down")], ..Sample::default() },
                "tap0 is down",
            ),
            (Sample { store_fails: true, ..Sample::default() }, "the store"),
        ] {
            let (ready, text) = of(sample.clone()).readiness();
            assert!(!ready && text.starts_with("not ready\n") && text.contains(why), "{text}");
            assert!(of(sample).health().0);
        }
    }

    #[test]
    fn work_given_up_is_said_of_a_sensor_that_is_ready() {
        let shedding = Sample { troubles: vec![Trouble::Shedding("hashing")], ..Sample::default() };
        assert_eq!(of(shedding).readiness(), (true, "ready\nshedding: too much to do: gave up hashing\n".to_owned()));
    }

    #[test]
    fn a_thread_that_is_stuck_makes_it_neither_alive_nor_ready() {
        let stuck = of(Sample { stuck: vec![1], ..Sample::default() });
        let silent = Condition::of(Some(&Sample::default()), Duration::from_secs(10));
        for condition in [stuck, silent] {
            assert!(!condition.health().0 && !condition.readiness().0, "{condition:?}");
        }
    }
}
