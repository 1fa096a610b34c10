//! Names from DNS answers on the wire (RFC 1035): who asked, for which name, and which addresses it got.
//!
//! The name is the one that was asked for, whatever chain of CNAMEs led to the address: that is what the
//! program on the host knows its destination by.

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::name::{Label, ToLabelIter as _};
use domain::base::{Message, ParsedName};
use domain::rdata::{A, Aaaa};

use crate::net::{Address, Span, Timestamp};

/// A name that a host was told for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The host that asked.
    pub host: Address,
    /// The address that it was told.
    pub address: Address,
    /// The name that it asked for, lower case, without a final dot.
    pub name: String,
    /// When it was told.
    pub told: Timestamp,
    /// How long the answer holds.
    pub ttl: Span,
}

/// The most addresses taken from one answer.
const MOST: usize = 64;

/// The longest name of a host, in bytes (RFC 1035 section 3.1, without the lengths at both ends).
const LONGEST: usize = 253;

/// Reads a message; calls `sink` for each address in an answer. False if it is no DNS message.
pub(super) fn answers(bytes: &[u8], host: Address, told: Timestamp, sink: &mut impl FnMut(Name)) -> bool {
    let Ok(message) = Message::from_octets(bytes) else { return false };
    let header = message.header();
    if !header.qr() {
        return true;
    }
    if header.rcode() != Rcode::NOERROR || message.header_counts().qdcount() != 1 {
        return true;
    }
    let mut questions = message.question();
    let Some(Ok(question)) = questions.next() else { return false };
    let Some(mut asked) = text(*question.qname()) else { return true };
    let Ok(section) = questions.answer() else { return false };
    let records = section.flatten().filter(|record| record.class() == Class::IN);
    let told_of = records.filter_map(|record| {
        let address = match record.rtype() {
            Rtype::A => Address::v4(record.to_record::<A>().ok()??.data().addr().octets()),
            Rtype::AAAA => Address::v6(record.to_record::<Aaaa>().ok()??.data().addr().octets()),
            _ => return None,
        };
        Some((address, Span::seconds(u64::from(record.ttl().as_secs()))))
    });
    let mut told_of = told_of.take(MOST).peekable();
    while let Some((address, ttl)) = told_of.next() {
        // Most answers have one address.
        let name = if told_of.peek().is_some() { asked.clone() } else { std::mem::take(&mut asked) };
        sink(Name { host, address, name, told, ttl });
    }
    true
}

/// A name as text, lower case, without a final dot; none for the root and for one that is too long.
fn text(name: ParsedName<&[u8]>) -> Option<String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // Less the lengths at both ends.
    let mut text = Vec::with_capacity(usize::from(name.compose_len()).saturating_sub(2));
    for label in name.iter().filter(|label| !label.is_root()).map(Label::as_slice) {
        if !label.iter().all(plain) {
            // As in a zone file (RFC 1035 section 5.1): a dot within a label is not one between two.
            text = name.to_string().trim_end_matches('.').as_bytes().to_vec();
            break;
        }
        if !text.is_empty() {
            text.push(b'.');
        }
        text.extend_from_slice(label);
    }
    text.make_ascii_lowercase();
    let told = !text.is_empty() && text.len() <= LONGEST && text.iter().all(u8::is_ascii_graphic);
    if told { String::from_utf8(text).ok() } else { None }
}

/// The server's stream of DNS over TCP: each message behind its length in two bytes (RFC 1035 section 4.2.2).
#[derive(Debug, Default)]
pub(super) struct Stream {
    buffer: Vec<u8>,
    lost: bool,
}

impl Stream {
    /// Takes stream bytes of the server.
    pub(super) fn data(&mut self, bytes: &[u8], host: Address, told: Timestamp, sink: &mut impl FnMut(Name)) {
        if self.lost {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(&[high, low]) = self.buffer.get(at..at + 2) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some(message) = self.buffer.get(at + 2..at + 2 + length) else { break };
            if !answers(message, host, told, sink) {
                self.lose();
                return;
            }
            at += 2 + length;
        }
        self.buffer.drain(..at);
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.buffer.capacity()
    }

    /// Bytes are missing: where the next message begins is not known any more.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.buffer = Vec::new();
    }
}

/// Whether the first bytes of a stream can be DNS over TCP: a length, then a header with one question and a
/// standard opcode.
pub(super) fn begins_message(bytes: &[u8]) -> bool {
    match bytes {
        [high, low, _, _, flags, _, 0, 1, ..] => u16::from_be_bytes([*high, *low]) >= 17 && flags & 0x78 == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer for `www.example`: CNAME to `a.example`, which has 192.0.2.7, for 60 s.
    fn message() -> Vec<u8> {
        let mut m = b"\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00".to_vec();
        m.extend_from_slice(b"\x03www\x07example\x00\x00\x01\x00\x01");
        m.extend_from_slice(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01a\xc0\x10");
        m.extend_from_slice(b"\xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07");
        m
    }

    fn read(bytes: &[u8]) -> Vec<Name> {
        let mut names = Vec::new();
        answers(bytes, Address::v4([10, 0, 0, 5]), Timestamp(7), &mut |name| names.push(name));
        names
    }

    #[test]
    fn the_name_that_was_asked_for_goes_to_the_address_behind_the_chain() {
        let names = read(&message());
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].name, "www.example");
        assert_eq!(names[0].address.to_string(), "192.0.2.7");
        assert_eq!(names[0].ttl, Span::seconds(60));
    }

    #[test]
    fn names_are_written_as_in_a_zone_file_in_lower_case() {
        let mut odd = message();
        odd[13..16].copy_from_slice(b"W.w");
        assert_eq!(read(&odd)[0].name, "w\\.w.example");
        let mut large = message();
        large[13..16].copy_from_slice(b"W-_");
        assert_eq!(read(&large)[0].name, "w-_.example");
    }

    #[test]
    fn addresses_of_both_families_are_taken_and_those_of_other_classes_are_not() {
        let mut both = message();
        both[7] = 4;
        both.extend_from_slice(
            b"\xc0\x29\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
        );
        both.extend_from_slice(b"\xc0\x29\x00\x01\x00\x03\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x08");
        let addresses: Vec<String> = read(&both).iter().map(|name| name.address.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.7", "2001:db8::1"]);
    }

    #[test]
    fn messages_over_tcp_are_read_whatever_the_segments() {
        let mut wire = Vec::new();
        for _ in 0..3 {
            wire.extend_from_slice(&(message().len() as u16).to_be_bytes());
            wire.extend_from_slice(&message());
        }
        assert!(begins_message(&wire));
        let mut stream = Stream::default();
        let mut count = 0;
        for piece in wire.chunks(7) {
            stream.data(piece, Address::v4([10, 0, 0, 5]), Timestamp(0), &mut |_| count += 1);
        }
        assert_eq!(count, 3);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..64) {
            read(&bytes);
            let mut damaged = message();
            for (to, from) in damaged.iter_mut().skip(cut).zip(&bytes) { *to ^= from; }
            read(&damaged);
        }
    }
}
