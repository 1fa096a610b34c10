//! An alert as an event of the Open Cybersecurity Schema Framework.
//!
//! An alert on an upload is a Detection Finding (class 2004), one on the sensor itself a Base Event (class 0), since it is
//! no finding about anybody. Only what means the same there is mapped; the rest of the ECS document stays under
//! `unmapped`, with its names.

use serde_json::{Value, json};

use super::json::{self, Object, put, take};

/// The version of the schema, as `metadata.version` says.
pub const VERSION: &str = "1.7.0";

/// What is left out of an event that is too large, in this order.
pub const OPTIONAL: [&str; 5] = ["unmapped", "evidences", "message", "finding_info.analytic", "finding_info.attacks"];

/// What stays where even that is not enough: what the schema requires.
pub const LEAST: [&str; 12] = [
    "activity_id",
    "category_uid",
    "class_uid",
    "type_uid",
    "severity_id",
    "is_alert",
    "time",
    "metadata.version",
    "metadata.uid",
    "metadata.product",
    "finding_info.uid",
    "finding_info.title",
];

/// The event of an alert's document; `sensor` is the name of this sensor.
pub fn event(document: &Object, sensor: &str) -> Object {
    let mut left = document.clone();
    let is_finding = json::text(document, "event.dataset") == Some("outfall.alert");
    let mut event = Object::new();
    let told = json::at(document, "outfall.alert.told").and_then(Value::as_u64).unwrap_or(1);
    // 1: created, 2: updated. Nobody here closes a finding.
    let activity = if told > 1 { 2 } else { 1 };
    let (category, class, activity) = if is_finding { (2, 2_004, activity) } else { (0, 0, 99) };
    for (path, value) in [
        ("activity_id", activity),
        ("category_uid", category),
        ("class_uid", class),
        ("type_uid", class * 100 + activity),
        ("severity_id", severity(json::at(document, "event.severity").and_then(Value::as_u64).unwrap_or(0))),
    ] {
        put(&mut event, path, value.into());
    }
    if !is_finding {
        put(&mut event, "activity_name", json::at(document, "event.dataset").cloned().unwrap_or_default());
    }
    set_time(&mut event, "time", &mut left, "@timestamp");
    set_time(&mut event, "start_time", &mut left, "event.start");
    set_time(&mut event, "end_time", &mut left, "event.end");
    put(&mut event, "metadata.version", VERSION.into());
    put(&mut event, "metadata.product.name", "Outfall".into());
    put(&mut event, "metadata.product.vendor_name", "Outfall".into());
    put(&mut event, "metadata.product.version", env!("CARGO_PKG_VERSION").into());
    if !sensor.is_empty() {
        put(&mut event, "metadata.loggers", json!([{ "name": sensor }]));
    }
    let id = take(&mut left, "event.id").unwrap_or_default();
    if let (Some(id), 2..) = (id.as_str(), told) {
        // An update is an event of its own, of the same finding.
        put(&mut event, "metadata.uid", format!("{id}-{told}").into());
    } else {
        put(&mut event, "metadata.uid", id.clone());
    }
    set(&mut event, "message", &mut left, "message");
    for known in ["event.severity", "event.dataset", "event.kind"] {
        take(&mut left, known);
    }
    if is_finding {
        put(&mut event, "is_alert", true.into());
        // 1, new: nobody has looked at it yet; 3, suppressed: somebody has made an exception of it.
        let suppressed = json::text(document, "outfall.alert.suppressed_by").is_some();
        put(&mut event, "status_id", if suppressed { 3 } else { 1 }.into());
        put(&mut event, "finding_info.uid", id);
        finding(&mut event, &mut left);
        let confidence = json::text(&left, "outfall.alert.confidence").and_then(confidence);
        if let Some(confidence) = confidence {
            take(&mut left, "outfall.alert.confidence");
            put(&mut event, "confidence_id", confidence.into());
        }
        let evidence = evidence(&mut left);
        if !evidence.is_empty() {
            put(&mut event, "evidences", Value::Array(vec![evidence.into()]));
        }
    }
    if !left.is_empty() {
        put(&mut event, "unmapped", left.into());
    }
    event
}

