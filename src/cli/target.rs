//! Where a live sensor's results go: a file, or standard output. A disk that is full costs lines, which are counted, and not
//! the sensor.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;

/// The place, with what it did not take.
pub struct Target {
    file: File,
    /// The rest of the line at which writing stopped; it goes first, so that no half line is left between others.
    rest: Vec<u8>,
    /// What is in the file of that line.
    begun: u64,
    lost: u64,
}

impl Target {
    /// Opens the file, to append to it; standard output without one.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let (file, rest) = match path {
            Some(path) => open(path)?,
            None => {
                let file = io::stdout().as_fd().try_clone_to_owned().context("no standard output")?;
                (File::from(file), Vec::new())
            }
        };
        Ok(Self { file, rest, begun: 0, lost: 0 })
    }

    /// Opens the file anew: from now on, all goes there.
    ///
    /// # Errors
    /// If it cannot be opened; all goes on as before.
    pub fn reopen(&mut self, path: &Path) -> anyhow::Result<()> {
        let (file, rest) = open(path)?;
        self.settle();
        (self.file, self.rest) = (file, rest);
        Ok(())
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether the last attempt to write failed.
    pub fn fails(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Gives up the line that could not be written whole, and takes back what is there of it.
    pub fn settle(&mut self) {
        if self.rest.is_empty() {
            return;
        }
        // A line end alone, behind what a run before left, is no loss.
        self.lost += u64::from(self.begun > 0 || self.rest != b"\n");
        let length = self.file.metadata().ok().filter(|data| data.is_file()).map(|data| data.len());
        if let Some(length) = length.and_then(|length| length.checked_sub(self.begun))
            && self.begun > 0
        {
            // Where it cannot be taken back, the next run ends the line.
            let _ = self.file.set_len(length);
        }
        (self.rest, self.begun) = (Vec::new(), 0);
    }

    /// Writes the rest; whether it is all there now.
    fn catch_up(&mut self) -> io::Result<bool> {
        if self.rest.is_empty() {
            return Ok(true);
        }
        let (written, failed) = put(&mut self.file, &self.rest);
        self.rest.drain(..written.min(self.rest.len()));
        self.begun += written as u64;
        match failed {
            None => self.begun = 0,
            Some(error) if error.kind() == ErrorKind::BrokenPipe => return Err(error),
            Some(_) => {}
        }
        Ok(self.rest.is_empty())
    }
}

impl Write for Target {
    /// Takes whole lines, written or not. An error is only that nobody reads any more.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if !self.catch_up()? {
            self.lost += count(lines);
            return Ok(lines.len());
        }
        let (written, failed) = put(&mut self.file, lines);
        match failed {
            None => {}
            Some(error) if error.kind() == ErrorKind::BrokenPipe => return Err(error),
            Some(_) => {
                let (there, left) = lines.split_at_checked(written).unwrap_or((lines, &[]));
                let line = left.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
                self.rest = line.to_owned();
                self.begun = there.rsplit(|byte| *byte == b'\n').next().unwrap_or_default().len() as u64;
                self.lost += count(left.get(line.len()..).unwrap_or_default());
            }
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.catch_up().map(drop)
    }
}

fn open(path: &Path) -> anyhow::Result<(File, Vec<u8>)> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
    // A run that was killed, or a disk that failed, may have left a half line.
    let rest = if ends_in_a_line(&file, path).unwrap_or(false) { b"\n".to_vec() } else { Vec::new() };
    Ok((file, rest))
}

/// Whether the last line of a file, which others than regular ones have not, lacks its end.
fn ends_in_a_line(file: &File, path: &Path) -> io::Result<bool> {
    let data = file.metadata()?;
    if !data.is_file() || data.len() == 0 {
        return Ok(false);
    }
    let (mut reading, mut last) = (File::open(path)?, [0]);
    reading.seek(SeekFrom::End(-1))?;
    reading.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Writes as much as it can: how much that is, and what stopped it.
fn put(to: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
        match to.write(left) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

fn count(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full.
    fn full() -> Target {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        Target { file, rest: Vec::new(), begun: 0, lost: 0 }
    }

    #[test]
    fn what_a_full_disk_refuses_is_counted_and_the_first_line_of_it_waits() {
        let mut target = full();
        assert_eq!(target.write(b"one\ntwo\nthree\n").unwrap(), 14);
        target.write_all(b"four\n").unwrap();
        assert_eq!((target.fails(), target.lost(), target.rest.as_slice()), (true, 3, &b"one\n"[..]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        target.file = File::create(&path).unwrap();
        target.write_all(b"five\n").unwrap();
        assert_eq!((target.fails(), target.lost()), (false, 3));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nfive\n");
    }

    #[test]
    fn a_line_that_is_given_up_is_taken_back_and_a_half_one_of_before_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "whole\nha").unwrap();
        let mut target = Target { file: File::options().append(true).open(&path).unwrap(), ..full() };
        (target.rest, target.begun) = (b"lf\n".to_vec(), 2);
        target.settle();
        assert_eq!((target.lost(), std::fs::read_to_string(&path).unwrap()), (1, "whole\n".to_owned()));
        std::fs::write(&path, "ha").unwrap();
        target.reopen(&path).unwrap();
        target.write_all(b"next\n").unwrap();
        assert_eq!((target.lost(), std::fs::read_to_string(&path).unwrap()), (1, "ha\nnext\n".to_owned()));
    }

    #[test]
    fn a_reader_that_went_away_is_an_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut target = Target { file, ..full() };
        assert_eq!(target.write(b"one\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(target.lost(), 0);
    }
}
