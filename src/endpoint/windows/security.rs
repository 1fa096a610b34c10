//! The Security log's events, one mapper each.

use super::record::Record;
use super::sysmon::{end_of, image, transport};
use super::{Mapped, Wall};
use crate::endpoint::{Clock, ConnectionEvent, Event, FileEvent, Operation, Origin, ProcessEnd, ProcessStart};
use crate::net::Timestamp;

/// Maps an event of the Security log; nothing if it tells nothing of interest.
pub(super) fn map(record: &Record<'_>, wall: Wall) -> Result<Option<Mapped>, String> {
    let time = || wall.ok_or_else(|| "a Security event without a time".to_owned());
    match record.id {
        4688 => start(record, time()?).map(Some),
        4689 => end(record, time()?).map(Some),
        4663 => access(record, time()?),
        5156 => connection(record, time()?).map(Some),
        _ => Ok(None),
    }
}

fn origin(record: &Record<'_>) -> Origin {
    Origin { clock: Clock::SecurityRecord, user: account(record, "Subject"), ..Origin::default() }
}

fn start(record: &Record<'_>, ts: Timestamp) -> Result<Mapped, String> {
    let event = ProcessStart {
        ts,
        pid: record.number("NewProcessId").ok_or("a process without `NewProcessId`")?,
        start: None,
        ppid: record.number("ProcessId"),
        parent_start: None,
        image: record.text("NewProcessName"),
        command_line: record.text("CommandLine"),
        // Where it runs as somebody else than who started it, that is the target.
        user: account(record, "Target").or_else(|| account(record, "Subject")),
        sid: None,
        sha256: None,
        signer: None,
    };
    Ok((
        Event::ProcessStart(event),
        Origin { parent_image: record.text("ParentProcessName"), user: None, ..origin(record) },
    ))
}

fn end(record: &Record<'_>, ts: Timestamp) -> Result<Mapped, String> {
    let pid = record.number("ProcessId").ok_or("an end without `ProcessId`")?;
    let origin = Origin { image: record.text("ProcessName"), ..origin(record) };
    Ok((Event::ProcessEnd(ProcessEnd { ts, pid, start: None }), origin))
}

/// Object access (4663): of files alone, and by what was done rather than by what was asked for.
fn access(record: &Record<'_>, ts: Timestamp) -> Result<Option<Mapped>, String> {
    if record.get("ObjectType").is_none_or(|kind| !kind.eq_ignore_ascii_case("file")) {
        return Ok(None);
    }
    let Some(op) = operation(record) else { return Ok(None) };
    let pid = record.number("ProcessId").ok_or("an access without `ProcessId`")?;
    let path = record.text("ObjectName").ok_or("an access without `ObjectName`")?;
    let event = FileEvent { ts, pid, start: None, op, path, new_path: None, size: None, sha256: None };
    Ok(Some((Event::File(event), Origin { image: record.text("ProcessName"), ..origin(record) })))
}

fn operation(record: &Record<'_>) -> Option<Operation> {
    // FILE_READ_DATA, FILE_WRITE_DATA and FILE_APPEND_DATA, DELETE.
    const NAMES: [(&str, u32); 4] = [("%%4416", 1), ("%%4417", 2), ("%%4418", 4), ("%%1537", 0x1_0000)];
    let mask = record.number("AccessMask").or_else(|| {
        let list = record.text("AccessList")?;
        Some(NAMES.iter().filter(|(name, _)| list.contains(name)).fold(0, |mask, (_, bit)| mask | bit))
    })?;
    match mask {
        mask if mask & 6 != 0 => Some(Operation::Write),
        mask if mask & 1 != 0 => Some(Operation::Read),
        mask if mask & 0x1_0000 != 0 => Some(Operation::Delete),
        _ => None,
    }
}

fn connection(record: &Record<'_>, ts: Timestamp) -> Result<Mapped, String> {
    let source = end_of(record, "SourceAddress", "SourcePort")?;
    let destination = end_of(record, "DestAddress", "DestPort")?;
    let direction = record.get("Direction");
    let inbound = direction.is_some_and(|text| {
        let text = text.to_ascii_lowercase();
        text.contains("14592") || text == "inbound" || text == "ingress"
    });
    // The source is who opened the connection, whichever end this host is.
    let (local, remote) = if inbound { (destination, source) } else { (source, destination) };
    let event = ConnectionEvent {
        ts,
        pid: record
            .number("ProcessID")
            .or_else(|| record.number("ProcessId"))
            .ok_or("a connection without `ProcessID`")?,
        start: None,
        protocol: transport(record.get("Protocol").as_deref()),
        local,
        remote,
        initiated: Some(!inbound),
        image: image(record, "Application"),
        user: None,
    };
    Ok((Event::Connection(event), Origin { clock: Clock::SecurityRecord, ..Origin::default() }))
}

fn account(record: &Record<'_>, whose: &str) -> Option<String> {
    let name = record.text(&format!("{whose}UserName"))?;
    Some(match record.get(&format!("{whose}DomainName")) {
        Some(domain) => format!("{domain}\\{name}"),
        None => name,
    })
}
