//! Recognising what a connection speaks, and reading uploads out of it.
//!
//! Ordered stream bytes, gaps and ends come in from [`flow`](crate::flow); [`Fact`]s go out: finished (or long
//! running) uploads, and one flow record per connection. A reader that loses its place finds the next message or
//! retires the connection, and counts it; nothing is guessed.

mod content;
mod dns;
mod ftp;
mod http;
mod http2;
mod recognise;
#[cfg(test)]
mod roles;
mod websocket;

#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;

use self::content::{Candidate, Piece};
use self::recognise::Verdict;
use crate::config;
use crate::flow::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use crate::net::Timestamp;
use crate::packet::Datagram;
use crate::record::{Connection, EventId, Flow, Protocol, Upload};

pub use content::FileCounters;
pub use dns::Name;
pub use ftp::FtpCounters;

/// Something finished that the pipeline hands on.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A transfer from client to server.
    Upload(Box<Upload>),
    /// A connection, over.
    Flow(Box<Flow>),
    /// A name that a host was told for an address.
    Name(Box<Name>),
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
    /// Directions of HTTP/2 in which a gap swallowed a frame's head or a part of a header block.
    pub http2_lost: u64,
    /// Directions of HTTP/2 that broke its syntax; the rest was not read.
    pub http2_unparsed: u64,
    /// WebSockets that lost their place in a gap or broke the syntax.
    pub websocket_lost: u64,
    /// Names learnt from DNS answers.
    pub dns_names: u64,
    /// Datagrams and streams on DNS's port that are no DNS.
    pub dns_unparsed: u64,
    /// FTP.
    pub ftp: FtpCounters,
    /// The content of files and bodies.
    pub files: FileCounters,
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
        self.http2_lost += other.http2_lost;
        self.http2_unparsed += other.http2_unparsed;
        self.websocket_lost += other.websocket_lost;
        self.dns_names += other.dns_names;
        self.dns_unparsed += other.dns_unparsed;
        self.ftp.add(&other.ftp);
        self.files.add(&other.files);
    }
}

/// What a reader needs beside its own state.
struct Context<'c> {
    now: Moment,
    limits: &'c config::Protocol,
    counters: &'c mut ProtocolCounters,
    meter: &'c mut content::Meter,
    facts: &'c mut Vec<(Moment, Fact)>,
}

/// The first bytes of a connection, kept until they tell what it speaks.
#[derive(Debug, Default)]
pub struct Prefix {
    pieces: Vec<(Side, u64, Timestamp, Held)>,
    lengths: Both<usize>,
    beginnings: Both<Beginning>,
}

/// Where DNS is spoken; its messages have too little shape to be told by content alone.
const DNS_PORT: u16 = 53;

/// A side's first bytes up to the first hole; what follows that proves nothing by its start.
#[derive(Debug, Default)]
struct Beginning {
    bytes: Vec<u8>,
    over: bool,
}

#[derive(Debug)]
enum Held {
    Bytes(Vec<u8>),
    /// This many bytes are lost.
    Hole(u64),
}

/// The most bytes of a side that are kept to recognise it.
const LONGEST_PREFIX: usize = 8192;

/// Times of each side's first and last byte.
type Spans = Both<Option<(Timestamp, Timestamp)>>;

/// What is kept per connection.
#[derive(Debug)]
pub struct Stream {
    reader: Reader,
    /// Times of each side's first and last byte, while it is not known what is spoken.
    spans: Spans,
    /// What both sides' bytes tell, in case that they are a file's: only between hosts that speak FTP.
    content: Option<Box<Candidate>>,
}

impl Stream {
    fn note(&mut self, side: Side, ts: Timestamp) {
        let (_, last) = self.spans.of_mut(side).get_or_insert((ts, ts));
        *last = ts.max(*last);
    }
}

#[derive(Debug)]
enum Reader {
    /// No byte came yet.
    Fresh,
    Prefix(Box<Prefix>),
    Http(Box<http::Connection>),
    Http2(Box<http2::Connection>),
    FtpControl(Box<ftp::Control>),
    FtpData(Box<ftp::DataStream>),
    Dns(Box<dns::Stream>),
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
    meter: content::Meter,
    counters: ProtocolCounters,
    facts: Vec<(Moment, Fact)>,
}

impl Parsers {
    /// Readers with `1 / lanes` of the configured bounds.
    pub fn new(limits: &config::Protocol, files: &config::Files, lanes: usize) -> Self {
        Self {
            limits: limits.clone(),
            desk: ftp::Desk::new(limits, lanes),
            meter: content::Meter::new(files, lanes),
            counters: ProtocolCounters::default(),
            facts: Vec::new(),
        }
    }

