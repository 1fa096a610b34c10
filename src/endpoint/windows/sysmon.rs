//! Sysmon's events, one mapper each.

use std::net::IpAddr;

use super::record::Record;
use super::{Mapped, Wall};
use crate::endpoint::{
    Clock, ConnectionEvent, Event, FileEvent, Guid, Operation, Origin, ProcessEnd, ProcessStart, Transport,
};
use crate::net::{Endpoint, Timestamp};

/// Maps an event of Sysmon's log; nothing if it tells nothing of interest.
pub(super) fn map(record: &Record<'_>, wall: Wall) -> Result<Option<Mapped>, String> {
    let utc = record.moment("UtcTime").map(|written| written.time);
    match record.id {
        1 => start(record, own_time(utc, wall)?).map(Some),
        3 => connection(record, utc, wall).map(Some),
        5 => end(record, own_time(utc, wall)?).map(Some),
        11 | 29 => file(record, own_time(utc, wall)?, Operation::Create).map(Some),
        15 => file(record, own_time(utc, wall)?, Operation::Write).map(Some),
        22 => query(record, utc, wall).map(Some),
        23 | 26 => file(record, own_time(utc, wall)?, Operation::Delete).map(Some),
        _ => Ok(None),
    }
}

/// What is stamped with the wall clock.
fn own_time(utc: Option<Timestamp>, wall: Wall) -> Result<(Timestamp, Clock), String> {
    match (utc, wall) {
        (Some(utc), _) => Ok((utc, Clock::Event)),
        (None, Some(wall)) => Ok((wall, Clock::SysmonRecord)),
        (None, None) => Err("a Sysmon event without a time".to_owned()),
    }
}

fn start(record: &Record<'_>, (ts, clock): (Timestamp, Clock)) -> Result<Mapped, String> {
    let (pid, guid) = process(record)?;
    let hash = sha256(record.text("Hashes").as_deref()).or_else(|| record.text("SHA256"));
    let event = ProcessStart {
        ts,
        pid,
        start: None,
        ppid: record.number("ParentProcessId"),
        parent_start: None,
        image: image(record, "Image"),
        command_line: record.text("CommandLine"),
        user: record.text("User"),
        sid: None,
        sha256: hash,
        signer: None,
    };
    let origin = Origin {
        clock,
        guid,
        parent_guid: guid_of(record, "ParentProcessGuid"),
        parent_image: image(record, "ParentImage"),
        parent_command_line: record.text("ParentCommandLine"),
        ..Origin::default()
    };
    Ok((Event::ProcessStart(event), origin))
}

/// A name was looked up: the process is alive, and that is what counts here.
fn query(record: &Record<'_>, utc: Option<Timestamp>, wall: Wall) -> Result<Mapped, String> {
    let (pid, guid) = process(record)?;
    let ts = wall.or(utc).ok_or("a Sysmon event without a time")?;
    let event = ProcessStart {
        ts,
        pid,
        start: guid.map(Guid::start),
        image: image(record, "Image"),
        user: record.text("User"),
        ..ProcessStart::default()
    };
    Ok((Event::ProcessStart(event), Origin { clock: Clock::SysmonRecord, guid, ..Origin::default() }))
}

fn end(record: &Record<'_>, (ts, clock): (Timestamp, Clock)) -> Result<Mapped, String> {
    let (pid, guid) = process(record)?;
    let origin = Origin { clock, guid, image: image(record, "Image"), user: record.text("User"), ..Origin::default() };
    Ok((Event::ProcessEnd(ProcessEnd { ts, pid, start: None }), origin))
}

fn connection(record: &Record<'_>, utc: Option<Timestamp>, wall: Wall) -> Result<Mapped, String> {
    let guid = guid_of(record, "ProcessGuid");
    let pid = record.number("ProcessId").unwrap_or(0);
    let source = end_of(record, "SourceIp", "SourcePort")?;
    let destination = end_of(record, "DestinationIp", "DestinationPort")?;
    // The source is who opened the connection, whichever end this host is.
    let initiated = record.get("Initiated").is_none_or(|text| !text.eq_ignore_ascii_case("false"));
    let (local, remote) = if initiated { (source, destination) } else { (destination, source) };
    let (ts, clock, utc) = match (wall, utc) {
        (Some(wall), utc) => (wall, Clock::SysmonRecord, utc),
        (None, Some(utc)) => (utc, Clock::SysmonUtc, None),
        (None, None) => return Err("a Sysmon event without a time".to_owned()),
    };
    let event = ConnectionEvent {
        ts,
        pid,
        start: None,
        protocol: transport(record.get("Protocol").as_deref()),
        local,
        remote,
        initiated: Some(initiated),
        image: image(record, "Image"),
        user: record.text("User"),
    };
    Ok((Event::Connection(event), Origin { clock, utc, guid, ..Origin::default() }))
}

