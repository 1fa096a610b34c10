//! The store where the process is killed, the disk is full or may not be written, and where the file is an older one.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::tests::{WIDE, entry, refusal, to};
use super::*;
use crate::detect::{Kind, Row, RowKey};
use crate::net::Timestamp;

const ROOMY: Bounds = Bounds { age: WIDE.age, uploads: 1_000_000_000, bytes: WIDE.bytes };

/// Uploads that come at once, one of which is an alert.
const TOGETHER: u64 = 3;
const DESTINATIONS: u64 = 5;

fn upload(id: &str) -> UploadRow {
    let (protocol, state, destination) = ("http", "complete", "files.example".to_owned());
    UploadRow { event_id: id.to_owned(), protocol, state, destination, outbound: true, ..UploadRow::default() }
}

fn row(kind: Kind, key: String, uploads: u64, alerted: u64) -> Change {
    let (key, at) = (RowKey { kind, key, other: String::new() }, Timestamp(1));
    Change::Put(Row { key, first_seen: at, last_seen: at, days: 1, uploads, bytes: 1, alerted, detail: "{}".into() })
}

/// The counts of the baseline: of all, and by destination.
fn known(store: &Store) -> ([u64; 2], Vec<[u64; 2]>) {
    let (mut whole, mut destinations) = ([0; 2], vec![[0; 2]; usize::try_from(DESTINATIONS).unwrap()]);
    for row in store.baseline().unwrap().0 {
        let counts = [row.uploads, row.alerted];
        match row.key.kind {
            Kind::Whole => whole = counts,
            _ => destinations[row.key.key.parse::<usize>().unwrap()] = counts,
        }
    }
    (whole, destinations)
}

/// What one turn finds: uploads, of which the first is an alert.
fn found(n: u64, whole: &mut [u64; 2], destinations: &mut [[u64; 2]]) -> Batch {
    let mut batch = Batch::default();
    for part in 0..TOGETHER {
        let which = usize::try_from((n + part) % DESTINATIONS).unwrap();
        let column = usize::from(part == 0);
        whole[column] += 1;
        destinations[which][column] += 1;
        batch.uploads.push(upload(&format!("u{n}-{part}")));
        let [uploads, alerted] = destinations[which];
        batch.changes.push(row(Kind::Destination, which.to_string(), uploads, alerted));
    }
    batch.changes.push(row(Kind::Whole, String::new(), whole[0], whole[1]));
    batch.alerts.push((entry(n), to(&["a"])));
    batch
}

/// Named by the test below, which starts this program again and kills it.
#[test]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("OUTFALL_TEST_STORE") else { return };
    let mut store = Store::open(Path::new(&path)).unwrap();
    let (mut whole, mut destinations) = known(&store);
    let mut out = std::io::stdout().lock();
    for n in 0_u64.. {
        let id = u64::from(std::process::id()) << 32 | n;
        store.append(&found(id, &mut whole, &mut destinations), ROOMY).unwrap();
        writeln!(out, "\nstored e{id}").unwrap();
        out.flush().unwrap();
    }
}

/// At whatever moment it is killed, also while it opens the file for the first time: what it said to have stored is there, and
/// the counts agree.
#[test]
fn nothing_that_was_stored_is_lost_and_counts_agree_where_the_process_is_killed() {
    let started = Instant::now();
    let (mut all, mut without) = (0, 0);
    for file in 0..10_u64 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outfall.db");
        let mut stored = BTreeSet::new();
        for round in 0..21_u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::durability_tests::writes_until_it_is_killed", "--nocapture"])
                .env("OUTFALL_TEST_STORE", &path)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            // Spread over opening, writing and checkpoints, and not in step with any of them.
            let moment = (file * 7_919 + round * 104_729) % 120_000;
            let reader = std::thread::spawn(move || {
                lines.filter_map(|line| line.strip_prefix("stored ").map(str::to_owned)).collect::<Vec<_>>()
            });
            std::thread::sleep(Duration::from_micros(moment));
            child.kill().unwrap();
            child.wait().unwrap();
            let fresh = reader.join().unwrap();
            without += u64::from(fresh.is_empty());
            stored.extend(fresh);
            all += 1;
            let store = Store::open(&path).unwrap();
            assert_eq!(store.check().unwrap(), None);
            let waiting = store.waiting("a", 0, usize::MAX).unwrap();
            let kept: BTreeSet<String> = waiting.into_iter().map(|waiting| waiting.entry.event_id).collect();
            assert!(stored.is_subset(&kept), "lost {:?}", stored.difference(&kept));
            let (whole, destinations) = known(&store);
            let uploads: i64 =
                store.connection.query_row("SELECT count(*) FROM uploads", [], |row| row.get(0)).unwrap();
            assert_eq!(whole.iter().sum::<u64>(), u64::try_from(uploads).unwrap());
            for (column, whole) in whole.iter().enumerate() {
                assert_eq!(destinations.iter().map(|counts| counts[column]).sum::<u64>(), *whole);
            }
            assert_eq!(whole[1], kept.len() as u64, "alerts");
        }
        assert!(!stored.is_empty(), "killed too early to have written anything");
    }
    println!("killed {all} times in {:?}, {without} times before anything was stored", started.elapsed());
}

