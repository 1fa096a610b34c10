//! The listener of a running sensor: who gets in, who does not, what is stored, and what bad clients can do to good ones.

#![cfg(all(feature = "sensor", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::helper::{Helper, connect, event, events, hello, tls};
use common::lab::{self, Lab, Sensor};
use common::{Story, expect, skip};
use outfall::endpoint::authority::{Authority, Credentials};
use outfall::endpoint::listener::{Kind, Past, journal_folder};
use outfall::net::{Span, Timestamp};
use serde_json::Value;

const STREAM: u64 = 0x0123_4567_89ab_cdef;

/// A sensor's site: its network, its state directory and its settings.
struct Site {
    lab: Lab,
    state: PathBuf,
    config: PathBuf,
}

impl Site {
    fn new(test: &str, settings: &str) -> Option<Self> {
        let lab = Lab::new(test, 1).map_err(|reason| skip(test, &reason)).ok()?;
        lab.ip(&["link", "set", "lo", "up"]);
        let state = lab.folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let site = Self { config: lab.folder.path().join("outfall.toml"), state, lab };
        site.configure(settings);
        Some(site)
    }

    fn configure(&self, settings: &str) {
        let text = format!(
            "[listener]\nstate = \"{}\"\ntls = [\"127.0.0.1:0\"]\n\
             local = [\"127.0.0.1:0\", \"{}\"]\ncommit = \"20 ms\"\nacknowledge = \"100 ms\"\n{settings}",
            self.state.display(),
            self.socket().display()
        );
        std::fs::write(&self.config, text).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.lab.folder.path().join("events.sock")
    }

    fn authority(&self) -> Authority {
        Authority::open(&self.state).unwrap()
    }

    fn enroll(&self, host: &str) -> Credentials {
        self.authority().enroll(host, later(1_000)).unwrap()
    }

    /// Starts the sensor: it, its TLS address and its loopback address.
    fn sensor(&self) -> (Sensor, SocketAddr, SocketAddr) {
        let mut sensor = self.lab.sensor(&["--config".into(), OsString::from(&self.config)]);
        let line = sensor.says("listening on");
        let (_, places) = line.split_once("listening on ").unwrap();
        let places: Vec<SocketAddr> =
            places.split(", ").filter_map(|place| place.split(' ').next()?.parse().ok()).collect();
        (sensor, places[0], places[1])
    }

    fn helper(&self, address: SocketAddr, own: &Credentials) -> Helper {
        Helper::new(tls(self.lab.inside(|| connect(address)), &own.authority, Some(own)))
    }

    fn plain(&self, address: SocketAddr) -> Helper {
        Helper::new(self.lab.inside(|| connect(address)))
    }

    /// Numbers of a stream that are in the journal, in order.
    fn journal(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        let past = Past::of(&journal_folder(&self.state)).unwrap();
        past.read(|_, entry| {
            if entry.kind == Kind::Stream {
                let lines = entry.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                let lines = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap());
                numbers.extend(lines.filter_map(|line| line["seq"].as_u64()));
            }
            true
        })
        .unwrap();
        numbers
    }
}

fn later(seconds: u64) -> Timestamp {
    Timestamp(lab::now()).after(Span::seconds(seconds))
}

/// A count of the last line of the listener's counters.
fn count(said: &str, name: &str) -> u64 {
    let line = said.lines().rfind(|line| line.contains("counters listener ")).expect(said);
    line.split(' ').find_map(|field| field.strip_prefix(&format!("{name}="))).map_or(0, |count| count.parse().unwrap())
}

