//! The books of one lane's FTP: which data connection belongs to which transfer.
//!
//! Dialogues and data connections are entered as they come, in any order; an upload goes out when its transfer
//! and its data connection have met and the server has answered, or when no answer will come.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;

use lru::LruCache;

use super::session::{Announcement, Session, Told, Transfer};
use crate::config;
use crate::flow::{Link, Moment};
use crate::net::{Address, Endpoint, Span, Timestamp};
use crate::protocol::Fact;
use crate::protocol::account::text;
use crate::protocol::content::Facts;
use crate::protocol::http::last_part;
use crate::record::{
    Binding, Body, Connection, Ending, EventId, FileInfo, Ftp, NotHashed, Note, Protocol, State, Upload, Wrapping,
};

/// A control connection's number: the place of its first packet in the input.
pub(super) type SessionId = u64;

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
struct Entry {
    transfer: Transfer,
    data: Option<(DataConnection, Binding)>,
    /// A data connection is open for it.
    running: bool,
    /// It is over, since this time; a new name for its file may still come.
    over: Option<Timestamp>,
    /// The dialogue went on, so that no new name comes.
    went_on: bool,
    /// The path before and after a rename.
    renamed: Option<(String, String)>,
}

#[derive(Debug)]
struct Book {
    session: Session,
    opened: Timestamp,
    wrapping: Wrapping,
    transfers: VecDeque<Entry>,
    /// Finished data connections without their transfer.
    unclaimed: VecDeque<(Option<Announcement>, DataConnection)>,
    /// Data connections that are still open.
    open: u64,
    encrypted: bool,
    closed: Option<Timestamp>,
    /// What it held when that was last looked at.
    charged: usize,
}

/// Counters of FTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FtpCounters {
    /// Control connections.
    pub sessions: u64,
    /// Control connections that went over to TLS.
    pub encrypted: u64,
    /// Announced addresses that were forgotten before a connection came, for want of room.
    pub expectations_dropped: u64,
    /// Data connections without a transfer that could be theirs.
    pub unbound: u64,
    /// Control connections with more unanswered commands than the limit.
    pub pending_dropped: u64,
    /// Control lines longer than the limit, cut.
    pub lines_cut: u64,
    /// Dialogues that were over, forgotten before all their data connections were, for want of memory.
    pub dialogues_dropped: u64,
}

impl FtpCounters {
    /// Adds another lane's counts.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.encrypted += other.encrypted;
        self.expectations_dropped += other.expectations_dropped;
        self.unbound += other.unbound;
        self.pending_dropped += other.pending_dropped;
        self.lines_cut += other.lines_cut;
        self.dialogues_dropped += other.dialogues_dropped;
    }
}

/// How long a transfer that is over waits for a new name of its file, where the dialogue stands still.
const RENAME_PATIENCE: Span = Span::seconds(2);
/// How long before its command a data connection may open, where only time binds the two.
const EARLIEST: Span = Span::seconds(30);
/// The most transfers, and data connections without one, kept per control connection.
const MOST_KEPT: usize = 256;

/// All of a lane's control connections.
#[derive(Debug)]
pub(super) struct Ledger {
    books: BTreeMap<SessionId, Book>,
    expected: LruCache<Endpoint, (SessionId, Announcement)>,
    /// Which control connections a pair of hosts has, client first.
    pairs: BTreeMap<(Address, Address), Vec<SessionId>>,
    expectation_timeout: Span,
    reply_timeout: Span,
    max_pending: usize,
    /// Dialogues that are over, the oldest first; some may be forgotten already.
    over: VecDeque<SessionId>,
    /// Bytes that all dialogues hold.
    held: u64,
    counters: FtpCounters,
}

/// What a dialogue costs beside its texts and transfers, its places in the tables included.
const DIALOGUE: usize = 2 * size_of::<Book>() + 128;

