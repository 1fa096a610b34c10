use super::*;
use crate::endpoint::{ConnectionEvent, FileEvent, Operation, Transport};
use proptest::prelude::*;
use std::io::Write;

fn read(text: &[u8]) -> (Intake, Vec<Observation>) {
    let mut intake = Intake::new(ByteSize(400));
    let mut seen = Vec::new();
    intake.read("t.jsonl", text, &mut |observation| seen.push(observation)).unwrap();
    (intake, seen)
}

const HELLO: &str =
    r#"{"type":"hello","v":1,"host":{"id":"A","name":"WKS","ips":["10.0.0.5","fe80::1%3","x"]},"ts":5}"#;
const END: &str = r#"{"type":"process_end","source":"etw","ts":9,"pid":4,"start":7,"new field":{"a":[1]}}"#;

#[test]
fn a_hello_binds_the_lines_after_it_to_its_host() {
    let other = HELLO.replace("\"A\"", "\"B\"");
    let (intake, seen) = read(format!("{HELLO}\n{END}\r\n\n{other}\n{END}").as_bytes());
    let hosts: Vec<&str> = seen.iter().map(|o| o.host.as_ref()).collect();
    assert_eq!(hosts, ["A", "A", "B", "B"]);
    let Event::Hello(hello) = &seen[0].line.event else { panic!() };
    assert_eq!(hello.host.ips.len(), 2);
    assert_eq!(seen[1].line.source, Source::Etw);
    assert_eq!(intake.counters().events(), 4);
    assert_eq!(intake.counters().warnings, 0);
}

#[test]
fn the_flat_form_of_a_hello_is_read_too() {
    let flat = r#"{"type":"hello","v":1,"host.id":"A","host.name":"WKS","host.ips":["10.0.0.5"],"ts":5}"#;
    let (_, seen) = read(flat.as_bytes());
    let Event::Hello(hello) = &seen[0].line.event else { panic!() };
    assert_eq!((hello.host.id.as_str(), hello.host.name.as_deref(), hello.host.ips.len()), ("A", Some("WKS"), 1));
}

