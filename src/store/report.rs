//! What a report is made of, read from the database at one moment.

use rusqlite::{Connection, params};

use super::reading::count;
use super::{Reading, Store, StoreError};
use crate::detect::{Exception, Usage};
use crate::net::{ByteSize, Span, Timestamp};

/// How much of everything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestBounds {
    /// Alerts with their documents; the rest is counted.
    pub alerts: usize,
    /// Processes, destinations, hosts and pairs of each; the rest is added up.
    pub named: usize,
    /// Slots of the timeline.
    pub slots: u64,
}

/// Uploads and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Uploads.
    pub uploads: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What one process, destination or host sent or took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name; none where it is not known.
    pub name: Option<String>,
    /// How much.
    pub amount: Amount,
    /// Home hosts that took part.
    pub hosts: u64,
}

/// The most of a kind, by bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// The first ones.
    pub rows: Vec<Named>,
    /// How many there are.
    pub known: u64,
}

/// From a process to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The path of the program; none where it is not known.
    pub process: Option<String>,
    /// A registrable domain or a network.
    pub destination: String,
    /// How much.
    pub amount: Amount,
}

/// Uploads of a protocol that began in a slot of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolSlot {
    /// From 0.
    pub slot: u64,
    /// `ftp`, `http`, `websocket`.
    pub protocol: String,
    /// How much.
    pub amount: Amount,
}

/// What left over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// When the first slot begins.
    pub start: Timestamp,
    /// How long each is.
    pub width: Span,
    /// How many there are.
    pub slots: u64,
    /// Only those in which something left.
    pub amounts: Vec<ProtocolSlot>,
    /// Slots in which uploads of alerts began, with the number of alerts that no exception covers.
    pub alerts: Vec<(u64, u64)>,
}

/// Uploads whose process is known so surely, or is not for this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// `certain`, `high`, `medium`, `low`; none if the process is not known.
    pub confidence: Option<String>,
    /// Why it is not known.
    pub unknown: Option<String>,
    /// How much.
    pub amount: Amount,
}

/// Alerts of a severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertCount {
    /// `event.severity`.
    pub severity: u64,
    /// Covered by an exception, and so not sent.
    pub suppressed: bool,
    /// How many.
    pub alerts: u64,
}

/// An alert, as it was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// `event.id`.
    pub event_id: String,
    /// `@timestamp`.
    pub time: String,
    /// `event.severity`.
    pub severity: u64,
    /// The exception that covers it.
    pub suppressed_by: Option<String>,
    /// The ECS document.
    pub document: String,
}

/// What a report is made of. Uploads are those that left the home networks, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// When the first upload began, and when the last one ended.
    pub span: Option<(Timestamp, Timestamp)>,
    /// All that left.
    pub outbound: Amount,
    /// What stayed at home.
    pub inside: Amount,
    /// Uploads that were not seen whole.
    pub partial: u64,
    /// Bytes of uploads that the tap did not deliver.
    pub missing: u64,
    /// By protocol, the most bytes first.
    pub protocols: Vec<(String, Amount)>,
    /// Over time.
    pub timeline: Timeline,
    /// Programs.
    pub processes: Ranking,
    /// Destinations.
    pub destinations: Ranking,
    /// Home hosts, by name or else by address.
    pub hosts: Ranking,
    /// Who sent to whom, the most bytes first.
    pub flows: Vec<Flow>,
    /// How many pairs of process and destination there are.
    pub flows_known: u64,
    /// How surely the process is known.
    pub attribution: Vec<Share>,
    /// How many alerts there are.
    pub alert_counts: Vec<AlertCount>,
    /// Those that no exception covers first, then by severity, the latest first.
    pub alerts: Vec<AlertRow>,
    /// Alerts of the sensor on itself, the latest first.
    pub health: Vec<AlertRow>,
    /// How many of those there are.
    pub health_known: u64,
}

/// The latest of each alert: a later row with the same `event_id` takes the place of the earlier one.
const LATEST: &str = "SELECT event_id, time, severity, suppressed_by, document, number FROM alerts
     WHERE number IN (SELECT max(number) FROM alerts WHERE kind = ?1 GROUP BY event_id)";

const SECOND: u64 = 1_000_000_000;

/// Slots that a timeline has at least, if so many may be.
const FEWEST_SLOTS: u64 = 15;

