//! Packets in a fixed piece of memory, the newest in place of the oldest, found again by a key.
//!
//! Each record names the one before it with the same key, so that a search passes over nothing but what shares a key's place
//! in the index. Positions count all bytes ever written: a record is whole as long as less than the ring's size was
//! written since.

use crate::capture::Packet;
use crate::net::Timestamp;

/// What is kept of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// The position, and one, of the record before it with the same place in the index; zero for none.
    before: u64,
    key: u64,
    index: u64,
    ts: Timestamp,
    clock: Timestamp,
    wire_length: u32,
    length: u32,
    link: u16,
}

/// Bytes of a [`Header`].
const HEADER: usize = 50;

impl Header {
    fn of(packet: &Packet<'_>, key: u64, before: u64) -> Self {
        let Packet { index, ts, clock, link, wire_length, bytes } = *packet;
        Self { before, key, index, ts, clock, wire_length, length: bytes.len() as u32, link }
    }

    /// The packet, with its bytes from the first of `bytes`.
    fn packet<'b>(&self, bytes: &'b [u8]) -> Option<Packet<'b>> {
        let Self { index, ts, clock, wire_length, length, link, .. } = *self;
        Some(Packet { index, ts, clock, link, wire_length, bytes: bytes.get(..length as usize)? })
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let parts: [&[u8]; 8] = [
            &self.before.to_le_bytes(),
            &self.key.to_le_bytes(),
            &self.index.to_le_bytes(),
            &self.ts.0.to_le_bytes(),
            &self.clock.0.to_le_bytes(),
            &self.wire_length.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.link.to_le_bytes(),
        ];
        let places = bytes.iter_mut().zip(parts.into_iter().flatten());
        places.for_each(|(place, byte)| *place = *byte);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_at_checked(40)?;
        let mut numbers = numbers.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(*word.first_chunk()?)));
        let (before, key, index) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let (ts, clock) = (Timestamp(numbers.next()?), Timestamp(numbers.next()?));
        let (wire_length, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let link = u16::from_le_bytes(*rest.first_chunk()?);
        let (wire_length, length) = (u32::from_le_bytes(*wire_length), u32::from_le_bytes(*length));
        Some(Self { before, key, index, ts, clock, wire_length, length, link })
    }
}

/// Packets, of which the oldest make room for the newest.
pub(super) struct Ring {
    bytes: Box<[u8]>,
    /// Bytes ever written, with those left free at the end so that a record lies in one piece.
    end: u64,
    /// The position, and one, of the newest record of each place in the index.
    newest: Box<[u64]>,
}

impl Ring {
    /// A ring of so many bytes, with an index of about one place for `each` of them.
    pub(super) fn new(bytes: usize, each: usize) -> Self {
        let places = (bytes / each.max(1)).next_power_of_two();
        Self { bytes: vec![0; bytes].into(), end: 0, newest: vec![0; places].into() }
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> u64 {
        (self.bytes.len() + 8 * self.newest.len()) as u64
    }

    fn place(&self, key: u64) -> usize {
        // The number of places is a power of two.
        (key ^ key >> 32) as usize & self.newest.len().wrapping_sub(1)
    }

    /// Keeps a packet; one that would take a quarter of the ring is not kept.
    pub(super) fn push(&mut self, key: u64, packet: &Packet<'_>) {
        let size = self.bytes.len() as u64;
        let need = (HEADER + packet.bytes.len()) as u64;
        if need > size / 4 {
            return;
        }
        let left = size - self.end % size;
        if need > left {
            self.end += left;
        }
        let place = self.place(key);
        let Some(newest) = self.newest.get_mut(place) else { return };
        let before = std::mem::replace(newest, self.end + 1);
        let header = Header::of(packet, key, before);
        let at = (self.end % size) as usize;
        if let Some((head, rest)) = self.bytes.get_mut(at..).and_then(|bytes| bytes.split_at_mut_checked(HEADER))
            && let Some(body) = rest.get_mut(..packet.bytes.len())
        {
            head.copy_from_slice(&header.bytes());
            body.copy_from_slice(packet.bytes);
        }
        self.end += need;
    }

    /// The packets of this key that are still there, the newest first.
    pub(super) fn newest(&self, key: u64) -> impl Iterator<Item = Packet<'_>> {
        let size = self.bytes.len() as u64;
        let mut next = self.newest.get(self.place(key)).copied().unwrap_or(0);
        std::iter::from_fn(move || {
            loop {
                let position = next.checked_sub(1).filter(|position| self.end - position <= size)?;
                let bytes = self.bytes.get((position % size) as usize..)?;
                let header = Header::read(bytes)?;
                // What was overwritten in the meantime names nothing; an older record is never newer.
                next = header.before.min(position);
                if header.key == key {
                    return header.packet(bytes.get(HEADER..)?);
                }
            }
        })
    }
}

