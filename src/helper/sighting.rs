//! What a source has seen, before it is gathered and written down.

use serde::Serialize;

use super::spool::Class;
use crate::endpoint::{ConnectionEvent, FileEvent, Operation, ProcessEnd, ProcessStart, Source};
use crate::net::Timestamp;

/// One thing that a source has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// Which source.
    pub source: Source,
    /// What it saw.
    pub what: What,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A process started, or was found running.
    ProcessStart(Box<ProcessStart>),
    /// A process ended.
    ProcessEnd(ProcessEnd),
    /// A process opened or accepted a connection.
    Connection(Box<ConnectionEvent>),
    /// A process touched a file.
    Touch(Box<Touch>),
    /// A record of a Windows event log, which the sensor decodes.
    Record {
        /// Its class, as far as its number tells.
        class: Class,
        /// The rendered event.
        xml: String,
    },
}

/// A process touched a file once.
#[derive(Clone, Debug, PartialEq)]
pub struct Touch {
    /// When, and what; `size` is that of the file.
    pub event: FileEvent,
    /// How many bytes this read or wrote, where the source says so.
    pub bytes: u64,
}

/// What a process did to a file over a time, as it is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct FileReport {
    /// The event; its time is that of the first touch.
    pub event: FileEvent,
    /// The time of the last touch.
    pub last: Timestamp,
    /// The bytes that were read or written, over all touches.
    pub bytes: u64,
}

/// What goes to the sensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A process started, or was found running.
    ProcessStart(Box<ProcessStart>),
    /// A process ended.
    ProcessEnd(ProcessEnd),
    /// A process opened or accepted a connection.
    Connection(Box<ConnectionEvent>),
    /// A process touched a file.
    File(Box<FileReport>),
    /// A record of a Windows event log.
    Record {
        /// Its class.
        class: Class,
        /// The rendered event.
        xml: String,
    },
}

impl Report {
    /// What it tells of.
    pub fn class(&self) -> Class {
        match self {
            Self::ProcessStart(_) | Self::ProcessEnd(_) => Class::Process,
            Self::Connection(_) => Class::Connection,
            Self::File(_) => Class::File,
            Self::Record { class, .. } => *class,
        }
    }

    /// The inside of its line, without braces and number.
    pub fn body(&self, source: Source) -> String {
        let mut line = match self {
            Self::ProcessStart(event) => Line { kind: "process_start", source, event: &**event }.text(),
            Self::ProcessEnd(event) => Line { kind: "process_end", source, event }.text(),
            Self::Connection(event) => Line { kind: "connection", source, event: &**event }.text(),
            Self::File(report) => {
                let last = (report.last != report.event.ts).then_some(report.last.0);
                let moves = matches!(report.event.op, Operation::Read | Operation::Write) && report.bytes > 0;
                let event = &FileLine { event: &report.event, last, bytes: moves.then_some(report.bytes) };
                Line { kind: "file", source, event }.text()
            }
            Self::Record { xml, .. } => Line { kind: "windows_event", source, event: &RecordLine { xml } }.text(),
        };
        line.pop();
        line.drain(..line.len().min(1));
        line
    }
}

/// The class of a rendered Windows event, by its number (Sysmon's and Security's do not overlap).
pub fn record_class(xml: &str) -> Class {
    let number = xml.split_once("<EventID").and_then(|(_, rest)| rest.split_once('>')?.1.split_once('<'));
    match number.and_then(|(digits, _)| digits.trim().parse::<u32>().ok()) {
        Some(1 | 5 | 4688 | 4689) => Class::Process,
        Some(3 | 5156) => Class::Connection,
        _ => Class::File,
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    source: Source,
    #[serde(flatten)]
    event: &'a T,
}

impl<T: Serialize> Line<'_, T> {
    fn text(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct FileLine<'a> {
    #[serde(flatten)]
    event: &'a FileEvent,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct RecordLine<'a> {
    xml: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_classed_by_its_number() {
        let class =
            |id: &str| record_class(&format!("<Event xmlns='x'><System><EventID{id}</EventID></System></Event>"));
        assert_eq!(class(">3"), Class::Connection);
        assert_eq!(class(" Qualifiers='0'>4688"), Class::Process);
        assert_eq!(class(">11"), Class::File);
        assert_eq!(record_class("<Event>"), Class::File);
    }

    #[test]
    fn a_report_becomes_a_line_of_the_schema() {
        let event = FileEvent {
            ts: Timestamp(5),
            pid: 7,
            start: Some(Timestamp(1)),
            op: Operation::Write,
            path: r"C:\a".to_owned(),
            new_path: None,
            size: Some(9),
            sha256: None,
        };
        let report = Report::File(Box::new(FileReport { event, last: Timestamp(8), bytes: 12 }));
        assert_eq!(
            report.body(Source::Etw),
            r#""type":"file","source":"etw","ts":5,"pid":7,"start":1,"op":"write","path":"C:\\a","size":9,"last":8,"bytes":12"#
        );
        let record = Report::Record { class: Class::Process, xml: "<Event a=\"1\"/>".to_owned() };
        assert_eq!(
            record.body(Source::EventLog),
            r#""type":"windows_event","source":"eventlog","xml":"<Event a=\"1\"/>""#
        );
    }
}
