//! The live sensor, in network namespaces of its own: it finds what a replay finds, survives its interfaces, counts what
//! it loses, and keeps to its sandbox.

#![cfg(all(feature = "sensor", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::lab::{self, Lab, Prepared, Timed};
use common::{Ran, Story, check_all, expect, outfall, root, run, skip};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The network, unless this machine does not allow any.
fn lab(test: &str, pairs: usize) -> Option<Lab> {
    Lab::new(test, pairs).map_err(|reason| skip(test, &reason)).ok()
}

fn at<'a>(record: &'a Value, path: &str) -> &'a Value {
    expect::at(record, path).unwrap_or(&Value::Null)
}

fn uploads(records: &[Value]) -> Vec<&Value> {
    let finished = |record: &&Value| {
        at(record, "event.dataset") == "outfall.upload" && at(record, "outfall.upload.state") != "running"
    };
    records.iter().filter(finished).collect()
}

/// Sends a story as it was recorded while a sensor runs; gives what that reported and what it said.
fn live(
    lab: &Lab,
    story: &Story,
    settings: &str,
    wire: impl Fn(usize, Timed) -> (usize, Timed),
) -> (Vec<Value>, String) {
    let settings = format!("{settings}\n[store]\npath = \"\"\n");
    let Prepared { frames, start, args, .. } = lab.prepare(story, &settings);
    let frames: Vec<(usize, Timed)> = frames.into_iter().enumerate().map(|(n, timed)| wire(n, timed)).collect();
    let pairs = frames.iter().map(|(pair, _)| pair + 1).max().unwrap();
    let interfaces: Vec<String> = (0..pairs).map(|pair| format!("tap{pair}")).collect();
    let sensor = lab.sensor_on(&interfaces.iter().map(String::as_str).collect::<Vec<_>>(), &args);
    lab.send(start, &frames);
    sensor.ends()
}

fn sorted(records: Vec<Value>) -> Vec<String> {
    let line = |record: Value| {
        let mut record = lab::timeless(record);
        record.sort_all_objects();
        record.to_string()
    };
    let mut lines: Vec<String> = records.into_iter().map(line).collect();
    lines.sort();
    lines
}

fn same(story: &Story, live: Vec<Value>, said: &str) -> Result<(), String> {
    let (live, replay) = (sorted(live), sorted(story.replay(&["--json"]).exits(0).records()));
    if live == replay {
        return Ok(());
    }
    let only = |of: &[String], other: &[String]| -> String {
        of.iter().filter(|line| !other.contains(line)).map(|line| format!("    {line}\n")).collect()
    };
    Err(format!(
        "{}:\n  only live:\n{}  only replay:\n{}{said}",
        story.name,
        only(&live, &replay),
        only(&replay, &live)
    ))
}

/// Every story over a network of its own.
fn check_stories(
    test: &str,
    stories: Vec<Story>,
    pairs: usize,
    settings: &str,
    wire: impl Fn(usize, Timed) -> (usize, Timed) + Sync,
) {
    if lab(test, 1).is_none() {
        return;
    }
    let numbered: Vec<(usize, Story)> = stories.into_iter().enumerate().collect();
    check_all(&numbered, |(n, story)| {
        let lab = Lab::new(&format!("{test}{n}"), pairs)?;
        let (records, said) = live(&lab, story, settings, &wire);
        same(story, records, &said)
    });
}

#[test]
fn live_gives_what_a_replay_gives() {
    check_stories("same", Story::all(), 1, "", |_, timed| (0, timed));
}

fn stories(names: &[&str]) -> Vec<Story> {
    names.iter().map(|name| Story::named(name)).collect()
}

#[test]
fn several_threads_keep_ftp_together() {
    let names = ["active-ftp-v6", "ftp-staged-archive", "ftp-fxp", "ftp-pasv-nat", "http-multipart"];
    check_stories("threads", stories(&names), 1, "[capture]\nthreads = 3\npin = true", |_, timed| (0, timed));
}

#[test]
fn two_interfaces_that_carry_a_direction_each_are_one_network() {
    let names = ["ftp-staged-archive", "ftp-resume", "webdav-put", "ftp-port-2121"];
    let direction = |_: usize, (at, frame): Timed| {
        let (source, destination) = ([&frame[26..30], &frame[34..36]], [&frame[30..34], &frame[36..38]]);
        (usize::from(source.concat() > destination.concat()), (at, frame))
    };
    for threads in [1, 2] {
        let settings = format!("[capture]\nthreads = {threads}");
        check_stories(&format!("pair{threads}"), stories(&names), 2, &settings, direction);
    }
}

/// Fields of the last line of counters of a thread.
fn counter(said: &str, thread: usize, name: &str) -> u64 {
    let line = said.lines().rfind(|line| line.contains(&format!("counters thread={thread} "))).expect(said);
    let field = line.split(' ').find_map(|field| field.strip_prefix(&format!("{name}="))).expect(line);
    field.parse().unwrap()
}

/// Starts a sensor while somebody else writes to its store, and sends frames as soon as its rings are open: it has to wait with
/// its store, and reads them only when that is open.
fn started_late(lab: &Lab, settings: &str, frames: Vec<Timed>) -> lab::Sensor {
    let store = lab.folder.path().join("state/outfall.db");
    let config = lab.file("outfall.toml", &format!("[store]\npath = \"{}\"\n{settings}", store.display()));
    let args = || ["--config".into(), config.clone().into()];
    lab.sensor(&args()).ends();
    let other = rusqlite::Connection::open(&store).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut command = lab.command();
    command.args(["run", "--json", "--interface", "tap0"]).args(args());
    let mut sensor = lab::Sensor::start(command);
    // A heading, and a socket with a ring.
    let open = || std::fs::read_to_string("/proc/thread-self/net/packet").unwrap().lines().count() > 1;
    while !lab.inside(open) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    lab.send(Instant::now(), &on(0, frames));
    std::thread::sleep(Duration::from_millis(1_500));
    other.execute_batch("COMMIT").unwrap();
    sensor.says("capturing on");
    sensor
}

/// No work was given up, and nothing counts as lost by a thread that was too slow.
fn kept_up(said: &str) {
    let [received, dropped, freezes, steps] =
        ["received", "kernel_dropped", "freezes", "shed_steps"].map(|name| counter(said, 0, name));
    assert_eq!((dropped, freezes, steps), (0, 0, 0), "{said}");
    let accounted: u64 = ["packets", "before_start", "waiting"].iter().map(|name| counter(said, 0, name)).sum();
    assert_eq!(received, accounted, "{said}");
    assert!(!said.contains("losing packets") && !said.contains("gives up"), "{said}");
}

#[test]
fn what_a_slow_start_leaves_in_the_rings_is_read_and_is_no_overload() {
    let Some(lab) = lab("late", 1) else { return };
    let story = lab::frames(&Story::named("http-multipart").capture()).0;
    let sensor = started_late(&lab, "", story);
    std::thread::sleep(Duration::from_millis(1_500));
    let (records, said) = sensor.ends();
    kept_up(&said);
    assert_eq!((uploads(&records).len(), counter(&said, 0, "before_start")), (1, 0), "{said}");
}

#[test]
fn what_the_rings_could_not_hold_in_a_slow_start_is_passed_over_and_counted_as_such() {
    let Some(lab) = lab("later", 1) else { return };
    let mut flood = vec![0; 1_514];
    flood[12..14].copy_from_slice(&[0x88, 0xb5]);
    let settings = "[capture]\nring = \"2 MiB\"\nloss_per_million = 10\n";
    let sensor = started_late(&lab, settings, vec![(Duration::ZERO, flood); 4_000]);
    std::thread::sleep(Duration::from_millis(1_500));
    lab.send(Instant::now(), &on(0, lab::frames(&Story::named("http-multipart").capture()).0));
    let (records, said) = sensor.ends();
    kept_up(&said);
    assert!(counter(&said, 0, "before_start") >= 4_000, "{said}");
    assert_eq!(uploads(&records).len(), 1, "{said}");
    assert!(!records.iter().any(|record| at(record, "event.dataset") == "outfall.health"), "{said}");
}

/// So many frames of a small upload that never ends, in the order of time.
fn unfinished_upload() -> Vec<Timed> {
    let (frames, _) = lab::frames(&Story::named("webdav-put").capture());
    let half = frames.len() / 2;
    frames.into_iter().take(half).collect()
}

fn on(pair: usize, frames: Vec<Timed>) -> Vec<(usize, Timed)> {
    frames.into_iter().map(|timed| (pair, timed)).collect()
}

