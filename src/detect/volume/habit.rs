//! How much one host, user, process or destination sends, and when.

use std::borrow::Cow;
use std::collections::VecDeque;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sketches_ddsketch::{Config, DDSketch};

use super::super::baseline::{Kept, Row, RowKey, day_of};
use crate::net::{Span, Timestamp};

/// Nanoseconds of an hour.
const HOUR: u64 = 3_600_000_000_000;

/// Hours that are kept: the longest window, and the hour that has begun.
const HOURS: usize = 30 * 24 + 1;

/// Days by which time may go back before it counts as another time.
const BACK: u32 = 30;

/// The relative error of a quantile. Bins are taken 128 at a time, which span five orders of magnitude; more than the last two
/// numbers allow for are never needed, and what is read back has these bounds too.
const ERROR: f64 = 0.05;
const MOST_BINS: u32 = 2_048;
const LEAST: f64 = 1e-9;

/// What a sketch is asked for.
const QUANTILE: f64 = 0.99;

/// So many sizes are kept as they are before a sketch is made of them, which takes a kilobyte: most hosts and destinations
/// never have more.
const FEW: usize = 16;

fn sketch_of(sizes: &[u64]) -> DDSketch {
    let mut sketch = DDSketch::new(Config::new(ERROR, MOST_BINS, LEAST));
    sizes.iter().for_each(|bytes| sketch.add(*bytes as f64));
    sketch
}

/// Sizes that were seen: their number, and the one that 99 of a hundred do not exceed.
#[derive(Clone)]
pub(super) enum Sizes {
    Few(Vec<u64>),
    Many(Box<DDSketch>),
}

impl Default for Sizes {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl std::fmt::Debug for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sizes({} of {:?})", self.count(), self.usual())
    }
}

impl Sizes {
    fn add(&mut self, bytes: u64) {
        match self {
            Self::Few(sizes) if sizes.len() < FEW => sizes.push(bytes),
            Self::Few(sizes) => {
                sizes.push(bytes);
                *self = Self::Many(Box::new(sketch_of(sizes)));
            }
            Self::Many(sketch) => sketch.add(bytes as f64),
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Few(sizes) => sizes.len() as u64,
            Self::Many(sketch) => sketch.count() as u64,
        }
    }

    fn sketch(&self) -> Option<Cow<'_, DDSketch>> {
        match self {
            Self::Few(sizes) if sizes.is_empty() => None,
            Self::Few(sizes) => Some(Cow::Owned(sketch_of(sizes))),
            Self::Many(sketch) => Some(Cow::Borrowed(sketch)),
        }
    }

    pub(super) fn usual(&self) -> Option<u64> {
        let quantile = self.sketch()?.quantile(QUANTILE).ok()??;
        // A float that is no number becomes 0.
        Some(quantile as u64)
    }

    fn text(&self) -> Option<String> {
        self.sketch().map(|sketch| BASE64_STANDARD.encode(sketch.to_java_bytes()))
    }

    fn from_text(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else { return Some(Self::default()) };
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let sketch = DDSketch::from_java_bytes(&bytes).ok()?;
        Some(Self::Many(Box::new(sketch)))
    }
}

/// What was sent in an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    hour: u32,
    /// Of uploads.
    sent: u64,
    uploads: u32,
    /// Of all connections.
    out: u64,
    back: u64,
}

/// Sums over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Bytes of uploads.
    pub sent: u64,
    /// Uploads.
    pub uploads: u64,
    /// Bytes sent on all connections.
    pub out: u64,
    /// Bytes received on all connections.
    pub back: u64,
}

/// How much one of them sends, and when.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Habit {
    first_seen: Timestamp,
    last_seen: Timestamp,
    uploads: u64,
    bytes: u64,
    /// By hour, the latest last; only hours in which something was.
    buckets: VecDeque<Bucket>,
    /// What taught: the sizes of uploads, and of the days that are over.
    pub(super) sizes: Sizes,
    pub(super) daily: Sizes,
    /// The last day that taught, what it taught so far, and how many there were.
    last_day: u32,
    today: u64,
    pub(super) days: u32,
    /// By hour of the day: on how many days something was sent then, and on which last.
    hours: [(u16, u32); 24],
    changed: bool,
}

