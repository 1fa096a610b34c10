//! Rendered event XML, as `wevtutil`, event-log subscriptions and Azure give it.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

use super::record::{Log, Place, Record};
use super::time;

/// Values taken from one event.
const MOST_VALUES: usize = 256;

/// Reads one `<Event>`.
pub(super) fn record(text: &str) -> Result<Record<'static>, String> {
    let mut found = Found::default();
    walk(text, &mut found)?;
    let Some(id) = found.id else { return Err("event XML without an `EventID`".to_owned()) };
    let host = found.host.filter(|host| !host.is_empty()).ok_or("event XML without a `Computer`")?;
    let log = Log::named(found.channel.as_deref(), found.provider.as_deref());
    let time = found.time.as_deref().and_then(time::read);
    // The log itself keeps UTC.
    Ok(Record { log, id, host: Cow::Owned(host), time, zone: Some(0), places: vec![Place::Data(found.data)] })
}

/// The `Data` elements of a text, named values first come first.
pub(super) fn data(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Found::default();
    walk(text, &mut found)?;
    Ok(found.data)
}

#[derive(Default)]
struct Found {
    id: Option<u32>,
    host: Option<String>,
    channel: Option<String>,
    provider: Option<String>,
    time: Option<String>,
    data: Vec<(String, String)>,
}

/// What the text between two tags is.
enum Inside {
    Nothing,
    Id,
    Host,
    Channel,
    Data(String),
}

fn walk(text: &str, found: &mut Found) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let mut inside = Inside::Nothing;
    let mut value = String::new();
    loop {
        match reader.read_event() {
            Err(_) => return Err("event XML that is not well formed".to_owned()),
            Ok(Event::Eof) => return Ok(()),
            Ok(Event::Start(tag)) => {
                value.clear();
                inside = open(&tag, found);
            }
            Ok(Event::Empty(tag)) => {
                open(&tag, found);
            }
            Ok(Event::Text(part)) => value.push_str(&part.xml10_content()),
            Ok(Event::CData(part)) => value.push_str(&part.into_inner()),
            Ok(Event::GeneralRef(part)) => match part.resolve_char_ref() {
                Ok(Some(c)) => value.push(c),
                _ => value.push_str(resolve_predefined_entity(&part.into_inner()).unwrap_or_default()),
            },
            Ok(Event::End(_)) => {
                let text = value.trim();
                match std::mem::replace(&mut inside, Inside::Nothing) {
                    Inside::Nothing => {}
                    Inside::Id => found.id = text.parse().ok(),
                    Inside::Host => found.host = Some(text.to_owned()),
                    Inside::Channel => found.channel = Some(text.to_owned()),
                    Inside::Data(name) if found.data.len() < MOST_VALUES => found.data.push((name, text.to_owned())),
                    Inside::Data(_) => {}
                }
                value.clear();
            }
            Ok(_) => {}
        }
    }
}

fn open(tag: &BytesStart<'_>, found: &mut Found) -> Inside {
    let local = tag.local_name();
    let name: &str = local.as_ref();
    match name {
        "EventID" => Inside::Id,
        "Computer" => Inside::Host,
        "Channel" => Inside::Channel,
        "Provider" => {
            found.provider = attribute(tag, "Name").or(found.provider.take());
            Inside::Nothing
        }
        "TimeCreated" => {
            found.time = attribute(tag, "SystemTime").or(found.time.take());
            Inside::Nothing
        }
        "Data" => attribute(tag, "Name").map_or(Inside::Nothing, Inside::Data),
        _ => Inside::Nothing,
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = tag.attributes().with_checks(false).flatten().find(|attribute| {
        let key: &str = attribute.key.as_ref();
        key == name
    })?;
    let value: &str = found.value.as_ref();
    unescape(value).ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>\
        <Provider Name='Microsoft-Windows-Sysmon' Guid='{5770385f-c22a-43e0-bf4c-06f5698ffbd9}'/><EventID>3</EventID>\
        <TimeCreated SystemTime='2026-03-02T08:15:00.1234567Z'/><Channel>Microsoft-Windows-Sysmon/Operational</Channel>\
        <Computer>WKS-7.corp.example</Computer><Execution ProcessID='999' ThreadID='1'/></System>\
        <EventData><Data Name='Image'>&lt;unknown process&gt; &#65;</Data><Data Name='SourceIp'>10.0.0.5</Data>\
        <Data Name='Empty'/></EventData></Event>";

    #[test]
    fn an_event_is_read_with_its_entities() {
        let record = record(EVENT).unwrap();
        assert_eq!((record.log, record.id, record.host.as_ref()), (Log::Sysmon, 3, "WKS-7.corp.example"));
        assert_eq!(record.time.unwrap().time.to_string(), "2026-03-02T08:15:00.123456700Z");
        assert_eq!(record.text("Image").as_deref(), Some("<unknown process> A"));
        assert_eq!(record.text("SourceIp").as_deref(), Some("10.0.0.5"));
        assert_eq!(record.text("Empty"), None);
        assert_eq!(record.text("ProcessID"), None, "the logger's own process is not the event's");
    }

    #[test]
    fn what_is_no_event_says_why() {
        for bad in ["<Event/>", "<Event><System><EventID>3</EventID></System></Event>", "<Event", "<a></b>", ""] {
            assert!(record(bad).is_err(), "{bad}");
        }
    }
}
