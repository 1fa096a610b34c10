//! The upload record: one per application-level transfer from client to server.

use std::net::IpAddr;

use super::{Archive, Body, Carved, Connection, EventId, NotHashed, Protocol, Wrapping};
use crate::net::{Endpoint, Timestamp};

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Reported early, past the size threshold; a later record with the same id completes it.
    Running,
    /// Its end was seen.
    Complete,
    /// It was cut short, or the capture ended first, or bytes of it are missing.
    Partial,
}

impl State {
    /// The value of `outfall.upload.state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Partial => "partial",
        }
    }
}

/// One file of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// The last part of the path or name that the client gave.
    pub name: Option<String>,
    /// The full path on the server, where the protocol tells it.
    pub path: Option<String>,
    /// Bytes of the file; absent while unknown, and where another number of bytes may have gone over the wire.
    pub size: Option<u64>,
    /// Of `size`, how many the tap did not deliver.
    pub missing: u64,
    /// Lower-case hexadecimal, only of a file without a gap.
    pub sha256: Option<String>,
    /// Why there is no hash, if there is none and the content was a candidate for one.
    pub not_hashed: Option<NotHashed>,
    /// The file itself, where it was asked for and has a hash; no part of its document.
    pub carved: Option<Carved>,
    /// The declared media type.
    pub mime_type: Option<String>,
    /// The media type that the leading bytes show.
    pub detected_type: Option<&'static str>,
    /// The leading bytes contradict the declared type or the name's extension.
    pub type_mismatch: bool,
    /// Set for an archive, a compressed or an encrypted file.
    pub archive: Option<Archive>,
}

/// What is particular to HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// `1.0`, `1.1`.
    pub version: String,
    /// The method, as sent.
    pub method: String,
    /// The request target, as sent, with any password taken out.
    pub url: String,
    /// The User-Agent header.
    pub user_agent: Option<String>,
    /// The final status, if the response was seen.
    pub status: Option<u16>,
}

/// Where a destination's name comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DomainSource {
    /// The request itself names it.
    #[default]
    Request,
    /// A DNS answer to the client, seen on the wire.
    Dns,
}

impl DomainSource {
    /// The value of `outfall.upload.domain_source`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Dns => "dns",
        }
    }
}

/// How an FTP data connection was tied to its command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Binding {
    /// The address announced by PASV, EPSV, PORT or EPRT.
    #[default]
    Announced,
    /// The announced port, at the control peer's address: the announced address was wrong (NAT).
    Port,
    /// The same two hosts at the right time: the announcement was not seen.
    Time,
    /// The announced address, at a third host: the two servers sent to each other (FXP).
    ThirdHost,
    /// No data connection was seen.
    None,
}

impl Binding {
    /// The value of `outfall.ftp.binding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Port => "port",
            Self::Time => "time",
            Self::ThirdHost => "third-host",
            Self::None => "none",
        }
    }
}

/// What is particular to FTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ftp {
    /// `STOR`, `STOU` or `APPE`.
    pub command: String,
    /// The final reply to it, if seen.
    pub reply_code: Option<u16>,
    /// The user name; a password is never kept.
    pub user: Option<String>,
    /// The control connection's client end.
    pub control_client: Option<Endpoint>,
    /// The control connection's server end.
    pub control_server: Option<Endpoint>,
    /// Time of the control connection's first packet.
    pub control_opened: Timestamp,
    /// The offset given by `REST`, zero if none.
    pub restart: u64,
    /// The size announced by `ALLO`.
    pub allocated: Option<u64>,
    /// The transmission mode, `S` (stream), `B` (block) or `Z` (deflate): bytes are counted as they went over the wire.
    pub mode: char,
    /// The type of the data, `A` or `E` (text), `I` or `L` (bytes as they are); text is what FTP begins with. Absent if a
    /// command that sets it may not have been seen.
    pub data_type: Option<char>,
    /// The path that the file had before a `RNTO` that followed the transfer.
    pub renamed_from: Option<String>,
    /// Where the data connection was announced to be.
    pub announced: Option<Endpoint>,
    /// How the data connection was found.
    pub binding: Binding,
}

