//! Finished uploads on the disk, one row each, with the columns that people search by.

use rusqlite::{Connection, params};

use crate::detect::destination_of;
use crate::join::Attribution;
use crate::net::Span;
use crate::record::{State, Upload};

/// What is kept of an upload. Addresses, names and paths are as they came; whoever shows them escapes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadRow {
    /// `event.id`; a later row of the same upload takes the place of an earlier one.
    pub event_id: String,
    /// When it began, RFC 3339.
    pub time: String,
    /// The same, in nanoseconds since 1970.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// `ftp`, `http`, `websocket`.
    pub protocol: &'static str,
    /// The home host, by its name or identity where a helper told it.
    pub host: Option<String>,
    /// The client's address.
    pub source: String,
    /// The server's address and port.
    pub server: String,
    /// The server's port.
    pub port: u16,
    /// The name that the request or DNS gave.
    pub domain: Option<String>,
    /// What counts as the destination: a registrable domain or a network.
    pub destination: String,
    /// The account.
    pub user: Option<String>,
    /// The path of the program.
    pub process: Option<String>,
    /// Its process id.
    pub pid: Option<u32>,
    /// Who signed it.
    pub signer: Option<String>,
    /// How sure the process is; none if it is not known.
    pub confidence: Option<&'static str>,
    /// Why the process is not known.
    pub unknown: Option<&'static str>,
    /// Entity bytes.
    pub bytes: u64,
    /// Of those, how many the tap did not deliver.
    pub missing: u64,
    /// `complete`, `partial` or `running`.
    pub state: &'static str,
    /// The name of the first file.
    pub file: Option<String>,
    /// Its SHA-256, or the body's.
    pub sha256: Option<String>,
    /// It left the home networks.
    pub outbound: bool,
}

impl UploadRow {
    /// Whether the upload is over. One that still runs is kept apart, until it is.
    pub fn is_over(&self) -> bool {
        self.state != State::Running.name()
    }

    /// Of an upload.
    pub fn of(upload: &Upload, attribution: &Attribution, outbound: bool) -> Self {
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        let process = attribution.process();
        let host = attribution.host().map(|host| host.name.as_ref().unwrap_or(&host.id).to_string());
        let file = upload.files.first();
        let (confidence, unknown) = match attribution {
            Attribution::Known { confidence, .. } => (Some(confidence.name()), None),
            Attribution::Unknown { why, .. } => (None, Some(why.name())),
        };
        let server = upload.connection.server;
        Self {
            event_id: upload.id.to_string(),
            time: upload.start.to_string(),
            start: i64::try_from(upload.start.0).unwrap_or(i64::MAX),
            end: i64::try_from(upload.end.0).unwrap_or(i64::MAX),
            protocol: upload.protocol.name(),
            host,
            source: upload.connection.client.address.to_string(),
            server: server.address.to_string(),
            port: server.port,
            domain: upload.domain.clone(),
            destination: destination_of(upload),
            user: process.and_then(|process| text(&process.user)),
            process: process.and_then(|process| text(&process.image)),
            pid: process.and_then(|process| process.pid),
            signer: process.and_then(|process| text(&process.signer)),
            confidence,
            unknown,
            bytes: upload.bytes,
            missing: upload.missing,
            state: upload.state.name(),
            file: file.and_then(|file| file.name.clone()),
            sha256: file.and_then(|file| file.sha256.clone()).or_else(|| upload.body.sha256.clone()),
            outbound,
        }
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Writes rows, inside a transaction of the caller's.
pub(super) fn write(connection: &Connection, rows: &[UploadRow], now: i64) -> Result<(), rusqlite::Error> {
    let mut put = connection.prepare_cached(
        "INSERT INTO uploads (event_id, time, stored, start_ns, end_ns, protocol, host, source, server, port, domain,
             destination, user, process, pid, signer, confidence, unknown, bytes, missing, state, file, sha256, outbound)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (event_id) DO UPDATE SET time = excluded.time, end_ns = excluded.end_ns, host = excluded.host,
             domain = excluded.domain, destination = excluded.destination, user = excluded.user,
             process = excluded.process, pid = excluded.pid, signer = excluded.signer, confidence = excluded.confidence,
             unknown = excluded.unknown, bytes = excluded.bytes, missing = excluded.missing, state = excluded.state,
             file = excluded.file, sha256 = excluded.sha256, outbound = excluded.outbound",
    )?;
    let mut run = connection.prepare_cached(
        "INSERT INTO running (event_id, time, protocol, host, process, destination, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (event_id) DO UPDATE SET process = excluded.process, bytes = excluded.bytes",
    )?;
    let mut end = connection.prepare_cached("DELETE FROM running WHERE event_id = ?")?;
    for row in rows {
        if !row.is_over() {
            let host = row.host.as_ref().unwrap_or(&row.source);
            run.execute(params![
                row.event_id,
                row.time,
                row.protocol,
                host,
                row.process,
                row.destination,
                whole(row.bytes)
            ])?;
            continue;
        }
        end.execute([&row.event_id])?;
        put.execute(params![
            row.event_id,
            row.time,
            now,
            row.start,
            row.end,
            row.protocol,
            row.host,
            row.source,
            row.server,
            row.port,
            row.domain,
            row.destination,
            row.user,
            row.process,
            row.pid,
            row.signer,
            row.confidence,
            row.unknown,
            whole(row.bytes),
            whole(row.missing),
            row.state,
            row.file,
            row.sha256,
            row.outbound,
        ])?;
    }
    Ok(())
}

/// Uploads that run and are listed. Beyond, the oldest are not.
const RUNNING: i64 = 1_000;

/// Deletes the oldest rows until both bounds hold, and says how many.
pub(super) fn prune(connection: &Connection, now: i64, age: Span, most: u64) -> Result<u64, rusqlite::Error> {
    let oldest = now.saturating_sub(i64::try_from(age.0 / 1_000_000_000).unwrap_or(i64::MAX));
    let old = connection
        .prepare_cached(
            "DELETE FROM uploads WHERE number <= (SELECT max(number) FROM uploads) - ?1
             OR (number < (SELECT min(number) FROM uploads) + 4096 AND stored < ?2)",
        )?
        .execute(params![whole(most), oldest])?;
    connection
        .prepare_cached("DELETE FROM running WHERE number <= (SELECT max(number) FROM running) - ?")?
        .execute([RUNNING])?;
    Ok(old as u64)
}
