//! The pictures: what left over time, and from whom to whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuva::backend::svg::SvgBackend;
use kuva::plot::annotations::TextAnnotation;
use kuva::plot::{BarPlot, SankeyPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;
use kuva::render::theme::Theme;

use crate::endpoint::{base_name, shortened};
use crate::net::{ByteSize, Span, Timestamp};
use crate::store::{Flow, Timeline};

/// Width of a picture, in its own units; the page scales it.
const WIDTH: f64 = 1_000.0;
/// Characters of a name in a picture; the table beside it has the whole.
const NAME: usize = 30;
/// Labels below the bars.
const LABELS: u64 = 8;
/// Colours that the style defines, of protocols and of processes.
const COLOURS: usize = 6;

/// A colour of the style; what is beyond the last begins anew.
pub(super) fn colour(number: usize) -> String {
    format!("var(--c{})", number % COLOURS + 1)
}

/// A name as it stands in a picture: `$` would begin a formula.
fn label(name: &str) -> String {
    shortened(name, NAME).replace('$', "\\$")
}

fn theme() -> Theme {
    let (ink, line) = ("var(--ink)".to_owned(), "var(--line)".to_owned());
    Theme {
        background: "none".to_owned(),
        axis_color: line.clone(),
        grid_color: line.clone(),
        tick_color: line,
        text_color: ink,
        ..Theme::light()
    }
}

/// The picture with a name for those who do not see it, as wide as its place.
fn finished(plots: Vec<Plot>, layout: Layout, id: &str, title: &str) -> String {
    let svg = SvgBackend::new().render_scene(&render_multiple(plots, layout.with_theme(theme())));
    let (head, rest) = svg.split_once('>').unwrap_or(("<svg", ""));
    let size = |name: &str| {
        let (_, after) = head.split_once(&format!(" {name}=\""))?;
        Some(after.split_once('"')?.0.to_owned())
    };
    let (width, height) = (size("width").unwrap_or_default(), size("height").unwrap_or_default());
    let title = maud::html! { title id=(id) { (title) } }.into_string();
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}\" fill=\"var(--ink)\">{title}{}",
        // A comment names the library's version, which says nothing about the report.
        rest.split_once("-->").map_or(rest, |(_, rest)| rest)
    )
}

/// Bytes by protocol over time, with alerts marked. `protocols` gives the order of the colours.
pub(super) fn timeline(timeline: &Timeline, protocols: &[String]) -> String {
    let mut slots: BTreeMap<u64, BTreeMap<&str, u64>> = BTreeMap::new();
    for amount in &timeline.amounts {
        *slots.entry(amount.slot).or_default().entry(&amount.protocol).or_default() += amount.amount.bytes;
    }
    let every = timeline.slots.div_ceil(LABELS).max(1);
    let mut bars = BarPlot::new();
    let mut highest: u64 = 1;
    let mut sums = BTreeMap::new();
    for slot in 0..timeline.slots {
        let name = if slot % every == 0 { slot_name(timeline, slot) } else { String::new() };
        let of = slots.get(&slot);
        let amounts: Vec<u64> =
            protocols.iter().map(|name| of.and_then(|of| of.get(name.as_str())).copied().unwrap_or(0)).collect();
        let sum = amounts.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        highest = highest.max(sum);
        sums.insert(slot, sum);
        let values = amounts.into_iter().enumerate().map(|(n, bytes)| (bytes as f64, colour(n)));
        bars = bars.with_group(name, values.collect::<Vec<_>>());
    }
    let plots = vec![Plot::Bar(bars.with_stacked().with_width(0.82))];
    let mut layout = Layout::auto_from_plots(&plots)
        .with_width(WIDTH)
        .with_height(320.0)
        .with_tick_size(13)
        .with_body_size(14)
        .with_y_axis_min(0.0)
        .with_y_axis_max(highest as f64 * 1.25)
        .with_y_tick_format(TickFormat::Custom(Arc::new(|bytes| ByteSize(bytes.max(0.0) as u64).to_string())));
    for (slot, count) in &timeline.alerts {
        let above = sums.get(slot).copied().unwrap_or(0) as f64;
        let mark = if *count == 1 { "\u{25bc}".to_owned() } else { format!("\u{25bc}{count}") };
        layout = layout.with_annotation(TextAnnotation::new(mark, *slot as f64 + 1.0, above).with_font_size(16));
    }
    finished(plots, layout, "timeline-title", "Bytes that left over time, by protocol; the table below has the numbers")
}

/// When a slot begins, as short as its length allows.
pub(super) fn slot_name(timeline: &Timeline, slot: u64) -> String {
    const DAY: Span = Span::seconds(86_400);
    let at = Timestamp(timeline.start.0.saturating_add(timeline.width.0.saturating_mul(slot)));
    let text = at.to_string();
    let part = |from: usize, until: usize| text.get(from..until).unwrap_or_default().to_owned();
    if timeline.width >= DAY {
        part(0, 10)
    } else if timeline.width >= Span::seconds(3_600) {
        format!("{} {}", part(5, 10), part(11, 16))
    } else if timeline.width >= Span::seconds(60) {
        part(11, 16)
    } else {
        part(11, 19)
    }
}

/// From processes to destinations, by bytes.
pub(super) fn map(flows: &[Flow]) -> String {
    // A name on the left may be equal to one on the right, and a shortened one to another: nodes go by number.
    let mut processes: Vec<&Option<String>> = Vec::new();
    let mut destinations: Vec<&str> = Vec::new();
    let mut plot = SankeyPlot::new();
    plot.link_opacity = 0.45;
    plot.node_width = 16.0;
    plot.node_gap = 14.0;
    let place = |plot: &mut SankeyPlot, name: String, colour: String, column| {
        let id = plot.nodes.len();
        plot.nodes.push(kuva::plot::sankey::SankeyNode {
            id: id.to_string(),
            label: name,
            color: Some(colour),
            column: Some(column),
        });
        id
    };
    let mut ids: BTreeMap<(usize, String), usize> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| flow.amount.bytes > 0) {
        let name = flow.process.as_deref().unwrap_or_default().to_owned();
        let from = match ids.get(&(0, name.clone())) {
            Some(id) => *id,
            None => {
                let shown = flow.process.as_deref().map_or("(not known)", base_name);
                let colour = if flow.process.is_some() { colour(processes.len()) } else { "var(--soft)".to_owned() };
                processes.push(&flow.process);
                let id = place(&mut plot, label(shown), colour, 0);
                ids.insert((0, name), id);
                id
            }
        };
        let to = match ids.get(&(1, flow.destination.clone())) {
            Some(id) => *id,
            None => {
                destinations.push(&flow.destination);
                let id = place(&mut plot, label(&flow.destination), "var(--soft)".to_owned(), 1);
                ids.insert((1, flow.destination.clone()), id);
                id
            }
        };
        plot.links.push(kuva::plot::sankey::SankeyLink {
            source: from,
            target: to,
            value: flow.amount.bytes as f64,
            color: None,
        });
    }
    let rows = processes.len().max(destinations.len()).max(3);
    let plots = vec![Plot::Sankey(plot)];
    let layout = Layout::auto_from_plots(&plots)
        .with_width(WIDTH)
        .with_height(60.0 + 36.0 * rows as f64)
        .with_tick_size(13)
        .with_body_size(14);
    finished(plots, layout, "map-title", "Bytes from each process to each destination; the table below has the numbers")
}
