//! What all connections and threads of the listener share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::commit::Request;
use super::hosts::Hosts;
use super::journal::JournalCounters;
use super::lines::Pool;
use super::queue::Sender;
use super::reason::{Ends, Reason};
use crate::config;
use crate::endpoint::authority::Roll;
use crate::endpoint::{Counters, Observation, printable};

/// Lines for the log that wait to be written.
const LOG: usize = 1_024;

/// Connections that ended for one reason and are each told of in the log, in a minute; further ones are only counted.
const TOLD: u64 = 20;

/// State of the listener.
pub(super) struct Shared {
    pub(super) settings: config::Listener,
    pub(super) hosts: Hosts,
    pub(super) pool: Arc<Pool>,
    pub(super) ends: Ends,
    pub(super) roll: RwLock<Arc<Roll>>,
    pub(super) disk: Disk,
    /// To the history.
    pub(super) events: Sender<Vec<Observation>>,
    /// To the journal.
    pub(super) requests: Sender<Request>,
    /// Connections that are open.
    pub(super) open: AtomicUsize,
    pub(super) accepted: AtomicU64,
    /// Times that a connection was not read for a while, as it was too fast.
    pub(super) paced: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    pub(super) tally: Tallies,
    next: AtomicU64,
    stopping: AtomicBool,
    over: AtomicBool,
    log: SyncSender<String>,
    unlogged: AtomicU64,
    told: Mutex<(Instant, Vec<u64>)>,
    journal: Mutex<JournalCounters>,
    /// By thread.
    counters: Mutex<Vec<Counters>>,
}

/// Sums over all connections, those of hosts that were forgotten included.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) events: AtomicU64,
    pub(super) missing: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) oversized: AtomicU64,
    pub(super) restored: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        settings: config::Listener,
        roll: Roll,
        events: Sender<Vec<Observation>>,
        requests: Sender<Request>,
    ) -> (Self, Receiver<String>) {
        let (log, lines) = sync_channel(LOG);
        let threads = usize::try_from(settings.threads).unwrap_or(1);
        let shared = Self {
            hosts: Hosts::new(usize::try_from(settings.hosts).unwrap_or(usize::MAX)),
            pool: Pool::new(settings.memory.0),
            ends: Ends::default(),
            roll: RwLock::new(Arc::new(roll)),
            disk: Disk::new(Duration::from_nanos(settings.disk_timeout.0)),
            events,
            requests,
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            paced: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            tally: Tallies::default(),
            next: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            over: AtomicBool::new(false),
            log,
            unlogged: AtomicU64::new(0),
            told: Mutex::new((Instant::now(), vec![0; Reason::ALL.len()])),
            journal: Mutex::default(),
            counters: Mutex::new(vec![Counters::default(); threads.max(1)]),
            settings,
        };
        (shared, lines)
    }

    /// A number that no other connection of this run has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// No connection sends anything any more.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A line for the log. Where too many wait, it is counted instead.
    pub(super) fn log(&self, line: String) {
        if let Err(TrySendError::Full(_)) = self.log.try_send(line) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that there was no room for since the last call.
    pub(super) fn take_unlogged(&self) -> u64 {
        self.unlogged.swap(0, Ordering::Relaxed)
    }

    /// Counts the end of a connection, and tells of it if it is a fault, as far as the log is not flooded.
    pub(super) fn ended(&self, reason: Reason, address: &str, host: &str) {
        self.ends.count(reason);
        if !reason.is_fault() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.elapsed() >= Duration::from_secs(60) {
            *told = (Instant::now(), vec![0; Reason::ALL.len()]);
        }
        let Some(count) = told.1.get_mut(reason as usize) else { return };
        *count += 1;
        let more = match *count {
            count if count > TOLD => return,
            TOLD => "; more of them in this minute are only counted",
            _ => "",
        };
        drop(told);
        let who = if host.is_empty() { String::new() } else { format!("{} at ", printable(host)) };
        self.log(format!("listener: {who}{address} dropped: {}{more}", reason.name()));
    }

    pub(super) fn publish(&self, counters: JournalCounters) {
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    pub(super) fn journal(&self) -> JournalCounters {
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish_intake(&self, thread: usize, counters: Counters) {
        if let Some(place) = self.counters.lock().unwrap_or_else(PoisonError::into_inner).get_mut(thread) {
            *place = counters;
        }
    }

    pub(super) fn intake(&self) -> Counters {
        let mut sum = Counters::default();
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|counters| sum.add(counters));
        sum
    }

    pub(super) fn roll(&self) -> Arc<Roll> {
        Arc::clone(&self.roll.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether the disk takes what it is given.
#[derive(Debug)]
pub(super) struct Disk {
    start: Instant,
    timeout: Duration,
    refuses: AtomicBool,
    /// Since when a write is under way, in milliseconds from the start, plus one; 0 for none.
    since: AtomicU64,
}

impl Disk {
    fn new(timeout: Duration) -> Self {
        Self { start: Instant::now(), timeout, refuses: AtomicBool::new(false), since: AtomicU64::new(0) }
    }

    pub(super) fn begin(&self) {
        self.since.store(self.start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.refuses.store(true, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.refuses.store(false, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
    }

    /// Whether it does, and in time.
    pub(super) fn is_fine(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        let late = since > 0
            && (self.start.elapsed().as_millis() as u64).saturating_sub(since) as u128 >= self.timeout.as_millis();
        !late && !self.refuses.load(Ordering::Relaxed)
    }
}
