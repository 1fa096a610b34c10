//! The pcapng format: the bytes of a file in, descriptors of its packets out.
//!
//! Reads both byte orders, any number of sections, and interfaces that differ in link type, time resolution and
//! time offset. Packets come from enhanced, simple and obsolete packet blocks; blocks without packets are stepped
//! over. A block whose length is wrong ends the file, because nothing behind it can be found; a block whose length
//! is right but whose content is not is counted and skipped. Nothing here reads or waits.

use super::{Detected, Order, Scan, Sink, Stop, Tally};
use crate::capture::MAX_CAPTURED;
use crate::net::Timestamp;

/// The bytes of a section header that tell its byte order and version.
const SECTION: usize = 16;

/// The longest block that is believed: the longest packet and generous options.
const MAX_BLOCK: u32 = MAX_CAPTURED + (1 << 20);

/// Interfaces of one section that are remembered; packets of any others cannot be read.
const MAX_INTERFACES: usize = 1 << 16;

/// What the blocks so far say about those to come.
#[derive(Debug)]
pub(super) struct Pcapng {
    order: Order,
    interfaces: Vec<Interface>,
    /// The time of the packet before, which a packet without a time is given.
    last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    snap_length: u32,
    resolution: Resolution,
    /// Seconds to add to every timestamp.
    offset: i64,
}

/// How a timestamp's units become nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Times(u64),
    Divided(u64),
    /// Units of two to the power of minus this many seconds.
    Binary(u8),
    /// Too fine for any timestamp to reach a nanosecond.
    Nothing,
}

/// One block, its framing checked.
struct Block<'a> {
    kind: u32,
    /// The byte order of the section that it is in, or that it begins.
    order: Order,
    body: &'a [u8],
    total: usize,
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const NAME_RESOLUTION: u32 = 4;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;

/// Where a block's body begins.
const BODY: usize = 8;

impl Pcapng {
    /// Reads the start of the first section header; `None` if `bytes` does not begin with one.
    pub(super) fn detect(bytes: &[u8]) -> Option<Detected<Self>> {
        if *bytes.first_chunk::<4>()? != SECTION_HEADER.to_be_bytes() {
            return None;
        }
        // type:u32 length:u32 byte-order magic:u32 major:u16 minor:u16
        let Some(header) = bytes.first_chunk::<SECTION>() else {
            return Some(Detected::Cut("pcapng"));
        };
        let order = section_order([header[8], header[9], header[10], header[11]])?;
        let major = order.u16([header[12], header[13]]);
        if major != 1 {
            let minor = order.u16([header[14], header[15]]);
            return Some(Detected::Unsupported { format: "pcapng", major, minor });
        }
        Some(Detected::Is(Self { order, interfaces: Vec::new(), last: Timestamp::default() }))
    }

    /// Describes the packets at the front of `window`, until the sink is full or the bytes run out.
    pub(super) fn scan(&mut self, window: &[u8], sink: &mut Sink<'_>, tally: &mut Tally) -> Scan {
        let mut rest = window;
        let stop = loop {
            if sink.full() {
                break Stop::Full;
            }
            let block = match block(rest, self.order) {
                Ok(block) => block,
                Err(stop) => break stop,
            };
            let body = window.len() - rest.len() + BODY;
            let done = match block.kind {
                ENHANCED_PACKET => self.enhanced(block.body, body, sink),
                OBSOLETE_PACKET => self.obsolete(block.body, body, sink),
                SIMPLE_PACKET => self.simple(block.body, body, sink),
                INTERFACE => self.interface(block.body),
                SECTION_HEADER => {
                    if let Some(major) = other_version(&block) {
                        break Stop::Damaged(format!("a section is of pcapng version {major}"));
                    }
                    self.order = block.order;
                    self.interfaces.clear();
                    Ok(())
                }
                NAME_RESOLUTION | STATISTICS | DECRYPTION_SECRETS => Ok(()),
                _ => {
                    tally.skipped += 1;
                    Ok(())
                }
            };
            if let Err(reason) = done {
                tally.malformed(reason);
            }
            rest = rest.get(block.total..).unwrap_or_default();
        };
        Scan { consumed: window.len() - rest.len(), stop }
    }

