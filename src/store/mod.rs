//! What the sensor keeps on the disk: alerts, and what of them still has to be delivered; uploads; and what is normal here.
//!
//! In come alerts as ECS documents, with the names of the places that they go to, uploads, and changes of the baseline. What comes in one
//! [`Batch`] is one transaction of SQLite, on the disk when [`Store::append`] returns: a process that is killed afterwards
//! loses none of it, and the counts of the baseline agree with the uploads. What is oldest is deleted where age or size reach
//! their bound, and counted.

mod baseline;
mod case;
mod exceptions;
mod losses;
mod newest;
mod reading;
mod report;
mod schema;
mod uploads;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, params};

use crate::detect::Change;
use crate::net::{ByteSize, Span};
use crate::record::Document;
pub use exceptions::{Act, ExceptionWatch, HistoryEntry, Kept};
pub use losses::Losses;
pub use newest::{Newest, NewestAlert, NewestUpload};
pub use reading::{BaselineStatus, InventoryRow, KindStatus, Maturity, Reading, Since};
pub use report::{
    AlertCount, AlertRow, Amount, Digest, DigestBounds, Flow, Named, ProtocolSlot, Ranking, Share as AttributionShare,
    Timeline,
};
pub use uploads::UploadRow;
pub use writer::{Writer, WriterCounters};
pub(crate) use writer::{latest, over};

/// How long one connection waits for another's transaction.
const BUSY: Duration = Duration::from_secs(5);

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened as a database.
    #[error("{}: cannot be used as the store (`store.path`): {reason}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A statement failed.
    #[error("the store failed: {0}")]
    Statement(#[from] rusqlite::Error),
    /// A row of an exception says what no exception can.
    #[error("the store's exception {id} cannot be read: {reason}; mend its row, or delete it")]
    Exception {
        /// Its identifier.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Exceptions changed while a change was made up.
    #[error("the exceptions were changed by somebody else in the meantime; nothing was done: look again")]
    Changed,
    /// There is no room for one more.
    #[error("there may be {0} exceptions (`detect.max_exceptions`): remove some that are not needed any more")]
    Full(u64),
    /// The thread that writes could not be started.
    #[error("the thread of the store could not be started")]
    Thread(#[source] std::io::Error),
}

/// What is kept of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `event.id`.
    pub event_id: String,
    /// `@timestamp`, in RFC 3339.
    pub time: String,
    /// `event.severity`.
    pub severity: u64,
    /// `event.dataset`.
    pub kind: String,
    /// The ECS document, as one line of JSON.
    pub document: String,
}

impl Entry {
    /// Of an alert's document.
    pub fn of(document: &Document<'_>) -> Self {
        let text = |path| document.get(path).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        Self {
            event_id: text("event.id"),
            time: text("@timestamp"),
            severity: document.get("event.severity").and_then(|value| value.as_u64()).unwrap_or(0),
            kind: text("event.dataset"),
            document: document.to_string(),
        }
    }
}

/// An alert that waits for its delivery to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number in the store; later ones are greater.
    pub number: i64,
    /// The alert.
    pub entry: Entry,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file.
    File(PathBuf),
    /// In this process alone, for as long as one [`Store`] has it open; the number tells several apart.
    Memory(u64),
}

impl Location {
    /// A new one in memory.
    pub fn memory() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Memory(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory(_) => None,
        }
    }
}

/// What is written at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Alerts, each with the places that it goes to.
    pub alerts: Vec<(Entry, Vec<String>)>,
    /// Uploads; those that still run are listed apart, until they are over.
    pub uploads: Vec<UploadRow>,
    /// What these and earlier uploads changed of what is normal here.
    pub changes: Vec<Change>,
    /// What was lost so far, if that is to be kept.
    pub losses: Option<Losses>,
}

/// What the store may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long an alert or an upload is kept.
    pub age: Span,
    /// Uploads that are kept.
    pub uploads: u64,
    /// How much its documents may take together.
    pub bytes: ByteSize,
}

/// What was deleted for want of room or by its age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Alerts.
    pub alerts: u64,
    /// Deliveries that still waited; an alert may have several.
    pub waiting: u64,
    /// Uploads.
    pub uploads: u64,
}

/// The database, as one thread uses it.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// Of all documents; not known to one that joined.
    bytes: u64,
    /// Rows of the baseline that were not seen for too long.
    forgotten: u64,
}