#[test]
fn a_verdict_is_given_while_the_sensor_runs() {
    let Some(lab) = lab("verdict", 1) else { return };
    let story = Story::named("ftp-staged-archive");
    let (frames, first) = lab::frames(&story.capture());
    let (start, shift) = (Instant::now() + Duration::from_secs(1), lab::now() + 1_000_000_000 - first);
    let config = lab.file("outfall.toml", "[join]\ngrace = \"1 s\"\n");
    let events = lab.file("events.jsonl", "");
    let mut sensor = lab.sensor(&["--config".into(), config.into(), "--endpoint".into(), events.clone().into()]);
    // What is appended while the sensor runs counts as well.
    let text = std::fs::read_to_string(&story.context()[1]).unwrap();
    std::fs::write(&events, lab::later(&text, shift)).unwrap();
    lab.send(start, &on(0, frames));
    let alert = sensor.record("that is an alert", |record| at(record, "event.dataset") == "outfall.alert");
    assert_eq!(at(&alert, "process.name"), "ftp.exe");
    assert_eq!(at(&alert, "outfall.alert.sensor_loss"), &Value::Null);
    sensor.ends();
}

#[test]
fn packed_events_count_as_well() {
    let Some(lab) = lab("packed", 1) else { return };
    let story = Story::named("ftp-staged-archive");
    let (frames, first) = lab::frames(&story.capture());
    let lead = Duration::from_secs(2);
    let (start, shift) = (Instant::now() + lead, lab::now() + lead.as_nanos() as u64 - first);
    let text = std::fs::read_to_string(&story.context()[1]).unwrap();
    let events = lab.file("events.jsonl", &lab::later(&text, shift));
    assert!(Command::new("gzip").arg(&events).status().unwrap().success());
    let packed = events.with_extension("jsonl.gz");
    let config = lab.file("outfall.toml", "[join]\ngrace = \"1 s\"\n[store]\npath = \"\"\n");
    let mut sensor = lab.sensor(&["--config".into(), config.into(), "--endpoint".into(), packed.into()]);
    lab.send(start, &on(0, frames));
    let alert = sensor.record("that is an alert", |record| at(record, "event.dataset") == "outfall.alert");
    assert_eq!(at(&alert, "process.name"), "ftp.exe");
    sensor.ends();
}

#[test]
fn sigterm_writes_every_open_upload_as_partial() {
    let Some(lab) = lab("term", 1) else { return };
    let sensor = lab.sensor(&[]);
    lab.send(Instant::now(), &on(0, unfinished_upload()));
    let (records, said) = sensor.ends();
    let uploads = uploads(&records);
    assert!(!uploads.is_empty(), "{said}");
    assert!(uploads.iter().any(|upload| at(upload, "outfall.upload.state") == "partial"), "{uploads:?}");
    assert!(said.contains("SUMMARY"), "{said}");
    let [received, packets] = ["received", "packets"].map(|name| counter(&said, 0, name));
    assert_eq!((received, counter(&said, 0, "waiting")), (packets, 0), "{said}");
}

#[test]
fn an_interface_that_goes_down_or_away_is_taken_up_again() {
    away(1);
}

#[test]
fn an_interface_that_several_threads_share_is_taken_up_again_as_often_as_there_are_sockets() {
    away(3);
}

fn away(threads: usize) {
    let Some(lab) = lab(&format!("away{threads}"), 1) else { return };
    let (frames, _) = lab::frames(&Story::named("http-multipart").capture());
    let settings = format!("[capture]\nthreads = {threads}\nspare_sockets = 2\n");
    let mut sensor = lab.sensor(&["--config".into(), lab.file("outfall.toml", &settings).into()]);
    lab.ip(&["link", "set", "tap0", "down"]);
    sensor.says("tap0 is down");
    // For a moment it may be up without a carrier.
    lab.ip(&["link", "set", "tap0", "up"]);
    sensor.says_at_last("tap0 is up");
    lab.send(Instant::now(), &on(0, frames.clone()));
    for turn in 1..=2_u8 {
        lab.ip(&["link", "del", "tap0"]);
        sensor.says("tap0 is gone");
        lab.connect(0).unwrap();
        sensor.says_at_last("tap0 is up");
        // Other connections, lest their packets pass for late ones of the first, on all threads.
        lab.send(Instant::now(), &on(0, of_hosts(&frames, 0x40 * turn)));
    }
    let several = threads > 1;
    let (records, said) = if several {
        // There is no socket left.
        lab.ip(&["link", "del", "tap0"]);
        sensor.says("tap0 is gone");
        lab.connect(0).unwrap();
        let (status, records, said) = sensor.ended();
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("SUMMARY") && said.contains("capture.spare_sockets"), "{said}");
        (records, said)
    } else {
        sensor.ends()
    };
    all_found(&records, &said, threads, 17);
    let mut health: Vec<&str> = records
        .iter()
        .filter(|record| at(record, "event.dataset") == "outfall.health")
        .map(|record| at(record, "outfall.health.state").as_str().unwrap())
        .collect();
    health.dedup();
    let all = ["begun", "over", "begun", "over", "begun", "over", "begun"];
    assert_eq!(health, all[..all.len() - usize::from(!several)], "{said}");
}

#[test]
fn an_interface_that_is_replaced_between_two_looks_is_said_to_be_and_read_on() {
    replaced(1);
}

#[test]
fn an_interface_that_several_threads_share_is_said_to_be_replaced() {
    replaced(3);
}

fn replaced(threads: usize) {
    let Some(lab) = lab(&format!("replaced{threads}"), 1) else { return };
    let (frames, _) = lab::frames(&Story::named("http-multipart").capture());
    let settings = format!("[capture]\nthreads = {threads}\nspare_sockets = 3\n");
    let mut sensor = lab.sensor(&["--config".into(), lab.file("outfall.toml", &settings).into()]);
    let away_and_back = |turn: u8| {
        if turn < 2 {
            lab.ip(&["link", "del", "tap0"]);
            return lab.connect(0).unwrap();
        }
        // It goes to another namespace and comes back with the number that it had.
        lab.ip(&["link", "set", "tap0", "netns", &lab.namespace("sender")]);
        let enter = ["netns", "exec", &lab.namespace("sender"), "ip", "link", "set", "tap0", "netns"];
        let back = Command::new("ip").args(enter).arg(lab.namespace("sensor")).status();
        assert!(back.unwrap().success());
        lab.ip(&["link", "set", "tap0", "up"]);
    };
    for turn in 0..=2_u8 {
        away_and_back(turn);
        sensor.says("tap0 was replaced by another interface");
        sensor.says_at_last("tap0 is up");
        lab.send(Instant::now(), &on(0, of_hosts(&frames, 0x40 * turn)));
    }
    let (records, said) = sensor.ends();
    all_found(&records, &said, threads, 24);
    assert!(said.contains(" replaced=3 ") && said.contains("times that an interface was replaced"), "{said}");
    let health = records.iter().filter(|record| at(record, "event.dataset") == "outfall.health");
    let over = health.filter(|record| at(record, "outfall.health.state") == "over").count();
    assert_eq!(over, 3, "{said}");
}

#[test]
fn an_interface_that_is_down_at_the_start_leaves_the_others_to_be_read_and_is_read_when_it_is_up() {
    down_at_the_start(1, "");
}

#[test]
fn an_interface_that_several_threads_share_may_be_down_at_the_start() {
    // The sockets of the first rings are none to spare.
    down_at_the_start(3, "spare_sockets = 0\n");
}

fn down_at_the_start(threads: usize, settings: &str) {
    let Some(lab) = lab(&format!("down{threads}"), 2) else { return };
    lab.ip(&["link", "set", "tap0", "down"]);
    lab.ip(&["link", "set", "tap1", "down"]);
    let frames = of_hosts(&lab::frames(&Story::named("http-multipart").capture()).0, 0);
    let again = of_hosts(&lab::frames(&Story::named("http-multipart").capture()).0, 0x40);
    let settings = format!("[capture]\nthreads = {threads}\nfilter = \"not vlan 7\"\n{settings}");
    let config = lab.file("outfall.toml", &settings);
    let refuses = |interface: &str, what: &str| {
        let mut command = lab.command();
        command.args(["run", "--interface", interface, "--config"]).arg(&config);
        run(command, &[]).refuses(&[interface, what]);
    };
    // No Ethernet; without it there is no filter; and a name that may be mistyped.
    refuses("lo", "is down, and cannot be opened before it is up");
    refuses("tap0", "so is `lo`");
    refuses("tap7", "no such interface");
    lab.ip(&["link", "set", "lo", "up"]);
    let mut sensor = lab.sensor_on(&["tap0", "tap1"], &["--config".into(), config.clone().into()]);
    sensor.says("tap0 is down");
    sensor.says("tap1 is down");
    lab.ip(&["link", "set", "tap1", "up"]);
    sensor.says_at_last("tap1 is up");
    lab.send(Instant::now(), &on(1, frames));
    lab.ip(&["link", "set", "tap0", "up"]);
    sensor.says_at_last("tap0 is up");
    lab.send(Instant::now(), &on(0, again));
    // As one that goes down later.
    lab.ip(&["link", "set", "tap0", "down"]);
    sensor.says_at_last("tap0 is down");
    let mut command = lab.command();
    command.args(["check", "--interface", "tap0"]);
    assert!(run(command, &[]).exits(0).text().contains("change tap0: is down, and will be read when it is up"));
    let (records, said) = sensor.ends();
    all_found(&records, &said, threads, 16);
}

