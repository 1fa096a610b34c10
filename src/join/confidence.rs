//! How sure a link is.

/// How sure a link is. The names are part of the record format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// Circumstantial: the right process tree at the right time, or a name alone.
    Low,
    /// Indirect: the answer comes from something beside it (the control connection, a similar size), or only a pid
    /// is known of the process.
    Medium,
    /// The key is exact, but one step was inferred: a pid resolved by time, several processes reported the same
    /// five-tuple within the window, or a process whose start was never reported.
    High,
    /// The key is exact (five-tuple and process identity, or SHA-256) and nothing speaks against it.
    Certain,
}

impl Confidence {
    /// The value in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Certain => "certain",
        }
    }

    /// One step less sure; low stays low.
    pub fn lower(self) -> Self {
        match self {
            Self::Certain => Self::High,
            Self::High => Self::Medium,
            Self::Medium | Self::Low => Self::Low,
        }
    }
}
