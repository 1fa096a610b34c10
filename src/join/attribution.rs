//! Flow to process.

use std::sync::Arc;

use crate::config;
use crate::endpoint::{ConnectionRecord, History, HostHistory, ProcessRecord, base_name};
use crate::net::{Span, Timestamp};
use crate::record::Connection;

use super::Confidence;

/// Ancestors named, nearest first.
const MAX_ANCESTORS: usize = 16;

/// A connection and when it was seen on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSeen {
    /// Its two ends.
    pub connection: Connection,
    /// Its first packet; of an upload on a connection that carried others before, not the upload's own start.
    pub start: Timestamp,
    /// Its last packet so far.
    pub end: Timestamp,
}

/// A host, as its helper presented it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// Its identity.
    pub id: Arc<str>,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// The domain that it is a member of.
    pub domain: Option<Arc<str>>,
}

/// A process that stands above another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The process id.
    pub pid: u32,
    /// When it started.
    pub start: Option<Timestamp>,
    /// The path of the executable.
    pub image: Option<Arc<str>>,
    /// The command line.
    pub command_line: Option<Arc<str>>,
}

impl Ancestor {
    /// The file name of the executable.
    pub fn name(&self) -> Option<&str> {
        self.image.as_deref().map(base_name)
    }
}

/// A process, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Where it runs.
    pub host: HostName,
    /// The process id.
    pub pid: u32,
    /// When it started.
    pub start: Option<Timestamp>,
    /// The path of the executable.
    pub image: Option<Arc<str>>,
    /// The command line.
    pub command_line: Option<Arc<str>>,
    /// The account, as `DOMAIN\name`.
    pub user: Option<Arc<str>>,
    /// The account's security identifier.
    pub sid: Option<Arc<str>>,
    /// The executable's SHA-256, hexadecimal.
    pub sha256: Option<Arc<str>>,
    /// The subject of the executable's signature.
    pub signer: Option<Arc<str>>,
    /// The processes above it, nearest first, 16 at most; the last may be known by its pid alone.
    pub ancestors: Vec<Ancestor>,
}

impl Process {
    /// The file name of the executable.
    pub fn name(&self) -> Option<&str> {
        self.image.as_deref().map(base_name)
    }

    /// From what the host told of it.
    pub(super) fn from_record(host: &HostHistory, record: &ProcessRecord) -> Self {
        Self {
            host: host_name(host),
            pid: record.pid,
            start: Some(record.start),
            image: record.image.clone(),
            command_line: record.command_line.clone(),
            user: record.user.clone(),
            sid: record.sid.clone(),
            sha256: record.sha256.clone(),
            signer: record.signer.clone(),
            ancestors: ancestors(host, record),
        }
    }

    /// From a pid alone.
    pub(super) fn from_pid(host: &HostHistory, pid: u32, start: Option<Timestamp>) -> Self {
        let host = host_name(host);
        Self {
            host,
            pid,
            start,
            image: None,
            command_line: None,
            user: None,
            sid: None,
            sha256: None,
            signer: None,
            ancestors: Vec::new(),
        }
    }
}

/// Why no process is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No helper ever claimed the client's address.
    NoEndpoint,
    /// The host has a helper, but it was not heard around that time.
    HostSilent,
    /// The helper was heard, but reported no such connection.
    NoConnection,
    /// The helper reported this five-tuple, but so far from the flow's time that it was another connection, or the
    /// clocks disagree.
    OutsideWindow {
        /// How far the nearest event is from the flow's start.
        off: Span,
    },
    /// Different processes claim the connection, and none is nearer.
    Ambiguous,
}

impl Why {
    /// The value of `outfall.join.why`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEndpoint => "no-endpoint",
            Self::HostSilent => "host-silent",
            Self::NoConnection => "no-connection",
            Self::OutsideWindow { .. } => "outside-window",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// The end of a sentence that begins with "not known: ".
impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no helper on this host"),
            Self::HostSilent => f.write_str("the helper on this host was silent at that time"),
            Self::NoConnection => f.write_str("no connection event for this flow"),
            Self::OutsideWindow { off } => {
                write!(f, "the only connection event for this flow is {:.1} s away from it", off.as_seconds())
            }
            Self::Ambiguous => f.write_str("several processes claim this connection"),
        }
    }
}

/// Whose process made a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// This one.
    Known {
        /// The process.
        process: Box<Process>,
        /// The rule that found it: `five-tuple` or `control-connection`.
        rule: &'static str,
        /// How sure that is.
        confidence: Confidence,
    },
    /// Not known.
    Unknown {
        /// Why not.
        why: Why,
        /// The host, if the client's address belongs to one.
        host: Option<HostName>,
    },
}

impl Attribution {
    /// The process, if it is known.
    pub fn process(&self) -> Option<&Process> {
        match self {
            Self::Known { process, .. } => Some(process),
            Self::Unknown { .. } => None,
        }
    }

    /// The host, if it is known.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Known { process, .. } => Some(&process.host),
            Self::Unknown { host, .. } => host.as_ref(),
        }
    }
}

/// Joins flows and uploads to what endpoints reported.
#[derive(Debug)]
pub struct Joiner {
    pub(super) config: config::Join,
    pub(super) history: History,
}

impl Joiner {
    /// With the windows of the configuration.
    pub fn new(config: &config::Join, history: History) -> Self {
        Self { config: config.clone(), history }
    }

