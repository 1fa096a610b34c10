//! Reading endpoint events from any source: lines of JSON or XML, an XML document, an `.evtx` file; plain or gzip.
//!
//! Bytes come in, [`Observation`]s go out to a sink, in the order of the input but for those that wait for their host's
//! zone. Whatever a record holds, the next one is read: one that is not understood is counted, and reported with its file and
//! place as far as the bound on warnings allows. What a record is, is told from its content alone.

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader, Cursor, Read as _};
use std::net::IpAddr;
use std::sync::Arc;

use super::event::{Event, Hello, HostDescription, Line, Observation, Source, nanoseconds, text};
use super::line::{Read, read_line};
use super::text::shortened;
use super::windows::{KINDS, Taken, Windows, evtx};
use super::xml_stream::{XmlEvents, XmlRead};
use crate::net::{ByteSize, Timestamp, group_digits};

/// How many warnings are kept until they are taken; further ones are only counted.
pub const MAX_WARNINGS: usize = 20;

/// The rendered record of a Windows event log that a helper carries: `{"type":"windows_event","xml":"<Event ..."}`.
fn carried_record(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Carried {
        r#type: String,
        xml: String,
    }
    memchr::memmem::find(line, b"\"windows_event\"")?;
    let carried: Carried = serde_json::from_slice(line).ok()?;
    (carried.r#type == "windows_event").then_some(carried.xml)
}

/// What came in. `lines` is the sum of all the others but `kinds`, `warnings` and `read_errors`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records: lines that are not blank, events of an XML document or of an `.evtx` file.
    pub lines: u64,
    /// `hello` events.
    pub hello: u64,
    /// `process_start` events.
    pub process_start: u64,
    /// `process_end` events.
    pub process_end: u64,
    /// `connection` events.
    pub connection: u64,
    /// `file` events.
    pub file: u64,
    /// `heartbeat` events.
    pub heartbeat: u64,
    /// Of these events, those of Windows logs, by their place in [`WINDOWS_KINDS`].
    pub kinds: [u64; KINDS.len()],
    /// Events of Windows logs that tell nothing of interest.
    pub unused: u64,
    /// Records that are no event.
    pub malformed: u64,
    /// Lines of a `type` that this version does not know.
    pub unknown_type: u64,
    /// Lines longer than the bound.
    pub oversized: u64,
    /// Events of no known host: no `hello` stands before them and they name none themselves.
    pub before_hello: u64,
    /// Warnings, those that were not kept included.
    pub warnings: u64,
    /// Inputs whose reading broke off.
    pub read_errors: u64,
}

impl Counters {
    /// Events of every type that reached the sink.
    pub fn events(&self) -> u64 {
        self.hello + self.process_start + self.process_end + self.connection + self.file + self.heartbeat
    }

    /// Adds what another intake counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            lines,
            hello,
            process_start,
            process_end,
            connection,
            file,
            heartbeat,
            kinds,
            unused,
            malformed,
            unknown_type,
            oversized,
            before_hello,
            warnings,
            read_errors,
        } = other;
        self.lines += lines;
        self.hello += hello;
        self.process_start += process_start;
        self.process_end += process_end;
        self.connection += connection;
        self.file += file;
        self.heartbeat += heartbeat;
        for (count, more) in self.kinds.iter_mut().zip(kinds) {
            *count += more;
        }
        self.unused += unused;
        self.malformed += malformed;
        self.unknown_type += unknown_type;
        self.oversized += oversized;
        self.before_hello += before_hello;
        self.warnings += warnings;
        self.read_errors += read_errors;
    }

    fn count(&mut self, event: &Event) {
        let counter = match event {
            Event::Hello(_) => &mut self.hello,
            Event::ProcessStart(_) => &mut self.process_start,
            Event::ProcessEnd(_) => &mut self.process_end,
            Event::Connection(_) => &mut self.connection,
            Event::File(_) => &mut self.file,
            Event::Heartbeat(_) => &mut self.heartbeat,
        };
        *counter += 1;
    }
}

/// Something about an input that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The name of the input.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it, safe to print.
    pub what: String,
}

/// `events.jsonl:17: not an event: ...`
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", shortened(&self.file, 200), self.line, self.what)
    }
}

