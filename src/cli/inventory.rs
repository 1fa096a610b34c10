//! `outfall inventory`: which processes send what over which cleartext protocol to whom, and what of it is justified.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::database::Database;
use crate::endpoint::{printable, shortened};
use crate::net::{Span, Timestamp, group_digits};
use crate::store::{InventoryRow, Since};

/// What `outfall inventory` is told.
#[derive(Debug, clap::Args)]
pub struct InventoryArgs {
    #[command(flatten)]
    database: Database,

    /// Only uploads that began since then: a date or a time in UTC (2026-03-01), or a time before the last one (30d)
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,

    /// Rows that are printed, those with the most bytes first
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    most: u32,

    /// Print one JSON object per line
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print comma-separated values, with a heading
    #[arg(long)]
    csv: bool,
}

/// The width of a name in the table.
const NAME: usize = 44;

fn since(text: &str) -> Result<Since, String> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(Since::Last(span));
    }
    const SHAPE: &[u8] = b"0000-00-00T00:00:00Z";
    let fits = text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == *shape,
    });
    if fits && [10, SHAPE.len()].contains(&text.len()) {
        // What is kept has nanoseconds, before which a `Z` would count as later.
        Ok(Since::Time(text.trim_end_matches('Z').to_owned()))
    } else {
        Err("neither a date (2026-03-01), nor a time (2026-03-01T08:00:00Z), nor a length of time (30d)".to_owned())
    }
}

/// Prints what is kept of uploads, by process, protocol and destination.
///
/// # Errors
/// If the database cannot be read.
pub fn run(args: &InventoryArgs) -> anyhow::Result<ExitCode> {
    let config = args.database.config()?;
    let most = usize::try_from(args.most).unwrap_or(usize::MAX);
    let since = args.since.clone().unwrap_or(Since::Ever);
    let mut rows = args.database.open(&config)?.inventory(&since, most.saturating_add(1))?;
    let more = rows.len() > most;
    rows.truncate(most);
    let text = match (args.json, args.csv) {
        (true, _) => rows.iter().map(|row| format!("{}\n", document(row))).collect(),
        (_, true) => csv(&rows),
        _ => table(&rows),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads the output may stop when it has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the output")?
        }
        _ => {}
    }
    if more {
        eprintln!("outfall: warning: there are more than {most} rows: see --most");
    }
    Ok(ExitCode::SUCCESS)
}

fn document(row: &InventoryRow) -> Value {
    json!({
        "process": row.process,
        "signer": row.signer,
        "protocol": row.protocol,
        "destination": row.destination,
        "hosts": row.hosts,
        "users": row.users,
        "uploads": row.uploads,
        "bytes": row.bytes.0,
        "first": row.first.to_string(),
        "last": row.last.to_string(),
        "justified_uploads": row.justified,
        "exceptions": row.exceptions,
    })
}

fn csv(rows: &[InventoryRow]) -> String {
    let mut text =
        "process,signer,protocol,destination,hosts,users,uploads,bytes,first,last,justified_uploads,exceptions\n"
            .to_owned();
    for row in rows {
        let quoted = |name: &str| quoted(&printable(name));
        let cells = [
            quoted(row.process.as_deref().unwrap_or_default()),
            quoted(row.signer.as_deref().unwrap_or_default()),
            quoted(&row.protocol),
            quoted(&row.destination),
            row.hosts.to_string(),
            row.users.to_string(),
            row.uploads.to_string(),
            row.bytes.0.to_string(),
            row.first.to_string(),
            row.last.to_string(),
            row.justified.to_string(),
            quoted(&row.exceptions.join(" ")),
        ];
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

/// A spreadsheet takes what begins like this for a formula, and would run what a stranger named a file.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

/// The end of a long path, which names the program.
fn ending(path: &str) -> String {
    let path = printable(path);
    let over = path.chars().count().saturating_sub(NAME);
    if over == 0 { path.into_owned() } else { format!("\u{2026}{}", path.chars().skip(over + 1).collect::<String>()) }
}

fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn table(rows: &[InventoryRow]) -> String {
    if rows.is_empty() {
        return "No outbound uploads are kept for this time.\n".to_owned();
    }
    let heading = ["PROCESS", "PROTOCOL", "DESTINATION", "HOSTS", "UPLOADS", "BYTES", "SINCE", "LAST", "JUSTIFIED"]
        .map(str::to_owned);
    let mut lines = vec![heading];
    for row in rows {
        let process = row.process.as_deref().map_or_else(|| "(not known)".to_owned(), ending);
        let justified = match row.justified {
            0 => "no".to_owned(),
            some if some == row.uploads => row.exceptions.join(" "),
            some => format!("{} of them: {}", group_digits(some), row.exceptions.join(" ")),
        };
        lines.push([
            process,
            printable(&row.protocol).into_owned(),
            shortened(&row.destination, NAME),
            group_digits(row.hosts),
            group_digits(row.uploads),
            group_digits(row.bytes.0),
            day(row.first),
            day(row.last),
            printable(&justified).into_owned(),
        ]);
    }
    let mut text = aligned(&lines, &[3, 4, 5]);
    let sum = |of: fn(&InventoryRow) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
    let _ = writeln!(
        text,
        "\n{} uploads, {} bytes; {} uploads are justified by an exception.",
        group_digits(sum(|row| row.uploads)),
        group_digits(sum(|row| row.bytes.0)),
        group_digits(sum(|row| row.justified))
    );
    text
}

/// Columns as wide as they need; those of numbers end at the right.
pub(super) fn aligned<const N: usize>(lines: &[[String; N]], numbers: &[usize]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (n, (cell, width)) in line.iter().zip(widths).enumerate() {
            let space = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if numbers.contains(&n) { (space.as_str(), "") } else { ("", space.as_str()) };
            let _ = write!(row, "{before}{cell}{after}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_date_a_time_or_a_length_of_time() {
        assert_eq!(since("30d"), Ok(Since::Last(Span::seconds(30 * 86_400))));
        assert_eq!(since("2026-03-01"), Ok(Since::Time("2026-03-01".to_owned())));
        assert_eq!(since("2026-03-01T08:00:00Z"), Ok(Since::Time("2026-03-01T08:00:00".to_owned())));
        for wrong in ["", "yesterday", "2026-3-1", "2026-03-01T", "2026-03-01T08:00:00Z or later"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hostile_names_move_no_cursor_and_are_no_formula() {
        let row = InventoryRow {
            process: Some("=cmd|'\u{1b}[2J\"".to_owned()),
            protocol: "ftp".to_owned(),
            destination: "a\nb.example".to_owned(),
            uploads: 1,
            ..InventoryRow::default()
        };
        for text in [table(std::slice::from_ref(&row)), csv(std::slice::from_ref(&row))] {
            assert!(!text.contains('\u{1b}') && !text.contains("a\nb"), "{text}");
        }
        assert!(csv(&[row]).lines().nth(1).is_some_and(|line| line.starts_with("\"'=cmd")));
    }
}
