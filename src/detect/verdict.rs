//! The verdict: how severe, why, and which legs of the analytic were seen.

use super::{Place, Reason};

/// How severe an alert is. The numbers are ECS's `event.severity`, on the scale that Elastic's rules use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// 21.
    Low,
    /// 47.
    Medium,
    /// 73.
    High,
    /// 99.
    Critical,
}

impl Severity {
    /// The least that is as severe as this number.
    pub fn of(number: u64) -> Self {
        let least = [Self::Low, Self::Medium, Self::High].into_iter().find(|severity| number <= severity.number());
        least.unwrap_or(Self::Critical)
    }

    /// 21, 47, 73 or 99.
    pub fn number(self) -> u64 {
        match self {
            Self::Low => 21,
            Self::Medium => 47,
            Self::High => 73,
            Self::Critical => 99,
        }
    }

    /// `low`, `medium`, `high` or `critical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// How sure a verdict is, by what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sureness {
    /// Neither of the two, or the baseline still learns.
    Low,
    /// One of the two.
    Medium,
    /// The process was joined with high confidence, and a file by its content, or by its name and size.
    High,
}

impl Sureness {
    /// The value of `outfall.alert.confidence`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A leg of AN0423. Of `UnexpectedProcess` and `RareDestination` the analytic asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leg {
    /// Data access or staging on the host.
    DataAccess,
    /// An outbound upload over a protocol without encryption.
    OutboundCleartext,
    /// By a process that is not expected to.
    UnexpectedProcess,
    /// To a rare destination.
    RareDestination,
}

impl Leg {
    /// The value in `outfall.alert.legs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DataAccess => "data-access",
            Self::OutboundCleartext => "outbound-cleartext",
            Self::UnexpectedProcess => "unexpected-process",
            Self::RareDestination => "rare-destination",
        }
    }
}

/// What is known of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Presence {
    /// It was seen.
    Present,
    /// It was looked for and is not so.
    Absent,
    /// It was not seen, and may be so all the same.
    Missing,
}

/// What is known of every leg of AN0423.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legs {
    /// Data access or staging: present or missing, as no source of file events sees everything.
    pub data_access: Presence,
    /// Present in every verdict.
    pub outbound_cleartext: Presence,
    /// Missing where the process is not known.
    pub unexpected_process: Presence,
    /// Present or absent.
    pub rare_destination: Presence,
}

impl Legs {
    /// The legs of which this is known.
    pub fn of(&self, presence: Presence) -> Vec<Leg> {
        let all = [
            (Leg::DataAccess, self.data_access),
            (Leg::OutboundCleartext, self.outbound_cleartext),
            (Leg::UnexpectedProcess, self.unexpected_process),
            (Leg::RareDestination, self.rare_destination),
        ];
        all.into_iter().filter(|(_, known)| *known == presence).map(|(leg, _)| leg).collect()
    }
}

/// Why an upload is an alert, and how severe.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How severe.
    pub severity: Severity,
    /// How sure that is.
    pub sureness: Sureness,
    /// Every reason that holds, in the order of [`Reason`].
    pub reasons: Vec<Reason>,
    /// What was seen of the analytic.
    pub legs: Legs,
    /// It rests on what the baseline does not know yet: told with low severity, and it teaches.
    pub held: bool,
    /// Whom the destination's address belongs to, if that is known.
    pub place: Option<Place>,
}
