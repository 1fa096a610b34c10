//! An alert as a message of RFC 5424.
//!
//! In comes what the store keeps of an alert, out goes a message of at most so many bytes, or none if that cannot be.
//!
//! Of the libraries that write RFC 5424, `syslog` 7 and `syslog-rs` 7 take the time from the clock (an alert's is that of
//! its packets) and bring transports of their own; `fasyslog` 1 neither marks UTF-8 nor takes another time. `syslog_fmt`
//! 0.5 comes nearest, but it marks ASCII too, and of the fields of the header it checks neither length nor characters. What
//! would be left to it is the escaping of three characters; its place is taken by `syslog_loose`, which shares no code with
//! this module and reads back in the tests what is written here.

use super::form::Form;
use crate::alert::json::{self, Object, escaped};
use crate::config::{Deliver, SyslogCollector};
use crate::store::Entry;

/// RFC 5424, section 6.2.4, allows 255; Linux has no longer name than this.
const LONGEST_HOST: usize = 64;

/// Makes messages for one collector.
#[derive(Clone, Debug)]
pub struct Formatter {
    facility: u8,
    form: Form,
    max_bytes: usize,
    host: String,
    /// `outfall@32473`
    data_id: String,
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
    /// For a collector; `sensor` is the name of this sensor, `process` the number of this process.
    pub fn new(collector: &SyslogCollector, settings: &Deliver, sensor: &str, process: u32) -> Self {
        Self {
            facility: collector.facility,
            form: Form::new(collector.format, sensor),
            max_bytes: usize::try_from(collector.max_bytes).unwrap_or(usize::MAX),
            host: header_field(sensor, LONGEST_HOST),
            data_id: format!("outfall@{}", settings.enterprise),
            process,
        }
    }

    /// The message of an alert; none if even its least does not fit, or the alert is no JSON object.
    pub fn message(&self, entry: &Entry) -> Option<Message> {
        let document: Object = serde_json::from_str(&entry.document).ok()?;
        let head = self.head(entry, &document);
        let room = self.max_bytes.checked_sub(head.len())?;
        let (body, reduced) = self.form.body(document, |text| mark(text).len() + text.len() <= room)?;
        Some(Message { bytes: [&head, mark(&body), &body].concat().into_bytes(), reduced })
    }

    /// `<131>1 2026-01-02T03:04:05.000006Z sensor outfall 7 outfall.alert [outfall@32473 event_id="..."] `
    fn head(&self, entry: &Entry, document: &Object) -> String {
        let priority = u64::from(self.facility) * 8 + severity(entry.severity);
        let mut data = format!("[{}", self.data_id);
        for (name, path) in [("event_id", "event.id"), ("community_id", "network.community_id"), ("rule_id", "rule.id")]
        {
            if let Some(value) = json::text(document, path) {
                data.push_str(&format!(" {name}=\"{}\"", parameter(value)));
            }
        }
        data.push(']');
        let (time, kind) = (timestamp(&entry.time), header_field(&entry.kind, 32));
        format!("<{priority}>1 {time} {} outfall {} {kind} {data} ", self.host, self.process)
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

const BOM: &str = "\u{feff}";

/// RFC 5424, section 6.4: what is marked is UTF-8. ASCII needs no mark, which some receivers would take for text.
fn mark(text: &str) -> &'static str {
    if text.is_ascii() { "" } else { BOM }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::json::is_unsafe;
    use crate::config::{Config, Format, Transport};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn formatter(format: Format, max_bytes: u64) -> Formatter {
        let collector = SyslogCollector {
            address: crate::config::Address::Numbers("192.0.2.7:514".parse().unwrap()),
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
        Formatter::new(&collector, &Config::default().deliver, "sensor 1", 7)
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

    /// The document, without what this sensor says of itself; the rest as another's parser reads it.
    fn body(message: &Message) -> Value {
        let read = parsed(message);
        let mut body: Value = serde_json::from_str(read.msg.trim_start_matches(BOM)).unwrap();
        body.as_object_mut().unwrap().shift_remove("observer");
        body
    }

    fn parsed(message: &Message) -> syslog_loose::Message<&str> {
        let text = std::str::from_utf8(&message.bytes).unwrap();
        let read = syslog_loose::parse_message(text, syslog_loose::Variant::RFC5424);
        assert_eq!(read.protocol, syslog_loose::Protocol::RFC5424(1), "{text}");
        assert_eq!((read.hostname, read.appname), (Some("sensor_1"), Some("outfall")));
        read
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
        let message = formatter(Format::Ecs, 3_800).message(&large).unwrap();
        let (document, whole) = (body(&message), serde_json::from_str::<Value>(&large.document).unwrap());
        assert!(message.reduced);
        assert_eq!(document["outfall"]["syslog"]["dropped_fields"], json!(["outfall.files"]));
        assert_eq!((&document["url"], &document["message"]), (&whole["url"], &whole["message"]));
        let least = body(&formatter(Format::Ecs, 480).message(&entry(&"x".repeat(1_500), 73)).unwrap());
        assert_eq!(least["event"]["id"], whole["event"]["id"]);
    }

    #[test]
    fn the_other_forms_are_bodies_too() {
        let alert = entry("/a", 73);
        let cef = formatter(Format::Cef, 8_192).message(&alert).unwrap();
        assert!(parsed(&cef).msg.starts_with("CEF:0|Outfall|Outfall|"));
        let ocsf = body(&formatter(Format::Ocsf, 8_192).message(&alert).unwrap());
        assert_eq!(ocsf["class_uid"], 2_004);
        let small = formatter(Format::Ocsf, 700).message(&entry(&"x".repeat(1_500), 73)).unwrap();
        assert!(small.reduced && body(&small)["finding_info"]["uid"] == alert.event_id);
        let small = formatter(Format::Cef, 480).message(&entry(&"x".repeat(900), 73)).unwrap();
        assert!(small.reduced && parsed(&small).msg.contains("flexString1Label=leftOut"));
    }

    proptest! {
        #[test]
        fn whatever_is_on_the_wire_a_message_is_one_line_within_its_bound(
            url in "(\\PC|\\p{C}|[\"\\\\\\]\n\r\u{85}\u{2028}]){0,400}", max in 600_u64..4_000, form in 0..4_usize,
        ) {
            let entry = entry(&url, 73);
            let format = [Format::Ecs, Format::Ocsf, Format::Cef, Format::Text][form];
            let message = formatter(format, max).message(&entry).unwrap();
            prop_assert!(message.bytes.len() as u64 <= max);
            let line = std::str::from_utf8(&message.bytes).unwrap();
            let mut chars = line.chars().filter(|c| *c != '\u{feff}');
            prop_assert!(!chars.any(is_unsafe), "{line:?}");
            let read = parsed(&message);
            let data: Vec<_> = read.structured_data.iter().flat_map(|element| element.params()).collect();
            prop_assert_eq!(&data[0], &(&"event_id", entry.event_id.clone()));
            if format == Format::Ecs {
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
