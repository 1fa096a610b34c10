//! `outfall baseline status`: since when the baseline learns, and what of it is mature.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::database::Database;
use super::inventory::aligned;
use crate::config::Detect;
use crate::detect::Kind;
use crate::net::{Span, Timestamp, group_digits};
use crate::store::{BaselineStatus, Maturity};

/// What to do with the baseline.
#[derive(Debug, clap::Subcommand)]
pub enum BaselineCommand {
    /// Say since when it learns, and what is mature and what is not
    Status {
        /// Where it is kept
        #[command(flatten)]
        database: Database,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Prints it.
///
/// # Errors
/// If the database cannot be read.
pub fn run(command: &BaselineCommand) -> anyhow::Result<ExitCode> {
    let BaselineCommand::Status { database, json } = command;
    let config = database.config()?;
    let detect = &config.detect;
    let maturity = Maturity {
        hosts: detect.rare_below_hosts,
        age: detect.rare_younger_than,
        learned_days: detect.learned_days,
        learned_hosts: detect.learned_hosts,
    };
    let status = database.open(&config)?.baseline_status(maturity)?;
    let text = if *json { format!("{}\n", document(&status, detect)) } else { text(&status, detect) };
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
}

/// Until when it learns, and how long that is after the last upload.
fn learning(status: &BaselineStatus, detect: &Detect) -> Option<(Timestamp, Span)> {
    let until = status.since?.after(detect.learning);
    Some((until, until.since(status.last.unwrap_or(until))))
}

fn rule(kind: Kind, detect: &Detect) -> String {
    let days = detect.learned_days;
    match kind {
        Kind::Destination => {
            format!("{} hosts or more, or known for {}", detect.rare_below_hosts, detect.rare_younger_than)
        }
        Kind::ProcessProtocol => format!("seen on {days} days and {} hosts", detect.learned_hosts),
        Kind::ProcessDestination | Kind::ParentChild => format!("seen on {days} days"),
        _ => String::new(),
    }
}

fn document(status: &BaselineStatus, detect: &Detect) -> Value {
    let learning = learning(status, detect);
    let kinds: Vec<Value> = status
        .kinds
        .iter()
        .map(|of| {
            let rule = Some(rule(of.kind, detect)).filter(|rule| !rule.is_empty());
            json!({ "kind": of.kind.name(), "known": of.known, "mature": of.mature, "rule": rule })
        })
        .collect();
    json!({
        "since": status.since.map(|at| at.to_string()),
        "last": status.last.map(|at| at.to_string()),
        "learning": learning.is_none_or(|(_, left)| left > Span(0)),
        "learning_until": learning.map(|(until, _)| until.to_string()),
        "uploads_taught": status.taught,
        "uploads_alerted": status.alerted,
        "kinds": kinds,
    })
}

fn text(status: &BaselineStatus, detect: &Detect) -> String {
    let mut text = String::new();
    let _ = match (status.since, learning(status, detect)) {
        (Some(since), Some((until, left))) if left > Span(0) => writeln!(
            text,
            "Learning since {since}, until {until}: verdicts that rest on what is not known yet are held."
        ),
        (Some(since), Some((until, _))) => writeln!(text, "Learned since {since}; the learning period ended {until}."),
        _ => writeln!(text, "Nothing was learned yet: no upload was judged."),
    };
    if let Some(last) = status.last {
        let (taught, alerted) = (group_digits(status.taught), group_digits(status.alerted));
        let _ =
            writeln!(text, "Last upload {last}; {taught} uploads taught, {alerted} were alerts and taught nothing.");
    }
    let heading = ["KIND", "KNOWN", "MATURE", "NOT YET", "MATURE MEANS"].map(str::to_owned);
    let rows = status.kinds.iter().filter(|of| of.known > 0).map(|of| {
        let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), group_digits);
        let not_yet = of.mature.map(|mature| of.known.saturating_sub(mature));
        let name = of.kind.name().to_owned();
        [name, group_digits(of.known), number(of.mature), number(not_yet), rule(of.kind, detect)]
    });
    let lines: Vec<[String; 5]> = std::iter::once(heading).chain(rows).collect();
    if lines.len() > 1 {
        text.push('\n');
        text.push_str(&aligned(&lines, &[1, 2, 3]));
    }
    text
}
