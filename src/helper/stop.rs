//! The wish that everything ends.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Set once; whoever waits wakes up.
#[derive(Debug, Default)]
pub struct Stop {
    wished: Mutex<bool>,
    woken: Condvar,
}

impl Stop {
    /// Wishes that everything ends.
    pub fn set(&self) {
        *self.wished.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.notify_all();
    }

    /// Whether it was wished.
    pub fn is_set(&self) -> bool {
        *self.wished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for it at most so long; whether it was wished.
    pub fn wait(&self, most: Duration) -> bool {
        let end = Instant::now() + most;
        let mut wished = self.wished.lock().unwrap_or_else(PoisonError::into_inner);
        while !*wished {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            wished = self.woken.wait_timeout(wished, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