impl Bounds {
    /// Of the configuration.
    pub fn of(config: &crate::config::Store) -> Self {
        Self { age: config.max_age, uploads: config.max_uploads, bytes: config.max_bytes }
    }
}

impl Store {
    /// Opens the file, or makes it, and brings an older one up to date.
    ///
    /// # Errors
    /// If it is no database, cannot be written, is damaged, or comes from a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, OpenFlags::empty(), true)
    }

    /// As [`Store::open`], wherever it is.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_at(location: &Location) -> Result<Self, StoreError> {
        Self::at(location, true)
    }

    /// Another connection to a store that is open, for somebody who appends nothing. The file was looked over when it was opened
    /// first; with a large one, to do so for each connection would take long.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn join(location: &Location) -> Result<Self, StoreError> {
        Self::at(location, false)
    }

    fn at(location: &Location, first: bool) -> Result<Self, StoreError> {
        match location {
            Location::File(path) => Self::open_with(path, OpenFlags::empty(), first),
            // The slash makes it one for all connections of this process.
            Location::Memory(number) => {
                let name = format!("file:/outfall-{number}?vfs=memdb");
                Self::open_with(Path::new(&name), OpenFlags::SQLITE_OPEN_URI, first)
            }
        }
    }

    fn open_with(path: &Path, more: OpenFlags, first: bool) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags | more);
        let mut connection = opened.map_err(|error| refused(explained(&error)))?;
        if connection.is_readonly("main").unwrap_or(false) {
            return Err(refused("it can only be read; give its user the right to write it".to_owned()));
        }
        schema::prepare(&mut connection, BUSY, first).map_err(|unfit| refused(unfit.text()))?;
        let sum = "SELECT coalesce(sum(length(CAST(document AS BLOB))), 0) FROM alerts";
        let bytes: i64 = if first { connection.query_row(sum, [], |row| row.get(0))? } else { 0 };
        Ok(Self { connection, bytes: u64::try_from(bytes).unwrap_or(0), forgotten: 0 })
    }

    /// Writes a batch, and deletes what is beyond the bounds: all of it in one transaction, which is on the disk on return.
    ///
    /// # Errors
    /// If the disk or the database refuses; nothing is written then.
    pub fn append(&mut self, batch: &Batch, bounds: Bounds) -> Result<Pruned, StoreError> {
        let now = now();
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut bytes = self.bytes;
        {
            let mut alert = transaction.prepare_cached(
                "INSERT INTO alerts (event_id, time, stored, severity, kind, document) VALUES (?, ?, ?, ?, ?, ?)",
            )?;
            let mut outbox = transaction.prepare_cached("INSERT INTO outbox (destination, alert) VALUES (?, ?)")?;
            for (entry, destinations) in &batch.alerts {
                let severity = i64::try_from(entry.severity).unwrap_or(i64::MAX);
                alert.execute(params![entry.event_id, entry.time, now, severity, entry.kind, entry.document])?;
                let number = transaction.last_insert_rowid();
                exceptions::note(&transaction, number, entry)?;
                for destination in destinations {
                    outbox.execute(params![destination, number])?;
                }
                bytes += entry.document.len() as u64;
            }
        }
        uploads::write(&transaction, &batch.uploads, now)?;
        baseline::write(&transaction, &batch.changes)?;
        if let Some(losses) = &batch.losses {
            losses::write(&transaction, losses, now, bounds.age)?;
        }
        let mut pruned = prune(&transaction, &mut bytes, now, bounds)?;
        pruned.uploads = uploads::prune(&transaction, now, bounds.age, bounds.uploads)?;
        transaction.commit()?;
        self.bytes = bytes;
        Ok(pruned)
    }

    /// Forgets which uploads were running: whoever listed them has ended.
    ///
    /// # Errors
    /// If the disk or the database refuses.
    pub fn forget_running(&self) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM running", [])?;
        Ok(())
    }

    /// The alerts that wait for a place and have a greater number than `after`, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn waiting(&self, destination: &str, after: i64, most: usize) -> Result<Vec<Waiting>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, event_id, time, severity, kind, document FROM outbox JOIN alerts ON number = alert
             WHERE destination = ? AND alert > ? AND state = 'waiting' ORDER BY alert LIMIT ?",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![destination, after, most], |row| {
            let severity: i64 = row.get(3)?;
            let entry = Entry {
                event_id: row.get(1)?,
                time: row.get(2)?,
                severity: u64::try_from(severity).unwrap_or(0),
                kind: row.get(4)?,
                document: row.get(5)?,
            };
            Ok(Waiting { number: row.get(0)?, entry })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a place has got everything up to this number.
    ///
    /// # Errors
    /// If the database fails.
    pub fn delivered(&self, destination: &str, up_to: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE outbox SET state = 'sent', attempts = attempts + 1
             WHERE destination = ? AND alert <= ? AND state = 'waiting'",
            )?
            .execute(params![destination, up_to])?;
        Ok(())
    }

    /// Notes that a place was sent everything up to this number, and may not have got it.
    ///
    /// # Errors
    /// If the database fails.
    pub fn attempted(&self, destination: &str, up_to: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE outbox SET attempts = attempts + 1 WHERE destination = ? AND alert <= ? AND state = 'waiting'",
            )?
            .execute(params![destination, up_to])?;
        Ok(())
    }

    /// How many alerts wait for a place.
    ///
    /// # Errors
    /// If the database fails.
    pub fn count_waiting(&self, destination: &str) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM outbox WHERE destination = ? AND state = 'waiting'")?
            .query_row([destination], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// How many alerts are kept, and how many bytes their documents take.
    ///
    /// # Errors
    /// If the database fails.
    pub fn size(&self) -> Result<(u64, ByteSize), StoreError> {
        let count: i64 = self.connection.query_row("SELECT count(*) FROM alerts", [], |row| row.get(0))?;
        Ok((u64::try_from(count).unwrap_or(0), ByteSize(self.bytes)))
    }

    /// Whether the whole file holds together; what is wrong with it, if not.
    ///
    /// # Errors
    /// If the database fails.
    pub fn check(&self) -> Result<Option<String>, StoreError> {
        let found: String = self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        Ok((found != "ok").then_some(found))
    }
}

