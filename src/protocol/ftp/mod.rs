//! FTP (RFC 959, RFC 2428, RFC 1123): control connections and the data connections that they announce.
//!
//! Both meet on one lane, since packets are spread by host pair. Stream bytes come in, uploads go out.

mod address;
mod book;
mod framing;
mod ledger;
mod line;
mod path;
mod session;
#[cfg(test)]
mod tests;
mod upload;

pub use ledger::FtpCounters;

use self::book::DataConnection;
use self::framing::{Framing, Part};
use self::ledger::{Ledger, SessionId};
use self::line::Lines;
use self::session::{Announcement, Told};
use super::content::{self, Candidate, Content, Facts, Meter, Piece};
use super::in_flight::InFlight;
use super::{Context, Fact, Spans};
use crate::config;
use crate::flow::{Both, Data, Gap, Link, Moment, Side, Totals};
use crate::net::{Endpoint, Timestamp};
use crate::record::Connection;

/// A control connection's state.
#[derive(Debug)]
pub(super) struct Control {
    id: SessionId,
    client: Side,
    directions: Both<Direction>,
    encrypted: bool,
}

#[derive(Debug, Default)]
struct Direction {
    framing: Framing,
    lines: Lines,
}

/// An announced data connection's state.
#[derive(Debug)]
pub(super) struct DataStream {
    id: SessionId,
    announcement: Announcement,
    pub(super) client: Side,
    first: Option<Timestamp>,
    last: Timestamp,
    bytes: u64,
    missing: u64,
    content: Content,
    reported: bool,
    /// The transfer that it was reported with.
    held_by: Option<u64>,
    encrypted: bool,
    /// Once its client sent something.
    in_flight: Option<InFlight>,
}

/// FTP's state of one lane.
#[derive(Debug)]
pub(super) struct Desk {
    ledger: Ledger,
    longest_line: u64,
    running_report: u64,
}

impl Desk {
    pub(super) fn new(limits: &config::Protocol, lanes: usize) -> Self {
        Self {
            ledger: Ledger::new(limits, lanes),
            longest_line: limits.max_line.0,
            running_report: limits.running_report.0,
        }
    }

    pub(super) fn counters(&self) -> &FtpCounters {
        self.ledger.counted()
    }

    /// Bytes that all dialogues hold.
    #[inline]
    pub(super) fn held(&self) -> u64 {
        self.ledger.held()
    }

    /// Forgets the dialogue that has been over longest; false if all go on.
    pub(super) fn drop_over(&mut self, now: Moment, facts: &mut Vec<(Moment, Fact)>) -> bool {
        self.ledger.drop_over(now, facts)
    }

    /// A control connection is no longer read; whether it had gone over to TLS.
    pub(super) fn retire_control(&mut self, control: &Control, context: &mut Context<'_>) -> bool {
        self.ledger.retire(control.id, context.now, context.facts);
        control.encrypted
    }

    /// A data connection is no longer read: it counts as far as it came.
    pub(super) fn retire_data(&mut self, mut stream: DataStream, link: &Link, context: &mut Context<'_>) {
        stream.content.end(context.meter);
        let data = DataConnection { retired: true, ..stream.so_far(link) };
        let expected = (stream.announcement, stream.held_by);
        self.ledger.finished(stream.id, expected, data, context.now, context.facts);
    }

    /// A control connection was recognised.
    pub(super) fn control(&mut self, link: &Link) -> Control {
        self.ledger.begin(link);
        Control { id: link.first_index, client: link.client, directions: Both::default(), encrypted: false }
    }

    /// The state of a connection at an announced address, if it is one.
    pub(super) fn expected(&mut self, link: &mut Link, meter: &Meter) -> Option<DataStream> {
        let (low, high) = (*link.ends.of(Side::Low), *link.ends.of(Side::High));
        let (id, announcement, listener) = self.ledger.expects(low, high)?;
        let listening = if listener == low { Side::Low } else { Side::High };
        // By FTP's roles, not TCP's: in active mode the client listens.
        let client = if announcement.active { listening } else { listening.peer() };
        link.client = client;
        self.ledger.opened(id);
        Some(DataStream {
            id,
            announcement,
            client,
            first: None,
            last: Timestamp(0),
            bytes: 0,
            missing: 0,
            content: Content::plain(None, meter),
            reported: false,
            held_by: None,
            in_flight: None,
            encrypted: false,
        })
    }

