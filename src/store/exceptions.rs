//! Exceptions on the disk: what holds, who changed what and why, and what each has hidden.
//!
//! Each change is one transaction with its history, on the disk on return. What an exception has hidden is counted in the
//! transaction that stores the alert, so that the counts agree with the alerts.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use serde_json::Value;

use super::{Entry, Store, StoreError};
use crate::detect::{
    Difference, Exception, ExceptionId, Hidden, Largest, Scope, Usage, described, differences, format_when, parse_when,
};
use crate::net::{ByteSize, Timestamp};

pub(super) const TABLES: &str = "
    ALTER TABLE alerts ADD COLUMN suppressed_by TEXT;
    CREATE INDEX alerts_suppressed ON alerts (suppressed_by) WHERE suppressed_by IS NOT NULL;
    CREATE TABLE exceptions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT GENERATED ALWAYS AS (printf('EX-%04d', number)) VIRTUAL,
        process TEXT,
        destination TEXT,
        host TEXT,
        user TEXT,
        protocol TEXT,
        ceiling INTEGER,
        broad INTEGER NOT NULL,
        owner TEXT NOT NULL,
        justification TEXT NOT NULL,
        created TEXT NOT NULL,
        expires TEXT NOT NULL,
        removed TEXT
    );
    CREATE TABLE exception_history (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        exception INTEGER NOT NULL REFERENCES exceptions (number),
        time TEXT NOT NULL,
        who TEXT NOT NULL,
        action TEXT NOT NULL,
        what TEXT NOT NULL,
        why TEXT NOT NULL
    );
    CREATE INDEX exception_history_by_exception ON exception_history (exception);
    CREATE TABLE exception_usage (
        exception INTEGER PRIMARY KEY,
        hits INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        first_seen TEXT,
        last_seen TEXT,
        low INTEGER NOT NULL DEFAULT 0,
        medium INTEGER NOT NULL DEFAULT 0,
        high INTEGER NOT NULL DEFAULT 0,
        critical INTEGER NOT NULL DEFAULT 0,
        largest INTEGER,
        largest_alert TEXT,
        largest_time TEXT,
        unnamed_processes INTEGER NOT NULL DEFAULT 0,
        unnamed_destinations INTEGER NOT NULL DEFAULT 0,
        unnamed_hosts INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE exception_hidden (
        exception INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('process', 'destination', 'host')),
        name TEXT NOT NULL,
        hits INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        first_seen TEXT NOT NULL,
        last_seen TEXT NOT NULL,
        PRIMARY KEY (exception, kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE exception_days (
        exception INTEGER NOT NULL,
        day TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (exception, day)
    ) WITHOUT ROWID;
";

/// Processes, destinations and hosts that are named of each exception. What comes beyond is counted.
const MOST_NAMED: i64 = 100;
/// Days of which the bytes that passed are kept, of each exception.
const MOST_DAYS: i64 = 400;

/// Who changes exceptions, when, and why.
#[derive(Clone, Debug)]
pub struct Act<'a> {
    /// When, by the clock of the machine.
    pub at: Timestamp,
    /// `user@host`, or who was named.
    pub who: &'a str,
    /// `add`, `remove`, `renew` or `import`.
    pub action: &'static str,
    /// Why.
    pub why: &'a str,
}

/// An exception as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The exception.
    pub exception: Exception,
    /// When it was removed; it covers nothing since.
    pub removed: Option<Timestamp>,
}

