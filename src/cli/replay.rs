//! `outfall replay`: captures and endpoint events in, uploads and alerts out.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::keeping::Keeper;
use super::output::Output;
use super::summary;
use crate::capture::Reader;
use crate::config::Config;
use crate::detect::Places;
use crate::endpoint::{Counters, History, Intake, IntakeError, printable};
use crate::sensor::{Judgement, LANES, Outcome, Replay, ReplayError, SensorCounters};
use crate::store::{Bounds, Store};

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
}

/// What is replayed, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Inputs {
    /// Captures (pcap or pcapng, plain or compressed with gzip or zstd), merged by time; `-` is standard input
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,

    /// What the hosts in the captures reported: events as JSON Lines, Windows event logs as JSON, XML or .evtx; plain or gzip;
    /// may be given several times
    #[arg(long, value_name = "EVENTS")]
    endpoint: Vec<PathBuf>,

    /// Configuration file; without it the defaults hold (see `outfall config default`)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Keep uploads, alerts and what is normal here in this database, and go on from what it knows
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Worker threads, 1 to 16; the output is the same for any number [default: `replay.workers`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=LANES as i64))]
    workers: Option<u16>,
}

/// From this size on a progress bar is worth showing, in bytes.
const LARGE: u64 = 64 << 20;

/// Replays, and prints what comes out.
///
/// # Errors
/// If a file cannot be read, or is not what it should be.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let output = RefCell::new(Output::new(std::io::stdout().lock(), args.json, args.flows));
    let played = play(&args.inputs, &mut |outcome| output.borrow_mut().put(outcome), &|| output.borrow().is_wanted())?;
    let mut output = output.into_inner();
    let counters = played.counters?;
    if !args.json {
        output.text(&summary::text(played.reader.counters(), &counters, &played.judgement, &played.intake));
    }
    output.finish().context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
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
    let config = match &inputs.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
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
        keeper = Some(Keeper::new(store, Bounds::of(&config.store)));
    }
    let mut failed = None;
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
        |reader| {
            if let Some(bar) = &bar {
                bar.set_position(reader.position());
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