/// Sends a story while its helper, whose clock is so many seconds ahead, reports over TLS; gives the process that the alert
/// names, and what the sensor said.
fn story_over_tls(site: &Site, ahead: u64) -> (Option<Value>, String) {
    let story = Story::named("ftp-staged-archive");
    let (frames, first) = lab::frames(&story.capture());
    let text = std::fs::read_to_string(&story.context()[1]).unwrap();
    let mut hello: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let own = site.enroll(hello["host"]["id"].as_str().unwrap());
    let (mut sensor, address, _) = site.sensor();
    let mut helper = site.helper(address, &own);
    let ahead = ahead * 1_000_000_000;
    hello["stream"] = format!("{STREAM:016x}").into();
    hello["ts"] = (lab::now() + ahead).into();
    hello.as_object_mut().unwrap().remove("seq");
    assert!(helper.say(&format!("{hello}\n")));
    let (start, shift) = (Instant::now() + Duration::from_secs(1), lab::now() + 1_000_000_000 - first);
    for (seq, line) in lab::later(&text, shift + ahead).lines().enumerate().skip(1) {
        let mut event: Value = serde_json::from_str(line).unwrap();
        event["seq"] = seq.into();
        if event["type"] == "heartbeat" {
            // The story's comes later than it is told here.
            event["ts"] = (lab::now() + ahead).into();
        }
        assert!(helper.say(&format!("{event}\n")));
    }
    helper.stored(text.lines().count() as u64 - 1);
    site.lab.send(start, &frames.into_iter().map(|frame| (0, frame)).collect::<Vec<_>>());
    let is_alert = |record: &Value| expect::at(record, "event.dataset") == Some(&"outfall.alert".into());
    let alert = sensor.record("that is an alert", is_alert);
    let (_, said) = sensor.ends();
    assert_eq!(helper.ended(), "stopping");
    assert_eq!(count(&said, "events"), text.lines().count() as u64, "{said}");
    (expect::at(&alert, "process.name").cloned(), said)
}

#[test]
fn events_of_a_helper_name_the_process_behind_an_upload() {
    let Some(site) = Site::new("join", "[join]\ngrace = \"1 s\"\n") else { return };
    let (process, said) = story_over_tls(&site, 0);
    assert_eq!(process, Some("ftp.exe".into()), "{said}");
}

#[test]
fn a_clock_that_is_off_is_told_by_the_helpers_hello() {
    let settings = "[join]\ngrace = \"3 s\"\nconnection_window = \"5 s\"\n";
    let Some(site) = Site::new("clock", settings) else { return };
    let (process, said) = story_over_tls(&site, 100);
    assert_eq!(process, Some("ftp.exe".into()), "{said}");
}

#[test]
fn only_a_listed_valid_certificate_of_the_sensors_own_authority_gets_in() {
    let Some(site) = Site::new("certs", "") else { return };
    let authority = site.authority();
    let good = site.enroll("good");
    let expired = authority.enroll("expired", Timestamp(lab::now()).before(Span::seconds(5))).unwrap();
    let revoked = site.enroll("revoked");
    authority.revoke("revoked").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut foreign = Authority::open(elsewhere.path()).unwrap().enroll("good", later(1_000)).unwrap();
    // One that the authority signed, but whose enrolment is not known here.
    let roll = std::fs::read(site.state.join("enrolled.jsonl")).unwrap();
    let unlisted = site.enroll("unlisted");
    std::fs::write(site.state.join("enrolled.jsonl"), roll).unwrap();
    // The sensor's own is none of a helper.
    let read = |name: &str| std::fs::read_to_string(site.state.join(name)).unwrap();
    let sensors = Credentials { certificate: read("sensor.crt"), key: read("sensor.key"), ..good.clone() };
    foreign.authority.clone_from(&good.authority);
    let (sensor, address, _) = site.sensor();
    for (own, what) in [
        (Some(&expired), "expired"),
        (Some(&revoked), "revoked"),
        (Some(&foreign), "foreign"),
        (Some(&unlisted), "unlisted"),
        (Some(&sensors), "the sensor's"),
        (None, "none"),
    ] {
        let mut helper = Helper::new(tls(site.lab.inside(|| connect(address)), &good.authority, own));
        helper.say(&hello("good", STREAM));
        assert!(!helper.ended().contains("stopping"), "{what}");
        assert_eq!(helper.acknowledged, 0, "{what}");
    }
    let mut helper = site.helper(address, &good);
    helper.hello("good", STREAM);
    helper.say(&event(1));
    helper.stored(1);
    let mut liar = site.helper(address, &good);
    liar.say(&hello("other", STREAM));
    assert_eq!(liar.ended(), "wrong-host");
    // What is no TLS at all, and what is none of this kind.
    let mut plain = site.plain(address);
    plain.say(&hello("good", STREAM));
    plain.ended();
    let (_, said) = sensor.ends();
    for (name, expected) in [
        ("expired-certificate", 1),
        ("revoked-certificate", 1),
        ("foreign-certificate", 2),
        ("unlisted-certificate", 1),
        ("no-certificate", 1),
        ("wrong-host", 1),
        ("tls", 1),
        // The good one's hello and its event.
        ("events", 2),
    ] {
        assert_eq!(count(&said, name), expected, "{name}: {said}");
    }
    assert_eq!(site.journal(), [1]);
}

