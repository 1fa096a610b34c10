//! What the fuzz targets share: scripts of what two hosts say, a driver that plays them to the parsers, and what
//! must hold of every record whatever the input was.

pub mod check;
pub mod conversation;
pub mod frames;
pub mod script;
pub mod watch;

use outfall::config::Config;
use outfall::net::ByteSize;

/// The default configuration with bounds small enough for short inputs to reach them.
pub fn tight() -> Config {
    let mut config = Config::default();
    config.flow.table_memory = ByteSize(1);
    config.flow.reassembly_memory = ByteSize(8 << 10);
    config.flow.reassembly_per_stream = ByteSize(4 << 10);
    config.flow.reorder_packets = 4;
    config.protocol.max_head = ByteSize(1 << 10);
    config.protocol.max_line = ByteSize(256);
    config.protocol.max_pending = 8;
    config.protocol.max_files = 4;
    config.protocol.running_report = ByteSize(1_000);
    config.protocol.expectations = 8;
    config.protocol.memory = ByteSize(32 << 10);
    config.packet.fragment_memory = ByteSize(16 << 10);
    config.files.decode = true;
    config.files.decode_limit = ByteSize(1 << 20);
    config
}

/// Takes numbers off the front of an input; zeros follow its end.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
