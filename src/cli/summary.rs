//! The closing summary of a replay or of a live sensor: what was read, what was found, and what was lost and why.

use std::fmt::Write as _;

use crate::capture;
use crate::endpoint;
use crate::join::Tally;
use crate::net::{ByteSize, group_digits};
use crate::record::{Ending, NotHashed};
use crate::sensor::{Judgement, SensorCounters};

/// The summary, every line within 80 columns.
pub fn text(
    capture: &capture::Counters,
    sensor: &SensorCounters,
    judgement: &Judgement,
    intake: &endpoint::Counters,
) -> String {
    live(capture, sensor, judgement, intake, &[])
}

/// The summary of a live sensor, with what was `lost` that only such a one can lose.
pub fn live(
    capture: &capture::Counters,
    sensor: &SensorCounters,
    judgement: &Judgement,
    intake: &endpoint::Counters,
    lost: &[(&'static str, u64)],
) -> String {
    let judged = judgement.counters();
    let mut text = String::from("\nSUMMARY\n");
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    let packet = &sensor.packet;
    let flow = &sensor.flow;
    let count = group_digits;
    line("packets", format!("{}, {}", count(capture.packets), ByteSize(capture.wire_bytes)));
    line(
        "",
        list(&[("tcp", packet.tcp), ("udp", packet.udp), ("other ip", packet.other_ip), ("not ip", packet.not_ip)]),
    );
    line("flows", format!("{} tcp, {} without their opening", count(flow.opened), count(flow.mid_stream)));
    let mut uploads = 0;
    let mut bytes = 0;
    for (protocol, tally) in &judged.by_protocol {
        uploads += tally.uploads;
        bytes += tally.bytes;
        line(protocol, format!("{}, {}", uploads_of(tally), ByteSize(tally.bytes)));
    }
    line("uploads", format!("{}, {}, {} outbound", count(uploads), ByteSize(bytes), count(judged.outbound)));
    let coverage = &judged.coverage.total;
    let share = |tally: &Tally| {
        let of = if bytes == 0 { 0.0 } else { 100.0 * tally.bytes as f64 / bytes as f64 };
        format!("{}, {} ({of:.0} %)", uploads_of(tally), ByteSize(tally.bytes))
    };
    line("attributed", share(&coverage.attributed));
    for (why, tally) in coverage.unknown.iter().filter(|(_, tally)| tally.uploads > 0) {
        line("not, because", format!("{why}: {}", share(tally)));
    }
    for host in super::coverage::lines(judgement) {
        line("host", host);
    }
    if intake.lines > 0 {
        line("endpoint", format!("{} events of {} records", count(intake.events()), count(intake.lines)));
    }
    let stories = judgement.stories();
    let mut alerts = count(stories.stories);
    if stories.grouped > 0 {
        let _ = write!(alerts, ", and {} more uploads that belong to them", count(stories.grouped));
    }
    line("alerts", alerts);
    let excepted = judgement.excepted();
    if excepted.suppressed > 0 {
        let plural = if excepted.exceptions == 1 { "" } else { "s" };
        let (alerts, exceptions) = (count(excepted.suppressed), count(excepted.exceptions));
        line("", format!("suppressed {alerts} by {exceptions} exception{plural}, {}", ByteSize(excepted.bytes)));
    }
    if excepted.above_ceiling > 0 {
        line("", format!("{} above the ceiling of an exception", count(excepted.above_ceiling)));
    }
    if judged.held > 0 {
        line("", format!("{} held, as the baseline still learns", count(judged.held)));
    }
    let mut lost: Vec<_> = lost.iter().copied().filter(|(_, amount)| *amount > 0).collect();
    lost.extend(losses(capture, sensor, judgement, intake));
    if lost.is_empty() {
        line("lost", "nothing".to_owned());
    }
    for (n, (what, amount)) in lost.iter().enumerate() {
        line(if n == 0 { "lost" } else { "" }, format!("{} {what}", count(*amount)));
    }
    text
}

fn uploads_of(tally: &Tally) -> String {
    let plural = if tally.uploads == 1 { "" } else { "s" };
    format!("{} upload{plural}", group_digits(tally.uploads))
}

fn list(parts: &[(&str, u64)]) -> String {
    let parts: Vec<String> =
        parts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{} {name}", group_digits(*n))).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// Everything that could not be seen or used, with its reason; only what happened.
pub(super) fn losses(
    capture: &capture::Counters,
    sensor: &SensorCounters,
    judgement: &Judgement,
    intake: &endpoint::Counters,
) -> Vec<(&'static str, u64)> {
    let (packet, fragment) = (&sensor.packet, &sensor.fragment);
    let (flow, protocol) = (&sensor.flow, &sensor.protocol);
    let ftp = &protocol.ftp;
    let late = protocol.files.not_hashed_for(NotHashed::BoundLate) + judgement.bound_late();
    let history = judgement.history().counters();
    let all = [
        ("captures cut off within a packet", capture.truncated_files),
        ("malformed blocks in captures", capture.malformed_blocks),
        ("packets of a link type that is not read", packet.unknown_link),
        ("malformed packets", packet.malformed),
        ("packets nested too deep", packet.too_deep),
        ("fragmented packets given up, memory used up", fragment.evicted),
        ("fragmented packets whose rest did not come in time", fragment.expired),
        ("fragmented packets whose rest had not come at the end", fragment.unfinished),
        ("packets cut by the snap length", packet.snapped),
        ("gaps in streams that the tap lost", flow.gaps),
        ("bytes in those gaps", flow.gap_bytes),
        ("gaps closed early, reassembly memory used up", flow.memory_gaps),
        ("segments with other bytes than earlier ones", flow.conflicts),
        ("segments outside any window", flow.out_of_window),
        ("flows evicted, flow table full", flow.ended(Ending::Evicted)),
        ("segments of unknown flows, flow table full", flow.refused),
        ("connections no longer read, parser memory used up", protocol.retired),
        ("FTP dialogues forgotten early, parser memory used up", ftp.dialogues_dropped),
        ("HTTP heads that could not be read", protocol.http_unparsed),
        ("HTTP heads longer than the limit", protocol.http_heads_too_long),
        ("HTTP bodies with broken chunks", protocol.http_bad_chunks),
        ("HTTP streams that lost their place in a gap", protocol.http_lost),
        ("HTTP servers' streams that lost their place", protocol.http_responses_lost),
        ("HTTP responses to requests that were not seen", protocol.http_unasked),
        ("HTTP requests reported early, too many pending", protocol.http_pending_dropped),
        ("HTTP/2 directions that lost their place in a gap", protocol.http2_lost),
        ("HTTP/2 directions that broke the syntax", protocol.http2_unparsed),
        ("WebSockets that lost their place", protocol.websocket_lost),
        ("FTP sessions that went over to TLS, to their end", ftp.encrypted.saturating_sub(ftp.returned)),
        ("FTP sessions under TLS for a time, not read then", ftp.returned),
        ("FTP data connections without a transfer", ftp.unbound),
        ("FTP data addresses forgotten, too many", ftp.expectations_dropped),
        ("FTP commands given up, too many pending", ftp.pending_dropped),
        ("FTP lines cut", ftp.lines_cut),
        ("files not hashed, larger than the limit", protocol.files.not_hashed_for(NotHashed::TooLarge)),
        ("files not hashed, too many bytes per second", protocol.files.not_hashed_for(NotHashed::Rate)),
        ("files not hashed, too much to do", protocol.files.not_hashed_for(NotHashed::Overload)),
        ("files not hashed, their connection known too late", late),
        ("7z archives whose end there was no memory for", protocol.files.archive_memory),
        ("encoded bodies not decoded", protocol.files.not_decoded),
        ("endpoint records malformed", intake.malformed),
        ("endpoint lines of unknown type", intake.unknown_type),
        ("endpoint records too long", intake.oversized),
        ("endpoint inputs that broke off", intake.read_errors),
        ("endpoint events of no known host", intake.before_hello),
        ("file events forgotten, memory used up", history.files_forgotten),
        ("connection events forgotten, memory used up", history.connections_forgotten),
        ("processes forgotten, memory used up", history.processes_forgotten),
        ("endpoint events forgotten, older than endpoint.keep", history.expired),
        ("events of hosts that there was no room for", history.hosts_refused),
        ("addresses that there was no room for", history.addresses_refused),
        ("names from DNS forgotten, too many", judgement.names_dropped()),
        ("messages on the DNS port that are no DNS", protocol.dns_unparsed),
        ("facts joined before all clocks were learnt", judgement.counters().joined_early),
        ("uploads that could not be corrected any more, too many", judgement.counters().uncorrected),
        ("uploads judged early, too many pending", judgement.counters().judged_early),
        ("stories ended early, too many at a time", judgement.stories().ended_early),
        ("destinations forgotten, too many", judgement.baseline().destinations_forgotten),
        ("processes and pairs forgotten, too many", judgement.baseline().processes_forgotten),
        ("volumes of hosts and others forgotten, too many", judgement.volumes_lost().0),
        ("rows of the baseline that could not be read", judgement.baseline().rows_unread + judgement.volumes_lost().1),
    ];
    all.into_iter().filter(|(_, amount)| *amount > 0).collect()
}
