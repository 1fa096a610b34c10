//! Ethernet frames with IPv4 or IPv6 and TCP or UDP, every length and checksum right.

use std::net::{IpAddr, SocketAddr};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The fixed part of a TCP header that differs between segments.
#[derive(Clone, Copy, Debug)]
pub struct TcpFields {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
}

/// One frame, built in place: a header first, then the payload is appended to `bytes`, then it is sealed.
#[derive(Debug, Default)]
pub struct Frame {
    pub bytes: Vec<u8>,
    ip_length: usize,
    protocol: u8,
    identification: u16,
}

impl Frame {
    /// Begins a TCP segment. `options` are a multiple of four bytes.
    pub fn begin_tcp(&mut self, from: SocketAddr, to: SocketAddr, fields: TcpFields, options: &[u8]) {
        self.begin_ip(from.ip(), to.ip(), TCP);
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(&from.port().to_be_bytes());
        bytes.extend_from_slice(&to.port().to_be_bytes());
        bytes.extend_from_slice(&fields.seq.to_be_bytes());
        bytes.extend_from_slice(&fields.ack.to_be_bytes());
        let words = 5 + options.len() as u8 / 4;
        bytes.extend_from_slice(&[words << 4, fields.flags]);
        bytes.extend_from_slice(&fields.window.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(options);
    }

    /// Begins a UDP datagram.
    pub fn begin_udp(&mut self, from: SocketAddr, to: SocketAddr) {
        self.begin_ip(from.ip(), to.ip(), UDP);
        self.bytes.extend_from_slice(&from.port().to_be_bytes());
        self.bytes.extend_from_slice(&to.port().to_be_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
    }

    fn begin_ip(&mut self, from: IpAddr, to: IpAddr, protocol: u8) {
        self.bytes.clear();
        self.protocol = protocol;
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                self.ip_length = 20;
                self.identification = self.identification.wrapping_add(1);
                self.ethernet(from.octets()[3], to.octets()[3], 0x0800);
                self.bytes.extend_from_slice(&[0x45, 0, 0, 0]);
                self.bytes.extend_from_slice(&self.identification.to_be_bytes());
                self.bytes.extend_from_slice(&[0x40, 0, 64, protocol, 0, 0]);
                self.bytes.extend_from_slice(&from.octets());
                self.bytes.extend_from_slice(&to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                self.ip_length = 40;
                self.ethernet(from.octets()[15], to.octets()[15], 0x86dd);
                self.bytes.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, 64]);
                self.bytes.extend_from_slice(&from.octets());
                self.bytes.extend_from_slice(&to.octets());
            }
            _ => panic!("a connection has both its ends in one address family"),
        }
    }

    fn ethernet(&mut self, from: u8, to: u8, kind: u16) {
        self.bytes.extend_from_slice(&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from]);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
    }

    /// Sets lengths and checksums, and pads to `shortest` bytes.
    pub fn seal(&mut self, shortest: usize) {
        let transport = ETHERNET + self.ip_length;
        let length = (self.bytes.len() - transport) as u16;
        if self.ip_length == 20 {
            put(&mut self.bytes, ETHERNET + 2, length + 20);
            let sum = fold(sum(&self.bytes[ETHERNET..transport]));
            put(&mut self.bytes, ETHERNET + 10, sum);
        } else {
            put(&mut self.bytes, ETHERNET + 4, length);
        }
        let addresses = if self.ip_length == 20 { 8 } else { 32 };
        if self.protocol == UDP {
            put(&mut self.bytes, transport + 4, length);
        }
        let pseudo = sum(&self.bytes[transport - addresses..transport])
            + u64::from(u32::from(length).to_be())
            + u64::from(u32::from(self.protocol).to_be());
        let at = transport + if self.protocol == UDP { 6 } else { 16 };
        let mut checksum = fold(pseudo + sum(&self.bytes[transport..]));
        if self.protocol == UDP && checksum == 0 {
            checksum = 0xffff;
        }
        put(&mut self.bytes, at, checksum);
        if self.bytes.len() < shortest {
            self.bytes.resize(shortest, 0);
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The sum of the bytes as 32-bit numbers of this machine's order; the one's complement sum does not mind.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>() + u64::from(u32::from_ne_bytes(last))
}

/// The Internet checksum (RFC 1071) of such a sum.
fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::from_be(!(sum as u16))
}