#[test]
fn an_event_that_names_its_host_needs_no_hello() {
    for field in [r#""host":"Z""#, r#""host":{"id":"Z","name":"n"}"#, r#""host.id":"Z""#] {
        let line = END.replace(r#""source":"etw""#, field);
        let (_, seen) = read(line.as_bytes());
        assert_eq!(seen[0].host.as_ref(), "Z", "{field}");
    }
}

#[test]
fn events_before_any_hello_are_counted_and_skipped() {
    let (intake, seen) = read(format!("{END}\n{END}\n{HELLO}\n{END}").as_bytes());
    assert_eq!(seen.len(), 2);
    assert_eq!(intake.counters().before_hello, 2);
    assert_eq!(intake.counters().warnings, 1);
}

#[test]
fn malformed_lines_are_never_fatal_and_say_where_they_stand() {
    let bad = [
        "{",
        "[]",
        "null",
        "\"x\"",
        "{}",
        r#"{"type":5}"#,
        r#"{"type":"file","ts":"soon","pid":1,"op":"read","path":"x"}"#,
        r#"{"type":"file","ts":1,"pid":-1,"op":"read","path":"x"}"#,
        r#"{"type":"connection","ts":1,"pid":1,"local":"10.0.0.1","remote":"10.0.0.2:80"}"#,
        "\u{1b}[2J",
    ];
    let mut text = format!("{HELLO}\n{}\n", bad.join("\n")).into_bytes();
    text.extend_from_slice(b"\xff\xfe\x00{\n");
    text.extend_from_slice(END.as_bytes());
    let (mut intake, seen) = read(&text);
    assert_eq!(seen.len(), 2, "the good lines around them are read");
    assert_eq!(intake.counters().malformed, bad.len() as u64 + 1);
    let warnings = intake.take_warnings();
    assert!(warnings[0].to_string().starts_with("t.jsonl:2: not an event: "), "{}", warnings[0]);
    assert!(warnings.iter().all(|w| !w.to_string().contains('\u{1b}')));
}

#[test]
fn warnings_are_bounded_and_all_counted() {
    let (mut intake, _) = read("{\n".repeat(MAX_WARNINGS + 30).as_bytes());
    assert_eq!(intake.take_warnings().len(), MAX_WARNINGS);
    assert_eq!(intake.counters().warnings, MAX_WARNINGS as u64 + 30);
}

#[test]
fn an_unknown_type_is_counted_and_skipped() {
    let (intake, seen) = read(format!("{HELLO}\n{{\"type\":\"registry\",\"ts\":1}}\n{END}").as_bytes());
    assert_eq!(seen.len(), 2);
    assert_eq!((intake.counters().unknown_type, intake.counters().malformed), (1, 0));
}

#[test]
fn a_line_longer_than_the_bound_is_skipped() {
    let long = END.replace("etw", &"x".repeat(500));
    let (intake, seen) = read(format!("{HELLO}\n{long}\n{END}\n").as_bytes());
    assert_eq!(seen.len(), 2);
    assert_eq!(intake.counters().oversized, 1);
}

#[test]
fn a_hello_that_cannot_be_read_ends_the_host_before_it() {
    let newer = HELLO.replace("\"v\":1", "\"v\":2").replace("\"A\"", "\"B\"");
    let long = HELLO.replace("WKS", &"x".repeat(500));
    for broken in [newer.as_str(), long.as_str(), r#"{"type":"hello","v":1,"ts":4}"#, r#"{"type":"hello","v":1"#] {
        let (intake, seen) = read(format!("{HELLO}\n{broken}\n{END}\n").as_bytes());
        assert_eq!(seen.len(), 1, "{broken}");
        assert_eq!(intake.counters().before_hello, 1, "{broken}");
    }
}

#[test]
fn gzip_and_a_byte_order_mark_are_found_by_content() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(format!("\u{feff}{HELLO}\n{END}\n").as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    assert_eq!(read(&packed).1.len(), 2);

    let mut intake = Intake::new(ByteSize(400));
    let mut seen = 0;
    let cut = &packed[..packed.len() - 12];
    let error = intake.read("cut.gz", cut, &mut |_| seen += 1).unwrap_err();
    assert!(error.to_string().starts_with("cut.gz: cannot read further"), "{error}");
    assert_eq!(intake.counters().read_errors, 1);
}

#[test]
fn a_binary_event_log_that_breaks_off_just_ends_and_a_bad_chunk_is_counted() {
    let mut intake = Intake::new(ByteSize(400));
    intake.read("a.evtx", &b"ElfFile\0\0\0\0\0"[..], &mut |_| {}).unwrap();
    assert_eq!(intake.counters().lines, 0);
    let mut log = vec![0; 4_096 + 65_536];
    log[..8].copy_from_slice(b"ElfFile\0");
    log[4_096..4_104].copy_from_slice(b"ElfChnk\0");
    log[4_200..4_300].fill(0xff);
    intake.read("b.evtx", log.as_slice(), &mut |_| {}).unwrap();
    assert_eq!(intake.counters().malformed, intake.counters().lines);
}

#[test]
fn text_that_is_utf_16_is_named_as_what_it_is() {
    let mut intake = Intake::new(ByteSize(400));
    let error = intake.read("a.xml", &b"\xff\xfe<\0E\0"[..], &mut |_| {}).unwrap_err();
    assert!(matches!(error, IntakeError::Utf16 { .. }));
}

#[test]
fn every_field_of_an_event_is_read() {
    let text = format!(
        "{HELLO}\n{}\n{}\n",
        r#"{"seq":3,"type":"connection","source":"poll","ts":8,"pid":4,"start":7,"protocol":"udp","local":"[fd00::1]:5","remote":"1.2.3.4:21","initiated":false,"image":""}"#,
        r#"{"type":"file","ts":8,"pid":4,"op":"rename","path":"C:\\a","new_path":"C:\\b","size":9,"sha256":null}"#,
    );
    let (_, seen) = read(text.as_bytes());
    let expected = ConnectionEvent {
        ts: Timestamp(8),
        pid: 4,
        start: Some(Timestamp(7)),
        protocol: Transport::Udp,
        local: "[fd00::1]:5".parse::<std::net::SocketAddr>().unwrap().into(),
        remote: "1.2.3.4:21".parse::<std::net::SocketAddr>().unwrap().into(),
        initiated: Some(false),
        image: None,
        user: None,
    };
    assert_eq!(seen[1].line, Line { seq: Some(3), source: Source::Poll, event: Event::Connection(expected) });
    let expected = FileEvent {
        ts: Timestamp(8),
        pid: 4,
        start: None,
        op: Operation::Rename,
        path: "C:\\a".into(),
        new_path: Some("C:\\b".into()),
        size: Some(9),
        sha256: None,
    };
    assert_eq!(seen[2].line.event, Event::File(expected));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let text = format!("{HELLO}\n{END}\n");
    let (_, first) = read(text.as_bytes());
    let again: Vec<String> = first.iter().map(|o| serde_json::to_string(&o.line).unwrap()).collect();
    let (_, second) = read(again.join("\n").as_bytes());
    assert_eq!(first, second);
}

proptest! {
    /// Whatever comes in, nothing panics and every line is counted exactly once.
    #[test]
    fn every_line_is_counted_once(parts in proptest::collection::vec(piece(), 0..30), gzip in any::<bool>()) {
        let mut text = parts.concat();
        if gzip {
            text.splice(0..0, [0x1f, 0x8b]);
        }
        let mut intake = Intake::new(ByteSize(150));
        let mut seen = 0;
        let _ = intake.read("p", text.as_slice(), &mut |_| seen += 1);
        let c = intake.counters();
        prop_assert_eq!(c.events(), seen);
        prop_assert_eq!(c.lines, c.events() + c.malformed + c.unknown_type + c.oversized + c.before_hello);
        prop_assert!(intake.take_warnings().len() <= MAX_WARNINGS);
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(format!("{HELLO}\n").into_bytes()),
        Just(format!("{END}\n").into_bytes()),
        Just(b"\n".to_vec()),
        Just(br#"{"type":"file","ts":1,"pid":2,"op":"#.to_vec()),
        Just(br#"{"type":"hello""#.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

#[test]
fn an_input_that_grows_gives_the_same_events_as_one_that_is_whole() {
    let text = format!("{HELLO}\n{END}\nnot an event\n{END}\n");
    let mut whole = Vec::new();
    let mut intake = Intake::new(ByteSize(1 << 20));
    intake.read("w", text.as_bytes(), &mut |event| whole.push(format!("{event:?}"))).unwrap();
    for size in [1, 7, 64, 10_000] {
        let (mut growing, mut input) = (Intake::new(ByteSize(1 << 20)), Following::new("g".to_owned()));
        let mut events = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            growing.follow(&mut input, chunk, &mut |event| events.push(format!("{event:?}"))).unwrap();
        }
        assert_eq!((events, growing.counters()), (whole.clone(), intake.counters()), "{size} bytes at a time");
    }
}

#[test]
fn a_record_of_an_event_log_that_a_helper_carries_is_of_the_helpers_host() {
    let xml = "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>\
        <Provider Name='Microsoft-Windows-Security-Auditing'/><EventID>5156</EventID>\
        <TimeCreated SystemTime='2026-03-02T08:15:01.5Z'/><Channel>Security</Channel>\
        <Computer>WKS-7.corp.example</Computer></System><EventData><Data Name='ProcessID'>4712</Data>\
        <Data Name='Application'>\\device\\harddiskvolume2\\windows\\system32\\ftp.exe</Data>\
        <Data Name='Direction'>%%14593</Data><Data Name='SourceAddress'>10.0.0.5</Data><Data Name='SourcePort'>50000</Data>\
        <Data Name='DestAddress'>192.0.2.9</Data><Data Name='DestPort'>21</Data><Data Name='Protocol'>6</Data></EventData></Event>";
    let carried = serde_json::json!({ "seq": 7, "type": "windows_event", "source": "eventlog", "xml": xml });
    let mut intake = Intake::new(ByteSize(4000));
    let mut seen = Vec::new();
    let lines = format!("{carried}\n{HELLO}\n{carried}\n");
    intake.read("t.jsonl", lines.as_bytes(), &mut |observation| seen.push(observation)).unwrap();
    assert_eq!((seen.len(), intake.counters().before_hello, intake.counters().malformed), (2, 1, 0));
    let Event::Connection(connection) = &seen[1].line.event else { panic!("{:?}", seen[1]) };
    assert_eq!((seen[1].host.as_ref(), connection.pid, seen[1].line.source), ("A", 4712, Source::EventLog));
    // Its time is the system's own, whatever else that host logs.
    assert_eq!(connection.ts, Timestamp(1_772_439_301_500_000_000));
}
