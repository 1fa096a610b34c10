//! What happened to one file: its events under its present and its former names.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::tree::is_root;
use crate::endpoint::{FileRecord, HostHistory, Operation, base_name};
use crate::net::Timestamp;

/// Renames followed back.
const MAX_RENAMES: usize = 4;

/// Events looked at per name, the newest.
const MAX_EVENTS: usize = 256;

/// What happened to one file.
pub(super) struct Story<'a> {
    /// Where it is in the end.
    pub(super) path: Arc<str>,
    /// Every path that it had, in lower case.
    pub(super) paths: BTreeSet<String>,
    /// Its events but deletions, the newest first.
    pub(super) events: Vec<&'a FileRecord>,
}

impl<'a> Story<'a> {
    /// The story of the file at `path`, from `from` to `to`.
    pub(super) fn of(host: &'a HostHistory, path: &Arc<str>, from: Timestamp, to: Timestamp) -> Self {
        let mut story = Self { path: path.clone(), paths: BTreeSet::new(), events: Vec::new() };
        let mut former = Some((path.clone(), to));
        for _ in 0..=MAX_RENAMES {
            let Some((path, until)) = former.take() else { break };
            let lower = path.to_lowercase();
            if !story.paths.insert(lower.clone()) {
                break;
            }
            for event in host.files().named(base_name(&path), from, until).take(MAX_EVENTS) {
                let after = event.path_after().to_lowercase() == lower;
                if !after && event.path.to_lowercase() != lower {
                    continue;
                }
                if after && event.op == Operation::Rename && former.is_none() && event.new_path.is_some() {
                    former = Some((event.path.clone(), event.ts));
                }
                if !matches!(event.op, Operation::Delete | Operation::Other) {
                    story.events.push(event);
                }
            }
        }
        story.events.sort_by_key(|event| std::cmp::Reverse(event.order()));
        story.events.dedup_by_key(|event| event.order());
        story
    }

    /// The event that best says who made the file: the last write by a process that is not one of the system's own,
    /// else any last write, the last rename, the last read.
    pub(super) fn making(&self, host: &HostHistory) -> Option<&'a FileRecord> {
        let ours = |event: &&&FileRecord| {
            let process = host.processes().resolve(event.named(), event.ts);
            let image = process.and_then(|process| process.image.as_deref()).or(event.image.as_deref());
            !image.is_some_and(is_root)
        };
        let writes = || self.events.iter().filter(|event| matches!(event.op, Operation::Create | Operation::Write));
        let renames = || self.events.iter().filter(|event| event.op == Operation::Rename);
        let found = writes().find(ours).or_else(|| writes().next()).or_else(|| renames().next());
        found.or(self.events.first()).copied()
    }

    /// Whether the file was seen with this size.
    pub(super) fn has_size(&self, size: u64) -> bool {
        self.events.iter().any(|event| event.size == Some(size))
    }

    /// The newest size that was told.
    pub(super) fn size(&self) -> Option<u64> {
        self.events.iter().find_map(|event| event.size)
    }
}
