//! The command line: one file per subcommand.

pub mod config;
mod output;
pub mod replay;
mod summary;
