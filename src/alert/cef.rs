//! An alert in ArcSight's Common Event Format, version 0.
//!
//! `CEF:0|Vendor|Product|Version|Class|Name|Severity|key=value ...`: in the header `\` and `|` are escaped, in the values
//! `\`, `=` and the two line breaks. Other characters that could end a line or move a cursor become the text `\u0007`.
//! Each key has a longest value; one that is longer is left out whole, and `flexString1` names it.

use serde_json::Value;

use super::json::{self, Object, is_unsafe};

/// What is left out first where a message has less room than it takes.
const OPTIONAL: [&str; 19] = [
    "cs1",
    "cs4",
    "requestClientApplication",
    "filePath",
    "cs5",
    "cs6",
    "msg",
    "request",
    "sntdom",
    "cs3",
    "cs2",
    "sproc",
    "fileHash",
    "fname",
    "suser",
    "shost",
    "dhost",
    "cn1",
    "dvchost",
];

/// A message in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cef {
    header: String,
    /// Keys with their values, escaped.
    fields: Vec<(&'static str, String)>,
    /// Keys that are left out.
    left_out: Vec<&'static str>,
}

impl Cef {
    /// Of an alert's document; `sensor` is the name of this sensor.
    pub fn of(document: &Object, sensor: &str) -> Self {
        let health = json::text(document, "outfall.health.condition");
        let class = json::text(document, "rule.id").or(health);
        let said = health.and_then(|_| json::text(document, "message"));
        let name = json::text(document, "rule.name").or(said).unwrap_or("alert");
        let header = [
            "CEF:0",
            "Outfall",
            "Outfall",
            env!("CARGO_PKG_VERSION"),
            &in_header(class.unwrap_or("alert")),
            &in_header(name),
            severity(json::at(document, "event.severity").and_then(Value::as_u64).unwrap_or(0)),
        ]
        .join("|");
        let mut cef = Self { header, fields: Vec::new(), left_out: Vec::new() };
        cef.common(document, sensor);
        cef.connection(document);
        cef.process_and_file(document);
        cef.custom(document);
        cef
    }

    /// The message, so that it fits, and whether something is left out. None if even its least does not fit.
    pub fn fitting(mut self, fits: impl Fn(&str) -> bool) -> Option<(String, bool)> {
        let mut optional = OPTIONAL.iter();
        loop {
            let text = self.to_string();
            if fits(&text) {
                return Some((text, !self.left_out.is_empty()));
            }
            let Some(key) = optional.next() else {
                self.left_out = vec!["*"];
                return Some((self.to_string(), true)).filter(|(text, _)| fits(text));
            };
            let count = self.fields.len();
            self.fields.retain(|(known, _)| known != key && known.strip_suffix("Label") != Some(key));
            if self.fields.len() < count {
                self.left_out.push(key);
            }
        }
    }

    fn common(&mut self, document: &Object, sensor: &str) {
        self.time("rt", document, "@timestamp");
        self.time("start", document, "event.start");
        self.time("end", document, "event.end");
        self.text("externalId", 40, json::text(document, "event.id"));
        self.text("cat", 1_023, json::text(document, "event.dataset"));
        // A sensor that only listens lets everything pass.
        self.text("act", 63, Some("detected"));
        self.text("dvchost", 100, Some(sensor).filter(|sensor| !sensor.is_empty()));
        self.text("msg", 1_023, json::text(document, "message"));
    }

    fn connection(&mut self, document: &Object) {
        // Version 0 keeps IPv6 apart from `src` and `dst`, which are IPv4 alone.
        for (path, key, key_v6, label, name) in [
            ("source.ip", "src", "c6a2", "c6a2Label", "Source IPv6 Address"),
            ("destination.ip", "dst", "c6a3", "c6a3Label", "Destination IPv6 Address"),
        ] {
            let address = json::text(document, path);
            if address.is_some_and(|address| address.contains(':')) {
                self.labelled(key_v6, 39, address, label, name);
            } else {
                self.text(key, 15, address);
            }
        }
        self.number("spt", document, "source.port");
        self.number("dpt", document, "destination.port");
        self.text("proto", 31, json::text(document, "network.transport").map(str::to_uppercase).as_deref());
        self.text("app", 31, json::text(document, "network.protocol"));
        // Towards the source, and away from it.
        self.number("in", document, "destination.bytes");
        self.number("out", document, "source.bytes");
        self.text("shost", 1_023, json::text(document, "host.name"));
        self.text("dhost", 1_023, json::text(document, "destination.domain"));
        self.text("request", 1_023, json::text(document, "url.original"));
        self.text("requestMethod", 1_023, json::text(document, "http.request.method"));
        self.text("requestClientApplication", 1_023, json::text(document, "user_agent.original"));
    }

