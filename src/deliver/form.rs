//! The body of a message or the line of a file: an alert in one of its forms, so that it fits.
//!
//! What is too large is made of a smaller document, which says what it lacks, and never cut.

use serde_json::Value;

use crate::alert::cef::Cef;
use crate::alert::json::{self, Object, at, escaped, put, take};
use crate::alert::ocsf;
use crate::config::Format;

/// What is left out of an ECS document that is too large, in this order, until it fits.
pub const OPTIONAL: [&str; 19] = [
    "outfall.join.files",
    "outfall.files",
    "process.parent",
    "user_agent",
    "outfall.reasons",
    "threat",
    "process.command_line",
    "process.hash",
    "http",
    "outfall.ftp",
    "url",
    "file",
    "message",
    "outfall.upload.notes",
    "outfall.alert.sensor_loss",
    "outfall.alert.tap_gaps",
    "user",
    "process",
    "host",
];

/// What stays where even that is not enough.
const LEAST: [&str; 5] = ["@timestamp", "event.id", "event.kind", "event.dataset", "event.severity"];

/// Makes bodies of one format.
#[derive(Clone, Debug)]
pub struct Form {
    format: Format,
    /// The name of this sensor.
    sensor: String,
}

impl Form {
    /// Of a format; `sensor` is the name of this sensor.
    pub fn new(format: Format, sensor: &str) -> Self {
        Self { format, sensor: sensor.to_owned() }
    }

    /// An alert's document in this form, on one line; whether something was left out. None if even its least does not fit.
    pub fn body(&self, mut document: Object, fits: impl Fn(&str) -> bool) -> Option<(String, bool)> {
        match self.format {
            Format::Ecs => {
                if !self.sensor.is_empty() {
                    put(&mut document, "observer.name", self.sensor.as_str().into());
                }
                put(&mut document, "observer.product", "Outfall".into());
                put(&mut document, "observer.version", env!("CARGO_PKG_VERSION").into());
                shrunk(document, "outfall.syslog.dropped_fields", &OPTIONAL, &LEAST, fits)
            }
            Format::Ocsf => {
                let event = ocsf::event(&document, &self.sensor);
                shrunk(event, "unmapped.outfall.syslog.dropped_fields", &ocsf::OPTIONAL, &ocsf::LEAST, fits)
            }
            Format::Cef => Cef::of(&document, &self.sensor).fitting(fits),
            Format::Text => text(&document, fits),
        }
    }
}

fn shrunk(
    mut document: Object,
    note: &str,
    optional: &[&str],
    least: &[&str],
    fits: impl Fn(&str) -> bool,
) -> Option<(String, bool)> {
    let whole = json::line(&document);
    if fits(&whole) {
        return Some((whole, false));
    }
    let noted = |document: &Object, dropped: Vec<Value>| {
        let mut document = document.clone();
        put(&mut document, note, Value::Array(dropped));
        json::line(&document)
    };
    let mut dropped = Vec::new();
    for path in optional {
        if take(&mut document, path).is_some() {
            dropped.push(Value::from(*path));
            let text = noted(&document, dropped.clone());
            if fits(&text) {
                return Some((text, true));
            }
        }
    }
    let mut kept = Object::new();
    for path in least {
        if let Some(value) = at(&document, path) {
            put(&mut kept, path, value.clone());
        }
    }
    let text = noted(&kept, vec![Value::from("*")]);
    fits(&text).then_some((text, true))
}

fn text(document: &Object, fits: impl Fn(&str) -> bool) -> Option<(String, bool)> {
    const CUT: &str = " [cut]";
    let line = escaped(json::text(document, "message").unwrap_or_default());
    if fits(&line) {
        return Some((line, false));
    }
    // A line of text has no fields to leave out; its end is what matters least.
    let mut ends: Vec<usize> = line.char_indices().map(|(at, _)| at).collect();
    let cut = |end: usize| format!("{}{CUT}", line.get(..end).unwrap_or_default());
    let fitting = ends.partition_point(|end| fits(&cut(*end)));
    ends.truncate(fitting);
    ends.last().map(|end| (cut(*end), true))
}
