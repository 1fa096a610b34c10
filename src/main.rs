//! The sensor's command line: reads the arguments and goes to the subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use outfall::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure what leaves in the clear, and name who sent it
#[derive(Parser)]
#[command(name = "outfall", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay captures, with endpoint events, and report uploads and alerts
    Replay(cli::replay::ReplayArgs),
    /// Capture live, and report uploads and alerts as they happen
    #[cfg(target_os = "linux")]
    Run(cli::run::RunArgs),
    /// Let the running sensor take up its configuration file anew: all of it or, with the reason, nothing
    #[cfg(target_os = "linux")]
    Reload(cli::running::ReloadArgs),
    /// Show a running sensor live in the terminal: rates, alerts, uploads, losses
    #[cfg(target_os = "linux")]
    Watch(cli::watch::WatchArgs),
    /// Check whether this machine is fit to capture live, and say what to change
    #[cfg(target_os = "linux")]
    Check(cli::check::CheckArgs),
    /// Let a host's helper in: make its certificate, key and configuration; or end it
    #[cfg(target_os = "linux")]
    Enroll(cli::enroll::EnrollArgs),
    /// Say of each host how much could be attributed to a process, and why not the rest
    Coverage(cli::coverage::CoverageArgs),
    /// Write what an alert rests on into a folder or a zip file that can be checked; check one
    Evidence(cli::evidence::EvidenceArgs),
    /// Write a report as one HTML file, of a database or of captures that are replayed
    Report(cli::report::ReportArgs),
    /// Justify uploads for a time, so that they raise no alert; list, review, export and import what is justified
    #[command(subcommand)]
    Exception(cli::exception::ExceptionCommand),
    /// List which processes send what over which cleartext protocol to whom, and what of it is justified
    Inventory(cli::inventory::InventoryArgs),
    /// Say what is known of what is normal here
    #[command(subcommand)]
    Baseline(cli::baseline::BaselineCommand),
    /// Print or check the configuration
    #[command(subcommand)]
    Config(cli::config::ConfigCommand),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Replay(args) => cli::replay::run(&args),
        #[cfg(target_os = "linux")]
        Command::Run(args) => cli::run::run(&args),
        #[cfg(target_os = "linux")]
        Command::Reload(args) => cli::running::reload(&args),
        #[cfg(target_os = "linux")]
        Command::Watch(args) => cli::watch::run(&args),
        #[cfg(target_os = "linux")]
        Command::Check(args) => cli::check::run(&args),
        #[cfg(target_os = "linux")]
        Command::Enroll(args) => cli::enroll::run(&args),
        Command::Coverage(args) => cli::coverage::run(&args),
        Command::Evidence(args) => cli::evidence::run(&args),
        Command::Report(args) => cli::report::run(&args),
        Command::Exception(command) => cli::exception::run(&command),
        Command::Inventory(args) => cli::inventory::run(&args),
        Command::Baseline(command) => cli::baseline::run(&command),
        Command::Config(command) => cli::config::run(&command),
    };
    result.unwrap_or_else(|error| {
        cli::complain(&error);
        ExitCode::from(2)
    })
}