/// What the threads received adds up, all of them had a part of it, and the uploads of `http-multipart` were found so many times.
#[track_caller]
fn all_found(records: &[Value], said: &str, threads: usize, times: usize) {
    let count = |name: &str| (0..threads).map(|thread| counter(said, thread, name)).sum::<u64>();
    let terms = ["packets", "kernel_dropped", "before_start", "waiting"].map(count);
    assert_eq!(count("received"), terms.iter().sum::<u64>(), "{said}");
    let busy = (0..threads).filter(|thread| counter(said, *thread, "packets") > 0).count();
    assert_eq!(busy, threads, "{said}");
    let once = Story::named("http-multipart").replay(&["--json"]).exits(0).records();
    assert_eq!(uploads(records).len(), times * uploads(&once).len(), "{said}");
}

/// The frames as those of eight hosts, in the order of time; `apart` makes others of them.
fn of_hosts(frames: &[Timed], apart: u8) -> Vec<Timed> {
    let mut all: Vec<Timed> = (0..8).flat_map(|host| of_others(frames, apart + host)).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

#[test]
fn sighup_takes_up_a_good_configuration_and_refuses_a_bad_one() {
    let Some(lab) = lab("hup", 1) else { return };
    let (frames, _) = lab::frames(&Story::named("no-endpoint").capture());
    let config = lab.file("outfall.toml", "[network]\nhome = [\"192.0.2.77\"]\n[join]\ngrace = \"0 s\"\n");
    let output = lab.folder.path().join("out.jsonl");
    let mut sensor = lab.sensor(&["--config".into(), config.into(), "--output".into(), output.clone().into()]);
    lab.file("outfall.toml", "[detect]\nrare_below_hosts = \"many\"\n[flow]\ntable_memory = 0\n");
    sensor.signal(Signal::SIGHUP);
    let line = sensor.says("goes on with the old configuration");
    assert!(line.contains("outfall.toml:2:"), "{line}");
    // The output was moved away, as a log rotation does.
    std::fs::rename(&output, lab.folder.path().join("old.jsonl")).unwrap();
    lab.file("outfall.toml", &std::fs::read_to_string(root().join("captures/no-endpoint/policy.toml")).unwrap());
    sensor.signal(Signal::SIGHUP);
    sensor.says("reloaded");
    lab.send(Instant::now(), &on(0, frames));
    let (records, said) = sensor.ends();
    assert!(records.is_empty(), "everything goes to the file");
    let written = std::fs::read_to_string(&output).unwrap();
    let written: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let replayed = Story::named("no-endpoint").replay(&["--json"]).exits(0).records();
    let alerts =
        |records: &[Value]| records.iter().filter(|record| at(record, "event.dataset") == "outfall.alert").count();
    // Under the first configuration the client would be no host of ours.
    assert!(alerts(&replayed) > 0);
    assert_eq!(alerts(&written), alerts(&replayed), "{said}");
}

#[test]
fn reload_waits_for_the_sensor_and_says_what_it_answers() {
    let Some(lab) = lab("reload", 1) else { return };
    let store = lab.folder.path().join("state/outfall.db");
    let good = format!("[store]\npath = \"{}\"\n", store.display());
    let config = lab.file("outfall.toml", &good);
    let reload = || outfall(["reload".as_ref(), "--config".as_ref(), config.as_os_str()]);
    reload().refuses(&["no sensor runs with this database"]);
    let mut sensor = lab.sensor(&["--config".into(), config.clone().into()]);
    assert!(reload().exits(0).text().starts_with("reloaded: "));
    sensor.says("reloaded");
    lab.file("outfall.toml", "[detect]\nrare_below_hosts = \"many\"\n");
    let said = reload().exits(1).stderr;
    assert!(said.contains("not reloaded") && said.contains("outfall.toml:2:") && said.lines().count() == 1, "{said}");
    lab.file("outfall.toml", &good);
    assert!(store.with_extension("run").exists());
    sensor.ends();
    assert!(!store.with_extension("run").exists());
    reload().refuses(&["no sensor runs with this database"]);
}

#[test]
fn a_reload_takes_up_nothing_where_the_exceptions_cannot_be_read() {
    let Some(lab) = lab("nothing", 1) else { return };
    let store = lab.folder.path().join("state/outfall.db");
    let settings = |more: &str| format!("[store]\npath = \"{}\"\n{more}", store.display());
    let config = lab.file("outfall.toml", &settings(""));
    let mut sensor = lab.sensor(&["--config".into(), config.clone().into()]);
    let database = rusqlite::Connection::open(&store).unwrap();
    // As no command would write it.
    database
        .execute(
            "INSERT INTO exceptions (process, broad, owner, justification, created, expires)
             VALUES ('*\\x.exe', 0, 'a', 'b', 'no time', 'no time')",
            [],
        )
        .unwrap();
    lab.file("outfall.toml", &settings("[detect]\nrare_below_hosts = 7\n"));
    let ran = outfall(["reload".as_ref(), "--config".as_ref(), config.as_os_str()]).exits(1);
    assert!(
        ran.stderr.contains("old configuration and exceptions") && ran.stderr.lines().count() == 1,
        "{}",
        ran.stderr
    );
    database.execute("DELETE FROM exceptions", []).unwrap();
    assert!(outfall(["reload".as_ref(), "--config".as_ref(), config.as_os_str()]).exits(0).text().contains("reloaded"));
    sensor.says_at_last("exceptions in force: 0");
    sensor.ends();
}

#[test]
fn capture_goes_on_where_the_disk_of_the_store_is_full_and_what_was_found_is_kept_when_it_is_not() {
    let Some(lab) = lab("full", 1) else { return };
    let state = lab.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let ran = |command: &mut Command| command.status().unwrap().success();
    // Of this thread, and of what it starts.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    assert!(ran(Command::new("mount").args(["--make-rprivate", "/"])));
    assert!(ran(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=777", "none"]).arg(&state)));
    let store = state.join("outfall.db");
    let config = format!("[store]\npath = \"{}\"\n[capture]\nshed_hold = \"1 s\"\n", store.display());
    let config = lab.file("outfall.toml", &config);
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    let filler = state.join("filler");
    std::fs::write(&filler, vec![1; 4 << 20]).unwrap_err();
    let (frames, _) = lab::frames(&Story::named("http-multipart").capture());
    lab.send(Instant::now(), &on(0, frames));
    sensor.record("an upload", |record| at(record, "event.dataset") == "outfall.upload");
    let health = |record: &Value, state: &str| {
        at(record, "outfall.health.condition") == "store-not-written" && at(record, "outfall.health.state") == state
    };
    sensor.record("the store's trouble", |record| health(record, "begun"));
    std::fs::remove_file(&filler).unwrap();
    sensor.record("its end", |record| health(record, "over"));
    let (records, said) = sensor.ends();
    let found = uploads(&records).len();
    let listed = outfall(["inventory".as_ref(), "--json".as_ref(), "--state".as_ref(), store.as_os_str()]).exits(0);
    let kept: u64 =
        listed.text().lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["uploads"].as_u64().unwrap()).sum();
    assert!(found > 0 && kept == found as u64, "{kept} of {found}: {said}");
}

/// The frames as if other hosts had sent them, lest their packets pass for late ones of the same connections.
fn of_others(frames: &[Timed], host: u8) -> Vec<Timed> {
    let other = |(at, mut frame): Timed| {
        let (source, destination) = (frame[26..30].to_vec(), frame[30..34].to_vec());
        frame[26 + usize::from(source > destination) * 4 + 3] ^= host;
        (at, frame)
    };
    frames.iter().cloned().map(other).collect()
}

#[test]
fn capture_goes_on_where_the_disk_of_the_output_is_full_and_what_is_lost_is_counted() {
    let Some(lab) = lab("output", 1) else { return };
    let state = lab.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let ran = |command: &mut Command| command.status().unwrap().success();
    // Of this thread, and of what it starts.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    assert!(ran(Command::new("mount").args(["--make-rprivate", "/"])));
    assert!(ran(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=777", "none"]).arg(&state)));
    let (output, filler) = (state.join("out.jsonl"), state.join("filler"));
    // As a sensor that was killed in the middle of a line leaves it.
    std::fs::write(&output, "{\"half\":").unwrap();
    let settings = "[store]\npath = \"\"\n[join]\ngrace = \"1 s\"\n[capture]\nshed_hold = \"1 s\"\nreport = \"1 s\"\n";
    let config = lab.file("outfall.toml", settings);
    let mut sensor = lab.sensor(&["--config".into(), config.into(), "--output".into(), output.clone().into()]);
    let (frames, _) = lab::frames(&Story::named("http-multipart").capture());
    let send = |host: u8| lab.send(Instant::now(), &on(0, of_others(&frames, host)));
    let lines = || std::fs::read_to_string(&output).unwrap().lines().count();
    let once = uploads(&Story::named("http-multipart").replay(&["--json"]).exits(0).records()).len();
    let until = Instant::now() + Duration::from_secs(30);
    send(0);
    while lines() < 1 + once && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    // What is left of the last page takes a part of a line.
    std::fs::write(&filler, vec![1; 4 << 20]).unwrap_err();
    (0..8).for_each(|host| send(0x40 + host));
    sensor.says("the output cannot be written");
    while sensor.says("counters output lost=").ends_with("=0") {}
    std::fs::remove_file(&filler).unwrap();
    sensor.says("output-not-written is over");
    send(0x50);
    let (_, said) = sensor.ends();
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let records = text.lines().skip(1).map(|line| serde_json::from_str(line).expect(line)).collect::<Vec<Value>>();
    let health: Vec<_> = records.iter().filter(|record| at(record, "event.dataset") == "outfall.health").collect();
    assert_eq!(at(health.last().unwrap(), "outfall.health.state"), "over", "{said}");
    let line = said.lines().rfind(|line| line.contains("counters output lost=")).unwrap();
    let lost = line.rsplit_once('=').unwrap().1.parse::<usize>().unwrap();
    assert_eq!(records.len() + lost, 10 * once + 2, "{said}");
    assert_eq!(said.matches("the output cannot be written").count(), 1, "{said}");
    let summary = said.split("SUMMARY").nth(1).unwrap();
    assert!(summary.contains(&format!("{lost} lines of the output that could not be written")), "{said}");
}

#[test]
fn a_disk_that_is_full_to_the_end_leaves_no_half_line_and_the_summary_is_told_all_the_same() {
    let Some(lab) = lab("fullend", 1) else { return };
    let state = lab.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let ran = |command: &mut Command| command.status().unwrap().success();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    assert!(ran(Command::new("mount").args(["--make-rprivate", "/"])));
    assert!(ran(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=777", "none"]).arg(&state)));
    let (output, filler) = (state.join("out.txt"), state.join("filler"));
    std::fs::write(&output, "before\n").unwrap();
    std::fs::write(&filler, vec![1; 4 << 20]).unwrap_err();
    let mut command = lab.command();
    command.args(["run", "--interface", "tap0", "--flows", "--output"]).arg(&output);
    let mut sensor = lab::Sensor::start(command);
    sensor.says("capturing on");
    let (frames, _) = lab::frames(&Story::named("http-multipart").capture());
    for host in 0..60 {
        lab.send(Instant::now(), &on(0, of_others(&frames, 0x40 + host)));
    }
    sensor.says("the output cannot be written");
    let (_, said) = sensor.ends();
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(text.starts_with("before\n") && text.ends_with('\n'), "{text}");
    assert!(text.lines().count() > 1, "a part fits in the page: {text}");
    assert!(said.contains("SUMMARY") && said.contains("lines of the output that could not be written"), "{said}");
}

#[test]
fn what_the_kernel_drops_is_counted_alerted_and_noted_on_alerts() {
    let Some(lab) = lab("loss", 1) else { return };
    let settings = "[capture]\nring = \"2 MiB\"\nloss_per_million = 10\n[join]\ngrace = \"3 s\"\n";
    let policy = std::fs::read_to_string(root().join("captures/no-endpoint/policy.toml")).unwrap();
    let config = lab.file("outfall.toml", &format!("{policy}\n{settings}"));
    let (frames, _) = lab::frames(&Story::named("no-endpoint").capture());
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    // A sensor that stands still in the middle of an upload, while more comes than its ring holds.
    let (before, after) = frames.split_at(frames.len() / 2);
    lab.send(Instant::now(), &on(0, before.to_vec()));
    std::thread::sleep(Duration::from_millis(200));
    sensor.signal(Signal::SIGSTOP);
    let mut flood = vec![0; 1_514];
    flood[12..14].copy_from_slice(&[0x88, 0xb5]);
    lab.send(Instant::now(), &on(0, vec![(Duration::ZERO, flood); 4_000]));
    sensor.signal(Signal::SIGCONT);
    sensor.says("losing packets");
    lab.send(Instant::now(), &on(0, after.to_vec()));
    let (records, said) = sensor.ends();
    let health = records.iter().find(|record| at(record, "outfall.health.condition") == "packet-loss").expect(&said);
    let dropped = counter(&said, 0, "kernel_dropped");
    assert!(dropped > 0 && at(health, "outfall.health.lost_packets").as_u64().unwrap() > 0, "{said}");
    let accounted = dropped + counter(&said, 0, "packets") + counter(&said, 0, "before_start");
    assert_eq!(counter(&said, 0, "received"), accounted, "{said}");
    assert!(counter(&said, 0, "freezes") > 0, "{said}");
    let alert = records.iter().find(|record| at(record, "event.dataset") == "outfall.alert").expect(&said);
    assert_eq!(at(alert, "outfall.alert.notes"), &serde_json::json!(["sensor-loss"]));
}

#[test]
fn what_is_lost_before_the_sensor_is_alerted_and_noted_on_alerts() {
    let policy = std::fs::read_to_string(root().join("captures/no-endpoint/policy.toml")).unwrap();
    let settings = "[capture]\ngaps_least = 5\nshed_hold = \"1 s\"\n[join]\ngrace = \"3 s\"\n";
    // A mirror port that leaves one in ten packets of data out, and one that does not.
    for (n, lossy) in [(0, true), (1, false)] {
        let Some(lab) = lab(&format!("tap{n}"), 1) else { return };
        let config = lab.file("outfall.toml", &format!("{policy}\n{settings}"));
        let (frames, _) = lab::frames(&Story::named("no-endpoint").capture());
        let left_out = |n: usize, frame: &[u8]| lossy && frame.len() > 1_000 && n % 10 == 5;
        let frames = frames.into_iter().enumerate().filter(|(n, (_, frame))| !left_out(*n, frame));
        let mut sensor = lab.sensor(&["--config".into(), config.into()]);
        lab.send(Instant::now(), &on(0, frames.map(|(_, timed)| timed).collect()));
        let health = |record: &Value| at(record, "outfall.health.condition") == "tap-gaps";
        if lossy {
            sensor.record("the gaps", |record| health(record) && at(record, "outfall.health.state") == "begun");
            sensor.record("their end", |record| health(record) && at(record, "outfall.health.state") == "over");
        } else {
            std::thread::sleep(Duration::from_secs(3));
        }
        let (records, said) = sensor.ends();
        let alert = records.iter().find(|record| at(record, "event.dataset") == "outfall.alert").expect(&said);
        let notes = if lossy { serde_json::json!(["tap-gaps"]) } else { Value::Null };
        assert_eq!(at(alert, "outfall.alert.notes"), &notes, "{said}");
        assert_eq!(counter(&said, 0, "gaps") >= 5, lossy, "{said}");
        assert_eq!(counter(&said, 0, "kernel_dropped"), 0, "{said}");
        assert_eq!(records.iter().any(health), lossy, "{said}");
    }
}

#[test]
fn what_waits_in_a_ring_is_counted_there_and_nothing_is_missing() {
    let Some(lab) = lab("waiting", 1) else { return };
    // A packet waits for up to a second, so that at most looks some do.
    let settings = "[capture]\nreport = \"1 s\"\nblock_timeout = \"1 s\"\nshed_lag = \"0 s\"\n";
    let config = lab.file("outfall.toml", settings);
    let mut noise = vec![0; 60];
    noise[12..14].copy_from_slice(&[0x88, 0xb5]);
    let noise: Vec<Timed> = (0..50).map(|n| (Duration::from_millis(100 * n), noise.clone())).collect();
    let sensor = lab.sensor(&["--config".into(), config.into()]);
    lab.send(Instant::now(), &on(0, noise));
    let (_, said) = sensor.ends();
    let mut waited = 0;
    for line in said.lines().filter(|line| line.contains("counters thread=0 ")) {
        let count = |name: &str| counter(line, 0, name);
        let terms = ["packets", "kernel_dropped", "before_start", "waiting"].map(count);
        assert_eq!(count("received"), terms.iter().sum::<u64>(), "{said}");
        waited += count("waiting");
    }
    assert!(waited > 0 && counter(&said, 0, "waiting") == 0, "{said}");
}

#[test]
fn under_overload_work_is_given_up_in_order() {
    let Some(lab) = lab("shed", 1) else { return };
    let settings = "[capture]\nshed_lag = \"100 ms\"\nblock_timeout = \"10 ms\"\nshed_hold = \"3 s\"\n";
    let config = lab.file("outfall.toml", settings);
    let (frames, _) = lab::frames(&Story::named("ftp-staged-archive").capture());
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    for what in ["hashing", "file typing", "idle flows", "encrypted flows"] {
        // It gets no processor for a while, and a packet comes.
        sensor.signal(Signal::SIGSTOP);
        lab.send(Instant::now(), &on(0, vec![(Duration::ZERO, noise())]));
        std::thread::sleep(Duration::from_millis(500));
        sensor.signal(Signal::SIGCONT);
        let line = sensor.says("gives up");
        assert!(line.contains(what), "{line} lacks {what}");
    }
    lab.send(Instant::now(), &on(0, frames));
    for what in ["encrypted flows", "idle flows", "file typing", "hashing"] {
        let line = sensor.says("takes up again");
        assert!(line.contains(what), "{line} lacks {what}");
    }
    let (records, said) = sensor.ends();
    let uploads = uploads(&records);
    assert_eq!(uploads.len(), 1, "{said}");
    // Bytes are still counted to the last one.
    assert_eq!(at(uploads[0], "outfall.upload.bytes"), 119_667);
    assert_eq!(at(uploads[0], "outfall.files")[0]["not_hashed"], "overload");
    assert!(said.contains("files not hashed, too much to do"), "{said}");
    let shed = records.iter().filter(|record| at(record, "outfall.health.condition") == "shedding").count();
    assert_eq!(shed, 2, "it begins and it is over");
}

/// A frame that nothing is made of.
fn noise() -> Vec<u8> {
    let mut noise = vec![0; 60];
    noise[12..14].copy_from_slice(&[0x88, 0xb5]);
    noise
}

#[test]
fn packets_that_wait_in_a_block_by_design_are_no_overload() {
    let Some(lab) = lab("block", 2) else { return };
    let settings = "[capture]\nshed_lag = \"50 ms\"\nblock_timeout = \"300 ms\"\n";
    let config = lab.file("outfall.toml", settings);
    // Of several interfaces, packets wait longest.
    for interfaces in [&["tap0"][..], &["tap0", "tap1"]] {
        let sensor = lab.sensor_on(interfaces, &["--config".into(), config.clone().into()]);
        let seldom = (0..4).map(|n| (Duration::from_millis(900 * n), noise())).collect();
        lab.send(Instant::now(), &on(0, seldom));
        std::thread::sleep(Duration::from_millis(1_500));
        let (_, said) = sensor.ends();
        assert_eq!(counter(&said, 0, "packets"), 4, "{said}");
        assert!(!said.contains("gives up"), "{said}");
    }
}

/// So many connections that are never answered, all between two hosts.
fn unanswered(count: u32) -> Vec<Timed> {
    let story = lab::frames(&Story::named("http-multipart").capture()).0;
    let mut frames = story.into_iter().map(|(_, frame)| frame);
    let syn = frames.find(|frame| frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] == 2).unwrap();
    let of = |n: u32| {
        let mut frame = syn.clone();
        frame[34..36].copy_from_slice(&(n as u16 + 1_024).to_be_bytes());
        (Duration::from_micros(20 * u64::from(n)), frame)
    };
    (0..count).map(of).collect()
}

#[test]
fn what_is_not_written_as_fast_as_it_comes_is_counted_and_capture_goes_on() {
    let Some(lab) = lab("facts", 1) else { return };
    let config = lab.file("outfall.toml", "[capture]\nfacts = 64\n[flow]\nhalf_open_timeout = \"1 s\"\n");
    let pipe = lab.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // A reader that opens the pipe and reads nothing for now.
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::File::open(pipe).unwrap()
    });
    let options = ["--flows".into(), "--config".into(), config.into(), "--output".into(), pipe.into()];
    let sensor = lab.sensor(&options);
    let mut reader = reader.join().unwrap();
    lab.send(Instant::now(), &on(0, unanswered(20_000)));
    std::thread::sleep(Duration::from_secs(4));
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).map(|_| text)
    });
    let (_, said) = sensor.ends();
    let written = reading.join().unwrap().unwrap().lines().filter(|line| line.contains("outfall.flow")).count() as u64;
    let dropped = counter(&said, 0, "flows_dropped");
    assert!(dropped > 0, "{said}");
    assert_eq!((counter(&said, 0, "packets"), written + dropped), (20_000, 20_000), "{said}");
    assert!(said.contains("flow records dropped"), "{said}");
}

