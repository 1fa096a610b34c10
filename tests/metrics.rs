//! What a live sensor tells of itself over HTTP: its numbers are those of its summary, and no client harms it.

#![cfg(all(feature = "sensor", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::lab::{self, Lab, Timed};
use common::{Story, root, skip};
use serde_json::Value;

const ADDRESS: &str = "127.0.0.1:9469";

/// A network with a loopback interface, unless this machine does not allow any.
fn lab(test: &str) -> Option<Lab> {
    let lab = Lab::new(test, 1).map_err(|reason| skip(test, &reason)).ok()?;
    lab.ip(&["link", "set", "lo", "up"]);
    Some(lab)
}

fn on_tap(frames: Vec<Timed>) -> Vec<(usize, Timed)> {
    frames.into_iter().map(|timed| (0, timed)).collect()
}

/// Sends bytes, and gives all that comes back before the other side closes.
fn exchange(lab: &Lab, request: &[u8]) -> String {
    lab.inside(|| {
        let mut stream = TcpStream::connect(ADDRESS).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Who is refused in the middle of what he says is told so, or not.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    })
}

/// Status code and body.
fn get(lab: &Lab, path: &str) -> (u16, String) {
    let answer = exchange(lab, format!("GET {path} HTTP/1.1\r\nHost: sensor\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Samples by name and labels as they are written.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// All samples of a family together.
fn sum(samples: &BTreeMap<String, f64>, name: &str) -> u64 {
    let of = samples.iter().filter(|(key, _)| key.split('{').next() == Some(name));
    of.map(|(_, value)| *value as u64).sum()
}

fn families(page: &str) -> BTreeSet<String> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect()
}

/// Waits until the page says so.
fn page_when(lab: &Lab, fits: impl Fn(&BTreeMap<String, f64>) -> bool) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (code, page) = get(lab, "/metrics");
        if code == 200 && fits(&samples(&page)) {
            return page;
        }
        assert!(Instant::now() < until, "{page}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A sensor with everything that has metrics, which has seen a story and alerted on it: its page, and what it said.
fn told(lab: &Lab) -> (String, String) {
    let story = Story::named("ftp-staged-archive");
    let (frames, first) = lab::frames(&story.capture());
    let shift = lab::now() + 1_500_000_000 - first;
    let start = Instant::now() + Duration::from_millis(1_500);
    let text = std::fs::read_to_string(&story.context()[1]).unwrap();
    let events = lab.file("events.jsonl", &lab::later(&text, shift));
    let state = lab.folder.path().join("state");
    let config = format!(
        "[join]\ngrace = \"1 s\"\n[listener]\nlocal = [\"127.0.0.1:5514\"]\nstate = \"{}\"\n\
         [evidence]\ndirectory = \"evidence\"\n[[deliver.syslog]]\naddress = \"127.0.0.1:5140\"\ntransport = \"udp\"\n",
        state.display()
    );
    let config = lab.file("outfall.toml", &config);
    let sensor = lab.sensor(&["--config".into(), config.into(), "--endpoint".into(), events.into()]);
    lab.send(start, &on_tap(frames));
    page_when(lab, |samples| {
        sum(samples, "outfall_alerts_total") > 0 && sum(samples, "outfall_store_alerts_total") > 0
    });
    // What came last is counted by then.
    std::thread::sleep(Duration::from_millis(2_500));
    let (_, page) = get(lab, "/metrics");
    for (path, what) in [("/healthz", "alive\n"), ("/readyz", "ready\n")] {
        assert_eq!(get(lab, path), (200, what.to_owned()));
    }
    (page, sensor.ends().1)
}

/// The numbers of a line of the summary, in their order.
fn numbers(said: &str, line: &str) -> Vec<u64> {
    let line = said.lines().find(|candidate| candidate.trim_start().starts_with(line)).expect(said);
    line.replace(',', "").split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_numbers_are_those_of_the_summary_and_every_metric_that_is_named_is_told() {
    let Some(lab) = lab("numbers") else { return };
    let (page, said) = told(&lab);
    let samples = samples(&page);
    let of = |name: &str| sum(&samples, name);
    assert_eq!(of("outfall_capture_packets_total"), numbers(&said, "packets ")[0], "{said}");
    assert_eq!(of("outfall_flows_total"), numbers(&said, "flows ")[0], "{said}");
    assert_eq!(of("outfall_uploads_total"), numbers(&said, "uploads ")[0], "{said}");
    assert_eq!(of("outfall_attribution_uploads"), numbers(&said, "uploads ")[0], "{said}");
    assert_eq!(samples["outfall_attribution_uploads{outcome=\"attributed\"}"] as u64, numbers(&said, "attributed")[0]);
    assert_eq!(of("outfall_alert_stories_total"), numbers(&said, "alerts ")[0], "{said}");
    assert_eq!(samples["outfall_upload_bytes_total{protocol=\"ftp\"}"], 119_667.0);
    let latency = (of("outfall_alert_latency_seconds_count"), samples["outfall_alert_latency_seconds_sum"]);
    assert!(latency.0 >= 1 && latency.1 >= 1.0, "the grace is a second: {latency:?}");
    named_metrics_exist(&page);
    no_label_grows_with_the_network(&page);
    promtool(&page);
}

/// What the dashboard, the rules and the README name.
fn named_metrics_exist(page: &str) {
    let told = families(page);
    let of = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    for file in ["src/resources/outfall-dashboard.json", "src/resources/outfall-rules.yml", "README.md"] {
        let text = of(file);
        for name in names(&text) {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            assert!(told.contains(family) || told.contains(&name), "{file} names {name}, which is not told");
        }
    }
    let readme = names(&of("README.md"));
    let untold: Vec<_> = told.iter().filter(|family| !readme.contains(*family)).collect();
    assert!(untold.is_empty(), "the README lacks {untold:?}");
    let dashboard: Value = serde_json::from_str(&of("src/resources/outfall-dashboard.json")).unwrap();
    let rows = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] == "row");
    assert!(rows.count() >= 6);
}

/// Names of metrics in a text. A sensor's other names with this beginning have fewer parts or another case.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':' && c != '.' && c != '/');
    let is_name = |word: &&str| {
        let ours = word.starts_with("outfall_") || word.starts_with("process_") && word.matches('_').count() >= 2;
        ours && !word.contains(['.', '/', ':'])
    };
    words.filter(is_name).map(str::to_owned).collect()
}

fn no_label_grows_with_the_network(page: &str) {
    let labels: BTreeSet<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(['{', ',']).filter_map(|part| part.split_once("=\"")).map(|(name, _)| name))
        .collect();
    let known = [
        "bound",
        "code",
        "collector",
        "condition",
        "ending",
        "interface",
        "kind",
        "le",
        "outcome",
        "path",
        "protocol",
        "reason",
        "severity",
        "thread",
        "version",
    ];
    assert_eq!(labels, known.into());
}

