//! From facts to outcomes: each upload is joined to its process and files, and judged.
//!
//! Whether a destination is rare in a replay is known only at its end, so what may become an alert waits until
//! then. The wait is bounded; who is pushed out is judged with what is known.

use std::collections::{BTreeMap, VecDeque};

use super::names::Names;
use super::third_host::ThirdHosts;
use crate::alert::Alert;
use crate::config::Config;
use crate::detect::Detector;
use crate::endpoint::History;
use crate::join::{Attribution, Coverage, FileLink, FlowSeen, Joiner, Tally};
use crate::protocol::Fact;
use crate::record::{Connection, Flow, State, Upload};

/// What the pipeline puts out.
#[derive(Debug)]
pub enum Outcome {
    /// An upload with its process and files.
    Upload(Box<JoinedUpload>),
    /// A connection with its process.
    Flow(Box<(Flow, Attribution)>),
    /// An alert.
    Alert(Box<Alert>),
}

/// An upload, whose process made it, and what files it is linked to.
#[derive(Clone, Debug)]
pub struct JoinedUpload {
    /// The upload.
    pub upload: Upload,
    /// Its process, or why none is named.
    pub attribution: Attribution,
    /// Its files on the endpoint.
    pub links: Vec<FileLink>,
}

/// Counts of the join and the verdict.
#[derive(Clone, Debug, Default)]
pub struct JudgementCounters {
    /// What could be attributed, by flows and by upload bytes.
    pub coverage: Coverage,
    /// Uploads by protocol, running ones not counted.
    pub by_protocol: BTreeMap<&'static str, Tally>,
    /// Uploads that left the home networks.
    pub outbound: u64,
    /// Alerts.
    pub alerts: u64,
    /// Uploads judged before the prevalence of the whole replay was known, for want of room.
    pub judged_early: u64,
}

/// Joins and judges.
pub struct Judgement {
    joiner: Joiner,
    detector: Detector,
    third_hosts: ThirdHosts,
    names: Names,
    waiting: VecDeque<Box<JoinedUpload>>,
    max_waiting: usize,
    counters: JudgementCounters,
}

impl Judgement {
    /// With what endpoints reported.
    pub fn new(config: &Config, history: History) -> Self {
        Self {
            joiner: Joiner::new(&config.join, history),
            detector: Detector::new(config),
            third_hosts: ThirdHosts::new(
                usize::try_from(config.protocol.expectations).unwrap_or(usize::MAX),
                config.files.hash,
            ),
            names: Names::new(&config.protocol),
            waiting: VecDeque::new(),
            max_waiting: usize::try_from(config.detect.max_pending).unwrap_or(usize::MAX),
            counters: JudgementCounters::default(),
        }
    }

    /// Takes a fact; what comes of it at once goes to `sink`.
    pub fn take(&mut self, fact: Fact, sink: &mut impl FnMut(Outcome)) {
        match fact {
            Fact::Name(name) => self.names.learn(*name),
            Fact::Flow(flow) => {
                self.third_hosts.note(&flow);
                let attribution = self.joiner.attribute(flow.connection, flow.start, flow.end);
                self.counters.coverage.flow(&attribution);
                sink(Outcome::Flow(Box::new((*flow, attribution))));
            }
            Fact::Upload(upload) => {
                let mut upload = *upload;
                self.third_hosts.complete(&mut upload);
                self.names.complete(&mut upload);
                let joined = Box::new(self.join(upload));
                if joined.upload.state != State::Running {
                    self.note(&joined, sink);
                }
                sink(Outcome::Upload(joined));
            }
        }
    }

    fn join(&self, upload: Upload) -> JoinedUpload {
        let seen = FlowSeen { connection: upload.connection, start: upload.opened, end: upload.end };
        let attribution = match &upload.ftp {
            Some(ftp) => {
                let control = ftp.control_client.zip(ftp.control_server).map(|(client, server)| FlowSeen {
                    connection: Connection { client, server },
                    start: ftp.control_opened,
                    end: upload.end,
                });
                self.joiner.attribute_ftp(seen, control)
            }
            None => self.joiner.attribute(seen.connection, seen.start, seen.end),
        };
        let links = self.joiner.files(&upload, &attribution);
        JoinedUpload { upload, attribution, links }
    }

    fn note(&mut self, joined: &JoinedUpload, sink: &mut impl FnMut(Outcome)) {
        self.counters.coverage.upload(&joined.attribution, joined.upload.bytes);
        let tally = self.counters.by_protocol.entry(joined.upload.protocol.name()).or_default();
        tally.uploads += 1;
        tally.bytes = tally.bytes.saturating_add(joined.upload.bytes);
        self.detector.observe(&joined.upload);
        if !self.detector.is_outbound(&joined.upload) {
            return;
        }
        self.counters.outbound += 1;
        self.waiting.push_back(Box::new(joined.clone()));
        if self.waiting.len() > self.max_waiting
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.counters.judged_early += 1;
            self.judge(*oldest, sink);
        }
    }

    /// The input is over: judges what waited, in order.
    pub fn finish(&mut self, sink: &mut impl FnMut(Outcome)) {
        while let Some(joined) = self.waiting.pop_front() {
            self.judge(*joined, sink);
        }
    }

    fn judge(&mut self, joined: JoinedUpload, sink: &mut impl FnMut(Outcome)) {
        let JoinedUpload { upload, attribution, links } = joined;
        if let Some(verdict) = self.detector.judge(&upload, &attribution, &links) {
            self.counters.alerts += 1;
            sink(Outcome::Alert(Box::new(Alert::new(upload, attribution, links, verdict))));
        }
    }

    /// The counts so far.
    pub fn counters(&self) -> &JudgementCounters {
        &self.counters
    }

    /// Learnt names that went for want of room.
    pub fn names_dropped(&self) -> u64 {
        self.names.dropped
    }

    /// Files between two other hosts that were not hashed because their connection was known too late.
    pub fn bound_late(&self) -> u64 {
        self.third_hosts.bound_late
    }

    /// What endpoints reported.
    pub fn history(&self) -> &History {
        self.joiner.history()
    }
}
