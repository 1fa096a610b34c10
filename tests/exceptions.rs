//! Exceptions as an analyst meets them: made, matched, passed, expired, reviewed, exported and imported.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::ffi::OsString;
use std::path::PathBuf;

use common::expect::at;
use common::{Ran, Story, outfall};
use serde_json::Value;

/// A folder with a store.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Runs `outfall exception`.
    fn exception(&self, args: &[&str]) -> Ran {
        let mut all = vec![OsString::from("exception")];
        all.extend(args.iter().map(OsString::from));
        all.extend([OsString::from("--state"), self.path("outfall.db").into()]);
        outfall(all)
    }

    /// Makes an exception for that scope.
    fn add(&self, scope: &[&str]) -> String {
        let owned = ["--owner", "Ann Meier", "--justification", "the partner takes FTP only", "--expires", "90d"];
        let ran = self.exception(&[&["add"], scope, &owned].concat()).exits(0);
        ran.text().split_whitespace().nth(1).unwrap().to_owned()
    }

    fn refuses(&self, scope: &[&str], words: &[&str]) {
        let owned = ["--owner", "Ann", "--justification", "y", "--expires", "90d"];
        self.exception(&[&["add"], scope, &owned].concat()).refuses(words);
    }
}

/// Replays the story whose alert is of ftp.exe, at 2026-11-22T23:45, with 120 kB.
fn replay(exceptions: &str, options: &[&str]) -> Ran {
    let site = Site::new();
    let file = site.write("exceptions.toml", exceptions);
    Story::named("ftp-staged-archive").replay(&[&["--exceptions", file.to_str().unwrap()], options].concat()).exits(0)
}

fn written(scope: &str, expires: &str) -> String {
    format!("[[exception]]\n{scope}\nowner = 'Ann'\njustification = 'y'\nexpires = '{expires}'\n")
}

fn text<'r>(record: &'r Value, path: &str) -> Option<&'r str> {
    at(record, path).and_then(Value::as_str)
}

const FTP: &str = "process = '*\\ftp.exe'";

#[test]
fn what_an_exception_covers_is_marked_and_only_counted() {
    let ran = replay(&written(FTP, "2027-01-01"), &["--json"]);
    let alerts = ran.dataset("outfall.alert");
    assert_eq!(alerts.len(), 1);
    assert_eq!(text(&alerts[0], "outfall.alert.suppressed_by"), Some("EX-0001"));
    let ran = replay(&written(FTP, "2027-01-01"), &[]);
    assert!(!ran.text().contains("ALERTS"), "{}", ran.text());
    assert!(ran.text().contains("suppressed 1 by 1 exception, 120 kB"), "{}", ran.text());
    for scope in ["host = 'WKS-0142'", "destination = '203.0.113.0/24'", "user = 'j.meier'\nprotocol = 'ftp'"] {
        assert!(replay(&written(scope, "2027-01-01"), &[]).text().contains("suppressed 1"), "{scope}");
    }
    for scope in ["host = 'WKS-0143'", "destination = '203.0.112.0/24'", "user = 'j.meier'\nprotocol = 'http'"] {
        assert!(!replay(&written(scope, "2027-01-01"), &[]).text().contains("suppressed"), "{scope}");
    }
}

#[test]
fn an_exception_ends_by_the_time_of_the_packets() {
    for (expires, suppressed) in [("2026-11-22T23:45:30Z", false), ("2026-11-22T23:46:30Z", true)] {
        let alerts = replay(&written(FTP, expires), &["--json"]).dataset("outfall.alert");
        assert_eq!(text(&alerts[0], "outfall.alert.suppressed_by").is_some(), suppressed, "{expires}");
    }
}

