//! The book of one control connection: its transfers, the data connections that came, and which belongs to which.
//!
//! Both are found by address, so that what waits costs nothing until something comes that concerns it.

use std::collections::{BTreeMap, BTreeSet};

use super::session::{Announcement, Session, Transfer};
use crate::flow::Moment;
use crate::net::{Endpoint, Span, Timestamp};
use crate::protocol::account::text;
use crate::protocol::content::Facts;
use crate::record::{Binding, Connection, Ending, Wrapping};

/// A data connection as far as it came.
#[derive(Clone, Debug)]
pub(super) struct DataConnection {
    /// By FTP's roles.
    pub(super) connection: Connection,
    pub(super) opened: Timestamp,
    /// First and last upload byte, or first and last packet if there is none.
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) client_bytes: u64,
    pub(super) server_bytes: u64,
    pub(super) client_missing: u64,
    pub(super) ending: Ending,
    pub(super) conflict: bool,
    pub(super) mid_stream: bool,
    pub(super) content: Facts,
    /// It carried TLS.
    pub(super) encrypted: bool,
    /// It was not read to its end, for want of memory.
    pub(super) retired: bool,
    pub(super) wrapping: Wrapping,
}

/// A transfer and what is known of its data connection.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) transfer: Transfer,
    pub(super) data: Option<(DataConnection, Binding)>,
    /// A data connection that is still open was reported as its own.
    held: bool,
    /// It is over since this time, and so many moves of the dialogue; a new name for its file may still come.
    over: Option<(Timestamp, u64)>,
    /// The path before and after a rename.
    pub(super) renamed: Option<(String, String)>,
    /// Bytes of its texts.
    texts: usize,
}

/// A finished data connection without its transfer.
#[derive(Debug)]
struct Unclaimed {
    /// Where it was expected, if it was.
    announcement: Option<Announcement>,
    data: DataConnection,
}

#[derive(Debug)]
pub(super) struct Book {
    pub(super) session: Session,
    pub(super) opened: Timestamp,
    pub(super) wrapping: Wrapping,
    /// By ordinal, and so in the order in which they were asked for.
    transfers: BTreeMap<u64, Entry>,
    /// Those that wait for a data connection, by the addresses where it may be.
    waiting: BTreeSet<(Endpoint, u64)>,
    /// Those that the server refused before it began them. Another transfer may get their data connection.
    refused: BTreeSet<u64>,
    /// Those that are over and have their data, but may get a new name.
    nameable: BTreeSet<u64>,
    /// Those whose record can go out at once.
    ready: Vec<u64>,
    /// In the order in which they ended.
    unclaimed: BTreeMap<u64, Unclaimed>,
    /// Their addresses.
    places: BTreeSet<(Endpoint, u64)>,
    ended: u64,
    /// Announced ones that were forgotten, for want of room or of a transfer.
    unbound: u64,
    /// Commands that do not belong to the transfers before them.
    moves: u64,
    /// Data connections that are still open.
    pub(super) open: u64,
    /// How often the server agreed to go over to TLS.
    pub(super) granted: u32,
    /// How often it went over to TLS, and came back.
    pub(super) went: u32,
    pub(super) returned: u32,
    pub(super) closed: Option<Timestamp>,
    /// Bytes of all transfers' texts.
    texts: usize,
    /// What it held when that was last looked at.
    pub(super) charged: usize,
    #[cfg(test)]
    pub(super) looked: std::cell::Cell<u64>,
}

/// How long a transfer that is over waits for a new name of its file, where the dialogue stands still.
const RENAME_PATIENCE: Span = Span::seconds(2);
/// How long before its command a data connection may open, where its address alone does not bind the two.
const EARLIEST: Span = Span::seconds(30);
/// By how much a tap that reorders may mistake the order of a command and the data connection.
const SLACK: Span = Span::seconds(1);
/// The most transfers, and data connections without one, kept per control connection.
const MOST_KEPT: usize = 256;
/// The newest transfers that a new name is looked for among.
const MOST_NAMEABLE: usize = 16;

