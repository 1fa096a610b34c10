//! Packets as a pcapng file, with times in nanoseconds and an interface for each link type.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, PcapError};

use crate::capture::Packet;

/// Times are in units of ten to the minus this.
const NANOSECONDS: u8 = 9;

/// Writes packets.
pub(super) struct Pcapng<W: Write> {
    to: PcapNgWriter<W>,
    /// Link types, by the number of their interface.
    links: Vec<u16>,
}

fn failed(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::other(error),
    }
}

impl<W: Write> Pcapng<W> {
    /// Begins a file with a comment.
    pub(super) fn new(to: W, comment: String) -> io::Result<Self> {
        let section = SectionHeaderBlock {
            options: vec![SectionHeaderOption::Comment(Cow::Owned(comment))],
            ..SectionHeaderBlock::default()
        };
        Ok(Self { to: PcapNgWriter::with_section_header(to, section).map_err(failed)?, links: Vec::new() })
    }

    /// Writes a packet as it was captured.
    pub(super) fn put(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let known = self.links.iter().position(|link| *link == packet.link);
        let interface = known.unwrap_or(self.links.len());
        if known.is_none() {
            let description = InterfaceDescriptionBlock {
                linktype: DataLink::from(u32::from(packet.link)),
                snaplen: 0,
                options: vec![InterfaceDescriptionOption::IfTsResol(NANOSECONDS)],
            };
            self.to.write_pcapng_block(description).map_err(failed)?;
            self.links.push(packet.link);
        }
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(interface).unwrap_or(u32::MAX),
            timestamp: Duration::from_nanos(packet.ts.0),
            original_len: packet.wire_length,
            data: Cow::Borrowed(packet.bytes),
            options: Vec::new(),
        };
        self.to.write_pcapng_block(block).map_err(failed).map(drop)
    }

    /// Ends the file.
    pub(super) fn finish(self) -> io::Result<()> {
        self.to.into_inner().flush()
    }
}
