//! The packets of an alert's connections, taken out of captures.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

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

/// Goes through captures for several alerts at once.
pub struct Cutter {
    decoder: Decoder,
    /// Which alerts want a connection, by its ends in order.
    connections: HashMap<(SocketAddr, SocketAddr), Vec<usize>>,
    /// Whose names were looked up for which alerts.
    clients: HashMap<IpAddr, Vec<usize>>,
    slices: Vec<Slice>,
    most: u64,
}

struct Slice {
    wanted: Wanted,
    to: Pcapng<BufWriter<File>>,
    cut: Cut,
}

fn ordered(a: Endpoint, b: Endpoint) -> (SocketAddr, SocketAddr) {
    let (a, b) = (a.socket(), b.socket());
    if a <= b { (a, b) } else { (b, a) }
}

impl Cutter {
    /// For no alert yet; of each at most so many bytes of packets are written.
    pub fn new(most: u64) -> Self {
        let (connections, clients) = (HashMap::new(), HashMap::new());
        Self { decoder: Decoder::new(), connections, clients, slices: Vec::new(), most }
    }

    /// Also for this one, into a file.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn add(&mut self, wanted: Wanted, path: &Path, file: File) -> Result<(), EvidenceError> {
        let comment = format!("Outfall: evidence of alert {}", wanted.id);
        let to = Pcapng::new(BufWriter::new(file), &comment).map_err(|source| unwritten(path, source))?;
        let number = self.slices.len();
        for (client, server) in &wanted.connections {
            self.connections.entry(ordered(*client, *server)).or_default().push(number);
        }
        self.clients.entry(wanted.client).or_default().push(number);
        self.slices.push(Slice { wanted, to, cut: Cut::default() });
        Ok(())
    }

    /// Takes the next packet of the captures.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn take(&mut self, packet: &Packet<'_>) -> std::io::Result<()> {
        let Self { decoder, connections, clients, slices, most } = self;
        let (mut wanted, mut dns) = (None, false);
        decoder.decode(packet, &mut |decoded| match decoded {
            Decoded::Tcp(segment) => wanted = connections.get(&ordered(segment.source, segment.destination)),
            Decoded::Udp(datagram) if datagram.source.port == DNS => {
                (wanted, dns) = (clients.get(&datagram.destination.socket().ip()), true);
            }
            Decoded::Udp(_) => {}
        });
        for number in wanted.into_iter().flatten() {
            let Some(Slice { wanted, to, cut }) = slices.get_mut(*number) else { continue };
            let (start, end) = wanted.span;
            let before = if dns { LOOKED_UP } else { BEFORE };
            if packet.ts < start.before(before) || packet.ts.before(AFTER) > end {
                continue;
            }
            let bytes = packet.bytes.len() as u64;
            if cut.bytes.saturating_add(bytes) > *most {
                cut.left_out += 1;
                continue;
            }
            to.put(packet)?;
            cut.packets += 1;
            cut.bytes += bytes;
        }
        Ok(())
    }

    /// Ends the files; what was cut out for each alert, in the order in which they were added.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn finish(self) -> std::io::Result<Vec<Cut>> {
        self.slices.into_iter().map(|slice| slice.to.finish().map(|_| slice.cut)).collect()
    }
}

fn unwritten(path: &Path, source: std::io::Error) -> EvidenceError {
    EvidenceError::File { path: path.to_owned(), what: "cannot be written", source }
}
