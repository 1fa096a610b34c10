//! Relief: packets of flows of which nothing more is needed are dropped in the kernel, where they are only counted.
//!
//! A program of the kernel's extended BPF is the filter of a thread's sockets. It looks the flow of each TCP segment up in a
//! table that the thread fills. Where it finds it, it counts the packet, its bytes and the highest sequence number, and drops
//! the packet. Segments that open or end a connection (SYN, FIN, RST) always pass, and are the last of their direction that is
//! dropped for: whatever comes behind them passes, too. So does whatever goes on behind the sequence number up to which a
//! direction is not needed, if there is one. So do packets of other shapes: IPv4 with options, fragments, IPv6 with extension
//! headers, tunnels.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::bpf::{self, Key, Value};
use super::relief_program;
use crate::net::Endpoint;

/// A direction that brought nothing for so long is taken out of the table; it can come back.
const SILENT: Duration = Duration::from_secs(10);

/// After so long, what came before a direction was put into the table has been read out of its ring, if that is not full.
const SETTLED: Duration = Duration::from_millis(500);

/// What is not needed of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needless {
    /// One end.
    pub source: Endpoint,
    /// The other.
    pub destination: Endpoint,
    /// Before which sequence numbers of the one and of the other; everything, where there are none.
    pub before: Option<(u32, u32)>,
}

/// What the kernel dropped of one direction since this was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relieved {
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// Packets.
    pub packets: u64,
    /// The sequence number of the first byte.
    pub seq: u32,
    /// How far the sequence number went on.
    pub payload: u32,
}

/// What relief did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReliefCounters {
    /// Packets that the kernel dropped, and counted.
    pub packets: u64,
    /// Bytes that they had on the wire.
    pub wire_bytes: u64,
    /// Directions of connections for which packets were dropped, one that came back counted anew.
    pub flows: u64,
    /// Times that the table was full: the packets went on to the thread.
    pub full: u64,
}

/// A thread's table and program.
pub struct Relief {
    table: OwnedFd,
    program: OwnedFd,
    known: HashMap<Key, Known, foldhash::fast::RandomState>,
    /// How many of them only up to a sequence number.
    bounded: usize,
    most: usize,
    counters: ReliefCounters,
}

/// What is known of a direction.
struct Known {
    source: Endpoint,
    destination: Endpoint,
    /// What goes on behind this sequence number is not dropped.
    before: Option<u32>,
    packets: u64,
    wire_bytes: u64,
    /// Up to which sequence number was told.
    told: u32,
    /// When it was put into the table.
    begun: Instant,
    /// Since when nothing came.
    since: Instant,
}

