//! The helper of an endpoint: what it sees of processes, connections and files, it reports to the sensor.
//!
//! Sources hand sightings to one thread, which gathers file events, has the files that matter hashed, and writes reports
//! to the spool. The uplink sends what is in the spool until the sensor has acknowledged it.
//! Promises: memory and disk are bounded, nothing is lost without being counted, and the machine's work comes first.

mod agent;
pub mod command;
pub mod config;
mod gather;
mod guard;
mod hash;
mod host;
#[cfg(any(windows, test))]
mod layout;
mod log;
mod pattern;
mod sighting;
mod source;
mod spool;
mod stop;
mod uplink;
#[cfg(windows)]
mod windows;

/// Random bytes from the system.
///
/// # Errors
/// If the system has none.
fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| std::io::Error::other("no random numbers"))?;
    Ok(bytes)
}
