//! Alerts of one host, process and destination that belong together are told as one.
//!
//! A story begins with its first alert and takes what comes within `detect.story` after that one's upload began. Live, it is told at
//! once; again, with the same `event.id`, when it becomes more severe or shows a kind of reason that it had not; and at its
//! end, if more came. In a replay it is told once, at its end, by its most severe upload.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::alert::{Alert, Story};
use crate::config::Detect;
use crate::detect::{Severity, destination_of};
use crate::net::{Span, Timestamp};

/// Counts of what stories took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoryCounters {
    /// Stories; each is one alert, however often it is told.
    pub stories: u64,
    /// Alerts that became part of a story that had begun.
    pub grouped: u64,
    /// Stories that were ended early, for want of room.
    pub ended_early: u64,
}

/// Who sends where: what alerts of one story share.
type Key = (String, String, String);

#[derive(Debug)]
struct Open {
    key: Key,
    begun: Timestamp,
    /// The most severe one, which stands for all.
    alert: Box<Alert>,
    story: Story,
    told: Severity,
    reasons: BTreeSet<&'static str>,
    /// More came than was told.
    untold: bool,
}

/// The stories that go on.
#[derive(Debug)]
pub struct Stories {
    window: Span,
    most: usize,
    /// Told as they go on, rather than at their end.
    live: bool,
    open: BTreeMap<u64, Open>,
    by_key: HashMap<Key, u64>,
    next: u64,
    counters: StoryCounters,
}

impl Stories {
    /// With the bounds of the configuration.
    pub fn new(detect: &Detect, live: bool) -> Self {
        let (open, by_key) = (BTreeMap::new(), HashMap::new());
        let most = usize::try_from(detect.max_stories).unwrap_or(usize::MAX);
        Self { window: detect.story, most, live, open, by_key, next: 0, counters: StoryCounters::default() }
    }

    /// Takes up other bounds; what goes on goes on.
    pub fn configure(&mut self, detect: &Detect) {
        self.window = detect.story;
        self.most = usize::try_from(detect.max_stories).unwrap_or(usize::MAX);
    }

    /// Takes an alert; what is to be told goes to `sink`.
    pub fn take(&mut self, alert: Alert, sink: &mut impl FnMut(Alert)) {
        if self.window == Span(0) {
            self.counters.stories += 1;
            return sink(Alert { told: alert.told + 1, ..alert });
        }
        let key = key(&alert);
        let at = alert.upload.start;
        let open = self.by_key.get(&key).and_then(|number| self.open.get_mut(number));
        match open.filter(|open| at <= open.begun.after(self.window)) {
            Some(open) => {
                self.counters.grouped += u64::from(open.add(alert));
                if self.live && open.is_news() {
                    open.tell(sink);
                }
            }
            None => self.begin(key, alert, sink),
        }
    }

    fn begin(&mut self, key: Key, alert: Alert, sink: &mut impl FnMut(Alert)) {
        while self.open.len() >= self.most {
            self.counters.ended_early += 1;
            self.end_first(sink);
        }
        self.counters.stories += 1;
        let begun = alert.upload.start;
        let story = Story::of(&alert.upload);
        let reasons = BTreeSet::new();
        let told = alert.verdict.severity;
        let mut open = Open { key: key.clone(), begun, alert: Box::new(alert), story, told, reasons, untold: true };
        if self.live {
            open.tell(sink);
        }
        // A story that is over by now, but was not ended yet, stays to be ended by its time.
        self.by_key.insert(key, self.next);
        self.open.insert(self.next, open);
        self.next += 1;
    }