    /// Control bytes.
    pub(super) fn control_data(&mut self, control: &mut Control, data: Data<'_>, context: &mut Context<'_>) {
        let Some(session) = self.ledger.session(control.id) else { return };
        let mut told = Vec::new();
        let from_client = data.side == control.client;
        let Direction { framing, lines } = control.directions.of_mut(data.side);
        let cut = lines.cut;
        framing.push(data.bytes, |part| match part {
            Part::Text(bytes) => lines.push(bytes, self.longest_line, |text| {
                if from_client {
                    // A line that is no command is answered all the same.
                    let (verb, argument) = line::command(text).unwrap_or((session::JUNK.to_owned(), ""));
                    session.command(verb, argument, data.ts, &mut told);
                } else {
                    session.reply(text, &mut told);
                }
            }),
            Part::Back => {
                lines.lose();
                session.turn(from_client, &mut told);
            }
        });
        self.ledger.counters().lines_cut += lines.cut - cut;
        self.ledger.framed(control.id, framing.went, framing.returned);
        control.encrypted = self.ledger.is_encrypted(control.id);
        self.enter(control, told, context);
        self.ledger.weigh(control.id);
    }

    /// Whether data connections of the dialogue are open.
    pub(super) fn transfers(&self, control: &Control) -> bool {
        self.ledger.has_open(control.id)
    }

    /// Control bytes that are lost.
    pub(super) fn control_gap(&mut self, control: &mut Control, gap: Gap, context: &mut Context<'_>) {
        let Direction { framing, lines } = control.directions.of_mut(gap.side);
        if !framing.lose(gap.length, control.encrypted) {
            return;
        }
        lines.lose();
        let mut told = Vec::new();
        if let Some(session) = self.ledger.session(control.id) {
            session.lose(&mut told);
        }
        self.enter(control, told, context);
    }

    fn enter(&mut self, control: &mut Control, told: Vec<Told>, context: &mut Context<'_>) {
        if !told.is_empty() {
            self.ledger.enter(control.id, told, context.now, context.facts);
            control.encrypted = self.ledger.is_encrypted(control.id);
        }
    }

    /// The control connection is over; whether it had gone over to TLS.
    pub(super) fn control_close(&mut self, control: &Control, context: &mut Context<'_>) -> bool {
        self.ledger.close(control.id, context.now, context.facts);
        control.encrypted
    }

    /// Data bytes, or how many were lost.
    pub(super) fn data(
        &mut self,
        stream: &mut DataStream,
        link: &Link,
        side: Side,
        piece: Piece<'_>,
        ts: Timestamp,
        context: &mut Context<'_>,
    ) {
        if side != stream.client {
            return;
        }
        if stream.first.is_none() {
            stream.first = Some(ts);
            stream.in_flight = Some(context.in_flight.ftp());
            // A handshake record of TLS (RFC 8446 section 5.1): PROT P without a control connection that tells.
            stream.encrypted = matches!(piece, Piece::Bytes([0x16, 0x03, 0..=4, ..]));
        }
        stream.last = stream.last.max(ts);
        stream.bytes += piece.length();
        stream.missing += if let Piece::Lost(length) = piece { length } else { 0 };
        stream.content.take(piece, context.now.clock, context.meter);
        if !stream.reported && stream.bytes >= self.running_report {
            stream.reported = true;
            let data = stream.so_far(link);
            if let Some((ordinal, upload)) = self.ledger.running(stream.id, &stream.announcement, data) {
                stream.held_by = Some(ordinal);
                context.facts.push((context.now, Fact::Upload(Box::new(upload))));
            }
        }
    }

    /// A data connection is over.
    pub(super) fn data_close(
        &mut self,
        mut stream: DataStream,
        link: &Link,
        totals: &Totals,
        context: &mut Context<'_>,
    ) {
        let span = stream.first.map(|first| (first, stream.last));
        stream.content.end(context.meter);
        let ending = if link.mid_stream { content::Ending::MidStream } else { content::Ending::Whole };
        let mut data = summary(link, totals, stream.client, span, stream.content.facts(ending));
        data.encrypted = stream.encrypted;
        let expected = (stream.announcement, stream.held_by);
        self.ledger.finished(stream.id, expected, data, context.now, context.facts);
    }

