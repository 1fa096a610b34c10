//! Several captures as one: sources in, their packets in order of time out.
//!
//! Packets of one capture keep their order, and of packets with the same time that of the capture named first comes
//! first. A capture is merged by its own clock rather than by raw timestamps: a packet that goes back in time stays
//! where it was captured, and a single wild timestamp does not hold back the rest of its capture. So that a real
//! pause of more than a day counts at once, one packet ahead is looked at; memory for each capture is bounded by
//! a small batch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::source::Source;
use crate::capture::clock::Clock;
use crate::capture::{Batch, CaptureError, Counters, Descriptor};
use crate::net::Timestamp;

/// How many packets of each capture are read ahead.
const AHEAD: usize = 64;

/// How many blocks of captures a merged batch describes before it counts as full.
const MOST_BLOCKS: usize = 64;

/// Captures that are being merged.
pub(super) struct Merge {
    lanes: Vec<Lane>,
    /// The next packet of each capture that has one: its time and the capture's place.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Captures whose next packet is not in `heads` yet.
    unread: Vec<usize>,
}

/// One capture and the packets read ahead of it.
struct Lane {
    source: Source,
    batch: Batch,
    next: usize,
    clock: Option<Clock>,
    /// Where the batch being filled holds this capture's present block, if it does.
    block: Option<u32>,
}

impl Merge {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let lanes: Vec<_> = sources
            .into_iter()
            .map(|source| Lane { source, batch: Batch::default(), next: 0, clock: None, block: None })
            .collect();
        Self { heads: BinaryHeap::with_capacity(lanes.len()), unread: (0..lanes.len()).collect(), lanes }
    }

    /// Whether the bytes of one of them may be long in coming.
    pub(super) fn is_interactive(&self) -> bool {
        self.lanes.iter().any(|lane| lane.source.is_interactive())
    }

    /// How many bytes of all captures were consumed.
    pub(super) fn position(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.source.position()).sum()
    }

    /// Adds packets to `out` until it has `limit` or is otherwise full, or all captures are over.
    pub(super) fn fill(&mut self, out: &mut Batch, limit: usize, counters: &mut Counters) -> Result<(), CaptureError> {
        for lane in &mut self.lanes {
            lane.block = None;
        }
        while out.len() < limit && out.blocks.len() < MOST_BLOCKS {
            while let Some(place) = self.unread.last().copied() {
                let Some(lane) = self.lanes.get_mut(place) else { break };
                // A capture that fails is over; what it gave before is merged when the call is repeated.
                if let Some(time) = lane.head(counters)? {
                    self.heads.push(Reverse((time, place)));
                }
                self.unread.pop();
            }
            let Some(Reverse((_, place))) = self.heads.pop() else { break };
            if let Some(lane) = self.lanes.get_mut(place) {
                lane.deliver(out);
            }
            self.unread.push(place);
        }
        Ok(())
    }
}

impl Lane {
    /// The time at which the next packet is due, if there is one.
    fn head(&mut self, counters: &mut Counters) -> Result<Option<Timestamp>, CaptureError> {
        if self.next + 1 >= self.batch.len() && !self.source.over() {
            if self.next < self.batch.len() {
                self.batch.keep_last();
            } else {
                self.batch.clear();
            }
            self.next = 0;
            self.source.fill(&mut self.batch, 2, AHEAD, counters)?;
        }
        let Some(packet) = self.batch.descriptors.get(self.next) else {
            return Ok(None);
        };
        let following = self.batch.descriptors.get(self.next + 1).map(|following| following.ts);
        let clock = self.clock.get_or_insert_with(|| Clock::starting(packet.ts, following));
        Ok(Some(clock.observe_before(packet.ts, following)))
    }

    /// Moves the next packet to `out`.
    fn deliver(&mut self, out: &mut Batch) {
        let Some(packet) = self.batch.descriptors.get(self.next) else { return };
        self.next += 1;
        let Some(from) = self.batch.blocks.get(packet.block as usize) else { return };
        let known = self.block.filter(|n| out.blocks.get(*n as usize).is_some_and(|known| Arc::ptr_eq(known, from)));
        let block = known.unwrap_or_else(|| out.attach(from));
        self.block = Some(block);
        out.descriptors.push(Descriptor { block, ..*packet });
    }
}
