//! What one connection says, line by line: who it is, what is new, and what is to be stored. Knows nothing of sockets.

use std::sync::Arc;

use serde::Deserialize;

use super::hosts::{Host, Hosts, Progress, Tally};
use super::journal::{Entry, Kind};
use super::lines::Refused;
use super::reason::Reason;
use crate::endpoint::intake::{Following, Intake};
use crate::endpoint::{Event, Observation};
use crate::net::Timestamp;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A helper whose certificate names this host.
    Certified(String),
    /// Whoever is on this machine.
    Local,
}

/// What a connection has turned out to be.
#[derive(Debug)]
enum Role {
    /// Its first line has not come.
    Unknown,
    /// A helper with a stream of its own, which is told what is stored.
    Helper { host: Arc<Host>, stream: u64, progress: Progress },
    /// A log shipper, which is told nothing.
    Shipper,
}

/// A connection's dialogue.
#[derive(Debug)]
pub struct Session {
    peer: Peer,
    address: String,
    /// Sets it apart from all other connections.
    number: u64,
    role: Role,
    following: Following,
    malformed: u64,
    most_malformed: u64,
}

/// What some lines came to.
#[derive(Debug)]
pub struct Batch {
    /// For the history.
    pub observations: Vec<Observation>,
    /// For the journal.
    pub lines: Vec<u8>,
    /// Lines taken, of any kind.
    pub count: u64,
    /// Their bytes.
    pub bytes: usize,
    progress: Progress,
    host_before: Option<Arc<str>>,
    pub(super) tally: Tally,
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Memory => Self::Memory,
            Refused::Endless => Self::EndlessLine,
        }
    }
}

/// What is read of a line beside the event.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: Option<String>,
    stream: Option<String>,
    seq: Option<u64>,
}

fn head(line: &[u8]) -> Option<Head> {
    serde_json::from_slice(line).ok()
}

