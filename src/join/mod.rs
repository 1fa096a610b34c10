//! Whose process made an upload, and which files it carried: from events and state to results.
//!
//! In come a flow's five-tuple and times, or an [`Upload`](crate::record::Upload); out go an [`Attribution`] and
//! [`FileLink`]s, each with the rule that made it and a [`Confidence`]. No I/O, no clock: the same history and the same
//! question give the same answer. A process is never guessed: what is not known is said as [`Why`].
//!
//! # Flow to process
//!
//! | rule | holds when | confidence |
//! | --- | --- | --- |
//! | `five-tuple` | the host that owns the client's address reported this connection near its start | certain; see [`Confidence`] for what lowers it |
//! | `control-connection` | an FTP data connection was not reported, but its control connection was | medium at most |
//!
//! # Upload to file
//!
//! Only files of the host that owns the client's address count, touched in the look-back window. Strongest first:
//!
//! | rule | holds when | confidence | without a known process |
//! | --- | --- | --- | --- |
//! | `sha256` | the hashes are equal | certain | high |
//! | `name-and-size` | base name and size are equal | high | medium |
//! | `size-within-overhead` | the process or its tree touched a file of nearly the uploaded size, or its base64 size | medium (base64: low) | - |
//! | `name` | the base name is equal; low if a known size speaks against it or no process of the tree touched it | medium | low |
//! | `process-tree` | the process or its tree touched a file that is not noise; medium if the process itself read an archive that fits into the upload | low | - |
//!
//! `size-within-overhead` speaks only where no name does. Where several files fit a rule equally, one that the process
//! tree touched is taken first, then one that the same account touched, and one that is the upload's own target (a WebDAV
//! folder, the WebDAV client's cache) last. A link names the process that made the file: the packer of an archive rather than its reader.

mod attribution;
mod claims;
mod clocks;
mod confidence;
mod coverage;
mod document;
mod files;
mod paths;
mod story;
mod tree;
mod wanted;
mod why;

pub use attribution::{Ancestor, Attribution, FlowSeen, HostName, Joiner, Process};
pub use clocks::Offset;
pub use confidence::Confidence;
pub use coverage::{ByWhy, Coverage, Share, Tally};
pub use document::{write_attribution, write_files};
pub use files::{FileLink, FileRule, MAX_TREE_LINKS};
pub use paths::FileKind;
pub use why::Why;

#[cfg(test)]
pub(crate) mod tests;
