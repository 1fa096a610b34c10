//! TCP segments made by hand, and what the flow tracker makes of them.

#![allow(dead_code)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use outfall::config::Config;
use outfall::flow::{Application, Both, Data, FlowCounters, Gap, Link, Moment, Side, Totals, Tracker};
use outfall::net::{Endpoint, Timestamp};
use outfall::packet::{Flags, Layers, Segment};
use outfall::protocol::{Fact, Parsers};
use outfall::record::{Ending, Flow, State, Upload};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

/// Where time begins in these tests, in nanoseconds.
const START: u64 = 1_700_000_000_000_000_000;

/// A segment that owns its bytes.
#[derive(Clone, Debug)]
pub struct Piece {
    pub from: Endpoint,
    pub to: Endpoint,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub bytes: Vec<u8>,
    pub cut: u32,
}

/// The two ends of a connection and their initial sequence numbers; offsets count from the byte behind the SYN.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub client: Endpoint,
    pub server: Endpoint,
    pub client_isn: u32,
    pub server_isn: u32,
}

impl Pair {
    pub fn new(client: &str, server: &str) -> Self {
        let end = |text: &str| text.parse::<SocketAddr>().unwrap().into();
        Self { client: end(client), server: end(server), client_isn: 1000, server_isn: 5000 }
    }

    /// The same ends in a new connection.
    pub fn again(self, client_isn: u32, server_isn: u32) -> Self {
        Self { client_isn, server_isn, ..self }
    }

    /// A segment of the client: where it lies in its stream, and how much of the server's it acknowledges.
    pub fn client(&self, at: i64, acked: i64, flags: u8, bytes: impl AsRef<[u8]>) -> Piece {
        let (seq, ack) = (place(self.client_isn, at), place(self.server_isn, acked));
        Piece { from: self.client, to: self.server, seq, ack, flags, bytes: bytes.as_ref().to_vec(), cut: 0 }
    }

    /// A segment of the server.
    pub fn server(&self, at: i64, acked: i64, flags: u8, bytes: impl AsRef<[u8]>) -> Piece {
        let (seq, ack) = (place(self.server_isn, at), place(self.client_isn, acked));
        Piece { from: self.server, to: self.client, seq, ack, flags, bytes: bytes.as_ref().to_vec(), cut: 0 }
    }

    pub fn syn(&self) -> Piece {
        Piece { ack: 0, ..self.client(-1, 0, SYN, []) }
    }

    pub fn syn_ack(&self) -> Piece {
        self.server(-1, 0, SYN | ACK, [])
    }

    pub fn handshake(&self) -> Vec<Piece> {
        vec![self.syn(), self.syn_ack(), self.client(0, 0, ACK, [])]
    }

    /// Both ends close, after so many bytes from each.
    pub fn close(&self, client: i64, server: i64) -> Vec<Piece> {
        vec![
            self.client(client, server, FIN | ACK, []),
            self.server(server, client + 1, FIN | ACK, []),
            self.client(client + 1, server + 1, ACK, []),
        ]
    }
}

fn place(isn: u32, at: i64) -> u32 {
    isn.wrapping_add(1).wrapping_add(at as u32)
}

impl Piece {
    /// The segment with some of its last bytes cut off by the snap length.
    pub fn cut(mut self, length: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - length);
        self.cut = length as u32;
        self
    }
}

/// A tracker that is fed segments, one every millisecond.
pub struct Tap<A: Application> {
    pub tracker: Tracker<A>,
    index: u64,
    clock: u64,
}

impl<A: Application> Tap<A> {
    pub fn new(config: &Config, app: A) -> Self {
        Self { tracker: Tracker::new(&config.flow, 1, 7, app), index: 0, clock: START }
    }

    pub fn push(&mut self, piece: &Piece) {
        let clock = Timestamp(self.clock);
        self.tracker.advance(clock);
        self.tracker.push(&Segment {
            index: self.index,
            ts: clock,
            clock,
            source: piece.from,
            destination: piece.to,
            seq: piece.seq,
            ack: piece.ack,
            flags: Flags(piece.flags),
            payload: &piece.bytes,
            cut: piece.cut,
            layers: Layers::default(),
        });
        self.index += 1;
        self.clock += 1_000_000;
    }

