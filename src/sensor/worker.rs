//! A worker: takes every packet apart and follows those of its own lanes.

use crate::capture::Batch;
use crate::config::Config;
use crate::flow::{FlowCounters, Moment, Tracker};
use crate::net::{Endpoint, Timestamp, host_pair_hash};
use crate::packet::{Decoded, Decoder, FragmentCounters, PacketCounters};
use crate::protocol::{Fact, Parsers, ProtocolCounters};

/// How many lanes there are, whatever the number of workers; also the most workers that are of use.
pub const LANES: usize = 16;

/// A fact with its place in the order of all facts.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) moment: Moment,
    pub(super) lane: usize,
    pub(super) fact: Fact,
}

impl Placed {
    /// Facts of one lane and moment are in the order in which they were made.
    pub(super) fn key(&self) -> (Moment, usize) {
        (self.moment, self.lane)
    }
}

/// What became of everything, in all lanes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SensorCounters {
    /// Packets by what they turned out to be.
    pub packet: PacketCounters,
    /// Fragments.
    pub fragment: FragmentCounters,
    /// Segments and connections.
    pub flow: FlowCounters,
    /// What was read of them.
    pub protocol: ProtocolCounters,
}

/// One worker's lanes.
pub(super) struct Worker {
    decoder: Decoder,
    lanes: Vec<Option<Tracker<Parsers>>>,
    first: bool,
}

impl Worker {
    /// Worker `number` of `workers`, counted from 0.
    pub(super) fn new(config: &Config, number: usize, workers: usize, seed: u64) -> Self {
        let lanes = (0..LANES)
            .map(|lane| {
                let own = lane % workers == number;
                own.then(|| {
                    Tracker::new(&config.flow, LANES, seed, Parsers::new(&config.protocol, &config.files, LANES))
                })
            })
            .collect();
        Self { decoder: Decoder::with_limits(&config.packet), lanes, first: number == 0 }
    }

    /// Follows a batch; what it finished goes to `out`.
    pub(super) fn take(&mut self, batch: &Batch, out: &mut Vec<Placed>) {
        let lanes = &mut self.lanes;
        for packet in batch.packets() {
            self.decoder.decode(&packet, &mut |decoded| {
                let lane = match &decoded {
                    Decoded::Tcp(segment) => lane_of(segment.source, segment.destination),
                    Decoded::Udp(datagram) => lane_of(datagram.source, datagram.destination),
                };
                let Some(Some(tracker)) = lanes.get_mut(lane) else { return };
                match &decoded {
                    Decoded::Tcp(segment) => {
                        tracker.advance(segment.clock);
                        tracker.push(segment);
                    }
                    Decoded::Udp(datagram) => {
                        let now = Moment { clock: datagram.clock, by_packet: true, index: datagram.index };
                        tracker.app().datagram(datagram, now);
                    }
                }
                if tracker.app().has_facts() {
                    collect(tracker, lane, out);
                }
            });
        }
        for (lane, tracker) in self.lanes.iter_mut().enumerate() {
            let Some(tracker) = tracker else { continue };
            tracker.advance(batch.clock());
            collect(tracker, lane, out);
        }
    }

    /// The input is over.
    pub(super) fn finish(&mut self, clock: Timestamp, out: &mut Vec<Placed>) {
        self.decoder.finish();
        for (lane, tracker) in self.lanes.iter_mut().enumerate() {
            let Some(tracker) = tracker else { continue };
            tracker.finish(clock);
            // A moment later than every connection's end, of whatever lane.
            let later = Timestamp(clock.0.saturating_add(1));
            tracker.app().flush(Moment { clock: later, by_packet: true, index: u64::MAX });
            collect(tracker, lane, out);
        }
    }

    /// Adds this worker's counts. Every worker takes every packet apart, so the first one's word on that counts.
    pub(super) fn count(&mut self, into: &mut SensorCounters) {
        if self.first {
            into.packet.add(self.decoder.counters());
            into.fragment = self.decoder.fragment_counters().clone();
        }
        for tracker in self.lanes.iter_mut().flatten() {
            into.flow.add(tracker.counters());
            into.protocol.add(&tracker.app().counters());
        }
    }
}

fn lane_of(a: Endpoint, b: Endpoint) -> usize {
    (host_pair_hash(a.address, b.address) >> 32) as usize % LANES
}

fn collect(tracker: &mut Tracker<Parsers>, lane: usize, out: &mut Vec<Placed>) {
    out.extend(tracker.app().take_facts().map(|(moment, fact)| Placed { moment, lane, fact }));
}