    /// An upload is judged anew with its process, by which it may belong elsewhere: a story of it alone is taken back. Says how
    /// many times that upload's alert was told.
    pub fn withdraw(&mut self, old: &Alert) -> u64 {
        let Some(number) = self.by_key.get(&key(old)).copied() else { return 1 };
        let alone = |open: &Open| open.story.uploads == 1 && open.alert.upload.id == old.upload.id;
        if self.open.get(&number).is_some_and(alone)
            && let Some(open) = self.open.remove(&number)
        {
            self.by_key.remove(&open.key);
            self.counters.stories -= 1;
            return open.alert.told;
        }
        // As one of a story that goes on under another identifier, unless it was its first.
        u64::from(self.open.get(&number).is_none_or(|open| open.alert.id == old.id))
    }

    /// Ends the stories that are over at that time.
    pub fn end_before(&mut self, clock: Timestamp, sink: &mut impl FnMut(Alert)) {
        while self.open.first_key_value().is_some_and(|(_, open)| open.begun.after(self.window) < clock) {
            self.end_first(sink);
        }
    }

    /// Ends all of them.
    pub fn end_all(&mut self, sink: &mut impl FnMut(Alert)) {
        while !self.open.is_empty() {
            self.end_first(sink);
        }
    }

    fn end_first(&mut self, sink: &mut impl FnMut(Alert)) {
        let Some((number, mut open)) = self.open.pop_first() else { return };
        if self.by_key.get(&open.key) == Some(&number) {
            self.by_key.remove(&open.key);
        }
        if open.untold {
            open.tell(sink);
        }
    }

    /// The counts so far.
    pub fn counters(&self) -> StoryCounters {
        self.counters
    }
}

impl Open {
    /// Says whether it is an upload that the story had not.
    fn add(&mut self, alert: Alert) -> bool {
        let new = self.story.add(&alert.upload);
        let again = alert.upload.id == self.alert.upload.id;
        self.untold = true;
        if again || alert.verdict.severity > self.alert.verdict.severity {
            // The first alert's identifier is the story's.
            *self.alert = Alert { id: self.alert.id, told: self.alert.told, ..alert };
            if again {
                // An upload that ended, or whose process became known, is told whatever changed.
                self.reasons.clear();
            }
        }
        new
    }

    fn is_news(&self) -> bool {
        let mut reasons = self.alert.verdict.reasons.iter();
        self.alert.verdict.severity > self.told || reasons.any(|reason| !self.reasons.contains(reason.id()))
    }

    fn tell(&mut self, sink: &mut impl FnMut(Alert)) {
        self.told = self.alert.verdict.severity;
        self.reasons.extend(self.alert.verdict.reasons.iter().map(|reason| reason.id()));
        self.untold = false;
        self.alert.told += 1;
        let story = (self.story.uploads > 1).then(|| Box::new(self.story.clone()));
        sink(Alert { story, ..(*self.alert).clone() });
    }
}