/// Why the reading of an input broke off. What came before has reached the sink.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The input could not be read further.
    #[error("{file}: cannot read further than line {line}")]
    Read {
        /// The name of the input.
        file: String,
        /// The last line that was read.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The input is UTF-16, as some Windows tools write it.
    #[error("{file}: is UTF-16 text, which cannot be read; convert it to UTF-8")]
    Utf16 {
        /// The name of the input.
        file: String,
    },
}

/// An input that grows while it is read: where its reading stands.
#[derive(Debug)]
pub struct Following {
    file: String,
    place: Place,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
}

impl Following {
    /// From the beginning of an input, which warnings call `file`.
    pub fn new(file: String) -> Self {
        Self { file, place: Place::default(), rest: Vec::new() }
    }

    /// The same, as if a `hello` of this host stood before it.
    #[cfg(target_os = "linux")]
    pub(super) fn of_host(file: String, host: Arc<str>) -> Self {
        Self { file, place: Place { number: 0, host: Some(host) }, rest: Vec::new() }
    }

    /// The host of the last `hello`.
    #[cfg(target_os = "linux")]
    pub(super) fn host(&self) -> Option<&Arc<str>> {
        self.place.host.as_ref()
    }
}

/// Where the reading of an input stands.
#[derive(Debug, Default)]
struct Place {
    /// Lines read.
    number: u64,
    /// The host of the last `hello`.
    host: Option<Arc<str>>,
}

/// Reads inputs one after the other and counts what they held.
#[derive(Debug)]
pub struct Intake {
    max_line: usize,
    counters: Counters,
    warnings: Vec<Warning>,
    line: Vec<u8>,
    windows: Windows,
}

impl Intake {
    /// An intake that skips lines longer than `max_line`.
    pub fn new(max_line: ByteSize) -> Self {
        let max_line = usize::try_from(max_line.0).unwrap_or(usize::MAX);
        let (counters, windows) = (Counters::default(), Windows::default());
        Self { max_line, counters, warnings: Vec::new(), line: Vec::new(), windows }
    }

    /// Reads the input to its end, whatever it is, gzip or plain, as its first bytes say. `file` names it in warnings.
    pub fn read(
        &mut self,
        file: &str,
        mut input: impl BufRead,
        sink: &mut dyn FnMut(Observation),
    ) -> Result<(), IntakeError> {
        let peeked = peek(&mut input, 2);
        let magic = peeked.map_err(|source| self.broken(file, 0, source))?;
        let gzip = magic.starts_with(&[0x1f, 0x8b]);
        let whole = Cursor::new(magic).chain(input);
        if gzip {
            self.content(file, BufReader::new(MultiGzDecoder::new(whole)), sink)
        } else {
            self.content(file, whole, sink)
        }
    }

    fn content(
        &mut self,
        file: &str,
        mut input: impl BufRead,
        sink: &mut dyn FnMut(Observation),
    ) -> Result<(), IntakeError> {
        let peeked = peek(&mut input, 64);
        let beginning = peeked.map_err(|source| self.broken(file, 0, source))?;
        let text = beginning.strip_prefix(BOM).unwrap_or(&beginning).trim_ascii_start();
        let (is_xml, is_evtx) = (text.starts_with(b"<"), beginning.starts_with(evtx::MAGIC));
        if beginning.starts_with(&[0xff, 0xfe]) || beginning.starts_with(&[0xfe, 0xff]) {
            self.counters.read_errors += 1;
            return Err(IntakeError::Utf16 { file: file.to_owned() });
        }
        let whole = Cursor::new(beginning).chain(input);
        let result = if is_evtx {
            self.evtx(file, whole, sink)
        } else if is_xml {
            self.xml(file, whole, sink)
        } else {
            self.lines(file, &mut Place::default(), whole, sink)
        };
        self.release(sink);
        result
    }

    fn evtx(&mut self, file: &str, input: impl BufRead, sink: &mut dyn FnMut(Observation)) -> Result<(), IntakeError> {
        let mut last = 0;
        let read = evtx::read(input, &mut |found| {
            self.counters.lines += 1;
            let taken = match found {
                evtx::Found::Event(number, tree) => {
                    last = number;
                    let counters = &mut self.counters;
                    self.windows.tree(&tree, &mut |observation| {
                        counters.count(&observation.line.event);
                        sink(observation);
                    })
                }
                evtx::Found::Bad(why) => Err(why),
            };
            self.took(file, last, taken);
        });
        read.map_err(|source| self.broken(file, last, source))
    }

