//! A file as one slice of memory: an open file in, its bytes out, for as long as anyone holds the map.
//!
//! The length is fixed when the file is mapped; what is appended later is not seen. Known limit: if somebody else
//! *shortens* the file while it is mapped, touching the lost part raises `SIGBUS`, which ends the process. Read such
//! files through standard input instead.
//!
//! This is the only place in the capture module with unsafe code.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;

/// A whole file, mapped read-only for one sequential pass.
#[derive(Debug)]
pub(super) struct Map {
    bytes: memmap2::Mmap,
}

impl Map {
    /// Maps the whole of `file`.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read-only and private to this type, and the bytes are only ever read as plain `u8`s
        // whose every value is checked. Another process that changes the file can change what is read but cannot
        // break memory safety of code that trusts no value twice; one that shortens it ends the process by `SIGBUS`,
        // the limit stated above.
        let bytes = unsafe { memmap2::Mmap::map(file)? };
        #[cfg(unix)]
        {
            // Advice only: a kernel that refuses it reads the same bytes, more slowly.
            let _ = bytes.advise(memmap2::Advice::Sequential);
        }
        Ok(Self { bytes })
    }

    /// The bytes of the file.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lets the kernel take back the pages of `range`, which the reader has passed. Whoever still looks at them
    /// reads them from the file again.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if range.start < range.end && range.end <= self.bytes.len() {
            // SAFETY: the map is a read-only view of a file and never written to, so the dropped pages hold nothing
            // that the file does not; the next access reads the same bytes back. The range lies inside the map.
            let _ = unsafe {
                self.bytes.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.end - range.start,
                )
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
