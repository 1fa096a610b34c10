//! `outfall report`: one HTML file of what a database holds, or of captures that are replayed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use super::replay::{Inputs, configured, play};
use super::{name_of, now};
use crate::detect::{ReviewBounds, parse_when, review};
use crate::net::{Span, Timestamp};
use crate::report::{Due, ReportData, html};
use crate::sensor::LANES;
use crate::store::{Act, DigestBounds, Reading, Store, file_of};

/// What `outfall report` is told.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Captures to replay first (pcap or pcapng, plain or compressed); none: the report is of the database alone
    #[arg(value_name = "CAPTURE")]
    captures: Vec<PathBuf>,

    /// What the hosts in the captures reported, as `outfall replay` takes it; may be given several times
    #[arg(long, value_name = "EVENTS", requires = "captures")]
    endpoint: Vec<PathBuf>,

    /// Configuration file: for the replay, and to find the sensor's database
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Exceptions for the replay, as `outfall exception export` writes them
    #[arg(long, value_name = "FILE", requires = "captures", conflicts_with = "state")]
    exceptions: Option<PathBuf>,

    /// The database; captures are replayed into it. Without it a replay uses one that is gone afterwards
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Worker threads of the replay, 1 to 16 [default: `replay.workers`]
    #[arg(long, value_name = "N", requires = "captures", value_parser = clap::value_parser!(u16).range(1..=LANES as i64))]
    workers: Option<u16>,

    /// The HTML file to write, in the place of what is there, and readable by its owner alone; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Alerts that are shown in full; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    alerts: u64,

    /// Processes, destinations, hosts and pairs that are listed of each; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=100))]
    top: u64,

    /// For when exceptions are reviewed: a date or a time in UTC, or `now` [default: the end of the last upload]
    #[arg(long, value_name = "WHEN", value_parser = when)]
    at: Option<Timestamp>,
}

/// Bars of the timeline.
const SLOTS: u64 = 60;
/// What expires within this is said to.
const SOON: Span = Span::seconds(30 * 86_400);
/// What has hidden nothing for so long is said to.
const UNUSED: Span = Span::seconds(90 * 86_400);
/// So many processes, destinations or hosts are many for one exception.
const WIDE: u64 = 10;

fn when(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(now());
    }
    parse_when(text).ok_or_else(|| "expected a date such as 2027-03-31, a time in UTC, or now".to_owned())
}

/// Writes the report.
///
/// # Errors
/// If captures or the database cannot be read, or the file cannot be written.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let inputs = Inputs {
        captures: args.captures.clone(),
        endpoint: args.endpoint.clone(),
        config: args.config.clone(),
        exceptions: None,
        state: args.state.clone(),
        workers: args.workers,
    };
    let (data, replayed) = if args.captures.is_empty() {
        let path = match &args.state {
            Some(path) => path.clone(),
            None => {
                ensure!(args.config.is_some(), "what is the report of? Name captures, --state or --config");
                file_of(&configured(&inputs)?, inputs.config.as_deref())
                    .context("a sensor with this configuration keeps nothing: set `store.path`")?
            }
        };
        (read(args, &path, vec![name_of(&path)], None)?, Ok(()))
    } else {
        replay(args, inputs)?
    };
    write(&args.output, &html(&data))?;
    replayed?;
    Ok(ExitCode::SUCCESS)
}

/// The last part says if the captures could not be read to their end: the report is of what came before.
fn replay(args: &ReportArgs, mut inputs: Inputs) -> anyhow::Result<(ReportData, anyhow::Result<()>)> {
    let folder = tempfile::tempdir().context("no place for the database of the replay")?;
    let path = args.state.clone().unwrap_or_else(|| folder.path().join("outfall.db"));
    if let Some(file) = &args.exceptions {
        let wanted = super::exception::load(file)?;
        let act = Act { at: Timestamp(0), who: "report", action: "import", why: "of the replay" };
        let most = configured(&inputs)?.detect.max_exceptions;
        Store::open(&path)?.set_exceptions(&[], &wanted, false, false, most, &act)?;
    }
    inputs.state = Some(path.clone());
    let played = play(&inputs, &mut |_| {}, &|| true)?;
    let (counters, failed) = match played.counters {
        Ok(counters) => (Some(counters), Ok(())),
        Err(error) => (None, Err(error.into())),
    };
    let losses = counters.map(|counters| {
        let losses = super::summary::losses(played.reader.counters(), &counters, &played.judgement, &played.intake);
        losses.into_iter().map(|(_, what, count)| (what.to_owned(), count)).collect()
    });
    let sources = args.captures.iter().map(|path| name_of(path)).collect();
    Ok((read(args, &path, sources, losses)?, failed))
}

fn read(
    args: &ReportArgs,
    path: &Path,
    sources: Vec<String>,
    mut losses: Option<Vec<(String, u64)>>,
) -> anyhow::Result<ReportData> {
    let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let reading = Reading::open(path)?;
    let digest = reading.digest(&DigestBounds { alerts: whole(args.alerts), named: whole(args.top), slots: SLOTS })?;
    let reviewed = args.at.or(digest.span.map(|(_, end)| end)).unwrap_or_default();
    let bounds = ReviewBounds { now: reviewed, soon: SOON, unused: UNUSED, wide: WIDE };
    let mut runs = 0;
    if losses.is_none() {
        let (counted, of) = reading.losses()?;
        runs = of;
        losses = (runs > 0).then_some(counted);
    }
    let all = reading.into_exceptions()?;
    let exceptions = all.len() as u64;
    let due = all.into_iter().map(|(exception, usage)| {
        let findings = review(&exception, &usage, &bounds);
        Due { exception, findings }
    });
    let due = due.filter(|due| !due.findings.is_empty()).collect();
    Ok(ReportData { sources, digest, reviewed, exceptions, due, losses, runs })
}

/// Beside its place first: who looks meanwhile sees the old file or the new one.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    if path == Path::new("-") {
        return std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display();
    let mut file =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("{shown}: the report cannot be written"))?;
    file.write_all(text.as_bytes()).with_context(|| format!("{shown}: the report cannot be written"))?;
    file.persist(path).with_context(|| format!("{shown}: the report cannot be written"))?;
    Ok(())
}
