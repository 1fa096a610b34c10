//! Outfall: a passive network sensor for data that leaves in the clear.
//!
//! The modules below stand in the order in which data passes them; each uses only those above it.

pub mod net;
#[cfg(feature = "sensor")]
pub mod config;
#[cfg(feature = "sensor")]
pub mod record;
#[cfg(feature = "sensor")]
pub mod capture;
#[cfg(feature = "sensor")]
pub mod packet;
#[cfg(feature = "sensor")]
pub mod flow;
#[cfg(feature = "sensor")]
pub mod protocol;
#[cfg(any(feature = "sensor", feature = "helper"))]
pub mod endpoint;
#[cfg(feature = "sensor")]
pub mod join;
#[cfg(feature = "sensor")]
pub mod detect;
#[cfg(feature = "sensor")]
pub mod alert;
#[cfg(feature = "sensor")]
pub mod store;
#[cfg(all(feature = "sensor", unix))]
pub mod deliver;
#[cfg(feature = "sensor")]
pub mod evidence;
#[cfg(feature = "sensor")]
pub mod report;
#[cfg(all(feature = "sensor", target_os = "linux"))]
pub mod metrics;
#[cfg(feature = "sensor")]
pub mod sensor;
#[cfg(feature = "helper")]
pub mod helper;
#[cfg(feature = "sensor")]
pub mod cli;