/// What a dialogue costs beside its texts and transfers, its places in the tables included.
const DIALOGUE: usize = 2 * size_of::<Book>() + 128;
/// What a transfer's or a data connection's places in a book's tables cost.
const PLACES: usize = 256;
/// What a data connection's own texts, such as its hash, cost.
const KEPT_TEXTS: usize = 64;

impl Book {
    pub(super) fn new(session: Session, opened: Timestamp, wrapping: Wrapping) -> Self {
        Self {
            session,
            opened,
            wrapping,
            transfers: BTreeMap::new(),
            waiting: BTreeSet::new(),
            refused: BTreeSet::new(),
            nameable: BTreeSet::new(),
            ready: Vec::new(),
            unclaimed: BTreeMap::new(),
            places: BTreeSet::new(),
            ended: 0,
            unbound: 0,
            moves: 0,
            open: 0,
            granted: 0,
            went: 0,
            returned: 0,
            closed: None,
            texts: 0,
            charged: 0,
            #[cfg(test)]
            looked: Default::default(),
        }
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        let transfer = size_of::<Entry>() + PLACES;
        let tables =
            self.transfers.len() * transfer + self.unclaimed.len() * (size_of::<Unclaimed>() + KEPT_TEXTS + PLACES);
        DIALOGUE + self.session.weight() + self.texts + tables
    }

    /// Notes how much a transfer's texts take.
    fn weigh(&mut self, ordinal: u64) {
        if let Some(entry) = self.transfers.get_mut(&ordinal) {
            let renamed = entry.renamed.as_ref().map_or(0, |(from, to)| from.capacity() + to.capacity());
            let texts = text(&entry.transfer.path) + text(&entry.transfer.server_name) + renamed;
            self.texts = self.texts + texts - entry.texts;
            entry.texts = texts;
        }
    }

    /// The dialogue cannot be read at present.
    pub(super) fn is_encrypted(&self) -> bool {
        self.went > self.returned
    }

    /// A transfer was asked for. Comes back with the oldest, if there are too many.
    pub(super) fn ask(&mut self, transfer: Transfer) -> Option<Entry> {
        let ordinal = transfer.ordinal;
        let entry = Entry { transfer, data: None, held: false, over: None, renamed: None, texts: 0 };
        self.transfers.insert(ordinal, entry);
        self.weigh(ordinal);
        self.wait(ordinal);
        if self.transfers.len() <= MOST_KEPT {
            return None;
        }
        // At most as many are held as there were, so one is not.
        let oldest = self.transfers.iter().find(|(_, entry)| !entry.held).map(|(ordinal, _)| *ordinal)?;
        self.take(oldest)
    }

    /// The server began a transfer, or named its file.
    pub(super) fn progress(&mut self, ordinal: u64, server_name: Option<String>) {
        if let Some(entry) = self.transfers.get_mut(&ordinal) {
            entry.transfer.begun = true;
            if server_name.is_some() {
                entry.transfer.server_name = server_name;
                self.weigh(ordinal);
            }
        }
    }

    /// The server answered a transfer.
    pub(super) fn answer(&mut self, ordinal: u64, code: u16, now: Moment) {
        let moves = self.moves;
        let Some(entry) = self.transfers.get_mut(&ordinal) else { return };
        entry.over = Some((now.clock, moves));
        entry.transfer.reply = Some(code);
        if code < 400 || entry.transfer.begun || entry.held {
            if entry.data.is_some() {
                self.nameable.insert(ordinal);
            }
            return;
        }
        // The client may try another name on the same address; only if it does not, the data was this one's.
        let data = entry.data.take();
        self.stop_waiting(ordinal);
        self.refused.insert(ordinal);
        if let Some((data, _)) = data {
            self.keep(entry_announcement(&self.transfers, ordinal), data);
        }
    }

    /// A command came that does not belong to the transfers before it.
    pub(super) fn move_on(&mut self) {
        self.moves += 1;
        self.ready.extend(std::mem::take(&mut self.nameable));
    }

    /// Takes out what is finished as far as is known without a look at the clock.
    pub(super) fn take_ready(&mut self) -> Vec<Entry> {
        let ready = std::mem::take(&mut self.ready);
        ready.into_iter().filter_map(|ordinal| self.take(ordinal)).collect()
    }

