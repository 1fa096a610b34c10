//! For tests: whole connections, given to the parsers as the flow table would, in any segmentation and interleaving.

use super::http2::frame::PREFACE;
use super::{Fact, Parsers, ProtocolCounters};
use crate::config;
use crate::flow::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use crate::net::{Address, Endpoint, Timestamp};
use crate::packet::Layers;
use crate::record::{Ending, Flow, Upload};
use httlib_hpack::Encoder;

pub(super) const CLIENT: Side = Side::High;
pub(super) const SERVER: Side = Side::Low;

/// What one side sends: bytes, or a hole.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    Hole(u64),
}

pub(super) fn link() -> Link {
    let end = |port| Endpoint { address: Address::from(std::net::IpAddr::from([192, 0, 2, 1])), port };
    Link {
        ends: Both::new(end(80), end(50_000)),
        client: CLIENT,
        client_known: true,
        mid_stream: false,
        conflict: false,
        deaf: false,
        start: Timestamp(1),
        first_index: 0,
        layers: Layers::default(),
        slot: 0,
    }
}

/// Gives the pieces to the parsers, in the order that is asked for; true is the client. What they say that they pass over
/// may as well be anything else.
pub(super) fn play(
    client: &[Piece],
    server: &[Piece],
    order: impl Iterator<Item = bool>,
) -> (Vec<Upload>, Flow, ProtocolCounters) {
    let order: Vec<bool> = order.take(client.len() + server.len()).collect();
    let [as_it_was, blank] = [false, true].map(|blank| play_once(client, server, order.iter().copied(), blank));
    assert_eq!(format!("{as_it_was:?}"), format!("{blank:?}"));
    as_it_was
}

fn play_once(
    client: &[Piece],
    server: &[Piece],
    order: impl Iterator<Item = bool>,
    blank: bool,
) -> (Vec<Upload>, Flow, ProtocolCounters) {
    let (limits, files) = (config::Protocol::default(), config::Files::default());
    let mut parsers = Parsers::new(&limits, &files, 1);
    let (mut link, now) = (link(), Moment::default());
    let mut state = parsers.open(&mut link, CLIENT, now);
    let mut offsets = Both::new(0, 0);
    let (mut client, mut server) = (client.iter(), server.iter());
    for from_client in order.chain([true; 1000]).chain([false; 1000]) {
        let (side, piece) = match from_client {
            true => (CLIENT, client.next()),
            false => (SERVER, server.next()),
        };
        let (offset, ts) = (*offsets.of(side), Timestamp(1));
        match piece {
            Some(Piece::Bytes(bytes)) => {
                let unread = if blank { parsers.passes_over(&state, side) } else { 0 };
                let unread = unread.min(bytes.len() as u64) as usize;
                let bytes = &[&vec![0; unread], &bytes[unread..]].concat();
                parsers.data(&mut state, &mut link, Data { side, offset, ts, bytes }, now);
                *offsets.of_mut(side) += bytes.len() as u64;
            }
            Some(Piece::Hole(length)) => {
                parsers.gap(&mut state, &mut link, Gap { side, offset, ts, length: *length }, now);
                *offsets.of_mut(side) += length;
            }
            None => {}
        }
    }
    for side in [CLIENT, SERVER] {
        parsers.finish(&mut state, &mut link, side, now);
    }
    let none = Both::new(0, 0);
    let totals = Totals {
        bytes: offsets,
        missing: none,
        packets: none,
        last_data: Both::new(Timestamp(1), Timestamp(1)),
        end: now.clock,
        ending: Ending::Finished,
    };
    parsers.close(state, &link, &totals, now);
    let (mut uploads, mut flow) = (Vec::new(), None);
    for (_, fact) in parsers.take_facts() {
        match fact {
            Fact::Upload(upload) => uploads.push(*upload),
            Fact::Name(_) => {}
            Fact::Flow(found) => flow = Some(*found),
        }
    }
    (uploads, flow.unwrap(), parsers.counters())
}

pub(super) fn whole(bytes: &[u8]) -> Vec<Piece> {
    vec![Piece::Bytes(bytes.to_vec())]
}

/// Cuts a stream into pieces; the last takes the rest.
pub(super) fn cut(mut bytes: &[u8], cuts: &[usize]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for length in cuts {
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        if !piece.is_empty() {
            pieces.push(Piece::Bytes(piece.to_vec()));
        }
        bytes = rest;
    }
    if !bytes.is_empty() {
        pieces.push(Piece::Bytes(bytes.to_vec()));
    }
    pieces
}

/// What must not depend on how the tap delivered the streams.
pub(super) fn essence(uploads: &[Upload]) -> Vec<String> {
    let mut all: Vec<String> = uploads.iter().map(|upload| format!("{upload:?}")).collect();
    all.sort();
    all
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 0x20;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Frames of one side with its own table.
pub(super) struct Sender {
    encoder: Encoder<'static>,
    pub(super) wire: Vec<u8>,
}

impl Sender {
    pub(super) fn client() -> Self {
        let mut wire = PREFACE.to_vec();
        wire.extend(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
        Self { encoder: Encoder::default(), wire }
    }

    pub(super) fn server() -> Self {
        Self { encoder: Encoder::default(), wire: frame(SETTINGS, 0, 0, &[]) }
    }

    pub(super) fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            let flags = Encoder::WITH_INDEXING | Encoder::HUFFMAN_VALUE | Encoder::BEST_FORMAT;
            self.encoder.encode((name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags), &mut block).unwrap();
        }
        block
    }

    pub(super) fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> &mut Self {
        let block = self.block(fields);
        self.frame(HEADERS, flags | END_HEADERS, stream, &block)
    }

    pub(super) fn put(&mut self, stream: u32, path: &str) -> &mut Self {
        let fields = [(":method", "PUT"), (":scheme", "http"), (":path", path), (":authority", "drop.example:8080")];
        self.headers(stream, 0, &[&fields[..], &[("user-agent", "tool/1")]].concat())
    }

    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.wire.extend(frame(kind, flags, stream, payload));
        self
    }

    pub(super) fn status(&mut self, stream: u32, status: &str) -> &mut Self {
        self.headers(stream, END_STREAM, &[(":status", status)])
    }
}
