//! What the spool must not forget: its stream, the numbers in use, and what was given up.

use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Lines that were given up, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// File events.
    pub files: u64,
    /// Process events.
    pub processes: u64,
    /// Connection events.
    pub connections: u64,
}

impl Dropped {
    /// All of them.
    pub fn total(self) -> u64 {
        self.files.saturating_add(self.processes).saturating_add(self.connections)
    }

    /// In the order of the lanes.
    pub(super) fn all_mut(&mut self) -> [&mut u64; 3] {
        [&mut self.files, &mut self.processes, &mut self.connections]
    }
}

/// The state, as it stands on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// The stream's id.
    pub stream: String,
    /// No number from here on has been used.
    pub reserved: u64,
    /// Lines that were read for the first time.
    #[serde(default)]
    pub sent: u64,
    /// Lines that were given up.
    #[serde(default)]
    pub dropped: Dropped,
}

impl State {
    /// Reads it, or begins the stream `stream` where there is none that can be read.
    pub(super) fn load(path: &Path, stream: &str) -> io::Result<Self> {
        let new = || Self { stream: stream.to_owned(), reserved: 1, sent: 0, dropped: Dropped::default() };
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| new())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(new()),
            Err(error) => Err(error),
        }
    }

    /// Writes it, so that there is a whole one at any time.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let written = path.with_extension("new");
        let mut file = std::fs::File::create(&written)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        drop(file);
        std::fs::rename(&written, path)
    }
}
