//! A small network for tests of live capture: a network namespace for the sensor, one for the sender, and pairs of
//! virtual Ethernet between them. Nothing of it can be reached from outside, and it goes when the test is over.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// No step of a test may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A frame and when it is to be sent, from the beginning.
pub type Timed = (Duration, Vec<u8>);

/// Two namespaces with `tap0`, `tap1`... at the sensor's end and `out0`, `out1`... at the sender's.
pub struct Lab {
    name: String,
    pub folder: tempfile::TempDir,
    /// What the program finds in its environment.
    pub environment: Vec<(&'static str, OsString)>,
}

impl Lab {
    /// A network with so many pairs; none, and why, where that cannot be.
    pub fn new(test: &str, pairs: usize) -> Result<Self, String> {
        let name = format!("outfall-{}-{test}", std::process::id());
        let lab = Self { name, folder: tempfile::tempdir().unwrap(), environment: Vec::new() };
        for end in ["sensor", "sender"] {
            let namespace = lab.namespace(end);
            ip(&["netns", "add", &namespace]).map_err(|error| format!("no network namespace: {error}"))?;
            // Hosts that announce themselves would be captured, too.
            for which in ["all", "default"] {
                let setting = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                let write = format!("test ! -e {setting} || echo 1 > {setting}");
                ip(&["netns", "exec", &namespace, "sh", "-c", &write])?;
            }
        }
        for pair in 0..pairs {
            lab.connect(pair)?;
        }
        Ok(lab)
    }

    /// Makes a pair, or makes it anew.
    pub fn connect(&self, pair: usize) -> Result<(), String> {
        let (tap, out) = (format!("tap{pair}"), format!("out{pair}"));
        let (sensor, sender) = (self.namespace("sensor"), self.namespace("sender"));
        ip(&[
            "link", "add", &tap, "netns", &sensor, "mtu", "65535", "type", "veth", "peer", "name", &out, "netns",
            &sender, "mtu", "65535",
        ])?;
        ip(&["-n", &sender, "link", "set", &out, "up"])?;
        ip(&["-n", &sensor, "link", "set", &tap, "up"])?;
        // The carrier comes a while later.
        let until = Instant::now() + LIMIT;
        while !ip(&["-n", &sensor, "-o", "link", "show", &tap])?.contains("LOWER_UP") {
            if Instant::now() > until {
                return Err(format!("{tap}: no carrier"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs `ip` in the sensor's namespace.
    #[track_caller]
    pub fn ip(&self, args: &[&str]) {
        let namespace = self.namespace("sensor");
        ip(&[&["-n", namespace.as_str()], args].concat()).unwrap();
    }

    pub fn namespace(&self, end: &str) -> String {
        format!("{}-{end}", self.name)
    }

    /// The path of a file of this test, with this content.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A story to be sent from a while from now on: its endpoint events shifted to then, and its configuration with more behind it.
    pub fn prepare(&self, story: &super::Story, more: &str) -> Prepared {
        let (frames, first) = frames(&story.capture());
        let lead = Duration::from_millis(1_500);
        let (start, shift) = (Instant::now() + lead, now() + lead.as_nanos() as u64 - first);
        let mut args: Vec<OsString> = Vec::new();
        let mut config = String::new();
        for pair in story.context().chunks(2) {
            let text = std::fs::read_to_string(&pair[1]).unwrap();
            if pair[0] == "--endpoint" {
                args.extend(["--endpoint".into(), self.file("endpoint.jsonl", &later(&text, shift)).into()]);
            } else {
                config = text;
            }
        }
        let config = self.file("outfall.toml", &format!("{config}\n{more}\n"));
        args.extend(["--config".into(), config.clone().into()]);
        Prepared { frames, start, args, config }
    }

    /// A command that runs the program in the sensor's namespace.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace("sensor")]).arg(super::binary());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a live sensor on `tap0`, and waits until it captures.
    #[track_caller]
    pub fn sensor(&self, args: &[OsString]) -> Sensor {
        self.sensor_on(&["tap0"], args)
    }

    /// Starts a live sensor on some interfaces, and waits until it captures.
    #[track_caller]
    pub fn sensor_on(&self, interfaces: &[&str], args: &[OsString]) -> Sensor {
        let mut command = self.command();
        command.args(["run", "--json"]).args(args);
        interfaces.iter().for_each(|interface| {
            command.args(["--interface", interface]);
        });
        let mut sensor = Sensor::start(command);
        sensor.says("capturing on");
        sensor
    }

    /// Runs something in the sensor's namespace: sockets that it opens are there.
    pub fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/run/netns").join(self.namespace("sensor"))).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                run()
            });
            thread.join().unwrap()
        })
    }

    /// Sends frames, each on its pair at its time, counted from `start`.
    pub fn send(&self, start: Instant, frames: &[(usize, Timed)]) {
        let namespace = File::open(Path::new("/run/netns").join(self.namespace("sender"))).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let mut pairs: Vec<Option<pcap::Capture<pcap::Active>>> = Vec::new();
                for (pair, (when, frame)) in frames {
                    pairs.resize_with(pairs.len().max(pair + 1), || None);
                    let out = pairs[*pair].get_or_insert_with(|| {
                        let name = format!("out{pair}");
                        pcap::Capture::from_device(name.as_str()).unwrap().open().unwrap()
                    });
                    std::thread::sleep((start + *when).saturating_duration_since(Instant::now()));
                    out.sendpacket(frame.as_slice()).unwrap();
                }
            });
        });
    }
}

