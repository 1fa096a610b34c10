//! Upload to file.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Confidence;
use super::attribution::{Attribution, Joiner, Process};
use super::clocks::put_right;
use super::paths::{FileKind, is_noise, is_script, is_upload_target};
use super::story::Story;
use super::tree::Tree;
use super::wanted::{Wanted, wanted};
use crate::endpoint::{FileRecord, HostHistory, Operation, ProcessRecord, base_name};
use crate::net::Timestamp;
use crate::record::Upload;

/// Files that the rule `process-tree` links to one upload at most.
pub const MAX_TREE_LINKS: usize = 32;

/// Events of one process that are looked at, the newest.
const MAX_EVENTS: usize = 10_000;

/// Events of the same name that are looked at, the newest.
const MAX_NAMESAKES: usize = 256;

/// A file smaller than this has its size in common with too many others.
const MIN_TELLING_SIZE: u64 = 1_024;

/// What an encoding may add beside its percentage: boundaries, headers, a few form fields.
const FIXED_OVERHEAD: u64 = 1_024;

/// How a file was linked to an upload, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileRule {
    /// The content is the same.
    Sha256,
    /// Base name and size are the same.
    NameAndSize,
    /// A file of the process tree is nearly as large as what was uploaded.
    SizeWithinOverhead,
    /// The base name is the same.
    Name,
    /// The process or its tree touched the file.
    ProcessTree,
}

impl FileRule {
    /// The value in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::NameAndSize => "name-and-size",
            Self::SizeWithinOverhead => "size-within-overhead",
            Self::Name => "name",
            Self::ProcessTree => "process-tree",
        }
    }
}

/// A file on the host that an upload is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLink {
    /// Its path on the host.
    pub path: Arc<str>,
    /// Its size in bytes, if the host told it.
    pub size: Option<u64>,
    /// What `staged_by` did to it.
    pub op: Operation,
    /// When.
    pub ts: Timestamp,
    /// The process that wrote, packed or else read the file; it need not be the one that uploaded it.
    pub staged_by: Process,
    /// The rule that linked it.
    pub rule: FileRule,
    /// How sure that is.
    pub confidence: Confidence,
    /// What the path tells of the file.
    pub kind: FileKind,
}

impl FileLink {
    /// The file's base name.
    pub fn name(&self) -> &str {
        base_name(&self.path)
    }
}

impl Joiner {
    /// The files on the host that the upload carried, or that its process tree had in hand.
    ///
    /// First the best link of each file of the upload, in the upload's order, then what the process tree touched, the
    /// most telling first, [`MAX_TREE_LINKS`] at most; no path twice.
    pub fn files(&self, upload: &Upload, attribution: &Attribution) -> Vec<FileLink> {
        let Some(host) = self.host_of(upload, attribution) else { return Vec::new() };
        let ahead = self.clocks.wall(host.id(), upload.start).saturating_neg();
        let from = put_right(upload.start.before(self.config.look_back), ahead);
        let to = put_right(upload.end.max(upload.start).after(self.config.grace), ahead);
        let process = attribution.process();
        let record = process.and_then(|process| host.processes().get(process.key?));
        let tree = record.map(|record| Tree::of(host, record));
        let command_line = process.and_then(|process| process.command_line.clone());
        let overhead = self.config.size_overhead;
        let server = upload.connection.server.address.to_string();
        let search =
            Search { server, host, upload, known: process.is_some(), record, tree, command_line, overhead, from, to };
        search.links()
    }

    /// Without a process the address must tell the host, and only one.
    fn host_of(&self, upload: &Upload, attribution: &Attribution) -> Option<&HostHistory> {
        if let Some(process) = attribution.process() {
            return self.history.host(&process.host.id);
        }
        let owners = self.history.owners(upload.connection.client.address, upload.start, upload.end);
        owners.first().copied().filter(|_| owners.len() == 1)
    }
}