impl Ledger {
    pub(super) fn new(limits: &config::Protocol, lanes: usize) -> Self {
        let share = usize::try_from(limits.expectations).unwrap_or(usize::MAX) / lanes.max(1);
        Self {
            books: BTreeMap::new(),
            expected: LruCache::new(NonZeroUsize::new(share).unwrap_or(NonZeroUsize::MIN)),
            pairs: BTreeMap::new(),
            expectation_timeout: limits.expectation_timeout,
            reply_timeout: limits.reply_timeout,
            max_pending: usize::try_from(limits.max_pending).unwrap_or(usize::MAX),
            over: VecDeque::new(),
            held: 0,
            counters: FtpCounters::default(),
        }
    }

    /// Bytes that all dialogues hold.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Looks at how much a dialogue holds.
    pub(super) fn weigh(&mut self, id: SessionId) {
        let Some(book) = self.books.get_mut(&id) else { return };
        let now = book.weight();
        self.held = (self.held + now as u64).saturating_sub(book.charged as u64);
        book.charged = now;
    }

    /// Forgets the dialogue that has been over longest; false if all go on.
    pub(super) fn drop_over(&mut self, now: Moment, facts: &mut Vec<(Moment, Fact)>) -> bool {
        while let Some(id) = self.over.pop_front() {
            if self.books.contains_key(&id) {
                self.counters.dialogues_dropped += 1;
                self.forget(id, now, facts);
                return true;
            }
        }
        false
    }

    /// A dialogue is no longer read: reports what is pending as far as it came.
    pub(super) fn retire(&mut self, id: SessionId, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        let before = facts.len();
        self.close(id, now, facts);
        self.forget(id, now, facts);
        for (_, fact) in facts.iter_mut().skip(before) {
            if let Fact::Upload(upload) = fact {
                upload.notes.push(Note::Retired);
            }
        }
    }

    pub(super) fn counters(&mut self) -> &mut FtpCounters {
        &mut self.counters
    }

    pub(super) fn counted(&self) -> &FtpCounters {
        &self.counters
    }

    /// A control connection begins. It is known by the place of its first packet.
    pub(super) fn begin(&mut self, link: &Link) {
        self.counters.sessions += 1;
        let (id, connection) = (link.first_index, link.connection());
        let session = Session::new(connection, !link.client_known, self.max_pending);
        let book = Book {
            session,
            opened: link.start,
            wrapping: link.wrapping(),
            transfers: VecDeque::new(),
            unclaimed: VecDeque::new(),
            open: 0,
            encrypted: false,
            closed: None,
            charged: 0,
        };
        self.books.insert(id, book);
        self.weigh(id);
        self.pairs.entry((connection.client.address, connection.server.address)).or_default().push(id);
    }

