//! What a Windows event log tells beside what the event schema holds: whose clock, and whose process.

use std::fmt;
use std::str::FromStr;

use crate::net::Timestamp;

/// Which time field of a log a time was taken from. Each has an offset of its own against the capture's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Clock {
    /// `ts` of event version 1, and what Sysmon stamps with the wall clock of the host.
    #[default]
    Event,
    /// When the Security log's record was written.
    SecurityRecord,
    /// When Sysmon's record was written.
    SysmonRecord,
    /// `UtcTime` of Sysmon's events 3 and 22, which is no wall time.
    SysmonUtc,
}

impl Clock {
    /// The name in records and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::SecurityRecord => "security-record",
            Self::SysmonRecord => "sysmon-record",
            Self::SysmonUtc => "sysmon-utctime",
        }
    }

    /// Whether it is the host's wall clock, as far as its zone was told rightly.
    pub fn is_wall(self) -> bool {
        self != Self::SysmonUtc
    }
}

/// A process's identity as Sysmon gives it: the machine, when the process started, and its token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(u128);

impl Guid {
    /// When the process started, in whole seconds; Sysmon keeps it in the second and third group.
    pub fn start(self) -> Timestamp {
        let low = (self.0 >> 80) as u32 & 0xffff;
        let high = (self.0 >> 64) as u32 & 0xffff;
        Timestamp::from_parts(u64::from(high << 16 | low), 0)
    }
}

/// A text that is no GUID, or the one that means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a GUID")]
pub struct NoGuid;

impl FromStr for Guid {
    type Err = NoGuid;

    fn from_str(text: &str) -> Result<Self, NoGuid> {
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        let mut value: u128 = 0;
        let mut digits = 0;
        for c in inner.chars().filter(|c| *c != '-') {
            let digit = c.to_digit(16).ok_or(NoGuid)?;
            value = value << 4 | u128::from(digit);
            digits += 1;
            if digits > 32 {
                return Err(NoGuid);
            }
        }
        if digits == 32 && value != 0 { Ok(Self(value)) } else { Err(NoGuid) }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, digits: u32| (self.0 >> shift) & ((1 << (4 * digits)) - 1);
        let (a, b, c, d, e) = (part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12));
        write!(f, "{{{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}}}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a Windows event log tells of an event beside the event itself.
///
/// In an event of such a log a process id of 0 means that the log does not give it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the event's `ts` was taken from.
    pub clock: Clock,
    /// Sysmon's `UtcTime`, where that is no wall time ([`Clock::SysmonUtc`]).
    pub utc: Option<Timestamp>,
    /// The process's identity.
    pub guid: Option<Guid>,
    /// Its parent's identity.
    pub parent_guid: Option<Guid>,
    /// The path of its parent's executable.
    pub parent_image: Option<String>,
    /// Its parent's command line.
    pub parent_command_line: Option<String>,
    /// The path of the process's executable, where the event itself has no place for it.
    pub image: Option<String>,
    /// The process's account, likewise.
    pub user: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_guid_tells_when_the_process_started() {
        let guid: Guid = "{d273d0f0-e868-5f64-2700-000000000800}".parse().unwrap();
        assert_eq!(guid.start().to_string(), "2020-09-18T17:03:36.000000000Z");
        assert_eq!(guid.to_string(), "{d273d0f0-e868-5f64-2700-000000000800}");
        assert_eq!("D273D0F0-E868-5F64-2700-000000000800".parse(), Ok(guid));
    }

    #[test]
    fn what_is_no_guid_is_none() {
        for text in ["", "-", "{00000000-0000-0000-0000-000000000000}", "{d273d0f0}", "x273d0f0-e868-5f64-2700-0"] {
            assert_eq!(text.parse::<Guid>(), Err(NoGuid), "{text}");
        }
        assert_eq!("d273d0f0e8685f6427000000000008000".parse::<Guid>(), Err(NoGuid), "too long");
    }
}
