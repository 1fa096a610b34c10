//! The uploaded files themselves, carved out of the packets of their connections.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use super::EvidenceError;
use crate::capture::{Batch, Reader};
use crate::config::{self, Config};
use crate::flow::{Moment, Tracker};
use crate::packet::{Decoded, Decoder};
use crate::protocol::{Fact, Parsers};
use crate::record::{Carved, NotHashed, State, Upload};

/// A file, or a body that is none, of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// `event.id` of the upload.
    pub(super) upload: String,
    /// The name that the client gave it.
    pub(super) name: Option<String>,
    /// The content with its SHA-256, or why it is not there.
    pub(super) content: Result<(String, Carved), &'static str>,
}

impl Found {
    fn new(
        upload: &Upload,
        name: Option<&str>,
        (sha256, why, carved): (Option<&String>, Option<NotHashed>, Option<&Carved>),
    ) -> Option<Self> {
        let content = match (sha256, carved, why) {
            (Some(sha256), Some(carved), _) => Ok((sha256.clone(), carved.clone())),
            (Some(_), None, _) => Err("more than `evidence.max_carved`"),
            (None, _, Some(why)) => Err(why.name()),
            // It was no candidate for a hash, and so is none for this.
            (None, _, None) => return None,
        };
        Some(Self { upload: upload.id.to_string(), name: name.map(str::to_owned), content })
    }
}

/// Reads the uploads in a capture again, and gives the files of those that are asked for.
///
/// # Errors
/// If the capture cannot be read.
pub(super) fn carve(packets: &Path, uploads: &[String], config: &Config) -> Result<Vec<Found>, EvidenceError> {
    // What passed once without a hash may be hashed now.
    let files = config::Files { hash: true, hash_limit: config::Files::default().hash_limit, ..config.files.clone() };
    let files = config::Files { hash_rate: config::Files::default().hash_rate, ..files };
    let mut parsers = Parsers::new(&config.protocol, &files, 1);
    parsers.carve(config.evidence.max_carved);
    let mut tracker = Tracker::new(&config.flow, 1, RandomState::new().hash_one(0u8), parsers);
    let mut decoder = Decoder::with_limits(&config.packet);
    let mut reader = Reader::open(&[packets.to_owned()])?;
    let (mut batch, mut found) = (Batch::default(), Vec::new());
    while reader.fill(&mut batch)? {
        for packet in batch.packets() {
            decoder.decode(&packet, &mut |decoded| {
                if let Decoded::Tcp(segment) = decoded {
                    tracker.advance(segment.clock);
                    tracker.push(&segment);
                }
            });
            collect(&mut tracker, uploads, &mut found);
        }
    }
    let clock = batch.clock();
    let mut open: Vec<_> = tracker.open_connections().collect();
    open.sort_unstable();
    for (index, handle) in open {
        tracker.end(handle, Moment { clock, by_packet: true, index });
    }
    tracker.app().flush(Moment { clock, by_packet: true, index: u64::MAX });
    collect(&mut tracker, uploads, &mut found);
    Ok(found)
}

fn collect(tracker: &mut Tracker<Parsers>, uploads: &[String], found: &mut Vec<Found>) {
    if !tracker.app().has_facts() {
        return;
    }
    for (_, fact) in tracker.app().take_facts() {
        let Fact::Upload(upload) = fact else { continue };
        if upload.state == State::Running || !uploads.contains(&upload.id.to_string()) {
            continue;
        }
        let body = &upload.body;
        let files = upload.files.iter().filter_map(|file| {
            let content = (file.sha256.as_ref(), file.not_hashed, file.carved.as_ref());
            Found::new(&upload, file.name.as_deref(), content)
        });
        found.extend(files);
        found.extend(Found::new(&upload, None, (body.sha256.as_ref(), body.not_hashed, body.carved.as_ref())));
    }
}
