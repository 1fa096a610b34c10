//! What the join asks of the history of hosts, at 100,000 events a minute: taking events in, and finding a process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use outfall::config::Config;
use outfall::endpoint::{History, Intake};
use outfall::join::{FlowSeen, Joiner};
use outfall::net::{ByteSize, Endpoint, Timestamp};
use outfall::record::Connection;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOSTS: u64 = 100;
const EVENTS: u64 = 100_000;
const MINUTES: u64 = 5;
const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn main() {
    divan::main();
}

/// The time of the n-th event: 100,000 of them fill a minute.
fn time(n: u64) -> u64 {
    START + n * 60 * SECOND / EVENTS
}

/// Of ten events one is a process, three are connections, six are files.
fn line(n: u64) -> String {
    let host = n % HOSTS;
    let (ts, pid, start) = (time(n), 1_000 + n % 5_000, time(n / 10_000 * 10_000));
    let head = format!(r#"{{"host":"h{host}","source":"etw","ts":{ts},"pid":{pid},"start":{start}"#);
    match n / HOSTS % 10 {
        0 => format!(
            r#"{head},"type":"process_start","ppid":{},"image":"C:\\Program Files\\App\\app{}.exe"}}"#,
            pid - 1,
            pid % 50
        ),
        1..=3 => format!(r#"{head},"type":"connection","local":"{}","remote":"192.0.2.{}:443"}}"#, local(n), n % 250),
        _ => format!(
            r#"{head},"type":"file","op":"write","path":"C:\\Users\\u{host}\\Documents\\file{}.docx","size":{}}}"#,
            n % 900,
            n % 100_000
        ),
    }
}

fn local(n: u64) -> String {
    format!("10.0.{}.{}:{}", n % HOSTS / 250, n % HOSTS % 250 + 1, 1_024 + n / HOSTS % 60_000)
}

fn lines(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).map(|n| line(n) + "\n").collect::<String>().into_bytes()
}

fn history(events: u64) -> History {
    let mut history = History::new(ByteSize(1 << 30));
    let mut intake = Intake::new(ByteSize(10_000));
    intake.read("bench", lines(0, events).as_slice(), &mut |event| history.insert(event)).unwrap();
    assert_eq!(intake.counters().events(), events);
    history
}

/// Reading and taking in one event, with five minutes of them in the history.
#[divan::bench(sample_count = 20)]
fn take_1000_events(bencher: divan::Bencher<'_, '_>) {
    let mut history = history(MINUTES * EVENTS);
    let mut intake = Intake::new(ByteSize(10_000));
    let mut next = MINUTES * EVENTS;
    bencher
        .with_inputs(|| {
            next += 1_000;
            lines(next, 1_000)
        })
        .bench_local_values(|text| intake.read("bench", text.as_slice(), &mut |event| history.insert(event)).unwrap());
}

/// Finding the process of a connection among five minutes of events.
#[divan::bench]
fn attribute(bencher: divan::Bencher<'_, '_>) {
    let joiner = Joiner::new(&Config::default().join, history(MINUTES * EVENTS));
    let end = |text: &str| Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
    let flows: Vec<FlowSeen> = (0..MINUTES * EVENTS)
        .filter(|n| n / HOSTS % 10 == 1)
        .step_by(7)
        .map(|n| {
            let (client, server) = (end(&local(n)), end(&format!("192.0.2.{}:443", n % 250)));
            let start = Timestamp(time(n));
            FlowSeen { connection: Connection { client, server }, start, end: start, opening_seen: true }
        })
        .collect();
    assert!(flows.iter().all(|flow| joiner.attribute(*flow).process().is_some()));
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % flows.len();
        joiner.attribute(flows[next])
    });
}

/// Finding what touched a file of a name within an hour.
#[divan::bench]
fn file_by_name(bencher: divan::Bencher<'_, '_>) {
    let history = history(MINUTES * EVENTS);
    let host = history.host("h7").unwrap();
    bencher.bench_local(|| host.files().named("FILE407.docx", Timestamp(0), Timestamp(u64::MAX)).take(256).count());
}
