//! Encapsulations: MPLS, PPPoE, GRE, ERSPAN, VXLAN, GENEVE, GTP-U, Teredo, NSH.

use super::link::ethernet;
use super::network::{Walk, ethertype, ip};
use super::{Decoded, Skip, Tunnel, be16, be32, byte, rest};

type Sink<'s> = dyn FnMut(Decoded<'_>) + 's;

/// MPLS label stack (RFC 3032), then IP by its version nibble, or Ethernet with or without the
/// pseudo-wire's control word (RFC 4448).
pub(super) fn mpls(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    walk.descend()?;
    walk.layers.push_tunnel(Tunnel::Mpls);
    let mut inner = bytes;
    loop {
        let label = be32(inner, 0)?;
        inner = rest(inner, 4)?;
        if label & 0x100 != 0 {
            break;
        }
    }
    let wire = wire.saturating_sub(bytes.len() - inner.len());
    match byte(inner, 0)? >> 4 {
        4 | 6 => ip(walk, inner, wire, sink),
        // A control word starts with a zero nibble; so may the Ethernet address of a word-less pseudo-wire.
        0 if looks_like_ethernet(rest(inner, 4)?) => ethernet(walk, rest(inner, 4)?, wire.saturating_sub(4), sink),
        _ => ethernet(walk, inner, wire, sink),
    }
}

fn looks_like_ethernet(bytes: &[u8]) -> bool {
    matches!(be16(bytes, 12), Ok(0x0800 | 0x86dd | 0x8100 | 0x88a8 | 0x0806))
}

/// PPPoE session (RFC 2516 section 4): version and type, code, session, length, PPP.
pub(super) fn pppoe(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    walk.descend()?;
    walk.layers.push_tunnel(Tunnel::Pppoe);
    if byte(bytes, 0)? != 0x11 || byte(bytes, 1)? != 0 {
        return Err(Skip::NotIp);
    }
    ppp(walk, rest(bytes, 6)?, wire.saturating_sub(6), sink)
}

/// A PPP protocol number (RFC 1661 section 2), one byte if compressed, then the packet.
pub(super) fn ppp(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    let first = byte(bytes, 0)?;
    let (protocol, header) = if first & 1 == 1 { (u16::from(first), 1) } else { (be16(bytes, 0)?, 2) };
    let inner = rest(bytes, header)?;
    match protocol {
        0x0021 | 0x0057 => ip(walk, inner, wire.saturating_sub(header), sink),
        0x0281 => mpls(walk, inner, wire.saturating_sub(header), sink),
        _ => Err(Skip::NotIp),
    }
}

/// GRE (RFC 2784, RFC 2890; version 1 of RFC 2637 carries PPP).
pub(super) fn gre(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    walk.descend()?;
    let flags = be16(bytes, 0)?;
    let kind = be16(bytes, 2)?;
    let version = flags & 0x0007;
    let (checksum, routing, key, sequence) =
        (flags & 0x8000 != 0, flags & 0x4000 != 0, flags & 0x2000 != 0, flags & 0x1000 != 0);
    let mut header = 4;
    if checksum || routing {
        header += 4;
    }
    if key {
        header += 4;
    }
    if sequence {
        header += 4;
    }
    if version == 1 {
        walk.layers.push_tunnel(Tunnel::Gre);
        if flags & 0x0080 != 0 {
            header += 4;
        }
        let inner = rest(bytes, header)?;
        // PPTP sends bare acknowledgements.
        if inner.is_empty() {
            return Err(Skip::OtherIp);
        }
        let skipped = if byte(inner, 0)? == 0xff { 2 } else { 0 };
        return ppp(walk, rest(inner, skipped)?, wire.saturating_sub(header + skipped), sink);
    }
    let inner = rest(bytes, header)?;
    let wire = wire.saturating_sub(header);
    match kind {
        // Type I has no header of its own and no GRE sequence number; type II has eight bytes.
        0x88be => {
            walk.layers.push_tunnel(Tunnel::Erspan);
            let own = if sequence { 8 } else { 0 };
            ethernet(walk, rest(inner, own)?, wire.saturating_sub(own), sink)
        }
        // Type III: twelve bytes, and eight more if the last bit says so.
        0x22eb => {
            walk.layers.push_tunnel(Tunnel::Erspan);
            let own = if byte(inner, 11)? & 1 == 1 { 20 } else { 12 };
            ethernet(walk, rest(inner, own)?, wire.saturating_sub(own), sink)
        }
        _ => {
            walk.layers.push_tunnel(Tunnel::Gre);
            ethertype(walk, kind, inner, wire, sink)
        }
    }
}

/// Network service header (RFC 8300 section 2.2): its length is in words of four bytes.
pub(super) fn nsh(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    walk.descend()?;
    walk.layers.push_tunnel(Tunnel::Nsh);
    let header = usize::from(be16(bytes, 0)? & 0x003f) * 4;
    if header < 8 {
        return Err(Skip::Malformed);
    }
    let next = byte(bytes, 3)?;
    let inner = rest(bytes, header)?;
    next_protocol(walk, next, inner, wire.saturating_sub(header), sink)
}

