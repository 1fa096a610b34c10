//! The packets of an alert's connections, taken out of captures.

use std::fs::File;
use std::io::{self, BufWriter};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::EvidenceError;
use super::pcapng::Pcapng;
use crate::capture::Packet;
use crate::net::{Endpoint, Span, Timestamp};
use crate::packet::{Decoded, Decoder};

/// How long before an upload its connection may have been opened, and how long after it packets of it may come.
const BEFORE: Span = Span::seconds(86_400);
const AFTER: Span = Span::seconds(3_600);

/// How long before an upload its destination's name may have been looked up.
const LOOKED_UP: Span = Span::seconds(3_600);

/// The port of DNS.
const DNS: u16 = 53;

/// What of captures belongs to an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `event.id` of the alert.
    pub id: String,
    /// Both ends of each connection.
    pub connections: Vec<(Endpoint, Endpoint)>,
    /// Who sent: their DNS answers name the destination.
    pub client: IpAddr,
    /// When the upload began, and when it ended.
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
        let connections = [Some(connection), control("client").zip(control("server"))];
        let span = time(document, "/event/start").zip(time(document, "/event/end"));
        let span = span.ok_or(EvidenceError::Alert("when it was (`event.start`, `event.end`)"))?;
        Ok(Self {
            id,
            connections: connections.into_iter().flatten().collect(),
            client: connection.0.socket().ip(),
            span,
        })
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
    decoder: Decoder,
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
        Ok(Self { wanted, decoder: Decoder::new(), to, cut: Cut::default(), most })
    }

    /// Takes the next packet of the captures.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn take(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let Self { wanted, decoder, to, cut, most } = self;
        let Wanted { connections, client, span: (start, end), .. } = wanted;
        // How long before the upload what belongs to it may have come.
        let mut before = None;
        decoder.decode(packet, &mut |decoded| {
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
        let bytes = packet.bytes.len() as u64;
        if cut.bytes.saturating_add(bytes) > *most {
            cut.left_out += 1;
            return Ok(());
        }
        to.put(packet)?;
        cut.packets += 1;
        cut.bytes += bytes;
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
