//! What the tests of the whole program share: running it, and reading and comparing its records.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod expect;
#[cfg(target_os = "linux")]
pub mod helper;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod intruder;
#[cfg(target_os = "linux")]
pub mod lab;
pub mod pcap;

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// No input of these tests may keep the program busy for longer.
const LIMIT: Duration = Duration::from_secs(120);

/// The crate's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test: the one that was built with the tests, or the one that `OUTFALL_BIN` names.
pub fn binary() -> PathBuf {
    match std::env::var_os("OUTFALL_BIN") {
        Some(path) => root().join(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_outfall")),
    }
}

/// Says on the terminal why a test proves nothing here, which a captured `println!` would not.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Whether a program can be started.
pub fn available(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// How a run of the program ended.
pub struct Ran {
    /// The exit status; none if a signal ended it.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    what: String,
}

/// Runs the program with nothing on its standard input.
pub fn outfall<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    outfall_reading(args, &[])
}

/// Runs the program with `input` on its standard input.
pub fn outfall_reading<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Ran {
    let mut command = Command::new(binary());
    command.args(args).env_remove("COLUMNS");
    run(command, input)
}

/// Runs any command to its end, or ends the test if it does not come to one.
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let (mut to, mut out, mut err) =
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (tell, told) = mpsc::channel();
    let ended = std::thread::scope(|scope| {
        // A program that does not read all of its input is no fault of the test.
        scope.spawn(move || to.write_all(input));
        let stderr = scope.spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        scope.spawn(move || {
            let mut bytes = Vec::new();
            let _ = tell.send(out.read_to_end(&mut bytes).map(|_| bytes));
        });
        let stdout = told.recv_timeout(LIMIT);
        if stdout.is_err() {
            let _ = child.kill();
        }
        (stdout, stderr.join().unwrap().unwrap())
    });
    let status = child.wait().unwrap().code();
    let stdout = ended.0.unwrap_or_else(|_| panic!("{what}: not done after {LIMIT:?}")).unwrap();
    Ran { status, stdout, stderr: String::from_utf8_lossy(&ended.1).into_owned(), what }
}

impl Ran {
    /// Requires an exit status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "exit status of {}\nstderr: {}", self.what, self.stderr);
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|error| panic!("{}: not UTF-8: {error}", self.what))
    }

    /// Standard output as JSON Lines.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        let parse = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(value) if value.is_object() => value,
            Ok(_) | Err(_) => panic!("{}: not a JSON object: {line}", self.what),
        };
        self.text().lines().map(parse).collect()
    }

    /// The records of one data set, finished ones only.
    #[track_caller]
    pub fn dataset(&self, name: &str) -> Vec<Value> {
        let mut records = self.records();
        records.retain(|record| {
            expect::at(record, "event.dataset").and_then(Value::as_str) == Some(name)
                && expect::at(record, "outfall.upload.state").and_then(Value::as_str) != Some("running")
        });
        records
    }

    /// Requires that the program refused its input: status 2, nothing on standard output, and one line on standard
    /// error that holds every one of `words`.
    #[track_caller]
    pub fn refuses(self, words: &[&str]) {
        let ran = self.exits(2);
        assert_eq!(ran.text(), "", "{}: standard output of a refusal", ran.what);
        assert_eq!(ran.stderr.lines().count(), 1, "{}: one line on standard error, not: {}", ran.what, ran.stderr);
        assert!(ran.stderr.matches("(os error").count() <= 1, "{}: the reason is said twice: {}", ran.what, ran.stderr);
        ran.says(words);
    }

    /// Requires words on standard error, whatever their case.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            let said = self.stderr.to_lowercase().contains(&word.to_lowercase());
            assert!(said, "{}: standard error lacks {word:?}: {}", self.what, self.stderr);
        }
    }
}

/// A folder of `captures/`, with what it has.
#[derive(Clone, Debug)]
pub struct Story {
    pub name: String,
    folder: PathBuf,
}

impl Story {
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), folder: root().join("captures").join(name) }
    }

    /// Every folder that states what is expected, in order of name.
    pub fn all() -> Vec<Self> {
        let mut stories: Vec<Self> = files_of(&root().join("captures"))
            .into_iter()
            .filter(|folder| folder.join("expected.json").exists())
            .map(|folder| Self::named(&folder.file_name().unwrap().to_string_lossy()))
            .collect();
        stories.sort_by(|a, b| a.name.cmp(&b.name));
        stories
    }

    pub fn capture(&self) -> PathBuf {
        self.folder.join("capture.pcap")
    }

    pub fn expected(&self) -> Value {
        let file = self.folder.join("expected.json");
        let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The options that give the program the story's endpoint events and settings.
    pub fn context(&self) -> Vec<OsString> {
        let mut options = Vec::new();
        for (option, file) in [("--endpoint", "endpoint.jsonl"), ("--config", "policy.toml")] {
            let file = self.folder.join(file);
            if file.exists() {
                options.extend([OsString::from(option), file.into()]);
            }
        }
        options
    }

    /// Replays the story with all that it has.
    pub fn replay(&self, options: &[&str]) -> Ran {
        let mut args = vec![OsString::from("replay"), self.capture().into()];
        args.extend(self.context());
        args.extend(options.iter().map(OsString::from));
        outfall(args)
    }
}

/// What a folder holds, in order of name; nothing if there is no such folder.
pub fn files_of(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Checks every item on as many threads as there are processors, and fails with all complaints together.
#[track_caller]
pub fn check_all<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut complaints = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            complaints.extend(check(item).err());
        }
        complaints
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut complaints: Vec<String> = std::thread::scope(|scope| {
        let crew: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        crew.into_iter().flat_map(|thread| thread.join().expect("a checking thread panicked")).collect()
    });
    complaints.sort();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), items.len(), complaints.join("\n"));
}
