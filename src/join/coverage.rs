//! How much could be attributed, and why not the rest.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use super::{Attribution, Why};
use crate::net::Address;

/// A number of flows and of upload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Flows.
    pub flows: u64,
    /// Uploads.
    pub uploads: u64,
    /// Entity bytes of those uploads.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.uploads = self.uploads.saturating_add(other.uploads);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn take(&mut self, other: Self) {
        self.flows = self.flows.saturating_sub(other.flows);
        self.uploads = self.uploads.saturating_sub(other.uploads);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Hosts and clients whose flows are counted apart, of each; those of further ones are counted as [`OTHERS`].
const MOST_CLIENTS: usize = 4_096;

/// Where the flows are counted of those that there was no room for.
pub const OTHERS: &str = "others";

/// Tallies by [`Why::name`], in the order of the names. There are few names, and every flow adds to one of them: looking
/// at all of them takes less than a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByWhy(Vec<(&'static str, Tally)>);

impl ByWhy {
    /// The reasons and what was counted for each.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Tally)> {
        self.0.iter().map(|(why, tally)| (*why, tally))
    }

    /// What was counted for a reason.
    pub fn get(&self, why: &str) -> Option<&Tally> {
        self.iter().find(|(known, _)| *known == why).map(|(_, tally)| tally)
    }

    fn change(&mut self, why: &'static str, change: impl FnOnce(&mut Tally)) {
        match self.0.iter_mut().find(|(known, _)| *known == why) {
            Some((_, tally)) => change(tally),
            None => {
                let mut tally = Tally::default();
                change(&mut tally);
                let place = self.0.partition_point(|(known, _)| *known < why);
                self.0.insert(place, (why, tally));
            }
        }
    }
}

/// What could be attributed to a process, and by reason what could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// With a process.
    pub attributed: Tally,
    /// Without one, by [`Why::name`].
    pub unknown: ByWhy,
}

impl Share {
    /// Everything, attributed or not.
    pub fn all(&self) -> Tally {
        let mut all = self.attributed;
        self.unknown.iter().for_each(|(_, tally)| all.add(*tally));
        all
    }

    fn add(&mut self, attribution: &Attribution, tally: Tally) {
        match attribution {
            Attribution::Known { .. } => self.attributed.add(tally),
            Attribution::Unknown { why, .. } => self.unknown.change(Why::name(*why), |counted| counted.add(tally)),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.attributed.add(other.attributed);
        for (why, tally) in other.unknown.iter() {
            self.unknown.change(why, |counted| counted.add(*tally));
        }
    }
}

/// The same of everything, of each host that tells events, and of each client that does not. Can be merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Of everything.
    pub total: Share,
    /// Of hosts that tell events, by their identity.
    pub hosts: BTreeMap<String, Share>,
    /// Of clients of which nothing tells: found for every flow, so by hash. Their number is bounded, and their order is
    /// never told.
    unseen: HashMap<Address, Share, FixedState>,
    /// Of such clients beyond their number.
    others: Share,
}

impl Coverage {
    /// Counts a flow.
    pub fn flow(&mut self, client: Address, attribution: &Attribution) {
        self.add(client, attribution, Tally { flows: 1, ..Tally::default() });
    }

    /// Counts an upload of so many entity bytes.
    pub fn upload(&mut self, client: Address, attribution: &Attribution, bytes: u64) {
        self.add(client, attribution, Tally { uploads: 1, bytes, ..Tally::default() });
    }

    /// Counts an upload for its process that was counted without one.
    pub fn correct(&mut self, client: Address, before: &Attribution, now: &Attribution, bytes: u64) {
        let tally = Tally { uploads: 1, bytes, ..Tally::default() };
        let Attribution::Unknown { why, host } = before else { return };
        let row = match host {
            Some(host) => row(&mut self.hosts, &host.id),
            None => self.unseen.get_mut(&client).unwrap_or(&mut self.others),
        };
        for share in [&mut self.total, row] {
            share.unknown.change(why.name(), |counted| counted.take(tally));
            share.unknown.0.retain(|(_, left)| *left != Tally::default());
        }
        self.add(client, now, tally);
    }

    /// Adds what another part of the work counted.
    pub fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total);
        for (name, share) in &other.hosts {
            row(&mut self.hosts, name).merge(share);
        }
        for (client, share) in &other.unseen {
            self.client(*client).merge(share);
        }
        self.others.merge(&other.others);
    }

    /// Of clients of which nothing tells, by their address as text; of those beyond the bound as [`OTHERS`].
    pub fn unseen(&self) -> BTreeMap<String, &Share> {
        let clients = self.unseen.iter().map(|(client, share)| (client.to_string(), share));
        let others = (self.others != Share::default()).then(|| (OTHERS.to_owned(), &self.others));
        clients.chain(others).collect()
    }

    fn add(&mut self, client: Address, attribution: &Attribution, tally: Tally) {
        self.total.add(attribution, tally);
        match attribution.host() {
            Some(host) => row(&mut self.hosts, &host.id).add(attribution, tally),
            None => self.client(client).add(attribution, tally),
        }
    }

    fn client(&mut self, client: Address) -> &mut Share {
        if self.unseen.len() >= MOST_CLIENTS && !self.unseen.contains_key(&client) {
            return &mut self.others;
        }
        self.unseen.entry(client).or_default()
    }
}

fn row<'r>(rows: &'r mut BTreeMap<String, Share>, name: &str) -> &'r mut Share {
    let name = if rows.len() >= MOST_CLIENTS && !rows.contains_key(name) { OTHERS } else { name };
    rows.entry(name.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_of_parts_adds_up() {
        let unknown = Attribution::Unknown { why: Why::NoEndpoint, host: None };
        let mut one = Coverage::default();
        let client = Address::v4([10, 0, 0, 5]);
        one.flow(client, &unknown);
        one.upload(client, &unknown, 50);
        let mut all = one.clone();
        all.merge(&one);
        let tally = Tally { flows: 2, uploads: 2, bytes: 100 };
        assert_eq!(all.total.unknown.get("no-endpoint"), Some(&tally));
        assert_eq!(all.total.attributed, Tally::default());
        assert_eq!(all.unseen().get("10.0.0.5").map(|share| share.all()), Some(tally));
        assert!(all.hosts.is_empty());
    }

    #[test]
    fn clients_beyond_the_bound_are_counted_together() {
        let unknown = Attribution::Unknown { why: Why::NoEndpoint, host: None };
        let mut coverage = Coverage::default();
        for n in 0..5_000_u32 {
            let [a, b, c, d] = n.to_be_bytes();
            coverage.flow(Address::v4([10 + a, b, c, d]), &unknown);
        }
        assert_eq!(coverage.unseen().len(), MOST_CLIENTS + 1);
        assert_eq!(coverage.unseen().get(OTHERS).map(|share| share.all().flows), Some(904));
    }
}
