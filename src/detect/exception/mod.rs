//! Exceptions: what an owner has justified, for a time, so that it raises no alert.
//!
//! In come an upload, whose it is and its verdict; out goes the identifier of the exception that covers it, or none.
//! An alert that is covered is still made, kept and counted. An exception holds until it expires, by the time of the
//! packets, and, where it has a ceiling, until that many bytes have passed under it on a day (UTC). No clock is read.

mod breadth;
mod diff;
mod file;
mod pattern;
mod review;
mod set;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use crate::config::Destination;
use crate::join::{Attribution, HostName};
use crate::net::{Address, ByteSize, Span, Timestamp};
use crate::record::{Protocol, Upload};

pub use breadth::{TooBroad, is_too_broad};
pub use diff::{Difference, described, differences};
pub use file::{ExceptionFileError, format_when, parse_exceptions, parse_when, write_exceptions};
pub use pattern::{HostPattern, Pattern, PatternRefused};
pub use review::{Finding, Hidden, Largest, ReviewBounds, Usage, review};
pub use set::{ExceptionCounters, Exceptions};

/// Characters of an owner's name.
const LONGEST_OWNER: usize = 200;
/// Characters of a justification.
const LONGEST_JUSTIFICATION: usize = 1_000;

/// The number of an exception; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExceptionId(pub u32);

/// `EX-0007`
impl fmt::Display for ExceptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EX-{:04}", self.0)
    }
}

/// Why a text is not the identifier of an exception.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the identifier of an exception such as \"EX-0007\", found \"{0}\"")]
pub struct ExceptionIdError(pub String);

impl std::str::FromStr for ExceptionId {
    type Err = ExceptionIdError;

    fn from_str(text: &str) -> Result<Self, ExceptionIdError> {
        let digits = text.get(..3).filter(|prefix| prefix.eq_ignore_ascii_case("EX-")).and_then(|_| text.get(3..));
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| *number > 0);
        number.map(Self).ok_or_else(|| ExceptionIdError(text.to_owned()))
    }
}

/// What of an upload tells whether an exception covers it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `ftp`, `http`, `http2` or `websocket`.
    pub protocol: &'a str,
    /// Where it went; none if only a proxy knows.
    pub server: Option<IpAddr>,
    /// The same by name.
    pub domain: Option<&'a str>,
    /// The home host's address.
    pub client: Address,
    /// The home host.
    pub host: Option<&'a HostName>,
    /// The full image path of the process.
    pub image: Option<&'a str>,
    /// The account.
    pub user: Option<&'a str>,
}

/// What an exception covers. What is left out means any; at least one of the first four is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// The full image path of the process.
    pub process: Option<Pattern>,
    /// Where it goes; proxies are looked through.
    pub destination: Option<Destination>,
    /// The home host.
    pub host: Option<HostPattern>,
    /// The account, as `DOMAIN\name`, or the name alone.
    pub user: Option<Pattern>,
    /// `ftp`, `http`, `http2` or `websocket`.
    pub protocol: Option<String>,
    /// How many bytes may pass on a day (UTC).
    pub ceiling: Option<ByteSize>,
}

/// Something that an owner has justified.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    /// Its number.
    pub id: ExceptionId,
    /// What it covers.
    pub scope: Scope,
    /// It covers much, knowingly.
    pub broad: bool,
    /// Who answers for it.
    pub owner: String,
    /// Why it is so.
    pub justification: String,
    /// When it was made, by the clock of the machine.
    pub created: Timestamp,
    /// From when on it covers nothing, by the time of the packets.
    pub expires: Timestamp,
}

/// Why an exception cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExceptionRefused {
    /// Nothing narrows it.
    #[error("give at least one of process, destination, host and user: a protocol or a ceiling alone covers everybody")]
    NothingNarrows,
    /// It covers too much.
    #[error("too broad: {0}; narrow it, or say that it is meant so (--broad, or `broad = true`)")]
    TooBroad(TooBroad),
    /// A text is empty, too long, or has control characters.
    #[error("{what}: expected 1 to {longest} characters on one line")]
    Text {
        /// `owner` or `justification`.
        what: &'static str,
        /// The longest that is taken, in characters.
        longest: usize,
    },
    /// It holds for longer than is allowed.
    #[error("expires in {found}, later than the {longest} that `detect.longest_exception` allows")]
    TooLong {
        /// How long from now.
        found: String,
        /// How long is allowed.
        longest: String,
    },
}

