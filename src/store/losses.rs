//! What each run of a sensor lost or could not read.

use rusqlite::{Connection, params};

use super::reading::count;
use super::{Reading, StoreError};
use crate::net::Span;

/// What a run of the sensor has lost since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// When the run began, in seconds since 1970.
    pub run: i64,
    /// What, and how many; only what happened.
    pub counts: Vec<(&'static str, u64)>,
}

/// Runs that are kept. Beyond, the oldest are not.
const RUNS: i64 = 1_000;

/// Writes them, inside a transaction of the caller's: each takes the place of what the run said before. Runs that are too old or
/// too many are deleted.
pub(super) fn write(connection: &Connection, losses: &Losses, now: i64, age: Span) -> Result<(), rusqlite::Error> {
    let mut put = connection.prepare_cached(
        "INSERT INTO losses (run, what, count, stored) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (run, what) DO UPDATE SET count = excluded.count, stored = excluded.stored",
    )?;
    // A run that lost nothing is one, too.
    let none = [("", 0)];
    for (what, lost) in none.iter().chain(&losses.counts) {
        put.execute(params![losses.run, what, i64::try_from(*lost).unwrap_or(i64::MAX), now])?;
    }
    let oldest = now.saturating_sub(i64::try_from(age.0 / 1_000_000_000).unwrap_or(i64::MAX));
    connection
        .prepare_cached(
            "DELETE FROM losses WHERE stored < ?1
             OR run NOT IN (SELECT run FROM losses WHERE what = '' ORDER BY run DESC LIMIT ?2)",
        )?
        .execute(params![oldest, RUNS])?;
    Ok(())
}

impl Reading {
    /// What all runs that are kept have lost together, what was told first before the rest, and how many runs these are.
    ///
    /// # Errors
    /// If the database fails.
    pub fn losses(&self) -> Result<(Vec<(String, u64)>, u64), StoreError> {
        let runs = self.connection.query_row("SELECT count(*) FROM losses WHERE what = ''", [], |row| row.get(0))?;
        let mut statement = self.connection.prepare(
            "SELECT what, sum(count) FROM losses WHERE what != '' GROUP BY what HAVING sum(count) > 0 ORDER BY min(rowid)",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, count(row.get(1)?))))?;
        Ok((rows.collect::<Result<_, _>>()?, count(runs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Store, tests::WIDE};

    #[test]
    fn what_runs_lost_adds_up_and_a_run_that_lost_nothing_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outfall.db");
        let mut store = Store::open(&path).unwrap();
        let read = || Reading::open(&path).unwrap().losses().unwrap();
        assert_eq!(read(), (Vec::new(), 0));
        for (run, counts) in
            [(1, vec![("gaps", 2)]), (1, vec![("gaps", 5), ("lines", 1)]), (2, vec![]), (3, vec![("lines", 3)])]
        {
            store.append(&Batch { losses: Some(Losses { run, counts }), ..Batch::default() }, WIDE).unwrap();
        }
        assert_eq!(read(), (vec![("gaps".to_owned(), 5), ("lines".to_owned(), 4)], 3));
        for run in 10..10 + RUNS {
            store.append(&Batch { losses: Some(Losses { run, counts: vec![] }), ..Batch::default() }, WIDE).unwrap();
        }
        assert_eq!(read(), (Vec::new(), RUNS as u64));
    }
}
