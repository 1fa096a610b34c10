//! `outfall coverage`: of each host, how much could be attributed to a process, and why not the rest.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::replay::{Inputs, Played, play};
use crate::endpoint::{Counters, HostHistory, WINDOWS_KINDS, shortened};
use crate::join::{Offset, Share, Tally};
use crate::net::{ByteSize, Span, Timestamp, group_digits};
use crate::sensor::Judgement;

/// What `outfall coverage` is told.
#[derive(Debug, clap::Args)]
pub struct CoverageArgs {
    #[command(flatten)]
    inputs: Inputs,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Rows of hosts in a summary, and of addresses in a table.
const MOST_ROWS: usize = 10;

/// The width of a host's name.
const NAME: usize = 32;

/// An offset that is worth a word, in nanoseconds.
const WORTH: i64 = 1_000_000_000;

/// Replays, and prints what could be attributed.
///
/// # Errors
/// If a file cannot be read, or is not what it should be.
pub fn run(args: &CoverageArgs) -> anyhow::Result<ExitCode> {
    let played = play(&args.inputs, &mut |_| {}, &|| true)?;
    let text = if args.json { format!("{}\n", document(&played)) } else { table(&played) };
    played.counters?;
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
}

/// Lines of a summary: the hosts that tell events, those with the most bytes that could not be attributed first.
pub fn lines(judgement: &Judgement) -> Vec<String> {
    let coverage = &judgement.counters().coverage;
    let missing = |share: &Share| share.all().bytes.saturating_sub(share.attributed.bytes);
    let mut rows: Vec<(&String, &Share)> = coverage.hosts.iter().collect();
    rows.sort_by_key(|(id, share)| (std::cmp::Reverse(missing(share)), *id));
    let more = rows.len().saturating_sub(MOST_ROWS);
    let mut lines: Vec<String> = rows
        .into_iter()
        .take(MOST_ROWS)
        .map(|(id, share)| {
            let history = judgement.history().host(id);
            let name = history.and_then(HostHistory::name).map_or(id.as_str(), AsRef::as_ref);
            let mut line = format!("{}: {}", shortened(name, NAME), parts(share));
            if let Some(offset) = judgement.offsets(id).iter().find(|offset| offset.ahead.abs() >= WORTH) {
                let _ = write!(line, "; clock {}", ahead(offset));
            }
            if let Some(lag) = history.and_then(HostHistory::lag) {
                let _ = write!(line, "; events up to {:.1} s late", seconds(lag));
            }
            line
        })
        .collect();
    if more > 0 {
        lines.push(format!("and {} more: see outfall coverage", group_digits(more as u64)));
    }
    lines
}

fn parts(share: &Share) -> String {
    let (named, all) = (share.attributed, share.all());
    let mut text = format!("{} of {} flows", group_digits(named.flows), group_digits(all.flows));
    if all.uploads > 0 {
        let _ = write!(text, ", {} of {}", ByteSize(named.bytes), ByteSize(all.bytes));
    }
    text
}

fn ahead(offset: &Offset) -> String {
    format!("{:+.1} s", offset.ahead as f64 / 1e9)
}

fn seconds(span: Span) -> f64 {
    span.0 as f64 / 1e9
}

fn table(played: &Played) -> String {
    let judgement = &played.judgement;
    let coverage = &judgement.counters().coverage;
    let mut text = String::from("HOSTS THAT TELL EVENTS          FLOWS NAMED     UPLOADED NAMED\n");
    // Writing to a String cannot fail.
    for host in judgement.history().hosts() {
        let none = Share::default();
        let share = coverage.hosts.get(host.id().as_ref()).unwrap_or(&none);
        let name = host.name().unwrap_or(host.id());
        let _ = writeln!(text, "{:<31} {}", shortened(name, 31), columns(share));
        let source = if host.is_log() { "event log" } else { "helper" };
        let heard = match (host.first_heard(), host.last_heard(Timestamp(u64::MAX))) {
            (Some(first), Some(last)) => {
                let time = |time: String| time.get(..19).unwrap_or(&time).replace('T', " ");
                format!(", {} to {}", time(first.to_string()), time(last.to_string()))
            }
            _ => String::new(),
        };
        let _ = writeln!(text, "  {source}, {} events{heard}", group_digits(host.events()));
        for offset in judgement.offsets(host.id()) {
            let of = if offset.measured { "measured".to_owned() } else { flows(offset.flows as u64) };
            let _ = writeln!(text, "  clock {}: {} ({of})", offset.clock.name(), ahead(&offset));
        }
        if host.dropped() > 0 {
            let _ = writeln!(text, "  lost {} events, as its helper says", group_digits(host.dropped()));
        }
        reasons(&mut text, share);
    }
    let mut unseen: Vec<(String, &Share)> = coverage.unseen().into_iter().collect();
    // Clients of the same amount stay in the order of their addresses.
    unseen.sort_by_key(|(_, share)| std::cmp::Reverse(share.all().bytes));
    if !unseen.is_empty() {
        text.push_str("\nCLIENTS OF WHICH NOTHING TELLS  FLOWS NAMED     UPLOADED NAMED\n");
    }
    for (address, share) in unseen.iter().take(MOST_ROWS) {
        let _ = writeln!(text, "{:<31} {}", shortened(address, 31), columns(share));
    }
    if let Some(more @ 1..) = unseen.len().checked_sub(MOST_ROWS) {
        let _ = writeln!(text, "and {} more", group_digits(more as u64));
    }
    let _ = writeln!(text, "\n{:<31} {}", "ALL", columns(&coverage.total));
    reasons(&mut text, &coverage.total);
    let intake = &played.intake;
    let _ = writeln!(text, "\nINTAKE\n  {} records", group_digits(intake.lines));
    for (name, count) in kinds(intake).into_iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(text, "  {:>14} {name}", group_digits(count));
    }
    text
}

