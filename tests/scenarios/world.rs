//! An office in packet time: hosts that upload, day by day, and what their helpers report of it.

use std::net::SocketAddrV4;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::common::pcap::{Capture, Conversation};

/// Monday, 2 March 2026, 00:00 UTC.
const FIRST_DAY: u64 = 1_772_409_600;
const DAY: u64 = 86_400;

/// A program that uploads.
#[derive(Clone, Copy)]
pub struct Program {
    pub image: &'static str,
    pub signer: Option<&'static str>,
    pub sha256: Option<&'static str>,
    pub parent: &'static str,
}

const EXPLORER: &str = r"C:\Windows\explorer.exe";

pub const BROWSER: Program = Program {
    image: r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    signer: Some("Google LLC"),
    sha256: None,
    parent: EXPLORER,
};

/// Where an upload goes.
#[derive(Clone, Copy)]
pub struct Site {
    pub name: Option<&'static str>,
    pub address: [u8; 4],
}

/// What was done to a file before it left.
#[derive(Clone, Copy)]
pub enum Staged {
    /// Nothing is known.
    Nothing,
    /// This program wrote a file of this path, which is what is uploaded.
    Written { by: Program, path: &'static str },
}

/// One upload.
#[derive(Clone, Copy)]
pub struct Sending {
    /// 1 to 250.
    pub host: u8,
    pub user: &'static str,
    pub program: Program,
    pub site: Site,
    pub bytes: usize,
    pub staged: Staged,
    pub ftp: bool,
    /// Whether the host has a helper.
    pub helper: bool,
}

/// A day's capture, and its events.
pub struct Day {
    number: u64,
    capture: Capture,
    events: Vec<(u64, Value)>,
    hosts: std::collections::BTreeSet<u8>,
    port: u16,
    pid: u32,
}

impl Day {
    /// The first day is 0, a Monday.
    pub fn new(number: u64) -> Self {
        let (capture, events, hosts) = (Capture::default(), Vec::new(), Default::default());
        Self { number, capture, events, hosts, port: 10_000, pid: 1_000 }
    }

    /// Midnight of a day, in seconds since 1970.
    pub fn midnight(number: u64) -> u64 {
        FIRST_DAY + number * DAY
    }

    /// An upload at a time of the day, in seconds; times must not go back.
    pub fn send(&mut self, second: u64, sending: Sending) {
        let at = Self::midnight(self.number) + second;
        self.port = if self.port >= 60_000 { 10_000 } else { self.port + 2 };
        self.pid += 4;
        let client = SocketAddrV4::new([10, 20, 0, sending.host].into(), self.port);
        let server = SocketAddrV4::new(sending.site.address.into(), if sending.ftp { 21 } else { 80 });
        // What is sent differs from host to host and from day to day.
        let seed = u64::from(sending.host) << 32 | at;
        let body: Vec<u8> = (0..sending.bytes as u64).map(|n| (seed.wrapping_mul(n + 7) >> 13) as u8).collect();
        if sending.helper {
            self.report(at, client, server, sending, &body);
        }
        self.capture.at(at);
        if sending.ftp {
            self.by_ftp(client, server, sending, &body)
        } else {
            self.by_http(client, server, sending, &body)
        }
    }

