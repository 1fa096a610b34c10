//! Bytes that arrive in order: a file, pipe or standard input in, a window of decompressed bytes out.
//!
//! gzip and Zstandard are recognised by content, concatenated members are read as one. The window grows only with
//! bytes that really came, never by a length that the input claims, and the caller says how far.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;

use crate::capture::Block;

/// How many bytes the window holds unless one packet needs more: few enough to be still near the processor when they
/// are looked at.
const WINDOW: usize = 256 << 10;

/// The least that it holds where many captures share that.
const LEAST_WINDOW: usize = 16 << 10;

/// How many blocks that were used before, none larger than the window, are kept to be used again: as many as several
/// workers have before them at once.
const MOST_SPARE: usize = 32;

/// The bytes by which a compressed stream is known.
const MAGIC: usize = 4;

/// A stream of bytes with a window at its front.
pub(super) struct Stream {
    decoder: Decoder,
    /// The block that is being read into, or was; what batches describe in it stays as it is.
    block: Block,
    /// Blocks that batches may still describe.
    spare: Vec<Block>,
    start: usize,
    end: usize,
    /// Whether bytes may be long in coming, so that what is there is handed on at once.
    interactive: bool,
    window: usize,
    over: bool,
    failure: Option<io::Error>,
}

/// Whether the window holds what was asked for.
#[derive(Debug)]
pub(super) enum Supply {
    /// It does.
    Ready,
    /// The stream ended first.
    Ended,
    /// The compressed stream breaks off.
    Cut,
    /// The compressed stream is damaged.
    Damaged(String),
}

enum Decoder {
    Plain(Raw),
    Gzip(flate2::read::MultiGzDecoder<Raw>),
    Zstandard(zstd::stream::read::Decoder<'static, BufReader<Raw>>),
}

type Raw = Counting<Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>>;

/// Counts what passes.
struct Counting<R> {
    inner: R,
    count: u64,
}

impl Stream {
    /// Begins to read `raw`, from its first byte, as one of so many `captures`.
    pub(super) fn new(mut raw: Box<dyn Read + Send>, interactive: bool, captures: usize) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(MAGIC);
        raw.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
        let compression = Compression::of(&magic);
        let raw = Counting { inner: Cursor::new(magic).chain(raw), count: 0 };
        let decoder = match compression {
            None => Decoder::Plain(raw),
            Some(Compression::Gzip) => Decoder::Gzip(flate2::read::MultiGzDecoder::new(raw)),
            Some(Compression::Zstandard) => Decoder::Zstandard(zstd::stream::read::Decoder::new(raw)?),
        };
        Ok(Self {
            decoder,
            block: Block::default(),
            spare: Vec::new(),
            start: 0,
            end: 0,
            interactive,
            window: (WINDOW / captures.max(1)).max(LEAST_WINDOW),
            over: false,
            failure: None,
        })
    }

    /// The bytes at the front of the stream that are here already.
    pub(super) fn window(&self) -> &[u8] {
        self.block.get(self.start..self.end).unwrap_or_default()
    }

    /// The block in which the window lies, and where.
    pub(super) fn block(&self) -> (&Block, usize) {
        (&self.block, self.start)
    }

    /// Takes `count` bytes off the front of the window.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Reads until the window holds `count` bytes. Errors are those of the system alone.
    pub(super) fn need(&mut self, count: usize) -> io::Result<Supply> {
        self.move_to_front();
        let Some(block) = Arc::get_mut(&mut self.block) else { return Ok(Supply::Ended) };
        while !self.over && (self.end < count || (!self.interactive && self.end < block.len())) {
            if self.end == block.len() {
                let size = block.len().saturating_mul(2).min(count).max(self.window);
                block.resize(size, 0);
            }
            match self.decoder.read(block.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => self.over = true,
                Ok(read) => self.end += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    // What came before the failure is good and is delivered first.
                    self.over = true;
                    self.failure = Some(e);
                }
            }
        }
        if self.end >= count {
            return Ok(Supply::Ready);
        }
        match self.failure.take() {
            None => Ok(Supply::Ended),
            Some(e) if matches!(self.decoder, Decoder::Plain(_)) || e.raw_os_error().is_some() => Err(e),
            Some(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Supply::Cut),
            Some(e) => Ok(Supply::Damaged(e.to_string())),
        }
    }

    /// Puts the window at the front of a block that nobody else holds.
    fn move_to_front(&mut self) {
        match Arc::get_mut(&mut self.block) {
            Some(block) => block.copy_within(self.start..self.end, 0),
            None => {
                let free = self.spare.iter_mut().position(|block| Arc::get_mut(block).is_some());
                let mut fresh = free.map(|n| self.spare.swap_remove(n)).unwrap_or_default();
                if let Some(block) = Arc::get_mut(&mut fresh) {
                    let left = self.end - self.start;
                    if block.len() < left {
                        block.resize(left.max(self.window), 0);
                    }
                    if let Some(to) = block.get_mut(..left) {
                        to.copy_from_slice(self.window());
                    }
                }
                let used = std::mem::replace(&mut self.block, fresh);
                // One that had to grow for a packet goes with what it holds.
                if self.spare.len() < MOST_SPARE && used.len() <= self.window {
                    self.spare.push(used);
                }
            }
        }
        self.end -= self.start;
        self.start = 0;
    }

    /// How many bytes were read from below, compressed ones where the stream is compressed.
    pub(super) fn position(&self) -> u64 {
        match &self.decoder {
            Decoder::Plain(raw) => raw.count - self.window().len() as u64,
            Decoder::Gzip(decoder) => decoder.get_ref().count,
            Decoder::Zstandard(decoder) => decoder.get_ref().get_ref().count,
        }
    }
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstandard,
}

impl Compression {
    /// Recognises a compressed stream by its first bytes.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstandard),
            // A skippable frame, with which parallel compressors begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstandard),
            _ => None,
        }
    }
}

impl Read for Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(raw) => raw.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstandard(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}
