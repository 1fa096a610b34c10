//! Lines out of what a connection delivers, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What every connection has without asking.
pub const BASE: usize = 8 << 10;

/// How many times the longest line may be skipped as one line before it counts as endless.
const ENDLESS: usize = 16;

/// Memory that all connections share.
#[derive(Debug)]
pub struct Pool {
    used: AtomicU64,
    most: u64,
}

impl Pool {
    /// Of so many bytes.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), most })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let room = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Why no more is taken of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool has no memory for its line.
    Memory,
    /// Its line has no end.
    Endless,
}

/// The beginning of a line whose end has not come, and how to cut what comes next.
#[derive(Debug)]
pub struct Lines {
    rest: Vec<u8>,
    max: usize,
    /// Bytes of a line that is skipped.
    skipped: usize,
    /// What is taken from the pool.
    taken: u64,
    pool: Arc<Pool>,
    /// Lines that were too long.
    pub oversized: u64,
}

impl Lines {
    /// For lines of at most `max` bytes without the line feed.
    pub fn new(max: usize, pool: Arc<Pool>) -> Self {
        Self { rest: Vec::new(), max, skipped: 0, taken: 0, pool, oversized: 0 }
    }

    /// Whether a line has begun and not ended.
    pub fn is_open(&self) -> bool {
        !self.rest.is_empty() || self.skipped > 0
    }

    /// Cuts what came into lines, each handed on with its line feed; ends early where `take` fails.
    ///
    /// # Errors
    /// That of `take`; a [`Refused`] as one of its kind.
    pub fn cut<E: From<Refused>>(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.skipped > 0 || self.rest.len() + end > self.max {
                self.oversized += 1;
                self.skipped = 0;
                self.clear();
            } else if self.rest.is_empty() {
                take(line)?;
            } else {
                self.rest.extend_from_slice(line);
                let whole = std::mem::take(&mut self.rest);
                let taken = take(&whole);
                self.rest = whole;
                self.clear();
                taken?;
            }
        }
        if self.skipped > 0 || self.rest.len() + bytes.len() > self.max {
            self.skipped = self.skipped.saturating_add(self.rest.len()).saturating_add(bytes.len());
            self.clear();
            if self.skipped > self.max.saturating_mul(ENDLESS) {
                return Err(Refused::Endless.into());
            }
            return Ok(());
        }
        let needed = (self.rest.len() + bytes.len()) as u64;
        // In steps, so that a line that comes byte by byte asks rarely.
        let needed = if needed <= BASE as u64 { 0 } else { needed.next_power_of_two() };
        if needed > self.taken {
            if !self.pool.take(needed - self.taken) {
                return Err(Refused::Memory.into());
            }
            self.taken = needed;
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    fn clear(&mut self) {
        self.rest.clear();
        if self.rest.capacity() > BASE {
            self.rest = Vec::new();
        }
        self.pool.give(std::mem::take(&mut self.taken));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.pool.give(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(max: usize, pool: &Arc<Pool>, parts: &[&[u8]]) -> Result<(Vec<Vec<u8>>, u64), Refused> {
        let mut lines = Lines::new(max, Arc::clone(pool));
        let mut all = Vec::new();
        for part in parts {
            lines.cut(part, |line| -> Result<(), Refused> {
                all.push(line.to_vec());
                Ok(())
            })?;
        }
        Ok((all, lines.oversized))
    }

    #[test]
    fn a_line_that_needs_more_than_there_is_or_has_no_end_is_refused() {
        let pool = Pool::new(64 << 10);
        let part = vec![b'x'; 40 << 10];
        assert_eq!(cut(1 << 20, &pool, &[&part]).map(|_| ()), Ok(()));
        assert_eq!(cut(1 << 20, &pool, &[&part, &part]), Err(Refused::Memory));
        assert_eq!(cut(1 << 10, &pool, &[&part]), Err(Refused::Endless));
        assert_eq!(pool.used(), 0);
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(
            text in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n')], 0..200),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let pool = Pool::new(1 << 20);
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            places.sort_unstable();
            let mut parts: Vec<&[u8]> = Vec::new();
            let mut from = 0;
            for place in places {
                parts.push(&text[from..place]);
                from = place;
            }
            parts.push(&text[from..]);
            let expected: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
            let whole: Vec<Vec<u8>> = expected
                .iter()
                .filter(|line| line.ends_with(b"\n") && line.len() <= 11)
                .map(|line| line.to_vec())
                .collect();
            let long = expected.iter().filter(|line| line.ends_with(b"\n") && line.len() > 11).count() as u64;
            prop_assert_eq!(cut(10, &pool, &parts), Ok((whole, long)));
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
