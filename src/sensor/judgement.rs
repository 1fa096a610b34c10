//! From facts to outcomes: each upload is joined to its process and files, and judged.
//!
//! Whether a destination is rare in a replay is known only at its end, so what may become an alert waits until
//! then. The wait is bounded; who is pushed out is judged with what is known.

use std::collections::{BTreeMap, VecDeque};

use super::names::Names;
use super::third_host::ThirdHosts;
use crate::alert::{Alert, Health, Loss};
use crate::config::Config;
use crate::detect::Detector;
use crate::endpoint::History;
use crate::join::{Attribution, Coverage, FileLink, FlowSeen, Joiner, Tally};
use crate::net::Timestamp;
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
    /// An alert on the sensor itself.
    Health(Box<Health>),
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
    /// Facts of a replay that were joined before all flows had told of the clocks, for want of room.
    pub joined_early: u64,
    /// Uploads judged before the prevalence of the whole replay was known, for want of room.
    pub judged_early: u64,
}

/// Joins and judges.
pub struct Judgement {
    joiner: Joiner,
    detector: Detector,
    third_hosts: ThirdHosts,
    names: Names,
    /// Facts that wait until the clocks are learnt, at the beginning of a replay.
    unjoined: VecDeque<Fact>,
    /// How many may; 0 once they have gone.
    max_unjoined: usize,
    waiting: VecDeque<Box<JoinedUpload>>,
    max_waiting: usize,
    /// Nothing waits for the end, as there is none: uploads are judged with what is known.
    live: bool,
    losses: Losses,
    counters: JudgementCounters,
}

impl Judgement {
    /// With what endpoints reported.
    pub fn new(config: &Config, history: History) -> Self {
        // Where no event tells of a connection there is nothing to learn.
        let learn = if history.hosts().is_empty() { 0 } else { config.join.learn };
        Self {
            unjoined: VecDeque::new(),
            max_unjoined: usize::try_from(learn).unwrap_or(usize::MAX),
            joiner: Joiner::new(&config.join, history),
            detector: Detector::new(config),
            third_hosts: ThirdHosts::new(
                usize::try_from(config.protocol.expectations).unwrap_or(usize::MAX),
                config.files.hash,
            ),
            names: Names::new(&config.protocol),
            waiting: VecDeque::new(),
            max_waiting: usize::try_from(config.detect.max_pending).unwrap_or(usize::MAX),
            live: false,
            losses: Losses::default(),
            counters: JudgementCounters::default(),
        }
    }

    /// For an input without an end: each upload is judged as it is taken.
    pub fn live(config: &Config, history: History) -> Self {
        Self { live: true, max_unjoined: 0, ..Self::new(config, history) }
    }

    /// Takes up another policy: what is ours, how uploads are joined, and what is an alert. What was learnt stays.
    pub fn configure(&mut self, config: &Config) {
        self.joiner.configure(&config.join);
        self.detector.configure(config);
    }

    /// Takes the offset of a host's clock that its helper's heartbeats tell: by how many nanoseconds it is ahead.
    pub fn measured(&mut self, host: &str, ahead: i64) {
        self.joiner.measured(host, ahead);
    }

    /// Takes note that the sensor lost packets at that time.
    pub fn note_loss(&mut self, from: Timestamp, to: Timestamp, loss: Loss) {
        self.losses.note(from, to, loss);
    }

    /// Takes a fact; what comes of it at once goes to `sink`.
    ///
    /// In a replay the first `join.learn` facts wait, so that every flow tells of the clocks before one is joined.
    pub fn take(&mut self, fact: Fact, sink: &mut impl FnMut(Outcome)) {
        if let Fact::Flow(flow) = &fact {
            self.joiner.learn(seen(flow));
        }
        if self.max_unjoined == 0 {
            return self.join_fact(fact, sink);
        }
        self.unjoined.push_back(fact);
        if self.unjoined.len() > self.max_unjoined {
            self.counters.joined_early += self.unjoined.len() as u64;
            self.max_unjoined = 0;
            self.join_unjoined(sink);
        }
    }

    fn join_unjoined(&mut self, sink: &mut impl FnMut(Outcome)) {
        while let Some(fact) = self.unjoined.pop_front() {
            self.join_fact(fact, sink);
        }
    }

    fn join_fact(&mut self, fact: Fact, sink: &mut impl FnMut(Outcome)) {
        match fact {
            Fact::Name(name) => self.names.learn(*name),
            Fact::Flow(flow) => {
                self.third_hosts.note(&flow);
                let attribution = self.joiner.attribute(seen(&flow));
                self.counters.coverage.flow(&attribution);
                sink(Outcome::Flow(Box::new((*flow, attribution))));
            }
            Fact::Upload(upload) => {
                let mut upload = *upload;
                self.third_hosts.complete(&mut upload);
                self.names.complete(&mut upload);
                let joined = Box::new(self.join(upload));
                let due = if joined.upload.state == State::Running { None } else { self.note(&joined) };
                sink(Outcome::Upload(joined));
                if let Some(due) = due {
                    self.judge(*due, sink);
                }
            }
        }
    }

