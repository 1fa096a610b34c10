//! The journal's unit: what was gathered and is written at once, compressed, with a checksum over all of it.
//!
//! ```text
//! 0   "OFJ1"
//! 4   bytes of the content, compressed
//! 8   bytes of the content
//! 12  CRC-32 of everything else
//! 16  when it was written, nanoseconds since 1970
//! 24  the content, compressed (zstd): entries
//! ```
//!
//! An entry is its kind (1 byte), the length of the host's name (2), the name, the stream (8), the sequence number up to
//! which the stream is stored with it (8), the length of its lines (4), and the lines. Numbers are little-endian.

use std::io::{self, Read};
use std::sync::Arc;

use crate::net::Timestamp;

const MAGIC: [u8; 4] = *b"OFJ1";

/// Bytes before the content.
pub const HEADER: usize = 24;

/// The longest content. What is gathered for one block stays below it.
pub const MOST: usize = 64 << 20;

/// The fastest: the journal must keep up with thousands of helpers.
const LEVEL: i32 = 1;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How far a host's stream is stored in segments before this one.
    Mark,
    /// Lines of a helper's stream.
    Stream,
    /// Lines of a log shipper; the host is that of the last `hello` before them, or empty.
    Plain,
}

/// A part of a block: lines of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Whose.
    pub host: Arc<str>,
    /// The helper's stream.
    pub stream: u64,
    /// The highest sequence number up to and with these lines.
    pub seq: u64,
    /// JSON Lines, each with its line feed.
    pub lines: Vec<u8>,
}

impl Entry {
    /// What it takes in a block.
    pub fn size(&self) -> usize {
        23 + self.host.len() + self.lines.len()
    }
}

/// A block as it is written.
///
/// # Errors
/// If it cannot be compressed, for want of memory.
pub fn encode(entries: &[Entry], at: Timestamp) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(entries.iter().map(Entry::size).sum());
    for entry in entries {
        content.push(match entry.kind {
            Kind::Mark => 0,
            Kind::Stream => 1,
            Kind::Plain => 2,
        });
        // Names of hosts are bounded far below, and so are lines.
        let name = entry.host.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(entry.host.as_bytes());
        content.extend((name.len() as u16).to_le_bytes());
        content.extend(name);
        content.extend(entry.stream.to_le_bytes());
        content.extend(entry.seq.to_le_bytes());
        content.extend((entry.lines.len() as u32).to_le_bytes());
        content.extend(&entry.lines);
    }
    if content.len() > MOST {
        return Err(io::Error::other("a block of the journal would be too large"));
    }
    let packed = zstd::bulk::compress(&content, LEVEL)?;
    let mut block = Vec::with_capacity(HEADER + packed.len());
    block.extend(MAGIC);
    block.extend((packed.len() as u32).to_le_bytes());
    block.extend((content.len() as u32).to_le_bytes());
    block.extend([0; 4]);
    block.extend(at.0.to_le_bytes());
    block.extend(packed);
    let sum = checksum(&block);
    if let Some(place) = block.get_mut(12..16) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    Ok(block)
}

/// Of a block, without its place for the checksum.
fn checksum(block: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for part in [block.get(..12), block.get(16..)].into_iter().flatten() {
        sum.update(part);
    }
    sum.finalize()
}

/// A block that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// When it was written.
    pub at: Timestamp,
    /// What it holds.
    pub entries: Vec<Entry>,
    /// Its length in the file.
    pub length: u64,
}

/// What reading a block came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A block.
    Block(Block),
    /// The end.
    End,
    /// What stands here is no block, or the beginning of one.
    Torn,
}

/// Reads the next block. Whatever the bytes are, no more memory is taken than a block can have.
///
/// # Errors
/// If the input cannot be read.
pub fn read(input: &mut impl Read) -> io::Result<Next> {
    let mut block = Vec::with_capacity(HEADER);
    input.take(HEADER as u64).read_to_end(&mut block)?;
    if block.is_empty() {
        return Ok(Next::End);
    }
    let mut header = Cursor(&block);
    let (Some(MAGIC), Some(packed), Some(content), Some(sum), Some(at)) =
        (header.array::<4>(), header.u32(), header.u32(), header.u32(), header.u64())
    else {
        return Ok(Next::Torn);
    };
    // What cannot be compressed takes a little more.
    if content as usize > MOST || packed as usize > zstd::zstd_safe::compress_bound(MOST) {
        return Ok(Next::Torn);
    }
    input.take(u64::from(packed)).read_to_end(&mut block)?;
    if block.len() != HEADER + packed as usize || checksum(&block) != sum {
        return Ok(Next::Torn);
    }
    let packed = block.get(HEADER..).unwrap_or_default();
    let entries = zstd::bulk::decompress(packed, content as usize).ok().and_then(|content| entries(&content));
    Ok(entries
        .map_or(Next::Torn, |entries| Next::Block(Block { at: Timestamp(at), entries, length: block.len() as u64 })))
}

fn entries(content: &[u8]) -> Option<Vec<Entry>> {
    let mut cursor = Cursor(content);
    let mut entries = Vec::new();
    while !cursor.0.is_empty() {
        let [kind] = cursor.array()?;
        let kind = match kind {
            0 => Kind::Mark,
            1 => Kind::Stream,
            2 => Kind::Plain,
            _ => return None,
        };
        let name = u16::from_le_bytes(cursor.array()?);
        let host = std::str::from_utf8(cursor.bytes(usize::from(name))?).ok()?.into();
        let (stream, seq, length) = (cursor.u64()?, cursor.u64()?, cursor.u32()?);
        let lines = cursor.bytes(length as usize)?.to_vec();
        entries.push(Entry { kind, host, stream, seq, lines });
    }
    Some(entries)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![Just(Kind::Mark), Just(Kind::Stream), Just(Kind::Plain)];
        (kind, "[a-zA-Z0-9.]{0,20}", any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(kind, host, stream, seq, lines)| Entry { kind, host: host.as_str().into(), stream, seq, lines })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries in prop::collection::vec(entry(), 0..10), at in any::<u64>()) {
            let bytes = encode(&entries, Timestamp(at)).unwrap();
            let block = Block { at: Timestamp(at), entries, length: bytes.len() as u64 };
            prop_assert_eq!(read(&mut bytes.as_slice()).unwrap(), Next::Block(block));
            prop_assert_eq!(read(&mut [].as_slice()).unwrap(), Next::End);
        }

        #[test]
        fn what_is_cut_or_changed_is_torn(
            entries in prop::collection::vec(entry(), 1..5), cut in any::<prop::sample::Index>(), bit in 0..8u32,
        ) {
            let mut bytes = encode(&entries, Timestamp(7)).unwrap();
            let at = cut.index(bytes.len() - 1) + 1;
            prop_assert_eq!(read(&mut &bytes[..at.min(bytes.len() - 1)]).unwrap(), Next::Torn);
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(read(&mut bytes.as_slice()).unwrap(), Next::Torn);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut all = MAGIC.to_vec();
            all.extend(bytes);
            prop_assert_eq!(read(&mut all.as_slice()).unwrap(), Next::Torn);
        }
    }
}