    fn xml(&mut self, file: &str, input: impl BufRead, sink: &mut dyn FnMut(Observation)) -> Result<(), IntakeError> {
        let mut events = XmlEvents::new(input, self.max_line);
        loop {
            match events.next() {
                Err(source) => return Err(self.broken(file, events.line(), source)),
                Ok(XmlRead::End) => return Ok(()),
                Ok(XmlRead::TooLong) => {
                    self.counters.lines += 1;
                    self.too_long(file, events.line());
                }
                Ok(XmlRead::Event(text)) => {
                    self.counters.lines += 1;
                    let counters = &mut self.counters;
                    let taken = self.windows.xml(text, &mut |observation| {
                        counters.count(&observation.line.event);
                        sink(observation);
                    });
                    self.took(file, events.line(), taken);
                }
            }
        }
    }

    /// Hands on what waits for its host's zone.
    fn release(&mut self, sink: &mut dyn FnMut(Observation)) {
        let counters = &mut self.counters;
        self.windows.release(&mut |observation| {
            counters.count(&observation.line.event);
            sink(observation);
        });
    }

    /// Counts what became of a record of a Windows log.
    fn took(&mut self, file: &str, place: u64, taken: Result<Taken, String>) {
        match taken {
            Ok(Taken::Event(kind)) => {
                if let Some(count) = self.counters.kinds.get_mut(kind) {
                    *count += 1;
                }
            }
            Ok(Taken::Unused) => self.counters.unused += 1,
            Err(why) => {
                self.counters.malformed += 1;
                self.warn(file, place, format!("not an event: {}", shortened(&why, 200)));
            }
        }
    }

    fn too_long(&mut self, file: &str, place: u64) {
        self.counters.oversized += 1;
        let bound = group_digits(self.max_line as u64);
        self.warn(file, place, format!("skipped: longer than {bound} bytes"));
    }

    /// Takes what has come of an input since the last call. A line counts once it is whole.
    pub fn follow(
        &mut self,
        input: &mut Following,
        bytes: &[u8],
        sink: &mut dyn FnMut(Observation),
    ) -> Result<(), IntakeError> {
        input.rest.extend_from_slice(bytes);
        // What is too long already needs no end to be refused; what follows up to its end is no event either.
        let whole = match memchr::memrchr(b'\n', &input.rest) {
            Some(end) => end + 1,
            None if input.rest.len() > self.max_line => input.rest.len(),
            None => return Ok(()),
        };
        let rest = input.rest.split_off(whole);
        let lines = std::mem::replace(&mut input.rest, rest);
        let result = self.lines(&input.file, &mut input.place, lines.as_slice(), sink);
        self.release(sink);
        result
    }