impl Exception {
    /// Looks it over as at `now`: no exception may hold for longer than `longest` from then on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, now: Timestamp, longest: Span) -> Result<(), ExceptionRefused> {
        check_text("owner", &self.owner, LONGEST_OWNER)?;
        check_text("justification", &self.justification, LONGEST_JUSTIFICATION)?;
        if !self.scope.narrows() && !self.broad {
            return Err(ExceptionRefused::NothingNarrows);
        }
        if let Some(why) = is_too_broad(&self.scope).filter(|_| !self.broad) {
            return Err(ExceptionRefused::TooBroad(why));
        }
        if self.expires > now.after(longest) {
            let days = |span: Span| format!("{} days", span.0.div_ceil(86_400_000_000_000));
            let (found, longest) = (days(self.expires.since(now)), days(longest));
            return Err(ExceptionRefused::TooLong { found, longest });
        }
        Ok(())
    }

    /// Whether it holds at that time.
    pub fn holds(&self, at: Timestamp) -> bool {
        at < self.expires
    }
}

fn check_text(what: &'static str, text: &str, longest: usize) -> Result<(), ExceptionRefused> {
    let fits = !text.trim().is_empty() && text.chars().count() <= longest && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(ExceptionRefused::Text { what, longest }) }
}

impl Scope {
    /// Whether anything but the protocol and the ceiling is given.
    pub fn narrows(&self) -> bool {
        self.process.is_some() || self.destination.is_some() || self.host.is_some() || self.user.is_some()
    }

    /// Whether the upload is covered, time and ceiling aside. What is not known of an upload is covered by no pattern.
    pub fn covers(&self, upload: &Upload, attribution: &Attribution) -> bool {
        let process = attribution.process();
        self.covers_facts(&Facts {
            protocol: protocol_name(upload.protocol),
            server: upload.destination_ip(),
            domain: upload.domain.as_deref(),
            client: upload.connection.client.address,
            host: attribution.host(),
            image: process.and_then(|process| process.image.as_deref()),
            user: process.and_then(|process| process.user.as_deref()),
        })
    }

    /// The same of an upload of which only this is known.
    pub fn covers_facts(&self, facts: &Facts<'_>) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == facts.protocol)
            && self.destination.as_ref().is_none_or(|there| there.matches(facts.server, facts.domain))
            && self.host.as_ref().is_none_or(|host| host.matches(facts.client, facts.host))
            && self.process.as_ref().is_none_or(|pattern| facts.image.is_some_and(|image| pattern.matches(image)))
            && self.user.as_ref().is_none_or(|pattern| facts.user.is_some_and(|user| pattern.matches_account(user)))
    }

    /// What it gives, each as a name and a text, in a fixed order.
    pub fn parts(&self) -> Vec<(&'static str, String)> {
        let parts = [
            ("process", self.process.as_ref().map(ToString::to_string)),
            ("destination", self.destination.as_ref().map(ToString::to_string)),
            ("host", self.host.as_ref().map(ToString::to_string)),
            ("user", self.user.as_ref().map(ToString::to_string)),
            ("protocol", self.protocol.clone()),
            ("ceiling", self.ceiling.map(|ceiling| format!("{ceiling} a day"))),
        ];
        parts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }

    /// How narrow it is; narrower ones come first.
    fn narrowness(&self) -> (usize, usize) {
        let given = self.parts().len();
        let network = |net: &ipnet::IpNet| usize::from(net.prefix_len()) + 128 - usize::from(net.max_prefix_len());
        let destination = match &self.destination {
            Some(Destination::Network(net)) => network(net),
            Some(Destination::Domain(name)) => name.len().min(128),
            None => 0,
        };
        let host = match &self.host {
            Some(HostPattern::Network(net)) => network(net),
            Some(HostPattern::Name(pattern)) => pattern.literal().min(128),
            None => 0,
        };
        let pattern = |pattern: &Option<Pattern>| pattern.as_ref().map_or(0, Pattern::literal);
        (given, destination + host + pattern(&self.process) + pattern(&self.user))
    }
}

/// The protocols that an exception can name.
pub const EXCEPTION_PROTOCOLS: [&str; 4] = ["ftp", "http", "http2", "websocket"];

/// An exception knows an FTP data connection as FTP.
fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::FtpData => Protocol::Ftp.name(),
        other => other.name(),
    }
}
