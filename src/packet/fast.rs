//! The common shape, specialised: Ethernet, up to two VLAN tags, IPv4 or IPv6 without options or extension
//! headers, not fragmented, TCP. Anything else is left to the general path.

use super::{Datagram, Flags, Layers, Segment, link, tunnel};
use crate::capture::Packet;
use crate::net::{Address, Endpoint, Timestamp};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is behind Ethernet's header and up to two VLAN tags, with its type.
#[inline(always)]
fn behind_ethernet<'a>(mut bytes: &'a [u8], layers: &mut Layers) -> Option<(u16, &'a [u8])> {
    let mut header = bytes.first_chunk::<14>()?;
    let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut taken = 14;
    while ethertype == VLAN || ethertype == QINQ {
        if taken > 18 {
            return None;
        }
        bytes = bytes.get(4..)?;
        taken += 4;
        header = bytes.first_chunk::<14>()?;
        let tag = u16::from_be_bytes([header[10], header[11]]);
        layers.push_vlan(tag & 0x0fff);
        ethertype = u16::from_be_bytes([header[12], header[13]]);
    }
    Some((ethertype, bytes.get(14..)?))
}

/// The two hosts between which everything goes that is in the packet; nothing if that is not seen at a glance.
#[inline]
pub(super) fn hosts(packet: &Packet<'_>) -> Option<(Address, Address)> {
    let (ethertype, bytes) = behind_ethernet(packet.bytes, &mut Layers::default())?;
    let (protocol, source, destination, payload) = match ethertype {
        IPV4 => {
            let ip = bytes.first_chunk::<20>()?;
            let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
            if ip[0] != 0x45 || fragment != 0 {
                return None;
            }
            let source = Address::v4([ip[12], ip[13], ip[14], ip[15]]);
            let destination = Address::v4([ip[16], ip[17], ip[18], ip[19]]);
            (ip[9], source, destination, bytes.get(20..)?)
        }
        IPV6 => {
            let ip = bytes.first_chunk::<40>()?;
            if ip[0] >> 4 != 6 {
                return None;
            }
            let source = Address::v6(*ip.get(8..)?.first_chunk::<16>()?);
            let destination = Address::v6(*ip.get(24..)?.first_chunk::<16>()?);
            (ip[6], source, destination, bytes.get(40..)?)
        }
        _ => return None,
    };
    match protocol {
        TCP => Some((source, destination)),
        UDP => {
            let ports = payload.first_chunk::<4>()?;
            let (from, to) = (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
            tunnel::by_port(from, to).is_none().then_some((source, destination))
        }
        _ => None,
    }
}

/// Ethernet's header, IPv4's and TCP's.
const PLAIN: usize = 14 + 20 + 20;

/// The headers of a segment behind Ethernet and untagged IPv4 without options, which is what nearly all packets are. With
/// its packet this is the segment, and nobody has to look into the packet again: which matters where that lies near another
/// processor.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    source: [u8; 4],
    destination: [u8; 4],
    source_port: u16,
    destination_port: u16,
    seq: u32,
    ack: u32,
    /// IPv4's total length.
    total: u16,
    /// Where the payload begins in the packet.
    payload: u8,
    flags: u8,
}

impl Plain {
    /// Reads the headers, with one look at how many bytes there are; nothing if the packet has another shape.
    #[inline(always)]
    pub fn of(packet: &Packet<'_>) -> Option<Self> {
        if packet.link != link::ETHERNET {
            return None;
        }
        let headers = packet.bytes.first_chunk::<PLAIN>()?;
        if headers[12..15] != [0x08, 0x00, 0x45] {
            return None;
        }
        let (ip, tcp) = (headers.get(14..)?.first_chunk::<20>()?, headers.get(34..)?.first_chunk::<20>()?);
        let total = u16::from_be_bytes([ip[2], ip[3]]);
        // More fragments, or an offset.
        let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
        let header = (tcp[12] >> 4) * 4;
        let payload = 34 + header;
        let end = (14 + usize::from(total)).min(packet.bytes.len());
        if ip[9] != TCP || fragment != 0 || total < 40 || header < 20 || usize::from(payload) > end {
            return None;
        }
        Some(Self {
            source: [ip[12], ip[13], ip[14], ip[15]],
            destination: [ip[16], ip[17], ip[18], ip[19]],
            source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
            destination_port: u16::from_be_bytes([tcp[2], tcp[3]]),
            seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            ack: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
            total,
            payload,
            flags: tcp[13],
        })
    }

