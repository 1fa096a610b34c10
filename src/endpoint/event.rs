//! The endpoint event schema, version 1: one JSON object per line.
//!
//! Times are integers, nanoseconds since the Unix epoch on the endpoint's clock. Unknown fields are ignored. An empty
//! text means the same as an absent one. `hello` names its host as `"host": {"id": ...}` or as `"host.id"`; any other
//! event may carry `"host": "ID"`, `"host": {"id": "ID"}` or `"host.id": "ID"`, which overrides the hello above it.

use serde::{Deserialize, Deserializer, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

use super::Origin;
use crate::net::{Endpoint, Timestamp};

/// What saw an event. A source that polls misses what is short: its silence proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Event Tracing for Windows.
    Etw,
    /// A Windows event log.
    EventLog,
    /// Snapshots, compared.
    Poll,
    /// A file of events.
    Script,
    /// Absent, or a source that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A line of the schema: an event, its source and its place in the helper's sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The helper's sequence number, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What saw it.
    pub source: Source,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// The line as it is written for this host, with its line feed.
    pub fn written(&self, host: &str) -> String {
        let mut line = serde_json::to_value(self).unwrap_or_default();
        // A hello names its host itself.
        if let (Some(object), false) = (line.as_object_mut(), matches!(self.event, Event::Hello(_))) {
            object.insert("host".to_owned(), host.into());
        }
        format!("{line}\n")
    }
}

/// An event and the host that it happened on.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The host's identity, as its `hello` or the event itself gave it.
    pub host: Arc<str>,
    /// The line.
    pub line: Line,
    /// What a Windows event log tells beside it.
    pub origin: Option<Box<Origin>>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The host presents itself; what follows is its.
    Hello(Hello),
    /// A process started, or was found running.
    ProcessStart(ProcessStart),
    /// A process ended.
    ProcessEnd(ProcessEnd),
    /// A process opened or accepted a connection.
    Connection(ConnectionEvent),
    /// A process touched a file.
    File(FileEvent),
    /// The helper is alive.
    Heartbeat(Heartbeat),
}

impl Event {
    /// When it happened, endpoint clock.
    pub fn ts(&self) -> Timestamp {
        match self {
            Self::Hello(event) => event.ts,
            Self::ProcessStart(event) => event.ts,
            Self::ProcessEnd(event) => event.ts,
            Self::Connection(event) => event.ts,
            Self::File(event) => event.ts,
            Self::Heartbeat(event) => event.ts,
        }
    }
}

/// The host presents itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hello {
    /// The version of the schema; this is 1.
    pub v: u32,
    /// Who it is.
    pub host: HostDescription,
    /// When the host started.
    #[serde(with = "nanoseconds::optional", skip_serializing_if = "Option::is_none")]
    pub boot: Option<Timestamp>,
    /// When it said so.
    #[serde(with = "nanoseconds")]
    pub ts: Timestamp,
    /// The helper's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
}

/// A host's names and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostDescription {
    /// Its identity, stable over restarts.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The domain that it is a member of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Its addresses at that time.
    pub ips: Vec<IpAddr>,
}

/// A process started, or was found running.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStart {
    /// When it was seen.
    #[serde(with = "nanoseconds")]
    pub ts: Timestamp,
    /// The process id.
    pub pid: u32,
    /// When the process started; `ts` if absent.
    #[serde(default, with = "nanoseconds::optional", skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// The parent's process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// When the parent started.
    #[serde(default, with = "nanoseconds::optional", skip_serializing_if = "Option::is_none")]
    pub parent_start: Option<Timestamp>,
    /// The path of the executable.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The command line.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// The account, as `DOMAIN\name`.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The account's security identifier.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The executable's SHA-256, hexadecimal.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The subject of the executable's signature.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// A process ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// When it ended.
    #[serde(with = "nanoseconds")]
    pub ts: Timestamp,
    /// The process id.
    pub pid: u32,
    /// When the process started.
    #[serde(default, with = "nanoseconds::optional", skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
}