fn file(record: &Record<'_>, (ts, clock): (Timestamp, Clock), op: Operation) -> Result<Mapped, String> {
    let (pid, guid) = process(record)?;
    let path = record.text("TargetFilename").ok_or("a file event without `TargetFilename`")?;
    let hashes = record.text("Hashes").or_else(|| record.text("Hash"));
    let hash = sha256(hashes.as_deref()).or_else(|| record.text("SHA256"));
    let (path, hash) = match stream_of(&path) {
        // The hash is that of the named stream, such as the mark of the web.
        Some(file) => (file.to_owned(), None),
        None => (path, hash),
    };
    let event = FileEvent { ts, pid, start: None, op, path, new_path: None, size: None, sha256: hash };
    let origin = Origin { clock, guid, image: image(record, "Image"), user: record.text("User"), ..Origin::default() };
    Ok((Event::File(event), origin))
}

/// The file that a named stream (`C:\a.zip:Zone.Identifier`) belongs to.
fn stream_of(path: &str) -> Option<&str> {
    let name_from = path.rfind(['\\', '/']).map_or(0, |at| at + 1);
    let colon = path.get(name_from..)?.find(':')?;
    path.get(..name_from + colon).filter(|_| colon > 0)
}

fn process(record: &Record<'_>) -> Result<(u32, Option<Guid>), String> {
    let guid = guid_of(record, "ProcessGuid");
    match record.number("ProcessId") {
        Some(pid) => Ok((pid, guid)),
        None if guid.is_some() => Ok((0, guid)),
        None => Err("a Sysmon event that names no process".to_owned()),
    }
}

fn guid_of(record: &Record<'_>, name: &str) -> Option<Guid> {
    record.get(name).and_then(|text| text.parse().ok())
}

/// The path of an executable; what Sysmon writes where it does not know it is none.
pub(super) fn image(record: &Record<'_>, name: &str) -> Option<String> {
    let text = record.text(name)?;
    let plain = text.trim_start_matches("&lt;").trim_start_matches('<').to_ascii_lowercase();
    let known = !plain.starts_with("unknown process") && plain != "unknown";
    known.then_some(text)
}

/// One end of a connection.
pub(super) fn end_of(record: &Record<'_>, ip: &str, port: &str) -> Result<Endpoint, String> {
    let address = record.get(ip).ok_or_else(|| format!("a connection without `{ip}`"))?;
    let address: IpAddr = match address.split('%').next().map(str::parse) {
        Some(Ok(address)) => address,
        _ => return Err(format!("`{ip}` is no address")),
    };
    let port =
        record.number(port).and_then(|port| u16::try_from(port).ok()).ok_or_else(|| format!("`{port}` is no port"))?;
    Ok(Endpoint { address: address.into(), port })
}

/// The transport, by name or number.
pub(super) fn transport(text: Option<&str>) -> Transport {
    match text {
        None => Transport::Tcp,
        Some(text) if text == "6" || text.eq_ignore_ascii_case("tcp") => Transport::Tcp,
        Some(text) if text == "17" || text.eq_ignore_ascii_case("udp") => Transport::Udp,
        Some(_) => Transport::Other,
    }
}

/// The SHA-256 of `SHA1=...,SHA256=...`.
fn sha256(hashes: Option<&str>) -> Option<String> {
    let value = hashes?.split(',').find_map(|hash| hash.trim().strip_prefix("SHA256="))?;
    (value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit())).then(|| value.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_stream_is_told_from_a_drive() {
        assert_eq!(stream_of(r"C:\Users\a\x.zip:Zone.Identifier"), Some(r"C:\Users\a\x.zip"));
        assert_eq!(stream_of(r"C:\Users\a\x.zip"), None);
        assert_eq!(stream_of("C:"), Some("C"));
        assert_eq!(stream_of("/srv/a"), None);
    }

    #[test]
    fn of_several_hashes_the_sha256_counts() {
        let hash = "AB".repeat(32);
        assert_eq!(sha256(Some(&format!("SHA1=00,SHA256={hash},IMPHASH=0"))), Some("ab".repeat(32)));
        assert_eq!(sha256(Some("SHA256=12")), None);
    }
}
