//! The page around pictures, tables and alerts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::alert::{article, clock, shown};
use super::{ReportData, chart, counted, moment};
use crate::detect::Severity;
use crate::net::{ByteSize, group_digits};
use crate::store::{Amount, Digest, Ranking};

const STYLE: &str = include_str!("style.css");

/// Nothing is fetched and nothing runs; the style is the one that the page carries.
fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'")
}

/// The whole file.
pub(super) fn html(data: &ReportData) -> String {
    let digest = &data.digest;
    let title = match digest.span {
        Some((from, until)) => format!("Outfall report, {} to {} UTC", moment(from), moment(until)),
        None => "Outfall report".to_owned(),
    };
    let sections = [
        ("timeline", "Timeline"),
        ("alerts", "Alerts"),
        ("map", "From process to destination"),
        ("top", "Top senders and destinations"),
        ("coverage", "Attribution"),
        ("exceptions", "Exceptions due for review"),
        ("health", "Sensor health"),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    h1 { "What left in the clear" }
                    p.lead {
                        @match digest.span {
                            Some((from, until)) => { (moment(from)) " to " (moment(until)) " UTC" }
                            None => "No outbound upload is kept."
                        }
                        @if !data.sources.is_empty() {
                            " · of " (sources(&data.sources))
                        }
                    }
                    nav aria-label="Sections" { ul {
                        @for (id, name) in sections { li { a href={ "#" (id) } { (name) } } }
                    } }
                }
                main id="main" {
                    (figures(digest))
                    @for (id, name) in sections {
                        section id=(id) aria-labelledby={ (id) "-heading" } {
                            h2 id={ (id) "-heading" } { (name) }
                            (match id {
                                "timeline" => timeline(digest),
                                "alerts" => alerts(digest),
                                "map" => map(digest),
                                "top" => top(digest),
                                "coverage" => coverage(digest),
                                "exceptions" => exceptions(data),
                                _ => health(data),
                            })
                        }
                    }
                }
                footer { p { "Made by Outfall " (env!("CARGO_PKG_VERSION")) ". Times are UTC; kB, MB and GB are decimal." } }
            }
        }
    };
    page.into_string() + "\n"
}

fn figures(digest: &Digest) -> Markup {
    let of = |suppressed: bool| {
        digest.alert_counts.iter().filter(|count| count.suppressed == suppressed).map(|count| count.alerts).sum::<u64>()
    };
    let by: Vec<String> = digest
        .alert_counts
        .iter()
        .filter(|count| !count.suppressed)
        .map(|count| format!("{} {}", group_digits(count.alerts), Severity::of(count.severity).name()))
        .collect();
    let (open, covered) = (of(false), of(true));
    let named = digest.attribution.iter().filter(|share| share.confidence.is_some());
    let named = named.map(|share| share.amount.bytes).fold(0, u64::saturating_add);
    html! {
        dl.figures {
            div { dt { "Left the network" } dd id="outbound-bytes" {
                (digest.outbound.size()) small { (counted(digest.outbound.uploads, "upload")) }
            } }
            div { dt { "Alerts" } dd {
                (group_digits(open))
                small { (by.join(", ")) @if covered > 0 { " " (group_digits(covered)) " more covered by exceptions" } }
            } }
            div { dt { "Hosts that sent" } dd { (group_digits(digest.hosts.known)) small { "of the home networks" } } }
            div { dt { "Destinations" } dd { (group_digits(digest.destinations.known)) small { "domains or networks" } } }
            div { dt { "Process known" } dd {
                @if digest.outbound.bytes == 0 { "–" } @else { (percent(named, digest.outbound.bytes)) }
                small { "of the bytes" }
            } }
        }
    }
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    // Not everything is not 100 %, and something is not 0 %.
    match 100.0 * part as f64 / whole as f64 {
        share if part < whole && share > 99.0 => "> 99 %".to_owned(),
        share if part > 0 && share < 1.0 => "< 1 %".to_owned(),
        share => format!("{share:.0} %"),
    }
}

