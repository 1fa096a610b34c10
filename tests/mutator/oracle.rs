//! What a capture holds of each TCP stream, found the simple way: every segment is laid where its sequence number
//! says. No clock, no bound, no patience.

use std::collections::BTreeMap;

use outfall::net::Endpoint;
use outfall::packet::{Decoded, Decoder};

use super::Frame;

/// A direction: who sends, who receives.
pub type Direction = (Endpoint, Endpoint);

/// A stream longer than this is none of ours: a forged sequence number.
const LONGEST: i64 = 64 << 20;

/// One direction of a connection, by offsets from its first byte.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Sequence number of offset zero.
    pub base: u32,
    /// Initial sequence numbers that were offered.
    pub openings: Vec<u32>,
    /// The bytes, where they were captured.
    pub bytes: Vec<Option<u8>>,
    /// Offset of the FIN.
    pub fin: Option<i64>,
    /// The highest offset that the peer acknowledged.
    pub acked: i64,
    /// A SYN or bytes came more than once.
    pub repeated: bool,
}

impl Stream {
    /// How many bytes of a range were captured.
    pub fn captured(&self, from: u64, to: u64) -> u64 {
        let range = self.bytes.iter().take(to as usize).skip(from as usize);
        range.filter(|byte| byte.is_some()).count() as u64
    }

    /// Whether all bytes of a range were captured.
    pub fn has(&self, from: u64, to: u64) -> bool {
        self.captured(from, to) == to - from
    }

    /// The bytes of a range, zero where they were not captured.
    pub fn text(&self, from: u64, to: u64) -> Vec<u8> {
        self.bytes.iter().take(to as usize).skip(from as usize).map(|byte| byte.unwrap_or(0)).collect()
    }
}

/// Every direction of every five-tuple.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    pub streams: BTreeMap<Direction, Stream>,
}

struct Seen {
    direction: Direction,
    seq: u32,
    ack: Option<u32>,
    syn: bool,
    fin: bool,
    bytes: Vec<u8>,
}

impl Oracle {
    /// Of a capture. `placed` gives the sequence numbers of the first bytes, where another capture of the same traffic knows
    /// them better.
    pub fn of(frames: &[Frame], placed: Option<&Self>) -> Self {
        let seen = segments(frames);
        let mut oracle = Self::default();
        for segment in &seen {
            let stream = oracle.streams.entry(segment.direction).or_default();
            let first = segment.seq.wrapping_add(u32::from(segment.syn));
            if segment.syn && stream.openings.contains(&first) {
                stream.repeated = true;
            } else if segment.syn {
                stream.openings.push(first);
            }
        }
        for (direction, stream) in &mut oracle.streams {
            let data = || seen.iter().filter(|s| s.direction == *direction && (!s.bytes.is_empty() || s.fin));
            let lowest = data().map(|s| s.seq).reduce(|a, b| if (b.wrapping_sub(a) as i32) < 0 { b } else { a });
            let known = placed.and_then(|other| other.streams.get(direction)).map(|stream| stream.base);
            stream.base = known.or(stream.openings.first().copied()).or(lowest).unwrap_or(0);
        }
        for segment in &seen {
            let Some(stream) = oracle.streams.get_mut(&segment.direction) else { continue };
            let first = segment.seq.wrapping_add(u32::from(segment.syn));
            let start = i64::from(first.wrapping_sub(stream.base) as i32);
            for (n, byte) in segment.bytes.iter().enumerate() {
                let at = start + n as i64;
                if !(0..LONGEST).contains(&at) {
                    continue;
                }
                if stream.bytes.len() <= at as usize {
                    stream.bytes.resize(at as usize + 1, None);
                }
                stream.repeated |= stream.bytes[at as usize].is_some();
                stream.bytes[at as usize].get_or_insert(*byte);
            }
            if segment.fin {
                stream.fin.get_or_insert(start + segment.bytes.len() as i64);
            }
            let (from, to) = segment.direction;
            if let (Some(ack), Some(peer)) = (segment.ack, oracle.streams.get_mut(&(to, from))) {
                let acked = i64::from(ack.wrapping_sub(peer.base) as i32);
                peer.acked = peer.acked.max(acked);
            }
        }
        oracle
    }

    pub fn stream(&self, direction: Direction) -> Option<&Stream> {
        self.streams.get(&direction)
    }

    /// Whether a five-tuple carried more than one connection.
    pub fn reused(&self, (from, to): Direction) -> bool {
        [(from, to), (to, from)].iter().any(|d| self.streams.get(d).is_some_and(|s| s.openings.len() > 1))
    }
}

fn segments(frames: &[Frame]) -> Vec<Seen> {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        decoder.decode(&frame.packet(index), &mut |decoded| {
            if let Decoded::Tcp(segment) = decoded {
                seen.push(Seen {
                    direction: (segment.source, segment.destination),
                    seq: segment.seq,
                    ack: (segment.flags.ack() && !segment.flags.rst()).then_some(segment.ack),
                    syn: segment.flags.syn(),
                    fin: segment.flags.fin() && segment.cut == 0,
                    bytes: segment.payload.to_vec(),
                });
            }
        });
    }
    seen
}
