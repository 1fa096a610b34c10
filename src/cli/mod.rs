//! The command line: one file per subcommand.

pub mod baseline;
#[cfg(target_os = "linux")]
pub mod check;
pub mod config;
#[cfg(target_os = "linux")]
mod counters;
pub mod coverage;
mod database;
#[cfg(target_os = "linux")]
mod delivering;
#[cfg(target_os = "linux")]
pub mod enroll;
#[cfg(target_os = "linux")]
mod events;
pub mod evidence;
mod evidencing;
pub mod inventory;
mod keeping;
mod excepting;
pub mod exception;
#[cfg(target_os = "linux")]
mod listening;
#[cfg(target_os = "linux")]
mod metering;
mod output;
pub mod replay;
pub mod report;
#[cfg(target_os = "linux")]
pub mod run;
#[cfg(target_os = "linux")]
pub mod running;
#[cfg(target_os = "linux")]
mod service;
mod summary;
#[cfg(target_os = "linux")]
mod target;
#[cfg(target_os = "linux")]
pub mod watch;

/// Says on standard error why the program ends. Names that strangers gave to files cannot move the cursor.
pub fn complain(error: &anyhow::Error) {
    for line in format!("{error:#}").lines() {
        eprintln!("outfall: {}", crate::endpoint::printable(line));
    }
}

/// A file's name without its directory, which is this machine's own business.
fn name_of(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The time by this machine's clock, in whole seconds, as people read it.
fn now() -> crate::net::Timestamp {
    crate::net::Timestamp::from_parts(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0), 0)
}