/// The transport of a connection event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, also where the event does not say.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A process opened or accepted a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionEvent {
    /// When it was seen.
    #[serde(with = "nanoseconds")]
    pub ts: Timestamp,
    /// The process id.
    pub pid: u32,
    /// When the process started.
    #[serde(default, with = "nanoseconds::optional", skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// The transport.
    #[serde(default)]
    pub protocol: Transport,
    /// This host's end, `ip:port` or `[v6]:port`.
    #[serde(with = "socket")]
    pub local: Endpoint,
    /// The other end.
    #[serde(with = "socket")]
    pub remote: Endpoint,
    /// Whether this host opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiated: Option<bool>,
    /// The path of the executable, where the source names it here.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The account, where the source names it here.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It was made.
    Create,
    /// It was written.
    Write,
    /// It was read.
    Read,
    /// It was given the name `new_path`.
    Rename,
    /// It was deleted.
    Delete,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

impl Operation {
    /// The value of `op`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Read => "read",
            Self::Rename => "rename",
            Self::Delete => "delete",
            Self::Other => "other",
        }
    }
}

/// A process touched a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEvent {
    /// When.
    #[serde(with = "nanoseconds")]
    pub ts: Timestamp,
    /// The process id.
    pub pid: u32,
    /// When the process started.
    #[serde(default, with = "nanoseconds::optional", skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// What it did.
    pub op: Operation,
    /// To which file.
    pub path: String,
    /// Its new path, of a rename.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub new_path: Option<String>,
    /// The file's size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The file's SHA-256, hexadecimal.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The helper is alive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When.
    #[serde(with = "nanoseconds")]
    pub ts: Timestamp,
    /// Events sent so far.
    #[serde(default)]
    pub sent: u64,
    /// Events lost so far.
    #[serde(default)]
    pub dropped: u64,
    /// The sources at work.
    #[serde(default)]
    pub sources: Vec<SourceState>,
}

/// What one source of a helper is doing. A bare text is a source that is running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SourceForm")]
pub struct SourceState {
    /// Its name: `etw`, `eventlog`, `poll`, `script`.
    pub name: String,
    /// `running`, or why it is not.
    pub state: String,
    /// Events that it knows to have lost since it started.
    pub lost: u64,
}

/// How a heartbeat may name a source.
#[derive(Deserialize)]
#[serde(untagged)]
enum SourceForm {
    Name(String),
    State {
        #[serde(default)]
        name: String,
        #[serde(default)]
        state: String,
        #[serde(default)]
        lost: u64,
    },
}

impl From<SourceForm> for SourceState {
    fn from(form: SourceForm) -> Self {
        match form {
            SourceForm::Name(name) => Self { name, state: "running".to_owned(), lost: 0 },
            SourceForm::State { name, state, lost } => Self { name, state, lost },
        }
    }
}

/// An absent, null or empty text is no text.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// [`Timestamp`] as an integer.
pub(super) mod nanoseconds {
    use crate::net::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(deserializer).map(Timestamp)
    }

    /// The same where it may be absent.
    pub mod optional {
        use crate::net::Timestamp;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            time.map(|time| time.0).serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<u64>::deserialize(deserializer)?.map(Timestamp))
        }
    }
}

mod socket {
    use crate::net::Endpoint;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;
    use std::net::SocketAddr;

    pub fn serialize<S: Serializer>(end: &Endpoint, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(end)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let socket: SocketAddr = text
            .parse()
            .map_err(|_| D::Error::custom(format_args!("expected \"ip:port\" or \"[v6]:port\", found {text:?}")))?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_names_its_sources_with_or_without_their_state() {
        let text = r#"{"ts":1,"sources":["poll",{"name":"etw","state":"refused","lost":3,"more":1}]}"#;
        let beat: Heartbeat = serde_json::from_str(text).unwrap();
        let states: Vec<_> = beat.sources.iter().map(|s| (s.name.as_str(), s.state.as_str(), s.lost)).collect();
        assert_eq!(states, [("poll", "running", 0), ("etw", "refused", 3)]);
        let again: Heartbeat = serde_json::from_str(&serde_json::to_string(&beat).unwrap()).unwrap();
        assert_eq!(again, beat);
    }
}
