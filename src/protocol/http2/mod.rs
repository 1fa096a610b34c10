//! HTTP/2 in the clear on one connection (RFC 9113): stream bytes in, uploads out.
//!
//! An upload is a request with at least one byte in its DATA frames. The two directions are read apart, and what
//! they say of a stream meets here in whatever order the tap delivered it. A gap inside a DATA frame is passed over
//! by arithmetic; one that swallows a frame's head, or a part of a header block, ends what can be known.

pub(super) mod frame;
mod headers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::frame::{Event, Frames};
use self::headers::{Broken, Headers};
use super::account::text;
use super::http::exchange::Exchange;
use super::http::head::RequestHead;
use super::{Context, websocket};
use crate::flow::{Data, Gap, Link, Side, Totals};
use crate::net::Timestamp;
use crate::record::{Note, Protocol};

/// One connection's state.
#[derive(Debug)]
pub(super) struct Connection {
    client: Side,
    /// The host that a CONNECT opened this connection to.
    tunnel: Option<String>,
    requests: Direction,
    responses: Direction,
    /// Requests that are not reported yet.
    streams: BTreeMap<u32, Stream>,
    /// Bytes that their exchanges hold beside themselves.
    exchanges: usize,
    /// What the server said of requests that were not read yet.
    early: BTreeMap<u32, Answer>,
    /// The newest stream that the client has opened.
    newest: u32,
    /// Streams beyond the first number get no answer, as from the second, a place in the server's stream: the
    /// server said so, or its direction is lost. The numbers fall.
    stops: Vec<(u32, u64)>,
    /// The request of stream 1 came as HTTP/1.1 (RFC 7540 section 3.2); its answer, until it is fetched.
    upgraded: bool,
    first_answer: Option<(u16, u64)>,
}

#[derive(Debug)]
struct Direction {
    frames: Frames,
    /// `None` once a header block was lost: later ones refer to a table that is not known.
    headers: Option<Headers>,
}

/// A request.
#[derive(Debug)]
struct Stream {
    exchange: Exchange,
    body: Body,
    /// Nothing more comes from the client.
    ended: bool,
    /// Where in its stream the server has reset it.
    reset: Option<u64>,
}

/// What a stream's DATA frames carry.
#[derive(Debug)]
enum Body {
    Entity,
    /// A WebSocket (RFC 8441).
    WebSocket(websocket::Frames),
    /// Bytes for another host, which are not HTTP (RFC 9113 section 8.5).
    Tunnel,
}

/// What the server said of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    /// Its final status, and where the header block ends.
    status: Option<(u16, u64)>,
    /// Where it was reset.
    reset: Option<u64>,
}

/// The most places kept at which the server stopped answering; it has no reason to say so more than twice.
const MOST_STOPS: usize = 8;

impl Direction {
    fn new(client: bool) -> Self {
        Self { frames: Frames::new(client), headers: Some(Headers::new()) }
    }

    fn weight(&self) -> usize {
        self.frames.weight() + self.headers.as_ref().map_or(0, Headers::weight)
    }
}

impl Connection {
    /// Whether an upload is under way, or waits for its answer.
    pub(super) fn under_way(&self) -> bool {
        self.streams.values().any(|stream| stream.exchange.in_flight.is_some())
    }

    /// By prior knowledge, perhaps in a tunnel to a host.
    pub(super) fn new(client: Side, tunnel: Option<String>) -> Self {
        Self {
            client,
            tunnel,
            requests: Direction::new(true),
            responses: Direction::new(false),
            streams: BTreeMap::new(),
            exchanges: 0,
            early: BTreeMap::new(),
            newest: 0,
            stops: Vec::new(),
            upgraded: false,
            first_answer: None,
        }
    }

    /// By `Upgrade: h2c`: stream 1 is the request that asked for it.
    pub(super) fn upgraded(client: Side) -> Self {
        Self { upgraded: true, newest: 1, ..Self::new(client, None) }
    }

    /// The answer to the request that asked for the upgrade, once.
    pub(super) fn take_first_answer(&mut self) -> Option<(u16, u64)> {
        self.first_answer.take()
    }

    fn direction(&mut self, side: Side) -> &mut Direction {
        if side == self.client { &mut self.requests } else { &mut self.responses }
    }

    /// Takes stream bytes.
    pub(super) fn data(&mut self, link: &Link, data: Data<'_>, context: &mut Context<'_>) {
        let most = usize::try_from(context.limits.max_head.0).unwrap_or(usize::MAX);
        let mut bytes = data.bytes;
        while let Some(event) = self.direction(data.side).frames.next(&mut bytes, most) {
            let at = data.offset + (data.bytes.len() - bytes.len()) as u64;
            self.event(link, data.side, event, at, data.ts, context);
        }
    }

