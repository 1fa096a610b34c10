//! What of a baseline is kept on the disk: plain rows, each with its key.

use crate::net::Timestamp;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A destination; `other` is empty.
    Destination,
    /// A process; `other` is empty.
    Process,
    /// The content of a program, by its SHA-256; the names under which it ran stand for its users.
    ProgramContent,
    /// A process and a protocol that it used.
    ProcessProtocol,
    /// A process and a destination that it uploaded to.
    ProcessDestination,
    /// A parent process and a child of it that uploaded.
    ParentChild,
    /// How much a home host sends, and when.
    HostVolume,
    /// How much a user sends, and when.
    UserVolume,
    /// How much a process sends, and when.
    ProcessVolume,
    /// How much a destination is sent, and when.
    DestinationVolume,
    /// How much a home host sends to a destination.
    HostDestinationVolume,
    /// The baseline as a whole; key and `other` are empty.
    Whole,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Destination,
        Self::Process,
        Self::ProgramContent,
        Self::ProcessProtocol,
        Self::ProcessDestination,
        Self::ParentChild,
        Self::HostVolume,
        Self::UserVolume,
        Self::ProcessVolume,
        Self::DestinationVolume,
        Self::HostDestinationVolume,
        Self::Whole,
    ];

    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Destination => "destination",
            Self::Process => "process",
            Self::ProgramContent => "program-content",
            Self::ProcessProtocol => "process-protocol",
            Self::ProcessDestination => "process-destination",
            Self::ParentChild => "parent-child",
            Self::HostVolume => "host-volume",
            Self::UserVolume => "user-volume",
            Self::ProcessVolume => "process-volume",
            Self::DestinationVolume => "destination-volume",
            Self::HostDestinationVolume => "host-destination-volume",
            Self::Whole => "whole",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What tells a row from every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// What it is about.
    pub kind: Kind,
    /// The destination, the process, the parent, the host or the user.
    pub key: String,
    /// The second half of a pair; empty where there is none.
    pub other: String,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose row it is.
    pub key: RowKey,
    /// When the first upload was seen, by packet time.
    pub first_seen: Timestamp,
    /// When the last one was.
    pub last_seen: Timestamp,
    /// Days (UTC, of packet time) on which an upload taught something.
    pub days: u64,
    /// Uploads that taught something.
    pub uploads: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that were alerts, and taught nothing.
    pub alerted: u64,
    /// Everything else, a JSON object.
    pub detail: String,
}

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row is new, or takes the place of the one with its key.
    Put(Row),
    /// There is no such row any more.
    Forget(RowKey),
}
