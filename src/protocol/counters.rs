//! What became of what was read, in numbers.

use super::content::FileCounters;
use super::ftp::FtpCounters;

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
    /// Times that the reader lost its place in a server's stream.
    pub http_responses_lost: u64,
    /// Responses to requests that were not seen.
    pub http_unasked: u64,
    /// Times that the reader of requests found its place again.
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
    /// Connections that were no longer read, for want of memory.
    pub retired: u64,
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
        self.http_responses_lost += other.http_responses_lost;
        self.http_unasked += other.http_unasked;
        self.http_resynchronised += other.http_resynchronised;
        self.http_pending_dropped += other.http_pending_dropped;
        self.http_abandoned += other.http_abandoned;
        self.http2_lost += other.http2_lost;
        self.http2_unparsed += other.http2_unparsed;
        self.websocket_lost += other.websocket_lost;
        self.dns_names += other.dns_names;
        self.dns_unparsed += other.dns_unparsed;
        self.retired += other.retired;
        self.ftp.add(&other.ftp);
        self.files.add(&other.files);
    }
}
