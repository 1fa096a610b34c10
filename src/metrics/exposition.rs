//! The page of metrics: every family with its name, its help and its samples, in Prometheus' text format.
//!
//! Names are `outfall_`, what is counted, its unit and, for what only grows, `_total`. The values of a label are few and
//! known: threads, interfaces, collectors, protocols, and reasons that the program has by name. No label is an address of a
//! client, a host, a process or a destination, as their number is the network's to choose.

use super::families::Families;
use super::{Level, Sample, ServerCounters};
use crate::evidence::KeeperCounters;
use crate::join::{Share, Tally};
use crate::record::{Ending, NotHashed};

/// The page.
pub fn text(sample: &Sample, server: &ServerCounters) -> String {
    let mut to = Families::default();
    build(&mut to, sample);
    capture(&mut to, sample);
    decode(&mut to, sample);
    streams(&mut to, sample);
    parsers(&mut to, sample);
    uploads(&mut to, sample);
    attribution(&mut to, sample);
    alerts(&mut to, sample);
    endpoints(&mut to, sample);
    helpers(&mut to, sample);
    output(&mut to, sample);
    delivery(&mut to, sample);
    evidence(&mut to, sample);
    bounds(&mut to, sample);
    served(&mut to, server);
    to.text()
}

fn build(to: &mut Families, sample: &Sample) {
    let version = env!("CARGO_PKG_VERSION");
    to.gauges("outfall_build_info", "The program's version, as a label; always 1.", ["version"], [([version], 1.0)]);
    let process = &sample.process;
    to.measure("process_cpu_seconds_total", "Time on processors, of all threads.", process.cpu.as_secs_f64());
    if let Some(resident) = process.resident {
        to.gauge("process_resident_memory_bytes", "Memory in use.", resident as f64);
    }
    to.gauge("process_start_time_seconds", "When the program started, since 1970.", process.started);
}

fn capture(to: &mut Families, sample: &Sample) {
    let threads = || sample.threads.iter().enumerate();
    let paths = ["thread", "path"];
    let both = |number: usize, read: u64, relieved: u64| {
        [([number.to_string(), "read".to_owned()], read), ([number.to_string(), "relieved".to_owned()], relieved)]
    };
    to.counts(
        "outfall_capture_packets_total",
        "Packets that were read, and those that the kernel only counted (relieved).",
        paths,
        threads().flat_map(|(n, thread)| both(n, thread.feed.packets, thread.relief.packets)),
    );
    to.counts(
        "outfall_capture_bytes_total",
        "Bytes of these packets on the wire.",
        paths,
        threads().flat_map(|(n, thread)| both(n, thread.feed.wire_bytes, thread.relief.wire_bytes)),
    );
    to.counts(
        "outfall_kernel_received_packets_total",
        "Packets that the kernel had for the rings, those that it dropped included.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.feed.received + thread.relief.packets)),
    );
    to.counts(
        "outfall_kernel_dropped_packets_total",
        "Packets that the kernel dropped, as a ring was full.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.feed.dropped)),
    );
    to.counts(
        "outfall_ring_full_total",
        "Times that a ring was full.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.feed.freezes)),
    );
    to.counts(
        "outfall_ring_unused_packets_total",
        "Packets that came before every ring was ready, or before reading began, and were passed over.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.feed.before_start)),
    );
    to.counts(
        "outfall_capture_backward_timestamps_total",
        "Packets that were stamped earlier than one before them.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.feed.backward_timestamps)),
    );
    to.gauges(
        "outfall_capture_lag_seconds",
        "How far reading lagged behind arrival in the last second, at most.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.lag.as_secs_f64())),
    );
    to.gauges(
        "outfall_shed_level",
        "Kinds of work that are given up for now: 0 is none, 4 all that can be.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.shed as f64)),
    );
    to.counts(
        "outfall_shed_steps_total",
        "Times that a kind of work was given up.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.shed_steps)),
    );
    to.counts(
        "outfall_relief_flows_total",
        "Directions of connections that the kernel was asked to only count.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.relief.flows)),
    );
    to.counts(
        "outfall_relief_full_total",
        "Times that there was no room for a connection to be relieved of.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.relief.full)),
    );
    to.counts(
        "outfall_relief_failed_total",
        "Times that the kernel refused to relieve of a connection, or to tell of it.",
        ["thread"],
        threads().map(|(n, thread)| ([n], thread.relief.failed)),
    );
    let interfaces = || sample.interfaces.iter();
    to.counts(
        "outfall_interface_packets_total",
        "Packets that the interface received.",
        ["interface"],
        interfaces().map(|(name, counts)| ([name], counts.packets)),
    );
    to.counts(
        "outfall_interface_lost_packets_total",
        "Packets that the interface lost, at least; kinds that may count one packet twice are not added up.",
        ["interface"],
        interfaces().map(|(name, counts)| ([name], counts.lost())),
    );
    to.counts(
        "outfall_interface_replaced_total",
        "Times that another interface took the place of the one of this name.",
        ["interface"],
        interfaces().map(|(name, counts)| ([name], counts.replaced)),
    );
}

