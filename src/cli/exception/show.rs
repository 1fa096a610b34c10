//! Exceptions as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::detect::{Exception, Finding, Hidden, Usage, described, format_when};
use crate::endpoint::shortened;
use crate::net::{ByteSize, Timestamp, group_digits};
use crate::store::{HistoryEntry, Kept};

/// Processes, destinations and hosts that are shown of an exception; JSON has them all.
const SHOWN: usize = 5;
/// Characters of a value that stands by itself.
const LONG: usize = 1_200;
/// Characters of a value that shares its line.
const WIDTH: usize = 160;

const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];

/// What is known of an exception.
pub struct Shown<'a> {
    /// The exception.
    pub kept: &'a Kept,
    /// What it has hidden.
    pub usage: &'a Usage,
    /// What there is to say about it.
    pub findings: &'a [Finding],
    /// Who changed it.
    pub history: &'a [HistoryEntry],
    /// When that is.
    pub now: Timestamp,
}

impl Shown<'_> {
    /// Several lines.
    pub fn text(&self) -> String {
        let Self { kept: Kept { exception, removed }, usage, findings, history, now } = self;
        let mut text = format!("{} owner {}\n", exception.id, shortened(&exception.owner, WIDTH));
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<11} {}", shortened(&value, LONG));
        };
        for (name, value) in exception.scope.parts() {
            line(name, value);
        }
        if exception.broad {
            line("broad", "covers much, and was meant to".to_owned());
        }
        line("because", exception.justification.clone());
        line("made", format_when(exception.created));
        line("until", format!("{} ({})", format_when(exception.expires), standing(exception, *now)));
        if let Some(removed) = removed {
            line("removed", format_when(*removed));
        }
        line("hidden", hidden(usage));
        if let Some(largest) = &usage.largest {
            let (bytes, at) = (ByteSize(largest.bytes), format_when(largest.at));
            line("largest", format!("{bytes}, alert {}, {at}", largest.alert));
        }
        let [processes, destinations, hosts] = usage.unnamed;
        for (name, list, unnamed) in [
            ("process", &usage.processes, processes),
            ("destination", &usage.destinations, destinations),
            ("host", &usage.hosts, hosts),
        ] {
            for Hidden { name: what, hits, bytes, .. } in list.iter().take(SHOWN) {
                line(&format!("by {name}"), format!("{} {}, {}", shortened(what, 90), alerts(*hits), ByteSize(*bytes)));
            }
            let more = list.len().saturating_sub(SHOWN) as u64;
            if more > 0 || unnamed > 0 {
                let rest = if unnamed > 0 { format!(", and {} of others", alerts(unnamed)) } else { String::new() };
                line("", format!("{} more{rest}", group_digits(more)));
            }
        }
        for finding in *findings {
            line("FINDING", finding.text());
        }
        for HistoryEntry { time, who, action, what, why } in *history {
            line("history", format!("{time} {action} by {who}: {what}"));
            line("", format!("because {why}"));
        }
        text
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let Self { kept, usage, findings, history, now } = self;
        let mut object = object(kept);
        object.insert("active".to_owned(), json!(kept.removed.is_none() && kept.exception.holds(*now)));
        let names = |list: &[Hidden]| -> Value {
            let rows = list.iter().map(|hidden| {
                json!({
                    "name": hidden.name, "hits": hidden.hits, "bytes": hidden.bytes,
                    "first": format_when(hidden.first), "last": format_when(hidden.last),
                })
            });
            rows.collect()
        };
        let [processes, destinations, hosts] = usage.distinct();
        let severities: BTreeMap<&str, u64> = SEVERITIES.into_iter().zip(usage.by_severity).collect();
        let largest = usage
            .largest
            .as_ref()
            .map(|largest| json!({ "alert": largest.alert, "bytes": largest.bytes, "time": format_when(largest.at) }));
        let hidden = json!({
            "hits": usage.hits,
            "bytes": usage.bytes,
            "first": usage.first.map(format_when),
            "last": usage.last.map(format_when),
            "by_severity": severities,
            "largest": largest,
            "distinct": { "processes": processes, "destinations": destinations, "hosts": hosts },
            "processes": names(&usage.processes),
            "destinations": names(&usage.destinations),
            "hosts": names(&usage.hosts),
        });
        object.insert("hidden".to_owned(), hidden);
        let findings = findings.iter().map(|finding| json!({ "id": finding.id(), "text": finding.text() }));
        object.insert("findings".to_owned(), findings.collect());
        if !history.is_empty() {
            let history = history.iter().map(|entry| {
                let HistoryEntry { time, who, action, what, why } = entry;
                json!({ "time": time, "who": who, "action": action, "what": what, "why": why })
            });
            object.insert("history".to_owned(), history.collect());
        }
        format!("{}\n", Value::Object(object))
    }
}

