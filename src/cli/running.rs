//! What a running sensor says of itself in a file beside its database, and `outfall reload`, which reads it.

use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::database::Database;
use crate::config::Config;
use crate::endpoint::printable;

/// How long the sensor may take for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the answer is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// A longer file is no sensor's.
const MOST: u64 = 16 << 10;

/// Where it is, beside the database.
fn beside(database: &Path) -> PathBuf {
    database.with_extension("run")
}

/// Of which process this is: with the time of its start, which no later process of the same number has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    pid: i32,
    /// In clock ticks since the boot.
    start: u64,
    /// The configuration file, an absolute path.
    config: Option<PathBuf>,
    /// How often it was told to reload.
    reloads: u64,
    /// What came of the last time: `Ok` or the refusal.
    answer: Result<String, String>,
}

/// When a process started, if it is one of Outfall's.
fn started(pid: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A name may hold spaces and brackets.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    if name != "outfall" {
        return None;
    }
    after.split_whitespace().nth(19)?.parse().ok()
}

/// The running sensor's side.
pub struct Running {
    path: PathBuf,
    said: Said,
}

impl Running {
    /// Looks itself up, which a confined process cannot.
    pub fn look(database: &Path, config: Option<&Path>) -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        let config = config.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        let said = Said { pid, start: started("self")?, config, reloads: 0, answer: Ok(String::new()) };
        Some(Self { path: beside(database), said })
    }

    /// Says that it runs.
    pub fn begin(&self, log: &mut impl FnMut(String)) {
        let written = serde_json::to_vec(&self.said).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|text| std::fs::write(&self.path, text)) {
            let path = self.path.display().to_string();
            log(format!(
                "{}: cannot be written: `outfall reload` will not find this sensor: {error}",
                printable(&path)
            ));
        }
    }

    /// Says what came of a reload.
    pub fn answer(&mut self, answer: Result<String, String>, log: &mut impl FnMut(String)) {
        self.said.reloads += 1;
        self.said.answer = answer;
        self.begin(log);
    }

    /// It runs no longer.
    pub fn end(self) {
        // What stays behind names a process that is gone.
        let _ = std::fs::remove_file(self.path);
    }
}

/// What `outfall reload` is told.
#[derive(Debug, clap::Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    database: Database,
}

fn read(path: &Path) -> anyhow::Result<Said> {
    let size = std::fs::metadata(path)?.len();
    anyhow::ensure!(size <= MOST, "it is no sensor's");
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Checks the file, tells the running sensor to take it up, and waits for its answer.
///
/// # Errors
/// If no sensor is found, it cannot be told, or it does not answer. A refusal is no error: it is exit status 1.
pub fn reload(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let config = match args.database.config() {
        Ok(config) => config,
        Err(error) => return Ok(refused(&error.to_string())),
    };
    tell(&args.database, &config)
}

fn refused(why: &str) -> ExitCode {
    let first = why.lines().next().unwrap_or_default();
    eprintln!("outfall: not reloaded: {}", printable(first));
    ExitCode::FAILURE
}

fn tell(database: &Database, config: &Config) -> anyhow::Result<ExitCode> {
    let path = beside(&database.path(config)?);
    let name = path.display();
    let said = match read(&path) {
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == NotFound) => {
            anyhow::bail!("{name}: is not there, so no sensor runs with this database: start one with `outfall run`")
        }
        said => said.with_context(|| format!("{name}: cannot be read, so the sensor is not found"))?,
    };
    anyhow::ensure!(
        started(&said.pid.to_string()) == Some(said.start),
        "{name}: the sensor that it names (process {}) does not run any more",
        said.pid
    );
    if let (Some(asked), Some(used)) = (database.config_file(), &said.config) {
        let asked = asked.canonicalize().unwrap_or_else(|_| asked.to_owned());
        anyhow::ensure!(asked == *used, "the running sensor uses another file: {}", used.display());
    }
    let pid = said.pid;
    kill(Pid::from_raw(pid), Signal::SIGHUP)
        .with_context(|| format!("process {pid} cannot be told: run this as root or as the sensor's user"))?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::sleep(LOOK);
        // While it is being written it cannot be read.
        let Ok(now) = read(&path) else { continue };
        if now.pid == pid && now.reloads > said.reloads {
            return Ok(match now.answer {
                Ok(answer) => {
                    println!("{}", printable(&answer));
                    ExitCode::SUCCESS
                }
                Err(why) => refused(&why),
            });
        }
    }
    anyhow::bail!("process {pid} did not answer within {} s: see its log", PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_can_be_read_and_ends_with_the_sensor() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("outfall.db");
        let said = Said { pid: 1, start: 2, config: Some("/x\u{e4}".into()), reloads: 0, answer: Ok(String::new()) };
        let mut running = Running { path: beside(&database), said };
        let mut log = |line| panic!("{line}");
        running.begin(&mut log);
        running.answer(Err("no".to_owned()), &mut log);
        let read = read(&folder.path().join("outfall.run")).unwrap();
        assert_eq!((read.reloads, read.answer.clone()), (1, Err("no".to_owned())));
        assert_eq!(read, running.said);
        running.end();
        assert!(!folder.path().join("outfall.run").exists());
    }

    #[test]
    fn a_process_that_is_not_outfall_is_never_taken_for_one() {
        assert_eq!(started("1"), None);
        assert_eq!(started("no such"), None);
    }
}
