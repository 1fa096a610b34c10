//! Which host had which address, and when.

use std::collections::HashMap;
use std::sync::Arc;

use crate::net::{Address, Timestamp};

/// Changes of hands kept per address; the oldest are forgotten first.
const CLAIMS_PER_ADDRESS: usize = 256;

/// From a time on, an address belongs to a host, or to none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    from: Timestamp,
    host: Option<Arc<str>>,
}

/// Which host had which address, and when.
///
/// An address belongs to a host from its claim until the next one. Its first claim also reaches back to the beginning,
/// as a host has its address before its helper first says so.
#[derive(Debug, Default)]
pub(super) struct Owners {
    claims: HashMap<Address, Vec<Claim>>,
    count: u64,
}

impl Owners {
    /// The hosts that had the address at some time from `from` to `to`, in the order of time, each once.
    pub(super) fn between(&self, address: Address, from: Timestamp, to: Timestamp) -> Vec<&Arc<str>> {
        let Some(claims) = self.claims.get(&address) else { return Vec::new() };
        let after = claims.partition_point(|claim| claim.from <= from);
        let first = after.saturating_sub(1);
        let mut hosts: Vec<&Arc<str>> = Vec::new();
        for (at, claim) in claims.iter().enumerate().skip(first) {
            if at > first && claim.from > to {
                break;
            }
            if let Some(host) = claim.host.as_ref().filter(|host| !hosts.contains(host)) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// The host has the address at that time, and from then on; whether this was news.
    pub(super) fn claim(&mut self, address: Address, from: Timestamp, host: &Arc<str>) -> bool {
        self.set(address, from, Some(host))
    }

    /// The host has the address no more.
    pub(super) fn release(&mut self, address: Address, from: Timestamp, host: &Arc<str>) {
        let owned = self.at(address, from).is_some_and(|owner| owner == host);
        if owned {
            self.set(address, from, None);
        }
    }

    /// An estimate of the memory in use, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        const PER_ADDRESS: u64 = 120;
        const PER_CLAIM: u64 = 64;
        self.claims.len() as u64 * PER_ADDRESS + self.count * PER_CLAIM
    }

    fn at(&self, address: Address, time: Timestamp) -> Option<&Arc<str>> {
        let claims = self.claims.get(&address)?;
        let after = claims.partition_point(|claim| claim.from <= time);
        claims.get(after.checked_sub(1)?)?.host.as_ref()
    }

    fn set(&mut self, address: Address, from: Timestamp, host: Option<&Arc<str>>) -> bool {
        let claims = self.claims.entry(address).or_default();
        let after = claims.partition_point(|claim| claim.from <= from);
        if after.checked_sub(1).and_then(|at| claims.get(at)).is_some_and(|claim| claim.host.as_ref() == host) {
            return false;
        }
        // The same host's next claim only begins earlier than was known.
        if let Some(next) = claims.get_mut(after).filter(|claim| claim.host.as_ref() == host) {
            next.from = from;
            return false;
        }
        claims.insert(after, Claim { from, host: host.cloned() });
        self.count += 1;
        if claims.len() > CLAIMS_PER_ADDRESS {
            claims.remove(0);
            self.count -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip() -> Address {
        Address::v4([10, 0, 0, 5])
    }

    fn owners(owners: &Owners, from: u64, to: u64) -> Vec<&str> {
        owners.between(ip(), Timestamp(from), Timestamp(to)).into_iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn an_address_may_move_between_hosts() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut all = Owners::default();
        assert!(all.claim(ip(), Timestamp(10), &a));
        assert!(all.claim(ip(), Timestamp(50), &b));
        assert!(!all.claim(ip(), Timestamp(60), &b), "said again");
        assert_eq!(owners(&all, 20, 30), ["a"]);
        assert_eq!(owners(&all, 40, 60), ["a", "b"]);
        assert_eq!(owners(&all, 50, 90), ["b"]);
        assert_eq!(owners(&all, 1, 2), ["a"], "the first claim reaches back");
    }

    #[test]
    fn a_released_address_belongs_to_nobody() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut all = Owners::default();
        all.claim(ip(), Timestamp(10), &a);
        all.release(ip(), Timestamp(20), &b);
        assert_eq!(owners(&all, 30, 30), ["a"], "only its owner can release it");
        all.release(ip(), Timestamp(20), &a);
        assert_eq!(owners(&all, 30, 30), [""; 0]);
        assert_eq!(owners(&all, 15, 30), ["a"]);
    }

    #[test]
    fn claims_that_come_late_are_put_in_their_place() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut all = Owners::default();
        all.claim(ip(), Timestamp(50), &b);
        all.claim(ip(), Timestamp(40), &b);
        all.claim(ip(), Timestamp(10), &a);
        assert_eq!(owners(&all, 39, 39), ["a"]);
        assert_eq!(owners(&all, 40, 40), ["b"]);
        assert_eq!(all.count, 2);
    }

    #[test]
    fn two_hosts_that_quarrel_over_an_address_cost_bounded_memory() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut all = Owners::default();
        for n in 0..2_000 {
            all.claim(ip(), Timestamp(n), if n % 2 == 0 { &a } else { &b });
        }
        assert_eq!(all.count, CLAIMS_PER_ADDRESS as u64);
    }
}
