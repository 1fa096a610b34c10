//! The network layer: EtherTypes, VLAN tags, IPv4 and IPv6 with their options and extension headers.

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6ExtensionsSlice, Ipv6HeaderSlice};

use super::fragment::{FragmentKey, Fragments};
use super::{Decoded, Layers, Skip, Tunnel, be16, byte, rest, transport, tunnel};
use crate::capture::Packet;
use crate::net::Address;

/// A walk inwards through one packet.
pub(super) struct Walk<'w> {
    pub(super) packet: &'w Packet<'w>,
    pub(super) layers: Layers,
    pub(super) depth: u8,
    pub(super) fragments: &'w mut Fragments,
}

impl Walk<'_> {
    /// One layer further in, or too deep.
    pub(super) fn descend(&mut self) -> Result<(), Skip> {
        self.depth = self.depth.checked_sub(1).ok_or(Skip::TooDeep)?;
        Ok(())
    }
}

/// Goes on at what an EtherType names. `wire` is how many bytes were there on the wire.
pub(super) fn ethertype(
    walk: &mut Walk<'_>,
    kind: u16,
    bytes: &[u8],
    wire: usize,
    sink: &mut dyn FnMut(Decoded<'_>),
) -> Result<(), Skip> {
    walk.descend()?;
    match kind {
        0x0800 | 0x86dd => ip(walk, bytes, wire, sink),
        // 802.1Q, 802.1ad, and two values that switches used before it.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
            walk.layers.push_vlan(be16(bytes, 0)? & 0x0fff);
            let inner = be16(bytes, 2)?;
            let payload = rest(bytes, 4)?;
            let wire = wire.saturating_sub(4);
            if inner < 0x0600 { Err(Skip::NotIp) } else { ethertype(walk, inner, payload, wire, sink) }
        }
        0x8847 | 0x8848 => tunnel::mpls(walk, bytes, wire, sink),
        0x8864 => tunnel::pppoe(walk, bytes, wire, sink),
        0x6558 => super::link::ethernet(walk, bytes, wire, sink),
        0x894f => tunnel::nsh(walk, bytes, wire, sink),
        // Cisco metadata: version, length, an option of four bytes, the EtherType.
        0x8909 => {
            let inner = be16(bytes, 6)?;
            ethertype(walk, inner, rest(bytes, 8)?, wire.saturating_sub(8), sink)
        }
        _ => Err(Skip::NotIp),
    }
}

/// An IP packet of either version.
pub(super) fn ip(
    walk: &mut Walk<'_>,
    bytes: &[u8],
    wire: usize,
    sink: &mut dyn FnMut(Decoded<'_>),
) -> Result<(), Skip> {
    walk.descend()?;
    match byte(bytes, 0)? >> 4 {
        4 => ipv4(walk, bytes, wire, sink),
        6 => ipv6(walk, bytes, wire, sink),
        _ => Err(Skip::NotIp),
    }
}

/// What an IP header says of its payload.
pub(super) struct Carried<'a> {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) protocol: u8,
    /// The captured part.
    pub(super) bytes: &'a [u8],
    /// The length on the wire.
    pub(super) declared: usize,
}

fn ipv4(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| Skip::Malformed)?;
    let header_length = header.slice().len();
    // A total length of zero is left by segmentation offload: the frame's own length counts then.
    let total = match usize::from(header.total_len()) {
        0 => wire,
        total => total,
    };
    let declared = total.checked_sub(header_length).ok_or(Skip::Malformed)?;
    let payload = rest(bytes, header_length)?;
    let carried = Carried {
        source: Address::v4(header.source()),
        destination: Address::v4(header.destination()),
        protocol: header.protocol().0,
        bytes: payload.get(..declared).unwrap_or(payload),
        declared,
    };
    if header.is_fragmenting_payload() {
        let key = FragmentKey {
            source: carried.source,
            destination: carried.destination,
            id: u32::from(header.identification()),
            protocol: carried.protocol,
        };
        let offset = usize::from(header.fragments_offset().byte_offset());
        return fragment(walk, key, offset, header.more_fragments(), &carried, sink);
    }
    upper(walk, &carried, sink)
}

fn ipv6(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| Skip::Malformed)?;
    let payload = rest(bytes, 40)?;
    // Zero means a jumbogram (RFC 2675) or an offloaded segment; the frame's own length counts for both.
    let declared = match usize::from(header.payload_length()) {
        0 => wire.saturating_sub(40),
        length => length,
    };
    let payload = payload.get(..declared).unwrap_or(payload);
    let (extensions, next, inner) =
        Ipv6ExtensionsSlice::from_slice(IpNumber(header.next_header().0), payload).map_err(|_| Skip::Malformed)?;
    let carried = Carried {
        source: Address::v6(header.source()),
        destination: Address::v6(header.destination()),
        protocol: next.0,
        bytes: inner,
        declared: declared.saturating_sub(payload.len() - inner.len()),
    };
    if extensions.is_fragmenting_payload() {
        let fragmenting = extensions.into_iter().find_map(|extension| match extension {
            etherparse::Ipv6ExtensionSlice::Fragment(slice) => Some(slice.to_header()),
            _ => None,
        });
        let header = fragmenting.ok_or(Skip::Malformed)?;
        let key = FragmentKey {
            source: carried.source,
            destination: carried.destination,
            id: header.identification,
            protocol: carried.protocol,
        };
        let offset = usize::from(header.fragment_offset.byte_offset());
        return fragment(walk, key, offset, header.more_fragments, &carried, sink);
    }
    upper(walk, &carried, sink)
}

fn fragment(
    walk: &mut Walk<'_>,
    key: FragmentKey,
    offset: usize,
    more: bool,
    carried: &Carried<'_>,
    sink: &mut dyn FnMut(Decoded<'_>),
) -> Result<(), Skip> {
    if carried.bytes.len() < carried.declared {
        // A fragment that the snap length cut cannot become whole; what follows its hole has no header.
        return Err(Skip::Fragment);
    }
    let whole = walk.fragments.push(key, offset, more, carried.bytes, walk.packet.clock).ok_or(Skip::Fragment)?;
    let carried = Carried { bytes: &whole, declared: whole.len(), ..*carried };
    upper(walk, &carried, sink)
}

/// Goes on at the protocol that an IP header names.
fn upper(walk: &mut Walk<'_>, carried: &Carried<'_>, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    match carried.protocol {
        6 => transport::tcp(walk, carried, sink),
        17 => transport::udp(walk, carried, sink),
        4 | 41 => {
            walk.layers.push_tunnel(Tunnel::IpInIp);
            ip(walk, carried.bytes, carried.declared, sink)
        }
        47 => tunnel::gre(walk, carried.bytes, carried.declared, sink),
        137 => tunnel::mpls(walk, carried.bytes, carried.declared, sink),
        _ => Err(Skip::OtherIp),
    }
}
