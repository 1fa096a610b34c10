//! The policy, and what of it an upload breaks.

use crate::config::{Config, Detect, Network};
use crate::endpoint::{Operation, base_name};
use crate::join::{Ancestor, Attribution, Confidence, FileKind, FileLink, FileRule, Process, Why};
use crate::net::{Span, Timestamp};
use crate::record::{Connection, Flow, Protocol, Upload};

use super::baseline::{Baseline, Change, Learned, Route, Row};
use super::staging::{self, Weight};
use super::verdict::{Legs, Presence, Severity, Verdict};
use super::volume::Volumes;
use super::{Places, Reason, Sureness};

/// Judges uploads by the configured policy and by what is normal here.
#[derive(Debug)]
pub struct Detector {
    network: Network,
    policy: Detect,
    baseline: Baseline,
    volumes: Volumes,
    places: Places,
}

impl Detector {
    /// With the policy of the configuration, and nothing known of what is normal.
    pub fn new(config: &Config) -> Self {
        Self {
            network: config.network.clone(),
            policy: config.detect.clone(),
            baseline: Baseline::new(&config.detect),
            volumes: Volumes::new(&config.detect),
            places: Places::default(),
        }
    }

    /// Verdicts say where destinations are, as far as these databases know.
    pub fn locate(&mut self, places: Places) {
        self.places = places;
    }

    /// Takes up another policy; what was learned stays.
    pub fn configure(&mut self, config: &Config) {
        self.network = config.network.clone();
        self.policy = config.detect.clone();
        self.baseline.configure(&config.detect);
        self.volumes.configure(&config.detect);
    }

    /// Takes back what an earlier run learned; from then on it learns, and [`Detector::changes`] says what.
    pub fn restore(&mut self, rows: impl IntoIterator<Item = Row>) {
        let volumes = &mut self.volumes;
        self.baseline.restore(rows.into_iter().filter(|row| !volumes.restore(row)));
        self.volumes.keep();
    }

    /// What of the baseline changed since the last call.
    pub fn changes(&mut self) -> Vec<Change> {
        let mut changes = self.baseline.changes();
        self.volumes.changes(&mut changes);
        changes
    }

    /// What is normal here.
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// How much is sent by whom.
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// Takes note of what a connection carried out of the home networks, and back.
    pub fn note_flow(&mut self, flow: &Flow) {
        let (client, server) = (flow.connection.client.address, flow.connection.server.address);
        if !self.volumes.counts_flows_of(client) && !self.volumes.counts_flows_of(server) {
            return;
        }
        match (self.network.is_home(client.ip()), self.network.is_home(server.ip())) {
            (true, false) => self.volumes.count_flow(client, flow.end, flow.client_bytes, flow.server_bytes),
            (false, true) => self.volumes.count_flow(server, flow.end, flow.server_bytes, flow.client_bytes),
            _ => {}
        }
    }

    /// Takes note that an outbound upload goes where it goes: until `hindsight` has passed, its host counts as one that
    /// uploads there, whatever comes of it. All outbound ones count, whatever their protocol.
    pub fn note(&mut self, upload: &Upload, route: &Route, hindsight: Span) {
        let until = upload.end.after(hindsight);
        self.baseline.note(&route.destination, upload.connection.client.address, until);
    }

    /// What was only noted, until earlier than this, counts no longer.
    pub fn forget_noted(&mut self, before: Timestamp) {
        self.baseline.forget_noted(before);
    }

    /// Takes note of what came of an outbound upload: it teaches what is normal, unless it was an alert. A verdict that is
    /// held teaches.
    pub fn settle(&mut self, upload: &Upload, route: &Route, attribution: &Attribution, alert: bool) {
        self.baseline.settle(upload, attribution, protocol_name(upload.protocol), &route.destination, alert);
        self.volumes.count(upload, route, attribution, alert);
    }

    /// The process of an upload that was settled has become known.
    pub fn settle_late(&mut self, upload: &Upload, route: &Route, attribution: &Attribution, alert: bool) {
        self.baseline.settle_late(upload, attribution, protocol_name(upload.protocol), &route.destination, alert);
        self.volumes.count_late(upload, attribution, alert);
    }

