//! HTTP/1.x on one connection (RFC 9110, RFC 9112): stream bytes in, uploads out.
//!
//! An upload is a request with at least one entity byte, whatever its method. Requests are read from the
//! client's stream and matched with responses from the server's by their order. Over a gap the reader carries
//! on by arithmetic where a length is known, and otherwise looks for the next message.

mod body;
mod disposition;
mod exchange;
pub(super) mod head;
mod multipart;
mod uri;

use std::collections::VecDeque;

use self::body::{Chunk, Framing, Step};
pub(crate) use self::disposition::last_part;
use self::exchange::Exchange;
use self::head::{RequestHead, ResponseHead, begins_request, end_of_head};
use super::{Context, Fact};
use crate::flow::{Both, Data, Gap, Link, Side, Totals};
use crate::net::Timestamp;
use crate::record::Note;

/// Where one direction's reader stands.
#[derive(Debug)]
enum Reader {
    /// Collecting a head.
    Head(Vec<u8>),
    /// In a body.
    Body(Framing),
    /// The place is lost: waiting for a message to begin at the start of a segment.
    Lost,
    /// No longer HTTP/1.x: a tunnel or an upgraded protocol.
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
    /// The newest exchange's body is still coming.
    receiving: bool,
    /// Final responses that came before their request was read; how many.
    early: VecDeque<(u16, u64)>,
    /// Bytes behind a head with `Expect` that may be its body or another request, as long as they do not tell.
    undecided: Vec<u8>,
    /// How far each stream was read.
    position: Both<u64>,
    /// What CONNECT or an upgrade turned the connection into.
    pub(super) tunnel: bool,
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
            receiving: false,
            early: VecDeque::new(),
            undecided: Vec::new(),
            position: Both::default(),
            tunnel: false,
        }
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
        }
        let before = collected.len();
        let whole = match before {
            // The whole head in one segment needs no copy.
            0 => match end_of_head(bytes, 0) {
                Some(end) => {
                    let (head, rest) = bytes.split_at(end);
                    *bytes = rest;
                    Some((head::request(head), at + end as u64, head.len()))
                }
                None => {
                    collected.extend_from_slice(bytes);
                    None
                }
            },
            _ => {
                collected.extend_from_slice(bytes);
                match end_of_head(collected, before) {
                    Some(end) => {
                        let used = end.saturating_sub(before);
                        *bytes = bytes.get(used..).unwrap_or_default();
                        let head = head::request(collected.get(..end).unwrap_or_default());
                        Some((head, at + used as u64, end))
                    }
                    None => None,
                }
            }
        };
        let Some((head, end, length)) = whole else {
            if collected.len() as u64 > context.limits.max_head.0 {
                context.counters.http_heads_too_long += 1;
                self.request = Reader::Lost;
            }
            return false;
        };
        match head {
            Some(head) => {
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
        let connect = head.method == "CONNECT";
        let has_body = framing.is_some();
        let mut exchange = Exchange::new(link, head, start, end, ts, context.limits);
        self.receiving = has_body;
        exchange.complete = !has_body;
        if let Some((status, at)) = self.early.pop_front() {
            exchange.respond(status, at);
        }
        self.request = match framing {
            Some(framing) => Reader::Body(framing),
            None if connect => Reader::Opaque,
            None => Reader::FRESH,
        };
        self.queue.push_back(exchange);
        if self.queue.len() as u64 > context.limits.max_pending.max(1) {
            context.counters.http_pending_dropped += 1;
            if let Some(oldest) = self.queue.pop_front() {
                let position = self.position;
                oldest.report(link, *position.of(self.client), *position.of(self.client.peer()), context);
            }
        }
        self.report_finished(link, context);
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
        self.request = Reader::FRESH;
        self.report_finished(link, context);
    }

    fn server_data(&mut self, link: &Link, data: Data<'_>, context: &mut Context<'_>) {
        let mut bytes = data.bytes;
        while !bytes.is_empty() {
            match &mut self.response {
                Reader::Opaque => return,
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
                        self.response = Reader::Lost;
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
                            self.response = Reader::Lost;
                            return;
                        }
                    }
                    let before = collected.len();
                    collected.extend_from_slice(bytes);
                    let Some(end) = end_of_head(collected, before) else {
                        if collected.len() as u64 > context.limits.max_head.0 {
                            context.counters.http_heads_too_long += 1;
                            self.response = Reader::Lost;
                        }
                        return;
                    };
                    let used = end.saturating_sub(before);
                    bytes = bytes.get(used..).unwrap_or_default();
                    let behind = data.offset + (data.bytes.len() - bytes.len()) as u64;
                    match head::response(collected.get(..end).unwrap_or_default()) {
                        Some(head) => self.respond(link, head, behind, context),
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

    /// A response's head was read: whose is it, and what follows it?
    fn respond(&mut self, link: &Link, head: ResponseHead, at: u64, context: &mut Context<'_>) {
        self.response = Reader::FRESH;
        if head.status == 101 {
            self.tunnel = true;
            self.answer(head.status, at);
            self.response = Reader::Opaque;
            if !self.receiving {
                self.request = Reader::Opaque;
            }
            self.report_finished(link, context);
            return;
        }
        if head.status < 200 {
            // An interim response; there may be several, each with its own head (RFC 9110 section 15.2).
            if let Some(exchange) = self.queue.iter_mut().find(|e| e.status.is_none()) {
                exchange.interim = true;
            }
            return;
        }
        let asked = self.queue.iter().find(|e| e.status.is_none()).map(|e| e.method.clone());
        self.answer(head.status, at);
        let method = asked.unwrap_or_default();
        let bodiless = method == "HEAD" || matches!(head.status, 204 | 304);
        if method == "CONNECT" {
            if (200..300).contains(&head.status) {
                self.tunnel = true;
                self.response = Reader::Opaque;
                self.request = Reader::Opaque;
                self.report_finished(link, context);
                return;
            }
            if matches!(self.request, Reader::Opaque) {
                self.request = Reader::FRESH;
            }
        }
        let fields = &head.fields;
        self.response = match (bodiless, fields.chunked, fields.length) {
            (true, ..) => Reader::FRESH,
            (_, true, _) => Reader::Body(Framing::Chunked(Chunk::START)),
            (_, _, Some(0)) => Reader::FRESH,
            (_, _, Some(length)) => Reader::Body(Framing::Length(length)),
            _ => Reader::Body(Framing::UntilClose),
        };
        self.report_finished(link, context);
    }

    /// Gives a final response to the oldest request that has none.
    fn answer(&mut self, status: u16, at: u64) {
        match self.queue.iter_mut().find(|e| e.status.is_none()) {
            Some(exchange) => exchange.respond(status, at),
            None if self.early.len() < MOST_EARLY => self.early.push_back((status, at)),
            None => {}
        }
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

    /// Passes over lost stream bytes.
    pub(super) fn gap(&mut self, link: &Link, gap: Gap, context: &mut Context<'_>) {
        if gap.side == self.client {
            self.decide(link, gap.ts, context);
        }
        *self.position.of_mut(gap.side) = gap.offset + gap.length;
        if gap.side != self.client {
            self.response = match std::mem::replace(&mut self.response, Reader::Lost) {
                Reader::Body(mut framing) => match framing.skip(gap.length) {
                    Some((_, 0)) if framing.is_done() => Reader::FRESH,
                    Some((_, 0)) => Reader::Body(framing),
                    _ => Reader::Lost,
                },
                Reader::Opaque => Reader::Opaque,
                _ => Reader::Lost,
            };
            return;
        }
        match std::mem::replace(&mut self.request, Reader::Lost) {
            Reader::Opaque => self.request = Reader::Opaque,
            Reader::Body(mut framing) => {
                let Some(exchange) = self.queue.back_mut() else { return };
                let certain = framing.certain(gap.length);
                match framing.skip(gap.length) {
                    Some((entity, behind)) => {
                        exchange.gap(entity, gap.ts, context);
                        exchange.end_offset = gap.offset + entity;
                        if exchange.passes(context.limits.running_report.0) {
                            exchange.report_running(link, context);
                        }
                        if framing.is_done() {
                            self.end_body(link, gap.offset + entity, context);
                            if behind > 0 {
                                context.counters.http_lost += 1;
                                self.request = Reader::Lost;
                            }
                        } else {
                            self.request = Reader::Body(framing);
                        }
                    }
                    None => {
                        // The gap swallowed framing: what is certain is counted, the rest is not guessed.
                        context.counters.http_lost += 1;
                        exchange.gap(certain, gap.ts, context);
                        exchange.end_offset = gap.offset + certain;
                        exchange.broken = true;
                        exchange.complete = true;
                        exchange.end_files(context);
                        self.receiving = false;
                        self.report_finished(link, context);
                    }
                }
            }
            Reader::Head(_) | Reader::Lost => context.counters.http_lost += 1,
        }
    }

    /// A side sent its FIN.
    pub(super) fn finish(&mut self, link: &Link, side: Side, context: &mut Context<'_>) {
        if side == self.client.peer() && matches!(self.response, Reader::Body(Framing::UntilClose)) {
            self.response = Reader::Opaque;
        }
        self.report_finished(link, context);
    }

    /// The connection is over: whatever is pending is reported as far as it came.
    pub(super) fn close(mut self, link: &Link, totals: &Totals, context: &mut Context<'_>) {
        let server_bytes = *totals.bytes.of(self.client.peer());
        self.decide(link, totals.end, context);
        if self.receiving
            && let Some(exchange) = self.queue.back_mut()
        {
            exchange.cut_short = true;
            exchange.end_files(context);
        }
        while let Some(exchange) = self.queue.pop_front() {
            let client_bytes = exchange.end_offset;
            exchange.report(link, client_bytes, server_bytes, context);
        }
    }

    /// Reports, in order, what has both its body and its answer.
    fn report_finished(&mut self, link: &Link, context: &mut Context<'_>) {
        while let Some(first) = self.queue.front() {
            if !first.complete || first.status.is_none() {
                break;
            }
            let Some(exchange) = self.queue.pop_front() else { break };
            let (client_bytes, server_bytes) = (exchange.end_offset, exchange.response_end);
            exchange.report(link, client_bytes, server_bytes, context);
        }
    }
}

impl Context<'_> {
    fn upload(&mut self, upload: crate::record::Upload) {
        self.facts.push((self.now, Fact::Upload(Box::new(upload))));
    }
}