fn finding(event: &mut Object, left: &mut Object) {
    let title = json::text(left, "rule.name").unwrap_or("alert").to_owned();
    put(event, "finding_info.title", title.into());
    take(left, "rule.name");
    if let Some(rule) = take(left, "rule.id") {
        // 1: a rule, as opposed to statistics or learning.
        put(event, "finding_info.analytic", json!({ "type_id": 1, "uid": rule }));
        set(event, "finding_info.analytic.name", left, "rule.ruleset");
    }
    let mut attack = Object::new();
    set(&mut attack, "tactic.uid", left, "threat.tactic.id");
    set(&mut attack, "tactic.name", left, "threat.tactic.name");
    let (id, name) = (take(left, "threat.technique.id"), take(left, "threat.technique.name"));
    if let Some(id) = id.as_ref().and_then(Value::as_str) {
        // `T1048.003` is the third below T1048.
        let (technique, below) = id.split_once('.').map_or((id, None), |(technique, _)| (technique, Some(id)));
        put(&mut attack, "technique.uid", technique.into());
        let place = if let Some(below) = below {
            put(&mut attack, "sub_technique.uid", below.into());
            "sub_technique.name"
        } else {
            "technique.name"
        };
        put(&mut attack, place, name.unwrap_or_default());
    }
    if !attack.is_empty() {
        put(event, "finding_info.attacks", Value::Array(vec![attack.into()]));
        take(left, "threat.framework");
    }
}

fn evidence(left: &mut Object) -> Object {
    let mut evidence = Object::new();
    for (side, to) in [("source", "src_endpoint"), ("destination", "dst_endpoint")] {
        set(&mut evidence, &format!("{to}.ip"), left, &format!("{side}.ip"));
        set(&mut evidence, &format!("{to}.port"), left, &format!("{side}.port"));
    }
    set(&mut evidence, "dst_endpoint.hostname", left, "destination.domain");
    set(&mut evidence, "dst_endpoint.svc_name", left, "network.protocol");
    if let Some(transport) = take(left, "network.transport") {
        // 2: outbound, as all uploads that are judged are.
        put(&mut evidence, "connection_info", json!({ "direction_id": 2, "protocol_name": transport }));
        set(&mut evidence, "connection_info.community_uid", left, "network.community_id");
    }
    if json::at(left, "host.id").is_some() || json::at(left, "host.name").is_some() {
        // 0: what kind of device it is, nobody told.
        put(&mut evidence, "device.type_id", 0.into());
        set(&mut evidence, "device.uid", left, "host.id");
        set(&mut evidence, "device.hostname", left, "host.name");
        set(&mut evidence, "device.domain", left, "host.domain");
    }
    let user = user(left);
    if let Some(mut process) = process(left, "process") {
        if let Some(parent) = self::process(left, "process.parent") {
            put(&mut process, "parent_process", parent.into());
        }
        put(&mut evidence, "actor.process", process.into());
    }
    if !user.is_empty() {
        put(&mut evidence, "actor.user", user.into());
    }
    if let Some(file) = file(left) {
        put(&mut evidence, "file", file.into());
    }
    set(&mut evidence, "url.url_string", left, "url.original");
    set(&mut evidence, "http_request.http_method", left, "http.request.method");
    set(&mut evidence, "http_request.user_agent", left, "user_agent.original");
    set(&mut evidence, "http_request.version", left, "http.version");
    set(&mut evidence, "http_response.code", left, "http.response.status_code");
    evidence
}

fn user(left: &mut Object) -> Object {
    let mut user = Object::new();
    set(&mut user, "name", left, "user.name");
    set(&mut user, "domain", left, "user.domain");
    set(&mut user, "uid", left, "user.id");
    user
}

