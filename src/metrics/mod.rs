//! How the sensor fares, told to whoever asks: metrics for Prometheus, health and readiness, over HTTP.
//!
//! In comes, about once a second, a [`Sample`] of what each module has counted by itself; nothing is counted here that
//! packets pass. Out go three pages, served by one thread with an event loop of its own, on a socket that was opened
//! before the sensor gave up the right to. What a client does costs that thread alone: connections, the size of a
//! request and its time are bounded, and a page is written once for each sample, however often it is asked for.

mod alerts;
mod condition;
mod exposition;
mod families;
mod sample;
mod server;

pub use alerts::{Alerts, BUCKETS, Latency};
pub use condition::Condition;
pub use exposition::text;
pub use sample::{Level, Process, Sample, ThreadSample};
pub use server::{Bound, MetricsError, Server, ServerCounters, answer_to};
