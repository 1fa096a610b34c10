//! Makes the captures that Outfall is measured with, and says what must be found in them.
//!
//!     cargo bench --bench generate -- FOLDER [--scale 1/100] [uploads] [ftp] [mix] [small] [encrypted] [downloads]
//!
//! writes each capture as `NAME.pcap`, with its totals as `NAME.json`; the first four if none is named. With `-` for the
//! folder, the one capture that is named goes to standard output and its totals to standard error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod traffic;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;

use traffic::{Capture, Scale};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("generate: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut folder = None;
    let mut scale = Scale::FULL;
    let mut captures = Vec::new();
    // Cargo adds `--bench` for its own harness.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        if argument == "--scale" {
            scale = arguments.next().ok_or("--scale: which?")?.parse()?;
        } else if folder.is_none() {
            folder = Some(argument);
        } else {
            captures.push(argument.parse::<Capture>()?);
        }
    }
    let folder = folder
        .ok_or("usage: generate FOLDER|- [--scale 1/100] [uploads] [ftp] [mix] [small] [encrypted] [downloads]")?;
    if folder == "-" {
        let [capture] = captures[..] else { return Err("name one capture for standard output".to_owned()) };
        let totals = capture.write(scale, BufWriter::with_capacity(1 << 20, std::io::stdout().lock()));
        eprintln!("{}", totals.map_err(|error| format!("standard output: {error}"))?.json());
        return Ok(());
    }
    if captures.is_empty() {
        captures = Capture::ALL.to_vec();
    }
    for capture in captures {
        let path = Path::new(&folder).join(format!("{capture}.pcap"));
        let problem = |error| format!("{}: cannot write: {error}", path.display());
        let out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(problem)?);
        let totals = capture.write(scale, out).map_err(problem)?;
        let json = totals.json().to_string();
        std::fs::write(path.with_extension("json"), format!("{json}\n")).map_err(problem)?;
        println!("{capture}: {json}");
    }
    Ok(())
}
