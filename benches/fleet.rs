//! A fleet of helpers at one listener: memory, CPU, delay and losses.
//!
//!     cargo bench --bench fleet -- [--helpers 2000] [--rate 50] [--seconds 30] [--threads 1] [--history 256]
//!
//! Starts `outfall run` in a network namespace of its own, enrolls the helpers, and lets each send so many events a second
//! over TLS, a tenth of them every 100 ms, as a helper does: it keeps what is not acknowledged. At the end everything must
//! be acknowledged, each event must have come once, and none be missing. Takes root and `ip`. Prints a row in Markdown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::lab::{self, Lab};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use outfall::endpoint::authority::{Authority, Credentials, SENSOR_NAME};
use outfall::net::{Span, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

/// How often a helper sends.
const STEP: Duration = Duration::from_millis(100);

/// How long the last acknowledgements may take.
const END: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Sums {
    connected: AtomicU64,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    bytes: AtomicU64,
    broken: AtomicU64,
    /// Milliseconds from sending an event to its acknowledgement, of the last event of each step.
    delays: Mutex<Vec<u32>>,
}

struct Options {
    helpers: u64,
    rate: u64,
    seconds: u64,
    threads: u64,
    /// MiB of `endpoint.memory`.
    history: u64,
}

fn main() {
    let options = options();
    let lab = match Lab::new("fleet", 1) {
        Ok(lab) => lab,
        Err(reason) => return println!("skipped: {reason}"),
    };
    lab.ip(&["link", "set", "lo", "up"]);
    // As many connections as the system allows.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let state = lab.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let authority = Authority::open(&state).unwrap();
    let until = Timestamp(lab::now()).after(Span::seconds(86_400));
    let fleet: Vec<Credentials> =
        (0..options.helpers).map(|n| authority.enroll(&format!("WKS-{n:05}"), until).unwrap()).collect();
    let config = format!(
        "[endpoint]\nmemory = \"{} MiB\"\n[listener]\nstate = \"{}\"\ntls = [\"127.0.0.1:0\"]\nthreads = {}\n\
         handshakes = 4096\n",
        options.history,
        state.display(),
        options.threads
    );
    let mut sensor = lab.sensor(&["--config".into(), lab.file("outfall.toml", &config).into()]);
    let line = sensor.says("listening on");
    let address = line.split("listening on ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let pid = sensor.pid().as_raw();
    let idle = cpu_seconds(pid);
    let sums = Arc::new(Sums::default());
    let begin = Instant::now();
    let (steady, own) = lab.inside(|| run(&options, address, fleet, &sums, pid));
    let (cpu, memory) = (cpu_seconds(pid) - idle, status(pid, "VmHWM"));
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (sent, acknowledged) = (count(&sums.sent), count(&sums.acknowledged));
    let (_, said) = sensor.ends();
    let counters = said.lines().rfind(|line| line.contains("counters listener ")).unwrap().to_owned();
    let counted = |name: &str| -> u64 {
        let field = counters.split(' ').find_map(|field| field.strip_prefix(&format!("{name}=")));
        field.map_or(0, |value| value.parse().unwrap())
    };
    let mut delays = std::mem::take(&mut *sums.delays.lock().unwrap());
    delays.sort_unstable();
    let delay = |of: usize| delays.get(delays.len() * of / 100).copied().unwrap_or(0);
    println!(
        "| helpers | events a second each | events | MB | seconds | not acknowledged | missing | came again | dropped connections | peak MB | CPU cores, steady | sender's | delay ms, median / 99 % |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    println!(
        "| {} | {} | {sent} | {} | {:.0} | {} | {} | {} | {} | {} | {steady:.2} | {own:.2} | {} / {} |",
        options.helpers,
        options.rate,
        count(&sums.bytes) / 1_000_000,
        begin.elapsed().as_secs_f64(),
        sent - acknowledged,
        counted("missing"),
        counted("repeated"),
        count(&sums.broken),
        memory / 1_000,
        delay(50),
        delay(99),
    );
    println!("\nCPU {cpu:.1} s in all, {} MB in the journal\n{counters}", counted("journal_bytes") / 1_000_000);
    // Hellos count as events.
    assert_eq!(counted("events"), sent + count(&sums.connected), "each event came once");
    assert_eq!((sent, counted("missing"), counted("repeated"), count(&sums.broken)), (acknowledged, 0, 0, 0));
}

fn options() -> Options {
    let mut options = Options { helpers: 2_000, rate: 50, seconds: 30, threads: 1, history: 256 };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(name) = args.next() {
        let value = args.next().and_then(|value| value.parse().ok()).filter(|value| (1..=100_000).contains(value));
        let value = value.unwrap_or_else(|| panic!("{name}: expected a number from 1 to 100,000"));
        match name.as_str() {
            "--helpers" => options.helpers = value,
            "--rate" => options.rate = value,
            "--seconds" => options.seconds = value,
            "--history" => options.history = value,
            "--threads" => options.threads = value,
            _ => panic!("{name}: no such option"),
        }
    }
    options
}

/// Runs the fleet; gives the CPUs that the sensor and the sender took while all were connected.
fn run(options: &Options, address: SocketAddr, fleet: Vec<Credentials>, sums: &Arc<Sums>, pid: i32) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let count = fleet.len() as u64;
        let go = Arc::new(tokio::sync::Semaphore::new(0));
        let mut tasks = Vec::new();
        for (n, own) in fleet.into_iter().enumerate() {
            let (sums, go) = (Arc::clone(sums), Arc::clone(&go));
            let (rate, seconds) = (options.rate, options.seconds);
            tasks.push(tokio::spawn(async move {
                if helper(n as u64, address, &own, &sums, &go, rate, seconds).await.is_err() {
                    sums.broken.fetch_add(1, Ordering::Relaxed);
                }
            }));
            // Some at a time.
            if n % 50 == 49 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while sums.connected.load(Ordering::Relaxed) + sums.broken.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("{count} connected, {} MB resident", status(pid, "VmRSS") / 1_000);
        let (begin, before, own) = (Instant::now(), cpu_seconds(pid), cpu_seconds(std::process::id() as i32));
        go.add_permits(count as usize);
        tokio::time::sleep(Duration::from_secs(options.seconds)).await;
        let seconds = begin.elapsed().as_secs_f64();
        let steady = (cpu_seconds(pid) - before) / seconds;
        let own = (cpu_seconds(std::process::id() as i32) - own) / seconds;
        for task in tasks {
            task.await.unwrap();
        }
        (steady, own)
    })
}