    /// `interface:u32 high:u32 low:u32 captured:u32 wire:u32 data...`
    #[inline]
    fn enhanced(&mut self, body: &[u8], at: usize, sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let (fixed, data) = body.split_first_chunk::<20>().ok_or("a packet block is too short")?;
        let interface = self.order.u32([fixed[0], fixed[1], fixed[2], fixed[3]]);
        self.packet(interface, fixed, data, at, sink)
    }

    /// `interface:u16 drops:u16 high:u32 low:u32 captured:u32 wire:u32 data...`
    fn obsolete(&mut self, body: &[u8], at: usize, sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let (fixed, data) = body.split_first_chunk::<20>().ok_or("a packet block is too short")?;
        let interface = self.order.u16([fixed[0], fixed[1]]);
        self.packet(interface.into(), fixed, data, at, sink)
    }

    #[inline]
    fn packet(
        &mut self,
        interface: u32,
        fixed: &[u8; 20],
        data: &[u8],
        at: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), &'static str> {
        let interface = self.interfaces.get(interface as usize).ok_or("a packet names an unknown interface")?;
        let high = self.order.u32([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let low = self.order.u32([fixed[8], fixed[9], fixed[10], fixed[11]]);
        let captured = self.order.u32([fixed[12], fixed[13], fixed[14], fixed[15]]);
        let wire = self.order.u32([fixed[16], fixed[17], fixed[18], fixed[19]]);
        if captured as usize > data.len() {
            return Err("a packet is longer than its block");
        }
        self.last = interface.time(u64::from(high) << 32 | u64::from(low));
        sink.push(self.last, at + fixed.len(), captured, wire, interface.link);
        Ok(())
    }

    /// `wire:u32 data...`, of the first interface
    fn simple(&mut self, body: &[u8], at: usize, sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let (wire, data) = body.split_first_chunk::<4>().ok_or("a packet block is too short")?;
        let interface = self.interfaces.first().ok_or("a packet names an unknown interface")?;
        let wire = self.order.u32(*wire);
        // No captured length is given: it is what the snap length left, and the padding is not part of it.
        let snapped = if interface.snap_length == 0 { wire } else { wire.min(interface.snap_length) };
        let captured = snapped.min(u32::try_from(data.len()).unwrap_or(MAX_CAPTURED));
        sink.push(self.last, at + 4, captured, wire, interface.link);
        Ok(())
    }

    /// `link:u16 reserved:u16 snap_length:u32 options...`
    fn interface(&mut self, body: &[u8]) -> Result<(), &'static str> {
        let (fixed, mut options) = body.split_first_chunk::<8>().ok_or("an interface block is too short")?;
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err("a section has too many interfaces");
        }
        let mut interface = Interface {
            link: self.order.u16([fixed[0], fixed[1]]),
            snap_length: self.order.u32([fixed[4], fixed[5], fixed[6], fixed[7]]),
            resolution: Resolution::Times(1_000),
            offset: 0,
        };
        while let Some((code, value, after)) = option(options, self.order) {
            match (code, value) {
                (0, _) => break,
                (9, [resolution]) => interface.resolution = Resolution::of(*resolution),
                (14, value) => {
                    if let Ok(value) = <[u8; 8]>::try_from(value) {
                        interface.offset = self.order.u64(value) as i64;
                    }
                }
                _ => {}
            }
            options = after;
        }
        self.interfaces.push(interface);
        Ok(())
    }
}

impl Interface {
    #[inline]
    fn time(&self, units: u64) -> Timestamp {
        let nanoseconds = match self.resolution {
            Resolution::Times(factor) => units.saturating_mul(factor),
            Resolution::Divided(divisor) => units / divisor,
            Resolution::Binary(bits) => {
                let exact = (u128::from(units) * 1_000_000_000).checked_shr(bits.into()).unwrap_or(0);
                u64::try_from(exact).unwrap_or(u64::MAX)
            }
            Resolution::Nothing => 0,
        };
        let offset = self.offset.unsigned_abs().saturating_mul(1_000_000_000);
        Timestamp(match self.offset {
            0.. => nanoseconds.saturating_add(offset),
            _ => nanoseconds.saturating_sub(offset),
        })
    }
}

