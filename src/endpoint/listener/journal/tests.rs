use super::*;

const LIMITS: Limits = Limits { bytes: ByteSize(1 << 20), time: Span::seconds(1_000), hosts: 100 };

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_parts(seconds, 0)
}

fn entry(host: &str, stream: u64, seq: u64) -> Entry {
    let lines = format!("{{\"seq\":{seq}}}\n").into_bytes();
    Entry { kind: Kind::Stream, host: host.into(), stream, seq, lines }
}

fn stored(folder: &Path) -> Vec<u64> {
    let mut all = Vec::new();
    Past::of(folder)
        .unwrap()
        .read(|_, entry| {
            all.push(entry.seq);
            true
        })
        .unwrap();
    all
}

fn mark(journal: &Journal, host: &str) -> Option<(u64, u64)> {
    journal.marks().find(|(name, _)| name.as_ref() == host).map(|(_, mark)| (mark.stream, mark.seq))
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut journal = Journal::open(folder.path(), LIMITS).unwrap();
        assert_eq!(mark(&journal, "a"), (round > 0).then_some((7, round * 10 + 1)));
        journal.append(&[entry("a", 7, round * 10 + 10), entry("b", 8, 1)], at(round)).unwrap();
        journal.append(&[entry("a", 7, round * 10 + 11)], at(round)).unwrap();
    }
    assert_eq!(stored(folder.path()), [10, 1, 11, 20, 1, 21, 30, 1, 31]);
    assert_eq!(mark(&Journal::open(folder.path(), LIMITS).unwrap(), "b"), Some((8, 1)));
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), LIMITS).unwrap();
    journal.append(&[entry("a", 7, 1)], at(1)).unwrap();
    let whole = std::fs::metadata(path_of(folder.path(), 0)).unwrap().len();
    journal.append(&[entry("a", 7, 2)], at(1)).unwrap();
    let bytes = std::fs::read(path_of(folder.path(), 0)).unwrap();
    for length in whole..bytes.len() as u64 {
        std::fs::write(path_of(folder.path(), 0), &bytes[..length as usize]).unwrap();
        let journal = Journal::open(folder.path(), LIMITS).unwrap();
        assert_eq!((mark(&journal, "a"), journal.counters().torn), (Some((7, 1)), length - whole));
        assert_eq!(std::fs::metadata(path_of(folder.path(), 0)).unwrap().len(), whole);
    }
    std::fs::write(path_of(folder.path(), 0), []).unwrap();
    assert_eq!(mark(&Journal::open(folder.path(), LIMITS).unwrap(), "a"), None);
}

#[test]
fn the_oldest_segments_go_and_marks_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), LIMITS).unwrap();
    journal.append(&[entry("silent", 1, 5)], at(1)).unwrap();
    let noise = |n: u64| {
        let mut entry = entry("a", 7, n);
        // What cannot be compressed.
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ (n + 1);
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        entry.lines = (0..40_000).map(|_| random()).collect();
        entry
    };
    for n in 0..100 {
        journal.append(&[noise(n)], at(1)).unwrap();
        journal.tidy(at(1));
    }
    let counters = journal.counters();
    assert!(counters.evicted > 0 && counters.expired == 0, "{counters:?}");
    let size: u64 = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(size == counters.size && size <= LIMITS.bytes.0, "{size} {counters:?}");
    assert_eq!(mark(&Journal::open(folder.path(), LIMITS).unwrap(), "silent"), Some((1, 5)));
    // The segment that is written to stays.
    journal.tidy(at(1_000_000));
    assert!(journal.counters().expired > 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_stream_made_anew_counts_from_the_beginning_and_too_many_hosts_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path(), LIMITS).unwrap();
    journal.append(&[entry("a", 7, 900)], at(1)).unwrap();
    journal.append(&[entry("a", 8, 3)], at(2)).unwrap();
    assert_eq!(mark(&journal, "a"), Some((8, 3)));
    for n in 0..150 {
        journal.append(&[entry(&format!("host{n}"), 1, 1)], at(3 + n)).unwrap();
    }
    assert!(journal.marks().count() <= 100);
    assert_eq!((mark(&journal, "a"), mark(&journal, "host149")), (None, Some((1, 1))));
}

#[test]
fn what_the_disk_refused_is_written_at_the_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("journal");
    std::fs::create_dir(&gone).unwrap();
    let mut journal = Journal::open(&gone, LIMITS).unwrap();
    std::fs::remove_dir(&gone).unwrap();
    assert!(journal.append(&[entry("a", 7, 1)], at(1)).is_err());
    std::fs::create_dir(&gone).unwrap();
    journal.append(&[entry("a", 7, 1)], at(1)).unwrap();
    assert_eq!((stored(&gone), journal.counters().refused), (vec![1], 1));
}
