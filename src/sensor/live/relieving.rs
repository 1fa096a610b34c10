//! Packets on their way from the rings into the worker, where the kernel relieves the thread of some.

use crate::capture::Packet;
use crate::capture::live::{Relief, Sink};
use crate::net::{Address, Endpoint};
use crate::sensor::worker::{Placed, Worker};

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// Tells the kernel what is not needed any more, and takes over what it has counted before a connection is followed to its
/// end, or to what is needed again: bytes that were dropped are not missing.
pub(super) struct Relieving<'t> {
    pub(super) worker: &'t mut Worker,
    pub(super) found: &'t mut Vec<Placed>,
    pub(super) relief: &'t mut Relief,
}

impl Sink for Relieving<'_> {
    fn take<'p>(&mut self, packets: impl Iterator<Item = Packet<'p>>) {
        let Self { worker, found, relief } = self;
        if relief.is_empty() {
            worker.follow(packets, found);
        } else {
            let packets: Vec<Packet<'p>> = packets.collect();
            let mut rest = packets.as_slice();
            while let Some((n, (a, b))) = first_turn(rest, relief) {
                let (before, from) = rest.split_at(n);
                worker.follow(before.iter().copied(), found);
                let Some((turn, after)) = from.split_first() else { break };
                for relieved in relief.end(a, b).into_iter().flatten() {
                    worker.relieved(&relieved, turn.clock, turn.index, found);
                }
                worker.follow(std::iter::once(*turn), found);
                rest = after;
            }
            worker.follow(rest.iter().copied(), found);
        }
        // Of several of one connection, the last says how it stands now.
        for needless in worker.take_needless().iter().rev() {
            relief.begin(needless);
        }
    }
}

/// The first packet behind which a connection, of which packets are dropped, does not go on as before; its ends.
fn first_turn(packets: &[Packet<'_>], relief: &Relief) -> Option<(usize, (Endpoint, Endpoint))> {
    let bounded = relief.is_bounded();
    packets.iter().enumerate().find_map(|(n, packet)| Some((n, turns(packet, relief, bounded)?)))
}

/// The ends of the connection that this packet opens, ends, or carries past what is not needed, if packets of it are dropped,
/// and this has the shape that the kernel's program knows.
fn turns(packet: &Packet<'_>, relief: &Relief, bounded: bool) -> Option<(Endpoint, Endpoint)> {
    let mut at = 12;
    if packet.link != ETHERNET {
        return None;
    }
    // The tags stand in the packet again.
    while matches!(half(packet, at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    let (tcp, length) = match (half(packet, at)?, *packet.bytes.get(at + 2)?) {
        (0x0800, 0x45) if *packet.bytes.get(at + 11)? == 6 => (at + 22, half(packet, at + 4)?.checked_sub(20)?),
        (0x86dd, _) if *packet.bytes.get(at + 8)? == 6 => (at + 42, half(packet, at + 6)?),
        _ => return None,
    };
    let opens_or_ends = packet.bytes.get(tcp + 13)? & 0x07 != 0;
    if !opens_or_ends && !bounded {
        return None;
    }
    let [source, destination] = if tcp == at + 22 {
        let address = |at| Some(Address::v4(*packet.bytes.get(at..)?.first_chunk()?));
        [address(at + 14)?, address(at + 18)?]
    } else {
        let address = |at| Some(Address::v6(*packet.bytes.get(at..)?.first_chunk()?));
        [address(at + 10)?, address(at + 26)?]
    };
    let source = Endpoint { address: source, port: half(packet, tcp)? };
    let destination = Endpoint { address: destination, port: half(packet, tcp + 2)? };
    let turns = if opens_or_ends {
        relief.holds(source, destination)
    } else {
        let header = u16::from(packet.bytes.get(tcp + 12)? >> 4) * 4;
        let seq = packet.bytes.get(tcp + 4..)?.first_chunk().map(|seq| u32::from_be_bytes(*seq))?;
        let end = seq.wrapping_add(u32::from(length.checked_sub(header)?));
        relief.is_passed(source, destination, end)
    };
    turns.then_some((source, destination))
}

fn half(packet: &Packet<'_>, at: usize) -> Option<u16> {
    packet.bytes.get(at..)?.first_chunk().map(|half| u16::from_be_bytes(*half))
}
