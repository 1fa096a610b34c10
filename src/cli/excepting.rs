//! Exceptions of a running sensor: those of the store, taken up as they change.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::endpoint::printable;
use crate::sensor::Judgement;
use crate::store::{ExceptionWatch, Store, StoreError};

/// How often the store is asked whether somebody wrote to it.
const PAUSE: Duration = Duration::from_secs(1);

/// The exceptions in force.
pub struct Excepting {
    watch: Option<ExceptionWatch>,
    looked: Option<Instant>,
}

impl Excepting {
    /// Opens the store, if there is one. It has to stay within reach.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn start(store: Option<&Path>) -> Result<Self, StoreError> {
        let watch = store.map(Store::open).transpose()?.map(ExceptionWatch::new);
        Ok(Self { watch, looked: None })
    }

    /// Looks at once, and takes up all of them, changed or not.
    pub fn reload(&mut self, judgement: &mut Judgement, log: &mut impl FnMut(String)) {
        if let Some(watch) = &mut self.watch {
            watch.forget();
        }
        self.looked = None;
        self.follow(judgement, log);
    }

    /// Takes up what was changed: all of it, or nothing where something in it is wrong.
    pub fn follow(&mut self, judgement: &mut Judgement, log: &mut impl FnMut(String)) {
        let Some(watch) = &mut self.watch else { return };
        if self.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
            return;
        }
        let first = self.looked.replace(Instant::now()).is_none() && judgement.exceptions_mut().is_empty();
        match watch.look() {
            Ok(None) => {}
            Ok(Some(list)) => {
                let count = list.len();
                judgement.exceptions_mut().replace(list);
                if first {
                    restore(watch.store(), judgement, log);
                }
                if count > 0 || !first {
                    log(format!("exceptions in force: {count}"));
                }
            }
            Err(error) => log(format!("goes on with the old exceptions: {}", printable(&error.to_string()))),
        }
    }
}

/// What passed under each before the start counts towards its ceiling.
fn restore(store: &Store, judgement: &mut Judgement, log: &mut impl FnMut(String)) {
    match store.exception_days() {
        Ok(days) => days.into_iter().for_each(|(id, at, bytes)| judgement.exceptions_mut().restore(id, at, bytes.0)),
        Err(error) => {
            log(format!("what passed under exceptions today is not known: {}", printable(&error.to_string())))
        }
    }
}
