//! What covers too much to be an exception that somebody can answer for.

use super::{HostPattern, Pattern, Scope};
use crate::config::Destination;

/// Networks shorter than this cover too much: a /16, or what one site gets of IPv6.
const SHORTEST_V4: u8 = 16;
const SHORTEST_V6: u8 = 32;
/// A pattern with wildcards and fewer letters and digits, its extension aside, names nothing.
const FEWEST_LITERAL: usize = 3;

/// Which part of an exception covers too much, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} \"{text}\" {why}")]
pub struct TooBroad {
    /// The part's name.
    pub part: &'static str,
    /// The part.
    pub text: String,
    /// Why it covers too much.
    pub why: &'static str,
}

/// The first part of the scope that covers too much; none if every part narrows it, and there is one.
pub fn is_too_broad(scope: &Scope) -> Option<TooBroad> {
    let parts = [
        ("process", scope.process.as_ref().and_then(program)),
        ("destination", scope.destination.as_ref().and_then(destination)),
        ("host", scope.host.as_ref().and_then(host)),
        ("user", scope.user.as_ref().and_then(name)),
    ];
    let found = parts.into_iter().find_map(|(part, found)| found.map(|(text, why)| TooBroad { part, text, why }));
    let nothing = || TooBroad {
        part: "protocol",
        text: scope.protocol.clone().unwrap_or_else(|| "any".to_owned()),
        why: "is all that is given",
    };
    found.or_else(|| (!scope.narrows()).then(nothing))
}

type Found = Option<(String, &'static str)>;

fn program(pattern: &Pattern) -> Found {
    let text = pattern.as_str();
    let file = text.rsplit(['\\', '/']).next().unwrap_or(text);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let folder = text.strip_suffix(file).unwrap_or_default();
    // The letter of a drive names no folder.
    let folder = folder.split_once(':').map_or(folder, |(_, folder)| folder);
    // A name without a wildcard is one program's, however short.
    let whole = literal(stem) > 0 && !stem.contains(['*', '?', '[', '{']);
    let named = whole || literal(stem) >= FEWEST_LITERAL || literal(folder) >= FEWEST_LITERAL;
    (!named).then(|| (text.to_owned(), "names no program and no folder"))
}

fn name(pattern: &Pattern) -> Found {
    let text = pattern.as_str();
    let name = text.rsplit('\\').next().unwrap_or(text);
    (literal(name) == 0).then(|| (text.to_owned(), "fits everybody"))
}

fn literal(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}

fn network(network: &ipnet::IpNet) -> Found {
    let shortest = if network.max_prefix_len() == 32 { SHORTEST_V4 } else { SHORTEST_V6 };
    (network.prefix_len() < shortest).then(|| (network.to_string(), "covers too many addresses"))
}

fn destination(destination: &Destination) -> Found {
    match destination {
        Destination::Network(net) => network(net),
        // A name below which anybody can register has no registrable part itself.
        Destination::Domain(domain) => {
            psl::domain_str(domain).is_none().then(|| (domain.clone(), "is a suffix under which anybody can register"))
        }
    }
}

fn host(host: &HostPattern) -> Found {
    match host {
        HostPattern::Network(net) => network(net),
        HostPattern::Name(pattern) => {
            (literal(pattern.as_str()) == 0).then(|| (pattern.to_string(), "fits every host"))
        }
    }
}