fn decode(to: &mut Families, sample: &Sample) {
    let (packet, fragment) = (&sample.packet, &sample.fragment);
    let relieved: u64 = sample.threads.iter().map(|thread| thread.relief.packets).sum();
    to.counts(
        "outfall_decoded_packets_total",
        "Packets by what they turned out to be.",
        ["kind"],
        [
            (["tcp"], packet.tcp + relieved),
            (["udp"], packet.udp),
            (["other-ip"], packet.other_ip),
            (["not-ip"], packet.not_ip),
        ],
    );
    to.counts(
        "outfall_decode_dropped_packets_total",
        "Packets that could not be taken apart.",
        ["reason"],
        [(["malformed"], packet.malformed), (["too-deep"], packet.too_deep), (["unknown-link"], packet.unknown_link)],
    );
    to.count("outfall_decode_cut_packets_total", "Packets cut by the snap length.", packet.snapped);
    to.count("outfall_fragments_total", "Fragments of packets.", packet.fragments);
    to.counts(
        "outfall_fragment_dropped_packets_total",
        "Fragmented packets that were given up.",
        ["reason"],
        [(["memory"], fragment.evicted), (["timeout"], fragment.expired), (["end"], fragment.unfinished)],
    );
}

fn streams(to: &mut Families, sample: &Sample) {
    let flow = &sample.flow;
    to.count("outfall_flows_total", "TCP connections begun.", flow.opened);
    to.count("outfall_flows_mid_stream_total", "Of them, without their opening.", flow.mid_stream);
    let endings = [Ending::Finished, Ending::Reset, Ending::Idle, Ending::Reused, Ending::Evicted, Ending::CaptureEnd];
    to.counts(
        "outfall_flows_ended_total",
        "TCP connections ended; \"evicted\" is what the flow table's bound cost.",
        ["ending"],
        endings.map(|ending| ([ending.name()], flow.ended(ending))),
    );
    to.count(
        "outfall_flow_refused_segments_total",
        "Segments of connections that were not seen to open, and that there was no room for in the flow table.",
        flow.refused,
    );
    to.count("outfall_reassembly_gaps_total", "Stretches of streams that the tap lost.", flow.gaps);
    to.count("outfall_reassembly_gap_bytes_total", "Bytes in these stretches.", flow.gap_bytes);
    to.count(
        "outfall_reassembly_early_gaps_total",
        "Holes closed as gaps early, as the memory for reassembly was used up.",
        flow.memory_gaps,
    );
    to.counts(
        "outfall_reassembly_ignored_segments_total",
        "Segments with other bytes than earlier ones, and those outside of any window.",
        ["reason"],
        [(["conflict"], flow.conflicts), (["out-of-window"], flow.out_of_window)],
    );
    to.count("outfall_reassembly_duplicate_bytes_total", "Payload bytes that came again.", flow.duplicate_bytes);
}

