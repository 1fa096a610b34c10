//! The reasons of a verdict, each with its numbers and its sentence.

use crate::endpoint::shortened;
use crate::join::{Confidence, FileRule, Why};
use crate::net::{ByteSize, Span, group_digits};
use crate::record::Document;

use super::volume::{Unusual, UnusualHour, WindowReached};

/// Nanoseconds of a day.
const DAY: u64 = 86_400_000_000_000;

/// A file name or path in a sentence is cut to this many characters.
const SHOWN: usize = 160;

/// Why an upload is an alert. The order of the variants is their order in a verdict.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Files linked to the upload had been read, written or packed before.
    DataStaged {
        /// How many files count.
        files: u64,
        /// The strongest rule among them.
        rule: FileRule,
        /// The highest confidence among them.
        confidence: Confidence,
    },
    /// The process is not expected to send this protocol there.
    ProcessUnexpected {
        /// The path of its executable.
        image: String,
        /// The protocol.
        protocol: &'static str,
        /// Days on which it did so, or reached the destination, before.
        days: u64,
        /// Hosts on which it did.
        hosts: u64,
    },
    /// The program is one that is often misused to upload, and is held to a stricter rule.
    DualUse {
        /// The file name of its executable.
        program: String,
        /// The name that counts, if its executable was seen under another one.
        known_as: Option<String>,
    },
    /// Few home hosts upload there, and it is not approved.
    DestinationRare {
        /// The domain name or address.
        destination: String,
        /// Home hosts that uploaded there.
        hosts: u64,
        /// `rare_below_hosts`.
        below: u64,
        /// Users that uploaded there, as far as they are known.
        users: u64,
        /// How long ago the first upload to it was that was no alert; none if there was none.
        age: Option<Span>,
    },
    /// A program of `parent_process_denylist` stands above the process.
    ParentDenied {
        /// The file name of that program.
        parent: String,
        /// Its process id.
        pid: Option<u32>,
        /// How many levels above the process; its parent is 1.
        levels: u64,
    },
    /// The upload is large.
    Volume {
        /// Its entity bytes.
        bytes: u64,
        /// `data_transfer_size_threshold`, in bytes.
        threshold: u64,
    },
    /// Small uploads to one destination add up.
    VolumeWindow(WindowReached, u64),
    /// The upload is larger than its host's usually are.
    VolumeUnusual(Unusual),
    /// The host's day is larger than its days usually are.
    VolumeDayUnusual(Unusual),
    /// The host sends nothing at this hour of the day.
    HourUnusual(UnusualHour),
    /// The host sent almost all of what it sent and received.
    ProducerRatio {
        /// (sent - received) / (sent + received) within a day, in hundredths.
        percent: u64,
    },
    /// An archive was made to leave.
    ArchiveCreated {
        /// Its path.
        path: String,
        /// What made it.
        tool: String,
    },
    /// An archive that leaves cannot be read.
    ArchiveEncrypted {
        /// Its format.
        format: &'static str,
        /// Its name.
        file: Option<String>,
    },
    /// A file was put where data is staged.
    StagingPath {
        /// Its path.
        path: String,
    },
    /// A file that is worth more than others was touched.
    SensitivePath {
        /// Its path.
        path: String,
    },
    /// Many files in several folders were read.
    ManyReads {
        /// How many.
        files: u64,
        /// In how many folders.
        folders: u64,
    },
    /// A file is not what its name or its declared type says.
    TypeMismatch {
        /// Its name.
        file: Option<String>,
        /// What its first bytes show.
        detected: Option<&'static str>,
    },
    /// No helper runs on the host: neither process nor files can be told.
    NoEndpointContext,
    /// The process is known, but no file counts as staged by it.
    NoDataAccess {
        /// Files that were linked but do not count.
        weak_links: u64,
    },
    /// The host has endpoint events, but no process could be joined, or none with a known executable.
    ProcessUnknown {
        /// Why not; absent if the process is known by its pid alone.
        why: Option<Why>,
    },
    /// The baseline still learns, and the verdict rests on what it does not know yet.
    Learning {
        /// For how long it will learn on.
        left: Span,
        /// `learning`.
        of: Span,
    },
    /// An exception would cover it, had not too much passed under it on that day.
    ExceptionCeiling {
        /// Its identifier.
        exception: String,
        /// The bytes that may pass under it on a day.
        ceiling: u64,
        /// The bytes that had passed.
        used: u64,
    },
}

