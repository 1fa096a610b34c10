//! The helper's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::config::{Config, DEFAULT_TEXT};
use super::log::Log;
use super::stop::Stop;
use super::{agent, host};
use crate::endpoint::printable;

const USAGE: &str = "\
outfall-helper reports processes, connections and files of this machine to an Outfall sensor.

Usage: outfall-helper COMMAND [--config FILE]

  run [--once]   work in the foreground; --once: until the sources have ended and the sensor has everything
  check          read the configuration and the certificates, and say what would be done
  config         print the default configuration
  install        make a Windows service of this program, which starts with the machine
  start          start the service
  stop           stop the service
  remove         remove the service

The configuration is outfall-helper.toml beside the program, unless --config says otherwise.";

/// What was asked for.
struct Arguments {
    command: String,
    config: PathBuf,
    once: bool,
}

/// Does what the arguments say; the first is the program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match parse(arguments) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => return complain(&problem),
    };
    let result = match arguments.command.as_str() {
        "run" => run(&arguments),
        "check" => check(&arguments),
        "config" => {
            print!("{DEFAULT_TEXT}");
            Ok(())
        }
        command => service(command, &arguments),
    };
    result.map_or_else(|problem| complain(&problem), |()| ExitCode::SUCCESS)
}

fn complain(problem: &str) -> ExitCode {
    eprintln!("outfall-helper: {}", printable(problem));
    ExitCode::from(2)
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Arguments>, String> {
    const COMMANDS: &[&str] = &["run", "check", "config", "install", "start", "stop", "remove", "service"];
    let mut arguments = arguments.skip(1);
    let mut command = None;
    let (mut config, mut once) = (None, false);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--help" | "-h" | "help") => return Ok(None),
            Some("--version" | "-V") => {
                println!("outfall-helper {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            Some("--config") => {
                let file = arguments.next().ok_or("--config needs a file")?;
                config = Some(std::path::absolute(&file).unwrap_or_else(|_| file.into()));
            }
            Some("--once") => once = true,
            Some(word) if command.is_none() && COMMANDS.contains(&word) => command = Some(word.to_owned()),
            _ => return Err(format!("unknown argument {argument:?}; outfall-helper --help tells what there is")),
        }
    }
    let Some(command) = command else { return Ok(None) };
    let beside = || std::env::current_exe().unwrap_or_default().with_file_name("outfall-helper.toml");
    Ok(Some(Arguments { command, config: config.unwrap_or_else(beside), once }))
}

fn load(arguments: &Arguments) -> Result<Config, String> {
    Config::load(&arguments.config).map_err(|error| error.to_string())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let config = load(arguments)?;
    let stop = Arc::new(Stop::default());
    #[cfg(windows)]
    super::windows::console::on_break(stop.clone());
    work(&config, &stop, true, arguments.once)
}

/// Works until `stop`; `shown` also shows the log on standard error.
pub(super) fn work(config: &Config, stop: &Arc<Stop>, shown: bool, once: bool) -> Result<(), String> {
    let opened = Log::open(&config.log, shown);
    let log = Arc::new(opened.map_err(|reason| format!("log.file: {}: {reason}", config.log.file.display()))?);
    let result = agent::run(config, &log, stop, once).map_err(|error| error.to_string());
    if let Err(problem) = &result
        && !shown
    {
        log.line(problem);
    }
    result
}

fn check(arguments: &Arguments) -> Result<(), String> {
    let config = load(arguments)?;
    let link = super::uplink::check(&config.uplink).map_err(|error| error.to_string())?;
    let host = host::describe(&config.host);
    println!("configuration  {}", printable(&arguments.config.display().to_string()));
    println!("host           {} ({})", printable(&host.id), printable(host.name.as_deref().unwrap_or("no name")));
    println!("sensor         {}, {link}", printable(&config.uplink.sensor));
    println!("spool          {}, at most {}", printable(&config.spool.folder.display().to_string()), config.spool.size);
    let rows = super::source::configured(&config);
    let row = |row: &Vec<Box<dyn super::source::Source>>| {
        let names: Vec<&str> = row.iter().map(|source| super::source::name(source.kind())).collect();
        names.join(", or else ")
    };
    let rows: Vec<String> = rows.iter().map(row).collect();
    println!("sources        {}", if rows.is_empty() { "none".to_owned() } else { rows.join("; ") });
    Ok(())
}

#[cfg(windows)]
fn service(command: &str, arguments: &Arguments) -> Result<(), String> {
    use super::windows::service;
    match command {
        // Refuses what would only fail when nobody looks.
        "install" => load(arguments).and_then(|config| {
            super::uplink::check(&config.uplink).map_err(|error| error.to_string())?;
            service::install(&arguments.config)
        }),
        "start" => service::start(),
        "stop" => service::stop(),
        "remove" => service::remove(),
        _ => service::dispatch(arguments.config.clone()),
    }
}

#[cfg(not(windows))]
fn service(command: &str, _: &Arguments) -> Result<(), String> {
    Err(format!("{command}: services of this kind are there on Windows only; use `run`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Arguments>, String> {
        parse(["outfall-helper"].iter().chain(words).map(OsString::from))
    }

    #[test]
    fn arguments_are_understood_or_refused() {
        let arguments = parsed(&["run", "--config", "/a/b.toml", "--once"]).unwrap().unwrap();
        assert!(arguments.once && arguments.command == "run" && arguments.config.ends_with("b.toml"));
        assert!(parsed(&["check"]).unwrap().unwrap().config.ends_with("outfall-helper.toml"));
        assert!(parsed(&[]).unwrap().is_none() && parsed(&["run", "--help"]).unwrap().is_none());
        for wrong in [&["run", "--config"][..], &["runs"], &["run", "check"], &["run", "-x"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