    /// What endpoints reported.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The same, to be added to.
    pub fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// Takes up other windows; the history stays.
    pub fn configure(&mut self, config: &config::Join) {
        self.config = config.clone();
    }

    /// The process at the client's end of a connection seen from `start` to `end`.
    ///
    /// Only the host that owns the client's address is asked, whichever side opened the connection: what the server's
    /// host reports of its own end never names the client's process.
    pub fn attribute(&self, connection: Connection, start: Timestamp, end: Timestamp) -> Attribution {
        let from = start.before(self.config.connection_window);
        let late = self.config.grace.max(self.config.connection_window);
        let to = end.max(start).after(late);
        let (client, server) = (connection.client, connection.server);
        let owners = self.history.owners(client.address, from, to);
        let Some(first) = owners.first() else { return Attribution::Unknown { why: Why::NoEndpoint, host: None } };

        let mut claims: Vec<Claim<'_>> = Vec::new();
        for host in &owners {
            let records = host.connections().between(client, server, from, to);
            claims.extend(records.map(|record| Claim::new(host, record, start)));
        }
        // Ties are broken by what says most, then by time, so that the order of arrival decides nothing.
        claims.sort_by_key(|claim| (claim.off, claim.process.is_none(), claim.record.ts, claim.record.pid));
        let Some(nearest) = claims.first() else {
            let off = owners.iter().filter_map(|host| host.connections().nearest(client, server, start));
            let off = off.map(|ts| ts.distance(start)).min();
            let heard = owners.iter().any(|host| host.heard(from, start.after(self.config.grace)));
            let why = match off {
                Some(off) => Why::OutsideWindow { off },
                None if heard => Why::NoConnection,
                None => Why::HostSilent,
            };
            return Attribution::Unknown { why, host: Some(host_name(first)) };
        };
        let mut rivals = claims.iter().filter(|claim| !claim.is_same_process(nearest)).peekable();
        let contested = rivals.peek().is_some();
        if rivals.any(|rival| rival.off == nearest.off) {
            return Attribution::Unknown { why: Why::Ambiguous, host: Some(host_name(nearest.host)) };
        }
        let (process, confidence) = nearest.process();
        let confidence = if contested { confidence.min(Confidence::High) } else { confidence };
        Attribution::Known { process: Box::new(process), rule: "five-tuple", confidence }
    }

    /// The same for an FTP data connection: where it was not reported itself, the process of its control connection.
    pub fn attribute_ftp(&self, data: FlowSeen, control: Option<FlowSeen>) -> Attribution {
        let own = self.attribute(data.connection, data.start, data.end);
        let Some(control) = control.filter(|_| own.process().is_none()) else { return own };
        match self.attribute(control.connection, control.start, control.end) {
            Attribution::Known { process, confidence, .. } => Attribution::Known {
                process,
                rule: "control-connection",
                confidence: confidence.min(Confidence::Medium),
            },
            Attribution::Unknown { .. } => own,
        }
    }
}

/// A connection event within the window, and the process that it names.
struct Claim<'a> {
    host: &'a HostHistory,
    record: &'a ConnectionRecord,
    process: Option<&'a ProcessRecord>,
    off: Span,
}

impl<'a> Claim<'a> {
    fn new(host: &'a HostHistory, record: &'a ConnectionRecord, start: Timestamp) -> Self {
        let process = host.processes().resolve(record.pid, record.start, record.ts);
        Self { host, record, process, off: record.ts.distance(start) }
    }

    fn start(&self) -> Option<Timestamp> {
        self.record.start.or(self.process.map(|process| process.start))
    }

    fn is_same_process(&self, other: &Self) -> bool {
        let starts_agree = match (self.start(), other.start()) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.host.id() == other.host.id() && self.record.pid == other.record.pid && starts_agree
    }

    fn process(&self) -> (Process, Confidence) {
        let mut process = match self.process {
            Some(record) => Process::from_record(self.host, record),
            None => Process::from_pid(self.host, self.record.pid, self.record.start),
        };
        let told_by_process = process.image.is_some();
        process.image = process.image.or_else(|| self.record.image.clone());
        process.user = process.user.or_else(|| self.record.user.clone());
        let confidence = match (&process.image, told_by_process, self.record.start) {
            (None, ..) => Confidence::Medium,
            (Some(_), true, Some(_)) => Confidence::Certain,
            (Some(_), ..) => Confidence::High,
        };
        (process, confidence)
    }
}

pub(super) fn host_name(host: &HostHistory) -> HostName {
    HostName { id: host.id().clone(), name: host.name().cloned(), domain: host.domain().cloned() }
}

fn ancestors(host: &HostHistory, record: &ProcessRecord) -> Vec<Ancestor> {
    let mut found = Vec::new();
    let mut child = record;
    while found.len() < MAX_ANCESTORS {
        let Some(parent) = host.processes().parent(child) else {
            let (start, image, command_line) = (child.parent_start, None, None);
            found.extend(child.parent_pid.map(|pid| Ancestor { pid, start, image, command_line }));
            break;
        };
        found.push(Ancestor {
            pid: parent.pid,
            start: Some(parent.start),
            image: parent.image.clone(),
            command_line: parent.command_line.clone(),
        });
        // Two processes of the same instant that name each other would go round until the bound.
        child = parent;
    }
    found
}