pub(super) fn hour_of(at: Timestamp) -> u32 {
    u32::try_from(at.0 / HOUR).unwrap_or(u32::MAX)
}

impl Habit {
    /// Counts an upload; it teaches, unless it was an alert.
    pub(super) fn take(&mut self, at: Timestamp, bytes: u64, alert: bool) {
        self.count(at, bytes);
        if !alert {
            self.teach(at, bytes);
        }
    }

    /// Counts an upload in the windows, whatever comes of it.
    pub(super) fn count(&mut self, at: Timestamp, bytes: u64) {
        self.uploads = self.uploads.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let bucket = self.bucket(at);
        bucket.sent = bucket.sent.saturating_add(bytes);
        bucket.uploads = bucket.uploads.saturating_add(1);
    }

    /// Counts a connection of whatever protocol.
    pub(super) fn count_flow(&mut self, at: Timestamp, out: u64, back: u64) {
        let bucket = self.bucket(at);
        bucket.out = bucket.out.saturating_add(out);
        bucket.back = bucket.back.saturating_add(back);
    }

    fn bucket(&mut self, at: Timestamp) -> &mut Bucket {
        if self.last_seen == Timestamp(0) {
            self.first_seen = at;
        }
        self.first_seen = self.first_seen.min(at);
        self.last_seen = self.last_seen.max(at);
        let hour = hour_of(at);
        // What comes late is put where it belongs.
        let place = match self.buckets.iter().rposition(|bucket| bucket.hour <= hour) {
            Some(n) if self.buckets.get(n).is_some_and(|bucket| bucket.hour == hour) => n,
            before => {
                let full = self.buckets.len() >= HOURS;
                if full {
                    self.buckets.pop_front();
                }
                let n = before.map_or(0, |n| n + 1).saturating_sub(usize::from(full));
                self.buckets.insert(n, Bucket { hour, ..Bucket::default() });
                n
            }
        };
        #[allow(clippy::indexing_slicing, reason = "the place was found or made just now")]
        &mut self.buckets[place]
    }

    /// Sums over the window that ends with the hour of `at`.
    pub(super) fn total(&self, at: Timestamp, window: Span) -> Total {
        let (from, to) = (hour_of(at.before(window)), hour_of(at));
        let within = self.buckets.iter().filter(|bucket| (from..=to).contains(&bucket.hour));
        within.fold(Total::default(), |sum, bucket| Total {
            sent: sum.sent.saturating_add(bucket.sent),
            uploads: sum.uploads.saturating_add(bucket.uploads.into()),
            out: sum.out.saturating_add(bucket.out),
            back: sum.back.saturating_add(bucket.back),
        })
    }

    /// What was sent on the day of `at`.
    pub(super) fn on_day(&self, at: Timestamp) -> u64 {
        let day = hour_of(at) / 24;
        let of_day = self.buckets.iter().filter(|bucket| bucket.hour / 24 == day);
        of_day.fold(0, |sum, bucket| sum.saturating_add(bucket.sent))
    }

    /// It was no alert.
    fn teach(&mut self, at: Timestamp, bytes: u64) {
        self.sizes.add(bytes);
        let day = day_of(at);
        // A time that lies far ahead of all others, as of a wrong clock, must not end the counting of days.
        let ahead = self.last_day > day.saturating_add(BACK);
        if self.days == 0 || day > self.last_day || ahead {
            if self.days > 0 {
                self.daily.add(self.today);
            }
            (self.last_day, self.today) = (day, 0);
            self.days = self.days.saturating_add(1);
        }
        if day == self.last_day {
            self.today = self.today.saturating_add(bytes);
        }
        if let Some((days, last)) = self.hours.get_mut((hour_of(at) % 24) as usize)
            && (*days == 0 || day > *last)
        {
            (*days, *last) = (days.saturating_add(1), day);
        }
    }

