use std::path::Path;

use super::*;
use crate::net::Span;
use crate::store::{Batch, Bounds};

const WIDE: Bounds = Bounds { age: Span::seconds(86_400), bytes: ByteSize(1 << 30), uploads: 1_000 };

fn exception(process: &str) -> Exception {
    let scope = Scope { process: Some(process.parse().unwrap()), ceiling: Some(ByteSize(7)), ..Scope::default() };
    let (created, expires) = (Timestamp(1_000_000_000), Timestamp(2_000_000_000));
    let (owner, justification) = ("Ann".into(), "y".into());
    Exception { id: ExceptionId(99), scope, broad: false, owner, justification, created, expires }
}

fn act(action: &'static str) -> Act<'static> {
    Act { at: Timestamp(5_000_000_000), who: "ann@siem", action, why: "so" }
}

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("outfall.db")).unwrap()
}

fn alert(id: &str, under: &str, bytes: u64, host: &str, second: u64) -> Entry {
    let document = serde_json::json!({
        "event": { "end": Timestamp::from_parts(86_400 + second, 0).to_string() },
        "outfall": { "alert": { "suppressed_by": under }, "upload": { "bytes": bytes } },
        "process": { "executable": "C:\\a.exe" },
        "destination": { "ip": "192.0.2.9" },
        "source": { "ip": host },
    });
    let (event_id, time, kind) = (id.into(), String::new(), "outfall.alert".into());
    Entry { event_id, time, severity: 73, kind, document: document.to_string() }
}

#[test]
fn an_exception_is_kept_with_its_history_and_its_removal() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    assert_eq!(store.next_exception().unwrap(), 1);
    let id = store.add_exception(&exception("*\\a.exe"), 10, &act("add")).unwrap();
    assert_eq!((id, store.next_exception().unwrap()), (ExceptionId(1), 2));
    drop(store);
    let mut store = open(folder.path());
    let kept = store.exceptions().unwrap();
    assert_eq!(kept, [Exception { id, ..exception("*\\a.exe") }]);
    let found = store.set_exceptions(&kept, &[], false, false, 10, &act("remove")).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(store.exceptions().unwrap(), []);
    assert_eq!(store.kept_exceptions().unwrap()[0].removed, Some(Timestamp(5_000_000_000)));
    let history = store.exception_history(id).unwrap();
    let told: Vec<_> = history.iter().map(|entry| (entry.action.as_str(), entry.who.as_str())).collect();
    assert_eq!(told, [("add", "ann@siem"), ("remove", "ann@siem")]);
    assert_eq!(store.add_exception(&exception("*\\b.exe"), 10, &act("add")).unwrap(), ExceptionId(2), "never again 1");
    let text: String =
        store.connection.query_row("SELECT id FROM exceptions WHERE removed IS NULL", [], |row| row.get(0)).unwrap();
    assert_eq!(text, "EX-0002");
}

#[test]
fn a_change_that_rests_on_what_is_no_longer_so_is_refused_and_so_is_one_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.add_exception(&exception("*\\a.exe"), 1, &act("add")).unwrap();
    assert!(matches!(store.add_exception(&exception("*\\b.exe"), 1, &act("add")), Err(StoreError::Full(1))));
    assert!(matches!(store.set_exceptions(&[], &[], false, false, 9, &act("import")), Err(StoreError::Changed)));
    let seen = store.exceptions().unwrap();
    let more: Vec<Exception> = (2..5).map(|n| Exception { id: ExceptionId(n), ..exception("*\\c.exe") }).collect();
    let said = store.set_exceptions(&seen, &more, true, true, 9, &act("import")).unwrap();
    assert_eq!((said.len(), store.exceptions().unwrap()), (3, seen.clone()), "nothing was done");
    assert!(matches!(store.set_exceptions(&seen, &more, true, false, 3, &act("import")), Err(StoreError::Full(3))));
    assert_eq!(store.set_exceptions(&seen, &more, false, false, 3, &act("import")).unwrap().len(), 4);
    assert_eq!(store.exceptions().unwrap(), more);
    // One that was removed holds again, under its own number.
    assert_eq!(store.set_exceptions(&more, &seen, false, false, 3, &act("import")).unwrap().len(), 4);
    assert_eq!(store.exceptions().unwrap(), seen);
}

