//! The helper as a program: with a listener of the test's own, over TLS and plain, through restarts and kills.

#![cfg(feature = "helper")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[path = "helper/listener.rs"]
mod listener;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use listener::{Listener, Pki};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn helper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outfall-helper"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends the program whatever becomes of the test.
struct Running(Child);

impl Running {
    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the helper does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a configuration and a script.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, lines: &[String]) {
        std::fs::write(self.path("script.jsonl"), lines.concat()).unwrap();
    }

    fn configure(&self, sensor: &str, more: &str) {
        let text = format!(
            "[host]\nid = \"H-1\"\nname = \"PC1\"\n[uplink]\nsensor = \"{sensor}\"\nretry_least = \"50 ms\"\nretry_most = \"200 ms\"\n\
             heartbeat = \"1 s\"\n{more}\n[sources]\netw = false\neventlog = false\npoll = \"never\"\nscript = \"script.jsonl\"\n"
        );
        std::fs::write(self.path("helper.toml"), text).unwrap();
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let config = self.path("helper.toml");
        Running(helper().args(arguments).arg("--config").arg(config).spawn().unwrap())
    }

    fn output(&self, arguments: &[&str]) -> Output {
        helper().args(arguments).arg("--config").arg(self.path("helper.toml")).output().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("outfall-helper.log")).unwrap_or_default()
    }
}