/// How long a slot may be, in seconds: lengths that people read easily.
const WIDTHS: [u64; 16] = [
    1,
    5,
    15,
    60,
    300,
    900,
    3_600,
    10_800,
    21_600,
    86_400,
    604_800,
    2_592_000,
    7_776_000,
    31_536_000,
    315_360_000,
    3_153_600_000,
];

impl Reading {
    /// Reads what a report shows, all of it as it was at one moment, while others may write.
    ///
    /// # Errors
    /// If the database fails.
    pub fn digest(&self, bounds: &DigestBounds) -> Result<Digest, StoreError> {
        let moment = self.connection.unchecked_transaction()?;
        let mut digest = totals(&moment)?;
        digest.protocols = protocols(&moment)?;
        if let Some((from, until)) = digest.span {
            digest.timeline = timeline(&moment, from, until, bounds.slots)?;
        }
        digest.processes = ranking(&moment, "process", bounds.named)?;
        digest.destinations = ranking(&moment, "destination", bounds.named)?;
        digest.hosts = ranking(&moment, "coalesce(host, source)", bounds.named)?;
        (digest.flows, digest.flows_known) = flows(&moment, bounds.named)?;
        digest.attribution = attribution(&moment)?;
        digest.alert_counts = alert_counts(&moment)?;
        digest.alerts = alerts(&moment, "outfall.alert", bounds.alerts)?;
        digest.health = alerts(&moment, "outfall.health", bounds.alerts)?;
        digest.health_known = count(moment.query_row(
            "SELECT count(DISTINCT event_id) FROM alerts WHERE kind = 'outfall.health'",
            [],
            |row| row.get(0),
        )?);
        moment.finish()?;
        Ok(digest)
    }

    /// The exceptions that hold or did until they expired, with what each has hidden.
    ///
    /// # Errors
    /// If the database fails, or holds what no exception can be.
    pub fn into_exceptions(self) -> Result<Vec<(Exception, Usage)>, StoreError> {
        let store = Store { connection: self.connection, bytes: 0, forgotten: 0 };
        let all = store.exceptions()?.into_iter();
        all.map(|exception| {
            let usage = store.exception_usage(exception.id)?;
            Ok((exception, usage))
        })
        .collect()
    }
}

fn amount(row: &rusqlite::Row<'_>, column: usize) -> Result<Amount, rusqlite::Error> {
    Ok(Amount { uploads: count(row.get(column)?), bytes: count(row.get(column + 1)?) })
}

fn totals(connection: &Connection) -> Result<Digest, StoreError> {
    let mut digest = Digest::default();
    let mut statement = connection.prepare(
        "SELECT outbound, count(*), coalesce(sum(bytes), 0), min(start_ns), max(end_ns), sum(state <> 'complete'),
             coalesce(sum(missing), 0)
         FROM uploads GROUP BY outbound",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if row.get(0)? {
            digest.outbound = amount(row, 1)?;
            digest.span = Some((Timestamp(count(row.get(3)?)), Timestamp(count(row.get(4)?))));
            (digest.partial, digest.missing) = (count(row.get(5)?), count(row.get(6)?));
        } else {
            digest.inside = amount(row, 1)?;
        }
    }
    Ok(digest)
}

fn protocols(connection: &Connection) -> Result<Vec<(String, Amount)>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT protocol, count(*), sum(bytes) FROM uploads WHERE outbound GROUP BY protocol
         ORDER BY sum(bytes) DESC, protocol",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, amount(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn timeline(connection: &Connection, from: Timestamp, until: Timestamp, most: u64) -> Result<Timeline, StoreError> {
    let slots_of = |width: u64| (until.0 / width).saturating_sub(from.0 / width) + 1;
    let widths = WIDTHS.map(|seconds| seconds.saturating_mul(SECOND));
    let width = widths.into_iter().find(|width| slots_of(*width) <= most.max(1)).unwrap_or(u64::MAX);
    // A single moment is a bar among others, not a wall.
    let room = FEWEST_SLOTS.min(most).saturating_sub(slots_of(width));
    let start = (from.0 / width).saturating_sub(room / 2).saturating_mul(width);
    let slots = slots_of(width).saturating_add(room);
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut statement = connection.prepare(
        "SELECT (start_ns - ?1) / ?2, protocol, count(*), sum(bytes) FROM uploads WHERE outbound GROUP BY 1, 2 ORDER BY 1, 2",
    )?;
    let rows = statement.query_map(params![whole(start), whole(width)], |row| {
        Ok(ProtocolSlot { slot: count(row.get(0)?), protocol: row.get(1)?, amount: amount(row, 2)? })
    })?;
    let amounts = rows.collect::<Result<_, _>>()?;
    // An alert belongs to its upload, whose row may be gone; then the alert is in the list, not in the picture.
    let mut statement = connection.prepare(&format!(
        "WITH told AS MATERIALIZED (
             SELECT event_id, json_extract(document, '$.outfall.upload.id') AS upload FROM ({LATEST})
             WHERE suppressed_by IS NULL AND json_valid(document))
         SELECT (start_ns - ?2) / ?3, count(DISTINCT told.event_id)
         FROM told JOIN uploads ON uploads.event_id = upload WHERE outbound GROUP BY 1 ORDER BY 1"
    ))?;
    let rows = statement.query_map(params!["outfall.alert", whole(start), whole(width)], |row| {
        Ok((count(row.get(0)?), count(row.get(1)?)))
    })?;
    let alerts = rows.collect::<Result<_, _>>()?;
    Ok(Timeline { start: Timestamp(start), width: Span(width), slots, amounts, alerts })
}

