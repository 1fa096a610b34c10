//! The policy, and what of it an upload breaks.

use crate::config::{Config, Detect, Network};
use crate::endpoint::{Operation, base_name};
use crate::join::{Ancestor, Attribution, Confidence, FileKind, FileLink, FileRule, Process, Why};
use crate::record::{Protocol, Upload};

use super::verdict::{Legs, Presence, Severity, Verdict};
use super::{Prevalence, Reason};

/// Judges uploads by the configured policy and by how many hosts upload to a destination.
#[derive(Debug)]
pub struct Detector {
    network: Network,
    policy: Detect,
    prevalence: Prevalence,
}

impl Detector {
    /// With the policy of the configuration, and no destination seen yet.
    pub fn new(config: &Config) -> Self {
        let prevalence = Prevalence::new(config.detect.rare_below_hosts);
        Self { network: config.network.clone(), policy: config.detect.clone(), prevalence }
    }

    /// Takes up another policy; what is known of destinations stays.
    pub fn configure(&mut self, config: &Config) {
        self.network = config.network.clone();
        self.policy = config.detect.clone();
        self.prevalence.count_to(config.detect.rare_below_hosts);
    }

    /// Takes note of where an upload went. Only outbound ones count, whatever their protocol.
    pub fn observe(&mut self, upload: &Upload) {
        if self.is_outbound(upload) {
            self.prevalence.observe(&Prevalence::destination(upload), upload.connection.client.address);
        }
    }

    /// What is known of destinations.
    pub fn prevalence(&self) -> &Prevalence {
        &self.prevalence
    }

    /// The same, to be merged with another part's.
    pub fn prevalence_mut(&mut self) -> &mut Prevalence {
        &mut self.prevalence
    }

    /// Whether the upload leaves the home networks. Proxies are looked through: what counts is the host that a proxy was
    /// asked for.
    pub fn is_outbound(&self, upload: &Upload) -> bool {
        // Who takes the bytes outside is outside, whatever host the request names: only a proxy at home is believed.
        let server_outside = !self.network.is_home(upload.connection.server.address.ip());
        let passed_on_outside = match (upload.destination_ip(), &upload.proxied_to) {
            (Some(ip), _) => !self.network.is_home(ip),
            (None, Some(name)) => !self.network.is_home_name(name),
            (None, None) => false,
        };
        (server_outside || passed_on_outside) && self.network.is_home(upload.connection.client.address.ip())
    }

    /// The verdict on an upload, by the table at the head of this module; none if it is no alert. An upload that still
    /// runs can be judged, too: the verdict may come again, and higher, when it ends.
    pub fn judge(&self, upload: &Upload, attribution: &Attribution, links: &[FileLink]) -> Option<Verdict> {
        let protocol = protocol_name(upload.protocol);
        let listed = self.policy.unencrypted_protocols.iter().any(|name| name.eq_ignore_ascii_case(protocol));
        if !listed || !self.is_outbound(upload) {
            return None;
        }
        let threshold = self.policy.data_transfer_size_threshold.0;
        let volume = upload.bytes >= threshold;
        let staged = staged(links, volume);
        let process = attribution.process();
        let image = process.and_then(|process| process.image.as_deref());
        let unexpected = image.filter(|image| !self.is_expected(image, upload));
        let rare = self.rarity(upload);
        let denied = process.and_then(|process| self.denied_ancestor(process));

        let suspicious = unexpected.is_some() || rare.is_some();
        let severity = match (staged.is_some(), suspicious, denied.is_some()) {
            (_, false, _) => return None,
            (true, true, true) => Severity::Critical,
            (true, true, false) | (false, true, true) => Severity::High,
            (false, true, false) if volume => Severity::Medium,
            (false, true, false) => return None,
        };
        let legs = Legs {
            data_access: if staged.is_some() { Presence::Present } else { Presence::Missing },
            outbound_cleartext: Presence::Present,
            unexpected_process: match (image, unexpected) {
                (None, _) => Presence::Missing,
                (Some(_), Some(_)) => Presence::Present,
                (Some(_), None) => Presence::Absent,
            },
            rare_destination: if rare.is_some() { Presence::Present } else { Presence::Absent },
        };
        let no_data =
            process.filter(|_| staged.is_none()).map(|_| Reason::NoDataAccess { weak_links: links.len() as u64 });
        let image = unexpected.map(str::to_owned);
        let reasons = [
            staged,
            image.map(|image| Reason::ProcessUnexpected { image, protocol }),
            rare,
            denied,
            volume.then_some(Reason::Volume { bytes: upload.bytes, threshold }),
            no_endpoint(attribution),
            no_data,
            process_unknown(attribution),
        ];
        Some(Verdict { severity, reasons: reasons.into_iter().flatten().collect(), legs })
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

    fn rarity(&self, upload: &Upload) -> Option<Reason> {
        let (ip, domain) = (upload.destination_ip(), upload.domain.as_deref());
        if self.policy.approved_destinations.iter().any(|there| there.matches(ip, domain)) {
            return None;
        }
        let destination = Prevalence::destination(upload);
        let hosts = self.prevalence.hosts(&destination);
        let below = self.policy.rare_below_hosts;
        (hosts < below).then_some(Reason::DestinationRare { destination, hosts, below })
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

fn staged(links: &[FileLink], volume: bool) -> Option<Reason> {
    let counting: Vec<&FileLink> = links.iter().filter(|link| counts(link)).collect();
    let weak = |link: &&FileLink| link.rule == FileRule::ProcessTree && link.confidence == Confidence::Low;
    if !volume && counting.iter().all(weak) {
        return None;
    }
    let rule = counting.iter().map(|link| link.rule).min()?;
    let confidence = counting.iter().map(|link| link.confidence).max()?;
    Some(Reason::DataStaged { files: counting.len() as u64, rule, confidence })
}

fn counts(link: &FileLink) -> bool {
    match (link.rule, link.kind) {
        (FileRule::ProcessTree, FileKind::Archive) => true,
        (FileRule::ProcessTree, FileKind::UserData) => link.op == Operation::Read,
        (FileRule::ProcessTree, FileKind::Other | FileKind::Script) => false,
        _ => true,
    }
}
