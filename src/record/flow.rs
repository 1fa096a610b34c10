//! The flow record: one per TCP connection of any protocol.

use super::{Connection, EventId, Protocol, Wrapping};
use crate::net::Timestamp;

/// How a connection came to its end, as far as the sensor saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Both sides sent FIN.
    Finished,
    /// A side sent RST.
    Reset,
    /// No packet for the configured time.
    Idle,
    /// A new connection took over the same five-tuple.
    Reused,
    /// The flow table or its memory was full.
    Evicted,
    /// The capture ended.
    CaptureEnd,
}

impl Ending {
    /// The value of `outfall.flow.ending`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Reused => "reused",
            Self::Evicted => "evicted",
            Self::CaptureEnd => "capture-end",
        }
    }
}

/// One TCP connection, finished.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The two ends; the client is the side that opened, or for FTP data the side that is FTP's client.
    pub connection: Connection,
    /// What its packets were wrapped in.
    pub wrapping: Wrapping,
    /// Whether the SYN was seen; without it the client is the best guess by content and port.
    pub opening_seen: bool,
    /// What was spoken.
    pub protocol: Protocol,
    /// The protocol went over to TLS (`AUTH TLS`): what follows cannot be read.
    pub encrypted: bool,
    /// Time of the first packet.
    pub start: Timestamp,
    /// Time of the last packet.
    pub end: Timestamp,
    /// Unique TCP payload bytes from client to server, losses of the tap included.
    pub client_bytes: u64,
    /// Unique TCP payload bytes from server to client, losses of the tap included.
    pub server_bytes: u64,
    /// Of `client_bytes`, how many the tap did not deliver.
    pub client_missing: u64,
    /// Of `server_bytes`, how many the tap did not deliver.
    pub server_missing: u64,
    /// Packets from the client, duplicates included.
    pub client_packets: u64,
    /// Packets from the server, duplicates included.
    pub server_packets: u64,
    /// How it ended.
    pub ending: Ending,
}

impl Flow {
    /// Stable identifier; made when asked for, as most connections are never written out.
    pub fn id(&self) -> EventId {
        EventId::new("flow", self.connection, self.start, 0)
    }
}
