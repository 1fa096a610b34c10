//! Where HTTP/1.x ends: behind a CONNECT (RFC 9110 section 9.3.6) and behind an upgrade (section 7.8).
//!
//! Each direction tells by its own bytes who reads on, so that nothing depends on how the tap interleaved the two:
//! a request that was refused is followed by another request, one that was granted by the first bytes of what
//! was asked for. Requests inside a tunnel are read as if it were not there, but for the host they go to.

use super::body::{Chunk, Framing};
use super::exchange::Exchange;
use super::head::{RequestHead, ResponseHead, begins_request};
use super::{Connection, Reader, uri};
use crate::flow::{Data, Gap, Link};
use crate::net::Timestamp;
use crate::protocol::http2::frame::{PREFACE, begins_settings};
use crate::protocol::{Context, http2, websocket};
use crate::record::Protocol;

/// The most bytes that are kept to tell who reads on.
const LONGEST_SWITCH: usize = 8192;
/// The most bytes that are kept behind a response whose request was not read yet: a tap may deliver the two
/// directions out of step, but not by much.
const LONGEST_WAIT: usize = 8192;

/// What a request may make of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// CONNECT: anything.
    Tunnel,
    /// `Upgrade: h2c` (RFC 7540 section 3.2).
    Http2,
    /// `Upgrade: websocket` (RFC 6455 section 4.1).
    WebSocket,
    /// Another upgrade.
    Other,
}

impl Offer {
    pub(super) fn of(head: &RequestHead) -> Option<Self> {
        if head.method == "CONNECT" {
            return Some(Self::Tunnel);
        }
        match Self::named(head.fields.upgrade.as_deref()?) {
            Self::WebSocket if head.method != "GET" => Some(Self::Other),
            offer => Some(offer),
        }
    }

    /// `Upgrade: h2c`, or a list.
    fn named(field: &str) -> Self {
        let known = field.split(',').find_map(|token| match token.trim() {
            token if token.eq_ignore_ascii_case("websocket") => Some(Self::WebSocket),
            token if token.eq_ignore_ascii_case("h2c") => Some(Self::Http2),
            _ => None,
        });
        known.unwrap_or(Self::Other)
    }
}

/// The first bytes behind a request or response that may end HTTP/1.x, kept until they tell.
#[derive(Debug)]
pub(super) struct Switch {
    offer: Offer,
    bytes: Vec<u8>,
}

/// Who reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Http,
    Http2,
    WebSocket,
    Opaque,
}

impl Switch {
    pub(super) fn new(offer: Offer) -> Self {
        Self { offer, bytes: Vec::new() }
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        self.bytes.capacity()
    }

    fn tell_client(&self, bytes: &[u8]) -> Option<Next> {
        if bytes.starts_with(PREFACE) {
            return Some(Next::Http2);
        }
        if PREFACE.starts_with(bytes) {
            return None;
        }
        let blank = bytes.iter().take_while(|b| **b == b'\r' || **b == b'\n').count();
        match begins_request(bytes.get(blank..).unwrap_or_default()) {
            Some(true) => Some(Next::Http),
            // A client's frames are masked, which no letter of a method is.
            Some(false) if self.offer == Offer::WebSocket => Some(Next::WebSocket),
            Some(false) => Some(Next::Opaque),
            None => None,
        }
    }

    fn tell_server(bytes: &[u8]) -> Option<Next> {
        const RESPONSE: &[u8] = b"HTTP/1.";
        if bytes.starts_with(RESPONSE) {
            return Some(Next::Http);
        }
        match begins_settings(bytes) {
            _ if RESPONSE.starts_with(bytes) => None,
            Some(true) => Some(Next::Http2),
            Some(false) => Some(Next::Opaque),
            None => None,
        }
    }

