//! The source that subscribes to event logs: records are handed on as they are, and the sensor decodes them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::subscription::{Begin, Subscription};
use crate::endpoint;
use crate::helper::config::Config;
use crate::helper::sighting::{What, record_class};
use crate::helper::source::{Sink, Source, SourceError};
use crate::helper::stop::Stop;

/// Channel, name of its bookmark, and the records that the sensor reads.
const CHANNELS: [(&str, &str, &[u32]); 2] = [
    ("Microsoft-Windows-Sysmon/Operational", "sysmon", &[1, 3, 5, 11, 15, 22, 23, 26, 29]),
    ("Security", "security", &[4688, 4689, 4663, 5156]),
];

const PERIOD: Duration = Duration::from_millis(500);

/// A bookmark is written this long after its record was handed on, when that is on disk: after a kill some records come
/// twice, and none is missing.
const SETTLE: Duration = Duration::from_secs(2);

/// Event logs.
#[derive(Debug)]
pub struct EventLog {
    folder: PathBuf,
}

impl EventLog {
    /// Bookmarks are kept beside the spool.
    pub fn new(config: &Config) -> Self {
        Self { folder: config.spool.folder.clone() }
    }
}

struct Channel {
    subscription: Subscription,
    bookmark: PathBuf,
    settling: Option<(Instant, String)>,
}

impl Source for EventLog {
    fn kind(&self) -> endpoint::Source {
        endpoint::Source::EventLog
    }

    fn run(&mut self, sink: &Sink, stop: &Stop) -> Result<(), SourceError> {
        let mut channels = Vec::new();
        let mut refused = Vec::new();
        for (name, short, ids) in CHANNELS {
            let bookmark = self.folder.join(format!("bookmark-{short}.xml"));
            match subscribe(name, ids, &bookmark, sink) {
                Ok(subscription) => channels.push(Channel { subscription, bookmark, settling: None }),
                Err(error) => refused.push(format!("{name}: {error}")),
            }
        }
        if channels.is_empty() {
            return Err(SourceError(refused.join("; ")));
        }
        sink.set_state(&format!(
            "running{}",
            refused.iter().map(|text| format!(", without {text}")).collect::<String>()
        ));
        while !stop.is_set() {
            let mut any = false;
            for channel in &mut channels {
                any |= channel.read(sink);
            }
            if !any {
                stop.wait(PERIOD);
            }
        }
        Ok(())
    }
}

fn subscribe(channel: &str, ids: &[u32], bookmark: &Path, sink: &Sink) -> Result<Subscription, String> {
    let ids: Vec<String> = ids.iter().map(|id| format!("EventID={id}")).collect();
    let query = format!("*[System[({})]]", ids.join(" or "));
    let open = |begin| Subscription::open(channel, &query, begin).map_err(|error| error.to_string());
    let Ok(mark) = std::fs::read_to_string(bookmark) else { return open(Begin::Now) };
    open(Begin::After(&mark)).or_else(|_| {
        // The log was cleared or has run over: it does not say how many records that cost.
        sink.lost(1);
        open(Begin::Oldest)
    })
}

impl Channel {
    /// Hands on what is there; whether there was anything.
    fn read(&mut self, sink: &Sink) -> bool {
        let (records, unread) = self.subscription.next();
        sink.lost(unread);
        let any = !records.is_empty();
        for xml in records {
            sink.see(What::Record { class: record_class(&xml), xml });
        }
        match self.settling.take() {
            Some((at, mark)) if at.elapsed() >= SETTLE => {
                // What cannot be written now is written with the next one.
                let _ = std::fs::write(&self.bookmark, mark);
            }
            settling => self.settling = settling,
        }
        if any && self.settling.is_none() {
            self.settling = self.subscription.bookmark().map(|mark| (Instant::now(), mark));
        }
        any
    }
}
