//! What was received, on the disk: written before it is acknowledged, and read again when the sensor starts.
//!
//! A folder of segments, files to which blocks are appended. Each begins with how far every host's stream is stored, so
//! that the last one tells what to acknowledge. The oldest are deleted where they are more than the configuration allows,
//! in bytes or in time. What a sudden end left of the last block is cut off.

mod block;

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::net::{ByteSize, Span, Timestamp};
use block::Next;
pub use block::{Entry, Kind, MOST};

/// What may lie in the folder.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all segments.
    pub bytes: ByteSize,
    /// How long a segment is kept after its last block.
    pub time: Span,
    /// Hosts whose place is remembered.
    pub hosts: usize,
}

/// What became of what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCounters {
    /// Blocks written.
    pub blocks: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes on the disk.
    pub size: u64,
    /// Segments deleted because there was no room.
    pub evicted: u64,
    /// Segments deleted because their time was over.
    pub expired: u64,
    /// Bytes that a sudden end left of a block, cut off.
    pub torn: u64,
    /// Times that the disk refused.
    pub refused: u64,
}

/// How far a host's stream is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The stream.
    pub stream: u64,
    /// The highest sequence number that is stored.
    pub seq: u64,
    /// When it was last written to.
    pub at: Timestamp,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// The times of its first and of its last block.
    times: (Timestamp, Timestamp),
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    limits: Limits,
    /// Written to, with what is there already.
    current: Option<(File, Segment)>,
    /// From old to new.
    old: VecDeque<Segment>,
    next: u64,
    marks: HashMap<Arc<str>, Mark>,
    counters: JournalCounters,
}

