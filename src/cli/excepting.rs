//! Exceptions of a running sensor: those of the store, taken up as they change.

use std::time::{Duration, Instant};

use crate::detect::Exception;
use crate::endpoint::printable;
use crate::sensor::Judgement;
use crate::store::{ExceptionWatch, Location, Store, StoreError};

/// How often the store is asked whether somebody wrote to it.
const PAUSE: Duration = Duration::from_secs(1);

/// The exceptions in force.
pub struct Excepting {
    watch: Option<ExceptionWatch>,
    looked: Option<Instant>,
    /// What passed before the start was taken back.
    restored: bool,
}

impl Excepting {
    /// Joins the store, if there is one, which is open by then. It has to stay within reach.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn start(store: Option<&Location>) -> Result<Self, StoreError> {
        let watch = store.map(Store::join).transpose()?.map(ExceptionWatch::new);
        Ok(Self { watch, looked: None, restored: false })
    }

    /// All of them as the store has them now, to be taken up together with something else; none if there is no store.
    ///
    /// # Errors
    /// If the store fails, or holds what no exception can be.
    pub fn read(&self) -> Result<Option<Vec<Exception>>, StoreError> {
        self.watch.as_ref().map(|watch| watch.store().exceptions()).transpose()
    }

    /// Takes up what was changed: all of it, or nothing where something in it is wrong.
    pub fn follow(&mut self, judgement: &mut Judgement, log: &mut impl FnMut(String)) {
        let Some(watch) = &mut self.watch else { return };
        if self.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
            return;
        }
        self.looked = Some(Instant::now());
        match watch.look() {
            Ok(None) => {}
            Ok(Some(list)) => {
                let count = list.len();
                let first = !std::mem::replace(&mut self.restored, true);
                if first {
                    if let Err(error) = restore(watch.store(), judgement) {
                        log(format!(
                            "what passed under exceptions before is not known: {}",
                            printable(&error.to_string())
                        ));
                    }
                } else {
                    judgement.exceptions_mut().replace(list);
                }
                if count > 0 || !first {
                    log(format!("exceptions in force: {count}"));
                }
            }
            Err(error) => log(format!("goes on with the old exceptions: {}", printable(&error.to_string()))),
        }
    }
}

/// The exceptions of a store, with what passed under each before; that counts towards its ceiling.
///
/// # Errors
/// If the store fails, or holds what no exception can be.
pub fn restore(store: &Store, judgement: &mut Judgement) -> Result<(), StoreError> {
    let (list, days) = (store.exceptions()?, store.exception_days()?);
    judgement.exceptions_mut().replace(list);
    days.into_iter().for_each(|(id, at, bytes)| judgement.exceptions_mut().restore(id, at, bytes.0));
    Ok(())
}
