//! Connections made to fill the memory of the parsers, and what becomes of that memory.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod segments;

use std::sync::Mutex;

use outfall::config::Config;
use outfall::net::ByteSize;
use outfall::protocol::Parsers;
use outfall::record::{Note, State};
use segments::{ACK, Pair, Tap, reading};

/// The memory that the parsers may use, in bytes.
const BOUND: u64 = 8 << 20;

fn tap(bound: u64) -> Tap<Parsers> {
    let mut config = Config::default();
    config.protocol.memory = ByteSize(bound);
    reading(&config)
}

fn pair(n: u32, port: u16) -> Pair {
    Pair::new(&format!("10.0.{}.{}:40000", n >> 8, n & 255), &format!("192.0.2.9:{port}"))
}

/// What an attacker sends on the n-th connection.
type Flood = fn(&mut Tap<Parsers>, u32);

fn unfinished_head(tap: &mut Tap<Parsers>, n: u32) {
    let p = pair(n, 80);
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, format!("POST /{} HTTP/1.1\r\nX: {}", n, "x".repeat(30_000))));
    tap.push(&p.client(30_000, 0, ACK, "x".repeat(30_000)));
}

fn pending_requests(tap: &mut Tap<Parsers>, n: u32) {
    let p = pair(n, 80);
    tap.push_all(&p.handshake());
    let one = format!("POST /{} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", "a".repeat(1000));
    tap.push(&p.client(0, 0, ACK, one.repeat(60)));
}

fn long_user_names(tap: &mut Tap<Parsers>, n: u32) {
    let p = pair(n, 21);
    tap.push_all(&p.handshake());
    tap.push(&p.server(0, 0, ACK, "220 ftp\r\n331 go on\r\n230 in\r\n"));
    let name = "u".repeat(8000);
    tap.push(&p.client(0, 28, ACK, format!("USER {name}\r\nPASS x\r\n{}", format!("MKD {name}\r\n").repeat(6))));
}

fn files_in_a_form(tap: &mut Tap<Parsers>, n: u32) {
    let p = pair(n, 80);
    tap.push_all(&p.handshake());
    let head = "POST / HTTP/1.1\r\nContent-Length: 900000\r\nContent-Type: multipart/form-data; boundary=Z\r\n\r\n";
    let part = format!("--Z\r\nContent-Disposition: form-data; filename=\"{}\"\r\n\r\n\r\n", "f".repeat(500));
    tap.push(&p.client(0, 0, ACK, format!("{head}{}--Z\r\nX: {}", part.repeat(50), "x".repeat(15_000))));
}

fn streams_of_http2(tap: &mut Tap<Parsers>, n: u32) {
    let p = pair(n, 80);
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    wire.extend(frame(4, 0, 0, &[]));
    // PUT, a path of 300 bytes (its length in seven bits and more) and a field for the table.
    let path = [&[0x04, 0x7f, 0xad, 0x01][..], &[b'/'; 300]].concat();
    let block = [&[0x02, 3][..], b"PUT", &path, &[0x40, 1, b'a', 100], &[b'x'; 100]].concat();
    for stream in 0..100 {
        wire.extend(frame(1, 4, 2 * stream + 1, &block));
        wire.extend(frame(0, 0, 2 * stream + 1, b"x"));
    }
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, wire));
}

fn first_bytes_that_tell_nothing(tap: &mut Tap<Parsers>, n: u32) {
    let p = pair(n, 2121);
    tap.push_all(&p.handshake());
    tap.push(&p.server(0, 0, ACK, "220 "));
    for at in 0..200 {
        tap.push(&p.server(4 + at, 0, ACK, "-"));
    }
}

const FLOODS: [(&str, u32, Flood); 6] = [
    ("unfinished heads", 1000, unfinished_head),
    ("pending requests", 1000, pending_requests),
    ("long user names", 1000, long_user_names),
    ("files in a form", 1000, files_in_a_form),
    ("streams of HTTP/2", 500, streams_of_http2),
    ("first bytes that tell nothing", 2500, first_bytes_that_tell_nothing),
];

/// Memory of this process that is in use, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// One test at a time, so that the process's memory is that of one.
static ALONE: Mutex<()> = Mutex::new(());

#[cfg(target_os = "linux")]
#[test]
fn memory_stays_below_the_bound_whatever_fills_it() {
    let _alone = ALONE.lock();
    for (what, connections, flood) in FLOODS {
        let mut tap = tap(BOUND);
        let before = resident();
        for n in 0..connections {
            flood(&mut tap, n);
            // Uploads that are finished are handed on.
            tap.tracker.app().take_facts().for_each(drop);
        }
        let grown = resident().saturating_sub(before);
        let counters = tap.tracker.app().counters();
        println!("{what}: {} kB more, {} retired, peak {}", grown / 1000, counters.retired, tap.tracker.app().peak());
        assert!(counters.retired > u64::from(connections) / 2, "{what}: {counters:?}");
        // The flow table, and what the allocator does not give back, come to some megabytes.
        assert!(grown < 2 * BOUND + (4 << 20), "{what}: {grown} bytes");
        assert!(tap.tracker.app().peak() < BOUND + (1 << 20), "{what}");
    }
}

#[test]
fn who_goes_on_is_measured_and_who_is_silent_is_reported_as_partial() {
    let _alone = ALONE.lock();
    for (what, _, flood) in FLOODS {
        let mut tap = tap(1 << 20);
        let (active, silent) = (pair(60_000, 80), pair(60_001, 80));
        let head = "PUT /a HTTP/1.1\r\nHost: h.example\r\nContent-Length: 1000\r\n\r\n";
        for p in [active, silent] {
            tap.push_all(&p.handshake());
            tap.push(&p.client(0, 0, ACK, head));
            tap.push(&p.client(head.len() as i64, 0, ACK, "x".repeat(500)));
        }
        for n in 0..500 {
            flood(&mut tap, n);
            tap.push(&active.client(head.len() as i64 + 500 + i64::from(n), 0, ACK, "x"));
        }
        tap.push(&active.server(0, head.len() as i64 + 1000, ACK, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"));
        let (uploads, flows) = tap.facts();
        let of = |p: Pair| uploads.iter().find(|upload| upload.connection.client == p.client).unwrap();
        let (active_one, silent_one) = (of(active), of(silent));
        assert_eq!((active_one.state, active_one.bytes, active_one.notes.len()), (State::Complete, 1000, 0), "{what}");
        assert_eq!((silent_one.state, silent_one.bytes), (State::Partial, 500), "{what}");
        assert_eq!(silent_one.notes, [Note::Retired], "{what}");
        let flow = flows.iter().find(|flow| flow.connection.client == silent.client).unwrap();
        assert_eq!((flow.client_bytes, flow.protocol.name()), (head.len() as u64 + 500, "http"), "{what}");
    }
}
