//! The pcap format: the bytes of a file in, descriptors of its packets out.
//!
//! Reads microsecond and nanosecond files in both byte orders, the versions 2.0 to 2.4 with the swapped lengths of
//! the early ones, and the "modified" format with its longer record header. Nothing here reads or waits: the caller
//! hands over the bytes that it has and is told how many more are needed. Damage ends the file, because a pcap file
//! has no mark by which to find the next packet.

use super::{Detected, Order, Scan, Sink, Stop};
use crate::capture::MAX_CAPTURED;
use crate::net::Timestamp;

/// The length of the file header.
pub(super) const HEADER: usize = 24;

/// The length of a record header, without what the modified format adds.
const RECORD: usize = 16;

/// What the file header says about all records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pcap {
    order: Order,
    /// Nanoseconds in a unit of the fraction.
    scale: u64,
    lengths: Lengths,
    /// Bytes of a record header after the first sixteen.
    extra: usize,
    link: u16,
}

/// Which of the two lengths of a record comes first.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    CapturedFirst,
    WireFirst,
    /// Version 2.3 was written both ways; the captured length is the smaller.
    SmallerCaptured,
}

impl Pcap {
    /// Reads the file header; `None` if `bytes` does not begin with the magic number of a pcap file.
    pub(super) fn detect(bytes: &[u8]) -> Option<Detected<Self>> {
        let magic = *bytes.first_chunk::<4>()?;
        let (order, scale, extra) = match u32::from_le_bytes(magic) {
            0xa1b2_c3d4 => (Order::Little, 1_000, 0),
            0xd4c3_b2a1 => (Order::Big, 1_000, 0),
            0xa1b2_3c4d => (Order::Little, 1, 0),
            0x4d3c_b2a1 => (Order::Big, 1, 0),
            0xa1b2_cd34 => (Order::Little, 1_000, 8),
            0x34cd_b2a1 => (Order::Big, 1_000, 8),
            _ => return None,
        };
        // magic:u32 major:u16 minor:u16 thiszone:i32 sigfigs:u32 snaplen:u32 link:u32
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Some(Detected::Cut("pcap"));
        };
        let major = order.u16([header[4], header[5]]);
        let minor = order.u16([header[6], header[7]]);
        let lengths = match (major, minor) {
            (2, 0..=2) | (543, 0) => Lengths::WireFirst,
            (2, 3) => Lengths::SmallerCaptured,
            (2, 4) => Lengths::CapturedFirst,
            _ => return Some(Detected::Unsupported { format: "pcap", major, minor }),
        };
        // The upper half tells the length of frame check sequences and is otherwise reserved.
        let link = order.u32([header[20], header[21], header[22], header[23]]) as u16;
        Some(Detected::Is(Self { order, scale, lengths, extra, link }))
    }

    /// Describes the packets at the front of `window`, until the sink is full or the bytes run out.
    pub(super) fn scan(&self, window: &[u8], sink: &mut Sink<'_>) -> Scan {
        // One copy of the loop for each byte order, so that no packet asks again.
        match self.order {
            Order::Little => self.scan_in(window, sink, u32::from_le_bytes),
            Order::Big => self.scan_in(window, sink, u32::from_be_bytes),
        }
    }

    // Apart from whatever is around it, which leaves it more registers.
    #[inline(never)]
    fn scan_in(&self, window: &[u8], sink: &mut Sink<'_>, u32_of: impl Fn([u8; 4]) -> u32) -> Scan {
        let Self { lengths, extra, scale, link, .. } = *self;
        let (mut rest, mut room) = (window, sink.room());
        let stop = loop {
            if room == 0 {
                break Stop::Full;
            }
            // seconds:u32 fraction:u32 captured:u32 wire:u32
            let Some(header) = rest.first_chunk::<RECORD>() else {
                break Stop::Need(RECORD);
            };
            let seconds = u32_of([header[0], header[1], header[2], header[3]]);
            let fraction = u32_of([header[4], header[5], header[6], header[7]]);
            let first = u32_of([header[8], header[9], header[10], header[11]]);
            let second = u32_of([header[12], header[13], header[14], header[15]]);
            let (captured, wire) = match lengths {
                Lengths::CapturedFirst => (first, second),
                Lengths::WireFirst => (second, first),
                Lengths::SmallerCaptured => (first.min(second), first.max(second)),
            };
            if captured > MAX_CAPTURED {
                break Stop::Damaged(format!("a packet claims {captured} captured bytes"));
            }
            let start = RECORD + extra;
            let end = start + captured as usize;
            let Some(after) = rest.get(end..) else {
                break Stop::Need(end);
            };
            let ts = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * scale;
            sink.push(Timestamp(ts), window.len() - rest.len() + start, captured, wire, link);
            (rest, room) = (after, room - 1);
        };
        Scan { consumed: window.len() - rest.len(), stop }
    }
}
