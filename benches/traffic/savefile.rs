//! A pcap file, written while it grows.

use std::io::{self, Write};

use super::totals::Totals;

/// The first packet's time, in seconds since 1970: 2026-01-05T09:00:00Z.
const BEGIN: u64 = 1_767_603_600;
/// What a frame takes on the wire besides its bytes: preamble, checksum and the gap between frames.
const BETWEEN_FRAMES: u64 = 24;

/// Writes frames at the times at which a full link of 1 Gbit/s would carry them.
pub struct Savefile<W: Write> {
    out: W,
    /// Nanoseconds since the first packet.
    clock: u64,
    pub totals: Totals,
}

impl<W: Write> Savefile<W> {
    pub fn new(mut out: W) -> io::Result<Self> {
        let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1];
        out.write_all(&header.map(u32::to_le_bytes).concat())?;
        Ok(Self { out, clock: 0, totals: Totals::default() })
    }

    /// Milliseconds since the first packet, as hosts put them into TCP timestamps.
    pub fn milliseconds(&self) -> u32 {
        (self.clock / 1_000_000) as u32
    }

    pub fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let micros = BEGIN * 1_000_000 + self.clock / 1000;
        let length = frame.len() as u32;
        let header = [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, length, length];
        for field in header {
            self.out.write_all(&field.to_le_bytes())?;
        }
        self.out.write_all(frame)?;
        self.clock += (u64::from(length) + BETWEEN_FRAMES) * 8;
        self.totals.packets += 1;
        self.totals.bytes += u64::from(length);
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<Totals> {
        self.out.flush()?;
        Ok(self.totals)
    }
}