    pub fn push_all<'p>(&mut self, pieces: impl IntoIterator<Item = &'p Piece>) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }

    /// Packets of other connections pass by.
    pub fn others(&mut self, packets: u64) {
        self.index += packets;
    }

    /// Time passes without a packet.
    pub fn silence(&mut self, seconds: u64) {
        self.clock += seconds * 1_000_000_000;
        self.tracker.advance(Timestamp(self.clock));
    }

    pub fn counters(&self) -> FlowCounters {
        self.tracker.counters().clone()
    }
}

/// One connection as the tracker delivered it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The opener's stream; `_` for a byte that is missing, `$` for the FIN.
    pub client: String,
    pub server: String,
    pub client_bytes: u64,
    pub client_missing: u64,
    pub conflict: bool,
    pub mid_stream: bool,
    pub opening_seen: bool,
    pub ending: Option<Ending>,
}

/// Writes down what it is told.
#[derive(Clone, Default)]
pub struct Recorder(pub Rc<RefCell<Vec<Heard>>>);

impl Application for Recorder {
    type State = Both<String>;

    fn open(&mut self, _: &mut Link, _: Side, _: Moment) -> Self::State {
        Both::default()
    }

    fn data(&mut self, state: &mut Self::State, _: &mut Link, data: Data<'_>, _: Moment) {
        let text = state.of_mut(data.side);
        assert_eq!(text.trim_end_matches('$').len() as u64, data.offset, "stretches follow each other");
        text.push_str(&String::from_utf8_lossy(data.bytes));
    }

    fn gap(&mut self, state: &mut Self::State, _: &mut Link, gap: Gap, _: Moment) {
        assert!(gap.length < 1 << 25, "a gap of {} bytes", gap.length);
        state.of_mut(gap.side).push_str(&"_".repeat(gap.length as usize));
    }

    fn finish(&mut self, state: &mut Self::State, _: &mut Link, side: Side, _: Moment) {
        state.of_mut(side).push('$');
    }

    fn close(&mut self, state: Self::State, link: &Link, totals: &Totals, _: Moment) {
        let (client, server) = (link.client, link.client.peer());
        self.0.borrow_mut().push(Heard {
            client: state.of(client).clone(),
            server: state.of(server).clone(),
            client_bytes: *totals.bytes.of(client),
            client_missing: *totals.missing.of(client),
            conflict: link.conflict,
            mid_stream: link.mid_stream,
            opening_seen: link.client_known,
            ending: Some(totals.ending),
        });
    }

    fn tick(&mut self, _: Moment) {}
}

/// A tap that records streams.
pub fn recording(config: &Config) -> Tap<Recorder> {
    Tap::new(config, Recorder::default())
}

impl Tap<Recorder> {
    /// Ends the input; the connections in the order in which they ended.
    pub fn heard(mut self) -> Vec<Heard> {
        self.tracker.finish(Timestamp(self.clock));
        self.tracker.app().0.take()
    }

    /// The only connection.
    #[track_caller]
    pub fn heard_one(self) -> Heard {
        let heard = self.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard[0].clone()
    }
}

/// A tap that reads protocols.
pub fn reading(config: &Config) -> Tap<Parsers> {
    Tap::new(config, Parsers::new(&config.protocol, &config.files, 1))
}

impl Tap<Parsers> {
    /// Ends the input; finished uploads and connections.
    pub fn facts(mut self) -> (Vec<Upload>, Vec<Flow>) {
        let clock = Timestamp(self.clock);
        self.tracker.finish(clock);
        self.tracker.app().flush(Moment { clock, by_packet: true, index: u64::MAX });
        let (mut uploads, mut flows) = (Vec::new(), Vec::new());
        for (_, fact) in self.tracker.app().take_facts() {
            match fact {
                Fact::Upload(upload) if upload.state != State::Running => uploads.push(*upload),
                Fact::Flow(flow) => flows.push(*flow),
                Fact::Upload(_) | Fact::Name(_) => {}
            }
        }
        (uploads, flows)
    }

    /// The only upload.
    #[track_caller]
    pub fn upload(self) -> Upload {
        let (uploads, _) = self.facts();
        assert_eq!(uploads.len(), 1, "{uploads:?}");
        uploads[0].clone()
    }
}