/// `column` is one of this file's own.
fn ranking(connection: &Connection, column: &str, most: usize) -> Result<Ranking, StoreError> {
    let known = connection.query_row(
        &format!("SELECT count(*) FROM (SELECT DISTINCT {column} FROM uploads WHERE outbound)"),
        [],
        |row| row.get(0),
    )?;
    let mut statement = connection.prepare(&format!(
        "SELECT {column} AS name, count(*), sum(bytes), count(DISTINCT coalesce(host, source)) FROM uploads
         WHERE outbound GROUP BY 1 ORDER BY sum(bytes) DESC, count(*) DESC, 1 LIMIT ?1"
    ))?;
    let rows = statement.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        Ok(Named { name: row.get(0)?, amount: amount(row, 1)?, hosts: count(row.get(3)?) })
    })?;
    Ok(Ranking { rows: rows.collect::<Result<_, _>>()?, known: count(known) })
}

fn flows(connection: &Connection, most: usize) -> Result<(Vec<Flow>, u64), StoreError> {
    let known = connection.query_row(
        "SELECT count(*) FROM (SELECT DISTINCT process, destination FROM uploads WHERE outbound)",
        [],
        |row| row.get(0),
    )?;
    let mut statement = connection.prepare(
        "SELECT process, destination, count(*), sum(bytes) FROM uploads WHERE outbound GROUP BY 1, 2
         ORDER BY sum(bytes) DESC, count(*) DESC, 1, 2 LIMIT ?1",
    )?;
    let rows = statement.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        Ok(Flow { process: row.get(0)?, destination: row.get(1)?, amount: amount(row, 2)? })
    })?;
    Ok((rows.collect::<Result<_, _>>()?, count(known)))
}

fn attribution(connection: &Connection) -> Result<Vec<Share>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT confidence, unknown, count(*), sum(bytes) FROM uploads WHERE outbound GROUP BY 1, 2
         ORDER BY confidence IS NULL, sum(bytes) DESC, 1, 2",
    )?;
    let rows = statement
        .query_map([], |row| Ok(Share { confidence: row.get(0)?, unknown: row.get(1)?, amount: amount(row, 2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn alert_counts(connection: &Connection) -> Result<Vec<AlertCount>, StoreError> {
    let mut statement = connection.prepare(&format!(
        "SELECT severity, suppressed_by IS NOT NULL, count(*) FROM ({LATEST}) GROUP BY 1, 2 ORDER BY 2, 1 DESC"
    ))?;
    let rows = statement.query_map(["outfall.alert"], |row| {
        Ok(AlertCount { severity: count(row.get(0)?), suppressed: row.get(1)?, alerts: count(row.get(2)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn alerts(connection: &Connection, kind: &str, most: usize) -> Result<Vec<AlertRow>, StoreError> {
    let mut statement = connection.prepare(&format!(
        "{LATEST} ORDER BY suppressed_by IS NOT NULL, severity DESC, time DESC, number DESC LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![kind, i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        Ok(AlertRow {
            event_id: row.get(0)?,
            time: row.get(1)?,
            severity: count(row.get(2)?),
            suppressed_by: row.get(3)?,
            document: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Amount {
    /// The bytes, as people read them.
    pub fn size(&self) -> ByteSize {
        ByteSize(self.bytes)
    }
}