fn parsers(to: &mut Families, sample: &Sample) {
    let protocol = &sample.protocol;
    let (ftp, files) = (&protocol.ftp, &protocol.files);
    to.counts(
        "outfall_parser_losses_total",
        "Times that a parser lost its place, or passed over or forgot something; by protocol and reason.",
        ["protocol", "reason"],
        [
            (["any", "memory"], protocol.retired),
            (["dns", "unparsed"], protocol.dns_unparsed),
            (["ftp", "data-unbound"], ftp.unbound),
            (["ftp", "dialogue-forgotten"], ftp.dialogues_dropped),
            (["ftp", "encrypted"], ftp.encrypted),
            (["ftp", "expectation-forgotten"], ftp.expectations_dropped),
            (["ftp", "line-cut"], ftp.lines_cut),
            (["ftp", "pending"], ftp.pending_dropped),
            (["http", "bad-chunks"], protocol.http_bad_chunks),
            (["http", "gap"], protocol.http_lost),
            (["http", "head-too-long"], protocol.http_heads_too_long),
            (["http", "pending"], protocol.http_pending_dropped),
            (["http", "response-lost"], protocol.http_responses_lost),
            (["http", "unasked"], protocol.http_unasked),
            (["http", "unparsed"], protocol.http_unparsed),
            (["http2", "gap"], protocol.http2_lost),
            (["http2", "unparsed"], protocol.http2_unparsed),
            (["websocket", "lost"], protocol.websocket_lost),
        ],
    );
    to.count("outfall_http_requests_total", "HTTP/1.x requests read.", protocol.http_requests);
    to.count("outfall_ftp_sessions_total", "FTP control connections read.", ftp.sessions);
    to.count("outfall_dns_names_total", "Names learnt from DNS answers.", protocol.dns_names);
    to.count("outfall_dns_names_forgotten_total", "Of them, forgotten for want of room.", sample.names_forgotten);
    to.count("outfall_files_hashed_total", "Files and bodies that got a SHA-256.", files.hashed);
    to.count("outfall_files_hashed_bytes_total", "Bytes that were hashed.", files.hashed_bytes);
    to.counts(
        "outfall_files_not_hashed_total",
        "Files and bodies that got no SHA-256.",
        ["reason"],
        NotHashed::ALL.iter().map(|why| ([why.name()], files.not_hashed_for(*why))),
    );
    to.count("outfall_bodies_not_decoded_total", "Encoded bodies that were not decoded.", files.not_decoded);
    to.count("outfall_archives_unread_total", "7z archives whose end there was no memory for.", files.archive_memory);
}

fn uploads(to: &mut Families, sample: &Sample) {
    let tallies = || sample.uploads.iter();
    to.counts(
        "outfall_uploads_total",
        "Uploads that ended, whole or not.",
        ["protocol"],
        tallies().map(|(protocol, tally)| ([protocol], tally.uploads)),
    );
    to.counts(
        "outfall_upload_bytes_total",
        "Entity bytes of these uploads.",
        ["protocol"],
        tallies().map(|(protocol, tally)| ([protocol], tally.bytes)),
    );
    let running = &sample.uploading;
    to.gauges(
        "outfall_uploads_in_flight",
        "Uploads under way: HTTP requests with a body, WebSockets, and FTP data connections that carry what a client sends.",
        ["protocol"],
        [(["http"], running.http as f64), (["ftp"], running.ftp as f64)],
    );
    to.count("outfall_uploads_outbound_total", "Uploads that left the home networks.", sample.outbound);
    let kinds = sample.threads.iter().flat_map(|thread| thread.dropped).fold(
        std::collections::BTreeMap::<&str, u64>::new(),
        |mut sums, (kind, count)| {
            *sums.entry(kind).or_default() += count;
            sums
        },
    );
    to.counts(
        "outfall_join_dropped_facts_total",
        "What was found and dropped, as it was not joined as fast.",
        ["kind"],
        kinds.into_iter().map(|(kind, count)| ([kind], count)),
    );
    to.count("outfall_join_early_facts_total", "Facts joined before join.grace was over.", sample.joined_early);
    to.count(
        "outfall_join_corrected_uploads_total",
        "Uploads delivered again, with the process that was not known before.",
        sample.corrected,
    );
    to.count(
        "outfall_join_uncorrected_uploads_total",
        "Uploads that could not be corrected any more, as there were too many.",
        sample.uncorrected,
    );
}