/// Packets one after the other, all of which stay.
#[derive(Default)]
pub(super) struct Roll {
    bytes: Vec<u8>,
}

impl Roll {
    /// Bytes that it takes.
    pub(super) fn size(&self) -> u64 {
        self.bytes.capacity() as u64
    }

    /// Keeps a packet, if they all take at most so many bytes with it.
    pub(super) fn push(&mut self, packet: &Packet<'_>, most: u64) -> bool {
        let fits = (self.bytes.len() + HEADER + packet.bytes.len()) as u64 <= most;
        if fits {
            self.bytes.extend_from_slice(&Header::of(packet, 0, 0).bytes());
            self.bytes.extend_from_slice(packet.bytes);
        }
        fits
    }

    /// Its packets, the oldest first.
    pub(super) fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let header = Header::read(rest)?;
            let packet = header.packet(rest.get(HEADER..)?)?;
            rest = rest.get(HEADER + packet.bytes.len()..)?;
            Some(packet)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn packet(index: u64, bytes: &[u8]) -> Packet<'_> {
        let ts = Timestamp(1_000 + index);
        Packet { index, ts, clock: ts, link: 1, wire_length: bytes.len() as u32 + 4, bytes }
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_costs_nothing() {
        let mut ring = Ring::new(1_000, 100);
        ring.push(7, &packet(0, b"small"));
        ring.push(7, &packet(1, &[1; 250]));
        assert_eq!(ring.newest(7).map(|packet| packet.index).collect::<Vec<_>>(), [0]);
        assert_eq!(Ring::new(0, 0).newest(7).count(), 0);
    }

    #[test]
    fn a_roll_keeps_the_first_ones() {
        let mut roll = Roll::default();
        let kept: Vec<bool> = (0..4).map(|n| roll.push(&packet(n, &[n as u8; 40]), 300)).collect();
        assert_eq!(kept, [true, true, true, false]);
        let found: Vec<_> = roll.packets().map(|packet| (packet.index, packet.bytes.to_vec())).collect();
        assert_eq!(found, [0u8, 1, 2].map(|n| (u64::from(n), vec![n; 40])));
    }

    proptest! {
        #[test]
        fn each_key_gets_its_newest_packets_whole(
            sizes in prop::collection::vec((0u64..5, 0usize..400), 0..300),
            each in 1usize..500,
        ) {
            const SIZE: usize = 4_096;
            let mut ring = Ring::new(SIZE, each);
            let mut model = VecDeque::new();
            let (mut end, size) = (0u64, SIZE as u64);
            for (index, (key, length)) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..length).map(|n| (n + index) as u8).collect();
                let need = (HEADER + length) as u64;
                ring.push(key, &packet(index as u64, &bytes));
                if size - end % size < need {
                    end += size - end % size;
                }
                model.push_back((end, key, index as u64, bytes));
                end += need;
                while model.front().is_some_and(|(at, ..)| end - at > size) {
                    model.pop_front();
                }
                for key in 0..5 {
                    let found: Vec<_> = ring.newest(key).map(|packet| (packet.index, packet.bytes.to_vec())).collect();
                    let mut expected: Vec<_> =
                        model.iter().filter(|(_, of, ..)| *of == key).map(|(.., n, bytes)| (*n, bytes.clone())).collect();
                    expected.reverse();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
