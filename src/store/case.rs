//! Reading what belongs to one alert, as evidence.

use rusqlite::OptionalExtension as _;

use super::{Reading, StoreError};

impl Reading {
    /// The last document of an alert, by its `event.id`.
    ///
    /// # Errors
    /// If the database fails.
    pub fn alert(&self, id: &str) -> Result<Option<String>, StoreError> {
        let last = "SELECT document FROM alerts WHERE event_id = ? ORDER BY number DESC LIMIT 1";
        Ok(self.connection.query_row(last, [id], |row| row.get(0)).optional()?)
    }

    /// What is normal of the host, the user, the destination and the program of an alert: rows of the baseline, at most a thousand.
    /// What counts as its destination is that of its upload, unless it is told.
    ///
    /// # Errors
    /// If the database fails.
    pub fn facts(&self, alert: &serde_json::Value, told: Option<&str>) -> Result<serde_json::Value, StoreError> {
        let text = |path| alert.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default();
        let upload = "SELECT destination, coalesce(user, ''), source FROM uploads WHERE event_id = ?";
        let known = self.connection.query_row(upload, [text("/outfall/upload/id")], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        });
        let (destination, user, host) = known.optional()?.unwrap_or_else(|| {
            (text("/destination/domain").to_owned(), text("/user/name").to_owned(), text("/source/ip").to_owned())
        });
        let destination = told.map_or(destination, str::to_owned);
        let program = text("/process/executable").rsplit('\\').next().unwrap_or_default().to_lowercase();
        let mut statement = self.connection.prepare(
            "SELECT kind, key, other, first_seen, last_seen, days, uploads, bytes, alerted, detail FROM baseline
             WHERE kind = 'whole' OR key IN (?1, ?2, ?3) OR (other = ?1 AND other != '')
                OR (?4 != '' AND kind IN ('process', 'process-protocol', 'process-destination', 'process-volume', 'parent-child')
                    AND instr(lower(key), ?4) > 0)
             ORDER BY kind, key, other LIMIT 1000",
        )?;
        let rows = statement.query_map([&destination, &user, &host, &program], |row| {
            let detail: String = row.get(9)?;
            Ok(serde_json::json!({
                "kind": row.get::<_, String>(0)?, "key": row.get::<_, String>(1)?, "other": row.get::<_, String>(2)?,
                "first_seen_ns": row.get::<_, i64>(3)?, "last_seen_ns": row.get::<_, i64>(4)?, "days": row.get::<_, i64>(5)?,
                "uploads": row.get::<_, i64>(6)?, "bytes": row.get::<_, i64>(7)?, "alerted": row.get::<_, i64>(8)?,
                "detail": serde_json::from_str::<serde_json::Value>(&detail).unwrap_or(detail.into()),
            }))
        })?;
        Ok(serde_json::Value::Array(rows.collect::<Result<_, _>>()?))
    }
}