async fn helper(
    n: u64,
    address: SocketAddr,
    own: &Credentials,
    sums: &Sums,
    go: &tokio::sync::Semaphore,
    rate: u64,
    seconds: u64,
) -> std::io::Result<()> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(own.authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(SENSOR_NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    stream.write_all(common::helper::hello(&format!("WKS-{n:05}"), n + 1).as_bytes()).await?;
    let mut answers = Answers::default();
    answers.read(&mut stream, Instant::now() + END, 0).await?;
    sums.connected.fetch_add(1, Ordering::Relaxed);
    go.acquire().await.unwrap().forget();
    let (begin, mut next, mut stored) = (Instant::now(), 1, 0);
    let mut open: std::collections::VecDeque<(u64, Instant)> = std::collections::VecDeque::new();
    // Each begins at another moment.
    let phase = STEP.mul_f64((n % 97) as f64 / 97.0);
    for step in 0..seconds * 10 {
        let due = begin + phase + STEP * step as u32;
        // What is acknowledged meanwhile.
        while Instant::now() < due {
            answers.read(&mut stream, due, stored + 1).await?;
            stored = settle(sums, &mut open, stored, answers.seq);
        }
        let upto = rate * (step + 1) / 10;
        let text: String = (next..=upto).map(event).collect();
        stream.write_all(text.as_bytes()).await?;
        sums.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        sums.sent.fetch_add(upto + 1 - next, Ordering::Relaxed);
        open.push_back((upto, Instant::now()));
        next = upto + 1;
    }
    let end = Instant::now() + END;
    while stored + 1 < next && Instant::now() < end {
        answers.read(&mut stream, end, stored + 1).await?;
        stored = settle(sums, &mut open, stored, answers.seq);
    }
    stream.shutdown().await
}

fn settle(sums: &Sums, open: &mut std::collections::VecDeque<(u64, Instant)>, before: u64, now: u64) -> u64 {
    sums.acknowledged.fetch_add(now - before, Ordering::Relaxed);
    while open.front().is_some_and(|(seq, _)| *seq <= now) {
        let (_, at) = open.pop_front().unwrap();
        sums.delays.lock().unwrap().push(at.elapsed().as_millis() as u32);
    }
    now
}

/// The sensor's lines.
#[derive(Default)]
struct Answers {
    text: Vec<u8>,
    seq: u64,
}

impl Answers {
    /// Reads until that much is stored or the time is over.
    async fn read(
        &mut self,
        stream: &mut (impl tokio::io::AsyncRead + Unpin),
        until: Instant,
        seq: u64,
    ) -> std::io::Result<()> {
        let mut buffer = [0; 512];
        loop {
            let read = stream.read(&mut buffer);
            let Ok(count) = tokio::time::timeout_at(until.into(), read).await else { return Ok(()) };
            let count = count?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.text.extend(&buffer[..count]);
            while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
                if line["type"] != "ack" {
                    return Err(std::io::Error::other(line.to_string()));
                }
                self.seq = line["seq"].as_u64().unwrap();
            }
            if self.seq >= seq {
                return Ok(());
            }
        }
    }
}

/// What a workstation reports, mostly files.
fn event(seq: u64) -> String {
    let (ts, pid) = (lab::now(), seq % 997 * 4);
    let head = format!("\"source\":\"etw\",\"seq\":{seq},\"ts\":{ts},\"pid\":{pid},\"start\":{}", ts - 60_000_000_000);
    match seq % 10 {
        0 => format!(
            "{{\"type\":\"process_start\",{head},\"ppid\":4,\"image\":\"C:\\\\Program Files\\\\Vendor\\\\tool{pid}.exe\",\
             \"command_line\":\"tool.exe --job {seq}\",\"user\":\"FABRIKAM\\\\j.meier\"}}\n"
        ),
        1..=2 => format!(
            "{{\"type\":\"connection\",{head},\"protocol\":\"tcp\",\"local\":\"10.20.0.42:{}\",\
             \"remote\":\"203.0.113.21:443\",\"initiated\":true}}\n",
            1_024 + seq % 60_000
        ),
        _ => format!(
            "{{\"type\":\"file\",{head},\"op\":\"write\",\
             \"path\":\"C:\\\\Users\\\\j.meier\\\\AppData\\\\Local\\\\Temp\\\\report-{seq}.docx\",\"size\":{}}}\n",
            seq * 37
        ),
    }
}

/// User and system time of a process.
fn cpu_seconds(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Linux counts in hundredths of a second.
    [11, 12].iter().map(|n| fields[*n].parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// A field of a process's status, in kB.
fn status(pid: i32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
