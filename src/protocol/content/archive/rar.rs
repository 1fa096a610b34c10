//! RAR: blocks from the first byte on, in the old format (up to version 4) and in that of version 5.

use super::{u16_at, u32_at};

const OLD: &[u8] = b"Rar!\x1a\x07\x00";
const NEW: &[u8] = b"Rar!\x1a\x07\x01\x00";

/// If these are a RAR archive's leading bytes, whether its headers or its first file are encrypted.
pub(super) fn leading(head: &[u8]) -> Option<Option<bool>> {
    if head.starts_with(OLD) {
        return Some(old(head));
    }
    head.starts_with(NEW).then(|| new(head))
}

/// `crc(2) type(1) flags(2) size(2) [added-size(4)] ...`, with the size that of the header.
fn old(head: &[u8]) -> Option<bool> {
    const MAIN: u8 = 0x73;
    const FILE: u8 = 0x74;
    const HEADERS_ENCRYPTED: u16 = 0x0080;
    const FILE_ENCRYPTED: u16 = 0x0004;
    const FOLDER: u16 = 0x00e0;
    const HAS_ADDED: u16 = 0x8000;
    let mut at = OLD.len();
    loop {
        let (kind, flags, size) = (*head.get(at + 2)?, u16_at(head, at + 3)?, u16_at(head, at + 5)?);
        match kind {
            MAIN if flags & HEADERS_ENCRYPTED != 0 => return Some(true),
            FILE if flags & FILE_ENCRYPTED != 0 => return Some(true),
            FILE if flags & FOLDER != FOLDER => return Some(false),
            _ => {}
        }
        let added = if flags & HAS_ADDED != 0 || kind == FILE { u32_at(head, at + 7)? } else { 0 };
        // A header is at least as long as its fixed part; less would not move on.
        at = at.checked_add(usize::from(size.max(7)))?.checked_add(usize::try_from(added).ok()?)?;
    }
}

/// `crc(4) size(vint) type(vint) flags(vint) [extra-size(vint)] [data-size(vint)] ...`, the size counted behind
/// itself; the extra area is the header's end.
fn new(head: &[u8]) -> Option<bool> {
    const FILE: u64 = 2;
    const ENCRYPTION: u64 = 4;
    const HAS_EXTRA: u64 = 1;
    const HAS_DATA: u64 = 2;
    const FOLDER: u64 = 1;
    let mut at = NEW.len();
    loop {
        let mut reader = Reader { bytes: head, at: at.checked_add(4)? };
        let size = reader.number()?;
        let end = reader.at.checked_add(usize::try_from(size).ok()?)?;
        let (kind, flags) = (reader.number()?, reader.number()?);
        let extra = if flags & HAS_EXTRA != 0 { reader.number()? } else { 0 };
        let data = if flags & HAS_DATA != 0 { reader.number()? } else { 0 };
        match kind {
            ENCRYPTION => return Some(true),
            FILE => {
                let folder = reader.number()? & FOLDER != 0;
                let encrypted = has_encryption_record(head, end, extra)?;
                if encrypted || !folder {
                    return Some(encrypted);
                }
            }
            _ => {}
        }
        at = end.checked_add(usize::try_from(data).ok()?)?;
    }
}

/// The extra area holds records `size(vint) type(vint) ...`; type 1 is the encryption of the file.
fn has_encryption_record(head: &[u8], end: usize, extra: u64) -> Option<bool> {
    let start = end.checked_sub(usize::try_from(extra).ok()?)?;
    let mut reader = Reader { bytes: head, at: start };
    while reader.at < end {
        let size = reader.number()?;
        let next = reader.at.checked_add(usize::try_from(size).ok()?)?;
        if reader.number()? == 1 {
            return Some(true);
        }
        // A record of no length would not move on, but its type has just been read.
        reader.at = next.max(reader.at);
    }
    Some(false)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