/// Sixteen hexadecimal digits.
fn stream_of(head: &Head) -> Option<u64> {
    let text = head.stream.as_deref().filter(|text| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u64::from_str_radix(text, 16).ok().filter(|_| head.kind.as_deref() == Some("hello"))
}

impl Session {
    /// For a connection that comes from `address`; `number` sets it apart.
    pub fn new(peer: Peer, address: String, number: u64, most_malformed: u64) -> Self {
        let following = Following::new(address.clone());
        Self { peer, address, number, role: Role::Unknown, following, malformed: 0, most_malformed }
    }

    /// Who it says it is, for the log.
    pub fn name(&self) -> &str {
        match (&self.role, &self.peer) {
            (Role::Helper { host, .. }, _) => &host.name,
            (_, Peer::Certified(host)) => host,
            _ => "",
        }
    }

    /// Its helper's host, once it has said hello.
    pub(super) fn host(&self) -> Option<&Arc<Host>> {
        match &self.role {
            Role::Helper { host, .. } => Some(host),
            _ => None,
        }
    }

    /// The number that sets it apart.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// What a client that is to know what is stored is told.
    pub(super) fn acknowledgement(&self, seq: u64) -> Option<String> {
        match &self.role {
            Role::Helper { stream, .. } => {
                Some(format!("{{\"type\":\"ack\",\"stream\":\"{stream:016x}\",\"seq\":{seq}}}\n"))
            }
            _ => None,
        }
    }

    /// Whether its first line has come.
    pub fn has_begun(&self) -> bool {
        !matches!(self.role, Role::Unknown)
    }

    /// An empty batch for what comes now.
    pub fn batch(&self, received: Timestamp) -> Batch {
        let progress = match &self.role {
            Role::Helper { progress, .. } => *progress,
            _ => Progress::default(),
        };
        Batch {
            observations: Vec::new(),
            lines: Vec::new(),
            count: 0,
            bytes: 0,
            progress,
            host_before: self.following.host().cloned(),
            tally: Tally::new(received),
        }
    }

    /// Takes a line with its line feed. `store` says whether the journal takes anything.
    ///
    /// # Errors
    /// If the connection is to be dropped for it.
    pub(super) fn line(
        &mut self,
        line: &[u8],
        intake: &mut Intake,
        hosts: &Hosts,
        store: bool,
        batch: &mut Batch,
    ) -> Result<(), Reason> {
        batch.count += 1;
        batch.bytes += line.len();
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let before = intake.counters().malformed;
        let mut observed: Vec<Observation> = Vec::new();
        // Every line is whole, so nothing can break off but an input that is no text at all.
        let read = intake.follow(&mut self.following, line, &mut |observation| observed.push(observation));
        let bad = read.is_err() || intake.counters().malformed > before;
        if matches!(self.role, Role::Unknown) {
            self.begin(line, &observed, hosts, batch)?;
        }
        if bad {
            self.malformed += 1;
            if self.malformed >= self.most_malformed {
                return Err(Reason::Malformed);
            }
        }
        let Role::Helper { host, .. } = &self.role else {
            if store {
                batch.lines.extend_from_slice(line);
            }
            batch.tally.events += observed.len() as u64;
            batch.observations.append(&mut observed);
            return Ok(());
        };
        let certified = matches!(self.peer, Peer::Certified(_));
        let mut numbered = observed.iter().find_map(|observation| observation.line.seq);
        if observed.is_empty() {
            // What is no event has its place in the sequence all the same.
            numbered = head(line).and_then(|head| head.seq);
        }
        let seen = batch.progress.seen;
        let is_new = numbered.is_none_or(|seq| seq > seen);
        if let Some(seq) = numbered {
            match is_new {
                // What came before the first line that is known here may have been stored by another sensor.
                true if seen > 0 => batch.tally.missing += seq - seen - 1,
                true => {}
                // What the history has, but the disk did not take, comes again for the disk.
                false => batch.tally.repeated += u64::from(seq <= batch.progress.queued),
            }
            batch.progress.seen = seen.max(seq);
        }
        let mut foreign = false;
        for mut observation in observed {
            if !observation.host.eq_ignore_ascii_case(&host.name) {
                if certified {
                    foreign = true;
                    batch.tally.refused += 1;
                    continue;
                }
            } else if !Arc::ptr_eq(&observation.host, &host.name) {
                observation.host = Arc::clone(&host.name);
            }
            if is_new {
                batch.tally.events += 1;
                batch.tally.learn(&observation.line.event);
                batch.observations.push(observation);
            }
        }
        // A stranger's event is not kept, but has its place in the sequence.
        if store && numbered.is_none_or(|seq| seq > batch.progress.queued) {
            if !foreign {
                batch.lines.extend_from_slice(line);
            }
            batch.progress.queued = batch.progress.queued.max(numbered.unwrap_or(0));
        }
        Ok(())
    }

    /// Tells from the first line what the connection is.
    fn begin(&mut self, line: &[u8], observed: &[Observation], hosts: &Hosts, batch: &mut Batch) -> Result<(), Reason> {
        let stream = head(line).as_ref().and_then(stream_of);
        let hello = observed.iter().find(|observation| matches!(observation.line.event, Event::Hello(_)));
        let name = match (&self.peer, stream.zip(hello)) {
            (Peer::Certified(host), Some((_, hello))) if !hello.host.eq_ignore_ascii_case(host) => {
                return Err(Reason::WrongHost);
            }
            (Peer::Certified(host), Some(_)) => host.clone(),
            (Peer::Certified(_), None) => return Err(Reason::NoHello),
            (Peer::Local, Some((_, hello))) => hello.host.to_string(),
            (Peer::Local, None) => {
                self.role = Role::Shipper;
                return Ok(());
            }
        };
        let (host, stream) = (hosts.named(&name), stream.unwrap_or_default());
        let progress = host.claim(self.number, stream, &self.address);
        batch.progress = progress;
        self.role = Role::Helper { host, stream, progress };
        Ok(())
    }

    /// What is to be stored of a batch.
    pub(super) fn entry(&self, batch: &mut Batch) -> Option<Entry> {
        let lines = std::mem::take(&mut batch.lines);
        match &self.role {
            Role::Helper { host, stream, progress } => {
                let seq = batch.progress.queued;
                // A place in the sequence without a line counts, too.
                let any = !lines.is_empty() || seq > progress.queued;
                any.then(|| Entry { kind: Kind::Stream, host: Arc::clone(&host.name), stream: *stream, seq, lines })
            }
            _ if lines.is_empty() => None,
            _ => {
                let host = batch.host_before.clone().unwrap_or_else(|| "".into());
                Some(Entry { kind: Kind::Plain, host, stream: 0, seq: 0, lines })
            }
        }
    }

    /// Gives up storing a batch.
    pub(super) fn unstore(&self, batch: &mut Batch) {
        if let Role::Helper { progress, .. } = &self.role {
            batch.progress.queued = progress.queued;
        }
    }

    /// The number up to which the journal was given the stream.
    pub(super) fn queued(&self) -> u64 {
        match &self.role {
            Role::Helper { progress, .. } => progress.queued,
            _ => 0,
        }
    }

    /// Takes a batch as done, if this connection still counts: `send` runs while no other one of its host can.
    ///
    /// # Errors
    /// If another connection of the host counts now.
    pub(super) fn commit(&mut self, batch: &Batch, send: impl FnOnce()) -> Result<(), Reason> {
        match &mut self.role {
            Role::Helper { host, progress, .. } => {
                if !host.advance(self.number, batch.progress, send) {
                    return Err(Reason::Replaced);
                }
                *progress = batch.progress;
                host.note(&batch.tally);
            }
            _ => send(),
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(host) = self.host() {
            host.leave(self.number);
        }
    }
}

#[cfg(test)]
mod tests;