    fn process_and_file(&mut self, document: &Object) {
        let process = json::text(document, "process.executable").or(json::text(document, "process.name"));
        self.text("sproc", 1_023, process);
        self.number("spid", document, "process.pid");
        self.text("suser", 1_023, json::text(document, "user.name"));
        self.text("suid", 1_023, json::text(document, "user.id"));
        self.text("sntdom", 255, json::text(document, "user.domain"));
        self.text("fname", 1_023, json::text(document, "file.name"));
        self.number("fsize", document, "file.size");
        self.text("fileHash", 255, json::text(document, "file.hash.sha256"));
        let path = json::text(document, "file.path")
            .or_else(|| json::at(document, "outfall.join.files")?.as_array()?.first()?.get("path")?.as_str());
        self.text("filePath", 1_023, path);
    }

    fn custom(&mut self, document: &Object) {
        let list = |path| {
            let items = json::at(document, path)?.as_array()?.iter();
            let names: Vec<&str> = items.filter_map(|item| item.as_str().or(item.get("id")?.as_str())).collect();
            (!names.is_empty()).then(|| names.join(","))
        };
        self.labelled("cs1", 4_000, list("outfall.reasons").as_deref(), "cs1Label", "reasons");
        self.labelled("cs2", 4_000, json::text(document, "network.community_id"), "cs2Label", "communityId");
        self.labelled("cs3", 4_000, json::text(document, "threat.technique.id"), "cs3Label", "attackTechnique");
        self.labelled("cs4", 4_000, json::text(document, "process.command_line"), "cs4Label", "commandLine");
        self.labelled("cs5", 4_000, json::text(document, "outfall.join.confidence"), "cs5Label", "processConfidence");
        self.labelled("cs6", 4_000, list("outfall.alert.legs.missing").as_deref(), "cs6Label", "notSeen");
        let missing = json::at(document, "outfall.upload.missing_bytes").and_then(Value::as_u64).filter(|n| *n > 0);
        self.labelled("cn1", 20, missing.map(|n| n.to_string()).as_deref(), "cn1Label", "missingBytes");
    }

    fn text(&mut self, key: &'static str, longest: usize, value: Option<&str>) {
        match value {
            Some(value) if value.chars().count() > longest => self.left_out.push(key),
            Some(value) => self.fields.push((key, in_value(value))),
            None => {}
        }
    }

    fn labelled(
        &mut self,
        key: &'static str,
        longest: usize,
        value: Option<&str>,
        label: &'static str,
        name: &'static str,
    ) {
        let before = self.fields.len();
        self.text(key, longest, value);
        if self.fields.len() > before {
            self.fields.push((label, name.to_owned()));
        }
    }

    fn number(&mut self, key: &'static str, document: &Object, path: &str) {
        if let Some(number) = json::at(document, path).and_then(Value::as_u64) {
            self.fields.push((key, number.to_string()));
        }
    }

    /// In milliseconds since the Unix epoch.
    fn time(&mut self, key: &'static str, document: &Object, path: &str) {
        if let Some(time) = json::milliseconds(document, path) {
            self.fields.push((key, time.to_string()));
        }
    }
}

