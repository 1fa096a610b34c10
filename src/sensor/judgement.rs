//! From facts to outcomes: each upload is joined to its process and files, and judged.
//!
//! How many hosts upload to a destination is known only later, so in a replay what may become an alert waits for
//! `detect.hindsight`. The wait is bounded; who is pushed out is judged with what is known.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::names::Names;
use super::stories::{Stories, StoryCounters};
use super::third_host::ThirdHosts;
use crate::alert::{Alert, Health, Loss, Playbook};
use crate::config::Config;
use crate::detect::{BaselineCounters, Change, Detector, ExceptionCounters, Exceptions, Places, Route, Row};
use crate::endpoint::History;
use crate::join::{Attribution, Coverage, FileLink, FlowSeen, Joiner, Offset, Tally};
use crate::net::{Span, Timestamp};
use crate::protocol::Fact;
use crate::record::{Connection, Flow, State, Upload};

/// What the pipeline puts out.
#[derive(Debug)]
pub enum Outcome {
    /// An upload with its process and files.
    Upload(Arc<JoinedUpload>),
    /// A connection with its process.
    Flow(Box<Flow>, Attribution),
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
    /// It was delivered before, without its process.
    pub corrected: bool,
    /// From where and to where it left the home networks, if it did.
    pub route: Option<Route>,
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
    /// Verdicts that were held, as the baseline still learns.
    pub held: u64,
    /// Facts of a replay that were joined before all flows had told of the clocks, for want of room.
    pub joined_early: u64,
    /// Uploads that were delivered again, with the process that was not known before.
    pub corrected: u64,
    /// Uploads that stayed without their process because too many could still have been corrected.
    pub uncorrected: u64,
    /// Uploads judged before `detect.hindsight` had passed, for want of room.
    pub judged_early: u64,
}