/// The next-protocol numbers that NSH and VXLAN-GPE share.
fn next_protocol(walk: &mut Walk<'_>, next: u8, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    match next {
        1 | 2 => ip(walk, bytes, wire, sink),
        3 => ethernet(walk, bytes, wire, sink),
        4 => nsh(walk, bytes, wire, sink),
        5 => mpls(walk, bytes, wire, sink),
        _ => Err(Skip::NotIp),
    }
}

/// A tunnel over UDP, told by its port.
#[derive(Clone, Copy)]
pub(super) enum UdpTunnel {
    Vxlan,
    VxlanGpe,
    Geneve,
    GtpU,
    Teredo,
    Mpls,
}

/// Which tunnel the ports name; the destination's word counts first. Teredo answers from its port.
pub(super) fn by_port(source: u16, destination: u16) -> Option<UdpTunnel> {
    Some(match destination {
        4789 | 8472 => UdpTunnel::Vxlan,
        4790 => UdpTunnel::VxlanGpe,
        6081 => UdpTunnel::Geneve,
        2152 => UdpTunnel::GtpU,
        6635 => UdpTunnel::Mpls,
        3544 => UdpTunnel::Teredo,
        _ => match source {
            3544 => UdpTunnel::Teredo,
            _ => return None,
        },
    })
}

/// Enters a tunnel over UDP.
pub(super) fn udp(
    walk: &mut Walk<'_>,
    tunnel: UdpTunnel,
    bytes: &[u8],
    wire: usize,
    sink: &mut Sink<'_>,
) -> Result<(), Skip> {
    walk.descend()?;
    match tunnel {
        UdpTunnel::Vxlan => {
            walk.layers.push_tunnel(Tunnel::Vxlan);
            // The valid-VNI flag; AWS and Azure set it, and a datagram without it is something else.
            if byte(bytes, 0)? & 0x08 == 0 {
                return Err(Skip::NotIp);
            }
            ethernet(walk, rest(bytes, 8)?, wire.saturating_sub(8), sink)
        }
        UdpTunnel::VxlanGpe => {
            walk.layers.push_tunnel(Tunnel::Vxlan);
            let next = byte(bytes, 3)?;
            next_protocol(walk, next, rest(bytes, 8)?, wire.saturating_sub(8), sink)
        }
        UdpTunnel::Geneve => {
            walk.layers.push_tunnel(Tunnel::Geneve);
            let first = byte(bytes, 0)?;
            if first >> 6 != 0 {
                return Err(Skip::NotIp);
            }
            let header = 8 + usize::from(first & 0x3f) * 4;
            let kind = be16(bytes, 2)?;
            ethertype(walk, kind, rest(bytes, header)?, wire.saturating_sub(header), sink)
        }
        UdpTunnel::GtpU => gtp(walk, bytes, wire, sink),
        UdpTunnel::Teredo => teredo(walk, bytes, wire, sink),
        UdpTunnel::Mpls => mpls(walk, bytes, wire, sink),
    }
}

/// GTP-U version 1 G-PDU (3GPP TS 29.281 section 5): eight bytes, four more if any optional field is
/// there, then extension headers in words of four bytes that each name the next.
fn gtp(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    walk.layers.push_tunnel(Tunnel::GtpU);
    let first = byte(bytes, 0)?;
    if first >> 5 != 1 || byte(bytes, 1)? != 0xff {
        return Err(Skip::NotIp);
    }
    let mut header = 8;
    if first & 0x07 != 0 {
        let mut next = byte(bytes, 11)?;
        header = 12;
        while next != 0 && first & 0x04 != 0 {
            let words = usize::from(byte(bytes, header)?);
            if words == 0 {
                return Err(Skip::Malformed);
            }
            next = byte(bytes, header + words * 4 - 1)?;
            header += words * 4;
        }
    }
    ip(walk, rest(bytes, header)?, wire.saturating_sub(header), sink)
}

/// Teredo (RFC 4380 section 5.1.1): optional authentication and origin indications, then IPv6.
fn teredo(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut Sink<'_>) -> Result<(), Skip> {
    walk.layers.push_tunnel(Tunnel::Teredo);
    let mut inner = bytes;
    if be16(inner, 0)? == 1 {
        let length = 13 + usize::from(byte(inner, 2)?) + usize::from(byte(inner, 3)?);
        inner = rest(inner, length)?;
    }
    if be16(inner, 0)? == 0 {
        inner = rest(inner, 8)?;
    }
    if byte(inner, 0)? >> 4 != 6 {
        return Err(Skip::NotIp);
    }
    ip(walk, inner, wire.saturating_sub(bytes.len() - inner.len()), sink)
}
