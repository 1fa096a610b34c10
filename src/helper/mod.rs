//! The helper of an endpoint: what it sees of processes, connections and files, it reports to the sensor.

pub mod config;
mod gather;
mod pattern;
mod sighting;
mod spool;