/// A later answer moves an upload from a reason to its process, so these can go down.
fn attribution(to: &mut Families, sample: &Sample) {
    let rows = |count: fn(&Tally) -> u64| {
        let Share { attributed, unknown } = &sample.coverage;
        let unknown = unknown.iter().map(move |(why, tally)| ([why], count(tally) as f64));
        std::iter::once((["attributed"], count(attributed) as f64)).chain(unknown)
    };
    let outcome = ["outcome"];
    to.gauges(
        "outfall_attribution_flows",
        "Flows since the start by whether their process is known, or why not.",
        outcome,
        rows(|tally| tally.flows),
    );
    to.gauges(
        "outfall_attribution_uploads",
        "Uploads since the start by whether their process is known, or why not.",
        outcome,
        rows(|tally| tally.uploads),
    );
    to.gauges("outfall_attribution_upload_bytes", "Entity bytes of these uploads.", outcome, rows(|tally| tally.bytes));
}

fn alerts(to: &mut Families, sample: &Sample) {
    let alerts = &sample.alerts;
    let of = |severity: &'static str| ([severity], alerts.by_severity.get(severity).copied().unwrap_or(0));
    to.counts(
        "outfall_alerts_total",
        "Alerts handed out, those told anew included.",
        ["severity"],
        ["low", "medium", "high", "critical"].map(of),
    );
    let (stories, grouped, ended_early) = sample.stories;
    to.count("outfall_alert_stories_total", "Alerts that are told of, each once.", stories);
    to.count("outfall_alert_grouped_uploads_total", "Further uploads that belong to them.", grouped);
    to.count("outfall_alert_stories_cut_total", "Alerts that take no more uploads, for want of room.", ended_early);
    to.count("outfall_alerts_held_total", "Verdicts held, as the baseline still learns.", sample.held);
    let conditions = ["packet-loss", "uploads-dropped", "shedding", "journal-not-written", "interface"];
    to.counts(
        "outfall_health_alerts_total",
        "Alerts of the sensor on itself; the beginning and the end are one each.",
        ["condition"],
        conditions.map(|condition| ([condition], alerts.health.get(condition).copied().unwrap_or(0))),
    );
    to.histogram(
        "outfall_alert_latency_seconds",
        "From the last packet of an upload to the moment at which its alert was handed out.",
        &alerts.latency,
    );
    let baseline = &sample.baseline;
    to.counts(
        "outfall_baseline_forgotten_total",
        "What the baseline forgot, for want of room.",
        ["kind"],
        [(["destination"], baseline.destinations_forgotten), (["process"], baseline.processes_forgotten)],
    );
    to.count("outfall_baseline_unread_rows_total", "Stored rows that could not be read.", baseline.rows_unread);
}

fn endpoints(to: &mut Families, sample: &Sample) {
    let (intake, history) = (&sample.intake, &sample.history);
    to.count("outfall_endpoint_lines_total", "Records that endpoints sent.", intake.lines);
    to.count("outfall_endpoint_events_total", "Events in them.", intake.events());
    to.counts(
        "outfall_endpoint_dropped_lines_total",
        "Records of endpoints that could not be used.",
        ["reason"],
        [
            (["before-hello"], intake.before_hello),
            (["malformed"], intake.malformed),
            (["too-long"], intake.oversized),
            (["unknown-type"], intake.unknown_type),
        ],
    );
    to.counts(
        "outfall_endpoint_forgotten_total",
        "What the history of endpoints forgot, for want of room, or for its age.",
        ["kind"],
        [
            (["address"], history.addresses_refused),
            (["age"], history.expired),
            (["connection"], history.connections_forgotten),
            (["file"], history.files_forgotten),
            (["host"], history.hosts_refused),
            (["process"], history.processes_forgotten),
        ],
    );
}