impl Resolution {
    /// From the value of `if_tsresol`: a negative power of ten, or of two if the highest bit is set.
    fn of(value: u8) -> Self {
        match value {
            0..=9 => Self::Times(10u64.pow(9 - u32::from(value))),
            10..=28 => Self::Divided(10u64.pow(u32::from(value) - 9)),
            29..=0x7f => Self::Nothing,
            _ => Self::Binary(value & 0x7f),
        }
    }
}

/// Frames the block at the front of `rest`: `type:u32 length:u32 body... length:u32`.
#[inline]
fn block(rest: &[u8], mut order: Order) -> Result<Block<'_>, Stop> {
    let head = rest.first_chunk::<BODY>().ok_or(Stop::Need(BODY))?;
    let kind = order.u32([head[0], head[1], head[2], head[3]]);
    if kind == SECTION_HEADER {
        let magic = rest.first_chunk::<12>().ok_or(Stop::Need(12))?;
        order = section_order([magic[8], magic[9], magic[10], magic[11]])
            .ok_or_else(|| Stop::Damaged("a section header has no byte-order magic".to_owned()))?;
    }
    let length = order.u32([head[4], head[5], head[6], head[7]]);
    let least = if kind == SECTION_HEADER { 28 } else { 12 };
    if length < least || length > MAX_BLOCK || !length.is_multiple_of(4) {
        return Err(Stop::Damaged(format!("a block claims a length of {length} bytes")));
    }
    let total = length as usize;
    let whole = rest.get(..total).ok_or(Stop::Need(total))?;
    let (front, trailer) = whole.split_last_chunk::<4>().ok_or(Stop::Need(total))?;
    let trailer = order.u32(*trailer);
    if trailer != length {
        return Err(Stop::Damaged(format!("a block's two lengths differ ({length} and {trailer} bytes)")));
    }
    Ok(Block { kind, order, body: front.get(BODY..).unwrap_or_default(), total })
}

fn section_order(magic: [u8; 4]) -> Option<Order> {
    match u32::from_le_bytes(magic) {
        0x1a2b_3c4d => Some(Order::Little),
        0x4d3c_2b1a => Some(Order::Big),
        _ => None,
    }
}

/// The major version of a section that cannot be read.
fn other_version(block: &Block<'_>) -> Option<u16> {
    let major = block.body.get(4..6)?.try_into().ok()?;
    Some(block.order.u16(major)).filter(|major| *major != 1)
}

/// `code:u16 length:u16 value... padding`
fn option(options: &[u8], order: Order) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = options.split_first_chunk::<4>()?;
    let length = usize::from(order.u16([head[2], head[3]]));
    let value = rest.get(..length)?;
    let after = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((order.u16([head[0], head[1]]), value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanoseconds(resolution: u8, offset: i64, units: u64) -> u64 {
        let resolution = Resolution::of(resolution);
        Interface { link: 1, snap_length: 0, resolution, offset }.time(units).0
    }

    #[test]
    fn every_time_resolution_becomes_nanoseconds() {
        assert_eq!(nanoseconds(0, 0, 3), 3_000_000_000);
        assert_eq!(nanoseconds(6, 0, 3), 3_000);
        assert_eq!(nanoseconds(9, 0, 3), 3);
        assert_eq!(nanoseconds(12, 0, 3_999), 3);
        assert_eq!(nanoseconds(28, 0, u64::MAX), 1);
        assert_eq!(nanoseconds(29, 0, u64::MAX), 0);
        assert_eq!(nanoseconds(0x80, 0, 3), 3_000_000_000);
        assert_eq!(nanoseconds(0x80 + 10, 0, 1_536), 1_500_000_000);
        assert_eq!(nanoseconds(0xff, 0, u64::MAX), 0);
    }

    #[test]
    fn a_time_offset_moves_both_ways_and_saturates() {
        assert_eq!(nanoseconds(9, 2, 3), 2_000_000_003);
        assert_eq!(nanoseconds(9, -1, 3_000_000_000), 2_000_000_000);
        assert_eq!(nanoseconds(9, -9, 3), 0);
        assert_eq!(nanoseconds(9, i64::MAX, 3), u64::MAX);
        assert_eq!(nanoseconds(9, i64::MIN, 3), 0);
        assert_eq!(nanoseconds(0, 0, u64::MAX), u64::MAX);
    }
}