impl std::fmt::Display for Cef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}|", self.header)?;
        let left_out = self.left_out.join(",");
        let note = [("flexString1", left_out.as_str()), ("flexString1Label", "leftOut")];
        let note = note.into_iter().filter(|_| !left_out.is_empty());
        let fields = self.fields.iter().map(|(key, value)| (*key, value.as_str()));
        for (n, (key, value)) in fields.chain(note).enumerate() {
            write!(f, "{}{key}={value}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// From ECS's numbers to CEF's: 0 to 3 is low, 4 to 6 medium, 7 and 8 high, 9 and 10 very high.
fn severity(event: u64) -> &'static str {
    match event {
        99.. => "10",
        73.. => "8",
        47.. => "5",
        21.. => "3",
        _ => "0",
    }
}

fn in_header(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '\\' | '|' => safe.extend(['\\', c]),
            // A header has no line breaks.
            c if is_unsafe(c) => safe.push_str(&format!("\\\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

fn in_value(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '=' => safe.extend(['\\', c]),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            c if is_unsafe(c) => safe.push_str(&format!("\\\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn document(url: &str) -> Object {
        let document = json!({
            "@timestamp": "2026-01-02T03:04:05.123456789Z",
            "event": {"id": "0123456789abcdef0123456789abcdef", "dataset": "outfall.alert", "severity": 73},
            "message": "HIGH",
            "source": {"ip": "10.0.0.5", "port": 5_000, "bytes": 1_500},
            "destination": {"ip": "2001:db8::9", "port": 21, "domain": "a|b=c.example"},
            "network": {"transport": "tcp", "protocol": "ftp"},
            "url": {"original": url},
            "process": {"executable": "C:\\ftp.exe", "pid": 7},
            "rule": {"id": "AN0423", "name": "Over | \\ all"},
            "outfall": {"reasons": [{"id": "data-staged"}, {"id": "volume"}]},
        });
        document.as_object().unwrap().clone()
    }

    /// The header's fields and the extension's, read as the specification says: a key is the last word before a `=` that
    /// is not escaped.
    fn read(message: &str) -> (Vec<String>, BTreeMap<String, String>) {
        let (mut parts, mut part, mut chars) = (Vec::new(), String::new(), message.chars());
        while parts.len() < 7 {
            match chars.next().unwrap() {
                '\\' => part.push(chars.next().unwrap()),
                '|' => parts.push(std::mem::take(&mut part)),
                c => part.push(c),
            }
        }
        let (mut fields, mut key, mut value) = (BTreeMap::new(), String::new(), String::new());
        while let Some(c) = chars.next() {
            match c {
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    c @ ('\\' | '=') => c,
                    c => panic!("{c:?} is escaped in {message}"),
                }),
                '=' => {
                    let next = match value.rsplit_once(' ') {
                        Some((before, next)) => {
                            fields.insert(std::mem::take(&mut key), before.to_owned());
                            next.to_owned()
                        }
                        None => value.clone(),
                    };
                    assert!(next.chars().all(|c| c.is_ascii_alphanumeric()), "{next:?} is a key of {message}");
                    (key, value) = (next, String::new());
                }
                c => value.push(c),
            }
        }
        fields.insert(key, value);
        (parts, fields)
    }

    #[test]
    fn an_alert_has_the_keys_of_the_dictionary() {
        let message = Cef::of(&document("/a"), "sensor-1").to_string();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            message,
            format!(
                "CEF:0|Outfall|Outfall|{version}|AN0423|Over \\| \\\\ all|8|rt=1767323045123 \
                 externalId=0123456789abcdef0123456789abcdef cat=outfall.alert act=detected dvchost=sensor-1 msg=HIGH \
                 src=10.0.0.5 c6a3=2001:db8::9 c6a3Label=Destination IPv6 Address spt=5000 dpt=21 proto=TCP app=ftp \
                 out=1500 dhost=a|b\\=c.example request=/a sproc=C:\\\\ftp.exe spid=7 cs1=data-staged,volume \
                 cs1Label=reasons"
            )
        );
    }

    #[test]
    fn what_is_longer_than_its_key_allows_is_left_out_whole_and_named() {
        let message = Cef::of(&document(&"x".repeat(1_024)), "").to_string();
        let (_, fields) = read(&message);
        assert_eq!((fields.get("request"), fields["flexString1"].as_str()), (None, "request"));
        let whole = Cef::of(&document("/a"), "").to_string();
        let (short, left_out) = Cef::of(&document("/a"), "").fitting(|text| text.len() < whole.len()).unwrap();
        assert!(left_out && read(&short).1["flexString1"].starts_with("cs1"), "{short}");
        let (least, _) = Cef::of(&document("/a"), "").fitting(|text| text.len() < 310).unwrap();
        assert_eq!(read(&least).1["flexString1"], "*", "{least}");
        assert!(Cef::of(&document("/a"), "").fitting(|text| text.len() < 40).is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_on_the_wire_is_read_back(url in "(\\PC|\\p{C}|[\"\\\\\\]\n\r=| \u{85}\u{2028}]){0,300}") {
            let mut document = document(&url);
            document["rule"]["name"] = url.as_str().into();
            let message = Cef::of(&document, &url).to_string();
            prop_assert!(!message.chars().any(is_unsafe));
            let (header, fields) = read(&message);
            let shown: String = url
                .chars()
                .map(|c| match c {
                    '\n' | '\r' => c.to_string(),
                    c if is_unsafe(c) => json::escaped(&c.to_string()),
                    c => c.to_string(),
                })
                .collect();
            prop_assert_eq!(header.len(), 7);
            prop_assert_eq!(&header[5], &json::escaped(&url));
            prop_assert_eq!(&fields["request"], &shown);
            prop_assert_eq!(fields["externalId"].len(), 32);
        }
    }
}
