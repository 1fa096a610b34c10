//! What is known of one key of the baseline.

use serde_json::{Value, json};

use super::row::{Row, RowKey};
use super::table::Kept;
use crate::net::{Address, Timestamp};

/// Nanoseconds of a day.
const DAY: u64 = 86_400_000_000_000;

/// The day of a time, UTC, counted from 1970.
pub fn day_of(at: Timestamp) -> u32 {
    u32::try_from(at.0 / DAY).unwrap_or(u32::MAX)
}

/// Who came, and on which day last. Bounded: the one who came least recently goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visitors<T>(Vec<(T, u32)>);

// Not derived: that would ask for a default visitor.
impl<T> Default for Visitors<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Visitors<T> {
    pub(super) fn add(&mut self, visitor: T, day: u32, most: usize) {
        if let Some((_, last)) = self.0.iter_mut().find(|(known, _)| *known == visitor) {
            *last = day.max(*last);
            return;
        }
        self.0.push((visitor, day));
        if self.0.len() > most
            && let Some(oldest) = self.0.iter().enumerate().min_by_key(|(n, (_, last))| (*last, *n)).map(|(n, _)| n)
        {
            self.0.remove(oldest);
        }
    }

    /// Those who came on that day or later.
    pub(super) fn since(&self, day: u32) -> impl Iterator<Item = &T> {
        self.0.iter().filter(move |(_, last)| *last >= day).map(|(visitor, _)| visitor)
    }
}

/// What is known of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// The latest day that taught something, and how many there were.
    last_day: u32,
    pub(super) days: u32,
    pub(super) uploads: u64,
    pub(super) bytes: u64,
    pub(super) alerted: u64,
    pub(super) hosts: Visitors<Address>,
    pub(super) users: Visitors<Box<str>>,
    /// It changed since the changes were asked for.
    changed: bool,
}

/// What an upload teaches about each of its keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lesson<'a> {
    pub(super) at: Timestamp,
    pub(super) bytes: u64,
    pub(super) host: Address,
    pub(super) user: Option<&'a str>,
    /// Hosts and users that are kept.
    pub(super) most: usize,
}

impl Entry {
    /// It was seen, and that was no alert.
    pub(super) fn teach(&mut self, lesson: Lesson<'_>) {
        let day = day_of(lesson.at);
        if self.uploads == 0 {
            self.first_seen = lesson.at;
            self.last_day = day;
            self.days = 1;
        } else if day > self.last_day {
            self.last_day = day;
            self.days = self.days.saturating_add(1);
        }
        self.first_seen = self.first_seen.min(lesson.at);
        self.last_seen = self.last_seen.max(lesson.at);
        self.uploads = self.uploads.saturating_add(1);
        self.bytes = self.bytes.saturating_add(lesson.bytes);
        self.hosts.add(lesson.host, day, lesson.most);
        if let Some(user) = lesson.user {
            // Most uploads come from a user who is known already.
            let known = self.users.0.iter_mut().find(|(known, _)| known.as_ref() == user);
            match known {
                Some((_, last)) => *last = day.max(*last),
                None => self.users.add(user.into(), day, lesson.most),
            }
        }
    }

    /// It was part of an alert, which teaches nothing.
    pub(super) fn alerted(&mut self, at: Timestamp) {
        if self.uploads == 0 && self.alerted == 0 {
            self.first_seen = at;
        }
        self.last_seen = self.last_seen.max(at);
        self.alerted = self.alerted.saturating_add(1);
    }
}

impl Kept for Entry {
    fn changed(&mut self) -> &mut bool {
        &mut self.changed
    }

    fn row(&self, key: RowKey) -> Row {
        let hosts: Vec<Value> = self.hosts.0.iter().map(|(host, day)| json!([host.to_string(), day])).collect();
        let users: Vec<Value> = self.users.0.iter().map(|(user, day)| json!([user, day])).collect();
        Row {
            key,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            days: self.days.into(),
            uploads: self.uploads,
            bytes: self.bytes,
            alerted: self.alerted,
            detail: json!({ "hosts": hosts, "users": users, "last_day": self.last_day }).to_string(),
        }
    }

    fn from_row(row: &Row) -> Option<Self> {
        let detail: Value = serde_json::from_str(&row.detail).ok()?;
        let list = |name| detail.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let dated = |value: &Value| {
            let day = u32::try_from(value.get(1)?.as_u64()?).ok()?;
            Some((value.get(0)?.as_str()?.to_owned(), day))
        };
        let host = |(host, day): (String, u32)| Some((host.parse::<std::net::IpAddr>().ok()?.into(), day));
        Some(Self {
            first_seen: row.first_seen,
            last_seen: row.last_seen,
            last_day: u32::try_from(detail.get("last_day")?.as_u64()?).ok()?,
            days: u32::try_from(row.days).unwrap_or(u32::MAX),
            uploads: row.uploads,
            bytes: row.bytes,
            alerted: row.alerted,
            hosts: Visitors(list("hosts").iter().filter_map(dated).filter_map(host).collect()),
            users: Visitors(list("users").iter().filter_map(dated).map(|(user, day)| (user.into(), day)).collect()),
            changed: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Kind;
    use super::*;
    use proptest::prelude::*;

    fn lesson(at: u64, host: u8, user: Option<&str>) -> Lesson<'_> {
        Lesson { at: Timestamp(at), bytes: 7, host: Address::v4([10, 0, 0, host]), user, most: 4 }
    }

    #[test]
    fn days_count_once_each_and_who_came_least_recently_goes() {
        let mut entry = Entry::default();
        for (day, host) in [(5, 1), (5, 2), (6, 3), (8, 1), (9, 4), (9, 5)] {
            entry.teach(lesson(day * DAY, host, None));
        }
        assert_eq!((entry.days, entry.uploads, entry.bytes), (4, 6, 42));
        let hosts: Vec<String> = entry.hosts.since(0).map(Address::to_string).collect();
        assert_eq!(hosts, ["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5"]);
        assert_eq!(entry.hosts.since(9).count(), 2);
    }

    #[test]
    fn an_alert_is_counted_and_teaches_nothing() {
        let mut entry = Entry::default();
        entry.alerted(Timestamp(DAY));
        entry.alerted(Timestamp(2 * DAY));
        assert_eq!((entry.days, entry.uploads, entry.alerted), (0, 0, 2));
        entry.teach(lesson(9 * DAY, 1, None));
        assert_eq!(entry.first_seen, Timestamp(9 * DAY), "what an alert saw makes nothing older");
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_known(lessons in proptest::collection::vec((0u64..40, 0u8..8, 0u8..4), 0..40)) {
            let mut entry = Entry::default();
            for (day, host, user) in lessons {
                let user = format!("CORP\\\"{user}\n");
                entry.teach(lesson(day * DAY, host, Some(user.as_str()).filter(|_| host > 2)));
            }
            let key = RowKey { kind: Kind::Destination, key: "x".into(), other: String::new() };
            prop_assert_eq!(Entry::from_row(&entry.row(key)), Some(entry));
        }
    }
}