/// An upload that was delivered without its process.
struct Unanswered {
    /// Until when the answer is taken.
    until: Timestamp,
    joined: Arc<JoinedUpload>,
    /// It was an alert nonetheless.
    alert: Option<Box<Alert>>,
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
    waiting: VecDeque<Arc<JoinedUpload>>,
    max_waiting: usize,
    hindsight: Span,
    exceptions: Exceptions,
    playbook: Playbook,
    stories: Stories,
    /// Nothing waits for the end, as there is none: uploads are judged with what is known.
    live: bool,
    /// Uploads that were delivered without their process, the oldest first.
    unanswered: VecDeque<Unanswered>,
    max_unanswered: usize,
    correct: Span,
    /// Events that had come when the unanswered were looked at last.
    looked: u64,
    losses: Losses,
    gaps: Losses,
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
            hindsight: config.detect.hindsight,
            exceptions: Exceptions::default(),
            playbook: Playbook::new(&config.playbook),
            stories: Stories::new(&config.detect, false),
            live: false,
            unanswered: VecDeque::new(),
            max_unanswered: usize::try_from(config.join.max_correctable).unwrap_or(usize::MAX),
            correct: config.join.correct,
            looked: 0,
            losses: Losses::default(),
            gaps: Losses::default(),
            counters: JudgementCounters::default(),
        }
    }

    /// For an input without an end: each upload is judged as it is taken.
    pub fn live(config: &Config, history: History) -> Self {
        let stories = Stories::new(&config.detect, true);
        Self { live: true, max_unjoined: 0, hindsight: Span(0), stories, ..Self::new(config, history) }
    }

    /// Verdicts say where destinations are, as far as these databases know.
    pub fn locate(&mut self, places: Places) {
        self.detector.locate(places);
    }

    /// Takes back what an earlier run learned, the least recent first; from then on the baseline learns, and
    /// [`Judgement::changes`] says what of it changed.
    pub fn restore(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.detector.restore(rows);
    }

    /// What of the baseline changed since the last call.
    pub fn changes(&mut self) -> Vec<Change> {
        self.detector.changes()
    }

    /// Takes up another policy: what is ours, how uploads are joined, and what is an alert. What was learnt stays.
    pub fn configure(&mut self, config: &Config) {
        self.joiner.configure(&config.join);
        self.max_unanswered = usize::try_from(config.join.max_correctable).unwrap_or(usize::MAX);
        self.correct = config.join.correct;
        self.detector.configure(config);
        self.playbook = Playbook::new(&config.playbook);
        self.stories.configure(&config.detect);
    }

    /// Takes the offset of a host's clock that its helper's heartbeats tell: by how many nanoseconds it is ahead.
    pub fn measured(&mut self, host: &str, ahead: i64) {
        self.joiner.measured(host, ahead);
    }

    /// Takes note that the sensor lost packets at that time.
    pub fn note_loss(&mut self, from: Timestamp, to: Timestamp, loss: Loss) {
        self.losses.note(from, to, loss);
    }

    /// Takes note that streams lacked bytes at that time.
    pub fn note_gaps(&mut self, from: Timestamp, to: Timestamp, gaps: Loss) {
        self.gaps.note(from, to, gaps);
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
                self.detector.note_flow(&flow);
                let attribution = self.joiner.attribute(seen(&flow));
                self.counters.coverage.flow(flow.connection.client.address, &attribution);
                sink(Outcome::Flow(flow, attribution));
            }
            Fact::Upload(upload) => {
                let mut upload = *upload;
                self.third_hosts.complete(&mut upload);
                self.names.complete(&mut upload);
                let joined = Arc::new(self.join(upload));
                let due = if joined.upload.state == State::Running { self.early(&joined) } else { self.note(&joined) };
                let asked = self.ask_again(&joined);
                let now = joined.upload.end;
                sink(Outcome::Upload(joined));
                if !self.live {
                    self.judge_waiting(now, sink);
                }
                let alert = due.and_then(|due| self.judge(Arc::unwrap_or_clone(due), 0, sink));
                if let Some(unanswered) = self.unanswered.back_mut().filter(|_| asked) {
                    unanswered.alert = alert;
                }
            }
        }
    }

    /// Keeps an upload without its process, in case the answer comes late; says whether it is kept.
    fn ask_again(&mut self, joined: &Arc<JoinedUpload>) -> bool {
        let done = joined.upload.state != State::Running;
        if !self.live || !done || self.correct == Span(0) || joined.attribution.process().is_some() {
            return false;
        }
        // Until when is told by packet time, like everything else.
        let until = joined.upload.end.after(self.correct);
        self.unanswered.push_back(Unanswered { until, joined: Arc::clone(joined), alert: None });
        if self.unanswered.len() > self.max_unanswered {
            self.unanswered.pop_front();
            self.counters.uncorrected += 1;
        }
        !self.unanswered.is_empty()
    }

    /// Live: looks again at the uploads without their process, if events have come since. What is known by now is delivered
    /// with the same identifier, and judged again; what waited for `join.correct` stays as it is. Stories that are over by
    /// `clock` are ended.
    pub fn revisit(&mut self, clock: Timestamp, sink: &mut impl FnMut(Outcome)) {
        self.stories.end_before(clock, &mut |alert| sink(told(&self.playbook, alert)));
        let events = self.joiner.history().events();
        if events == self.looked {
            return;
        }
        self.looked = events;
        for unanswered in std::mem::take(&mut self.unanswered) {
            if unanswered.until < clock {
                continue;
            }
            if self.who(&unanswered.joined.upload).process().is_none() {
                self.unanswered.push_back(unanswered);
                continue;
            }
            let Unanswered { joined: old, alert, .. } = unanswered;
            let joined = JoinedUpload { corrected: true, ..self.join(old.upload.clone()) };
            let client = joined.upload.connection.client.address;
            self.counters.coverage.correct(client, &old.attribution, &joined.attribution, joined.upload.bytes);
            self.counters.corrected += 1;
            sink(Outcome::Upload(Arc::new(joined.clone())));
            // What was an alert before is the same one, told anew.
            let told = if let Some(old) = &alert { self.stories.withdraw(old) } else { 0 };
            self.judge(joined, told, sink);
        }
    }

    fn join(&self, upload: Upload) -> JoinedUpload {
        let attribution = self.who(&upload);
        let links = self.joiner.files(&upload, &attribution);
        let route = self.detector.route(&upload);
        JoinedUpload { upload, attribution, links, corrected: false, route }
    }

    fn who(&self, upload: &Upload) -> Attribution {
        let (connection, start, end) = (upload.connection, upload.opened, upload.end);
        let seen = FlowSeen { connection, start, end, opening_seen: true };
        match &upload.ftp {
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
        }
    }

    /// Takes note of an upload; gives one that is to be judged now.
    fn note(&mut self, joined: &Arc<JoinedUpload>) -> Option<Arc<JoinedUpload>> {
        let client = joined.upload.connection.client.address;
        self.counters.coverage.upload(client, &joined.attribution, joined.upload.bytes);
        let tally = self.counters.by_protocol.entry(joined.upload.protocol.name()).or_default();
        tally.uploads += 1;
        tally.bytes = tally.bytes.saturating_add(joined.upload.bytes);
        let route = joined.route.as_ref()?;
        self.counters.outbound += 1;
        let joined = Arc::clone(joined);
        if self.live {
            return Some(joined);
        }
        self.detector.note(&joined.upload, route, self.hindsight);
        self.waiting.push_back(joined);
        if self.waiting.len() <= self.max_waiting {
            return None;
        }
        self.counters.judged_early += 1;
        self.waiting.pop_front()
    }

    /// Live, an upload that still runs is judged as far as it has come; it is judged again when it ends.
    fn early(&self, joined: &Arc<JoinedUpload>) -> Option<Arc<JoinedUpload>> {
        (self.live && joined.route.is_some()).then(|| Arc::clone(joined))
    }

    /// Judges what has waited for long enough by now.
    fn judge_waiting(&mut self, now: Timestamp, sink: &mut impl FnMut(Outcome)) {
        while self.waiting.front().is_some_and(|joined| joined.upload.end.after(self.hindsight) < now) {
            if let Some(joined) = self.waiting.pop_front() {
                self.judge(Arc::unwrap_or_clone(joined), 0, sink);
            }
        }
    }

    /// The input is over: judges what waited, in order.
    pub fn finish(&mut self, sink: &mut impl FnMut(Outcome)) {
        self.join_unjoined(sink);
        while let Some(joined) = self.waiting.pop_front() {
            self.judge(Arc::unwrap_or_clone(joined), 0, sink);
        }
        self.stories.end_all(&mut |alert| sink(told(&self.playbook, alert)));
    }

    /// The alert, if it is outbound and one, which was told so many times `before`. What is over then teaches what is normal.
    fn judge(&mut self, joined: JoinedUpload, before: u64, sink: &mut impl FnMut(Outcome)) -> Option<Box<Alert>> {
        let JoinedUpload { upload, attribution, links, corrected, route } = joined;
        let route = route?;
        let at = upload.end;
        if self.live {
            self.detector.note(&upload, &route, Span(0));
        } else {
            // What came before counts for as long as what comes after.
            self.detector.forget_noted(at);
        }
        let mut verdict = if corrected {
            self.detector.judge_again(&upload, &route, &attribution, &links)
        } else {
            self.detector.judge(&upload, &route, &attribution, &links)
        };
        let excepted = verdict.as_mut().and_then(|verdict| self.exceptions.rule(&upload, &attribution, verdict));
        let teaches = verdict.as_ref().is_none_or(|verdict| verdict.held) && excepted.is_none();
        if corrected {
            self.detector.settle_late(&upload, &route, &attribution, !teaches);
        } else if upload.state != State::Running {
            self.detector.settle(&upload, &route, &attribution, !teaches);
        }
        if self.live {
            self.detector.forget_noted(Timestamp(u64::MAX));
        }
        let verdict = verdict?;
        self.counters.held += u64::from(verdict.held);
        let begin = upload.opened.min(upload.start);
        let (loss, gaps) = (self.losses.during(begin, upload.end), self.gaps.during(begin, upload.end));
        let suppressed = excepted.map(|id| id.to_string());
        let alert = Alert { loss, gaps, suppressed, told: before, ..Alert::new(upload, attribution, links, verdict) };
        let mut tell = |alert| sink(told(&self.playbook, alert));
        if alert.suppressed.is_some() {
            // It belongs to no story: nobody is told.
            tell(alert);
            return None;
        }
        if !self.live {
            self.stories.end_before(alert.upload.start, &mut tell);
        }
        self.stories.take(alert.clone(), &mut tell);
        Some(Box::new(alert))
    }

    /// Counts of alerts and what became one.
    pub fn stories(&self) -> StoryCounters {
        self.stories.counters()
    }

    /// Hosts, users and others whose volumes were forgotten, and rows of them that could not be taken back.
    pub fn volumes_lost(&self) -> (u64, u64) {
        (self.detector.volumes().forgotten(), self.detector.volumes().unread())
    }

    /// What is excepted, to be replaced or taken back.
    pub fn exceptions_mut(&mut self) -> &mut Exceptions {
        &mut self.exceptions
    }

    /// What exceptions have hidden.
    pub fn excepted(&self) -> &ExceptionCounters {
        self.exceptions.counters()
    }

    /// What the bounds of the baseline cost.
    pub fn baseline(&self) -> BaselineCounters {
        self.detector.baseline().counters()
    }

    /// How much is remembered, each with the configuration key of its bound.
    pub fn remembered(&self) -> [(&'static str, usize); 5] {
        let (destinations, processes, pairs) = self.detector.baseline().size();
        [
            ("detect.destinations", destinations),
            ("detect.processes", processes),
            ("detect.pairs", pairs),
            ("detect.volumes", self.detector.volumes().size()),
            ("protocol.names", self.names.len()),
        ]
    }

    /// The counts so far.
    pub fn counters(&self) -> &JudgementCounters {
        &self.counters
    }

    /// Uploads that may still be corrected.
    pub fn correctable(&self) -> usize {
        self.unanswered.len()
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

    /// The offsets of a host's clocks that were learnt, by time field.
    pub fn offsets(&self, host: &str) -> Vec<Offset> {
        self.joiner.offsets(host)
    }

    /// What endpoints reported.
    pub fn history(&self) -> &History {
        self.joiner.history()
    }
}

/// With the playbook of the alert as it is told: a story has the identifier of its first.
fn told(playbook: &Playbook, mut alert: Alert) -> Outcome {
    alert.playbook = playbook.render(&alert);
    Outcome::Alert(Box::new(alert))
}

fn seen(flow: &Flow) -> FlowSeen {
    FlowSeen { connection: flow.connection, start: flow.start, end: flow.end, opening_seen: flow.opening_seen }
}

/// Times of losses that are remembered. Beyond, the two earliest become one.
const MOST_LOSSES: usize = 1_024;

/// When something was lost.
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
    fn an_answer_that_comes_late_corrects_what_was_delivered_and_one_that_comes_too_late_does_not() {
        let hello = r#"{"type":"hello","v":1,"host":{"id":"A","ips":["10.0.0.5"]},"ts":1000000000000}"#;
        let start =
            r#"{"type":"process_start","ts":1900000000000,"pid":30,"start":1900000000000,"image":"C:\\ftp.exe"}"#;
        let made = r#"{"type":"connection","ts":2000000000000,"pid":30,"start":1900000000000,"local":"10.0.0.5:5000","remote":"192.0.2.9:21"}"#;
        for (now, corrected) in [(2_100, 1), (2_302, 0)] {
            let mut intake = crate::endpoint::Intake::new(crate::net::ByteSize(10_000));
            let mut history = History::new(crate::net::ByteSize(1 << 20));
            let mut read = |history: &mut History, text: &str| {
                intake.read("t", text.as_bytes(), &mut |observation| history.insert(observation)).unwrap();
            };
            read(&mut history, hello);
            let mut judgement = Judgement::live(&Config::default(), history);
            let mut upload = crate::join::tests::upload(5_000_000, &["a.7z"]);
            upload.opened = upload.start;
            let mut outcomes = Vec::new();
            judgement.take(Fact::Upload(Box::new(upload)), &mut |outcome| outcomes.push(outcome));
            let before = outcomes.len();
            judgement.revisit(Timestamp::from_parts(2_050, 0), &mut |outcome| outcomes.push(outcome));
            assert_eq!(outcomes.len(), before, "nothing new");
            read(judgement.history_mut(), &format!("{hello}\n{start}\n{made}"));
            judgement.revisit(Timestamp::from_parts(now, 0), &mut |outcome| outcomes.push(outcome));
            let again = outcomes.iter().skip(before).filter_map(|outcome| match outcome {
                Outcome::Upload(joined) => joined.attribution.process().filter(|_| joined.corrected),
                _ => None,
            });
            let names: Vec<Option<&str>> = again.map(|process| process.name()).collect();
            assert_eq!(names, vec![Some("ftp.exe"); corrected], "at {now}");
            let alerts = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Alert(_))).count();
            assert_eq!(alerts, 1 + corrected, "told anew with its process");
            assert_eq!(judgement.stories().stories, 1, "and counted once");
            let share = &judgement.counters().coverage.total;
            assert_eq!((share.attributed.uploads, share.all().uploads), (corrected as u64, 1));
        }
    }

    #[test]
    fn what_an_exception_covers_is_marked_tells_no_story_and_teaches_nothing() {
        let exception = "[[exception]]\ndestination = '192.0.2.9'\nowner = 'Ann'\njustification = 'y'\nexpires = '1970-01-01T00:40:00Z'";
        let year = Span::seconds(365 * 86_400);
        let list = crate::detect::parse_exceptions(exception, "x.toml", Timestamp(0), year, 1).unwrap();
        let mut judgement = Judgement::live(&Config::default(), History::new(crate::net::ByteSize(1 << 20)));
        judgement.restore([]);
        judgement.exceptions_mut().replace(list);
        let mut alerts = Vec::new();
        for seconds in [2_001, 2_400] {
            let mut upload = crate::join::tests::upload(5_000_000, &["a.7z"]);
            upload.end = Timestamp::from_parts(seconds, 0);
            upload.id = crate::record::EventId::new("upload", upload.connection, upload.end, 0);
            judgement.take(Fact::Upload(Box::new(upload)), &mut |outcome| {
                if let Outcome::Alert(alert) = outcome {
                    alerts.push((alert.suppressed.clone(), alert.playbook.len()));
                }
            });
        }
        assert_eq!(alerts, [(Some("EX-0001".to_owned()), 3), (None, 3)]);
        assert_eq!(judgement.stories().stories, 1);
        assert_eq!(judgement.excepted().suppressed, 1);
        let taught = judgement.changes().into_iter().filter_map(|change| match change {
            Change::Put(row) if row.key.kind == crate::detect::Kind::Destination => Some((row.uploads, row.alerted)),
            _ => None,
        });
        // The second is held while the baseline learns, and teaches.
        assert_eq!(taught.collect::<Vec<_>>(), [(1, 1)]);
    }

    #[test]
    fn an_upload_is_an_alert_while_it_runs_and_the_same_one_when_it_ends() {
        let mut judgement = Judgement::live(&Config::default(), History::new(crate::net::ByteSize(1 << 20)));
        let mut alerts = Vec::new();
        for (state, bytes) in [(State::Running, 2_000_000), (State::Complete, 9_000_000)] {
            let mut upload = crate::join::tests::upload(bytes, &["a.7z"]);
            upload.state = state;
            judgement.take(Fact::Upload(Box::new(upload)), &mut |outcome| {
                if let Outcome::Alert(alert) = outcome {
                    alerts.push((alert.id, alert.upload.state, alert.upload.bytes));
                }
            });
        }
        judgement.finish(&mut |_| panic!("nothing is left to tell"));
        let [(first, State::Running, 2_000_000), (second, State::Complete, 9_000_000)] = alerts[..] else {
            panic!("{alerts:?}");
        };
        assert_eq!(first, second);
        assert_eq!(judgement.stories().stories, 1);
        assert_eq!(judgement.detector.baseline().size().0, 1, "it is settled once");
    }

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
