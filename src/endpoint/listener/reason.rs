//! Why connections end: each reason with a name, which the client is told, and a counter.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])* $Reason:ident = $name:literal; )*) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $( $(#[doc = $doc])* $Reason, )*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$( Self::$Reason, )*];

            /// Its name in logs and in what the client is told.
            pub fn name(self) -> &'static str {
                match self {
                    $( Self::$Reason => $name, )*
                }
            }
        }
    };
}

reasons! {
    /// The client ended it.
    Closed = "closed";
    /// The connection broke.
    Broken = "broken";
    /// The sensor ends.
    Stopping = "stopping";
    /// The same host made another connection, which counts.
    Replaced = "replaced";
    /// The disk takes events again: what was not stored is to be sent again.
    Storage = "storage";
    /// There are too many connections.
    Full = "full";
    /// Too many connections have not said who they are, and this one took longest.
    CrowdedOut = "crowded-out";
    /// It did not say who it is in time.
    HandshakeTimeout = "handshake-timeout";
    /// It speaks no TLS 1.3, or breaks its rules.
    Handshake = "tls";
    /// It has no certificate.
    NoCertificate = "no-certificate";
    /// Its certificate is of another authority.
    Foreign = "foreign-certificate";
    /// Its certificate is not on the list of those that were issued.
    Unlisted = "unlisted-certificate";
    /// Its certificate's time is over, or has not come.
    Expired = "expired-certificate";
    /// Its certificate was revoked.
    Revoked = "revoked-certificate";
    /// Its first line is no `hello` with a stream.
    NoHello = "no-hello";
    /// It speaks for a host that its certificate does not name.
    WrongHost = "wrong-host";
    /// No whole line came for too long, nor the beginning of one.
    Silent = "silent";
    /// No whole line came for too long, only the beginning of one.
    Slow = "slow";
    /// It does not read what it is sent.
    NotReading = "not-reading";
    /// A line without an end.
    EndlessLine = "endless-line";
    /// There is no memory for its line.
    Memory = "memory";
    /// Too many of its lines are no events.
    Malformed = "malformed";
}

impl Reason {
    /// Whether the sensor refused or dropped it for what it is or did.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Closed | Self::Broken | Self::Stopping | Self::Replaced | Self::Storage)
    }
}

/// How many connections ended for each reason.
#[derive(Debug)]
pub(super) struct Ends(Vec<AtomicU64>);

impl Default for Ends {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Ends {
    /// Counts one; gives how many there are.
    pub(super) fn count(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn all(&self) -> Vec<(Reason, u64)> {
        Reason::ALL.iter().zip(&self.0).map(|(reason, count)| (*reason, count.load(Ordering::Relaxed))).collect()
    }
}
