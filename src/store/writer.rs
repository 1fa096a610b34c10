//! The thread that writes, so that whoever finds something never waits for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{Batch, Bounds, Store, StoreError, UploadRow};
use crate::detect::Change;

/// Batches that are written in one transaction.
const BATCH: usize = 256;

/// How long after a transaction that failed the next one is tried.
const PAUSE: Duration = Duration::from_millis(500);

/// How often the end of the program tries a transaction that fails.
const LAST_TRIES: u32 = 3;

/// What the writer counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounters {
    /// Alerts on the disk.
    pub stored: u64,
    /// Uploads on the disk.
    pub uploads: u64,
    /// Alerts that there was no room for in the queue.
    pub queue_full: u64,
    /// Alerts that the disk did not take.
    pub failed: u64,
    /// Uploads that there was no room for, or that the disk did not take.
    pub uploads_lost: u64,
    /// Transactions that failed, and were tried again.
    pub refused: u64,
    /// Alerts deleted by their age or for want of room.
    pub pruned: u64,
    /// Deliveries that still waited and were deleted with their alert.
    pub pruned_waiting: u64,
    /// Uploads deleted by their age or for want of room.
    pub pruned_uploads: u64,
    /// Rows of the baseline deleted, as nothing was seen of them for too long.
    pub pruned_baseline: u64,
    /// Bytes of the documents of all alerts that are kept.
    pub documents: u64,
    /// Batches that wait to be written.
    pub waiting: u64,
}

#[derive(Debug, Default)]
struct Board {
    stored: AtomicU64,
    uploads: AtomicU64,
    queue_full: AtomicU64,
    failed: AtomicU64,
    uploads_lost: AtomicU64,
    refused: AtomicU64,
    pruned: AtomicU64,
    pruned_waiting: AtomicU64,
    pruned_uploads: AtomicU64,
    pruned_baseline: AtomicU64,
    documents: AtomicU64,
}

