//! HTTP/1.x on one connection (RFC 9110, RFC 9112): stream bytes in, uploads out.
//!
//! An upload is a request with at least one entity byte, whatever its method. Requests are read from the
//! client's stream and matched with responses from the server's by their order. Over a gap the reader carries
//! on by arithmetic where a length is known, and otherwise looks for the next message.

mod body;
mod disposition;
mod ending;
pub(super) mod exchange;
mod handover;
pub(super) mod head;
mod loss;
mod multipart;
mod uri;

use std::collections::VecDeque;

use self::body::{Chunk, Framing, Step};
pub(crate) use self::disposition::last_part;
use self::exchange::Exchange;
use self::handover::{Offer, Switch, Waiting};
use self::head::{RequestHead, begins_request, take_head};
use super::{Context, Fact, http2, websocket};
use crate::flow::{Both, Data, Link, Side};
use crate::net::Timestamp;
use crate::record::{Note, Protocol};

/// Where one direction's reader stands.
#[derive(Debug)]
enum Reader {
    /// Collecting a head.
    Head(Vec<u8>),
    /// In a body.
    Body(Framing),
    /// The place is lost: waiting for a message to begin at the start of a segment.
    Lost,
    /// Behind a CONNECT or an upgrade: what comes next tells who reads on.
    Switch(Switch),
    /// The direction went over to HTTP/2.
    Http2,
    /// The direction went over to WebSocket.
    WebSocket(websocket::Frames),
    /// No longer HTTP, and not read: a tunnel or an unknown protocol.
    Opaque,
}

impl Reader {
    const FRESH: Self = Self::Head(Vec::new());
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Connection {
    client: Side,
    request: Reader,
    response: Reader,
    /// Requests without their final response, oldest first; the last may still be receiving its body.
    queue: VecDeque<Exchange>,
    /// Bytes that the exchanges in the queue hold beside themselves.
    exchanges: usize,
    /// The newest exchange's body is still coming.
    receiving: bool,
    /// What the newest request may make of the connection.
    offer: Option<Offer>,
    /// Final responses that came before their request was read: status, place, time.
    early: VecDeque<(u16, u64, Timestamp)>,
    /// When the message began that each side's head is collected of.
    begun: Both<Timestamp>,
    /// A gap may have swallowed requests.
    requests_lost: bool,
    /// Bytes behind a head with `Expect` that may be its body or another request, as long as they do not tell.
    undecided: Vec<u8>,
    /// How far each stream was read.
    position: Both<u64>,
    /// A response that came before its request, with what follows it.
    waiting: Option<Box<Waiting>>,
    /// Responses no longer wait: too much came behind one, and no request at all.
    unasked: bool,
    /// The host that a CONNECT opened a tunnel to.
    tunnel: Option<String>,
    http2: Option<Box<http2::Connection>>,
    /// What the flow turned out to be in the end.
    pub(super) protocol: Protocol,
    /// A tunnel carries TLS.
    pub(super) encrypted: bool,
}

/// The most early responses remembered: the tap may deliver the two directions out of step, but not by more.
const MOST_EARLY: usize = 64;

impl Connection {
    pub(super) fn new(client: Side) -> Self {
        Self {
            client,
            request: Reader::FRESH,
            response: Reader::FRESH,
            queue: VecDeque::new(),
            exchanges: 0,
            receiving: false,
            offer: None,
            early: VecDeque::new(),
            begun: Both::default(),
            requests_lost: false,
            undecided: Vec::new(),
            position: Both::default(),
            waiting: None,
            unasked: false,
            tunnel: None,
            http2: None,
            protocol: Protocol::Http,
            encrypted: false,
        }
    }

    /// How many of a side's next bytes are only counted: the rest of a response's body, and what is no longer HTTP.
    pub(super) fn passes_over(&self, side: Side) -> u64 {
        let answers = side != self.client;
        match if answers { &self.response } else { &self.request } {
            _ if answers && self.waiting.is_some() => 0,
            Reader::Body(framing) if answers => framing.left(),
            Reader::Opaque => u64::MAX,
            _ => 0,
        }
    }

    /// Whether the side is in the middle of an upload.
    pub(super) fn awaits(&self, side: Side) -> bool {
        side == self.client && self.receiving
    }

    /// Whether an upload is under way, or waits for its answer, or a request's head is.
    pub(super) fn under_way(&self) -> bool {
        let begun = matches!(&self.request, Reader::Head(collected) if !collected.is_empty());
        let uploads = || self.queue.iter().any(|exchange| exchange.in_flight.is_some());
        let http2 = || self.http2.as_ref().is_some_and(|http2| http2.under_way());
        begun || !self.undecided.is_empty() || self.waiting.is_some() || uploads() || http2()
    }

