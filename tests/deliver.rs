//! Alerts on their way to syslog collectors: what arrives, in which order, and what a collector that goes away costs.

#![cfg(all(feature = "sensor", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "deliver/daemon.rs"]
mod daemon;

use std::io::{BufReader, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::expect::at;
use common::lab::{self, Lab};
use common::{Story, root, skip};
use daemon::{Collector, Kind, started};
use outfall::config::Config;
use outfall::deliver::{Counters, Delivery};
use outfall::record::Document;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;

/// No step of a test may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// An authority, and what it signed for a collector and for a sensor.
struct Site {
    folder: tempfile::TempDir,
    server: Arc<rustls::ServerConfig>,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let signed = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let key = rcgen::KeyPair::generate().unwrap();
            (rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap(), key)
        };
        let (own, own_key) = signed(&["sensor.example"]);
        let (server, server_key) = signed(&["127.0.0.1", "::1", "collector.example", "localhost"]);
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", ca.pem());
        write("own.pem", own.pem());
        write("own.key", own_key.serialize_pem());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.der().clone()], PrivateKeyDer::try_from(server_key.serialize_der()).unwrap())
            .unwrap();
        Self { folder, server: Arc::new(server) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn collector(&self, address: impl std::fmt::Display, tls: bool) -> String {
        let (ca, own, key) = (self.path("ca.pem"), self.path("own.pem"), self.path("own.key"));
        if tls {
            format!(
                "[[deliver.syslog]]\naddress = \"{address}\"\nca = \"{ca}\"\ncertificate = \"{own}\"\nkey = \"{key}\"\n"
            )
        } else {
            format!("[[deliver.syslog]]\naddress = \"{address}\"\ntransport = \"tcp\"\n")
        }
    }

    fn delivery(&self, collectors: &str) -> Delivery {
        let text = format!(
            "[store]\npath = \"{}\"\n[deliver]\nconfirm = \"500 ms\"\nlongest_pause = \"200 ms\"\ndrain = \"20 s\"\n\
             {collectors}",
            self.path("store/outfall.db")
        );
        let config = Config::parse(&text, "f").unwrap();
        started(&config)
    }

    /// Takes connections on a socket; each ends after so long, the socket with it for a while, as if the collector
    /// were killed: what it had not read is lost.
    fn flaky(&self, listener: TcpListener, tls: bool, patience: Duration, to: Sender<Value>) {
        let (address, server) = (listener.local_addr().unwrap(), Arc::clone(&self.server));
        std::thread::spawn(move || {
            let mut listener = listener;
            loop {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let killed = stream.try_clone().unwrap();
                std::thread::spawn(move || {
                    std::thread::sleep(patience);
                    // It may have ended before.
                    let _ = killed.shutdown(std::net::Shutdown::Both);
                });
                let over = if tls {
                    let server = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
                    read(BufReader::with_capacity(64, rustls::StreamOwned::new(server, stream)), &to)
                } else {
                    read(BufReader::with_capacity(64, stream), &to)
                };
                if over {
                    return;
                }
                drop(listener);
                std::thread::sleep(Duration::from_millis(100));
                listener = TcpListener::bind(address).unwrap();
            }
        });
    }
}

/// Reads messages with octet counting; whether nobody wants them any more.
fn read(mut from: impl std::io::BufRead, to: &Sender<Value>) -> bool {
    loop {
        let mut length = Vec::new();
        if from.read_until(b' ', &mut length).is_err() || length.pop() != Some(b' ') {
            return false;
        }
        let length: usize = std::str::from_utf8(&length).unwrap().parse().unwrap();
        let mut message = vec![0; length];
        if from.read_exact(&mut message).is_err() {
            return false;
        }
        if to.send(document(&message)).is_err() {
            return true;
        }
    }
}

