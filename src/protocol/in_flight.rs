//! How many uploads are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of what goes on, by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploading {
    /// HTTP requests with a body, and WebSockets, from their head to their end.
    pub http: u64,
    /// FTP data connections, from the first byte that a client sent over them to their end.
    pub ftp: u64,
}

impl Uploading {
    /// Adds another lane's counts.
    pub fn add(&mut self, other: &Self) {
        self.http += other.http;
        self.ftp += other.ftp;
    }
}

/// The counts of a lane. Only its thread changes them: that they are atomic is for the lane to be handed to that thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    http: Arc<AtomicU64>,
    ftp: Arc<AtomicU64>,
}

/// One of them, for as long as it is there.
#[derive(Debug)]
pub(super) struct InFlight(Arc<AtomicU64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlight {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Tally {
    pub(super) fn http(&self) -> InFlight {
        InFlight::new(&self.http)
    }

    pub(super) fn ftp(&self) -> InFlight {
        InFlight::new(&self.ftp)
    }

    pub(super) fn now(&self) -> Uploading {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Uploading { http: count(&self.http), ftp: count(&self.ftp) }
    }
}
