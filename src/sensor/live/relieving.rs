//! Packets on their way from the rings into the worker, where the kernel relieves the thread of some.

use crate::capture::Packet;
use crate::capture::live::{Relief, Sink};
use crate::net::{Address, Endpoint};
use crate::sensor::worker::{Placed, Worker};

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// Tells the kernel what is not needed any more, and takes over what it has counted before the end of a connection is
/// followed: bytes that were dropped are not missing.
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
            while let Some(n) = rest.iter().position(|packet| turns(packet).is_some_and(|(a, b)| relief.holds(a, b))) {
                let (before, from) = rest.split_at(n);
                worker.follow(before.iter().copied(), found);
                let Some((turn, after)) = from.split_first() else { break };
                let ended = turns(turn).map(|(a, b)| relief.end(a, b));
                for relieved in ended.into_iter().flatten().flatten() {
                    worker.relieved(&relieved, turn.clock, turn.index, found);
                }
                worker.follow(std::iter::once(*turn), found);
                rest = after;
            }
            worker.follow(rest.iter().copied(), found);
        }
        for (a, b) in worker.take_deaf() {
            relief.begin(a, b);
        }
    }
}

/// The ends of the connection that this packet opens or ends, if it has the shape that the kernel's program knows.
fn turns(packet: &Packet<'_>) -> Option<(Endpoint, Endpoint)> {
    let mut at = 12;
    if packet.link != ETHERNET {
        return None;
    }
    // The tags stand in the packet again.
    while matches!(half(packet, at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    let (source, destination, tcp) = match (half(packet, at)?, *packet.bytes.get(at + 2)?) {
        (0x0800, 0x45) if *packet.bytes.get(at + 11)? == 6 => {
            let address = |at| Some(Address::v4(*packet.bytes.get(at..)?.first_chunk()?));
            (address(at + 14)?, address(at + 18)?, at + 22)
        }
        (0x86dd, _) if *packet.bytes.get(at + 8)? == 6 => {
            let address = |at| Some(Address::v6(*packet.bytes.get(at..)?.first_chunk()?));
            (address(at + 10)?, address(at + 26)?, at + 42)
        }
        _ => return None,
    };
    if packet.bytes.get(tcp + 13)? & 0x07 == 0 {
        return None;
    }
    let end = |address, at| Some(Endpoint { address, port: half(packet, at)? });
    Some((end(source, tcp)?, end(destination, tcp + 2)?))
}

fn half(packet: &Packet<'_>, at: usize) -> Option<u16> {
    packet.bytes.get(at..)?.first_chunk().map(|half| u16::from_be_bytes(*half))
}
