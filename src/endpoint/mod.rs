//! What endpoints tell: processes, connections and files, read from their event lines and kept per host.
//!
//! In come events of schema version 1 and of Windows' own logs ([`Intake`]); out goes a [`History`] that answers, in the time of a
//! hash lookup and a binary search, who owned an address, which process held a connection, and who touched a file.
//! The schema alone ([`Event`]) is also what the helper writes, and is built for both.
//! Promises: no line is fatal, every line is counted, and no more memory is held than the configuration states.

#[cfg(all(feature = "sensor", target_os = "linux"))]
pub mod authority;
mod event;
#[cfg(feature = "sensor")]
mod history;
#[cfg(feature = "sensor")]
mod intake;
#[cfg(feature = "sensor")]
mod line;
#[cfg(all(feature = "sensor", target_os = "linux"))]
pub mod listener;
mod origin;
mod text;
#[cfg(feature = "sensor")]
mod windows;
#[cfg(feature = "sensor")]
mod xml_stream;

pub use event::{
    ConnectionEvent, Event, FileEvent, Heartbeat, Hello, HostDescription, Line, Observation, Operation, ProcessEnd,
    ProcessStart, Source, SourceState, Transport,
};
#[cfg(feature = "sensor")]
pub(crate) use history::same_image;
#[cfg(feature = "sensor")]
pub use history::{
    ConnectionRecord, Connections, FileRecord, Files, History, HistoryCounters, HostHistory, Key, Named, ProcessRecord,
    Processes,
};
#[cfg(feature = "sensor")]
pub use intake::{Counters, Following, Intake, IntakeError, MAX_WARNINGS, Warning};
pub use origin::{Clock, Guid, NoGuid, Origin};
pub use text::{base_name, printable, shortened};
#[cfg(feature = "sensor")]
pub use windows::KINDS as WINDOWS_KINDS;
