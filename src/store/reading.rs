//! Reading the database beside the sensor that writes it: what an inventory and the state of the baseline are made of.

use std::net::IpAddr;
use std::path::Path;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags, params};

use super::{BUSY, StoreError, exceptions, explained, schema};
use crate::detect::{Facts, Kind};
use crate::join::HostName;
use crate::net::{ByteSize, Span, Timestamp};

/// From when on uploads count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// All that are kept.
    Ever,
    /// So long before the beginning of the last one.
    Last(Span),
    /// A time in RFC 3339 (UTC), or the beginning of one, such as a date.
    Time(String),
}

/// Uploads of one program, over one protocol, to one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InventoryRow {
    /// The path of the program; none where it is not known.
    pub process: Option<String>,
    /// Who signed it.
    pub signer: Option<String>,
    /// `ftp`, `http`, `websocket`.
    pub protocol: String,
    /// A registrable domain or a network.
    pub destination: String,
    /// Hosts, by their name or else their address.
    pub hosts: u64,
    /// Accounts that are known.
    pub users: u64,
    /// Uploads.
    pub uploads: u64,
    /// Their bytes.
    pub bytes: ByteSize,
    /// When the first one began.
    pub first: Timestamp,
    /// When the last one ended.
    pub last: Timestamp,
    /// Uploads that an exception covered.
    pub justified: u64,
    /// The exceptions, in order.
    pub exceptions: Vec<String>,
}

/// What counts as mature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maturity {
    /// From so many hosts on, or so old, a destination is not rare any more.
    pub hosts: u64,
    /// As above.
    pub age: Span,
    /// Days on which a pair must have been seen.
    pub learned_days: u64,
    /// Hosts on which a process must have used a protocol.
    pub learned_hosts: u64,
}

/// How many keys of a kind are known, and how many well enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindStatus {
    /// The kind.
    pub kind: Kind,
    /// Rows.
    pub known: u64,
    /// Of those, how many are mature; none for kinds that need not be.
    pub mature: Option<u64>,
}

/// What is known of what is normal here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineStatus {
    /// The first upload that it has seen; none before it saw one.
    pub since: Option<Timestamp>,
    /// The last one.
    pub last: Option<Timestamp>,
    /// Uploads that taught.
    pub taught: u64,
    /// Uploads that were alerts.
    pub alerted: u64,
    /// By kind.
    pub kinds: Vec<KindStatus>,
}

/// The database, as a command reads it.
#[derive(Debug)]
pub struct Reading {
    pub(super) connection: Connection,
}

pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Reading {
    /// Opens the file, and changes nothing in it.
    ///
    /// # Errors
    /// If there is none, it is not Outfall's, or of another version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        if !path.exists() {
            return Err(refused("there is no such file: nothing was kept there yet".to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| refused(explained(&error)))?;
        schema::look(&connection, BUSY).map_err(|unfit| refused(unfit.text()))?;
        Ok(Self { connection })
    }

    /// Outbound uploads by program, protocol and destination, the most bytes first; at most `most` rows.
    ///
    /// # Errors
    /// If the database fails.
    pub fn inventory(&self, since: &Since, most: usize) -> Result<Vec<InventoryRow>, StoreError> {
        let (from, time) = match since {
            Since::Ever => (i64::MIN, ""),
            Since::Last(span) => {
                let last: i64 =
                    self.connection
                        .query_row("SELECT coalesce(max(start_ns), 0) FROM uploads", [], |row| row.get(0))?;
                (last.saturating_sub(i64::try_from(span.0).unwrap_or(i64::MAX)), "")
            }
            Since::Time(time) => (i64::MIN, time.as_str()),
        };
        self.know_exceptions()?;
        let mut statement = self.connection.prepare(
            "WITH covered AS MATERIALIZED (
                 SELECT json_extract(document, '$.outfall.upload.id') AS upload, max(suppressed_by) AS exception
                 FROM alerts WHERE suppressed_by IS NOT NULL AND json_valid(document) GROUP BY upload)
             SELECT process, signer, protocol, destination, count(DISTINCT coalesce(host, source)),
                 count(DISTINCT user), count(*), sum(bytes), min(start_ns), max(end_ns), count(justified),
                 group_concat(DISTINCT justified)
             FROM (
                 SELECT *, coalesce(exception,
                     covering(protocol, server, domain, source, host, process, user, end_ns)) AS justified
                 FROM uploads LEFT JOIN covered ON upload = event_id
                 WHERE outbound AND start_ns >= ?1 AND time >= ?2)
             GROUP BY process, signer, protocol, destination
             ORDER BY sum(bytes) DESC, process, signer, protocol, destination LIMIT ?3",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![from, time, most], |row| {
            let exceptions: Option<String> = row.get(11)?;
            let mut exceptions: Vec<String> =
                exceptions.iter().flat_map(|ids| ids.split(',')).map(str::to_owned).collect();
            exceptions.sort();
            Ok(InventoryRow {
                process: row.get(0)?,
                signer: row.get(1)?,
                protocol: row.get(2)?,
                destination: row.get(3)?,
                hosts: count(row.get(4)?),
                users: count(row.get(5)?),
                uploads: count(row.get(6)?),
                bytes: ByteSize(count(row.get(7)?)),
                first: Timestamp(count(row.get(8)?)),
                last: Timestamp(count(row.get(9)?)),
                justified: count(row.get(10)?),
                exceptions,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Lets SQL ask which exception covers an upload, or would have, had it been an alert.
    fn know_exceptions(&self) -> Result<(), StoreError> {
        let exceptions = exceptions::active(&self.connection)?;
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
        self.connection.create_scalar_function("covering", 8, flags, move |upload| {
            let text = |n: usize| upload.get::<Option<String>>(n);
            let (protocol, server, domain, source) = (text(0)?, text(1)?, text(2)?, text(3)?);
            let (host, image, user, end) = (text(4)?, text(5)?, text(6)?, count(upload.get(7)?));
            let ip = |text: Option<String>| text.and_then(|text| text.parse::<IpAddr>().ok());
            let Some(client) = ip(source) else { return Ok(None) };
            let host = host.map(|host| HostName { id: host.as_str().into(), name: None, domain: None });
            let facts = Facts {
                protocol: protocol.as_deref().unwrap_or_default(),
                server: ip(server),
                domain: domain.as_deref(),
                client: client.into(),
                host: host.as_ref(),
                image: image.as_deref(),
                user: user.as_deref(),
            };
            let mut covering = exceptions.iter().filter(|exception| exception.holds(Timestamp(end)));
            Ok(covering
                .find(|exception| exception.scope.covers_facts(&facts))
                .map(|exception| exception.id.to_string()))
        })?;
        Ok(())
    }

    /// What the baseline knows, and how well.
    ///
    /// # Errors
    /// If the database fails.
    pub fn baseline_status(&self, maturity: Maturity) -> Result<BaselineStatus, StoreError> {
        let whole = "SELECT first_seen, uploads, alerted FROM baseline WHERE kind = 'whole'";
        let mut statement = self.connection.prepare(whole)?;
        let mut rows = statement.query([])?;
        let (since, taught, alerted) = match rows.next()? {
            Some(row) => (Some(Timestamp(count(row.get(0)?))), count(row.get(1)?), count(row.get(2)?)),
            None => (None, 0, 0),
        };
        let last: Option<i64> =
            self.connection.query_row("SELECT max(last_seen) FROM baseline", [], |row| row.get(0))?;
        let last = last.map(|last| Timestamp(count(last)));
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut counted = self.connection.prepare(
            "SELECT count(*), coalesce(sum(CASE ?1
                 WHEN 'destination' THEN uploads > 0
                     AND (json_array_length(detail, '$.hosts') >= ?2 OR first_seen <= ?3)
                 WHEN 'process-protocol' THEN days >= ?4 AND json_array_length(detail, '$.hosts') >= ?5
                 ELSE days >= ?4 END), 0)
             FROM baseline WHERE kind = ?1",
        )?;
        let old = last.map_or(0, |last| last.before(maturity.age).0);
        let mut kinds = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Whole) {
            let learnable = matches!(
                kind,
                Kind::Destination | Kind::ProcessProtocol | Kind::ProcessDestination | Kind::ParentChild
            );
            let bounds =
                (whole(maturity.hosts), whole(old), whole(maturity.learned_days), whole(maturity.learned_hosts));
            let (known, mature): (i64, i64) = counted
                .query_row(params![kind.name(), bounds.0, bounds.1, bounds.2, bounds.3], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            kinds.push(KindStatus { kind, known: count(known), mature: learnable.then_some(count(mature)) });
        }
        Ok(BaselineStatus { since, last, taught, alerted, kinds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Change, Row, RowKey};
    use crate::store::{Batch, Bounds, Entry, Store, UploadRow};

    const WIDE: Bounds = Bounds { age: Span::seconds(86_400), uploads: 1_000, bytes: ByteSize(1 << 30) };
    const DAY: u64 = 86_400_000_000_000;

    fn upload(n: u64, process: Option<&str>, outbound: bool) -> UploadRow {
        UploadRow {
            event_id: format!("u{n}"),
            time: format!("2026-01-{:02}T00:00:00.000000000Z", n + 1),
            start: i64::try_from(n * DAY).unwrap(),
            end: i64::try_from(n * DAY + 5).unwrap(),
            protocol: "ftp",
            source: format!("10.0.0.{n}"),
            destination: "partner.example".to_owned(),
            process: process.map(str::to_owned),
            bytes: 10,
            state: "complete",
            outbound,
            ..UploadRow::default()
        }
    }

    fn kept(batch: &Batch) -> (tempfile::TempDir, Reading) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outfall.db");
        Store::open(&path).unwrap().append(batch, WIDE).unwrap();
        let reading = Reading::open(&path).unwrap();
        (folder, reading)
    }

    #[test]
    fn the_inventory_counts_what_left_and_what_of_it_an_exception_covers() {
        let document = r#"{"outfall":{"upload":{"id":"u2"},"alert":{"suppressed_by":"EX-0007"}}}"#.to_owned();
        let alert =
            Entry { event_id: "a".into(), time: String::new(), severity: 73, kind: "outfall.alert".into(), document };
        let broken = Entry { document: r#"no JSON, but "suppressed_by""#.into(), ..alert.clone() };
        let batch = Batch {
            alerts: vec![(alert, Vec::new()), (broken, Vec::new())],
            uploads: vec![
                upload(1, Some("ftp.exe"), true),
                upload(2, Some("ftp.exe"), true),
                upload(3, None, true),
                upload(4, None, false),
            ],
            ..Batch::default()
        };
        let (_folder, reading) = kept(&batch);
        let all = reading.inventory(&Since::Ever, 10).unwrap();
        let ftp = &all[0];
        assert_eq!((ftp.process.as_deref(), ftp.uploads, ftp.hosts, ftp.bytes), (Some("ftp.exe"), 2, 2, ByteSize(20)));
        assert_eq!((ftp.first, ftp.last), (Timestamp(DAY), Timestamp(2 * DAY + 5)));
        assert_eq!((ftp.justified, ftp.exceptions.as_slice()), (1, ["EX-0007".to_owned()].as_slice()));
        assert_eq!((all.len(), all[1].uploads, all[1].justified), (2, 1, 0), "what stays at home is left out");
        let uploads = |since: Since| reading.inventory(&since, 10).unwrap().iter().map(|row| row.uploads).sum::<u64>();
        assert_eq!(uploads(Since::Time("2026-01-03".to_owned())), 2);
        assert_eq!(uploads(Since::Last(Span(DAY))), 1, "the last of all is at home, on the day after");
    }

    #[test]
    fn the_baseline_tells_what_is_mature() {
        let row = |kind, key: &str, first_seen, days, hosts: &str| {
            Change::Put(Row {
                key: RowKey { kind, key: key.into(), other: "x".into() },
                first_seen: Timestamp(first_seen),
                last_seen: Timestamp(40 * DAY),
                days,
                uploads: 3,
                bytes: 1,
                alerted: 2,
                detail: format!("{{\"hosts\":[{hosts}]}}"),
            })
        };
        let changes = vec![
            row(Kind::Destination, "old", DAY, 1, ""),
            row(Kind::Destination, "new", 39 * DAY, 1, "1"),
            row(Kind::Destination, "shared", 39 * DAY, 1, "1,2"),
            row(Kind::ProcessProtocol, "days", 0, 5, "1"),
            row(Kind::ProcessProtocol, "both", 0, 5, "1,2"),
            row(Kind::ParentChild, "days", 0, 5, ""),
            row(Kind::Process, "p", 0, 5, ""),
            row(Kind::Whole, "", 7, 0, ""),
        ];
        let (_folder, reading) = kept(&Batch { changes, ..Batch::default() });
        let maturity = Maturity { hosts: 2, age: Span(30 * DAY), learned_days: 5, learned_hosts: 2 };
        let status = reading.baseline_status(maturity).unwrap();
        assert_eq!((status.since, status.last), (Some(Timestamp(7)), Some(Timestamp(40 * DAY))));
        assert_eq!((status.taught, status.alerted), (3, 2));
        let of = |kind| status.kinds.iter().find(|of| of.kind == kind).map(|of| (of.known, of.mature)).unwrap();
        assert_eq!(of(Kind::Destination), (3, Some(2)));
        assert_eq!(of(Kind::ProcessProtocol), (2, Some(1)));
        assert_eq!(of(Kind::ParentChild), (1, Some(1)));
        assert_eq!(of(Kind::Process), (1, None));
    }

    #[test]
    fn a_file_that_cannot_be_read_gives_one_line_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outfall.db");
        let refusal = |path: &Path| Reading::open(path).unwrap_err().to_string();
        assert!(refusal(&path).contains("no such file") && !path.exists());
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        assert!(refusal(&path).contains("another program"));
        let older = folder.path().join("older.db");
        Store::open(&older).unwrap().connection.pragma_update(None, "user_version", 1).unwrap();
        assert!(refusal(&older).contains("version 1"), "{}", refusal(&older));
    }
}