/// Prometheus' own opinion, where its tool is there.
fn promtool(page: &str) {
    let tool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let start = |args: &[&str]| Command::new(&tool).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut metrics) = start(&["check", "metrics"]) else {
        return skip("promtool", "promtool is not installed (Debian: prometheus)");
    };
    metrics.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = metrics.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let rules = root().join("src/resources/outfall-rules.yml");
    let output = start(&["check", "rules", rules.to_str().unwrap()]).unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // Each question of the dashboard as a rule.
    let text = std::fs::read_to_string(root().join("src/resources/outfall-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let asked: Vec<Value> = targets
        .enumerate()
        .map(|(n, target)| {
            let expr = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m").replace("$instance", ".*");
            assert!(!expr.contains('$'), "{expr}");
            serde_json::json!({ "record": format!("dashboard:{n}"), "expr": expr })
        })
        .collect();
    assert!(asked.len() >= 40, "{}", asked.len());
    // YAML takes JSON.
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": asked }] });
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let output = start(&["check", "rules", file.path().to_str().unwrap()]).unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn requests_that_are_no_good_are_answered_or_dropped_and_the_sensor_goes_on() {
    let Some(lab) = lab("hostile") else { return };
    let config = lab.file("outfall.toml", "[metrics]\nconnections = 4\ntimeout = \"500 ms\"\n");
    let sensor = lab.sensor(&["--config".into(), config.into()]);
    page_when(&lab, |_| true);
    assert_eq!(get(&lab, "/").0, 404);
    assert_eq!(get(&lab, "/metrics/../../etc/passwd").0, 404);
    let post = exchange(&lab, b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert!(post.starts_with("HTTP/1.1 405 ") && post.to_lowercase().contains("\r\nallow: get, head\r\n"), "{post}");
    let head = exchange(&lab, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let long = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 100_000]].concat();
    let many = [b"GET /metrics HTTP/1.1\r\n".to_vec(), b"X: a\r\n".repeat(500), b"\r\n".to_vec()].concat();
    let hostile: [&[u8]; 8] = [
        b"\0\xff\xfe\r\n\r\n",
        b"GET",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        &long,
        &many,
    ];
    for request in hostile {
        assert!(
            !exchange(&lab, request).starts_with("HTTP/1.1 200"),
            "{:?}",
            request.escape_ascii().take(40).collect::<Vec<_>>()
        );
    }
    // Clients that say nothing, or read nothing, keep nobody away.
    lab.inside(|| {
        let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(ADDRESS).unwrap()).collect();
        let mut asked = TcpStream::connect(ADDRESS).unwrap();
        asked.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        asked.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        drop(silent);
    });
    let dropped = |samples: &BTreeMap<String, f64>, reason: &str| {
        samples[&format!("outfall_metrics_dropped_connections_total{{reason=\"{reason}\"}}")]
    };
    page_when(&lab, |samples| dropped(samples, "crowded-out") >= 30.0 && dropped(samples, "timeout") >= 1.0);
    assert!(sensor.ends().1.contains("connections for metrics dropped"));
}

#[test]
fn a_port_that_is_taken_does_not_keep_the_sensor_from_starting() {
    let Some(lab) = lab("taken") else { return };
    let taken = lab.inside(|| std::net::TcpListener::bind(ADDRESS).unwrap());
    let (_, said) = lab.sensor(&[]).ends();
    assert!(said.contains("warning: there are no metrics: 127.0.0.1:9469"), "{said}");
    drop(taken);
    let config = lab.file("outfall.toml", "[metrics]\nlisten = \"\"\n");
    let (_, said) = lab.sensor(&["--config".into(), config.into()]).ends();
    assert!(!said.contains("metrics"), "{said}");
}

#[test]
fn a_sensor_that_does_not_see_its_interface_is_alive_and_not_ready() {
    let Some(lab) = lab("ready") else { return };
    let mut sensor = lab.sensor(&[]);
    page_when(&lab, |_| true);
    lab.ip(&["link", "set", "tap0", "down"]);
    sensor.says("tap0 is down");
    std::thread::sleep(Duration::from_millis(1_500));
    let (code, text) = get(&lab, "/readyz");
    assert_eq!((code, text.as_str()), (503, "not ready\ninterface: tap0 is down\n"));
    assert_eq!(get(&lab, "/healthz").0, 200);
}

#[test]
fn watch_shows_a_running_sensor_and_says_when_it_is_gone() {
    let Ok(lab) = Lab::new("watch", 1).map_err(|reason| skip("watch", &reason)) else { return };
    lab.ip(&["link", "set", "lo", "up"]);
    let policy = std::fs::read_to_string(root().join("captures/no-endpoint/policy.toml")).unwrap();
    let config = lab.file("outfall.toml", &policy);
    let watch = |more: &[&str]| {
        let mut command = lab.command();
        command.arg("watch").arg("--config").arg(&config).args(more);
        common::run(command, &[])
    };
    let mut sensor = lab.sensor(&["--config".into(), config.clone().into()]);
    let (frames, _) = lab::frames(&Story::named("no-endpoint").capture());
    let frames: Vec<_> = frames.into_iter().map(|frame| (0, frame)).collect();
    lab.send(std::time::Instant::now(), &frames);
    let alert = sensor.record("an alert", |record| record["event"]["dataset"] == "outfall.alert");
    let id = alert["event"]["id"].as_str().unwrap().to_owned();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let shown = loop {
        let shown = watch(&["--once"]).exits(0).text().to_owned();
        if shown.contains(&id) && !shown.contains("no uploads yet") || std::time::Instant::now() > until {
            break shown;
        }
    };
    for part in ["Sensor", "running", "packets", &id, "Newest uploads", "no-endpoint", "Lost, at every layer"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    watch(&[]).refuses(&["no terminal", "--once"]);
    sensor.ends();
    let shown = watch(&["--once"]).exits(1).text().to_owned();
    assert!(shown.contains("does not answer") && shown.contains(&id), "{shown}");
}

#[test]
fn uploads_in_flight_are_counted_and_large_ones_listed_until_they_end() {
    let Some(lab) = lab("inflight") else { return };
    let (server, mut capture) = ("192.0.2.9:80".parse().unwrap(), common::pcap::Capture::default());
    let mut one = capture.connect("10.0.0.5:50001".parse().unwrap(), server);
    one.client("PUT /large.7z HTTP/1.1\r\nHost: drop.example\r\nContent-Length: 20000\r\n\r\n").client([7; 15_000]);
    let place = one.pause();
    let mut other = capture.connect("10.0.0.5:50002".parse().unwrap(), server);
    other.client("PUT /small HTTP/1.1\r\nHost: drop.example\r\nContent-Length: 2000\r\n\r\n").client([7; 1_000]);
    let other = other.pause();
    let split = common::pcap::parse(&capture.file()).1.len();
    let mut rest = common::pcap::Conversation::go_on(&mut capture, place);
    rest.client([7; 5_000]).server("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").close();
    common::pcap::Conversation::go_on(&mut capture, other).client([7; 1_000]).close();
    let path = lab.file("capture.pcap", "");
    std::fs::write(&path, capture.file()).unwrap();
    let mut first = lab::frames(&path).0;
    let last = first.split_off(split);
    let config = lab.file("outfall.toml", "[protocol]\nrunning_report = \"10 KB\"\n");
    let sensor = lab.sensor(&["--config".into(), config.clone().into()]);
    let flying = |page: &BTreeMap<String, f64>| sum(page, "outfall_uploads_in_flight");
    let watch = || {
        let mut command = lab.command();
        command.args(["watch", "--once", "--config"]).arg(&config);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    let running = |text: &str| -> String {
        let from = text.split("Newest uploads running").nth(1).unwrap();
        from.split("Newest uploads that ended").next().unwrap().lines().skip(1).collect()
    };
    lab.send(Instant::now(), &on_tap(first));
    page_when(&lab, |page| flying(page) == 2);
    let until = Instant::now() + Duration::from_secs(20);
    while !running(&watch()).contains("drop.example") {
        assert!(Instant::now() < until, "{}", watch());
        std::thread::sleep(Duration::from_millis(200));
    }
    let text = watch();
    assert!(running(&text).contains("10.0.0.5") && text.contains("ftp 0, http 2"), "{text}");
    lab.send(Instant::now(), &on_tap(last));
    page_when(&lab, |page| flying(page) == 0 && sum(page, "outfall_uploads_total") == 2);
    while running(&watch()).contains("drop.example") {
        assert!(Instant::now() < until, "{}", watch());
        std::thread::sleep(Duration::from_millis(200));
    }
    sensor.ends();
}