    /// A file got another name.
    pub(super) fn rename(&mut self, from: String, to: String) {
        let session = &self.session;
        let mut newest = self.transfers.values_mut().rev().take(MOST_NAMEABLE);
        let named = newest.find(|e| e.transfer.verb.is_upload() && e.path(session).as_ref() == Some(&from));
        if let Some(entry) = named {
            entry.renamed = Some((from, to));
            let ordinal = entry.transfer.ordinal;
            self.weigh(ordinal);
        }
    }

    /// An open data connection asks which transfer is its own; that one takes no other from then on.
    pub(super) fn hold(&mut self, announcement: &Announcement) -> Option<u64> {
        let waiting = || self.waiting_at(announcement.listener);
        let begun = waiting().find(|ordinal| self.transfers.get(ordinal).is_some_and(|e| e.transfer.begun));
        let ordinal = begun.or_else(|| waiting().next())?;
        let entry = self.transfers.get_mut(&ordinal).filter(|entry| entry.transfer.verb.is_upload())?;
        entry.held = true;
        self.stop_waiting(ordinal);
        Some(ordinal)
    }

    pub(super) fn entry(&self, ordinal: u64) -> Option<&Entry> {
        self.transfers.get(&ordinal)
    }

    /// A data connection is over: the transfer that holds it gets it, or else one that waits for it.
    pub(super) fn finish(&mut self, announcement: Option<Announcement>, held_by: Option<u64>, data: DataConnection) {
        let held = held_by.and_then(|ordinal| Some((ordinal, self.transfers.get_mut(&ordinal)?)));
        let Some((ordinal, entry)) = held else {
            self.keep(announcement, data);
            return;
        };
        entry.held = false;
        let binding = entry.binding(&data).unwrap_or(Binding::Announced);
        self.bind(ordinal, data, binding);
    }

    fn keep(&mut self, announcement: Option<Announcement>, data: DataConnection) {
        let number = self.ended;
        self.ended += 1;
        let unclaimed = Unclaimed { announcement, data };
        let places = unclaimed.places();
        let ordinals = places.into_iter().flatten().flat_map(|place| self.waiting_at(place));
        let fits = |ordinal: &u64| self.transfers.get(ordinal).and_then(|entry| self.fits(entry, &unclaimed));
        let owner = ordinals.filter_map(|ordinal| Some((ordinal, fits(&ordinal)?))).min_by_key(|(ordinal, _)| *ordinal);
        if let Some((ordinal, binding)) = owner {
            self.stop_waiting(ordinal);
            self.bind(ordinal, unclaimed.data, binding);
            return;
        }
        self.places.extend(places.into_iter().flatten().map(|place| (place, number)));
        self.unclaimed.insert(number, unclaimed);
        if self.unclaimed.len() > MOST_KEPT
            && let Some(oldest) = self.unclaimed.keys().next().copied()
            && let Some(forgotten) = self.claim(oldest)
        {
            self.unbound += u64::from(forgotten.announcement.is_some());
        }
    }

    /// A transfer takes the oldest data connection at its address, or waits for one.
    fn wait(&mut self, ordinal: u64) {
        if !self.take_at_address(ordinal)
            && let Some(entry) = self.transfers.get(&ordinal)
        {
            self.waiting.extend(entry.places().into_iter().flatten().map(|place| (place, ordinal)));
        }
    }

    fn take_at_address(&mut self, ordinal: u64) -> bool {
        let Some(entry) = self.transfers.get(&ordinal) else { return false };
        let there = entry.places().into_iter().flatten().flat_map(|place| within(&self.places, place));
        let found = there.filter_map(|number| Some((number, self.fits(entry, self.unclaimed.get(&number)?)?)));
        let Some((number, binding)) = found.min_by_key(|(number, _)| *number) else { return false };
        let Some(unclaimed) = self.claim(number) else { return false };
        self.bind(ordinal, unclaimed.data, binding);
        true
    }

    fn bind(&mut self, ordinal: u64, data: DataConnection, binding: Binding) {
        let Some(entry) = self.transfers.get_mut(&ordinal) else { return };
        entry.data = Some((data, binding));
        if self.closed.is_some() || entry.is_past(self.moves) {
            self.ready.push(ordinal);
        } else if entry.over.is_some() {
            self.nameable.insert(ordinal);
        }
    }

