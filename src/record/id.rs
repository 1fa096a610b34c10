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
        // As one number: to write each byte by itself takes many times as long.
        let number = self.0.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        write!(f, "{number:024x}")
    }
}

impl std::fmt::Debug for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_in_hexadecimal() {
        let id = EventId([0x00, 0x09, 0x0a, 0x0f, 0x10, 0x9f, 0xa0, 0xff, 1, 2, 3, 0xbc]);
        assert_eq!(id.to_string(), "00090a0f109fa0ff010203bc");
    }
}
