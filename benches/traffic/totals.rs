//! What a capture holds, as its generator knows it: what a sensor must find.

use serde_json::{Value, json};

/// Transfers of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    /// Entity bytes: without headers and chunk framing, with those of multipart.
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn json(self) -> Value {
        json!({ "count": self.count, "bytes": self.bytes })
    }
}

/// The sums over a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    /// Bytes of the frames.
    pub bytes: u64,
    pub connections: u64,
    pub http_uploads: Tally,
    pub ftp_uploads: Tally,
    /// Bodies and files from server to client.
    pub downloads: Tally,
    /// TLS connections and their records' bytes.
    pub tls: Tally,
    /// Datagrams and their payload.
    pub datagrams: Tally,
}

impl Totals {
    pub fn json(&self) -> Value {
        json!({
            "packets": self.packets,
            "bytes": self.bytes,
            "connections": self.connections,
            "uploads": { "http": self.http_uploads.json(), "ftp": self.ftp_uploads.json() },
            "downloads": self.downloads.json(),
            "tls": self.tls.json(),
            "datagrams": self.datagrams.json(),
        })
    }
}
