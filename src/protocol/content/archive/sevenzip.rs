//! 7z: a short header at the start says where the real one is, which is the end of the file
//! (7zFormat.txt of the LZMA SDK).
//!
//! The real header is plain, or packed: then it holds only how to unpack it, and the packed bytes stand before it.
//! If it is packed with AES, names and all are encrypted. Otherwise the coders of the files are in the header, once
//! that is unpacked.

use std::ops::Range;

use memchr::memmem;

use super::{u32_at, u64_at};

const MAGIC: &[u8] = b"7z\xbc\xaf\x27\x1c";
/// Bytes of the header at the start.
const START: u64 = 32;
/// The longest header at the end that is looked at, in bytes; folders of ten thousand files stay below.
const LONGEST_HEADER: u64 = 32 * 1024;
/// The most bytes before it that are kept, as they may be the packed header.
const LONGEST_PACKED: u64 = 32 * 1024;
/// The largest size of an unpacked header, in bytes.
const LONGEST_UNPACKED: u64 = 1024 * 1024;

const HEADER: u8 = 0x01;
const PACKED_HEADER: u8 = 0x17;
/// A coder with an identifier of four bytes and properties, and the identifier of AES-256 with SHA-256.
const AES: &[u8] = &[0x24, 0x06, 0xf1, 0x07, 0x01];
/// A coder with an identifier of three bytes and five bytes of properties, and the identifier of LZMA.
const LZMA: &[u8] = &[0x23, 0x03, 0x01, 0x01, 0x05];

/// Whether these are a 7z archive's leading bytes.
pub(super) fn is(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// Where the end of the archive is, of which [`encrypted`] needs the bytes: offsets in the file, and within them
/// where the header begins. `None` if it is too long to be kept, or empty.
pub(in crate::protocol::content) fn end(head: &[u8]) -> Option<(Range<u64>, usize)> {
    if !is(head) {
        return None;
    }
    let (offset, size) = (u64_at(head, 12)?, u64_at(head, 20)?);
    if size == 0 || size > LONGEST_HEADER {
        return None;
    }
    let header = START.checked_add(offset)?;
    let from = header.saturating_sub(LONGEST_PACKED).max(START);
    Some((from..header.checked_add(size)?, usize::try_from(header - from).ok()?))
}

/// Whether the archive's header or its files are encrypted. `end` is the archive's end, with the header at `at`.
pub(in crate::protocol::content) fn encrypted(end: &[u8], at: usize) -> Option<bool> {
    let (before, header) = end.split_at_checked(at)?;
    match *header.first()? {
        HEADER => Some(has_aes(header)),
        PACKED_HEADER if has_aes(header) => Some(true),
        PACKED_HEADER => {
            let header = unpack(before, header)?;
            (header.first() == Some(&HEADER)).then(|| has_aes(&header))
        }
        _ => None,
    }
}

/// Names and checksums may hold anything, but these five bytes only by a chance of one in millions.
fn has_aes(header: &[u8]) -> bool {
    memmem::find(header, AES).is_some()
}

/// Unpacks a header packed with LZMA alone: `17 06 position 01 09 size 00 07 0b 01 00 01 23 03 01 01 05
/// properties(5) 0c size 0a 01 checksum(4)`. The packed bytes end where the header begins.
fn unpack(before: &[u8], header: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader { rest: header.get(1..)? };
    reader.expect(&[0x06])?;
    let _position = reader.number()?;
    reader.expect(&[0x01, 0x09])?;
    let packed = usize::try_from(reader.number()?).ok()?;
    // A checksum of the packed bytes may stand here.
    if reader.rest.first() == Some(&0x0a) {
        reader.expect(&[0x0a, 0x01])?;
        reader.take(4)?;
    }
    reader.expect(&[0x00, 0x07, 0x0b, 0x01, 0x00, 0x01])?;
    reader.expect(LZMA)?;
    let properties = reader.take(5)?;
    reader.expect(&[0x0c])?;
    let size = reader.number()?;
    reader.expect(&[0x0a, 0x01])?;
    let checksum = u32_at(reader.take(4)?, 0)?;
    let packed = before.get(before.len().checked_sub(packed)?..)?;
    // The dictionary never holds more than the header itself, whatever the properties announce.
    if size == 0 || size > LONGEST_UNPACKED || *properties.first()? >= 9 * 5 * 5 {
        return None;
    }
    let mut wire = [properties, packed].concat();
    let dictionary = wire.get_mut(1..5)?;
    let announced = u32_at(dictionary, 0)?;
    let limit = u32::try_from(LONGEST_UNPACKED).unwrap_or(u32::MAX);
    dictionary.copy_from_slice(&announced.min(limit).to_le_bytes());
    let options = lzma_rs::decompress::Options {
        unpacked_size: lzma_rs::decompress::UnpackedSize::UseProvided(Some(size)),
        memlimit: usize::try_from(2 * LONGEST_UNPACKED).ok(),
        allow_incomplete: false,
    };
    let mut unpacked = Bounded { bytes: Vec::new(), most: usize::try_from(size).ok()? };
    lzma_rs::lzma_decompress_with_options(&mut wire.as_slice(), &mut unpacked, &options).ok()?;
    let mut crc = flate2::Crc::new();
    crc.update(&unpacked.bytes);
    (crc.sum() == checksum).then_some(unpacked.bytes)
}

/// Takes no more bytes than announced.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn expect(&mut self, bytes: &[u8]) -> Option<()> {
        (self.take(bytes.len())? == bytes).then_some(())
    }

    /// As many high bits of the first byte as are set tell how many bytes follow, the lowest first; the first
    /// byte's other bits are the highest.
    fn number(&mut self) -> Option<u64> {
        let first = *self.take(1)?.first()?;
        let more = first.leading_ones();
        let mut value = 0_u64;
        for (n, byte) in self.take(more as usize)?.iter().enumerate() {
            value |= u64::from(*byte) << (8 * n);
        }
        if more < 7 {
            let high = u64::from(first & (0x7f >> more));
            value |= high << (8 * more);
        }
        Some(value)
    }
}