impl Relief {
    /// A table for `most` directions, and the program. Packets that pass are cut to `snap_length`.
    pub(super) fn new(most: u64, snap_length: u32) -> io::Result<Self> {
        let entries = u32::try_from(most).unwrap_or(u32::MAX);
        let table = bpf::create_table(entries)?;
        let program = bpf::load(&relief_program::program(table.as_fd(), snap_length))?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(Self { table, program, known: HashMap::default(), bounded: 0, most, counters: ReliefCounters::default() })
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// From now on, packets of this connection are dropped, as far as they are not needed.
    pub fn begin(&mut self, needless: &Needless) {
        let Needless { source: a, destination: b, before } = *needless;
        let before = before.unzip();
        for (source, destination, before) in [(a, b, before.0), (b, a, before.1)] {
            let key = key(source, destination);
            if self.known.contains_key(&key) {
                continue;
            }
            let value = relief_program::value(before);
            if self.known.len() >= self.most || bpf::update(self.table.as_fd(), &key, &value).is_err() {
                self.counters.full += 1;
                continue;
            }
            self.counters.flows += 1;
            self.bounded += usize::from(before.is_some());
            let (begun, since) = (Instant::now(), Instant::now());
            let known = Known { source, destination, before, packets: 0, wire_bytes: 0, told: 0, begun, since };
            self.known.insert(key, known);
        }
    }

    /// Whether nothing is dropped.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether of some direction only what comes before a sequence number is dropped.
    pub fn is_bounded(&self) -> bool {
        self.bounded > 0
    }

    /// Whether packets of this direction are dropped.
    pub fn holds(&self, source: Endpoint, destination: Endpoint) -> bool {
        self.known.contains_key(&key(source, destination))
    }

    /// Whether packets of this direction are dropped, and one that ends before this sequence number is not: the direction
    /// has come further.
    pub fn is_passed(&self, source: Endpoint, destination: Endpoint, end: u32) -> bool {
        let before = self.known.get(&key(source, destination)).and_then(|known| known.before);
        before.is_some_and(|before| (before.wrapping_sub(end) as i32) < 0)
    }

    /// What was dropped of both directions of a connection; it is over, or begins anew.
    pub fn end(&mut self, a: Endpoint, b: Endpoint) -> [Option<Relieved>; 2] {
        [(a, b), (b, a)].map(|(source, destination)| self.ask(&key(source, destination), true))
    }

    /// What was dropped of all connections since this was last asked, of which nothing may wait in a ring any more. Those
    /// that are over, and silent ones, are taken out of the table.
    pub fn all(&mut self) -> Vec<Relieved> {
        let settled = |known: &Known| known.begun.elapsed() >= SETTLED;
        let keys: Vec<Key> = self.known.iter().filter(|(_, known)| settled(known)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.ask(key, false)).collect()
    }

    /// What relief did so far.
    pub fn counters(&self) -> ReliefCounters {
        self.counters
    }

    fn ask(&mut self, key: &Key, over: bool) -> Option<Relieved> {
        let known = self.known.get_mut(key)?;
        let table = self.table.as_fd();
        let mut value = if over { None } else { bpf::look_up(table, key).ok().flatten() };
        let silent = |value: &Value| value.first() == Some(&known.packets) && known.since.elapsed() >= SILENT;
        if value.as_ref().is_none_or(|value| relief_program::state(value).1 || silent(value)) {
            // At one go, so that nothing is counted behind our back.
            value = bpf::take(table, key).ok().flatten();
            let known = self.known.remove(key)?;
            self.bounded -= usize::from(known.before.is_some());
            return value.and_then(|value| known.more(&value, &mut self.counters).0);
        }
        let (relieved, new) = known.more(&value?, &mut self.counters);
        *known = new;
        relieved
    }
}

impl Known {
    /// What a value tells that was not told yet, and what is known then.
    fn more(&self, value: &Value, counters: &mut ReliefCounters) -> (Option<Relieved>, Self) {
        let [packets, wire_bytes, ..] = *value;
        let (next, _, first) = relief_program::state(value);
        let seq = if self.packets == 0 { first } else { self.told };
        let (new, bytes) = (packets.saturating_sub(self.packets), wire_bytes.saturating_sub(self.wire_bytes));
        counters.packets += new;
        counters.wire_bytes += bytes;
        let Self { source, destination, before, begun, since, .. } = *self;
        let since = if new > 0 { Instant::now() } else { since };
        let payload = next.wrapping_sub(seq);
        let relieved = (new > 0).then_some(Relieved { source, destination, packets: new, seq, payload });
        (relieved, Self { source, destination, before, packets, wire_bytes, told: next, begun, since })
    }
}

/// Both addresses as those of IPv6, both ports, all as on the wire.
fn key(source: Endpoint, destination: Endpoint) -> Key {
    let mut key = [0; bpf::KEY];
    let parts = source.address.bits().to_be_bytes().into_iter().chain(destination.address.bits().to_be_bytes());
    let ports = source.port.to_be_bytes().into_iter().chain(destination.port.to_be_bytes());
    key.iter_mut().zip(parts.chain(ports)).for_each(|(to, from)| *to = from);
    key
}
