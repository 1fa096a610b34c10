//! One Windows event as every shape of log gives it: its log, its id, its host, its time and its named values.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::time::{self, Written};

/// Which log an event is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// Sysmon's, on Windows or Linux.
    Sysmon,
    /// The Security log.
    Security,
    /// One that tells nothing of interest.
    Other,
}

impl Log {
    /// By the name of the channel or else of the provider.
    pub(super) fn named(channel: Option<&str>, provider: Option<&str>) -> Self {
        let is = |name: &str| {
            let name = name.trim().to_ascii_lowercase();
            if name.contains("sysmon") {
                Some(Self::Sysmon)
            } else if name == "security" || name == "microsoft-windows-security-auditing" {
                Some(Self::Security)
            } else {
                None
            }
        };
        channel.and_then(is).or_else(|| provider.and_then(is)).unwrap_or(Self::Other)
    }
}

/// Where values stand; several places are looked into in turn.
pub(super) enum Place<'a> {
    /// An object of the line itself.
    Object(&'a Map<String, Value>),
    /// An object that stood in a text.
    Parsed(Map<String, Value>),
    /// The `Data` elements of XML.
    Data(Vec<(String, String)>),
}

/// One Windows event.
pub(super) struct Record<'a> {
    pub(super) log: Log,
    pub(super) id: u32,
    pub(super) host: Cow<'a, str>,
    /// When the record was written, by the clock of the host.
    pub(super) time: Option<Written>,
    /// How many seconds the time is to be put forward to be UTC, where the record itself tells it.
    pub(super) zone: Option<i64>,
    pub(super) places: Vec<Place<'a>>,
}

impl Record<'_> {
    /// The value of this name; an empty one, and Windows' `-`, is none.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let found = self.places.iter().find_map(|place| match place {
            Place::Object(object) => object.get(name).and_then(text),
            Place::Parsed(object) => object.get(name).and_then(text),
            Place::Data(data) => {
                data.iter().find(|(key, _)| key == name).map(|(_, value)| Cow::Borrowed(value.as_str()))
            }
        })?;
        let trimmed = found.trim();
        if trimmed.is_empty() || trimmed == "-" {
            return None;
        }
        Some(if trimmed.len() == found.len() { found } else { Cow::Owned(trimmed.to_owned()) })
    }

    /// The same, as a text of its own.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(Cow::into_owned)
    }

    /// A number, decimal or hexadecimal.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.get(name).and_then(|text| number(&text))
    }

    /// A time.
    pub(super) fn moment(&self, name: &str) -> Option<Written> {
        self.get(name).and_then(|text| time::read(&text))
    }
}

/// A number as Windows writes it, decimal or with `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A plain value as text; objects and lists have none.
pub(super) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        _ => None,
    }
}