fn helpers(to: &mut Families, sample: &Sample) {
    let Some(listener) = &sample.listener else { return };
    let (known, connected) = sample.helpers;
    to.gauge("outfall_helpers_known", "Hosts whose helper is known.", known as f64);
    to.gauge("outfall_helpers_connected", "Of them, those that are connected.", connected as f64);
    to.gauge("outfall_listener_connections", "Connections open now.", listener.open as f64);
    to.count("outfall_listener_accepted_connections_total", "Connections accepted.", listener.accepted);
    to.count(
        "outfall_listener_refused_accepts_total",
        "Connections that the system could not hand over.",
        listener.accept_errors,
    );
    to.counts(
        "outfall_listener_ended_connections_total",
        "Connections that ended.",
        ["reason"],
        listener.ends.iter().map(|(reason, count)| ([reason.name()], *count)),
    );
    to.count("outfall_listener_events_total", "Events that were new.", listener.events);
    to.counts(
        "outfall_listener_lost_events_total",
        "Events that helpers lost before they sent them, and those that spoke for another host.",
        ["reason"],
        [(["lost-by-helper"], listener.missing), (["wrong-host"], listener.refused)],
    );
    to.count("outfall_listener_repeated_events_total", "Events that came again.", listener.repeated);
    to.count("outfall_listener_restored_events_total", "Events of earlier runs, of the journal.", listener.restored);
    to.count("outfall_listener_long_lines_total", "Lines that were too long.", listener.oversized);
    to.count(
        "outfall_listener_paced_total",
        "Times that a connection was not read for a while, as it was too fast.",
        listener.paced,
    );
    let journal = &listener.journal;
    to.count("outfall_journal_written_bytes_total", "Bytes written to the journal.", journal.bytes);
    to.count("outfall_journal_refused_writes_total", "Times that the journal could not be written.", journal.refused);
    to.counts(
        "outfall_journal_deleted_parts_total",
        "Parts of the journal that were deleted.",
        ["reason"],
        [(["room"], journal.evicted), (["age"], journal.expired)],
    );
    to.count("outfall_journal_torn_bytes_total", "Bytes of the journal torn by a sudden end.", journal.torn);
}

fn output(to: &mut Families, sample: &Sample) {
    to.count("outfall_output_lost_lines_total", "Lines of the output that could not be written.", sample.output_lost);
}

fn delivery(to: &mut Families, sample: &Sample) {
    let Some(delivery) = &sample.delivery else { return };
    let store = &delivery.store;
    to.count("outfall_store_alerts_total", "Alerts that are on the disk.", store.stored);
    to.counts(
        "outfall_store_dropped_alerts_total",
        "Alerts that were neither stored nor delivered.",
        ["reason"],
        [(["queue-full"], store.queue_full), (["disk"], store.failed)],
    );
    to.count("outfall_store_deleted_alerts_total", "Alerts deleted, too old or too many.", store.pruned);
    to.count(
        "outfall_outbox_dropped_alerts_total",
        "Deliveries given up, as their alert was deleted.",
        store.pruned_waiting,
    );
    let collectors = || delivery.collectors.iter();
    let label = ["collector"];
    to.gauges(
        "outfall_outbox_waiting_alerts",
        "Alerts that wait for their delivery or its confirmation.",
        label,
        collectors().map(|collector| ([&collector.name], collector.waiting as f64)),
    );
    to.counts(
        "outfall_delivery_messages_total",
        "Messages written, repeated ones included.",
        label,
        collectors().map(|collector| ([&collector.name], collector.sent)),
    );
    to.counts(
        "outfall_delivery_repeated_messages_total",
        "Messages whose connection broke soon after, and that are sent again.",
        label,
        collectors().map(|collector| ([&collector.name], collector.retried)),
    );
    to.counts(
        "outfall_delivery_reduced_messages_total",
        "Messages that left out parts of their alert to fit.",
        label,
        collectors().map(|collector| ([&collector.name], collector.reduced)),
    );
    to.counts(
        "outfall_delivery_dropped_alerts_total",
        "Alerts that fit in no message.",
        label,
        collectors().map(|collector| ([&collector.name], collector.dropped)),
    );
    to.counts(
        "outfall_delivery_failures_total",
        "Times that the collector could not be delivered to.",
        label,
        collectors().map(|collector| ([&collector.name], collector.failures)),
    );
}

