//! Events from a file of the schema's lines, for tests and demonstrations.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Sink, Source, SourceError};
use crate::endpoint::{self, ConnectionEvent, FileEvent, ProcessEnd, ProcessStart};
use crate::helper::sighting::{Touch, What, record_class};
use crate::helper::stop::Stop;

/// A longer line is no event.
const MAX_LINE: u64 = 1 << 20;

/// Reads the file once.
#[derive(Debug)]
pub struct Script {
    path: PathBuf,
    rate: u32,
}

impl Script {
    /// Of a file, at so many events a second; 0 for as fast as they go.
    pub fn new(path: PathBuf, rate: u32) -> Self {
        Self { path, rate }
    }
}

/// A line of the file. What is not an event of an endpoint's own doing is passed over.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    ProcessStart(Box<ProcessStart>),
    ProcessEnd(ProcessEnd),
    Connection(Box<ConnectionEvent>),
    File(Box<FileLine>),
    WindowsEvent {
        xml: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct FileLine {
    #[serde(flatten)]
    event: FileEvent,
    #[serde(default)]
    bytes: u64,
}

impl Source for Script {
    fn kind(&self) -> endpoint::Source {
        endpoint::Source::Script
    }

    fn run(&mut self, sink: &Sink, stop: &Stop) -> Result<(), SourceError> {
        let file = self.path.display();
        let input = File::open(&self.path).map_err(|reason| SourceError(format!("{file}: {reason}")))?;
        sink.set_state("running");
        let mut input = BufReader::new(input);
        let (begin, mut events, mut number) = (Instant::now(), 0_u64, 0_u64);
        let mut line = Vec::new();
        while !stop.is_set() {
            line.clear();
            number += 1;
            let failed = |reason: &dyn std::fmt::Display| SourceError(format!("{file}:{number}: {reason}"));
            let length = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| failed(&e))?;
            if length == 0 {
                break;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let what = match serde_json::from_slice(&line).map_err(|e| failed(&e))? {
                Line::ProcessStart(event) => What::ProcessStart(event),
                Line::ProcessEnd(event) => What::ProcessEnd(event),
                Line::Connection(event) => What::Connection(event),
                Line::File(file) => What::Touch(Box::new(Touch { event: file.event, bytes: file.bytes })),
                Line::WindowsEvent { xml } => What::Record { class: record_class(&xml), xml },
                Line::Other => continue,
            };
            sink.see(what);
            events += 1;
            if self.rate > 0 {
                let due = Duration::from_secs_f64(events as f64 / f64::from(self.rate));
                // Some at a time: a short sleep takes longer than it says.
                let early = due.saturating_sub(begin.elapsed());
                if early > Duration::from_millis(10) {
                    stop.wait(early);
                }
            }
        }
        sink.set_state("finished");
        Ok(())
    }
}
