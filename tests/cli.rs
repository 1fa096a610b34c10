//! The command line as a user meets it: what it says of wrong input, and what it prints.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::pcap::{self, Capture};
use common::{Ran, Story, binary, expect, outfall, outfall_reading, root, run};
use serde_json::Value;

// Wrong input.

#[test]
fn a_missing_capture_is_refused_by_name() {
    outfall(["replay", "--json", "no/such/file.pcap"]).refuses(&["no/such/file.pcap"]);
}

#[test]
fn a_file_that_is_no_capture_is_refused_by_name() {
    let text = Scratch::new("notes.txt", b"These are notes, and no packets at all.\n");
    outfall([as_arg("replay"), text.arg()]).refuses(&["notes.txt", "not a pcap"]);
    outfall_reading(["replay", "-"], b"These are notes, and no packets at all.\n").refuses(&["not a pcap"]);
}

#[test]
fn an_empty_file_is_refused_by_name() {
    let empty = Scratch::new("empty.pcap", b"");
    outfall([as_arg("replay"), as_arg("--json"), empty.arg()]).refuses(&["empty.pcap", "empty"]);
}

#[test]
fn one_bad_file_among_several_is_refused_before_any_output() {
    let text = Scratch::new("notes.txt", b"These are notes, and no packets at all.\n");
    let good = ftp_story().capture();
    outfall([as_arg("replay"), as_arg("--json"), good.into(), text.arg()]).refuses(&["notes.txt"]);
}

#[test]
fn a_folder_in_place_of_a_capture_is_refused_by_name() {
    outfall(["replay", "captures"]).refuses(&["captures"]);
}

#[test]
fn a_capture_without_packets_is_no_error() {
    let file = Scratch::new("none.pcap", &Capture::default().file());
    assert_eq!(outfall([as_arg("replay"), as_arg("--json"), file.arg()]).exits(0).text(), "");
}

#[test]
fn a_truncated_capture_gives_its_uploads_and_a_warning() {
    let story = ftp_story();
    let whole = std::fs::read(story.capture()).unwrap();
    let cut = Scratch::new("cut.pcap", &whole[..whole.len() - 7]);
    let ran = outfall([as_arg("replay"), as_arg("--json"), cut.arg()]).exits(0);
    ran.says(&["warning", "cut.pcap", "breaks off"]);
    assert_eq!(bytes_of_uploads(&ran), bytes_of_uploads(&outfall(replay_json(&story.capture())).exits(0)));
    // Without --json the summary counts it.
    let human = outfall([as_arg("replay"), cut.arg()]).exits(0);
    assert!(human.text().contains("1 captures cut off within a packet"), "{}", human.text());
}

#[test]
fn a_refused_configuration_is_named_with_line_and_column() {
    let config = Scratch::new("policy.toml", b"[replay]\nworkers = 0\n");
    let args = [as_arg("replay"), ftp_story().capture().into(), as_arg("--config"), config.arg()];
    outfall(args).refuses(&["policy.toml:2:11:", "replay.workers", "at least 1"]);
    outfall([as_arg("config"), as_arg("check"), config.arg()]).refuses(&["policy.toml:2:11:", "replay.workers"]);
}

#[test]
fn an_unknown_key_is_refused_with_the_key_that_was_meant() {
    let config = Scratch::new("policy.toml", b"[detect]\n\ndata_transfer_size_treshold = \"5 MB\"\n");
    let args = [as_arg("replay"), ftp_story().capture().into(), as_arg("--config"), config.arg()];
    outfall(args).refuses(&["policy.toml:3:1:", "data_transfer_size_treshold", "data_transfer_size_threshold"]);
}

#[test]
fn a_missing_configuration_is_refused_by_name() {
    let capture = ftp_story().capture();
    outfall([as_arg("replay"), capture.into(), as_arg("--config"), as_arg("no/such.toml")]).refuses(&["no/such.toml"]);
}

#[test]
fn a_missing_event_file_is_refused_by_name() {
    let capture = ftp_story().capture();
    let args = [as_arg("replay"), capture.into(), as_arg("--endpoint"), as_arg("no/such.jsonl")];
    outfall(args).refuses(&["no/such.jsonl"]);
}

