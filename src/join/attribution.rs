//! Flow to process.

use std::sync::Arc;

use crate::config;
use crate::endpoint::{History, HostHistory, Key, Named, ProcessRecord, base_name};
use crate::net::Timestamp;
use crate::record::Connection;

use super::claims::{Claim, Group};
use super::clocks::{Clocks, Offset, put_right};
use super::{Confidence, Why};

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
    /// Whether its opening was seen, so that `start` is when it was made.
    pub opening_seen: bool,
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
    /// The process id, if it was told.
    pub pid: Option<u32>,
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
    /// The process id, if it was told.
    pub pid: Option<u32>,
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
    /// Its place in its host's history.
    pub key: Option<Key>,
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
            key: Some(record.key()),
        }
    }

    /// From what an event names it by, where nothing more is known of it.
    pub(super) fn from_name(host: &HostHistory, named: Named<'_>) -> Self {
        Self {
            host: host_name(host),
            pid: named.pid,
            start: named.start.or(named.guid.map(|guid| guid.start())),
            image: named.image.map(Into::into),
            command_line: None,
            user: None,
            sid: None,
            sha256: None,
            signer: None,
            ancestors: Vec::new(),
            key: None,
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
        /// The rule that found it: `five-tuple`, `control-connection` or `translated`.
        rule: &'static str,
        /// How sure that is.
        confidence: Confidence,
        /// The offset of the host's clock that was taken off, if one was learnt.
        offset: Option<Offset>,
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
    pub(super) clocks: Clocks,
}

impl Joiner {
    /// With the windows of the configuration.
    pub fn new(config: &config::Join, history: History) -> Self {
        Self { config: config.clone(), history, clocks: Clocks::default() }
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

    /// Learns from a flow whose opening was seen how far the clocks of the hosts at its ends are off.
    pub fn learn(&mut self, flow: FlowSeen) {
        if flow.opening_seen {
            self.clocks.learn(&self.history, flow);
        }
    }

    /// Takes the offset of a host's clock that its helper's heartbeats tell: by how many nanoseconds it is ahead. It holds
    /// as long as no two flows tell another.
    pub fn measured(&mut self, host: &str, ahead: i64) {
        self.clocks.measure(host.into(), ahead);
    }

    /// The offsets of a host's clocks, by time field.
    pub fn offsets(&self, host: &str) -> Vec<Offset> {
        self.clocks.of(host)
    }

    /// The process at the client's end of a connection.
    ///
    /// Only the hosts that had the client's address are asked, whichever side opened the connection: what the server's
    /// host reports of its own end never names the client's process.
    pub fn attribute(&self, flow: FlowSeen) -> Attribution {
        let (client, server) = (flow.connection.client, flow.connection.server);
        let owners = self.history.ever_owners(client.address);
        if owners.is_empty() {
            let translated = self.config.translators.iter().any(|network| network.contains(&client.address.ip()));
            return if translated {
                self.translated(flow)
            } else {
                Attribution::Unknown { why: Why::NoEndpoint, host: None }
            };
        }
        let mut claims: Vec<Claim<'_>> = Vec::new();
        for host in &owners {
            let records = host.connections().of(client, server);
            claims.extend(records.filter_map(|record| Claim::new(self, host, record, flow)));
        }
        match Group::best(claims) {
            Ok(Some(group)) => group.attribution("five-tuple"),
            Ok(None) => self.unknown(flow, &owners),
            Err(host) => Attribution::Unknown { why: Why::Ambiguous, host: Some(host_name(host)) },
        }
    }

    /// The same for an FTP data connection: where it was not reported itself, the process of its control connection.
    pub fn attribute_ftp(&self, data: FlowSeen, control: Option<FlowSeen>) -> Attribution {
        let own = self.attribute(data);
        let Some(control) = control.filter(|_| own.process().is_none()) else { return own };
        match self.attribute(control) {
            Attribution::Known { process, confidence, offset, .. } => Attribution::Known {
                process,
                rule: "control-connection",
                confidence: confidence.min(Confidence::Medium),
                offset,
            },
            Attribution::Unknown { .. } => own,
        }
    }

    /// Where many hosts stand behind the client's address, as behind a translating gateway or a proxy: the one process that
    /// opened a connection to the same end, or to the proxy, at that time.
    fn translated(&self, flow: FlowSeen) -> Attribution {
        let (client, server) = (flow.connection.client, flow.connection.server);
        let mut claims = Vec::new();
        for host in self.history.hosts() {
            let ahead = self.clocks.wall(host.id(), flow.start);
            let window = self.config.connection_window;
            let put = |time| put_right(time, ahead.saturating_neg());
            let (from, to) = (put(flow.start.before(window)), put(flow.start.after(window)));
            let opened =
                [server.address, client.address].into_iter().flat_map(|remote| host.connections().to(remote, from, to));
            let opened = opened.filter(|(remote, record)| {
                record.initiated != Some(false) && (*remote == server || remote.address == client.address)
            });
            claims.extend(opened.filter_map(|(_, record)| Claim::new(self, host, record, flow)));
        }
        match Group::only(claims) {
            Some(group) => group.attribution("translated"),
            None => Attribution::Unknown { why: Why::Translated, host: None },
        }
    }

    fn unknown(&self, flow: FlowSeen, owners: &[&HostHistory]) -> Attribution {
        let (client, server) = (flow.connection.client, flow.connection.server);
        let window = self.config.connection_window;
        // Of several that had the address, the one that has it at that time is to blame.
        let owned = self.history.owners(client.address, flow.start, flow.start);
        let Some(host) = owned.first().or(owners.first()) else {
            return Attribution::Unknown { why: Why::NoEndpoint, host: None };
        };
        let ahead = self.clocks.wall(host.id(), flow.start);
        let put = |time| put_right(time, ahead.saturating_neg());
        let (from, to) = (put(flow.start.before(window)), put(flow.start.after(self.config.grace.max(window))));
        let times = owners.iter().flat_map(|host| host.connections().of(client, server)).map(|record| record.ts);
        let off = times.map(|ts| ts.distance(flow.start)).min();
        let start = put(flow.start);
        let why = if let Some(off) = off {
            Why::OutsideWindow { off }
        } else if host.first_heard().is_some_and(|first| start < first) && (host.is_log() || !host.heard(from, to)) {
            Why::BeforeLog
        } else if !flow.opening_seen {
            Why::OpenedBefore
        } else if host.lost(from, to) {
            Why::EventsLost
        } else if host.heard(from, to) {
            Why::NoConnection
        } else {
            Why::HostSilent { since: host.last_heard(start) }
        };
        Attribution::Unknown { why, host: Some(host_name(host)) }
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
            let start = child.parent_start.or(child.parent_guid.map(|guid| guid.start()));
            let (image, command_line) = (child.parent_image.clone(), child.parent_command_line.clone());
            if child.parent_pid.is_some() || image.is_some() {
                found.push(Ancestor { pid: child.parent_pid, start, image, command_line });
            }
            break;
        };
        found.push(Ancestor {
            pid: parent.pid.or(child.parent_pid),
            start: Some(parent.start),
            image: parent.image.clone().or_else(|| child.parent_image.clone()),
            command_line: parent.command_line.clone().or_else(|| child.parent_command_line.clone()),
        });
        // Two processes of the same instant that name each other would go round until the bound.
        child = parent;
    }
    found
}