/// A process has a number there, or it is none.
fn process(left: &mut Object, at: &str) -> Option<Object> {
    json::at(left, &format!("{at}.pid"))?;
    let mut process = Object::new();
    set(&mut process, "pid", left, &format!("{at}.pid"));
    set(&mut process, "name", left, &format!("{at}.name"));
    set(&mut process, "cmd_line", left, &format!("{at}.command_line"));
    set_time(&mut process, "created_time", left, &format!("{at}.start"));
    if let Some(name) = json::at(&process, "name").cloned()
        && let Some(path) = take(left, &format!("{at}.executable"))
    {
        // 1: a regular file.
        put(&mut process, "file", json!({ "name": name, "type_id": 1, "path": path }));
        if let Some(hash) = take(left, &format!("{at}.hash.sha256")) {
            put(&mut process, "file.hashes", sha256(hash));
        }
    }
    Some(process)
}

fn file(left: &mut Object) -> Option<Object> {
    let mut file = Object::new();
    put(&mut file, "name", take(left, "file.name")?);
    put(&mut file, "type_id", 1.into());
    set(&mut file, "path", left, "file.path");
    set(&mut file, "size", left, "file.size");
    set(&mut file, "mime_type", left, "file.mime_type");
    if let Some(hash) = take(left, "file.hash.sha256") {
        put(&mut file, "hashes", sha256(hash));
    }
    Some(file)
}

fn sha256(value: Value) -> Value {
    json!([{ "algorithm_id": 3, "algorithm": "SHA-256", "value": value }])
}

fn set(to: &mut Object, path: &str, left: &mut Object, from: &str) {
    if let Some(value) = take(left, from) {
        put(to, path, value);
    }
}

/// In milliseconds since the Unix epoch.
fn set_time(to: &mut Object, path: &str, left: &mut Object, from: &str) {
    if let Some(time) = json::milliseconds(left, from) {
        take(left, from);
        put(to, path, time.into());
    }
}

/// From ECS's numbers: informational, low, medium, high, critical.
fn severity(event: u64) -> u64 {
    match event {
        99.. => 5,
        73.. => 4,
        47.. => 3,
        21.. => 2,
        _ => 1,
    }
}