    /// The dialogue of a control connection, to put lines into.
    pub(super) fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.books.get_mut(&id).map(|book| &mut book.session)
    }

    /// The control connection can be read again (`CCC`, RFC 4217 section 6).
    pub(super) fn resume(&mut self, id: SessionId) {
        if let Some(book) = self.books.get_mut(&id) {
            book.encrypted = false;
            book.session.resume();
        }
    }

    pub(super) fn is_encrypted(&self, id: SessionId) -> bool {
        self.books.get(&id).is_some_and(|book| book.encrypted)
    }

    /// Enters what a dialogue told.
    pub(super) fn enter(&mut self, id: SessionId, told: Vec<Told>, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        for told in told {
            let Some(book) = self.books.get_mut(&id) else { return };
            match told {
                Told::Announced(announcement) => {
                    for listener in [Some(announcement.listener), announcement.translated].into_iter().flatten() {
                        if let Some((other, (..))) = self.expected.push(listener, (id, announcement))
                            && other != listener
                        {
                            self.counters.expectations_dropped += 1;
                        }
                    }
                }
                Told::Asked(transfer) => {
                    book.transfers.push_back(Entry::new(*transfer));
                    if book.transfers.len() > MOST_KEPT
                        && let Some(entry) = book.transfers.pop_front()
                    {
                        self.counters.pending_dropped += 1;
                        facts.extend(book.upload(entry).map(|u| (now, Fact::Upload(Box::new(u)))));
                    }
                }
                Told::Progress { ordinal, server_name } => {
                    if let Some(entry) = book.transfers.iter_mut().find(|e| e.transfer.ordinal == ordinal) {
                        entry.transfer.begun = true;
                        if server_name.is_some() {
                            entry.transfer.server_name = server_name;
                        }
                    }
                }
                Told::Answered { ordinal, code } => {
                    if let Some(entry) = book.transfers.iter_mut().find(|e| e.transfer.ordinal == ordinal) {
                        entry.over = Some(now.clock);
                        entry.transfer.reply = Some(code);
                    }
                }
                Told::WentOn => {
                    for entry in book.transfers.iter_mut().filter(|e| e.over.is_some()) {
                        entry.went_on = true;
                    }
                }
                Told::Renamed { from, to } => {
                    let named =
                        |e: &&mut Entry| e.transfer.verb.is_upload() && e.path(&book.session) == Some(from.clone());
                    if let Some(entry) = book.transfers.iter_mut().rev().find(named) {
                        entry.renamed = Some((from, to));
                    }
                }
                Told::Encrypted => {
                    self.counters.encrypted += u64::from(!book.encrypted);
                    book.encrypted = true;
                }
            }
        }
        self.settle(id, now, facts);
    }

    /// A connection that is about to open, or has just sent its first byte: is it an announced data connection?
    pub(super) fn expects(&self, low: Endpoint, high: Endpoint) -> Option<(SessionId, Announcement, Endpoint)> {
        if self.expected.is_empty() {
            return None;
        }
        for listener in [low, high] {
            if let Some((id, announcement)) = self.expected.peek(&listener) {
                return Some((*id, *announcement, listener));
            }
        }
        None
    }

    /// An announced data connection has opened.
    pub(super) fn opened(&mut self, id: SessionId, announcement: &Announcement) {
        if let Some(book) = self.books.get_mut(&id) {
            book.open += 1;
            if let Some(entry) = book.transfers.iter_mut().find(|e| e.waits_for(announcement)) {
                entry.running = true;
            }
        }
    }

    /// The transfer that an open data connection carries, for an early report.
    pub(super) fn running(&self, id: SessionId, announcement: &Announcement, data: DataConnection) -> Option<Upload> {
        let book = self.books.get(&id)?;
        let entry = book.transfers.iter().find(|e| e.waits_for(announcement))?;
        if !entry.transfer.verb.is_upload() {
            return None;
        }
        let entry = Entry { data: Some((data, Binding::Announced)), ..Entry::new(entry.transfer.clone()) };
        let mut upload = book.upload(entry)?;
        upload.state = State::Running;
        upload.notes.retain(|note| *note != Note::CutShort && *note != Note::Unconfirmed);
        Some(upload)
    }

    /// An announced data connection is over.
    pub(super) fn finished(
        &mut self,
        id: SessionId,
        announcement: Announcement,
        data: DataConnection,
        now: Moment,
        facts: &mut Vec<(Moment, Fact)>,
    ) {
        let Some(book) = self.books.get_mut(&id) else { return };
        book.open = book.open.saturating_sub(1);
        book.keep(Some(announcement), data);
        self.settle(id, now, facts);
    }

    /// A connection of an unknown protocol is over: it may be a data connection whose announcement was not seen,
    /// or comes later. True if a dialogue of the same two hosts may want it.
    pub(super) fn stray(
        &mut self,
        low: Endpoint,
        high: Endpoint,
        make: impl Fn(Endpoint) -> DataConnection,
        now: Moment,
        facts: &mut Vec<(Moment, Fact)>,
    ) -> bool {
        if let Some((id, announcement, listener)) = self.expects(low, high) {
            let client = if announcement.active == (listener == low) { low } else { high };
            let Some(book) = self.books.get_mut(&id) else { return false };
            book.keep(Some(announcement), make(client));
            self.settle(id, now, facts);
            return true;
        }
        for (client, server) in [(low, high), (high, low)] {
            let Some(ids) = self.pairs.get(&(client.address, server.address)) else { continue };
            let data = make(client);
            // Of several dialogues, the one that asked for a transfer at the nearest time.
            let nearest = ids.iter().filter_map(|id| Some((self.books.get(id)?.distance(&data)?, *id))).min();
            if let Some((_, id)) = nearest
                && let Some(book) = self.books.get_mut(&id)
            {
                book.keep(None, data);
                self.settle(id, now, facts);
                return true;
            }
        }
        false
    }

    /// Whether these hosts have a dialogue in the clear, so that a connection of theirs may be a data connection.
    pub(super) fn speak(&self, one: Address, other: Address) -> bool {
        let ids = [(one, other), (other, one)].into_iter().filter_map(|pair| self.pairs.get(&pair)).flatten();
        ids.into_iter().any(|id| !self.is_encrypted(*id))
    }

    /// A control connection is over.
    pub(super) fn close(&mut self, id: SessionId, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        let mut told = Vec::new();
        if let Some(book) = self.books.get_mut(&id) {
            book.session.close(&mut told);
            book.closed = Some(now.clock);
            self.counters.pending_dropped += book.session.dropped;
            self.over.push_back(id);
            if self.over.len() > 2 * self.books.len() + 64 {
                self.over.retain(|id| self.books.contains_key(id));
            }
        }
        self.enter(id, told, now, facts);
    }

    /// Time has passed: what waits in vain is given up.
    pub(super) fn tick(&mut self, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        while self.over.front().is_some_and(|id| !self.books.contains_key(id)) {
            self.over.pop_front();
        }
        if self.books.is_empty() {
            return;
        }
        let ids: Vec<SessionId> = self.books.keys().copied().collect();
        for id in ids {
            let now = Moment { index: id, ..now };
            self.settle(id, now, facts);
            let over = self.books.get(&id).is_some_and(|book| {
                book.open == 0 && book.closed.is_some_and(|at| at.after(self.expectation_timeout) <= now.clock)
            });
            if over {
                self.forget(id, now, facts);
            }
        }
    }

    /// The input is over: everything is reported as far as it came.
    pub(super) fn flush(&mut self, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        let ids: Vec<SessionId> = self.books.keys().copied().collect();
        for id in ids {
            self.forget(id, Moment { index: id, ..now }, facts);
        }
    }

    fn forget(&mut self, id: SessionId, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        let Some(mut book) = self.books.remove(&id) else { return };
        self.held = self.held.saturating_sub(book.charged as u64);
        book.bind_by_time();
        while let Some(entry) = book.transfers.pop_front() {
            facts.extend(book.upload(entry).map(|u| (now, Fact::Upload(Box::new(u)))));
        }
        self.counters.unbound += book.unclaimed.iter().filter(|(a, _)| a.is_some()).count() as u64;
        let connection = book.session.connection;
        let pair = (connection.client.address, connection.server.address);
        if let Some(ids) = self.pairs.get_mut(&pair) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.pairs.remove(&pair);
            }
        }
        let stale: Vec<Endpoint> =
            self.expected.iter().filter(|(_, (session, _))| *session == id).map(|(listener, _)| *listener).collect();
        for listener in stale {
            self.expected.pop(&listener);
        }
    }

    /// Brings transfers and data connections together, and reports what is finished.
    fn settle(&mut self, id: SessionId, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        let reply_timeout = self.reply_timeout;
        let Some(book) = self.books.get_mut(&id) else { return };
        book.bind();
        let closed = book.closed.is_some();
        let mut waiting = VecDeque::with_capacity(book.transfers.len());
        let mut done = Vec::new();
        for entry in book.transfers.drain(..) {
            let answered = entry.transfer.reply.is_some();
            let finished = match &entry.data {
                Some((data, _)) => {
                    let renamed_late = entry.over.is_none_or(|at| at.after(RENAME_PATIENCE) <= now.clock);
                    closed
                        || (answered && (entry.went_on || renamed_late))
                        || data.end.after(reply_timeout) <= now.clock
                }
                // Without a data connection: wait for it, for it may come late or not have ended yet.
                None => {
                    answered
                        && !entry.running
                        && entry.transfer.asked.after(reply_timeout) <= now.clock
                        && (!entry.transfer.verb.is_upload() || closed)
                        && entry.transfer.reply.is_none_or(|code| code >= 400)
                }
            };
            if finished { done.push(entry) } else { waiting.push_back(entry) }
        }
        book.transfers = waiting;
        for entry in done {
            facts.extend(book.upload(entry).map(|u| (now, Fact::Upload(Box::new(u)))));
        }
        self.weigh(id);
    }
}

