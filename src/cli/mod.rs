//! The command line: one file per subcommand.

pub mod config;
mod output;
pub mod replay;
mod summary;

/// Says on standard error why the program ends. Names that strangers gave to files cannot move the cursor.
pub fn complain(error: &anyhow::Error) {
    for line in format!("{error:#}").lines() {
        eprintln!("outfall: {}", crate::endpoint::printable(line));
    }
}
