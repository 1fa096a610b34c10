//! OpenPGP encrypted messages (RFC 4880, RFC 9580): session key packets, then encrypted data.

const ARMOUR: &[u8] = b"-----BEGIN PGP MESSAGE-----";

const PUBLIC_KEY_SESSION: u8 = 1;
const SYMMETRIC_SESSION: u8 = 3;
/// Symmetrically encrypted data; the same with integrity protection; the draft's authenticated form.
const ENCRYPTED_DATA: [u8; 3] = [9, 18, 20];

/// Whether a file begins as an encrypted message. A tag is a single byte, so the packet behind it must fit too.
pub(super) fn is_encrypted(head: &[u8]) -> bool {
    head.starts_with(ARMOUR) || session_key(head).is_some()
}

fn session_key(head: &[u8]) -> Option<()> {
    let (tag, start, length) = packet(head)?;
    let content = head.get(start..)?;
    let plausible = match (tag, content) {
        // version, key ID (8), algorithm
        (PUBLIC_KEY_SESSION, [3, _, _, _, _, _, _, _, _, algorithm, ..]) => {
            matches!(algorithm, 1 | 2 | 16 | 18 | 25 | 26) && length > 10
        }
        // version, key version and fingerprint or nothing
        (PUBLIC_KEY_SESSION, [6, fingerprint, ..]) => matches!(fingerprint, 0 | 21 | 33) && length > 10,
        // version, cipher, string-to-key, its hash
        (SYMMETRIC_SESSION, [4, cipher, key @ (0 | 1 | 3), hash, ..]) => {
            let least = [4, 12, 0, 13].get(usize::from(*key)).copied().unwrap_or(usize::MAX);
            matches!(cipher, 1..=13) && matches!(hash, 1..=3 | 8..=14) && length >= least && length < 80
        }
        (SYMMETRIC_SESSION, [5 | 6, ..]) => (10..120).contains(&length),
        _ => false,
    };
    // Where the next packet is within reach, it is another session key or the encrypted data.
    let next = head.get(start.checked_add(length)?..).and_then(<[u8]>::first);
    let follows = next.is_none_or(|byte| {
        let tag = tag_of(*byte);
        tag.is_some_and(|tag| [PUBLIC_KEY_SESSION, SYMMETRIC_SESSION].contains(&tag) || ENCRYPTED_DATA.contains(&tag))
    });
    (plausible && follows).then_some(())
}

/// A packet's tag, where its content begins, and how long that is: in the new format a byte `11tttttt` and a length
/// of one, two or five bytes; in the old one a byte `10ttttll` and a length of one, two or four.
fn packet(head: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, rest) = head.split_first()?;
    let tag = tag_of(*first)?;
    let (start, length) = match (first & 0x40 != 0, first & 3, rest) {
        (true, _, [length @ ..192, ..]) => (2, usize::from(*length)),
        (true, _, [high @ 192..224, low, ..]) => (3, (usize::from(*high) - 192) * 256 + usize::from(*low) + 192),
        (false, 0, [length, ..]) => (2, usize::from(*length)),
        (false, 1, [high, low, ..]) => (3, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return None,
    };
    Some((tag, start, length))
}

fn tag_of(byte: u8) -> Option<u8> {
    match byte {
        0xc0.. => Some(byte & 0x3f),
        0x80.. => Some((byte >> 2) & 0x0f),
        _ => None,
    }
}
