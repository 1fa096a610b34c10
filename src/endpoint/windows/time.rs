//! Times as Windows logs write them.

use crate::net::Timestamp;

/// A time, and whether it says of itself that it is UTC or how far from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// As it stands, with its own zone taken off.
    pub(super) time: Timestamp,
    /// Whether a zone is written behind it.
    pub(super) zoned: bool,
    /// Whether it is to whole seconds.
    pub(super) whole: bool,
}

/// Reads `2020-09-22 18:53:31.668`, `2022-05-13T08:54:05.1230000Z`, `2020-09-22T14:53:31+02:00`.
pub(super) fn read(text: &str) -> Option<Written> {
    let text = text.trim();
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = (rest.get(..8)?, rest.get(8..)?);
    let mut parts = clock.split(':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=2500).contains(&year) || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if day == 0 || day > days_in(year, month) {
        return None;
    }
    let digits = rest.strip_prefix(['.', ',']).map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let (fraction, rest) = match digits.flatten() {
        Some(digits) => (nanoseconds(digits), rest.get(digits.len().saturating_add(1)..)?),
        None => (0, rest),
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let rest = rest.trim();
    let shift = zone(rest)?;
    let seconds = u64::try_from(seconds.checked_sub(shift)?).ok()?;
    let whole = digits.is_none();
    Some(Written { time: Timestamp::from_parts(seconds, fraction), zoned: !rest.is_empty(), whole })
}

/// The zone in seconds east of UTC; none written is 0.
fn zone(text: &str) -> Option<i64> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Some(0);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let (hours, minutes) =
        (number(digits.get(..2)?)?, number(digits.get(2..).filter(|m| !m.is_empty()).unwrap_or("0"))?);
    (hours <= 26 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn number(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn nanoseconds(digits: &str) -> u64 {
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    nine.parse().unwrap_or(0)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        read(text).map(|written| written.time.to_string())
    }

    #[test]
    fn every_way_of_writing_a_time_is_read() {
        let same = Some("2020-09-22T18:53:31.668000000Z");
        for written in [
            "2020-09-22 18:53:31.668",
            "2020-09-22T18:53:31.6680000Z",
            "2020-09-22T14:53:31.668-04:00",
            "2020-09-22T20:53:31.668000+0200",
            " 2020-09-22 18:53:31,668 ",
        ] {
            assert_eq!(text(written).as_deref(), same, "{written}");
        }
        assert_eq!(text("2024-02-29 00:00:00").as_deref(), Some("2024-02-29T00:00:00.000000000Z"));
        assert_eq!(text("1970-01-01T00:00:00Z").as_deref(), Some("1970-01-01T00:00:00.000000000Z"));
        let whole = |text| read(text).map(|written| (written.zoned, written.whole));
        assert_eq!(whole("2020-09-22 14:53:31"), Some((false, true)));
        assert_eq!(whole("2020-09-22T14:53:31.0Z"), Some((true, false)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "-",
            "2020-09-22",
            "2020-02-30 00:00:00",
            "2020-13-01 00:00:00",
            "2020-09-22 24:00:00",
            "2020-09-22x18:53:31",
            "2020-09-22 18:53:31 PM",
            "2020-09-22 18:53:31+",
            "1969-12-31 00:00:00",
            "9999-12-31 00:00:00",
            "2020-09-ü2 18:53:31",
            "1970-01-01T00:00:00+26:00",
        ] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