impl Reason {
    /// The value of `outfall.reasons[].id`.
    pub fn id(&self) -> &'static str {
        match self {
            Self::DataStaged { .. } => "data-staged",
            Self::ProcessUnexpected { .. } => "process-unexpected",
            Self::DualUse { .. } => "dual-use-program",
            Self::DestinationRare { .. } => "destination-rare",
            Self::ParentDenied { .. } => "parent-denied",
            Self::Volume { .. } => "volume",
            Self::VolumeWindow(..) => "volume-window",
            Self::VolumeUnusual(_) => "volume-unusual",
            Self::VolumeDayUnusual(_) => "volume-day-unusual",
            Self::HourUnusual(_) => "hour-unusual",
            Self::ProducerRatio { .. } => "producer-ratio",
            Self::ArchiveCreated { .. } => "archive-created",
            Self::ArchiveEncrypted { .. } => "archive-encrypted",
            Self::StagingPath { .. } => "staging-path",
            Self::SensitivePath { .. } => "sensitive-path",
            Self::ManyReads { .. } => "many-reads",
            Self::TypeMismatch { .. } => "type-mismatch",
            Self::NoEndpointContext => "no-endpoint-context",
            Self::NoDataAccess { .. } => "no-data-access",
            Self::ProcessUnknown { .. } => "process-unknown",
            Self::Learning { .. } => "learning",
            Self::ExceptionCeiling { .. } => "exception-ceiling",
        }
    }

    /// The reason as a sentence, safe to print.
    pub fn text(&self) -> String {
        let shown = |text: &str| shortened(text, SHOWN);
        match self {
            Self::DataStaged { files, rule, confidence } => {
                let what = if *files == 1 { "1 file was".to_owned() } else { format!("{files} files were") };
                let (rule, confidence) = (rule.name(), confidence.name());
                format!(
                    "{what} read, written or packed on the host before (at best linked by {rule}, confidence {confidence})"
                )
            }
            Self::ProcessUnexpected { image, protocol, days, hosts } => {
                let before = match days {
                    0 => String::new(),
                    _ => format!(", as it did on {} and {} only", counted(*days, "day"), counted(*hosts, "host")),
                };
                format!("{} is not expected to send {protocol} there{before}", shown(image))
            }
            Self::DualUse { program, known_as: None } => {
                format!("{} is often misused to upload, and is held to a stricter rule", shown(program))
            }
            Self::DualUse { program, known_as: Some(known_as) } => {
                format!(
                    "{} is {} under another name, which is often misused to upload",
                    shown(program),
                    shown(known_as)
                )
            }
            Self::DestinationRare { destination, hosts, below, users: _, age } => {
                let who =
                    if *hosts == 1 { "1 home host uploads".to_owned() } else { format!("{hosts} home hosts upload") };
                let few = if hosts < below { format!(", fewer than {below}") } else { String::new() };
                let since = age.map_or(String::new(), |age| format!(", first {} ago", rounded(age)));
                format!("{who} to {}{few}{since}, and it is not approved", shown(destination))
            }
            Self::ParentDenied { parent, pid, levels } => {
                let levels = if *levels == 1 { "1 level".to_owned() } else { format!("{levels} levels") };
                let pid = pid.map_or("pid not told".to_owned(), |pid| format!("pid {pid}"));
                format!("{} ({pid}), {levels} above the process, must not start what uploads", shown(parent))
            }
            Self::Volume { bytes, threshold } => {
                format!("{} is at or above the threshold of {}", ByteSize(*bytes), ByteSize(*threshold))
            }
            Self::VolumeWindow(WindowReached { bytes, uploads, window }, threshold) => {
                let (bytes, threshold, window) = (ByteSize(*bytes), ByteSize(*threshold), days_of(*window));
                format!(
                    "{uploads} uploads to this destination within {window} add up to {bytes}, of {threshold} allowed"
                )
            }
            Self::VolumeUnusual(Unusual { of, bytes, usual, samples }) => {
                let (bytes, usual, of) = (ByteSize(*bytes), ByteSize(*usual), of.name());
                format!(
                    "{bytes}, where 99 of 100 of the {of}'s {} uploads have {usual} at most",
                    group_digits(*samples)
                )
            }
            Self::VolumeDayUnusual(Unusual { of, bytes, usual, samples }) => {
                let (bytes, usual, of) = (ByteSize(*bytes), ByteSize(*usual), of.name());
                format!("{bytes} on this day, where 99 of 100 of the {of}'s {samples} days have {usual} at most")
            }
            Self::HourUnusual(UnusualHour { hour, days }) => {
                format!("at {hour:02}:00 UTC, when the host sent nothing on any of {days} days")
            }
            Self::ProducerRatio { percent } => {
                format!("within a day the host sent almost all of what it sent and received (ratio 0.{percent:02})")
            }
            Self::ArchiveCreated { path, tool } => format!("{} packed {}", shown(tool), shown(path)),
            Self::ArchiveEncrypted { format, file } => {
                format!(
                    "{} is an encrypted archive ({format})",
                    file.as_deref().map_or("the content".to_owned(), shown)
                )
            }
            Self::StagingPath { path } => format!("{} lies where data is staged", shown(path)),
            Self::SensitivePath { path } => format!("{} is sensitive", shown(path)),
            Self::ManyReads { files, folders } => format!("{files} files in {folders} folders were read before"),
            Self::TypeMismatch { file, detected } => {
                let file = file.as_deref().map_or("the content".to_owned(), shown);
                format!("{file} is not what it is called: its first bytes show {}", detected.unwrap_or("another type"))
            }
            Self::NoEndpointContext => "the host has no helper: process and files are not known".to_owned(),
            Self::NoDataAccess { weak_links: 0 } => "no file access was linked to the process".to_owned(),
            Self::NoDataAccess { weak_links } => {
                format!("the file accesses linked to the process ({weak_links}) are too weak to count as staging")
            }
            Self::ProcessUnknown { why: Some(why) } => format!("the process is not known: {why}"),
            Self::ProcessUnknown { why: None } => {
                "the process is known by its pid alone: its executable was not reported".to_owned()
            }
            Self::Learning { left, of } => {
                format!("what is normal here is still being learned ({} of {} left)", days_of(*left), days_of(*of))
            }
            Self::ExceptionCeiling { exception, ceiling, used } => {
                let (ceiling, used) = (ByteSize(*ceiling), ByteSize(*used));
                format!("{exception} covers {ceiling} a day, and {used} had passed under it: this is above it")
            }
        }
    }

    /// The reason as an object: `id`, `text` and its numbers.
    pub fn document(&self) -> Document<'_> {
        let mut object = Document::new();
        object.set("id", self.id());
        object.set("text", self.text());
        match self {
            Self::DataStaged { files, rule, confidence } => {
                object.set("files", *files);
                object.set("rule", rule.name());
                object.set("confidence", confidence.name());
            }
            Self::ProcessUnexpected { image, protocol, days, hosts } => {
                object.set("image", image.as_str());
                object.set("protocol", *protocol);
                object.set("days", *days);
                object.set("hosts", *hosts);
            }
            Self::DualUse { program, known_as } => {
                object.set("program", program.as_str());
                object.set_some("known_as", known_as.as_deref());
            }
            Self::DestinationRare { destination, hosts, below, users, age } => {
                object.set("destination", destination.as_str());
                object.set("hosts", *hosts);
                object.set("below", *below);
                object.set("users", *users);
                object.set_some("age_days", age.map(|age| age.0 / DAY));
            }
            Self::ParentDenied { parent, pid, levels } => {
                object.set("parent", parent.as_str());
                object.set_some("pid", *pid);
                object.set("levels", *levels);
            }
            Self::Volume { bytes, threshold } => {
                object.set("bytes", *bytes);
                object.set("threshold", *threshold);
            }
            Self::VolumeWindow(WindowReached { bytes, uploads, window }, threshold) => {
                object.set("bytes", *bytes);
                object.set("uploads", *uploads);
                object.set("window_seconds", window.0 / 1_000_000_000);
                object.set("threshold", *threshold);
            }
            Self::VolumeUnusual(unusual) | Self::VolumeDayUnusual(unusual) => {
                object.set("of", unusual.of.name());
                object.set("bytes", unusual.bytes);
                object.set("usual", unusual.usual);
                object.set("samples", unusual.samples);
            }
            Self::HourUnusual(UnusualHour { hour, days }) => {
                object.set("hour", *hour);
                object.set("days", *days);
            }
            Self::ProducerRatio { percent } => object.set("percent", *percent),
            Self::ArchiveCreated { path, tool } => {
                object.set("path", path.as_str());
                object.set("tool", tool.as_str());
            }
            Self::ArchiveEncrypted { format, file } => {
                object.set("format", *format);
                object.set_some("file", file.as_deref());
            }
            Self::StagingPath { path } | Self::SensitivePath { path } => object.set("path", path.as_str()),
            Self::ManyReads { files, folders } => {
                object.set("files", *files);
                object.set("folders", *folders);
            }
            Self::TypeMismatch { file, detected } => {
                object.set_some("file", file.as_deref());
                object.set_some("detected", *detected);
            }
            Self::NoEndpointContext => {}
            Self::NoDataAccess { weak_links } => object.set("weak_links", *weak_links),
            Self::ProcessUnknown { why } => object.set("why", why.map_or("no-image", Why::name)),
            Self::Learning { left, of } => {
                object.set("left_seconds", left.0 / 1_000_000_000);
                object.set("of_seconds", of.0 / 1_000_000_000);
            }
            Self::ExceptionCeiling { exception, ceiling, used } => {
                object.set("exception", exception.as_str());
                object.set("ceiling", *ceiling);
                object.set("used", *used);
            }
        }
        object
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", group_digits(count))
}

/// In whole days: whoever looks at another time says the same.
fn rounded(age: Span) -> String {
    if age.0 < DAY { "less than a day".to_owned() } else { counted(age.0 / DAY, "day") }
}

/// In days from two of them on, as a baseline is thought of in days.
fn days_of(span: Span) -> String {
    if span.0 >= 2 * DAY { counted(span.0 / DAY, "day") } else { span.to_string() }
}