    /// Takes stream bytes.
    pub(super) fn data(&mut self, link: &Link, data: Data<'_>, context: &mut Context<'_>) {
        *self.position.of_mut(data.side) = data.offset + data.bytes.len() as u64;
        if data.side == self.client {
            self.client_data(link, data, context);
        } else {
            self.server_data(link, data, context);
        }
    }

    fn client_data(&mut self, link: &Link, data: Data<'_>, context: &mut Context<'_>) {
        if !self.undecided.is_empty() {
            let mut joined = std::mem::take(&mut self.undecided);
            let offset = data.offset - joined.len() as u64;
            joined.extend_from_slice(data.bytes);
            return self.client_data(link, Data { offset, bytes: &joined, ..data }, context);
        }
        let mut bytes = data.bytes;
        while !bytes.is_empty() {
            let at = data.offset + (data.bytes.len() - bytes.len()) as u64;
            match &mut self.request {
                Reader::Opaque => return,
                Reader::Switch(_) => self.client_switch(link, at, data.ts, &mut bytes, context),
                Reader::Http2 => {
                    self.http2_data(link, Data { offset: at, bytes, ..data }, context);
                    return;
                }
                Reader::WebSocket(_) => self.websocket_data(link, at, data.ts, &mut bytes, context),
                Reader::Lost => {
                    if begins_request(bytes) != Some(true) {
                        return;
                    }
                    context.counters.http_resynchronised += 1;
                    self.request = Reader::FRESH;
                }
                Reader::Head(_) => {
                    if !self.request_head(link, at, data.ts, &mut bytes, context) {
                        return;
                    }
                }
                Reader::Body(_) => self.request_body(link, at, data.ts, &mut bytes, context),
            }
        }
    }

    /// Collects a request's head; false if there is nothing more to do with these bytes.
    fn request_head(
        &mut self,
        link: &Link,
        at: u64,
        ts: Timestamp,
        bytes: &mut &[u8],
        context: &mut Context<'_>,
    ) -> bool {
        let Reader::Head(collected) = &mut self.request else { return false };
        if collected.is_empty() {
            // Empty lines before a request line are passed over (RFC 9112 section 2.2).
            let blank = bytes.iter().take_while(|b| **b == b'\r' || **b == b'\n').count();
            *bytes = bytes.get(blank..).unwrap_or_default();
            if bytes.is_empty() {
                return false;
            }
            *self.begun.of_mut(self.client) = ts;
        }
        let here = bytes.len();
        let whole = take_head(collected, bytes).map(|head| (head::request(head), head.len()));
        let Some((head, length)) = whole else {
            if collected.len() as u64 > context.limits.max_head.0 {
                context.counters.http_heads_too_long += 1;
                self.request = Reader::Lost;
            }
            return false;
        };
        match head {
            Some(head) => {
                let end = at + (here - bytes.len()) as u64;
                self.begin(link, head, end.saturating_sub(length as u64), end, ts, context);
                true
            }
            None => {
                context.counters.http_unparsed += 1;
                self.request = Reader::Lost;
                false
            }
        }
    }

