//! What the pipeline hands on: finished uploads and flows, and their ECS documents.
//!
//! A record is plain data. It is made on a capture thread, joined and judged later, and turned
//! into a document only when someone wants to read it.

mod content;
mod document;
mod flow;
mod id;
mod upload;

pub use content::{Archive, Body, Carved, NotDecoded, NotHashed};
pub use document::{Document, flow_document, upload_document};
pub use flow::{Ending, Flow};
pub use id::EventId;
pub use upload::{Binding, DomainSource, FileInfo, Ftp, Http, Note, State, Upload};

use crate::net::Endpoint;

/// The application protocol of a flow, told from its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Nothing known spoke.
    #[default]
    Unknown,
    /// FTP, control (RFC 959).
    Ftp,
    /// FTP, a data connection.
    FtpData,
    /// HTTP/1.x (RFC 9112).
    Http,
    /// HTTP/2 in the clear (RFC 9113).
    Http2,
    /// WebSocket after an HTTP upgrade (RFC 6455).
    WebSocket,
    /// TLS, whatever it carries.
    Tls,
    /// SSH (RFC 4253).
    Ssh,
    /// SMTP (RFC 5321).
    Smtp,
    /// SMB 1 to 3.
    Smb,
    /// DNS over TCP.
    Dns,
}

impl Protocol {
    /// The value of `network.protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ftp => "ftp",
            Self::FtpData => "ftp-data",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::WebSocket => "websocket",
            Self::Tls => "tls",
            Self::Ssh => "ssh",
            Self::Smtp => "smtp",
            Self::Smb => "smb",
            Self::Dns => "dns",
        }
    }
}

/// What a connection's packets were wrapped in, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wrapping {
    /// VLAN identifiers, four at most.
    pub vlans: Vec<u16>,
    /// Names of tunnels, four at most.
    pub tunnels: Vec<&'static str>,
}

/// The two ends of a connection, by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    /// Who sends the upload; also for active-mode FTP, where the server connects.
    pub client: Endpoint,
    /// Who receives it.
    pub server: Endpoint,
}
