//! Gathering file events: what a process does to a file over a time is one report for each operation.
//!
//! Sightings come in, reports go out, and wishes for hashes of the files that matter. Processes and connections pass
//! straight through; a connection first brings out what its process did to files, so that the sensor knows of them when
//! it sees the upload. Nothing here reads a clock: `now` is any time that does not go back.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::config::Files;
use super::pattern::{Pattern, folded};
use super::sighting::{FileReport, Report, Sighting, Touch, What};
use crate::endpoint::{ConnectionEvent, FileEvent, Operation, ProcessStart, Source};
use crate::net::{Timestamp, without_passwords};

/// A process's id and start.
type Process = (u32, Option<Timestamp>);

/// How many files that a process has read are remembered for its next connection, and for how long.
const READ_FILES: usize = 16;
const READ_FOR: Duration = Duration::from_secs(300);

/// How many running processes are remembered by name. There are seldom a thousand.
const PROCESSES: usize = 16_384;

/// Somebody wants the hash of a file that was reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// What saw it.
    pub source: Source,
    /// The report, to be made again with the hash.
    pub report: FileReport,
}

/// What came of a sighting.
#[derive(Debug, Default)]
pub struct Gathered {
    /// In the order in which they are to be sent.
    pub reports: Vec<(Source, Report)>,
    /// Files to be hashed.
    pub wishes: Vec<Wish>,
}

/// What was done to a file with one operation.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Timestamp,
    last: Timestamp,
    bytes: u64,
}

/// What a process has done to a file since it was last reported.
#[derive(Debug)]
struct Entry {
    source: Source,
    create: Option<Span>,
    write: Option<Span>,
    read: Option<Span>,
    size: Option<u64>,
    since: Duration,
    touched: Duration,
}

#[derive(Debug, Default)]
struct Running {
    start: Option<Timestamp>,
    image: Vec<char>,
    read: VecDeque<(Duration, Wish)>,
}

/// Gathers file events.
#[derive(Debug)]
pub struct Gatherer {
    config: Files,
    folders: Vec<Pattern>,
    quiet: Duration,
    longest: Duration,
    open: HashMap<Process, HashMap<Arc<str>, Entry>>,
    entries: usize,
    running: HashMap<u32, Running>,
    /// File events that the rules left out.
    ignored: u64,
}

impl Gatherer {
    /// With the rules of a configuration.
    pub fn new(config: &Files) -> Self {
        Self {
            folders: config.folders.iter().map(|folder| inside(folder)).collect(),
            quiet: Duration::from_nanos(config.quiet.0),
            longest: Duration::from_nanos(config.longest.0),
            config: config.clone(),
            open: HashMap::new(),
            entries: 0,
            running: HashMap::new(),
            ignored: 0,
        }
    }

    /// How many file events the rules left out.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Takes a sighting in.
    pub fn take(&mut self, sighting: Sighting, now: Duration, out: &mut Gathered) {
        let source = sighting.source;
        match sighting.what {
            What::ProcessStart(mut event) => {
                // A password on a command line is nothing that the disk or the sensor needs.
                if let Some(Cow::Owned(clean)) = event.command_line.as_deref().map(without_passwords) {
                    event.command_line = Some(clean);
                }
                self.remember(&event);
                out.reports.push((source, Report::ProcessStart(event)));
            }
            What::ProcessEnd(mut event) => {
                event.start = event.start.or_else(|| self.start_of(event.pid));
                self.report_process((event.pid, event.start), now, out);
                if self.running.get(&event.pid).is_some_and(|running| running.start == event.start) {
                    self.running.remove(&event.pid);
                }
                out.reports.push((source, Report::ProcessEnd(event)));
            }
            What::Connection(mut event) => {
                event.start = event.start.or_else(|| self.start_of(event.pid));
                self.report_process((event.pid, event.start), now, out);
                self.wish_for_read_files(&event, now, out);
                out.reports.push((source, Report::Connection(event)));
            }
            What::Touch(touch) => self.touch(source, *touch, now, out),
            What::Record { class, xml } => out.reports.push((source, Report::Record { class, xml })),
        }
    }

    /// Brings out what is due.
    pub fn tick(&mut self, now: Duration, out: &mut Gathered) {
        let (quiet, longest) = (self.quiet, self.longest);
        let due =
            |entry: &Entry| now.saturating_sub(entry.touched) >= quiet || now.saturating_sub(entry.since) >= longest;
        let processes: Vec<Process> = self.open.keys().copied().collect();
        for process in processes {
            let Some(files) = self.open.get_mut(&process) else { continue };
            let ready: Vec<(Arc<str>, Entry)> = files.extract_if(|_, entry| due(entry)).collect();
            if files.is_empty() {
                self.open.remove(&process);
            }
            self.report_all(process, ready, now, out);
        }
    }

    /// Brings out everything.
    pub fn finish(&mut self, now: Duration, out: &mut Gathered) {
        let processes: Vec<Process> = self.open.keys().copied().collect();
        for process in processes {
            self.report_process(process, now, out);
        }
    }

    fn remember(&mut self, event: &ProcessStart) {
        let full = self.running.len() >= PROCESSES && !self.running.contains_key(&event.pid);
        if full {
            return;
        }
        let running = self.running.entry(event.pid).or_default();
        // A second report of the same process, from another source, may know less.
        if running.start != event.start {
            *running = Running { start: event.start, ..Running::default() };
        }
        if let Some(image) = &event.image {
            running.image = folded(image);
        }
    }