#[test]
fn time_passes_and_counters_are_told_where_no_packet_comes() {
    let Some(lab) = lab("quiet", 1) else { return };
    let settings = "[flow]\nidle_timeout = \"2 s\"\nhalf_open_timeout = \"1 s\"\n[join]\ngrace = \"1 s\"\n[capture]\nreport = \"1 s\"\n";
    let config = lab.file("outfall.toml", settings);
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    lab.send(Instant::now(), &on(0, unfinished_upload()));
    let idle = |record: &Value| {
        at(record, "event.dataset") == "outfall.upload" && at(record, "outfall.upload.state") == "partial"
    };
    sensor.record("of an upload that was given up", idle);
    sensor.says("counters thread=0 received=");
    sensor.says("counters interface=tap0 packets=");
    sensor.ends();
}

#[test]
fn a_service_manager_is_told() {
    let Some(mut lab) = lab("notify", 1) else { return };
    let path = lab.folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    lab.environment = vec![("NOTIFY_SOCKET", path.into()), ("WATCHDOG_USEC", "1000000".into())];
    let sensor = lab.sensor(&[]);
    let mut buffer = [0; 4096];
    let mut told = || {
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(told().contains("READY=1"));
    // The socket was opened before the sandbox held, and is of use in it.
    assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"]);
    sensor.ends();
    assert!((0..20).any(|_| told().contains("STOPPING=1")));
}

#[test]
fn a_capture_thread_that_stands_still_is_not_reported_alive() {
    use nix::sys::{ptrace, wait};
    let Some(mut lab) = lab("stuck", 1) else { return };
    let path = lab.folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    lab.environment = vec![("NOTIFY_SOCKET", path.into()), ("WATCHDOG_USEC", "1000000".into())];
    let config = lab.file("outfall.toml", "[capture]\nthreads = 2\n");
    let mut sensor = lab.sensor(&["--config".into(), config.into()]);
    let alive = || socket.recv(&mut [0; 64]).is_ok();
    assert!(alive() && alive());
    let threads = std::fs::read_dir(format!("/proc/{}/task", sensor.pid())).unwrap();
    let second = threads.map(|thread| thread.unwrap().path()).find(|thread| {
        let name = std::fs::read_to_string(thread.join("comm")).unwrap();
        name.trim() == "capture-1"
    });
    let second = second.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
    let second = nix::unistd::Pid::from_raw(second);
    ptrace::seize(second, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(second).unwrap();
    wait::waitpid(second, Some(wait::WaitPidFlag::__WALL)).unwrap();
    sensor.says_at_last("capture threads make no progress: [1]");
    // What was told before that.
    socket.set_nonblocking(true).unwrap();
    while alive() {}
    socket.set_nonblocking(false).unwrap();
    assert!(!alive(), "told of as alive while a thread stands still");
    ptrace::detach(second, None).unwrap();
    assert!(alive(), "not told of as alive again");
    sensor.ends();
}

#[test]
fn packets_in_a_tunnel_all_go_to_the_first_thread_and_others_are_spread() {
    let Some(lab) = lab("spread", 1) else { return };
    let config = lab.file("outfall.toml", "[capture]\nthreads = 2\n");
    let sensor = lab.sensor(&["--config".into(), config.into()]);
    let mut frames = Vec::new();
    for host in 0..=255 {
        let (_, mut frame) = unanswered(1).remove(0);
        frame[29] = host;
        frames.push((Duration::from_micros(50 * u64::from(host)), frame.clone()));
        // The same as GRE.
        frame[23] = 47;
        frames.push((Duration::from_micros(50 * u64::from(host)), frame));
    }
    lab.send(Instant::now(), &on(0, frames));
    let (_, said) = sensor.ends();
    let [first, second] = [0, 1].map(|thread| counter(&said, thread, "packets"));
    assert_eq!(first + second, 512, "{said}");
    assert!((64..=192).contains(&second), "{said}");
}

/// The frame in a tunnel (VXLAN, RFC 7348) between ends that depend on whose connection it is, as where several carry the load.
fn in_tunnel(frame: &[u8]) -> Vec<u8> {
    let ports = u16::from_be_bytes([frame[34], frame[35]]) ^ u16::from_be_bytes([frame[36], frame[37]]);
    let length = |more: usize| ((more + 8 + frame.len()) as u16).to_be_bytes();
    let mut outer = [&[2; 12][..], &[8, 0, 0x45, 0], &length(28), &[0, 0, 0x40, 0, 64, 17, 0, 0]].concat();
    outer.extend([198, 51, 100, ports as u8, 198, 51, 100, 254]);
    outer.extend([&[0xc0, 0, 0x12, 0xb5], &length(8)[..], &[0, 0]].concat());
    outer.extend([&[8, 0, 0, 0, 0, 0, 7, 0], frame].concat());
    outer
}

#[test]
fn ftp_in_tunnels_stays_together_on_several_threads() {
    for name in ["ftp-staged-archive", "ftp-pasv-nat", "ftp-fxp"] {
        let Some(lab) = lab(&format!("tunnel-{name}"), 1) else { return };
        let story = Story::named(name);
        let wire = |_: usize, (at, frame): Timed| (0, (at, in_tunnel(&frame)));
        let (mut records, said) = live(&lab, &story, "[capture]\nthreads = 3\n", wire);
        for record in &mut records {
            let tunnel = record["outfall"].as_object_mut().and_then(|outfall| outfall.remove("tunnel"));
            assert_eq!(tunnel, Some(serde_json::json!(["vxlan"])), "{record}");
        }
        same(&story, records, &said).unwrap();
        assert_eq!([1, 2].map(|thread| counter(&said, thread, "packets")), [0, 0], "{said}");
    }
}

#[test]
fn a_filter_and_a_snap_length_hold_from_the_first_packet_on() {
    let Some(lab) = lab("filter", 1) else { return };
    let settings = "[capture]\nfilter = \"vlan 7 and tcp src port 1030 or tcp src port 1031\"\nsnap_length = 64\n";
    let config = lab.file("outfall.toml", settings);
    let sensor = lab.sensor(&["--config".into(), config.into()]);
    let mut frames = unanswered(20);
    let tagged = |(when, frame): &Timed| {
        let frame = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
        (*when + Duration::from_millis(1), [frame, vec![0; 100]].concat())
    };
    frames.extend(unanswered(20).iter().map(tagged));
    lab.send(Instant::now(), &on(0, frames));
    let (_, said) = sensor.ends();
    // Behind `vlan`, libpcap looks for everything in tagged packets.
    assert_eq!((counter(&said, 0, "received"), counter(&said, 0, "packets")), (2, 2), "{said}");
    // Of the TCP headers, with their options, the last bytes are cut off.
    assert_eq!(counter(&said, 0, "decode_errors"), 2, "{said}");
}

#[test]
fn the_sandbox_refuses_everything_but_the_state_directory() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(common::binary());
    command.args(["check", "--sandbox"]).env("TMPDIR", folder.path());
    let ran: Ran = run(command, &[]);
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    if text.contains("this kernel has no Landlock") {
        return skip("sandbox", "this kernel has no Landlock");
    }
    let ran = ran.exits(0);
    for what in [
        "read /etc/passwd: refused",
        "listening, thread 2: open a socket of IPv4: refused",
        "delivering, thread 2: open a socket of IPv4: done",
        "delivering, thread 1: connect to the port of a collector: done",
        "delivering, thread 1: open a TCP connection to another port: refused",
        "delivering, thread 1: put a file in the state directory aside: done",
        "delivering, thread 1: accept a connection on a socket that listens: refused",
        "delivering, thread 2: make, list and remove a folder in the state directory: refused",
        "keeping a store, thread 1: open a socket of IPv4: refused",
        "keeping a store, thread 2: open a socket of IPv6: refused",
        "keeping a store, thread 1: connect to the port of a collector: refused",
        "keeping a store, thread 2: put a file in the state directory aside: done",
        "writing evidence, thread 2: make, list and remove a folder in the state directory: done",
        "writing evidence, thread 1: make a folder outside of the state directory: refused",
        "writing evidence, thread 1: open a socket of IPv4: refused",
        "packet socket: refused",
        "start a program: refused",
        "trace a process: refused",
        "state directory: done",
        "become another program: refused",
        "no capability is left",
    ] {
        assert!(ran.text().contains(what), "{what}: {text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left behind");
}

#[test]
fn a_running_sensor_has_given_up_everything() {
    let Some(lab) = lab("status", 1) else { return };
    let config = lab.file("outfall.toml", "[capture]\nuser = \"nobody\"\nthreads = 2\n");
    let sensor = lab.sensor(&["--config".into(), config.into()]);
    let threads = std::fs::read_dir(format!("/proc/{}/task", sensor.pid())).unwrap();
    let mut count = 0;
    for thread in threads {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().to_owned()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set).trim_start_matches('0'), "", "{set}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".to_owned(), "2".to_owned()));
        assert_ne!(field("Uid"), "0");
        count += 1;
    }
    // The judging thread, two that capture, the one that writes the store, and the one that answers for metrics.
    assert_eq!(count, 5);
    sensor.ends();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn whoever_takes_over_a_running_sensor_opens_no_other_file_and_no_other_kind_of_socket() {
    use common::intruder::{Argument::Number, Argument::Text, Thread};
    use nix::libc::{
        AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AT_FDCWD, EPERM, O_CREAT, O_RDONLY, O_WRONLY, SOCK_DGRAM,
        SOCK_RAW, SOCK_STREAM, SYS_execve, SYS_openat, SYS_ptrace, SYS_socket,
    };
    let Some(lab) = lab("intruder", 1) else { return };
    let delivers = "[[deliver.syslog]]\naddress = \"127.0.0.1:5514\"\ntransport = \"udp\"\n";
    let file = format!("[[deliver.file]]\npath = \"{}\"\n", lab.folder.path().join("alerts/alerts.json").display());
    // Only who has a collector opens sockets of IP.
    for (settings, ip) in [("", false), ("[store]\npath = \"\"\n", false), (file.as_str(), false), (delivers, true)] {
        let config = lab.file("outfall.toml", settings);
        let outside = config.parent().unwrap().parent().unwrap().join("intruder.txt");
        let (inside, outside) = (config.to_str().unwrap().to_owned(), outside.to_str().unwrap().to_owned());
        let mut sensor = lab.sensor(&["--config".into(), config.into()]);
        let threads: Vec<_> = std::fs::read_dir(format!("/proc/{}/task", sensor.pid())).unwrap().collect();
        assert!(threads.len() >= 3, "{threads:?}");
        for thread in threads {
            let thread = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
            let thread = Thread::hold(nix::unistd::Pid::from_raw(thread));
            let open = |path: &str, flags: i32| {
                let (at, flags) = (Number(AT_FDCWD.into()), Number(flags.into()));
                thread.call(SYS_openat, [at, Text(path), flags, Number(0o600)])
            };
            let socket = |family: i32, kind: i32| {
                thread.call(SYS_socket, [Number(family.into()), Number(kind.into()), Number(0), Number(0)])
            };
            // That calls come through at all is seen by what is allowed.
            assert!(open(&inside, O_RDONLY) >= 0, "{settings}");
            for path in ["/etc/passwd", "/proc/self/mem", "/dev/null"] {
                assert!(open(path, O_RDONLY) < 0, "{settings}: opens {path}");
            }
            assert!(open(&outside, O_CREAT | O_WRONLY) < 0, "{settings}: writes outside");
            for (family, kind) in
                [(AF_PACKET, SOCK_RAW), (AF_NETLINK, SOCK_RAW), (AF_INET, SOCK_RAW), (AF_UNIX, SOCK_STREAM)]
            {
                assert!(socket(family, kind) < 0, "{settings}: opens a socket of {family}, {kind}");
            }
            for (family, kind) in [(AF_INET, SOCK_STREAM), (AF_INET, SOCK_DGRAM), (AF_INET6, SOCK_STREAM)] {
                let given = socket(family, kind);
                assert!(
                    if ip { given >= 0 } else { given == -i64::from(EPERM) },
                    "{settings}: {given} for {family}, {kind}"
                );
            }
            assert!(thread.call(SYS_execve, [Text("/bin/true"), Number(0), Number(0), Number(0)]) < 0);
            assert!(thread.call(SYS_ptrace, [Number(0), Number(0), Number(0), Number(0)]) < 0);
        }
        // A collector is taken up by the next start, not by a reload.
        lab.file("outfall.toml", delivers);
        sensor.signal(Signal::SIGHUP);
        let said = sensor.says("reloaded: ");
        assert_eq!(said.contains("other changes wait for the next start"), !ip, "{said}");
        sensor.ends();
    }
}