    /// What came in so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The warnings since they were last taken, [`MAX_WARNINGS`] at most.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    fn lines(
        &mut self,
        file: &str,
        place: &mut Place,
        mut input: impl BufRead,
        sink: &mut dyn FnMut(Observation),
    ) -> Result<(), IntakeError> {
        let mut line = std::mem::take(&mut self.line);
        let Place { number, host } = place;
        let result = loop {
            match read_line(&mut input, self.max_line, &mut line) {
                Err(source) => break Err(self.broken(file, *number, source)),
                Ok(Read::End) => break Ok(()),
                Ok(Read::TooLong) => {
                    *number += 1;
                    self.counters.lines += 1;
                    // It may have been a hello: what follows must not be taken for the host before it.
                    if memchr::memmem::find(&line, b"\"hello\"").is_some() {
                        *host = None;
                    }
                    self.too_long(file, *number);
                }
                Ok(Read::Line) => {
                    *number += 1;
                    self.line(file, *number, &line, host, sink);
                }
            }
        };
        self.line = line;
        result
    }

    fn line(
        &mut self,
        file: &str,
        number: u64,
        line: &[u8],
        host: &mut Option<Arc<str>>,
        sink: &mut dyn FnMut(Observation),
    ) {
        let line = if number == 1 { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.counters.lines += 1;
        let counters = &mut self.counters;
        let taken = self.windows.line(line, &mut |observation| {
            counters.count(&observation.line.event);
            sink(observation);
        });
        if let Some(taken) = taken {
            return self.took(file, number, taken);
        }
        if let Some(xml) = carried_record(line) {
            let Some(host) = host.clone() else {
                self.counters.before_hello += 1;
                return;
            };
            let counters = &mut self.counters;
            // Whoever carries it says for which host it speaks, and has its times from the system itself, so that no zone
            // has to be found out.
            let mut hand_on = |observation: Observation| {
                counters.count(&observation.line.event);
                sink(Observation { host: Arc::clone(&host), ..observation });
            };
            let mut alone = Windows::default();
            let taken = alone.xml(xml.as_bytes(), &mut hand_on);
            alone.release(&mut hand_on);
            return self.took(file, number, taken);
        }
        match decode(line) {
            Decoded::Event { line, host: named } => {
                let speaker = match (&line.event, named) {
                    (Event::Hello(hello), _) => {
                        let id: Arc<str> = hello.host.id.as_str().into();
                        *host = Some(id.clone());
                        Some(id)
                    }
                    (_, Some(named)) => Some(known_or_new(host.as_ref(), &named)),
                    (_, None) => host.clone(),
                };
                match speaker {
                    Some(host) => {
                        self.counters.count(&line.event);
                        sink(Observation { host, line: *line, origin: None });
                    }
                    None => {
                        self.counters.before_hello += 1;
                        if self.counters.before_hello == 1 {
                            self.warn(file, number, "skipped: no `hello` says which host this is from".to_owned());
                        }
                    }
                }
            }
            Decoded::UnknownType { name } => {
                self.counters.unknown_type += 1;
                if self.counters.unknown_type == 1 {
                    self.warn(file, number, format!("skipped: unknown type \"{}\"", shortened(&name, 40)));
                }
            }
            Decoded::Malformed { why, hello } => {
                self.counters.malformed += 1;
                // The events below a hello that cannot be read are not those of the host above it.
                if hello {
                    *host = None;
                }
                self.warn(file, number, format!("not an event: {}", shortened(&why, 200)));
            }
        }
    }

    fn warn(&mut self, file: &str, line: u64, what: String) {
        self.counters.warnings += 1;
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(Warning { file: file.to_owned(), line, what });
        }
    }

    fn broken(&mut self, file: &str, line: u64, source: std::io::Error) -> IntakeError {
        self.counters.read_errors += 1;
        IntakeError::Read { file: file.to_owned(), line, source }
    }
}

/// The mark that some programs put before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Takes up to so many bytes off the beginning.
fn peek(input: &mut impl BufRead, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut beginning = Vec::new();
    input.by_ref().take(bytes).read_to_end(&mut beginning)?;
    Ok(beginning)
}

impl Windows {
    /// Takes a line that holds an event of a Windows log; nothing if it holds something else.
    fn line(&mut self, line: &[u8], sink: &mut dyn FnMut(Observation)) -> Option<Result<Taken, String>> {
        if line.starts_with(b"<") {
            return Some(self.xml(line, sink));
        }
        let marks: Marks = serde_json::from_slice(line).ok()?;
        if !marks.any() {
            return None;
        }
        // It was JSON a moment ago.
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        self.object(value.as_object()?, sink)
    }
}

/// What tells a line of a Windows log from one of event version 1, whatever is behind it.
#[derive(Deserialize)]
struct Marks {
    #[serde(rename = "EventID")]
    id: Option<IgnoredAny>,
    #[serde(rename = "EventId")]
    other_id: Option<IgnoredAny>,
    winlog: Option<IgnoredAny>,
    #[serde(rename = "winlog.event_id")]
    dotted: Option<IgnoredAny>,
    #[serde(rename = "winlog.channel")]
    dotted_channel: Option<IgnoredAny>,
    #[serde(rename = "Event")]
    tree: Option<IgnoredAny>,
    #[serde(rename = "SyslogMessage")]
    syslog: Option<IgnoredAny>,
    #[serde(rename = "Message")]
    text: Option<IgnoredAny>,
    message: Option<IgnoredAny>,
}

impl Marks {
    fn any(&self) -> bool {
        let all = [
            &self.id,
            &self.other_id,
            &self.winlog,
            &self.dotted,
            &self.dotted_channel,
            &self.tree,
            &self.syslog,
            &self.text,
            &self.message,
        ];
        all.into_iter().any(Option::is_some)
    }
}