/// The document of a message of RFC 5424.
fn document(message: &[u8]) -> Value {
    let text = std::str::from_utf8(message).unwrap();
    let (head, body) = text.split_once("] ").expect(text);
    let fields: Vec<&str> = head.splitn(7, ' ').collect();
    assert!(fields[0].starts_with('<') && fields[0].ends_with(">1") && fields[3] == "outfall", "{text}");
    assert_ne!(fields[2], "-", "the name of this machine");
    let document = without_observer(serde_json::from_str(body.trim_start_matches('\u{feff}')).expect(text));
    let id = document["event"]["id"].as_str().unwrap();
    assert!(fields[6].contains(&format!("event_id=\"{id}\"")), "{text}");
    document
}

/// What the sensor says of itself comes with the delivery.
fn without_observer(mut document: Value) -> Value {
    let observer = document.as_object_mut().unwrap().shift_remove("observer");
    assert_eq!(observer.unwrap()["product"], "Outfall");
    document
}

fn alert(n: usize) -> Document<'static> {
    let mut document = Document::new();
    document.set("@timestamp", "2026-01-02T03:04:05.123456789Z");
    document.set("event.kind", "alert");
    document.set("event.dataset", "outfall.alert");
    document.set("event.id", format!("e{n}"));
    document.set("event.severity", 73_u64);
    document.set("url.original", format!("/{n}\n\"]\u{e4}\u{2028}{}", "x".repeat(200)));
    document
}

/// Waits until every alert has come; the numbers of all that came, in their order.
fn all(from: &Receiver<Value>, count: usize) -> Vec<usize> {
    let (mut came, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
    let until = Instant::now() + LIMIT;
    while seen.len() < count {
        let left = until.saturating_duration_since(Instant::now());
        let document = from.recv_timeout(left).unwrap_or_else(|_| panic!("{} of {count} came", seen.len()));
        let n: usize = document["event"]["id"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(document.to_string(), alert(n).to_string());
        seen.insert(n);
        came.push(n);
    }
    came
}

fn with_a_collector_that_is_killed(tls: bool, address: &str) -> Counters {
    const ALERTS: usize = 300;
    let site = Site::new();
    let listener = TcpListener::bind(address).unwrap();
    let delivery = site.delivery(&site.collector(listener.local_addr().unwrap(), tls));
    let (to, from) = channel();
    site.flaky(listener, tls, Duration::from_millis(900), to);
    for n in 0..ALERTS {
        delivery.put_patiently(&alert(n));
        std::thread::sleep(Duration::from_millis(10));
    }
    let came = all(&from, ALERTS);
    // What is new comes in order, whatever comes again between.
    let mut newest = None;
    for n in came {
        assert!(newest.is_none_or(|newest| n <= newest + 1), "{n} after {newest:?}");
        newest = newest.max(Some(n));
    }
    drop(from);
    delivery.finish()
}

#[test]
fn nothing_is_lost_over_tcp_where_the_collector_is_killed_again_and_again() {
    let counted = with_a_collector_that_is_killed(false, "127.0.0.1:0");
    assert!(counted.collectors[0].retried > 0 && counted.store.stored == 300, "{counted:?}");
}

#[test]
fn nothing_is_lost_over_tls_and_ipv6_where_the_collector_is_killed_again_and_again() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("TLS over IPv6", "this machine has no IPv6");
    }
    let counted = with_a_collector_that_is_killed(true, "[::1]:0");
    assert!(counted.collectors[0].retried > 0 && counted.collectors[0].failures > 0, "{counted:?}");
}

/// It takes connections, as its kernel does for it, but reads nothing until it is killed.
#[test]
fn a_collector_that_hangs_before_it_is_killed_loses_nothing() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let delivery = site.delivery(&site.collector(listener.local_addr().unwrap(), false));
    (0..5).for_each(|n| delivery.put_patiently(&alert(n)));
    let (hung, _) = listener.accept().unwrap();
    // Longer than `deliver.confirm`.
    std::thread::sleep(Duration::from_secs(2));
    // With what was not read, this resets the connection.
    drop(hung);
    let (to, from) = channel();
    site.flaky(listener, false, LIMIT, to);
    assert_eq!(all(&from, 5), [0, 1, 2, 3, 4]);
    let counted = delivery.finish();
    assert_eq!((counted.collectors[0].retried, counted.collectors[0].waiting), (5, 0), "{counted:?}");
}