fn key(alert: &Alert) -> Key {
    let host = match alert.attribution.host() {
        Some(host) => host.id.to_string(),
        None => alert.upload.connection.client.address.to_string(),
    };
    let image = alert.attribution.process().and_then(|process| process.image.as_deref());
    (host, image.map(str::to_lowercase).unwrap_or_default(), destination_of(&alert.upload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::tests::{at, attributed, upload};
    use crate::record::EventId;

    fn alert(n: u64, seconds: u64, severity: Severity) -> Alert {
        let mut upload = upload(100, &["a.7z"]);
        (upload.start, upload.end) = (at(seconds), at(seconds + 1));
        upload.id = EventId::new("upload", upload.connection, upload.start, n);
        let legs = crate::detect::Legs {
            data_access: crate::detect::Presence::Missing,
            outbound_cleartext: crate::detect::Presence::Present,
            unexpected_process: crate::detect::Presence::Missing,
            rare_destination: crate::detect::Presence::Present,
        };
        let sureness = crate::detect::Sureness::Low;
        let verdict =
            crate::detect::Verdict { severity, sureness, reasons: Vec::new(), legs, held: false, place: None };
        Alert::new(upload, attributed("C:\\a.exe"), Vec::new(), verdict)
    }

    fn told(live: bool, alerts: Vec<Alert>) -> (Vec<(u64, u64, u64)>, StoryCounters) {
        let mut stories = Stories::new(&Detect::default(), live);
        let mut told = Vec::new();
        let mut sink = |alert: Alert| {
            let story = alert.story.as_ref().map_or((1, alert.upload.bytes), |story| (story.uploads, story.bytes));
            told.push((alert.verdict.severity.number(), story.0, story.1));
        };
        for alert in alerts {
            stories.end_before(alert.upload.start, &mut sink);
            stories.take(alert, &mut sink);
        }
        stories.end_all(&mut sink);
        (told, stories.counters())
    }

    #[test]
    fn a_replay_tells_a_story_once_by_its_most_severe_upload() {
        use Severity::{High, Medium};
        let alerts = vec![alert(1, 10, Medium), alert(2, 20, High), alert(3, 30, Medium), alert(4, 9_000, Medium)];
        let (told, counters) = told(false, alerts);
        assert_eq!(told, [(73, 3, 300), (47, 1, 100)]);
        assert_eq!(counters, StoryCounters { stories: 2, grouped: 2, ended_early: 0 });
    }

    #[test]
    fn a_live_story_is_told_at_once_then_when_it_gets_worse_and_at_its_end() {
        use Severity::{High, Medium};
        let alerts = vec![alert(1, 10, Medium), alert(2, 20, Medium), alert(3, 30, High), alert(4, 40, Medium)];
        assert_eq!(told(true, alerts).0, [(47, 1, 100), (73, 3, 300), (73, 4, 400)]);
        assert_eq!(told(true, vec![alert(1, 10, Medium)]).0, [(47, 1, 100)], "nothing more came");
    }

    #[test]
    fn every_telling_has_the_identifier_of_the_first() {
        let mut stories = Stories::new(&Detect::default(), true);
        let mut ids = Vec::new();
        for alert in [alert(1, 10, Severity::Medium), alert(2, 20, Severity::High)] {
            stories.take(alert, &mut |alert: Alert| ids.push(alert.id));
        }
        assert_eq!(ids.len(), 2);
        assert_eq!(ids.first(), ids.last());
    }

    #[test]
    fn the_same_upload_counts_once_however_often_it_is_told() {
        let grown = |mut alert: Alert| {
            alert.upload.bytes = 500;
            alert
        };
        let alerts = vec![alert(1, 10, Severity::Medium), grown(alert(1, 10, Severity::Medium))];
        let (told, counters) = told(false, alerts);
        assert_eq!(told, [(47, 1, 500)]);
        assert_eq!(counters.grouped, 0);
    }

    #[test]
    fn open_stories_are_bounded() {
        let detect = Detect { max_stories: 2, ..Detect::default() };
        let mut stories = Stories::new(&detect, false);
        let mut told = 0;
        for n in 0..5u8 {
            let mut alert = alert(1, 10, Severity::Medium);
            alert.upload.connection.server.address = crate::net::Address::v4([203, n, 113, 9]);
            stories.take(alert, &mut |_| told += 1);
        }
        assert_eq!((told, stories.counters().ended_early), (3, 3));
    }

    #[test]
    fn an_alert_whose_process_becomes_known_leaves_no_second_story() {
        let mut stories = Stories::new(&Detect::default(), true);
        let mut told = Vec::new();
        let mut unknown = alert(1, 10, Severity::Medium);
        unknown.attribution = crate::join::Attribution::Unknown { why: crate::join::Why::NoEndpoint, host: None };
        stories.take(unknown.clone(), &mut |alert: Alert| told.push(alert.id));
        stories.withdraw(&unknown);
        stories.take(alert(1, 10, Severity::High), &mut |alert: Alert| told.push(alert.id));
        stories.end_all(&mut |alert: Alert| told.push(alert.id));
        assert_eq!(told.len(), 2);
        assert_eq!(stories.counters().stories, 1);
    }
}