    /// From where and to where an upload leaves the home networks; none if it does not.
    pub fn route(&self, upload: &Upload) -> Option<Route> {
        self.is_outbound(upload).then(|| Route::of(upload))
    }

    /// Whether the upload leaves the home networks. Proxies are looked through: what counts is the host that a proxy was
    /// asked for.
    pub fn is_outbound(&self, upload: &Upload) -> bool {
        let Connection { client, server } = upload.connection;
        if !self.network.is_home(client.address.ip()) {
            return false;
        }
        // Who takes the bytes outside is outside, whatever host the request names: only a proxy at home is believed.
        !self.network.is_home(server.address.ip())
            || upload.proxied_to.as_deref().is_some_and(|host| match host.parse() {
                Ok(ip) => !self.network.is_home(ip),
                Err(_) => !self.network.is_home_name(host),
            })
    }

    /// The verdict on an outbound upload, by the table at the head of this module; none if it is no alert. An upload that
    /// still runs can be judged, too: the verdict may come again, and higher, when it ends.
    pub fn judge(
        &self,
        upload: &Upload,
        route: &Route,
        attribution: &Attribution,
        links: &[FileLink],
    ) -> Option<Verdict> {
        self.judge_as(upload, route, attribution, links, false)
    }

    /// The verdict on an upload that was settled, and whose process has become known since.
    pub fn judge_again(
        &self,
        upload: &Upload,
        route: &Route,
        attribution: &Attribution,
        links: &[FileLink],
    ) -> Option<Verdict> {
        self.judge_as(upload, route, attribution, links, true)
    }

    fn judge_as(
        &self,
        upload: &Upload,
        route: &Route,
        attribution: &Attribution,
        links: &[FileLink],
        counted: bool,
    ) -> Option<Verdict> {
        let protocol = protocol_name(upload.protocol);
        let listed = self.policy.unencrypted_protocols.iter().any(|name| name.eq_ignore_ascii_case(protocol));
        if !listed {
            return None;
        }
        let threshold = self.policy.data_transfer_size_threshold.0;
        let volume = upload.bytes >= threshold;
        let staged = staged(links, volume);
        let process = attribution.process();
        let denied = process.and_then(|process| self.denied_ancestor(process));
        let dual_use = process.and_then(|process| self.dual_use(process));
        let image = process.and_then(|process| process.image.as_deref());
        let unexpected = process.zip(image).and_then(|(process, image)| {
            let strict = Strict { denied: denied.is_some(), dual_use: dual_use.is_some() };
            self.unexpected(process, image, upload, protocol, &route.destination, strict)
        });
        let unusual = self.volumes.assess(upload, route, attribution, counted);
        let rare = self.rarity(upload, &route.destination);
        let done = staging::findings(&self.policy, upload, links);
        let weight = done.iter().map(|(weight, _)| *weight).max();
        let linked = staged.as_ref().is_some_and(|staged| staged.linked);

        let both = unexpected.is_some() && rare.is_some();
        let suspicious = unexpected.is_some() || rare.is_some();
        let strict = dual_use.is_some() && unexpected.is_some();
        let grave = both && weight == Some(Weight::Grave);
        let large = volume || unusual.window.is_some();
        let severity = match (staged.is_some(), suspicious, denied.is_some()) {
            (true, false, _) if linked && unusual.habits_broken() > 1 => Severity::Medium,
            (_, false, _) => return None,
            (true, true, true) => Severity::Critical,
            (true, true, false) if grave => Severity::Critical,
            (true, true, false) | (false, true, true) => Severity::High,
            (false, true, false) if large || (strict && both) => Severity::Medium,
            (false, true, false) => return None,
        };
        let legs = Legs {
            data_access: if staged.is_some() { Presence::Present } else { Presence::Missing },
            outbound_cleartext: Presence::Present,
            unexpected_process: match (image, &unexpected) {
                (None, _) => Presence::Missing,
                (Some(_), Some(_)) => Presence::Present,
                (Some(_), None) => Presence::Absent,
            },
            rare_destination: if rare.is_some() { Presence::Present } else { Presence::Absent },
        };
        let packed = links.iter().any(|link| link.kind == FileKind::Archive && link.rule != FileRule::ProcessTree);
        let made_ready = packed || weight >= Some(Weight::Staging);
        let hard = (linked && made_ready) || denied.is_some() || (strict && staged.is_some());
        let learning = self.baseline.learning(upload.start).filter(|_| !hard);
        let sureness = sureness(attribution, linked, learning.is_some());
        let no_data =
            process.filter(|_| staged.is_none()).map(|_| Reason::NoDataAccess { weak_links: links.len() as u64 });
        let first = staged.map(|staged| staged.reason).into_iter();
        let ratio = unusual.ratio.map(|ratio| Reason::ProducerRatio { percent: (ratio * 100.0) as u64 });
        let reasons = [
            unexpected,
            dual_use.filter(|_| strict),
            rare,
            denied,
            volume.then_some(Reason::Volume { bytes: upload.bytes, threshold }),
            unusual.window.filter(|_| !volume).map(|window| Reason::VolumeWindow(window, threshold)),
            unusual.size.map(Reason::VolumeUnusual),
            unusual.day.map(Reason::VolumeDayUnusual),
            unusual.hour.map(Reason::HourUnusual),
            ratio,
            no_endpoint(attribution),
            no_data,
            process_unknown(attribution),
            learning.map(|left| Reason::Learning { left, of: self.policy.learning }),
        ];
        let held = learning.is_some();
        let severity = if held { Severity::Low } else { severity };
        let place = upload.destination_ip().and_then(|address| self.places.of(address));
        let reasons = first.chain(done.into_iter().map(|(_, reason)| reason)).chain(reasons.into_iter().flatten());
        Some(Verdict { severity, sureness, reasons: reasons.collect(), legs, held, place })
    }

