//! Files of earlier versions.

use super::*;

#[test]
fn a_file_of_the_first_version_keeps_its_alerts_and_gets_the_new_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.db");
    let first = Connection::open(&path).unwrap();
    // As the first version made it.
    first.pragma_update(None, "journal_mode", "wal").unwrap();
    first
        .execute_batch(
            "CREATE TABLE alerts (
                number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, time TEXT NOT NULL,
                stored INTEGER NOT NULL, severity INTEGER NOT NULL, kind TEXT NOT NULL, document TEXT NOT NULL);
             CREATE INDEX alerts_by_event ON alerts (event_id);
             CREATE TABLE outbox (
                destination TEXT NOT NULL, alert INTEGER NOT NULL REFERENCES alerts (number) ON DELETE CASCADE,
                attempts INTEGER NOT NULL DEFAULT 0,
                state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent')),
                PRIMARY KEY (destination, alert)) WITHOUT ROWID;
             CREATE INDEX outbox_by_alert ON outbox (alert);
             CREATE INDEX outbox_waiting ON outbox (destination, alert) WHERE state = 'waiting';
             PRAGMA application_id = 0x4f757446;
             PRAGMA user_version = 1;
             INSERT INTO alerts VALUES (7, 'e7', '2026-01-02T03:04:05Z', 4000000000, 73, 'outfall.alert', '{}');
             INSERT INTO outbox VALUES ('a', 7, 3, 'waiting'), ('b', 7, 1, 'sent');",
        )
        .unwrap();
    drop(first);

    let mut store = Store::open(&path).unwrap();
    assert_eq!(numbers(&store.waiting("a", 0, 10).unwrap()), ["e7"]);
    assert_eq!(store.count_waiting("b").unwrap(), 0);
    assert!(store.baseline().unwrap().0.is_empty());
    let uploads = vec![UploadRow { event_id: "u".to_owned(), ..UploadRow::default() }];
    store.append(&Batch { alerts: vec![(entry(8), to(&["a"]))], uploads, ..Batch::default() }, WIDE).unwrap();
    assert_eq!(numbers(&store.waiting("a", 0, 10).unwrap()), ["e7", "e8"]);
    drop(store);
    assert_eq!(Store::open(&path).unwrap().check().unwrap(), None);
}
