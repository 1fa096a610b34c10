//! What this machine says of itself.

use std::net::IpAddr;

use super::config;
use crate::endpoint::HostDescription;
use crate::net::Timestamp;

/// The machine's names and addresses, as far as the configuration does not say otherwise.
pub fn describe(config: &config::Host) -> HostDescription {
    let or = |text: &str, own: fn() -> Option<String>| if text.is_empty() { own() } else { Some(text.to_owned()) };
    let name = or(&config.name, system::name);
    let id = or(&config.id, system::id).or_else(|| name.clone()).unwrap_or_default();
    HostDescription { id, name, domain: system::domain(), ips: system::addresses() }
}

/// When the machine started.
pub fn boot() -> Option<Timestamp> {
    system::boot()
}

/// Lets everything else go before the calling thread.
pub fn lower_priority() {
    system::lower_priority();
}

/// Drops addresses that say nothing: those of this machine alone.
pub(super) fn is_address(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified()
}

#[cfg(windows)]
use super::windows::host as system;

#[cfg(not(windows))]
mod system {
    use super::{IpAddr, Timestamp};

    fn line(path: &str) -> Option<String> {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    pub fn name() -> Option<String> {
        line("/proc/sys/kernel/hostname")
    }

    pub fn id() -> Option<String> {
        line("/etc/machine-id")
    }

    pub fn domain() -> Option<String> {
        None
    }

    /// Only the address that the link uses is known here; see the uplink.
    pub fn addresses() -> Vec<IpAddr> {
        Vec::new()
    }

    pub fn boot() -> Option<Timestamp> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Timestamp::from_parts(seconds, 0))
    }

    pub fn lower_priority() {}
}
