//! What the baseline costs: memory for each destination and process, and the time of an update and a lookup.
//!
//! `cargo bench --bench baseline [DESTINATIONS [PROCESSES]]` prints a table; the default is a million and a hundred thousand.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use outfall::config::Config;
use outfall::detect::{Detector, Exception, ExceptionId, Scope, Verdict};
use outfall::join::{Ancestor, Attribution, Confidence, FileLink, HostName, Process, Why};
use outfall::net::{Address, Endpoint, Timestamp};
use outfall::record::{Connection, EventId, Protocol, State, Upload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As in an office: most destinations are those of a few hosts.
const HOSTS: u64 = 5_000;

fn main() {
    let counts: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let destinations = counts.first().copied().unwrap_or(1_000_000);
    let processes = counts.get(1).copied().unwrap_or(100_000);
    let mut config = Config::default();
    config.detect.destinations = destinations;
    config.detect.processes = processes;
    config.detect.pairs = destinations.max(processes);
    // The volumes have a bound of their own, which stays what it is.
    let mut detector = Detector::new(&config);
    println!("| step | items | ns each | resident, MB |\n| --- | ---: | ---: | ---: |");
    line("start", 1, Instant::now());

    let unknown = Attribution::Unknown { why: Why::NoEndpoint, host: None };
    let begun = Instant::now();
    for n in 0..destinations {
        settle(&mut detector, &upload(n, n), &unknown, false);
    }
    line("update, a new destination each", destinations, begun);
    let begun = Instant::now();
    for n in 0..destinations {
        settle(&mut detector, &upload(n.wrapping_mul(7_919) % destinations, n + 1), &unknown, false);
    }
    line("update, known destinations", destinations, begun);
    let begun = Instant::now();
    for n in 0..destinations {
        black_box(judge(&detector, &upload(n.wrapping_mul(104_729) % destinations, n), &unknown, &[]));
    }
    line("judge, known destinations", destinations, begun);
    let begun = Instant::now();
    for n in 0..processes {
        settle(&mut detector, &upload(n % 1_000, n), &process(n), false);
    }
    line("update, a new process each", processes, begun);
    let begun = Instant::now();
    for n in 0..processes {
        let n = n.wrapping_mul(7_919) % processes;
        black_box(judge(&detector, &upload(n % 1_000, n), &process(n), &[]));
    }
    line("judge, known processes", processes, begun);
    exceptions(10_000);
}

fn settle(detector: &mut Detector, upload: &Upload, attribution: &Attribution, alert: bool) {
    let route = detector.route(upload).unwrap();
    detector.settle(upload, &route, attribution, alert);
}

fn judge(detector: &Detector, upload: &Upload, attribution: &Attribution, links: &[FileLink]) -> Option<Verdict> {
    detector.judge(upload, &detector.route(upload)?, attribution, links)
}

/// What it costs to look for an exception that covers an alert.
fn exceptions(count: u64) {
    let list: Vec<Exception> = (1..=count)
        .map(|n| Exception {
            id: ExceptionId(n as u32),
            scope: Scope {
                process: Some(format!("*\\tool{n}.exe").parse().unwrap()),
                destination: Some(format!("site{n}.example").parse().unwrap()),
                ..Scope::default()
            },
            broad: false,
            owner: "ann".to_owned(),
            justification: "a partner".to_owned(),
            created: Timestamp(0),
            expires: Timestamp(u64::MAX),
        })
        .collect();
    let (upload, process) = (upload(count, 1), process(count));
    let (begun, rounds) = (Instant::now(), 1_000);
    for _ in 0..rounds {
        // The last of them covers it.
        let found = list.iter().find(|exception| exception.scope.covers(black_box(&upload), &process));
        assert!(black_box(found).is_some());
    }
    line(&format!("find the one of {count} exceptions that covers an alert"), rounds, begun);
}

fn line(step: &str, items: u64, begun: Instant) {
    let each = begun.elapsed().as_nanos() / u128::from(items.max(1));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    println!("| {step} | {items} | {each} | {} |", kibibytes * 1_024 / 1_000_000);
}

fn upload(destination: u64, host: u64) -> Upload {
    let address = |n: u64| Address::v4([10, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
    let client = Endpoint { address: address(host % HOSTS), port: 40_000 };
    let server = Endpoint { address: Address::v4([203, 0, 113, 9]), port: 80 };
    let connection = Connection { client, server };
    let at = Timestamp::from_parts(1_700_000_000 + destination / 10, 0);
    Upload {
        id: EventId::new("upload", connection, at, destination),
        connection,
        wrapping: Default::default(),
        protocol: Protocol::Http,
        opened: at,
        start: at,
        end: at,
        client_bytes: 2_000,
        server_bytes: 200,
        bytes: 1_500,
        missing: 0,
        state: State::Complete,
        domain: Some(format!("host{}.site{destination}.example", destination % 3)),
        proxied_to: None,
        domain_source: Default::default(),
        http: None,
        ftp: None,
        files: Vec::new(),
        body: Default::default(),
        notes: Vec::new(),
    }
}

fn process(n: u64) -> Attribution {
    let image = |name: String| Some(format!("C:\\Program Files\\Vendor {n}\\{name}.exe").into());
    let process = Process {
        host: HostName { id: "A".into(), name: None, domain: None },
        pid: Some(7),
        start: None,
        image: image(format!("tool{n}")),
        command_line: None,
        user: Some("CORP\\ann".into()),
        sid: None,
        sha256: None,
        signer: Some("Vendor Inc.".into()),
        ancestors: vec![Ancestor { pid: Some(1), start: None, image: image("parent".into()), command_line: None }],
        key: None,
    };
    Attribution::Known { process: Box::new(process), rule: "five-tuple", confidence: Confidence::Certain, offset: None }
}