    /// On how many days something was sent within this hour of the day, or the ones beside it.
    pub(super) fn days_at(&self, at: Timestamp) -> u64 {
        let hour = hour_of(at) % 24;
        let near = [(hour + 23) % 24, hour, (hour + 1) % 24];
        near.iter()
            .filter_map(|hour| self.hours.get(*hour as usize))
            .map(|(days, _)| u64::from(*days))
            .max()
            .unwrap_or(0)
    }
}

impl Kept for Habit {
    fn changed(&mut self) -> &mut bool {
        &mut self.changed
    }

    fn row(&self, key: RowKey) -> Row {
        let hour = |bucket: &Bucket| json!([bucket.hour, bucket.sent, bucket.uploads, bucket.out, bucket.back]);
        let buckets: Vec<Value> = self.buckets.iter().map(hour).collect();
        let hours: Vec<Value> = self.hours.iter().map(|(days, last)| json!([days, last])).collect();
        let detail = json!({
            "buckets": buckets, "hours": hours, "sizes": self.sizes.text(), "daily": self.daily.text(),
            "last_day": self.last_day, "today": self.today,
        });
        Row {
            key,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            days: self.days.into(),
            uploads: self.uploads,
            bytes: self.bytes,
            alerted: 0,
            detail: detail.to_string(),
        }
    }

    fn from_row(row: &Row) -> Option<Self> {
        let detail: Value = serde_json::from_str(&row.detail).ok()?;
        let list = |name| detail.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let number = |value: &Value, n: usize| value.get(n).and_then(Value::as_u64);
        let bucket = |value: &Value| {
            Some(Bucket {
                hour: u32::try_from(number(value, 0)?).ok()?,
                sent: number(value, 1)?,
                uploads: u32::try_from(number(value, 2)?).ok()?,
                out: number(value, 3)?,
                back: number(value, 4)?,
            })
        };
        let mut buckets: VecDeque<Bucket> = list("buckets").iter().filter_map(bucket).collect();
        buckets.make_contiguous().sort_by_key(|bucket| bucket.hour);
        buckets.drain(..buckets.len().saturating_sub(HOURS));
        let mut hours = [(0, 0); 24];
        for (slot, value) in hours.iter_mut().zip(list("hours")) {
            *slot = (u16::try_from(number(value, 0)?).ok()?, u32::try_from(number(value, 1)?).ok()?);
        }
        let text = |name| detail.get(name).and_then(Value::as_str);
        Some(Self {
            first_seen: row.first_seen,
            last_seen: row.last_seen,
            uploads: row.uploads,
            bytes: row.bytes,
            buckets,
            sizes: Sizes::from_text(text("sizes"))?,
            daily: Sizes::from_text(text("daily"))?,
            last_day: u32::try_from(detail.get("last_day")?.as_u64()?).ok()?,
            today: detail.get("today")?.as_u64()?,
            days: u32::try_from(row.days).unwrap_or(u32::MAX),
            hours,
            changed: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn few_sizes_say_what_a_sketch_of_them_says(all in prop::collection::vec(any::<u64>(), 1..3 * FEW)) {
            let mut sizes = Sizes::default();
            prop_assert_eq!((sizes.count(), sizes.usual(), sizes.text()), (0, None, None));
            for (n, bytes) in all.iter().enumerate() {
                sizes.add(*bytes);
                let sketch = Sizes::Many(Box::new(sketch_of(&all[..=n])));
                prop_assert_eq!((sizes.count(), sizes.usual()), (n as u64 + 1, sketch.usual()));
                let text = sizes.text();
                prop_assert_eq!(&text, &sketch.text());
                let again = Sizes::from_text(text.as_deref()).unwrap();
                prop_assert_eq!((again.count(), again.usual()), (sizes.count(), sizes.usual()));
            }
        }
    }
}
