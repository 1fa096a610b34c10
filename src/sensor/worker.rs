//! A worker: takes packets apart and follows those of its own lanes.

mod begun;
mod relief;

use arrayvec::ArrayVec;

use crate::capture::{Batch, Packet};
use crate::config::{self, Config};
use crate::flow::{FlowCounters, Key, Moment, Tracker};
use crate::net::{Address, ByteSize, Span, Timestamp, host_pair_hash};
use crate::packet::{self, Audience, Decoded, Decoder, FragmentCounters, PacketCounters, Segment};
use crate::protocol::{Fact, Parsers, ProtocolCounters, Uploading};

/// How many lanes there are, whatever the number of workers; also the most workers that are of use.
pub const LANES: usize = 16;

/// How many packets are looked at before the first of them is followed.
const AHEAD: usize = 32;

/// How many connections are ended, when the input is over, before what came of them is handed on.
const PART: usize = 1024;

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

impl SensorCounters {
    /// Adds the counts of another worker that was given other packets.
    pub fn add(&mut self, other: &Self) {
        self.packet.add(&other.packet);
        self.fragment.add(&other.fragment);
        self.flow.add(&other.flow);
        self.protocol.add(&other.protocol);
    }
}

/// What a worker holds now: bytes, by the bound that they are under, and uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// `packet.fragment_memory`.
    pub fragments: u64,
    /// `flow.table_memory`.
    pub table: u64,
    /// `flow.reassembly_memory`.
    pub reassembly: u64,
    /// `protocol.memory`.
    pub readers: u64,
    /// `files.memory`.
    pub content: u64,
    /// Uploads that are under way.
    pub uploading: Uploading,
}

/// Whom the packets of a batch go to.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Each packet's lane, or [`EVERYBODY`].
    lanes: Vec<u8>,
}

/// A packet that has to be taken apart to see whose it is.
const EVERYBODY: u8 = u8::MAX;

impl Spread {
    /// Spreads a batch anew.
    pub(super) fn over(&mut self, batch: &Batch) {
        self.lanes.clear();
        let lane = |packet| packet::hosts(&packet).map_or(EVERYBODY, |(a, b)| lane_of(a, b) as u8);
        self.lanes.extend(batch.packets().map(lane));
    }
}

/// A segment of the common shape that was looked at and not yet followed.
struct Seen<'p> {
    segment: Segment<'p>,
    lane: u8,
    key: Key,
}

/// One worker's lanes.
pub(super) struct Worker {
    decoder: Decoder,
    lanes: Vec<Option<Tracker<Parsers>>>,
    first: bool,
    /// Connections of which nothing more is needed, where somebody wants to know.
    deaf: Option<relief::Deaf>,
}

impl Worker {
    /// Worker `number` of `workers`, counted from 0.
    pub(super) fn new(config: &Config, number: usize, workers: usize, seed: u64) -> Self {
        let lanes = (0..LANES).map(|lane| (lane % workers == number).then(|| lane_in(config, LANES, seed))).collect();
        Self { decoder: Decoder::with_limits(&config.packet), lanes, first: number == 0, deaf: None }
    }

    /// One of `threads` workers that are each given other packets, and so follow all lanes, with their share of the
    /// memory.
    pub(super) fn live(config: &Config, threads: usize, seed: u64) -> Self {
        let threads = threads.max(1);
        let lanes = (0..LANES).map(|_| Some(lane_in(config, LANES * threads, seed))).collect();
        let fragment_memory = ByteSize(config.packet.fragment_memory.0 / threads as u64);
        let packet = config::Packet { fragment_memory, ..config.packet.clone() };
        Self { decoder: Decoder::with_limits(&packet), lanes, first: true, deaf: None }
    }

