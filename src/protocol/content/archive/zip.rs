//! ZIP: local file headers from the first byte on (APPNOTE.TXT section 4.3.7).
//!
//! `PK\3\4 version(2) flags(2) method(2) time(2) date(2) crc(4) packed(4) size(4) name-length(2) extra-length(2)
//! name extra content`

use super::{starts_at, u16_at, u32_at};

const LOCAL: &[u8] = b"PK\x03\x04";
/// The directory behind the last file.
const CENTRAL: &[u8] = b"PK\x01\x02";
const FIXED: usize = 30;
/// Bit 0: encrypted. Bit 6: strong encryption. Bit 13: the central directory is encrypted.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
/// Bit 3: sizes follow the content.
const SIZES_FOLLOW: u16 = 1 << 3;
/// The compression method that stands for AES (APPNOTE.TXT appendix E of WinZip).
const AES: u16 = 99;

/// If these are a ZIP archive's leading bytes, whether its first file with content is encrypted.
pub(super) fn leading(head: &[u8]) -> Option<Option<bool>> {
    if head.starts_with(b"PK\x05\x06") {
        return Some(Some(false));
    }
    // The first part of a split archive has a marker before the first header.
    let split = head.starts_with(b"PK\x07\x08") || head.starts_with(b"PK00");
    let mut at = if split { 4 } else { 0 };
    if !starts_at(head, at, LOCAL) {
        return None;
    }
    loop {
        let Some(fields) = entry(head, at) else { return Some(None) };
        if fields.flags & ENCRYPTED != 0 || fields.method == AES {
            return Some(Some(true));
        }
        // A folder has no content, and so nothing to encrypt; neither has an empty file.
        if fields.flags & SIZES_FOLLOW != 0 || fields.packed != 0 {
            return Some(Some(false));
        }
        at += FIXED + fields.name + fields.extra;
        if starts_at(head, at, CENTRAL) {
            return Some(Some(false));
        }
        if !starts_at(head, at, LOCAL) {
            return Some(None);
        }
    }
}

struct Entry {
    flags: u16,
    method: u16,
    packed: u32,
    name: usize,
    extra: usize,
}

fn entry(head: &[u8], at: usize) -> Option<Entry> {
    Some(Entry {
        flags: u16_at(head, at + 6)?,
        method: u16_at(head, at + 8)?,
        packed: u32_at(head, at + 18)?,
        name: usize::from(u16_at(head, at + 26)?),
        extra: usize::from(u16_at(head, at + 28)?),
    })
}