#[test]
fn pinned_threads_keep_to_a_processor_each() {
    let Some(lab) = lab("pinned", 1) else { return };
    let config = lab.file("outfall.toml", "[capture]\nthreads = 2\npin = true\n");
    let sensor = lab.sensor(&["--config".into(), config.into()]);
    let (mut kept, mut of_process) = (std::collections::BTreeMap::new(), String::new());
    for thread in std::fs::read_dir(format!("/proc/{}/task", sensor.pid())).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        match field("Name") {
            name if name.starts_with("capture-") => drop(kept.insert(name, field("Cpus_allowed_list"))),
            _ => of_process = field("Cpus_allowed_list"),
        }
    }
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.values().all(|list| list.parse::<u32>().is_ok()), "one each: {kept:?}");
    let several = of_process.parse::<u32>().is_err();
    assert!(!several || kept["capture-0"] != kept["capture-1"], "{kept:?} of {of_process}");
    sensor.ends();
}

#[test]
fn check_says_whether_the_store_can_be_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(lab) = lab("checkstore", 1) else { return };
    let (own, beside) = (lab.folder.path().join("own"), lab.folder.path().join("outfall.db"));
    let check = |settings: &str| {
        let config = lab.file("outfall.toml", settings);
        let mut command = lab.command();
        command.args(["check", "--interface", "tap0", "--config"]).arg(config);
        let ran = run(command, &[]);
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("store: ")).unwrap_or_default().to_owned();
        (ran.status, line)
    };
    let (status, said) = check("");
    assert!(status == Some(0) && said.starts_with("change") && said.contains("beside the configuration"), "{said}");
    let path = format!("[store]\npath = \"{}/outfall.db\"\n", own.display());
    assert!(check(&path).1.contains("its directory is not there"));
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (status, said) = check(&path);
    assert!(status == Some(0) && said.starts_with("ok"), "{said}");
    let (status, said) = check(&format!("{path}[capture]\nuser = \"nobody\"\n"));
    assert!(status == Some(1) && said.starts_with("FAIL") && said.contains("`capture.user` may not"), "{said}");
    std::fs::write(&beside, "no database at all, but long enough to be one").unwrap();
    let (status, said) = check("");
    assert!(status == Some(1) && said.starts_with("FAIL") && said.contains("no SQLite database"), "{said}");
    assert_eq!(check("[store]\npath = \"\"\n").1, "", "nothing is kept");
}