/// How sure the verdict is.
fn confidence(name: &str) -> Option<u64> {
    ["low", "medium", "high"].iter().position(|known| *known == name).map(|place| place as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn alert() -> Object {
        object(json!({
            "@timestamp": "2026-01-02T03:04:05.123456789Z",
            "event": {"id": "0123", "kind": "alert", "dataset": "outfall.alert", "severity": 73,
                      "start": "2026-01-02T03:04:04Z", "end": "2026-01-02T03:04:05.123456789Z"},
            "message": "HIGH",
            "network": {"transport": "tcp", "protocol": "http", "community_id": "1:x"},
            "source": {"ip": "10.0.0.5", "port": 5_000, "bytes": 1_500},
            "destination": {"ip": "192.0.2.9", "port": 80, "domain": "d.example"},
            "http": {"version": "1.1", "request": {"method": "PUT"}, "response": {"status_code": 201}},
            "url": {"original": "/a"},
            "file": {"name": "old.7z", "size": 5, "hash": {"sha256": "ab"}},
            "host": {"id": "A", "name": "WKS-1"},
            "process": {"name": "curl.exe", "executable": "C:\\curl.exe", "pid": 7, "start": "2026-01-02T03:04:00Z",
                        "command_line": "curl", "hash": {"sha256": "cd"},
                        "parent": {"name": "cmd.exe", "pid": 3}},
            "user": {"name": "ann", "domain": "CORP"},
            "rule": {"id": "AN0423", "name": "Exfiltration", "ruleset": "DET0149"},
            "threat": {"framework": "MITRE ATT&CK", "tactic": {"id": "TA0010", "name": "Exfiltration"},
                       "technique": {"id": "T1048.003", "name": "Exfiltration Over"}},
            "outfall": {"upload": {"bytes": 5}, "reasons": [{"id": "volume"}]},
        }))
    }

    /// What stands where, by the schema: the type of each attribute that is written, whether it is required, and for an
    /// identifier which values there are.
    #[derive(Clone, Copy)]
    enum Is {
        Text,
        Number,
        /// Milliseconds since the Unix epoch.
        Time,
        Flag,
        /// One of these.
        Of(&'static [u64]),
        An(&'static str),
        ListOf(&'static str),
        /// Anything.
        Any,
    }

    use Is::{An, Any, Flag, ListOf, Number, Of, Text, Time};

    type Attributes = &'static [(&'static str, Is)];

    /// Of each object: attributes, of which those are required, and of which there has to be one.
    fn schema(name: &str) -> (Attributes, &'static [&'static str], &'static [&'static str]) {
        match name {
            "base_event" => (
                &[
                    ("activity_id", Of(&[0, 99])),
                    ("activity_name", Text),
                    ("category_uid", Of(&[0])),
                    ("class_uid", Of(&[0])),
                    ("type_uid", Of(&[0, 99])),
                    ("severity_id", Of(&[0, 1, 2, 3, 4, 5, 6, 99])),
                    ("time", Time),
                    ("start_time", Time),
                    ("end_time", Time),
                    ("metadata", An("metadata")),
                    ("message", Text),
                    ("unmapped", Any),
                ],
                &["activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata"],
                &[],
            ),
            "detection_finding" => (
                &[
                    ("activity_id", Of(&[0, 1, 2, 3, 99])),
                    ("category_uid", Of(&[2])),
                    ("class_uid", Of(&[2_004])),
                    ("type_uid", Of(&[200_400, 200_401, 200_402, 200_403, 200_499])),
                    ("severity_id", Of(&[0, 1, 2, 3, 4, 5, 6, 99])),
                    ("confidence_id", Of(&[0, 1, 2, 3, 99])),
                    ("status_id", Of(&[0, 1, 2, 3, 4, 5, 6, 99])),
                    ("is_alert", Flag),
                    ("time", Time),
                    ("start_time", Time),
                    ("end_time", Time),
                    ("metadata", An("metadata")),
                    ("finding_info", An("finding_info")),
                    ("evidences", ListOf("evidences")),
                    ("message", Text),
                    ("unmapped", Any),
                ],
                &[
                    "activity_id",
                    "category_uid",
                    "class_uid",
                    "type_uid",
                    "severity_id",
                    "time",
                    "metadata",
                    "finding_info",
                ],
                &[],
            ),
            "metadata" => (
                &[("version", Text), ("uid", Text), ("product", An("product")), ("loggers", ListOf("logger"))],
                &["version", "product"],
                &[],
            ),
            "product" => (&[("name", Text), ("vendor_name", Text), ("version", Text)], &[], &["name", "uid"]),
            "logger" => (&[("name", Text)], &[], &["name", "uid"]),
            "finding_info" => (
                &[("uid", Text), ("title", Text), ("analytic", An("analytic")), ("attacks", ListOf("attack"))],
                &["uid"],
                &[],
            ),
            "analytic" => (
                &[("type_id", Of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 99])), ("uid", Text), ("name", Text)],
                &["type_id"],
                &["name", "uid"],
            ),
            "attack" => (
                &[("tactic", An("tactic")), ("technique", An("technique")), ("sub_technique", An("technique"))],
                &[],
                &["tactic", "technique", "sub_technique"],
            ),
            "tactic" | "technique" => (&[("uid", Text), ("name", Text)], &[], &["name", "uid"]),
            "evidences" => (
                &[
                    ("src_endpoint", An("network_endpoint")),
                    ("dst_endpoint", An("network_endpoint")),
                    ("connection_info", An("network_connection_info")),
                    ("device", An("device")),
                    ("actor", An("actor")),
                    ("file", An("file")),
                    ("url", An("url")),
                    ("http_request", An("http_request")),
                    ("http_response", An("http_response")),
                ],
                &[],
                &["actor", "connection_info", "device", "dst_endpoint", "file", "src_endpoint", "url"],
            ),
            "network_endpoint" => (
                &[("ip", Text), ("port", Number), ("hostname", Text), ("svc_name", Text)],
                &[],
                &["ip", "uid", "name", "hostname", "svc_name"],
            ),
            "network_connection_info" => (
                &[("direction_id", Of(&[0, 1, 2, 3, 4, 99])), ("protocol_name", Text), ("community_uid", Text)],
                &["direction_id"],
                &[],
            ),
            "device" => (
                &[("type_id", Of(&[0, 1, 2, 3, 99])), ("uid", Text), ("hostname", Text), ("domain", Text)],
                &["type_id"],
                &["ip", "uid", "name", "hostname"],
            ),
            "actor" => (&[("process", An("process")), ("user", An("user"))], &[], &["process", "user"]),
            "process" => (
                &[
                    ("pid", Number),
                    ("name", Text),
                    ("cmd_line", Text),
                    ("created_time", Time),
                    ("file", An("file")),
                    ("parent_process", An("process")),
                ],
                &[],
                &["pid", "uid"],
            ),
            "file" => (
                &[
                    ("name", Text),
                    ("type_id", Of(&[0, 1, 2, 3, 4, 5, 6, 7, 99])),
                    ("path", Text),
                    ("size", Number),
                    ("mime_type", Text),
                    ("hashes", ListOf("fingerprint")),
                ],
                &["name", "type_id"],
                &[],
            ),
            "fingerprint" => (
                &[("algorithm_id", Of(&[0, 1, 2, 3, 4, 5, 6, 7, 99])), ("algorithm", Text), ("value", Text)],
                &["algorithm_id", "value"],
                &[],
            ),
            "user" => (&[("name", Text), ("domain", Text), ("uid", Text)], &[], &["account", "name", "uid"]),
            "url" => (&[("url_string", Text)], &[], &["url_string", "path"]),
            "http_request" => (&[("http_method", Text), ("user_agent", Text), ("version", Text)], &[], &[]),
            "http_response" => (&[("code", Number)], &["code"], &[]),
            other => panic!("{other}: not in the table"),
        }
    }

    /// Whether a value is what the schema says of it.
    fn check(value: &Value, is: Is, at: &str) {
        let fits = match is {
            Text => value.as_str().is_some_and(|text| !text.is_empty()),
            Number => value.is_u64(),
            Time => value.as_u64().is_some_and(|time| (1_000_000_000_000..10_000_000_000_000).contains(&time)),
            Flag => value.is_boolean(),
            Of(known) => value.as_u64().is_some_and(|id| known.contains(&id)),
            An(name) => return check_object(value.as_object().unwrap_or_else(|| panic!("{at}: {value}")), name, at),
            ListOf(name) => {
                let list = value.as_array().filter(|list| !list.is_empty()).unwrap_or_else(|| panic!("{at}: {value}"));
                return list.iter().for_each(|item| check(item, An(name), at));
            }
            Any => true,
        };
        assert!(fits, "{at}: {value}");
    }

    fn check_object(object: &Object, name: &str, at: &str) {
        let (attributes, required, one_of) = schema(name);
        for (key, value) in object {
            let is = attributes.iter().find(|(known, _)| known == key);
            check(value, is.unwrap_or_else(|| panic!("{at}: {name} has no {key}")).1, &format!("{at}.{key}"));
        }
        required.iter().for_each(|key| assert!(object.contains_key(*key), "{at}: {name} lacks {key}"));
        assert!(one_of.is_empty() || one_of.iter().any(|key| object.contains_key(*key)), "{at}: {name} is empty");
    }

    /// What the schema says of an event, its classes and objects as far as they are written here.
    fn required(event: &Object) {
        let number = |path: &str| json::at(event, path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
        assert_eq!(json::text(event, "metadata.version"), Some(VERSION));
        let class = if number("class_uid") == 2_004 { "detection_finding" } else { "base_event" };
        check_object(event, class, class);
    }

    #[test]
    fn what_is_left_where_there_is_no_room_is_what_the_schema_requires() {
        let whole = event(&alert(), "sensor-1");
        let mut left = Object::new();
        for path in LEAST {
            put(&mut left, path, json::at(&whole, path).unwrap().clone());
        }
        required(&left);
    }

    #[test]
    fn an_alert_that_is_told_anew_updates_its_finding() {
        let mut document = alert();
        put(&mut document, "outfall.alert.told", 3.into());
        put(&mut document, "outfall.alert.confidence", "high".into());
        let event = event(&document, "");
        required(&event);
        assert_eq!(
            (&event["activity_id"], &event["type_uid"], &event["confidence_id"]),
            (&2.into(), &200_402.into(), &3.into())
        );
        assert_eq!(json::text(&event, "finding_info.uid"), Some("0123"));
        assert_eq!(json::text(&event, "metadata.uid"), Some("0123-3"), "an event of its own");
        assert!(json::at(&event, "unmapped.outfall.alert.confidence").is_none());
    }

    #[test]
    fn an_alert_is_a_detection_finding_with_what_the_schema_requires() {
        let event = event(&alert(), "sensor-1");
        required(&event);
        let expected = object(json!({
            "activity_id": 1, "category_uid": 2, "class_uid": 2_004, "type_uid": 200_401, "severity_id": 4,
            "time": 1_767_323_045_123_u64, "start_time": 1_767_323_044_000_u64, "end_time": 1_767_323_045_123_u64,
            "metadata": {"version": VERSION, "uid": "0123", "loggers": [{"name": "sensor-1"}],
                         "product": {"name": "Outfall", "vendor_name": "Outfall", "version": env!("CARGO_PKG_VERSION")}},
            "message": "HIGH", "is_alert": true, "status_id": 1,
            "finding_info": {
                "uid": "0123", "title": "Exfiltration",
                "analytic": {"type_id": 1, "uid": "AN0423", "name": "DET0149"},
                "attacks": [{"tactic": {"uid": "TA0010", "name": "Exfiltration"}, "technique": {"uid": "T1048"},
                             "sub_technique": {"uid": "T1048.003", "name": "Exfiltration Over"}}],
            },
            "evidences": [{
                "src_endpoint": {"ip": "10.0.0.5", "port": 5_000},
                "dst_endpoint": {"ip": "192.0.2.9", "port": 80, "hostname": "d.example", "svc_name": "http"},
                "connection_info": {"direction_id": 2, "protocol_name": "tcp", "community_uid": "1:x"},
                "device": {"type_id": 0, "uid": "A", "hostname": "WKS-1"},
                "actor": {
                    "process": {"pid": 7, "name": "curl.exe", "cmd_line": "curl", "created_time": 1_767_323_040_000_u64,
                                "file": {"name": "curl.exe", "type_id": 1, "path": "C:\\curl.exe",
                                         "hashes": [{"algorithm_id": 3, "algorithm": "SHA-256", "value": "cd"}]},
                                "parent_process": {"pid": 3, "name": "cmd.exe"}},
                    "user": {"name": "ann", "domain": "CORP"},
                },
                "file": {"name": "old.7z", "type_id": 1, "size": 5,
                         "hashes": [{"algorithm_id": 3, "algorithm": "SHA-256", "value": "ab"}]},
                "url": {"url_string": "/a"},
                "http_request": {"http_method": "PUT", "version": "1.1"},
                "http_response": {"code": 201},
            }],
            // What has no place of the same meaning.
            "unmapped": {"source": {"bytes": 1_500}, "outfall": {"upload": {"bytes": 5}, "reasons": [{"id": "volume"}]}},
        }));
        assert_eq!(event, expected);
    }

    #[test]
    fn an_alert_on_the_sensor_is_no_finding() {
        let health = crate::alert::Health {
            start: crate::net::Timestamp::from_parts(1_700_000_000, 0),
            end: None,
            trouble: crate::alert::Trouble::Shedding("hashes"),
        };
        let event = event(&object(serde_json::to_value(health.document()).unwrap()), "");
        required(&event);
        assert_eq!((&event["class_uid"], &event["activity_name"]), (&json!(0), &json!("outfall.health")));
        assert_eq!(json::text(&event, "unmapped.outfall.health.condition"), Some("shedding"));
        assert!(event.get("finding_info").is_none() && event.get("evidences").is_none());
    }

    #[test]
    fn an_alert_without_its_process_has_no_process() {
        let mut document = alert();
        ["process", "user", "host", "file"].iter().for_each(|key| _ = take(&mut document, key));
        let event = event(&document, "");
        required(&event);
        let evidence = event["evidences"][0].as_object().unwrap();
        assert!(!evidence.contains_key("actor") && !evidence.contains_key("device") && !evidence.contains_key("file"));
    }
}