fn columns(share: &Share) -> String {
    let (named, all) = (share.attributed, share.all());
    let flows = format!("{} of {}", group_digits(named.flows), group_digits(all.flows));
    let bytes = format!("{} of {}", ByteSize(named.bytes), ByteSize(all.bytes));
    format!("{flows:<15} {}", if all.uploads > 0 { bytes } else { "none".to_owned() })
}

fn flows(count: u64) -> String {
    if count == 1 { "1 flow".to_owned() } else { format!("{} flows", group_digits(count)) }
}

fn reasons(text: &mut String, share: &Share) {
    for (why, Tally { flows: count, uploads, bytes }) in share.unknown.iter() {
        let mut parts = vec![flows(*count)];
        if *uploads > 0 {
            let plural = if *uploads == 1 { "" } else { "s" };
            parts.push(format!("{} upload{plural}, {}", group_digits(*uploads), ByteSize(*bytes)));
        }
        let _ = writeln!(text, "  not, because {why}: {}", parts.join(", "));
    }
}

/// What the records were, those of no use included.
fn kinds(intake: &Counters) -> Vec<(&'static str, u64)> {
    let windows = WINDOWS_KINDS.iter().copied().zip(intake.kinds);
    let own = [
        ("hello", intake.hello),
        ("heartbeat", intake.heartbeat),
        ("process", intake.process_start + intake.process_end),
        ("connection", intake.connection),
        ("file", intake.file),
        ("unused", intake.unused),
        ("malformed", intake.malformed),
        ("unknown-type", intake.unknown_type),
        ("too-long", intake.oversized),
        ("of-no-known-host", intake.before_hello),
    ];
    own.into_iter().chain(windows).collect()
}

fn document(played: &Played) -> Value {
    let judgement = &played.judgement;
    let coverage = &judgement.counters().coverage;
    let hosts = judgement.history().hosts().into_iter().map(|host| {
        let clocks: Vec<Value> = judgement
            .offsets(host.id())
            .into_iter()
            .map(|offset| {
                json!({
                    "field": offset.clock.name(), "offset": offset.ahead as f64 / 1e9, "flows": offset.flows,
                    "measured": offset.measured,
                })
            })
            .collect();
        let none = Share::default();
        let share = share(coverage.hosts.get(host.id().as_ref()).unwrap_or(&none));
        json!({
            "id": host.id().as_ref(),
            "name": host.name().map(AsRef::<str>::as_ref),
            "source": if host.is_log() { "event-log" } else { "helper" },
            "events": host.events(),
            "first": host.first_heard().map(|time| time.to_string()),
            "last": host.last_heard(Timestamp(u64::MAX)).map(|time| time.to_string()),
            "lost": host.dropped(),
            "clocks": clocks,
            "share": share,
        })
    });
    let hosts: Vec<Value> = hosts.collect();
    let unseen = coverage.unseen().into_iter();
    let unseen = unseen.map(|(client, counted)| json!({ "client": client, "share": share(counted) }));
    let unseen: Vec<Value> = unseen.collect();
    let mut intake = Map::new();
    intake.insert("records".to_owned(), played.intake.lines.into());
    intake.insert("events".to_owned(), played.intake.events().into());
    intake.extend(kinds(&played.intake).into_iter().map(|(name, count)| (name.to_owned(), count.into())));
    json!({ "hosts": hosts, "unseen": unseen, "total": share(&coverage.total), "intake": intake })
}

fn share(share: &Share) -> Value {
    let tally = |tally: &Tally| json!({ "flows": tally.flows, "uploads": tally.uploads, "bytes": tally.bytes });
    let unknown: Map<String, Value> =
        share.unknown.iter().map(|(why, counted)| (why.to_owned(), tally(counted))).collect();
    json!({ "attributed": tally(&share.attributed), "unknown": unknown })
}
