//! What every module has counted so far, as plain values at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Alerts;
use crate::alert::Trouble;
use crate::capture::live::{FeedCounters, InterfaceCounters, ReliefCounters};
use crate::deliver;
use crate::detect::BaselineCounters;
use crate::endpoint::listener::ListenerCounters;
use crate::endpoint::{self, HistoryCounters};
use crate::evidence::{KeeperCounters, WriterCounters};
use crate::flow::FlowCounters;
use crate::join::{Share, Tally};
use crate::packet::{FragmentCounters, PacketCounters};
use crate::protocol::{ProtocolCounters, Uploading};

/// What became of everything on one capture thread.
#[derive(Clone, Debug, Default)]
pub struct ThreadSample {
    /// Of its rings.
    pub feed: FeedCounters,
    /// Of what the kernel only counted.
    pub relief: ReliefCounters,
    /// Of packets that are kept for alerts.
    pub kept: KeeperCounters,
    /// Facts of each kind that the join was too slow for.
    pub dropped: [(&'static str, u64); 3],
    /// How many kinds of work are given up.
    pub shed: u64,
    /// How often a further kind was given up.
    pub shed_steps: u64,
    /// How far reading lagged behind arrival in the last second, at most.
    pub lag: Duration,
}

/// How full something bounded is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The configuration key of its bound.
    pub bound: &'static str,
    /// Items or bytes in it.
    pub used: u64,
    /// How many there may be.
    pub limit: u64,
}

/// What the system says of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Time on processors, of all threads.
    pub cpu: Duration,
    /// Memory in use, in bytes, if the system tells.
    pub resident: Option<u64>,
    /// When it started, in seconds since 1970.
    pub started: f64,
}

/// The sensor at one moment: all counts since its start.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// By capture thread.
    pub threads: Vec<ThreadSample>,
    /// By interface.
    pub interfaces: Vec<(String, InterfaceCounters)>,
    /// Packets by what they turned out to be, of all threads.
    pub packet: PacketCounters,
    /// Fragments.
    pub fragment: FragmentCounters,
    /// Segments and connections.
    pub flow: FlowCounters,
    /// What was read of them.
    pub protocol: ProtocolCounters,
    /// Lines that endpoints sent, of files and of helpers.
    pub intake: endpoint::Counters,
    /// What the bounds of their history cost.
    pub history: HistoryCounters,
    /// What the listener counted, if there is one.
    pub listener: Option<ListenerCounters>,
    /// Helpers that are known, and those of them that are connected.
    pub helpers: (u64, u64),
    /// Names from DNS that were forgotten.
    pub names_forgotten: u64,
    /// Facts that were joined before the grace was over.
    pub joined_early: u64,
    /// Uploads delivered again, with the process that was not known before.
    pub corrected: u64,
    /// Uploads that could not be corrected any more, as there were too many.
    pub uncorrected: u64,
    /// Finished uploads by protocol.
    pub uploads: BTreeMap<&'static str, Tally>,
    /// Of them, those that left the home networks.
    pub outbound: u64,
    /// What could be attributed to a process, and why not the rest.
    pub coverage: Share,
    /// Verdicts held, as the baseline still learns.
    pub held: u64,
    /// Stories begun, alerts that became part of one, stories ended for want of room.
    pub stories: (u64, u64, u64),
    /// What the bounds of the baseline cost.
    pub baseline: BaselineCounters,
    /// Alerts handed out.
    pub alerts: Alerts,
    /// The store and the deliveries, if there are any.
    pub delivery: Option<deliver::Counters>,
    /// Queues, in items.
    pub queues: Vec<Level>,
    /// Memory, in bytes, by its bound.
    pub memory: Vec<Level>,
    /// Entries of tables that are bounded by their number.
    pub tables: Vec<Level>,
    /// Bytes on disks, by their bound.
    pub disk: Vec<Level>,
    /// Uploads that are under way.
    pub uploading: Uploading,
    /// The evidence of alerts, if it is written.
    pub evidence: Option<WriterCounters>,
    /// Lines of the output that could not be written.
    pub output_lost: u64,
    /// The process.
    pub process: Process,
    /// What keeps the sensor from seeing all, for now.
    pub troubles: Vec<Trouble>,
    /// Capture threads that make no progress.
    pub stuck: Vec<usize>,
    /// Whether alerts cannot be stored, for now.
    pub store_fails: bool,
    /// Whether the sensor ends.
    pub ending: bool,
}
