//! What is normal here, on the disk: the rows of `detect`'s baseline, each under its key.

use rusqlite::{Connection, params};

use super::{Store, StoreError};
use crate::detect::{Change, Kind, Row, RowKey};
use crate::net::{Span, Timestamp};

/// Carries out changes, inside a transaction of the caller's.
pub(super) fn write(connection: &Connection, changes: &[Change]) -> Result<(), rusqlite::Error> {
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO baseline (kind, key, other, first_seen, last_seen, days, uploads, bytes, alerted, detail)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut forget = connection.prepare_cached("DELETE FROM baseline WHERE kind = ? AND key = ? AND other = ?")?;
    for change in changes {
        match change {
            Change::Put(row) => put.execute(params![
                row.key.kind.name(),
                row.key.key,
                row.key.other,
                whole(row.first_seen.0),
                whole(row.last_seen.0),
                whole(row.days),
                whole(row.uploads),
                whole(row.bytes),
                whole(row.alerted),
                row.detail,
            ])?,
            Change::Forget(key) => forget.execute(params![key.kind.name(), key.key, key.other])?,
        };
    }
    Ok(())
}

impl Store {
    /// Deletes what was last seen so long before the latest of all; counted in [`super::WriterCounters::pruned_baseline`].
    ///
    /// # Errors
    /// If the database fails.
    pub fn forget_unseen(&mut self, age: Span) -> Result<(), StoreError> {
        let age = i64::try_from(age.0).unwrap_or(i64::MAX);
        let gone = self.connection.execute(
            "DELETE FROM baseline WHERE kind <> 'whole' AND last_seen < (SELECT max(last_seen) FROM baseline) - ?",
            [age],
        )?;
        self.forgotten += gone as u64;
        Ok(())
    }

    /// Everything that is known of what is normal here, the least recent first. Rows of kinds that are not known are left out,
    /// and counted.
    ///
    /// # Errors
    /// If the database fails.
    pub fn baseline(&self) -> Result<(Vec<Row>, u64), StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT kind, key, other, first_seen, last_seen, days, uploads, bytes, alerted, detail FROM baseline
             ORDER BY last_seen, kind, key, other",
        )?;
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        let mut unknown = 0;
        let rows = statement.query_map([], |row| {
            let kind: String = row.get(0)?;
            let Some(kind) = Kind::named(&kind) else { return Ok(None) };
            Ok(Some(Row {
                key: RowKey { kind, key: row.get(1)?, other: row.get(2)? },
                first_seen: Timestamp(count(row.get(3)?)),
                last_seen: Timestamp(count(row.get(4)?)),
                days: count(row.get(5)?),
                uploads: count(row.get(6)?),
                bytes: count(row.get(7)?),
                alerted: count(row.get(8)?),
                detail: row.get(9)?,
            }))
        })?;
        let mut all = Vec::new();
        for row in rows {
            match row? {
                Some(row) => all.push(row),
                None => unknown += 1,
            }
        }
        Ok((all, unknown))
    }
}
