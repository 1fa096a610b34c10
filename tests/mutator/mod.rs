//! A mutator of captures: any capture that Outfall reads comes in, the same capture damaged or disguised goes out.

pub mod change;
pub mod layout;
pub mod oracle;

use std::io::Write;
use std::path::{Path, PathBuf};

use outfall::capture::{Batch, Packet, Reader};
use outfall::net::Timestamp;

/// One packet, apart from its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub ts: u64,
    pub link: u16,
    pub wire_length: u32,
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The packet as the decoder takes it.
    pub fn packet(&self, index: usize) -> Packet<'_> {
        let ts = Timestamp(self.ts);
        let (link, wire_length) = (self.link, self.wire_length);
        Packet { index: index as u64, ts, clock: ts, link, wire_length, bytes: &self.bytes }
    }

    /// The frame with other bytes; what the snap length had cut stays cut.
    pub fn with(&self, bytes: Vec<u8>) -> Self {
        let cut = self.wire_length - self.bytes.len() as u32;
        Self { wire_length: bytes.len() as u32 + cut, bytes, ..*self }
    }
}

/// The packets of a capture, in the order of the file.
pub fn read(path: &Path) -> Vec<Frame> {
    let mut reader = Reader::open(&[path.to_owned()]).unwrap_or_else(|error| panic!("{error}"));
    let (mut batch, mut frames) = (Batch::default(), Vec::new());
    while reader.fill(&mut batch).unwrap_or_else(|error| panic!("{error}")) {
        frames.extend(batch.packets().map(|packet| Frame {
            ts: packet.ts.0,
            link: packet.link,
            wire_length: packet.wire_length,
            bytes: packet.bytes.to_vec(),
        }));
    }
    frames
}

/// The byte order of a file's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

/// Writes a pcap file with nanoseconds. Such a file has one link type; false if the frames have several.
pub fn write(path: &Path, frames: &[Frame], order: Order) -> bool {
    let link = frames.first().map_or(1, |frame| frame.link);
    if frames.iter().any(|frame| frame.link != link) {
        return false;
    }
    let word = |value: u32| match order {
        Order::Little => value.to_le_bytes(),
        Order::Big => value.to_be_bytes(),
    };
    let half = |value: u16| match order {
        Order::Little => value.to_le_bytes(),
        Order::Big => value.to_be_bytes(),
    };
    let mut file = Vec::new();
    file.extend(word(0xa1b2_3c4d));
    file.extend([half(2), half(4)].concat());
    file.extend([word(0), word(0), word(256 << 20), word(u32::from(link))].concat());
    for frame in frames {
        let seconds = u32::try_from(frame.ts / 1_000_000_000).unwrap_or(u32::MAX);
        file.extend([word(seconds), word((frame.ts % 1_000_000_000) as u32)].concat());
        file.extend([word(frame.bytes.len() as u32), word(frame.wire_length)].concat());
        file.extend_from_slice(&frame.bytes);
    }
    std::fs::File::create(path).unwrap().write_all(&file).unwrap();
    true
}

/// Every capture of the stories, and of the corpus where it is present.
pub fn captures(root: &Path) -> Vec<PathBuf> {
    let corpus = std::env::var_os("OUTFALL_CORPUS").map_or_else(|| root.join("../shared/corpus"), PathBuf::from);
    let stories = crate::common::files_of(&root.join("captures")).into_iter().map(|story| story.join("capture.pcap"));
    let public = crate::common::files_of(&corpus.join("captures"));
    stories.filter(|capture| capture.exists()).chain(public).collect()
}

/// Numbers that look like chance and are the same in every run (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
