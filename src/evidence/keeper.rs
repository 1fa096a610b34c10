//! The packets of live connections that an alert may want: of each upload from its first moment on, in bounded memory.
//!
//! On its capture thread a [`Keeper`] sees every packet after it was followed. Those of connections that are still being read go
//! through a ring of recent ones, so that what came just before an upload, such as the opening of its connection, is still
//! there when it begins. From then on the connection has a [`Tape`] of its own: of each upload the first packets, and the most recent
//! ones.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use lru::LruCache;

use super::pieces::{KeptPacket, Pieces};
use super::ring::{Ring, Roll};
use super::slice::DNS;
use crate::capture::Packet;
use crate::config;
use crate::net::{Address, ByteSize, Endpoint, host_pair_hash};
use crate::packet::{Decoded, Segment};

/// What is asked of the keepers of all capture threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Both ends of each connection.
    pub connections: Vec<(Endpoint, Endpoint)>,
    /// Whose DNS answers are wanted too.
    pub client: IpAddr,
}

/// What one keeper has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The packets, in the order in which they came.
    pub packets: Vec<KeptPacket>,
    /// Packets of these connections that came after an upload had begun, and are not there any more.
    pub gone: u64,
    /// Connections of them that were forgotten, at least for a time, as others needed the memory.
    pub forgotten: u64,
}

/// What became of connections with uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeeperCounters {
    /// Connections of which packets were kept from an upload's first moment on.
    pub connections: u64,
    /// Those that were forgotten before anybody asked, as others needed the memory.
    pub forgotten: u64,
    /// Bytes of memory in use.
    pub used: u64,
}

impl KeeperCounters {
    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.forgotten += other.forgotten;
        self.used += other.used;
    }
}

/// Packets since an upload began on a connection: the first, and the most recent.
#[derive(Default)]
struct Chapter {
    first: Roll,
    /// There once the first have their share.
    recent: Option<Ring>,
    packets: u64,
}

/// The packets of one connection, from each of its last uploads on.
struct Tape {
    chapters: VecDeque<Chapter>,
    /// Packets of earlier ones.
    gone: u64,
}

/// Uploads of a connection, each of which has room of its own once the one before has used up its own.
const CHAPTERS: usize = 4;

/// Connections of which is remembered that they were forgotten.
const FORGOTTEN: usize = 4_096;

/// Bytes of packets for which an index gets a place.
const EACH: usize = 256;

/// The least memory that each ring has, and all tapes together.
const LEAST: u64 = 64 << 10;

impl Chapter {
    fn weight(&self) -> u64 {
        self.first.size() + self.recent.as_ref().map_or(0, Ring::size) + size_of::<Self>() as u64
    }

    fn packets(&self) -> impl Iterator<Item = KeptPacket> {
        self.first.packets().chain(self.recent.iter().flat_map(|ring| ring.newest(0))).map(KeptPacket::of)
    }
}

impl Tape {
    fn new() -> Self {
        Self { chapters: VecDeque::from([Chapter::default()]), gone: 0 }
    }

    fn weight(&self) -> u64 {
        self.chapters.iter().map(Chapter::weight).sum::<u64>() + size_of::<Self>() as u64
    }

    /// Another upload begins: it has room of its own, unless there is still some of the one before.
    fn turn(&mut self) {
        if self.chapters.back().is_some_and(|chapter| chapter.recent.is_some()) {
            self.chapters.push_back(Chapter::default());
        }
        if self.chapters.len() > CHAPTERS
            && let Some(oldest) = self.chapters.pop_front()
        {
            self.gone += oldest.packets;
        }
    }

    /// Keeps a packet; `share` is what the first ones of an upload may take, and the recent ones too. Gives by how many bytes
    /// that made it heavier.
    fn keep(&mut self, packet: &Packet<'_>, share: u64) -> u64 {
        let Some(chapter) = self.chapters.back_mut() else { return 0 };
        let before = chapter.weight();
        chapter.packets += 1;
        if chapter.recent.is_some() || !chapter.first.push(packet, share) {
            let share = usize::try_from(share).unwrap_or(usize::MAX);
            chapter.recent.get_or_insert_with(|| Ring::new(share, usize::MAX)).push(0, packet);
        }
        chapter.weight() - before
    }

