//! Reading what was kept last, for whoever watches.

use super::reading::count;
use super::{Reading, StoreError};

/// What was kept last, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Alerts that no exception covers, and alerts of the sensor on itself.
    pub alerts: Vec<NewestAlert>,
    /// Uploads that are over.
    pub uploads: Vec<NewestUpload>,
    /// Uploads that run, the largest first: by what was reported of each when it passed `protocol.running_report`.
    pub running: Vec<NewestUpload>,
}

/// An alert in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewestAlert {
    /// `event.id`.
    pub id: String,
    /// `@timestamp`.
    pub time: String,
    /// `event.severity`.
    pub severity: u64,
    /// What it says in a line.
    pub text: String,
}

/// An upload in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewestUpload {
    /// When it began, in RFC 3339.
    pub time: String,
    /// Its protocol.
    pub protocol: String,
    /// Entity bytes.
    pub bytes: u64,
    /// The host's name, or its address.
    pub host: String,
    /// The path of the program, if it is known.
    pub process: Option<String>,
    /// Where it went.
    pub destination: String,
}

impl Reading {
    /// The newest alerts and uploads, and those that run, at most so many of each; an alert that was told anew is there once.
    ///
    /// # Errors
    /// If the database fails.
    pub fn newest(&self, most: usize) -> Result<Newest, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(
            "SELECT event_id, time, severity, CASE WHEN json_valid(document) THEN document ->> '$.message' END
             FROM alerts AS told
             WHERE suppressed_by IS NULL
                 AND NOT EXISTS (SELECT 1 FROM alerts WHERE event_id = told.event_id AND number > told.number)
             ORDER BY number DESC LIMIT ?",
        )?;
        let alerts = statement.query_map([most], |row| {
            let text: Option<String> = row.get(3)?;
            let (id, time, severity) = (row.get(0)?, row.get(1)?, count(row.get(2)?));
            Ok(NewestAlert { id, time, severity, text: text.unwrap_or_default() })
        })?;
        let alerts = alerts.collect::<Result<_, _>>()?;
        let finished = "SELECT time, protocol, bytes, coalesce(host, source), process, destination FROM uploads
             ORDER BY number DESC LIMIT ?";
        let running =
            "SELECT time, protocol, bytes, host, process, destination FROM running ORDER BY bytes DESC, number LIMIT ?";
        Ok(Newest { alerts, uploads: self.uploads(finished, most)?, running: self.uploads(running, most)? })
    }

    fn uploads(&self, query: &str, most: i64) -> Result<Vec<NewestUpload>, StoreError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let uploads = statement.query_map([most], |row| {
            let (time, protocol, bytes) = (row.get(0)?, row.get(1)?, count(row.get(2)?));
            Ok(NewestUpload {
                time,
                protocol,
                bytes,
                host: row.get(3)?,
                process: row.get(4)?,
                destination: row.get(5)?,
            })
        })?;
        Ok(uploads.collect::<Result<_, _>>()?)
    }
}