#[test]
fn what_an_exception_hides_is_counted_with_the_alert_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let entries = [
        alert("a", "EX-0001", 10, "10.0.0.1", 1),
        alert("a", "EX-0001", 30, "10.0.0.1", 5),
        alert("b", "EX-0001", 5, "10.0.0.2", 3),
        alert("c", "EX-0002", 5, "10.0.0.2", 3),
    ];
    let entries: Vec<_> = entries.into_iter().map(|entry| (entry, Vec::new())).collect();
    store.append(&Batch { alerts: entries, ..Batch::default() }, WIDE).unwrap();
    let usage = store.exception_usage(ExceptionId(1)).unwrap();
    assert_eq!((usage.hits, usage.bytes, usage.by_severity), (2, 35, [0, 0, 2, 0]));
    assert_eq!(usage.first, Some(Timestamp::from_parts(86_401, 0)));
    assert_eq!(usage.last, Some(Timestamp::from_parts(86_405, 0)));
    let largest = usage.largest.as_ref().unwrap();
    assert_eq!((largest.alert.as_str(), largest.bytes), ("a", 30));
    assert_eq!(usage.distinct(), [1, 1, 2]);
    assert_eq!((usage.hosts[0].name.as_str(), usage.hosts[0].hits, usage.hosts[0].bytes), ("10.0.0.1", 1, 30));
    let day = Timestamp::from_parts(86_400, 0);
    let days = store.exception_days().unwrap();
    assert_eq!(days, [(ExceptionId(1), day, ByteSize(35)), (ExceptionId(2), day, ByteSize(5))]);
    let marked: i64 = store
        .connection
        .query_row("SELECT count(*) FROM alerts WHERE suppressed_by = 'EX-0001'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(marked, 3);
    assert_eq!(store.exception_usage(ExceptionId(9)).unwrap(), Usage::default());
}

#[test]
fn names_and_days_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let entries: Vec<_> =
        (0..500).map(|n| (alert(&n.to_string(), "EX-0001", 1, &format!("host-{n}"), n * 86_400), Vec::new())).collect();
    store.append(&Batch { alerts: entries, ..Batch::default() }, WIDE).unwrap();
    let usage = store.exception_usage(ExceptionId(1)).unwrap();
    assert_eq!((usage.hosts.len() as i64, usage.unnamed), (MOST_NAMED, [0, 0, 400]));
    assert_eq!(usage.distinct(), [1, 1, 101]);
    assert_eq!(store.exception_days().unwrap().len() as i64, MOST_DAYS);
}

#[test]
fn a_watch_sees_what_another_connection_changes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let mut watch = ExceptionWatch::new(open(folder.path()));
    assert_eq!(watch.look().unwrap(), Some(vec![]));
    assert_eq!(watch.look().unwrap(), None);
    store.add_exception(&exception("*\\a.exe"), 10, &act("add")).unwrap();
    assert_eq!(watch.look().unwrap().map(|list| list.len()), Some(1));
    let alerts = vec![(alert("a", "EX-0001", 1, "h", 1), Vec::new())];
    store.append(&Batch { alerts, ..Batch::default() }, WIDE).unwrap();
    assert_eq!(watch.look().unwrap(), None, "an alert is no change");
}

#[test]
fn a_row_that_is_no_exception_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.add_exception(&exception("*\\a.exe"), 10, &act("add")).unwrap();
    store.connection.execute("UPDATE exceptions SET expires = 'never'", []).unwrap();
    let refused = store.exceptions().unwrap_err().to_string();
    assert!(refused.contains("EX-0001") && refused.contains("\"never\" is no time"), "{refused}");
}
