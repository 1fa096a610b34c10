use super::*;
use proptest::prelude::*;

const STREAM: &str = "00112233aabbccdd";

fn read_all(spool: &mut Spool) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let mut bytes = Vec::new();
        spool.read(1 << 12, &mut bytes).unwrap();
        if bytes.is_empty() {
            return seqs;
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with('\n'));
        seqs.extend(text.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["seq"].as_u64().unwrap()
        }));
    }
}

fn body(class: Class, length: usize) -> String {
    format!("\"type\":\"{}\",\"x\":\"{}\"", class.name(), "y".repeat(length))
}

fn on_disk(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn what_is_acknowledged_goes_and_the_rest_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    for n in 0..6 {
        assert_eq!(spool.append(Class::ALL[n % 3], &body(Class::ALL[n % 3], 10)).unwrap(), Some(n as u64 + 1));
    }
    spool.flush().unwrap();
    assert_eq!(read_all(&mut spool), [1, 2, 3, 4, 5, 6]);
    spool.acknowledge(4).unwrap();
    assert!(spool.is_waiting());
    spool.rewind();
    assert_eq!(read_all(&mut spool), [5, 6]);
    spool.acknowledge(6).unwrap();
    spool.rewind();
    assert!(!spool.is_waiting());
    assert_eq!(read_all(&mut spool), [0; 0]);
    assert_eq!((spool.sent(), spool.dropped()), (6, Dropped::default()));
}

#[test]
fn a_restart_keeps_the_stream_and_uses_no_number_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    spool.append(Class::File, &body(Class::File, 10)).unwrap();
    spool.flush().unwrap();
    // As if it were killed: nothing more is written.
    let state = std::fs::read(folder.path().join("state.json")).unwrap();
    drop(spool);
    std::fs::write(folder.path().join("state.json"), state).unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, "other").unwrap();
    assert_eq!(spool.stream(), STREAM);
    let seq = spool.append(Class::File, &body(Class::File, 10)).unwrap().unwrap();
    spool.flush().unwrap();
    assert!(seq > 1);
    assert_eq!(read_all(&mut spool), [1, seq]);
}

#[test]
fn a_line_that_was_cut_short_is_given_up_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    for _ in 0..3 {
        spool.append(Class::Process, &body(Class::Process, 10)).unwrap();
    }
    drop(spool);
    let file = folder.path().join(format!("process-{:020}.jsonl", 1));
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(length - 5).unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    assert_eq!(spool.dropped(), Dropped { processes: 1, ..Dropped::default() });
    assert_eq!(read_all(&mut spool), [1, 2]);
}

#[test]
fn the_oldest_file_events_go_first_and_connections_last() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 64 << 10, STREAM).unwrap();
    for class in [Class::Connection, Class::Process, Class::File].repeat(20) {
        spool.append(class, &body(class, 500)).unwrap();
        spool.flush().unwrap();
    }
    // With these there is no room for everything else.
    for _ in 0..105 {
        spool.append(Class::Connection, &body(Class::Connection, 400)).unwrap();
        spool.flush().unwrap();
    }
    let dropped = spool.dropped();
    assert!(dropped.files == 20 && dropped.processes > 0 && dropped.connections == 0, "{dropped:?}");
    // Full of what matters more, a file event is not taken at all.
    while spool.lanes[Class::Connection as usize].bytes() + 600 < spool.limit {
        spool.append(Class::Connection, &body(Class::Connection, 400)).unwrap();
        spool.flush().unwrap();
    }
    let connections = spool.lanes[Class::Connection as usize].bytes();
    assert_eq!(spool.append(Class::File, &body(Class::File, 700)).unwrap(), None);
    assert_eq!(spool.append(Class::Process, &body(Class::Process, 700)).unwrap(), None);
    assert_eq!(spool.lanes[Class::Connection as usize].bytes(), connections);
    assert_eq!(spool.dropped(), Dropped { files: 21, processes: 21, connections: 0 });
    assert!(on_disk(folder.path()) <= 64 << 10);
    let read = read_all(&mut spool);
    assert!(read.is_sorted());
}

#[test]
fn the_latest_heartbeat_is_read_in_its_place_and_outlives_a_broken_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    spool.append(Class::File, &body(Class::File, 1)).unwrap();
    spool.set_heartbeat("\"type\":\"heartbeat\"");
    spool.set_heartbeat("\"type\":\"heartbeat\"");
    spool.append(Class::File, &body(Class::File, 1)).unwrap();
    spool.flush().unwrap();
    assert_eq!(read_all(&mut spool), [1, 3, 4]);
    spool.rewind();
    assert_eq!(read_all(&mut spool), [1, 3, 4]);
    spool.acknowledge(3).unwrap();
    spool.rewind();
    assert_eq!(read_all(&mut spool), [4]);
    assert_eq!(spool.sent(), 2);
}