struct Search<'a> {
    host: &'a HostHistory,
    upload: &'a Upload,
    known: bool,
    record: Option<&'a ProcessRecord>,
    tree: Option<Tree<'a>>,
    command_line: Option<Arc<str>>,
    overhead: u64,
    server: String,
    from: Timestamp,
    to: Timestamp,
}

impl<'a> Search<'a> {
    fn links(&self) -> Vec<FileLink> {
        let in_tree = self.tree_events();
        let mut links = Vec::new();
        let mut taken = BTreeSet::new();
        for wanted in wanted(self.upload) {
            let found = self.by_content_or_name(&wanted).or_else(|| self.by_size(&wanted, &in_tree));
            let Some((story, rule, confidence)) = found else { continue };
            if taken.contains(&story.path.to_lowercase()) {
                continue;
            }
            let size = wanted.size.filter(|size| story.has_size(*size)).or_else(|| story.size());
            if let Some(making) = story.making(self.host) {
                links.push(self.link(&story.path, making, size, rule, confidence));
            }
            taken.extend(story.paths);
        }
        links.extend(self.by_tree(&in_tree, &taken));
        links
    }

    /// The rules `sha256`, `name-and-size` and `name`.
    fn by_content_or_name(&self, wanted: &Wanted) -> Option<(Story<'a>, FileRule, Confidence)> {
        let files = self.host.files();
        let hashed = wanted.sha256.iter().flat_map(|sha256| files.hashed(sha256, self.from, self.to));
        let mut paths = BTreeMap::new();
        for event in hashed.take(MAX_NAMESAKES) {
            paths.entry(event.path_after().to_lowercase()).or_insert((event.path_after(), true));
        }
        let named = wanted.name.iter().flat_map(|name| {
            let lower = name.to_lowercase();
            let events = files.named(name, self.from, self.to).take(MAX_NAMESAKES);
            events.filter_map(move |event| {
                let both = [event.path_after(), &event.path];
                both.into_iter().find(|path| base_name(path).to_lowercase() == lower)
            })
        });
        for path in named {
            paths.entry(path.to_lowercase()).or_insert((path, false));
        }
        let stories = paths.into_values().filter_map(|(path, same_content)| self.candidate(path, same_content, wanted));
        stories.min_by(|a, b| a.rank.cmp(&b.rank)).map(|best| (best.story, best.rank.rule, best.rank.confidence.0))
    }

