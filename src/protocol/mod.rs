//! Recognising what a connection speaks, and reading uploads out of it.
//!
//! Ordered stream bytes, gaps and ends come in from [`flow`](crate::flow); [`Fact`]s go out: finished (or long
//! running) uploads, and one flow record per connection. A reader that loses its place finds the next message or
//! retires the connection, and counts it; nothing is guessed.

mod ftp;
mod http;
mod recognise;
#[cfg(test)]
mod roles;

use self::recognise::Verdict;
use crate::config;
use crate::flow::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use crate::net::Timestamp;
use crate::record::{EventId, Flow, Protocol, Upload};

pub use ftp::FtpCounters;

/// Something finished that the pipeline hands on.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A transfer from client to server.
    Upload(Box<Upload>),
    /// A connection, over.
    Flow(Box<Flow>),
}

/// What became of what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtocolCounters {
    /// HTTP/1.x requests read.
    pub http_requests: u64,
    /// Messages whose head is no HTTP/1.x; the rest of the stream up to the next request was not read.
    pub http_unparsed: u64,
    /// Heads longer than the limit.
    pub http_heads_too_long: u64,
    /// Chunked bodies with broken framing.
    pub http_bad_chunks: u64,
    /// Gaps in which the reader lost its place.
    pub http_lost: u64,
    /// Times that it found it again.
    pub http_resynchronised: u64,
    /// Requests reported without their answer because too many were pending.
    pub http_pending_dropped: u64,
    /// Bodies announced with `Expect` and never sent.
    pub http_abandoned: u64,
    /// FTP.
    pub ftp: FtpCounters,
}

impl ProtocolCounters {
    /// Adds another lane's counts.
    pub fn add(&mut self, other: &Self) {
        self.http_requests += other.http_requests;
        self.http_unparsed += other.http_unparsed;
        self.http_heads_too_long += other.http_heads_too_long;
        self.http_bad_chunks += other.http_bad_chunks;
        self.http_lost += other.http_lost;
        self.http_resynchronised += other.http_resynchronised;
        self.http_pending_dropped += other.http_pending_dropped;
        self.http_abandoned += other.http_abandoned;
        self.ftp.add(&other.ftp);
    }
}

/// What a reader needs beside its own state.
struct Context<'c> {
    now: Moment,
    limits: &'c config::Protocol,
    counters: &'c mut ProtocolCounters,
    facts: &'c mut Vec<(Moment, Fact)>,
}

/// The first bytes of a connection, kept until they tell what it speaks.
#[derive(Debug, Default)]
pub struct Prefix {
    /// In order: whose, where in the stream, when, and how many bytes.
    pieces: Vec<(Side, u64, Timestamp, usize)>,
    bytes: Both<Vec<u8>>,
}

/// The most bytes of a side that are kept to recognise it.
const LONGEST_PREFIX: usize = 8192;

/// What is kept per connection.
#[derive(Debug)]
pub struct Stream {
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    /// No byte came yet.
    Fresh,
    Prefix(Box<Prefix>),
    Http(Box<http::Connection>),
    FtpControl(Box<ftp::Control>),
    FtpData(Box<ftp::DataStream>),
    /// Nothing more to read; `resume` if a request may yet begin (picked up in the middle).
    Other {
        protocol: Protocol,
        resume: bool,
    },
}

/// All readers of one lane.
#[derive(Debug)]
pub struct Parsers {
    limits: config::Protocol,
    desk: ftp::Desk,
    counters: ProtocolCounters,
    facts: Vec<(Moment, Fact)>,
}

impl Parsers {
    /// Readers with `1 / lanes` of the configured bounds.
    pub fn new(limits: &config::Protocol, lanes: usize) -> Self {
        Self {
            limits: limits.clone(),
            desk: ftp::Desk::new(limits, lanes),
            counters: ProtocolCounters::default(),
            facts: Vec::new(),
        }
    }

