//! Whether a file is an archive, and whether what is in it is encrypted, from its leading bytes alone (for 7z, from
//! its end).
//!
//! Archives encrypt file by file: the answer is that of the first file that has content, which is in practice
//! that of all. Where the leading bytes do not reach so far, it is not known.

mod openpgp;
mod rar;
pub(super) mod sevenzip;
mod zip;

use crate::record::Archive;

/// What the leading bytes of a file tell. For 7z the end of the file must answer whether it is encrypted.
pub(super) fn leading(head: &[u8]) -> Option<Archive> {
    let archive = |format, encrypted| Some(Archive { format, encrypted });
    if sevenzip::is(head) {
        return archive("7z", None);
    }
    if let Some(encrypted) = zip::leading(head) {
        return archive("zip", encrypted);
    }
    if let Some(encrypted) = rar::leading(head) {
        return archive("rar", encrypted);
    }
    // Those without encryption of their own.
    for (format, magic, at) in [
        ("gzip", &b"\x1f\x8b\x08"[..], 0),
        ("xz", b"\xfd7zXZ\0", 0),
        ("zstd", b"\x28\xb5\x2f\xfd", 0),
        ("tar", b"ustar", 257),
    ] {
        if starts_at(head, at, magic) {
            return archive(format, Some(false));
        }
    }
    // A block's or the end's magic behind the level tells it from text that begins with "BZh".
    if head.starts_with(b"BZh") && (starts_at(head, 4, b"1AY&SY") || starts_at(head, 4, b"\x17\x72\x45\x38\x50\x90")) {
        return archive("bzip2", Some(false));
    }
    if head.starts_with(b"age-encryption.org/v1\n") || head.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") {
        return archive("age", Some(true));
    }
    openpgp::is_encrypted(head).then_some(Archive { format: "openpgp", encrypted: Some(true) })
}

fn starts_at(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