#[test]
fn check_says_whether_evidence_can_be_written() {
    let Some(lab) = lab("checkshelf", 1) else { return };
    let folder = lab.folder.path().display().to_string();
    for (status, settings, says) in [
        (0, "directory = \"shelf\"".to_owned(), "ok     evidence:"),
        (0, "directory = \"shelf\"\nmin_free = \"1 TiB\"".to_owned(), "stays free: none is written"),
        (1, format!("directory = \"{folder}/none/shelf\""), "directory that it is to be made in is not there"),
        (1, "directory = \".\"\n[capture]\nuser = \"nobody\"".to_owned(), "`capture.user` may not"),
    ] {
        let config = lab.file("outfall.toml", &format!("[evidence]\n{settings}\n"));
        let mut command = lab.command();
        command.args(["check", "--interface", "tap0", "--config"]).arg(config);
        let ran = run(command, &[]);
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status == Some(status) && text.contains(says), "{settings}: {text}");
    }
}

#[test]
fn check_says_what_to_change() {
    let Some(lab) = lab("check", 1) else { return };
    let check = |arguments: &[&str]| {
        let mut command = lab.command();
        command.arg("check").args(arguments);
        let ran = run(command, &[]);
        (ran.status, String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let (status, text) = check(&["--interface", "tap0"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("packets are not merged as they arrive"), "{text}");
    let ethtool = lab.inside(|| std::process::Command::new("ethtool").args(["-K", "tap0", "gro", "on"]).status());
    match ethtool {
        Ok(status) if status.success() => {
            let (status, text) = check(&["--interface", "tap0"]);
            assert!(status == Some(0) && text.contains("ethtool -K tap0 gro off"), "{text}");
        }
        _ => println!("skipped: what check says of merged packets: there is no ethtool"),
    }
    // rx_queue_0_drops; the driver of veth has some twenty counters more.
    assert!(text.contains("counts one kind of loss"), "{text}");
    assert!(text.contains("tap0: is up") && text.contains("CAP_NET_RAW is there") && text.contains("clock:"), "{text}");
    lab.ip(&["link", "set", "tap0", "down"]);
    let (status, text) = check(&["--interface", "tap0", "--interface", "nosuch0"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("ip link set tap0 up") && text.contains("nosuch0: no such interface"), "{text}");
}

/// A connection between 10.0.0.5 and 192.0.2.9, written down segment by segment.
struct Talk {
    /// Of the client and of the server.
    ports: [u16; 2],
    /// The next sequence numbers of both.
    seqs: [u32; 2],
    /// When the next segment is sent.
    at: Duration,
    frames: Vec<Timed>,
}

impl Talk {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const CLIENT: usize = 0;
    const SERVER: usize = 1;

    fn opens(at: Duration, ports: [u16; 2], seqs: [u32; 2]) -> Self {
        let mut talk = Self { ports, seqs, at, frames: Vec::new() };
        talk.segment(Self::CLIENT, Self::SYN, &[]);
        talk.segment(Self::SERVER, Self::SYN | Self::ACK, &[]);
        talk
    }

    fn segment(&mut self, from: usize, flags: u8, payload: &[u8]) {
        let to = 1 - from;
        let address = |end: usize| [[10, 0, 0, 5], [192, 0, 2, 9]][end];
        let mut frame = [&[2; 12][..], &[8, 0, 0x45, 0]].concat();
        frame.extend((40 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend([address(from), address(to)].concat());
        frame.extend([self.ports[from].to_be_bytes(), self.ports[to].to_be_bytes()].concat());
        let ack = if flags & Self::ACK == 0 { 0 } else { self.seqs[to] };
        frame.extend([self.seqs[from].to_be_bytes(), ack.to_be_bytes()].concat());
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        self.frames.push((self.at, frame));
        self.at += Duration::from_micros(50);
        let passed = payload.len() as u32 + u32::from(flags & (Self::SYN | Self::FIN) != 0);
        self.seqs[from] = self.seqs[from].wrapping_add(passed);
    }

    fn says(&mut self, from: usize, bytes: &[u8]) {
        self.segment(from, Self::ACK, bytes);
    }

    /// So many segments of 1,000 bytes, every other one acknowledged. Behind the first there is time to take note of it.
    fn sends(&mut self, from: usize, segments: u32) {
        for n in 0..segments {
            self.says(from, &[b'x'; 1_000]);
            if n == 0 {
                self.at += Duration::from_millis(500);
            } else if n % 2 == 0 {
                self.says(1 - from, &[]);
            }
        }
    }

    /// The same, but that the second segment comes once there was time, and one in the middle twice.
    fn sends_late(&mut self, from: usize, segments: u32) {
        self.says(from, &[b'x'; 1_000]);
        let late = self.seqs[from];
        for n in 2..8 {
            self.seqs[from] = late.wrapping_add(1_000 * (n - 1));
            self.says(from, &[b'x'; 1_000]);
        }
        self.at += Duration::from_millis(500);
        let next = std::mem::replace(&mut self.seqs[from], late);
        self.says(from, &[b'x'; 1_000]);
        self.seqs[from] = next;
        for n in 8..segments {
            self.says(from, &[b'x'; 1_000]);
            if n == segments / 2 {
                self.seqs[from] = self.seqs[from].wrapping_sub(1_000);
                self.says(from, &[b'x'; 1_000]);
            }
        }
    }

    fn ends(mut self, first: usize) -> Vec<Timed> {
        self.segment(first, Self::FIN | Self::ACK, &[]);
        self.segment(1 - first, Self::FIN | Self::ACK, &[]);
        self.says(first, &[]);
        self.frames
    }
}

/// A connection that speaks TLS, with the sequence numbers that it begins with, and a download of so many segments. The client
/// may have said all before.
fn encrypted(at: Duration, port: u16, segments: u32, begin_at: [u32; 2], half_closed: bool) -> Vec<Timed> {
    let mut talk = Talk::opens(at, [port, 443], begin_at);
    for (from, kind) in [(Talk::CLIENT, 1), (Talk::SERVER, 2)] {
        let mut hello = vec![22, 3, 3, 0, 195, kind, 0, 0, 191, 3, 3];
        hello.resize(200, 0);
        talk.says(from, &hello);
    }
    if half_closed {
        talk.segment(Talk::CLIENT, Talk::FIN | Talk::ACK, &[]);
        talk.sends(Talk::SERVER, segments);
        talk.segment(Talk::SERVER, Talk::FIN | Talk::ACK, &[]);
        return talk.frames;
    }
    talk.sends(Talk::SERVER, segments);
    talk.ends(Talk::SERVER)
}

/// Downloads in the clear: two over one connection of HTTP with an upload between them, one over FTP, before an upload over the
/// same dialogue, and one that does not end.
fn downloads() -> Vec<Timed> {
    let mut http = Talk::opens(Duration::ZERO, [50_001, 80], [4_294_967_000, 4_293_967_000]);
    http.says(Talk::CLIENT, b"GET /large HTTP/1.1\r\nHost: files.example\r\n\r\n");
    http.says(Talk::SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n");
    http.sends(Talk::SERVER, 3_000);
    let head = b"POST /in HTTP/1.1\r\nHost: files.example\r\nContent-Length: 20000\r\n\r\n";
    http.says(Talk::CLIENT, head);
    http.sends(Talk::CLIENT, 20);
    http.says(Talk::SERVER, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    http.says(Talk::CLIENT, b"GET /endless HTTP/1.1\r\nHost: files.example\r\n\r\n");
    http.says(Talk::SERVER, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    http.sends_late(Talk::SERVER, 2_000);
    let mut ftp = Talk::opens(Duration::from_micros(20), [50_002, 21], [7, 9]);
    let mut frames = http.ends(Talk::SERVER);
    ftp.says(Talk::SERVER, b"220 Ready\r\n");
    for (line, answer) in [("USER ann", "331 Password"), ("PASS x", "230 In"), ("TYPE I", "200 Binary")] {
        ftp.says(Talk::CLIENT, format!("{line}\r\n").as_bytes());
        ftp.says(Talk::SERVER, format!("{answer}\r\n").as_bytes());
    }
    for (verb, port, from, segments) in [("RETR", 40_000, Talk::SERVER, 3_000), ("STOR", 40_001, Talk::CLIENT, 30)] {
        ftp.says(Talk::CLIENT, b"PASV\r\n");
        let place = format!("227 Passive (192,0,2,9,{},{})\r\n", port / 256, port % 256);
        ftp.says(Talk::SERVER, place.as_bytes());
        ftp.says(Talk::CLIENT, format!("{verb} {port}.bin\r\n").as_bytes());
        ftp.says(Talk::SERVER, b"150 Here it comes\r\n");
        let mut data = Talk::opens(ftp.at, [port + 10_000, port], [1_000_000_000, 2_000_000_000]);
        data.sends(from, segments);
        ftp.at = data.at + Duration::from_millis(20);
        frames.extend(data.ends(from));
        ftp.says(Talk::SERVER, b"226 Done\r\n");
    }
    // One that is not over when the sensor is told to end.
    let mut last = Talk::opens(ftp.at, [50_003, 80], [1, 2]);
    frames.extend(ftp.ends(Talk::CLIENT));
    last.says(Talk::CLIENT, b"GET /long HTTP/1.1\r\nHost: files.example\r\n\r\n");
    last.says(Talk::SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n");
    last.sends(Talk::SERVER, 2_000);
    frames.extend(last.frames);
    frames.sort_by_key(|(at, _)| *at);
    frames
}

#[test]
fn what_the_kernel_relieves_of_is_counted_as_if_it_had_been_read() {
    let Some(lab) = lab("relief", 1) else { return };
    let config = lab.file("outfall.toml", "[capture]\nkernel_relief = true\n");
    let mut command = lab.command();
    command.args(["check", "--interface", "tap0", "--config"]).arg(&config);
    let checked = run(command, &[]);
    let text = String::from_utf8_lossy(&checked.stdout);
    if !text.contains("ok     relief") {
        return skip("relief", text.lines().find(|line| line.contains("relief")).unwrap_or("not told"));
    }
    let outcome = |settings: &str, threads: usize, frames: &[Timed]| {
        let config = lab.file("outfall.toml", settings);
        let sensor = lab.sensor(&["--flows".into(), "--config".into(), config.into()]);
        lab.send(Instant::now(), &on(0, frames.to_vec()));
        let (records, said) = sensor.ends();
        let count = |name: &str| (0..threads).map(|thread| counter(&said, thread, name)).sum();
        let terms = ["packets", "kernel_dropped", "before_start", "waiting", "relieved"].map(count);
        assert_eq!(count("received"), terms.iter().sum::<u64>(), "{said}");
        assert_eq!((count("gaps"), count("relief_full")), (0, 0), "{said}");
        let of = |dataset: &str, parts: &[&str]| {
            let records = records.iter().filter(|record| at(record, "event.dataset") == dataset);
            let mut shown: Vec<(u64, Vec<Value>)> = records
                .map(|record| {
                    let port = at(record, "source.port").as_u64().unwrap();
                    (port, parts.iter().map(|part| at(record, part).clone()).collect())
                })
                .collect();
            // Both of the same ends come in the order of time, others as the threads find them.
            shown.sort_by_key(|(port, _)| *port);
            shown
        };
        let flows = of("outfall.flow", &["source", "destination", "outfall.flow", "network.protocol"]);
        let uploads = of("outfall.upload", &["source.bytes", "destination.bytes", "outfall.upload", "file"]);
        // Interfaces say a little of their own, which is not TCP.
        let summed_up = said.split("SUMMARY").nth(1).unwrap().lines().skip(2);
        let summed_up =
            summed_up.map(|line| line.split(" tcp, ").next().unwrap().to_owned() + "\n").collect::<String>();
        (flows, uploads, summed_up, count("relieved"), count("bytes") + count("relieved_bytes"))
    };
    let relief =
        |threads: usize| format!("[capture]\nkernel_relief = true\nrelief_after = \"1 kB\"\nthreads = {threads}\n");
    // Once it is over, its ends are used again.
    let first = encrypted(Duration::ZERO, 50_000, 3_000, [7_000, 4_294_900_000], false);
    let again = encrypted(Duration::from_secs(3), 50_000, 3_000, [900_000_000, 1_800_000_000], false);
    let closed = encrypted(Duration::from_secs(5), 50_005, 2_000, [1, 2], true);
    let put = lab::frames(&Story::named("webdav-put").capture()).0;
    // Segments of downloads, and how many uploads there are besides.
    let tagged = |(at, mut frame): Timed| {
        frame.splice(12..12, [0x81, 0, 0, 7]);
        (at, frame)
    };
    let tagged: Vec<Timed> = downloads().into_iter().map(tagged).collect();
    let cases = [([first, put, again, closed].concat(), 10_000, 2), (downloads(), 12_000, 2), (tagged, 12_000, 2)];
    for (frames, fewest, uploads) in cases {
        let without = outcome("", 1, &frames);
        assert_eq!((without.3, without.1.len()), (0, uploads), "{}", without.2);
        assert!(without.0.iter().any(|(_, flow)| flow[1]["bytes"].as_u64() >= Some(3_000_000)), "{:?}", without.0);
        for threads in [1, 2] {
            let with = outcome(&relief(threads), threads, &frames);
            assert!(with.3 > fewest, "{} packets", with.3);
            assert_eq!((&with.0, &with.1, &with.2), (&without.0, &without.1, &without.2), "{threads} threads");
            assert!(with.4.abs_diff(without.4) < fewest, "{} bytes rather than {}", with.4, without.4);
        }
    }
    // A socket has one filter.
    let config = "[capture]\nkernel_relief = true\nfilter = \"tcp\"\n";
    let mut command = lab.command();
    command.args(["run", "--interface", "tap0", "--config"]).arg(lab.file("both.toml", config));
    run(command, &[]).refuses(&["capture.kernel_relief", "capture.filter"]);
}

/// What this thread starts may make programs and tables of the extended BPF, and not use them, as on an older kernel.
fn without_tables() {
    use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
    let command = |command| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command).unwrap();
    let rules = [1, 2, 3, 21].map(|number| SeccompRule::new(vec![command(number)]).unwrap());
    let rules = [(libc::SYS_bpf, rules.to_vec())].into();
    let (refuse, architecture) = (SeccompAction::Errno(libc::EPERM as u32), std::env::consts::ARCH.try_into().unwrap());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

#[test]
fn a_kernel_that_refuses_the_use_of_the_table_is_found_by_the_check_and_said_once() {
    let Some(lab) = lab("refuses", 1) else { return };
    let config = lab.file("outfall.toml", "[capture]\nkernel_relief = true\nrelief_after = \"1 kB\"\n");
    let check = || {
        let mut command = lab.command();
        command.args(["check", "--interface", "tap0", "--config"]).arg(&config);
        String::from_utf8_lossy(&run(command, &[]).stdout).into_owned()
    };
    let text = check();
    if !text.contains("ok     relief") {
        return skip("refuses", text.lines().find(|line| line.contains("relief")).unwrap_or("not told"));
    }
    let (text, mut sensor) = std::thread::scope(|scope| {
        let start = || {
            without_tables();
            (check(), lab.sensor(&["--config".into(), config.clone().into()]))
        };
        scope.spawn(start).join().unwrap()
    });
    assert!(text.contains("FAIL   relief") && text.contains("5.19"), "{text}");
    let frames = [50_000, 50_001].map(|port| encrypted(Duration::ZERO, port, 300, [1, 2], false)).concat();
    let sent = frames.len() as u64;
    lab.send(Instant::now(), &on(0, frames));
    let line = sensor.says("refuses relief");
    assert!(line.contains("thread 0") && line.contains("ermitted"), "{line}");
    let (_, said) = sensor.ends();
    assert_eq!(said.matches("refuses relief").count(), 1, "{said}");
    let counts = ["relief_failed", "relief_full", "relieved", "packets", "gaps"].map(|name| counter(&said, 0, name));
    assert_eq!(counts, [1, 0, 0, sent, 0], "{said}");
}

#[test]
fn what_cannot_be_captured_is_refused_in_a_line() {
    outfall(["run"]).refuses(&["no interface", "--interface"]);
    outfall(["run", "--interface", "nosuch0"]).refuses(&["nosuch0"]);
    outfall(["run", "--interface", "nosuch0", "--endpoint", "no/such.jsonl"]).refuses(&["no/such.jsonl"]);
}

#[test]
fn the_service_is_a_unit_that_systemd_takes() {
    let unit = outfall(["config", "service"]).exits(0).text().to_owned();
    if !common::available("systemd-analyze") {
        return skip("service", "systemd-analyze is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outfall.service");
    // The program is installed somewhere else here.
    let program = common::binary().canonicalize().unwrap().display().to_string();
    std::fs::write(&path, unit.replace("/usr/local/bin/outfall", &program)).unwrap();
    let ran = run(
        {
            let mut c = Command::new("systemd-analyze");
            c.args(["verify", "--man=no"]).arg(&path);
            c
        },
        &[],
    );
    let about = |line: &&str| line.contains("outfall.service");
    let complaints: Vec<&str> = ran.stderr.lines().filter(about).collect();
    assert!(ran.status == Some(0) && complaints.is_empty(), "{}", ran.stderr);
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--threshold=20"]).arg(&path);
    let ran = run(command, &[]);
    let exposure = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(ran.status, Some(0), "{exposure}{}", ran.stderr);
}