    /// Follows a batch, of which others follow what is spread to them; what it finished goes to `out`.
    pub(super) fn take(&mut self, batch: &Batch, spread: Option<&Spread>, out: &mut Vec<Placed>) {
        match spread {
            None => self.follow(batch.packets(), out),
            Some(Spread { lanes }) => {
                let own: [bool; LANES] = std::array::from_fn(|lane| self.lanes.get(lane).is_some_and(Option::is_some));
                let spread = lanes.iter().enumerate().filter_map(|(n, &lane)| match own.get(usize::from(lane)) {
                    Some(true) => Some((batch.packet(n)?, Audience::One)),
                    Some(false) => None,
                    None => Some((batch.packet(n)?, Audience::All)),
                });
                self.look_and_follow(spread, out);
            }
        }
        self.advance(batch.clock(), out);
    }

    /// Follows packets, all of which lie in memory; what that finished goes to `out`.
    pub(super) fn follow<'p>(&mut self, packets: impl Iterator<Item = Packet<'p>>, out: &mut Vec<Placed>) {
        self.look_and_follow(packets.map(|packet| (packet, Audience::One)), out);
    }

    #[inline(always)]
    fn look_and_follow<'p>(
        &mut self,
        mut packets: impl Iterator<Item = (Packet<'p>, Audience)>,
        out: &mut Vec<Placed>,
    ) {
        let mut ahead = ArrayVec::<Seen<'_>, AHEAD>::new();
        // Packets of another shape, each with how many of those in `ahead` come before it.
        let mut uncommon = ArrayVec::<(usize, Packet<'_>, Audience), AHEAD>::new();
        let mut more = true;
        while more {
            // Each loop asks for the memory that the next one needs.
            while !ahead.is_full() && !uncommon.is_full() {
                let Some((packet, audience)) = packets.next() else {
                    more = false;
                    break;
                };
                let common = if audience == Audience::One { self.decoder.common(&packet) } else { None };
                let Some(segment) = common else {
                    uncommon.push((ahead.len(), packet, audience));
                    continue;
                };
                let lane = lane_of(segment.source.address, segment.destination.address);
                if let Some(Some(tracker)) = self.lanes.get(lane) {
                    let key = tracker.key(&segment);
                    tracker.approach(&key);
                    ahead.push(Seen { segment, lane: lane as u8, key });
                }
            }
            for seen in &mut ahead {
                if let Some(Some(tracker)) = self.lanes.get(usize::from(seen.lane)) {
                    tracker.look_up(&mut seen.key);
                }
            }
            for seen in &ahead {
                if let Some(Some(tracker)) = self.lanes.get(usize::from(seen.lane)) {
                    tracker.look_closely(&seen.key, &seen.segment);
                }
            }
            let mut others = uncommon.iter().peekable();
            for (n, seen) in ahead.iter().enumerate() {
                while let Some((_, packet, audience)) = others.next_if(|(before, ..)| *before <= n) {
                    self.uncommon(packet, *audience, out);
                }
                self.segment(&seen.segment, usize::from(seen.lane), &seen.key, out);
            }
            for (_, packet, audience) in others {
                self.uncommon(packet, *audience, out);
            }
            ahead.clear();
            uncommon.clear();
        }
    }

    /// Moves time on; what that finished goes to `out`.
    pub(super) fn advance(&mut self, clock: Timestamp, out: &mut Vec<Placed>) {
        for (lane, tracker) in self.lanes.iter_mut().enumerate() {
            let Some(tracker) = tracker else { continue };
            tracker.advance(clock);
            collect(tracker, lane, out);
        }
    }

    #[inline(always)]
    fn segment(&mut self, segment: &Segment<'_>, lane: usize, key: &Key, out: &mut Vec<Placed>) {
        let Some(Some(tracker)) = self.lanes.get_mut(lane) else { return };
        tracker.advance(segment.clock);
        tracker.push_keyed(segment, key);
        if let Some(deaf) = &mut self.deaf {
            relief::note(deaf, tracker, segment, key);
        }
        if tracker.app().has_facts() {
            collect(tracker, lane, out);
        }
    }

    /// Gives up work, or takes it up again.
    pub(super) fn shed(&mut self, shed: &Shed) {
        for tracker in self.lanes.iter_mut().flatten() {
            tracker.app().shed(shed.hashing, shed.typing);
            tracker.shed(shed.idle, shed.encrypted);
        }
    }

    /// A packet that is no TCP segment of the common shape.
    fn uncommon(&mut self, packet: &Packet<'_>, audience: Audience, out: &mut Vec<Placed>) {
        let lanes = &mut self.lanes;
        self.decoder.uncommon(packet, audience, &mut |decoded| {
            let lane = match &decoded {
                Decoded::Tcp(segment) => lane_of(segment.source.address, segment.destination.address),
                Decoded::Udp(datagram) => lane_of(datagram.source.address, datagram.destination.address),
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

    /// The input is over. What was finished goes to `hand_on` in parts, each with the moment before which nothing
    /// more comes.
    pub(super) fn finish(&mut self, clock: Timestamp, hand_on: &mut impl FnMut(&mut Vec<Placed>, Moment)) {
        self.decoder.finish();
        let mut open = Vec::new();
        for (lane, tracker) in self.lanes.iter().enumerate() {
            let of_lane = tracker.iter().flat_map(Tracker::open_connections);
            open.extend(of_lane.map(|(index, handle)| (index, lane, handle)));
        }
        // In the order in which they began, so that what comes of them need not wait for all the others.
        open.sort_unstable();
        let mut out = Vec::new();
        for part in open.chunks(PART) {
            for &(index, lane, handle) in part {
                let Some(Some(tracker)) = self.lanes.get_mut(lane) else { continue };
                tracker.end(handle, Moment { clock, by_packet: true, index });
                collect(tracker, lane, &mut out);
            }
            let index = part.last().map_or(0, |(index, ..)| *index);
            hand_on(&mut out, Moment { clock, by_packet: true, index });
        }
        // A moment later than every connection's end, of whatever lane.
        let later = Moment { clock: Timestamp(clock.0.saturating_add(1)), by_packet: true, index: u64::MAX };
        for (lane, tracker) in self.lanes.iter_mut().enumerate() {
            let Some(tracker) = tracker else { continue };
            tracker.app().flush(later);
            collect(tracker, lane, &mut out);
        }
        hand_on(&mut out, later);
    }

    /// What it holds now.
    pub(super) fn held(&mut self) -> Held {
        let mut held = Held { fragments: self.decoder.fragment_memory(), ..Held::default() };
        for tracker in self.lanes.iter_mut().flatten() {
            let ((table, reassembly), (readers, content)) = (tracker.memory(), tracker.app().memory());
            held.table += table;
            held.reassembly += reassembly;
            held.readers += readers;
            held.content += content;
            held.uploading.add(&tracker.app().uploading());
        }
        held
    }

    /// Adds this worker's counts. Of the packets that every worker takes apart the first one's word counts.
    pub(super) fn count(&mut self, into: &mut SensorCounters) {
        into.packet.add(self.decoder.counters());
        if self.first {
            into.packet.add(self.decoder.common_counters());
            into.fragment = self.decoder.fragment_counters().clone();
        }
        for tracker in self.lanes.iter_mut().flatten() {
            into.flow.add(tracker.counters());
            into.protocol.add(&tracker.app().counters());
        }
    }
}

/// What work is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shed {
    /// Content is not hashed.
    pub(super) hashing: bool,
    /// The type of content is not told.
    pub(super) typing: bool,
    /// Connections are ended that were silent for so long.
    pub(super) idle: Option<Span>,
    /// Encrypted connections are only counted.
    pub(super) encrypted: bool,
}

fn lane_in(config: &Config, lanes: usize, seed: u64) -> Tracker<Parsers> {
    Tracker::new(&config.flow, lanes, seed, Parsers::new(&config.protocol, &config.files, lanes))
}

#[inline]
fn lane_of(a: Address, b: Address) -> usize {
    (host_pair_hash(a, b) >> 32) as usize % LANES
}

fn collect(tracker: &mut Tracker<Parsers>, lane: usize, out: &mut Vec<Placed>) {
    out.extend(tracker.app().take_facts().map(|(moment, fact)| Placed { moment, lane, fact }));
}
