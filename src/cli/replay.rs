//! `outfall replay`: captures and endpoint events in, uploads and alerts out.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

#[cfg(target_os = "linux")]
use super::delivering::Delivering;
use super::keeping::Keeper;
use super::output::Output;
use super::summary;
use crate::capture::Reader;
use crate::config::{Config, Format};
use crate::deliver::Form;
#[cfg(target_os = "linux")]
use crate::deliver::{Opened, Prepared};
use crate::detect::Places;
use crate::endpoint::{Counters, History, Intake, IntakeError, printable};
use crate::sensor::{Judgement, LANES, Outcome, Replay, ReplayError, SensorCounters};
use crate::store::{Bounds, Store, file_of};

/// What `outfall replay` is told.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    inputs: Inputs,

    /// Print one ECS document per line instead of a table
    #[arg(long)]
    json: bool,

    /// Also print a record for every TCP flow, whatever its protocol
    #[arg(long)]
    flows: bool,

    /// Print the alerts alone, one a line: ecs, ocsf, cef or text
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["json", "flows"])]
    format: Option<Format>,

    /// Deliver the alerts to the syslog collectors and files of the configuration; waits for `deliver.drain` at most
    #[cfg(target_os = "linux")]
    #[arg(long, requires = "config")]
    deliver: bool,
}

/// What is replayed, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Inputs {
    /// Captures (pcap or pcapng, plain or compressed with gzip or zstd), merged by time; `-` is standard input
    #[arg(required = true, value_name = "CAPTURE")]
    pub(super) captures: Vec<PathBuf>,

    /// What the hosts in the captures reported: events as JSON Lines, Windows event logs as JSON, XML or .evtx; plain or gzip;
    /// may be given several times
    #[arg(long, value_name = "EVENTS")]
    pub(super) endpoint: Vec<PathBuf>,

    /// Configuration file; without it the defaults hold (see `outfall config default`)
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Exceptions, as `outfall exception export` writes them
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub(super) exceptions: Option<PathBuf>,

    /// Keep uploads, alerts and what is normal here in this database, and go on from what it knows; its exceptions hold
    #[arg(long, value_name = "FILE")]
    pub(super) state: Option<PathBuf>,

    /// Worker threads, 1 to 16; the output is the same for any number [default: `replay.workers`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=LANES as i64))]
    pub(super) workers: Option<u16>,
}

/// From this size on a progress bar is worth showing, in bytes.
const LARGE: u64 = 64 << 20;

/// Replays, and prints what comes out.
///
/// # Errors
/// If a file cannot be read, or is not what it should be.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let output = RefCell::new(Output::new(std::io::stdout().lock(), args.json, args.flows));
    let form = args.format.map(|format| Form::new(format, ""));
    #[cfg(target_os = "linux")]
    let delivering = delivering(args)?;
    let mut put = |outcome: &Outcome| {
        #[cfg(target_os = "linux")]
        delivering.put_patiently(outcome);
        match &form {
            Some(form) => output.borrow_mut().text(&alert_line(form, outcome)),
            None => output.borrow_mut().put(outcome),
        }
    };
    let played = play(&args.inputs, &mut put, &|| output.borrow().is_wanted())?;
    let mut output = output.into_inner();
    #[cfg(target_os = "linux")]
    let delivered = delivering.finish(&mut |_| {});
    let counters = played.counters?;
    if !args.json && args.format.is_none() {
        output.text(&summary::text(played.reader.counters(), &counters, &played.judgement, &played.intake));
        #[cfg(target_os = "linux")]
        output.text(&delivered.as_ref().map(super::delivering::summary).unwrap_or_default());
    }
    output.finish().context("cannot write the output")?;
    // The system takes all of it back at once when the program ends, which is now.
    std::mem::forget(played.judgement);
    #[cfg(target_os = "linux")]
    if let Some(delivered) = delivered {
        let losses = super::delivering::losses(&delivered).into_iter().filter(|(.., count)| *count > 0);
        let losses = losses.map(|(_, what, count)| format!("{what}: {count}"));
        let said: Vec<String> = losses.chain(super::delivering::waiting(&delivered)).collect();
        said.iter().for_each(|line| eprintln!("outfall: warning: {}", printable(line)));
        if !said.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An alert on a line of its own; nothing for what is none.
fn alert_line(form: &Form, outcome: &Outcome) -> String {
    let Outcome::Alert(alert) = outcome else { return String::new() };
    let document = serde_json::from_str(&alert.document().to_string()).ok();
    let line = document.and_then(|document| form.body(document, |_| true));
    line.map(|(line, _)| line + "\n").unwrap_or_default()
}

/// Delivery of what is replayed, if that is asked for.
#[cfg(target_os = "linux")]
fn delivering(args: &ReplayArgs) -> anyhow::Result<Delivering> {
    if !args.deliver {
        return Ok(Delivering::start(None, &Config::default())?);
    }
    let config = configured(&args.inputs)?;
    let prepared = Prepared::read(&config, file_of(&config, args.inputs.config.as_deref()), None)?;
    anyhow::ensure!(
        prepared.as_ref().is_some_and(Prepared::delivers),
        "--deliver: the configuration names no place to deliver to: see `[[deliver.syslog]]` and `[[deliver.file]]`"
    );
    let mut opened = prepared.map(Prepared::open).transpose()?;
    // Nothing is lost if a replay does not start.
    if let Some(fault) = opened.as_mut().and_then(Opened::take_fault) {
        return Err(fault.into());
    }
    Ok(Delivering::start(opened, &config)?)
}

pub(super) fn configured(inputs: &Inputs) -> anyhow::Result<Config> {
    Ok(match &inputs.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    })
}