    /// Why the process is not expected to do this; none if the policy says that it is, or what is normal here does.
    fn unexpected(
        &self,
        process: &Process,
        image: &str,
        upload: &Upload,
        protocol: &'static str,
        destination: &str,
        strict: Strict,
    ) -> Option<Reason> {
        if self.is_expected(image, upload) {
            return None;
        }
        let learned = self.baseline.learned(process, protocol, destination);
        if !strict.denied && self.is_learned(&learned, strict.dual_use) {
            return None;
        }
        // What speaks for it most, so that a reader sees how far it is from being normal.
        let best = if strict.dual_use { learned.destination } else { learned.protocol.max(learned.destination) };
        let (days, hosts) = (best.days, best.hosts);
        Some(Reason::ProcessUnexpected { image: image.to_owned(), protocol, days, hosts })
    }

    fn is_learned(&self, learned: &Learned, dual_use: bool) -> bool {
        let (days, hosts) = (self.policy.learned_days, self.policy.learned_hosts);
        if dual_use {
            return learned.destination.days >= days
                && learned.destination.hosts >= hosts
                && learned.parent.days >= days;
        }
        // A job of one server is as regular as a program of many hosts, if it always goes to the same place.
        (learned.protocol.days >= days && learned.protocol.hosts >= hosts) || learned.destination.days >= days
    }

    fn is_expected(&self, image: &str, upload: &Upload) -> bool {
        let protocol = protocol_name(upload.protocol);
        let (ip, domain) = (upload.destination_ip(), upload.domain.as_deref());
        self.policy.expected_processes.iter().any(|expected| {
            let protocols = &expected.protocols;
            let destinations = &expected.destinations;
            (protocols.is_empty() || protocols.iter().any(|name| name.eq_ignore_ascii_case(protocol)))
                && (destinations.is_empty() || destinations.iter().any(|there| there.matches(ip, domain)))
                && expected.matches_image(image)
        })
    }

    /// Whether the program is one that is often misused, by its name or by another name that its content had.
    fn dual_use(&self, process: &Process) -> Option<Reason> {
        let listed =
            |name: &str| self.policy.dual_use_programs.iter().any(|program| program.eq_ignore_ascii_case(name));
        let name = process.name()?;
        if listed(name) {
            return Some(Reason::DualUse { program: name.to_owned(), known_as: None });
        }
        let known_as = self.baseline.other_names(process).into_iter().find(|known| listed(known))?;
        Some(Reason::DualUse { program: name.to_owned(), known_as: Some(known_as) })
    }

