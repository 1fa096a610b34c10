//! `outfall config`: prints the default configuration and a service's unit, checks a file.

use crate::config::Config;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to do with the configuration.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Print the commented default configuration
    Default,
    /// Print a unit of systemd that runs the sensor as a service
    Service,
    /// Check a configuration file
    Check {
        /// The file to check
        file: PathBuf,
    },
}

const SERVICE: &str = include_str!("../resources/outfall.service");

/// Runs the command. A refused file is not an error of the command: it is said on stderr, with exit code 2.
pub fn run(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let (code, text) = match command {
        ConfigCommand::Default => (ExitCode::SUCCESS, Config::default_text()),
        ConfigCommand::Service => (ExitCode::SUCCESS, SERVICE.to_owned()),
        ConfigCommand::Check { file } => match check(file) {
            Ok(text) => (ExitCode::SUCCESS, text),
            Err(error) => {
                eprintln!("{error}");
                (ExitCode::from(2), String::new())
            }
        },
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads the output may stop when it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("cannot write the output"))
        }
        _ => Ok(code),
    }
}

fn check(file: &Path) -> Result<String, crate::config::ConfigError> {
    let changes = Config::load(file)?.changes();
    let mut text = format!("{}: ok\n", file.display());
    for change in changes {
        text.push_str(&format!("  {change}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outfall.toml");
        std::fs::write(&file, text).unwrap();
        let short = |said: String| said.replace(&file.display().to_string(), "outfall.toml");
        check(&file).map(short).map_err(|error| short(error.to_string()))
    }

    #[test]
    fn check_says_what_differs_from_the_default() {
        let text = "[flow]\nidle_timeout = \"5 min\"\nhalf_open_timeout = \"30 s\"\n[replay]\nworkers = 4\n";
        let expected = "outfall.toml: ok\n  flow.idle_timeout = \"5 min\" (default \"15 min\")\n  \
                        replay.workers = 4 (default 1)\n";
        assert_eq!(checked(text).unwrap(), expected);
        assert_eq!(checked(&Config::default_text()).unwrap(), "outfall.toml: ok\n");
    }

    #[test]
    fn check_says_every_refusal_on_its_own_line() {
        let expected = "outfall.toml:2:11: replay.workers: expected at least 1, found 0\n\
                        outfall.toml:3:2: flwo: unknown section, did you mean \"flow\"?";
        assert_eq!(checked("[replay]\nworkers = 0\n[flwo]").unwrap_err(), expected);
    }

    #[test]
    fn a_refused_file_gives_exit_code_2() {
        let missing = ConfigCommand::Check { file: PathBuf::from("no/such/outfall.toml") };
        assert_eq!(run(&missing).unwrap(), ExitCode::from(2));
    }
}
