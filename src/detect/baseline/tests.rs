use super::*;
use crate::join::tests::{attributed, upload};
use proptest::prelude::*;

const DAY: u64 = 86_400;

fn sent(host: u8, day: u64, domain: &str) -> Upload {
    let mut upload = upload(1_000, &["a.txt"]);
    upload.connection.client.address = Address::v4([10, 0, 0, host]);
    upload.start = Timestamp::from_parts(day * DAY + 3_600, 0);
    upload.end = upload.start;
    upload.domain = Some(domain.to_owned());
    upload
}

fn at(day: u64) -> Timestamp {
    Timestamp::from_parts(day * DAY + 7_200, 0)
}

const TOOL: &str = "C:\\Tools\\sync.exe";

fn settle(baseline: &mut Baseline, upload: &Upload, alert: bool) {
    baseline.settle(upload, &attributed(TOOL), "http", &destination_of(upload), alert);
}

#[test]
fn hosts_count_within_the_window_and_what_was_an_alert_does_not() {
    let mut baseline = Baseline::new(&Detect::default());
    for (host, day, alert) in [(1, 1, false), (2, 20, false), (3, 21, true), (1, 22, false)] {
        settle(&mut baseline, &sent(host, day, "up.files.example"), alert);
    }
    let known = baseline.prevalence("files.example", at(22));
    assert_eq!((known.hosts, known.uploads), (2, 3));
    assert_eq!(known.age.map(|age| age.0 / 1_000_000_000 / DAY), Some(21));
    assert_eq!(baseline.prevalence("files.example", at(51)).hosts, 1, "after 30 days only the host of day 22");
    assert_eq!(baseline.prevalence("other.example", at(22)), Prevalence::default());
}

#[test]
fn a_host_that_was_noted_counts_until_its_time_has_passed() {
    let mut baseline = Baseline::new(&Detect::default());
    settle(&mut baseline, &sent(1, 1, "files.example"), false);
    for host in [1, 2, 2] {
        baseline.note(&"files.example".into(), Address::v4([10, 0, 0, host]), at(2));
    }
    assert_eq!(baseline.prevalence("files.example", at(1)).hosts, 2);
    baseline.forget_noted(at(3));
    assert_eq!(baseline.prevalence("files.example", at(1)).hosts, 1);
}

#[test]
fn a_process_is_learned_by_days_and_hosts() {
    let mut baseline = Baseline::new(&Detect::default());
    let process = crate::join::tests::process_of(TOOL);
    for (host, day) in [(1, 1), (1, 1), (2, 2), (3, 4)] {
        settle(&mut baseline, &sent(host, day, "files.example"), false);
    }
    settle(&mut baseline, &sent(9, 9, "files.example"), true);
    let learned = baseline.learned(&process, "http", "files.example");
    assert_eq!(learned.protocol, Familiarity { days: 3, hosts: 3 });
    assert_eq!(learned.destination, learned.protocol);
    assert_eq!(baseline.learned(&process, "ftp", "other.example"), Learned::default());
}

#[test]
fn a_program_is_recognised_by_its_content_under_another_name() {
    let mut baseline = Baseline::new(&Detect::default());
    let mut ran = crate::join::tests::process_of("C:\\Windows\\System32\\FTP.EXE");
    ran.sha256 = Some("ab".repeat(32).into());
    let renamed = Process { image: Some("C:\\Users\\Public\\update.exe".into()), ..ran.clone() };
    let process = Box::new(ran);
    let confidence = crate::join::Confidence::Certain;
    let attribution = Attribution::Known { process, rule: "five-tuple", confidence, offset: None };
    baseline.settle(&sent(1, 1, "files.example"), &attribution, "ftp", "files.example", true);
    assert_eq!(baseline.other_names(&renamed), ["ftp.exe"]);
}

#[test]
fn only_a_baseline_that_is_kept_learns_and_only_for_its_time() {
    let mut baseline = Baseline::new(&Detect::default());
    settle(&mut baseline, &sent(1, 1, "files.example"), false);
    assert_eq!(baseline.learning(at(1)), None);
    baseline.restore([]);
    assert!(baseline.learning(at(14)).is_some());
    assert_eq!(baseline.learning(at(15)), None);
}

#[test]
fn the_tables_are_bounded_and_what_is_forgotten_is_counted_and_given_up() {
    let detect = Detect { destinations: 2, ..Detect::default() };
    let mut baseline = Baseline::new(&detect);
    baseline.restore([]);
    for n in 1..=3 {
        settle(&mut baseline, &sent(1, n, &format!("files{n}.example")), false);
    }
    assert_eq!(baseline.counters().destinations_forgotten, 1);
    let key = |change: &Change| match change {
        Change::Put(row) => ("put", row.key.kind, row.key.key.clone()),
        Change::Forget(key) => ("forget", key.kind, key.key.clone()),
    };
    let changes: Vec<_> =
        baseline.changes().iter().map(key).filter(|(_, kind, _)| *kind == Kind::Destination).collect();
    let expected = [("forget", "files1.example"), ("put", "files2.example"), ("put", "files3.example")];
    let expected = expected.map(|(what, name)| (what, Kind::Destination, name.to_owned()));
    assert_eq!(changes, expected);
    assert_eq!(baseline.changes(), []);
}

#[test]
fn a_row_that_cannot_be_read_is_counted() {
    let mut baseline = Baseline::new(&Detect::default());
    let key = RowKey { kind: Kind::Destination, key: "x".into(), other: String::new() };
    let (first_seen, last_seen) = (Timestamp(0), Timestamp(0));
    let detail = "{".to_owned();
    baseline.restore([Row { key, first_seen, last_seen, days: 0, uploads: 0, bytes: 0, alerted: 0, detail }]);
    assert_eq!(baseline.counters().rows_unread, 1);
}

/// The rows as a store would hold them.
fn apply(rows: &mut Vec<Row>, changes: Vec<Change>) {
    for change in changes {
        let key = match &change {
            Change::Put(row) => &row.key,
            Change::Forget(key) => key,
        };
        rows.retain(|row| row.key != *key);
        if let Change::Put(row) = change {
            rows.push(row);
        }
    }
}

proptest! {
    #[test]
    fn one_that_was_stopped_and_goes_on_knows_what_one_knows_that_was_not(
        uploads in proptest::collection::vec((0u8..5, 1u64..40, 0u8..6, any::<bool>()), 1..60),
        stop in 0usize..60,
    ) {
        let detect = Detect::default();
        let mut through = Baseline::new(&detect);
        through.restore([]);
        let mut stopped = Baseline::new(&detect);
        stopped.restore([]);
        let mut rows = Vec::new();
        for (n, (host, day, site, alert)) in uploads.iter().enumerate() {
            if n == stop {
                apply(&mut rows, stopped.changes());
                stopped = Baseline::new(&detect);
                stopped.restore(rows.clone());
            }
            let upload = sent(*host, *day, &format!("site{site}.example"));
            settle(&mut through, &upload, *alert);
            settle(&mut stopped, &upload, *alert);
        }
        for site in 0..6 {
            let name = format!("site{site}.example");
            prop_assert_eq!(through.prevalence(&name, at(40)), stopped.prevalence(&name, at(40)));
        }
        prop_assert_eq!(through.learning(at(12)), stopped.learning(at(12)));
    }
}