/// A bar as long as its share.
fn bar(part: u64, whole: u64) -> Markup {
    let width = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    html! {
        svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(format!("{width:.2}")) height="8" rx="1" fill="var(--c1)" {}
        }
    }
}

fn amount_cells(amount: &Amount) -> Markup {
    html! {
        td.number { (group_digits(amount.uploads)) }
        td.number title={ (group_digits(amount.bytes)) " bytes" } data-bytes=(amount.bytes) { (amount.size()) }
    }
}

/// How much, by two things.
fn amounts<'a>(
    id: &str,
    label: &str,
    caption: &str,
    columns: [&str; 2],
    rows: impl Iterator<Item = (String, String, &'a Amount)>,
) -> Markup {
    html! {
        div.wide role="region" tabindex="0" aria-label=(label) { table id=(id) {
            caption { (caption) }
            thead { tr {
                @for column in columns { th scope="col" { (column) } }
                th.number scope="col" { "Uploads" } th.number scope="col" { "Bytes" }
            } }
            tbody { @for (first, second, amount) in rows { tr {
                th scope="row" { (first) } td { (second) } (amount_cells(amount))
            } } }
        } }
    }
}

fn timeline(digest: &Digest) -> Markup {
    if digest.span.is_none() {
        return html! { p { "Nothing left the network." } };
    }
    let line = &digest.timeline;
    let protocols: Vec<String> = digest.protocols.iter().map(|(name, _)| name.clone()).collect();
    html! {
        figure {
            div.wide role="region" tabindex="0" aria-label="Timeline" { (PreEscaped(chart::timeline(line, &protocols))) }
            figcaption {
                ul.legend aria-label="Protocols" {
                    @for (n, (name, amount)) in digest.protocols.iter().enumerate() {
                        li {
                            svg viewBox="0 0 10 10" aria-hidden="true" { rect width="10" height="10" fill=(chart::colour(n)) {} }
                            (shown(name)) ", " (amount.size()) ", " (counted(amount.uploads, "upload"))
                        }
                    }
                    li { "▼ uploads with alerts that no exception covers; a number where there are several" }
                }
                p.note { "Each bar is " (line.width) " of uploads by when they began." }
            }
        }
        details {
            summary { "The timeline as a table" }
            (amounts("timeline-table", "The timeline as a table", "What left, by time and protocol", ["From", "Protocol"],
                line.amounts.iter().map(|slot| {
                    let begin = line.start.after(crate::net::Span(line.width.0.saturating_mul(slot.slot)));
                    (moment(begin), shown(&slot.protocol), &slot.amount)
                })))
        }
    }
}

fn alerts(digest: &Digest) -> Markup {
    let known = digest.alert_counts.iter().map(|count| count.alerts).sum::<u64>();
    let listed = digest.alerts.len() as u64;
    html! {
        @if known == 0 { p { "There is no alert." } }
        @if known > listed {
            p.note id="alerts-left-out" {
                (group_digits(known.saturating_sub(listed))) " of " (counted(known, "alert"))
                " are not shown: those shown are the most severe, the latest first. " code { "--alerts N" } " shows more."
            }
        }
        @for (number, row) in digest.alerts.iter().enumerate() { (article(number + 1, row)) }
    }
}

fn map(digest: &Digest) -> Markup {
    if digest.flows.is_empty() {
        return html! { p { "Nothing left the network." } };
    }
    let left_out = digest.flows_known.saturating_sub(digest.flows.len() as u64);
    html! {
        figure {
            div.wide role="region" tabindex="0" aria-label="From process to destination" { (PreEscaped(chart::map(&digest.flows))) }
            figcaption.note { "Processes on the left, destinations on the right, as thick as the bytes between them." }
        }
        @if left_out > 0 { p.note { (group_digits(left_out)) " more pairs, with fewer bytes, are not drawn." } }
        details {
            summary { "The map as a table" }
            (amounts("map-table", "The map as a table", "Bytes from process to destination", ["Process", "Destination"],
                digest.flows.iter().map(|flow| {
                    let process = flow.process.as_deref().map_or_else(|| "(not known)".to_owned(), shown);
                    (process, shown(&flow.destination), &flow.amount)
                })))
        }
    }
}