    /// What has been finished since the last call, in order.
    pub fn take_facts(&mut self) -> std::vec::Drain<'_, (Moment, Fact)> {
        self.facts.drain(..)
    }

    /// Whether anything has been finished since the last call.
    pub fn has_facts(&self) -> bool {
        !self.facts.is_empty()
    }

    /// The input is over and every connection is closed: reports what still waits.
    pub fn flush(&mut self, now: Moment) {
        self.desk.flush(now, &mut self.facts);
    }

    /// What became of what was read, so far.
    pub fn counters(&self) -> ProtocolCounters {
        ProtocolCounters { ftp: self.desk.counters().clone(), ..self.counters.clone() }
    }

    fn context(&mut self, now: Moment) -> (Context<'_>, &mut ftp::Desk) {
        let context = Context { now, limits: &self.limits, counters: &mut self.counters, facts: &mut self.facts };
        (context, &mut self.desk)
    }

    /// Keeps first bytes until they tell what the connection speaks; then reads them.
    fn first_bytes(&mut self, stream: &mut Stream, link: &mut Link, data: Data<'_>, now: Moment) {
        if let Some(expected) = self.desk.expected(link) {
            let held = std::mem::replace(&mut stream.reader, Reader::FtpData(Box::new(expected)));
            self.replay(held, stream, link, now);
            self.data(stream, link, data, now);
            return;
        }
        if !matches!(stream.reader, Reader::Prefix(_)) {
            stream.reader = Reader::Prefix(Box::default());
        }
        let Reader::Prefix(prefix) = &mut stream.reader else { return };
        prefix.pieces.push((data.side, data.offset, data.ts, data.bytes.len()));
        prefix.bytes.of_mut(data.side).extend_from_slice(data.bytes);
        let full = prefix.bytes.of(data.side).len() >= LONGEST_PREFIX;
        let (low, high) = (prefix.bytes.of(Side::Low), prefix.bytes.of(Side::High));
        let Verdict::Is(protocol, client) = recognise::recognise(low, high, full) else { return };
        // The content tells the roles better than who opened the connection.
        let told = matches!(protocol, Protocol::Http | Protocol::Ftp);
        if let Some(client) = client
            && (told || !link.client_known)
        {
            link.client = client;
        }
        let reader = match protocol {
            Protocol::Http => Reader::Http(Box::new(http::Connection::new(link.client))),
            Protocol::Ftp => Reader::FtpControl(Box::new(self.desk.control(link))),
            other => Reader::Other { protocol: other, resume: other == Protocol::Unknown && link.mid_stream },
        };
        let held = std::mem::replace(&mut stream.reader, reader);
        self.replay(held, stream, link, now);
    }

    /// Reads the bytes that were kept.
    fn replay(&mut self, held: Reader, stream: &mut Stream, link: &mut Link, now: Moment) {
        let Reader::Prefix(prefix) = held else { return };
        let mut read: Both<usize> = Both::default();
        for (side, offset, ts, length) in prefix.pieces {
            let start = *read.of(side);
            *read.of_mut(side) += length;
            let bytes = prefix.bytes.of(side).get(start..start + length).unwrap_or_default();
            self.data(stream, link, Data { side, offset, ts, bytes }, now);
        }
    }

    /// Whether a connection whose beginning told nothing begins a request here.
    fn resumes(data: &Data<'_>) -> bool {
        // The cheap look first: most segments of an unknown stream do not begin with a capital letter.
        data.bytes.first().is_some_and(u8::is_ascii_uppercase) && http::head::begins_request(data.bytes) == Some(true)
    }
}

impl Application for Parsers {
    type State = Stream;

    fn open(&mut self, link: &mut Link, _opener: Side, _now: Moment) -> Stream {
        let reader = match self.desk.expected(link) {
            Some(expected) => Reader::FtpData(Box::new(expected)),
            None => Reader::Fresh,
        };
        Stream { reader }
    }

