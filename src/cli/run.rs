//! `outfall run`: the live sensor, from its start to its summary.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::delivering::Delivering;
use super::events::Events;
use super::evidencing::{self, Evidencing};
use super::excepting::Excepting;
use super::listening::{self, Listening};
use super::metering::{self, Metering, Parts};
use super::output::Output;
use super::running::Running;
use super::service::Service;
use super::summary::Lost;
use super::target::Target;
use super::{counters, delivering, summary};
use crate::capture::live::{self, Interfaces};
use crate::config::{Config, is_interface};
use crate::deliver::{self, Opened, Prepared};
use crate::detect::Places;
use crate::endpoint::listener::{Bound, ListenerCounters};
use crate::endpoint::{self, History, printable};
use crate::evidence::WriterCounters;
use crate::metrics::ServerCounters;
use crate::sensor::live::{Live, LiveCounters};
use crate::sensor::sandbox::{self, Duties, Files, Open};
use crate::sensor::{Judgement, Outcome};
use crate::store::{Location, file_of};

/// What `outfall run` is told.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Interface to capture on; may be given several times [default: `capture.interfaces`]
    #[arg(long, value_name = "IF", value_parser = interface)]
    interface: Vec<String>,

    /// Endpoint events of the hosts, as JSON Lines; a plain file is read on as it grows; may be given several times
    #[arg(long, value_name = "EVENTS")]
    endpoint: Vec<PathBuf>,

    /// Configuration file; without it the defaults hold (see `outfall config default`)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Append to this file instead of printing; SIGHUP opens it anew
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print one ECS document per line instead of a table
    #[arg(long)]
    json: bool,

    /// Also print a record for every TCP flow, whatever its protocol
    #[arg(long)]
    flows: bool,
}

fn interface(name: &str) -> Result<String, String> {
    if is_interface(name) { Ok(name.to_owned()) } else { Err("not the name of an interface".to_owned()) }
}

/// How long the judging thread waits for something to be found before it looks at everything else.
const TURN: Duration = Duration::from_millis(100);