    fn candidate(&self, path: &Arc<str>, same_content: bool, wanted: &Wanted) -> Option<Candidate<'a>> {
        let story = Story::of(self.host, path, self.from, self.to);
        let (first, last) = (story.events.last()?.order(), story.events.first()?.order());
        let touched = self.touch(&story);
        let same_size = wanted.size.is_some_and(|size| size > 0 && story.has_size(size));
        let (rule, confidence) = if same_content {
            (FileRule::Sha256, Confidence::Certain)
        } else if same_size {
            (FileRule::NameAndSize, Confidence::High)
        } else if touched < Touch::User && !self.size_contradicts(&story, wanted) {
            (FileRule::Name, Confidence::Medium)
        } else {
            (FileRule::Name, Confidence::Low)
        };
        let confidence = if self.known { confidence } else { confidence.lower() };
        // Of copies the first is the origin; of namesakes that differ the last is the likelier.
        let order = match rule {
            FileRule::Name => (Reverse(Some(last)), first),
            _ => (Reverse(None), first),
        };
        let rank = Rank {
            rule,
            target: self.is_target(path),
            confidence: Reverse(confidence),
            touched,
            order,
            path: path.clone(),
        };
        Some(Candidate { story, rank })
    }

    fn is_own(&self, event: &FileRecord) -> bool {
        let process = self.host.processes().resolve(event.named(), event.ts);
        self.record.is_some_and(|own| process.is_some_and(|process| process.key() == own.key()))
    }

    fn is_same_user(&self, event: &FileRecord) -> bool {
        let process = self.host.processes().resolve(event.named(), event.ts);
        let theirs = process.and_then(|process| process.user.as_deref()).or(event.user.as_deref());
        let ours = self.record.and_then(|record| record.user.as_deref());
        matches!((ours, theirs), (Some(ours), Some(theirs)) if ours.eq_ignore_ascii_case(theirs))
    }

    fn touch(&self, story: &Story<'_>) -> Touch {
        if story.events.iter().any(|event| self.is_own(event)) {
            Touch::Own
        } else if self.tree.as_ref().is_some_and(|tree| story.events.iter().any(|event| tree.touched(event))) {
            Touch::Tree
        } else if story.events.iter().any(|event| self.is_same_user(event)) {
            Touch::User
        } else {
            Touch::Nobody
        }
    }

    fn size_contradicts(&self, story: &Story<'_>, wanted: &Wanted) -> bool {
        let sizes = || story.events.iter().filter_map(|event| event.size);
        wanted.size.is_some_and(|bytes| {
            sizes().next().is_some() && !sizes().any(|size| within(size, bytes, self.overhead) || size == bytes)
        })
    }

    /// The rule `size-within-overhead`.
    fn by_size(&self, wanted: &Wanted, in_tree: &[&'a FileRecord]) -> Option<(Story<'a>, FileRule, Confidence)> {
        let bytes = wanted.size?;
        let fits = in_tree.iter().filter_map(|event| {
            let size = event.size.filter(|size| *size >= MIN_TELLING_SIZE)?;
            let encoded = size.div_ceil(3).saturating_mul(4);
            let (plain, expected) = if within(size, bytes, self.overhead) {
                (true, size)
            } else if within(encoded, bytes, self.overhead) {
                (false, encoded)
            } else {
                return None;
            };
            let path = event.path_after();
            let kind = FileKind::of(path);
            Some(((self.is_target(path), !plain, kind, bytes - expected, Reverse(event.order())), plain, *event))
        });
        let (_, plain, event) = fits.min_by(|a, b| a.0.cmp(&b.0))?;
        let story = Story::of(self.host, event.path_after(), self.from, self.to);
        let confidence = if plain { Confidence::Medium } else { Confidence::Low };
        Some((story, FileRule::SizeWithinOverhead, confidence))
    }

    /// The rule `process-tree`.
    fn by_tree(&self, in_tree: &[&'a FileRecord], taken: &BTreeSet<String>) -> Vec<FileLink> {
        let mut renamed: BTreeMap<String, &Arc<str>> = BTreeMap::new();
        for event in in_tree {
            if let Some(new) = &event.new_path {
                renamed.entry(event.path.to_lowercase()).or_insert(new);
            }
        }
        let mut by_path: BTreeMap<String, &FileRecord> = BTreeMap::new();
        for event in in_tree {
            let mut path = event.path_after();
            // A file that got another name in the end is listed once, under that.
            for _ in 0..4 {
                path = renamed.get(&path.to_lowercase()).copied().unwrap_or(path);
            }
            let lower = path.to_lowercase();
            if taken.contains(&lower) || self.is_target(path) {
                continue;
            }
            let known = by_path.entry(lower).or_insert(event);
            // The newest write says more than any read.
            if known.op == Operation::Read && event.op != Operation::Read {
                *known = event;
            }
        }
        // Telling the whole story of a file is dear: only those that can be among the first are told.
        let mut events: Vec<(FileKind, &FileRecord)> =
            by_path.into_values().map(|event| (FileKind::of(event.path_after()), event)).collect();
        events.sort_by_key(|(kind, event)| (*kind, Reverse(event.order())));
        events.truncate(4 * MAX_TREE_LINKS);
        let links = events.into_iter().map(|(_, event)| self.tree_link(event, &renamed));
        let mut links: Vec<FileLink> = links.collect();
        links.sort_by_key(|link| (link.kind, Reverse(link.confidence), Reverse(link.ts), link.path.clone()));
        links.truncate(MAX_TREE_LINKS);
        links
    }

    fn tree_link(&self, event: &'a FileRecord, renamed: &BTreeMap<String, &Arc<str>>) -> FileLink {
        let mut path = event.path_after();
        for _ in 0..4 {
            path = renamed.get(&path.to_lowercase()).copied().unwrap_or(path);
        }
        let story = Story::of(self.host, path, self.from, self.to);
        let size = story.size().or(event.size);
        let is_archive = FileKind::of(path) == FileKind::Archive;
        let read_by_process = story.events.iter().any(|event| event.op == Operation::Read && self.is_own(event));
        let fits = size.is_some_and(|size| size >= MIN_TELLING_SIZE && size <= self.upload.bytes);
        let confidence = if is_archive && read_by_process && fits { Confidence::Medium } else { Confidence::Low };
        let making = story.making(self.host).filter(|_| is_archive).unwrap_or(event);
        self.link(path, making, size, FileRule::ProcessTree, confidence)
    }

    fn link(
        &self,
        path: &Arc<str>,
        event: &FileRecord,
        size: Option<u64>,
        rule: FileRule,
        confidence: Confidence,
    ) -> FileLink {
        let staged_by = match self.host.processes().resolve(event.named(), event.ts) {
            Some(record) => Process::from_record(self.host, record),
            None => Process::from_name(self.host, event.named()),
        };
        let is_script = self.command_line.as_deref().is_some_and(|command_line| is_script(path, command_line));
        let kind = if is_script { FileKind::Script } else { FileKind::of(path) };
        FileLink { path: path.clone(), size, op: event.op, ts: event.ts, staged_by, rule, confidence, kind }
    }

    /// What the process tree did to files, noise and deletions left out: by process, each with its newest first.
    fn tree_events(&self) -> Vec<&'a FileRecord> {
        let members = self.tree.iter().flat_map(|tree| tree.members().iter());
        let events = members.flat_map(|process| {
            let events = self.host.files().of(process, self.from, self.to);
            events
                .filter(|event| {
                    let named = self.host.processes().resolve(event.named(), event.ts);
                    named.is_some_and(|named| named.key() == process.key())
                })
                .filter(|event| !matches!(event.op, Operation::Delete | Operation::Other))
                .filter(|event| !is_noise(event.path_after(), event.op))
                .take(MAX_EVENTS)
        });
        let mut events: Vec<&FileRecord> = events.collect();
        events.sort_by_key(|event| Reverse(event.order()));
        events
    }

    fn is_target(&self, path: &str) -> bool {
        is_upload_target(path, self.upload.domain.as_deref(), &self.server)
    }
}

type Order = (Timestamp, u64);

struct Candidate<'a> {
    story: Story<'a>,
    rank: Rank,
}

/// The smallest is the best.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    rule: FileRule,
    target: bool,
    confidence: Reverse<Confidence>,
    touched: Touch,
    order: (Reverse<Option<Order>>, Order),
    path: Arc<str>,
}

/// Who had the file in hand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Touch {
    Own,
    Tree,
    /// Another process of the same account.
    User,
    Nobody,
}

/// Whether `bytes` on the wire can be a file of `size` bytes with its encoding's overhead in percent.
fn within(size: u64, bytes: u64, percent: u64) -> bool {
    let extra = u128::from(size) * u128::from(percent) / 100 + u128::from(FIXED_OVERHEAD);
    bytes >= size && u128::from(bytes - size) <= extra
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_is_a_percentage_and_a_fixed_part() {
        assert!(within(100_000, 100_000, 3));
        assert!(within(100_000, 104_024, 3));
        assert!(!within(100_000, 104_025, 3));
        assert!(!within(100_000, 99_999, 3));
        assert!(within(u64::MAX, u64::MAX, 100));
    }
}
