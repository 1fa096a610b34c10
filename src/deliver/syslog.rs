//! An alert as a message of RFC 5424.
//!
//! In comes what the store keeps of an alert, out goes a message of at most so many bytes, or none if that cannot be. A
//! message that is too large is made of a smaller document, never cut.

use serde_json::{Map, Value};

use crate::config::{Format, SyslogCollector};
use crate::store::Entry;

/// SD-ID: 32473 is the enterprise number that RFC 5612 keeps for examples, as Outfall has none of its own.
const SD_ID: &str = "outfall@32473";

/// RFC 5424, section 6.2.4, allows 255; Linux has no longer name than this.
const LONGEST_HOST: usize = 64;

/// What is left out of a document that is too large, in this order, until it fits.
pub const OPTIONAL: [&str; 18] = [
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
    "user",
    "process",
    "host",
];

/// What stays where even that is not enough.
const LEAST: [&str; 4] = ["event.id", "event.kind", "event.dataset", "event.severity"];

/// Makes messages for one collector.
#[derive(Clone, Debug)]
pub struct Formatter {
    facility: u8,
    format: Format,
    max_bytes: usize,
    host: String,
    process: u32,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Without the framing of a transport.
    pub bytes: Vec<u8>,
    /// Whether parts of the alert were left out to make it fit.
    pub reduced: bool,
}

impl Formatter {
    /// For a collector; `host` is the name of this machine, `process` the number of this process.
    pub fn new(collector: &SyslogCollector, host: &str, process: u32) -> Self {
        let max_bytes = usize::try_from(collector.max_bytes).unwrap_or(usize::MAX);
        let host = header_field(host, LONGEST_HOST);
        Self { facility: collector.facility, format: collector.format, max_bytes, host, process }
    }

    /// The message of an alert; none if even its least does not fit, or the alert is no JSON object.
    pub fn message(&self, entry: &Entry) -> Option<Message> {
        let mut document: Map<String, Value> = serde_json::from_str(&entry.document).ok()?;
        let head = self.head(entry, &document);
        match self.format {
            Format::Ecs => self.ecs(&head, &mut document),
            Format::Text => self.text(&head, &document),
        }
    }

    /// `<131>1 2026-01-02T03:04:05.000006Z sensor outfall 7 outfall.alert [outfall@32473 event_id="..."] `
    fn head(&self, entry: &Entry, document: &Map<String, Value>) -> String {
        let priority = u64::from(self.facility) * 8 + severity(entry.severity);
        let mut data = format!("[{SD_ID}");
        for (name, path) in [("event_id", "event.id"), ("community_id", "network.community_id"), ("rule_id", "rule.id")]
        {
            if let Some(value) = at(document, path).and_then(Value::as_str) {
                data.push_str(&format!(" {name}=\"{}\"", parameter(value)));
            }
        }
        data.push(']');
        let (time, kind) = (timestamp(&entry.time), header_field(&entry.kind, 32));
        format!("<{priority}>1 {time} {} outfall {} {kind} {data} ", self.host, self.process)
    }

    fn ecs(&self, head: &str, document: &mut Map<String, Value>) -> Option<Message> {
        let fits = |text: &str| head.len() + mark(text).len() + text.len() <= self.max_bytes;
        let whole = json(document);
        if fits(&whole) {
            return Some(Message { bytes: joined(head, &whole), reduced: false });
        }
        let mut dropped = Vec::new();
        for path in OPTIONAL {
            if remove(document, path) {
                dropped.push(Value::from(path));
                let text = json(&with_note(document.clone(), dropped.clone()));
                if fits(&text) {
                    return Some(Message { bytes: joined(head, &text), reduced: true });
                }
            }
        }
        let mut least = Map::new();
        for path in std::iter::once("@timestamp").chain(LEAST) {
            if let Some(value) = at(document, path) {
                put(&mut least, path, value.clone());
            }
        }
        let text = json(&with_note(least, vec![Value::from("*")]));
        fits(&text).then(|| Message { bytes: joined(head, &text), reduced: true })
    }

