//! The shapes in which shippers write Windows events as JSON: one adapter each, told apart by what the object holds.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::record::{Log, Place, Record, number, text};
use super::time::{self, Written};
use super::xml;

type Object = Map<String, Value>;

/// Reads an object of any shape; nothing if it is no Windows event.
pub(super) fn record(object: &Object) -> Option<Result<Record<'_>, String>> {
    if let Some(Value::Object(winlog)) = object.get("winlog") {
        return Some(ecs(object, winlog));
    }
    if object.contains_key("winlog.event_id") || object.contains_key("winlog.channel") {
        return Some(dotted(object));
    }
    if let Some(Value::Object(event)) = object.get("Event") {
        return Some(tree(event));
    }
    if let Some(message) = ["SyslogMessage", "Message", "message"].iter().find_map(|name| event_xml(object, name)) {
        return Some(xml::record(message));
    }
    if object.contains_key("EventID") || object.contains_key("EventId") {
        return Some(flat(object));
    }
    None
}

/// Event XML in a text of the object, as Azure's `Syslog` table holds Sysmon for Linux.
fn event_xml<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    let text = object.get(name)?.as_str()?;
    let from = text.find("<Event>").or_else(|| text.find("<Event "))?;
    let to = text.rfind("</Event>")?;
    text.get(from..to.saturating_add("</Event>".len()))
}

/// Values beside the event's own: NXLog's, PowerShell's, and Azure's `WindowsEvent`, `SecurityEvent` and `Event` tables.
fn flat(object: &Object) -> Result<Record<'_>, String> {
    let id = id(object.get("EventID").or_else(|| object.get("EventId"))).ok_or("a Windows event without an id")?;
    let channel = first(object, &["Channel", "EventLog", "LogName"]);
    let provider = first(object, &["SourceName", "EventSourceName", "Provider", "ProviderName", "Source"]);
    let log = Log::named(channel.as_deref(), provider.as_deref());
    let host = host(first(object, &["Hostname", "Computer", "MachineName", "hostname"]))?;
    let mut places = Vec::new();
    if log != Log::Other {
        match object.get("EventData") {
            Some(Value::Object(data)) => places.push(Place::Object(data)),
            Some(Value::String(text)) if text.trim_start().starts_with('{') => {
                let parsed = serde_json::from_str(text).map_err(|_| "`EventData` is no JSON object")?;
                places.push(Place::Parsed(parsed));
            }
            Some(Value::String(text)) if text.trim_start().starts_with('<') => {
                places.push(Place::Data(xml::data(text)?));
            }
            _ => {}
        }
        places.push(Place::Object(object));
    }
    let time = ["EventTime", "TimeCreated", "TimeGenerated", "@timestamp"].iter().find_map(|name| moment(object, name));
    Ok(Record { log, id, host, time, zone: zone(object), places })
}

/// How far local times of a record are from UTC, where it tells one moment in both: NXLog stamps what it receives in local
/// time, and what comes behind it in UTC.
fn zone(object: &Object) -> Option<i64> {
    let local = moment(object, "EventReceivedTime").filter(|written| !written.zoned)?;
    let utc = moment(object, "@timestamp").filter(|written| written.zoned)?;
    super::zone::between(local.time, utc.time)
}

/// The event's XML as a tree: what `evtx_dump` and this program make of `.evtx` files.
pub(super) fn tree(event: &Object) -> Result<Record<'_>, String> {
    let system = event.get("System").and_then(Value::as_object).ok_or("a Windows event without `System`")?;
    let id = id(system.get("EventID")).ok_or("a Windows event without an id")?;
    let provider = attribute(system, "Provider", "Name");
    let log = Log::named(first(system, &["Channel"]).as_deref(), provider.as_deref());
    let host = host(first(system, &["Computer"]))?;
    let time = attribute(system, "TimeCreated", "SystemTime").and_then(|text| time::read(&text));
    let data = event.get("EventData").and_then(Value::as_object);
    // The log itself keeps UTC.
    Ok(Record { log, id, host, time, zone: Some(0), places: data.map(Place::Object).into_iter().collect() })
}