#[test]
fn what_was_not_delivered_is_delivered_after_the_next_start() {
    let site = Site::new();
    // Nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let quick = site.collector(address, false).replace("[[deliver.syslog]]", "drain = \"0 s\"\n[[deliver.syslog]]");
    let start = |collectors: &str| {
        let text = format!("[store]\npath = \"{}\"\n[deliver]\n{collectors}", site.path("store/outfall.db"));
        let config = Config::parse(&text, "f").unwrap();
        started(&config)
    };
    let delivery = start(&quick);
    (0..5).for_each(|n| delivery.put_patiently(&alert(n)));
    let counted = delivery.finish();
    assert_eq!((counted.collectors[0].sent, counted.collectors[0].waiting), (0, 5));
    let listener = TcpListener::bind(address).unwrap();
    let (to, from) = channel();
    site.flaky(listener, false, LIMIT, to);
    let delivery = start(&quick.replace("0 s", "10 s"));
    assert_eq!(all(&from, 5), [0, 1, 2, 3, 4]);
    let counted = delivery.finish();
    assert_eq!((counted.collectors[0].sent, counted.collectors[0].waiting), (5, 0), "{counted:?}");
}

#[test]
fn a_collector_that_is_not_who_it_should_be_gets_nothing() {
    let (site, other) = (Site::new(), Site::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = site.collector(listener.local_addr().unwrap(), true);
    let (to, from) = channel();
    other.flaky(listener, true, LIMIT, to);
    let delivery = site.delivery(&collector.replace("[[deliver.syslog]]", "[[deliver.syslog]]\nmax_bytes = 8192"));
    delivery.put_patiently(&alert(1));
    let until = Instant::now() + LIMIT;
    let said = loop {
        let said = delivery.log();
        if !said.is_empty() || Instant::now() > until {
            break said;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(said[0].contains("cannot deliver") && said[0].contains("certificate"), "{said:?}");
    assert!(from.try_recv().is_err());
    assert_eq!(delivery.counters().collectors[0].sent, 0);
}

/// Has a confined sensor watch an upload; gives what it printed as alerts, and what it said.
fn sensor_sends(lab: &Lab, collectors: &str, started: impl FnOnce()) -> (Vec<Value>, String) {
    let policy = std::fs::read_to_string(root().join("captures/no-endpoint/policy.toml")).unwrap();
    let state = lab.folder.path().join("state");
    let text = format!(
        "{policy}\n[store]\npath = \"{}/outfall.db\"\n[deliver]\nconfirm = \"200 ms\"\n{collectors}",
        state.display()
    );
    let config = lab.file("outfall.toml", &text);
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    started();
    let (frames, _) = lab::frames(&Story::named("no-endpoint").capture());
    lab.send(Instant::now(), &frames.into_iter().map(|frame| (0, frame)).collect::<Vec<_>>());
    let is_alert = |record: &Value| at(record, "event.dataset") == Some(&"outfall.alert".into());
    sensor.record("that is an alert", is_alert);
    let (records, said) = sensor.ends();
    (records.into_iter().filter(|record| at(record, "event.kind") == Some(&"alert".into())).collect(), said)
}

#[test]
fn a_confined_sensor_sends_over_udp_tcp_and_tls() {
    let Ok(lab) = Lab::new("deliver", 1).map_err(|reason| skip("deliver", &reason)) else { return };
    lab.ip(&["link", "set", "lo", "up"]);
    let site = Site::new();
    let (udp, tcp, tls) = lab.inside(|| {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        (UdpSocket::bind("127.0.0.1:0").unwrap(), listen(), listen())
    });
    udp.set_read_timeout(Some(LIMIT)).unwrap();
    // The file is so long already that it is put aside at once; the last line was not written to its end.
    let file = lab.folder.path().join("alerts/alerts.json");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("{}{{\"cut\":", "{}\n".repeat(30_000))).unwrap();
    let collectors = format!(
        "[[deliver.syslog]]\naddress = \"{}\"\ntransport = \"udp\"\n{}{}[[deliver.file]]\npath = \"{}\"\n\
         max_bytes = \"64 KiB\"\ngzip = true\n",
        udp.local_addr().unwrap(),
        site.collector(tcp.local_addr().unwrap(), false),
        // By its name, which the certificate has too.
        site.collector(format!("localhost:{}", tls.local_addr().unwrap().port()), true),
        file.display()
    );
    let (to_tcp, from_tcp) = channel();
    let (to_tls, from_tls) = channel();
    site.flaky(tcp, false, LIMIT, to_tcp);
    site.flaky(tls, true, LIMIT, to_tls);
    let (alerts, said) = sensor_sends(&lab, &collectors, || {});
    assert!(!alerts.is_empty() && said.contains("0 waiting"), "{said}");
    assert!(said.contains("delivering to udp://"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| without_observer(serde_json::from_str(line).unwrap())).collect();
    assert_eq!(lines, alerts, "{said}");
    let mut aside = String::new();
    let gz = std::fs::File::open(file.with_extension("json.1.gz")).expect(&said);
    flate2::read::GzDecoder::new(gz).read_to_string(&mut aside).unwrap();
    assert_eq!(aside, "{}\n".repeat(30_000));
    for alert in alerts {
        let mut bytes = vec![0; 65_536];
        let length = udp.recv(&mut bytes).unwrap();
        assert_eq!(document(&bytes[..length]), alert);
        assert_eq!(from_tcp.recv_timeout(LIMIT).expect(&said), alert);
        assert_eq!(from_tls.recv_timeout(LIMIT).expect(&said), alert);
    }
}

#[test]
fn a_replay_delivers_what_it_raised_and_says_what_it_could_not() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = site.collector(listener.local_addr().unwrap(), false);
    let (to, from) = channel();
    site.flaky(listener, false, LIMIT, to);
    let write = |collectors: &str| {
        let (store, file) = (site.path("store/outfall.db"), site.path("alerts/alerts.cef"));
        let text = format!(
            "[store]\npath = \"{store}\"\n[deliver]\nconfirm = \"100 ms\"\ndrain = \"500 ms\"\n[[deliver.file]]\n\
             path = \"{file}\"\nformat = \"cef\"\n{collectors}"
        );
        std::fs::write(site.path("outfall.toml"), text).unwrap();
    };
    let story = Story::named("ftp-staged-archive");
    let replay = |options: &[&str]| {
        let config = site.path("outfall.toml");
        story.replay(&[&["--json", "--config", &config], options].concat())
    };
    write(&collector);
    let alerts = replay(&["--deliver"]).exits(0).dataset("outfall.alert");
    assert_eq!(from.recv_timeout(LIMIT).unwrap(), alerts[0]);
    let stored = std::fs::read_to_string(site.path("alerts/alerts.cef")).unwrap();
    let printed = story.replay(&["--format", "cef"]).exits(0).text().to_owned();
    // What is stored says besides who sent it.
    let unnamed: Vec<&str> = stored.split(' ').filter(|word| !word.starts_with("dvchost=")).collect();
    assert_eq!(unnamed.join(" "), printed);
    // Without somewhere to deliver to, nothing is replayed.
    std::fs::write(site.path("outfall.toml"), "").unwrap();
    replay(&["--deliver"]).exits(2).refuses(&["--deliver", "no place"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    write(&site.collector(nobody, false));
    replay(&["--deliver"]).exits(1).says(&["still wait for tcp://"]);
}

/// What `ip netns exec` puts in the place of `/etc/resolv.conf`; gone with it.
struct Resolving(std::path::PathBuf);

impl Drop for Resolving {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers questions for addresses: with an error, until it `knows` better.
fn name_server(socket: UdpSocket, knows: Arc<AtomicBool>) {
    use domain::base::iana::{Rcode, Rtype};
    use domain::base::{Message, MessageBuilder};
    loop {
        let mut bytes = [0; 512];
        let (length, from) = socket.recv_from(&mut bytes).unwrap();
        let query = Message::from_octets(&bytes[..length]).unwrap();
        let question = query.sole_question().unwrap();
        let known = knows.load(Ordering::Relaxed) && question.qname().to_string() == "siem.example";
        let code = if known { Rcode::NOERROR } else { Rcode::SERVFAIL };
        let mut answer = MessageBuilder::new_vec().start_answer(&query, code).unwrap();
        if known && question.qtype() == Rtype::A {
            answer.push((question.qname(), 60, domain::rdata::A::from_octets(127, 0, 0, 1))).unwrap();
        }
        socket.send_to(&answer.finish(), from).unwrap();
    }
}

#[test]
fn a_confined_sensor_looks_up_a_name_that_nobody_knew_at_its_start() {
    let Ok(lab) = Lab::new("names", 1).map_err(|reason| skip("names", &reason)) else { return };
    lab.ip(&["link", "set", "lo", "up"]);
    let resolving = Resolving(Path::new("/etc/netns").join(lab.namespace("sensor")));
    std::fs::create_dir_all(&resolving.0).unwrap();
    std::fs::write(resolving.0.join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    let (names, collector) =
        lab.inside(|| (UdpSocket::bind("127.0.0.1:53").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()));
    let knows = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&knows);
    std::thread::spawn(move || name_server(names, told));
    collector.set_read_timeout(Some(LIMIT)).unwrap();
    let port = collector.local_addr().unwrap().port();
    let collectors = format!("[[deliver.syslog]]\naddress = \"siem.example:{port}\"\ntransport = \"udp\"\n");
    let started = || knows.store(true, Ordering::Relaxed);
    let (alerts, said) = sensor_sends(&lab, &collectors, started);
    let mut bytes = vec![0; 65_536];
    let length = collector.recv(&mut bytes).expect(&said);
    assert_eq!(document(&bytes[..length]), alerts[0]);
}

/// On a disk of its own; so nobody else sees it.
#[test]
fn a_full_disk_costs_a_file_no_alert() {
    use nix::sched::{CloneFlags, unshare};
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        return skip("a full disk", "no right to mount one");
    }
    let site = Site::new();
    let disk = site.path("disk");
    std::fs::create_dir(&disk).unwrap();
    for args in [&["--make-rprivate", "/"][..], &["-t", "tmpfs", "-o", "size=256k", "tmpfs", &disk]] {
        assert!(std::process::Command::new("mount").args(args).status().unwrap().success());
    }
    std::fs::write(format!("{disk}/filler"), vec![0; 200_000]).unwrap();
    const ALERTS: usize = 400;
    let delivery = site.delivery(&format!("[[deliver.file]]\npath = \"{disk}/alerts.json\"\n"));
    (0..ALERTS / 2).for_each(|n| delivery.put_patiently(&alert(n)));
    let until = Instant::now() + LIMIT;
    while delivery.counters().collectors[0].failures < 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let counted = delivery.counters();
    assert!(counted.collectors[0].failures >= 2 && counted.collectors[0].waiting > 0, "{counted:?}");
    assert!(delivery.log()[0].contains("No space left"));
    std::fs::remove_file(format!("{disk}/filler")).unwrap();
    (ALERTS / 2..ALERTS).for_each(|n| delivery.put_patiently(&alert(n)));
    let counted = delivery.finish();
    assert_eq!(counted.collectors[0].waiting, 0, "{counted:?}");
    let text = std::fs::read_to_string(format!("{disk}/alerts.json")).unwrap();
    let read = text.lines().map(|line| without_observer(serde_json::from_str(line).unwrap()).to_string());
    assert_eq!(read.collect::<Vec<_>>(), (0..ALERTS).map(|n| alert(n).to_string()).collect::<Vec<_>>());
}

/// To a collector that others wrote, which is killed in the middle.
fn real(kind: Kind) {
    for transport in ["udp", "tcp", "tls"] {
        let Some(mut collector) = Collector::new(kind, transport) else {
            skip(&format!("{} by {transport}", kind.name()), "it is not there, see tests/collectors");
            continue;
        };
        let outcome = daemon::send(&mut collector, 600, 400, Duration::from_millis(700));
        println!("{} {:?}", outcome.row(kind, transport), outcome.counted);
        if transport != "udp" {
            assert_eq!(outcome.lost(), 0, "{outcome:?}");
        }
        // It was there before it was killed, and after.
        assert!(outcome.received > outcome.sent / 2, "{outcome:?}");
    }
}

#[test]
fn rsyslog_stores_what_was_sent() {
    real(Kind::Rsyslog);
}

#[test]
fn syslog_ng_stores_what_was_sent() {
    real(Kind::SyslogNg);
}

#[test]
fn a_sensor_that_cannot_deliver_says_why_and_does_not_start() {
    let Ok(lab) = Lab::new("refusal", 1).map_err(|reason| skip("refusal", &reason)) else { return };
    let refused = |collector: &str| {
        let text = format!("[store]\npath = \"\"\n[[deliver.syslog]]\n{collector}");
        let config = lab.file("outfall.toml", &text);
        let mut command = lab.command();
        command.args(["run", "--interface", "tap0", "--config"]).arg(config);
        let (status, _, said) = lab::Sensor::start(command).ended();
        assert_eq!(status, Some(2), "{said}");
        said.lines().last().unwrap().to_owned()
    };
    let said = refused("address = \"127.0.0.1:6514\"\nca = \"/nosuch.pem\"\n");
    assert!(said.contains("/nosuch.pem"), "{said}");
}

#[test]
fn a_store_that_cannot_be_used_stops_neither_the_capture_nor_the_delivery() {
    let Ok(lab) = Lab::new("standin", 1).map_err(|reason| skip("standin", &reason)) else { return };
    const NOT_A_DATABASE: &str = "no database at all, but long enough to be one";
    let text = |record: &Value, path| at(record, path).and_then(Value::as_str).unwrap_or_default().to_owned();
    // Beside the configuration, as nothing else is said.
    let store = lab.file("outfall.db", NOT_A_DATABASE);
    let folder = lab.folder.path().join("alerts");
    let policy = std::fs::read_to_string(root().join("captures/no-endpoint/policy.toml")).unwrap();
    let settings = format!("{policy}\n[[deliver.file]]\npath = \"{}/alerts.json\"\n", folder.display());
    let config = lab.file("outfall.toml", &settings);
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    sensor.says("goes on without it");
    sensor.record("the store's trouble", |record| {
        text(record, "outfall.health.condition") == "store-not-written"
            && text(record, "outfall.health.state") == "begun"
    });
    let (frames, _) = lab::frames(&Story::named("no-endpoint").capture());
    let frames: Vec<_> = frames.into_iter().map(|frame| (0, frame)).collect();
    lab.send(Instant::now(), &frames);
    sensor.record("an upload", |record| text(record, "event.dataset") == "outfall.upload");
    sensor.record("an alert", |record| text(record, "event.dataset") == "outfall.alert");
    let (_, said) = sensor.ends();
    assert!(said.contains("outfall.db") && said.contains("no SQLite database"), "{said}");
    assert!(said.contains("uploads not stored"), "{said}");
    let written = std::fs::read_to_string(folder.join("alerts.json")).unwrap();
    assert!(written.contains("\"store-not-written\"") && written.contains("\"outfall.alert\""), "{written}");
    assert_eq!(std::fs::read_to_string(&store).unwrap(), NOT_A_DATABASE, "it is left as it was");
}