/// A process that reads many files, packs them and opens a connection.
fn story(files: u64) -> Vec<String> {
    let mut lines = vec![
        "{\"type\":\"hello\",\"v\":1,\"host\":{\"id\":\"other\"},\"ts\":1}\n".to_owned(),
        r#"{"type":"process_start","ts":10,"pid":7,"start":10,"image":"C:\\7z.exe","command_line":"7z a x.7z"}"#
            .to_owned()
            + "\n",
    ];
    for n in 0..files {
        let mut line = String::new();
        writeln!(line, r#"{{"type":"file","ts":{},"pid":7,"op":"read","path":"D:\\doc{n}.txt","bytes":5}}"#, 20 + n)
            .unwrap();
        lines.push(line);
    }
    let connection = r#"{"type":"connection","ts":9000,"pid":7,"local":"192.0.2.1:5000","remote":"198.51.100.1:21","initiated":true}"#;
    lines.push(connection.to_owned() + "\n");
    lines
}

fn types(lines: &[Value]) -> Vec<&str> {
    let kinds = lines.iter().map(|line| line["type"].as_str().unwrap());
    kinds.filter(|kind| *kind != "heartbeat").collect()
}

#[test]
fn a_story_arrives_in_order_with_its_hello() {
    let place = Place::new();
    let listener = Listener::plain();
    place.script(&story(3));
    place.configure(&listener.address(), "");
    assert!(place.start(&["run", "--once"]).wait().success(), "{}", place.log());
    let lines = listener.lines();
    let expected = ["process_start", "file", "file", "file", "connection"];
    assert_eq!(types(&lines), expected, "{lines:?}\n{}", place.log());
    assert!(lines.iter().map(|line| line["seq"].as_u64().unwrap()).is_sorted());
    let file = lines.iter().find(|line| line["type"] == "file").unwrap();
    assert_eq!((&file["start"], &file["bytes"], &file["source"]), (&10.into(), &5.into(), &"script".into()));
    let hello = &listener.hellos()[0];
    assert_eq!((hello["host"]["id"].as_str(), hello["host"]["name"].as_str()), (Some("H-1"), Some("PC1")));
    let stream = hello["stream"].as_str().unwrap();
    assert!(stream.len() == 16 && stream.bytes().all(|byte| byte.is_ascii_hexdigit()), "{stream}");
    assert!(hello.get("seq").is_none() && hello["v"] == 1);
    let beat = lines.iter().find(|line| line["type"] == "heartbeat").unwrap();
    assert_eq!((&beat["dropped"], &beat["sources"][0]["name"]), (&0.into(), &"script".into()));
}

#[test]
fn tls_needs_both_certificates_to_be_the_authoritys() {
    let place = Place::new();
    let pki = Pki::new();
    place.script(&story(2));
    let listener = Listener::tls(&pki);
    let configure = |pki: &Pki| {
        let more = format!(
            "server_name = \"sensor.test\"\nauthority = '''\n{}'''\ncertificate = \"host.pem\"\nkey = \"host.key\"",
            pki.authority_pem()
        );
        let (certificate, key) = pki.client("H-1");
        std::fs::write(place.path("host.pem"), certificate).unwrap();
        std::fs::write(place.path("host.key"), key).unwrap();
        place.configure(&listener.address(), &more);
    };
    // A sensor of another authority is sent nothing.
    configure(&Pki::new());
    let mut running = place.start(&["run", "--once"]);
    let end = Instant::now() + PATIENCE;
    while !place.log().contains("no TLS with the sensor") {
        assert!(Instant::now() < end, "{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    running.0.kill().unwrap();
    running.wait();
    assert_eq!(listener.hellos().len(), 0);
    configure(&pki);
    let check = place.output(&["check"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains("TLS 1.3"), "{check:?}");
    assert!(place.start(&["run", "--once"]).wait().success(), "{}", place.log());
    // What the first run had spooled comes first.
    let lines = listener.lines();
    let kinds = types(&lines);
    assert_eq!(kinds[kinds.len() - 4..], ["process_start", "file", "file", "connection"]);
    assert!(place.log().contains("(TLS)"), "{}", place.log());
}

#[test]
fn nothing_is_lost_when_the_link_breaks_and_the_helper_is_killed() {
    const FILES: u64 = 5000;
    let place = Place::new();
    place.script(&story(FILES));
    // Each connection is cut after some lines; only some are acknowledged.
    let listener = Listener::plain();
    listener.cut_after(700);
    place.configure(&listener.address(), "");
    let running = place.start(&["run"]);
    listener.wait_for(2000, PATIENCE);
    running.kill();
    place.script(&[]);
    assert!(place.start(&["run", "--once"]).wait().success(), "{}", place.log());
    let lines = listener.lines();
    let mut paths: Vec<&str> = lines.iter().filter_map(|line| line["path"].as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len() as u64, FILES);
    assert!(listener.hellos().len() > 3);
    let streams: Vec<String> = listener.hellos().iter().map(|hello| hello["stream"].to_string()).collect();
    assert!(streams.iter().all(|stream| *stream == streams[0]));
    let order: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(order.windows(2).all(|two| two[0] < two[1]), "the listener saw a line twice or out of order");
}

#[test]
fn a_full_spool_gives_up_file_events_and_says_so() {
    let place = Place::new();
    place.script(&story(5000));
    let nowhere = Listener::plain();
    let address = nowhere.address();
    drop(nowhere);
    place.configure(&address, "[spool]\nsize = \"64 KiB\"");
    let running = place.start(&["run"]);
    let end = Instant::now() + PATIENCE;
    while !place.log().contains("given up so far") {
        assert!(Instant::now() < end, "{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    running.kill();
    let bytes: u64 = files(&place.path("spool")).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= 64 << 10, "{bytes}");
    place.script(&[]);
    let listener = Listener::plain();
    place.configure(&listener.address(), "[spool]\nsize = \"64 KiB\"");
    assert!(place.start(&["run", "--once"]).wait().success(), "{}", place.log());
    let lines = listener.lines();
    let kinds = types(&lines);
    assert!(kinds.contains(&"process_start") && kinds.contains(&"connection"));
    let arrived = kinds.iter().filter(|kind| **kind == "file").count() as u64;
    let beat = lines.iter().rfind(|line| line["type"] == "heartbeat").unwrap();
    assert_eq!(beat["dropped_by"]["files"].as_u64().unwrap() + arrived, 5000, "{beat}");
    assert_eq!((&beat["dropped_by"]["processes"], &beat["dropped_by"]["connections"]), (&0.into(), &0.into()));
}

#[test]
fn a_goodbye_is_logged_with_its_reason() {
    let place = Place::new();
    let listener = Listener::plain();
    listener.say_bye("revoked");
    place.script(&story(1));
    place.configure(&listener.address(), "");
    let running = place.start(&["run"]);
    let end = Instant::now() + PATIENCE;
    while !place.log().contains("the sensor said goodbye: revoked") {
        assert!(Instant::now() < end, "{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    running.kill();
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let place = Place::new();
    place.configure("127.0.0.1:1", "sensr = 1");
    for command in ["run", "check"] {
        let output = place.output(&[command]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains("helper.toml:9:1: unknown key `sensr`"), "{said}");
    }
    let pki = Pki::new();
    let (certificate, _) = pki.client("H-1");
    std::fs::write(place.path("host.pem"), certificate).unwrap();
    place.configure("127.0.0.1:1", "authority = \"host.pem\"\ncertificate = \"host.pem\"\nkey = \"missing.key\"");
    let output = place.output(&["check"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("uplink.key: ") && said.contains("missing.key") && said.lines().count() == 1, "{said}");
}

#[test]
fn the_default_configuration_that_it_prints_is_one() {
    let output = helper().arg("config").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    outfall::helper::config::Config::parse(&text, "printed").unwrap();
}

fn files(folder: &Path) -> Vec<std::fs::DirEntry> {
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect()
}