/// A story that is about to be sent.
pub struct Prepared {
    pub frames: Vec<Timed>,
    pub start: Instant,
    pub args: Vec<OsString>,
    pub config: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for end in ["sensor", "sender"] {
            let _ = ip(&["netns", "del", &self.namespace(end)]);
        }
    }
}

fn ip(args: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(printed) } else { Err(format!("ip {}: {said}", args.join(" "))) }
}

fn lines(input: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (to, from) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(input).lines() {
            let Ok(line) = line else { break };
            if to.send(line).is_err() {
                break;
            }
        }
    });
    from
}

/// A live sensor under test.
pub struct Sensor {
    child: Child,
    records: Receiver<String>,
    log: Receiver<String>,
    said: Arc<Mutex<String>>,
    seen: Vec<Value>,
}

impl Sensor {
    /// Starts the program.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { records: lines(out), log: lines(err), said: Arc::default(), seen: Vec::new(), child }
    }

    /// Ends it without any warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for a line of the log that holds this, and gives it.
    #[track_caller]
    pub fn says(&mut self, what: &str) -> String {
        let until = Instant::now() + LIMIT;
        while let Ok(line) = self.log.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.said.lock().unwrap().push_str(&format!("{line}\n"));
            if line.contains(what) {
                return line;
            }
        }
        panic!("the log lacks {what:?}:\n{}", self.said.lock().unwrap());
    }

    /// Waits for a line of the log that ends like this.
    #[track_caller]
    pub fn says_at_last(&mut self, what: &str) {
        while !self.says(what).ends_with(what) {}
    }

    /// Waits for a record that fits, and gives it.
    #[track_caller]
    pub fn record(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + LIMIT;
        if let Some(seen) = self.seen.iter().find(|record| fits(record)) {
            return seen.clone();
        }
        while let Ok(line) = self.records.recv_timeout(until.saturating_duration_since(Instant::now())) {
            let record: Value = serde_json::from_str(&line).unwrap();
            self.seen.push(record.clone());
            if fits(&record) {
                return record;
            }
        }
        panic!("no record {what}; the log:\n{}", self.said.lock().unwrap());
    }

    /// Waits for the sensor to end by itself: its status, all records, and all that it said.
    #[track_caller]
    pub fn ended(mut self) -> (Option<i32>, Vec<Value>, String) {
        let until = Instant::now() + LIMIT;
        while let Ok(line) = self.records.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push(serde_json::from_str(&line).unwrap());
        }
        while let Ok(line) = self.log.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.said.lock().unwrap().push_str(&format!("{line}\n"));
        }
        let status = self.child.wait().unwrap().code();
        let said = self.said.lock().unwrap().clone();
        (status, std::mem::take(&mut self.seen), said)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// `ip netns exec` becomes the program that it runs, so the child is the sensor itself.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Ends the sensor by SIGTERM: all records, and all that was said.
    #[track_caller]
    pub fn ends(self) -> (Vec<Value>, String) {
        self.signal(Signal::SIGTERM);
        let (status, records, said) = self.ended();
        assert_eq!(status, Some(0), "{said}");
        (records, said)
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The frames of a capture with their times, and when it begins, in nanoseconds.
pub fn frames(capture: &Path) -> (Vec<Timed>, u64) {
    let mut input = pcap::Capture::from_file_with_precision(capture, pcap::Precision::Nano).unwrap();
    let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
    while let Ok(packet) = input.next_packet() {
        let ts = packet.header.ts;
        frames.push((ts.tv_sec as u64 * 1_000_000_000 + ts.tv_usec as u64, packet.data.to_vec()));
    }
    let first = frames.iter().map(|(ts, _)| *ts).min().unwrap();
    (frames.into_iter().map(|(ts, frame)| (Duration::from_nanos(ts - first), frame)).collect(), first)
}

/// The events of `text` as if they had happened so much later, in nanoseconds.
pub fn later(text: &str, by: u64) -> String {
    fn shift(value: &mut Value, by: u64) {
        match value {
            // Only times are that large.
            Value::Number(number) => {
                if let Some(time) = number.as_u64().filter(|time| *time > 1_000_000_000_000_000_000) {
                    *value = (time + by).into();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| shift(item, by)),
            Value::Object(fields) => fields.values_mut().for_each(|field| shift(field, by)),
            _ => {}
        }
    }
    let lines = text.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        shift(&mut event, by);
        format!("{event}\n")
    });
    lines.collect()
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// A record without what depends on when it was captured.
pub fn timeless(mut record: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, field| name != "id" || !field.as_str().is_some_and(is_identifier));
                fields.retain(|_, field| !field.as_str().is_some_and(is_time));
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    fn is_identifier(text: &str) -> bool {
        text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
    fn is_time(text: &str) -> bool {
        text.len() == 30 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
    }
    // The playbook names the alert.
    let id = record.pointer("/event/id").and_then(Value::as_str).map(str::to_owned);
    if let Some((id, steps)) = id.zip(record.pointer_mut("/outfall/alert/playbook").and_then(Value::as_array_mut)) {
        for step in steps {
            *step = step.as_str().unwrap().replace(&id, "ID").into();
        }
    }
    strip(&mut record);
    // By how much a clock is off is a time as well, and live it is told by those connections that came before.
    if let Some(clock) = record.pointer_mut("/outfall/join/clock").and_then(Value::as_object_mut) {
        clock.retain(|name, _| name == "field");
    }
    record
}