    /// A connection of an unknown protocol is over; true if it may be a data connection.
    pub(super) fn stray(
        &mut self,
        link: &Link,
        totals: &Totals,
        (spans, mut content): (Spans, Option<Box<Candidate>>),
        context: &mut Context<'_>,
    ) -> bool {
        if let Some(content) = &mut content {
            content.end(context.meter);
        }
        let ending = if link.mid_stream { content::Ending::MidStream } else { content::Ending::Whole };
        let (low, high) = (*link.ends.of(Side::Low), *link.ends.of(Side::High));
        let make = |client: Endpoint| {
            let client = if client == low { Side::Low } else { Side::High };
            let facts = content.as_ref().map_or_else(Facts::bound_late, |content| content.facts(client, ending));
            summary(link, totals, client, *spans.of(client), facts)
        };
        self.ledger.stray(low, high, make, context.now, context.facts)
    }

    /// Whether a connection of an unknown protocol may turn out to be a data connection.
    pub(super) fn may_carry(&self, link: &Link) -> bool {
        let (low, high) = (*link.ends.of(Side::Low), *link.ends.of(Side::High));
        self.ledger.speak(low.address, high.address) || self.ledger.expects(low, high).is_some()
    }

    pub(super) fn tick(&mut self, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        self.ledger.tick(now, facts);
    }

    pub(super) fn flush(&mut self, now: Moment, facts: &mut Vec<(Moment, Fact)>) {
        self.ledger.flush(now, facts);
    }
}

impl DataStream {
    /// The most bytes that one holds.
    pub(super) const WEIGHT: usize = size_of::<Self>() + Content::WEIGHT;

    /// The connection as far as it came.
    fn so_far(&self, link: &Link) -> DataConnection {
        let both = |bytes| match self.client {
            Side::Low => Both::new(bytes, 0),
            Side::High => Both::new(0, bytes),
        };
        let totals = Totals {
            bytes: both(self.bytes),
            missing: both(self.missing),
            packets: Both::default(),
            last_data: Both::new(self.last, self.last),
            end: self.last,
            ending: crate::record::Ending::CaptureEnd,
        };
        let span = self.first.map(|first| (first, self.last));
        let mut data = summary(link, &totals, self.client, span, self.content.facts(content::Ending::Running));
        data.encrypted = self.encrypted;
        data
    }
}

impl Control {
    /// Bytes that are held, beside those of the dialogue.
    pub(super) fn weight(&self) -> usize {
        let lines = |side| self.directions.of(side).lines.weight();
        size_of::<Self>() + lines(Side::Low) + lines(Side::High)
    }
}

fn summary(
    link: &Link,
    totals: &Totals,
    client: Side,
    span: Option<(Timestamp, Timestamp)>,
    content: Facts,
) -> DataConnection {
    let server = client.peer();
    let (start, end) = span.unwrap_or((link.start, totals.end));
    DataConnection {
        connection: Connection { client: *link.ends.of(client), server: *link.ends.of(server) },
        opened: link.start,
        start,
        end,
        client_bytes: *totals.bytes.of(client),
        server_bytes: *totals.bytes.of(server),
        client_missing: *totals.missing.of(client),
        ending: totals.ending,
        conflict: link.conflict,
        mid_stream: link.mid_stream,
        content,
        encrypted: false,
        retired: false,
        wrapping: link.wrapping(),
    }
}

/// Verbs that a client may send on a control connection, for recognising one.
pub(super) fn is_verb(verb: &str) -> bool {
    const VERBS: &[&str] = &[
        "USER", "PASS", "ACCT", "CWD", "XCWD", "CDUP", "XCUP", "QUIT", "REIN", "PORT", "PASV", "EPSV", "EPRT", "TYPE",
        "STRU", "MODE", "RETR", "STOR", "STOU", "APPE", "ALLO", "REST", "RNFR", "RNTO", "ABOR", "DELE", "RMD", "XRMD",
        "MKD", "XMKD", "PWD", "XPWD", "LIST", "NLST", "MLSD", "MLST", "SITE", "SYST", "STAT", "HELP", "NOOP", "FEAT",
        "OPTS", "AUTH", "PBSZ", "PROT", "CCC", "SIZE", "MDTM", "CLNT", "HOST", "LANG", "MFMT", "HASH",
    ];
    VERBS.contains(&verb)
}

/// The verb of a finished line that can only be a client's, if it is one of FTP's.
pub(super) fn verb_of(line: &str) -> Option<String> {
    line::command(line).map(|(verb, _)| verb).filter(|verb| is_verb(verb))
}

/// The code of a finished line that can only be a server's.
pub(super) fn code_of(line: &str) -> Option<u16> {
    line::reply(line).map(|(code, ..)| code)
}
