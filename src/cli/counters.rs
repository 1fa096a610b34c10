//! The live sensor's counters: lines of the log, and sums for the closing summary.

use super::summary::{self, Lost};
use crate::capture;
use crate::record::Ending;
use crate::sensor::SensorCounters;
use crate::sensor::live::{LiveCounters, ThreadCounters};

/// A line for each thread and each interface, and one for what was lost behind them (`judging`); all counts since the start.
pub fn lines(counters: &LiveCounters, judging: &[Lost]) -> Vec<String> {
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
    let judging = [("joined_early", "", counters.joined_early)].iter().chain(judging).copied().collect::<Vec<Lost>>();
    threads.chain(interfaces).chain(of_lost("judging", &judging)).collect()
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
    line(&format!("thread={number}"), with_lost(&counts, &summary::of_packets(sensor)))
}

/// Counts that always stand in a line, and behind them whatever else was lost.
fn with_lost(counts: &[(&'static str, u64)], lost: &[Lost]) -> Vec<(&'static str, u64)> {
    let beside = lost.iter().filter(|(name, _, amount)| *amount > 0 && counts.iter().all(|(known, _)| known != name));
    counts.iter().copied().chain(beside.map(|(name, _, amount)| (*name, *amount))).collect()
}

/// A line of what was lost there, if anything was.
pub fn of_lost(about: &str, lost: &[Lost]) -> Option<String> {
    let counts = with_lost(&[], lost);
    (!counts.is_empty()).then(|| line(about, counts))
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

/// What only capture threads and interfaces can lose; only what happened is for the summary.
pub fn losses(counters: &LiveCounters) -> Vec<Lost> {
    let sum = |count: fn(&ThreadCounters) -> u64| counters.threads.iter().map(count).sum();
    let interfaces = counters.interfaces.iter().map(|(_, counts)| counts.lost()).sum();
    let replaced = counters.interfaces.iter().map(|(_, counts)| counts.replaced).sum();
    vec![
        ("kernel_dropped", "packets the kernel dropped, a ring was full", sum(|thread| thread.feed.dropped)),
        ("freezes", "times that a ring was full", sum(|thread| thread.feed.freezes)),
        ("lost", "packets that the interfaces dropped", interfaces),
        ("replaced", "times that an interface was replaced by another", replaced),
        ("waiting", "packets that came when the end was near", sum(|thread| thread.feed.waiting)),
        ("before_start", "packets before reading began, passed over", sum(|thread| thread.feed.before_start)),
        ("uploads_dropped", "uploads dropped, not judged as fast", sum(|thread| thread.dropped.uploads)),
        ("flows_dropped", "flow records dropped, not judged as fast", sum(|thread| thread.dropped.flows)),
        ("names_dropped", "names from DNS dropped, not taken as fast", sum(|thread| thread.dropped.names)),
        ("shed_steps", "times that a kind of work was given up", sum(|thread| thread.shed_steps)),
        ("relief_full", "times that no room was for a flow to be relieved of", sum(|thread| thread.relief.full)),
        ("relief_failed", "times that the kernel refused to relieve of a flow", sum(|thread| thread.relief.failed)),
        ("joined_early", "facts joined before the grace was over", counters.joined_early),
        (
            "kept_forgotten",
            "uploads whose packets were forgotten, for want of room",
            sum(|thread| thread.kept.forgotten),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{delivering, evidencing, listening, metering};
    use crate::config::Config;
    use crate::endpoint::{self, History};
    use crate::net::ByteSize;
    use crate::sensor::Judgement;

    fn names(line: &str) -> Vec<&str> {
        line.split(' ').filter_map(|field| field.split_once('=')).map(|(name, _)| name).collect()
    }

    /// The same rows, as if something of each was lost.
    fn some(rows: Vec<Lost>) -> Vec<Lost> {
        rows.into_iter().map(|(name, what, _)| (name, what, 7)).collect()
    }

    #[test]
    fn what_the_bounds_of_a_thread_cost_stands_in_its_line_and_what_cost_nothing_does_not() {
        let mut thread = ThreadCounters::default();
        let before = of_thread(0, &thread);
        thread.sensor.fragment.evicted = 3;
        thread.sensor.flow.memory_gaps = 4;
        thread.sensor.protocol.retired = 5;
        thread.sensor.protocol.ftp.dialogues_dropped = 6;
        thread.sensor.protocol.ftp.expectations_dropped = 7;
        let lost = of_thread(0, &thread);
        let more = lost.strip_prefix(&before);
        let expected = " fragments_evicted=3 early_gaps=4 retired=5 ftp_dialogues_dropped=6 ftp_expectations_dropped=7";
        assert_eq!(more, Some(expected), "{lost}");
    }

    #[test]
    fn each_row_of_what_was_lost_has_its_counter_in_a_line() {
        let judgement = Judgement::live(&Config::default(), History::new(ByteSize(1 << 20)));
        let judging = some(summary::of_judging(&judgement, &endpoint::Counters::default()));
        let counted = LiveCounters {
            threads: vec![ThreadCounters::default()],
            interfaces: vec![("tap0".to_owned(), crate::capture::live::InterfaceCounters::default())],
            joined_early: 1,
        };
        let lines = lines(&counted, &judging);
        let packets = with_lost(&[], &some(summary::of_packets(&SensorCounters::default())));
        let packets = line("thread=0", packets);
        let collectors = vec![crate::deliver::CollectorCounters::default()];
        let delivered = crate::deliver::Counters { collectors, ..Default::default() };
        let (shelved, listened, asked) = (Default::default(), Default::default(), Default::default());
        let parts = [
            (losses(&counted), lines.clone()),
            (judging, lines),
            (some(summary::of_packets(&SensorCounters::default())), vec![packets]),
            (listening::losses(&listened), vec![listening::counters(&listened)]),
            (delivering::losses(&delivered), delivering::lines(&delivered)),
            (evidencing::losses(&shelved), vec![evidencing::counts(&shelved)]),
            (metering::losses(&asked), of_lost("metrics", &some(metering::losses(&asked))).into_iter().collect()),
        ];
        for (rows, lines) in parts {
            let names: Vec<&str> = lines.iter().flat_map(|line| names(line)).collect();
            for (name, what, _) in rows {
                assert!(names.contains(&name), "{what}: there is no {name} in {lines:?}");
            }
        }
    }
}