    /// Passes over lost stream bytes.
    pub(super) fn gap(&mut self, link: &Link, gap: Gap, context: &mut Context<'_>) {
        let mut left = gap.length;
        while left > 0 {
            let Some(skipped) = self.direction(gap.side).frames.skip(left) else {
                if !self.direction(gap.side).frames.is_lost() {
                    context.counters.http2_lost += 1;
                    self.lose(link, gap.side, gap.offset + gap.length - left, context);
                }
                return;
            };
            left -= skipped.taken;
            let at = gap.offset + gap.length - left;
            if let Some(stream) = skipped.body
                && gap.side == self.client
            {
                self.body_gap(link, stream, skipped.taken, at, gap.ts, context);
            }
            if skipped.headers {
                context.counters.http2_lost += 1;
                self.lose_headers(link, gap.side, at, context);
            }
            // What ends here needs no further byte to tell.
            self.data(link, Data { side: gap.side, offset: at, ts: gap.ts, bytes: &[] }, context);
        }
    }

    fn event(&mut self, link: &Link, side: Side, event: Event<'_>, at: u64, ts: Timestamp, context: &mut Context<'_>) {
        let from_client = side == self.client;
        match event {
            Event::Data { stream, bytes } if from_client => self.body(link, stream, bytes, at, ts, context),
            Event::End { stream } if from_client => self.end(link, stream, at, context),
            Event::Reset { stream } if from_client => self.cancel(link, stream, context),
            Event::Reset { stream } => self.answer(link, stream, Answer { reset: Some(at), status: None }, context),
            Event::GoAway { last } if !from_client => self.stop_waiting(link, last, at, context),
            Event::Data { .. } | Event::End { .. } | Event::GoAway { .. } => {}
            Event::Headers { stream, own, end, block } => {
                let Some(head) = self.decode(link, side, &block, at, context) else { return };
                match (own, from_client) {
                    (true, true) => self.request(link, stream, head, end, at, block.len(), ts, context),
                    // A status below 200 is not the last one.
                    (true, false) => {
                        if let Some(status @ 200..) = head.status {
                            self.answer(link, stream, Answer { status: Some((status, at)), reset: None }, context);
                        }
                    }
                    (false, _) => {}
                }
            }
            Event::TooLong => {
                context.counters.http_heads_too_long += 1;
                self.lose_headers(link, side, at, context);
            }
            Event::Broken => {
                context.counters.http2_unparsed += 1;
                self.lose(link, side, at, context);
            }
        }
    }

    fn decode(&mut self, link: &Link, side: Side, block: &[u8], at: u64, context: &mut Context<'_>) -> Option<Head> {
        let most = usize::try_from(context.limits.max_head.0).unwrap_or(usize::MAX);
        let mut head = Head::default();
        let decoded = self.direction(side).headers.as_mut()?.decode(block, most, |name, value| head.add(name, value));
        match decoded {
            Ok(()) => return Some(head),
            Err(Broken::TooLong) => context.counters.http_heads_too_long += 1,
            Err(Broken::Syntax) => context.counters.http2_unparsed += 1,
        }
        self.lose_headers(link, side, at, context);
        None
    }

    /// A header block from the client: a new request, or the trailers of one.
    #[expect(clippy::too_many_arguments, reason = "what a frame is, and where it lies")]
    fn request(
        &mut self,
        link: &Link,
        id: u32,
        head: Head,
        end: bool,
        at: u64,
        length: usize,
        ts: Timestamp,
        context: &mut Context<'_>,
    ) {
        if id <= self.newest {
            if end {
                self.end(link, id, at, context);
            }
            return;
        }
        context.counters.http_requests += 1;
        self.newest = id;
        // The server's word on streams between, which were never opened, is of no use.
        let answer = self.early.remove(&id);
        self.early = self.early.split_off(&id);
        if end || head.request.method.is_empty() {
            return;
        }
        let body = match (head.request.method.as_str(), head.websocket) {
            ("CONNECT", true) => Body::WebSocket(websocket::Frames::default()),
            ("CONNECT", false) => Body::Tunnel,
            _ => Body::Entity,
        };
        let start = at.saturating_sub(length as u64);
        context.begun.on(link);
        let mut exchange = Exchange::new(link, head.request, start, at, ts, context.limits);
        exchange.in_flight = Some(context.in_flight.http());
        exchange.tunnel.clone_from(&self.tunnel);
        if matches!(body, Body::WebSocket(_)) {
            exchange.protocol = Protocol::WebSocket;
        }
        let (_, held) = exchange.recharge();
        self.exchanges += held;
        self.streams.insert(id, Stream { exchange, body, ended: false, reset: None });
        if let Some(answer) = answer {
            self.answer(link, id, answer, context);
        }
        if self.streams.len() as u64 > context.limits.max_pending.max(1)
            && let Some((_, mut oldest)) = self.streams.pop_first()
        {
            self.exchanges = self.exchanges.saturating_sub(oldest.exchange.charged());
            oldest.exchange.end_files(context);
            context.counters.http_pending_dropped += 1;
            oldest.report(link, None, context);
        }
    }

