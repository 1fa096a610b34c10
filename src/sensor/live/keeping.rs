//! Packets on their way into the worker, where those of uploads are kept for alerts.

use std::sync::{Arc, Mutex, PoisonError};

use crate::capture::Packet;
use crate::capture::live::Sink;
use crate::evidence::Keeper;
use crate::sensor::worker::Worker;

/// What has a worker that packets go into.
pub(super) trait IntoWorker: Sink {
    /// The worker.
    fn worker(&mut self) -> &mut Worker;
}

/// Hands packets on as if it were not there, and then to the keeper: only when they were followed is it known which begin an upload.
pub(super) struct Keeping<'t, S> {
    pub(super) sink: S,
    pub(super) keeper: &'t Arc<Mutex<Keeper>>,
}

impl<S: IntoWorker> Sink for Keeping<'_, S> {
    fn take<'p>(&mut self, packets: impl Iterator<Item = Packet<'p>>) {
        let packets: Vec<Packet<'p>> = packets.collect();
        self.sink.take(packets.iter().copied());
        let worker = self.sink.worker();
        // Who asks holds it no longer than it takes to copy what is asked for.
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        worker.take_begun(&mut |a, b| keeper.begin(a, b));
        for packet in &packets {
            keeper.take(packet, |segment| worker.reads(segment));
        }
    }
}