    /// How a data connection is this transfer's by its address; nothing if it is not.
    fn fits(&self, entry: &Entry, unclaimed: &Unclaimed) -> Option<Binding> {
        #[cfg(test)]
        self.looked.set(self.looked.get() + 1);
        let announced = entry.transfer.announcement?;
        if unclaimed.announcement.is_some_and(|expected| expected.listener != announced.listener) {
            return None;
        }
        // Where commands are lost, the announcement may have been an earlier transfer's.
        let doubtful = entry.transfer.doubtful && !entry.at_its_time(&unclaimed.data, None);
        entry.binding(&unclaimed.data).filter(|_| !doubtful)
    }

    fn waiting_at(&self, place: Endpoint) -> impl Iterator<Item = u64> {
        within(&self.waiting, place)
    }

    fn stop_waiting(&mut self, ordinal: u64) {
        if let Some(entry) = self.transfers.get(&ordinal) {
            for place in entry.places().into_iter().flatten() {
                self.waiting.remove(&(place, ordinal));
            }
        }
    }

    fn claim(&mut self, number: u64) -> Option<Unclaimed> {
        let unclaimed = self.unclaimed.remove(&number)?;
        for place in unclaimed.places().into_iter().flatten() {
            self.places.remove(&(place, number));
        }
        Some(unclaimed)
    }

    fn take(&mut self, ordinal: u64) -> Option<Entry> {
        self.stop_waiting(ordinal);
        self.refused.remove(&ordinal);
        self.nameable.remove(&ordinal);
        let entry = self.transfers.remove(&ordinal)?;
        self.texts -= entry.texts;
        Some(entry)
    }

    /// What was sent to the address of a transfer that was refused, and that no other claimed, was for it.
    pub(super) fn settle_refused(&mut self, now: Moment) {
        let ordinals: Vec<u64> = self.refused.iter().copied().collect();
        for ordinal in ordinals {
            let over = self.transfers.get(&ordinal).and_then(|entry| entry.over);
            let patient = self.closed.is_none() && over.is_some_and(|(at, _)| at.after(RENAME_PATIENCE) > now.clock);
            if !patient && self.take_at_address(ordinal) {
                self.refused.remove(&ordinal);
            }
        }
    }

    /// Takes out what is finished, or waits in vain.
    pub(super) fn settle(&mut self, reply_timeout: Span, now: Moment) -> Vec<Entry> {
        self.settle_refused(now);
        let done = |entry: &Entry| self.is_done(entry, reply_timeout, now);
        let ordinals: Vec<u64> = self.transfers.iter().filter(|(_, e)| done(e)).map(|(ordinal, _)| *ordinal).collect();
        ordinals.into_iter().filter_map(|ordinal| self.take(ordinal)).collect()
    }

    fn is_done(&self, entry: &Entry, reply_timeout: Span, now: Moment) -> bool {
        #[cfg(test)]
        self.looked.set(self.looked.get() + 1);
        let (transfer, closed) = (&entry.transfer, self.closed.is_some());
        match (&entry.data, entry.over) {
            (Some((data, _)), over) => {
                let named =
                    over.is_some_and(|(at, _)| entry.is_past(self.moves) || at.after(RENAME_PATIENCE) <= now.clock);
                closed || named || data.end.after(reply_timeout) <= now.clock
            }
            // Without a data connection: wait for it, for it may come late or not have ended yet.
            (None, Some(_)) => {
                self.open == 0
                    && transfer.asked.after(reply_timeout) <= now.clock
                    && (!transfer.verb.is_upload() || (closed && transfer.reply.is_some_and(|code| code >= 400)))
            }
            (None, None) => false,
        }
    }

    /// The dialogue is over for good: comes back with what is left, and how many announced data connections are nobody's.
    pub(super) fn end(&mut self, now: Moment) -> (Vec<Entry>, u64) {
        self.closed.get_or_insert(now.clock);
        self.settle_refused(now);
        self.bind_by_time();
        self.unbound += self.unclaimed.values().filter(|unclaimed| unclaimed.announcement.is_some()).count() as u64;
        (std::mem::take(&mut self.transfers).into_values().collect(), self.unbound)
    }

