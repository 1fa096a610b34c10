//! The helper and an uploading program as Windows programs under Wine: what the one does, the other reports over TLS.
//!
//! `tests/windows/run` builds both and says where they are; without that, these tests are skipped.

#![cfg(all(feature = "helper", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

// The helper's own tests use the rest of it.
#[allow(dead_code)]
#[path = "helper/listener.rs"]
mod listener;
#[cfg(all(feature = "sensor", target_os = "linux"))]
#[path = "windows/story.rs"]
mod story;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use listener::{Listener, Pki};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

struct Programs {
    wine: PathBuf,
    helper: PathBuf,
    stager: PathBuf,
}

fn programs(test: &str) -> Option<Programs> {
    let of = |name| std::env::var_os(name).map(PathBuf::from);
    let found = of("OUTFALL_WINE").zip(of("OUTFALL_HELPER_EXE")).zip(of("OUTFALL_STAGER_EXE"));
    if found.is_none() {
        println!("skipped: {test}: tests/windows/run builds what it needs");
    }
    found.map(|((wine, helper), stager)| Programs { wine, helper, stager })
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // What runs a program for us hands this on to it; killed outright, it would leave the program behind.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(10);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Programs {
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.wine);
        command.arg(program).stdin(Stdio::null());
        command
    }

    fn helper(&self, arguments: &[&str], config: &str) -> Output {
        self.command(&self.helper).args(arguments).args(["--config", config]).output().unwrap()
    }
}

/// A Unix path as a program under Wine takes it.
fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display()).replace('/', "\\")
}

fn wait_until(what: &str, most: u64, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(most);
    while !holds() {
        assert!(Instant::now() < end, "not within {most} s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What an FTP server needs to take one file.
fn ftp_server() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (control, _) = listener.accept().unwrap();
        control.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut control = BufReader::new(control);
        let mut data: Option<TcpListener> = None;
        let say = |control: &mut BufReader<TcpStream>, text: &str| write!(control.get_mut(), "{text}\r\n").unwrap();
        say(&mut control, "220 ready");
        let mut line = String::new();
        while control.read_line(&mut line).is_ok_and(|length| length > 0) {
            let command = line.trim().split(' ').next().unwrap().to_uppercase();
            match command.as_str() {
                "USER" => say(&mut control, "331 password"),
                "PASS" => say(&mut control, "230 in"),
                "PASV" => {
                    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
                    let port = socket.local_addr().unwrap().port();
                    say(&mut control, &format!("227 Entering Passive Mode (127,0,0,1,{},{})", port >> 8, port & 255));
                    data = Some(socket);
                }
                "STOR" => {
                    say(&mut control, "150 go on");
                    let (mut data, _) = data.take().unwrap().accept().unwrap();
                    let mut content = Vec::new();
                    data.read_to_end(&mut content).unwrap();
                    say(&mut control, "226 done");
                    sender.send(content).unwrap();
                }
                "QUIT" => say(&mut control, "221 bye"),
                "PWD" => say(&mut control, "257 \"/\""),
                "TYPE" => say(&mut control, "200 binary"),
                _ => say(&mut control, "502 no"),
            }
            line.clear();
        }
    });
    (address, receiver)
}

/// Takes one `PUT`.
fn http_server() -> (SocketAddr, Receiver<Vec<u8>>) {
    server(|client| {
        let mut client = BufReader::new(client);
        let mut line = String::new();
        let mut length = 0;
        loop {
            line.clear();
            client.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut content = vec![0; length];
        client.read_exact(&mut content).unwrap();
        client.get_mut().write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
        (content, client.into_inner())
    })
}

fn raw_server() -> (SocketAddr, Receiver<Vec<u8>>) {
    server(|mut client| {
        let mut content = Vec::new();
        client.read_to_end(&mut content).unwrap();
        (content, client)
    })
}

fn server(serve: impl FnOnce(TcpStream) -> (Vec<u8>, TcpStream) + Send + 'static) -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (content, mut client) = serve(client);
        sender.send(content).unwrap();
        // Held until the client closes.
        let _ = client.read(&mut [0]);
    });
    (address, receiver)
}