#[test]
fn standard_input_can_be_only_one_of_the_inputs() {
    let bytes = std::fs::read(ftp_story().capture()).unwrap();
    outfall_reading(["replay", "-", "-"], &bytes).refuses(&["standard input"]);
    outfall_reading(["replay", "-", "--endpoint", "-"], &bytes).refuses(&["standard input"]);
}

#[test]
fn malformed_event_lines_are_reported_and_counted_and_change_nothing_else() {
    let story = ftp_story();
    let clean = story.replay(&["--json"]).exits(0);
    let events = std::fs::read_to_string(story.capture().with_file_name("endpoint.jsonl")).unwrap();
    let mut lines: Vec<&str> = events.lines().collect();
    lines.insert(3, "{\"type\": \"connection\", \"ts\":");
    lines.insert(1, "no JSON at all \u{1b}[31m");
    let bad = Scratch::new("events.jsonl", (lines.join("\n") + "\n{\"type\":\"of tomorrow\"}\n\u{0}\n").as_bytes());
    let args = || [as_arg("replay"), story.capture().into(), as_arg("--endpoint"), bad.arg()];
    let ran = outfall(args().into_iter().chain([as_arg("--json")])).exits(0);
    assert_eq!(ran.text(), clean.text(), "records");
    for line in [2, 5, lines.len() + 2] {
        ran.says(&[&format!("events.jsonl:{line}: not an event")]);
    }
    ran.says(&["unknown type \"of tomorrow\""]);
    assert_no_control_characters(&ran.stderr);
    let human = outfall(args()).exits(0);
    for count in ["3 endpoint records malformed", "1 endpoint lines of unknown type"] {
        assert!(human.text().contains(count), "{}", human.text());
    }
}

#[test]
fn warnings_that_are_not_listed_are_said_to_be_missing() {
    let story = ftp_story();
    let bad = Scratch::new("events.jsonl", &b"no event\n".repeat(5000));
    let args = [as_arg("replay"), as_arg("--json"), story.capture().into(), as_arg("--endpoint"), bad.arg()];
    let ran = outfall(args).exits(0);
    assert!(ran.stderr.lines().count() < 200, "{} lines", ran.stderr.lines().count());
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.contains("further") || last.contains("more") || last.contains("5000"), "the last line is: {last}");
}

#[test]
fn an_unknown_option_and_no_capture_at_all_are_wrong_usage() {
    outfall(["replay", "--jsn", "x.pcap"]).exits(2).says(&["--jsn", "--json"]);
    outfall(["replay"]).exits(2).says(&["usage"]);
    outfall(["replay", "--workers", "none", "x.pcap"]).exits(2).says(&["--workers"]);
}

// The same packets in other wrappings.

#[test]
fn standard_input_gives_what_the_file_gives() {
    let story = ftp_story();
    let file = outfall(replay_json(&story.capture())).exits(0);
    assert!(!file.stdout.is_empty());
    let bytes = std::fs::read(story.capture()).unwrap();
    assert_eq!(outfall_reading(["replay", "--json", "--flows", "-"], &bytes).exits(0).text(), file.text());
    assert_eq!(outfall_reading(["replay", "--json", "--flows", "-"], &gzip(&bytes)).exits(0).text(), file.text());
}

#[test]
fn compressed_captures_give_what_plain_ones_give() {
    for name in ["ftp-staged-archive", "http-chunked-put"] {
        let capture = Story::named(name).capture();
        let plain = outfall(replay_json(&capture)).exits(0);
        let bytes = std::fs::read(&capture).unwrap();
        let gz = Scratch::new("capture.pcap.gz", &gzip(&bytes));
        assert_eq!(outfall(replay_json(&gz.path)).exits(0).text(), plain.text(), "{name}.gz");
        let zst = Scratch::new("capture.pcap.zst", &zstd::encode_all(&bytes[..], 3).unwrap());
        assert_eq!(outfall(replay_json(&zst.path)).exits(0).text(), plain.text(), "{name}.zst");
    }
}

