//! A file of alerts, one a line, and the older ones that were put aside: `alerts.json`, `alerts.json.1`, `alerts.json.2.gz`.
//!
//! A line is in the file whole or not at all: what a full disk or a kill left of one is taken off again, and the alert,
//! which is still in the outbox, is written anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::AlertFile;

/// How far back the end of the last whole line is looked for.
const LAST_LINE: u64 = 4 << 20;

/// A file at work.
#[derive(Debug)]
pub struct Lines {
    settings: AlertFile,
    file: File,
    bytes: u64,
    began: SystemTime,
}

impl Lines {
    /// Opens it, or makes it, and takes off what is no whole line.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(settings: &AlertFile) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&settings.path)?;
        let metadata = file.metadata()?;
        let bytes = whole(&mut file, metadata.len())?;
        if bytes < metadata.len() {
            file.set_len(bytes)?;
        }
        let began = metadata.created().unwrap_or_else(|_| SystemTime::now());
        Ok(Self { settings: settings.clone(), file, bytes, began })
    }

    /// Writes a line, in a new file if this one would be too long.
    ///
    /// # Errors
    /// If the disk does not take it; nothing of it is left then.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.bytes > 0 && self.bytes + length > self.settings.max_bytes.0 {
            self.rotate()?;
        }
        let written = self.file.write_all(&[line, b"\n"].concat());
        if written.is_err() {
            // What cannot be taken off now is when the file is opened next.
            let _ = self.file.set_len(self.bytes);
        } else {
            self.bytes += length;
        }
        written
    }

    /// Begins a new file if this one is too old.
    ///
    /// # Errors
    /// If it cannot be put aside.
    pub fn check(&mut self) -> io::Result<()> {
        let age = self.began.elapsed().unwrap_or_default();
        if self.bytes > 0 && age >= Duration::from_nanos(self.settings.max_age.0) { self.rotate() } else { Ok(()) }
    }

    /// Has all that was written on the disk.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn settle(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn aside(&self, number: u64) -> PathBuf {
        PathBuf::from(format!("{}.{number}", self.settings.path))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.settle()?;
        for number in (1..=self.settings.keep).rev() {
            for (from, to) in [
                (self.aside(number), self.aside(number + 1)),
                (compressed(&self.aside(number)), compressed(&self.aside(number + 1))),
            ] {
                let moved =
                    if number == self.settings.keep { std::fs::remove_file(&from) } else { std::fs::rename(&from, to) };
                match moved {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        let first = self.aside(1);
        std::fs::rename(&self.settings.path, &first)?;
        let settings = self.settings.clone();
        *self = Self::open(&settings)?;
        // The new file's own time is that of the system's clock; this is one that never went back.
        self.began = SystemTime::now();
        if settings.gzip {
            // One that could not be compressed, for want of room, is kept as it is.
            let _ = compress(&first);
        }
        Ok(())
    }
}

fn compressed(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.gz", path.display()))
}

fn compress(path: &Path) -> io::Result<()> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let write = || {
        let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&part)?;
        let mut encoder = GzEncoder::new(to, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish()?.sync_data()
    };
    let written = write().and_then(|()| std::fs::rename(&part, compressed(path)));
    match written {
        Ok(()) => std::fs::remove_file(path),
        Err(error) => {
            // Half of it is of no use to anybody.
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

/// How long the file is without what was not written to its end.
fn whole(file: &mut File, length: u64) -> io::Result<u64> {
    let begin = length.saturating_sub(LAST_LINE);
    file.seek(SeekFrom::Start(begin))?;
    let mut end = Vec::new();
    file.take(length - begin).read_to_end(&mut end)?;
    match end.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => Ok(begin + at as u64 + 1),
        None if begin == 0 => Ok(0),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "it has no lines; it is no file of alerts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;
    use crate::net::{ByteSize, Span};

    fn settings(folder: &Path, gzip: bool) -> AlertFile {
        AlertFile {
            path: folder.join("alerts.json").display().to_string(),
            format: Format::Ecs,
            minimum_severity: 0,
            max_bytes: ByteSize(20),
            max_age: Span::seconds(3_600),
            keep: 2,
            gzip,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_put_aside_by_size_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Lines::open(&settings(folder.path(), false)).unwrap();
        for n in 0..10 {
            lines.write(format!("alert {n}").as_bytes()).unwrap();
        }
        assert_eq!(names(folder.path()), ["alerts.json", "alerts.json.1", "alerts.json.2"]);
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("alerts.json"), "alert 8\nalert 9\n");
        assert_eq!(read("alerts.json.2"), "alert 4\nalert 5\n");
    }

    #[test]
    fn files_that_are_too_old_are_put_aside_and_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Lines::open(&settings(folder.path(), true)).unwrap();
        lines.check().unwrap();
        for n in 0..4 {
            lines.write(format!("alert {n}").as_bytes()).unwrap();
            lines.began -= Duration::from_secs(3_601);
            lines.check().unwrap();
        }
        assert_eq!(names(folder.path()), ["alerts.json", "alerts.json.1.gz", "alerts.json.2.gz"]);
        let mut text = String::new();
        let file = File::open(folder.path().join("alerts.json.1.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "alert 3\n");
    }

    #[test]
    fn what_was_not_written_to_its_end_is_taken_off() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), false);
        for (before, after) in [("one\ntw", "one\nnew\n"), ("on", "new\n"), ("one\n", "one\nnew\n")] {
            std::fs::write(&settings.path, before).unwrap();
            Lines::open(&settings).unwrap().write(b"new").unwrap();
            assert_eq!(std::fs::read_to_string(&settings.path).unwrap(), after);
        }
    }
}
