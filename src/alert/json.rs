//! Looking into an alert's document, and writing what is in it where control characters do harm.

use serde_json::{Map, Value};

/// A document, as the store keeps it.
pub type Object = Map<String, Value>;

/// What stands at a dotted path.
pub fn at<'a>(document: &'a Object, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((first, rest)) => at(document.get(first)?.as_object()?, rest),
        None => document.get(path),
    }
}

/// The text that stands at a dotted path.
pub fn text<'a>(document: &'a Object, path: &str) -> Option<&'a str> {
    at(document, path)?.as_str()
}

/// The time that stands at a dotted path, in milliseconds since the Unix epoch.
pub fn milliseconds(document: &Object, path: &str) -> Option<i64> {
    Some(text(document, path)?.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}

/// Sets what stands at a dotted path, making the objects on the way.
pub fn put(document: &mut Object, path: &str, value: Value) {
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

/// Takes out what stands at a dotted path.
pub fn take(document: &mut Object, path: &str) -> Option<Value> {
    match path.split_once('.') {
        Some((first, rest)) => {
            let inner = document.get_mut(first)?.as_object_mut()?;
            let taken = take(inner, rest)?;
            if inner.is_empty() {
                document.shift_remove(first);
            }
            Some(taken)
        }
        None => document.shift_remove(path),
    }
}

/// What can end a line, move a cursor, or turn the direction of a text round.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text on one line: unsafe characters become `\u000a`.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { safe.push_str(&format!("\\u{:04x}", u32::from(c))) } else { safe.push(c) }
    }
    safe
}

/// JSON on one line; outside of its strings it has only ASCII, and in them every character may be escaped.
pub fn line(document: &Object) -> String {
    escaped(&serde_json::to_string(document).unwrap_or_default())
}
