//! The tables, and how a file of an earlier version gets them.

use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as Outfall's: "OutF".
const APPLICATION: i64 = 0x4f75_7446;

/// From each version to the next; a new file has version 0.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE alerts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL,
        time TEXT NOT NULL,
        stored INTEGER NOT NULL,
        severity INTEGER NOT NULL,
        kind TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE INDEX alerts_by_event ON alerts (event_id);
    CREATE TABLE outbox (
        destination TEXT NOT NULL,
        alert INTEGER NOT NULL REFERENCES alerts (number) ON DELETE CASCADE,
        attempts INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent')),
        PRIMARY KEY (destination, alert)
    ) WITHOUT ROWID;
    CREATE INDEX outbox_by_alert ON outbox (alert);
    CREATE INDEX outbox_waiting ON outbox (destination, alert) WHERE state = 'waiting';
",
    "
    CREATE TABLE uploads (
        number INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL UNIQUE,
        time TEXT NOT NULL,
        stored INTEGER NOT NULL,
        start_ns INTEGER NOT NULL,
        end_ns INTEGER NOT NULL,
        protocol TEXT NOT NULL,
        host TEXT,
        source TEXT NOT NULL,
        server TEXT NOT NULL,
        port INTEGER NOT NULL,
        domain TEXT,
        destination TEXT NOT NULL,
        user TEXT,
        process TEXT,
        pid INTEGER,
        signer TEXT,
        confidence TEXT,
        unknown TEXT,
        bytes INTEGER NOT NULL,
        missing INTEGER NOT NULL,
        state TEXT NOT NULL,
        file TEXT,
        sha256 TEXT,
        outbound INTEGER NOT NULL
    );
    CREATE TABLE baseline (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        other TEXT NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        days INTEGER NOT NULL,
        uploads INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        alerted INTEGER NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (kind, key, other)
    ) WITHOUT ROWID;
    CREATE VIEW destinations AS
        SELECT key AS destination, datetime(first_seen / 1000000000, 'unixepoch') AS first_seen,
            datetime(last_seen / 1000000000, 'unixepoch') AS last_seen, days, uploads, bytes, alerted,
            json_array_length(detail, '$.hosts') AS hosts, json_array_length(detail, '$.users') AS users
        FROM baseline WHERE kind = 'destination';
    CREATE VIEW processes AS
        SELECT key AS process, datetime(first_seen / 1000000000, 'unixepoch') AS first_seen,
            datetime(last_seen / 1000000000, 'unixepoch') AS last_seen, days, uploads, bytes, alerted,
            json_array_length(detail, '$.hosts') AS hosts, json_array_length(detail, '$.users') AS users
        FROM baseline WHERE kind = 'process';
    CREATE VIEW pairs AS
        SELECT kind, key AS process, other, datetime(first_seen / 1000000000, 'unixepoch') AS first_seen,
            datetime(last_seen / 1000000000, 'unixepoch') AS last_seen, days, uploads, bytes, alerted,
            json_array_length(detail, '$.hosts') AS hosts
        FROM baseline WHERE kind IN ('process-protocol', 'process-destination', 'parent-child');
",
    super::exceptions::TABLES,
    "
    CREATE TABLE running (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        time TEXT NOT NULL,
        protocol TEXT NOT NULL,
        host TEXT NOT NULL,
        process TEXT,
        destination TEXT NOT NULL,
        bytes INTEGER NOT NULL
    );
    CREATE TABLE losses (
        run INTEGER NOT NULL,
        what TEXT NOT NULL,
        count INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        PRIMARY KEY (run, what)
    );
",
];

/// Why a file cannot be used.
pub(super) enum Unfit {
    /// A newer program made it.
    Newer(i64),
    /// An older program made it, and it may not be changed now.
    Older(i64),
    /// Another program made it.
    Foreign,
    /// It does not hold together.
    Damaged(String),
    /// SQLite refuses.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

impl Unfit {
    /// What is wrong, and what to do.
    pub(super) fn text(self) -> String {
        match self {
            Self::Newer(version) => {
                format!("it is of version {version}, which a newer Outfall made; use that, or another file")
            }
            Self::Older(version) => {
                format!(
                    "it is of version {version}, which an older Outfall made; the next start of `outfall run` mends that"
                )
            }
            Self::Foreign => "it is the database of another program; name another file".to_owned(),
            Self::Damaged(what) => format!("it is damaged ({what}); move it away to start anew"),
            Self::Failed(error) => super::explained(&error),
        }
    }
}

fn number(connection: &Connection, name: &str) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The version of the tables; 0 of a file without any.
fn version(connection: &Connection) -> Result<i64, Unfit> {
    // All at one moment: another program may be making the tables just now.
    let moment = connection.unchecked_transaction()?;
    let (application, version) = (number(&moment, "application_id")?, number(&moment, "user_version")?);
    let tables: i64 = moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    moment.finish()?;
    if application != APPLICATION && (tables > 0 || application != 0) {
        return Err(Unfit::Foreign);
    }
    if version > newest() { Err(Unfit::Newer(version)) } else { Ok(version) }
}

/// Sets up a connection that only reads, and looks whether its tables are those of today.
pub(super) fn look(connection: &Connection, busy: Duration) -> Result<(), Unfit> {
    connection.busy_timeout(busy)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    let version = version(connection)?;
    if version < newest() { Err(Unfit::Older(version)) } else { Ok(()) }
}

/// Lets the file be written ahead. SQLite waits for no other connection here, as it does elsewhere.
fn log_ahead(connection: &Connection, busy: Duration) -> Result<(), rusqlite::Error> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) && begun.elapsed() < busy =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Sets up the connection, looks the file over if it is the `first`, and brings its tables up to date.
pub(super) fn prepare(connection: &mut Connection, busy: Duration, first: bool) -> Result<(), Unfit> {
    connection.busy_timeout(busy)?;
    // Nothing may be opened outside of the file's own directory.
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    version(connection)?;
    if first {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Unfit::Damaged(found.lines().next().unwrap_or_default().to_owned()));
        }
    }
    log_ahead(connection, busy)?;
    connection.pragma_update(None, "synchronous", "full")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another connection may have been quicker.
    let version = number(&transaction, "user_version")?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(migration)?;
    }
    if version != newest() {
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", newest())?;
    }
    transaction.commit()?;
    Ok(())
}
