//! The books of one lane's FTP, one for each control connection.
//!
//! Dialogues and data connections are entered as they come, in any order; an upload goes out when its transfer
//! and its data connection have met and the server has answered, or when no answer will come.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;

use lru::LruCache;

use super::book::{Book, DataConnection, Entry};
use super::session::{Announcement, Session, Told};
use crate::config;
use crate::flow::{Link, Moment};
use crate::net::{Address, Endpoint, Span};
use crate::protocol::Fact;
use crate::record::{Note, State, Upload};

/// A control connection's number: the place of its first packet in the input.
pub(super) type SessionId = u64;

/// Counters of FTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FtpCounters {
    /// Control connections.
    pub sessions: u64,
    /// Control connections that went over to TLS.
    pub encrypted: u64,
    /// Of them, how many came back.
    pub returned: u64,
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
        self.returned += other.returned;
        self.expectations_dropped += other.expectations_dropped;
        self.unbound += other.unbound;
        self.pending_dropped += other.pending_dropped;
        self.lines_cut += other.lines_cut;
        self.dialogues_dropped += other.dialogues_dropped;
    }
}

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

impl Ledger {
    pub(super) fn new(limits: &config::Protocol, lanes: usize) -> Self {
        let share = usize::try_from(limits.expectations).unwrap_or(usize::MAX) / lanes.max(1);
        // It grows with what it holds: every connection that opens looks into it, and one made for the most that it may
        // hold would seldom be near the processor.
        let mut expected = LruCache::unbounded();
        expected.resize(NonZeroUsize::new(share).unwrap_or(NonZeroUsize::MIN));
        Self {
            books: BTreeMap::new(),
            expected,
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
        let book = Book::new(session, link.start, link.wrapping());
        self.books.insert(id, book);
        self.weigh(id);
        self.pairs.entry((connection.client.address, connection.server.address)).or_default().push(id);
    }

    /// The dialogue of a control connection, to put lines into.
    pub(super) fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.books.get_mut(&id).map(|book| &mut book.session)
    }

    /// How often one direction of a control connection went over to TLS, and came back.
    pub(super) fn framed(&mut self, id: SessionId, went: u32, returned: u32) {
        let Some(book) = self.books.get_mut(&id) else { return };
        self.counters.encrypted += u64::from(book.went == 0 && went > 0);
        self.counters.returned += u64::from(book.returned == 0 && returned > 0);
        book.went = book.went.max(went);
        book.returned = book.returned.max(returned);
    }

    pub(super) fn is_encrypted(&self, id: SessionId) -> bool {
        self.books.get(&id).is_some_and(Book::is_encrypted)
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
                    if let Some(entry) = book.ask(*transfer) {
                        self.counters.pending_dropped += 1;
                        report(book, [entry], now, facts);
                    }
                }
                Told::Progress { ordinal, server_name } => book.progress(ordinal, server_name),
                Told::Answered { ordinal, code } => book.answer(ordinal, code, now),
                Told::WentOn => book.move_on(),
                Told::Renamed { from, to } => book.rename(from, to),
                Told::Encrypted => {
                    book.granted += 1;
                    let granted = book.granted;
                    self.framed(id, granted, 0);
                }
            }
        }
        self.report_ready(id, now, facts);
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
    pub(super) fn opened(&mut self, id: SessionId) {
        if let Some(book) = self.books.get_mut(&id) {
            book.open += 1;
        }
    }

    /// Whether a data connection of the dialogue is open.
    pub(super) fn has_open(&self, id: SessionId) -> bool {
        self.books.get(&id).is_some_and(|book| book.open > 0)
    }

    /// The transfer that an open data connection carries, for an early report, and its number: no other connection
    /// gets that transfer from then on.
    pub(super) fn running(
        &mut self,
        id: SessionId,
        announcement: &Announcement,
        data: DataConnection,
    ) -> Option<(u64, Upload)> {
        let book = self.books.get_mut(&id)?;
        let ordinal = book.hold(announcement)?;
        let entry = book.entry(ordinal)?.running(data);
        let mut upload = book.upload(entry)?;
        upload.state = State::Running;
        upload.notes.retain(|note| *note != Note::CutShort && *note != Note::Unconfirmed);
        Some((ordinal, upload))
    }

    /// An announced data connection is over, which transfer `held_by` was reported with.
    pub(super) fn finished(
        &mut self,
        id: SessionId,
        (announcement, held_by): (Announcement, Option<u64>),
        data: DataConnection,
        now: Moment,
        facts: &mut Vec<(Moment, Fact)>,
    ) {
        let Some(book) = self.books.get_mut(&id) else { return };
        book.open = book.open.saturating_sub(1);
        book.finish(Some(announcement), held_by, data);
        self.report_ready(id, now, facts);
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
            book.finish(Some(announcement), None, make(client));
            self.report_ready(id, now, facts);
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
                book.finish(None, None, data);
                self.report_ready(id, now, facts);
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
        self.settle(id, now, facts);
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
        let (left, unbound) = book.end(now);
        report(&book, left, now, facts);
        self.counters.unbound += unbound;
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

    /// Reports what is finished, or waits in vain.
    fn settle(&mut self, id: SessionId, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        if let Some(book) = self.books.get_mut(&id) {
            let done = book.settle(self.reply_timeout, now);
            report(book, done, now, facts);
        }
        self.weigh(id);
    }

    fn report_ready(&mut self, id: SessionId, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        if let Some(book) = self.books.get_mut(&id) {
            let ready = book.take_ready();
            report(book, ready, now, facts);
        }
        self.weigh(id);
    }

    /// How many transfers and data connections were looked at.
    #[cfg(test)]
    pub(super) fn looked(&self) -> u64 {
        self.books.values().map(|book| book.looked.get()).sum()
    }
}

fn report(book: &Book, entries: impl IntoIterator<Item = Entry>, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
    let uploads = entries.into_iter().filter_map(|entry| book.upload(entry));
    facts.extend(uploads.map(|upload| (now, Fact::Upload(Box::new(upload)))));
}
