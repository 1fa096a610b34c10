//! Evidence of an alert: a folder or a zip file that holds what the verdict rests on, and can be checked.
//!
//! In comes an alert's document, with the captures and endpoint events of its time; out comes the packets of its connections
//! as pcapng ([`Cutter`]), and a [`Bundle`] whose manifest names each file with its SHA-256. [`verify`] says of a bundle what of it
//! was changed, is missing, or was added. Names of files in a bundle are this module's own: nothing that was on the wire
//! becomes part of a path.

mod bundle;
mod carve;
mod case;
mod keeper;
mod pcapng;
mod pieces;
mod ring;
mod shelf;
mod slice;
mod writer;

pub use bundle::{Bundle, Fault, MANIFEST, Verified, copy, verify};
pub use case::{Case, Made, Missing, NoBaseline};
pub use keeper::{Given, Keeper, KeeperCounters, Request};
pub use pieces::KeptPacket;
pub use shelf::{Shelf, folder_in, free, numbered};
pub use slice::{Cut, Cutter, Wanted, is_id};
pub use writer::{Keepers, Task, Writer, WriterCounters};

/// Why evidence cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file or a folder.
    #[error("{}: {what}", .path.display())]
    File {
        /// Where.
        path: std::path::PathBuf,
        /// What could not be done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The slice of packets.
    #[error("the packets cannot be written")]
    Packets {
        /// What the system said.
        source: std::io::Error,
    },
    /// A capture.
    #[error(transparent)]
    Capture(#[from] crate::capture::CaptureError),
    /// A zip file.
    #[error("{}: {reason}", .path.display())]
    Zip {
        /// Where.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It has no manifest that can be read.
    #[error("{}: is no evidence of Outfall: {reason}", .path.display())]
    Foreign {
        /// Where.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The document of an alert lacks what tells its connections.
    #[error("the alert does not say {0}")]
    Alert(&'static str),
}
