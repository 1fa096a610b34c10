//! Stable event identifiers.

use sha1::{Digest, Sha1};

use super::Connection;
use crate::net::Timestamp;

/// A stable 96-bit identifier: the same input gives the same id, in every run and on every machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 12]);

impl EventId {
    /// The id of the `ordinal`-th thing of `kind` on a connection whose first packet came at `start`.
    pub fn new(kind: &str, connection: Connection, start: Timestamp, ordinal: u64) -> Self {
        Self::of(kind, connection, start, &ordinal.to_be_bytes())
    }

    /// The id of something told apart by free bytes.
    pub fn of(kind: &str, connection: Connection, start: Timestamp, apart: &[u8]) -> Self {
        let mut hash = Sha1::new();
        hash.update(kind.as_bytes());
        for end in [connection.client, connection.server] {
            hash.update(end.address.bits().to_be_bytes());
            hash.update(end.port.to_be_bytes());
        }
        hash.update(start.0.to_be_bytes());
        hash.update(apart);
        let digest = hash.finalize();
        let mut id = [0; 12];
        for (to, from) in id.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        Self(id)
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
