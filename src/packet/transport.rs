//! TCP and UDP headers.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

use super::network::{Carried, Walk};
use super::{Datagram, Decoded, Flags, Segment, Skip, rest, tunnel};
use crate::net::Endpoint;

/// A TCP segment (RFC 9293 section 3.1).
pub(super) fn tcp(walk: &mut Walk<'_>, carried: &Carried<'_>, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    let header = TcpHeaderSlice::from_slice(carried.bytes).map_err(|_| Skip::Malformed)?;
    let payload = rest(carried.bytes, header.slice().len())?;
    let cut = carried.declared.saturating_sub(carried.bytes.len());
    let flags = header.slice().get(13).copied().unwrap_or(0);
    sink(Decoded::Tcp(Segment {
        index: walk.packet.index,
        ts: walk.packet.ts,
        clock: walk.packet.clock,
        source: Endpoint { address: carried.source, port: header.source_port() },
        destination: Endpoint { address: carried.destination, port: header.destination_port() },
        seq: header.sequence_number(),
        ack: header.acknowledgment_number(),
        flags: Flags(flags),
        payload,
        cut: u32::try_from(cut).unwrap_or(u32::MAX),
        layers: walk.layers,
    }));
    Ok(())
}

/// A UDP datagram (RFC 768): a tunnel by its port, or delivered as it is.
pub(super) fn udp(walk: &mut Walk<'_>, carried: &Carried<'_>, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    let header = UdpHeaderSlice::from_slice(carried.bytes).map_err(|_| Skip::Malformed)?;
    let inner = rest(carried.bytes, 8)?;
    let wire = carried.declared.saturating_sub(8);
    let (source, destination) = (header.source_port(), header.destination_port());
    // A payload on a tunnel's port that is no such tunnel is an ordinary datagram.
    if let Some(tunnel) = tunnel::by_port(source, destination) {
        let (layers, depth) = (walk.layers, walk.depth);
        match tunnel::udp(walk, tunnel, inner, wire, sink) {
            Ok(()) => return Ok(()),
            Err(Skip::Malformed | Skip::NotIp) => (walk.layers, walk.depth) = (layers, depth),
            Err(other) => return Err(other),
        }
    }
    sink(Decoded::Udp(Datagram {
        index: walk.packet.index,
        ts: walk.packet.ts,
        clock: walk.packet.clock,
        source: Endpoint { address: carried.source, port: source },
        destination: Endpoint { address: carried.destination, port: destination },
        payload: inner,
    }));
    Ok(())
}