    #[inline]
    fn data(&mut self, stream: &mut Stream, link: &mut Link, data: Data<'_>, now: Moment) {
        match &mut stream.reader {
            Reader::Other { resume: false, .. } => {}
            Reader::Other { resume: true, .. } => {
                // A known server begins no request: what looks like one is in its answer.
                let may_ask = !link.client_known || data.side == link.client;
                if may_ask && Self::resumes(&data) {
                    link.client = data.side;
                    stream.reader = Reader::Http(Box::new(http::Connection::new(data.side)));
                    self.data(stream, link, data, now);
                }
            }
            Reader::Http(http) => {
                let (mut context, _) = self.context(now);
                http.data(link, data, &mut context);
            }
            Reader::FtpData(ftp) => {
                let (mut context, desk) = self.context(now);
                desk.data(ftp, link, data.side, (data.bytes.len() as u64, false), data.ts, &mut context);
            }
            Reader::FtpControl(control) => {
                let (mut context, desk) = self.context(now);
                desk.control_data(control, data, &mut context);
            }
            Reader::Fresh | Reader::Prefix(_) => self.first_bytes(stream, link, data, now),
        }
    }

    fn gap(&mut self, stream: &mut Stream, link: &mut Link, gap: Gap, now: Moment) {
        link.mid_stream = link.mid_stream || gap.offset == 0;
        match &mut stream.reader {
            Reader::Fresh => {}
            // What follows a hole in the first bytes proves nothing by its start.
            Reader::Prefix(_) => stream.reader = Reader::Other { protocol: Protocol::Unknown, resume: true },
            Reader::Http(http) => {
                let (mut context, _) = self.context(now);
                http.gap(link, gap, &mut context);
            }
            Reader::FtpData(ftp) => {
                let (mut context, desk) = self.context(now);
                desk.data(ftp, link, gap.side, (gap.length, true), gap.ts, &mut context);
            }
            Reader::FtpControl(control) => {
                let (mut context, desk) = self.context(now);
                desk.control_gap(control, gap, &mut context);
            }
            Reader::Other { .. } => {}
        }
    }

    fn finish(&mut self, stream: &mut Stream, link: &mut Link, side: Side, now: Moment) {
        if let Reader::Http(http) = &mut stream.reader {
            let (mut context, _) = self.context(now);
            http.finish(link, side, &mut context);
        }
    }

    fn close(&mut self, stream: Stream, link: &Link, totals: &Totals, now: Moment) {
        let (mut context, desk) = self.context(now);
        let mut encrypted = false;
        let protocol = match stream.reader {
            Reader::Http(http) => {
                http.close(link, totals, &mut context);
                Protocol::Http
            }
            Reader::FtpControl(control) => {
                encrypted = desk.control_close(&control, &mut context);
                Protocol::Ftp
            }
            Reader::FtpData(ftp) => {
                desk.data_close(&ftp, link, totals, &mut context);
                Protocol::FtpData
            }
            Reader::Fresh | Reader::Prefix(_) | Reader::Other { protocol: Protocol::Unknown, .. } => {
                let carried = *totals.bytes.of(Side::Low) + *totals.bytes.of(Side::High) > 0;
                if carried && desk.stray(link, totals, &mut context) { Protocol::FtpData } else { Protocol::Unknown }
            }
            Reader::Other { protocol, .. } => protocol,
        };
        let connection = link.connection();
        let (client, server) = (link.client, link.client.peer());
        let flow = Flow {
            id: EventId::new("flow", connection, link.start, 0),
            connection,
            opening_seen: link.client_known,
            protocol,
            encrypted,
            start: link.start,
            end: totals.end,
            client_bytes: *totals.bytes.of(client),
            server_bytes: *totals.bytes.of(server),
            client_missing: *totals.missing.of(client),
            server_missing: *totals.missing.of(server),
            client_packets: *totals.packets.of(client),
            server_packets: *totals.packets.of(server),
            ending: totals.ending,
        };
        self.facts.push((now, Fact::Flow(Box::new(flow))));
    }

    fn tick(&mut self, now: Moment) {
        self.desk.tick(now, &mut self.facts);
    }
}
