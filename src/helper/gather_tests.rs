use std::net::SocketAddr;

use super::*;
use crate::endpoint::ProcessEnd;

const PID: u32 = 100;
const START: Timestamp = Timestamp(50);

fn file(op: Operation, path: &str, ts: u64, bytes: u64) -> Sighting {
    let event = FileEvent {
        ts: Timestamp(ts),
        pid: PID,
        start: None,
        op,
        path: path.to_owned(),
        new_path: None,
        size: None,
        sha256: None,
    };
    Sighting { source: Source::Etw, what: What::Touch(Box::new(Touch { event, bytes })) }
}

fn process(image: &str) -> Sighting {
    let event =
        ProcessStart { ts: START, pid: PID, start: Some(START), image: Some(image.to_owned()), ..Default::default() };
    Sighting { source: Source::Etw, what: What::ProcessStart(Box::new(event)) }
}

fn connection(port: u16) -> Sighting {
    let end = |port| SocketAddr::from(([192, 0, 2, 1], port)).into();
    let event = ConnectionEvent {
        ts: Timestamp(900),
        pid: PID,
        start: None,
        protocol: Default::default(),
        local: end(40_000),
        remote: end(port),
        initiated: Some(true),
        image: None,
        user: None,
    };
    Sighting { source: Source::Etw, what: What::Connection(Box::new(event)) }
}

/// `op path first-last bytes` of each file report, other reports by name.
fn said(out: &mut Gathered) -> Vec<String> {
    let said = out.reports.drain(..).map(|(_, report)| match report {
        Report::File(report) => {
            assert!(report.event.start.is_none_or(|start| start == START));
            let event = &report.event;
            format!("{} {} {}-{} {}", event.op.name(), event.path, event.ts.0, report.last.0, report.bytes)
        }
        Report::ProcessStart(_) => "start".to_owned(),
        Report::ProcessEnd(event) => format!("end {:?}", event.start.map(|start| start.0)),
        Report::Connection(event) => format!("connection {:?}", event.start.map(|start| start.0)),
        Report::Record { .. } => "record".to_owned(),
    });
    said.collect()
}