/// Where a live sensor of this configuration, read from `file`, keeps what it keeps; none if that is nothing. A relative
/// `store.path` is relative to the directory of the file; without a file there is none.
pub fn file_of(config: &crate::config::Config, file: Option<&Path>) -> Option<PathBuf> {
    crate::config::beside(&config.store.path, file)
}

/// Deletes the oldest alerts until both bounds hold.
fn prune(connection: &Connection, bytes: &mut u64, now: i64, bounds: Bounds) -> Result<Pruned, rusqlite::Error> {
    let mut pruned = Pruned::default();
    let age = i64::try_from(bounds.age.0 / 1_000_000_000).unwrap_or(i64::MAX);
    let oldest = now.saturating_sub(age);
    let mut first = connection.prepare_cached(
        "SELECT number, stored, length(CAST(document AS BLOB)),
                (SELECT count(*) FROM outbox WHERE alert = number AND state = 'waiting')
         FROM alerts ORDER BY number LIMIT 1",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM alerts WHERE number = ?")?;
    loop {
        let row = first.query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        });
        let (number, stored, length, waiting) = match row {
            Ok(row) => row,
            Err(rusqlite::Error::QueryReturnedNoRows) => break,
            Err(error) => return Err(error),
        };
        if stored >= oldest && *bytes <= bounds.bytes.0 {
            break;
        }
        delete.execute([number])?;
        *bytes = bytes.saturating_sub(u64::try_from(length).unwrap_or(0));
        pruned.alerts += 1;
        pruned.waiting += u64::try_from(waiting).unwrap_or(0);
    }
    Ok(pruned)
}

/// Seconds since the Unix epoch. Alerts of a capture that is replayed are as old as their packets, but stored today.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Says what to do where SQLite only says what is the case.
fn explained(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "it is no SQLite database; move it away, or name another file".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => "it is damaged; move it away to start anew".to_owned(),
        Some(ErrorCode::ReadOnly) => "it can only be read; give its user the right to write it".to_owned(),
        Some(ErrorCode::CannotOpen) => "it cannot be opened or made; see to its directory and its rights".to_owned(),
        Some(ErrorCode::DatabaseBusy) => "another program keeps it locked; end that, or name another file".to_owned(),
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod durability_tests;
#[cfg(test)]
mod tests;
