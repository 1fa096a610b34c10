//! Where the headers of a plain (not tunnelled) TCP packet lie, so that they can be rewritten.

use super::Frame;

/// Offsets into a frame whose IP packet carries TCP.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The IP header.
    pub ip: usize,
    pub v6: bool,
    /// The TCP header.
    pub tcp: usize,
    /// The TCP payload.
    pub payload: usize,
    /// Behind the IP packet; link-layer padding follows.
    pub end: usize,
    /// The first fragment of a packet: the TCP header is here, the rest of the payload is not.
    pub fragment: bool,
}

/// The layout of an untunnelled TCP packet over IPv4, or over IPv6 without extension headers.
pub fn layout(frame: &Frame) -> Option<Layout> {
    let bytes = &frame.bytes;
    let ip = network(frame)?;
    let (v6, tcp, end, fragment) = match bytes.get(ip)? >> 4 {
        4 => {
            let header = usize::from(bytes[ip] & 0x0f) * 4;
            let total = usize::from(be16(bytes, ip + 2)?);
            let fragment = be16(bytes, ip + 6)?;
            if *bytes.get(ip + 9)? != 6 || fragment & 0x1fff != 0 || total == 0 {
                return None;
            }
            (false, ip + header, ip + total, fragment & 0x2000 != 0)
        }
        6 => {
            let length = usize::from(be16(bytes, ip + 4)?);
            if *bytes.get(ip + 6)? != 6 || length == 0 {
                return None;
            }
            (true, ip + 40, ip + 40 + length, false)
        }
        _ => return None,
    };
    let payload = tcp + usize::from(bytes.get(tcp + 12)? >> 4) * 4;
    let sound = tcp >= ip + 20 && payload >= tcp + 20 && end >= payload && bytes.len() >= payload;
    sound.then_some(Layout { ip, v6, tcp, payload, end, fragment })
}

/// The offset of the IP header.
fn network(frame: &Frame) -> Option<usize> {
    let bytes = &frame.bytes;
    let (mut kind, mut at) = match frame.link {
        1 => (be16(bytes, 12)?, 14),
        113 => (be16(bytes, 14)?, 16),
        276 => (be16(bytes, 0)?, 20),
        0 | 108 => return Some(4),
        12 | 14 | 101 | 228 | 229 => return Some(0),
        _ => return None,
    };
    while matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
        kind = be16(bytes, at + 2)?;
        at += 4;
    }
    matches!(kind, 0x0800 | 0x86dd).then_some(at)
}

pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Sets the checksum of an IPv4 header.
pub fn checksum(bytes: &mut [u8], ip: usize) {
    let header = usize::from(bytes[ip] & 0x0f) * 4;
    put16(bytes, ip + 10, 0);
    let mut sum: u32 = bytes[ip..ip + header].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    put16(bytes, ip + 10, !(sum as u16));
}

impl Layout {
    /// Sets the length of the IP packet that ends at `end` now.
    pub fn set_end(&self, bytes: &mut [u8], end: usize) {
        if self.v6 {
            put16(bytes, self.ip + 4, (end - self.ip - 40) as u16);
        } else {
            put16(bytes, self.ip + 2, (end - self.ip) as u16);
            checksum(bytes, self.ip);
        }
    }
}
