//! What the interfaces themselves count: `/proc/net/dev`, opened once and read again and again, so that it can be read
//! where no file can be opened any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// A longer table than this is read only to here.
const MOST: usize = 1 << 20;

/// What an interface counted, since it was first looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Packets that arrived.
    pub packets: u64,
    /// Packets with errors of any kind, those in `overruns` included.
    pub errors: u64,
    /// Packets that the driver or the kernel dropped before they reached a ring.
    pub dropped: u64,
    /// Packets that found the adapter's own queue full.
    pub overruns: u64,
}

impl InterfaceCounters {
    fn since(self, base: Self) -> Self {
        // An interface that disappeared and came back counts from zero again.
        let since = |now: u64, base: u64| now.checked_sub(base).unwrap_or(now);
        Self {
            packets: since(self.packets, base.packets),
            errors: since(self.errors, base.errors),
            dropped: since(self.dropped, base.dropped),
            overruns: since(self.overruns, base.overruns),
        }
    }

    fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.errors += more.errors;
        self.dropped += more.dropped;
        self.overruns += more.overruns;
    }

    /// Packets that never reached a ring.
    pub fn lost(&self) -> u64 {
        self.dropped + self.errors.max(self.overruns)
    }
}

/// The counters of some interfaces.
#[derive(Debug)]
pub struct Interfaces {
    table: Option<File>,
    /// By name: what was read last, and what has been counted since the first time.
    known: BTreeMap<String, (InterfaceCounters, InterfaceCounters)>,
    text: Vec<u8>,
}

impl Interfaces {
    /// Counts from now on. Where the table cannot be opened, every counter stays zero, and [`Interfaces::readable`] says so.
    pub fn watch(names: &[String]) -> Self {
        // Not `/proc/net`, which is a link to here: the file stays that of this thread's own network namespace.
        let table = File::open("/proc/self/net/dev").ok();
        let mut interfaces = Self { table, known: BTreeMap::new(), text: Vec::new() };
        for (name, counters) in interfaces.read() {
            if names.contains(&name) {
                interfaces.known.insert(name, (counters, InterfaceCounters::default()));
            }
        }
        for name in names {
            interfaces.known.entry(name.clone()).or_default();
        }
        interfaces
    }

    /// Whether the system tells at all.
    pub fn readable(&self) -> bool {
        self.table.is_some()
    }

    /// Reads the counters anew.
    pub fn update(&mut self) {
        for (name, now) in self.read() {
            if let Some((last, total)) = self.known.get_mut(&name) {
                total.add(now.since(*last));
                *last = now;
            }
        }
    }

    /// What each interface has counted, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&str, InterfaceCounters)> {
        self.known.iter().map(|(name, (_, total))| (name.as_str(), *total))
    }

    fn read(&mut self) -> Vec<(String, InterfaceCounters)> {
        let Some(table) = &self.table else { return Vec::new() };
        self.text.clear();
        let mut chunk = [0; 4096];
        while self.text.len() < MOST {
            match table.read_at(&mut chunk, self.text.len() as u64) {
                Ok(0) | Err(_) => break,
                Ok(length) => self.text.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            }
        }
        String::from_utf8_lossy(&self.text).lines().filter_map(line).collect()
    }
}

/// `eth0: bytes packets errs drop fifo frame compressed multicast ...`, received first.
fn line(line: &str) -> Option<(String, InterfaceCounters)> {
    let (name, counts) = line.rsplit_once(':')?;
    let mut counts = counts.split_ascii_whitespace().map(|count| count.parse().ok());
    let mut next = || counts.next().flatten();
    let (_bytes, packets, errors, dropped, overruns) = (next()?, next()?, next()?, next()?, next()?);
    let _: u64 = _bytes;
    Some((name.trim().to_owned(), InterfaceCounters { packets, errors, dropped, overruns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let text = "  eth0: 1296 12 3 4 5 6 7 8 11 0 0 0 0 0 0 0";
        let counters = InterfaceCounters { packets: 12, errors: 3, dropped: 4, overruns: 5 };
        assert_eq!(line(text), Some(("eth0".to_owned(), counters)));
        assert_eq!(line(" face |bytes    packets errs drop"), None);
        assert_eq!(counters.lost(), 9);
    }

    #[test]
    fn an_interface_that_comes_back_counts_on() {
        let at = |packets| InterfaceCounters { packets, ..InterfaceCounters::default() };
        let mut total = at(0);
        total.add(at(10).since(at(4)));
        total.add(at(3).since(at(10)));
        assert_eq!(total, at(9));
    }
}
