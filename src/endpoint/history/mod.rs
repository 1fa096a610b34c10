//! What endpoints reported, kept for the join: bounded in bytes and time, and answered from by hash and binary search.
//!
//! Events may come late and out of order; each is put where its time says. When the memory is used up, the oldest
//! file events of all hosts go first, then the oldest connections, then processes (those that ended before those
//! that run). A connection without its file is worth more than a file without its connection.

mod connections;
mod files;
mod host;
mod owners;
mod processes;
mod retell;

pub use connections::{ConnectionRecord, Connections};
pub use files::{FileRecord, Files};
pub use host::HostHistory;
pub(crate) use processes::same_image;
pub use processes::{Key, Named, ProcessRecord, Processes};

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Event, Hello, Line, Observation, Transport};
use crate::net::{Address, ByteSize, Span, Timestamp};
use owners::Owners;

/// Addresses taken from one `hello`.
const MAX_ADDRESSES: usize = 64;

/// What goes first is smallest: class, then time.
type Rank = (u8, Timestamp);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Connection,
    Process,
}

const KINDS: [Kind; 3] = [Kind::File, Kind::Connection, Kind::Process];

/// What the bound on memory cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryCounters {
    /// File events that were forgotten.
    pub files_forgotten: u64,
    /// Connection events that were forgotten.
    pub connections_forgotten: u64,
    /// Processes that were forgotten.
    pub processes_forgotten: u64,
    /// Events of hosts that there was no room for.
    pub hosts_refused: u64,
    /// Claims to an address that there was no room for.
    pub addresses_refused: u64,
    /// Events and ended processes that were forgotten for their age.
    pub expired: u64,
}

/// What endpoints reported.
#[derive(Debug)]
pub struct History {
    hosts: HashMap<Arc<str>, HostHistory>,
    owners: Owners,
    oldest: [BTreeSet<(Rank, Arc<str>)>; 3],
    memory: u64,
    memory_per_host: u64,
    used: u64,
    events: u64,
    counters: HistoryCounters,
}

impl History {
    /// An empty history that holds at most `memory` bytes, by its own estimate.
    pub fn new(memory: ByteSize) -> Self {
        Self {
            hosts: HashMap::new(),
            owners: Owners::default(),
            oldest: Default::default(),
            memory: memory.0,
            memory_per_host: u64::MAX,
            used: 0,
            events: 0,
            counters: HistoryCounters::default(),
        }
    }

    /// The same, of which one host may take at most so much, so that a busy one costs no other its events.
    pub fn with_memory_per_host(self, memory: ByteSize) -> Self {
        Self { memory_per_host: memory.0, ..self }
    }

    /// Takes an event in.
    pub fn insert(&mut self, observation: Observation) {
        let Observation { host: id, line, origin } = observation;
        self.events = self.events.wrapping_add(1);
        let known = self.hosts.get_key_value(&id).map(|(id, _)| id.clone());
        let id = match known {
            Some(id) => id,
            None if self.fixed_bytes() >= self.memory / 4 => {
                self.counters.hosts_refused += 1;
                return;
            }
            None => {
                self.hosts.insert(id.clone(), HostHistory::new(id.clone()));
                id
            }
        };
        self.learn_addresses(&id, &line);
        self.change(&id, |host| host.take(line, origin.map(|origin| *origin)));
        while self.hosts.get(&id).is_some_and(|host| host.bytes() > self.memory_per_host) && self.forget_one_of(&id) {}
        while self.used.saturating_add(self.fixed_bytes()) > self.memory && self.forget_one() {}
    }

    /// Forgets what happened before `time`. A process that has not ended is kept, however long it runs.
    pub fn forget_before(&mut self, time: Timestamp) {
        for (order, kind) in KINDS.into_iter().enumerate() {
            let old = |history: &Self| {
                let (rank, id) = history.oldest.get(order)?.first()?;
                (*rank < (0, time)).then(|| id.clone())
            };
            while let Some(id) = old(self) {
                self.counters.expired += 1;
                self.change(&id, |host| host.forget_oldest(kind));
            }
        }
    }

