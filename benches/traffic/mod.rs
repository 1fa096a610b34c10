//! Captures to measure with: the same on every machine, made from nothing but a seed.
//!
//! Every packet is as its hosts would send it: handshakes, sequence and acknowledgement numbers, windows, checksums,
//! closes. Nothing is lost, sent twice or out of order. Times are those of a full link of 1 Gbit/s.

#![allow(dead_code)]

pub mod conversation;
pub mod dns;
pub mod frame;
pub mod ftp;
pub mod http;
pub mod random;
pub mod savefile;
pub mod scene;
pub mod small;
pub mod tls;
pub mod totals;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use savefile::Savefile;
use scene::Scene;
use totals::Totals;

/// How much larger or smaller than usual, a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    numerator: u64,
    denominator: u64,
}

impl Scale {
    pub const FULL: Self = Self { numerator: 1, denominator: 1 };

    /// `amount` at this scale, at least 1.
    pub fn of(self, amount: u64) -> u64 {
        (amount * self.numerator / self.denominator).max(1)
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| (1..=1000).contains(n));
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        match (number(numerator), number(denominator)) {
            (Some(numerator), Some(denominator)) => Ok(Self { numerator, denominator }),
            _ => Err(format!("scale {text}: not a number or fraction such as 10 or 1/100, of at most 1000")),
        }
    }
}

/// One of the four captures, or one for a purpose of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    Uploads,
    Ftp,
    Mix,
    Small,
    /// Large encrypted transfers, of which a sensor needs nothing.
    Encrypted,
    /// Large downloads in the clear.
    Downloads,
}

impl Capture {
    /// The four.
    pub const ALL: [Self; 4] = [Self::Uploads, Self::Ftp, Self::Mix, Self::Small];
    /// The others.
    const FURTHER: [Self; 2] = [Self::Encrypted, Self::Downloads];

    /// Writes the capture, and says what it holds.
    pub fn write(self, scale: Scale, out: impl Write) -> io::Result<Totals> {
        let mut file = Savefile::new(out)?;
        match self {
            Self::Uploads => Scene::uploads(scale).write(scale, &mut file)?,
            Self::Ftp => Scene::ftp(scale).write(scale, &mut file)?,
            Self::Mix => Scene::mix(scale).write(scale, &mut file)?,
            Self::Small => small::write(scale, &mut file)?,
            Self::Encrypted => Scene::encrypted(scale).write(scale, &mut file)?,
            Self::Downloads => Scene::downloads(scale).write(scale, &mut file)?,
        }
        file.finish()
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uploads => "uploads",
            Self::Ftp => "ftp",
            Self::Mix => "mix",
            Self::Small => "small",
            Self::Encrypted => "encrypted",
            Self::Downloads => "downloads",
        })
    }
}

impl FromStr for Capture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().chain(Self::FURTHER).find(|capture| capture.to_string() == text);
        found.ok_or_else(|| {
            format!("{text}: no such capture; there are uploads, ftp, mix, small, encrypted and downloads")
        })
    }
}
