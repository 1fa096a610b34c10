//! Packets that came as several fragments, as the several packets that they are.

use super::ring::Ring;
use crate::capture::Packet;
use crate::config;
use crate::net::Timestamp;
use crate::packet::{Audience, Decoded, Decoder};

/// A packet with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPacket {
    index: u64,
    ts: Timestamp,
    clock: Timestamp,
    link: u16,
    wire_length: u32,
    bytes: Box<[u8]>,
}

impl KeptPacket {
    pub(super) fn of(packet: Packet<'_>) -> Self {
        let Packet { index, ts, clock, link, wire_length, bytes } = packet;
        Self { index, ts, clock, link, wire_length, bytes: bytes.into() }
    }

    /// The packet.
    pub fn packet(&self) -> Packet<'_> {
        let Self { index, ts, clock, link, wire_length, ref bytes } = *self;
        Packet { index, ts, clock, link, wire_length, bytes }
    }

    /// Its place among the packets of its thread.
    pub(super) fn order(&self) -> (Timestamp, u64) {
        (self.ts, self.index)
    }
}

/// Takes packets apart, and knows the earlier fragments of what a fragment completes.
pub(super) struct Pieces {
    decoder: Decoder,
    /// Fragments, by the datagram that they are a part of; one without bytes is behind what was completed.
    waiting: Ring,
}

/// Bytes of fragments for which the index gets a place.
const EACH: usize = 1_500;

impl Pieces {
    /// With so many bytes for fragments that wait.
    pub(super) fn new(limits: &config::Packet, bytes: usize) -> Self {
        Self { decoder: Decoder::with_limits(limits), waiting: Ring::new(bytes, EACH) }
    }

    /// Bytes that it takes, beside what its decoder does.
    pub(super) fn size(&self) -> u64 {
        self.waiting.size()
    }

    /// Takes a packet apart: what is inside goes to `sink`, if it is whole with this packet. Gives the earlier fragments of
    /// it, the oldest first, as far as they are still there.
    #[inline]
    pub(super) fn take(&mut self, packet: &Packet<'_>, sink: &mut impl FnMut(Decoded<'_>)) -> Vec<KeptPacket> {
        if let Some(segment) = self.decoder.common(packet) {
            sink(Decoded::Tcp(segment));
            return Vec::new();
        }
        let mut whole = false;
        self.decoder.uncommon(packet, Audience::One, &mut |decoded| {
            whole = true;
            sink(decoded);
        });
        let Some(datagram) = self.decoder.part_of() else { return Vec::new() };
        if !whole {
            self.waiting.push(datagram, packet);
            return Vec::new();
        }
        let earlier = self.waiting.newest(datagram).take_while(|fragment| !fragment.bytes.is_empty());
        let mut earlier: Vec<KeptPacket> = earlier.map(KeptPacket::of).collect();
        earlier.reverse();
        // Another datagram may have the same number later.
        self.waiting.push(datagram, &Packet { bytes: &[], ..*packet });
        earlier
    }
}
