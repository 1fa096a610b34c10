//! How large a body is once its Content-Encoding (RFC 9110 section 8.4) is undone.
//!
//! Encoded bytes come in; the decoded bytes are counted and thrown away, but for the first of them, which tell
//! the type. What is held is the decoder's window; the output is bounded.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::kind::LEADING;
use super::meter::{Meter, Share};
use crate::record::NotDecoded;

/// Memory of a deflate decoder: its window of 32 KiB, its tables and its output buffer.
const DEFLATE_MEMORY: u64 = 96 * 1024;
/// Memory of a brotli decoder beside its window.
const BROTLI_MEMORY: u64 = 256 * 1024;

/// A coding whose decoder is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

impl Coding {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            _ => None,
        }
    }
}

/// Counts what it is given, keeps the first of it, and refuses what goes beyond the limit.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) head: Vec<u8>,
    count: u64,
    limit: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count += bytes.len() as u64;
        if self.count > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let room = LEADING.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Machine {
    Gzip(MultiGzDecoder<Sink>),
    Zlib(ZlibDecoder<Sink>),
    Raw(DeflateDecoder<Sink>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Sink>>),
}

enum State {
    /// The first bytes decide which decoder it takes: for `deflate` two, for `br` one.
    Waiting(Vec<u8>, u64),
    Running {
        machine: Box<Machine>,
        _share: Share,
    },
    Done {
        decoded: Result<u64, NotDecoded>,
        head: Vec<u8>,
    },
}

/// A body's decoder.
pub(super) struct Decoder {
    coding: Coding,
    state: State,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("coding", &self.coding).finish_non_exhaustive()
    }
}

impl Decoder {
    /// For a body that may decode to `limit` bytes.
    pub(super) fn new(coding: Coding, limit: u64) -> Self {
        Self { coding, state: State::Waiting(Vec::new(), limit) }
    }

    /// Takes encoded bytes.
    pub(super) fn data(&mut self, bytes: &[u8], meter: &Meter) {
        match &mut self.state {
            State::Done { .. } => {}
            State::Running { machine, .. } => {
                if let Err(error) = machine.write(bytes) {
                    self.fail(reason(&error));
                }
            }
            State::Waiting(first, limit) => {
                first.extend_from_slice(bytes);
                let wanted = if self.coding == Coding::Deflate { 2 } else { 1 };
                if first.len() < wanted {
                    return;
                }
                let first = std::mem::take(first);
                let sink = Sink { head: Vec::new(), count: 0, limit: *limit };
                let Some(share) = meter.take(memory(self.coding, &first)) else {
                    return self.fail(NotDecoded::Memory);
                };
                self.state =
                    State::Running { machine: Box::new(Machine::new(self.coding, &first, sink)), _share: share };
                self.data(&first, meter);
            }
        }
    }

    /// Nothing more can be decoded.
    pub(super) fn fail(&mut self, why: NotDecoded) {
        if !matches!(self.state, State::Done { .. }) {
            self.state = State::Done { decoded: Err(why), head: self.head().to_vec() };
        }
    }

    /// The body is over.
    pub(super) fn end(&mut self) {
        let decoded = match &mut self.state {
            State::Running { machine, .. } => machine.finish().map_err(|error| reason(&error)),
            State::Waiting(..) => Err(NotDecoded::CutShort),
            State::Done { .. } => return,
        };
        self.state = State::Done { decoded, head: self.head().to_vec() };
    }

    /// Bytes of the body, decoded.
    pub(super) fn decoded(&self) -> Result<u64, NotDecoded> {
        match &self.state {
            State::Done { decoded, .. } => *decoded,
            _ => Err(NotDecoded::Running),
        }
    }

    /// The first decoded bytes.
    pub(super) fn head(&self) -> &[u8] {
        match &self.state {
            State::Waiting(..) => &[],
            State::Running { machine, .. } => machine.sink().map_or(&[], |sink| &sink.head),
            State::Done { head, .. } => head,
        }
    }
}

impl Machine {
    fn new(coding: Coding, first: &[u8], sink: Sink) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(sink)),
            // `deflate` means zlib, but some clients send it without zlib's header.
            Coding::Deflate if is_zlib(first) => Self::Zlib(ZlibDecoder::new(sink)),
            Coding::Deflate => Self::Raw(DeflateDecoder::new(sink)),
            Coding::Brotli => Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(sink, 4096))),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zlib(decoder) => decoder.write_all(bytes),
            Self::Raw(decoder) => decoder.write_all(bytes),
            Self::Brotli(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(&mut self) -> io::Result<u64> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish()?,
            Self::Zlib(decoder) => decoder.try_finish()?,
            Self::Raw(decoder) => decoder.try_finish()?,
            Self::Brotli(decoder) => decoder.close()?,
        }
        Ok(self.sink().map_or(0, |sink| sink.count))
    }

    fn sink(&self) -> Option<&Sink> {
        match self {
            Self::Gzip(decoder) => Some(decoder.get_ref()),
            Self::Zlib(decoder) => Some(decoder.get_ref()),
            Self::Raw(decoder) => Some(decoder.get_ref()),
            Self::Brotli(decoder) => Some(decoder.get_ref()),
        }
    }
}

fn is_zlib(first: &[u8]) -> bool {
    matches!(first, [method, flags, ..]
        if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

/// The memory that decoding takes. Brotli's window is in the stream's first bits (RFC 7932 section 9.1).
fn memory(coding: Coding, first: &[u8]) -> u64 {
    if coding != Coding::Brotli {
        return DEFLATE_MEMORY;
    }
    let byte = first.first().copied().unwrap_or_default();
    let bits = match (byte & 1, (byte >> 1) & 7, (byte >> 4) & 7) {
        (0, ..) => 16,
        (_, n @ 1.., _) => 17 + n,
        (_, _, 0) => 17,
        (_, _, n) => 8 + n,
    };
    (1 << bits) + BROTLI_MEMORY
}

fn reason(error: &io::Error) -> NotDecoded {
    match error.kind() {
        io::ErrorKind::FileTooLarge => NotDecoded::TooLarge,
        io::ErrorKind::UnexpectedEof => NotDecoded::CutShort,
        _ => NotDecoded::Broken,
    }
}
