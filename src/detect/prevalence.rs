//! How many home hosts upload to a destination.

use lru::LruCache;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::net::Address;
use crate::record::Upload;

/// Destinations remembered. Beyond that the one least recently uploaded to is forgotten, and is rare again.
pub const MAX_DESTINATIONS: NonZeroUsize = NonZeroUsize::new(262_144).unwrap();

/// A longer name is no domain name (RFC 1035 section 2.3.4).
const MAX_DOMAIN: usize = 253;

/// What the bound on destinations cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrevalenceCounters {
    /// Destinations that were forgotten.
    pub forgotten: u64,
}

/// Which home hosts uploaded to which destination. Can be split by destination, and merged.
#[derive(Debug)]
pub struct Prevalence {
    hosts: LruCache<String, BTreeSet<Address>>,
    /// Hosts kept per destination: more than this is as good as any number.
    enough: usize,
    counters: PrevalenceCounters,
}

impl Prevalence {
    /// Counts up to `enough` hosts per destination, of [`MAX_DESTINATIONS`] destinations.
    pub fn new(enough: u64) -> Self {
        // Growth on demand: most networks have few destinations.
        let hosts = LruCache::unbounded();
        let enough = usize::try_from(enough).unwrap_or(usize::MAX).max(1);
        Self { hosts, enough, counters: PrevalenceCounters::default() }
    }

    /// From now on counts up to `enough` hosts per destination. What was counted before stays.
    pub fn count_to(&mut self, enough: u64) {
        self.enough = usize::try_from(enough).unwrap_or(usize::MAX).max(1);
    }

    /// The destination of an upload: its domain name in lower case if one is known, else its address.
    pub fn destination(upload: &Upload) -> String {
        let domain = upload.domain.as_deref().map(|name| name.strip_suffix('.').unwrap_or(name));
        match domain.filter(|name| !name.is_empty() && name.len() <= MAX_DOMAIN) {
            Some(name) => name.to_lowercase(),
            None => match &upload.proxied_to {
                Some(host) => host.clone(),
                None => upload.connection.server.address.to_string(),
            },
        }
    }

    /// The home host uploaded to the destination.
    pub fn observe(&mut self, destination: &str, host: Address) {
        let enough = self.enough;
        let hosts = self.entry(destination);
        if hosts.len() < enough {
            hosts.insert(host);
        }
    }

    /// How many home hosts uploaded there, as far as is counted.
    pub fn hosts(&self, destination: &str) -> u64 {
        self.hosts.peek(destination).map_or(0, |hosts| hosts.len() as u64)
    }

    /// Adds what another part of the work saw, its least recent destination first.
    pub fn merge(&mut self, other: &Self) {
        for (destination, seen) in other.hosts.iter().rev() {
            let enough = self.enough;
            let hosts = self.entry(destination);
            let room = enough.saturating_sub(hosts.len());
            let new: Vec<Address> = seen.difference(hosts).take(room).copied().collect();
            hosts.extend(new);
        }
        self.counters.forgotten = self.counters.forgotten.saturating_add(other.counters.forgotten);
    }

    /// What the bound cost so far.
    pub fn counters(&self) -> PrevalenceCounters {
        self.counters
    }

    fn entry(&mut self, destination: &str) -> &mut BTreeSet<Address> {
        if self.hosts.len() >= MAX_DESTINATIONS.get() && !self.hosts.contains(destination) {
            self.hosts.pop_lru();
            self.counters.forgotten += 1;
        }
        self.hosts.get_or_insert_mut_ref(destination, BTreeSet::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> Address {
        Address::v4([10, 0, 0, n])
    }

    #[test]
    fn a_host_counts_once() {
        let mut prevalence = Prevalence::new(3);
        for n in [1, 1, 2, 2] {
            prevalence.observe("a.example", ip(n));
        }
        assert_eq!(prevalence.hosts("a.example"), 2);
        assert_eq!(prevalence.hosts("b.example"), 0);
        for n in 3..9 {
            prevalence.observe("a.example", ip(n));
        }
        assert_eq!(prevalence.hosts("a.example"), 3, "more than enough is not kept");
    }

    #[test]
    fn the_parts_of_the_work_add_up() {
        let (mut one, mut other) = (Prevalence::new(3), Prevalence::new(3));
        one.observe("a", ip(1));
        other.observe("a", ip(1));
        other.observe("a", ip(2));
        other.observe("b", ip(2));
        one.merge(&other);
        assert_eq!((one.hosts("a"), one.hosts("b")), (2, 1));
    }

    #[test]
    fn destinations_are_bounded_and_the_least_recent_goes_first() {
        let mut prevalence = Prevalence::new(3);
        prevalence.observe("busy", ip(1));
        for n in 0..MAX_DESTINATIONS.get() + 10 {
            if n % 1_000 == 0 {
                prevalence.observe("busy", ip(2));
            }
            prevalence.observe(&n.to_string(), ip(1));
        }
        assert_eq!(prevalence.counters().forgotten, 11);
        assert_eq!(prevalence.hosts("busy"), 2);
        assert_eq!(prevalence.hosts("0"), 0);
    }
}