impl Entry {
    fn new(transfer: Transfer) -> Self {
        Self { transfer, data: None, running: false, over: None, went_on: false, renamed: None }
    }

    /// The file's full path on the server, as the transfer left it.
    fn path(&self, session: &Session) -> Option<String> {
        match &self.transfer.server_name {
            Some(name) => Some(session.path_of(name)),
            None => self.transfer.path.clone(),
        }
    }

    /// Bytes of its texts.
    fn texts(&self) -> usize {
        let renamed = self.renamed.as_ref().map_or(0, |(from, to)| from.capacity() + to.capacity());
        text(&self.transfer.path) + text(&self.transfer.server_name) + renamed + 64
    }

    fn waits_for(&self, announcement: &Announcement) -> bool {
        self.data.is_none() && self.transfer.announcement.is_some_and(|a| a.listener == announcement.listener)
    }
}

impl Book {
    /// Bytes that are held.
    fn weight(&self) -> usize {
        let transfers: usize = self.transfers.iter().map(Entry::texts).sum();
        let tables = self.transfers.capacity() * size_of::<Entry>()
            + self.unclaimed.capacity() * (size_of::<(Option<Announcement>, DataConnection)>() + 64);
        DIALOGUE + self.session.weight() + transfers + tables
    }

    fn keep(&mut self, announcement: Option<Announcement>, data: DataConnection) {
        self.unclaimed.push_back((announcement, data));
        if self.unclaimed.len() > MOST_KEPT {
            self.unclaimed.pop_front();
        }
    }

