//! Fragments of IPv4 and IPv6 packets in any order, overlapping, against a reassembly that keeps it simple.
//!
//! A fragment is four bytes: which packet (host, identification, version, a mark that changes its bytes, last or not),
//! its length, its offset in units of eight bytes.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use outfall::capture::Packet;
use outfall::net::Timestamp;
use outfall::packet::{Decoded, Decoder};
use outfall_fuzz::Bytes;
use outfall_fuzz::frames::fragment;

const RAW: u16 = 101;
const UDP: u8 = 17;
const LARGEST: usize = 65_535;

#[derive(Default)]
struct Whole {
    bytes: BTreeMap<usize, u8>,
    length: Option<usize>,
}

fuzz_target!(|input: &[u8]| {
    let mut input = Bytes(input);
    let mut decoder = Decoder::new();
    let mut waiting: BTreeMap<u8, Whole> = BTreeMap::new();
    let mut clock = 1_700_000_000_000_000_000;
    for index in 0..600 {
        if input.is_empty() {
            break;
        }
        let (bits, length, offset) = (input.u8(), usize::from(input.u8()), usize::from(input.u16() & 0x1fff) * 8);
        let (host, id, v6, mark, last) = (bits & 1, (bits >> 1) & 3, bits & 8 != 0, (bits >> 4) & 3, bits & 0x40 != 0);
        if bits & 0x80 != 0 && length == 255 {
            // Longer than anyone waits for the rest.
            clock += 31_000_000_000;
            waiting.clear();
        }
        let bytes: Vec<u8> = (offset..offset + length).map(|at| content(at, mark)).collect();
        let packet = fragment(v6, host, id, UDP, offset as u16, !last, &bytes);
        let packet = Packet {
            index,
            ts: Timestamp(clock),
            clock: Timestamp(clock),
            link: RAW,
            wire_length: packet.len() as u32,
            bytes: &packet,
        };
        let mut got = None;
        decoder.decode(&packet, &mut |decoded| {
            if let Decoded::Udp(datagram) = decoded {
                got = Some(datagram.payload.to_vec());
            }
        });
        let want =
            if offset == 0 && last { Some(bytes) } else { reassemble(&mut waiting, bits & 0x0f, offset, last, &bytes) };
        assert_eq!(got, want.and_then(|whole| whole.get(8..).map(<[u8]>::to_vec)));
    }
});

/// A UDP header, then bytes that tell their place and their mark.
fn content(at: usize, mark: u8) -> u8 {
    match at {
        0..8 => [0x13, 0x88, 0, 53, 0, 0, 0, 0][at],
        _ => (at as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0] ^ mark,
    }
}

fn reassemble(waiting: &mut BTreeMap<u8, Whole>, key: u8, offset: usize, last: bool, bytes: &[u8]) -> Option<Vec<u8>> {
    if offset + bytes.len() > LARGEST {
        return None;
    }
    let whole = waiting.entry(key).or_default();
    if last {
        whole.length.get_or_insert(offset + bytes.len());
    }
    for (n, byte) in bytes.iter().enumerate() {
        whole.bytes.entry(offset + n).or_insert(*byte);
    }
    // A hole anywhere, also behind the end, keeps it waiting.
    let length = whole.length?;
    let reaches = whole.bytes.last_key_value().map_or(0, |(last, _)| last + 1);
    if whole.bytes.len() != reaches || reaches < length {
        return None;
    }
    let whole = waiting.remove(&key)?;
    Some(whole.bytes.into_values().take(length).collect())
}
