//! Endpoint events for a live sensor: files that are read to their end, and then on as they grow.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::Config;
use crate::endpoint::{Counters, Following, History, Intake, IntakeError, printable};

/// Bytes that are read of a file at a time, so that a large one does not hold up everything else.
const AT_ONCE: u64 = 1 << 20;

/// Files that are followed.
pub struct Events {
    intake: Intake,
    files: Vec<(File, Following)>,
    buffer: Vec<u8>,
}

impl Events {
    /// Opens the files and reads what they hold. A compressed one is read once.
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub fn open(paths: &[PathBuf], config: &Config, history: &mut History) -> anyhow::Result<Self> {
        let mut intake = Intake::new(config.endpoint.max_line);
        let mut files = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            let what = || format!("{name}: cannot open the endpoint events");
            if path.as_path() == Path::new("-") {
                anyhow::bail!("standard input: endpoint events of a live sensor are files");
            }
            let mut file = File::open(path).with_context(what)?;
            anyhow::ensure!(file.metadata().with_context(what)?.is_file(), "{name}: not a file");
            let mut magic = Vec::new();
            file.by_ref().take(8).read_to_end(&mut magic).with_context(what)?;
            file.rewind().with_context(what)?;
            if magic.starts_with(&[0x1f, 0x8b]) || magic.starts_with(b"ElfFile\0") {
                intake.read(&name, BufReader::new(file), &mut |event| history.insert(event))?;
            } else {
                files.push((file, Following::new(name)));
            }
        }
        let mut events = Self { intake, files, buffer: Vec::new() };
        while events.follow(history, &mut |line| eprintln!("outfall: {line}")) {}
        Ok(events)
    }

    /// Reads what has come since; whether there is more.
    pub fn follow(&mut self, history: &mut History, log: &mut impl FnMut(String)) -> bool {
        let mut more = false;
        let intake = &mut self.intake;
        let buffer = &mut self.buffer;
        self.files.retain_mut(|(file, following)| {
            buffer.clear();
            let read = file.by_ref().take(AT_ONCE).read_to_end(buffer);
            more |= buffer.len() as u64 == AT_ONCE;
            let taken = intake.follow(following, buffer, &mut |event| history.insert(event));
            let broken = match (read, taken) {
                (Err(error), _) => Some(error.to_string()),
                (_, Err(IntakeError::Read { source, .. })) => Some(source.to_string()),
                (_, Err(error)) => Some(error.to_string()),
                (Ok(_), Ok(())) => None,
            };
            if let Some(error) = &broken {
                log(format!("warning: endpoint events broke off: {}", printable(error)));
            }
            broken.is_none()
        });
        for warning in self.intake.take_warnings() {
            log(format!("warning: {}", printable(&warning.to_string())));
        }
        more
    }

    /// What came in so far.
    pub fn counters(&self) -> Counters {
        self.intake.counters()
    }
}