/// Winlogbeat's and Elastic Agent's, also where a pipeline has moved values to the names of ECS.
fn ecs<'a>(object: &'a Object, winlog: &'a Object) -> Result<Record<'a>, String> {
    let code = at(object, &["event", "code"]).or_else(|| object.get("event.code"));
    let id = id(winlog.get("event_id").or(code)).ok_or("a Windows event without an id")?;
    let log = Log::named(first(winlog, &["channel"]).as_deref(), first(winlog, &["provider_name"]).as_deref());
    let named = at(object, &["host", "name"]).and_then(text);
    let host = host(first(winlog, &["computer_name"]).or(named))?;
    let mut places = Vec::new();
    if log != Log::Other {
        places.extend(winlog.get("event_data").and_then(Value::as_object).map(Place::Object));
        places.push(Place::Data(moved(object)));
    }
    let time = moment(winlog, "time_created").or_else(|| moment(object, "@timestamp"));
    Ok(Record { log, id, host, time, zone: Some(0), places })
}

/// The same with dots in the names instead of objects.
fn dotted(object: &Object) -> Result<Record<'_>, String> {
    let id = id(object.get("winlog.event_id").or_else(|| object.get("event.code")));
    let id = id.ok_or("a Windows event without an id")?;
    let provider = first(object, &["winlog.provider_name"]);
    let log = Log::named(first(object, &["winlog.channel"]).as_deref(), provider.as_deref());
    let host = host(first(object, &["winlog.computer_name", "host.name"]))?;
    let values = object.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("winlog.event_data.")?;
        text(value).map(|value| (name.to_owned(), value.into_owned()))
    });
    let mut data: Vec<(String, String)> = values.collect();
    data.extend(moved(object));
    let time = moment(object, "winlog.time_created").or_else(|| moment(object, "@timestamp"));
    Ok(Record { log, id, host, time, zone: Some(0), places: vec![Place::Data(data)] })
}

/// What Elastic's pipelines for Sysmon and the Security log take out of `event_data`, under its former names.
fn moved(object: &Object) -> Vec<(String, String)> {
    const NAMES: [(&str, &[&str]); 22] = [
        ("process.entity_id", &["ProcessGuid"]),
        ("process.pid", &["ProcessId", "NewProcessId"]),
        ("process.executable", &["Image", "NewProcessName", "ProcessName", "Application"]),
        ("process.command_line", &["CommandLine"]),
        ("process.hash.sha256", &["SHA256"]),
        ("process.parent.entity_id", &["ParentProcessGuid"]),
        ("process.parent.pid", &["ParentProcessId"]),
        ("process.parent.executable", &["ParentImage", "ParentProcessName"]),
        ("source.ip", &["SourceIp", "SourceAddress"]),
        ("source.port", &["SourcePort"]),
        ("destination.ip", &["DestinationIp", "DestAddress"]),
        ("destination.port", &["DestinationPort", "DestPort"]),
        ("network.transport", &["Protocol"]),
        ("network.direction", &["Direction"]),
        ("file.path", &["TargetFilename", "ObjectName"]),
        ("file.hash.sha256", &["SHA256"]),
        ("user.id", &["SubjectUserSid"]),
        ("user.name", &["SubjectUserName"]),
        ("user.domain", &["SubjectDomainName"]),
        ("winlog.event_data.Initiated", &["Initiated"]),
        ("sysmon.file.archived", &["Archived"]),
        ("dns.question.name", &["QueryName"]),
    ];
    let mut data = Vec::new();
    for (path, names) in NAMES {
        let parts: Vec<&str> = path.split('.').collect();
        let Some(value) = at(object, &parts).or_else(|| object.get(path)).and_then(text) else { continue };
        data.extend(names.iter().map(|name| ((*name).to_owned(), value.clone().into_owned())));
    }
    data
}

fn at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (last, above) = path.split_last()?;
    above.iter().try_fold(object, |object, name| object.get(*name)?.as_object())?.get(*last)
}

fn first<'a>(object: &'a Object, names: &[&str]) -> Option<Cow<'a, str>> {
    names.iter().find_map(|name| object.get(*name).and_then(text)).filter(|text| !text.trim().is_empty())
}

fn moment(object: &Object, name: &str) -> Option<Written> {
    object.get(name).and_then(text).and_then(|text| time::read(&text))
}

fn attribute<'a>(object: &'a Object, name: &str, attribute: &str) -> Option<Cow<'a, str>> {
    let element = object.get(name)?.as_object()?;
    let attributes = element.get("#attributes").and_then(Value::as_object).unwrap_or(element);
    attributes.get(attribute).and_then(text)
}

fn id(value: Option<&Value>) -> Option<u32> {
    match value? {
        Value::Object(element) => element.get("#text").and_then(text).and_then(|text| number(&text)),
        value => text(value).and_then(|text| number(text.trim())),
    }
}

fn host(name: Option<Cow<'_, str>>) -> Result<Cow<'_, str>, String> {
    name.ok_or_else(|| "a Windows event without the name of its host".to_owned())
}
