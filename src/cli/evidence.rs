//! `outfall evidence`: puts what an alert rests on into a folder or a zip file, checked by `outfall evidence verify`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::evidencing::AROUND;
use super::name_of;
use super::replay::{Inputs, configured, play};
use crate::capture::{Batch, Reader};
use crate::config::{Config, beside};
use crate::endpoint::{Event, Following, Intake, Observation, printable};
use crate::evidence::{
    Bundle, Case, Cutter, MANIFEST, Made, Missing, Verified, Wanted, copy, folder_in, free, numbered, verify,
};
use crate::net::{ByteSize, group_digits};
use crate::sensor::Outcome;
use crate::store::Reading;

/// What `outfall evidence` is told.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvidenceArgs {
    #[command(subcommand)]
    command: Option<EvidenceCommand>,

    /// The alert: its `event.id`
    #[arg(required = true, value_name = "ALERT-ID")]
    alert: Option<String>,

    /// Captures of that time (pcap or pcapng, plain or compressed), whose packets of the alert's connections are kept; without any,
    /// what the sensor has written by itself (`evidence.directory`) is checked and handed out
    #[arg(value_name = "CAPTURE")]
    captures: Vec<PathBuf>,

    /// Endpoint events of that time, of which those of the alert's host are kept; may be given several times
    #[arg(long, value_name = "EVENTS")]
    endpoint: Vec<PathBuf>,

    /// The configuration in force; without it the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The database that has the alert, and what was normal; without it, the captures are replayed to find the alert
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// The folder to make, or the file if this ends in .zip [default: evidence-ALERT-ID]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// What else can be done.
#[derive(Debug, clap::Subcommand)]
pub enum EvidenceCommand {
    /// Check a folder or a zip file: whether every file is what it was; exit status 1 if not
    Verify {
        /// The folder or the file
        path: PathBuf,
        /// The SHA-256 of its manifest, as it was said when the evidence was made
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
    },
}

/// Writes or checks.
///
/// # Errors
/// If the alert is not found, an input cannot be read, or the output not be written.
pub fn run(args: &EvidenceArgs) -> anyhow::Result<ExitCode> {
    match (&args.command, &args.alert) {
        (Some(EvidenceCommand::Verify { path, sha256 }), _) => check(path, sha256.as_deref()),
        (None, Some(id)) => make(args, id),
        (None, None) => bail!("name an alert"),
    }
}

