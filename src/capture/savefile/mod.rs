//! Capture files and streams: their names in, batches of packets in order of time out.
//!
//! One capture fills the caller's batch directly, without a byte being copied once it was read. Several are merged;
//! see [`merge`]. A capture that breaks off or is damaged ends there with a warning, and the others go on.

mod merge;
mod pcap;
mod pcapng;
mod source;
mod stream;
#[cfg(test)]
mod build;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use super::clock::Clock;
use super::{Batch, CaptureError, Counters, Descriptor};
use crate::net::Timestamp;
use merge::Merge;
use source::Source;

/// How many packets a batch takes.
const BATCH: usize = 1024;

/// Reads captures, merged by time.
pub struct Reader {
    input: Input,
    counters: Counters,
    total: Option<u64>,
    clock: Option<Clock>,
    last: Timestamp,
    next_index: u64,
    failed: Option<CaptureError>,
}

enum Input {
    One(Box<Source>),
    Several(Merge),
}

impl Reader {
    /// Opens the captures at `paths`, all of them, and checks that each is one; `-` is standard input.
    pub fn open(paths: &[PathBuf]) -> Result<Self, CaptureError> {
        Ok(Self::of(paths.iter().map(|path| Source::open(path, paths.len())).collect::<Result<_, _>>()?))
    }

    fn of(mut sources: Vec<Source>) -> Self {
        let total = sources.iter().map(Source::length).sum();
        let input = match sources.pop() {
            Some(only) if sources.is_empty() => Input::One(Box::new(only)),
            last => {
                sources.extend(last);
                Input::Several(Merge::new(sources))
            }
        };
        Self {
            input,
            counters: Counters::default(),
            total,
            clock: None,
            last: Timestamp::default(),
            next_index: 0,
            failed: None,
        }
    }

    /// Clears `batch` and fills it with the packets that follow; false at the end.
    ///
    /// From a pipe or standard input it takes what is there rather than wait for a full batch. After an error the
    /// capture that it names is over, and the next call goes on with the others.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<bool, CaptureError> {
        batch.clear();
        batch.first_index = self.next_index;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // The start of the clock is judged by two packets.
        let least = if self.clock.is_none() { 2 } else { 1 };
        let filled = match &mut self.input {
            Input::One(source) => source.fill(batch, least, BATCH, &mut self.counters),
            Input::Several(merge) => merge.fill(batch, BATCH, &mut self.counters),
        };
        self.account(batch);
        match filled {
            Err(error) if batch.is_empty() => return Err(error),
            Err(error) => self.failed = Some(error),
            Ok(()) => {}
        }
        Ok(!batch.is_empty())
    }

    /// What was read so far, and what could not be.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many bytes of the input were consumed; of a compressed capture, compressed bytes.
    pub fn position(&self) -> u64 {
        match &self.input {
            Input::One(source) => source.position(),
            Input::Several(merge) => merge.position(),
        }
    }

    /// Whether packets may be long in coming, as from a pipe: then what is there is handed on at once.
    pub fn is_interactive(&self) -> bool {
        match &self.input {
            Input::One(source) => source.is_interactive(),
            Input::Several(merge) => merge.is_interactive(),
        }
    }

    /// How many bytes the input has; not known of pipes and standard input.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Sets the clock of each new packet and counts it.
    fn account(&mut self, batch: &mut Batch) {
        if let Some(first) = batch.descriptors.first() {
            let second = batch.descriptors.get(1).map(|second| second.ts);
            let mut clock = *self.clock.get_or_insert_with(|| {
                self.last = first.ts;
                Clock::starting(first.ts, second)
            });
            let mut last = self.last;
            let (mut bytes, mut wire_bytes, mut snapped, mut backward) = (0, 0, 0, 0);
            for packet in &mut batch.descriptors {
                packet.clock = clock.observe(packet.ts);
                bytes += u64::from(packet.length);
                wire_bytes += u64::from(packet.wire_length);
                snapped += u64::from(packet.length < packet.wire_length);
                backward += u64::from(packet.ts < last);
                last = packet.ts;
            }
            self.clock = Some(clock);
            self.last = last;
            self.counters.packets += batch.descriptors.len() as u64;
            self.counters.bytes += bytes;
            self.counters.wire_bytes += wire_bytes;
            self.counters.snapped_packets += snapped;
            self.counters.backward_timestamps += backward;
        }
        batch.clock = self.clock.map(|clock| clock.now()).unwrap_or_default();
        self.next_index = batch.next_index();
    }
}

/// What the first bytes of a capture turned out to be.
enum Detected<T> {
    Is(T),
    /// They end inside the header of this format.
    Cut(&'static str),
    Unsupported {
        format: &'static str,
        major: u16,
        minor: u16,
    },
}

impl<T> Detected<T> {
    fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Detected<U> {
        match self {
            Self::Is(found) => Detected::Is(wrap(found)),
            Self::Cut(format) => Detected::Cut(format),
            Self::Unsupported { format, major, minor } => Detected::Unsupported { format, major, minor },
        }
    }
}

/// Where a parser puts the packets it finds.
struct Sink<'a> {
    descriptors: &'a mut Vec<Descriptor>,
    /// How many packets there may be.
    limit: usize,
    block: u32,
    /// Where in the block the parser's window begins.
    base: usize,
}

impl Sink<'_> {
    #[inline(always)]
    fn full(&self) -> bool {
        self.room() == 0
    }

    /// How many more packets there may be.
    #[inline(always)]
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.descriptors.len())
    }

    /// Adds a packet whose bytes begin `at` in the window.
    #[inline(always)]
    fn push(&mut self, ts: Timestamp, at: usize, captured: u32, wire: u32, link: u16) {
        self.descriptors.push(Descriptor {
            ts,
            clock: Timestamp::default(),
            offset: self.base + at,
            length: captured,
            // Some writers leave the wire length empty; it cannot be less than what was captured.
            wire_length: wire.max(captured),
            block: self.block,
            link,
        });
    }
}

/// How far a parser came.
struct Scan {
    consumed: usize,
    stop: Stop,
}

/// Why a parser stopped.
enum Stop {
    /// The sink has as many packets as it may.
    Full,
    /// What follows needs this many bytes in the window.
    Need(usize),
    /// What follows makes no sense.
    Damaged(String),
}

/// Blocks that a parser passed over.
#[derive(Debug, Default)]
struct Tally {
    skipped: u64,
    malformed: u64,
    /// What was wrong with the first malformed one.
    first: Option<&'static str>,
}

impl Tally {
    fn malformed(&mut self, reason: &'static str) {
        self.malformed += 1;
        self.first.get_or_insert(reason);
    }
}

/// The byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    #[inline]
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    #[inline]
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }
}
