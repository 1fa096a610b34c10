//! Recognising what a connection speaks, and reading uploads out of it.
//!
//! Ordered stream bytes, gaps and ends come in from [`flow`](crate::flow); [`Fact`]s go out: finished (or long
//! running) uploads, and one flow record per connection. A reader that loses its place finds the next message or
//! retires the connection, and counts it; nothing is guessed.

mod account;
mod content;
mod counters;
mod dns;
mod ftp;
mod http;
mod http2;
mod in_flight;
mod prefix;
mod recognise;
#[cfg(test)]
mod roles;
mod websocket;

#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;

use self::account::{Account, Accounts};
use self::content::{Candidate, Content, Piece};
use self::prefix::{Held, Prefix};
use self::recognise::Verdict;
use crate::config;
use crate::flow::{Application, Both, Data, Gap, Link, Moment, Patience, Side, Totals};
use crate::net::{ByteSize, Endpoint, Timestamp};
use crate::packet::Datagram;
use crate::record::{Connection, Flow, Protocol, Upload};

pub use content::FileCounters;
pub use counters::ProtocolCounters;
pub use dns::Name;
pub use ftp::FtpCounters;
pub use in_flight::Uploading;

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

/// What a reader needs beside its own state.
struct Context<'c> {
    now: Moment,
    limits: &'c config::Protocol,
    counters: &'c mut ProtocolCounters,
    meter: &'c mut content::Meter,
    facts: &'c mut Vec<(Moment, Fact)>,
    begun: &'c mut Begun,
    in_flight: &'c in_flight::Tally,
}

/// Connections on which an upload may have begun, where somebody wants to know.
#[derive(Debug, Default)]
struct Begun(Option<Vec<(Endpoint, Endpoint)>>);

impl Begun {
    fn on(&mut self, link: &Link) {
        if let Some(begun) = &mut self.0 {
            begun.push((*link.ends.of(Side::Low), *link.ends.of(Side::High)));
        }
    }
}

/// Where DNS is spoken; its messages have too little shape to be told by content alone.
const DNS_PORT: u16 = 53;

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
    account: Account,
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
        encrypted: bool,
    },
}

impl Reader {
    /// Bytes that are held.
    fn weight(&mut self) -> usize {
        match self {
            Self::Fresh | Self::Other { .. } => 0,
            Self::Prefix(prefix) => prefix.weight(),
            Self::Http(http) => http.weight(),
            Self::Http2(http2) => http2.weight(),
            Self::FtpControl(control) => control.weight(),
            Self::FtpData(_) => ftp::DataStream::WEIGHT,
            Self::Dns(dns) => dns.weight(),
        }
    }
}

/// All readers of one lane.
#[derive(Debug)]
pub struct Parsers {
    limits: config::Protocol,
    desk: ftp::Desk,
    meter: content::Meter,
    accounts: Accounts,
    counters: ProtocolCounters,
    facts: Vec<(Moment, Fact)>,
    begun: Begun,
    in_flight: in_flight::Tally,
}

impl Parsers {
    /// Readers with `1 / lanes` of the configured bounds.
    pub fn new(limits: &config::Protocol, files: &config::Files, lanes: usize) -> Self {
        Self {
            limits: limits.clone(),
            desk: ftp::Desk::new(limits, lanes),
            meter: content::Meter::new(files, lanes),
            accounts: Accounts::new(limits.memory.0 / (lanes as u64).max(1)),
            counters: ProtocolCounters::default(),
            facts: Vec::new(),
            begun: Begun::default(),
            in_flight: in_flight::Tally::default(),
        }
    }

    /// From now on, takes note of each connection on which an upload may begin: a request with a body, an FTP dialogue, and what is
    /// expected to carry a file of one.
    pub fn note_begun(&mut self) {
        self.begun.0 = Some(Vec::new());
    }

    /// From now on, files and bodies that are hashed are handed on themselves too, so many bytes in all.
    pub fn carve(&mut self, most: ByteSize) {
        self.meter.carve(most.0);
    }

