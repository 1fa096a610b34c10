//! Where events wait on disk until the sensor has acknowledged them.
//!
//! Event bodies come in and get their sequence number; whole lines come out in the order of their numbers. Three lanes,
//! one for each [`Class`], are files of lines side by side, so that what matters least can be given up first.
//! Promises: never more bytes on disk than the bound; a number is never used twice in a stream, whatever ends the
//! helper; every line that is given up is counted.

mod lane;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use lane::Lane;
pub use state::Dropped;
use state::State;

/// What an event tells of; the first is given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A file was touched.
    File,
    /// A process started or ended.
    Process,
    /// A connection was opened.
    Connection,
}

impl Class {
    const ALL: [Self; 3] = [Self::File, Self::Process, Self::Connection];

    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Process => "process",
            Self::Connection => "connection",
        }
    }
}

/// Numbers are reserved on disk in blocks, so that a crash costs a gap and never a number used twice.
const BLOCK: u64 = 10_000;

/// What the state file may take of the bound.
const STATE_BYTES: u64 = 4 << 10;

/// The spool.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    state: State,
    /// Whether the state on disk is behind.
    stale: bool,
    next: u64,
    acknowledged: u64,
    /// The highest number that was ever read.
    read: u64,
    limit: u64,
    lanes: [Lane; 3],
    /// The latest heartbeat; only ever in memory.
    heartbeat: Option<(u64, String)>,
    /// The number of the last line that this reading has given.
    cursor: u64,
    /// Held as long as the spool is open.
    _lock: std::fs::File,
}

impl Spool {
    /// Opens or makes the spool in `folder`, of at most `limit` bytes. `stream` is the id of a stream that must be begun.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written, or another process has it open.
    pub fn open(folder: &Path, limit: u64, stream: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        lock.try_lock().map_err(|_| io::Error::other("another helper uses this folder"))?;
        let mut state = State::load(&folder.join("state.json"), stream)?;
        let limit = limit.saturating_sub(STATE_BYTES);
        let segment = (limit / 32).clamp(4 << 10, 1 << 20);
        let mut lanes = Class::ALL.map(|class| Lane::new(folder, class.name(), segment));
        for (lane, lost) in lanes.iter_mut().zip(state.dropped.all_mut()) {
            *lost += lane.recover()?;
        }
        let last = lanes.iter().filter_map(Lane::last).max().unwrap_or(0);
        let next = state.reserved.max(last.saturating_add(1)).max(1);
        let mut spool = Self {
            folder: folder.to_owned(),
            read: next - 1,
            state,
            stale: true,
            next,
            acknowledged: 0,
            limit,
            lanes,
            heartbeat: None,
            cursor: 0,
            _lock: lock,
        };
        spool.make_room(0, Class::Connection)?;
        spool.save()?;
        Ok(spool)
    }

    /// The stream's id.
    pub fn stream(&self) -> &str {
        &self.state.stream
    }

    /// What was given up since the stream began, by class.
    pub fn dropped(&self) -> Dropped {
        self.state.dropped
    }

    /// How many lines were read for the first time since the stream began.
    pub fn sent(&self) -> u64 {
        self.state.sent
    }

    /// How many bytes the lanes hold.
    pub fn bytes(&self) -> u64 {
        self.lanes.iter().map(Lane::bytes).sum()
    }

    /// Whether anything waits for its acknowledgement, heartbeats aside.
    pub fn is_waiting(&self) -> bool {
        self.lanes.iter().filter_map(Lane::last).any(|last| last > self.acknowledged)
    }

    /// Adds an event whose body is the inside of a JSON object, without braces. Gives its number, or nothing where the
    /// event itself had to be given up. It is on disk after [`flush`](Self::flush).
    ///
    /// # Errors
    /// If the disk refuses; the event is then counted as given up.
    pub fn append(&mut self, class: Class, body: &str) -> io::Result<Option<u64>> {
        let seq = self.number();
        let line = line(seq, body);
        if !self.make_room(line.len() as u64, class)? {
            self.count_lost(class as usize, 1);
            return Ok(None);
        }
        if self.next > self.state.reserved {
            self.save()?;
        }
        if let Some(lane) = self.lanes.get_mut(class as usize) {
            lane.append(seq, &line);
        }
        Ok(Some(seq))
    }

    /// Puts a heartbeat in the place of the one before.
    pub fn set_heartbeat(&mut self, body: &str) {
        let seq = self.number();
        self.heartbeat = Some((seq, line(seq, body)));
    }