    /// A request's head was read: what follows it?
    fn begin(
        &mut self,
        link: &Link,
        head: RequestHead,
        start: u64,
        end: u64,
        ts: Timestamp,
        context: &mut Context<'_>,
    ) {
        context.counters.http_requests += 1;
        let fields = &head.fields;
        // Transfer-Encoding overrides Content-Length (RFC 9112 section 6.3).
        let framing = match (fields.chunked, fields.length) {
            (true, _) => Some(Framing::Chunked(Chunk::START)),
            (false, Some(length)) if length > 0 => Some(Framing::Length(length)),
            _ => None,
        };
        let offer = Offer::of(&head);
        let has_body = framing.is_some();
        let tunnel = self.tunnel_of(&head);
        // A request for a WebSocket is not over until the client has gone over to it, or to another request.
        self.receiving = has_body || offer == Some(Offer::WebSocket);
        // Of a request that has no body and offers nothing, only the method tells anything later on.
        let plain = !self.receiving && offer.is_none();
        let head = if plain { RequestHead { method: head.method, ..RequestHead::default() } } else { head };
        let mut exchange = Exchange::new(link, head, start, end, ts, context.limits);
        exchange.tunnel = tunnel;
        exchange.asked = *self.begun.of(self.client);
        if self.receiving {
            context.begun.on(link);
            exchange.in_flight = Some(context.in_flight.http());
        }
        exchange.complete = !self.receiving;
        while let Some((status, at, ts)) = self.early.pop_front() {
            if self.may_answer(link, &exchange, ts) {
                exchange.respond(status, at);
                break;
            }
            context.counters.http_unasked += 1;
        }
        self.request = match framing {
            Some(framing) => Reader::Body(framing),
            None => Reader::after(offer),
        };
        self.offer = offer;
        self.recharge();
        if self.queue.capacity() == 0 {
            // Few connections ever have more than one at a time, and an exchange is large.
            self.queue.reserve_exact(1);
        }
        self.queue.push_back(exchange);
        if self.queue.len() as u64 > context.limits.max_pending.max(1) {
            context.counters.http_pending_dropped += 1;
            if let Some(oldest) = self.queue.pop_front() {
                self.exchanges = self.exchanges.saturating_sub(oldest.charged());
                let (client_bytes, server_bytes) = (oldest.end_offset, *self.position.of(self.client.peer()));
                oldest.report(link, client_bytes, server_bytes, context);
            }
        }
        self.report_finished(link, context);
        self.release(link, context);
    }

    fn request_body(&mut self, link: &Link, at: u64, ts: Timestamp, bytes: &mut &[u8], context: &mut Context<'_>) {
        let Reader::Body(framing) = &mut self.request else { return };
        let Some(exchange) = self.queue.back_mut() else {
            self.request = Reader::Lost;
            return;
        };
        if exchange.refused_before_body() {
            match begins_request(bytes) {
                Some(true) => {
                    // After a refused `Expect` the body never comes; the next bytes are a new request.
                    exchange.complete = true;
                    exchange.abandoned = true;
                    self.receiving = false;
                    self.request = Reader::FRESH;
                    self.report_finished(link, context);
                    return;
                }
                None if framing.exceeds(bytes.len() as u64) => {
                    self.undecided = bytes.to_vec();
                    *bytes = &[];
                    return;
                }
                _ => {}
            }
        }
        let before = bytes.len();
        let step = framing.step(bytes);
        let used = (before - bytes.len()) as u64;
        match step {
            Step::Entity(entity) => {
                exchange.entity(entity, ts, context);
                exchange.end_offset = at + used;
                if exchange.passes(context.limits.running_report.0) {
                    exchange.report_running(link, context);
                }
                if framing.is_done() {
                    self.end_body(link, at + used, context);
                }
            }
            Step::Framing => exchange.end_offset = at + used,
            Step::End => self.end_body(link, at + used, context),
            Step::Broken => {
                exchange.note(Note::BadChunk);
                context.counters.http_bad_chunks += 1;
                exchange.broken = true;
                exchange.complete = true;
                self.receiving = false;
                self.request = Reader::Lost;
                *bytes = &[];
                self.report_finished(link, context);
            }
        }
    }

    fn end_body(&mut self, link: &Link, at: u64, context: &mut Context<'_>) {
        if let Some(exchange) = self.queue.back_mut() {
            exchange.end_offset = at;
            exchange.complete = true;
            exchange.end_files(context);
        }
        self.receiving = false;
        self.request = Reader::after(self.offer);
        self.report_finished(link, context);
    }

