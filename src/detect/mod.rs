//! The policy part of AN0423: from an upload, its process and its files to a [`Verdict`], or to none.
//!
//! Judged are outbound uploads (from a home network to outside) over a protocol of `unencrypted_protocols`. A process is
//! *unexpected* if it is known and no entry of `expected_processes` covers it, the protocol and the destination. A
//! destination is *rare* while fewer than `rare_below_hosts` home hosts have uploaded to it, unless it is approved.
//! Data is *staged* if a linked file counts, as below. The first row that fits decides:
//!
//! | staged | unexpected or rare | parent denied | volume reached | severity |
//! | --- | --- | --- | --- | --- |
//! | yes | yes | yes | any | 99, critical |
//! | yes | yes | no | any | 73, high |
//! | no | yes | yes | any | 73, high |
//! | no | yes | no | yes | 47, medium: a leg of the analytic was not seen, and the reasons say which |
//! | no | yes | no | no | none |
//! | any | no | any | any | none |
//!
//! A denied parent counts only where the process is unexpected or the destination rare: a browser that a click in a mail
//! program opened, and that the policy expects, is no alert at a destination that many hosts use.
//!
//! Which linked files count as staged data: every file linked by content, name or size; by `process-tree` only an
//! archive, or a file read from a user's folders, a share or a staging place. Links by `process-tree` of low confidence
//! alone do not make an upload below `data_transfer_size_threshold` an alert, and the script that a program was started
//! with is not its data.
//!
//! State and configuration are explicit, and no clock is read: the same questions in the same order give the same
//! verdicts.

mod baseline;
mod exception;
mod policy;
mod reason;
mod verdict;

pub use baseline::{Baseline, BaselineCounters, Change, Kind, Row, RowKey, destination_of};
pub use exception::{
    Difference, EXCEPTION_PROTOCOLS, Exception, ExceptionCounters, ExceptionFileError, ExceptionId, ExceptionIdError,
    ExceptionRefused, Exceptions, Finding, Hidden, HostPattern, Largest, Pattern, PatternRefused, ReviewBounds, Scope,
    TooBroad, Usage, described, differences, format_when, is_too_broad, parse_exceptions, parse_when, review,
    write_exceptions,
};
pub use policy::Detector;
pub use reason::Reason;
pub use verdict::{Leg, Legs, Presence, Severity, Sureness, Verdict};

#[cfg(test)]
mod tests;
