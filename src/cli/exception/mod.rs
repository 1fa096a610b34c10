//! `outfall exception`: what is justified, by whom and until when.

mod show;
mod who;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use super::now;
use crate::config::Config;
use crate::detect::{
    Difference, EXCEPTION_PROTOCOLS, Exception, ExceptionId, Finding, ReviewBounds, Scope, parse_exceptions,
    parse_when, review, write_exceptions,
};
use crate::endpoint::printable;
use crate::net::{ByteSize, Span, Timestamp};
use crate::store::{Act, Kept, Store, file_of};
use show::Shown;

/// A longer file is surely something else than exceptions.
const MAX_FILE: u64 = 64 << 20;

/// What to do with exceptions.
#[derive(Debug, clap::Subcommand)]
pub enum ExceptionCommand {
    /// Make an exception: what it covers raises no alert until it expires
    Add(Box<AddArgs>),
    /// List the exceptions, one a line
    List {
        /// Where it is kept
        #[command(flatten)]
        place: Place,
        /// Also those that were removed
        #[arg(long)]
        removed: bool,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show an exception, what it has hidden, and who changed it
    Show {
        /// Where it is kept
        #[command(flatten)]
        place: Place,
        /// Its identifier
        #[arg(value_name = "ID")]
        id: ExceptionId,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// End an exception; what is known of it stays
    Remove {
        /// Where it is kept
        #[command(flatten)]
        place: Place,
        /// Its identifier
        #[arg(value_name = "ID")]
        id: ExceptionId,
        /// Why
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Who does it
        #[command(flatten)]
        by: By,
    },
    /// Let an exception hold for longer, or end sooner
    Renew {
        /// Where it is kept
        #[command(flatten)]
        place: Place,
        /// Its identifier
        #[arg(value_name = "ID")]
        id: ExceptionId,
        /// Until when: a date or a time in UTC, or a time from now such as 90d
        #[arg(long, value_name = "WHEN", value_parser = until)]
        expires: Until,
        /// Why
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Who does it
        #[command(flatten)]
        by: By,
    },
    /// Say what somebody has to look at: the expired, the unused, the broad, and what each has hidden
    Review(ReviewArgs),
    /// Write the exceptions as TOML, for version control
    Export {
        /// Where it is kept
        #[command(flatten)]
        place: Place,
        /// File to write, in the place of what is there [default: standard output]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Take up exceptions from TOML: all of them or, if one is bad, none; those that are not in it are removed
    Import(ImportArgs),
}

/// Where exceptions are kept.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The store [default: what the configuration says]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Configuration file; without it the defaults hold (see `outfall config default`)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Who does it.
#[derive(Debug, clap::Args)]
pub struct By {
    /// Who does it, for the history [default: your name on this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// What `outfall exception add` is told.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    #[command(flatten)]
    place: Place,

    /// Image path of the process; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    process: Option<crate::detect::Pattern>,

    /// Where it goes: an address, a network, or a domain with all below it
    #[arg(long, value_name = "DESTINATION")]
    destination: Option<crate::config::Destination>,

    /// The home host: an address, a network, or a pattern of its name
    #[arg(long, value_name = "HOST")]
    host: Option<crate::detect::HostPattern>,

    /// The account: a pattern of DOMAIN\name, or of the name alone
    #[arg(long, value_name = "PATTERN")]
    user: Option<crate::detect::Pattern>,

    /// The protocol
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(EXCEPTION_PROTOCOLS))]
    protocol: Option<String>,

    /// How much may pass on a day (UTC), such as 50MB; what is above raises an alert
    #[arg(long, value_name = "SIZE")]
    ceiling: Option<ByteSize>,

    /// Who answers for it
    #[arg(long, value_name = "NAME")]
    owner: String,

    /// Why it has to be
    #[arg(long, value_name = "TEXT")]
    justification: String,

    /// Until when: a date or a time in UTC, or a time from now such as 90d
    #[arg(long, value_name = "WHEN", value_parser = until)]
    expires: Until,

    /// It covers much, and is meant to
    #[arg(long)]
    broad: bool,

    #[command(flatten)]
    by: By,
}

/// What `outfall exception review` is told.
#[derive(Debug, clap::Args)]
pub struct ReviewArgs {
    #[command(flatten)]
    place: Place,

    /// What expires within this is said to
    #[arg(long, value_name = "TIME", default_value = "30d")]
    soon: Span,

    /// What has hidden nothing for so long is said to
    #[arg(long, value_name = "TIME", default_value = "90d")]
    unused: Span,

    /// So many processes, destinations or hosts are many for one exception
    #[arg(long, value_name = "N", default_value_t = 10)]
    wide: u64,

    /// Only those that there is something to say about
    #[arg(long)]
    findings: bool,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// What `outfall exception import` is told.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(flatten)]
    place: Place,

