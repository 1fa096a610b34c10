//! The closing summary of a replay or of a live sensor: what was read, what was found, and what was lost and why.

use std::fmt::Write as _;

use crate::capture;
use crate::endpoint;
use crate::join::Tally;
use crate::net::{ByteSize, group_digits};
use crate::record::{Ending, NotHashed};
use crate::sensor::{Judgement, SensorCounters};

/// What was lost: its name in a line of the log, what it is in the summary, and how much of it there was.
pub type Lost = (&'static str, &'static str, u64);

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
    lost: &[Lost],
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
    let mut lost: Vec<_> = lost.iter().copied().filter(|(.., amount)| *amount > 0).collect();
    lost.extend(losses(capture, sensor, judgement, intake));
    if lost.is_empty() {
        line("lost", "nothing".to_owned());
    }
    for (n, (_, what, amount)) in lost.iter().enumerate() {
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
) -> Vec<Lost> {
    let mut all = vec![
        ("truncated_files", "captures cut off within a packet", capture.truncated_files),
        ("malformed_blocks", "malformed blocks in captures", capture.malformed_blocks),
    ];
    all.extend(of_packets(sensor));
    all.extend(of_judging(judgement, intake));
    all.retain(|(.., amount)| *amount > 0);
    all
}

/// What can be lost from packets to uploads, in a thread of its own.
pub(super) fn of_packets(sensor: &SensorCounters) -> Vec<Lost> {
    let (packet, fragment) = (&sensor.packet, &sensor.fragment);
    let (flow, protocol) = (&sensor.flow, &sensor.protocol);
    let (ftp, files) = (&protocol.ftp, &protocol.files);
    vec![
        ("unknown_link", "packets of a link type that is not read", packet.unknown_link),
        ("malformed", "malformed packets", packet.malformed),
        ("too_deep", "packets nested too deep", packet.too_deep),
        ("fragments_evicted", "fragmented packets given up, memory used up", fragment.evicted),
        ("fragments_expired", "fragmented packets whose rest did not come in time", fragment.expired),
        ("fragments_unfinished", "fragmented packets whose rest had not come at the end", fragment.unfinished),
        ("snapped", "packets cut by the snap length", packet.snapped),
        ("gaps", "gaps in streams that the tap lost", flow.gaps),
        ("gap_bytes", "bytes in those gaps", flow.gap_bytes),
        ("early_gaps", "gaps closed early, reassembly memory used up", flow.memory_gaps),
        ("conflicts", "segments with other bytes than earlier ones", flow.conflicts),
        ("out_of_window", "segments outside any window", flow.out_of_window),
        ("evicted", "flows evicted, flow table full", flow.ended(Ending::Evicted)),
        ("refused", "segments of unknown flows, flow table full", flow.refused),
        ("retired", "connections no longer read, parser memory used up", protocol.retired),
        ("ftp_dialogues_dropped", "FTP dialogues forgotten early, parser memory used up", ftp.dialogues_dropped),
        ("http_unparsed", "HTTP heads that could not be read", protocol.http_unparsed),
        ("http_heads_too_long", "HTTP heads longer than the limit", protocol.http_heads_too_long),
        ("http_bad_chunks", "HTTP bodies with broken chunks", protocol.http_bad_chunks),
        ("http_lost", "HTTP streams that lost their place in a gap", protocol.http_lost),
        ("http_responses_lost", "HTTP servers' streams that lost their place", protocol.http_responses_lost),
        ("http_unasked", "HTTP responses to requests that were not seen", protocol.http_unasked),
        ("http_pending_dropped", "HTTP requests reported early, too many pending", protocol.http_pending_dropped),
        ("http2_lost", "HTTP/2 directions that lost their place in a gap", protocol.http2_lost),
        ("http2_unparsed", "HTTP/2 directions that broke the syntax", protocol.http2_unparsed),
        ("websocket_lost", "WebSockets that lost their place", protocol.websocket_lost),
        (
            "ftp_encrypted",
            "FTP sessions that went over to TLS, to their end",
            ftp.encrypted.saturating_sub(ftp.returned),
        ),
        ("ftp_returned", "FTP sessions under TLS for a time, not read then", ftp.returned),
        ("ftp_unbound", "FTP data connections without a transfer", ftp.unbound),
        ("ftp_expectations_dropped", "FTP data addresses forgotten, too many", ftp.expectations_dropped),
        ("ftp_pending_dropped", "FTP commands given up, too many pending", ftp.pending_dropped),
        ("ftp_lines_cut", "FTP lines cut", ftp.lines_cut),
        ("unhashed_large", "files not hashed, larger than the limit", files.not_hashed_for(NotHashed::TooLarge)),
        ("unhashed_rate", "files not hashed, too many bytes per second", files.not_hashed_for(NotHashed::Rate)),
        ("unhashed_overload", "files not hashed, too much to do", files.not_hashed_for(NotHashed::Overload)),
        (
            "unhashed_late",
            "files not hashed, their connection known too late",
            files.not_hashed_for(NotHashed::BoundLate),
        ),
        ("archive_memory", "7z archives whose end there was no memory for", files.archive_memory),
        ("not_decoded", "encoded bodies not decoded", files.not_decoded),
        ("dns_unparsed", "messages on the DNS port that are no DNS", protocol.dns_unparsed),
    ]
}

/// What can be lost of what endpoints say, and from uploads to alerts.
pub(super) fn of_judging(judgement: &Judgement, intake: &endpoint::Counters) -> Vec<Lost> {
    let (history, judged) = (judgement.history().counters(), judgement.counters());
    let (baseline, (volumes, volumes_unread)) = (judgement.baseline(), judgement.volumes_lost());
    vec![
        ("third_hosts_late", "files between third hosts not hashed, known too late", judgement.bound_late()),
        ("events_malformed", "endpoint records malformed", intake.malformed),
        ("events_unknown", "endpoint lines of unknown type", intake.unknown_type),
        ("events_oversized", "endpoint records too long", intake.oversized),
        ("inputs_broken", "endpoint inputs that broke off", intake.read_errors),
        ("events_hostless", "endpoint events of no known host", intake.before_hello),
        ("files_forgotten", "file events forgotten, memory used up", history.files_forgotten),
        ("connections_forgotten", "connection events forgotten, memory used up", history.connections_forgotten),
        ("processes_forgotten", "processes forgotten, memory used up", history.processes_forgotten),
        ("events_expired", "endpoint events forgotten, older than endpoint.keep", history.expired),
        ("hosts_refused", "events of hosts that there was no room for", history.hosts_refused),
        ("addresses_refused", "addresses that there was no room for", history.addresses_refused),
        ("names_forgotten", "names from DNS forgotten, too many", judgement.names_dropped()),
        ("joined_unlearnt", "facts joined before all clocks were learnt", judged.joined_early),
        ("uncorrected", "uploads that could not be corrected any more, too many", judged.uncorrected),
        ("judged_early", "uploads judged early, too many pending", judged.judged_early),
        ("stories_ended_early", "stories ended early, too many at a time", judgement.stories().ended_early),
        ("destinations_forgotten", "destinations forgotten, too many", baseline.destinations_forgotten),
        ("pairs_forgotten", "processes and pairs forgotten, too many", baseline.processes_forgotten),
        ("volumes_forgotten", "volumes of hosts and others forgotten, too many", volumes),
        ("baseline_unread", "rows of the baseline that could not be read", baseline.rows_unread + volumes_unread),
    ]
}