    fn by_http(&mut self, client: SocketAddrV4, server: SocketAddrV4, sending: Sending, body: &[u8]) {
        let host = sending.site.name.map_or_else(|| server.ip().to_string(), str::to_owned);
        let name = file_name(sending.staged).unwrap_or("post");
        let head = format!("POST /up/{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut talk = self.capture.connect(client, server);
        talk.client(head).client(body).server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").close();
    }

    fn by_ftp(&mut self, client: SocketAddrV4, server: SocketAddrV4, sending: Sending, body: &[u8]) {
        let data = (SocketAddrV4::new(*client.ip(), client.port() + 1), SocketAddrV4::new(*server.ip(), 40_000));
        let [a, b, c, d] = server.ip().octets();
        let name = file_name(sending.staged).unwrap_or("data.bin");
        let mut control = self.capture.connect(client, server);
        control
            .server("220 ready\r\n")
            .client("USER x\r\n")
            .server("230 in\r\n")
            .client("TYPE I\r\n")
            .server("200 ok\r\n");
        control.client("PASV\r\n").server(format!("227 Entering Passive Mode ({a},{b},{c},{d},156,64)\r\n"));
        control.client(format!("STOR {name}\r\n")).server("150 go on\r\n");
        let state = control.pause();
        self.capture.connect(data.0, data.1).client(body).close();
        let mut control = Conversation::go_on(&mut self.capture, state);
        control.server("226 done\r\n").client("QUIT\r\n").server("221 bye\r\n").close();
    }

    fn report(&mut self, at: u64, client: SocketAddrV4, server: SocketAddrV4, sending: Sending, body: &[u8]) {
        let id = format!("WKS-{:03}", sending.host);
        let time = |second: u64| second * 1_000_000_000;
        if self.hosts.insert(sending.host) {
            let ips = [client.ip().to_string()];
            let hello = json!({ "type": "hello", "v": 1, "ts": time(Self::midnight(self.number)),
                "host": { "id": id, "name": id, "ips": ips } });
            self.events.push((Self::midnight(self.number), hello));
        }
        let (pid, parent) = (self.pid, self.pid + 1);
        let user = format!("CORP\\{}", sending.user);
        let mut program = |pid: u32, ppid: Option<u32>, program: &Program, image: &str, start: u64| {
            let mut event = json!({ "type": "process_start", "host.id": id, "source": "etw", "ts": time(start), "pid": pid,
                "start": time(start), "image": image, "user": user });
            if let Some(ppid) = ppid {
                event["ppid"] = ppid.into();
                event["parent_start"] = time(at - 50).into();
                event["signer"] = program.signer.map_or(Value::Null, Value::from);
                event["sha256"] = program.sha256.map_or(Value::Null, Value::from);
            }
            self.events.push((start, event));
        };
        program(parent, None, &sending.program, sending.program.parent, at - 50);
        program(pid, Some(parent), &sending.program, sending.program.image, at - 40);
        if let Staged::Written { by, path } = sending.staged {
            program(pid + 2, Some(parent), &by, by.image, at - 30);
            let file = json!({ "type": "file", "host.id": id, "source": "etw", "ts": time(at - 20), "pid": pid + 2,
                "start": time(at - 30), "op": "write", "path": path, "size": sending.bytes,
                "sha256": Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect::<String>() });
            self.events.push((at - 20, file));
        }
        let connection = json!({ "type": "connection", "host.id": id, "source": "etw", "ts": time(at), "pid": pid,
            "start": time(at - 40), "protocol": "tcp", "local": client.to_string(), "remote": server.to_string(), "initiated": true });
        self.events.push((at, connection));
        if sending.ftp {
            let local = SocketAddrV4::new(*client.ip(), client.port() + 1).to_string();
            let remote = SocketAddrV4::new(*server.ip(), 40_000).to_string();
            let connection = json!({ "type": "connection", "host.id": id, "source": "etw", "ts": time(at), "pid": pid,
                "start": time(at - 40), "protocol": "tcp", "local": local, "remote": remote, "initiated": true });
            self.events.push((at, connection));
        }
    }

    /// Writes the day as a capture and a file of events, and says where they are.
    pub fn write(&mut self, folder: &Path) -> [std::path::PathBuf; 2] {
        let [capture, events] = [folder.join("day.pcap"), folder.join("day.jsonl")];
        std::fs::write(&capture, self.capture.file()).unwrap();
        self.events.sort_by_key(|(at, _)| *at);
        let lines: Vec<String> = self.events.iter().map(|(_, event)| event.to_string()).collect();
        std::fs::write(&events, lines.join("\n") + "\n").unwrap();
        [capture, events]
    }
}

fn file_name(staged: Staged) -> Option<&'static str> {
    match staged {
        Staged::Nothing => None,
        Staged::Written { path, .. } => path.rsplit('\\').next(),
    }
}