fn top(digest: &Digest) -> Markup {
    html! {
        (ranking("processes", "Processes", "Process", &digest.processes, digest.outbound.bytes))
        (ranking("destinations", "Destinations", "Destination", &digest.destinations, digest.outbound.bytes))
        (ranking("hosts", "Hosts", "Host", &digest.hosts, digest.outbound.bytes))
    }
}

fn ranking(id: &str, caption: &str, column: &str, ranking: &Ranking, whole: u64) -> Markup {
    let left_out = ranking.known.saturating_sub(ranking.rows.len() as u64);
    let hosts = column != "Host";
    html! {
        div.wide role="region" tabindex="0" aria-label=(caption) { table id=(id) {
            caption {
                b { (caption) } ", the most bytes first"
                @if left_out > 0 { "; " (group_digits(left_out)) " more are not listed" }
            }
            thead { tr {
                th scope="col" { (column) }
                @if hosts { th.number scope="col" { "Hosts" } }
                th.number scope="col" { "Uploads" } th.number scope="col" { "Bytes" } th scope="col" { "Share" }
            } }
            tbody { @for row in &ranking.rows { tr {
                th scope="row" { (row.name.as_deref().map_or_else(|| "(not known)".to_owned(), shown)) }
                @if hosts { td.number { (group_digits(row.hosts)) } }
                (amount_cells(&row.amount))
                td.bar { (bar(row.amount.bytes, whole)) }
            } } }
        } }
    }
}

/// What a reason means for which no process is named.
fn meaning(why: &str) -> &'static str {
    match why {
        "no-endpoint" => "neither a helper nor a log ever had the client's address",
        "host-silent" => "the host had told nothing for more than ten minutes",
        "before-log" => "the connection was opened before the host's first event",
        "opened-before" => "its opening is not in the capture, and no event tells of it",
        "events-lost" => "the host lost events at that time",
        "no-connection" => "the host told events then, but none of this connection",
        "outside-window" => "the only event of these two ends is too far from it in time",
        "ambiguous" => "different processes claim it, and none is nearer",
        "translated" => "the client stands for several hosts, and not exactly one process went there",
        _ => "",
    }
}

fn coverage(digest: &Digest) -> Markup {
    html! {
        div.wide role="region" tabindex="0" aria-labelledby="coverage-heading" { table id="attribution" {
            caption { "How surely the process behind each upload is known, and why not where it is not" }
            thead { tr {
                th scope="col" { "Process" } th.number scope="col" { "Uploads" } th.number scope="col" { "Bytes" }
                th.number scope="col" { "Of bytes" } th scope="col" { "Share" }
            } }
            tbody { @for share in &digest.attribution { tr {
                th scope="row" {
                    @match (&share.confidence, &share.unknown) {
                        (Some(confidence), _) => { "known, " (shown(confidence)) }
                        (None, Some(why)) => { "not known: " code { (shown(why)) } " " (meaning(why)) }
                        (None, None) => "not known",
                    }
                }
                (amount_cells(&share.amount))
                td.number { (percent(share.amount.bytes, digest.outbound.bytes)) }
                td.bar { (bar(share.amount.bytes, digest.outbound.bytes)) }
            } } }
        } }
    }
}

fn exceptions(data: &ReportData) -> Markup {
    html! {
        p {
            (counted(data.exceptions, "exception")) ", reviewed as of " (moment(data.reviewed)) " UTC: "
            @if data.due.is_empty() { "nothing to look at." } @else { (group_digits(data.due.len() as u64)) " to look at." }
        }
        @if !data.due.is_empty() {
            div.wide role="region" tabindex="0" aria-labelledby="exceptions-heading" { table id="due" {
                caption { "What somebody has to look at" }
                thead { tr {
                    th scope="col" { "Exception" } th scope="col" { "Owner" } th scope="col" { "Covers" } th scope="col" { "Finding" }
                } }
                tbody { @for due in &data.due { tr {
                    th scope="row" { (due.exception.id) }
                    td { (shown(&due.exception.owner)) }
                    td {
                        @for (name, value) in due.exception.scope.parts() { div { (name) " " (shown(&value)) } }
                    }
                    td { @for finding in &due.findings { div { (shown(&finding.text())) } } }
                } } }
            } }
        }
    }
}

