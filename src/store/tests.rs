use super::*;

pub(super) const WIDE: Bounds = Bounds { age: Span::seconds(86_400), uploads: 1_000, bytes: ByteSize(1 << 30) };

pub(super) fn entry(n: u64) -> Entry {
    Entry {
        event_id: format!("e{n}"),
        time: "2026-01-02T03:04:05Z".into(),
        severity: 73,
        kind: "outfall.alert".into(),
        document: format!("{{\"n\":{n},\"text\":\"\u{e4}\"}}"),
    }
}

fn alerts(alerts: &[(Entry, Vec<String>)]) -> Batch {
    Batch { alerts: alerts.to_vec(), ..Batch::default() }
}

pub(super) fn to(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn numbers(waiting: &[Waiting]) -> Vec<&str> {
    waiting.iter().map(|waiting| waiting.entry.event_id.as_str()).collect()
}

pub(super) fn refusal(path: &Path) -> String {
    let text = Store::open(path).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn an_alert_waits_for_each_place_until_it_was_delivered_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    let mut store = Store::open(&path).unwrap();
    store.append(&alerts(&[(entry(1), to(&["a", "b"])), (entry(2), to(&["a"])), (entry(3), to(&[]))]), WIDE).unwrap();
    let waiting = store.waiting("a", 0, 10).unwrap();
    assert_eq!(numbers(&waiting), ["e1", "e2"]);
    assert_eq!(waiting[0].entry, entry(1));
    store.delivered("a", waiting[0].number).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(numbers(&store.waiting("a", 0, 10).unwrap()), ["e2"]);
    assert_eq!(numbers(&store.waiting("b", 0, 10).unwrap()), ["e1"]);
    assert_eq!((store.count_waiting("a").unwrap(), store.count_waiting("c").unwrap()), (1, 0));
    assert_eq!(store.size().unwrap().0, 3);
}

#[test]
fn the_oldest_alerts_go_where_there_is_no_room_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("outfall.db")).unwrap();
    let narrow = Bounds { bytes: ByteSize(3 * entry(1).document.len() as u64), ..WIDE };
    let mut pruned = Pruned::default();
    for n in 1..=5 {
        let now = store.append(&alerts(&[(entry(n), to(&["a", "b"]))]), narrow).unwrap();
        pruned = Pruned { alerts: pruned.alerts + now.alerts, waiting: pruned.waiting + now.waiting, uploads: 0 };
    }
    assert_eq!(pruned, Pruned { alerts: 2, waiting: 4, uploads: 0 });
    assert_eq!(numbers(&store.waiting("a", 0, 10).unwrap()), ["e3", "e4", "e5"]);
    store.connection.execute("UPDATE alerts SET stored = stored - 100 WHERE event_id <> 'e5'", []).unwrap();
    let young = Bounds { age: Span::seconds(50), ..WIDE };
    assert_eq!(store.append(&Batch::default(), young).unwrap(), Pruned { alerts: 2, waiting: 4, uploads: 0 });
    assert_eq!(store.size().unwrap(), (1, ByteSize(entry(5).document.len() as u64)));
}

#[test]
fn a_file_that_cannot_be_used_gives_one_line_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    std::fs::write(&path, "this is no database, but long enough to be looked at").unwrap();
    assert!(refusal(&path).contains("no SQLite database"), "{}", refusal(&path));
    assert!(refusal(&folder.path().join("none/outfall.db")).contains("cannot be opened or made"));

    let newer = folder.path().join("newer.db");
    Store::open(&newer).unwrap().connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(refusal(&newer).contains("version 99"), "{}", refusal(&newer));

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(refusal(&foreign).contains("another program"));

    let damaged = folder.path().join("damaged.db");
    let mut store = Store::open(&damaged).unwrap();
    let many: Vec<_> = (0..500).map(|n| (entry(n), to(&["a"]))).collect();
    store.append(&alerts(&many), WIDE).unwrap();
    drop(store);
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[4_096..].fill(0xa5);
    std::fs::write(&damaged, bytes).unwrap();
    assert!(refusal(&damaged).contains("damaged"), "{}", refusal(&damaged));
}

#[test]
fn a_file_is_looked_over_once_and_not_for_each_who_joins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    let mut store = Store::open(&path).unwrap();
    store.append(&alerts(&[(entry(1), to(&["a"]))]), WIDE).unwrap();
    // What only looking over all of the file finds: an entry of an index that no row has.
    store
        .connection
        .execute_batch("PRAGMA writable_schema = on; DELETE FROM sqlite_schema WHERE name = 'outbox_waiting'")
        .unwrap();
    drop(store);
    assert!(Store::open(&path).unwrap_err().to_string().contains("damaged"));
    assert_eq!(Store::join(&Location::File(path)).unwrap().waiting("a", 0, 9).unwrap().len(), 1);
}

#[test]
fn what_the_disk_does_not_take_is_counted_and_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    let store = Store::open(&path).unwrap();
    // As if the disk were full from here on.
    let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let writer = Writer::start(store, WIDE, 2, || ()).unwrap();
    let large = Entry { document: "x".repeat(1 << 20), ..entry(1) };
    for _ in 0..10 {
        if writer.put(Batch { alerts: vec![(large.clone(), to(&["a"]))], ..Batch::default() }).is_err() {
            writer.lost(1, 0);
        }
    }
    let counted = writer.finish();
    assert!(counted.queue_full > 0 && counted.failed > 0, "{counted:?}");
    assert_eq!((counted.stored, counted.queue_full + counted.failed), (0, 10));
}

#[test]
fn uploads_that_run_are_listed_until_they_end_or_who_listed_them_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    let mut store = Store::open(&path).unwrap();
    let row = |id: u64, bytes: u64, state| UploadRow {
        event_id: format!("u{id}"),
        source: "10.0.0.5".into(),
        protocol: "http",
        bytes,
        state,
        ..UploadRow::default()
    };
    let listed = || -> Vec<(u64, usize)> {
        let newest = Reading::open(&path).unwrap().newest(5_000).unwrap();
        newest.running.iter().map(|upload| (upload.bytes, newest.uploads.len())).collect()
    };
    let uploads = vec![row(1, 10, "running"), row(2, 30, "running"), row(3, 5, "complete")];
    store.append(&Batch { uploads, ..Batch::default() }, WIDE).unwrap();
    assert_eq!(listed(), [(30, 1), (10, 1)]);
    let uploads = vec![row(1, 20, "running"), row(2, 40, "partial")];
    store.append(&Batch { uploads, ..Batch::default() }, WIDE).unwrap();
    assert_eq!(listed(), [(20, 2)]);
    let uploads = (10..2_010).map(|n| row(n, n, "running")).collect();
    store.append(&Batch { uploads, ..Batch::default() }, WIDE).unwrap();
    assert_eq!(listed().len(), 1_000);
    store.forget_running().unwrap();
    assert!(listed().is_empty());
    store.append(&Batch { uploads: vec![row(2, 60, "running")], ..Batch::default() }, WIDE).unwrap();
    // Who delivers beside a sensor leaves its list alone.
    let writer = Writer::start(store, WIDE, 10, || ()).unwrap();
    assert_eq!(listed().len(), 1);
    writer.put(Batch { uploads: vec![row(1, 50, "running"), row(9, 50, "complete")], ..Batch::default() }).unwrap();
    assert_eq!(writer.finish().uploads, 1, "one is over");
    assert_eq!(listed(), [(60, 3), (50, 3)]);
}