    fn start_of(&self, pid: u32) -> Option<Timestamp> {
        self.running.get(&pid)?.start
    }

    fn touch(&mut self, source: Source, touch: Touch, now: Duration, out: &mut Gathered) {
        let Touch { mut event, bytes } = touch;
        event.start = event.start.or_else(|| self.start_of(event.pid));
        let path = folded(&event.path);
        if self.is_noise(event.pid, &path) {
            self.ignored += 1;
            return;
        }
        let process = (event.pid, event.start);
        if !matches!(event.op, Operation::Create | Operation::Write | Operation::Read) {
            // What was done under the old name comes first.
            if let Some((path, entry)) = self.remove(process, &event.path) {
                self.report_all(process, vec![(path, entry)], now, out);
            }
            return self.report_file(source, FileReport { last: event.ts, event, bytes: 0 }, now, out);
        }
        if self.entries >= self.config.gathered {
            self.finish(now, out);
        }
        let files = self.open.entry(process).or_default();
        let entry = match files.get_mut(event.path.as_str()) {
            Some(entry) => entry,
            None => {
                self.entries += 1;
                files.entry(event.path.as_str().into()).or_insert(Entry {
                    source,
                    create: None,
                    write: None,
                    read: None,
                    size: None,
                    since: now,
                    touched: now,
                })
            }
        };
        let span = match event.op {
            Operation::Create => &mut entry.create,
            Operation::Write => &mut entry.write,
            _ => &mut entry.read,
        };
        let span = span.get_or_insert(Span { first: event.ts, last: event.ts, bytes: 0 });
        span.first = span.first.min(event.ts);
        span.last = span.last.max(event.ts);
        span.bytes = span.bytes.saturating_add(bytes);
        entry.size = event.size.or(entry.size);
        entry.touched = now;
    }

    fn is_noise(&self, pid: u32, path: &[char]) -> bool {
        let any = |patterns: &[Pattern], text: &[char]| patterns.iter().any(|pattern| pattern.matches(text));
        if any(&self.folders, path) {
            return false;
        }
        let image = self.running.get(&pid).map(|running| running.image.as_slice());
        image.is_some_and(|image| any(&self.config.ignore_images, image))
            || (any(&self.config.ignore_paths, path) && !any(&self.config.keep_paths, path))
    }

    fn remove(&mut self, process: Process, path: &str) -> Option<(Arc<str>, Entry)> {
        let files = self.open.get_mut(&process)?;
        let removed = files.remove_entry(path);
        if files.is_empty() {
            self.open.remove(&process);
        }
        removed
    }

    fn report_process(&mut self, process: Process, now: Duration, out: &mut Gathered) {
        if let Some(files) = self.open.remove(&process) {
            self.report_all(process, files.into_iter().collect(), now, out);
        }
    }

    /// Reports what was taken out of `open`, in the order in which it began.
    fn report_all(&mut self, (pid, start): Process, files: Vec<(Arc<str>, Entry)>, now: Duration, out: &mut Gathered) {
        self.entries = self.entries.saturating_sub(files.len());
        let mut reports = Vec::with_capacity(files.len());
        for (path, entry) in files {
            for (op, span) in
                [(Operation::Create, entry.create), (Operation::Write, entry.write), (Operation::Read, entry.read)]
            {
                let Some(Span { first, last, bytes }) = span else { continue };
                let (path, size) = (path.to_string(), entry.size);
                let event = FileEvent { ts: first, pid, start, op, path, new_path: None, size, sha256: None };
                reports.push((entry.source, FileReport { event, last, bytes }));
            }
        }
        reports.sort_by_key(|(_, report)| report.event.ts);
        for (source, report) in reports {
            self.report_file(source, report, now, out);
        }
    }

    fn report_file(&mut self, source: Source, report: FileReport, now: Duration, out: &mut Gathered) {
        let event = &report.event;
        if event.sha256.is_none() && self.config.hash_size.0 > 0 {
            let path = folded(event.new_path.as_ref().unwrap_or(&event.path));
            let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&path));
            let matters = match event.op {
                Operation::Write | Operation::Rename => any(&self.config.archives) || any(&self.folders),
                Operation::Read => any(&self.folders),
                _ => false,
            };
            let wish = || Wish { source, report: report.clone() };
            if matters {
                out.wishes.push(wish());
            } else if event.op == Operation::Read
                && let Some(running) = self.running.get_mut(&event.pid)
            {
                running.read.retain(|(_, read)| read.report.event.path != event.path);
                running.read.truncate(READ_FILES.saturating_sub(1));
                running.read.push_front((now, wish()));
            }
        }
        out.reports.push((source, Report::File(Box::new(report))));
    }

    fn wish_for_read_files(&mut self, event: &ConnectionEvent, now: Duration, out: &mut Gathered) {
        if !self.config.cleartext_ports.contains(&event.remote.port) || event.initiated == Some(false) {
            return;
        }
        if let Some(running) = self.running.get_mut(&event.pid) {
            let recent = running.read.drain(..).filter(|(at, _)| now.saturating_sub(*at) <= READ_FOR);
            out.wishes.extend(recent.map(|(_, wish)| wish));
        }
    }
}

/// What matches every path in a folder.
fn inside(folder: &Path) -> Pattern {
    let text = folder.to_string_lossy();
    let separator = if text.contains('\\') || text.get(1..2) == Some(":") { '\\' } else { '/' };
    Pattern::new(&format!("{}{separator}*", text.trim_end_matches(['\\', '/'])))
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
