//! The roll: every certificate that was issued, and whether it is still valid. Lines are only ever appended to it.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{AuthorityError, ROLL};
use crate::net::Timestamp;

/// A line is some 200 bytes.
const MAX_ROLL: u64 = 256 << 20;

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Hexadecimal, lower-case.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A certificate on the roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The host that it names.
    pub host: String,
    /// Which certificate.
    pub certificate: Fingerprint,
    /// From when on it is valid.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// Whether a certificate lets its host in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Valid,
    /// Not yet.
    Early,
    /// Not any more: its time is over.
    Expired,
    /// Not any more: it was revoked.
    Revoked,
    /// It is not on the roll.
    Unknown,
}

impl Enrolled {
    /// Whether it is valid at that time.
    pub fn standing(&self, at: Timestamp) -> Standing {
        match self.revoked {
            Some(_) => Standing::Revoked,
            None if at > self.until => Standing::Expired,
            None if at < self.from => Standing::Early,
            None => Standing::Valid,
        }
    }
}

/// Every certificate that was issued.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    certificates: HashMap<Fingerprint, Enrolled>,
    /// Lines that are none of a roll.
    pub damaged: u64,
}

#[derive(Deserialize)]
struct Entry {
    certificate: String,
    host: Option<String>,
    from: Option<u64>,
    until: Option<u64>,
    revoked: Option<u64>,
}

impl Roll {
    /// The roll in a state directory; empty if there is none.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Self, AuthorityError> {
        let path = folder.join(ROLL);
        let failed = |source| AuthorityError::File { path: path.clone(), what: "cannot be read", source };
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(MAX_ROLL).read_to_end(&mut text).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error)),
        };
        Ok(Self::parse(&text))
    }

    /// When the roll in a state directory was last written, and its length: where both are the same, so is the roll.
    pub fn changed(folder: &Path) -> Option<(std::time::SystemTime, u64)> {
        let metadata = std::fs::metadata(folder.join(ROLL)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    fn parse(text: &[u8]) -> Self {
        let mut roll = Self::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            if roll.line(line).is_none() {
                roll.damaged += 1;
            }
        }
        roll
    }

    fn line(&mut self, line: &[u8]) -> Option<()> {
        let entry: Entry = serde_json::from_slice(line).ok()?;
        let certificate = Fingerprint::parse(&entry.certificate)?;
        if let Some(at) = entry.revoked {
            self.certificates.get_mut(&certificate)?.revoked.get_or_insert(Timestamp(at));
            return Some(());
        }
        let (from, until) = (Timestamp(entry.from?), Timestamp(entry.until?));
        let enrolled = Enrolled { host: entry.host?, certificate, from, until, revoked: None };
        self.certificates.entry(certificate).or_insert(enrolled);
        Some(())
    }

    /// Whether a certificate lets its host in at that time.
    pub fn standing(&self, certificate: &Fingerprint, at: Timestamp) -> Standing {
        self.certificates.get(certificate).map_or(Standing::Unknown, |enrolled| enrolled.standing(at))
    }

    /// All certificates, in no order.
    pub fn certificates(&self) -> impl Iterator<Item = &Enrolled> {
        self.certificates.values()
    }
}

/// The line of a new certificate.
pub(super) fn enrolment(enrolled: &Enrolled) -> String {
    let Enrolled { host, certificate, from, until, revoked: _ } = enrolled;
    let line = json!({ "certificate": certificate.to_string(), "host": host, "from": from.0, "until": until.0 });
    format!("{line}\n")
}

/// The line that revokes one.
pub(super) fn revocation(enrolled: &Enrolled, at: Timestamp) -> String {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(line, "{}", json!({ "certificate": enrolled.certificate.to_string(), "revoked": at.0 }));
    line
}