/// A change of an exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When, by the clock of the machine.
    pub time: String,
    /// Who.
    pub who: String,
    /// `add`, `remove`, `renew` or `import`.
    pub action: String,
    /// What changed.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Store {
    /// Every exception that was ever made, in the order of the identifiers.
    ///
    /// # Errors
    /// If the database fails, or holds what no exception can be.
    pub fn kept_exceptions(&self) -> Result<Vec<Kept>, StoreError> {
        all(&self.connection)
    }

    /// The exceptions that were not removed.
    ///
    /// # Errors
    /// If the database fails, or holds what no exception can be.
    pub fn exceptions(&self) -> Result<Vec<Exception>, StoreError> {
        active(&self.connection)
    }

    /// The number that the next exception gets.
    ///
    /// # Errors
    /// If the database fails.
    pub fn next_exception(&self) -> Result<u32, StoreError> {
        let last = self
            .connection
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'exceptions'", [], |row| row.get::<_, i64>(0));
        let last = last.optional()?.unwrap_or(0);
        Ok(u32::try_from(last).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Keeps a new exception, whatever identifier it has, and gives it its own. There may be so many.
    ///
    /// # Errors
    /// If the database fails, or there is no room; nothing is changed then.
    pub fn add_exception(&mut self, new: &Exception, most: u64, act: &Act<'_>) -> Result<ExceptionId, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let count: i64 =
            transaction.query_row("SELECT count(*) FROM exceptions WHERE removed IS NULL", [], |row| row.get(0))?;
        if u64::try_from(count).unwrap_or(u64::MAX) >= most {
            return Err(StoreError::Full(most));
        }
        put(&transaction, None, new)?;
        let number = transaction.last_insert_rowid();
        note_change(&transaction, number, act, &described(new))?;
        transaction.commit()?;
        Ok(ExceptionId(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// From now on the exceptions are `wanted`, all of them or, if `keep`, besides those that there are; `seen` are those on
    /// which the wish rests. Says what changes; if `only_say`, nothing does.
    ///
    /// # Errors
    /// If the database fails, what there is is no longer what was seen, or there would be more than `most`; nothing is
    /// changed then.
    pub fn set_exceptions(
        &mut self,
        seen: &[Exception],
        wanted: &[Exception],
        keep: bool,
        only_say: bool,
        most: u64,
        act: &Act<'_>,
    ) -> Result<Vec<Difference>, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if active(&transaction)? != seen {
            return Err(StoreError::Changed);
        }
        let mut found = differences(seen, wanted);
        found.retain(|difference| !keep || !matches!(difference, Difference::Removed(_)));
        let added = found.iter().filter(|difference| matches!(difference, Difference::Added(_))).count();
        let removed = found.iter().filter(|difference| matches!(difference, Difference::Removed(_))).count();
        if (seen.len() + added).saturating_sub(removed) as u64 > most {
            return Err(StoreError::Full(most));
        }
        if only_say {
            return Ok(found);
        }
        for difference in &found {
            let number = match difference {
                Difference::Added(exception) | Difference::Changed { exception, .. } => {
                    put(&transaction, Some(exception.id), exception)?;
                    exception.id.0
                }
                Difference::Removed(exception) => {
                    transaction.execute(
                        "UPDATE exceptions SET removed = ? WHERE number = ?",
                        params![format_when(act.at), exception.id.0],
                    )?;
                    exception.id.0
                }
            };
            note_change(&transaction, i64::from(number), act, &difference.what())?;
        }
        transaction.commit()?;
        Ok(found)
    }

    /// Who changed an exception, the first change first.
    ///
    /// # Errors
    /// If the database fails.
    pub fn exception_history(&self, id: ExceptionId) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT time, who, action, what, why FROM exception_history WHERE exception = ? ORDER BY number",
        )?;
        let rows = statement.query_map([id.0], |row| {
            let (time, who, action) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(HistoryEntry { time, who, action, what: row.get(3)?, why: row.get(4)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What an exception has hidden.
    ///
    /// # Errors
    /// If the database fails.
    pub fn exception_usage(&self, id: ExceptionId) -> Result<Usage, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT hits, bytes, first_seen, last_seen, low, medium, high, critical, largest, largest_alert,
                    largest_time, unnamed_processes, unnamed_destinations, unnamed_hosts
             FROM exception_usage WHERE exception = ?",
        )?;
        let totals = statement
            .query_row([id.0], |row| {
                let time = |column| optional_time(row, column);
                let largest = match (row.get(9)?, time(10)?) {
                    (Some(alert), Some(at)) => Some(Largest { alert, bytes: count(row, 8)?, at }),
                    _ => None,
                };
                Ok(Usage {
                    hits: count(row, 0)?,
                    bytes: count(row, 1)?,
                    first: time(2)?,
                    last: time(3)?,
                    by_severity: [count(row, 4)?, count(row, 5)?, count(row, 6)?, count(row, 7)?],
                    largest,
                    unnamed: [count(row, 11)?, count(row, 12)?, count(row, 13)?],
                    ..Usage::default()
                })
            })
            .optional()?;
        let mut usage = totals.unwrap_or_default();
        let mut statement = self.connection.prepare_cached(
            "SELECT kind, name, hits, bytes, first_seen, last_seen FROM exception_hidden WHERE exception = ?
             ORDER BY bytes DESC, name",
        )?;
        let mut rows = statement.query([id.0])?;
        while let Some(row) = rows.next()? {
            let time = |column| Ok::<_, StoreError>(parse_when(&row.get::<_, String>(column)?).unwrap_or_default());
            let hidden = Hidden {
                name: row.get(1)?,
                hits: count(row, 2)?,
                bytes: count(row, 3)?,
                first: time(4)?,
                last: time(5)?,
            };
            match row.get::<_, String>(0)?.as_str() {
                "process" => usage.processes.push(hidden),
                "destination" => usage.destinations.push(hidden),
                _ => usage.hosts.push(hidden),
            }
        }
        Ok(usage)
    }

    /// What has passed under each exception on each of the last days, with a time of that day.
    ///
    /// # Errors
    /// If the database fails.
    pub fn exception_days(&self) -> Result<Vec<(ExceptionId, Timestamp, ByteSize)>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT exception, day, bytes FROM exception_days")?;
        let rows = statement.query_map([], |row| {
            let day = parse_when(&row.get::<_, String>(1)?);
            Ok((row.get::<_, u32>(0)?, day, count(row, 2)?))
        })?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().filter_map(|(id, day, bytes)| Some((ExceptionId(id), day?, ByteSize(bytes)))).collect())
    }
}

/// Looks whether exceptions were changed, by whichever program.
#[derive(Debug)]
pub struct ExceptionWatch {
    store: Store,
    /// SQLite's own count of others' changes of the file.
    version: i64,
    /// The last change of an exception that is known.
    newest: Option<i64>,
}

impl ExceptionWatch {
    /// Knows of nothing yet: the first look finds all.
    pub fn new(store: Store) -> Self {
        Self { store, version: -1, newest: None }
    }

    /// The exceptions, if they were changed since the last look. Where nothing was written to the file, that costs next to
    /// nothing.
    ///
    /// # Errors
    /// If the database fails or holds what no exception can be; the next change is looked at again.
    pub fn look(&mut self) -> Result<Option<Vec<Exception>>, StoreError> {
        let connection = &self.store.connection;
        let version: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if version == self.version {
            return Ok(None);
        }
        let newest = newest(connection)?;
        self.version = version;
        if self.newest.replace(newest) == Some(newest) {
            return Ok(None);
        }
        self.store.exceptions().map(Some)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

fn newest(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.prepare_cached("SELECT coalesce(max(number), 0) FROM exception_history")?.query_row([], |row| row.get(0))
}

fn count(row: &Row<'_>, column: usize) -> Result<u64, rusqlite::Error> {
    Ok(u64::try_from(row.get::<_, Option<i64>>(column)?.unwrap_or(0)).unwrap_or(0))
}

fn optional_time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, rusqlite::Error> {
    Ok(row.get::<_, Option<String>>(column)?.and_then(|text| parse_when(&text)))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn active(connection: &Connection) -> Result<Vec<Exception>, StoreError> {
    Ok(all(connection)?.into_iter().filter(|kept| kept.removed.is_none()).map(|kept| kept.exception).collect())
}

fn all(connection: &Connection) -> Result<Vec<Kept>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT process, destination, host, user, protocol, ceiling, broad, owner, justification, created, expires,
                removed, number FROM exceptions ORDER BY number",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id = ExceptionId(row.get(12)?);
        found.push(kept(row, id).map_err(|unfit| match unfit {
            Unfit::Failed(error) => StoreError::Statement(error),
            Unfit::Text(reason) => StoreError::Exception { id: id.to_string(), reason },
        })?);
    }
    Ok(found)
}

/// Why a row is no exception.
enum Unfit {
    Failed(rusqlite::Error),
    Text(String),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

fn kept(row: &Row<'_>, id: ExceptionId) -> Result<Kept, Unfit> {
    fn read<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<Option<T>, Unfit>
    where
        T::Err: std::fmt::Display,
    {
        let text: Option<String> = row.get(column)?;
        text.map(|text| text.parse().map_err(|error: T::Err| Unfit::Text(error.to_string()))).transpose()
    }
    let when = |text: String| parse_when(&text).ok_or_else(|| Unfit::Text(format!("\"{text}\" is no time")));
    let ceiling = row.get::<_, Option<i64>>(5)?.map(|bytes| ByteSize(u64::try_from(bytes).unwrap_or(0)));
    let scope = Scope {
        process: read(row, 0)?,
        destination: read(row, 1)?,
        host: read(row, 2)?,
        user: read(row, 3)?,
        protocol: row.get(4)?,
        ceiling,
    };
    let (created, expires) = (when(row.get(9)?)?, when(row.get(10)?)?);
    let removed = row.get::<_, Option<String>>(11)?.map(when).transpose()?;
    let (owner, justification) = (row.get(7)?, row.get(8)?);
    let exception = Exception { id, scope, broad: row.get(6)?, owner, justification, created, expires };
    Ok(Kept { exception, removed })
}

/// Writes an exception, new or in the place of the one that has its number; one that was removed holds again.
fn put(connection: &Connection, id: Option<ExceptionId>, new: &Exception) -> Result<(), rusqlite::Error> {
    let Exception { id: _, scope, broad, owner, justification, created, expires } = new;
    let text = |part: Option<String>| part.map_or(Sql::Null, Sql::Text);
    connection
        .prepare_cached(
            "INSERT INTO exceptions (number, process, destination, host, user, protocol, ceiling, broad, owner,
                                     justification, created, expires, removed)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)
             ON CONFLICT (number) DO UPDATE SET process = excluded.process, destination = excluded.destination,
                host = excluded.host, user = excluded.user, protocol = excluded.protocol, ceiling = excluded.ceiling,
                broad = excluded.broad, owner = excluded.owner, justification = excluded.justification,
                created = excluded.created, expires = excluded.expires, removed = NULL",
        )?
        .execute(params![
            id.map(|id| id.0),
            text(scope.process.as_ref().map(ToString::to_string)),
            text(scope.destination.as_ref().map(ToString::to_string)),
            text(scope.host.as_ref().map(ToString::to_string)),
            text(scope.user.as_ref().map(ToString::to_string)),
            text(scope.protocol.clone()),
            scope.ceiling.map(|ceiling| signed(ceiling.0)),
            broad,
            owner,
            justification,
            format_when(*created),
            format_when(*expires),
        ])?;
    Ok(())
}

fn note_change(connection: &Connection, number: i64, act: &Act<'_>, what: &str) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO exception_history (exception, time, who, action, what, why) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![number, format_when(act.at), act.who, act.action, what, act.why])?;
    Ok(())
}

/// What an alert says that an exception has hidden.
struct Facts {
    under: ExceptionId,
    at: String,
    bytes: u64,
    names: [(&'static str, Option<String>); 3],
}

fn facts(document: &str) -> Option<Facts> {
    let document: Value = serde_json::from_str(document).ok()?;
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let under = text("/outfall/alert/suppressed_by")?.parse().ok()?;
    let at = text("/event/end").and_then(|text| parse_when(&text)).unwrap_or_default();
    let names = [
        ("process", text("/process/executable")),
        ("destination", text("/destination/domain").or_else(|| text("/destination/ip"))),
        ("host", text("/host/name").or_else(|| text("/source/ip"))),
    ];
    let bytes = document.pointer("/outfall/upload/bytes").and_then(Value::as_u64).unwrap_or(0);
    Some(Facts { under, at: at.to_string(), bytes, names })
}

/// Counts an alert that was stored under that number, if an exception covers it. One that is told anew counts once.
pub(super) fn note(connection: &Connection, number: i64, entry: &Entry) -> Result<(), rusqlite::Error> {
    let Some(Facts { under, at, bytes, names }) = facts(&entry.document) else { return Ok(()) };
    let before: Option<String> = connection
        .prepare_cached(
            "SELECT document FROM alerts WHERE event_id = ? AND suppressed_by = ? ORDER BY number DESC LIMIT 1",
        )?
        .query_row(params![entry.event_id, under.to_string()], |row| row.get(0))
        .optional()?;
    connection
        .prepare_cached("UPDATE alerts SET suppressed_by = ? WHERE number = ?")?
        .execute(params![under.to_string(), number])?;
    let before = before.as_deref().and_then(facts);
    let hits = i64::from(before.is_none());
    let grown = signed(bytes.saturating_sub(before.map_or(0, |before| before.bytes)));
    let severity = match entry.severity {
        0..=21 => [hits, 0, 0, 0],
        22..=47 => [0, hits, 0, 0],
        48..=73 => [0, 0, hits, 0],
        _ => [0, 0, 0, hits],
    };
    connection
        .prepare_cached(
            "INSERT INTO exception_usage (exception, hits, bytes, first_seen, last_seen, low, medium, high, critical)
             VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (exception) DO UPDATE SET hits = hits + ?2, bytes = bytes + ?3,
                first_seen = min(first_seen, ?4), last_seen = max(last_seen, ?4),
                low = low + ?5, medium = medium + ?6, high = high + ?7, critical = critical + ?8",
        )?
        .execute(params![under.0, hits, grown, at, severity[0], severity[1], severity[2], severity[3]])?;
    connection
        .prepare_cached(
            "UPDATE exception_usage SET largest = ?2, largest_alert = ?3, largest_time = ?4
             WHERE exception = ?1 AND (largest IS NULL OR largest < ?2)",
        )?
        .execute(params![under.0, signed(bytes), entry.event_id, at])?;
    connection
        .prepare_cached(
            "INSERT INTO exception_days (exception, day, bytes) VALUES (?1, substr(?2, 1, 10), ?3)
             ON CONFLICT (exception, day) DO UPDATE SET bytes = bytes + ?3",
        )?
        .execute(params![under.0, at, grown])?;
    connection
        .prepare_cached(
            "DELETE FROM exception_days WHERE exception = ?1 AND day <= (
                SELECT day FROM exception_days WHERE exception = ?1 ORDER BY day DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![under.0, MOST_DAYS])?;
    for (kind, name) in names {
        if let Some(name) = name {
            note_name(connection, under, kind, &name, hits, grown, &at)?;
        }
    }
    Ok(())
}

fn note_name(
    connection: &Connection,
    under: ExceptionId,
    kind: &str,
    name: &str,
    hits: i64,
    grown: i64,
    at: &str,
) -> Result<(), rusqlite::Error> {
    let known = connection
        .prepare_cached(
            "UPDATE exception_hidden SET hits = hits + ?4, bytes = bytes + ?5, first_seen = min(first_seen, ?6),
                last_seen = max(last_seen, ?6) WHERE exception = ?1 AND kind = ?2 AND name = ?3",
        )?
        .execute(params![under.0, kind, name, hits, grown, at])?;
    if known > 0 {
        return Ok(());
    }
    let named: i64 = connection
        .prepare_cached("SELECT count(*) FROM exception_hidden WHERE exception = ? AND kind = ?")?
        .query_row(params![under.0, kind], |row| row.get(0))?;
    if named < MOST_NAMED {
        connection
            .prepare_cached(
                "INSERT INTO exception_hidden (exception, kind, name, hits, bytes, first_seen, last_seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
            )?
            .execute(params![under.0, kind, name, hits, grown, at])?;
        return Ok(());
    }
    let unnamed = match kind {
        "process" => "UPDATE exception_usage SET unnamed_processes = unnamed_processes + ?2 WHERE exception = ?1",
        "destination" => {
            "UPDATE exception_usage SET unnamed_destinations = unnamed_destinations + ?2 WHERE exception = ?1"
        }
        _ => "UPDATE exception_usage SET unnamed_hosts = unnamed_hosts + ?2 WHERE exception = ?1",
    };
    connection.prepare_cached(unnamed)?.execute(params![under.0, hits])?;
    Ok(())
}

#[cfg(test)]
#[path = "exceptions_tests.rs"]
mod tests;
