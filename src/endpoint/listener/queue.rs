//! Queues that are bounded in bytes: who sends waits for room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// What an item takes besides its own bytes.
const EACH: usize = 256;

/// A queue for items of at most so many bytes together.
pub(super) fn queue<T>(bytes: u64) -> (Sender<T>, Receiver<T>) {
    let most = usize::try_from(bytes).unwrap_or(usize::MAX).min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
    let (to, from) = unbounded_channel();
    (Sender { to, room: Arc::new(Semaphore::new(most)), most }, Receiver { from })
}

/// The end that items are put in.
#[derive(Debug)]
pub(super) struct Sender<T> {
    to: UnboundedSender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    most: usize,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { to: self.to.clone(), room: Arc::clone(&self.room), most: self.most }
    }
}

/// Room for an item.
pub(super) struct Room(OwnedSemaphorePermit);

impl<T> Sender<T> {
    fn permits(&self, bytes: usize) -> u32 {
        // An item that is larger than the queue goes when nothing else is in it.
        u32::try_from(bytes.saturating_add(EACH).min(self.most)).unwrap_or(u32::MAX)
    }

    /// Bytes in the queue, as it counts them.
    pub(super) fn used(&self) -> u64 {
        self.most.saturating_sub(self.room.available_permits()) as u64
    }

    /// Waits for room, for so long.
    pub(super) async fn reserve(&self, bytes: usize, wait: Duration) -> Option<Room> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.permits(bytes));
        tokio::time::timeout(wait, room).await.ok()?.ok().map(Room)
    }

    /// Puts an item where there is room for it. One that nobody takes any more is gone.
    pub(super) fn put(&self, room: Room, item: T) {
        let _ = self.to.send((item, room.0));
    }

    /// Waits for room, outside of any task, and puts the item there; false if nobody takes any more.
    pub(super) fn put_blocking(&self, bytes: usize, item: T) -> bool {
        loop {
            match Arc::clone(&self.room).try_acquire_many_owned(self.permits(bytes)) {
                Ok(room) => return self.to.send((item, room)).is_ok(),
                Err(TryAcquireError::Closed) => return false,
                Err(TryAcquireError::NoPermits) if self.to.is_closed() => return false,
                Err(TryAcquireError::NoPermits) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// The end that items are taken from.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    from: UnboundedReceiver<(T, OwnedSemaphorePermit)>,
}

impl<T> Receiver<T> {
    /// The next item, if there is one; its room is free again.
    pub(super) fn try_take(&mut self) -> Result<T, TryRecvError> {
        self.from.try_recv().map(|(item, _)| item)
    }

    /// Waits for an item; none once nobody can send any more.
    pub(super) async fn take(&mut self) -> Option<(T, OwnedSemaphorePermit)> {
        self.from.recv().await
    }

    /// The next item with its room, which stays taken until it is dropped.
    pub(super) fn try_take_with_room(&mut self) -> Option<(T, OwnedSemaphorePermit)> {
        self.from.try_recv().ok()
    }
}
