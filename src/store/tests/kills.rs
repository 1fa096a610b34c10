//! A process that writes is killed again and again: nothing that it was told is stored is lost, and all counts agree.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::detect::{Kind, Row, RowKey};

const KILLS: u64 = 200;

/// A file takes this many kills; so some also meet a file that is just being made.
const KILLS_PER_FILE: u64 = 20;

/// Uploads of one transaction; the first of them is an alert, the others teach.
const UPLOADS: u64 = 3;

const UNBOUNDED: Bounds = Bounds { uploads: u64::MAX >> 1, ..WIDE };

fn row(kind: Kind, key: &str, uploads: u64, alerted: u64) -> Change {
    let key = RowKey { kind, key: key.to_owned(), other: String::new() };
    let (first_seen, last_seen) = (crate::net::Timestamp(1), crate::net::Timestamp(2));
    Change::Put(Row { key, first_seen, last_seen, days: 1, uploads, bytes: 0, alerted, detail: "{}".to_owned() })
}

/// Named by the test below, which starts this program again and kills it.
#[test]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("OUTFALL_TEST_STORE") else { return };
    let round = std::env::var("OUTFALL_TEST_ROUND").unwrap();
    let mut store = Store::open(Path::new(&path)).unwrap();
    let (known, _) = store.baseline().unwrap();
    let whole = known.iter().find(|row| row.key.kind == Kind::Whole);
    let (mut taught, mut alerted) = whole.map_or((0, 0), |row| (row.uploads, row.alerted));
    for n in 0_u64.. {
        let id = format!("{round}-{n}");
        let uploads = (0..UPLOADS).map(|part| UploadRow {
            event_id: format!("{id}-{part}"),
            destination: "files.example".to_owned(),
            outbound: true,
            ..UploadRow::default()
        });
        taught += UPLOADS - 1;
        alerted += 1;
        let changes = vec![
            row(Kind::Destination, "files.example", taught, alerted),
            row(Kind::Destination, &format!("{}.example", n % 50), n, 0),
            row(Kind::Whole, "", taught, alerted),
        ];
        let alerts = vec![(Entry { event_id: id.clone(), ..entry(n) }, to(&["a"]))];
        store.append(&Batch { alerts, uploads: uploads.collect(), changes }, UNBOUNDED).unwrap();
        println!("\nstored {id}");
    }
}

/// Between nothing and `most`, another one each time.
fn some_time(most: Duration) -> Duration {
    let dice = RandomState::new().hash_one(0_u8);
    most * u32::try_from(dice % 1_000).unwrap() / 1_000
}

/// Starts the writer, kills it, and gives the alerts that it called stored.
fn killed(path: &Path, round: u64) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::kills::writes_until_it_is_killed", "--nocapture"])
        .env("OUTFALL_TEST_STORE", path)
        .env("OUTFALL_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut stored = Vec::new();
    // Every fourth may be killed while it opens the file.
    if round % 4 != 0 {
        stored.extend(lines.by_ref().find(|line| line.starts_with("stored ")));
    }
    std::thread::sleep(some_time(Duration::from_millis(40)));
    child.kill().unwrap();
    stored.extend(lines);
    assert!(!child.wait().unwrap().success());
    stored.iter().filter_map(|line| line.strip_prefix("stored ").map(str::to_owned)).collect()
}

#[test]
fn no_alert_that_was_stored_is_lost_and_counts_agree_where_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let mut acknowledged = 0;
    let mut stored = BTreeSet::new();
    for round in 0..KILLS {
        if round % KILLS_PER_FILE == 0 {
            stored.clear();
        }
        let path = folder.path().join(format!("{}.db", round / KILLS_PER_FILE));
        let new = killed(&path, round);
        acknowledged += new.len();
        stored.extend(new);

        let store = Store::open(&path).unwrap();
        assert_eq!(store.check().unwrap(), None);
        let waiting = store.waiting("a", 0, usize::MAX).unwrap();
        let kept: BTreeSet<String> = waiting.into_iter().map(|waiting| waiting.entry.event_id).collect();
        assert!(stored.is_subset(&kept), "lost {:?}", stored.difference(&kept));
        let count = |sql: &str| store.connection.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
        let uploads = count("SELECT count(*) FROM uploads WHERE outbound");
        let learned = "SELECT coalesce(sum(uploads + alerted), 0) FROM baseline";
        assert_eq!(uploads, count(&format!("{learned} WHERE kind = 'whole'")), "round {round}");
        assert_eq!(uploads, count(&format!("{learned} WHERE key = 'files.example'")), "round {round}");
        assert_eq!(uploads, UPLOADS * kept.len() as u64, "round {round}");
    }
    println!("{KILLS} kills, {acknowledged} transactions acknowledged, {:.1?}", began.elapsed());
    assert!(acknowledged as u64 > KILLS / 2, "{acknowledged}");
}
