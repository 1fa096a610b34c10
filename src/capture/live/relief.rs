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

/// A connection that brought nothing for so long is taken out of the table; it can come back.
const SILENT: Duration = Duration::from_secs(10);

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
    /// The sequence number that the sender has come to.
    pub next: u32,
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
    /// Times that the kernel refused to take, tell or give back a direction for another reason.
    pub failed: u64,
}

/// A thread's table and program.
pub struct Relief {
    table: OwnedFd,
    program: OwnedFd,
    /// By the key of the direction from the lower end.
    known: HashMap<Key, Known, foldhash::fast::RandomState>,
    /// How many of them only up to a sequence number.
    bounded: usize,
    most: usize,
    done: Done,
}

/// What came of asking the kernel.
#[derive(Default)]
struct Done {
    counters: ReliefCounters,
    /// The first refusal, until it is told.
    refusal: Option<io::Error>,
    /// It is of no use to ask for more.
    forbidden: bool,
}

impl Done {
    fn refused(&mut self, error: io::Error) {
        if let Some(libc::E2BIG | libc::ENOMEM) = error.raw_os_error() {
            self.counters.full += 1;
            return;
        }
        self.counters.failed += 1;
        self.forbidden |= error.kind() == io::ErrorKind::PermissionDenied;
        if self.counters.failed == 1 {
            self.refusal = Some(error);
        }
    }

    /// The value, if the kernel gave one.
    fn given(&mut self, result: io::Result<Option<Value>>) -> Option<Value> {
        result.unwrap_or_else(|error| {
            self.refused(error);
            None
        })
    }
}

/// A connection. Its directions come into the table and go out of it together: what one side acknowledges, the other must
/// have been told of.
struct Known {
    /// From the lower end, and from the higher.
    directions: [Direction; 2],
    /// When it was put into the table.
    begun: Instant,
    /// Since when nothing came.
    since: Instant,
}

struct Direction {
    source: Endpoint,
    destination: Endpoint,
    /// What goes on behind this sequence number is not dropped.
    before: Option<u32>,
    /// What was told so far.
    packets: u64,
    wire_bytes: u64,
}