    /// The hosts between which it goes.
    #[inline(always)]
    pub fn hosts(&self) -> (Address, Address) {
        (Address::v4(self.source), Address::v4(self.destination))
    }

    /// The segment, given the packet that this was read from.
    #[inline(always)]
    pub(super) fn segment<'p>(&self, packet: &Packet<'p>) -> Segment<'p> {
        let (source, destination) = self.hosts();
        let declared = 14 + usize::from(self.total);
        let end = declared.min(packet.bytes.len());
        Segment {
            index: packet.index,
            ts: packet.ts,
            clock: packet.clock,
            source: Endpoint { address: source, port: self.source_port },
            destination: Endpoint { address: destination, port: self.destination_port },
            seq: self.seq,
            ack: self.ack,
            flags: Flags(self.flags),
            payload: packet.bytes.get(usize::from(self.payload)..end).unwrap_or_default(),
            cut: (declared - end) as u32,
            layers: Layers::default(),
        }
    }
}

/// The datagram behind untagged IPv4 without options, if its ports are no tunnel's: what nearly all are that are no
/// segments.
pub(super) fn datagram<'a>(packet: &Packet<'a>) -> Option<Datagram<'a>> {
    let headers = packet.bytes.first_chunk::<{ 14 + 20 + 8 }>()?;
    let (ip, udp) = (headers.get(14..)?.first_chunk::<20>()?, headers.get(34..)?.first_chunk::<8>()?);
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
    let (from, to) = (u16::from_be_bytes([udp[0], udp[1]]), u16::from_be_bytes([udp[2], udp[3]]));
    let plain = headers[12..15] == [0x08, 0x00, 0x45] && ip[9] == UDP && fragment == 0 && total >= 28;
    if !plain || tunnel::by_port(from, to).is_some() {
        return None;
    }
    Some(Datagram {
        index: packet.index,
        ts: packet.ts,
        clock: packet.clock,
        source: Endpoint { address: Address::v4([ip[12], ip[13], ip[14], ip[15]]), port: from },
        destination: Endpoint { address: Address::v4([ip[16], ip[17], ip[18], ip[19]]), port: to },
        payload: packet.bytes.get(42..(14 + total).min(packet.bytes.len()))?,
    })
}

/// The segment in any packet of the common shape.
#[inline]
pub(super) fn segment<'a>(packet: &Packet<'a>) -> Option<Segment<'a>> {
    // By value, so that a packet whose segment is plain need not be in memory.
    segment_of(packet.bytes, packet.index, packet.ts, packet.clock)
}

#[inline(never)]
fn segment_of(bytes: &[u8], index: u64, ts: Timestamp, clock: Timestamp) -> Option<Segment<'_>> {
    let mut layers = Layers::default();
    let (ethertype, bytes) = behind_ethernet(bytes, &mut layers)?;
    let (source, destination, payload, declared) = match ethertype {
        IPV4 => {
            let ip = bytes.first_chunk::<20>()?;
            let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            // More fragments, or an offset.
            let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
            if ip[0] != 0x45 || ip[9] != TCP || fragment != 0 || total < 40 {
                return None;
            }
            let payload = bytes.get(20..total.min(bytes.len()))?;
            let source = Address::v4([ip[12], ip[13], ip[14], ip[15]]);
            let destination = Address::v4([ip[16], ip[17], ip[18], ip[19]]);
            (source, destination, payload, total - 20)
        }
        IPV6 => {
            let ip = bytes.first_chunk::<40>()?;
            let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            if ip[0] >> 4 != 6 || ip[6] != TCP || length < 20 {
                return None;
            }
            let payload = bytes.get(40..(40 + length).min(bytes.len()))?;
            let source = Address::v6(*ip.get(8..)?.first_chunk::<16>()?);
            let destination = Address::v6(*ip.get(24..)?.first_chunk::<16>()?);
            (source, destination, payload, length)
        }
        _ => return None,
    };
    let tcp = payload.first_chunk::<20>()?;
    let header = usize::from(tcp[12] >> 4) * 4;
    if header < 20 {
        return None;
    }
    let data = payload.get(header..)?;
    Some(Segment {
        index,
        ts,
        clock,
        source: Endpoint { address: source, port: u16::from_be_bytes([tcp[0], tcp[1]]) },
        destination: Endpoint { address: destination, port: u16::from_be_bytes([tcp[2], tcp[3]]) },
        seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        ack: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
        flags: Flags(tcp[13]),
        payload: data,
        cut: u32::try_from(declared - payload.len()).unwrap_or(u32::MAX),
        layers,
    })
}
