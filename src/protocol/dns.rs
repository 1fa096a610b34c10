//! Names from DNS answers on the wire (RFC 1035): who asked, for which name, and which addresses it got.
//!
//! The name is the one that was asked for, whatever chain of CNAMEs led to the address: that is what the
//! program on the host knows its destination by.

use domain::base::Message;
use domain::base::iana::Rcode;
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
    let Some(question) = message.first_question() else { return false };
    let name = question.qname().to_string().trim_end_matches('.').to_ascii_lowercase();
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return true;
    }
    let Ok(section) = message.answer() else { return false };
    let mut found = 0;
    for record in section.limit_to_in::<A>().flatten().take(MOST) {
        found += 1;
        let ttl = Span::seconds(u64::from(record.ttl().as_secs()));
        sink(Name { host, address: Address::v4(record.data().addr().octets()), name: name.clone(), told, ttl });
    }
    let Ok(section) = message.answer() else { return false };
    for record in section.limit_to_in::<Aaaa>().flatten().take(MOST - found) {
        let ttl = Span::seconds(u64::from(record.ttl().as_secs()));
        sink(Name { host, address: Address::v6(record.data().addr().octets()), name: name.clone(), told, ttl });
    }
    true
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
