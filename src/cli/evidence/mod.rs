//! `outfall evidence`: puts what an alert rests on into a folder or a zip file, checked by `outfall evidence verify`.

mod hand_out;
mod make;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use super::replay::{Inputs, configured};
use crate::config::Config;
use crate::endpoint::printable;
use crate::evidence::{Bundle, Verified, folder_in, free, is_id, verify};

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
        (None, Some(id)) => write(args, id),
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

fn write(args: &EvidenceArgs, id: &str) -> anyhow::Result<ExitCode> {
    let standard = |path: &PathBuf| path.as_path() == Path::new("-");
    ensure!(
        !args.captures.iter().chain(&args.endpoint).any(standard),
        "standard input: evidence reads its inputs more than once; name files"
    );
    let inputs = Inputs {
        captures: args.captures.clone(),
        endpoint: args.endpoint.clone(),
        config: args.config.clone(),
        exceptions: None,
        state: None,
        workers: None,
    };
    let config = configured(&inputs)?;
    let output = Output::new(args, id)?;
    let said = if args.captures.is_empty() {
        hand_out::hand_out(args, id, &config, output)?
    } else {
        make::make(args, id, &inputs, &config, output)?
    };
    std::io::stdout().lock().write_all(said.as_bytes()).context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
}

/// Where evidence goes: a folder, or a zip file.
struct Output {
    path: PathBuf,
    /// As people are told.
    shown: String,
}

impl Output {
    /// What the options say, or a folder of this alert's; it must not be there.
    fn new(args: &EvidenceArgs, id: &str) -> anyhow::Result<Self> {
        let default = || PathBuf::from(format!("evidence-{}", if is_id(id) { id } else { "alert" }));
        let path = args.output.clone().unwrap_or_else(default);
        let shown = printable(&path.display().to_string()).into_owned();
        ensure!(path.symlink_metadata().is_err(), "{shown}: is there already; name another with --output");
        Ok(Self { path, shown })
    }

    fn is_zip(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
    }

    /// The folder that it is made in.
    fn above(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Bytes that evidence may take, once beside what else is written so many bytes of, and what has to stay free does.
    fn room(&self, config: &Config, beside: u64) -> anyhow::Result<u64> {
        let shown = &self.shown;
        let free = free(self.above()).with_context(|| format!("{shown}: the free space is not known"))?;
        let left = free.saturating_sub(config.evidence.min_free.0);
        // A folder is written first, and then packed.
        let left = (left / if self.is_zip() { 2 } else { 1 }).saturating_sub(beside);
        ensure!(left > 0, "{shown}: less than `evidence.min_free` would stay free there");
        Ok(left)
    }

    /// A folder to write into: whoever looks meanwhile sees nothing, or all of it.
    fn begin(&self) -> anyhow::Result<tempfile::TempDir> {
        Ok(folder_in(self.above())?)
    }

    /// Puts the folder that was written there.
    fn put(&self, folder: tempfile::TempDir) -> anyhow::Result<()> {
        if self.is_zip() {
            return Ok(Bundle::pack(folder.path(), &self.path)?);
        }
        std::fs::rename(folder.path(), &self.path).with_context(|| format!("{}: cannot be made", self.shown))?;
        // There is nothing left to remove.
        let _ = folder.keep();
        Ok(())
    }
}