fn wished(out: &mut Gathered) -> Vec<String> {
    out.wishes.drain(..).map(|wish| wish.report.event.path).collect()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn many_touches_are_one_report_for_each_operation() {
    let mut gatherer = Gatherer::new(&Files::default());
    let mut out = Gathered::default();
    gatherer.take(process(r"C:\7z.exe"), ms(0), &mut out);
    gatherer.take(file(Operation::Create, r"D:\x.7z", 100, 0), ms(0), &mut out);
    for n in 0..5 {
        gatherer.take(file(Operation::Write, r"D:\x.7z", 110 + n, 10), ms(n), &mut out);
        gatherer.take(file(Operation::Read, r"D:\in.doc", 105 + n, 20), ms(n), &mut out);
    }
    gatherer.tick(ms(1000), &mut out);
    assert_eq!(said(&mut out), ["start"]);
    gatherer.tick(ms(2010), &mut out);
    assert_eq!(said(&mut out).len(), 3);
    assert_eq!(wished(&mut out), [r"D:\x.7z"]);
    gatherer.finish(ms(3000), &mut out);
    assert_eq!(said(&mut out), [""; 0]);
    assert_eq!(gatherer.entries, 0);
}

#[test]
fn what_goes_on_is_reported_in_between() {
    let mut gatherer = Gatherer::new(&Files::default());
    let mut out = Gathered::default();
    for second in 0..25 {
        gatherer.take(file(Operation::Write, r"D:\log.txt", second, 1), ms(second * 1000), &mut out);
        gatherer.tick(ms(second * 1000), &mut out);
    }
    assert_eq!(said(&mut out), [r"write D:\log.txt 0-10 11", r"write D:\log.txt 11-21 11"]);
}

#[test]
fn a_connection_brings_out_the_files_of_its_process_before_it_and_has_them_hashed() {
    let mut gatherer = Gatherer::new(&Files::default());
    let mut out = Gathered::default();
    gatherer.take(process(r"C:\ftp.exe"), ms(0), &mut out);
    gatherer.take(file(Operation::Read, r"D:\b.doc", 200, 7), ms(1), &mut out);
    gatherer.take(file(Operation::Read, r"D:\a.doc", 100, 7), ms(2), &mut out);
    gatherer.take(connection(443), ms(3), &mut out);
    assert_eq!(
        said(&mut out),
        ["start", r"read D:\a.doc 100-100 7", r"read D:\b.doc 200-200 7", "connection Some(50)"]
    );
    assert_eq!(wished(&mut out), [""; 0]);
    gatherer.take(connection(21), ms(4), &mut out);
    let mut wishes = wished(&mut out);
    wishes.sort();
    assert_eq!(wishes, [r"D:\a.doc", r"D:\b.doc"]);
    gatherer.take(connection(21), ms(5), &mut out);
    assert_eq!(wished(&mut out), [""; 0], "once is enough");
}

#[test]
fn a_new_name_comes_after_what_was_done_under_the_old_one() {
    let mut gatherer = Gatherer::new(&Files::default());
    let mut out = Gathered::default();
    gatherer.take(file(Operation::Write, r"D:\x.tmp", 100, 3), ms(0), &mut out);
    let mut rename = file(Operation::Rename, r"D:\x.tmp", 120, 0);
    if let What::Touch(touch) = &mut rename.what {
        touch.event.new_path = Some(r"D:\x.zip".to_owned());
    }
    gatherer.take(rename, ms(1), &mut out);
    assert_eq!(said(&mut out), [r"write D:\x.tmp 100-100 3", r"rename D:\x.tmp 120-120 0"]);
    // Its new name is an archive's.
    assert_eq!(wished(&mut out), [r"D:\x.tmp"]);
}

#[test]
fn noise_is_left_out_and_counted_but_never_in_the_folders_that_matter() {
    let config = Files { folders: vec![r"C:\Windows\Staging".into()], ..Files::default() };
    let mut gatherer = Gatherer::new(&config);
    let mut out = Gathered::default();
    for path in [r"C:\Windows\System32\x.txt", r"C:\Users\a\AppData\Local\Microsoft\x", r"D:\a.DLL"] {
        gatherer.take(file(Operation::Read, path, 1, 1), ms(0), &mut out);
    }
    assert_eq!(gatherer.ignored(), 3);
    for path in [r"C:\windows\temp\x.txt", r"c:\WINDOWS\staging\x.dll"] {
        gatherer.take(file(Operation::Write, path, 1, 1), ms(0), &mut out);
    }
    assert_eq!((gatherer.ignored(), gatherer.entries), (3, 2));
    gatherer.take(process(r"C:\Program Files\Windows Defender\MsMpEng.exe"), ms(0), &mut out);
    gatherer.take(file(Operation::Read, r"D:\a.txt", 1, 1), ms(0), &mut out);
    assert_eq!(gatherer.ignored(), 4);
}

#[test]
fn an_end_brings_everything_out_and_a_bound_does_so_early() {
    let config = Files { gathered: 3, ..Files::default() };
    let mut gatherer = Gatherer::new(&config);
    let mut out = Gathered::default();
    gatherer.take(process(r"C:\a.exe"), ms(0), &mut out);
    for n in 0..4 {
        gatherer.take(file(Operation::Read, &format!(r"D:\{n}"), n, 1), ms(n), &mut out);
    }
    assert_eq!(said(&mut out).len(), 4);
    let end = ProcessEnd { ts: Timestamp(99), pid: PID, start: None };
    gatherer.take(Sighting { source: Source::Etw, what: What::ProcessEnd(end) }, ms(9), &mut out);
    assert_eq!(said(&mut out), [r"read D:\3 3-3 1", "end Some(50)"]);
    assert!(gatherer.running.is_empty());
}

#[test]
fn a_password_on_a_command_line_goes_no_further() {
    let mut gatherer = Gatherer::new(&Files::default());
    let mut out = Gathered::default();
    let mut sighting = process(r"C:\curl.exe");
    if let What::ProcessStart(event) = &mut sighting.what {
        event.command_line = Some("curl -T a ftp://u:secret@h.example/".to_owned());
    }
    gatherer.take(sighting, ms(0), &mut out);
    let body = out.reports[0].1.body(Source::Etw);
    assert!(body.contains("ftp://u:***@h.example/") && !body.contains("secret"), "{body}");
}