/// A folder with certificates and a configuration that polls.
fn configure(folder: &Path, listener: &Listener, pki: &Pki) -> String {
    let (certificate, key) = pki.client("WINE-1");
    for (name, text) in [("ca.pem", pki.authority_pem()), ("host.pem", certificate), ("host.key", key)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let stage = folder.join("stage");
    std::fs::create_dir_all(&stage).unwrap();
    // ETW is asked for: Wine has none, and the helper has to notice.
    let text = format!(
        "[host]\nid = \"WINE-1\"\n[uplink]\nsensor = \"{}\"\nserver_name = \"sensor.test\"\nauthority = \"ca.pem\"\n\
         certificate = \"host.pem\"\nkey = \"host.key\"\nheartbeat = \"1 s\"\nretry_least = \"100 ms\"\n\
         [poll]\nperiod = \"100 ms\"\nfiles_period = \"250 ms\"\n[files]\nfolders = ['{}']\n",
        listener.address(),
        windows_path(&stage)
    );
    std::fs::write(folder.join("helper.toml"), text).unwrap();
    windows_path(&folder.join("helper.toml"))
}

#[test]
fn an_upload_by_three_ways_is_reported_with_process_connections_and_file() {
    let Some(programs) = programs("an upload under Wine") else { return };
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let listener = Listener::tls(&pki);
    let config = configure(folder.path(), &listener, &pki);
    let check = programs.helper(&["check"], &config);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("eventlog; etw, or else poll") && said.contains("TLS 1.3"), "{said}{check:?}");

    let helper = programs.command(&programs.helper).args(["run", "--config", &config]).spawn().unwrap();
    let _helper = Running(helper);
    let count = |kind: &str| listener.lines().iter().filter(|line| line["type"] == kind).count();
    wait_until("the processes that run already", 60, || count("process_start") > 1);

    let ((ftp, ftp_got), (put, put_got), (raw, raw_got)) = (ftp_server(), http_server(), raw_server());
    let file = folder.path().join("stage").join("quarter.7z");
    let output = programs
        .command(&programs.stager)
        .arg(windows_path(&file))
        .args([format!("ftp={ftp}"), format!("put={put}"), format!("raw={raw}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let content = std::fs::read(&file).unwrap();
    for (way, got) in [("ftp", ftp_got), ("put", put_got), ("raw", raw_got)] {
        assert!(got.recv_timeout(Duration::from_secs(10)).unwrap() == content, "{way}");
    }

    let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    wait_until("the file with its hash", 30, || listener.lines().iter().any(|line| line["sha256"] == sha256.as_str()));
    let lines = listener.lines();
    let starts: Vec<&Value> = lines.iter().filter(|line| line["type"] == "process_start").collect();
    let ends_with = |value: &Value, end: &str| value.as_str().is_some_and(|text| text.to_lowercase().ends_with(end));
    let stager = starts.iter().find(|line| ends_with(&line["image"], "\\stager.exe")).expect("the process");
    assert!(stager["command_line"].as_str().unwrap().contains("quarter.7z"), "{stager}");
    assert!(stager["sid"].as_str().unwrap().starts_with("S-1-") && stager["user"].is_string(), "{stager}");
    let (pid, start) = (&stager["pid"], &stager["start"]);
    assert!(start.is_u64());

    for (way, address) in [("ftp", ftp), ("put", put), ("raw", raw)] {
        let connection = lines.iter().find(|line| line["remote"] == address.to_string().as_str());
        let connection = connection.unwrap_or_else(|| panic!("no connection by {way}"));
        assert_eq!((&connection["pid"], &connection["start"]), (pid, start), "{way}");
        assert_eq!((&connection["initiated"], &connection["source"]), (&true.into(), &"poll".into()), "{way}");
    }
    let files: Vec<&Value> = lines.iter().filter(|line| ends_with(&line["path"], "\\quarter.7z")).collect();
    let written = files.iter().find(|line| line["op"] == "write").expect("the file");
    assert_eq!((&written["pid"], &written["start"]), (pid, start));
    let hashed = files.iter().find(|line| line["sha256"] == sha256.as_str()).unwrap();
    assert_eq!((&hashed["pid"], hashed["size"].as_u64()), (pid, Some(content.len() as u64)));
    let process = lines.iter().position(|line| line == *stager).unwrap();
    assert!(
        lines.iter().skip(process).any(|line| line["remote"] == ftp.to_string().as_str()),
        "process before connection"
    );

    wait_until("the end of the process", 30, || {
        listener.lines().iter().any(|line| line["type"] == "process_end" && line["pid"] == *pid)
    });
    // What does not work here says so.
    let beat = lines.iter().rfind(|line| line["type"] == "heartbeat").unwrap();
    let state = |name: &str| {
        let source = beat["sources"].as_array().unwrap().iter().find(|source| source["name"] == name).unwrap();
        source["state"].as_str().unwrap().to_owned()
    };
    assert!(state("etw").starts_with("failed: "), "{beat}");
    assert!(state("eventlog").starts_with("failed: "), "{beat}");
    assert!(state("poll").starts_with("running"), "{beat}");
    println!("etw: {}; eventlog: {}; poll: {}", state("etw"), state("eventlog"), state("poll"));
    println!(
        "hashed without being told who wants a file: {}; broken off: {}",
        beat["hash_untold"], beat["hash_broken_off"]
    );
}

#[test]
fn the_service_is_installed_started_stopped_and_removed() {
    let Some(programs) = programs("the service under Wine") else { return };
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let listener = Listener::tls(&pki);
    let config = configure(folder.path(), &listener, &pki);
    // Wine's service manager lives as long as any program does.
    let holder = programs.command(&programs.stager).args(["-", "wait=60"]).spawn().unwrap();
    let _holder = Running(holder);
    std::thread::sleep(Duration::from_secs(1));
    let does = |command: &str| {
        let output = programs.helper(&[command], &config);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (removed_before, _) = does("remove");
    assert!(!removed_before, "a service of an earlier run was left");
    for command in ["install", "start"] {
        assert_eq!(does(command), (true, String::new()), "{command}");
    }
    wait_until("the service's hello", 30, || !listener.hellos().is_empty());
    assert_eq!(listener.hellos()[0]["host"]["id"], "WINE-1");
    let log = || std::fs::read_to_string(folder.path().join("outfall-helper.log")).unwrap_or_default();
    wait_until("the service's log", 10, || log().contains("uplink: connected to"));
    assert_eq!(does("stop"), (true, String::new()));
    assert!(log().contains("outfall-helper ends"), "{}", log());
    assert_eq!(does("remove"), (true, String::new()));
    let (again, said) = does("stop");
    assert!(!again && said.contains("cannot open the service"), "{said}");
}