#[test]
fn several_captures_are_merged_by_time() {
    let capture = Story::named("ftp-lftp-parallel").capture();
    let (header, records) = pcap::parse(&std::fs::read(&capture).unwrap());
    let whole = outfall(replay_json(&capture)).exits(0);
    let (first, second) = records.split_at(records.len() / 2);
    let [first, second] = [first, second].map(|half| pcap::build(&header, half));
    // Packet by packet in turn; those of one moment stay together, as only then their order is known.
    let mut turns = [Vec::new(), Vec::new()];
    let mut turn = 0;
    for (n, record) in records.iter().enumerate() {
        turn = if n > 0 && records[n - 1].time() == record.time() { turn } else { 1 - turn };
        turns[turn].push(record);
    }
    let [even, odd] = turns.map(|records| pcap::build(&header, records));
    for [one, other] in [[&first, &second], [&second, &first], [&even, &odd], [&odd, &even]] {
        let (one, other) = (Scratch::new("one.pcap", one), Scratch::new("other.pcap", other));
        let ran = outfall(replay_json(&one.path).into_iter().chain([other.arg()])).exits(0);
        assert_eq!(ran.text(), whole.text());
    }
}

// What is printed for people.

#[test]
fn the_readable_output_has_the_uploads_the_alerts_and_a_summary() {
    let ran = ftp_story().replay(&[]).exits(0);
    let text = ran.text();
    for word in ["old.7z", "ftp.exe", "7z.exe", "203.0.113.21", "data-staged", "ALERTS", "SUMMARY"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    for word in ["packets", "flows", "uploads", "attributed", "lost"] {
        assert!(text.to_lowercase().contains(word), "the summary lacks {word}:\n{text}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_is_taken_to_be() {
    for story in Story::all() {
        // Not a terminal: 80 columns are taken, whether the environment says so or not.
        for columns in [None, Some("80")] {
            let mut command = Command::new(binary());
            command.arg("replay").arg(story.capture()).args(story.context()).env_remove("COLUMNS");
            if let Some(columns) = columns {
                command.env("COLUMNS", columns);
            }
            let ran = run(command, &[]).exits(0);
            for line in ran.text().lines().chain(ran.stderr.lines()) {
                assert!(line.chars().count() <= 80, "{}: {} columns: {line}", story.name, line.chars().count());
            }
            assert_no_control_characters(ran.text());
            assert_no_control_characters(&ran.stderr);
        }
    }
}

#[test]
fn a_narrow_table_keeps_ports_and_sizes_whole() {
    let story = Story::named("active-ftp-v6");
    let text = story.replay(&[]).exits(0).text().to_owned();
    let upload = &story.replay(&["--json"]).exits(0).dataset("outfall.upload")[0];
    for field in ["source.port", "destination.port"] {
        let port = expect::at(upload, field).unwrap().to_string();
        assert!(words(&text).any(|word| word == port), "{field} {port} is missing in\n{text}");
    }
}

#[test]
fn nothing_from_the_wire_can_command_a_terminal() {
    let file = Scratch::new("hostile.pcap", &hostile_names().file());
    let args = || [as_arg("replay"), file.arg()];
    let json = outfall(args().into_iter().chain([as_arg("--json")])).exits(0);
    assert_eq!(json.dataset("outfall.upload").len(), 2, "{}", json.text());
    let ran = outfall(args()).exits(0);
    assert!(ran.text().contains("evil"), "{}", ran.text());
    assert_no_control_characters(ran.text());
    assert_no_control_characters(&ran.stderr);
}

#[test]
fn a_password_is_never_printed() {
    let file = Scratch::new("secret.pcap", &hostile_names().file());
    for options in [&["--json", "--flows"][..], &[]] {
        let args = [as_arg("replay"), file.arg()].into_iter().chain(options.iter().map(OsString::from));
        let ran = outfall(args).exits(0);
        assert!(!(ran.text().to_owned() + &ran.stderr).contains("hunter2"), "{}\n{}", ran.text(), ran.stderr);
    }
}

#[test]
fn a_reader_that_stops_early_ends_the_program_quietly() {
    // Far more than a pipe holds.
    let mut capture = Capture::default();
    for n in 0..3000 {
        let mut connection = capture.connect(client(n), server(80));
        connection.client("PUT /f HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello");
        connection.server("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").close();
    }
    let file = Scratch::new("many.pcap", &capture.file());
    for options in [&["--json"][..], &[]] {
        let mut command = Command::new(binary());
        command.arg("replay").args(options).arg(&file.path);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
        out.read_line(&mut first).unwrap();
        drop(out);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert!(!first.trim().is_empty());
        assert!(status.success(), "{options:?}: {status}: {stderr}");
        for word in ["pipe", "panic", "error"] {
            assert!(!stderr.to_lowercase().contains(word), "{options:?}: {stderr}");
        }
    }
}

// The other commands.

#[test]
fn the_default_configuration_passes_its_own_check() {
    let default = outfall(["config", "default"]).exits(0);
    let checked = outfall_reading(["config", "check", "/dev/stdin"], &default.stdout).exits(0);
    assert_eq!(checked.text(), "/dev/stdin: ok\n");
    // And gives what no configuration gives.
    let file = Scratch::new("default.toml", &default.stdout);
    let story = ftp_story();
    let args = || replay_json(&story.capture());
    let with = outfall(args().into_iter().chain([as_arg("--config"), file.arg()])).exits(0);
    assert_eq!(with.text(), outfall(args()).exits(0).text());
}

#[test]
fn every_command_explains_itself() {
    let mut waiting = vec![Vec::new()];
    let mut seen = Vec::new();
    while let Some(path) = waiting.pop() {
        let ran = outfall(path.iter().map(String::as_str).chain(["--help"])).exits(0);
        assert!(ran.text().contains("Usage: outfall"), "{path:?}: {}", ran.text());
        assert_eq!(ran.stderr, "");
        for command in commands(ran.text()).filter(|command| command != "help") {
            waiting.push(path.iter().cloned().chain([command]).collect());
        }
        seen.push(path.join(" "));
    }
    for command in ["replay", "config default", "config check"] {
        assert!(seen.iter().any(|seen| seen == command), "{command} is not among {seen:?}");
    }
    assert!(outfall(["--version"]).exits(0).text().contains(env!("CARGO_PKG_VERSION")));
}

// Helpers.

/// A file of a test's own, which goes when it is dropped.
struct Scratch {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self { path, _folder: folder }
    }

    fn arg(&self) -> OsString {
        self.path.clone().into()
    }
}

fn ftp_story() -> Story {
    Story::named("ftp-staged-archive")
}

fn as_arg(text: &str) -> OsString {
    text.into()
}

fn replay_json(capture: &Path) -> Vec<OsString> {
    vec![as_arg("replay"), as_arg("--json"), as_arg("--flows"), capture.into()]
}

fn bytes_of_uploads(ran: &Ran) -> Vec<Value> {
    let uploads = ran.dataset("outfall.upload");
    assert!(!uploads.is_empty());
    uploads.iter().map(|upload| expect::at(upload, "outfall.upload.bytes").unwrap().clone()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn client(n: usize) -> SocketAddrV4 {
    SocketAddrV4::new([10, 20, 0, 5].into(), 20_000 + n as u16)
}

fn server(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([203, 0, 113, 9].into(), port)
}

/// An FTP and an HTTP upload whose names hold commands for terminals, and a password each.
fn hostile_names() -> Capture {
    let mut capture = Capture::default();
    let mut control = capture.connect(client(0), server(21));
    control.server("220 ready \u{1b}]0;title\u{7}\r\n").client("USER ev\u{1b}[31mil\r\n").server("331 password\r\n");
    control.client("PASS hunter2\r\n").server("230 in\r\n").client("PASV\r\n");
    control.server("227 Entering Passive Mode (203,0,113,9,160,0)\r\n");
    control.client("STOR evil\u{1b}[2J\u{8}\u{7f}\u{9b}31m\u{202e}.7z\r\n");
    capture.connect(client(1), server(160 * 256)).client("x".repeat(3000)).close();
    let part = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"evil\u{1b}]0;t\u{7}\u{85}.zip\"\r\n\r\ndata\r\n--b--\r\n";
    let mut http = capture.connect(client(2), server(8080));
    http.client(format!(
        "POST http://me:hunter2@a.example/up HTTP/1.1\r\nHost: a.example\r\nUser-Agent: evil\u{9b}2J\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{part}",
        part.len()
    ));
    http.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").close();
    capture
}

#[track_caller]
fn assert_no_control_characters(text: &str) {
    for (number, line) in text.lines().enumerate() {
        let bad: Vec<char> = line.chars().filter(|c| c.is_control() || is_direction(*c)).collect();
        assert!(bad.is_empty(), "line {} holds {bad:?}: {line:?}", number + 1);
    }
}

/// Whether a character turns the direction of writing, with which a name can be made to look like another.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
}

/// The names under "Commands:" of a help text.
fn commands(help: &str) -> impl Iterator<Item = String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next().map(str::to_owned))
}

#[test]
fn the_readme_shows_what_its_first_command_prints() {
    let story = Story::named("ftp-staged-archive");
    let endpoint = story.capture().with_file_name("endpoint.jsonl");
    let ran = outfall(&[as_arg("replay"), story.capture().into(), as_arg("--endpoint"), endpoint.into()]).exits(0);
    let readme = std::fs::read_to_string(common::root().join("README.md")).unwrap();
    let printed = String::from_utf8(ran.stdout).unwrap();
    assert!(readme.contains(printed.trim_end()), "README.md does not show:\n{printed}");
}

#[test]
fn a_flow_is_reported_whatever_it_speaks_and_with_its_process_where_known() {
    let story = Story::named("ftp-staged-archive");
    let flows = story.replay(&["--json", "--flows"]).exits(0).dataset("outfall.flow");
    let told = |flow: &serde_json::Value| {
        let text = |pointer: &str| flow.pointer(pointer).and_then(|v| v.as_str()).unwrap_or("-").to_owned();
        (text("/network/protocol"), text("/process/name"))
    };
    let mut all: Vec<_> = flows.iter().map(told).collect();
    all.sort();
    let ftp = "ftp.exe".to_owned();
    assert_eq!(all, [("ftp".to_owned(), ftp.clone()), ("ftp-data".to_owned(), ftp)]);

    let story = Story::named("ftp-tls");
    let flows = story.replay(&["--json", "--flows"]).exits(0).dataset("outfall.flow");
    assert!(flows.iter().any(|flow| told(flow).0 == "tls"), "{flows:?}");
}

// What is kept.

#[test]
fn what_a_replay_keeps_can_be_listed_and_its_counts_agree() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("outfall.db");
    let story = ftp_story();
    for _ in 0..2 {
        let replay = [as_arg("replay"), as_arg("--state"), state.clone().into(), story.capture().into()];
        outfall(replay).exits(0);
        let listed = |form: &str| outfall([as_arg("inventory"), as_arg("--state"), state.clone().into(), as_arg(form)]);
        let rows: Vec<Value> =
            listed("--json").exits(0).text().lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        let uploads: u64 = rows.iter().map(|row| row["uploads"].as_u64().unwrap()).sum();
        assert!(uploads > 0 && listed("--csv").exits(0).text().lines().count() == rows.len() + 1);
        let status = [as_arg("baseline"), as_arg("status"), as_arg("--json"), as_arg("--state"), state.clone().into()];
        let status: Value = serde_json::from_str(outfall(status).exits(0).text()).unwrap();
        assert_eq!(status["learning"], true);
        assert!(status["uploads_taught"].as_u64().unwrap() + status["uploads_alerted"].as_u64().unwrap() >= uploads);
    }
    outfall([as_arg("inventory"), as_arg("--state"), as_arg("no/such.db")]).refuses(&["no/such.db", "no such file"]);
}

#[test]
fn coverage_says_of_each_host_what_is_known_its_lag_and_its_losses() {
    let folder = root().join("captures/ftp-staged-archive");
    let (capture, events) = (folder.join("capture.pcap"), folder.join("endpoint.jsonl"));
    let ran = outfall(["coverage".as_ref(), capture.as_os_str(), "--endpoint".as_ref(), events.as_os_str()]).exits(0);
    for part in ["WKS-0142", "2 of 2", "120 kB of 120 kB", "helper, 25 events", "clock event: +0.0 s (2 flows)", "ALL"]
    {
        assert!(ran.text().contains(part), "{part}: {}", ran.text());
    }
    let ran = outfall(["coverage".as_ref(), capture.as_os_str()]).exits(0);
    assert!(ran.text().contains("no-endpoint") && ran.text().contains("0 of 2"), "why not: {}", ran.text());
}
