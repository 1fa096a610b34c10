//! Windows event logs in their binary form (`.evtx`): read a chunk of 64 KiB at a time, so that a log of any size takes
//! the memory of one chunk.

use std::io::{BufRead, Read as _};
use std::sync::Arc;

use evtx::{EvtxChunkData, ParserSettings};
use serde_json::Value;

/// What such a file begins with.
pub(in crate::endpoint) const MAGIC: &[u8] = b"ElfFile\0";

const HEADER: u64 = 4_096;
const CHUNK: u64 = 65_536;

/// Something in a log: an event as a tree, or why it cannot be read.
pub(in crate::endpoint) enum Found {
    /// An event, and its number in the log.
    Event(u64, Value),
    /// A chunk or an event that cannot be read.
    Bad(String),
}

/// Reads a whole log.
///
/// # Errors
/// If the input cannot be read. A log that breaks off within a chunk just ends.
pub(in crate::endpoint) fn read(mut input: impl BufRead, sink: &mut dyn FnMut(Found)) -> std::io::Result<()> {
    let settings = Arc::new(ParserSettings::new().num_threads(1).separate_json_attributes(false));
    let mut header = Vec::new();
    input.by_ref().take(HEADER).read_to_end(&mut header)?;
    let mut number: u64 = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK as usize);
        input.by_ref().take(CHUNK).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(());
        }
        number = number.saturating_add(1);
        // A log is made longer before it is filled.
        if !chunk.starts_with(b"ElfChnk\0") {
            continue;
        }
        chunk.resize(CHUNK as usize, 0);
        let parsed = EvtxChunkData::new(chunk, false);
        let mut data = match parsed {
            Ok(data) => data,
            Err(_) => {
                sink(Found::Bad(format!("chunk {number} cannot be read")));
                continue;
            }
        };
        match data.parse(Arc::clone(&settings)) {
            Err(_) => sink(Found::Bad(format!("chunk {number} cannot be read"))),
            Ok(mut chunk) => {
                for record in chunk.iter() {
                    match record.and_then(|record| record.into_json_value()) {
                        Ok(record) => sink(Found::Event(record.event_record_id, record.data)),
                        Err(_) => sink(Found::Bad(format!("an event of chunk {number} cannot be read"))),
                    }
                }
            }
        }
    }
}
