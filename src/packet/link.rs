//! Link-layer headers, by the capture's link type (the LINKTYPE registry of tcpdump.org).

use super::network::{Walk, ethertype, ip};
use super::{Decoded, Skip, be16, byte, rest, tunnel};

/// LINKTYPE_ETHERNET.
pub(super) const ETHERNET: u16 = 1;
const NULL: u16 = 0;
const PPP: u16 = 9;
const RAW_BSD: u16 = 12;
const RAW_OPENBSD: u16 = 14;
const PPP_HDLC: u16 = 50;
const PPP_ETHER: u16 = 51;
const RAW: u16 = 101;
const C_HDLC: u16 = 104;
const IEEE802_11: u16 = 105;
const LOOP: u16 = 108;
const LINUX_SLL: u16 = 113;
const RADIOTAP: u16 = 127;
const PPI: u16 = 192;
const IPV4: u16 = 228;
const IPV6: u16 = 229;
const LINUX_SLL2: u16 = 276;

/// Enters a packet at its link layer.
pub(super) fn enter(walk: &mut Walk<'_>, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    let bytes = walk.packet.bytes;
    let wire = (walk.packet.wire_length as usize).max(bytes.len());
    match walk.packet.link {
        ETHERNET => ethernet(walk, bytes, wire, sink),
        RAW | RAW_BSD | RAW_OPENBSD | IPV4 | IPV6 => ip(walk, bytes, wire, sink),
        NULL | LOOP => {
            // The address family is in the byte order of the machine that captured, so the IP version
            // is the surer guide.
            let inner = rest(bytes, 4)?;
            match byte(inner, 0)? >> 4 {
                4 | 6 => ip(walk, inner, wire.saturating_sub(4), sink),
                _ => Err(Skip::NotIp),
            }
        }
        LINUX_SLL => {
            let kind = be16(bytes, 14)?;
            ethertype(walk, kind, rest(bytes, 16)?, wire.saturating_sub(16), sink)
        }
        LINUX_SLL2 => {
            let kind = be16(bytes, 0)?;
            ethertype(walk, kind, rest(bytes, 20)?, wire.saturating_sub(20), sink)
        }
        C_HDLC => {
            let kind = be16(bytes, 2)?;
            ethertype(walk, kind, rest(bytes, 4)?, wire.saturating_sub(4), sink)
        }
        PPP | PPP_HDLC => {
            // Address and control (RFC 1662 section 3.1) may be compressed away.
            let inner = if byte(bytes, 0)? == 0xff { rest(bytes, 2)? } else { bytes };
            let wire = wire.saturating_sub(bytes.len() - inner.len());
            tunnel::ppp(walk, inner, wire, sink)
        }
        PPP_ETHER => tunnel::pppoe(walk, bytes, wire, sink),
        IEEE802_11 => wireless(walk, bytes, wire, sink),
        RADIOTAP | PPI => {
            // Both start with a length in little-endian order at offset 2.
            let length = usize::from(be16(bytes, 2)?.swap_bytes());
            let inner = rest(bytes, length)?;
            // PPI names the inner link type at offset 4; only 802.11 is common.
            wireless(walk, inner, wire.saturating_sub(length), sink)
        }
        _ => Err(Skip::UnknownLink),
    }
}

/// Ethernet II, or 802.3 with a length (which carries no IP except behind SNAP).
pub(super) fn ethernet(
    walk: &mut Walk<'_>,
    bytes: &[u8],
    wire: usize,
    sink: &mut dyn FnMut(Decoded<'_>),
) -> Result<(), Skip> {
    let kind = be16(bytes, 12)?;
    let inner = rest(bytes, 14)?;
    let wire = wire.saturating_sub(14);
    if kind < 0x0600 { snap(walk, inner, wire, sink) } else { ethertype(walk, kind, inner, wire, sink) }
}

/// LLC with SNAP (RFC 1042): `aa aa 03`, a three-byte organisation, an EtherType.
fn snap(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    match bytes.get(..3) {
        Some([0xaa, 0xaa, 0x03]) => ethertype(walk, be16(bytes, 6)?, rest(bytes, 8)?, wire.saturating_sub(8), sink),
        _ => Err(Skip::NotIp),
    }
}

/// An 802.11 data frame, unencrypted; A-MSDU is not read.
fn wireless(walk: &mut Walk<'_>, bytes: &[u8], wire: usize, sink: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Skip> {
    let control = byte(bytes, 0)?;
    let flags = byte(bytes, 1)?;
    let is_data = control & 0x0c == 0x08;
    let no_body = control & 0x40 != 0;
    let protected = flags & 0x40 != 0;
    if !is_data || no_body || protected {
        return Err(Skip::NotIp);
    }
    let mut header = 24;
    if flags & 0x03 == 0x03 {
        header += 6;
    }
    let quality_of_service = control & 0x80 != 0;
    if quality_of_service {
        header += 2;
        // The order bit means an HT control field.
        if flags & 0x80 != 0 {
            header += 4;
        }
    }
    let inner = rest(bytes, header)?;
    snap(walk, inner, wire.saturating_sub(header), sink)
}