/// What came of a replay.
pub(super) struct Played {
    pub(super) reader: Reader,
    pub(super) judgement: Judgement,
    pub(super) intake: Counters,
    /// An error if the captures could not be read to their end; all that came before has been put out.
    pub(super) counters: Result<SensorCounters, ReplayError>,
}

/// Replays; every outcome goes to `put`, for as long as it is `wanted`.
pub(super) fn play(
    inputs: &Inputs,
    put: &mut dyn FnMut(&Outcome),
    wanted: &dyn Fn() -> bool,
) -> anyhow::Result<Played> {
    let config = configured(inputs)?;
    let files = inputs.captures.iter().chain(&inputs.endpoint);
    if files.filter(|path| path.as_path() == Path::new("-")).count() > 1 {
        anyhow::bail!("standard input: `-` can stand for only one of the inputs");
    }
    let mut reader = Reader::open(&inputs.captures)?;
    let (history, intake) = read_events(&inputs.endpoint, &config)?;
    let workers = inputs.workers.map_or(config.replay.workers, u64::from);

    let mut judgement = Judgement::new(&config, history);
    judgement.locate(Places::open(&config.network)?);
    let mut keeper = None;
    if let Some(path) = &inputs.state {
        let mut store = Store::open(path)?;
        store.forget_unseen(config.store.baseline_age)?;
        judgement.restore(store.baseline()?.0);
        super::excepting::restore(&store, &mut judgement)?;
        keeper = Some(Keeper::new(store, Bounds::of(&config.store)));
    }
    let mut failed = None;
    if let Some(path) = &inputs.exceptions {
        judgement.exceptions_mut().replace(super::exception::load(path)?);
    }
    let bar = progress_bar(&reader);
    let counters = Replay::new(&mut reader, &config, usize::try_from(workers).unwrap_or(1)).run(
        |fact| {
            judgement.take(fact, &mut |outcome| {
                keeper.iter_mut().for_each(|keeper| keeper.put(&outcome));
                put(&outcome);
            });
            if let Some(full) = keeper.as_mut().filter(|keeper| keeper.is_full()) {
                failed = full.write(judgement.changes()).err();
                if failed.is_some() {
                    keeper = None;
                }
            }
        },
        |position| {
            if let Some(bar) = &bar {
                bar.set_position(position);
            }
            wanted()
        },
    );
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    judgement.finish(&mut |outcome| {
        keeper.iter_mut().for_each(|keeper| keeper.put(&outcome));
        put(&outcome);
    });
    if let Some(keeper) = &mut keeper {
        failed = keeper.write(judgement.changes()).err();
    }
    if let (Some(error), Some(path)) = (failed, &inputs.state) {
        eprintln!("outfall: warning: {}: not all was kept: {error}", printable(&path.display().to_string()));
    }
    for warning in &reader.counters().warnings {
        eprintln!("outfall: warning: {}", printable(warning));
    }
    Ok(Played { reader, judgement, intake, counters })
}

/// Reads all endpoint events before the first packet, so that an event that was logged late still counts.
fn read_events(paths: &[PathBuf], config: &Config) -> anyhow::Result<(History, Counters)> {
    let mut history = History::new(config.endpoint.memory).with_memory_per_host(config.endpoint.memory_per_host);
    let mut intake = Intake::new(config.endpoint.max_line);
    let mut broken = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let mut sink = |event| history.insert(event);
        let read = if path == Path::new("-") {
            intake.read("standard input", std::io::stdin().lock(), &mut sink)
        } else {
            let file = File::open(path).with_context(|| format!("{name}: cannot open the endpoint events"))?;
            intake.read(&name, BufReader::new(file), &mut sink)
        };
        match read {
            Ok(()) => {}
            // What came before the input broke off is as good as ever.
            Err(error @ IntakeError::Read { line: 1.., .. }) => {
                broken.push(format!("{:#}", anyhow::Error::from(error)))
            }
            Err(error) => return Err(error.into()),
        }
    }
    let counters = intake.counters();
    let warnings = intake.take_warnings();
    let unlisted = counters.warnings.saturating_sub(warnings.len() as u64);
    let listed = warnings.iter().map(ToString::to_string).chain(broken);
    let rest = (unlisted > 0).then(|| format!("{unlisted} more warnings on endpoint events are not listed"));
    let mut stderr = std::io::stderr().lock();
    for warning in listed.chain(rest) {
        // Nothing can be said if standard error is gone.
        let _ = writeln!(stderr, "outfall: warning: {}", printable(&warning));
    }
    Ok((history, counters))
}

fn progress_bar(reader: &Reader) -> Option<indicatif::ProgressBar> {
    let total = reader.total()?;
    if total < LARGE || !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = indicatif::ProgressBar::new(total);
    if let Ok(style) =
        indicatif::ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    Some(bar)
}
