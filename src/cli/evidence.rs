//! `outfall evidence`: puts what an alert rests on into a folder or a zip file, checked by `outfall evidence verify`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::name_of;
use super::replay::{Inputs, configured, play};
use crate::capture::{Batch, Reader};
use crate::config::Config;
use crate::endpoint::{Event, Following, Intake, Observation, printable};
use crate::evidence::{Bundle, Cut, Cutter, Verified, Wanted, verify};
use crate::net::{Span, group_digits};
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

    /// Captures of that time (pcap or pcapng, plain or compressed), whose packets of the alert's connections are kept
    #[arg(required = true, value_name = "CAPTURE")]
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

/// How long after an upload what its host reported belongs to it.
const AFTER: Span = Span::seconds(3_600);

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
    let reading = args.state.as_deref().map(Reading::open).transpose()?;
    let document = match &reading {
        Some(reading) => reading.alert(id)?.context(format!("{}: the database has no such alert", printable(id)))?,
        None => replayed(&inputs, id)?,
    };
    let alert: Value = serde_json::from_str(&document).context("the alert's document cannot be read")?;
    let wanted = Wanted::of(&alert)?;
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Whoever looks meanwhile sees nothing, or all of it.
    let beside = tempfile::Builder::new().prefix(".evidence-").tempdir_in(folder);
    let beside = beside.with_context(|| format!("{shown}: cannot be made"))?;
    let place = beside.path().join("evidence");
    let mut bundle = Bundle::create(&place)?;
    bundle.put("alert.json", format!("{alert:#}\n").as_bytes())?;
    bundle.put("configuration.toml", in_force(&config).as_bytes())?;
    let facts = reading.map(|reading| reading.facts(&alert)).transpose()?;
    if let Some(facts) = &facts {
        bundle.put("baseline.json", format!("{facts:#}\n").as_bytes())?;
    }
    let cut = packets(&mut bundle, &wanted, &args.captures, config.evidence.max_packets.0)?;
    let events = events(&mut bundle, &alert, &wanted, &args.endpoint, &config)?;
    ensure!(cut.packets > 0, "the captures hold no packet of the alert's connections");
    let manifest = bundle.finish(json!({
        "alert": wanted.id,
        "made_by": format!("outfall {}", env!("CARGO_PKG_VERSION")),
        "made_at": jiff::Timestamp::now().to_string(),
        "clock": clock(),
        "captures": args.captures.iter().map(|path| name_of(path)).collect::<Vec<_>>(),
        "packets": { "count": cut.packets, "bytes": cut.bytes, "left_out": cut.left_out },
        "endpoint_events": events,
        "baseline": if facts.is_some() { "as the database has it now" } else { "none was kept" },
        "uploaded_file": "not carved",
    }))?;
    if output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip")) {
        Bundle::pack(&place, &output)?;
    } else {
        std::fs::rename(&place, &output).with_context(|| format!("{shown}: cannot be made"))?;
    }
    let mut text = format!(
        "{shown}: alert {}: {} packets, {} endpoint events\nmanifest SHA-256 {manifest}\n",
        wanted.id,
        group_digits(cut.packets),
        group_digits(events)
    );
    if cut.left_out > 0 {
        let left_out = group_digits(cut.left_out);
        text.push_str(&format!("{left_out} packets left out: more than `evidence.max_packets`\n"));
    }
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
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

fn packets(bundle: &mut Bundle, wanted: &Wanted, captures: &[PathBuf], most: u64) -> anyhow::Result<Cut> {
    let (path, file) = bundle.file("packets.pcapng")?;
    let unwritten = || format!("{}: cannot be written", path.display());
    let mut cutter = Cutter::new(wanted.clone(), file, most).with_context(unwritten)?;
    let mut reader = Reader::open(captures)?;
    let mut batch = Batch::default();
    while reader.fill(&mut batch)? {
        for packet in batch.packets() {
            cutter.take(&packet).with_context(unwritten)?;
        }
    }
    cutter.finish().with_context(unwritten)
}

/// What the alert's host reported: its processes before the end of the upload, the rest from the look-back on.
fn events(
    bundle: &mut Bundle,
    alert: &Value,
    wanted: &Wanted,
    inputs: &[PathBuf],
    config: &Config,
) -> anyhow::Result<u64> {
    let Some(host) = alert.pointer("/host/id").or(alert.pointer("/host/name")).and_then(Value::as_str) else {
        return Ok(0);
    };
    let (start, end) = wanted.span;
    let from = start.before(config.join.look_back).before(AFTER);
    let belongs = |event: &Observation| {
        let at = event.line.event.ts();
        let lasts = matches!(event.line.event, Event::Hello(_) | Event::ProcessStart(_));
        event.host.eq_ignore_ascii_case(host) && (lasts || at >= from) && at.before(AFTER) <= end
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
    if count > 0 {
        bundle.put("events.jsonl", &text)?;
    }
    Ok(count)
}

/// The configuration, as a file that reads the same.
fn in_force(config: &Config) -> String {
    let changes = config.changes();
    let mut text = format!("# Of outfall {}; what is not here has its default.\n", env!("CARGO_PKG_VERSION"));
    changes.iter().for_each(|change| text.push_str(&format!("{} = {}\n", change.key, change.value)));
    text
}

fn clock() -> Value {
    #[cfg(target_os = "linux")]
    if let Ok((synchronised, most)) = crate::capture::live::environment::clock() {
        return json!({ "synchronised": synchronised, "largest_error_microseconds": most });
    }
    json!({ "synchronised": null })
}