    /// Takes bytes and asks `tell` who reads on; with the answer come the bytes that were kept before.
    fn take(&mut self, bytes: &[u8], tell: impl Fn(&Self, &[u8]) -> Option<Next>) -> Option<(Next, Vec<u8>)> {
        let next = match self.bytes.is_empty() {
            true => tell(self, bytes),
            false => tell(self, &[self.bytes.as_slice(), bytes].concat()),
        };
        let full = self.bytes.len() + bytes.len() > LONGEST_SWITCH;
        if let Some(next) = next.or(full.then_some(Next::Opaque)) {
            return Some((next, std::mem::take(&mut self.bytes)));
        }
        self.bytes.extend_from_slice(bytes);
        None
    }
}

/// A final response whose request was not read yet, and what follows it.
#[derive(Debug)]
pub(super) struct Waiting {
    head: ResponseHead,
    /// Stream offset behind the head.
    at: u64,
    ts: Timestamp,
    rest: Vec<u8>,
    /// The times of its stretches, and where in it each ends.
    times: Vec<(Timestamp, usize)>,
}

impl Waiting {
    pub(super) fn new(head: ResponseHead, at: u64, ts: Timestamp) -> Self {
        Self { head, at, ts, rest: Vec::new(), times: Vec::new() }
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        let times = self.times.capacity() * size_of::<(Timestamp, usize)>();
        size_of::<Self>() + self.head.fields.weight() + self.rest.capacity() + times
    }

    /// Keeps what follows; false if it is too much.
    pub(super) fn hold(&mut self, bytes: &[u8], ts: Timestamp) -> bool {
        let fits = self.rest.len() + bytes.len() <= LONGEST_WAIT;
        if fits {
            self.rest.extend_from_slice(bytes);
            match self.times.last_mut() {
                Some((last, end)) if *last == ts => *end = self.rest.len(),
                _ => self.times.push((ts, self.rest.len())),
            }
        }
        fits
    }
}

