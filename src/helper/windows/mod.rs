//! What the helper asks of Windows. Each file wraps one part of its interface; what comes back is read elsewhere.

pub mod console;
mod drives;
mod etw;
mod eventlog;
mod handle;
mod handles;
pub mod host;
mod library;
pub mod oplock;
mod poll;
mod process;
pub mod service;
mod subscription;
mod tcp;
mod text;
mod trace;
mod watch;

use super::config::{Config, When};
use super::source::Source;

/// The sources that the configuration wants: rows of which the next takes over when one fails.
pub fn sources(config: &Config) -> Vec<Vec<Box<dyn Source>>> {
    let mut rows: Vec<Vec<Box<dyn Source>>> = Vec::new();
    let mut live: Vec<Box<dyn Source>> = Vec::new();
    if config.sources.eventlog {
        rows.push(vec![Box::new(eventlog::EventLog::new(config))]);
    }
    if config.sources.etw {
        live.push(Box::new(etw::Etw));
    }
    match config.sources.poll {
        When::Never => {}
        When::Fallback => live.push(Box::new(poll::Poll::new(config))),
        When::Always => rows.push(vec![Box::new(poll::Poll::new(config))]),
    }
    if !live.is_empty() {
        rows.push(live);
    }
    rows
}
