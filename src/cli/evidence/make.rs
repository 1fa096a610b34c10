//! Evidence made of captures and endpoint events that the site keeps.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{EvidenceArgs, Output};
use crate::capture::{Batch, Reader};
use crate::cli::evidencing::AROUND;
use crate::cli::name_of;
use crate::cli::replay::{Inputs, play};
use crate::config::Config;
use crate::endpoint::{Event, Following, Intake, Observation, printable};
use crate::evidence::{Case, Cutter, Made, Missing, NoBaseline, Wanted};
use crate::net::{ByteSize, group_digits};
use crate::sensor::Outcome;
use crate::store::Reading;

/// Makes it, and says what it made.
///
/// # Errors
/// If the alert is not found, an input cannot be read, or the output not be written.
pub(super) fn make(
    args: &EvidenceArgs,
    id: &str,
    inputs: &Inputs,
    config: &Config,
    output: Output,
) -> anyhow::Result<String> {
    let reading = args.state.as_deref().map(Reading::open).transpose()?;
    let document = match &reading {
        Some(reading) => reading.alert(id)?.context(format!("{}: the database has no such alert", printable(id)))?,
        None => replayed(inputs, id)?,
    };
    let alert: Value = serde_json::from_str(&document).context("the alert's document cannot be read")?;
    let wanted = Wanted::of(&alert)?;
    let events = events(&alert, &wanted, &args.endpoint, config)?;
    let told = events.1;
    let baseline = match reading {
        Some(reading) => Ok(reading.facts(&alert, None)?),
        None => Err(NoBaseline::NotKept),
    };
    let configuration = if args.config.is_some() { "the one that was named" } else { "none was named: the defaults" };
    // The uploaded files come out of the packets again.
    let carved = if config.evidence.carve { config.evidence.max_carved.0 } else { 0 };
    let left = output.room(config, carved.saturating_add(events.0.len() as u64))?;
    let place = output.begin()?;
    let origin = vec![
        ("configuration", configuration.into()),
        ("captures", args.captures.iter().map(|path| name_of(path)).collect::<Vec<_>>().into()),
    ];
    let case = Case { alert: &alert, wanted: &wanted, config, baseline, events, origin };
    let most = ByteSize(config.evidence.max_packets.0.min(left));
    let made = case.write(place.path(), most, |cutter| packets(cutter, &args.captures))?;
    let Made { manifest, cut, carved } = made;
    ensure!(cut.packets > 0, "the captures hold no packet of the alert's connections");
    output.put(place)?;
    let mut text = format!(
        "{}: alert {}: {} packets, {} endpoint events\nmanifest SHA-256 {manifest}\n",
        output.shown,
        wanted.id,
        group_digits(cut.packets),
        group_digits(told)
    );
    if carved > 0 {
        text.push_str(&format!("{} uploaded files carved\n", group_digits(carved as u64)));
    }
    if cut.left_out > 0 {
        let left_out = group_digits(cut.left_out);
        text.push_str(&format!("{left_out} packets left out: more than `evidence.max_packets`\n"));
    }
    Ok(text)
}

/// The last word of a replay on the alert.
fn replayed(inputs: &Inputs, id: &str) -> anyhow::Result<String> {
    let (mut found, mut seen) = (None, Vec::new());
    let mut put = |outcome: &Outcome| {
        if let Outcome::Alert(alert) = outcome {
            let this = alert.id.to_string();
            if this == id {
                found = Some(alert.document().to_string());
            } else if seen.len() < 8 {
                seen.push(this);
            }
        }
    };
    let played = play(inputs, &mut put, &|| true)?;
    played.counters?;
    found.with_context(|| match seen.as_slice() {
        [] => format!("{}: these captures raise no alert; name the --endpoint events and the --config of that time, or the --state that has the alert", printable(id)),
        seen => format!("{}: these captures raise no such alert, but {}", printable(id), seen.join(", ")),
    })
}

fn packets(cutter: &mut Cutter, captures: &[PathBuf]) -> anyhow::Result<Missing> {
    let mut reader = Reader::open(captures)?;
    let mut batch = Batch::default();
    while reader.fill(&mut batch)? {
        for packet in batch.packets() {
            cutter.take(&packet)?;
        }
    }
    // What else an input lacks is not known.
    Ok(Missing { cut_captures: reader.counters().truncated_files, ..Missing::default() })
}

/// What the alert's host reported: its processes before the end of the upload, the rest from the look-back on.
fn events(alert: &Value, wanted: &Wanted, inputs: &[PathBuf], config: &Config) -> anyhow::Result<(Vec<u8>, u64)> {
    let Some(host) = alert.pointer("/host/id").or(alert.pointer("/host/name")).and_then(Value::as_str) else {
        return Ok((Vec::new(), 0));
    };
    let (start, end) = wanted.span;
    let from = start.before(config.join.look_back).before(AROUND);
    let belongs = |event: &Observation| {
        let at = event.line.event.ts();
        let lasts = matches!(event.line.event, Event::Hello(_) | Event::ProcessStart(_));
        event.host.eq_ignore_ascii_case(host) && (lasts || at >= from) && at.before(AROUND) <= end
    };
    let (mut text, mut count) = (Vec::new(), 0);
    for path in inputs {
        let shown = path.display().to_string();
        let mut intake = Intake::new(config.endpoint.max_line);
        let mut input = BufReader::new(File::open(path).with_context(|| format!("{shown}: cannot be read"))?);
        let plain = input.fill_buf().is_ok_and(|bytes| bytes.starts_with(b"{"));
        if plain {
            // Lines are kept as they came: so nothing of what a log tells is lost.
            let (mut following, mut line) = (Following::new(shown.clone()), Vec::new());
            while input.read_until(b'\n', &mut line).with_context(|| format!("{shown}: cannot be read"))? > 0 {
                if !line.ends_with(b"\n") {
                    line.push(b'\n');
                }
                let mut wanted = false;
                intake.follow(&mut following, &line, &mut |event| wanted |= belongs(&event))?;
                if wanted {
                    text.extend_from_slice(&line);
                    count += 1;
                }
                line.clear();
            }
        } else {
            let mut sink = |event: Observation| {
                if belongs(&event) {
                    text.extend_from_slice(event.line.written(&event.host).as_bytes());
                    count += 1;
                }
            };
            intake.read(&shown, input, &mut sink)?;
        }
    }
    Ok((text, count))
}
