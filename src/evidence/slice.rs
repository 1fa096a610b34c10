//! The packets of an alert's connections, taken out of captures.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::EvidenceError;
use super::pcapng::Pcapng;
use super::pieces::{KeptPacket, Pieces};
use crate::capture::Packet;
use crate::config;
use crate::net::{Endpoint, Span, Timestamp};
use crate::packet::Decoded;

/// How long before an upload its connection may have been opened, and how long after it packets of it may come.
const BEFORE: Span = Span::seconds(86_400);
const AFTER: Span = Span::seconds(3_600);

/// How long before an upload its destination's name may have been looked up.
const LOOKED_UP: Span = Span::seconds(3_600);

/// Bytes of fragments that may wait for the last of their datagram.
const FRAGMENTS: usize = 4 << 20;

/// The port of DNS.
pub(super) const DNS: u16 = 53;

/// What of captures belongs to an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `event.id` of the alert.
    pub id: String,
    /// `event.id` of its uploads, as far as the alert names them.
    pub uploads: Vec<String>,
    /// Both ends of each connection.
    pub connections: Vec<(Endpoint, Endpoint)>,
    /// Who sent: their DNS answers name the destination.
    pub client: IpAddr,
    /// When the first upload began, and when the last one ended.
    pub span: (Timestamp, Timestamp),
}

fn time(document: &Value, path: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = document.pointer(path)?.as_str()?.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}

fn end(value: Option<&Value>) -> Option<Endpoint> {
    let value = value?;
    let ip: IpAddr = value.get("ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(value.get("port")?.as_u64()?).ok()?;
    Some(SocketAddr::new(ip, port).into())
}

impl Wanted {
    /// Of an alert's document.
    ///
    /// # Errors
    /// If it does not name its connection or its times.
    pub fn of(document: &Value) -> Result<Self, EvidenceError> {
        let id = document.pointer("/event/id").and_then(Value::as_str).filter(|id| is_id(id));
        let id = id.ok_or(EvidenceError::Alert("which it is (`event.id`)"))?.to_owned();
        let connection = end(document.get("source")).zip(end(document.get("destination")));
        let connection = connection.ok_or(EvidenceError::Alert("between whom it was (`source`, `destination`)"))?;
        let control = |side: &str| end(document.pointer(&format!("/outfall/ftp/control/{side}")));
        let mut connections = vec![connection];
        connections.extend(control("client").zip(control("server")));
        let span = time(document, "/event/start").zip(time(document, "/event/end"));
        let (mut start, mut last) = span.ok_or(EvidenceError::Alert("when it was (`event.start`, `event.end`)"))?;
        let mut uploads: Vec<String> = Vec::new();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        uploads.extend(text(document.pointer("/outfall/upload/id")));
        if let Some(story) = document.pointer("/outfall/alert/story") {
            for part in story.get("named").and_then(Value::as_array).into_iter().flatten() {
                connections.extend(end(part.get("source")).zip(end(part.get("destination"))));
                let control = |side: &str| end(part.pointer(&format!("/control/{side}")));
                connections.extend(control("client").zip(control("server")));
                uploads.extend(text(part.get("id")));
            }
            start = time(story, "/first").map_or(start, |first| start.min(first));
            last = time(story, "/last").map_or(last, |end| last.max(end));
        }
        let mut known = HashSet::new();
        connections.retain(|ends| known.insert(*ends));
        let mut known = HashSet::new();
        uploads.retain(|upload| known.insert(upload.clone()));
        Ok(Self { id, client: connection.0.socket().ip(), connections, uploads, span: (start, last) })
    }
}

/// Whether this is how an alert's identifier looks, so that it may be part of a path.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What was cut out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Packets written.
    pub packets: u64,
    /// Their bytes, as they were captured.
    pub bytes: u64,
    /// Packets for which there was no room.
    pub left_out: u64,
}

/// Goes through captures and writes what belongs to an alert.
pub struct Cutter {
    wanted: Wanted,
    pieces: Pieces,
    to: Pcapng<BufWriter<File>>,
    cut: Cut,
    most: u64,
}

impl Cutter {
    /// Into a file, at most so many bytes of packets.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn new(wanted: Wanted, file: File, most: u64) -> io::Result<Self> {
        let to = Pcapng::new(BufWriter::new(file), format!("Outfall: evidence of alert {}", wanted.id))?;
        let pieces = Pieces::new(&config::Packet::default(), FRAGMENTS);
        Ok(Self { wanted, pieces, to, cut: Cut::default(), most })
    }

    /// Takes the next packet of the captures.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn take(&mut self, packet: &Packet<'_>) -> Result<(), EvidenceError> {
        let Self { wanted, pieces, to, cut, most } = self;
        let Wanted { connections, client, span: (start, end), .. } = wanted;
        // How long before the upload what belongs to it may have come.
        let mut before = None;
        let earlier = pieces.take(packet, &mut |decoded| {
            before = match decoded {
                Decoded::Tcp(segment) => {
                    let ends = (segment.source, segment.destination);
                    let belongs = connections.iter().any(|(a, b)| ends == (*a, *b) || ends == (*b, *a));
                    belongs.then_some(BEFORE)
                }
                Decoded::Udp(datagram) => {
                    let answer = datagram.source.port == DNS && datagram.destination.socket().ip() == *client;
                    answer.then_some(LOOKED_UP)
                }
            };
        });
        if !before.is_some_and(|before| packet.ts >= start.before(before) && packet.ts.before(AFTER) <= *end) {
            return Ok(());
        }
        for packet in earlier.iter().map(KeptPacket::packet).chain(std::iter::once(*packet)) {
            let bytes = packet.bytes.len() as u64;
            if cut.bytes.saturating_add(bytes) > *most {
                cut.left_out += 1;
                continue;
            }
            to.put(&packet).map_err(|source| EvidenceError::Packets { source })?;
            cut.packets += 1;
            cut.bytes += bytes;
        }
        Ok(())
    }

    /// Ends the file; what was cut out.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> io::Result<Cut> {
        self.to.finish()?;
        Ok(self.cut)
    }
}