#[test]
fn above_its_ceiling_an_exception_hides_nothing_and_the_alert_says_so() {
    let ran = replay(&written(&format!("{FTP}\nceiling = '100 kB'"), "2027-01-01"), &["--json"]);
    let alert = ran.dataset("outfall.alert").pop().unwrap();
    assert_eq!(text(&alert, "outfall.alert.suppressed_by"), None);
    let reasons = at(&alert, "outfall.reasons").unwrap().as_array().unwrap();
    let reason = reasons.iter().find(|reason| reason["id"] == "exception-ceiling").unwrap();
    assert_eq!(
        (&reason["exception"], &reason["ceiling"], &reason["used"]),
        (&"EX-0001".into(), &100_000.into(), &0.into())
    );
    let enough = replay(&written(&format!("{FTP}\nceiling = '1 MB'"), "2027-01-01"), &[]);
    assert!(enough.text().contains("suppressed 1"), "{}", enough.text());
}

#[test]
fn a_file_of_exceptions_with_a_fault_stops_the_replay() {
    let site = Site::new();
    let file = site.write("bad.toml", &written("process = '*'", "2027-01-01"));
    let capture = Story::named("ftp-staged-archive").capture();
    let args = ["replay".into(), capture.into_os_string(), "--exceptions".into(), file.into_os_string()];
    outfall(args).refuses(&["bad.toml:1:1:", "too broad", "names no program"]);
}

#[test]
fn what_is_too_broad_too_long_or_wrong_is_refused_in_one_line() {
    let site = Site::new();
    site.refuses(&["--protocol", "ftp"], &["give at least one of process, destination, host and user"]);
    site.refuses(&["--destination", "198.0.0.0/8"], &["too broad", "too many addresses", "--broad"]);
    site.refuses(&["--destination", "com"], &["too broad", "anybody can register"]);
    site.refuses(&["--process", "*"], &["too broad", "names no program"]);
    let long = ["--process", "*\\a.exe", "--owner", "Ann", "--justification", "y", "--expires", "400d"];
    site.exception(&[&["add"], &long[..]].concat()).refuses(&["400 days", "365 days", "detect.longest_exception"]);
    let past = ["--process", "*\\a.exe", "--owner", "Ann", "--justification", "y", "--expires", "2020-01-01"];
    site.exception(&[&["add"], &past[..]].concat()).refuses(&["--expires", "past"]);
    site.exception(&["add", "--process", "*\\a.exe"]).exits(2).says(&["--owner", "--justification", "--expires"]);
    assert_eq!(site.add(&["--protocol", "ftp", "--broad"]), "EX-0001");
    site.exception(&["list"]).exits(0);
    site.exception(&["show", "EX-0009"]).refuses(&["EX-0009", "no such exception"]);
    Site::new().exception(&["list"]).refuses(&["outfall.db", "no such store"]);
}

#[test]
fn every_change_is_in_the_history_with_who_and_why() {
    let site = Site::new();
    let id = site.add(&["--process", "*\\agent.exe", "--ceiling", "50MB", "--by", "ann@desk"]);
    site.exception(&["renew", &id, "--expires", "120d", "--why", "renewed contract"]).exits(0);
    site.exception(&["remove", &id, "--why", "server gone", "--by", "bob"]).exits(0);
    site.exception(&["remove", &id, "--why", "again"]).refuses(&["removed before"]);
    assert_eq!(site.exception(&["list"]).exits(0).text(), "no exceptions\n");
    assert!(site.exception(&["list", "--removed"]).exits(0).text().contains("(removed)"));
    let shown: Value = serde_json::from_str(site.exception(&["show", &id, "--json"]).exits(0).text()).unwrap();
    let history = shown["history"].as_array().unwrap();
    let told: Vec<_> = history.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["who"].clone())).collect();
    assert_eq!((told[0].0, &told[0].1), ("add", &"ann@desk".into()));
    assert_eq!((told.last().unwrap().0, &told.last().unwrap().1), ("remove", &"bob".into()));
    assert_eq!(history.last().unwrap()["why"], "server gone");
    assert_eq!((told[1].0, told.len()), ("renew", 3));
    assert!(history[1]["what"].as_str().unwrap().starts_with("expires: "), "{history:?}");
    assert!(history[1]["who"].as_str().unwrap().contains('@'), "{history:?}");
    assert_eq!(site.add(&["--process", "*\\agent.exe"]), "EX-0002", "an identifier is never given twice");
}

