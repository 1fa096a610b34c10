//! The thread that writes alerts, so that whoever raises them never waits for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Bounds, Entry, Store, StoreError};

/// Alerts that are written in one transaction.
const BATCH: usize = 256;

/// How often a transaction that failed is tried, and how long after.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// What the writer counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounters {
    /// Alerts on the disk.
    pub stored: u64,
    /// Alerts that there was no room for in the queue.
    pub queue_full: u64,
    /// Alerts that the disk did not take.
    pub failed: u64,
    /// Alerts deleted by their age or for want of room.
    pub pruned: u64,
    /// Deliveries that still waited and were deleted with their alert.
    pub pruned_waiting: u64,
}

#[derive(Debug, Default)]
struct Board {
    stored: AtomicU64,
    queue_full: AtomicU64,
    failed: AtomicU64,
    pruned: AtomicU64,
    pruned_waiting: AtomicU64,
}

/// The writer at work.
#[derive(Debug)]
pub struct Writer {
    to: Sender<(Entry, Vec<String>)>,
    board: Arc<Board>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread. At most `queue` alerts wait for it; `stored` is called after each transaction.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        store: Store,
        bounds: Bounds,
        queue: usize,
        stored: impl Fn() + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (to, from) = bounded(queue);
        let board = Arc::new(Board::default());
        let shared = Arc::clone(&board);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(store, bounds, &from, &shared, &stored))
            .map_err(StoreError::Thread)?;
        Ok(Self { to, board, thread })
    }

    /// Hands an alert over, with the places that it goes to. Never waits: where the queue is full, it is lost and counted.
    pub fn put(&self, entry: Entry, destinations: Vec<String>) {
        if self.to.try_send((entry, destinations)).is_err() {
            self.board.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As [`Writer::put`], but waits where the queue is full; for a replay, which loses nothing by it.
    pub fn put_patiently(&self, entry: Entry, destinations: Vec<String>) {
        if self.to.send((entry, destinations)).is_err() {
            self.board.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> WriterCounters {
        counters(&self.board)
    }

    /// Writes what is in the queue, and ends.
    pub fn finish(self) -> WriterCounters {
        drop(self.to);
        // A thread that panicked has ended the process.
        let _ = self.thread.join();
        counters(&self.board)
    }
}

fn counters(board: &Board) -> WriterCounters {
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    WriterCounters {
        stored: read(&board.stored),
        queue_full: read(&board.queue_full),
        failed: read(&board.failed),
        pruned: read(&board.pruned),
        pruned_waiting: read(&board.pruned_waiting),
    }
}

fn write(mut store: Store, bounds: Bounds, from: &Receiver<(Entry, Vec<String>)>, board: &Board, stored: &impl Fn()) {
    while let Ok(first) = from.recv() {
        let mut batch = vec![first];
        batch.extend(from.try_iter().take(BATCH - 1));
        let count = batch.len() as u64;
        let mut tried = 0;
        let result = loop {
            let result = store.append(&batch, bounds);
            tried += 1;
            if result.is_ok() || tried >= TRIES {
                break result;
            }
            std::thread::sleep(PAUSE);
        };
        match result {
            Ok(pruned) => {
                board.stored.fetch_add(count, Ordering::Relaxed);
                board.pruned.fetch_add(pruned.alerts, Ordering::Relaxed);
                board.pruned_waiting.fetch_add(pruned.waiting, Ordering::Relaxed);
                stored();
            }
            Err(_) => {
                board.failed.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}