impl Connection {
    /// A response's head was read: whose is it, and what follows it?
    pub(super) fn respond(
        &mut self,
        link: &Link,
        head: ResponseHead,
        at: u64,
        ts: Timestamp,
        context: &mut Context<'_>,
    ) {
        self.response = Reader::FRESH;
        let asked = self.queue.iter().find(|e| e.status.is_none());
        if asked.is_some_and(|exchange| !self.may_answer(link, exchange, ts)) {
            // The answer to a request that was not seen.
            context.counters.http_unasked += u64::from(head.status >= 200);
            if head.status >= 200 {
                self.response = Self::body_of(&head, "");
            }
            return;
        }
        if head.status == 101 {
            match head.fields.upgrade.as_deref().map(Offer::named).or(self.offer) {
                Some(Offer::Http2) => {
                    // The answer itself comes on stream 1.
                    if let Some(exchange) = self.queue.iter_mut().find(|e| e.status.is_none()) {
                        exchange.interim = true;
                    }
                    self.begin_http2(Offer::Http2);
                    self.response = Reader::Http2;
                }
                offer => {
                    if offer == Some(Offer::WebSocket) {
                        self.protocol = Protocol::WebSocket;
                    }
                    self.answer(head.status, at, ts);
                    self.response = Reader::Opaque;
                    self.report_finished(link, context);
                }
            }
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
        self.answer(head.status, at, ts);
        self.response = Self::body_of(&head, &asked.unwrap_or_default());
        self.report_finished(link, context);
    }

    /// What follows a final response to a request with this method.
    fn body_of(head: &ResponseHead, method: &str) -> Reader {
        let bodiless = method == "HEAD" || matches!(head.status, 204 | 304);
        let fields = &head.fields;
        match (bodiless, fields.chunked, fields.length) {
            _ if method == "CONNECT" && (200..300).contains(&head.status) => Reader::after(Some(Offer::Tunnel)),
            (true, ..) => Reader::FRESH,
            (_, true, _) => Reader::Body(Framing::Chunked(Chunk::START)),
            (_, _, Some(0)) => Reader::FRESH,
            (_, _, Some(length)) => Reader::Body(Framing::Length(length)),
            _ => Reader::Body(Framing::UntilClose),
        }
    }

    /// Whether a response came before its request, which may yet be read.
    pub(super) fn must_wait(&self) -> bool {
        let reads = matches!(self.request, Reader::Head(_) | Reader::Body(_) | Reader::Switch(_));
        reads && !self.unasked && self.queue.iter().all(|exchange| exchange.status.is_some())
    }

    /// A request was read: the response that waited for it goes on.
    pub(super) fn release(&mut self, link: &Link, context: &mut Context<'_>) {
        let Some(waiting) = self.waiting.take() else { return };
        let Waiting { head, at, ts, rest, times } = *waiting;
        self.respond(link, head, at, ts, context);
        let mut begin = 0;
        for (ts, end) in times {
            let bytes = rest.get(begin..end).unwrap_or_default();
            let offset = at + begin as u64;
            self.server_data(link, Data { side: self.client.peer(), offset, ts, bytes }, context);
            begin = end;
        }
    }

    /// The request of a waiting response is not to be had.
    pub(super) fn give_up_waiting(&mut self, link: &Link, context: &mut Context<'_>) {
        if self.waiting.is_some() {
            self.unasked = true;
            self.release(link, context);
            // Where no request was ever seen, none is worth waiting for.
            self.unasked = *self.position.of(self.client) == 0;
        }
    }

    /// Behind a CONNECT or an upgrade, on the client's side.
    pub(super) fn client_switch(
        &mut self,
        link: &Link,
        at: u64,
        ts: Timestamp,
        bytes: &mut &[u8],
        context: &mut Context<'_>,
    ) {
        let Reader::Switch(switch) = &mut self.request else { return };
        let offer = switch.offer;
        let Some((next, kept)) = switch.take(bytes, Switch::tell_client) else {
            *bytes = &[];
            return;
        };
        let start = at.saturating_sub(kept.len() as u64);
        self.request = match next {
            Next::Http => Reader::FRESH,
            Next::Http2 => {
                self.begin_http2(offer);
                Reader::Http2
            }
            Next::WebSocket => {
                self.protocol = Protocol::WebSocket;
                if let Some(exchange) = self.queue.back_mut() {
                    exchange.protocol = Protocol::WebSocket;
                }
                Reader::WebSocket(websocket::Frames::default())
            }
            Next::Opaque => {
                let first = kept.first().or(bytes.first());
                self.encrypted |= offer == Offer::Tunnel && first == Some(&TLS_HANDSHAKE);
                Reader::Opaque
            }
        };
        if next != Next::WebSocket {
            self.end_exchange(link, start, context);
        }
        if !kept.is_empty() {
            let whole = [kept.as_slice(), bytes].concat();
            *bytes = &[];
            self.client_data(link, Data { side: self.client, offset: start, ts, bytes: &whole }, context);
        }
    }

    /// Behind the answer to a CONNECT, on the server's side.
    pub(super) fn server_switch(
        &mut self,
        link: &Link,
        at: u64,
        ts: Timestamp,
        bytes: &mut &[u8],
        context: &mut Context<'_>,
    ) {
        let Reader::Switch(switch) = &mut self.response else { return };
        let Some((next, kept)) = switch.take(bytes, |_, bytes| Switch::tell_server(bytes)) else {
            *bytes = &[];
            return;
        };
        self.response = match next {
            Next::Http => Reader::FRESH,
            Next::Http2 => {
                self.begin_http2(Offer::Tunnel);
                Reader::Http2
            }
            Next::WebSocket | Next::Opaque => Reader::Opaque,
        };
        if !kept.is_empty() {
            let whole = [kept.as_slice(), bytes].concat();
            let offset = at.saturating_sub(kept.len() as u64);
            *bytes = &[];
            self.server_data(link, Data { side: self.client.peer(), offset, ts, bytes: &whole }, context);
        }
    }

    fn begin_http2(&mut self, offer: Offer) {
        self.protocol = Protocol::Http2;
        let (client, tunnel) = (self.client, &self.tunnel);
        self.http2.get_or_insert_with(|| {
            Box::new(match offer {
                Offer::Http2 => http2::Connection::upgraded(client),
                _ => http2::Connection::new(client, tunnel.clone()),
            })
        });
    }

    /// Passes bytes on to HTTP/2.
    pub(super) fn http2_data(&mut self, link: &Link, data: Data<'_>, context: &mut Context<'_>) {
        let Some(http2) = &mut self.http2 else { return };
        http2.data(link, data, context);
        if let Some((status, at)) = http2.take_first_answer() {
            // Stream 1 is the request itself: no other can be meant.
            self.answer(status, at, data.ts);
            self.report_finished(link, context);
        }
    }

    /// Passes a gap on to HTTP/2.
    pub(super) fn http2_gap(&mut self, link: &Link, gap: Gap, context: &mut Context<'_>) {
        if let Some(http2) = &mut self.http2 {
            http2.gap(link, gap, context);
        }
    }

    /// Reads the client's WebSocket frames.
    pub(super) fn websocket_data(
        &mut self,
        link: &Link,
        at: u64,
        ts: Timestamp,
        bytes: &mut &[u8],
        context: &mut Context<'_>,
    ) {
        let before = bytes.len();
        while let (Reader::WebSocket(frames), Some(exchange)) = (&mut self.request, self.queue.back_mut()) {
            let event = frames.next(bytes);
            let read = at + (before - bytes.len()) as u64;
            exchange.end_offset = read;
            match event {
                Some(websocket::Event::Payload(payload)) => {
                    exchange.volume(payload.len() as u64, ts);
                    if exchange.passes(context.limits.running_report.0) {
                        exchange.report_running(link, context);
                    }
                }
                Some(end) => {
                    if end == websocket::Event::Broken {
                        context.counters.websocket_lost += 1;
                        exchange.broken = true;
                    }
                    self.request = Reader::Opaque;
                    self.end_exchange(link, read, context);
                }
                None => return,
            }
        }
        *bytes = &[];
    }

    /// Passes over lost bytes of the client's WebSocket.
    pub(super) fn websocket_gap(
        &mut self,
        link: &Link,
        mut frames: websocket::Frames,
        gap: Gap,
        context: &mut Context<'_>,
    ) {
        let Some(exchange) = self.queue.back_mut() else { return };
        let mut left = gap.length;
        while let Some((taken, payload)) = frames.skip(left) {
            exchange.volume_lost(payload, gap.ts);
            left -= taken;
        }
        exchange.end_offset = gap.offset + gap.length - left;
        if left == 0 {
            self.request = Reader::WebSocket(frames);
            return;
        }
        context.counters.websocket_lost += 1;
        exchange.broken = true;
        self.request = Reader::Opaque;
        self.end_exchange(link, gap.offset + gap.length - left, context);
    }

    /// The newest request, if it was still going on, ends here.
    pub(super) fn end_exchange(&mut self, link: &Link, at: u64, context: &mut Context<'_>) {
        if std::mem::take(&mut self.receiving)
            && let Some(exchange) = self.queue.back_mut()
        {
            exchange.end_offset = at;
            exchange.complete = true;
            exchange.end_files(context);
            self.report_finished(link, context);
        }
    }

    /// The tunnel that a request goes through, if it is in one: a proxy itself is sent whole URIs.
    pub(super) fn tunnel_of(&mut self, head: &RequestHead) -> Option<String> {
        if head.method == "CONNECT" {
            self.tunnel = uri::host_of(&head.target);
            return None;
        }
        let direct = head.target.starts_with(['/', '*']);
        self.tunnel.clone().filter(|_| direct)
    }

    /// A request leaves the queue: if it was a CONNECT that was refused, those behind it are in no tunnel.
    pub(super) fn see_off(&mut self, exchange: &Exchange) {
        let refused = exchange.status.is_some_and(|status| !(200..300).contains(&status));
        if exchange.method != "CONNECT" || !refused {
            return;
        }
        for next in &mut self.queue {
            if next.method == "CONNECT" {
                return;
            }
            next.tunnel = None;
        }
        self.tunnel = None;
    }
}

/// The type of TLS's first record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
