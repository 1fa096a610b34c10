//! One request with its body and its answer, and the upload that it makes.

use super::disposition;
use super::head::RequestHead;
use super::multipart::Multipart;
use super::uri;
use crate::config;
use crate::flow::Link;
use crate::net::{Timestamp, without_passwords};
use crate::protocol::Context;
use crate::protocol::account::text;
use crate::protocol::content::{Content, Ending, Piece};
use crate::protocol::in_flight::InFlight;
use crate::record::{Body, EventId, FileInfo, Http, NotHashed, Note, Protocol, State, Upload};

/// The longest text that is kept of a request's target or of a header field.
const LONGEST_TEXT: usize = 4096;

/// A request under way.
#[derive(Debug)]
pub(in crate::protocol) struct Exchange {
    pub(in crate::protocol) method: String,
    target: String,
    version: String,
    domain: Option<String>,
    proxied_to: Option<String>,
    user_agent: Option<String>,
    /// A file that the request as a whole is: a name from its own Content-Disposition or Slug.
    file: Option<FileInfo>,
    multipart: Option<Box<Multipart>>,
    content_type: Option<String>,
    /// In lower case; `identity` is none.
    content_encoding: Option<String>,
    /// The length that was announced.
    announced: Option<u64>,
    /// What the body tells, unless it is multipart; from its first byte on.
    content: Option<Box<Content>>,
    expects_continue: bool,
    /// Stream offset of the request's first byte.
    start_offset: u64,
    /// Stream offset behind the last byte read so far.
    pub(in crate::protocol) end_offset: u64,
    /// When its head began.
    pub(in crate::protocol) asked: Timestamp,
    start: Timestamp,
    end: Timestamp,
    bytes: u64,
    missing: u64,
    /// The body has ended, or there is none.
    pub(in crate::protocol) complete: bool,
    /// The connection ended within the body.
    pub(in crate::protocol) cut_short: bool,
    /// The body's framing was lost or broken.
    pub(in crate::protocol) broken: bool,
    /// The body was announced but refused, and never sent.
    pub(in crate::protocol) abandoned: bool,
    /// A `100 Continue` or another interim response was seen.
    pub(in crate::protocol) interim: bool,
    pub(in crate::protocol) status: Option<u16>,
    /// Stream offset behind the final response's head.
    pub(in crate::protocol) response_end: u64,
    notes: Vec<Note>,
    running: bool,
    pub(in crate::protocol) protocol: Protocol,
    /// The host that a CONNECT before it opened a tunnel to; it goes before the request's own.
    pub(in crate::protocol) tunnel: Option<String>,
    /// Where it may be an upload.
    pub(in crate::protocol) in_flight: Option<InFlight>,
    /// Bytes of its texts.
    texts: usize,
    /// What it held when that was last told.
    charged: usize,
}

impl Exchange {
    pub(in crate::protocol) fn new(
        link: &Link,
        head: RequestHead,
        start_offset: u64,
        end_offset: u64,
        ts: Timestamp,
        limits: &config::Protocol,
    ) -> Self {
        let fields = head.fields;
        let mut notes = Vec::new();
        if fields.chunked && fields.length.is_some() {
            notes.push(Note::LengthAndChunked);
        }
        if fields.several_lengths {
            notes.push(Note::SeveralLengths);
        }
        if fields.bad_length {
            notes.push(Note::BadLength);
        }
        if link.mid_stream {
            notes.push(Note::MidStream);
        }
        let content_type = fields.content_type.map(shorten);
        let max_files = usize::try_from(limits.max_files).unwrap_or(usize::MAX);
        let multipart = content_type.as_deref().and_then(|t| Multipart::new(t, max_files)).map(Box::new);
        let name = fields.content_disposition.as_deref().and_then(disposition::file_name);
        let name = name.or_else(|| fields.slug.as_deref().map(|s| disposition::last_part(s).to_owned()));
        let file = name.map(|name| {
            let (name, mime_type) = (Some(shorten(name)), content_type.clone());
            FileInfo { name, mime_type, ..FileInfo::default() }
        });
        let content_encoding = fields.content_encoding.map(|e| shorten(e.trim().to_ascii_lowercase()));
        let mut exchange = Self {
            proxied_to: uri::proxied_to(&head.target),
            domain: uri::domain(&head.target, fields.host.as_deref()),
            target: shorten(without_passwords(&head.target).into_owned()),
            method: head.method,
            version: head.version,
            user_agent: fields.user_agent.map(|agent| shorten(without_passwords(&agent).into_owned())),
            file,
            multipart,
            content_type,
            content_encoding: content_encoding.filter(|e| !e.is_empty() && e != "identity"),
            announced: fields.length.filter(|_| !fields.chunked),
            content: None,
            expects_continue: fields.expects_continue,
            start_offset,
            end_offset,
            asked: ts,
            start: ts,
            end: ts,
            bytes: 0,
            missing: 0,
            complete: false,
            cut_short: false,
            broken: false,
            abandoned: false,
            interim: false,
            status: None,
            response_end: 0,
            notes,
            running: false,
            protocol: Protocol::Http,
            in_flight: None,
            tunnel: None,
            texts: 0,
            charged: 0,
        };
        exchange.texts = exchange.measured_texts();
        exchange
    }