    /// What has been finished since the last call, in order.
    pub fn take_facts(&mut self) -> std::vec::Drain<'_, (Moment, Fact)> {
        for (_, fact) in &self.facts {
            if let Fact::Upload(upload) = fact {
                self.meter.counters.count(upload);
            }
        }
        self.facts.drain(..)
    }

    /// Whether anything has been finished since the last call.
    pub fn has_facts(&self) -> bool {
        !self.facts.is_empty()
    }

    /// Gives up work of little value, or takes it up again: hashing what streams by, and telling its type. What is under
    /// way loses its hash, or its type if that is not told yet, and says so.
    pub fn shed(&mut self, no_hashing: bool, no_typing: bool) {
        (self.meter.no_hashing, self.meter.no_typing) = (no_hashing, no_typing);
    }

    /// Takes a datagram: DNS answers give names.
    pub fn datagram(&mut self, datagram: &Datagram<'_>, now: Moment) {
        if datagram.source.port != DNS_PORT {
            return;
        }
        let (facts, counters) = (&mut self.facts, &mut self.counters);
        let known = dns::answers(datagram.payload, datagram.destination.address, datagram.ts, &mut |name| {
            counters.dns_names += 1;
            facts.push((now, Fact::Name(Box::new(name))));
        });
        self.counters.dns_unparsed += u64::from(!known);
    }

    /// The input is over and every connection is closed: reports what still waits.
    pub fn flush(&mut self, now: Moment) {
        self.desk.flush(now, &mut self.facts);
    }

    /// What became of what was read, so far.
    pub fn counters(&self) -> ProtocolCounters {
        let (ftp, files) = (self.desk.counters().clone(), self.meter.counters.clone());
        ProtocolCounters { ftp, files, ..self.counters.clone() }
    }

    fn context(&mut self, now: Moment) -> (Context<'_>, &mut ftp::Desk) {
        let (limits, counters) = (&self.limits, &mut self.counters);
        let context = Context { now, limits, counters, meter: &mut self.meter, facts: &mut self.facts };
        (context, &mut self.desk)
    }

    /// Keeps first bytes until they tell what the connection speaks; then reads them.
    fn first_bytes(&mut self, stream: &mut Stream, link: &mut Link, data: Data<'_>, now: Moment) {
        if let Some(expected) = self.desk.expected(link, &self.meter) {
            let held = std::mem::replace(&mut stream.reader, Reader::FtpData(Box::new(expected)));
            self.replay(held, stream, link, now);
            self.data(stream, link, data, now);
            return;
        }
        if !matches!(stream.reader, Reader::Prefix(_)) {
            stream.reader = Reader::Prefix(Box::default());
        }
        stream.note(data.side, data.ts);
        let Reader::Prefix(prefix) = &mut stream.reader else { return };
        prefix.pieces.push((data.side, data.offset, data.ts, Held::Bytes(data.bytes.to_vec())));
        prefix.beginnings.of_mut(data.side).take(data.bytes);
        *prefix.lengths.of_mut(data.side) += data.bytes.len();
        let full = *prefix.lengths.of(data.side) >= LONGEST_PREFIX;
        let on_dns_port = link.ends.of(link.client.peer()).port == DNS_PORT;
        let may_be_dns = on_dns_port && dns::begins_message(data.bytes);
        self.recognise(stream, link, (full, may_be_dns), now);
    }

    /// Decides what a connection speaks, if its first bytes tell, and reads them.
    fn recognise(&mut self, stream: &mut Stream, link: &mut Link, (full, may_be_dns): (bool, bool), now: Moment) {
        let Reader::Prefix(prefix) = &mut stream.reader else { return };
        let (low, high) = (&prefix.beginnings.of(Side::Low).bytes, &prefix.beginnings.of(Side::High).bytes);
        let Verdict::Is(mut protocol, client) = recognise::recognise(low, high, full) else { return };
        if protocol == Protocol::Unknown && may_be_dns {
            protocol = Protocol::Dns;
        }
        // The content tells the roles better than who opened the connection.
        let told = matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Ftp);
        if let Some(client) = client
            && (told || !link.client_known)
        {
            link.client = client;
        }
        let reader = match protocol {
            Protocol::Http => Reader::Http(Box::new(http::Connection::new(link.client))),
            Protocol::Http2 => Reader::Http2(Box::new(http2::Connection::new(link.client, None))),
            Protocol::Ftp => Reader::FtpControl(Box::new(self.desk.control(link))),
            Protocol::Dns => Reader::Dns(Box::default()),
            other => {
                // What follows a hole may be the first that can be read.
                let resume = other == Protocol::Unknown && (link.mid_stream || prefix.has_hole());
                Reader::Other { protocol: other, resume }
            }
        };
        if matches!(reader, Reader::Other { protocol: Protocol::Unknown, .. }) && self.desk.may_carry(link) {
            stream.content = Some(Box::new(Candidate::new(&self.meter)));
        }
        let held = std::mem::replace(&mut stream.reader, reader);
        self.replay(held, stream, link, now);
    }

    /// What may turn out to be a data connection ended before it was known what it speaks.
    fn candidate(&mut self, stream: &mut Stream, now: Moment) {
        let Reader::Prefix(prefix) = &stream.reader else { return };
        let mut content = Box::new(Candidate::new(&self.meter));
        for (side, _, _, held) in &prefix.pieces {
            let piece = match held {
                Held::Bytes(bytes) => Piece::Bytes(bytes),
                Held::Hole(length) => Piece::Lost(*length),
            };
            content.take(*side, piece, now.clock, &mut self.meter);
        }
        stream.content = Some(content);
    }

    /// Takes content of what may turn out to be a data connection.
    fn content(&mut self, stream: &mut Stream, side: Side, piece: Piece<'_>, now: Moment) {
        if let Some(content) = &mut stream.content {
            content.take(side, piece, now.clock, &mut self.meter);
        }
    }

    /// Reads the bytes that were kept.
    fn replay(&mut self, held: Reader, stream: &mut Stream, link: &mut Link, now: Moment) {
        let Reader::Prefix(prefix) = held else { return };
        for (side, offset, ts, piece) in prefix.pieces {
            match piece {
                Held::Bytes(bytes) => self.data(stream, link, Data { side, offset, ts, bytes: &bytes }, now),
                Held::Hole(length) => self.gap(stream, link, Gap { side, offset, ts, length }, now),
            }
        }
    }

    /// Whether a connection whose beginning told nothing begins a request here.
    fn resumes(data: &Data<'_>) -> bool {
        // The cheap look first: most segments of an unknown stream do not begin with a capital letter.
        data.bytes.first().is_some_and(u8::is_ascii_uppercase) && http::head::begins_request(data.bytes) == Some(true)
    }
}

