//! The sensor's alert on itself: what it cannot see for now, as an ECS document and a line of text.

use crate::net::{Timestamp, group_digits};
use crate::record::Document;

use super::Loss;

/// What keeps the sensor from seeing all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It lost packets.
    PacketLoss(Loss),
    /// Streams lack bytes that their receivers acknowledged.
    TapGaps(Loss),
    /// It dropped uploads that it had found, as they were not joined as fast.
    UploadsDropped(u64),
    /// It gives up work; by name, what.
    Shedding(&'static str),
    /// What helpers sent could not be written to the journal, so many times: it is used, but not acknowledged.
    JournalNotWritten(u64),
    /// What is kept could not be written to the store, so many times.
    StoreNotWritten(u64),
    /// The output could not be written; so many lines were lost for it.
    OutputNotWritten(u64),
    /// So many alerts were given up on their way: not stored, or not delivered before there was no room for them any more.
    AlertsDropped(u64),
    /// An interface is not up; its name, and how it is.
    Interface(String, &'static str),
}

impl Trouble {
    /// The value of `outfall.health.condition`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PacketLoss(_) => "packet-loss",
            Self::TapGaps(_) => "tap-gaps",
            Self::UploadsDropped(_) => "uploads-dropped",
            Self::Shedding(_) => "shedding",
            Self::JournalNotWritten(_) => "journal-not-written",
            Self::StoreNotWritten(_) => "store-not-written",
            Self::OutputNotWritten(_) => "output-not-written",
            Self::AlertsDropped(_) => "alerts-dropped",
            Self::Interface(..) => "interface",
        }
    }

    /// What it is, in words.
    pub fn text(&self) -> String {
        match self {
            Self::PacketLoss(Loss { lost, of }) => {
                format!("{} of {} packets lost", group_digits(*lost), group_digits((*of).max(*lost)))
            }
            Self::TapGaps(Loss { lost, of }) => format!(
                "streams lack {} of {} bytes: unless the sensor loses packets itself, the mirror port or tap does",
                group_digits(*lost),
                group_digits((*of).max(*lost))
            ),
            Self::UploadsDropped(count) => format!("{} uploads dropped", group_digits(*count)),
            Self::Shedding(what) => format!("too much to do: gave up {what}"),
            Self::JournalNotWritten(times) => {
                format!(
                    "the journal of endpoint events could not be written, {} times: look at the disk",
                    group_digits(*times)
                )
            }
            Self::StoreNotWritten(times) => {
                format!("the store could not be written to, {} times: look at the disk", group_digits(*times))
            }
            Self::OutputNotWritten(lines) => {
                format!("the output could not be written, {} lines lost: look at the disk", group_digits(*lines))
            }
            Self::AlertsDropped(count) => format!(
                "{} alerts or deliveries of alerts given up: see `store.max_age`, `store.max_bytes`, `store.queue` and the collectors",
                group_digits(*count)
            ),
            Self::Interface(name, how) => format!("{name} {how}"),
        }
    }
}

/// An alert on the sensor itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// When it began.
    pub start: Timestamp,
    /// When it was over; none while it goes on.
    pub end: Option<Timestamp>,
    /// What it is.
    pub trouble: Trouble,
}

impl Health {
    /// The ECS document. Its beginning and its end share `event.id`.
    pub fn document(&self) -> Document<'_> {
        let mut document = Document::new();
        document.set("@timestamp", self.end.unwrap_or(self.start));
        document.set("event.kind", "alert");
        document.set("event.dataset", "outfall.health");
        document.set("event.id", format!("{}-{}", self.trouble.name(), self.start.0));
        document.set("event.severity", if self.end.is_some() { 21_u64 } else { 73 });
        document.set("event.start", self.start);
        document.set_some("event.end", self.end);
        document.set("message", self.line());
        document.set("outfall.health.condition", self.trouble.name());
        document.set("outfall.health.state", if self.end.is_some() { "over" } else { "begun" });
        match &self.trouble {
            Trouble::PacketLoss(loss) => {
                document.set("outfall.health.lost_packets", loss.lost);
                document.set("outfall.health.packets", loss.of.max(loss.lost));
                document.set("outfall.health.lost_per_million", loss.per_million());
            }
            Trouble::TapGaps(gaps) => {
                document.set("outfall.health.missing_bytes", gaps.lost);
                document.set("outfall.health.bytes", gaps.of.max(gaps.lost));
                document.set("outfall.health.missing_per_million", gaps.per_million());
            }
            Trouble::UploadsDropped(count) => document.set("outfall.health.uploads", *count),
            Trouble::OutputNotWritten(lines) => document.set("outfall.health.lines", *lines),
            Trouble::AlertsDropped(count) => document.set("outfall.health.alerts", *count),
            Trouble::Shedding(what) => document.set("outfall.health.shed", *what),
            Trouble::JournalNotWritten(times) | Trouble::StoreNotWritten(times) => {
                document.set("outfall.health.times", *times)
            }
            Trouble::Interface(name, _) => document.set("observer.ingress.interface.name", name.as_str()),
        }
        document
    }

    /// One line for a terminal.
    pub fn line(&self) -> String {
        let when = if self.end.is_some() { "over: " } else { "" };
        format!("SENSOR {when}{}", self.trouble.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_of_a_trouble_share_their_id() {
        let start = Timestamp::from_parts(1_700_000_000, 0);
        let begun = Health { start, end: None, trouble: Trouble::PacketLoss(Loss { lost: 5, of: 1_000 }) };
        let end = Some(start.after(crate::net::Span::seconds(9)));
        let over = Health { end, trouble: Trouble::PacketLoss(Loss { lost: 15, of: 9_000 }), ..begun.clone() };
        let (begun, over) = (begun.document(), over.document());
        assert_eq!(begun.get("event.id"), over.get("event.id"));
        assert_eq!(begun.get("outfall.health.lost_per_million"), Some(5_000.into()));
        assert_eq!(over.get("message"), Some("SENSOR over: 15 of 9,000 packets lost".into()));
    }
}
