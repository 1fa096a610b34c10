//! Why no process is named.

use std::fmt;

use crate::net::{Span, Timestamp};

/// Why no process is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No helper and no log ever claimed the client's address.
    NoEndpoint,
    /// The host tells events, but was not heard around that time.
    HostSilent {
        /// When it was heard last before.
        since: Option<Timestamp>,
    },
    /// The host was heard first after the connection was made.
    BeforeLog,
    /// The capture does not hold the connection's opening, and no event tells of it.
    OpenedBefore,
    /// The helper lost events around that time.
    EventsLost,
    /// The host was heard, but reported no such connection.
    NoConnection,
    /// The host reported these two ends, but so far from the flow's time that it was another connection, or the
    /// clocks disagree.
    OutsideWindow {
        /// How far the nearest event is from the flow's start.
        off: Span,
    },
    /// Different processes claim the connection, and none is nearer.
    Ambiguous,
    /// The client is a translating gateway or a proxy, and no one process opened a connection through it at that time.
    Translated,
}

impl Why {
    /// The value of `outfall.join.why`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEndpoint => "no-endpoint",
            Self::HostSilent { .. } => "host-silent",
            Self::BeforeLog => "before-log",
            Self::OpenedBefore => "opened-before",
            Self::EventsLost => "events-lost",
            Self::NoConnection => "no-connection",
            Self::OutsideWindow { .. } => "outside-window",
            Self::Ambiguous => "ambiguous",
            Self::Translated => "translated",
        }
    }
}

/// The end of a sentence that begins with "not known: ".
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no helper on this host"),
            Self::HostSilent { since: Some(since) } => write!(f, "the helper on this host is silent since {since}"),
            Self::HostSilent { since: None } => f.write_str("the helper on this host was silent at that time"),
            Self::BeforeLog => f.write_str("the connection was opened before this host's events begin"),
            Self::OpenedBefore => f.write_str("the connection was opened before the capture, and no event tells of it"),
            Self::EventsLost => f.write_str("the helper on this host lost events at that time"),
            Self::NoConnection => f.write_str("no connection event for this flow"),
            Self::OutsideWindow { off } => {
                write!(f, "the only connection event for this flow is {:.1} s away from it", off.as_seconds())
            }
            Self::Ambiguous => f.write_str("several processes claim this connection"),
            Self::Translated => f.write_str("several hosts stand behind this address, and none is known to be the one"),
        }
    }
}
