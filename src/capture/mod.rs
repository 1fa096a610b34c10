//! Packets as they were captured: files or a stream of bytes in, batches of timestamped link-layer frames out.
//!
//! [`Reader`] opens captures in the pcap and pcapng formats, plain or compressed, merges several by time, and fills
//! a [`Batch`] at a time. It promises that the same input gives the same packets in the same order with the same
//! clock, that no input makes it panic or hold memory without bound, and that whatever it could not read is counted
//! and named in [`Counters`] rather than silently absent.

mod clock;
#[cfg(target_os = "linux")]
pub mod live;
pub(crate) mod near;
mod savefile;

use std::io;
use std::sync::Arc;

use crate::net::Timestamp;
pub use savefile::Reader;

/// The longest packet that is believed; a record that claims more is damage.
pub(crate) const MAX_CAPTURED: u32 = 256 << 20;

/// How many warnings are kept in full; the counters go on counting.
const MAX_WARNINGS: usize = 64;

/// One captured packet, borrowed from its [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its position in the merged input, from 0.
    pub index: u64,
    /// When it was captured, as the capture says.
    pub ts: Timestamp,
    /// The largest timestamp up to and including this packet: never goes back. A jump forward of more than a day
    /// counts only once the packet after it confirms it.
    pub clock: Timestamp,
    /// The link type, a value of the `LINKTYPE_` registry.
    pub link: u16,
    /// Its length on the wire; never less than that of `bytes`.
    pub wire_length: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// A run of consecutive packets. Reusable: [`Reader::fill`] clears it and keeps its memory.
///
/// It shares ownership of the blocks of bytes in which its packets lie, so it may outlive the reader and move to
/// another thread.
#[derive(Debug, Default)]
pub struct Batch {
    descriptors: Vec<Descriptor>,
    blocks: Vec<Block>,
    first_index: u64,
    clock: Timestamp,
}

/// Bytes of a capture as they were read. Who holds it alone may write to it.
type Block = Arc<Vec<u8>>;

/// Where a packet's bytes lie, and all that is known of it besides.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    ts: Timestamp,
    clock: Timestamp,
    offset: usize,
    length: u32,
    wire_length: u32,
    /// The place of a block in [`Batch::blocks`].
    block: u32,
    link: u16,
}

impl Batch {
    /// The packets, in order.
    #[inline]
    pub fn packets(&self) -> impl ExactSizeIterator<Item = Packet<'_>> {
        let mut block = 0;
        let mut bytes = self.block(0);
        self.descriptors.iter().enumerate().map(move |(n, d)| {
            if d.block != block {
                block = d.block;
                bytes = self.block(block);
            }
            Packet {
                index: self.first_index + n as u64,
                ts: d.ts,
                clock: d.clock,
                link: d.link,
                wire_length: d.wire_length,
                bytes: slice(bytes, d.offset, d.length),
            }
        })
    }

    /// The `n`-th packet, from 0.
    #[inline]
    pub fn packet(&self, n: usize) -> Option<Packet<'_>> {
        self.descriptors.get(n).map(|d| Packet {
            index: self.first_index + n as u64,
            ts: d.ts,
            clock: d.clock,
            link: d.link,
            wire_length: d.wire_length,
            bytes: slice(self.block(d.block), d.offset, d.length),
        })
    }

    /// How many packets there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// Whether there is no packet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// The clock after the last packet.
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// The index that the packet after this batch will have.
    pub fn next_index(&self) -> u64 {
        self.first_index + self.descriptors.len() as u64
    }

    fn clear(&mut self) {
        self.descriptors.clear();
        self.blocks.clear();
    }

    /// Shares `block` and says as which.
    fn attach(&mut self, block: &Block) -> u32 {
        if !self.blocks.last().is_some_and(|last| Arc::ptr_eq(last, block)) {
            self.blocks.push(Arc::clone(block));
        }
        self.blocks.len() as u32 - 1
    }

    fn block(&self, block: u32) -> &[u8] {
        self.blocks.get(block as usize).map_or(&[], |block| block.as_slice())
    }

    /// Forgets all packets but the last.
    fn keep_last(&mut self) {
        let Some(mut last) = self.descriptors.last().copied() else { return };
        if let Some(block) = self.blocks.get(last.block as usize).map(Arc::clone) {
            self.clear();
            last.block = self.attach(&block);
            self.descriptors.push(last);
        }
    }
}

#[inline]
fn slice(bytes: &[u8], offset: usize, length: u32) -> &[u8] {
    // The parsers describe only bytes that they have seen, so the range always exists.
    bytes.get(offset..).and_then(|rest| rest.get(..length as usize)).unwrap_or_default()
}

/// What was read, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets delivered.
    pub packets: u64,
    /// Bytes captured of them.
    pub bytes: u64,
    /// Bytes that they had on the wire.
    pub wire_bytes: u64,
    /// Captures that end inside a packet or a block; that last one is not delivered.
    pub truncated_files: u64,
    /// Packets of which fewer bytes were captured than were on the wire.
    pub snapped_packets: u64,
    /// Packets whose timestamp is earlier than that of the packet before.
    pub backward_timestamps: u64,
    /// pcapng blocks of a type that is not known here.
    pub skipped_blocks: u64,
    /// pcapng blocks that contradict themselves or their section, and damage that ended a capture early.
    pub malformed_blocks: u64,
    /// One line each for people; at most a few dozen.
    pub warnings: Vec<String>,
}

impl Counters {
    fn warn(&mut self, warning: impl FnOnce() -> String) {
        match self.warnings.len() {
            n if n < MAX_WARNINGS => self.warnings.push(warning()),
            MAX_WARNINGS => self.warnings.push("further warnings are counted but not listed".to_owned()),
            _ => {}
        }
    }
}

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file is not there or may not be read.
    #[error("{file}: cannot be opened")]
    Open {
        /// The file, as it was named.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The content is something else.
    #[error("{file}: not a pcap or pcapng capture ({start})")]
    NotCapture {
        /// The file, as it was named.
        file: String,
        /// What was found instead.
        start: String,
    },
    /// A capture of a version that nobody writes, or that did not exist when this was written.
    #[error("{file}: {format} version {major}.{minor} is not supported")]
    UnsupportedVersion {
        /// The file, as it was named.
        file: String,
        /// The format's name.
        format: &'static str,
        /// The major version.
        major: u16,
        /// The minor version.
        minor: u16,
    },
    /// The system failed to deliver the bytes, or the first of them cannot be decompressed.
    #[error("{file}: cannot be read")]
    Read {
        /// The file, as it was named.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}
