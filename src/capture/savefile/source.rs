//! One capture: a path or a stream in, its packets in file order out.
//!
//! Files are read, not mapped: what was just read into a block is near the processor when it is looked at, while in a
//! map every packet waits for memory, and a file that somebody shortens ends the process.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::pcap::{self, Pcap};
use super::pcapng::Pcapng;
use super::stream::{Stream, Supply};
use super::{Detected, Scan, Sink, Stop, Tally};
use crate::capture::{Batch, CaptureError, Counters};

/// One capture that is being read.
pub(super) struct Source {
    name: String,
    length: Option<u64>,
    interactive: bool,
    input: Input,
    format: Format,
    tally: Tally,
    /// Whether a malformed block was reported: one line for each capture is enough.
    reported: bool,
}

enum Input {
    Open { stream: Box<Stream>, at: u64 },
    Over { position: u64 },
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

impl Source {
    /// Opens the capture at `path`, or standard input for `-`, as one of so many `captures`.
    pub(super) fn open(path: &Path, captures: usize) -> Result<Self, CaptureError> {
        if path.as_os_str() == "-" {
            return Self::streamed("standard input".to_owned(), None, Box::new(io::stdin()), true, captures);
        }
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok((file, metadata)) }
        });
        let (file, metadata) = opened.map_err(|source| CaptureError::Open { file: name.clone(), source })?;
        let regular = metadata.is_file();
        // The files of /proc and their like say that they are empty.
        let length = (regular && metadata.len() > 0).then_some(metadata.len());
        Self::streamed(name, length, Box::new(file), !regular, captures)
    }

    /// Reads a capture from `raw`; `interactive` if its bytes may be long in coming.
    pub(super) fn streamed(
        name: String,
        length: Option<u64>,
        raw: Box<dyn Read + Send>,
        interactive: bool,
        captures: usize,
    ) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::Read { file: name.clone(), source };
        let mut stream = Stream::new(raw, interactive, captures).map_err(failed)?;
        match stream.need(pcap::HEADER).map_err(failed)? {
            Supply::Damaged(reason) => return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason))),
            Supply::Cut if stream.window().is_empty() => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Supply::Ready | Supply::Ended | Supply::Cut => {}
        }
        let (format, at) = Format::detect(&name, stream.window())?;
        stream.consume(at);
        let input = Input::Open { stream: Box::new(stream), at: at as u64 };
        Ok(Self { name, length, interactive, input, format, tally: Tally::default(), reported: false })
    }

    /// How many bytes the capture has on disk, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether its bytes may be long in coming.
    pub(super) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// How many bytes of it were consumed.
    pub(super) fn position(&self) -> u64 {
        match &self.input {
            Input::Open { stream, .. } => stream.position(),
            Input::Over { position } => *position,
        }
    }

    /// Whether all packets were delivered.
    pub(super) fn over(&self) -> bool {
        matches!(self.input, Input::Over { .. })
    }

    /// Adds packets to `batch` until it has `limit`, or at least `least` and no more are at hand, or the capture is
    /// over.
    pub(super) fn fill(
        &mut self,
        batch: &mut Batch,
        least: usize,
        limit: usize,
        counters: &mut Counters,
    ) -> Result<(), CaptureError> {
        loop {
            let stop = match &mut self.input {
                Input::Over { .. } => return Ok(()),
                Input::Open { stream, at } => {
                    let (block, base) = stream.block();
                    let block = batch.attach(block);
                    let mut sink = Sink { descriptors: &mut batch.descriptors, limit, block, base };
                    let scan = self.format.scan(stream.window(), &mut sink, &mut self.tally);
                    stream.consume(scan.consumed);
                    *at += scan.consumed as u64;
                    scan.stop
                }
            };
            self.settle(counters);
            match stop {
                Stop::Full => return Ok(()),
                Stop::Need(count) => {
                    // The batch goes first: what is read next can then take the place of what it describes.
                    if batch.len() >= least {
                        return Ok(());
                    }
                    self.supply(count, counters)?;
                }
                Stop::Damaged(reason) => {
                    counters.malformed_blocks += 1;
                    self.end(counters, &reason);
                }
            }
        }
    }

    /// Gets `count` bytes into the window, or ends the capture.
    fn supply(&mut self, count: usize, counters: &mut Counters) -> Result<(), CaptureError> {
        let (supplied, left) = match &mut self.input {
            Input::Over { .. } => return Ok(()),
            Input::Open { stream, .. } => (stream.need(count), stream.window().len()),
        };
        match supplied {
            Ok(Supply::Ready) => {}
            Ok(Supply::Ended) if left == 0 => self.close(),
            Ok(Supply::Ended) => {
                counters.truncated_files += 1;
                self.end(counters, &format!("breaks off {left} bytes into a packet or block"));
            }
            Ok(Supply::Cut) => {
                counters.truncated_files += 1;
                self.end(counters, "the compressed stream breaks off");
            }
            Ok(Supply::Damaged(reason)) => {
                counters.malformed_blocks += 1;
                self.end(counters, &format!("the compressed stream is damaged ({reason})"));
            }
            Err(source) => {
                self.close();
                return Err(CaptureError::Read { file: self.name.clone(), source });
            }
        }
        Ok(())
    }

    /// Ends the capture early and says why.
    fn end(&mut self, counters: &mut Counters, reason: &str) {
        let at = match &self.input {
            Input::Open { at, .. } => *at,
            Input::Over { position } => *position,
        };
        counters.warn(|| format!("{}: {reason}, at byte {at}; nothing after it is read", self.name));
        self.close();
    }

    /// Lets go of the file.
    fn close(&mut self) {
        let position = self.length.unwrap_or_else(|| self.position());
        self.input = Input::Over { position };
    }

    /// Hands the parser's own counts on.
    fn settle(&mut self, counters: &mut Counters) {
        counters.skipped_blocks += self.tally.skipped;
        counters.malformed_blocks += self.tally.malformed;
        if let Some(reason) = self.tally.first.filter(|_| !self.reported) {
            self.reported = true;
            counters.warn(|| format!("{}: {reason}; such blocks are skipped and counted", self.name));
        }
        self.tally = Tally::default();
    }
}

impl Format {
    /// Recognises a capture by its first bytes and says how many of them are its header.
    fn detect(name: &str, bytes: &[u8]) -> Result<(Self, usize), CaptureError> {
        let detected = match Pcap::detect(bytes) {
            Some(detected) => Some((detected.map(Self::Pcap), pcap::HEADER)),
            // A section header is a block like others and is read as one.
            None => Pcapng::detect(bytes).map(|detected| (detected.map(Self::Pcapng), 0)),
        };
        let not_capture = |start| Err(CaptureError::NotCapture { file: name.to_owned(), start });
        match detected {
            Some((Detected::Is(format), header)) => Ok((format, header)),
            Some((Detected::Unsupported { format, major, minor }, _)) => {
                Err(CaptureError::UnsupportedVersion { file: name.to_owned(), format, major, minor })
            }
            Some((Detected::Cut(format), _)) => {
                not_capture(format!("starts like a {format} file but has only {} bytes", bytes.len()))
            }
            None if bytes.is_empty() => not_capture("it is empty".to_owned()),
            None => {
                let start: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                not_capture(format!("starts with {}", start.join(" ")))
            }
        }
    }

    #[inline]
    fn scan(&mut self, window: &[u8], sink: &mut Sink<'_>, tally: &mut Tally) -> Scan {
        match self {
            Self::Pcap(pcap) => pcap.scan(window, sink),
            Self::Pcapng(pcapng) => pcapng.scan(window, sink, tally),
        }
    }
}