fn known_or_new(known: Option<&Arc<str>>, id: &str) -> Arc<str> {
    known.filter(|known| known.as_ref() == id).cloned().unwrap_or_else(|| id.into())
}

enum Decoded {
    Event { line: Box<Line>, host: Option<String> },
    UnknownType { name: String },
    Malformed { why: String, hello: bool },
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    seq: Option<u64>,
    #[serde(default)]
    source: Source,
    #[serde(default, deserialize_with = "text", rename = "host.id")]
    flat_host: Option<String>,
    host: Option<HeadHost>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HeadHost {
    Id(String),
    Object { id: Option<String> },
}

#[derive(Deserialize)]
struct RawHello {
    v: u32,
    #[serde(default)]
    host: RawHost,
    #[serde(default, rename = "host.id")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text", rename = "host.name")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text", rename = "host.domain")]
    domain: Option<String>,
    #[serde(default, rename = "host.ips")]
    ips: Vec<String>,
    #[serde(default, with = "nanoseconds::optional")]
    boot: Option<Timestamp>,
    #[serde(with = "nanoseconds")]
    ts: Timestamp,
    #[serde(default, deserialize_with = "text")]
    helper: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawHost {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    domain: Option<String>,
    #[serde(default)]
    ips: Vec<String>,
}

/// Reads a line of event version 1.
fn decode(line: &[u8]) -> Decoded {
    let malformed = |why: String, hello: bool| Decoded::Malformed { why, hello };
    let head: Head<'_> = match serde_json::from_slice(line) {
        Ok(head) => head,
        Err(error) => {
            return malformed(said(&error), memchr::memmem::find(line, b"\"hello\"").is_some());
        }
    };
    let Some(kind) = head.kind else { return malformed("it has no `type`".to_owned(), false) };
    let event = match kind.as_ref() {
        "hello" => serde_json::from_slice(line).map_err(|error| said(&error)).and_then(hello).map(Event::Hello),
        "process_start" => parse(line, Event::ProcessStart),
        "process_end" => parse(line, Event::ProcessEnd),
        "connection" => parse(line, Event::Connection),
        "file" => parse(line, Event::File),
        "heartbeat" => parse(line, Event::Heartbeat),
        other => return Decoded::UnknownType { name: other.to_owned() },
    };
    let named = head.flat_host.or(match head.host {
        Some(HeadHost::Id(id)) => Some(id),
        Some(HeadHost::Object { id }) => id,
        None => None,
    });
    match event {
        Ok(event) => Decoded::Event {
            line: Box::new(Line { seq: head.seq, source: head.source, event }),
            host: named.filter(|id| !id.is_empty()),
        },
        Err(why) => malformed(why, kind == "hello"),
    }
}

/// What is wrong with a line, without the value that is wrong: it may be a command line with a password in it.
fn said(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    for (open, close) in [("string \"", "\", expected"), ("variant `", "`, expected")] {
        let from = text.find(open).map(|at| at + open.len());
        if let Some((from, to)) = from.zip(text.rfind(close))
            && from <= to
        {
            text.replace_range(from..to, "...");
        }
    }
    text
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8], wrap: fn(T) -> Event) -> Result<Event, String> {
    serde_json::from_slice(line).map(wrap).map_err(|error| said(&error))
}

fn hello(raw: RawHello) -> Result<Hello, String> {
    if raw.v != 1 {
        return Err(format!("version {} of the schema; this reads version 1", raw.v));
    }
    let id = raw.id.or(raw.host.id).filter(|id| !id.is_empty()).ok_or("a hello without `host.id`")?;
    let ips = raw.host.ips.iter().chain(&raw.ips).filter_map(|ip| address(ip)).collect();
    let host = HostDescription { id, name: raw.host.name.or(raw.name), domain: raw.host.domain.or(raw.domain), ips };
    Ok(Hello { v: raw.v, host, boot: raw.boot, ts: raw.ts, helper: raw.helper })
}

/// `fe80::1%12` names an interface of the host, which means nothing on the wire.
fn address(text: &str) -> Option<IpAddr> {
    text.split('%').next().and_then(|ip| ip.trim().parse().ok())
}

#[cfg(test)]
mod tests;