fn check(path: &Path, sha256: Option<&str>) -> anyhow::Result<ExitCode> {
    let Verified { alert, files, manifest, faults } = verify(path)?;
    let other = sha256.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&manifest));
    let name = path.display().to_string();
    let name = printable(&name);
    let mut text = String::new();
    if other {
        text.push_str("manifest.json: is not the one that was made\n");
    }
    faults.iter().for_each(|fault| text.push_str(&format!("{fault}\n")));
    let bad = other || !faults.is_empty();
    let what = if bad { "FAILED" } else { "ok" };
    text.push_str(&format!(
        "{name}: {what}: alert {}, {files} files, manifest SHA-256 {manifest}\n",
        printable(&alert)
    ));
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn make(args: &EvidenceArgs, id: &str) -> anyhow::Result<ExitCode> {
    let inputs = Inputs {
        captures: args.captures.clone(),
        endpoint: args.endpoint.clone(),
        config: args.config.clone(),
        exceptions: None,
        state: None,
        workers: None,
    };
    let standard = |path: &PathBuf| path.as_path() == Path::new("-");
    ensure!(
        !args.captures.iter().chain(&args.endpoint).any(standard),
        "standard input: evidence reads its inputs more than once; name files"
    );
    let default = || PathBuf::from(format!("evidence-{}", if crate::evidence::is_id(id) { id } else { "alert" }));
    let output = args.output.clone().unwrap_or_else(default);
    let shown = output.display().to_string();
    let shown = printable(&shown);
    ensure!(output.symlink_metadata().is_err(), "{shown}: is there already; name another with --output");
    let config = configured(&inputs)?;
    if args.captures.is_empty() {
        return hand_out(args, id, &config, &output);
    }
    let reading = args.state.as_deref().map(Reading::open).transpose()?;
    let document = match &reading {
        Some(reading) => reading.alert(id)?.context(format!("{}: the database has no such alert", printable(id)))?,
        None => replayed(&inputs, id)?,
    };
    let alert: Value = serde_json::from_str(&document).context("the alert's document cannot be read")?;
    let wanted = Wanted::of(&alert)?;
    let folder = folder_of(&output);
    let free = free(folder).with_context(|| format!("{shown}: the free space is not known"))?;
    let left = free.saturating_sub(config.evidence.min_free.0);
    ensure!(left > 0, "{shown}: less than `evidence.min_free` is free there");
    // Whoever looks meanwhile sees nothing, or all of it.
    let place = folder_in(folder)?;
    let events = events(&alert, &wanted, &args.endpoint, &config)?;
    let told = events.1;
    let baseline = reading.map(|reading| reading.facts(&alert, None)).transpose()?;
    let configuration = if args.config.is_some() { "the one that was named" } else { "none was named: the defaults" };
    // As a folder, then packed; the uploaded files come out of the packets again.
    let carved = if config.evidence.carve { config.evidence.max_carved.0 } else { 0 };
    let left = left.saturating_sub(events.0.len() as u64).saturating_sub(carved) / if is_zip(&output) { 2 } else { 1 };
    ensure!(left > 0, "{shown}: less than `evidence.min_free` would stay free there");
    let origin = vec![
        ("configuration", configuration.into()),
        ("captures", args.captures.iter().map(|path| name_of(path)).collect::<Vec<_>>().into()),
    ];
    let case = Case { alert: &alert, wanted: &wanted, config: &config, baseline, events, origin };
    let most = ByteSize(config.evidence.max_packets.0.min(left));
    let made = case.write(place.path(), most, |cutter| packets(cutter, &args.captures))?;
    let Made { manifest, cut, carved } = made;
    ensure!(cut.packets > 0, "the captures hold no packet of the alert's connections");
    if is_zip(&output) {
        Bundle::pack(place.path(), &output)?;
    } else {
        std::fs::rename(place.path(), &output).with_context(|| format!("{shown}: cannot be made"))?;
        // There is nothing left to remove.
        let _ = place.keep();
    }
    let mut text = format!(
        "{shown}: alert {}: {} packets, {} endpoint events\nmanifest SHA-256 {manifest}\n",
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
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
}

/// Checks what the sensor wrote by itself of the alert, and copies it.
fn hand_out(args: &EvidenceArgs, id: &str, config: &Config, output: &Path) -> anyhow::Result<ExitCode> {
    let directory = beside(&config.evidence.directory, args.config.as_deref());
    let directory = directory.context(
        "name the captures of that time, or the --config of a sensor that writes evidence by itself (`evidence.directory`)",
    )?;
    ensure!(
        args.endpoint.is_empty() && args.state.is_none(),
        "without captures, what the sensor wrote is handed out as it is: leave out --endpoint and --state"
    );
    let all = numbered(&directory, id)?;
    // Told again much later, an alert may have no packets any more: then an earlier word on it tells more.
    let counted = |path: &PathBuf| packets_of(path) > 0;
    let best = all.iter().rev().map(|(_, path)| path).find(|path| counted(path)).or(all.last().map(|(_, path)| path));
    let found = best.with_context(|| {
        format!("{}: has no evidence of {}; name the captures of that time", directory.display(), printable(id))
    })?;
    let Verified { manifest, faults, .. } = verify(found)?;
    ensure!(
        faults.is_empty(),
        "{}: is not what was written: see `outfall evidence verify`",
        printable(&found.display().to_string())
    );
    if is_zip(output) {
        Bundle::pack(found, output)?;
    } else {
        let place = folder_in(folder_of(output))?;
        copy(found, place.path())?;
        std::fs::rename(place.path(), output).with_context(|| format!("{}: cannot be made", output.display()))?;
        // There is nothing left to remove.
        let _ = place.keep();
    }
    let text = format!(
        "{}: alert {}, as the sensor wrote it: {} packets; told {} times\nmanifest SHA-256 {manifest}\n",
        printable(&output.display().to_string()),
        printable(id),
        group_digits(packets_of(found)),
        all.len()
    );
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
}

/// Packets of a bundle, as its manifest says.
fn packets_of(bundle: &Path) -> u64 {
    let text = std::fs::read(bundle.join(MANIFEST)).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&text).unwrap_or_default();
    manifest.pointer("/packets/count").and_then(Value::as_u64).unwrap_or(0)
}

fn is_zip(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
}

fn folder_of(output: &Path) -> &Path {
    output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
                    let mut line = serde_json::to_value(&event.line).unwrap_or_default();
                    if let (Some(object), false) = (line.as_object_mut(), matches!(event.line.event, Event::Hello(_))) {
                        object.insert("host".to_owned(), Value::from(&*event.host));
                    }
                    text.extend_from_slice(format!("{line}\n").as_bytes());
                    count += 1;
                }
            };
            intake.read(&shown, input, &mut sink)?;
        }
    }
    Ok((text, count))
}
