//! An alert as text for a terminal.

use std::fmt::Write as _;

use super::{Alert, Loss};
use crate::detect::{Presence, Reason};
use crate::endpoint::shortened;
use crate::join::{Attribution, FileLink, Process};
use crate::net::{ByteSize, group_digits};
use crate::record::State;

/// A name is cut to this many characters.
const NAME: usize = 60;
/// A path or a command line is cut to this many characters.
const LONG: usize = 160;
/// Files shown; the document has them all.
const FILES: usize = 8;

/// `HIGH 10.0.0.5 -> 203.0.113.9:21 ftp 1.50 MB old.7z by ftp.exe on WKS-1: data-staged, process-unexpected`
pub(super) fn line(alert: &Alert) -> String {
    let upload = &alert.upload;
    let severity = alert.verdict.severity.name().to_uppercase();
    let (client, protocol) = (upload.connection.client.address, upload.protocol.name());
    let bytes = ByteSize(upload.bytes);
    let mut line = format!("{severity} {client} -> {} {protocol} {bytes}", destination(alert));
    if upload.state == State::Running {
        line.push_str(" so far");
    }
    let mut names = upload.files.iter().filter_map(|file| file.name.as_deref());
    // Writing to a String cannot fail, here and below.
    if let Some(name) = names.next().or_else(|| alert.links.first().map(FileLink::name)) {
        let _ = write!(line, " {}", shortened(name, NAME));
    }
    if let Some(more @ 1..) = upload.files.len().checked_sub(1) {
        let _ = write!(line, " and {more} more");
    }
    if let Some(process) = alert.attribution.process() {
        let _ = write!(line, " by {}", name_of(process));
    }
    if let Some(host) = alert.attribution.host().map(|host| host.name.as_ref().unwrap_or(&host.id)) {
        let _ = write!(line, " on {}", shortened(host, NAME));
    }
    let reasons: Vec<&str> = alert.verdict.reasons.iter().map(Reason::id).collect();
    let _ = write!(line, ": {}", reasons.join(", "));
    line
}

pub(super) fn text(alert: &Alert) -> String {
    let mut text = line(alert);
    let mut add = |name: &str, value: String| {
        let _ = write!(text, "\n  {name:<8} {value}");
    };
    add("time", alert.upload.start.to_string());
    if alert.told > 1 {
        add("told", format!("{} times", group_digits(alert.told)));
    }
    if let Some(story) = &alert.story {
        let (uploads, bytes, over) =
            (group_digits(story.uploads), ByteSize(story.bytes), story.last.since(story.first));
        let over = crate::net::Span::seconds(over.0.div_ceil(1_000_000_000));
        add("story", format!("{uploads} uploads, {bytes} within {over}"));
    }
    match &alert.attribution {
        Attribution::Known { process, rule, confidence, .. } => {
            add("process", format!("{} ({rule}, {})", described(process), confidence.name()));
            if let Some(command_line) = &process.command_line {
                add("command", shortened(command_line, LONG));
            }
            let above: Vec<String> = process
                .ancestors
                .iter()
                .map(|ancestor| ancestor.name().map_or(numbered(ancestor.pid), |name| shortened(name, NAME)))
                .collect();
            if !above.is_empty() {
                add("parents", above.join(" < "));
            }
        }
        Attribution::Unknown { why, .. } => add("process", format!("not known: {why}")),
    }
    if let Some(place) = &alert.verdict.place {
        let system = place.system.map(|number| format!("AS{number}"));
        let name = place.organization.as_deref().map(|name| shortened(name, NAME));
        let country = place.country.as_deref().map(|country| shortened(country, NAME));
        add("owner", [system, name, country].into_iter().flatten().collect::<Vec<String>>().join(" "));
    }
    for link in alert.links.iter().take(FILES) {
        add("file", file(link));
    }
    if let Some(more @ 1..) = alert.links.len().checked_sub(FILES) {
        add("file", format!("and {more} more"));
    }
    for reason in &alert.verdict.reasons {
        add("reason", reason.text());
    }
    let missing: Vec<&str> = alert.verdict.legs.of(Presence::Missing).into_iter().map(|leg| leg.name()).collect();
    if !missing.is_empty() {
        add("unseen", missing.join(", "));
    }
    if let Some(loss) = alert.loss {
        let (lost, of) = (group_digits(loss.lost), group_digits(loss.of.max(loss.lost)));
        add("note", format!("the sensor lost {lost} of {of} packets at that time: there may be more than this"));
    }
    if let Some(Loss { lost, of }) = alert.gaps {
        let (lost, of) = (group_digits(lost), group_digits(of.max(lost)));
        add("note", format!("streams lacked {lost} of {of} bytes at that time: there may be more than this"));
    }
    for step in &alert.playbook {
        add("playbook", step.clone());
    }
    text
}

fn destination(alert: &Alert) -> String {
    let server = alert.upload.connection.server;
    match alert.upload.domain.as_deref() {
        Some(domain) => format!("{} ({})", server, shortened(domain, NAME)),
        None => server.to_string(),
    }
}

fn name_of(process: &Process) -> String {
    process.name().map_or(numbered(process.pid), |name| shortened(name, NAME))
}

fn numbered(pid: Option<u32>) -> String {
    pid.map_or("pid not told".to_owned(), |pid| format!("pid {pid}"))
}

fn described(process: &Process) -> String {
    let mut text = match process.image.as_deref() {
        Some(image) => format!("{} {}", shortened(image, LONG), numbered(process.pid)),
        None => numbered(process.pid),
    };
    if let Some(user) = &process.user {
        let _ = write!(text, " as {}", shortened(user, NAME));
    }
    text
}

fn file(link: &FileLink) -> String {
    let mut text = shortened(&link.path, LONG);
    if let Some(size) = link.size {
        let _ = write!(text, " {}", ByteSize(size));
    }
    let (op, by) = (link.op.name(), name_of(&link.staged_by));
    let _ = write!(text, ", {op} by {by} ({}, {})", link.rule.name(), link.confidence.name());
    text
}