/// Names of captures that are shown.
const SOURCES: usize = 6;

/// The captures, those of one name together.
fn sources(names: &[String]) -> String {
    let mut counted: Vec<(&str, u64)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    let told = counted.iter().take(SOURCES).map(|(name, count)| match count {
        1 => shown(name),
        count => format!("{} captures {}", group_digits(*count), shown(name)),
    });
    let mut told: Vec<String> = told.collect();
    let more: u64 = counted.iter().skip(SOURCES).map(|(_, count)| count).sum();
    if more > 0 {
        told.push(format!("{} more", group_digits(more)));
    }
    told.join(", ")
}

fn health(data: &ReportData) -> Markup {
    let digest = &data.digest;
    html! {
        p {
            @if digest.missing == 0 { "Of the uploads the tap delivered every byte." }
            @else { "Of the uploads the tap did not deliver " (ByteSize(digest.missing)) "." }
            " " (counted(digest.partial, "upload")) " of " (group_digits(digest.outbound.uploads)) " "
            (if digest.partial == 1 { "was" } else { "were" }) " not seen whole. "
            (counted(digest.inside.uploads, "upload")) " (" (digest.inside.size()) ") stayed inside the home networks."
        }
        @match &data.losses {
            None => p.note {
                "No run of a live sensor has kept in this database what it lost: its closing summary says so."
            },
            Some(losses) if losses.is_empty() && data.runs == 0 => p { "Nothing was lost on the way from the capture to this report." },
            Some(losses) if losses.is_empty() => p { (counted(data.runs, "run")) " of the sensor lost nothing." },
            Some(losses) => div.wide role="region" tabindex="0" aria-label="Losses" { table id="losses" {
                caption {
                    "What was lost or could not be read"
                    @if data.runs > 0 { ", by all that " (counted(data.runs, "run")) " of the sensor counted" }
                }
                thead { tr { th scope="col" { "What" } th.number scope="col" { "How many" } } }
                tbody { @for (what, count) in losses { tr { th scope="row" { (shown(what)) } td.number { (group_digits(*count)) } } } }
            } },
        }
        @if digest.health.is_empty() { p { "The sensor raised no alert on itself." } }
        @else {
            div.wide role="region" tabindex="0" aria-label="Alerts of the sensor on itself" { table id="sensor-alerts" {
                caption { "Alerts of the sensor on itself" }
                thead { tr { th scope="col" { "Time" } th scope="col" { "What" } } }
                tbody { @for row in &digest.health { tr {
                    th scope="row" { (clock(&row.time)) }
                    td { (message(&row.document)) }
                } } }
            } }
            @let left_out = digest.health_known.saturating_sub(digest.health.len() as u64);
            @if left_out > 0 { p.note { (group_digits(left_out)) " more are not listed." } }
        }
    }
}

fn message(document: &str) -> String {
    let document = serde_json::from_str::<serde_json::Value>(document).unwrap_or_default();
    shown(document.get("message").and_then(serde_json::Value::as_str).unwrap_or("(no message)"))
}

#[cfg(test)]
mod tests {
    use super::sources;

    #[test]
    fn captures_of_one_name_are_one_entry_and_many_names_are_not_all_shown() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(sources(&names(&["a.pcap"])), "a.pcap");
        assert_eq!(sources(&names(&["a.pcap", "b.pcap", "a.pcap"])), "2 captures a.pcap, b.pcap");
        let many: Vec<String> = (0..9).map(|n| format!("{n}.pcap")).collect();
        assert_eq!(sources(&many), "0.pcap, 1.pcap, 2.pcap, 3.pcap, 4.pcap, 5.pcap, 3 more");
    }
}
