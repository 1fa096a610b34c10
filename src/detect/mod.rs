//! The verdict of AN0423: from an upload, its process and its files to a [`Verdict`], or to none.
//!
//! Judged are outbound uploads (from a home network to outside) over a protocol of `unencrypted_protocols`. A process is
//! *unexpected* if it is known, no entry of `expected_processes` covers it, the protocol and the destination, and it is not
//! *learned*: seen doing so on `learned_days` days, and on `learned_hosts` hosts or always to the same destination. Programs that
//! are often misused (`dual_use_programs`, by their name or by another name that their content had) are held to a *stricter*
//! rule, and the child of a denied parent is never learned. A destination (the registrable part of its name, or its
//! network) is *rare* while fewer than `rare_below_hosts` home hosts uploaded to it and it is younger than `rare_younger_than`,
//! unless it is approved. Data is *staged* if a linked file counts, as below. The first row that fits decides:
//!
//! | staged | unexpected | rare | parent denied | volume reached | severity |
//! | --- | --- | --- | --- | --- | --- |
//! | yes | one of them | | yes | any | 99, critical |
//! | yes, and grave | yes | yes | any | any | 99, critical |
//! | yes | one of them | | no | any | 73, high |
//! | no | one of them | | yes | any | 73, high |
//! | no | one of them | | no | yes | 47, medium: a leg of the analytic was not seen, and the reasons say which |
//! | no | yes, a stricter rule | yes | no | no | 47, medium |
//! | no | any | any | no | no | none |
//! | yes, by its content | no | no | any | two habits broken | 47, medium: who is known sends to whom is known, but not like this |
//! | any | no | no | any | otherwise | none |
//!
//! *Grave* is an encrypted archive, or a sensitive file ([`staging`] says what else was done to files). The volume is reached
//! by one upload, or by several to the same destination that add up ([`volume`], which also knows the habits: sizes, days, hours).
//!
//! While a baseline that is kept still *learns* (`learning`), a verdict that rests on what it does not know yet is *held*: its
//! severity is 21, low, and the upload teaches. Hard rules are never held: a file linked by its content, or by its name and
//! size, if it is an archive or was made ready to leave; a denied parent; a stricter rule with staged data. What is an alert and not held teaches nothing, so what was
//! alerted on never becomes normal by itself.
//!
//! How sure a verdict is ([`Sureness`]): high, if the process was joined with at least high confidence and a file by its content or
//! by its name and size; medium, with one of the two; low, with none, or while it is held.
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
mod place;
mod policy;
mod reason;
mod staging;
mod verdict;
mod volume;

pub use baseline::{Baseline, BaselineCounters, Change, Kind, Route, Row, RowKey, destination_of};
pub use exception::{
    Difference, EXCEPTION_PROTOCOLS, Exception, ExceptionCounters, ExceptionFileError, ExceptionId, ExceptionIdError,
    ExceptionRefused, Exceptions, Facts, Finding, Hidden, HostPattern, Largest, Pattern, PatternRefused, ReviewBounds,
    Scope, TooBroad, Usage, described, differences, format_when, is_too_broad, parse_exceptions, parse_when, review,
    write_exceptions,
};
pub use place::{Place, PlaceError, Places};
pub use policy::Detector;
pub use reason::Reason;
pub use verdict::{Leg, Legs, Presence, Severity, Sureness, Verdict};
pub use volume::{Findings, Subject, Unusual, UnusualHour, Volumes, WindowReached};

#[cfg(test)]
mod tests;
