//! Reading a file without standing in anybody's way.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a file is held at a time where the system does not say that somebody else wants it.
const HOLD: Duration = Duration::from_millis(250);

/// How long it is let go then.
const REST: Duration = Duration::from_millis(50);

/// A file that is held as long as nobody else wants it. The fields are closed in their order: the lock goes last.
pub struct Guarded {
    /// The file.
    pub file: File,
    lock: Option<system::Oplock>,
    since: Instant,
}

impl Guarded {
    /// Opens a file so that others may read, write, rename and delete it. A file that only one may have open is refused.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let lock = system::Oplock::request(path);
        // On Windows the standard library shares reading, writing and deleting.
        Ok(Self { file: File::open(path)?, lock, since: Instant::now() })
    }

    /// Whether the system tells when somebody else wants the file.
    pub fn is_told(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether somebody else waits for the file.
    pub fn is_wanted(&self) -> bool {
        self.lock.as_ref().is_some_and(system::Oplock::is_broken)
    }

    /// Whether it was held for as long as it may be, nobody telling whether it is wanted.
    pub fn is_due(&self) -> bool {
        !self.is_told() && self.since.elapsed() >= HOLD
    }

    /// Lets the file go for a moment, and goes on `at` so many bytes. `rest` waits.
    ///
    /// # Errors
    /// If it cannot be opened again, or `rest` says that everything ends.
    pub fn reopen(self, path: &Path, at: u64, rest: impl FnOnce(Duration) -> bool) -> io::Result<Self> {
        drop(self);
        if rest(REST) {
            return Err(io::Error::other("the helper ends"));
        }
        let mut again = Self::open(path)?;
        again.file.seek(SeekFrom::Start(at))?;
        Ok(again)
    }
}

#[cfg(windows)]
use super::windows::oplock as system;

#[cfg(not(windows))]
mod system {
    use std::path::Path;

    /// There is nothing of the kind, and nothing in anybody's way.
    pub struct Oplock;

    impl Oplock {
        pub fn request(_: &Path) -> Option<Self> {
            None
        }

        pub fn is_broken(&self) -> bool {
            false
        }
    }
}