    /// Gives each transfer, oldest first, the oldest data connection at its announced address.
    fn bind(&mut self) {
        for entry in self.transfers.iter_mut().filter(|e| e.data.is_none()) {
            let Some(announced) = entry.transfer.announcement else { continue };
            let at =
                |data: &DataConnection| if announced.active { data.connection.client } else { data.connection.server };
            let place = self.unclaimed.iter().position(|(a, data)| {
                let there = at(data);
                a.is_none_or(|a| a.listener == announced.listener)
                    && (there == announced.listener || Some(there) == announced.translated)
            });
            if let Some((_, data)) = place.and_then(|place| self.unclaimed.remove(place)) {
                let binding = if at(&data) == announced.listener { Binding::Announced } else { Binding::Port };
                entry.data = Some((data, binding));
            }
        }
    }

    /// How far in time a data connection is from this dialogue: from the nearest upload that waits for one, or else
    /// from the dialogue's beginning. `None` if the dialogue cannot be read.
    fn distance(&self, data: &DataConnection) -> Option<(bool, Span)> {
        if self.encrypted {
            return None;
        }
        let waiting = self.transfers.iter().filter(|e| e.data.is_none() && e.transfer.verb.is_upload());
        let nearest = waiting.map(|e| e.transfer.asked.distance(data.opened)).min();
        Some(nearest.map_or((true, self.opened.distance(data.opened)), |span| (false, span)))
    }

    /// Gives transfers that are left the data connections that are left, if the time fits: the announcement of
    /// one or the other was not seen.
    fn bind_by_time(&mut self) {
        self.bind();
        for entry in self.transfers.iter_mut().filter(|e| e.data.is_none() && e.transfer.verb.is_upload()) {
            let asked = entry.transfer.asked;
            let place = self.unclaimed.iter().position(|(_, data)| {
                data.client_bytes > 0
                    && data.server_bytes == 0
                    && data.opened.after(EARLIEST) >= asked
                    && data.end.after(EARLIEST) >= asked
            });
            if let Some((_, data)) = place.and_then(|place| self.unclaimed.remove(place)) {
                entry.data = Some((data, Binding::Time));
            }
        }
    }

