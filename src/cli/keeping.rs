//! What a replay or a live sensor keeps in the store: uploads with what they taught, and alerts.

use crate::detect::Change;
use crate::sensor::{JoinedUpload, Outcome};
use crate::store::{Batch, Bounds, Entry, Losses, Pruned, Store, StoreError, UploadRow, WriterCounters, latest, over};

/// Uploads and alerts that are written at once.
const BATCH: usize = 4_096;

/// What was not handed over yet, and belongs together.
#[derive(Default)]
pub struct Found {
    batch: Batch,
}

impl Found {
    /// Takes an outcome, if it is an upload.
    pub fn put(&mut self, outcome: &Outcome) {
        if let Outcome::Upload(joined) = outcome {
            let JoinedUpload { upload, attribution, route, .. } = joined.as_ref();
            self.batch.uploads.push(UploadRow::of(upload, attribution, route.is_some()));
        }
    }

    /// Takes an alert, with the places that it goes to.
    pub fn alert(&mut self, entry: Entry, destinations: Vec<String>) {
        self.batch.alerts.push((entry, destinations));
    }

    /// Takes what was lost so far; it takes the place of what was told before.
    pub fn losses(&mut self, losses: Losses) {
        self.batch.losses = Some(losses);
    }

    /// Whether there are alerts, which should not wait.
    pub fn is_urgent(&self) -> bool {
        !self.batch.alerts.is_empty()
    }

    /// Forgets the uploads; gives the number of those that are over.
    pub fn forget_uploads(&mut self) -> u64 {
        over(&std::mem::take(&mut self.batch.uploads)) as u64
    }

    /// Hands everything over by `to`, with what else changed. What is not taken is kept for the next time: of the alerts and
    /// uploads the last `most`, of the changes the last of each row. Gives the number of alerts and of uploads that had to go.
    pub fn hand_over(
        &mut self,
        changes: Vec<Change>,
        most: usize,
        to: impl FnOnce(Batch) -> Result<(), Box<Batch>>,
    ) -> (u64, u64) {
        self.batch.changes.extend(changes);
        let Batch { alerts, uploads, changes, losses } = &self.batch;
        if alerts.is_empty() && uploads.is_empty() && changes.is_empty() && losses.is_none() {
            return (0, 0);
        }
        let Err(refused) = to(std::mem::take(&mut self.batch)) else { return (0, 0) };
        let mut batch = *refused;
        let (alerts, uploads) = (batch.alerts.len().saturating_sub(most), batch.uploads.len().saturating_sub(most));
        batch.alerts.drain(..alerts);
        let uploads = over(batch.uploads.drain(..uploads).as_slice());
        if batch.changes.len() > most {
            batch.changes = latest(batch.changes);
        }
        self.batch = batch;
        (alerts as u64, uploads as u64)
    }
}

/// A replay's store. Nothing else happens meanwhile, so it is written to directly.
pub struct Keeper {
    store: Store,
    bounds: Bounds,
    found: Found,
    counters: WriterCounters,
}

impl Keeper {
    /// Into a store.
    pub fn new(store: Store, bounds: Bounds) -> Self {
        Self { store, bounds, found: Found::default(), counters: WriterCounters::default() }
    }

    /// Takes what is kept of an outcome.
    pub fn put(&mut self, outcome: &Outcome) {
        self.found.put(outcome);
        match outcome {
            Outcome::Alert(alert) => self.found.alert(Entry::of(&alert.document()), Vec::new()),
            Outcome::Health(health) => self.found.alert(Entry::of(&health.document()), Vec::new()),
            Outcome::Upload(_) | Outcome::Flow(..) => {}
        }
    }

    /// Whether it is time to write.
    pub fn is_full(&self) -> bool {
        self.found.batch.uploads.len() + self.found.batch.alerts.len() >= BATCH
    }

    /// Writes what was taken, with what changed of the baseline.
    ///
    /// # Errors
    /// If the disk or the database refuses.
    pub fn write(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut batch = std::mem::take(&mut self.found.batch);
        batch.changes.extend(changes);
        let Pruned { alerts, waiting, uploads } = self.store.append(&batch, self.bounds)?;
        self.counters.stored += batch.alerts.len() as u64;
        self.counters.uploads += over(&batch.uploads) as u64;
        self.counters.pruned += alerts;
        self.counters.pruned_waiting += waiting;
        self.counters.pruned_uploads += uploads;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(n: u64) -> Entry {
        let text = n.to_string();
        Entry { event_id: text.clone(), time: text.clone(), severity: n, kind: text.clone(), document: text }
    }

    #[test]
    fn what_is_not_taken_waits_the_latest_of_it_where_there_is_no_room_and_the_rest_is_counted() {
        let mut found = Found::default();
        assert!(!found.is_urgent());
        (0..5).for_each(|n| found.alert(alert(n), Vec::new()));
        assert!(found.is_urgent());
        assert_eq!(found.hand_over(Vec::new(), 3, |batch| Err(Box::new(batch))), (2, 0));
        let mut taken = Vec::new();
        let mut take = |batch: Batch| {
            taken.extend(batch.alerts.iter().map(|(entry, _)| entry.severity));
            Ok(())
        };
        assert_eq!(found.hand_over(Vec::new(), 3, &mut take), (0, 0));
        assert_eq!(found.hand_over(Vec::new(), 3, |_| panic!("there is nothing")), (0, 0));
        assert_eq!(taken, [2, 3, 4]);
    }
}