/// How often everything else is looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the sensor cannot start: bad input, an interface or a right that is not there. Once it runs, if a thread ends.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut config = load(args.config.as_deref())?;
    let interfaces = if args.interface.is_empty() { &config.capture.interfaces } else { &args.interface };
    let mut named = std::collections::BTreeSet::new();
    let interfaces: Vec<String> = interfaces.iter().filter(|name| named.insert(*name)).cloned().collect();
    anyhow::ensure!(
        !interfaces.is_empty(),
        "no interface to capture on: name one with --interface or `capture.interfaces`"
    );
    let places = Places::open(&config.network)?;
    let signals = Signals::catch()?;
    let mut history = History::new(config.endpoint.memory).with_memory_per_host(config.endpoint.memory_per_host);
    let mut events = Events::open(&args.endpoint, &config, &mut history)?;
    let mut output = Output::new(Target::open(args.output.as_deref())?, args.json, args.flows);
    let mut service = Service::from_environment();
    let feeds = live::open(&interfaces, &config.capture).map_err(explained)?;
    let watched = Interfaces::watch(&interfaces);
    if !watched.readable() {
        log("warning: /proc/self/net/dev cannot be read: what the interfaces themselves drop is not known");
    }
    let owner = owner(&config);
    let bound = Listening::bind(&config, owner)?;
    let file = file_of(&config, args.config.as_deref());
    let prepared = Prepared::read(&config, file.clone(), owner)?;
    let shelf = evidencing::directory(&config, args.config.as_deref(), owner)?;
    let (asked, status) = (Metering::bind(&config, &mut |line| log(&line)), Metering::status());
    let mut running = file.and_then(|file| Running::look(&file, args.config.as_deref()));
    confine(args, &config, bound.as_ref(), prepared.as_ref(), shelf.as_deref())?;
    let mut listening = bound.map(|bound| Listening::start(bound, &config)).transpose()?;
    let delivers = prepared.as_ref().is_some_and(Prepared::sends);
    let opened = prepared.map(Prepared::open).transpose()?;
    opened.iter().for_each(Opened::forget_running);
    let database = opened.as_ref().map(Opened::location).and_then(Location::file).map(Path::to_owned);
    let mut excepting = Excepting::start(opened.as_ref().map(Opened::location))?;
    let fault = opened.as_ref().and_then(Opened::fault).map(ToString::to_string);
    let mut delivering = Delivering::start(opened, &config)?;
    let mut metering = Metering::start(asked, status, &config)?;
    let mut sensor = Live::start(feeds, watched, &config)?;
    let mut evidencing = Evidencing::start(shelf.as_deref(), sensor.keepers(), database, &config)?;
    if config.capture.sandbox {
        let relief: &[u32] = if config.capture.kernel_relief { &live::RELIEF_COMMANDS } else { &[] };
        let (listens, answers) = (listening.is_some(), metering.is_at_work());
        let (keeps, shelves) = (delivering.is_at_work(), evidencing.is_at_work());
        sandbox::lock(Duties { listens, answers, keeps, delivers, shelves, relief })?;
    }
    if let Some(running) = &running {
        running.begin(&mut |line| log(&line));
    }
    let mut judgement = Judgement::live(&config, history);
    judgement.locate(places);
    if let Some(rows) = delivering.baseline() {
        judgement.restore(rows);
    }
    // From here on packets are read, and nothing may take long.
    sensor.begin();
    let threads = config.capture.threads;
    let plural = if threads == 1 { "" } else { "s" };
    log(&format!("capturing on {} with {threads} thread{plural}", interfaces.join(", ")));
    if let Some(listening) = &mut listening {
        listening.begin(&mut |line| log(&line));
    }
    if let Some(fault) = fault {
        log(&format!(
            "{}: goes on without it: alerts are kept in memory until they are delivered; uploads, exceptions and what is normal \
             here are not kept",
            printable(&fault)
        ));
    }
    delivering.begin(&mut |line| log(&line));
    metering.begin(&mut |line| log(&line));
    service.ready();

    excepting.follow(&mut judgement, &mut |line| log(&line));
    let (mut stuck, mut journal_refused, mut store_refused, mut given_up) = (Vec::new(), 0, 0, 0);
    let (mut output_lost, mut output_told) = (0, 0);
    let started = i64::try_from(live::now().0 / 1_000_000_000).unwrap_or(i64::MAX);
    let put = |outcome: Outcome,
               output: &mut Output<Target>,
               delivering: &mut Delivering,
               metering: &mut Metering,
               evidencing: &mut Evidencing| {
        metering.note(&outcome);
        evidencing.put(&outcome);
        delivering.put(&outcome);
        output.put(&outcome);
    };
    let (mut reported, mut kept) = (Instant::now(), Instant::now());
    let ended = loop {
        let mut say = |line: String| log(&line);
        let mut sink = |outcome| put(outcome, &mut output, &mut delivering, &mut metering, &mut evidencing);
        let turned = sensor.turn(TURN, config.join.grace, &mut judgement, &mut sink, &mut say);
        if let Err(error) = turned {
            break Err(error);
        }
        if signals.stop.load(Ordering::Relaxed) || !output.is_wanted() {
            break Ok(());
        }
        if kept.elapsed() < HOUSEKEEPING {
            if delivering.is_urgent() {
                delivering.keep(judgement.changes());
            }
            continue;
        }
        kept = Instant::now();
        // One piece at a time, lest a file that grows fast keeps facts waiting.
        events.follow(judgement.history_mut(), &mut say);
        if let Some(listening) = &mut listening {
            listening.take(&mut judgement, &mut say);
            let refused = listening.journal_refused();
            sensor.journal_refused(refused.saturating_sub(std::mem::replace(&mut journal_refused, refused)));
        }
        let keep = config.endpoint.keep.max(config.join.look_back);
        judgement.history_mut().forget_before(sensor.clock().before(keep));
        excepting.follow(&mut judgement, &mut say);
        judgement.revisit(sensor.clock(), &mut |outcome| {
            put(outcome, &mut output, &mut delivering, &mut metering, &mut evidencing)
        });
        delivering.keep(judgement.changes());
        let dropped = delivering.given_up();
        sensor.alerts_dropped(dropped.saturating_sub(std::mem::replace(&mut given_up, dropped)));
        let refused = delivering.refused();
        sensor.store_refused(refused.saturating_sub(std::mem::replace(&mut store_refused, refused)));
        if delivering.is_without_store() {
            sensor.store_missing();
        }
        delivering.log().into_iter().for_each(&mut say);
        evidencing.keep(judgement.history(), &mut say);
        output.flush();
        let target = output.target();
        output_lost = target.lost();
        if target.fails() || output_lost > output_told {
            sensor.output_refused(output_lost - std::mem::replace(&mut output_told, output_lost));
        }
        let parts = Parts {
            sensor: &sensor,
            judgement: &judgement,
            events: &events,
            listening: listening.as_ref(),
            delivering: &delivering,
            evidencing: &evidencing,
            output_lost,
        };
        metering.gather(parts, &config);
        let due = reported.elapsed() >= Duration::from_nanos(config.capture.report.0);
        if due {
            metering::levels(parts, &config).iter().for_each(|line| log(line));
        }
        if signals.reload.swap(false, Ordering::Relaxed) {
            let answer = reload(args, &mut config, &excepting, &mut judgement, &mut output);
            evidencing.configure(&config);
            say(answer.clone().unwrap_or_else(|refusal| refusal));
            if let Some(running) = &mut running {
                running.answer(answer, &mut say);
            }
        }
        if due {
            reported = Instant::now();
            let counted = Counted {
                live: sensor.counters(),
                listened: listening.as_ref().map(Listening::counters),
                delivered: delivering.counters(),
                shelved: evidencing.counters(),
                asked: metering.counters(),
                output_lost,
            };
            lines(&counted, &judgement, &events).iter().for_each(|line| log(line));
            log(&counters::of_output(output_lost));
            delivering.keep_losses(started, &lost(&counted, &judgement, &events));
            listening.iter().flat_map(Listening::report).for_each(|line| log(&line));
            delivering.report().iter().chain(&evidencing.report()).for_each(|line| log(line));
        }
        let now_stuck = sensor.stuck();
        if now_stuck.is_empty() {
            service.alive();
        } else if now_stuck != stuck {
            log(&format!("capture threads make no progress: {now_stuck:?}"));
        }
        stuck = now_stuck;
    };
    service.stopping();
    if let Some(running) = running {
        running.end();
    }
    log("ending: writing what is open");
    let listens = listening.as_ref();
    let parts = Parts {
        sensor: &sensor,
        judgement: &judgement,
        events: &events,
        listening: listens,
        delivering: &delivering,
        evidencing: &evidencing,
        output_lost,
    };
    metering.ending(parts, &config);
    // What helpers have said by now counts for what is judged now.
    let listened = listening.map(|listening| listening.finish(judgement.history_mut(), &mut |line| log(&line)));
    let finished = sensor.finish(&mut judgement, &mut |outcome| {
        put(outcome, &mut output, &mut delivering, &mut metering, &mut evidencing)
    });
    delivering.keep(judgement.changes());
    evidencing.keep(judgement.history(), &mut |line| log(&line));
    let shelved = evidencing.finish(&mut |line| log(&line));
    let asked = metering.finish();
    let live = match finished {
        Ok(live) => live,
        Err(error) => {
            delivering.finish(&mut |line| log(&line));
            return Err(error.into());
        }
    };
    output.flush();
    output.target().settle();
    let output_lost = output.target().lost();
    let mut counted = Counted { live, listened, delivered: delivering.counters(), shelved, asked, output_lost };
    delivering.keep_losses(started, &lost(&counted, &judgement, &events));
    delivering.keep(Vec::new());
    counted.delivered = delivering.finish(&mut |line| log(&line));
    lines(&counted, &judgement, &events).iter().for_each(|line| log(line));
    log(&counters::of_output(output_lost));
    close(args, output, &counted, &judgement, &events)?;
    // All is written before the reason for an early end is said.
    ended?;
    Ok(ExitCode::SUCCESS)
}

fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    Ok(match path {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    })
}

/// The user that the process becomes, if any, which is to own what it writes, and its group.
pub(super) fn owner(config: &Config) -> Option<(u32, u32)> {
    let user = &config.capture.user;
    let becomes = config.capture.sandbox && !user.is_empty() && nix::unistd::Uid::effective().is_root();
    let user = if becomes { nix::unistd::User::from_name(user).ok().flatten() } else { None };
    user.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

/// Says what to do where the system only says no.
fn explained(error: live::LiveError) -> anyhow::Error {
    let missing = !sandbox::holds_net_raw();
    let error = anyhow::Error::from(error);
    if missing {
        error.context("cannot capture: the right to (CAP_NET_RAW) is missing; run as root, or see `outfall check`")
    } else {
        error
    }
}

fn confine(
    args: &RunArgs,
    config: &Config,
    bound: Option<&Bound>,
    prepared: Option<&Prepared>,
    shelf: Option<&Path>,
) -> anyhow::Result<()> {
    if !config.capture.sandbox {
        log("warning: `capture.sandbox` is off: the sensor keeps every right that it was started with");
        return Ok(());
    }
    if !config.capture.user.is_empty() && !nix::unistd::Uid::effective().is_root() {
        log("`capture.user` is for a start as root: goes on as the user that it was started as");
    }
    let directory = |file: &Option<PathBuf>| file.as_deref().map(directory_of).into_iter().collect();
    let open = Open {
        user: config.capture.user.clone(),
        keep: bound
            .map(Bound::state)
            .into_iter()
            .chain(prepared.into_iter().flat_map(Prepared::directories))
            .map(Path::to_owned)
            .collect(),
        shelve: shelf.into_iter().map(Path::to_owned).collect(),
        connect: prepared.map(Prepared::ports).unwrap_or_default(),
        write: directory(&args.output),
        read: directory(&args.config),
    };
    match sandbox::confine(&open)? {
        Files::Confined => {}
        Files::Partly => log("this kernel's Landlock is old: not all of the sandbox's rules for files hold"),
        Files::Free => log("warning: this kernel has no Landlock: files are guarded by the user's rights alone"),
    }
    Ok(())
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Takes up what of the configuration can change while packets come, with the exceptions, and opens the output anew. Says what
/// holds now, or why nothing of it was taken up.
fn reload(
    args: &RunArgs,
    config: &mut Config,
    excepting: &Excepting,
    judgement: &mut Judgement,
    output: &mut Output<Target>,
) -> Result<String, String> {
    if let Some(path) = &args.output {
        output.flush();
        if let Err(error) = output.target().reopen(path) {
            log(&format!("goes on with the old output: {}", printable(&format!("{error:#}"))));
        }
    }
    let old = |error: &dyn std::fmt::Display| {
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        format!("goes on with the old configuration and exceptions: {}", printable(&first))
    };
    let new = args.config.as_deref().map(Config::load).transpose().map_err(|error| old(&error))?;
    let exceptions = excepting.read().map_err(|error| old(&error))?;
    // From here on nothing can fail.
    let mut said = match new {
        None => "reloaded: there is no configuration file".to_owned(),
        Some(new) => {
            let mut fixed = new.clone();
            (fixed.network, fixed.join, fixed.detect) =
                (config.network.clone(), config.join.clone(), config.detect.clone());
            fixed.playbook = config.playbook.clone();
            let unchanged = fixed == *config;
            (config.network, config.join, config.detect) = (new.network, new.join, new.detect);
            config.playbook = new.playbook;
            judgement.configure(config);
            let more = if unchanged { "" } else { "; other changes wait for the next start" };
            format!("reloaded: [network], [join], [detect] and [playbook] hold as they are in the file now{more}")
        }
    };
    if let Some(exceptions) = exceptions {
        said.push_str(&format!("; exceptions in force: {}", exceptions.len()));
        judgement.exceptions_mut().replace(exceptions);
    }
    Ok(said)
}

/// What every part has counted by its end.
struct Counted {
    live: LiveCounters,
    listened: Option<ListenerCounters>,
    delivered: Option<deliver::Counters>,
    shelved: Option<WriterCounters>,
    asked: Option<ServerCounters>,
    /// Lines of the output.
    output_lost: u64,
}

/// What endpoints said, and what was lost anywhere but in the capture threads.
fn lost_beside(counted: &Counted, events: &Events) -> (endpoint::Counters, Vec<Lost>) {
    let Counted { live, listened, delivered, shelved, asked, output_lost } = counted;
    let (mut intake, mut losses) = (events.counters(), counters::losses(live));
    if let Some(listened) = listened {
        intake.add(&listened.intake);
        losses.extend(listening::losses(listened));
    }
    losses.extend(delivered.as_ref().map(delivering::losses).unwrap_or_default());
    losses.extend(shelved.as_ref().map(evidencing::losses).unwrap_or_default());
    losses.extend(asked.as_ref().map(metering::losses).unwrap_or_default());
    losses.push(("lost", "lines of the output that could not be written", *output_lost));
    (intake, losses)
}

/// Everything that was lost, as far as it happened.
fn lost(counted: &Counted, judgement: &Judgement, events: &Events) -> Vec<Lost> {
    let (capture, sensor) = counters::totals(&counted.live);
    let (intake, beside) = lost_beside(counted, events);
    let mut losses = summary::losses(&capture, &sensor, judgement, &intake);
    losses.extend(beside.into_iter().filter(|(.., count)| *count > 0));
    losses
}

/// Lines for the log: what the capture threads have counted, and what was lost behind them.
fn lines(counted: &Counted, judgement: &Judgement, events: &Events) -> Vec<String> {
    let (intake, _) = lost_beside(counted, events);
    let mut lines = counters::lines(&counted.live, &summary::of_judging(judgement, &intake));
    lines.extend(counted.asked.as_ref().and_then(|asked| counters::of_lost("metrics", &metering::losses(asked))));
    lines
}

fn close(
    args: &RunArgs,
    mut output: Output<Target>,
    counted: &Counted,
    judgement: &Judgement,
    events: &Events,
) -> anyhow::Result<()> {
    let (capture, sensor) = counters::totals(&counted.live);
    let (intake, losses) = lost_beside(counted, events);
    let mut text = summary::live(&capture, &sensor, judgement, &intake, &losses);
    text.push_str(&counted.delivered.as_ref().map(delivering::summary).unwrap_or_default());
    let told = !args.json && {
        output.text(&text);
        output.flush();
        let told = !output.target().fails();
        output.target().settle();
        told
    };
    if !told {
        // Nothing can be said if standard error is gone.
        let _ = io::stderr().lock().write_all(text.trim_start().as_bytes());
    }
    output.finish().context("cannot write the output")
}

/// A line of the log.
fn log(line: &str) {
    // Nothing can be said if standard error is gone.
    let _ = writeln!(io::stderr(), "outfall: {line}");
}

/// Signals that came.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let signals = Self { stop: Arc::default(), reload: Arc::default() };
        for signal in [SIGTERM, SIGINT] {
            // A second one ends the program at once.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&signals.stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&signals.stop)))
                .context("cannot catch signals")?;
        }
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload)).context("cannot catch signals")?;
        Ok(signals)
    }
}