    fn measured_texts(&self) -> usize {
        let file = self.file.as_ref().map_or(0, |file| text(&file.name) + text(&file.mime_type));
        let optional = [&self.domain, &self.proxied_to, &self.user_agent, &self.content_type, &self.content_encoding];
        let optional: usize = optional.into_iter().map(text).sum();
        self.method.capacity() + self.target.capacity() + self.version.capacity() + optional + file
    }

    /// Bytes that it holds, beside itself: when last told, and now.
    pub(in crate::protocol) fn recharge(&mut self) -> (usize, usize) {
        let content = if self.content.is_some() { Content::WEIGHT } else { 0 };
        let multipart = self.multipart.as_ref().map_or(0, |multipart| multipart.weight());
        let now = self.texts + text(&self.tunnel) + content + multipart;
        (std::mem::replace(&mut self.charged, now), now)
    }

    /// What it held when that was last told.
    pub(in crate::protocol) fn charged(&self) -> usize {
        self.charged
    }

    /// Whether the body was asked for with `Expect: 100-continue`, no byte of it came, and no `100` was given:
    /// then what comes next may be another request.
    pub(in crate::protocol) fn refused_before_body(&self) -> bool {
        self.expects_continue && self.bytes == 0 && !self.interim
    }

    /// What follows the head is the body, whatever it looks like.
    pub(super) fn body_comes(&mut self) {
        self.expects_continue = false;
    }

    /// Takes entity bytes.
    pub(in crate::protocol) fn entity(&mut self, bytes: &[u8], ts: Timestamp, context: &mut Context<'_>) {
        self.volume(bytes.len() as u64, ts);
        if let Some(multipart) = &mut self.multipart {
            multipart.take(Piece::Bytes(bytes), context.now.clock, context.meter);
        } else {
            self.content(Piece::Bytes(bytes), context);
        }
    }

    /// Counts bytes; alone where the content tells nothing as it stands, because it is masked.
    pub(in crate::protocol) fn volume(&mut self, length: u64, ts: Timestamp) {
        if self.bytes == 0 {
            self.start = ts;
        }
        self.end = self.end.max(ts);
        self.bytes += length;
    }

    fn content(&mut self, piece: Piece<'_>, context: &mut Context<'_>) {
        let (announced, encoding, meter) = (self.announced, &self.content_encoding, &mut *context.meter);
        let content = self.content.get_or_insert_with(|| {
            Box::new(match encoding {
                Some(encoding) => Content::encoded(encoding, announced, meter),
                None => Content::plain(announced, meter),
            })
        });
        content.take(piece, context.now.clock, meter);
    }

    /// Takes entity bytes that the tap lost.
    pub(in crate::protocol) fn gap(&mut self, length: u64, ts: Timestamp, context: &mut Context<'_>) {
        if length == 0 {
            return;
        }
        self.volume_lost(length, ts);
        if let Some(multipart) = &mut self.multipart {
            multipart.take(Piece::Lost(length), context.now.clock, context.meter);
        } else {
            self.content(Piece::Lost(length), context);
        }
    }

    /// Counts bytes that the tap lost.
    pub(in crate::protocol) fn volume_lost(&mut self, length: u64, ts: Timestamp) {
        if length > 0 {
            self.volume(length, ts);
            self.missing += length;
            self.note(Note::Gap);
        }
    }

    pub(in crate::protocol) fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub(in crate::protocol) fn respond(&mut self, status: u16, at: u64) {
        self.status = Some(status);
        self.response_end = at;
    }

    /// A WebSocket opens with 101, or with a 2xx where HTTP/2 carries it (RFC 8441 section 5).
    fn refused_upgrade(&self) -> bool {
        self.status.is_some_and(|status| status != 101 && !(200..300).contains(&status))
    }

    /// The body has ended, whole or not.
    pub(in crate::protocol) fn end_files(&mut self, context: &mut Context<'_>) {
        if let Some(multipart) = &mut self.multipart {
            multipart.end(context.now.clock, context.meter);
        }
        if let Some(content) = &mut self.content {
            content.end(context.meter);
        }
    }