    fn text(&self, head: &str, document: &Map<String, Value>) -> Option<Message> {
        let line = escaped(document.get("message").and_then(Value::as_str).unwrap_or_default());
        let room = self.max_bytes.checked_sub(head.len())?;
        if mark(&line).len() + line.len() <= room {
            return Some(Message { bytes: joined(head, &line), reduced: false });
        }
        // A line of text has no fields to leave out; its end is what matters least.
        const CUT: &str = " [cut]";
        let mut end = room.checked_sub(BOM.len() + CUT.len())?;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let cut = format!("{}{CUT}", line.get(..end)?);
        Some(Message { bytes: joined(head, &cut), reduced: true })
    }
}

/// RFC 5424's, of ECS's: critical, error, warning, notice, informational.
fn severity(event: u64) -> u64 {
    match event {
        99.. => 2,
        73.. => 3,
        47.. => 4,
        21.. => 5,
        _ => 6,
    }
}

/// RFC 5424, section 6.2.3, allows microseconds at most.
fn timestamp(time: &str) -> String {
    let Some((seconds, fraction)) = time.trim_end_matches('Z').split_once('.') else {
        let plain = time.len() == "2026-01-02T03:04:05Z".len() && time.ends_with('Z');
        return if plain { time.to_owned() } else { "-".to_owned() };
    };
    let digits: String = fraction.chars().take_while(char::is_ascii_digit).take(6).collect();
    format!("{seconds}.{digits}Z")
}

/// Printable ASCII without spaces, as the fields of the header must be.
fn header_field(text: &str, longest: usize) -> String {
    let field: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(longest).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

/// A value of structured data, RFC 5424, section 6.3.3.
fn parameter(value: &str) -> String {
    let mut text = String::new();
    for c in escaped(value).chars() {
        if matches!(c, '"' | '\\' | ']') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// What can end a line, move a cursor, or turn the direction of a text round.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        if is_unsafe(c) { safe.push_str(&format!("\\u{:04x}", u32::from(c))) } else { safe.push(c) }
    }
    safe
}

/// JSON on one line; outside of its strings it has only ASCII, and in them every character may be escaped.
fn json(document: &Map<String, Value>) -> String {
    escaped(&serde_json::to_string(document).unwrap_or_default())
}

const BOM: &str = "\u{feff}";

/// RFC 5424, section 6.4: what is marked is UTF-8. ASCII needs no mark, which some receivers would take for text.
fn mark(text: &str) -> &'static str {
    if text.is_ascii() { "" } else { BOM }
}

fn joined(head: &str, text: &str) -> Vec<u8> {
    [head, mark(text), text].concat().into_bytes()
}

fn with_note(mut document: Map<String, Value>, dropped: Vec<Value>) -> Map<String, Value> {
    put(&mut document, "outfall.syslog.dropped_fields", Value::Array(dropped));
    document
}

fn at<'a>(document: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((first, rest)) => at(document.get(first)?.as_object()?, rest),
        None => document.get(path),
    }
}

fn put(document: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        Some((first, rest)) => {
            let inner = document.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
        None => {
            document.insert(path.to_owned(), value);
        }
    }
}

