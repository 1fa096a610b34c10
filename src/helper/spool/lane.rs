//! One class's lines on disk: files of bounded size, oldest first, each named by the number of its first line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

const BEGIN: &[u8] = b"{\"seq\":";

/// Few lines are longer.
const LINE: usize = 256;

/// One file.
#[derive(Debug)]
struct Segment {
    first: u64,
    last: u64,
    /// On disk and in the write buffer.
    bytes: u64,
    lines: u64,
}

/// The file that is read.
#[derive(Debug)]
struct Reader {
    first: u64,
    input: BufReader<File>,
}

/// The lane. Its last segment may be open for writing.
#[derive(Debug)]
pub(super) struct Lane {
    folder: PathBuf,
    name: &'static str,
    /// A segment of this size is not written on.
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    writer: Option<File>,
    /// Lines of the last segment that are not on disk yet.
    buffer: Vec<u8>,
    buffered_lines: u64,
    reader: Option<Reader>,
    /// The line that is read next, with its number.
    ahead: Option<(u64, Vec<u8>)>,
}

impl Lane {
    pub(super) fn new(folder: &Path, name: &'static str, segment_bytes: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            name,
            segment_bytes,
            segments: VecDeque::new(),
            writer: None,
            buffer: Vec::new(),
            buffered_lines: 0,
            reader: None,
            ahead: None,
        }
    }

    /// Finds the segments of an earlier run. Gives how many lines had to be given up: those that were cut short.
    pub(super) fn recover(&mut self) -> io::Result<u64> {
        let mut firsts: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(self.name)?.strip_prefix('-'));
            let number = number.and_then(|rest| rest.strip_suffix(".jsonl"));
            firsts.extend(number.and_then(|digits| digits.parse::<u64>().ok()));
        }
        firsts.sort_unstable();
        let mut lost = 0;
        for first in firsts {
            lost += self.recover_segment(first)?;
        }
        Ok(lost)
    }

    fn recover_segment(&mut self, first: u64) -> io::Result<u64> {
        let path = self.path(first);
        let mut input = BufReader::new(File::open(&path)?);
        let mut segment = Segment { first, last: 0, bytes: 0, lines: 0 };
        let mut line = Vec::new();
        let mut torn = 0;
        loop {
            line.clear();
            let length = input.read_until(b'\n', &mut line)?;
            // Whatever follows a line that is none was not written by us, or not to its end.
            match number(&line).filter(|seq| line.ends_with(b"\n") && *seq > segment.last) {
                Some(seq) => {
                    segment.last = seq;
                    segment.lines += 1;
                    segment.bytes += length as u64;
                }
                None if length == 0 => break,
                None => {
                    torn = 1;
                    break;
                }
            }
        }
        drop(input);
        let after = self.segments.back().is_none_or(|before| before.last < segment.first);
        if segment.lines == 0 || !after {
            std::fs::remove_file(&path)?;
            return Ok(torn + segment.lines);
        }
        if torn > 0 {
            File::options().write(true).open(&path)?.set_len(segment.bytes)?;
        }
        self.segments.push_back(segment);
        Ok(torn)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The number of the newest line.
    pub(super) fn last(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.last)
    }

    /// Adds a line to the write buffer.
    pub(super) fn append(&mut self, seq: u64, line: &str) {
        let length = line.len() as u64;
        // The buffer holds lines of the last segment only, which is closed once they are on disk.
        match self.segments.back_mut() {
            Some(segment) if self.writer.is_some() || self.buffered_lines > 0 => {
                segment.last = seq;
                segment.lines += 1;
                segment.bytes += length;
            }
            _ => self.segments.push_back(Segment { first: seq, last: seq, bytes: length, lines: 1 }),
        }
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffered_lines += 1;
    }

    /// Brings the write buffer to the disk; with an error come the lines that were given up.
    pub(super) fn flush(&mut self) -> Result<(), (u64, io::Error)> {
        if self.buffered_lines == 0 {
            return Ok(());
        }
        let result = self.write_buffer();
        let lines = std::mem::take(&mut self.buffered_lines);
        let bytes = self.buffer.len() as u64;
        self.buffer.clear();
        if let Err(error) = result {
            self.forget_unwritten(lines, bytes);
            return Err((lines, error));
        }
        if self.segments.back().is_some_and(|segment| segment.bytes >= self.segment_bytes) {
            self.writer = None;
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let Some(first) = self.segments.back().map(|segment| segment.first) else { return Ok(()) };
        if self.writer.is_none() {
            self.writer = Some(File::options().create(true).append(true).open(self.path(first))?);
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(&self.buffer))
    }

    /// The last lines did not reach the disk, or only a part of them did: the segment ends before them.
    fn forget_unwritten(&mut self, lines: u64, bytes: u64) {
        self.writer = None;
        let Some(mut segment) = self.segments.pop_back() else { return };
        segment.lines = segment.lines.saturating_sub(lines);
        segment.bytes = segment.bytes.saturating_sub(bytes);
        let path = self.path(segment.first);
        if segment.lines == 0 {
            let _ = std::fs::remove_file(path);
            return;
        }
        if let Ok(file) = File::options().write(true).open(path) {
            let _ = file.set_len(segment.bytes);
        }
        // `last` is now a number that no line has; it only has to be no less than the last line's.
        self.segments.push_back(segment);
    }

    /// The number of the next line after `cursor`, if there is one on disk.
    pub(super) fn peek(&mut self, cursor: u64) -> io::Result<Option<u64>> {
        loop {
            if let Some((seq, _)) = &self.ahead
                && *seq > cursor
            {
                return Ok(Some(*seq));
            }
            self.ahead = None;
            let Some(mut reader) = self.reader.take() else {
                let Some(segment) = self.segments.iter().find(|segment| segment.last > cursor) else { return Ok(None) };
                let first = segment.first;
                match File::open(self.path(first)) {
                    Ok(file) => self.reader = Some(Reader { first, input: BufReader::new(file) }),
                    // Nothing of it has been written yet.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
                continue;
            };
            let mut line = Vec::with_capacity(LINE);
            let length = reader.input.read_until(b'\n', &mut line)?;
            let is_last = self.segments.back().is_none_or(|last| last.first == reader.first);
            if line.ends_with(b"\n") {
                self.reader = Some(reader);
                self.ahead = number(&line).map(|seq| (seq, line));
            } else if is_last {
                // A line that is being written right now is read again from its beginning.
                reader.input.seek(SeekFrom::Current(-i64::try_from(length).unwrap_or(0)))?;
                self.reader = Some(reader);
                return Ok(None);
            } else {
                let next =
                    self.segments.iter().find(|segment| segment.first > reader.first).map(|segment| segment.first);
                let Some(first) = next else { return Ok(None) };
                match File::open(self.path(first)) {
                    Ok(file) => self.reader = Some(Reader { first, input: BufReader::new(file) }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.reader = Some(reader);
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Moves the line that was peeked at to `lines`.
    pub(super) fn take(&mut self, lines: &mut Vec<u8>) {
        if let Some((_, line)) = self.ahead.take() {
            lines.extend_from_slice(&line);
        }
    }

    /// Reads from the beginning again.
    pub(super) fn rewind(&mut self) {
        self.reader = None;
        self.ahead = None;
    }

    /// Removes the segments that hold nothing after `seq`. The one that is written stays until it has grown.
    pub(super) fn acknowledge(&mut self, seq: u64) -> io::Result<()> {
        while let Some(segment) = self.segments.front() {
            let is_written = self.segments.len() == 1 && (self.writer.is_some() || self.buffered_lines > 0);
            if segment.last > seq || (is_written && segment.bytes < self.segment_bytes / 2) || self.holds_buffer() {
                break;
            }
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn holds_buffer(&self) -> bool {
        self.segments.len() == 1 && self.buffered_lines > 0
    }

    /// Removes the oldest segment; gives how many of its lines come after `acknowledged`.
    pub(super) fn give_up_oldest(&mut self, acknowledged: u64) -> io::Result<u64> {
        let Some(segment) = self.segments.front() else { return Ok(0) };
        let mut lines = segment.lines;
        if segment.last <= acknowledged {
            lines = 0;
        } else if segment.first <= acknowledged
            && let Ok(file) = File::open(self.path(segment.first))
        {
            // Cut in two by the acknowledgement: only its lines tell how many come after.
            let known = BufReader::new(file).split(b'\n').map_while(Result::ok);
            let before = known.filter(|line| number(line).is_some_and(|seq| seq <= acknowledged)).count();
            lines = lines.saturating_sub(before as u64);
        }
        self.remove_oldest()?;
        Ok(lines)
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        if self.segments.len() == 1 {
            self.writer = None;
            self.buffer.clear();
            self.buffered_lines = 0;
        }
        let Some(segment) = self.segments.pop_front() else { return Ok(()) };
        if self.reader.as_ref().is_some_and(|reader| reader.first == segment.first) {
            self.reader = None;
            self.ahead = None;
        }
        match std::fs::remove_file(self.path(segment.first)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What being killed costs: the lines that are not on disk.
    #[cfg(test)]
    pub(super) fn lose_buffer(&mut self) {
        self.buffer.clear();
        self.buffered_lines = 0;
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{}-{first:020}.jsonl", self.name))
    }
}

/// The number that a line begins with.
fn number(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(BEGIN)?;
    let digits = rest.get(..rest.iter().position(|byte| !byte.is_ascii_digit())?)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