#[test]
fn what_is_not_seen_for_long_is_forgotten_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("outfall.db")).unwrap();
    let seen = |key: &str, at| match row(Kind::Destination, key.to_owned(), 1, 0) {
        Change::Put(row) => Change::Put(Row { last_seen: Timestamp(at), ..row }),
        forget => forget,
    };
    // The row of the whole is as old as the baseline, and stays.
    let changes = vec![seen("0", 99), seen("1", 100), seen("2", 200), row(Kind::Whole, String::new(), 3, 0)];
    store.append(&Batch { changes, ..Batch::default() }, WIDE).unwrap();
    store.forget_unseen(Span(100)).unwrap();
    assert_eq!(known(&store), ([3, 0], vec![[0, 0], [1, 0], [1, 0], [0, 0], [0, 0]]));
    assert_eq!(Writer::start(store, WIDE, 1, || ()).unwrap().finish().pruned_baseline, 1);
}

/// A file as version 1 made it, with an alert that still waits.
#[test]
fn a_file_of_version_1_keeps_what_waits_and_gets_the_new_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "PRAGMA application_id = 1333097542;
             PRAGMA user_version = 1;
             CREATE TABLE alerts (number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, time TEXT NOT NULL,
                 stored INTEGER NOT NULL, severity INTEGER NOT NULL, kind TEXT NOT NULL, document TEXT NOT NULL);
             CREATE INDEX alerts_by_event ON alerts (event_id);
             CREATE TABLE outbox (destination TEXT NOT NULL,
                 alert INTEGER NOT NULL REFERENCES alerts (number) ON DELETE CASCADE,
                 attempts INTEGER NOT NULL DEFAULT 0,
                 state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent')),
                 PRIMARY KEY (destination, alert)) WITHOUT ROWID;
             CREATE INDEX outbox_by_alert ON outbox (alert);
             CREATE INDEX outbox_waiting ON outbox (destination, alert) WHERE state = 'waiting';
             INSERT INTO alerts VALUES (7, 'old', '2026-01-02T03:04:05Z', 4000000000, 73, 'outfall.alert', '{}');
             INSERT INTO outbox VALUES ('a', 7, 2, 'waiting'), ('b', 7, 1, 'sent');",
        )
        .unwrap();
    let mut store = Store::open(&path).unwrap();
    let (mut whole, mut destinations) = known(&store);
    store.append(&found(8, &mut whole, &mut destinations), WIDE).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    let waiting = store.waiting("a", 0, 10).unwrap();
    let waiting: Vec<_> = waiting.iter().map(|waiting| (waiting.number, waiting.entry.event_id.as_str())).collect();
    assert_eq!(waiting, [(7, "old"), (8, "e8")]);
    assert_eq!((store.count_waiting("b").unwrap(), store.check().unwrap()), (0, None));
    assert_eq!(Reading::open(&path).unwrap().inventory(&Since::Ever, 9).unwrap()[0].uploads, TOGETHER);
}

