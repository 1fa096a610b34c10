//! What the drivers of interfaces count beyond `/proc/net/dev` (`ethtool -S`): packets that were missed, discarded or
//! broken before they reached a ring.
//!
//! Every driver names its counters as it likes, so they are told by their names, and those that differ by numbers alone
//! (one for each queue) are added up to one kind. Kinds overlap: a total stands beside the queues that it sums up, and one
//! packet may count as missed in one and as dropped in another. So kinds are not added up; the largest says how many
//! packets were lost at least.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use super::system;

/// What an interface's driver counted since it was first asked, by kind. `*` stands for a number in the name.
pub type DriverCounters = BTreeMap<String, u64>;

/// More kinds of one interface than this are not followed.
const MOST: usize = 64;

/// Asks drivers, through a socket that is opened once.
#[derive(Debug)]
pub(super) struct Drivers {
    socket: Option<UnixDatagram>,
}

/// One interface's driver.
#[derive(Debug, Default)]
pub(super) struct Driver {
    /// The driver's names, and for each the kind of loss that it counts.
    names: Vec<Option<String>>,
    /// What was read last, as the names are.
    last: Vec<u64>,
    total: DriverCounters,
}

impl Drivers {
    pub(super) fn open() -> Self {
        // Any socket will do to ask with; where there is none, nothing is counted.
        Self { socket: UnixDatagram::unbound().ok() }
    }

    /// Reads the interface's counters anew. A driver that keeps none, or does not answer, has counted nothing.
    pub(super) fn update(&self, interface: &str, driver: &mut Driver) {
        let Some(socket) = &self.socket else { return };
        let Ok(counts) = system::driver_counts(socket.as_fd(), interface) else { return };
        if counts.len() != driver.names.len() {
            // The first time, or an adapter that has other queues now.
            let Ok(names) = system::driver_names(socket.as_fd(), interface) else { return };
            driver.rename(&names);
        }
        driver.take(counts);
    }
}

impl Driver {
    /// What was counted so far; kinds that never counted anything are not there.
    pub(super) fn counters(&self) -> DriverCounters {
        self.total.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (kind.clone(), *count)).collect()
    }

    fn rename(&mut self, names: &[String]) {
        self.names = names.iter().map(|name| kind_of_loss(name)).collect();
        self.last.clear();
    }

    fn take(&mut self, counts: Vec<u64>) {
        if counts.len() != self.names.len() {
            return;
        }
        if self.last.len() == counts.len() {
            for ((kind, last), now) in self.names.iter().zip(&self.last).zip(&counts) {
                let Some(kind) = kind else { continue };
                // An interface that disappeared and came back counts from zero again.
                let more = now.checked_sub(*last).unwrap_or(*now);
                if let Some(total) = self.total.get_mut(kind) {
                    *total = total.saturating_add(more);
                } else if more > 0 && self.total.len() < MOST {
                    self.total.insert(kind.clone(), more);
                }
            }
        }
        self.last = counts;
    }
}

/// How many kinds of loss the driver of an interface counts.
pub(super) fn kinds(socket: impl AsFd, interface: &str) -> std::io::Result<usize> {
    let names = system::driver_names(socket.as_fd(), interface)?;
    let kinds: std::collections::BTreeSet<String> = names.iter().filter_map(|name| kind_of_loss(name)).collect();
    Ok(kinds.len())
}

/// The kind of what a counter counts, if these are packets that were to be received and were lost.
fn kind_of_loss(name: &str) -> Option<String> {
    const LOST: [&str; 12] = [
        "drop",
        "miss",
        "discard",
        "err",
        "fifo",
        "overrun",
        "over_run",
        "overflow",
        "no_buf",
        "nobuf",
        "no_desc",
        "out_of_buf",
    ];
    // What is sent; what a program of the administrator threw away; checksums, of packets that are handed on all the
    // same; what is meant for the adapter's own management; and what counts lanes and symbols of a cable, not packets.
    const OTHER: [&str; 14] = [
        "tx", "xmit", "transmit", "xdp", "xsk", "csum", "checksum", "mgmt", "smbus", "arfs", "symbol", "lane", "ptp",
        "hwtstamp",
    ];
    let name = name.to_ascii_lowercase();
    if !LOST.iter().any(|word| name.contains(word)) || OTHER.iter().any(|word| name.contains(word)) {
        return None;
    }
    let mut kind = String::new();
    for letter in name.chars() {
        let letter = match letter {
            '0'..='9' => '*',
            'a'..='z' | '.' | '-' => letter,
            _ => '_',
        };
        if !(letter == '*' && kind.ends_with('*')) {
            kind.push(letter);
        }
    }
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_by_their_names() {
        for (name, kind) in [
            ("rx_queue_0_drops", "rx_queue_*_drops"),
            ("rx_queue_17_drops", "rx_queue_*_drops"),
            ("rx_missed_errors", "rx_missed_errors"),
            ("rx_no_buffer_count", "rx_no_buffer_count"),
            ("rx_out_of_buffer", "rx_out_of_buffer"),
            ("rx_fifo_errors", "rx_fifo_errors"),
            ("rx_crc_errors.nic", "rx_crc_errors.nic"),
            ("port.rx_discards", "port.rx_discards"),
            ("[3]: rx_discards", "_*___rx_discards"),
            ("veb.rx_discards", "veb.rx_discards"),
        ] {
            assert_eq!(kind_of_loss(name).as_deref(), Some(kind), "{name}");
        }
        for name in [
            "rx_packets",
            "tx_dropped",
            "rx_queue_0_xdp_drops",
            "rx_csum_offload_errors",
            "dropped_smbus",
            "peer_ifindex",
            "rx_symbol_err_phy",
        ] {
            assert_eq!(kind_of_loss(name), None, "{name}");
        }
    }

    #[test]
    fn queues_are_added_up_and_a_driver_that_begins_anew_counts_on() {
        let names = |queues: usize| {
            let queues = (0..queues).map(|queue| format!("rx_queue_{queue}_drops"));
            queues.chain(["rx_missed_errors".to_owned(), "rx_packets".to_owned()]).collect::<Vec<_>>()
        };
        let mut driver = Driver::default();
        driver.rename(&names(2));
        driver.take(vec![100, 200, 5, 1_000]);
        assert!(driver.counters().is_empty(), "what was before is not counted");
        driver.take(vec![101, 202, 5, 2_000]);
        assert_eq!(driver.counters(), DriverCounters::from([("rx_queue_*_drops".to_owned(), 3)]));
        // Loaded anew.
        driver.take(vec![1, 0, 4, 7]);
        let both = [("rx_queue_*_drops".to_owned(), 4), ("rx_missed_errors".to_owned(), 4)];
        assert_eq!(driver.counters(), DriverCounters::from(both.clone()));
        // Other queues.
        driver.rename(&names(1));
        driver.take(vec![50, 50, 50]);
        driver.take(vec![51, 50, 50]);
        assert_eq!(driver.counters().get("rx_queue_*_drops"), Some(&5));
    }
}