fn object(kept: &Kept) -> Map<String, Value> {
    let Exception { id, scope, broad, owner, justification, created, expires } = &kept.exception;
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(id.to_string()));
    for (name, value) in scope.parts() {
        object.insert(name.to_owned(), json!(value));
    }
    if let Some(ceiling) = scope.ceiling {
        object.insert("ceiling".to_owned(), json!(ceiling.0));
    }
    object.insert("broad".to_owned(), json!(broad));
    object.insert("owner".to_owned(), json!(owner));
    object.insert("justification".to_owned(), json!(justification));
    object.insert("created".to_owned(), json!(format_when(*created)));
    object.insert("expires".to_owned(), json!(format_when(*expires)));
    if let Some(removed) = kept.removed {
        object.insert("removed".to_owned(), json!(format_when(removed)));
    }
    object
}

/// An exception as one line of JSON.
pub fn line_of_json(kept: &Kept) -> String {
    format!("{}\n", Value::Object(object(kept)))
}

/// A line for each.
pub fn list(all: &[Kept], now: Timestamp) -> String {
    if all.is_empty() {
        return "no exceptions\n".to_owned();
    }
    let line = |kept: &Kept| {
        let standing = if kept.removed.is_some() { "removed".to_owned() } else { standing(&kept.exception, now) };
        format!("{} {} ({standing})\n", kept.exception.id, shortened(&described(&kept.exception), WIDTH))
    };
    all.iter().map(line).collect()
}

/// The first line of a review.
pub fn heading(all: &[Vec<Finding>], now: Timestamp) -> String {
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for finding in all.iter().flatten() {
        *counted.entry(finding.id()).or_default() += 1;
    }
    let day: String = format_when(now).chars().take(10).collect();
    let plural = if all.len() == 1 { "" } else { "s" };
    let mut text = format!("REVIEW of {} exception{plural} on {day}", all.len());
    for (n, (id, count)) in counted.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{} {count} {id}", if n == 0 { ":" } else { "," });
    }
    if counted.is_empty() {
        text.push_str(": nothing to look at");
    }
    text.push('\n');
    text
}

fn standing(exception: &Exception, now: Timestamp) -> String {
    const DAY: u64 = 86_400_000_000_000;
    let (left, ago) = (exception.expires.since(now).0 / DAY, now.since(exception.expires).0 / DAY);
    let days = |count: u64| if count == 1 { "1 day".to_owned() } else { format!("{} days", group_digits(count)) };
    if exception.holds(now) { format!("{} left", days(left)) } else { format!("expired {} ago", days(ago)) }
}

fn alerts(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} alert{plural}", group_digits(count))
}

fn hidden(usage: &Usage) -> String {
    let (Some(first), Some(last)) = (usage.first, usage.last) else { return "nothing".to_owned() };
    let by = SEVERITIES.into_iter().zip(usage.by_severity).rev().filter(|(_, count)| *count > 0);
    let by: Vec<String> = by.map(|(name, count)| format!("{} {name}", group_digits(count))).collect();
    let [processes, destinations, hosts] = usage.distinct();
    format!(
        "{} ({}), {}, {} to {}; processes {processes}, destinations {destinations}, hosts {hosts}",
        alerts(usage.hits),
        by.join(", "),
        ByteSize(usage.bytes),
        day(first),
        day(last),
    )
}

fn day(at: Timestamp) -> String {
    format_when(at).chars().take(10).collect()
}