#[test]
fn no_line_overtakes_one_that_was_added_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    spool.append(Class::File, &body(Class::File, 1)).unwrap();
    spool.set_heartbeat("\"type\":\"heartbeat\"");
    // What is sent is acknowledged with everything before it.
    assert_eq!(read_all(&mut spool), [1, 2]);
    spool.acknowledge(2).unwrap();
    assert!(!spool.is_waiting());
}

#[test]
fn a_sensor_that_knows_higher_numbers_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    spool.acknowledge(500_000).unwrap();
    spool.rewind();
    assert_eq!(spool.append(Class::File, "\"a\":1").unwrap(), Some(500_001));
}

#[test]
fn two_helpers_do_not_share_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let _spool = Spool::open(folder.path(), 1 << 20, STREAM).unwrap();
    let error = Spool::open(folder.path(), 1 << 20, STREAM).unwrap_err();
    assert_eq!(error.to_string(), "another helper uses this folder");
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize),
    Flush,
    Read(usize),
    Acknowledge(usize),
    Reconnect,
    Restart,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3, 1_usize..3000).prop_map(|(class, length)| Step::Append(class, length)),
        3 => Just(Step::Flush),
        3 => (1_usize..20_000).prop_map(Step::Read),
        2 => (0_usize..100).prop_map(Step::Acknowledge),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever happens: order, no number twice, the bound, and every line accounted for.
    #[test]
    fn every_line_arrives_in_order_or_is_counted(steps in proptest::collection::vec(step(), 1..150)) {
        const LIMIT: u64 = 64 << 10;
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), LIMIT, STREAM).unwrap();
        // Of each accepted line its number; what the other side has stored.
        let (mut written, mut flushed) = (Vec::<u64>::new(), (0, 0));
        let mut tried = 0_u64;
        let mut stored = std::collections::BTreeSet::<u64>::new();
        let mut highest = 0_u64;
        for step in steps {
            match step {
                Step::Append(class, length) => {
                    tried += 1;
                    if let Some(seq) = spool.append(Class::ALL[class], &body(Class::ALL[class], length)).unwrap() {
                        prop_assert!(written.last().is_none_or(|last| *last < seq));
                        written.push(seq);
                    }
                }
                Step::Flush => {
                    spool.flush().unwrap();
                    flushed = (written.len(), tried);
                }
                Step::Read(most) => {
                    spool.flush().unwrap();
                    flushed = (written.len(), tried);
                    let mut bytes = Vec::new();
                    spool.read(most, &mut bytes).unwrap();
                    for line in std::str::from_utf8(&bytes).unwrap().lines() {
                        let value: serde_json::Value = serde_json::from_str(line).unwrap();
                        let seq = value["seq"].as_u64().unwrap();
                        prop_assert!(seq > highest, "{} after {}", seq, highest);
                        prop_assert!(written.contains(&seq));
                        highest = seq;
                        stored.insert(seq);
                    }
                }
                Step::Acknowledge(part) => {
                    let up_to = stored.iter().nth(part * stored.len() / 100).copied().unwrap_or(0);
                    spool.acknowledge(up_to).unwrap();
                }
                Step::Reconnect => {
                    spool.acknowledge(highest).unwrap();
                    spool.rewind();
                }
                Step::Restart => {
                    drop(spool);
                    flushed = (written.len(), tried);
                    spool = Spool::open(folder.path(), LIMIT, "other").unwrap();
                    spool.acknowledge(highest).unwrap();
                    spool.rewind();
                }
                Step::Kill => {
                    // What was not flushed is lost with the process.
                    spool.lanes.iter_mut().for_each(Lane::lose_buffer);
                    (tried, _) = (flushed.1, written.truncate(flushed.0));
                    let state = std::fs::read(folder.path().join("state.json")).unwrap();
                    drop(spool);
                    std::fs::write(folder.path().join("state.json"), state).unwrap();
                    spool = Spool::open(folder.path(), LIMIT, "other").unwrap();
                    spool.acknowledge(highest).unwrap();
                    spool.rewind();
                }
            }
            prop_assert_eq!(spool.stream(), STREAM);
            prop_assert!(spool.bytes() <= LIMIT);
        }
        spool.flush().unwrap();
        let rest = read_all(&mut spool);
        prop_assert!(rest.is_sorted() && rest.first().is_none_or(|first| *first > highest));
        stored.extend(rest);
        let missing = tried - stored.len() as u64;
        // What was sent but not acknowledged when it was given up counts as dropped, too.
        prop_assert!(spool.dropped().total() >= missing, "{:?}, {} missing", spool.dropped(), missing);
        prop_assert!(on_disk(folder.path()) <= LIMIT);
    }
}