impl Journal {
    /// Takes up what is in the folder.
    ///
    /// # Errors
    /// If it cannot be read, or a torn end not be cut off.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        let mut numbers: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(number_of));
        }
        numbers.sort_unstable();
        let next = numbers.last().map_or(0, |last| last + 1);
        let mut journal = Self {
            folder: folder.to_owned(),
            limits,
            current: None,
            old: VecDeque::new(),
            next,
            marks: HashMap::new(),
            counters: JournalCounters::default(),
        };
        // The last one begins with every mark; the one before counts if a sudden end left nothing of it.
        let read = numbers.split_off(numbers.len().saturating_sub(2));
        for number in numbers {
            journal.pass_over(number)?;
        }
        for number in read {
            journal.take_up(number)?;
        }
        Ok(journal)
    }

    /// Takes note of a segment that was closed long ago.
    fn pass_over(&mut self, number: u64) -> io::Result<()> {
        let metadata = std::fs::metadata(path_of(&self.folder, number))?;
        let since = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let written = Timestamp::from_parts(since.as_secs(), u64::from(since.subsec_nanos()));
        self.counters.size += metadata.len();
        self.old.push_back(Segment { number, bytes: metadata.len(), times: (written, written) });
        Ok(())
    }

    /// Reads a segment for its marks, and cuts off a torn end.
    fn take_up(&mut self, number: u64) -> io::Result<()> {
        let path = path_of(&self.folder, number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let length = file.metadata()?.len();
        let mut input = BufReader::new(&file);
        let mut segment = Segment { number, bytes: 0, times: (Timestamp(u64::MAX), Timestamp(0)) };
        while let Next::Block(block) = block::read(&mut input)? {
            segment.add(block.at, block.length);
            for entry in block.entries {
                self.mark(&entry, block.at);
            }
        }
        if segment.bytes < length {
            self.counters.torn += length - segment.bytes;
            file.set_len(segment.bytes)?;
            file.sync_all()?;
        }
        self.counters.size += segment.bytes;
        self.old.push_back(segment);
        Ok(())
    }

    /// How far each host's stream is stored.
    pub fn marks(&self) -> impl Iterator<Item = (&Arc<str>, Mark)> {
        self.marks.iter().map(|(host, mark)| (host, *mark))
    }

    /// What is stored from before this start.
    pub fn past(&self) -> Past {
        let numbers = self.old.iter().map(|segment| segment.number).collect();
        Past { folder: self.folder.clone(), numbers }
    }

    /// What became of what was written.
    pub fn counters(&self) -> JournalCounters {
        self.counters
    }

    /// Writes entries and waits until they are on the disk. After an error it may be tried again with the same: what the
    /// first try left is written over.
    ///
    /// # Errors
    /// If the disk refuses, because it is full for example.
    pub fn append(&mut self, entries: &[Entry], now: Timestamp) -> io::Result<()> {
        let result = self.try_append(entries, now);
        self.counters.refused += u64::from(result.is_err());
        result
    }

    fn try_append(&mut self, entries: &[Entry], now: Timestamp) -> io::Result<()> {
        let block = block::encode(entries, now)?;
        let (each, lasts) = (self.segment_bytes(), Span(self.limits.time.0 / 8));
        if self.current.as_ref().is_none_or(|(_, s)| s.bytes >= each || now.since(s.times.0) >= lasts) {
            let begun = self.begin(now)?;
            self.counters.size += begun.1.bytes;
            let full = self.current.replace(begun);
            self.old.extend(full.map(|(_, segment)| segment));
        }
        let Some((file, segment)) = &mut self.current else { return Err(io::Error::other("no segment")) };
        file.write_all_at(&block, segment.bytes)?;
        file.sync_data()?;
        segment.add(now, block.len() as u64);
        self.counters.blocks += 1;
        self.counters.bytes += block.len() as u64;
        self.counters.size += block.len() as u64;
        for entry in entries {
            self.mark(entry, now);
        }
        self.forget_hosts();
        Ok(())
    }

    /// Deletes what is more than may lie there.
    pub fn tidy(&mut self, now: Timestamp) {
        while let Some(oldest) = self.old.front() {
            let expired = now.since(oldest.times.1) > self.limits.time;
            if !expired && self.counters.size <= self.limits.bytes.0 {
                return;
            }
            match std::fs::remove_file(path_of(&self.folder, oldest.number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.counters.refused += 1;
                    return;
                }
                _ => {}
            }
            self.counters.size = self.counters.size.saturating_sub(oldest.bytes);
            *(if expired { &mut self.counters.expired } else { &mut self.counters.evicted }) += 1;
            self.old.pop_front();
        }
    }

    /// A new segment, which begins with every mark.
    fn begin(&mut self, now: Timestamp) -> io::Result<(File, Segment)> {
        let number = self.next;
        let path = path_of(&self.folder, number);
        let marks: Vec<Entry> = self
            .marks
            .iter()
            .map(|(host, mark)| Entry {
                kind: Kind::Mark,
                host: Arc::clone(host),
                stream: mark.stream,
                seq: mark.seq,
                lines: Vec::new(),
            })
            .collect();
        let block = block::encode(&marks, now)?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let written = file
            .write_all_at(&block, 0)
            .and_then(|()| file.sync_all())
            // The name of a new file is on the disk when its folder is.
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(error) = written {
            // An empty file does no harm should it stay.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.next += 1;
        Ok((file, Segment { number, bytes: block.len() as u64, times: (now, now) }))
    }

    /// Small enough that what is deleted at once is a small part of all.
    fn segment_bytes(&self) -> u64 {
        (self.limits.bytes.0 / 16).clamp(64 << 10, 64 << 20)
    }

    fn mark(&mut self, entry: &Entry, at: Timestamp) {
        if entry.kind != Kind::Plain {
            let mark = self.marks.entry(Arc::clone(&entry.host)).or_insert(Mark { stream: entry.stream, seq: 0, at });
            // A helper whose spool was made anew counts from the beginning.
            let seq = if mark.stream == entry.stream { mark.seq.max(entry.seq) } else { entry.seq };
            *mark = Mark { stream: entry.stream, seq, at };
        }
    }

    /// Forgets the hosts that were silent longest, some at a time, as it takes a look at all of them.
    fn forget_hosts(&mut self) {
        if self.marks.len() <= self.limits.hosts {
            return;
        }
        let mut times: Vec<Timestamp> = self.marks.values().map(|mark| mark.at).collect();
        times.sort_unstable();
        let keep = self.limits.hosts - self.limits.hosts / 8;
        let from = times.get(times.len().saturating_sub(keep)).copied().unwrap_or_default();
        self.marks.retain(|_, mark| mark.at >= from);
    }
}

impl Segment {
    fn add(&mut self, at: Timestamp, bytes: u64) {
        self.bytes += bytes;
        self.times = (self.times.0.min(at), self.times.1.max(at));
    }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.journal"))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".journal").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// What was stored by earlier runs, from old to new.
#[derive(Debug)]
pub struct Past {
    folder: PathBuf,
    numbers: Vec<u64>,
}

impl Past {
    /// What lies in a folder now.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut numbers: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(number_of));
        }
        numbers.sort_unstable();
        Ok(Self { folder: folder.to_owned(), numbers })
    }

    /// Hands on every entry with lines; what was deleted meanwhile is passed over. Ends early where `take` says false.
    ///
    /// # Errors
    /// If a segment cannot be read further.
    pub fn read(self, mut take: impl FnMut(Timestamp, Entry) -> bool) -> io::Result<()> {
        for number in self.numbers {
            let mut input = match File::open(path_of(&self.folder, number)) {
                Ok(file) => BufReader::new(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            while let Next::Block(block) = block::read(&mut input)? {
                for entry in block.entries.into_iter().filter(|entry| entry.kind != Kind::Mark) {
                    if !take(block.at, entry) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
