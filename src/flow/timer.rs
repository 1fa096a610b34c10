//! When to look at which flow again, in ticks of one second of packet time.
//!
//! A flow stands in the wheel at least once. Looking is cheap, so a flow that was active meanwhile is
//! simply put back; nothing is moved per packet.

use std::collections::BTreeMap;

use crate::net::Timestamp;

/// One second of packet time.
pub(super) const TICK: u64 = 1_000_000_000;

/// The first tick at or after a time.
pub(super) fn tick_at(time: Timestamp) -> u64 {
    time.0.div_ceil(TICK)
}

/// The wheel: flow handles by tick.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<u64, Vec<u32>>,
}

impl Timers {
    pub(super) fn add(&mut self, tick: u64, handle: u32) {
        self.due.entry(tick).or_default().push(handle);
    }

    /// The earliest tick at which something is due, if that is `tick` or before, with what is due then.
    pub(super) fn pop(&mut self, tick: u64) -> Option<(u64, Vec<u32>)> {
        let first = self.due.first_entry()?;
        if *first.key() > tick {
            return None;
        }
        Some(first.remove_entry())
    }
}