/// Runs in a mount namespace of its own, with a file system of 1 MiB there; not where this machine does not allow that.
#[cfg(target_os = "linux")]
fn on_a_small_disk(test: &'static str, run: impl FnOnce(&Path) + Send + 'static) {
    let work = move || {
        let folder = tempfile::tempdir().unwrap();
        let ran = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let alone = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
            && ran(Command::new("mount").args(["--make-rprivate", "/"]))
            && ran(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(folder.path()));
        if !alone {
            println!("skipped: {test}: no mount namespace of its own: run as root");
            return;
        }
        run(folder.path());
    };
    std::thread::spawn(work).join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_full_disk_does_not_take_is_stored_when_there_is_room_again() {
    on_a_small_disk("a full disk", |folder| {
        let path = folder.join("outfall.db");
        let writer = Writer::start(Store::open(&path).unwrap(), WIDE, 64, || ()).unwrap();
        let mut filler = std::fs::File::create(folder.join("filler")).unwrap();
        while filler.write_all(&[1; 4_096]).is_ok() {}
        let (mut whole, mut destinations) = ([0; 2], vec![[0; 2]; 5]);
        for n in 0..20 {
            assert!(writer.put(found(n, &mut whole, &mut destinations)).is_ok(), "nobody waits");
            std::thread::sleep(Duration::from_millis(2));
        }
        let until = Instant::now() + Duration::from_secs(10);
        while writer.counters().refused == 0 {
            assert!(Instant::now() < until, "the disk is not full");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_file(folder.join("filler")).unwrap();
        drop(filler);
        let counted = writer.finish();
        let lost = (counted.failed, counted.uploads_lost, counted.queue_full);
        assert_eq!((counted.stored, counted.uploads, lost), (20, 60, (0, 0, 0)), "{counted:?}");
        let store = Store::open(&path).unwrap();
        assert_eq!((known(&store).0, store.check().unwrap()), ([40, 20], None));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_may_not_be_written_gives_one_line_that_says_so() {
    on_a_small_disk("a read-only disk", |folder| {
        let (old, new) = (folder.join("old.db"), folder.join("new.db"));
        drop(Store::open(&old).unwrap());
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(folder).status().unwrap().success());
        assert!(refusal(&old).contains("can only be read"), "{}", refusal(&old));
        assert!(refusal(&new).contains("cannot be opened or made"), "{}", refusal(&new));
    });
}

/// How fast it takes what comes, and how large that becomes: `cargo test --release --lib -- --ignored --nocapture what_the_store_takes`.
#[test]
#[ignore = "a measurement"]
fn what_the_store_takes_in_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    let mut store = Store::open(&path).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let full = |n: usize| UploadRow {
        time: "2026-01-02T03:04:05.000000000Z".into(),
        host: text("WS-0417.corp.example"),
        source: "10.20.30.40".into(),
        server: "203.0.113.77".into(),
        domain: text("uploads.files.example"),
        user: text(r"CORP\ann.somebody"),
        process: text(r"C:\Program Files\Google\Chrome\Application\chrome.exe"),
        signer: text("Google LLC"),
        confidence: Some("high"),
        file: text("quarterly-report.zip"),
        sha256: text(&"ab".repeat(32)),
        ..upload(&format!("{n:032x}"))
    };
    let detail = format!("{{\"hosts\":[{}\"10.0.0.9\"],\"users\":[],\"last_day\":20000}}", "\"10.0.0.10\",".repeat(9));
    let size = || std::fs::metadata(&path).unwrap().len();
    let mut measured = |name: &str, batches: &[Batch], rows: usize| {
        store.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let (before, started) = (size(), Instant::now());
        batches.iter().for_each(|batch| _ = store.append(batch, ROOMY).unwrap());
        let per_second = rows as f64 / started.elapsed().as_secs_f64();
        store.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        println!("{name}: {per_second:.0} rows a second, {} bytes a row", (size() - before) / rows as u64);
    };
    let (count, together) = (200_000, 256);
    let numbers: Vec<usize> = (0..count).collect();
    let batches = |make: &dyn Fn(usize) -> Batch| -> Vec<Batch> {
        numbers
            .chunks(together)
            .map(|chunk| {
                chunk.iter().map(|n| make(*n)).fold(Batch::default(), |mut all, one| {
                    all.uploads.extend(one.uploads);
                    all.alerts.extend(one.alerts);
                    all.changes.extend(one.changes);
                    all
                })
            })
            .collect()
    };
    measured("uploads", &batches(&|n| Batch { uploads: vec![full(n)], ..Batch::default() }), count);
    let document = "x".repeat(2_500);
    let alert = |n: usize| (Entry { document: document.clone(), ..entry(n as u64) }, to(&["a"]));
    measured("alerts", &batches(&|n| Batch { alerts: vec![alert(n)], ..Batch::default() }), count);
    let change = |n: usize| match row(Kind::Destination, format!("destination-{n}.example"), 1, 0) {
        Change::Put(row) => Change::Put(Row { detail: detail.clone(), ..row }),
        forget => forget,
    };
    measured("baseline", &batches(&|n| Batch { changes: vec![change(n)], ..Batch::default() }), count);
}