    /// File to read; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Keep exceptions that are not in the file
    #[arg(long)]
    keep: bool,

    /// Why, for the history [default: the name of the file]
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,

    #[command(flatten)]
    by: By,
}

/// Until when an exception holds.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// This time.
    At(Timestamp),
    /// So long from now.
    For(Span),
}

impl Until {
    fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::For(span) => now.after(span),
        }
    }
}

fn until(text: &str) -> Result<Until, String> {
    let at = parse_when(text).map(Until::At);
    at.or_else(|| text.parse().ok().map(Until::For))
        .ok_or_else(|| "expected a date such as 2027-03-31, or a time from now such as 90d".to_owned())
}

/// Does it. What it says is on the disk by then.
///
/// # Errors
/// If the store cannot be used, or what is asked for cannot be.
pub fn run(command: &ExceptionCommand) -> anyhow::Result<ExitCode> {
    let text = match command {
        ExceptionCommand::Add(args) => add(args)?,
        ExceptionCommand::List { place, removed, json } => {
            let (_, store) = place.open(false)?;
            let kept = store.kept_exceptions()?.into_iter().filter(|kept| *removed || kept.removed.is_none());
            let kept: Vec<Kept> = kept.collect();
            if *json { kept.iter().map(show::line_of_json).collect() } else { show::list(&kept, now()) }
        }
        ExceptionCommand::Show { place, id, json } => {
            let (_, store) = place.open(false)?;
            let kept = find(&store, *id)?;
            let (usage, history) = (store.exception_usage(*id)?, store.exception_history(*id)?);
            let shown = Shown { kept: &kept, usage: &usage, findings: &[], history: &history, now: now() };
            if *json { shown.json() } else { shown.text() }
        }
        ExceptionCommand::Remove { place, id, why, by } => {
            change(place, *id, by, "remove", why, |_| Ok(None))?;
            format!("{id} removed\n")
        }
        ExceptionCommand::Renew { place, id, expires, why, by } => {
            let found = change(place, *id, by, "renew", why, |exception| {
                Ok(Some(Exception { expires: expires.from(now()), ..exception.clone() }))
            })?;
            if found.is_empty() { format!("{id} already expires then\n") } else { lines(&found) }
        }
        ExceptionCommand::Review(args) => review_all(args)?,
        ExceptionCommand::Export { place, file } => {
            let (_, store) = place.open(false)?;
            let text = write_exceptions(&store.exceptions()?);
            match file {
                Some(path) => {
                    write_whole(path, &text).with_context(|| format!("{}: cannot be written", path.display()))?;
                    String::new()
                }
                None => text,
            }
        }
        ExceptionCommand::Import(args) => import(args)?,
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads the output may stop when it has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("cannot write the output"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

impl Place {
    /// The configuration and the store, which is made only if `make`.
    fn open(&self, make: bool) -> anyhow::Result<(Config, Store)> {
        let config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        let path = match &self.state {
            Some(path) => path.clone(),
            None => file_of(&config, self.config.as_deref()).context(
                "a sensor with this configuration keeps nothing: name the store with --state, or set `store.path`",
            )?,
        };
        // A mistyped name shall not read as "no exceptions".
        ensure!(make || path.exists(), "{}: there is no such store (--state or `store.path`)", path.display());
        let store = Store::open(&path)?;
        Ok((config, store))
    }
}

fn find(store: &Store, id: ExceptionId) -> anyhow::Result<Kept> {
    let kept = store.kept_exceptions()?.into_iter().find(|kept| kept.exception.id == id);
    kept.with_context(|| format!("{id}: there is no such exception"))
}

fn lines(found: &[Difference]) -> String {
    found.iter().map(|difference| format!("{}\n", printable(&difference.to_string()))).collect()
}

fn check_why(why: &str) -> anyhow::Result<()> {
    let fits = !why.trim().is_empty() && why.chars().count() <= 1_000 && !why.chars().any(char::is_control);
    ensure!(fits, "--why: expected 1 to 1000 characters on one line");
    Ok(())
}

fn add(args: &AddArgs) -> anyhow::Result<String> {
    let AddArgs { process, destination, host, user, protocol, ceiling, owner, justification, .. } = args;
    let now = now();
    let scope = Scope {
        process: process.clone(),
        destination: destination.clone(),
        host: host.clone(),
        user: user.clone(),
        protocol: protocol.clone(),
        ceiling: *ceiling,
    };
    let new = Exception {
        id: ExceptionId(1),
        scope,
        broad: args.broad,
        owner: owner.clone(),
        justification: justification.clone(),
        created: now,
        expires: args.expires.from(now),
    };
    let (config, mut store) = args.place.open(true)?;
    new.check(now, config.detect.longest_exception)?;
    ensure!(new.holds(now), "--expires: that is past");
    let who = who::who(args.by.by.as_deref())?;
    let act = Act { at: now, who: &who, action: "add", why: justification };
    let id = store.add_exception(&new, config.detect.max_exceptions, &act)?;
    Ok(lines(&[Difference::Added(Exception { id, ..new })]))
}

/// Puts another exception in the place of one; none removes it.
fn change(
    place: &Place,
    id: ExceptionId,
    by: &By,
    action: &'static str,
    why: &str,
    new: impl FnOnce(&Exception) -> anyhow::Result<Option<Exception>>,
) -> anyhow::Result<Vec<Difference>> {
    check_why(why)?;
    let who = who::who(by.by.as_deref())?;
    let (config, mut store) = place.open(false)?;
    if find(&store, id)?.removed.is_some() {
        bail!("{id}: was removed before");
    }
    let seen = store.exceptions()?;
    let mut wanted = Vec::new();
    for exception in &seen {
        if exception.id != id {
            wanted.push(exception.clone());
        } else if let Some(new) = new(exception)? {
            new.check(now(), config.detect.longest_exception)?;
            wanted.push(new);
            wanted.extend(seen.iter().filter(|exception| exception.id > id).cloned());
            break;
        } else {
            wanted.extend(seen.iter().filter(|exception| exception.id > id).cloned());
            break;
        }
    }
    let act = Act { at: now(), who: &who, action, why };
    Ok(store.set_exceptions(&seen, &wanted, false, false, config.detect.max_exceptions, &act)?)
}

fn review_all(args: &ReviewArgs) -> anyhow::Result<String> {
    let (_, store) = args.place.open(false)?;
    let bounds = ReviewBounds { now: now(), soon: args.soon, unused: args.unused, wide: args.wide };
    let mut text = String::new();
    let mut all: Vec<Vec<Finding>> = Vec::new();
    for exception in store.exceptions()? {
        let usage = store.exception_usage(exception.id)?;
        let findings = review(&exception, &usage, &bounds);
        if !args.findings || !findings.is_empty() {
            let kept = Kept { exception, removed: None };
            let shown = Shown { kept: &kept, usage: &usage, findings: &findings, history: &[], now: bounds.now };
            text.push_str(&if args.json { shown.json() } else { format!("\n{}", shown.text()) });
        }
        all.push(findings);
    }
    Ok(if args.json { text } else { format!("{}{text}", show::heading(&all, bounds.now)) })
}

fn import(args: &ImportArgs) -> anyhow::Result<String> {
    let name = args.file.display().to_string();
    let text = read_whole(&args.file).with_context(|| format!("{name}: cannot be read"))?;
    let why = args.why.clone().unwrap_or_else(|| format!("import of {}", printable(&name)));
    check_why(&why)?;
    let who = who::who(args.by.by.as_deref())?;
    let (config, mut store) = args.place.open(!args.dry_run)?;
    let (now, seen) = (now(), store.exceptions()?);
    let next = store.next_exception()?;
    let wanted = parse_exceptions(&text, &name, now, config.detect.longest_exception, next)?;
    let act = Act { at: now, who: &who, action: "import", why: &why };
    let most = config.detect.max_exceptions;
    let found = store.set_exceptions(&seen, &wanted, args.keep, args.dry_run, most, &act)?;
    let count = |fits: fn(&Difference) -> bool| found.iter().filter(|difference| fits(difference)).count();
    let done = if args.dry_run { "nothing was done; would be: " } else { "" };
    Ok(format!(
        "{}{done}{} added, {} changed, {} removed\n",
        lines(&found),
        count(|difference| matches!(difference, Difference::Added(_))),
        count(|difference| matches!(difference, Difference::Changed { .. })),
        count(|difference| matches!(difference, Difference::Removed(_))),
    ))
}

/// Reads exceptions from a file for a replay: what is in it holds, for as long as each says.
///
/// # Errors
/// If the file cannot be read, or something in it is wrong.
pub(super) fn load(path: &Path) -> anyhow::Result<Vec<Exception>> {
    let name = path.display().to_string();
    let text = read_whole(path).with_context(|| format!("{name}: cannot be read"))?;
    // A capture may be older than any limit that counts from now.
    Ok(parse_exceptions(&text, &name, now(), Span(u64::MAX), 1)?)
}

fn read_whole(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    }
    ensure!(bytes.len() as u64 <= MAX_FILE, "longer than any list of exceptions");
    String::from_utf8(bytes).context("expected UTF-8 text")
}

/// All of the file or nothing, whatever happens meanwhile.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let moved = written.and_then(|()| std::fs::rename(&beside, path));
    if moved.is_err() {
        // What was begun is of no use.
        let _ = std::fs::remove_file(&beside);
    }
    moved
}