impl Prefix {
    fn has_hole(&self) -> bool {
        self.beginnings.of(Side::Low).over || self.beginnings.of(Side::High).over
    }
}

impl Beginning {
    fn take(&mut self, bytes: &[u8]) {
        if !self.over {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// A hole ends it. The line that the hole cuts counts as a whole one.
    fn end(&mut self) {
        if !self.over {
            self.bytes.push(b'\n');
            self.over = true;
        }
    }
}

impl Application for Parsers {
    type State = Stream;

    fn open(&mut self, link: &mut Link, _opener: Side, _now: Moment) -> Stream {
        let reader = match self.desk.expected(link, &self.meter) {
            Some(expected) => Reader::FtpData(Box::new(expected)),
            None => Reader::Fresh,
        };
        Stream { reader, spans: Both::default(), content: None }
    }

    #[inline]
    fn data(&mut self, stream: &mut Stream, link: &mut Link, data: Data<'_>, now: Moment) {
        match &mut stream.reader {
            Reader::Other { protocol: Protocol::Unknown, resume: false } => {
                stream.note(data.side, data.ts);
                self.content(stream, data.side, Piece::Bytes(data.bytes), now);
            }
            Reader::Other { resume: false, .. } => {}
            Reader::Other { resume: true, .. } => {
                stream.note(data.side, data.ts);
                self.content(stream, data.side, Piece::Bytes(data.bytes), now);
                // A known server begins no request: what looks like one is in its answer.
                let may_ask = !link.client_known || data.side == link.client;
                if may_ask && Self::resumes(&data) {
                    link.client = data.side;
                    stream.reader = Reader::Http(Box::new(http::Connection::new(data.side)));
                    stream.content = None;
                    self.data(stream, link, data, now);
                }
            }
            Reader::Http(http) => {
                let (mut context, _) = self.context(now);
                http.data(link, data, &mut context);
            }
            Reader::Http2(http2) => {
                let (mut context, _) = self.context(now);
                http2.data(link, data, &mut context);
            }
            Reader::FtpData(ftp) => {
                let (mut context, desk) = self.context(now);
                desk.data(ftp, link, data.side, Piece::Bytes(data.bytes), data.ts, &mut context);
            }
            Reader::FtpControl(control) => {
                let (mut context, desk) = self.context(now);
                desk.control_data(control, data, &mut context);
            }
            Reader::Dns(dns) => {
                if data.side != link.client {
                    let host = link.ends.of(link.client).address;
                    let (facts, counters) = (&mut self.facts, &mut self.counters);
                    dns.data(data.bytes, host, data.ts, &mut |name| {
                        counters.dns_names += 1;
                        facts.push((now, Fact::Name(Box::new(name))));
                    });
                }
            }
            Reader::Fresh | Reader::Prefix(_) => self.first_bytes(stream, link, data, now),
        }
    }

    fn gap(&mut self, stream: &mut Stream, link: &mut Link, gap: Gap, now: Moment) {
        link.mid_stream = link.mid_stream || gap.offset == 0;
        match &mut stream.reader {
            Reader::Fresh => stream.note(gap.side, gap.ts),
            Reader::Prefix(prefix) => {
                prefix.pieces.push((gap.side, gap.offset, gap.ts, Held::Hole(gap.length)));
                prefix.beginnings.of_mut(gap.side).end();
                stream.note(gap.side, gap.ts);
                self.recognise(stream, link, (false, false), now);
            }
            Reader::Http(http) => {
                let (mut context, _) = self.context(now);
                http.gap(link, gap, &mut context);
            }
            Reader::Http2(http2) => {
                let (mut context, _) = self.context(now);
                http2.gap(link, gap, &mut context);
            }
            Reader::FtpData(ftp) => {
                let (mut context, desk) = self.context(now);
                desk.data(ftp, link, gap.side, Piece::Lost(gap.length), gap.ts, &mut context);
            }
            Reader::FtpControl(control) => {
                let (mut context, desk) = self.context(now);
                desk.control_gap(control, gap, &mut context);
            }
            Reader::Dns(dns) => dns.lose(),
            Reader::Other { .. } => {
                stream.note(gap.side, gap.ts);
                self.content(stream, gap.side, Piece::Lost(gap.length), now);
            }
        }
    }

    fn finish(&mut self, stream: &mut Stream, link: &mut Link, side: Side, now: Moment) {
        if let Reader::Http(http) = &mut stream.reader {
            let (mut context, _) = self.context(now);
            http.finish(link, side, &mut context);
        }
    }

    fn close(&mut self, mut stream: Stream, link: &Link, totals: &Totals, now: Moment) {
        if self.desk.may_carry(link) {
            self.candidate(&mut stream, now);
        }
        let (mut context, desk) = self.context(now);
        let mut encrypted = false;
        let mut client = link.client;
        let protocol = match stream.reader {
            Reader::Http(http) => {
                encrypted = http.encrypted;
                let protocol = http.protocol;
                http.close(link, totals, &mut context);
                protocol
            }
            Reader::Http2(http2) => {
                http2.close(link, totals, &mut context);
                Protocol::Http2
            }
            Reader::FtpControl(control) => {
                encrypted = desk.control_close(&control, &mut context);
                Protocol::Ftp
            }
            Reader::FtpData(ftp) => {
                // Who opened it does not matter, and is not always known from the start.
                client = ftp.client;
                desk.data_close(*ftp, link, totals, &mut context);
                Protocol::FtpData
            }
            Reader::Fresh | Reader::Prefix(_) | Reader::Other { protocol: Protocol::Unknown, .. } => {
                let carried = *totals.bytes.of(Side::Low) + *totals.bytes.of(Side::High) > 0;
                if carried && desk.stray(link, totals, (stream.spans, stream.content), &mut context) {
                    Protocol::FtpData
                } else {
                    Protocol::Unknown
                }
            }
            Reader::Dns(_) => Protocol::Dns,
            Reader::Other { protocol, .. } => protocol,
        };
        let server = client.peer();
        let connection = Connection { client: *link.ends.of(client), server: *link.ends.of(server) };
        let flow = Flow {
            id: EventId::new("flow", connection, link.start, 0),
            connection,
            wrapping: link.wrapping(),
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

    fn is_opaque(&self, stream: &Stream) -> bool {
        matches!(stream.reader, Reader::Other { protocol: Protocol::Tls | Protocol::Ssh, .. })
    }

    fn tick(&mut self, now: Moment) {
        self.desk.tick(now, &mut self.facts);
    }
}