    fn packets(&self) -> impl Iterator<Item = KeptPacket> {
        self.chapters.iter().flat_map(Chapter::packets)
    }

    /// Packets that it was given.
    fn given(&self) -> u64 {
        self.gone + self.chapters.iter().map(|chapter| chapter.packets).sum::<u64>()
    }
}

/// Both ends, in one order.
fn both(a: Endpoint, b: Endpoint) -> (Endpoint, Endpoint) {
    if (a.address, a.port) <= (b.address, b.port) { (a, b) } else { (b, a) }
}

fn key_of((a, b): (Endpoint, Endpoint)) -> u64 {
    let ports = u64::from(a.port) << 16 | u64::from(b.port);
    host_pair_hash(a.address, b.address) ^ ports.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn key_of_client(client: Address) -> u64 {
    host_pair_hash(client, client)
}

/// What one capture thread keeps.
pub struct Keeper {
    /// Of connections that are still being read, and have no tape.
    recent: Ring,
    /// DNS answers, by who asked.
    names: Ring,
    pieces: Pieces,
    tapes: LruCache<(Endpoint, Endpoint), Tape>,
    /// Tapes that went for want of memory: how many packets each had been given.
    forgotten: LruCache<(Endpoint, Endpoint), u64>,
    held: u64,
    memory: u64,
    /// What the first packets of one upload may take, and the recent ones too.
    share: u64,
    counters: KeeperCounters,
}

/// Whose packet it is.
enum Whose {
    /// A connection's, which is still being read, or not.
    Connection((Endpoint, Endpoint), bool),
    /// A DNS answer to this host.
    Name(Address),
}

impl Keeper {
    /// With `1 / threads` of the configured memory: a quarter of it for recent packets, an eighth for DNS answers and fragments.
    pub fn new(settings: &config::Evidence, limits: &config::Packet, threads: usize) -> Self {
        let memory = settings.memory.0 / (threads as u64).max(1);
        let bytes = |share: u64| usize::try_from(share.max(LEAST)).unwrap_or(usize::MAX);
        let (recent, names) = (Ring::new(bytes(memory / 4), EACH), Ring::new(bytes(memory / 16), EACH));
        let limits = config::Packet { fragment_memory: ByteSize(bytes(memory / 16) as u64), ..limits.clone() };
        let pieces = Pieces::new(&limits, bytes(memory / 16));
        let rings = recent.size() + names.size() + pieces.size();
        let tapes = memory.saturating_sub(rings).max(LEAST);
        Self {
            recent,
            names,
            pieces,
            tapes: LruCache::unbounded(),
            forgotten: LruCache::new(NonZeroUsize::new(FORGOTTEN).unwrap_or(NonZeroUsize::MIN)),
            held: 0,
            memory: tapes,
            // One connection alone never needs more than there is.
            share: (settings.per_connection.0 / 2).min(tapes / 4),
            counters: KeeperCounters::default(),
        }
    }

    /// An upload may begin on this connection: from now on its packets are kept, with those that came just before.
    pub fn begin(&mut self, a: Endpoint, b: Endpoint) {
        let ends = both(a, b);
        if let Some(tape) = self.tapes.get_mut(&ends) {
            self.held -= tape.weight();
            tape.turn();
            self.held += tape.weight();
            return;
        }
        self.counters.connections += 1;
        let before: Vec<Packet<'_>> = self.recent.newest(key_of(ends)).collect();
        let mut tape = Tape::new();
        before.iter().rev().for_each(|packet| _ = tape.keep(packet, self.share));
        self.held += tape.weight();
        self.tapes.push(ends, tape);
        self.make_room();
    }

    /// Takes a packet that was followed. `is_read` says whether anybody still reads the connection of a segment.
    pub fn take(&mut self, packet: &Packet<'_>, is_read: impl Fn(&Segment<'_>) -> bool) {
        let mut whose = None;
        let earlier = self.pieces.take(packet, &mut |decoded| {
            whose = match decoded {
                Decoded::Tcp(segment) => {
                    Some(Whose::Connection(both(segment.source, segment.destination), is_read(&segment)))
                }
                Decoded::Udp(datagram) if datagram.source.port == DNS => {
                    Some(Whose::Name(datagram.destination.address))
                }
                Decoded::Udp(_) => None,
            };
        });
        let earlier = earlier.iter().map(KeptPacket::packet).chain(std::iter::once(*packet));
        match whose {
            None => {}
            Some(Whose::Name(client)) => earlier.for_each(|packet| self.names.push(key_of_client(client), &packet)),
            Some(Whose::Connection(ends, is_read)) => match self.tapes.get_mut(&ends) {
                Some(tape) => {
                    self.held += earlier.map(|packet| tape.keep(&packet, self.share)).sum::<u64>();
                    self.make_room();
                }
                None if is_read => earlier.for_each(|packet| self.recent.push(key_of(ends), &packet)),
                None => {}
            },
        }
    }

    fn make_room(&mut self) {
        while self.held > self.memory
            && let Some((ends, tape)) = self.tapes.pop_lru()
        {
            self.held -= tape.weight();
            self.counters.forgotten += 1;
            self.forgotten.put(ends, tape.given());
        }
    }

    /// What is kept of what is asked for. It stays.
    pub fn give(&self, request: &Request) -> Given {
        let mut given = Given::default();
        for (a, b) in &request.connections {
            let ends = both(*a, *b);
            match self.tapes.peek(&ends) {
                Some(tape) => {
                    let before = given.packets.len();
                    given.packets.extend(tape.packets());
                    given.gone += tape.given().saturating_sub((given.packets.len() - before) as u64);
                }
                // Whose upload was known only at its end, or that was forgotten.
                None => given.packets.extend(self.recent.newest(key_of(ends)).map(KeptPacket::of)),
            }
            if let Some(packets) = self.forgotten.peek(&ends) {
                given.gone += packets;
                given.forgotten += 1;
            }
        }
        let client = key_of_client(Address::from(request.client));
        given.packets.extend(self.names.newest(client).map(KeptPacket::of));
        given.packets.sort_by_key(KeptPacket::order);
        given
    }

    /// The counts so far.
    pub fn counters(&self) -> KeeperCounters {
        let rings = self.recent.size() + self.names.size() + self.pieces.size();
        KeeperCounters { used: rings + self.held, ..self.counters }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::net::Timestamp;

    const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 5], 50_000);
    const SERVER: ([u8; 4], u16) = ([192, 0, 2, 9], 80);

    fn end((ip, port): ([u8; 4], u16)) -> Endpoint {
        Endpoint { address: Address::v4(ip), port }
    }

    fn frame(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 64).tcp(from.1, to.1, 7, 1_000);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn answer(to: [u8; 4]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], to, 64).udp(DNS, 5_353);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"answer").unwrap();
        bytes
    }

    struct Rig {
        keeper: Keeper,
        next: u64,
    }

    impl Rig {
        fn new(memory: u64, per_connection: u64) -> Self {
            let settings = config::Evidence {
                memory: ByteSize(memory),
                per_connection: ByteSize(per_connection),
                ..config::Evidence::default()
            };
            Self { keeper: Keeper::new(&settings, &config::Packet::default(), 1), next: 0 }
        }

        fn take(&mut self, bytes: &[u8], is_read: bool) -> u64 {
            let index = self.next;
            self.next += 1;
            let ts = Timestamp(1_000 * index);
            let packet = Packet { index, ts, clock: ts, link: 1, wire_length: bytes.len() as u32, bytes };
            self.keeper.take(&packet, |_| is_read);
            index
        }

        fn given(&self, connections: &[(Endpoint, Endpoint)]) -> (Vec<u64>, u64) {
            let request = Request { connections: connections.to_vec(), client: CLIENT.0.into() };
            let given = self.keeper.give(&request);
            (given.packets.iter().map(|packet| packet.packet().index).collect(), given.gone)
        }
    }

    #[test]
    fn what_came_before_an_upload_is_there_when_it_begins_and_what_nobody_reads_is_not() {
        let mut rig = Rig::new(1 << 20, 64 << 10);
        let ends = (end(CLIENT), end(SERVER));
        let other = (CLIENT, ([192, 0, 2, 10], 80));
        rig.take(&frame(CLIENT, SERVER, b""), true);
        rig.take(&frame(other.0, other.1, b"GET"), true);
        rig.take(&frame(SERVER, CLIENT, b""), true);
        rig.take(&answer(CLIENT.0), true);
        rig.take(&answer([10, 0, 0, 6]), true);
        rig.take(&frame(([10, 0, 0, 7], 1), SERVER, b"TLS"), false);
        rig.keeper.begin(ends.1, ends.0);
        rig.take(&frame(CLIENT, SERVER, b"PUT"), false);
        assert_eq!(rig.given(&[ends]), (vec![0, 2, 3, 6], 0));
        assert_eq!(rig.given(&[(end(other.0), end(other.1))]), (vec![1, 3], 0), "known only at its end");
        assert_eq!(rig.given(&[(end(([10, 0, 0, 7], 1)), ends.1)]), (vec![3], 0));
        assert_eq!(rig.keeper.counters().connections, 1);
    }

    #[test]
    fn a_long_connection_keeps_its_first_packets_and_its_last() {
        let mut rig = Rig::new(1 << 20, 16 << 10);
        let ends = (end(CLIENT), end(SERVER));
        rig.keeper.begin(ends.0, ends.1);
        for _ in 0..1_000 {
            rig.take(&frame(CLIENT, SERVER, &[7; 500]), true);
        }
        let (given, gone) = rig.given(&[ends]);
        assert_eq!(given.len() as u64 + gone, 1_000);
        let first = given.iter().zip(0u64..).take_while(|(index, n)| **index == *n).count();
        let last = given.iter().rev().zip((0..1_000u64).rev()).take_while(|(index, n)| **index == *n).count();
        assert_eq!(first + last, given.len());
        // 600 bytes each, with what is kept beside: thirteen in 8 KiB.
        assert!((12..=13).contains(&first) && (12..=13).contains(&last), "{first} {last}");
    }

    #[test]
    fn each_upload_of_a_connection_has_its_beginning_for_a_while() {
        let mut rig = Rig::new(1 << 20, 16 << 10);
        let ends = (end(CLIENT), end(SERVER));
        let mut begun = Vec::new();
        for _ in 0..6 {
            rig.keeper.begin(ends.0, ends.1);
            begun.push(rig.next);
            for _ in 0..100 {
                rig.take(&frame(CLIENT, SERVER, &[7; 500]), true);
            }
        }
        let (given, gone) = rig.given(&[ends]);
        assert_eq!(given.len() as u64 + gone, 600);
        let there: Vec<bool> = begun.iter().map(|first| given.contains(first)).collect();
        assert_eq!(there, [false, false, true, true, true, true]);
    }

    #[test]
    fn what_was_forgotten_is_said_to_be_gone() {
        let mut rig = Rig::new(1 << 20, 1 << 30);
        let ends = (end(CLIENT), end(SERVER));
        rig.keeper.begin(ends.0, ends.1);
        for _ in 0..5_000 {
            rig.take(&frame(CLIENT, SERVER, &[7; 1_000]), true);
        }
        assert_eq!(rig.keeper.counters().forgotten, 0, "alone, it fits");
        for n in 1..100 {
            rig.keeper.begin(end(([10, 0, 3, n], 1)), ends.1);
            for _ in 0..1_000 {
                rig.take(&frame(([10, 0, 3, n], 1), SERVER, &[7; 1_000]), true);
            }
        }
        let request = Request { connections: vec![ends], client: CLIENT.0.into() };
        let given = rig.keeper.give(&request);
        assert_eq!((given.gone, given.forgotten, given.packets.len()), (5_000, 1, 0));
    }

    #[test]
    fn where_memory_is_short_the_connection_goes_that_was_silent_the_longest() {
        let mut rig = Rig::new(1 << 20, 128 << 10);
        let of = |n: u8| ([10, 0, 1, n], 40_000);
        for n in 0..100 {
            rig.keeper.begin(end(of(n)), end(SERVER));
            for _ in 0..100 {
                rig.take(&frame(of(n), SERVER, &[n; 1_000]), true);
                rig.take(&frame(of(0), SERVER, b"."), true);
            }
            assert!(rig.keeper.counters().used <= (1 << 20) + 1_024, "{:?}", rig.keeper.counters());
        }
        let forgotten = rig.keeper.counters().forgotten;
        assert!((80..100).contains(&forgotten), "{forgotten}");
        assert!(!rig.given(&[(end(of(0)), end(SERVER))]).0.is_empty());
        assert!(!rig.given(&[(end(of(99)), end(SERVER))]).0.is_empty());
    }

    #[test]
    fn a_datagram_in_fragments_is_kept_with_all_of_them() {
        let whole = frame(CLIENT, SERVER, &[9; 64]);
        let (ethernet, ip) = whole.split_at(14);
        let (header, rest) = Ipv4Header::from_slice(ip).unwrap();
        let mut pieces = Vec::new();
        for (n, part) in rest.chunks(40).enumerate() {
            let mut header = header.clone();
            header.identification = 77;
            header.dont_fragment = false;
            header.more_fragments = (n + 1) * 40 < rest.len();
            header.fragment_offset = IpFragOffset::try_new(n as u16 * 5).unwrap();
            header.set_payload_len(part.len()).unwrap();
            let mut bytes = ethernet.to_vec();
            header.write(&mut bytes).unwrap();
            bytes.extend_from_slice(part);
            pieces.push(bytes);
        }
        assert_eq!(pieces.len(), 3);
        let ends = (end(CLIENT), end(SERVER));
        let mut rig = Rig::new(1 << 20, 64 << 10);
        for begin in [false, true] {
            if begin {
                rig.keeper.begin(ends.0, ends.1);
            }
            pieces.iter().for_each(|piece| _ = rig.take(piece, true));
        }
        // The second time they have the same number, and are others.
        assert_eq!(rig.given(&[ends]), ((0..6).collect(), 0));
    }

    proptest! {
        #[test]
        fn packets_are_given_once_in_their_order_and_memory_holds(
            steps in prop::collection::vec((0u8..6, 0usize..1_400, any::<bool>(), 0u8..40), 0..400),
            memory in (1u64 << 20)..(2 << 20),
            per_connection in (8u64 << 10)..(256 << 10),
        ) {
            let mut rig = Rig::new(memory, per_connection);
            let of = |n: u8| ([10, 0, 2, n], 40_000);
            let mut begun = [None; 6];
            let mut sent: [Vec<u64>; 6] = Default::default();
            for (who, length, is_read, begin) in steps {
                if begin == 0 && begun[usize::from(who)].is_none() {
                    rig.keeper.begin(end(of(who)), end(SERVER));
                    begun[usize::from(who)] = Some(rig.next);
                }
                let index = rig.take(&frame(of(who), SERVER, &vec![who; length]), is_read);
                sent[usize::from(who)].push(index);
                prop_assert!(rig.keeper.counters().used <= memory + per_connection + 2_048);
            }
            for who in 0..6u8 {
                let (given, gone) = rig.given(&[(end(of(who)), end(SERVER))]);
                let sent = &sent[usize::from(who)];
                prop_assert!(given.is_sorted_by(|a, b| a < b));
                prop_assert!(given.iter().all(|index| sent.contains(index)));
                if let (Some(begun), 0) = (begun[usize::from(who)], rig.keeper.counters().forgotten) {
                    let after = sent.iter().filter(|index| **index >= begun).count() as u64;
                    let kept = given.iter().filter(|index| **index >= begun).count() as u64;
                    prop_assert!(kept + gone >= after, "{kept} and {gone} of {after}");
                }
            }
        }
    }
}