    fn body(&mut self, link: &Link, id: u32, bytes: &[u8], at: u64, ts: Timestamp, context: &mut Context<'_>) {
        let Some(Stream { exchange, body, ended: false, .. }) = self.streams.get_mut(&id) else { return };
        exchange.end_offset = at;
        match body {
            Body::Entity => exchange.entity(bytes, ts, context),
            Body::Tunnel => {}
            Body::WebSocket(frames) => {
                let mut bytes = bytes;
                while let Some(event) = frames.next(&mut bytes) {
                    match event {
                        websocket::Event::Payload(payload) => exchange.volume(payload.len() as u64, ts),
                        websocket::Event::Close => {}
                        websocket::Event::Broken => {
                            context.counters.websocket_lost += 1;
                            exchange.broken = true;
                        }
                    }
                }
            }
        }
        if exchange.passes(context.limits.running_report.0) {
            exchange.report_running(link, context);
        }
        let (before, now) = exchange.recharge();
        self.exchanges = (self.exchanges + now).saturating_sub(before);
    }

    fn body_gap(&mut self, link: &Link, id: u32, length: u64, at: u64, ts: Timestamp, context: &mut Context<'_>) {
        let Some(Stream { exchange, body, ended: false, .. }) = self.streams.get_mut(&id) else { return };
        exchange.end_offset = at;
        match body {
            Body::Entity => exchange.gap(length, ts, context),
            Body::Tunnel => {}
            Body::WebSocket(frames) => {
                let mut left = length;
                while let Some((taken, payload)) = frames.skip(left) {
                    exchange.volume_lost(payload, ts);
                    left -= taken;
                }
                if left > 0 {
                    context.counters.websocket_lost += 1;
                    exchange.broken = true;
                    *body = Body::Tunnel;
                }
            }
        }
        if exchange.passes(context.limits.running_report.0) {
            exchange.report_running(link, context);
        }
    }

    /// The client has ended a stream.
    fn end(&mut self, link: &Link, id: u32, at: u64, context: &mut Context<'_>) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.ended
        {
            stream.ended = true;
            stream.exchange.end_offset = at;
            stream.exchange.complete = true;
            stream.exchange.end_files(context);
        }
        self.settle(link, id, context);
    }

    /// The client gives a stream up. What it had not ended is cut short.
    fn cancel(&mut self, link: &Link, id: u32, context: &mut Context<'_>) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.ended
        {
            stream.ended = true;
            stream.exchange.cut_short = true;
            stream.exchange.end_files(context);
        }
        self.settle(link, id, context);
    }

    /// The server's word on a stream. The first status counts, and nothing behind a reset.
    fn answer(&mut self, link: &Link, id: u32, answer: Answer, context: &mut Context<'_>) {
        if id == 1 && self.upgraded {
            if let Some(first) = answer.status {
                self.first_answer.get_or_insert(first);
            }
        } else if let Some(stream) = self.streams.get_mut(&id) {
            if let Some((status, at)) = answer.status
                && stream.exchange.status.is_none()
                && stream.reset.is_none()
            {
                stream.exchange.respond(status, at);
            }
            stream.reset = stream.reset.or(answer.reset);
            self.settle(link, id, context);
        } else if id > self.newest && id % 2 == 1 {
            let known = self.early.entry(id).or_default();
            if known.reset.is_none() {
                known.status = known.status.or(answer.status);
            }
            known.reset = known.reset.or(answer.reset);
            if self.early.len() as u64 > context.limits.max_pending.max(1) {
                self.early.pop_first();
            }
        }
    }