    fn rarity(&self, upload: &Upload, destination: &str) -> Option<Reason> {
        let (ip, domain) = (upload.destination_ip(), upload.domain.as_deref());
        if self.policy.approved_destinations.iter().any(|there| there.matches(ip, domain)) {
            return None;
        }
        let known = self.baseline.prevalence(destination, upload.start);
        let below = self.policy.rare_below_hosts;
        let young = known.age.is_none_or(|age| age < self.policy.rare_younger_than);
        let rare = self.policy.approved_only || (known.hosts < below && young);
        let (hosts, users, age) = (known.hosts, known.users, known.age);
        rare.then(|| Reason::DestinationRare { destination: destination.to_owned(), hosts, below, users, age })
    }

    fn denied_ancestor(&self, process: &Process) -> Option<Reason> {
        let is_denied = |ancestor: &Ancestor| {
            let name = ancestor.name()?.to_lowercase();
            self.policy.parent_process_denylist.iter().find(|denied| base_name(denied).to_lowercase() == name)
        };
        let mut levels = (1..).zip(&process.ancestors);
        levels.find_map(|(levels, ancestor)| {
            is_denied(ancestor)?;
            Some(Reason::ParentDenied { parent: ancestor.name()?.to_owned(), pid: ancestor.pid, levels })
        })
    }
}

/// What holds a process to a stricter rule.
#[derive(Clone, Copy)]
struct Strict {
    denied: bool,
    dual_use: bool,
}

/// Both legs of the join are as sure as what they rest on; what is not known yet, or guessed, makes the verdict less sure.
fn sureness(attribution: &Attribution, linked: bool, held: bool) -> Sureness {
    let joined = match attribution {
        Attribution::Known { confidence, .. } => *confidence >= Confidence::High,
        Attribution::Unknown { .. } => false,
    };
    match (joined, linked) {
        _ if held => Sureness::Low,
        (true, true) => Sureness::High,
        (true, false) | (false, true) => Sureness::Medium,
        (false, false) => Sureness::Low,
    }
}

fn no_endpoint(attribution: &Attribution) -> Option<Reason> {
    matches!(attribution, Attribution::Unknown { why: Why::NoEndpoint, .. }).then_some(Reason::NoEndpointContext)
}

fn process_unknown(attribution: &Attribution) -> Option<Reason> {
    match attribution {
        Attribution::Unknown { why: Why::NoEndpoint, .. } => None,
        Attribution::Unknown { why, .. } => Some(Reason::ProcessUnknown { why: Some(*why) }),
        Attribution::Known { process, .. } => process.image.is_none().then_some(Reason::ProcessUnknown { why: None }),
    }
}

/// The policy knows an FTP data connection as FTP.
fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::FtpData => Protocol::Ftp.name(),
        other => other.name(),
    }
}

/// Files that count as staged.
struct Staged {
    reason: Reason,
    /// One of them is linked by its content, or by its name and size.
    linked: bool,
}

fn staged(links: &[FileLink], volume: bool) -> Option<Staged> {
    let counting: Vec<&FileLink> = links.iter().filter(|link| counts(link)).collect();
    let weak = |link: &&FileLink| link.rule == FileRule::ProcessTree && link.confidence == Confidence::Low;
    if !volume && counting.iter().all(weak) {
        return None;
    }
    let rule = counting.iter().map(|link| link.rule).min()?;
    let confidence = counting.iter().map(|link| link.confidence).max()?;
    let linked = counting.iter().any(|link| matches!(link.rule, FileRule::Sha256 | FileRule::NameAndSize));
    Some(Staged { reason: Reason::DataStaged { files: counting.len() as u64, rule, confidence }, linked })
}

fn counts(link: &FileLink) -> bool {
    match (link.rule, link.kind) {
        (FileRule::ProcessTree, FileKind::Archive) => true,
        (FileRule::ProcessTree, FileKind::UserData) => link.op == Operation::Read,
        (FileRule::ProcessTree, FileKind::Other | FileKind::Script) => false,
        _ => true,
    }
}