    /// Whether the upload has just passed the size at which it is reported while it runs.
    pub(in crate::protocol) fn passes(&self, threshold: u64) -> bool {
        !self.running && self.bytes >= threshold && !self.is_no_websocket()
    }

    /// What followed a request for a WebSocket was none, whatever it was.
    fn is_no_websocket(&self) -> bool {
        self.protocol == Protocol::WebSocket && self.refused_upgrade()
    }

    /// Reports the upload while it runs.
    pub(in crate::protocol) fn report_running(&mut self, link: &Link, context: &mut Context<'_>) {
        self.running = true;
        let upload = self.upload(link, self.end_offset, self.response_end, State::Running);
        context.upload(upload);
    }

    /// Reports the upload, if there is one.
    pub(in crate::protocol) fn report(
        mut self,
        link: &Link,
        client_bytes: u64,
        server_bytes: u64,
        context: &mut Context<'_>,
    ) {
        if self.bytes == 0 {
            context.counters.http_abandoned += u64::from(self.abandoned);
            return;
        }
        if self.is_no_websocket() {
            context.counters.http_unparsed += 1;
            if !self.running {
                return;
            }
            // It was told of before the refusal came; its record must not stay open.
            self.broken = true;
        }
        let whole = self.complete && !self.cut_short && !self.broken && self.missing == 0;
        let state = if whole { State::Complete } else { State::Partial };
        let upload = self.upload(link, client_bytes, server_bytes, state);
        context.upload(upload);
    }

    fn upload(&self, link: &Link, client_bytes: u64, server_bytes: u64, state: State) -> Upload {
        let connection = link.connection();
        let mut notes = self.notes.clone();
        if link.conflict {
            notes.push(Note::ConflictingOverlap);
        }
        if !link.client_known && !notes.contains(&Note::MidStream) {
            notes.push(Note::MidStream);
        }
        if self.cut_short && state != State::Running {
            notes.push(Note::CutShort);
        }
        if self.broken && !notes.contains(&Note::BadChunk) && !notes.contains(&Note::Retired) {
            notes.push(Note::PlaceLost);
        }
        let mut files = Vec::new();
        let mut body = Body { content_encoding: self.content_encoding.clone(), ..Body::default() };
        if let Some(file) = &self.file {
            files.push(FileInfo { size: Some(self.bytes), missing: self.missing, ..file.clone() });
        }
        if let Some(content) = &self.content {
            let facts = content.facts(match state {
                State::Running => Ending::Running,
                _ if self.complete && !self.cut_short && !self.broken => Ending::Whole,
                _ => Ending::CutShort,
            });
            facts.describe_decoding(&mut body);
            match files.first_mut() {
                Some(file) if self.content_encoding.is_some() => {
                    facts.describe_other(NotHashed::Encoded, file, &mut body);
                }
                Some(file) => facts.describe(file),
                None => facts.describe_body(self.path_of_put(), self.content_type.as_deref(), &mut body),
            }
        }
        if self.protocol == Protocol::WebSocket && self.content.is_none() {
            // Its bytes are masked.
            body.not_hashed = Some(NotHashed::Encoded);
        }
        if let Some(multipart) = &self.multipart {
            if multipart.unlisted > 0 {
                notes.push(Note::FilesNotListed);
            }
            if multipart.lost() {
                notes.push(Note::MultipartLost);
            }
            files.extend(multipart.files.iter().cloned());
        }
        notes.sort_unstable();
        notes.dedup();
        // The host that a tunnel leads to goes before what is said inside, which need not be true.
        let tunnelled_name = self.tunnel.as_ref().filter(|host| host.parse::<std::net::IpAddr>().is_err());
        Upload {
            id: EventId::new("http", connection, link.start, self.start_offset),
            connection,
            wrapping: link.wrapping(),
            protocol: self.protocol,
            opened: link.start,
            start: self.start,
            end: self.end,
            client_bytes,
            server_bytes,
            bytes: self.bytes,
            missing: self.missing,
            state,
            domain: tunnelled_name.cloned().or_else(|| self.domain.clone()),
            proxied_to: self.proxied_to.clone().or_else(|| self.tunnel.clone()),
            domain_source: Default::default(),
            http: Some(Http {
                version: self.version.clone(),
                method: self.method.clone(),
                url: self.target.clone(),
                user_agent: self.user_agent.clone(),
                status: self.status,
            }),
            ftp: None,
            files,
            body,
            notes,
        }
    }

    /// The path that a PUT gives its body as a name; other methods' paths name what takes the body.
    fn path_of_put(&self) -> Option<&str> {
        let path = self.target.split(['?', '#']).next()?;
        (self.method == "PUT").then(|| disposition::last_part(path))
    }
}

/// Cuts a text at a bound, at a character's edge.
fn shorten(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let mut end = LONGEST_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