    /// The upload that a transfer was, if it was one.
    fn upload(&self, entry: Entry) -> Option<Upload> {
        let stored = entry.path(&self.session);
        let (renamed_from, path) = match entry.renamed {
            Some((from, to)) => (Some(from), Some(to)),
            None => (None, stored),
        };
        let transfer = entry.transfer;
        if !transfer.verb.is_upload() {
            return None;
        }
        let refused = transfer.reply.is_some_and(|code| code >= 400);
        let mut notes = Vec::new();
        let (data, binding) = match entry.data {
            Some((data, binding)) => (Some(data), binding),
            None if refused || !(transfer.begun || transfer.reply.is_some()) => return None,
            None => (None, Binding::None),
        };
        if transfer.reply.is_none() {
            notes.push(Note::Unconfirmed);
        }
        let control = self.session.connection;
        let connection = data.as_ref().map_or(control, |d| d.connection);
        let ended =
            data.as_ref().is_some_and(|d| !d.retired && (d.ending == Ending::Finished || transfer.reply.is_some()));
        let missing = data.as_ref().map_or(0, |d| d.client_missing);
        let bytes = data.as_ref().map_or(0, |d| d.client_bytes);
        match &data {
            None => notes.push(Note::DataNotSeen),
            Some(data) => {
                if data.conflict {
                    notes.push(Note::ConflictingOverlap);
                }
                if data.encrypted {
                    notes.push(Note::Encrypted);
                }
                if data.retired {
                    notes.push(Note::Retired);
                }
                if data.mid_stream {
                    notes.push(Note::MidStream);
                }
                if missing > 0 {
                    notes.push(Note::Gap);
                }
                if refused || !ended {
                    notes.push(Note::CutShort);
                }
            }
        }
        let complete = data.is_some() && ended && !refused && missing == 0;
        notes.sort_unstable();
        notes.dedup();
        let mut file = path.map(|path| FileInfo {
            name: Some(last_part(&path).to_owned()),
            path: Some(path),
            size: data.as_ref().map(|_| bytes),
            missing,
            ..FileInfo::default()
        });
        let mut body = Body::default();
        if let Some(data) = &data {
            let mut content = data.content.clone();
            if !complete {
                content.cut_short();
            }
            // What is appended or resumed begins somewhere in the file, or at its start if there was none.
            let part = transfer.restart > 0 || transfer.verb.name() == "APPE";
            let differs = part.then_some(NotHashed::Part);
            let differs = differs.or((data.encrypted || transfer.mode != 'S').then_some(NotHashed::Encoded));
            if differs.is_some() {
                content.blind();
            }
            match (&mut file, differs) {
                (Some(file), Some(why)) => content.describe_other(why, file, &mut body),
                (Some(file), None) => content.describe(file),
                (None, _) => content.describe_body(None, None, &mut body),
            }
        }
        let opened = data.as_ref().map_or(transfer.asked, |d| d.opened);
        let apart = match &data {
            Some(_) => 0,
            None => transfer.ordinal + 1,
        };
        Some(Upload {
            id: EventId::new("ftp", connection, opened, apart),
            connection,
            wrapping: data.as_ref().map_or_else(|| self.wrapping.clone(), |d| d.wrapping.clone()),
            protocol: Protocol::Ftp,
            opened,
            start: data.as_ref().map_or(transfer.asked, |d| d.start),
            end: data.as_ref().map_or(transfer.asked, |d| d.end),
            client_bytes: bytes,
            server_bytes: data.as_ref().map_or(0, |d| d.server_bytes),
            bytes,
            missing,
            state: if complete { State::Complete } else { State::Partial },
            domain: None,
            proxied_to: None,
            domain_source: Default::default(),
            http: None,
            ftp: Some(Ftp {
                command: transfer.verb.name().to_owned(),
                reply_code: transfer.reply,
                user: self.session.user.clone(),
                control_client: Some(control.client),
                control_server: Some(control.server),
                control_opened: self.opened,
                restart: transfer.restart,
                allocated: transfer.allocated,
                mode: transfer.mode,
                renamed_from,
                announced: transfer.announcement.map(|a| a.listener),
                binding,
            }),
            files: file.into_iter().collect(),
            body,
            notes,
        })
    }
}
