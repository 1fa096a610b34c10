//! Captures for tests, built byte by byte, and what a reader makes of them.

use std::io::{Cursor, Read, Write};
use std::path::PathBuf;

use super::source::Source;
use super::{Order, Reader};
use crate::capture::{Batch, CaptureError, Counters};

impl Order {
    pub fn put16(self, value: u16) -> [u8; 2] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    pub fn put32(self, value: u32) -> [u8; 4] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    pub fn put64(self, value: u64) -> [u8; 8] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }
}

/// A pcap file header.
pub fn pcap(order: Order, magic: u32, version: (u16, u16), link: u32) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(order.put32(magic));
    file.extend(order.put16(version.0));
    file.extend(order.put16(version.1));
    file.extend([0; 8]);
    file.extend(order.put32(262_144));
    file.extend(order.put32(link));
    file
}

/// A pcap record with the given four words before its data.
pub fn record(order: Order, words: [u32; 4], data: &[u8]) -> Vec<u8> {
    words.into_iter().flat_map(|word| order.put32(word)).chain(data.iter().copied()).collect()
}

/// A little-endian nanosecond pcap file of packets given as time and data.
pub fn simple_pcap(packets: &[(u64, &[u8])]) -> Vec<u8> {
    let mut file = pcap(Order::Little, 0xa1b2_3c4d, (2, 4), 1);
    for (time, data) in packets {
        let length = data.len() as u32;
        let words = [(time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32, length, length];
        file.extend(record(Order::Little, words, data));
    }
    file
}

/// A pcapng block around `body`, which is padded.
pub fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = order.put32(padded as u32 + 12);
    let mut block = Vec::new();
    block.extend(order.put32(kind));
    block.extend(length);
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(length);
    block
}

/// A section header block.
pub fn section(order: Order) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(order.put32(0x1a2b_3c4d));
    body.extend(order.put16(1));
    body.extend(order.put16(0));
    body.extend([0xff; 8]);
    block(order, 0x0a0d_0d0a, &body)
}

/// An interface block with options given as code and value.
pub fn interface(order: Order, link: u16, snap: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(order.put16(link));
    body.extend([0; 2]);
    body.extend(order.put32(snap));
    for (code, value) in options {
        body.extend(order.put16(*code));
        body.extend(order.put16(value.len() as u16));
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(order, 1, &body)
}

/// An enhanced packet block.
pub fn enhanced(order: Order, interface: u32, units: u64, wire: u32, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [interface, (units >> 32) as u32, units as u32, data.len() as u32, wire] {
        body.extend(order.put32(word));
    }
    body.extend(data);
    block(order, 6, &body)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A packet with its bytes, free of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub index: u64,
    pub ts: u64,
    pub clock: u64,
    pub link: u16,
    pub wire: u32,
    pub bytes: Vec<u8>,
}

/// Reads to the end.
pub fn drain(reader: &mut Reader) -> Result<Vec<Seen>, CaptureError> {
    let mut seen = Vec::new();
    let mut batch = Batch::default();
    while reader.fill(&mut batch)? {
        assert_eq!(batch.len(), batch.packets().len());
        seen.extend(batch.packets().map(|p| Seen {
            index: p.index,
            ts: p.ts.0,
            clock: p.clock.0,
            link: p.link,
            wire: p.wire_length,
            bytes: p.bytes.to_vec(),
        }));
        assert_eq!(batch.next_index(), seen.len() as u64);
        assert_eq!(batch.clock().0, seen.last().unwrap().clock);
    }
    assert!(batch.is_empty());
    Ok(seen)
}

/// A directory with `files` in it, named by their place.
pub fn directory(files: &[&[u8]]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..files.len()).map(|n| directory.path().join(n.to_string())).collect();
    for (path, bytes) in paths.iter().zip(files) {
        std::fs::write(path, bytes).unwrap();
    }
    (directory, paths)
}

/// What `files` hold when they are read as files.
pub fn read_files(files: &[&[u8]]) -> Result<(Vec<Seen>, Counters), CaptureError> {
    let (_directory, paths) = directory(files);
    let mut reader = Reader::open(&paths)?;
    let seen = drain(&mut reader)?;
    assert_eq!(Some(reader.position()), reader.total());
    Ok((seen, reader.counters().clone()))
}

/// A stream that gives its bytes a few at a time.
pub struct Trickle(pub Cursor<Vec<u8>>, pub usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.1);
        self.0.read(&mut buffer[..count])
    }
}

/// What `files` hold when they are read as streams.
pub fn read_streams(files: &[&[u8]], step: usize, interactive: bool) -> Result<(Vec<Seen>, Counters), CaptureError> {
    let open = |bytes: &&[u8]| {
        let raw = Trickle(Cursor::new(bytes.to_vec()), step);
        Source::streamed("stream".to_owned(), None, Box::new(raw), interactive, 1)
    };
    let mut reader = Reader::of(files.iter().map(open).collect::<Result<_, _>>()?);
    let seen = drain(&mut reader)?;
    Ok((seen, reader.counters().clone()))
}
