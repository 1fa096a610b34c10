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

/// What a line of the file is. What is not an event of an endpoint's own doing is passed over.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ProcessStart,
    ProcessEnd,
    Connection,
    File,
    WindowsEvent,
    #[serde(other)]
    Other,
}

/// A line is read for its kind and again for its fields: an enum that is told by one of its fields, or a structure with another
/// one's fields in it, would be gathered in memory first, which takes several times as long.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: Kind,
}

#[derive(Deserialize)]
struct Moved {
    #[serde(default)]
    bytes: u64,
}

#[derive(Deserialize)]
struct Record {
    xml: String,
}

fn event(line: &[u8]) -> serde_json::Result<Option<What>> {
    Ok(Some(match serde_json::from_slice::<Typed>(line)?.kind {
        Kind::ProcessStart => What::ProcessStart(serde_json::from_slice::<Box<ProcessStart>>(line)?),
        Kind::ProcessEnd => What::ProcessEnd(serde_json::from_slice::<ProcessEnd>(line)?),
        Kind::Connection => What::Connection(serde_json::from_slice::<Box<ConnectionEvent>>(line)?),
        Kind::File => {
            let event = serde_json::from_slice::<FileEvent>(line)?;
            What::Touch(Box::new(Touch { event, bytes: serde_json::from_slice::<Moved>(line)?.bytes }))
        }
        Kind::WindowsEvent => {
            let Record { xml } = serde_json::from_slice(line)?;
            What::Record { class: record_class(&xml), xml }
        }
        Kind::Other => return Ok(None),
    }))
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
            let Some(what) = event(&line).map_err(|e| failed(&e))? else { continue };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::source::Message;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn every_kind_of_line_is_read_and_a_bad_one_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.jsonl");
        let lines = [
            r#"{"type":"hello","v":1,"ts":1}"#,
            "",
            r#"{"type":"process_start","ts":1,"pid":7}"#,
            r#"{"ts":2,"pid":7,"op":"read","path":"C:\\a","bytes":5,"type":"file"}"#,
            r#"{"type":"connection","ts":3,"pid":7,"local":"192.0.2.1:1","remote":"192.0.2.2:21"}"#,
            r#"{"type":"windows_event","xml":"<Event><EventID>3</EventID></Event>"}"#,
            r#"{"type":"process_end","ts":4,"pid":7}"#,
            r#"{"type":"file","ts":2}"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let (sender, receiver) = sync_channel(100);
        let sink = Sink::new(endpoint::Source::Script, sender);
        let begin = Instant::now();
        let error = Script::new(path, 50).run(&sink, &Stop::default()).unwrap_err();
        assert!(error.to_string().contains("s.jsonl:8: missing field"), "{error}");
        // Five events at 50 a second, the last of which is waited after.
        assert!(begin.elapsed() >= Duration::from_millis(80));
        let seen: Vec<What> = receiver
            .try_iter()
            .map(|message| match message {
                Message::Seen(sighting) => sighting.what,
                Message::Hashed(_) => panic!("a script hashes nothing"),
            })
            .collect();
        assert!(
            matches!(
                seen.as_slice(),
                [
                    What::ProcessStart(_),
                    What::Touch(_),
                    What::Connection(_),
                    What::Record { class: crate::helper::spool::Class::Connection, .. },
                    What::ProcessEnd(_)
                ]
            ),
            "{seen:?}"
        );
        assert!(matches!(&seen[1], What::Touch(touch) if touch.bytes == 5 && touch.event.path == r"C:\a"));
    }
}
