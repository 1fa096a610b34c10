//! The live sensor's counters: lines of the log, and sums for the closing summary.

use crate::capture;
use crate::record::Ending;
use crate::sensor::SensorCounters;
use crate::sensor::live::{LiveCounters, ThreadCounters};

/// A line for each thread and each interface, all counts since the start.
pub fn lines(counters: &LiveCounters) -> Vec<String> {
    let threads = counters.threads.iter().enumerate().map(|(number, thread)| of_thread(number, thread));
    let interfaces = counters.interfaces.iter().map(|(name, counts)| {
        let driver: String = counts.driver.iter().map(|(kind, count)| format!(" driver.{kind}={count}")).collect();
        format!(
            "counters interface={name} packets={} errors={} dropped={} overruns={} replaced={} lost={}{driver}",
            counts.packets,
            counts.errors,
            counts.dropped,
            counts.overruns,
            counts.replaced,
            counts.lost()
        )
    });
    threads.chain(interfaces).collect()
}

fn of_thread(number: usize, thread: &ThreadCounters) -> String {
    let ThreadCounters { feed, relief, sensor, kept, dropped, shed, shed_steps, lag, .. } = thread;
    let (packet, flow) = (&sensor.packet, &sensor.flow);
    let errors = packet.malformed + packet.too_deep + packet.unknown_link;
    let counts = [
        ("received", feed.received + relief.packets),
        ("kernel_dropped", feed.dropped),
        ("freezes", feed.freezes),
        ("before_start", feed.before_start),
        ("waiting", feed.waiting),
        ("relieved", relief.packets),
        ("relieved_bytes", relief.wire_bytes),
        ("relieved_flows", relief.flows),
        ("relief_full", relief.full),
        ("relief_failed", relief.failed),
        ("packets", feed.packets),
        ("bytes", feed.wire_bytes),
        ("decode_errors", errors),
        ("snapped", packet.snapped),
        ("gaps", flow.gaps),
        ("gap_bytes", flow.gap_bytes),
        ("evicted", flow.ended(Ending::Evicted)),
        ("refused", flow.refused),
        ("flows_dropped", dropped.flows),
        ("names_dropped", dropped.names),
        ("uploads_dropped", dropped.uploads),
        ("shed", *shed as u64),
        ("shed_steps", *shed_steps),
        ("lag_ms", lag.as_millis() as u64),
        ("kept_connections", kept.connections),
        ("kept_forgotten", kept.forgotten),
    ];
    line(&format!("thread={number}"), counts)
}

/// What of the output could not be written.
pub fn of_output(lost: u64) -> String {
    line("output", [("lost", lost)])
}

/// A line of the log: `counters ABOUT name=count name=count`.
pub fn line<'n>(about: &str, counts: impl IntoIterator<Item = (&'n str, u64)>) -> String {
    let counts: Vec<String> = counts.into_iter().map(|(name, count)| format!("{name}={count}")).collect();
    format!("counters {about} {}", counts.join(" "))
}

/// All threads together, as a replay counts.
pub fn totals(counters: &LiveCounters) -> (capture::Counters, SensorCounters) {
    let mut capture = capture::Counters::default();
    let mut sensor = SensorCounters::default();
    for thread in &counters.threads {
        // What the kernel counted is counted as what was read.
        capture.packets += thread.feed.packets + thread.relief.packets;
        capture.wire_bytes += thread.feed.wire_bytes + thread.relief.wire_bytes;
        sensor.packet.tcp += thread.relief.packets;
        capture.backward_timestamps += thread.feed.backward_timestamps;
        sensor.add(&thread.sensor);
    }
    (capture, sensor)
}

/// What only a live sensor can lose; only what happened is for the summary.
pub fn losses(counters: &LiveCounters) -> Vec<(&'static str, u64)> {
    let sum = |count: fn(&ThreadCounters) -> u64| counters.threads.iter().map(count).sum();
    let interfaces = counters.interfaces.iter().map(|(_, counts)| counts.lost()).sum();
    let replaced = counters.interfaces.iter().map(|(_, counts)| counts.replaced).sum();
    vec![
        ("packets the kernel dropped, a ring was full", sum(|thread| thread.feed.dropped)),
        ("times that a ring was full", sum(|thread| thread.feed.freezes)),
        ("packets that the interfaces dropped", interfaces),
        ("times that an interface was replaced by another", replaced),
        ("packets that came when the end was near", sum(|thread| thread.feed.waiting)),
        ("packets before every ring was ready", sum(|thread| thread.feed.before_start)),
        ("uploads dropped, not judged as fast", sum(|thread| thread.dropped.uploads)),
        ("flow records dropped, not judged as fast", sum(|thread| thread.dropped.flows)),
        ("names from DNS dropped, not taken as fast", sum(|thread| thread.dropped.names)),
        ("times that a kind of work was given up", sum(|thread| thread.shed_steps)),
        ("times that no room was for a flow to be relieved of", sum(|thread| thread.relief.full)),
        ("times that the kernel refused to relieve of a flow", sum(|thread| thread.relief.failed)),
        ("facts joined before the grace was over", counters.joined_early),
        ("uploads whose packets were forgotten, for want of room", sum(|thread| thread.kept.forgotten)),
    ]
}