fn remove(document: &mut Map<String, Value>, path: &str) -> bool {
    match path.split_once('.') {
        Some((first, rest)) => {
            document.get_mut(first).and_then(Value::as_object_mut).is_some_and(|inner| remove(inner, rest))
        }
        None => document.shift_remove(path).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;
    use proptest::prelude::*;
    use serde_json::json;

    fn formatter(format: Format, max_bytes: u64) -> Formatter {
        let collector = SyslogCollector {
            address: "192.0.2.7:514".parse().unwrap(),
            transport: Transport::Tcp,
            format,
            minimum_severity: 0,
            facility: 16,
            max_bytes,
            ca: String::new(),
            server_name: String::new(),
            certificate: String::new(),
            key: String::new(),
        };
        Formatter::new(&collector, "sensor 1", 7)
    }

    fn entry(url: &str, severity: u64) -> Entry {
        let document = json!({
            "@timestamp": "2026-01-02T03:04:05.123456789Z",
            "event": {"id": "0123456789abcdef0123456789abcdef", "kind": "alert", "dataset": "outfall.alert", "severity": severity},
            "network": {"community_id": "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
            "url": {"original": url},
            "message": format!("HIGH {url}"),
            "rule": {"id": "AN0423"},
            "outfall": {"files": [{"name": url}], "upload": {"bytes": 5}},
        });
        Entry {
            event_id: "0123456789abcdef0123456789abcdef".into(),
            time: "2026-01-02T03:04:05.123456789Z".into(),
            severity,
            kind: "outfall.alert".into(),
            document: document.to_string(),
        }
    }

    fn body(message: &Message) -> Value {
        let text = std::str::from_utf8(&message.bytes).unwrap();
        let (_, body) = text.split_once("] ").unwrap();
        serde_json::from_str(body.trim_start_matches(BOM)).unwrap()
    }

    #[test]
    fn a_message_has_the_header_and_the_structured_data_of_rfc_5424() {
        let message = formatter(Format::Text, 8_192).message(&entry("/a", 73)).unwrap();
        assert_eq!(
            String::from_utf8(message.bytes).unwrap(),
            "<131>1 2026-01-02T03:04:05.123456Z sensor_1 outfall 7 outfall.alert [outfall@32473 \
             event_id=\"0123456789abcdef0123456789abcdef\" community_id=\"1:LQU9qZlK+B5F3KDmev6m5PMibrg=\" \
             rule_id=\"AN0423\"] HIGH /a"
        );
        let priority = |severity| formatter(Format::Ecs, 8_192).message(&entry("/a", severity)).unwrap().bytes;
        assert!(priority(99).starts_with(b"<130>1 ") && priority(21).starts_with(b"<133>1 "));
    }

    #[test]
    fn only_what_is_not_ascii_is_marked_as_utf_8() {
        let text =
            |url| String::from_utf8(formatter(Format::Ecs, 8_192).message(&entry(url, 47)).unwrap().bytes).unwrap();
        assert!(text("/\u{e4}").contains("] \u{feff}{") && text("/a").contains("] {"));
    }

    #[test]
    fn structured_data_is_escaped() {
        assert_eq!(parameter("a\"b\\c]d\ne"), "a\\\"b\\\\c\\]d\\\\u000ae");
    }

    #[test]
    fn optional_fields_go_in_their_order_and_the_message_says_which() {
        let large = entry(&"x".repeat(1_500), 73);
        let message = formatter(Format::Ecs, 3_700).message(&large).unwrap();
        let (document, whole) = (body(&message), serde_json::from_str::<Value>(&large.document).unwrap());
        assert!(message.reduced);
        assert_eq!(document["outfall"]["syslog"]["dropped_fields"], json!(["outfall.files"]));
        assert_eq!((&document["url"], &document["message"]), (&whole["url"], &whole["message"]));
        let least = body(&formatter(Format::Ecs, 480).message(&entry(&"x".repeat(1_500), 73)).unwrap());
        assert_eq!(least["event"]["id"], whole["event"]["id"]);
    }

    proptest! {
        #[test]
        fn whatever_is_on_the_wire_a_message_is_one_line_within_its_bound(
            url in "(\\PC|\\p{C}|[\"\\\\\\]\n\r\u{85}\u{2028}]){0,400}", max in 480_u64..4_000, text in any::<bool>(),
        ) {
            let entry = entry(&url, 73);
            let format = if text { Format::Text } else { Format::Ecs };
            let message = formatter(format, max).message(&entry).unwrap();
            prop_assert!(message.bytes.len() as u64 <= max);
            let line = std::str::from_utf8(&message.bytes).unwrap();
            let mut chars = line.chars().filter(|c| *c != '\u{feff}');
            prop_assert!(!chars.any(is_unsafe), "{line:?}");
            if !text {
                let (read, whole) = (body(&message), serde_json::from_str::<Value>(&entry.document).unwrap());
                if !message.reduced {
                    prop_assert_eq!(read, whole);
                } else {
                    prop_assert_eq!(&read["event"], &whole["event"]);
                    let dropped = read["outfall"]["syslog"]["dropped_fields"].as_array().unwrap();
                    prop_assert!(!dropped.is_empty());
                }
            }
        }
    }
}