    /// The connections that were noted since the last call.
    pub fn take_begun(&mut self) -> Vec<(Endpoint, Endpoint)> {
        self.begun.0.as_mut().map(std::mem::take).unwrap_or_default()
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

    /// The most bytes that the connections' readers held at once, FTP's dialogues not among them.
    pub fn peak(&self) -> u64 {
        self.accounts.peak()
    }

    /// Uploads that are under way.
    pub fn uploading(&self) -> Uploading {
        self.in_flight.now()
    }

    /// Bytes that the readers hold now, and those that looking into content takes.
    pub fn memory(&self) -> (u64, u64) {
        (self.accounts.held() + self.desk.held(), self.meter.memory())
    }

    /// Notes how much is kept of a connection.
    #[inline]
    fn charge(&mut self, stream: &mut Stream, link: &Link, now: Moment) {
        let content = if stream.content.is_some() { 2 * Content::WEIGHT } else { 0 };
        self.accounts.charge(&mut stream.account, link.slot, stream.reader.weight() + content, now.clock);
    }

    /// Reads no more of a connection, and reports its uploads as far as they came.
    fn retire(&mut self, stream: &mut Stream, link: &Link, ts: Timestamp, now: Moment) {
        self.counters.retired += 1;
        stream.content = None;
        let other = |protocol, encrypted| Reader::Other { protocol, resume: false, encrypted };
        let reader = std::mem::replace(&mut stream.reader, other(Protocol::Unknown, false));
        let (mut context, desk) = self.context(now);
        stream.reader = match reader {
            Reader::Http(http) => {
                let known = other(http.protocol, http.encrypted);
                http.retire(link, ts, &mut context);
                known
            }
            Reader::Http2(http2) => {
                http2.retire(link, &mut context);
                other(Protocol::Http2, false)
            }
            Reader::FtpControl(control) => {
                let encrypted = desk.retire_control(&control, &mut context);
                other(Protocol::Ftp, encrypted)
            }
            Reader::FtpData(data) => {
                desk.retire_data(*data, link, &mut context);
                other(Protocol::FtpData, false)
            }
            Reader::Dns(_) => other(Protocol::Dns, false),
            Reader::Fresh | Reader::Prefix(_) => other(Protocol::Unknown, false),
            Reader::Other { protocol, encrypted, .. } => other(protocol, encrypted),
        };
        self.charge(stream, link, now);
    }

    fn context(&mut self, now: Moment) -> (Context<'_>, &mut ftp::Desk) {
        let (limits, counters) = (&self.limits, &mut self.counters);
        let (facts, begun, in_flight) = (&mut self.facts, &mut self.begun, &self.in_flight);
        let context = Context { now, limits, counters, meter: &mut self.meter, facts, begun, in_flight };
        (context, &mut self.desk)
    }

    /// Keeps first bytes until they tell what the connection speaks; then reads them.
    fn first_bytes(&mut self, stream: &mut Stream, link: &mut Link, data: Data<'_>, now: Moment) {
        if let Some(expected) = self.desk.expected(link, &self.meter) {
            self.begun.on(link);
            let held = std::mem::replace(&mut stream.reader, Reader::FtpData(Box::new(expected)));
            self.replay(held, stream, link, now);
            self.data(stream, link, data, now);
            return;
        }
        stream.note(data.side, data.ts);
        let on_dns_port = link.ends.of(link.client.peer()).port == DNS_PORT;
        let may_be_dns = on_dns_port && dns::begins_message(data.bytes);
        if matches!(stream.reader, Reader::Fresh) {
            // Most first segments tell by themselves, and need not be kept.
            let full = Prefix::would_be_full(data.bytes.len());
            if let Verdict::Is(protocol, client) = recognise::by_first_bytes(data.side, data.bytes, full) {
                self.begin(stream, link, protocol, client, may_be_dns, false);
                self.data(stream, link, data, now);
                return;
            }
            stream.reader = Reader::Prefix(Box::default());
        }
        let Reader::Prefix(prefix) = &mut stream.reader else { return };
        prefix.take(data);
        let full = prefix.is_full(data.side);
        self.recognise(stream, link, (full, may_be_dns), now);
    }

    /// Decides what a connection speaks, if its first bytes tell, and reads them.
    fn recognise(&mut self, stream: &mut Stream, link: &mut Link, (full, may_be_dns): (bool, bool), now: Moment) {
        let Reader::Prefix(prefix) = &mut stream.reader else { return };
        let Verdict::Is(protocol, client) = prefix.verdict(full) else { return };
        let has_hole = prefix.has_hole();
        let held = self.begin(stream, link, protocol, client, may_be_dns, has_hole);
        self.replay(held, stream, link, now);
    }

    /// Begins to read a protocol; gives back the reader before it.
    fn begin(
        &mut self,
        stream: &mut Stream,
        link: &mut Link,
        mut protocol: Protocol,
        client: Option<Side>,
        may_be_dns: bool,
        has_hole: bool,
    ) -> Reader {
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
            Protocol::Ftp => {
                self.begun.on(link);
                Reader::FtpControl(Box::new(self.desk.control(link)))
            }
            Protocol::Dns => Reader::Dns(Box::default()),
            other => {
                // What follows a hole may be the first that can be read.
                let resume = other == Protocol::Unknown && (link.mid_stream || has_hole);
                link.deaf = other != Protocol::Unknown;
                Reader::Other { protocol: other, resume, encrypted: false }
            }
        };
        if let Reader::Other { protocol: Protocol::Unknown, resume, .. } = reader {
            if self.desk.may_carry(link) {
                stream.content = Some(Box::new(Candidate::new(&self.meter)));
            } else {
                link.deaf = !resume;
            }
        }
        std::mem::replace(&mut stream.reader, reader)
    }