#[test]
fn a_review_says_what_has_to_be_looked_at() {
    let site = Site::new();
    site.add(&["--process", "*\\agent.exe"]);
    site.add(&["--host", "10.0.0.0/8", "--broad"]);
    let text = site.exception(&["review", "--soon", "100d"]).exits(0);
    for line in ["2 expires-soon", "2 never-matched", "1 too-broad", "because     the partner takes FTP only"] {
        assert!(text.text().contains(line), "{line}: {}", text.text());
    }
    let records = site.exception(&["review", "--json"]).exits(0).records();
    let ids = |record: &Value| -> Vec<String> {
        record["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&records[0]), ["never-matched"]);
    assert_eq!(ids(&records[1]), ["never-matched", "too-broad"]);
}

#[test]
fn an_export_imports_to_the_same_export() {
    let (site, other) = (Site::new(), Site::new());
    site.add(&[
        "--process",
        r"C:\Program Files\B'ackup\*.exe",
        "--destination",
        "Partner.example.",
        "--ceiling",
        "50MB",
    ]);
    site.add(&["--host", "WKS-*", "--user", r"CORP\svc", "--protocol", "http"]);
    site.exception(&["remove", "EX-0001", "--why", "moved"]).exits(0);
    site.add(&["--destination", "198.51.100.7"]);
    let exported = site.exception(&["export"]).exits(0).text().to_owned();
    let file = other.write("exceptions.toml", &exported);
    let file = file.to_str().unwrap();
    let said = other.exception(&["import", file]).exits(0).text().to_owned();
    assert!(said.ends_with("2 added, 0 changed, 0 removed\n"), "{said}");
    let again = other.path("again.toml");
    other.exception(&["export", again.to_str().unwrap()]).exits(0);
    assert_eq!(std::fs::read_to_string(again).unwrap(), exported);
    let said = other.exception(&["import", file]).exits(0).text().to_owned();
    assert_eq!(said, "0 added, 0 changed, 0 removed\n", "nothing changes, and nothing is said to");
}

#[test]
fn an_import_says_what_changes_and_is_refused_whole_where_one_entry_is_bad() {
    let site = Site::new();
    site.add(&["--process", "*\\agent.exe"]);
    site.add(&["--process", "*\\other.exe"]);
    let before = site.exception(&["export"]).exits(0).text().to_owned();
    let good = written("destination = 'new.example'", "2026-12-01");
    let bad = good.replace("new.example", "co.uk");
    let file = site.write("bad.toml", &format!("{good}{bad}"));
    site.exception(&["import", file.to_str().unwrap()]).refuses(&["bad.toml:6:1:", "too broad"]);
    assert_eq!(site.exception(&["export"]).exits(0).text(), before);

    // The second is left out, the first has another owner, and a third is new.
    let first: String = before.split("\n[[exception]]").take(2).collect::<Vec<_>>().join("\n[[exception]]");
    let wanted = format!("{}\n{good}", first.replace("Ann Meier", "Eve"));
    let file = site.write("good.toml", &wanted);
    let file = file.to_str().unwrap();
    let said = site.exception(&["import", file, "--dry-run"]).exits(0).text().to_owned();
    for line in [
        "~ EX-0001 owner: Ann Meier -> Eve",
        "- EX-0002 process",
        "+ EX-0003 destination new.example",
        "nothing was done",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(site.exception(&["export"]).exits(0).text(), before);
    site.exception(&["import", file, "--why", "quarterly review", "--by", "eve"]).exits(0);
    let listed = site.exception(&["list"]).exits(0).text().to_owned();
    assert!(
        listed.contains("owner Eve") && listed.contains("new.example") && !listed.contains("other.exe"),
        "{listed}"
    );
    let shown: Value = serde_json::from_str(site.exception(&["show", "EX-0002", "--json"]).exits(0).text()).unwrap();
    let last = shown["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["action"], &last["who"], &last["why"]),
        (&"import".into(), &"eve".into(), &"quarterly review".into())
    );
    let kept = site.write("kept.toml", &written("destination = 'kept.example'", "2026-12-01"));
    let said = site.exception(&["import", kept.to_str().unwrap(), "--keep"]).exits(0).text().to_owned();
    assert!(said.ends_with("1 added, 0 changed, 0 removed\n"), "{said}");
}

#[test]
fn exceptions_that_are_made_at_once_get_an_identifier_each() {
    let site = Site::new();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let one = |_| scope.spawn(|| site.add(&["--process", "*\\agent.exe"]));
        let all: Vec<_> = (0..6).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), 6);
    assert_eq!(site.exception(&["list"]).exits(0).text().lines().count(), 6);
}

#[test]
fn an_exception_that_was_acknowledged_is_there_whenever_the_program_is_killed() {
    use std::process::{Command, Stdio};
    let site = Site::new();
    site.add(&["--process", "*\\first.exe"]);
    let mut acknowledged = vec!["first".to_owned()];
    for round in 0..40_u64 {
        let name = format!("agent-{round}");
        let mut child = Command::new(common::binary())
            .args(["exception", "add", "--process", &format!("*\\{name}.exe"), "--owner", "Ann", "--expires", "90d"])
            .args(["--justification", "y", "--state"])
            .arg(site.path("outfall.db"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From before it opens the file to after it has ended.
        std::thread::sleep(std::time::Duration::from_millis(round * 4));
        // It may have ended before.
        let _ = child.kill();
        if child.wait().unwrap().success() {
            acknowledged.push(name);
        }
    }
    let list = site.exception(&["list"]).exits(0).text().to_owned();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !list.contains(&format!("{name}.exe"))).collect();
    assert!(lost.is_empty(), "lost {lost:?}:\n{list}");
    // Each has its history, and none has another's.
    for record in site.exception(&["list", "--json"]).exits(0).records() {
        let id = record["id"].as_str().unwrap();
        let shown: Value = serde_json::from_str(site.exception(&["show", id, "--json"]).exits(0).text()).unwrap();
        assert_eq!(shown["history"].as_array().unwrap().len(), 1, "{shown}");
    }
}

/// The command that an alert's playbook gives makes an exception that covers it.
#[test]
fn the_playbooks_own_command_covers_the_alert() {
    let alerts = Story::named("ftp-staged-archive").replay(&["--json"]).exits(0).dataset("outfall.alert");
    let steps = at(&alerts[0], "outfall.alert.playbook").unwrap().as_array().unwrap().clone();
    let command = steps.iter().find_map(|step| step.as_str().unwrap().split_once("outfall exception ")).unwrap().1;
    let words = shlex::split(command).unwrap();
    let site = Site::new();
    site.exception(&words.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
    let exported = site.exception(&["export"]).exits(0).text().to_owned();
    assert!(replay(&exported, &[]).text().contains("suppressed 1"), "{exported}");
}

#[test]
fn a_replay_with_a_store_uses_its_exceptions_and_counts_what_they_hide() {
    let site = Site::new();
    site.add(&["--process", "*\\ftp.exe", "--ceiling", "1MB"]);
    let store = site.path("outfall.db");
    let story = Story::named("ftp-staged-archive");
    for _ in 0..2 {
        let ran = story.replay(&["--state", store.to_str().unwrap()]).exits(0);
        assert!(ran.text().contains("suppressed 1 by 1 exception") && !ran.text().contains("ALERTS"), "{}", ran.text());
    }
    let shown: Value = serde_json::from_str(site.exception(&["show", "EX-0001", "--json"]).exits(0).text()).unwrap();
    let hidden = &shown["hidden"];
    assert_eq!(hidden["hits"], 1, "the same alert again is none more: {hidden}");
    assert_eq!(hidden["hosts"][0]["name"], "WKS-0142");
    assert_eq!(hidden["processes"][0]["name"], r"C:\Windows\System32\ftp.exe");
    assert!(hidden["largest"]["bytes"].as_u64() > Some(100_000) && hidden["first"] == hidden["last"], "{hidden}");
    // What it covered has taught nothing: without it, there is an alert.
    site.exception(&["remove", "EX-0001", "--why", "over"]).exits(0);
    let ran = story.replay(&["--state", store.to_str().unwrap()]).exits(0);
    assert!(ran.text().contains("ALERTS"), "{}", ran.text());
}

#[test]
fn the_inventory_says_which_uploads_are_justified_though_none_of_them_was_an_alert() {
    let site = Site::new();
    let store = site.path("outfall.db");
    Story::named("backup-agent").replay(&["--state", store.to_str().unwrap()]).exits(0);
    let listed = || {
        let ran = outfall(["inventory".as_ref(), "--json".as_ref(), "--state".as_ref(), store.as_os_str()]).exits(0);
        let rows: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows
    };
    let before = listed();
    assert!(!before.is_empty() && before.iter().all(|row| row["justified_uploads"] == 0), "{before:?}");
    let destination = before[0]["destination"].as_str().unwrap().to_owned();
    site.add(&["--destination", &destination]);
    let after = listed();
    for row in &after {
        let covered = row["destination"] == destination.as_str();
        assert_eq!(row["justified_uploads"], if covered { row["uploads"].clone() } else { 0.into() }, "{row}");
        assert_eq!(row["exceptions"].as_array().unwrap().len(), usize::from(covered), "{row}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_running_sensor_takes_up_an_exception_and_delivers_nothing_that_it_covers() {
    use common::lab::{self, Lab};
    use std::time::{Duration, Instant};

    let Ok(lab) = Lab::new("exceptions", 1).map_err(|reason| common::skip("exceptions", &reason)) else { return };
    lab.ip(&["link", "set", "lo", "up"]);
    let collector = lab.inside(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    collector.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let policy = std::fs::read_to_string(common::root().join("captures/no-endpoint/policy.toml")).unwrap();
    let store = lab.folder.path().join("state/outfall.db");
    let text = format!(
        "{policy}\n[store]\npath = \"{}\"\n[[deliver.syslog]]\naddress = \"{}\"\ntransport = \"udp\"\n",
        store.display(),
        collector.local_addr().unwrap()
    );
    let config = lab.file("outfall.toml", &text);
    let exception = |args: &[&str]| {
        let all = ["exception"].iter().chain(args).map(OsString::from);
        outfall(all.chain([OsString::from("--state"), store.clone().into()])).exits(0)
    };
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    let owned = ["--owner", "Ann", "--justification", "y", "--expires", "90d"];
    let began = Instant::now();
    exception(&[&["add", "--host", "10.20.0.0/16"], &owned[..]].concat());
    sensor.says_at_last("exceptions in force: 1");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let (frames, _) = lab::frames(&Story::named("no-endpoint").capture());
    let frames: Vec<_> = frames.into_iter().map(|frame| (0, frame)).collect();
    lab.send(Instant::now(), &frames);
    let is_alert = |record: &Value| text_at(record, "event.dataset") == Some("outfall.alert");
    let alert = sensor.record("that is an alert", is_alert);
    assert_eq!(text_at(&alert, "outfall.alert.suppressed_by"), Some("EX-0001"));
    assert!(collector.recv(&mut [0; 65_536]).is_err(), "nobody is told");
    sensor.signal(nix::sys::signal::Signal::SIGHUP);
    sensor.says_at_last("exceptions in force: 1");
    exception(&["remove", "EX-0001", "--why", "over"]);
    sensor.says_at_last("exceptions in force: 0");
    let (records, _) = sensor.ends();
    let hidden = records.iter().filter(|record| is_alert(record)).count();
    let shown: Value = serde_json::from_str(exception(&["show", "EX-0001", "--json"]).text()).unwrap();
    assert_eq!(shown["hidden"]["hits"], 1, "{hidden} told: {shown}");
    assert_eq!(shown["hidden"]["hosts"][0]["hits"], 1);
    assert_eq!(shown["hidden"]["bytes"], *at(&alert, "outfall.upload.bytes").unwrap());
}

#[cfg(target_os = "linux")]
fn text_at<'r>(record: &'r Value, path: &str) -> Option<&'r str> {
    text(record, path)
}
