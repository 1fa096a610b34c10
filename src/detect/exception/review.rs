//! What a review of exceptions finds.

use super::{Exception, is_too_broad};
use crate::net::{Span, Timestamp};

/// A process, a destination or a host whose alerts an exception has hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The image path, the destination's name or address, the host's name or address.
    pub name: String,
    /// Alerts hidden.
    pub hits: u64,
    /// The bytes of their uploads.
    pub bytes: u64,
    /// The first of them, by packet time.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

/// The largest upload that an exception has hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Largest {
    /// `event.id` of its alert.
    pub alert: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it ended, by packet time.
    pub at: Timestamp,
}

/// What an exception has hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Alerts hidden.
    pub hits: u64,
    /// The bytes of their uploads.
    pub bytes: u64,
    /// The first of them, by packet time.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
    /// By severity: low, medium, high, critical.
    pub by_severity: [u64; 4],
    /// The largest.
    pub largest: Option<Largest>,
    /// The processes, those with the most bytes first.
    pub processes: Vec<Hidden>,
    /// The destinations.
    pub destinations: Vec<Hidden>,
    /// The hosts.
    pub hosts: Vec<Hidden>,
    /// Alerts of processes, destinations and hosts that there was no room to name.
    pub unnamed: [u64; 3],
}

/// What a review goes by.
#[derive(Clone, Copy, Debug)]
pub struct ReviewBounds {
    /// When it is.
    pub now: Timestamp,
    /// What expires within this is said to.
    pub soon: Span,
    /// What has hidden nothing for so long is said to.
    pub unused: Span,
    /// So many processes, destinations or hosts are many for one exception.
    pub wide: u64,
}

/// Something that an owner has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It has expired.
    Expired,
    /// It expires soon.
    ExpiresSoon(Span),
    /// It has never hidden anything.
    NeverMatched,
    /// It has hidden nothing for so long.
    Unused(Span),
    /// It was made broad, and why it is.
    Broad(String),
    /// It has hidden many different things: how many processes, destinations and hosts.
    WideInUse([u64; 3]),
}

impl Finding {
    /// The name in JSON.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::ExpiresSoon(_) => "expires-soon",
            Self::NeverMatched => "never-matched",
            Self::Unused(_) => "unused",
            Self::Broad(_) => "too-broad",
            Self::WideInUse(_) => "wide-in-use",
        }
    }

    /// A sentence.
    pub fn text(&self) -> String {
        let days = |span: &Span| match span.0 / 86_400_000_000_000 {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        match self {
            Self::Expired => "has expired: remove or renew it".to_owned(),
            Self::ExpiresSoon(left) => format!("expires in {}", days(left)),
            Self::NeverMatched => "has never hidden anything: is it needed?".to_owned(),
            Self::Unused(ago) => format!("has hidden nothing for {}: is it still needed?", days(ago)),
            Self::Broad(why) => format!("is broad: {why}"),
            Self::WideInUse([processes, destinations, hosts]) => {
                format!("has hidden much: processes {processes}, destinations {destinations}, hosts {hosts}")
            }
        }
    }
}

impl Usage {
    /// How many different processes, destinations and hosts it has hidden, as far as they were named; one more stands for
    /// all others.
    pub fn distinct(&self) -> [u64; 3] {
        let lists = [&self.processes, &self.destinations, &self.hosts];
        let mut distinct = lists.map(|list| list.len() as u64);
        for (count, unnamed) in distinct.iter_mut().zip(self.unnamed) {
            *count += u64::from(unnamed > 0);
        }
        distinct
    }
}

/// What there is to say about an exception.
pub fn review(exception: &Exception, usage: &Usage, bounds: &ReviewBounds) -> Vec<Finding> {
    let now = bounds.now;
    let mut findings = Vec::new();
    if !exception.holds(now) {
        findings.push(Finding::Expired);
    } else if exception.expires.since(now) <= bounds.soon {
        findings.push(Finding::ExpiresSoon(exception.expires.since(now)));
    }
    match usage.last {
        None => findings.push(Finding::NeverMatched),
        Some(last) if now.since(last) >= bounds.unused => findings.push(Finding::Unused(now.since(last))),
        Some(_) => {}
    }
    if let Some(why) = is_too_broad(&exception.scope) {
        findings.push(Finding::Broad(why.to_string()));
    }
    let distinct = usage.distinct();
    if distinct.iter().any(|count| *count >= bounds.wide) {
        findings.push(Finding::WideInUse(distinct));
    }
    findings
}