impl Relief {
    /// A table for `most` directions, and the program. Packets that pass are cut to `snap_length`.
    pub(super) fn new(most: u64, snap_length: u32) -> io::Result<Self> {
        let entries = u32::try_from(most).unwrap_or(u32::MAX);
        let table = bpf::create_table(entries)?;
        let program = bpf::load(&relief_program::program(table.as_fd(), snap_length))?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(Self { table, program, known: HashMap::default(), bounded: 0, most, done: Done::default() })
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// From now on, packets of this connection are dropped, as far as they are not needed.
    pub fn begin(&mut self, needless: &Needless) {
        let Needless { source: a, destination: b, before } = *needless;
        let (one, other) = before.unzip();
        let direction =
            |source, destination, before| Direction { source, destination, before, packets: 0, wire_bytes: 0 };
        let mut directions = [direction(a, b, one), direction(b, a, other)];
        if a > b {
            directions.reverse();
        }
        let [low, high] = directions.each_ref().map(Direction::key);
        if self.done.forbidden || self.known.contains_key(&low) {
            return;
        }
        if 2 * self.known.len() + 2 > self.most {
            self.done.counters.full += 1;
            return;
        }
        if let Err(error) = self.put(&directions) {
            // One that was put before the other failed is taken back.
            let _ = (bpf::take(self.table.as_fd(), &low), bpf::take(self.table.as_fd(), &high));
            self.done.refused(error);
            return;
        }
        self.done.counters.flows += 2;
        self.bounded += usize::from(before.is_some());
        let (begun, since) = (Instant::now(), Instant::now());
        self.known.insert(low, Known { directions, begun, since });
    }

    fn put(&self, directions: &[Direction; 2]) -> io::Result<()> {
        let put = |it: &Direction| bpf::update(self.table.as_fd(), &it.key(), &relief_program::value(it.before));
        directions.iter().try_for_each(put)
    }

    /// Whether nothing is dropped.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether of some connection only what comes before a sequence number is dropped.
    pub fn is_bounded(&self) -> bool {
        self.bounded > 0
    }

    /// Whether packets of this connection are dropped.
    pub fn holds(&self, a: Endpoint, b: Endpoint) -> bool {
        self.known.contains_key(&key(a.min(b), a.max(b)))
    }

    /// Whether packets of this connection are dropped, and one from `source` that ends before this sequence number is not: that
    /// side has come further.
    pub fn is_passed(&self, source: Endpoint, destination: Endpoint, end: u32) -> bool {
        let known = self.known.get(&key(source.min(destination), source.max(destination)));
        let direction = known.and_then(|known| known.directions.iter().find(|direction| direction.source == source));
        let before = direction.and_then(|direction| direction.before);
        before.is_some_and(|before| (before.wrapping_sub(end) as i32) < 0)
    }

    /// What was dropped of both directions of a connection, which is over, begins anew or goes on to what is needed.
    pub fn end(&mut self, a: Endpoint, b: Endpoint) -> [Option<Relieved>; 2] {
        let Some(mut known) = self.known.remove(&key(a.min(b), a.max(b))) else { return [None, None] };
        self.take(&mut known)
    }

    /// What was dropped of all connections since this was last asked, of those that are in the table for as long as `settled`:
    /// nothing that came before may wait in a ring any more. Silent ones are taken out of the table.
    pub fn all(&mut self, settled: Duration) -> Vec<Relieved> {
        let (mut relieved, mut silent) = (Vec::new(), Vec::new());
        for (key, known) in &mut self.known {
            if known.begun.elapsed() < settled {
                continue;
            }
            let values =
                known.directions.each_ref().map(|it| self.done.given(bpf::look_up(self.table.as_fd(), &it.key())));
            let told = known.more(values, &mut self.done.counters);
            if told.iter().all(Option::is_none) && known.since.elapsed() >= SILENT {
                silent.push(*key);
            }
            relieved.extend(told.into_iter().flatten());
        }
        for key in silent {
            if let Some(mut known) = self.known.remove(&key) {
                relieved.extend(self.take(&mut known).into_iter().flatten());
            }
        }
        relieved
    }

    /// What relief did so far.
    pub fn counters(&self) -> ReliefCounters {
        self.done.counters
    }

    /// Why the kernel refused something, the first time that it did; told once.
    pub fn refusal(&mut self) -> Option<io::Error> {
        self.done.refusal.take()
    }

    /// Puts a direction into the table, looks it up and takes it out, as is done once capabilities are given up.
    pub(super) fn try_out(&self) -> io::Result<()> {
        let (table, key) = (self.table.as_fd(), [0; bpf::KEY]);
        bpf::update(table, &key, &relief_program::value(None))?;
        let (seen, taken) = (bpf::look_up(table, &key)?, bpf::take(table, &key)?);
        seen.and(taken).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Takes a connection out of the table, each direction at one go, so that nothing is counted behind our back.
    fn take(&mut self, known: &mut Known) -> [Option<Relieved>; 2] {
        self.bounded -= usize::from(known.directions.iter().any(|direction| direction.before.is_some()));
        let values = known.directions.each_ref().map(|it| self.done.given(bpf::take(self.table.as_fd(), &it.key())));
        known.more(values, &mut self.done.counters)
    }
}

impl Known {
    /// What values tell that was not told yet.
    fn more(&mut self, values: [Option<Value>; 2], counters: &mut ReliefCounters) -> [Option<Relieved>; 2] {
        let [low, high] = &mut self.directions;
        let [from_low, from_high] = values;
        let told = [(low, from_low), (high, from_high)].map(|(direction, value)| direction.more(&value?, counters));
        if told.iter().any(Option::is_some) {
            self.since = Instant::now();
        }
        told
    }
}

impl Direction {
    fn key(&self) -> Key {
        key(self.source, self.destination)
    }

    fn more(&mut self, value: &Value, counters: &mut ReliefCounters) -> Option<Relieved> {
        let (packets, wire_bytes, next) = relief_program::counted(value);
        let new = packets.saturating_sub(self.packets);
        counters.packets += new;
        counters.wire_bytes += wire_bytes.saturating_sub(self.wire_bytes);
        (self.packets, self.wire_bytes) = (packets, wire_bytes);
        let (source, destination) = (self.source, self.destination);
        (new > 0).then_some(Relieved { source, destination, packets: new, next })
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