    /// How far in time a data connection is from this dialogue: from the nearest upload that waits for one, or else
    /// from the dialogue's beginning. `None` if the dialogue cannot be read.
    pub(super) fn distance(&self, data: &DataConnection) -> Option<(bool, Span)> {
        if self.is_encrypted() {
            return None;
        }
        let waiting = self.transfers.values().filter(|e| e.data.is_none() && e.transfer.verb.is_upload());
        let nearest = waiting.map(|e| e.transfer.asked.distance(data.opened)).min();
        Some(nearest.map_or((true, self.opened.distance(data.opened)), |span| (false, span)))
    }

    /// Gives transfers that are left the data connections that are left, if the time fits: the announcement of
    /// one or the other was not seen.
    fn bind_by_time(&mut self) {
        let mut next = None;
        let mut left: Vec<(u64, Option<Timestamp>)> = Vec::new();
        for (ordinal, entry) in self.transfers.iter().rev() {
            if entry.data.is_none() && entry.transfer.verb.is_upload() {
                left.push((*ordinal, next));
            }
            next = Some(entry.transfer.asked);
        }
        for (ordinal, next) in left.into_iter().rev() {
            let Some(entry) = self.transfers.get(&ordinal) else { continue };
            let fits = |data: &DataConnection| {
                data.client_bytes > 0 && data.server_bytes == 0 && entry.at_its_time(data, next)
            };
            let found = self.unclaimed.iter().find(|(_, unclaimed)| fits(&unclaimed.data)).map(|(number, _)| *number);
            if let Some(unclaimed) = found.and_then(|number| self.claim(number)) {
                self.bind(ordinal, unclaimed.data, Binding::Time);
            }
        }
    }
}

fn within(places: &BTreeSet<(Endpoint, u64)>, place: Endpoint) -> impl Iterator<Item = u64> {
    places.range((place, 0)..=(place, u64::MAX)).map(|(_, number)| *number)
}

fn entry_announcement(transfers: &BTreeMap<u64, Entry>, ordinal: u64) -> Option<Announcement> {
    transfers.get(&ordinal).and_then(|entry| entry.transfer.announcement)
}

impl Entry {
    /// A transfer with the data connection that it has so far.
    pub(super) fn running(&self, data: DataConnection) -> Self {
        let data = Some((data, Binding::Announced));
        Self { transfer: self.transfer.clone(), data, held: false, over: None, renamed: None, texts: 0 }
    }

    /// The file's full path on the server, as the transfer left it.
    pub(super) fn path(&self, session: &Session) -> Option<String> {
        match &self.transfer.server_name {
            Some(name) => Some(session.path_of(name)),
            None => self.transfer.path.clone(),
        }
    }

    /// Where its data connection may be.
    fn places(&self) -> [Option<Endpoint>; 2] {
        self.transfer.announcement.map_or([None, None], |a| [Some(a.listener), a.translated])
    }

    fn binding(&self, data: &DataConnection) -> Option<Binding> {
        let announced = self.transfer.announcement?;
        let there = if announced.active { data.connection.client } else { data.connection.server };
        match there {
            there if there == announced.listener => Some(Binding::Announced),
            there if Some(there) == announced.translated => Some(Binding::Port),
            _ => None,
        }
    }

    /// The transfer is over, and the dialogue went on since.
    fn is_past(&self, moves: u64) -> bool {
        self.over.is_some_and(|(_, then)| moves > then)
    }

    /// Whether a data connection was open while the transfer was going on, which lasts until its answer, or until the
    /// `next` transfer where that was not seen.
    fn at_its_time(&self, data: &DataConnection, next: Option<Timestamp>) -> bool {
        let asked = self.transfer.asked;
        let until = self.over.map(|(at, _)| at).or(next);
        data.opened.after(EARLIEST) >= asked
            && data.end.after(SLACK) >= asked
            && until.is_none_or(|until| data.opened <= until.after(SLACK))
    }
}

impl Unclaimed {
    /// Where a transfer may look for it.
    fn places(&self) -> [Option<Endpoint>; 2] {
        match self.announcement {
            Some(announcement) => [Some(announcement.listener), None],
            None => [Some(self.data.connection.client), Some(self.data.connection.server)],
        }
    }
}
