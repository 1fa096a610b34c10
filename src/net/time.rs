//! Points and spans of packet time, in nanoseconds.

use std::fmt;

/// A point in time: nanoseconds since the Unix epoch, as the packet or the event carried it.
/// Covers the years 1970 to 2554.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// From whole seconds and a fraction in nanoseconds; saturates at the end of the range.
    #[inline]
    pub fn from_parts(seconds: u64, nanoseconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    /// The time `span` later; saturates.
    #[inline]
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The time `span` earlier; stops at the epoch.
    #[inline]
    pub fn before(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The span from `earlier` to this point, zero if `earlier` is not earlier.
    #[inline]
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The distance between two points, whichever comes first.
    #[inline]
    pub fn distance(self, other: Self) -> Span {
        Span(self.0.abs_diff(other.0))
    }
}

/// RFC 3339 in UTC with nine fractional digits, as ECS wants `@timestamp`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => write!(f, "{t:.9}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// The span in seconds, for text and ratios.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The largest unit that divides the span evenly: `90 s`, `1 h`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0 s");
        }
        for (name, factor) in UNITS {
            if self.0.is_multiple_of(factor) {
                return write!(f, "{} {name}", self.0 / factor);
            }
        }
        write!(f, "{} ns", self.0)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a length of time such as \"30 s\", \"5 min\", \"1 h\" or \"7 d\", found \"{0}\"")]
pub struct DurationError(pub String);

impl std::str::FromStr for Span {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let (digits, unit) = trimmed.split_at(split);
        let number: u64 = digits.parse().map_err(|_| error())?;
        let unit = unit.trim();
        let factor = UNITS
            .iter()
            .find(|(name, _)| *name == unit || (unit == "m" && *name == "min"))
            .map(|(_, factor)| *factor)
            .ok_or_else(error)?;
        number.checked_mul(factor).map(Span).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_nine_fractional_digits() {
        assert_eq!(Timestamp(1_500_000_000_000_000_120).to_string(), "2017-07-14T02:40:00.000000120Z");
    }

    #[test]
    fn a_span_reads_back_what_it_prints() {
        for text in ["1 h", "90 s", "5 min", "7 d", "250 ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert!("soon".parse::<Span>().is_err());
        assert!("99999999999999999999 d".parse::<Span>().is_err());
        assert!("12".parse::<Span>().is_err());
    }

    #[test]
    fn subtraction_never_wraps() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Span(0));
        assert_eq!(Timestamp(u64::MAX).after(Span::seconds(1)), Timestamp(u64::MAX));
    }
}