    fn join(&self, upload: Upload) -> JoinedUpload {
        let (connection, start, end) = (upload.connection, upload.opened, upload.end);
        let seen = FlowSeen { connection, start, end, opening_seen: true };
        let attribution = match &upload.ftp {
            Some(ftp) => {
                let control = ftp.control_client.zip(ftp.control_server).map(|(client, server)| FlowSeen {
                    connection: Connection { client, server },
                    start: ftp.control_opened,
                    end: upload.end,
                    opening_seen: true,
                });
                self.joiner.attribute_ftp(seen, control)
            }
            None => self.joiner.attribute(seen),
        };
        let links = self.joiner.files(&upload, &attribution);
        JoinedUpload { upload, attribution, links }
    }

    /// Takes note of an upload; gives one that is to be judged now.
    fn note(&mut self, joined: &JoinedUpload) -> Option<Box<JoinedUpload>> {
        self.counters.coverage.upload(&joined.attribution, joined.upload.bytes);
        let tally = self.counters.by_protocol.entry(joined.upload.protocol.name()).or_default();
        tally.uploads += 1;
        tally.bytes = tally.bytes.saturating_add(joined.upload.bytes);
        self.detector.observe(&joined.upload);
        if !self.detector.is_outbound(&joined.upload) {
            return None;
        }
        self.counters.outbound += 1;
        let joined = Box::new(joined.clone());
        if self.live {
            return Some(joined);
        }
        self.waiting.push_back(joined);
        if self.waiting.len() <= self.max_waiting {
            return None;
        }
        self.counters.judged_early += 1;
        self.waiting.pop_front()
    }

    /// The input is over: judges what waited, in order.
    pub fn finish(&mut self, sink: &mut impl FnMut(Outcome)) {
        self.join_unjoined(sink);
        while let Some(joined) = self.waiting.pop_front() {
            self.judge(*joined, sink);
        }
    }

    fn judge(&mut self, joined: JoinedUpload, sink: &mut impl FnMut(Outcome)) {
        let JoinedUpload { upload, attribution, links } = joined;
        if let Some(verdict) = self.detector.judge(&upload, &attribution, &links) {
            self.counters.alerts += 1;
            let loss = self.losses.during(upload.opened.min(upload.start), upload.end);
            let alert = Alert { loss, ..Alert::new(upload, attribution, links, verdict) };
            sink(Outcome::Alert(Box::new(alert)));
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

    /// What endpoints report, to be added to.
    pub fn history_mut(&mut self) -> &mut History {
        self.joiner.history_mut()
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

fn seen(flow: &Flow) -> FlowSeen {
    FlowSeen { connection: flow.connection, start: flow.start, end: flow.end, opening_seen: flow.opening_seen }
}

/// Times at which the sensor lost packets that are remembered. Beyond, the two earliest become one.
const MOST_LOSSES: usize = 1_024;

/// When the sensor lost packets.
#[derive(Debug, Default)]
struct Losses {
    times: VecDeque<(Timestamp, Timestamp, Loss)>,
}

impl Losses {
    fn note(&mut self, from: Timestamp, to: Timestamp, loss: Loss) {
        self.times.push_back((from, to, loss));
        if self.times.len() > MOST_LOSSES
            && let Some((from, to, one)) = self.times.pop_front()
            && let Some((next_from, next_to, next)) = self.times.front_mut()
        {
            (*next_from, *next_to) = (from.min(*next_from), to.max(*next_to));
            *next = Loss { lost: one.lost + next.lost, of: one.of + next.of };
        }
    }

    fn during(&self, from: Timestamp, to: Timestamp) -> Option<Loss> {
        let touching = self.times.iter().filter(|(begin, end, _)| *begin <= to && from <= *end);
        touching.map(|(.., loss)| *loss).reduce(|a, b| Loss { lost: a.lost + b.lost, of: a.of + b.of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_remembered_by_time_and_bounded() {
        let mut losses = Losses::default();
        let loss = Loss { lost: 1, of: 10 };
        for n in 0..2 * MOST_LOSSES as u64 {
            losses.note(Timestamp(10 * n), Timestamp(10 * n + 5), loss);
        }
        let end = 20 * MOST_LOSSES as u64;
        assert_eq!(losses.during(Timestamp(end - 4), Timestamp(end)), None);
        assert_eq!(losses.during(Timestamp(end - 12), Timestamp(end)), Some(loss));
        assert_eq!(losses.during(Timestamp(0), Timestamp(end)), Some(Loss { lost: 2048, of: 20_480 }));
        assert_eq!(losses.times.len(), MOST_LOSSES);
    }
}