    /// Streams beyond the last one will not be answered.
    fn stop_waiting(&mut self, link: &Link, last: u32, at: u64, context: &mut Context<'_>) {
        let lower = self.stops.last().is_none_or(|(before, _)| last < *before);
        if lower && (self.stops.len() < MOST_STOPS || last == 0) {
            self.stops.push((last, at));
            self.settle_all(link, context);
        }
    }

    /// A header block is lost: no request, or no status, can be read from now on.
    fn lose_headers(&mut self, link: &Link, side: Side, at: u64, context: &mut Context<'_>) {
        self.direction(side).headers = None;
        if side != self.client {
            self.stop_waiting(link, 0, at, context);
        }
    }

    /// The framing is lost: nothing more can be read from this side.
    fn lose(&mut self, link: &Link, side: Side, at: u64, context: &mut Context<'_>) {
        let direction = self.direction(side);
        direction.frames.lose();
        direction.headers = None;
        if side != self.client {
            self.stop_waiting(link, 0, at, context);
            return;
        }
        for stream in self.streams.values_mut().filter(|stream| !stream.ended) {
            stream.ended = true;
            stream.exchange.broken = true;
            stream.exchange.complete = true;
            stream.exchange.end_files(context);
        }
        self.settle_all(link, context);
    }

    fn settle_all(&mut self, link: &Link, context: &mut Context<'_>) {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            self.settle(link, id, context);
        }
    }

    /// Reports a stream that has both its body and its answer, or gets none.
    fn settle(&mut self, link: &Link, id: u32, context: &mut Context<'_>) {
        let Some(stream) = self.streams.get(&id) else { return };
        let stop = self.stops.iter().find(|(last, _)| id > *last).map(|(_, at)| *at);
        if stream.ended
            && (stream.exchange.status.is_some() || stream.reset.is_some() || stop.is_some())
            && let Some(mut stream) = self.streams.remove(&id)
        {
            self.exchanges = self.exchanges.saturating_sub(stream.exchange.charged());
            if stream.exchange.status.is_none() {
                let silent = [stream.reset, stop].into_iter().flatten().min();
                stream.exchange.response_end = silent.unwrap_or_default();
            }
            stream.report(link, None, context);
        }
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        let directions = self.requests.weight() + self.responses.weight();
        // The nodes of a tree that grows at its end are half full.
        let streams = 2 * self.streams.len() * size_of::<Stream>() + self.exchanges;
        let early = 2 * self.early.len() * size_of::<(u32, Answer)>();
        size_of::<Self>() + text(&self.tunnel) + directions + streams + early
    }

    /// The connection is no longer read: whatever is pending is reported as far as it came.
    pub(super) fn retire(self, link: &Link, context: &mut Context<'_>) {
        for (_, mut stream) in self.streams {
            if !stream.ended {
                stream.exchange.broken = true;
                stream.exchange.end_files(context);
            }
            stream.exchange.note(Note::Retired);
            stream.report(link, None, context);
        }
    }

    /// The connection is over: whatever is pending is reported as far as it came.
    pub(super) fn close(self, link: &Link, totals: &Totals, context: &mut Context<'_>) {
        let server_bytes = *totals.bytes.of(self.client.peer());
        for (_, mut stream) in self.streams {
            if !stream.ended {
                stream.exchange.cut_short = true;
                if stream.reset.is_some() && stream.exchange.status.is_some() {
                    stream.exchange.note(Note::EarlyResponse);
                }
                stream.exchange.end_files(context);
            }
            stream.report(link, Some(server_bytes), context);
        }
    }
}

impl Stream {
    fn report(self, link: &Link, server_bytes: Option<u64>, context: &mut Context<'_>) {
        let (client, server) = (self.exchange.end_offset, server_bytes.unwrap_or(self.exchange.response_end));
        self.exchange.report(link, client, server, context);
    }
}

/// What a header block says, of either direction.
#[derive(Debug, Default)]
struct Head {
    request: RequestHead,
    status: Option<u16>,
    websocket: bool,
}

impl Head {
    /// Takes a field; those whose names begin with a colon stand for the first line (RFC 9113 section 8.3).
    fn add(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b":method" => self.request.method = text(),
            b":path" => self.request.target = text(),
            b":authority" => self.request.fields.host = Some(text()),
            b":status" => self.status = std::str::from_utf8(value).ok().and_then(|status| status.parse().ok()),
            b":protocol" => self.websocket = value == b"websocket",
            [b':', ..] => {}
            _ => {
                if let Ok(name) = std::str::from_utf8(name) {
                    self.request.fields.add(name.as_bytes(), value);
                }
            }
        }
        if self.request.version.is_empty() {
            self.request.version.push('2');
        }
    }
}
