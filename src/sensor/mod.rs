//! The only place that knows the whole pipeline: lanes, workers and the order in which facts come out.
//!
//! Packets are spread over a fixed number of lanes by host pair; a worker serves some of the lanes. Each lane has
//! its own tables and its own share of every bound, so what happens in it does not depend on how many workers
//! there are, and facts are put in order by the moment that caused them.

mod judgement;
#[cfg(target_os = "linux")]
pub mod live;
mod merge;
mod names;
mod stories;
mod replay;
#[cfg(target_os = "linux")]
pub mod sandbox;
mod third_host;
mod worker;

pub use judgement::{JoinedUpload, Judgement, JudgementCounters, Outcome};
pub use replay::{Replay, ReplayError};
pub use stories::StoryCounters;
pub use worker::{LANES, SensorCounters};
