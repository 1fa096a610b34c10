//! What a replay or a live sensor keeps in the store: uploads with what they taught, and alerts.

use crate::detect::Change;
use crate::sensor::{JoinedUpload, Outcome};
use crate::store::{Batch, Bounds, Entry, Pruned, Store, StoreError, UploadRow, WriterCounters, latest};

/// Uploads and alerts that are written at once.
const BATCH: usize = 4_096;

/// Uploads that were not handed over yet, with the changes that belong to them.
#[derive(Default)]
pub struct Learned {
    uploads: Vec<UploadRow>,
    changes: Vec<Change>,
}

impl Learned {
    /// Takes an outcome, if it is an upload that is over.
    pub fn put(&mut self, outcome: &Outcome) {
        if let Outcome::Upload(joined) = outcome {
            let JoinedUpload { upload, attribution, outbound, .. } = joined.as_ref();
            self.uploads.extend(UploadRow::of(upload, attribution, *outbound));
        }
    }

    /// Hands everything over by `to`, with what else changed. What is not taken is kept for the next time: of the uploads
    /// the last `most`, of the changes the last of each row. Gives the number of uploads that had to go.
    pub fn hand_over(
        &mut self,
        changes: Vec<Change>,
        most: usize,
        to: impl FnOnce(Vec<UploadRow>, Vec<Change>) -> Result<(), (Vec<UploadRow>, Vec<Change>)>,
    ) -> u64 {
        self.changes.extend(changes);
        if self.uploads.is_empty() && self.changes.is_empty() {
            return 0;
        }
        let Err((mut uploads, changes)) = to(std::mem::take(&mut self.uploads), std::mem::take(&mut self.changes))
        else {
            return 0;
        };
        let over = uploads.len().saturating_sub(most);
        uploads.drain(..over);
        self.uploads = uploads;
        self.changes = if changes.len() > most { latest(changes) } else { changes };
        over as u64
    }
}

/// A replay's store. Nothing else happens meanwhile, so it is written to directly.
pub struct Keeper {
    store: Store,
    bounds: Bounds,
    batch: Batch,
    learned: Learned,
    counters: WriterCounters,
}

impl Keeper {
    /// Into a store.
    pub fn new(store: Store, bounds: Bounds) -> Self {
        let (batch, learned) = (Batch::default(), Learned::default());
        Self { store, bounds, batch, learned, counters: WriterCounters::default() }
    }

    /// Takes what is kept of an outcome.
    pub fn put(&mut self, outcome: &Outcome) {
        self.learned.put(outcome);
        match outcome {
            Outcome::Alert(alert) => self.batch.alerts.push((Entry::of(&alert.document()), Vec::new())),
            Outcome::Health(health) => self.batch.alerts.push((Entry::of(&health.document()), Vec::new())),
            Outcome::Upload(_) | Outcome::Flow(_) => {}
        }
    }

    /// Whether it is time to write.
    pub fn is_full(&self) -> bool {
        self.learned.uploads.len() + self.batch.alerts.len() >= BATCH
    }

    /// Writes what was taken, with what changed of the baseline.
    ///
    /// # Errors
    /// If the disk or the database refuses.
    pub fn write(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        let Learned { uploads, changes: earlier } = std::mem::take(&mut self.learned);
        self.batch.uploads = uploads;
        self.batch.changes = earlier.into_iter().chain(changes).collect();
        let Pruned { alerts, waiting, uploads } = self.store.append(&self.batch, self.bounds)?;
        self.counters.stored += self.batch.alerts.len() as u64;
        self.counters.uploads += self.batch.uploads.len() as u64;
        self.counters.pruned += alerts;
        self.counters.pruned_waiting += waiting;
        self.counters.pruned_uploads += uploads;
        self.batch = Batch::default();
        Ok(())
    }
}
