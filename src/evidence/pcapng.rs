//! Packets as a pcapng file (draft-ietf-opsawg-pcapng): one section, an interface for each link type, times in nanoseconds.
//!
//! Three kinds of block are all there is to it; the stable releases of the libraries write no comments.

use std::io::{self, Write};

use crate::capture::Packet;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

/// `opt_comment`, and `if_tsresol`.
const COMMENT: u16 = 1;
const RESOLUTION: u16 = 9;

/// Writes packets.
pub(super) struct Pcapng<W> {
    to: W,
    /// Link types, by the number of their interface.
    links: Vec<u16>,
}

impl<W: Write> Pcapng<W> {
    /// Begins a file with a comment.
    pub(super) fn new(mut to: W, comment: &str) -> io::Result<Self> {
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        // Version 1.0, of a section whose length is not told.
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        option(&mut body, COMMENT, comment.as_bytes());
        body.extend([0; 4]);
        block(&mut to, SECTION, &body)?;
        Ok(Self { to, links: Vec::new() })
    }

    /// Writes a packet as it was captured.
    pub(super) fn put(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let interface = match self.links.iter().position(|link| *link == packet.link) {
            Some(n) => n,
            None => {
                let mut body = packet.link.to_le_bytes().to_vec();
                // No bound on the length of packets.
                body.extend([0; 6]);
                option(&mut body, RESOLUTION, &[9]);
                body.extend([0; 4]);
                block(&mut self.to, INTERFACE, &body)?;
                self.links.push(packet.link);
                self.links.len() - 1
            }
        };
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut body = number(interface).to_vec();
        let (high, low) = ((packet.ts.0 >> 32) as u32, packet.ts.0 as u32);
        body.extend(high.to_le_bytes());
        body.extend(low.to_le_bytes());
        body.extend(number(packet.bytes.len()));
        body.extend(packet.wire_length.to_le_bytes());
        padded(&mut body, packet.bytes);
        block(&mut self.to, PACKET, &body)
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(body, value);
}

fn block(to: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).map_err(|_| io::Error::other("a packet is too long for a block"))?;
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(body)?;
    to.write_all(&length.to_le_bytes())
}