#[test]
fn a_host_that_is_revoked_is_dropped_within_seconds() {
    let Some(site) = Site::new("revoke", "") else { return };
    let (own, other) = (site.enroll("WKS-1"), site.enroll("WKS-2"));
    let (sensor, address, _) = site.sensor();
    let (mut helper, mut stays) = (site.helper(address, &own), site.helper(address, &other));
    helper.hello("WKS-1", STREAM);
    stays.hello("WKS-2", STREAM);
    let mut command = Command::new(common::binary());
    command.args(["enroll", "WKS-1", "--revoke", "--config"]).arg(&site.config);
    common::run(command, &[]).exits(0);
    let begin = Instant::now();
    assert_eq!(helper.ended(), "revoked-certificate");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let mut again = site.helper(address, &own);
    again.say(&hello("WKS-1", STREAM));
    assert_eq!(again.ended(), "revoked-certificate");
    stays.say(&event(1));
    stays.stored(1);
    // Enrolled anew while the sensor runs, it gets in again.
    let own = site.enroll("WKS-1");
    std::thread::sleep(Duration::from_millis(2_500));
    site.helper(address, &own).hello("WKS-1", STREAM);
    sensor.ends();
}

#[test]
fn bad_clients_are_dropped_with_a_reason_and_a_good_one_goes_on() {
    let settings = "idle_timeout = \"2 s\"\nhandshake_timeout = \"2 s\"\nmalformed = 10\nmax_line = \"4 KiB\"\n\
                    connections = 24\nhandshakes = 8\nrate = 1000\nwrite_timeout = \"1 s\"\n";
    let Some(site) = Site::new("bad", settings) else { return };
    let (good, bad) = (site.enroll("good"), site.enroll("bad"));
    let (sensor, address, local) = site.sensor();
    let mut helper = site.helper(address, &good);
    helper.hello("good", STREAM);
    let mut sent = 0;
    let mut goes_on = |helper: &mut Helper| {
        assert!(helper.say(&events(sent + 1..sent + 51)));
        sent += 50;
        helper.stored(sent);
    };
    goes_on(&mut helper);

    // Malformed.
    let mut client = site.helper(address, &bad);
    client.hello("bad", 1);
    client.say(&"nonsense\n".repeat(10));
    assert_eq!(client.ended(), "malformed");
    let mut client = site.helper(address, &bad);
    client.say("{\"type\":\"heartbeat\",\"seq\":1,\"ts\":1}\n");
    assert_eq!(client.ended(), "no-hello");
    goes_on(&mut helper);

    // Greedy: a line without an end, and everything at once.
    let mut client = site.helper(address, &bad);
    client.hello("bad", 1);
    for _ in 0..100 {
        if !client.say(&"x".repeat(4_096)) {
            break;
        }
    }
    assert_eq!(client.ended(), "endless-line");
    let mut client = site.helper(address, &bad);
    client.hello("bad", 2);
    let begin = Instant::now();
    for block in 0..6 {
        client.say(&events(block * 500 + 1..block * 500 + 501));
        goes_on(&mut helper);
    }
    while client.acknowledged < 3_000 {
        goes_on(&mut helper);
        client.answer(Duration::from_millis(100));
    }
    assert!(begin.elapsed() >= Duration::from_millis(1_800), "3,000 events in {:?}", begin.elapsed());
    goes_on(&mut helper);

    // Silent: before it says who it is, after it has, and with half a line.
    let mut mute: Vec<Helper> = vec![site.plain(address), site.plain(local), site.plain(local)];
    mute[2].say("{\"type\":");
    let mut half = site.helper(address, &bad);
    half.hello("bad", 3);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        goes_on(&mut helper);
        half.say("x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(half.ended(), "slow");
    let reasons: Vec<String> = mute.iter_mut().map(Helper::ended).collect();
    assert_eq!(reasons, ["", "handshake-timeout", "handshake-timeout"]);
    let mut quiet = site.plain(local);
    quiet.hello("quiet", 1);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        goes_on(&mut helper);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(quiet.ended(), "silent");

    // Many: who says nothing gives way to who comes later, and those that stay fill the rest up to the bound.
    let mut crowd: Vec<Helper> = (0..20).map(|_| site.plain(local)).collect();
    goes_on(&mut helper);
    assert_eq!(crowd.iter_mut().take(12).map(Helper::ended).filter(String::is_empty).count(), 12);
    drop(crowd);
    let mut others: Vec<Helper> = (0..23).map(|_| site.plain(local)).collect();
    for (n, other) in others.iter_mut().enumerate() {
        other.say(&hello(&format!("host{n}"), 1));
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut late = site.plain(local);
    late.say(&hello("late", 1));
    goes_on(&mut helper);
    drop(others);
    assert_eq!(helper.bye, None);
    let (_, said) = sensor.ends();
    for name in ["malformed", "no-hello", "endless-line", "slow", "silent", "handshake-timeout", "crowded-out", "paced"]
    {
        assert!(count(&said, name) > 0, "{name}: {said}");
    }
    assert_eq!(count(&said, "missing"), 0, "{said}");
    assert!(said.contains("connections refused or dropped"), "{said}");
}

#[test]
fn the_number_of_connections_is_bounded() {
    let Some(site) = Site::new("full", "connections = 4\n") else { return };
    let (sensor, _, local) = site.sensor();
    let mut all: Vec<Helper> = (0..4).map(|_| site.plain(local)).collect();
    for (n, helper) in all.iter_mut().enumerate() {
        helper.hello(&format!("host{n}"), 1);
    }
    assert_eq!(site.plain(local).ended(), "");
    all.pop();
    std::thread::sleep(Duration::from_millis(300));
    site.plain(local).hello("another", 1);
    let (_, said) = sensor.ends();
    assert_eq!(count(&said, "full"), 1, "{said}");
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_sensor_is_killed() {
    let Some(site) = Site::new("kill", "") else { return };
    let own = site.enroll("WKS-1");
    let mut acknowledged = 0;
    for round in 0..4 {
        let (sensor, address, _) = site.sensor();
        let mut helper = site.helper(address, &own);
        let stored = helper.hello("WKS-1", STREAM);
        assert!(stored >= acknowledged, "round {round}: {stored} of {acknowledged}");
        // As a helper does: all that is not acknowledged, in order, while acknowledgements come.
        let mut next = stored + 1;
        let until = Instant::now() + Duration::from_millis(700 + 130 * round);
        while Instant::now() < until {
            assert!(helper.say(&events(next..next + 40)));
            next += 40;
            helper.answer(Duration::from_millis(5));
        }
        sensor.kill();
        while helper.bye.is_none() {
            helper.answer(Duration::from_millis(100));
        }
        assert!(helper.acknowledged > stored, "round {round}: nothing was acknowledged");
        acknowledged = helper.acknowledged;
    }
    let (mut sensor, address, _) = site.sensor();
    sensor.says("events of earlier runs were taken up");
    let mut helper = site.helper(address, &own);
    let stored = helper.hello("WKS-1", STREAM);
    assert!(stored >= acknowledged);
    helper.say(&events(stored + 1..stored + 101));
    helper.stored(stored + 100);
    let (_, said) = sensor.ends();
    assert_eq!(count(&said, "missing"), 0, "{said}");
    // The hellos of earlier runs are taken up, too.
    assert!(count(&said, "restored") >= stored, "{said}");
    let journal = site.journal();
    assert!(journal.iter().copied().eq(1..=stored + 100), "{} of {}", journal.len(), stored + 100);
}

#[test]
fn where_the_disk_is_full_events_go_on_and_nothing_is_acknowledged() {
    let Some(site) = Site::new("disk", "") else { return };
    let own = site.enroll("WKS-1");
    let folder = journal_folder(&site.state);
    std::fs::create_dir(&folder).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "outfall-test"]).arg(&folder).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skip("disk", "no file system can be mounted");
    }
    let unmount = Unmount(folder.clone());
    let (mut sensor, address, _) = site.sensor();
    let mut helper = site.helper(address, &own);
    helper.hello("WKS-1", STREAM);
    helper.say(&events(1..11));
    helper.stored(10);
    let filler = folder.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4_096]).is_ok() {}
    while file.write_all(&[0; 1]).is_ok() {}
    // More than the page that the journal has begun.
    let noise =
        |seq: u64| event(seq).replace("\"pid\"", &format!("\"note\":\"{:x}\",\"pid\"", u128::MAX / u128::from(seq)));
    helper.say(&(11..2_011).map(noise).collect::<String>());
    sensor.says("the journal cannot be written");
    helper.answer(Duration::from_secs(1));
    let stored = helper.acknowledged;
    // What comes meanwhile reaches the join.
    helper.say(&(2_011..2_021).map(noise).collect::<String>());
    let mut other = site.helper(address, &own);
    drop(std::mem::replace(&mut helper, Helper::new(std::io::Cursor::new(Vec::new()))));
    assert_eq!(other.hello("WKS-1", STREAM), stored);
    other.say(&(stored + 1..2_031).map(noise).collect::<String>());
    assert_eq!(other.answer(Duration::from_secs(1)), None);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    sensor.says("the journal is written again");
    assert_eq!(other.ended(), "storage");
    let mut other = site.helper(address, &own);
    let stored = other.hello("WKS-1", STREAM);
    other.say(&(stored + 1..2_031).map(noise).collect::<String>());
    other.stored(2_030);
    let (_, said) = sensor.ends();
    assert!(count(&said, "journal_refused") > 0, "{said}");
    // Each reached the join once, and the disk once.
    assert_eq!((count(&said, "missing"), count(&said, "events")), (0, 2_030 + 3), "{said}");
    let journal = site.journal();
    assert!(journal.iter().copied().eq(1..=2_030), "{} of 2,030", journal.len());
    drop(unmount);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn programs_of_this_machine_need_no_certificate() {
    let Some(site) = Site::new("local", "") else { return };
    let (sensor, _, local) = site.sensor();
    // A helper over the Unix domain socket, twice: the second connection takes the place of the first.
    let unix = || {
        let socket = std::os::unix::net::UnixStream::connect(site.socket()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Helper::new(socket)
    };
    let (mut first, mut second) = (unix(), unix());
    assert_eq!(first.hello("SRV-1", STREAM), 0);
    first.say(&events(1..4));
    first.stored(3);
    assert_eq!(second.hello("srv-1", STREAM), 3);
    assert_eq!(first.ended(), "replaced");
    second.say(&events(2..7));
    second.stored(6);
    // A log shipper that says nothing of itself.
    let mut shipper = site.plain(local);
    let line = event(1).replace("\"seq\":1,", "\"host\":\"SRV-2\",");
    shipper.say(&line.repeat(5));
    assert_eq!(shipper.answer(Duration::from_millis(500)), None);
    assert_eq!(shipper.bye, None);
    let (_, said) = sensor.ends();
    assert_eq!(
        (count(&said, "events"), count(&said, "repeated"), count(&said, "replaced")),
        (2 + 6 + 5, 2, 1),
        "{said}"
    );
    assert!(said.contains("counters helpers known=1 connected=1"), "{said}");
    let (sensor, ..) = site.sensor();
    std::thread::sleep(Duration::from_millis(500));
    let (_, said) = sensor.ends();
    assert_eq!(count(&said, "restored"), 13, "{said}");
}

#[test]
fn a_line_that_is_too_long_is_skipped_and_the_rest_goes_on() {
    let Some(site) = Site::new("long", "max_line = \"1 KiB\"\n") else { return };
    let own = site.enroll("WKS-1");
    let (sensor, address, _) = site.sensor();
    let mut helper = site.helper(address, &own);
    helper.hello("WKS-1", STREAM);
    let long = event(2).replace("\"pid\"", &format!("\"note\":\"{}\",\"pid\"", "x".repeat(3_000)));
    helper.say(&format!("{}{long}{}", event(1), event(3)));
    helper.stored(3);
    let (_, said) = sensor.ends();
    assert_eq!((count(&said, "oversized"), count(&said, "missing")), (1, 1), "{said}");
    let seen: BTreeSet<u64> = site.journal().into_iter().collect();
    assert_eq!(seen, BTreeSet::from([1, 3]));
}

#[test]
fn what_cannot_be_listened_on_is_refused_in_a_line() {
    let Some(site) = Site::new("refuse", "") else { return };
    let run = || {
        let mut command = site.lab.command();
        command.args(["run", "--interface", "tap0", "--config"]).arg(&site.config);
        common::run(command, &[])
    };
    std::fs::write(
        &site.config,
        "[listener]\nlocal = [\"127.0.0.1:5514\", \"127.0.0.1:5514\"]\nstate = \"/proc/no\"\n",
    )
    .unwrap();
    run().refuses(&["/proc/no", "listener.state"]);
    let state = site.state.display();
    let text = format!("[listener]\nlocal = [\"127.0.0.1:5514\", \"127.0.0.1:5514\"]\nstate = \"{state}\"\n");
    std::fs::write(&site.config, text).unwrap();
    run().refuses(&["127.0.0.1:5514", "cannot be listened on"]);
    std::fs::write(&site.config, "[listener]\nlocal = [\"192.0.2.1:5514\"]\n").unwrap();
    run().refuses(&["listener.local", "loopback"]);
}
