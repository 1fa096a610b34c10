//! The helper's own log: a file that is renamed when it has grown, so that it never fills a disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::config;
use crate::endpoint::printable;
use crate::net::Timestamp;

/// Writes lines with their time.
#[derive(Debug)]
pub struct Log {
    /// Whether lines are shown on standard error, too.
    shown: bool,
    size: u64,
    keep: u32,
    file: Option<Mutex<Current>>,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    /// Opens the log; `shown` also shows its lines on standard error.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn open(config: &config::Log, shown: bool) -> io::Result<Self> {
        let file =
            if config.file.as_os_str().is_empty() { None } else { Some(Mutex::new(Current::open(&config.file)?)) };
        Ok(Self { shown, size: config.size.0, keep: config.keep, file })
    }

    /// Writes a line. What cannot be written is not worth the helper's end.
    pub fn line(&self, text: &str) {
        let line = format!("{} {}\n", now(), printable(text));
        if self.shown {
            eprint!("{line}");
        }
        let Some(file) = &self.file else { return };
        let mut current = file.lock().unwrap_or_else(PoisonError::into_inner);
        if current.bytes > 0 && current.bytes.saturating_add(line.len() as u64) > self.size {
            // Where it cannot be renamed, it begins anew rather than grow.
            let _ = current.rotate(self.keep);
        }
        if current.file.write_all(line.as_bytes()).is_ok() {
            current.bytes = current.bytes.saturating_add(line.len() as u64);
        }
    }
}

impl Current {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    fn rotate(&mut self, keep: u32) -> io::Result<()> {
        let old = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..keep).rev() {
            let _ = std::fs::rename(old(n), old(n + 1));
        }
        let renamed = if keep == 0 { std::fs::remove_file(&self.path) } else { std::fs::rename(&self.path, old(1)) };
        if renamed.is_err() {
            self.file.set_len(0)?;
        }
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

/// This machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_parts(since.as_secs(), u64::from(since.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ByteSize;

    #[test]
    fn it_keeps_as_many_old_files_as_it_should() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/h.log");
        let config = config::Log { file: file.clone(), size: ByteSize(200), keep: 2 };
        let log = Log::open(&config, false).unwrap();
        for n in 0..40 {
            log.line(&format!("line {n}\x1b"));
        }
        drop(log);
        let mut names: Vec<String> = std::fs::read_dir(file.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["h.log", "h.log.1", "h.log.2"]);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.ends_with("line 39\\u{1b}\n") && text.len() <= 200, "{text}");
    }
}