fn evidence(to: &mut Families, sample: &Sample) {
    let Some(evidence) = &sample.evidence else { return };
    to.count("outfall_evidence_written_total", "Alerts whose evidence was written.", evidence.written);
    to.counts(
        "outfall_evidence_missing_total",
        "Alerts whose evidence was not written, or has no packets.",
        ["reason"],
        [
            (["queue-full"], evidence.queue_full),
            (["no-room"], evidence.no_room),
            (["failed"], evidence.failed),
            (["no-packets"], evidence.without_packets),
        ],
    );
    to.count("outfall_evidence_removed_total", "Evidence that was removed to make room.", evidence.removed);
    let mut kept = KeeperCounters::default();
    sample.threads.iter().for_each(|thread| kept.add(&thread.kept));
    to.count(
        "outfall_evidence_connections_total",
        "Connections of which packets were kept from an upload's first moment on.",
        kept.connections,
    );
    to.count(
        "outfall_evidence_connections_forgotten_total",
        "Of them, those that went for want of memory.",
        kept.forgotten,
    );
}

fn bounds(to: &mut Families, sample: &Sample) {
    let label = ["bound"];
    let used = |level: &Level| ([level.bound], level.used as f64);
    let limit = |level: &Level| ([level.bound], level.limit as f64);
    let (queues, memory) = (&sample.queues, &sample.memory);
    to.gauges(
        "outfall_queue_length",
        "Items in a queue; the label is the configuration key of its bound.",
        label,
        queues.iter().map(used),
    );
    to.gauges("outfall_queue_limit", "How many items a queue may hold.", label, queues.iter().map(limit));
    to.gauges(
        "outfall_memory_bytes",
        "Memory in use under a bound, by the program's own estimate; the label is its configuration key.",
        label,
        memory.iter().map(used),
    );
    to.gauges("outfall_memory_limit_bytes", "How much memory a bound allows.", label, memory.iter().map(limit));
    to.gauges(
        "outfall_table_entries",
        "Entries of a table; the label is the configuration key of its bound. Of several tables with one, the fullest counts.",
        label,
        sample.tables.iter().map(used),
    );
    to.gauges("outfall_table_limit", "How many entries a table may have.", label, sample.tables.iter().map(limit));
    to.gauges(
        "outfall_disk_bytes",
        "Bytes on a disk under a bound; of the store, those of the documents of alerts.",
        label,
        sample.disk.iter().map(used),
    );
    to.gauges("outfall_disk_limit_bytes", "How many bytes a bound allows.", label, sample.disk.iter().map(limit));
}

fn served(to: &mut Families, server: &ServerCounters) {
    to.counts(
        "outfall_metrics_requests_total",
        "Requests to this endpoint that were answered.",
        ["code"],
        server.answered.iter().map(|(code, count)| ([*code], *count)),
    );
    to.counts(
        "outfall_metrics_dropped_connections_total",
        "Connections to this endpoint that were dropped.",
        ["reason"],
        server.dropped.iter().map(|(reason, count)| ([*reason], *count)),
    );
}