    fn server_data(&mut self, link: &Link, data: Data<'_>, context: &mut Context<'_>) {
        let mut bytes = data.bytes;
        while !bytes.is_empty() {
            if let Some(waiting) = &mut self.waiting {
                if !waiting.hold(bytes, data.ts) {
                    self.give_up_waiting(link, context);
                    continue;
                }
                return;
            }
            let at = data.offset + (data.bytes.len() - bytes.len()) as u64;
            match &mut self.response {
                Reader::Opaque | Reader::WebSocket(_) => return,
                Reader::Switch(_) => self.server_switch(link, at, data.ts, &mut bytes, context),
                Reader::Http2 => {
                    self.http2_data(link, Data { offset: at, bytes, ..data }, context);
                    return;
                }
                Reader::Lost => {
                    if !bytes.starts_with(b"HTTP/1.") {
                        return;
                    }
                    self.response = Reader::FRESH;
                }
                Reader::Body(framing) => match framing.step(&mut bytes) {
                    Step::Entity(_) => {
                        if framing.is_done() {
                            self.response = Reader::FRESH;
                        }
                    }
                    Step::Framing => {}
                    Step::End => self.response = Reader::FRESH,
                    Step::Broken => {
                        self.lose_response(context);
                        return;
                    }
                },
                Reader::Head(collected) => {
                    if collected.is_empty() {
                        let blank = bytes.iter().take_while(|b| **b == b'\r' || **b == b'\n').count();
                        bytes = bytes.get(blank..).unwrap_or_default();
                        if bytes.is_empty() {
                            return;
                        }
                        let shown = bytes.len().min(7);
                        if bytes.get(..shown) != b"HTTP/1.".get(..shown) {
                            // No response: an answer of HTTP/0.9 or another protocol.
                            self.lose_response(context);
                            return;
                        }
                        *self.begun.of_mut(data.side) = data.ts;
                    }
                    let Some(head) = take_head(collected, &mut bytes).map(head::response) else {
                        if collected.len() as u64 > context.limits.max_head.0 {
                            context.counters.http_heads_too_long += 1;
                            self.response = Reader::Lost;
                        }
                        return;
                    };
                    let behind = data.offset + (data.bytes.len() - bytes.len()) as u64;
                    let begun = *self.begun.of(data.side);
                    match head {
                        Some(head) if self.must_wait() => {
                            self.response = Reader::FRESH;
                            self.waiting = Some(Box::new(Waiting::new(head, behind, begun)));
                        }
                        Some(head) => self.respond(link, head, behind, begun, context),
                        None => {
                            context.counters.http_unparsed += 1;
                            self.response = Reader::Lost;
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Gives a final response to the oldest request that has none.
    fn answer(&mut self, status: u16, at: u64, ts: Timestamp) {
        match self.queue.iter_mut().find(|e| e.status.is_none()) {
            Some(exchange) => exchange.respond(status, at),
            None if self.early.len() < MOST_EARLY => self.early.push_back((status, at, ts)),
            None => {}
        }
    }

    /// Whether a response that began at `ts` can be the request's. Where requests were missed, one that was sent before
    /// the request is the answer to one of those; elsewhere order alone tells, whatever the clocks of the tap.
    fn may_answer(&self, link: &Link, exchange: &Exchange, ts: Timestamp) -> bool {
        !(link.mid_stream || self.requests_lost) || exchange.asked <= ts
    }

    /// The server's stream cannot be followed until the next response begins.
    fn lose_response(&mut self, context: &mut Context<'_>) {
        context.counters.http_responses_lost += 1;
        self.response = Reader::Lost;
    }

    /// No more bytes come that could tell what the undecided ones are: they count as the body.
    fn decide(&mut self, link: &Link, ts: Timestamp, context: &mut Context<'_>) {
        let bytes = std::mem::take(&mut self.undecided);
        if let Some(exchange) = self.queue.back_mut().filter(|_| !bytes.is_empty()) {
            exchange.body_comes();
            let offset = self.position.of(self.client) - bytes.len() as u64;
            self.client_data(link, Data { side: self.client, offset, ts, bytes: &bytes }, context);
        }
    }

    /// A side sent its FIN.
    pub(super) fn finish(&mut self, link: &Link, side: Side, context: &mut Context<'_>) {
        if side == self.client.peer() && matches!(self.response, Reader::Body(Framing::UntilClose)) {
            self.response = Reader::Opaque;
        }
        if side == self.client && matches!(self.request, Reader::WebSocket(_)) {
            let at = *self.position.of(side);
            self.end_exchange(link, at, context);
            self.request = Reader::Opaque;
        }
        self.report_finished(link, context);
    }

    /// Reports, in order, what has both its body and its answer.
    fn report_finished(&mut self, link: &Link, context: &mut Context<'_>) {
        while let Some(first) = self.queue.front() {
            if !first.complete || first.status.is_none() {
                break;
            }
            let Some(exchange) = self.queue.pop_front() else { break };
            self.exchanges = self.exchanges.saturating_sub(exchange.charged());
            let (client_bytes, server_bytes) = (exchange.end_offset, exchange.response_end);
            self.see_off(&exchange);
            exchange.report(link, client_bytes, server_bytes, context);
        }
    }
}

impl Reader {
    /// What reads on behind a request.
    fn after(offer: Option<Offer>) -> Self {
        offer.map_or(Self::FRESH, |offer| Self::Switch(Switch::new(offer)))
    }
}

impl Context<'_> {
    fn upload(&mut self, upload: crate::record::Upload) {
        self.facts.push((self.now, Fact::Upload(Box::new(upload))));
    }
}
