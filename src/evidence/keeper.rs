//! The packets of live connections that an alert may want: of each upload from its first moment on, in bounded memory.
//!
//! On its capture thread a [`Keeper`] sees every packet after it was followed. Those of connections that are still being read go
//! through a ring of recent ones, so that what came just before an upload, such as the opening of its connection, is still
//! there when it begins. From then on the connection has a [`Tape`] of its own: its first packets, and the most recent ones.

use std::net::IpAddr;

use lru::LruCache;

use super::pieces::{KeptPacket, Pieces};
use super::ring::{Ring, Roll};
use super::slice::DNS;
use crate::capture::Packet;
use crate::config;
use crate::net::{Address, Endpoint, host_pair_hash};
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

/// The packets of one connection: the first, and the most recent.
#[derive(Default)]
struct Tape {
    first: Roll,
    /// There once the first have their share.
    recent: Option<Ring>,
    packets: u64,
}

/// Bytes of packets for which an index gets a place.
const EACH: usize = 256;

/// The least memory that each ring has, and all tapes together.
const LEAST: u64 = 64 << 10;

impl Tape {
    fn weight(&self) -> u64 {
        self.first.size() + self.recent.as_ref().map_or(0, Ring::size) + size_of::<Self>() as u64
    }

    /// Keeps a packet; `share` is what the first ones may take, and the recent ones too.
    fn keep(&mut self, packet: &Packet<'_>, share: u64) {
        self.packets += 1;
        if self.recent.is_none() && self.first.push(packet, share) {
            return;
        }
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        self.recent.get_or_insert_with(|| Ring::new(share, usize::MAX)).push(0, packet);
    }

    fn packets(&self) -> impl Iterator<Item = KeptPacket> {
        self.first.packets().chain(self.recent.iter().flat_map(|ring| ring.newest(0))).map(KeptPacket::of)
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
    held: u64,
    memory: u64,
    /// What the first packets of one connection may take, and the recent ones too.
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
        let pieces = Pieces::new(limits, bytes(memory / 16));
        let rings = recent.size() + names.size() + pieces.size();
        Self {
            recent,
            names,
            pieces,
            tapes: LruCache::unbounded(),
            held: 0,
            memory: memory.saturating_sub(rings).max(LEAST),
            share: settings.per_connection.0 / 2,
            counters: KeeperCounters::default(),
        }
    }

    /// An upload may begin on this connection: from now on its packets are kept, with those that came just before.
    pub fn begin(&mut self, a: Endpoint, b: Endpoint) {
        let ends = both(a, b);
        if self.tapes.contains(&ends) {
            return;
        }
        self.counters.connections += 1;
        let before: Vec<Packet<'_>> = self.recent.newest(key_of(ends)).collect();
        let mut tape = Tape::default();
        before.iter().rev().for_each(|packet| tape.keep(packet, self.share));
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
                    self.held -= tape.weight();
                    earlier.for_each(|packet| tape.keep(&packet, self.share));
                    self.held += tape.weight();
                    self.make_room();
                }
                None if is_read => earlier.for_each(|packet| self.recent.push(key_of(ends), &packet)),
                None => {}
            },
        }
    }

    fn make_room(&mut self) {
        while self.held > self.memory
            && let Some((_, tape)) = self.tapes.pop_lru()
        {
            self.held -= tape.weight();
            self.counters.forgotten += 1;
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
                    given.gone += tape.packets.saturating_sub((given.packets.len() - before) as u64);
                }
                // Whose upload was known only at its end.
                None => given.packets.extend(self.recent.newest(key_of(ends)).map(KeptPacket::of)),
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