/// Something odd about an upload that a reader should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Note {
    /// Segments overlapped with different bytes; the first were used.
    ConflictingOverlap,
    /// The tap lost bytes of it.
    Gap,
    /// Content-Length and Transfer-Encoding both present; read as chunked (RFC 9112 section 6.3).
    LengthAndChunked,
    /// Several different Content-Length values; the first was used.
    SeveralLengths,
    /// A length that is no number.
    BadLength,
    /// A chunk that breaks the syntax; what follows was not read as chunks.
    BadChunk,
    /// The server answered before the body ended and the rest never came.
    EarlyResponse,
    /// The connection ended before the body did.
    CutShort,
    /// Picked up in the middle of the connection.
    MidStream,
    /// The opening of the connection was not seen, so the direction is a guess.
    DirectionGuessed,
    /// More files than the configuration allows to be listed.
    FilesNotListed,
    /// A multipart body that could not be followed to its end.
    MultipartLost,
    /// The control connection never confirmed the transfer.
    Unconfirmed,
    /// The server says it has the file, but no data connection was seen.
    DataNotSeen,
    /// What was carried is TLS: the bytes are those of the encrypted stream.
    Encrypted,
    /// The framing was lost, in a gap or by broken syntax: what followed was not counted.
    PlaceLost,
    /// The connection was not read to its end, for want of memory.
    Retired,
    /// The bytes on the wire are not those of the file, or may not be: compressed or in blocks (`MODE`), or text (`TYPE A`).
    Converted,
}

impl Note {
    /// The value in `outfall.upload.notes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConflictingOverlap => "conflicting-overlap",
            Self::Gap => "gap",
            Self::LengthAndChunked => "length-and-chunked",
            Self::SeveralLengths => "several-lengths",
            Self::BadLength => "bad-length",
            Self::BadChunk => "bad-chunk",
            Self::EarlyResponse => "early-response",
            Self::CutShort => "cut-short",
            Self::MidStream => "mid-stream",
            Self::DirectionGuessed => "direction-guessed",
            Self::FilesNotListed => "files-not-listed",
            Self::MultipartLost => "multipart-lost",
            Self::Unconfirmed => "unconfirmed",
            Self::DataNotSeen => "data-not-seen",
            Self::Encrypted => "encrypted",
            Self::PlaceLost => "place-lost",
            Self::Retired => "retired",
            Self::Converted => "converted",
        }
    }
}

/// One transfer from client to server.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Stable identifier; an early report and its completion share it.
    pub id: EventId,
    /// The connection that carried the bytes.
    pub connection: Connection,
    /// What its packets were wrapped in.
    pub wrapping: Wrapping,
    /// `Ftp` or `Http`.
    pub protocol: Protocol,
    /// Time of the connection's first packet; earlier transfers may have passed on it.
    pub opened: Timestamp,
    /// Time of the first byte of the transfer.
    pub start: Timestamp,
    /// Time of the last byte of the transfer.
    pub end: Timestamp,
    /// Unique TCP payload bytes from the client up to the end of the upload.
    pub client_bytes: u64,
    /// Unique TCP payload bytes from the server up to its final answer.
    pub server_bytes: u64,
    /// Entity bytes on the wire, after de-chunking, before content decoding, missing ones included.
    pub bytes: u64,
    /// Of `bytes`, how many the tap did not deliver.
    pub missing: u64,
    /// How far it has come.
    pub state: State,
    /// The Host header's name, or one learnt from DNS.
    pub domain: Option<String>,
    /// The host that a proxy was asked to pass it on to: a name, or an address in its textual form.
    pub proxied_to: Option<String>,
    /// Where `domain` comes from.
    pub domain_source: DomainSource,
    /// HTTP's part.
    pub http: Option<Http>,
    /// FTP's part; apart, as few uploads have one and many wait for their verdict.
    pub ftp: Option<Box<Ftp>>,
    /// Every file, in the order of the wire.
    pub files: Vec<FileInfo>,
    /// The transfer's content, where that is not a file's.
    pub body: Body,
    /// Oddities, sorted, each once.
    pub notes: Vec<Note>,
}

impl Upload {
    /// The address that it goes to in the end: behind a proxy that of the host asked for, if that is known.
    pub fn destination_ip(&self) -> Option<IpAddr> {
        match &self.proxied_to {
            Some(host) => host.parse().ok(),
            None => Some(self.connection.server.address.ip()),
        }
    }
}
