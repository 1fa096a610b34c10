//! Byte sizes as people write and read them.

use std::fmt;

/// A number of bytes. Text uses decimal units (1 kB = 1,000 bytes) and binary ones (1 KiB = 1,024 bytes).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a text is not a byte size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as \"64 KiB\", \"1 MB\" or a number of bytes, found \"{0}\"")]
pub struct SizeError(pub String);

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl std::str::FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(split);
        let number: u64 = digits.parse().map_err(|_| error())?;
        let unit = unit.trim();
        let factor = if unit.is_empty() {
            1
        } else {
            UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, f)| *f).ok_or_else(error)?
        };
        number.checked_mul(factor).map(ByteSize).ok_or_else(error)
    }
}

/// Four significant digits at most, decimal units: `999 B`, `1.50 kB`, `12.3 MB`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        if self.0 < 1_000 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut unit = "B";
        for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
            value /= 1_000.0;
            unit = next;
            if value < 999.5 {
                break;
            }
        }
        let text = if value < 9.995 {
            format!("{value:.2} {unit}")
        } else if value < 99.95 {
            format!("{value:.1} {unit}")
        } else {
            format!("{value:.0} {unit}")
        };
        f.pad(&text)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

/// A count with its digits in groups of three: `1,234,567`.
pub fn group_digits(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_decimal_and_binary_units() {
        assert_eq!("1 MB".parse(), Ok(ByteSize(1_000_000)));
        assert_eq!("64KiB".parse(), Ok(ByteSize(65_536)));
        assert_eq!("12".parse(), Ok(ByteSize(12)));
        assert!("1 XB".parse::<ByteSize>().is_err());
        assert!("-1".parse::<ByteSize>().is_err());
        assert!("99999999999 TB".parse::<ByteSize>().is_err());
    }

    #[test]
    fn sizes_print_short() {
        assert_eq!(ByteSize(999).to_string(), "999 B");
        assert_eq!(ByteSize(1_500).to_string(), "1.50 kB");
        assert_eq!(ByteSize(999_999).to_string(), "1.00 MB");
        assert_eq!(ByteSize(12_340_000).to_string(), "12.3 MB");
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        assert_eq!(group_digits(1), "1");
        assert_eq!(group_digits(123), "123");
        assert_eq!(group_digits(1_234_567), "1,234,567");
    }
}
