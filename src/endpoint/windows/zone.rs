//! Local times that claim to be UTC: what a host's times are to be put forward by.
//!
//! Some shippers write local time, with no zone or with a false `Z`, some of them by a twelve-hour clock. Sysmon's own
//! `UtcTime` in what it stamps with the wall clock tells by how much. As zones go in quarters of an hour, and a record is
//! written within seconds, the quarter is certain.

use crate::net::Timestamp;

/// Zones go in quarters of an hour.
const QUARTER: i64 = 900;

/// How far a written time may be from a whole quarter, in seconds: records are written late.
const SLACK: i64 = 300;

/// The furthest, in seconds: half a day for a clock of twelve hours beside the furthest zone.
const FURTHEST: i64 = 27 * 3_600;

/// By how many seconds `local` is to be put forward to be where `utc` is; nothing if that is no zone.
pub(super) fn between(local: Timestamp, utc: Timestamp) -> Option<i64> {
    let seconds = |time: Timestamp| i64::try_from(time.0 / 1_000_000_000).ok();
    let off = seconds(utc)?.checked_sub(seconds(local)?)?;
    let zone = off.checked_add(QUARTER / 2)?.div_euclid(QUARTER) * QUARTER;
    (zone.abs() <= FURTHEST && (off - zone).abs() <= SLACK).then_some(zone)
}

/// The time so many seconds later; saturates.
pub(super) fn shifted(time: Timestamp, seconds: i64) -> Timestamp {
    let nanoseconds = seconds.unsigned_abs().saturating_mul(1_000_000_000);
    Timestamp(if seconds < 0 { time.0.saturating_sub(nanoseconds) } else { time.0.saturating_add(nanoseconds) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_parts(seconds, 0)
    }

    #[test]
    fn a_zone_is_a_quarter_of_an_hour_however_late_the_record_is() {
        assert_eq!(between(at(1_000_000), at(1_000_000 + 14_400 - 3)), Some(14_400));
        assert_eq!(between(at(1_000_000), at(1_000_000 - 20_700)), Some(-20_700), "Nepal");
        assert_eq!(between(at(1_000_000), at(1_000_000 + 75)), Some(0), "late, not elsewhere");
        assert_eq!(between(at(1_000_000), at(1_000_000 + 68_400 + 1)), Some(68_400), "by a twelve-hour clock");
        assert_eq!(between(at(1_000_000), at(1_000_000 + 440)), None, "neither");
        assert_eq!(between(at(1_000_000), at(1_000_000 + 121_260)), None, "no zone is so far away");
        assert_eq!(shifted(at(5), -6), Timestamp(0));
    }
}
