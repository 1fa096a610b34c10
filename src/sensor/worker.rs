//! A worker: takes packets apart and follows those of its own lanes.

mod begun;
mod relief;

use arrayvec::ArrayVec;

use crate::capture::{Batch, Packet};
use crate::config::{self, Config};
use crate::flow::{FlowCounters, Key, Moment, Tracker};
use crate::net::{Address, ByteSize, Span, Timestamp, host_pair_hash};
use crate::packet::{self, Audience, Decoded, Decoder, FragmentCounters, PacketCounters, Plain, Segment};
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

/// Whom the packets of a batch go to, and what whoever read it saw of them.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// By worker, in the order of the input.
    shares: Vec<Vec<Sighting>>,
}

/// A packet of a batch.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    /// Its place in the batch.
    place: u32,
    sight: Sight,
}

#[derive(Clone, Copy, Debug)]
enum Sight {
    /// Its headers were read.
    Plain(Plain),
    /// It has yet to be taken apart, by one worker or by all.
    Packet(Audience),
}

impl Spread {
    /// Spreads a batch anew over so many workers.
    pub(super) fn over(&mut self, batch: &Batch, workers: usize) {
        self.shares.resize_with(workers, Vec::new);
        self.shares.iter_mut().for_each(Vec::clear);
        for (place, packet) in (0..).zip(batch.packets()) {
            let (hosts, sight) = match Plain::of(&packet) {
                Some(plain) => (Some(plain.hosts()), Sight::Plain(plain)),
                None => (packet::hosts(&packet), Sight::Packet(Audience::One)),
            };
            match hosts {
                Some((a, b)) => {
                    if let Some(share) = self.shares.get_mut(lane_of(a, b) % workers) {
                        share.push(Sighting { place, sight });
                    }
                }
                None => {
                    // It has to be taken apart to see whose it is.
                    let sight = Sight::Packet(Audience::All);
                    self.shares.iter_mut().for_each(|share| share.push(Sighting { place, sight }));
                }
            }
        }
    }

    /// What a worker is given of the batch.
    fn share<'b>(&'b self, number: usize, batch: &'b Batch) -> impl Iterator<Item = Coming<'b>> {
        let sightings = self.shares.get(number).map_or(&[][..], Vec::as_slice);
        sightings.iter().filter_map(|Sighting { place, sight }| {
            let packet = batch.packet(*place as usize)?;
            Some(match sight {
                Sight::Plain(plain) => Coming::Plain(packet, plain),
                Sight::Packet(audience) => Coming::Packet(packet, *audience),
            })
        })
    }
}

/// A packet on its way to a worker.
enum Coming<'p> {
    /// It has yet to be taken apart.
    Packet(Packet<'p>, Audience),
    /// Its headers were read.
    Plain(Packet<'p>, &'p Plain),
}

/// A segment of the common shape that was looked at and not yet followed.
struct Seen<'p> {
    segment: Segment<'p>,
    lane: u8,
    key: Key,
}

/// A packet of another shape.
struct Uncommon<'p> {
    /// How many of the segments that were looked at together with it come before it.
    before: usize,
    packet: Packet<'p>,
    audience: Audience,
}

/// All lanes; those of other workers are empty.
type Lanes = [Option<Tracker<Parsers>>; LANES];

/// One worker's lanes.
pub(super) struct Worker {
    decoder: Decoder,
    lanes: Box<Lanes>,
    /// Its number, which is 0 of one that follows everything.
    number: usize,
    /// Connections of which nothing more is needed, where somebody wants to know.
    spared: Option<relief::Spared>,
}

impl Worker {
    /// Worker `number` of `workers`, counted from 0.
    pub(super) fn new(config: &Config, number: usize, workers: usize, seed: u64) -> Self {
        let own = |lane| (lane % workers == number).then(|| lane_in(config, LANES, seed));
        let lanes = Box::new(std::array::from_fn(own));
        Self { decoder: Decoder::with_limits(&config.packet), lanes, number, spared: None }
    }

    /// One of `threads` workers that are each given other packets, and so follow all lanes, with their share of the
    /// memory.
    pub(super) fn live(config: &Config, threads: usize, seed: u64) -> Self {
        let threads = threads.max(1);
        let lanes = Box::new(std::array::from_fn(|_| Some(lane_in(config, LANES * threads, seed))));
        let fragment_memory = ByteSize(config.packet.fragment_memory.0 / threads as u64);
        let packet = config::Packet { fragment_memory, ..config.packet.clone() };
        Self { decoder: Decoder::with_limits(&packet), lanes, number: 0, spared: None }
    }

    /// Follows a batch, of which others follow what is spread to them; what it finished goes to `out`.
    pub(super) fn take(&mut self, batch: &Batch, spread: Option<&Spread>, out: &mut Vec<Placed>) {
        match spread {
            None => self.follow(batch.packets(), out),
            Some(spread) => self.look_and_follow(spread.share(self.number, batch), out),
        }
        self.advance(batch.clock(), out);
    }