    /// What may turn out to be a data connection ended before it was known what it speaks.
    fn candidate(&mut self, stream: &mut Stream, now: Moment) {
        let Reader::Prefix(prefix) = &stream.reader else { return };
        let mut content = Box::new(Candidate::new(&self.meter));
        for kept in prefix.pieces() {
            let piece = match &kept.held {
                Held::Bytes(bytes) => Piece::Bytes(bytes),
                Held::Hole(length) => Piece::Lost(*length),
            };
            content.take(kept.side, piece, now.clock, &mut self.meter);
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
        for prefix::Piece { side, offset, ts, held } in prefix.into_pieces() {
            match held {
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

impl Application for Parsers {
    type State = Stream;

    fn open(&mut self, link: &mut Link, _opener: Side, _now: Moment) -> Stream {
        let reader = match self.desk.expected(link, &self.meter) {
            Some(expected) => {
                self.begun.on(link);
                Reader::FtpData(Box::new(expected))
            }
            None => Reader::Fresh,
        };
        Stream { reader, spans: Both::default(), content: None, account: Account::default() }
    }

    #[inline]
    fn data(&mut self, stream: &mut Stream, link: &mut Link, data: Data<'_>, now: Moment) {
        match &mut stream.reader {
            Reader::Other { protocol: Protocol::Unknown, resume: false, .. } => {
                stream.note(data.side, data.ts);
                if stream.content.is_none() {
                    return;
                }
                self.content(stream, data.side, Piece::Bytes(data.bytes), now);
            }
            Reader::Other { resume: false, .. } => {
                link.deaf = true;
                return;
            }
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
        self.charge(stream, link, now);
    }

    fn gap(&mut self, stream: &mut Stream, link: &mut Link, gap: Gap, now: Moment) {
        link.mid_stream = link.mid_stream || gap.offset == 0;
        match &mut stream.reader {
            Reader::Fresh => stream.note(gap.side, gap.ts),
            Reader::Prefix(prefix) => {
                prefix.lose(gap);
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
        self.charge(stream, link, now);
    }

    fn finish(&mut self, stream: &mut Stream, link: &mut Link, side: Side, now: Moment) {
        if let Reader::Http(http) = &mut stream.reader {
            let (mut context, _) = self.context(now);
            http.finish(link, side, &mut context);
            self.charge(stream, link, now);
        }
    }

    fn close(&mut self, mut stream: Stream, link: &Link, totals: &Totals, now: Moment) {
        self.accounts.charge(&mut stream.account, link.slot, 0, now.clock);
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
                if link.deaf {
                    // It was not called with the later bytes.
                    for side in [Side::Low, Side::High] {
                        if let Some((_, last)) = stream.spans.of_mut(side) {
                            *last = *totals.last_data.of(side);
                        }
                    }
                }
                let carried = *totals.bytes.of(Side::Low) + *totals.bytes.of(Side::High) > 0;
                if carried && desk.stray(link, totals, (stream.spans, stream.content), &mut context) {
                    Protocol::FtpData
                } else {
                    Protocol::Unknown
                }
            }
            Reader::Dns(_) => Protocol::Dns,
            Reader::Other { protocol, encrypted: known, .. } => {
                encrypted = known;
                protocol
            }
        };
        let server = client.peer();
        let connection = Connection { client: *link.ends.of(client), server: *link.ends.of(server) };
        let flow = Flow {
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

    fn passes_over(&self, stream: &Stream, side: Side) -> u64 {
        match &stream.reader {
            Reader::Http(http) => http.passes_over(side),
            // A download.
            Reader::FtpData(ftp) if side != ftp.client => u64::MAX,
            Reader::Other { resume: false, .. } if stream.content.is_none() => u64::MAX,
            _ => 0,
        }
    }

    fn awaits(&self, stream: &Stream, side: Side) -> bool {
        matches!(&stream.reader, Reader::Http(http) if http.awaits(side))
    }

    fn tick(&mut self, now: Moment) {
        self.desk.tick(now, &mut self.facts);
    }

    fn patience(&self, stream: &Stream) -> Patience {
        let under_way = match &stream.reader {
            // It is silent as long as a transfer takes.
            Reader::FtpControl(control) if self.desk.transfers(control) => return Patience::Endless,
            Reader::Http(http) => http.under_way(),
            Reader::Http2(http2) => http2.under_way(),
            // What was said before tells whose the next transfer is.
            Reader::FtpControl(_) | Reader::FtpData(_) | Reader::Prefix(_) => true,
            // What may be a transfer whose announcement was not seen.
            Reader::Other { .. } => stream.content.is_some(),
            Reader::Fresh | Reader::Dns(_) => false,
        };
        if under_way { Patience::Usual } else { Patience::Little }
    }

    #[inline]
    fn too_much(&mut self, now: Moment) -> Option<u32> {
        if !self.accounts.exceeded(self.desk.held()) {
            return None;
        }
        // What is over goes before what goes on.
        while self.desk.drop_over(now, &mut self.facts) {
            if !self.accounts.exceeded(self.desk.held()) {
                return None;
            }
        }
        self.accounts.first()
    }

    fn give_way(&mut self, stream: &mut Stream, link: &mut Link, seen: Timestamp, now: Moment) {
        if !self.accounts.put_back(&mut stream.account, link.slot, seen) {
            self.retire(stream, link, seen, now);
        }
    }
}