    /// Brings what was added to the disk, and what was counted.
    ///
    /// # Errors
    /// If the disk refuses; what could not be written is given up and counted.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for at in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            if let Err((lost, error)) = lane.flush() {
                self.count_lost(at, lost);
                result = Err(error);
            }
        }
        if self.stale {
            self.save()?;
        }
        result
    }

    /// The next lines after those already read, in order: as many whole lines as reach `most` bytes, at least one.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn read(&mut self, most: usize, lines: &mut Vec<u8>) -> io::Result<()> {
        // What was added before and is not on the disk yet has lower numbers: it must not be overtaken.
        self.flush()?;
        let begin = lines.len();
        while lines.len().saturating_sub(begin) < most {
            let mut first: Option<(u64, usize)> = None;
            for (at, lane) in self.lanes.iter_mut().enumerate() {
                if let Some(seq) = lane.peek(self.cursor)?
                    && first.is_none_or(|(lowest, _)| seq < lowest)
                {
                    first = Some((seq, at));
                }
            }
            let beat = self.heartbeat.as_ref().filter(|(seq, _)| *seq > self.cursor);
            let seq = match (first, beat) {
                (lane, Some((seq, line))) if lane.is_none_or(|(lowest, _)| *seq < lowest) => {
                    lines.extend_from_slice(line.as_bytes());
                    *seq
                }
                (Some((seq, at)), _) => {
                    if let Some(lane) = self.lanes.get_mut(at) {
                        lane.take(lines);
                    }
                    self.state.sent += u64::from(seq > self.read);
                    seq
                }
                (None, _) => break,
            };
            self.cursor = seq;
            self.read = self.read.max(seq);
        }
        Ok(())
    }

    /// Begins to read again, after what is acknowledged.
    pub fn rewind(&mut self) {
        self.cursor = self.acknowledged;
        self.lanes.iter_mut().for_each(Lane::rewind);
    }

    /// The sensor has stored everything up to `seq`: it goes from the disk. A number that was not used yet comes from a
    /// spool that was lost: what is to come is numbered after it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn acknowledge(&mut self, seq: u64) -> io::Result<()> {
        self.acknowledged = self.acknowledged.max(seq);
        if seq >= self.next {
            self.next = seq.saturating_add(1);
            self.save()?;
        }
        if self.heartbeat.as_ref().is_some_and(|(beat, _)| *beat <= seq) {
            self.heartbeat = None;
        }
        for lane in &mut self.lanes {
            lane.acknowledge(self.acknowledged)?;
        }
        Ok(())
    }

    fn number(&mut self) -> u64 {
        let seq = self.next;
        self.next = self.next.saturating_add(1);
        seq
    }

    /// Gives up what matters less than `class` or is older and matters the same, until `bytes` more fit.
    /// Whether they do.
    fn make_room(&mut self, bytes: u64, class: Class) -> io::Result<bool> {
        while self.bytes().saturating_add(bytes) > self.limit {
            let at = Class::ALL
                .iter()
                .filter(|other| **other <= class)
                .map(|other| *other as usize)
                .find(|at| self.lanes.get(*at).is_some_and(|lane| lane.bytes() > 0));
            let Some((at, lane)) = at.and_then(|at| Some((at, self.lanes.get_mut(at)?))) else { return Ok(false) };
            let lost = lane.give_up_oldest(self.acknowledged)?;
            self.count_lost(at, lost);
            if self.stale {
                self.save()?;
            }
        }
        Ok(true)
    }

    fn count_lost(&mut self, lane: usize, lines: u64) {
        if let Some(count) = self.state.dropped.all_mut().into_iter().nth(lane) {
            *count += lines;
            self.stale |= lines > 0;
        }
    }

    fn save(&mut self) -> io::Result<()> {
        self.state.reserved = self.next.saturating_add(BLOCK);
        self.state.save(&self.folder.join("state.json"))?;
        self.stale = false;
        Ok(())
    }
}

impl Drop for Spool {
    /// Best effort: who needs to know calls [`Spool::flush`].
    fn drop(&mut self) {
        let _ = self.flush();
        // Nothing is in flight any more, so the next number can be exact.
        self.state.reserved = self.next;
        let _ = self.state.save(&self.folder.join("state.json"));
    }
}

/// A line of the stream. The number stands first, where [`lane`] finds it.
fn line(seq: u64, body: &str) -> String {
    format!("{{\"seq\":{seq},{body}}}\n")
}
