//! How much could be attributed, and why not the rest.

use std::collections::BTreeMap;

use super::{Attribution, Why};

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
}

/// What could be attributed to a process, and by reason what could not. Can be merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// With a process.
    pub attributed: Tally,
    /// Without one, by [`Why::name`].
    pub unknown: BTreeMap<&'static str, Tally>,
}

impl Coverage {
    /// Counts a flow.
    pub fn flow(&mut self, attribution: &Attribution) {
        self.tally(attribution).add(Tally { flows: 1, ..Tally::default() });
    }

    /// Counts an upload of so many entity bytes.
    pub fn upload(&mut self, attribution: &Attribution, bytes: u64) {
        self.tally(attribution).add(Tally { uploads: 1, bytes, ..Tally::default() });
    }

    /// Adds what another part of the work counted.
    pub fn merge(&mut self, other: &Self) {
        self.attributed.add(other.attributed);
        for (why, tally) in &other.unknown {
            self.unknown.entry(why).or_default().add(*tally);
        }
    }

    fn tally(&mut self, attribution: &Attribution) -> &mut Tally {
        match attribution {
            Attribution::Known { .. } => &mut self.attributed,
            Attribution::Unknown { why, .. } => self.unknown.entry(Why::name(*why)).or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_of_parts_adds_up() {
        let unknown = Attribution::Unknown { why: Why::NoEndpoint, host: None };
        let mut one = Coverage::default();
        one.flow(&unknown);
        one.upload(&unknown, 50);
        let mut all = one.clone();
        all.merge(&one);
        assert_eq!(all.unknown.get("no-endpoint"), Some(&Tally { flows: 2, uploads: 2, bytes: 100 }));
        assert_eq!(all.attributed, Tally::default());
    }
}
