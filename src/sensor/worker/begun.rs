//! Which connections an upload may have begun on, and which are still being read.

use super::{Segment, Worker, lane_of};
use crate::net::Endpoint;

impl Worker {
    /// From now on, takes note of connections on which an upload may begin.
    pub(in crate::sensor) fn note_begun(&mut self) {
        self.lanes.iter_mut().flatten().for_each(|tracker| tracker.app().note_begun());
    }

    /// The connections that were noted since this was last asked.
    pub(in crate::sensor) fn take_begun(&mut self, take: &mut impl FnMut(Endpoint, Endpoint)) {
        for tracker in self.lanes.iter_mut().flatten() {
            tracker.app().take_begun().into_iter().for_each(|(a, b)| take(a, b));
        }
    }

    /// Whether more of a segment's connection is needed than counts; of one that is not there any more, too.
    pub(in crate::sensor) fn reads(&self, segment: &Segment<'_>) -> bool {
        let lane = lane_of(segment.source.address, segment.destination.address);
        let Some(Some(tracker)) = self.lanes.get(lane) else { return true };
        !tracker.counts_only(&tracker.key(segment), segment)
    }
}
