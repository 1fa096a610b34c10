//! The alert: an upload, whose it is, what it carried and the verdict, in the forms in which people and machines read it.
//!
//! In come the results of the join and of the detector; out goes an [`Alert`] with an ECS [`Document`] and a text
//! for a terminal. Texts from the wire or from an endpoint are escaped before they reach a terminal.

pub mod cef;
mod document;
mod health;
mod playbook;
mod story;
pub mod json;
pub mod ocsf;
mod text;

pub use health::{Health, Trouble};
pub use playbook::Playbook;
pub use story::Story;

use crate::detect::Verdict;
use crate::join::{Attribution, FileLink};
use crate::record::{Document, EventId, Upload};

/// An upload that was judged to be an exfiltration, and all that is known of it.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Stable identifier; an early alert on an upload that still ran and its completion share it.
    pub id: EventId,
    /// The upload.
    pub upload: Upload,
    /// Whose process made it.
    pub attribution: Attribution,
    /// What files it is linked to.
    pub links: Vec<FileLink>,
    /// Why it is an alert.
    pub verdict: Verdict,
    /// What the sensor lost at the time of the upload, if that was too much.
    pub loss: Option<Loss>,
    /// What streams lacked at the time of the upload, in bytes, if that was too much.
    pub gaps: Option<Loss>,
    /// The uploads that it stands for, if there are several.
    pub story: Option<Box<Story>>,
    /// How many times it was told, this one included; 0 before it is.
    pub told: u64,
    /// The exception that covers it, such as `EX-0007`: it is kept and counted, and delivered to nobody.
    pub suppressed: Option<String>,
    /// What to do now, step by step, with the alert's own facts.
    pub playbook: Vec<String>,
}

/// What was lost over some time: packets, or bytes of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Lost ones.
    pub lost: u64,
    /// All that there were, lost ones included.
    pub of: u64,
}

impl Loss {
    /// Lost ones of a million.
    pub fn per_million(self) -> u64 {
        let share = u128::from(self.lost) * 1_000_000 / u128::from(self.of.max(self.lost).max(1));
        u64::try_from(share).unwrap_or(1_000_000)
    }
}

impl Alert {
    /// An alert on an upload.
    pub fn new(upload: Upload, attribution: Attribution, links: Vec<FileLink>, verdict: Verdict) -> Self {
        let id = EventId::of("alert", upload.connection, upload.start, upload.id.to_string().as_bytes());
        Self {
            id,
            upload,
            attribution,
            links,
            verdict,
            loss: None,
            gaps: None,
            story: None,
            told: 0,
            suppressed: None,
            playbook: Vec::new(),
        }
    }

    /// The ECS document: the upload's own, with the join's part and the alert's.
    pub fn document(&self) -> Document<'_> {
        document::document(self)
    }

    /// One line for a terminal, of whatever width it takes.
    pub fn line(&self) -> String {
        text::line(self)
    }

    /// Several lines for a terminal: the line, then the process, the files and each reason, indented. No final line feed.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

#[cfg(test)]
mod tests;