    /// Takes note of how long a host's events take to come, as its helper's heartbeats show.
    pub fn lagged(&mut self, id: &str, lag: Span) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.lag = Some(host.lag.map_or(lag, |most| most.max(lag)));
        }
    }

    /// How many events came, those included that are forgotten by now.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The history of a host.
    pub fn host(&self, id: &str) -> Option<&HostHistory> {
        self.hosts.get(id)
    }

    /// All hosts, by their identity.
    pub fn hosts(&self) -> Vec<&HostHistory> {
        let mut hosts: Vec<&HostHistory> = self.hosts.values().collect();
        hosts.sort_by(|a, b| a.id().cmp(b.id()));
        hosts
    }

    /// The hosts that had the address at some time from `from` to `to`, in the order of time.
    pub fn owners(&self, address: Address, from: Timestamp, to: Timestamp) -> Vec<&HostHistory> {
        self.owners.between(address, from, to).into_iter().filter_map(|id| self.hosts.get(id)).collect()
    }

    /// The hosts that ever had the address, in the order of time.
    pub fn ever_owners(&self, address: Address) -> Vec<&HostHistory> {
        self.owners(address, Timestamp(0), Timestamp(u64::MAX))
    }

    /// What the bound on memory cost so far.
    pub fn counters(&self) -> HistoryCounters {
        self.counters
    }

    /// The memory in use, by its own estimate.
    pub fn memory(&self) -> ByteSize {
        ByteSize(self.used.saturating_add(self.fixed_bytes()))
    }

    fn learn_addresses(&mut self, id: &Arc<str>, line: &Line) {
        match &line.event {
            Event::Hello(hello) => self.present(id, hello),
            // Between two hellos a host may have been given another address. What comes by UDP may have been for many.
            Event::Connection(event)
                if is_a_hosts_own(event.local.address.ip())
                    && (event.protocol == Transport::Tcp || event.initiated == Some(true)) =>
            {
                self.claim(id, event.local.address, event.ts);
            }
            _ => {}
        }
    }

    fn present(&mut self, id: &Arc<str>, hello: &Hello) {
        let ips = hello.host.ips.iter().copied().filter(|ip| is_a_hosts_own(*ip));
        let addresses: Vec<Address> = ips.take(MAX_ADDRESSES).map(Address::from).collect();
        let Some(host) = self.hosts.get_mut(id) else { return };
        // A hello that comes late says nothing about what was given up since.
        if host.presented.is_none_or(|ts| ts <= hello.ts) {
            host.presented = Some(hello.ts);
            let before = std::mem::take(&mut host.addresses);
            for address in before.into_iter().filter(|address| !addresses.contains(address)) {
                self.owners.release(address, hello.ts, id);
            }
        }
        for address in addresses {
            self.claim(id, address, hello.ts);
        }
    }

    fn claim(&mut self, id: &Arc<str>, address: Address, from: Timestamp) {
        if self.fixed_bytes() >= self.memory / 4 {
            self.counters.addresses_refused += 1;
            return;
        }
        self.owners.claim(address, from, id);
        let Some(host) = self.hosts.get_mut(id) else { return };
        if !host.addresses.contains(&address) && host.addresses.len() < MAX_ADDRESSES {
            host.addresses.push(address);
        }
    }

    /// Runs a change of a host's history and keeps the totals and the order of forgetting in step with it.
    fn change(&mut self, id: &Arc<str>, change: impl FnOnce(&mut HostHistory)) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        let bytes = host.bytes();
        let before = KINDS.map(|kind| host.oldest(kind));
        change(host);
        self.used = self.used.saturating_add(host.bytes()).saturating_sub(bytes);
        let after = KINDS.map(|kind| host.oldest(kind));
        for ((order, before), after) in self.oldest.iter_mut().zip(before).zip(after) {
            if before == after {
                continue;
            }
            if let Some(rank) = before {
                order.remove(&(rank, id.clone()));
            }
            if let Some(rank) = after {
                order.insert((rank, id.clone()));
            }
        }
    }

    /// Forgets the least valuable event; false if there is none.
    fn forget_one(&mut self) -> bool {
        let first = self.oldest.iter().zip(KINDS).find_map(|(order, kind)| Some((kind, order.first()?.1.clone())));
        first.is_some_and(|(kind, id)| self.forget(&id, kind))
    }

    /// The same of one host.
    fn forget_one_of(&mut self, id: &Arc<str>) -> bool {
        let host = self.hosts.get(id);
        let first = host.and_then(|host| KINDS.into_iter().find(|kind| host.oldest(*kind).is_some()));
        first.is_some_and(|kind| self.forget(id, kind))
    }

    fn forget(&mut self, id: &Arc<str>, kind: Kind) -> bool {
        *match kind {
            Kind::File => &mut self.counters.files_forgotten,
            Kind::Connection => &mut self.counters.connections_forgotten,
            Kind::Process => &mut self.counters.processes_forgotten,
        } += 1;
        self.change(id, |host| host.forget_oldest(kind));
        true
    }

    /// What cannot be forgotten: the hosts and the addresses.
    fn fixed_bytes(&self) -> u64 {
        const PER_HOST: u64 = 2_048;
        (self.hosts.len() as u64).saturating_mul(PER_HOST).saturating_add(self.owners.bytes())
    }
}

/// Every host has a loopback address, and none is told by it.
fn is_a_hosts_own(ip: IpAddr) -> bool {
    let broadcast = ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn owned(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

/// A shared text: its bytes, its counts and its pointer.
fn size_of_text(text: &str) -> u64 {
    text.len() as u64 + 32
}

#[cfg(test)]
mod tests;