    /// Follows packets, all of which lie in memory; what that finished goes to `out`.
    pub(super) fn follow<'p>(&mut self, packets: impl Iterator<Item = Packet<'p>>, out: &mut Vec<Placed>) {
        self.look_and_follow(packets.map(|packet| Coming::Packet(packet, Audience::One)), out);
    }

    fn look_and_follow<'p>(&mut self, mut packets: impl Iterator<Item = Coming<'p>>, out: &mut Vec<Placed>) {
        let (mut ahead, mut uncommon) = (ArrayVec::new(), ArrayVec::new());
        let mut more = true;
        while more {
            more = self.look(&mut packets, &mut ahead, &mut uncommon);
            self.look_up(&mut ahead);
            let mut rest = ahead.as_slice();
            for (n, Uncommon { before, packet, audience }) in uncommon.iter().enumerate() {
                let passed = n.checked_sub(1).and_then(|n| uncommon.get(n)).map_or(0, |last| last.before);
                let (first, behind) = rest.split_at_checked(before - passed).unwrap_or((rest, &[]));
                self.segments(first, out);
                self.uncommon(packet, *audience, out);
                rest = behind;
            }
            self.segments(rest, out);
            ahead.clear();
            uncommon.clear();
        }
    }

    /// Looks at packets until there is no place for more of them; whether there may be more.
    // Each of the three loops that a packet goes through asks for the memory that the next one needs. Apart from each
    // other, they leave the compiler more registers.
    #[inline(never)]
    fn look<'p>(
        &mut self,
        packets: &mut impl Iterator<Item = Coming<'p>>,
        ahead: &mut ArrayVec<Seen<'p>, AHEAD>,
        uncommon: &mut ArrayVec<Uncommon<'p>, AHEAD>,
    ) -> bool {
        while !ahead.is_full() && !uncommon.is_full() {
            let (packet, audience) = match packets.next() {
                Some(Coming::Packet(packet, audience)) => (packet, audience),
                Some(Coming::Plain(packet, plain)) => {
                    look_at(&self.lanes, self.decoder.plain(plain, &packet), ahead);
                    continue;
                }
                None => return false,
            };
            // One way apart from the other, so that what is read in the first is put in its place at once.
            if audience == Audience::One
                && let Some(plain) = Plain::of(&packet)
            {
                look_at(&self.lanes, self.decoder.plain(&plain, &packet), ahead);
            } else if audience == Audience::One
                && let Some(segment) = self.decoder.common(&packet)
            {
                look_at(&self.lanes, segment, ahead);
            } else {
                uncommon.push(Uncommon { before: ahead.len(), packet, audience });
            }
        }
        true
    }

    #[inline(never)]
    fn look_up(&self, ahead: &mut [Seen<'_>]) {
        for seen in &mut *ahead {
            if let Some(Some(tracker)) = self.lanes.get(usize::from(seen.lane)) {
                tracker.look_up(&mut seen.key);
            }
        }
        for seen in ahead {
            if let Some(Some(tracker)) = self.lanes.get(usize::from(seen.lane)) {
                tracker.look_closely(&seen.key, &seen.segment);
            }
        }
    }

    #[inline(never)]
    fn segments(&mut self, segments: &[Seen<'_>], out: &mut Vec<Placed>) {
        for Seen { segment, lane, key } in segments {
            let lane = usize::from(*lane);
            let Some(Some(tracker)) = self.lanes.get_mut(lane) else { continue };
            tracker.advance(segment.clock);
            tracker.push_keyed(segment, key);
            if let Some(spared) = &mut self.spared {
                relief::note(spared, tracker, segment, key);
            }
            if tracker.app().has_facts() {
                collect(tracker, lane, out);
            }
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

    /// Gives up work, or takes it up again.
    pub(super) fn shed(&mut self, shed: &Shed) {
        for tracker in self.lanes.iter_mut().flatten() {
            tracker.app().shed(shed.hashing, shed.typing);
            tracker.shed(shed.idle, shed.encrypted);
        }
    }

    /// A packet that is no TCP segment of the common shape.
    fn uncommon(&mut self, packet: &Packet<'_>, audience: Audience, out: &mut Vec<Placed>) {
        let lanes = self.lanes.as_mut();
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
        // Each lane has them nearly in that order.
        open.sort_by_key(|(index, ..)| *index);
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
        if self.number == 0 {
            into.packet.add(self.decoder.common_counters());
            into.fragment = self.decoder.fragment_counters().clone();
        }
        for tracker in self.lanes.iter_mut().flatten() {
            into.flow.add(tracker.counters());
            into.protocol.add(&tracker.app().counters());
        }
    }
}

/// Asks for the memory in which a segment's connection will be looked up.
#[inline(always)]
fn look_at<'p>(lanes: &Lanes, segment: Segment<'p>, ahead: &mut ArrayVec<Seen<'p>, AHEAD>) {
    let lane = lane_of(segment.source.address, segment.destination.address);
    if let Some(Some(tracker)) = lanes.get(lane) {
        let key = tracker.key(&segment);
        tracker.approach(&key);
        ahead.push(Seen { segment, lane: lane as u8, key });
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
