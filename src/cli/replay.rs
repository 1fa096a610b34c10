//! `outfall replay`: captures and endpoint events in, uploads and alerts out.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::capture::Reader;
use crate::config::Config;
use crate::protocol::Fact;
use crate::record::{flow_document, upload_document};
use crate::sensor::Replay;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// Captures
    #[arg(required = true)]
    captures: Vec<PathBuf>,
    /// json
    #[arg(long)]
    json: bool,
    /// flows
    #[arg(long)]
    flows: bool,
    /// workers
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

/// Runs it.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = Config::default();
    let mut reader = Reader::open(&args.captures)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let counters = Replay::new(&mut reader, &config, args.workers).run(
        |fact| match fact {
            Fact::Upload(upload) => {
                let _ = writeln!(out, "{}", upload_document(&upload));
            }
            Fact::Flow(flow) if args.flows => {
                let _ = writeln!(out, "{}", flow_document(&flow));
            }
            Fact::Flow(_) => {}
        },
        |_| {},
    )?;
    eprintln!("{counters:#?}");
    Ok(ExitCode::SUCCESS)
}
