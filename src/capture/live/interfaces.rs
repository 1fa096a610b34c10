//! What the interfaces themselves count: `/proc/net/dev`, opened once and read again and again, so that it can be read
//! where no file can be opened any more; and what their drivers count beyond it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use super::driver::{Driver, DriverCounters, Drivers};

/// A longer table than this is read only to here.
const MOST: usize = 1 << 20;

/// How often drivers are asked: some of them have to ask their adapter, which takes its time. An alert waits longer than this,
/// with `join.grace` as it is by default, so that it can say what was lost.
const DRIVERS: Duration = Duration::from_millis(3_500);

/// What an interface counted, since it was first looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Packets that arrived.
    pub packets: u64,
    /// Packets with errors of any kind, those in `overruns` included.
    pub errors: u64,
    /// Packets that the driver or the kernel dropped before they reached a ring.
    pub dropped: u64,
    /// Packets that found the adapter's own queue full.
    pub overruns: u64,
    /// Times that another one took its place.
    pub replaced: u64,
    /// What its driver counted of each kind of loss, where it did. The counters above hold much of it, too.
    pub driver: DriverCounters,
    /// Of the lost packets, those that only the driver told of: lost since it was asked before.
    pub by_driver: u64,
}

/// What a line of the table says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    packets: u64,
    errors: u64,
    dropped: u64,
    overruns: u64,
}

/// An interface.
#[derive(Debug, Default)]
struct Known {
    last: Line,
    total: Line,
    replaced: u64,
    driver: Driver,
    lost: u64,
    by_driver: u64,
}

impl Known {
    fn counters(&self) -> InterfaceCounters {
        let Line { packets, errors, dropped, overruns } = self.total;
        let (driver, by_driver) = (self.driver.counters(), self.by_driver);
        InterfaceCounters { packets, errors, dropped, overruns, replaced: self.replaced, driver, by_driver }
    }

    /// Takes note of what is lost by now; gives how many more these are.
    fn lose(&mut self) -> u64 {
        let lost = self.counters().lost();
        lost.saturating_sub(std::mem::replace(&mut self.lost, lost))
    }
}

impl Line {
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
}

impl InterfaceCounters {
    /// Packets that never reached a ring, at least: kinds of loss that may count one packet twice are not added up.
    pub fn lost(&self) -> u64 {
        let table = self.dropped + self.errors.max(self.overruns);
        table.max(self.driver.values().copied().max().unwrap_or(0))
    }
}

/// The counters of some interfaces.
#[derive(Debug)]
pub struct Interfaces {
    table: Option<File>,
    known: BTreeMap<String, Known>,
    text: Vec<u8>,
    drivers: Drivers,
    asked: Instant,
}

impl Interfaces {
    /// Counts from now on. Where the table cannot be opened, every counter stays zero, and [`Interfaces::readable`] says so.
    pub fn watch(names: &[String]) -> Self {
        // Not `/proc/net`, which is a link to here: the file stays that of this thread's own network namespace.
        let table = File::open("/proc/self/net/dev").ok();
        let known = names.iter().map(|name| (name.clone(), Known::default())).collect();
        let drivers = Drivers::open();
        let mut interfaces = Self { table, known, text: Vec::new(), drivers, asked: Instant::now() };
        for (name, line) in interfaces.read() {
            if let Some(known) = interfaces.known.get_mut(&name) {
                known.last = line;
            }
        }
        interfaces.ask_drivers();
        interfaces
    }

    /// Whether the system tells at all.
    pub fn readable(&self) -> bool {
        self.table.is_some()
    }

    /// Reads the counters anew; those of the drivers every few seconds. Says whether these were asked.
    pub fn update(&mut self) -> bool {
        self.read_table();
        let due = self.asked.elapsed() >= DRIVERS;
        if due {
            self.ask_drivers();
        }
        due
    }

    /// Reads all counters anew.
    pub fn update_all(&mut self) {
        self.read_table();
        self.ask_drivers();
    }

    /// What each interface has counted, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&str, InterfaceCounters)> {
        self.known.iter().map(|(name, known)| (name.as_str(), known.counters()))
    }

    /// Another interface took the place of the one of this name.
    pub fn replaced(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.replaced += 1;
        }
    }

    fn read_table(&mut self) {
        for (name, now) in self.read() {
            if let Some(known) = self.known.get_mut(&name) {
                known.total.add(now.since(known.last));
                known.last = now;
                known.lose();
            }
        }
    }

    fn ask_drivers(&mut self) {
        self.asked = Instant::now();
        for (name, known) in &mut self.known {
            self.drivers.update(name, &mut known.driver);
            known.by_driver += known.lose();
        }
    }

    fn read(&mut self) -> Vec<(String, Line)> {
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
fn line(line: &str) -> Option<(String, Line)> {
    let (name, counts) = line.rsplit_once(':')?;
    let mut counts = counts.split_ascii_whitespace().map(|count| count.parse().ok());
    let mut next = || counts.next().flatten();
    let (_bytes, packets, errors, dropped, overruns) = (next()?, next()?, next()?, next()?, next()?);
    let _: u64 = _bytes;
    Some((name.trim().to_owned(), Line { packets, errors, dropped, overruns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let text = "  eth0: 1296 12 3 4 5 6 7 8 11 0 0 0 0 0 0 0";
        let counters = Line { packets: 12, errors: 3, dropped: 4, overruns: 5 };
        assert_eq!(line(text), Some(("eth0".to_owned(), counters)));
        assert_eq!(line(" face |bytes    packets errs drop"), None);
    }

    #[test]
    fn what_table_and_driver_both_count_is_lost_once() {
        let mut counters = InterfaceCounters { errors: 3, dropped: 4, overruns: 5, ..InterfaceCounters::default() };
        assert_eq!(counters.lost(), 9);
        counters.driver = [("rx_queue_*_drops".to_owned(), 7), ("rx_missed_errors".to_owned(), 6)].into();
        assert_eq!(counters.lost(), 9);
        counters.driver.insert("rx_out_of_buffer".to_owned(), 20);
        assert_eq!(counters.lost(), 20);
    }

    #[test]
    fn an_interface_that_comes_back_counts_on() {
        let at = |packets| Line { packets, ..Line::default() };
        let mut total = at(0);
        total.add(at(10).since(at(4)));
        total.add(at(3).since(at(10)));
        assert_eq!(total, at(9));
    }
}