/// The writer at work.
#[derive(Debug)]
pub struct Writer {
    to: Sender<Batch>,
    board: Arc<Board>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread. At most `queue` batches wait for it, and as many alerts and uploads for a disk that refuses; `stored`
    /// is called after each transaction.
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
        let (forgotten, documents) = (AtomicU64::new(store.forgotten), AtomicU64::new(store.bytes));
        let board = Arc::new(Board { pruned_baseline: forgotten, documents, ..Board::default() });
        let shared = Arc::clone(&board);
        let work = Work { store, bounds, queue, board: shared, batch: Batch::default() };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run(&from, &stored))
            .map_err(StoreError::Thread)?;
        Ok(Self { to, board, thread })
    }

    /// Hands over what belongs together: all of it is one transaction. Never waits: where the queue is full, it is given back, to
    /// be handed over later.
    ///
    /// # Errors
    /// What was not taken.
    pub fn put(&self, batch: Batch) -> Result<(), Box<Batch>> {
        self.to.try_send(batch).map_err(|refused| Box::new(refused.into_inner()))
    }

    /// Counts alerts and uploads that whoever hands them over had to give up.
    pub fn lost(&self, alerts: u64, uploads: u64) {
        self.board.queue_full.fetch_add(alerts, Ordering::Relaxed);
        self.board.uploads_lost.fetch_add(uploads, Ordering::Relaxed);
    }

    /// As [`Writer::put`], but waits where the queue is full; for a replay, which loses nothing by it.
    pub fn put_patiently(&self, batch: Batch) {
        if let Err(refused) = self.to.send(batch) {
            self.lost(refused.0.alerts.len() as u64, over(&refused.0.uploads) as u64);
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> WriterCounters {
        WriterCounters { waiting: self.to.len() as u64, ..counters(&self.board) }
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
        uploads: read(&board.uploads),
        queue_full: read(&board.queue_full),
        failed: read(&board.failed),
        uploads_lost: read(&board.uploads_lost),
        refused: read(&board.refused),
        pruned: read(&board.pruned),
        pruned_waiting: read(&board.pruned_waiting),
        pruned_uploads: read(&board.pruned_uploads),
        pruned_baseline: read(&board.pruned_baseline),
        documents: read(&board.documents),
        waiting: 0,
    }
}

struct Work {
    store: Store,
    bounds: Bounds,
    queue: usize,
    board: Arc<Board>,
    /// What is to be written, and what the disk refused before.
    batch: Batch,
}

impl Work {
    fn run(mut self, from: &Receiver<Batch>, stored: &impl Fn()) {
        loop {
            let refused = !self.is_empty();
            let first = if refused { from.recv_timeout(PAUSE) } else { from.recv().map_err(RecvTimeoutError::from) };
            let ended = match first {
                Ok(batch) => {
                    self.take(batch);
                    from.try_iter().take(BATCH - 1).for_each(|batch| self.take(batch));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if !self.is_empty() {
                self.write(stored);
                // A disk that refuses is not asked at once again by what comes next.
                if refused && !self.is_empty() && !ended {
                    std::thread::sleep(PAUSE);
                }
            }
            if ended {
                return self.end(stored);
            }
        }
    }

    fn is_empty(&self) -> bool {
        let Batch { alerts, uploads, changes, losses } = &self.batch;
        alerts.is_empty() && uploads.is_empty() && changes.is_empty() && losses.is_none()
    }

    fn take(&mut self, batch: Batch) {
        self.batch.alerts.extend(batch.alerts);
        self.batch.uploads.extend(batch.uploads);
        self.batch.changes.extend(batch.changes);
        self.batch.losses = batch.losses.or(self.batch.losses.take());
    }

    fn write(&mut self, stored: &impl Fn()) {
        let add = |count: &AtomicU64, more: usize| count.fetch_add(more as u64, Ordering::Relaxed);
        match self.store.append(&self.batch, self.bounds) {
            Ok(pruned) => {
                add(&self.board.stored, self.batch.alerts.len());
                add(&self.board.uploads, over(&self.batch.uploads));
                self.board.pruned.fetch_add(pruned.alerts, Ordering::Relaxed);
                self.board.pruned_waiting.fetch_add(pruned.waiting, Ordering::Relaxed);
                self.board.pruned_uploads.fetch_add(pruned.uploads, Ordering::Relaxed);
                self.board.documents.store(self.store.bytes, Ordering::Relaxed);
                self.batch = Batch::default();
                stored();
            }
            Err(_) => {
                add(&self.board.refused, 1);
                // The latest alerts and uploads are kept for when the disk takes them; of the baseline, the last change of each row.
                let Batch { alerts, uploads, changes, .. } = &mut self.batch;
                add(&self.board.failed, drop_first(alerts, self.queue));
                let most = uploads.len().saturating_sub(self.queue);
                add(&self.board.uploads_lost, over(uploads.drain(..most).as_slice()));
                if changes.len() > self.queue {
                    *changes = latest(std::mem::take(changes));
                }
            }
        }
    }

    fn end(&mut self, stored: &impl Fn()) {
        for _ in 0..LAST_TRIES {
            if self.is_empty() {
                return;
            }
            std::thread::sleep(PAUSE);
            self.write(stored);
        }
        self.board.failed.fetch_add(self.batch.alerts.len() as u64, Ordering::Relaxed);
        self.board.uploads_lost.fetch_add(over(&self.batch.uploads) as u64, Ordering::Relaxed);
    }
}

/// How many of these uploads are over: of one that runs, more comes.
pub(crate) fn over(uploads: &[UploadRow]) -> usize {
    uploads.iter().filter(|row| row.is_over()).count()
}

fn drop_first<T>(all: &mut Vec<T>, most: usize) -> usize {
    let over = all.len().saturating_sub(most);
    all.drain(..over);
    over
}

/// The last change of each row, in the order of these.
pub(crate) fn latest(changes: Vec<Change>) -> Vec<Change> {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<Change> = changes
        .into_iter()
        .rev()
        .filter(|change| {
            let key = match change {
                Change::Put(row) => &row.key,
                Change::Forget(key) => key,
            };
            seen.insert(key.clone())
        })
        .collect();
    kept.reverse();
    kept
}
