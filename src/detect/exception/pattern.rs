//! Patterns of processes, accounts and hosts.

use std::fmt;

use ipnet::IpNet;

use crate::config::{Destination, ExpectedProcess};
use crate::join::HostName;
use crate::net::Address;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternRefused(String);

/// A text in which `*` stands for any characters, also backslashes; upper and lower case are the same.
#[derive(Clone, PartialEq)]
pub struct Pattern(ExpectedProcess);

impl Pattern {
    /// Whether the whole text fits.
    pub fn matches(&self, text: &str) -> bool {
        self.0.matches_image(text)
    }

    /// Whether an account, `DOMAIN\name`, fits; a pattern without a backslash is one of the name alone.
    pub fn matches_account(&self, account: &str) -> bool {
        let name = if self.0.image.contains('\\') { account } else { account.rsplit('\\').next().unwrap_or(account) };
        self.matches(name)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0.image
    }

    /// How many of its characters mean themselves.
    pub(super) fn literal(&self) -> usize {
        self.0.image.chars().filter(|c| c.is_alphanumeric()).count()
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternRefused;

    fn from_str(text: &str) -> Result<Self, PatternRefused> {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(PatternRefused("expected a pattern such as 'C:\\Program Files\\Backup\\*.exe'".to_owned()));
        }
        let compiled = ExpectedProcess::new(text, Vec::new(), Vec::new());
        compiled.map(Self).map_err(|error| PatternRefused(format!("the pattern cannot be used: {error}")))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.image, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.image)
    }
}

/// A home host, or several.
#[derive(Clone, Debug, PartialEq)]
pub enum HostPattern {
    /// By address; a single one is a network of one.
    Network(IpNet),
    /// By name: of the host, with or without its domain, or its identifier.
    Name(Pattern),
}

impl HostPattern {
    /// Whether the host at that address, by the name that its helper gave, fits.
    pub fn matches(&self, address: Address, name: Option<&HostName>) -> bool {
        match self {
            Self::Network(network) => network.contains(&address.ip().to_canonical()),
            Self::Name(pattern) => name.is_some_and(|host| {
                let full =
                    host.name.as_ref().zip(host.domain.as_ref()).map(|(name, domain)| format!("{name}.{domain}"));
                pattern.matches(&host.id)
                    || host.name.as_deref().is_some_and(|name| pattern.matches(name))
                    || full.is_some_and(|full| pattern.matches(&full))
            }),
        }
    }
}

impl std::str::FromStr for HostPattern {
    type Err = PatternRefused;

    fn from_str(text: &str) -> Result<Self, PatternRefused> {
        match text.parse::<Destination>() {
            Ok(Destination::Network(network)) => Ok(Self::Network(network)),
            _ if looks_like_address(text) => {
                Err(PatternRefused(format!("expected an address, a network or a name, found \"{text}\"")))
            }
            _ => text.parse().map(Self::Name),
        }
    }
}

/// Digits and separators alone are a mistyped address rather than a name.
fn looks_like_address(text: &str) -> bool {
    text.contains(['.', '/']) && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'/'))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => Destination::Network(*network).fmt(f),
            Self::Name(pattern) => pattern.fmt(f),
        }
    }
}
