//! rsyslog and syslog-ng as collectors: started on loopback, killed, started again, and what they stored.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outfall::config::Config;
use outfall::deliver::{Counters, Delivery, Prepared};
use outfall::record::Document;
use outfall::store::file_of;
use serde_json::Value;

/// Delivery with a store in its file.
pub fn started(config: &Config) -> Delivery {
    let prepared = Prepared::read(config, file_of(config, None), None).unwrap().unwrap();
    let opened = prepared.open().unwrap();
    assert!(opened.fault().is_none());
    Delivery::start(opened, config).unwrap()
}

/// A program that collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rsyslog,
    SyslogNg,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsyslog => "rsyslog",
            Self::SyslogNg => "syslog-ng",
        }
    }

    /// Where it is installed or unpacked (`tests/collectors`): the folder that has its `usr`.
    fn root(self) -> Option<PathBuf> {
        let program = match self {
            Self::Rsyslog => "usr/sbin/rsyslogd",
            Self::SyslogNg => "usr/sbin/syslog-ng",
        };
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("collectors");
        [unpacked, PathBuf::from("/")].into_iter().find(|root| root.join(program).exists())
    }
}

/// Certificates for the collector, made anew.
fn certificates(folder: &Path) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in [("ca.pem", ca.pem()), ("own.pem", own.pem()), ("own.key", key.serialize_pem())] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// A collector, with a folder of its own.
pub struct Collector {
    kind: Kind,
    root: PathBuf,
    folder: tempfile::TempDir,
    transport: &'static str,
    port: u16,
    child: Option<Child>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Collector {
    /// For a transport: `udp`, `tcp` or `tls`. None if there is no such program, or it lacks TLS.
    pub fn new(kind: Kind, transport: &'static str) -> Option<Self> {
        let root = kind.root()?;
        let tls = "usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so";
        if kind == Kind::Rsyslog && transport == "tls" && !root.join(tls).exists() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let collector = Self { kind, root, folder, transport, port, child: None };
        std::fs::write(collector.path("daemon.conf"), collector.settings()).unwrap();
        Some(collector)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn settings(&self) -> String {
        let path = |name| self.path(name);
        let (port, stored) = (self.port, path("stored"));
        match (self.kind, self.transport) {
            (Kind::Rsyslog, transport) => {
                let (module, input, global) = match transport {
                    "udp" => ("load=\"imudp\"".to_owned(), "imudp", String::new()),
                    "tcp" => ("load=\"imtcp\"".to_owned(), "imtcp", String::new()),
                    _ => (
                        "load=\"imtcp\" StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\""
                            .to_owned(),
                        "imtcp",
                        format!(
                            "DefaultNetstreamDriver=\"ossl\" DefaultNetstreamDriverCAFile=\"{}\" \
                             DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\"",
                            path("ca.pem"),
                            path("own.pem"),
                            path("own.key")
                        ),
                    ),
                };
                format!(
                    "global(workDirectory=\"{}\" maxMessageSize=\"64k\" {global})\nmodule({module})\n\
                     template(name=\"all\" type=\"string\" \
                     string=\"%pri%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
                     ruleset(name=\"outfall\") {{ action(type=\"omfile\" file=\"{stored}\" template=\"all\") }}\n\
                     input(type=\"{input}\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"outfall\")\n",
                    self.folder.path().display(),
                )
            }
            (Kind::SyslogNg, transport) => {
                let tls = format!(
                    "tls(key-file(\"{}\") cert-file(\"{}\") peer-verify(optional-untrusted))",
                    path("own.key"),
                    path("own.pem")
                );
                let tls = if transport == "tls" { tls.as_str() } else { "" };
                format!(
                    "@version: 3.38\noptions {{ keep-hostname(yes); use-dns(no); }};\n\
                     source outfall {{ syslog(transport(\"{transport}\") ip(\"127.0.0.1\") port({port}) \
                     log-msg-size(65536) {tls}); }};\n\
                     destination stored {{ file(\"{stored}\" template(\"$PRI|$HOST|$PROGRAM|$MSGID|$SDATA|$MSG\\n\")); }};\n\
                     log {{ source(outfall); destination(stored); flags(flow-control); }};\n"
                )
            }
        }
    }

    /// Starts it.
    pub fn start(&mut self) {
        let in_root = |name: &str| self.root.join(name).display().to_string();
        let mut command = match self.kind {
            Kind::Rsyslog => {
                let mut command = Command::new(in_root("usr/sbin/rsyslogd"));
                command.arg("-n").arg("-M").arg(in_root("usr/lib/x86_64-linux-gnu/rsyslog"));
                command.arg("-f").arg(self.path("daemon.conf")).arg("-i").arg(self.path("daemon.pid"));
                command
            }
            Kind::SyslogNg => {
                let mut command = Command::new(in_root("usr/sbin/syslog-ng"));
                command.args(["--foreground", "--no-caps"]);
                for (option, name) in [
                    ("cfgfile", "daemon.conf"),
                    ("persist-file", "daemon.persist"),
                    ("pidfile", "daemon.pid"),
                    ("control", "daemon.ctl"),
                ] {
                    command.arg(format!("--{option}={}", self.path(name)));
                }
                if self.root != Path::new("/") {
                    let modules = in_root("usr/lib/syslog-ng/3.38");
                    command.arg(format!("--module-path={modules}"));
                }
                command
            }
        };
        let libraries =
            ["usr/lib/syslog-ng", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(in_root).join(":");
        if self.root != Path::new("/") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let said = std::fs::File::create(self.path("said")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        self.child = Some(command.spawn().unwrap());
    }

    /// Kills it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The part of a configuration that sends to it.
    pub fn destination(&self) -> String {
        let ca = format!("ca = \"{}\"\n", self.path("ca.pem"));
        format!(
            "[[deliver.syslog]]\naddress = \"127.0.0.1:{}\"\ntransport = \"{}\"\nmax_bytes = 65000\n{}",
            self.port,
            self.transport,
            if self.transport == "tls" { ca.as_str() } else { "" }
        )
    }

    /// How many lines it stored.
    fn count(&self) -> usize {
        std::fs::read(self.path("stored")).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
    }

    /// Every document that it stored, by the number of its alert. What it stored besides the document agrees with it.
    pub fn stored(&self) -> BTreeMap<usize, Vec<Value>> {
        let bytes = std::fs::read(self.path("stored")).unwrap_or_default();
        let mut all: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        // The last one may not be written to its end when it is killed.
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        for line in lines {
            let line = std::str::from_utf8(line).unwrap();
            let fields: Vec<&str> = line.splitn(6, '|').collect();
            let body = fields[5].trim_matches([' ', '\n', '\u{feff}']);
            let mut document: Value =
                serde_json::from_str(body).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.kind.name()));
            document.as_object_mut().unwrap().shift_remove("observer").unwrap();
            let id = document["event"]["id"].as_str().unwrap().to_owned();
            assert_eq!((fields[0], fields[1], fields[2], fields[3]), ("131", "sensor-1", "outfall", "outfall.alert"));
            assert!(fields[4].contains(&format!("event_id=\"{id}\"")), "{line}");
            all.entry(id[1..].parse().unwrap()).or_default().push(document);
        }
        all
    }
}

/// An alert with what an attacker can put into the name of a file or into a URL.
pub fn hostile(n: usize) -> Document<'static> {
    const HOSTILE: [&str; 12] = [
        "plain.7z",
        "two\nlines\r\n<131>1 - - - - - forged",
        "quotes \" ' ` and \"] [x@1 y=\"z",
        "back\\slash \\n \\u000a \\",
        "null \0 bell \u{7} escape \u{1b}[2J",
        "\u{e4}\u{f6}\u{fc} \u{df} \u{85} \u{9b}",
        "\u{1f608}\u{200d}\u{1f4a9} \u{202e}gpj.exe \u{2028}\u{2029}\u{feff}",
        "not UTF-8: \u{fffd}\u{fffd}",
        "|pipe=equals|CEF:0|a|b",
        "%s%n%msg%\t${MSG} $(id)",
        "{\"event\":{\"id\":\"e1\"}}",
        "",
    ];
    let name = HOSTILE[n % HOSTILE.len()];
    // Now and then a URL that is longer than any datagram of one packet.
    let long = if n.is_multiple_of(97) { 20_000 } else { 300 };
    let mut document = Document::new();
    document.set("@timestamp", "2026-01-02T03:04:05.123456789Z");
    document.set("event.kind", "alert");
    document.set("event.dataset", "outfall.alert");
    document.set("event.id", format!("e{n}"));
    document.set("event.severity", 73_u64);
    document.set("file.name", name);
    document.set("outfall.join.clock.offset", n as f64 / 7.0);
    document.set("url.original", format!("/{name}/{}", "x\u{e4}".repeat(long / 2)));
    document
}

/// What came of sending.
#[derive(Debug)]
pub struct Outcome {
    pub sent: usize,
    /// Alerts that were raised when the collector was killed.
    pub killed_at: usize,
    pub received: usize,
    pub duplicated: usize,
    pub seconds: f64,
    pub counted: Counters,
}

impl Outcome {
    pub fn lost(&self) -> usize {
        self.sent - self.received
    }

    /// A row of the table.
    pub fn row(&self, kind: Kind, transport: &str) -> String {
        let Self { sent, killed_at, received, duplicated, seconds, .. } = self;
        format!(
            "| {} | {} | {sent} | {killed_at} | {received} | {} | {duplicated} | {seconds:.1} |",
            kind.name(),
            transport.to_uppercase(),
            self.lost(),
        )
    }
}

/// Raises alerts, so many a second; kills the collector in the middle, and starts it again after a while.
pub fn send(collector: &mut Collector, alerts: usize, a_second: usize, down: Duration) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[store]\npath = \"{}/outfall.db\"\nqueue = 100000\n[deliver]\nsensor = \"sensor-1\"\nlongest_pause = \"500 ms\"\n\
         drain = \"20 s\"\n{}",
        folder.path().display(),
        collector.destination()
    );
    let config = Config::parse(&text, "f").unwrap();
    collector.start();
    std::thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    let delivery = started(&config);
    let (killed_at, mut restart) = (alerts / 2, None);
    for n in 0..alerts {
        delivery.put_patiently(&hostile(n));
        if n == killed_at {
            collector.kill();
            restart = Some(Instant::now() + down);
        }
        if restart.is_some_and(|at| Instant::now() >= at) {
            collector.start();
            restart = None;
        }
        let due = begin + Duration::from_secs_f64(n as f64 / a_second as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    if let Some(at) = restart {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        collector.start();
    }
    // Until nothing waits, and nothing more has come for a while.
    let mut last = (collector.count(), Instant::now());
    let until = Instant::now() + Duration::from_secs(120);
    while (delivery.counters().collectors[0].waiting > 0 || last.1.elapsed() < Duration::from_millis(1_500))
        && Instant::now() < until
    {
        std::thread::sleep(Duration::from_millis(50));
        let count = collector.count();
        if count != last.0 {
            last = (count, Instant::now());
        }
    }
    let seconds = last.1.duration_since(begin).as_secs_f64();
    let counted = delivery.finish();
    collector.kill();
    let stored = collector.stored();
    for (n, documents) in &stored {
        let sent: Value = serde_json::from_str(&hostile(*n).to_string()).unwrap();
        documents.iter().for_each(|document| assert_eq!(*document, sent));
    }
    let all: usize = stored.values().map(Vec::len).sum();
    Outcome { sent: alerts, killed_at, received: stored.len(), duplicated: all - stored.len(), seconds, counted }
}
