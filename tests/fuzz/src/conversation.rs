//! Plays a script to the parsers, as the flow table would: offsets in order, gaps of known length, ends.

use outfall::config::Config;
use outfall::flow::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use outfall::net::{Endpoint, Timestamp};
use outfall::packet::Layers;
use outfall::protocol::{Fact, Parsers, ProtocolCounters};
use outfall::record::Ending;

use crate::check::Wire;
use crate::script::{Step, Who};

/// What came out, and what went in.
pub struct Outcome {
    pub facts: Vec<Fact>,
    pub counters: ProtocolCounters,
    pub wire: Wire,
}

/// The most connections of one script.
const MOST_CONNECTIONS: usize = 24;
const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [192, 0, 2, 1];
const OTHER: [u8; 4] = [198, 51, 100, 7];
const START: u64 = 1_700_000_000_000_000_000;
const MILLISECOND: u64 = 1_000_000;

struct Connection {
    link: Link,
    client: Side,
    stream: Option<<Parsers as Application>::State>,
    carried: Both<u64>,
    missing: Both<u64>,
    finished: Both<bool>,
    last: Timestamp,
}

/// A conversation under way.
pub struct Conversation {
    parsers: Parsers,
    connections: Vec<Connection>,
    current: usize,
    clock: u64,
    index: u64,
    facts: Vec<Fact>,
    wire: Wire,
}

/// Plays a whole script on a connection from client to server port `port`.
pub fn play(config: &Config, port: u16, steps: &[Step]) -> Outcome {
    let mut conversation = Conversation::new(config);
    conversation.open(0, port);
    for step in steps {
        conversation.step(step);
    }
    conversation.end()
}

impl Conversation {
    pub fn new(config: &Config) -> Self {
        Self {
            parsers: Parsers::new(&config.protocol, &config.files, 1),
            connections: Vec::new(),
            current: 0,
            clock: START,
            index: 0,
            facts: Vec::new(),
            wire: Wire::default(),
        }
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Say { who, bytes, piece } => bytes.chunks(*piece).for_each(|piece| self.say(*who, piece)),
            Step::Gap { who, length } => self.lose(*who, *length),
            Step::Finish(who) => self.finish(*who),
            Step::Wait { seconds } => {
                self.clock += seconds * 1_000 * MILLISECOND;
                let now = Moment { clock: Timestamp(self.clock), by_packet: false, index: u64::MAX };
                self.parsers.tick(now);
            }
            Step::Open { kind, port } => self.open(*kind, *port),
            Step::Next => self.current = (self.current + 1) % self.connections.len().max(1),
            Step::Close => self.close(self.current, Ending::Finished),
        }
        self.collect();
    }

    /// Opens a connection and makes it the current one. Of `kind`: 1, the server opens it, from its port 20; 2, it is
    /// with another server; 4, its opening is not seen; 8, to the next port.
    pub fn open(&mut self, kind: u8, port: u16) {
        if self.connections.len() == MOST_CONNECTIONS {
            return;
        }
        let number = self.connections.len() as u16;
        let server = if kind & 2 == 0 { SERVER } else { OTHER };
        let port = if kind & 8 == 0 { port } else { port.wrapping_add(1) };
        let active = kind & 1 == 1;
        let (opener, listener) = if active {
            (endpoint(server, 20), endpoint(CLIENT, port))
        } else {
            (endpoint(CLIENT, 40_000 + number), endpoint(server, port))
        };
        let (side, ends) = match opener <= listener {
            true => (Side::Low, Both::new(opener, listener)),
            false => (Side::High, Both::new(listener, opener)),
        };
        // A new connection of the same two ends takes the old one's place.
        let same = self.connections.iter().position(|c| c.stream.is_some() && c.link.ends == ends);
        if let Some(same) = same {
            self.close(same, Ending::Reused);
        }
        let now = self.moment();
        let seen = kind & 4 == 0;
        let mut link = Link {
            ends,
            client: side,
            client_known: seen,
            mid_stream: !seen,
            conflict: false,
            deaf: false,
            slot: u32::try_from(self.connections.len()).unwrap_or(u32::MAX),
            start: now.clock,
            first_index: now.index,
            layers: Layers::default(),
        };
        let client = if active { side.peer() } else { side };
        let stream = Some(self.parsers.open(&mut link, side, now));
        self.connections.push(Connection {
            link,
            client,
            stream,
            carried: Both::default(),
            missing: Both::default(),
            finished: Both::default(),
            last: now.clock,
        });
        self.current = self.connections.len() - 1;
    }

    pub fn say(&mut self, who: Who, bytes: &[u8]) {
        let now = self.moment();
        let Some((connection, side)) = self.connections.get_mut(self.current).and_then(|c| c.speaker(who)) else {
            return;
        };
        let offset = *connection.carried.of(side);
        *connection.carried.of_mut(side) += bytes.len() as u64;
        connection.last = now.clock;
        if let Some(stream) = &mut connection.stream {
            self.parsers.data(stream, &mut connection.link, Data { side, offset, ts: now.clock, bytes }, now);
        }
    }

    pub fn lose(&mut self, who: Who, length: u64) {
        let now = self.moment();
        let Some((connection, side)) = self.connections.get_mut(self.current).and_then(|c| c.speaker(who)) else {
            return;
        };
        let offset = *connection.carried.of(side);
        *connection.carried.of_mut(side) += length;
        *connection.missing.of_mut(side) += length;
        connection.last = now.clock;
        if let Some(stream) = &mut connection.stream {
            self.parsers.gap(stream, &mut connection.link, Gap { side, offset, ts: now.clock, length }, now);
        }
    }

    fn finish(&mut self, who: Who) {
        let now = self.moment();
        let Some((connection, side)) = self.connections.get_mut(self.current).and_then(|c| c.speaker(who)) else {
            return;
        };
        *connection.finished.of_mut(side) = true;
        if let Some(stream) = &mut connection.stream {
            self.parsers.finish(stream, &mut connection.link, side, now);
        }
    }

    fn close(&mut self, place: usize, ending: Ending) {
        let now = self.moment();
        let Some(connection) = self.connections.get_mut(place) else { return };
        let Some(stream) = connection.stream.take() else { return };
        let totals = Totals {
            bytes: connection.carried,
            missing: connection.missing,
            packets: Both::new(1, 1),
            last_data: Both::new(connection.last, connection.last),
            end: connection.last,
            ending,
        };
        self.wire.add(&connection.link.ends, &totals);
        self.parsers.close(stream, &connection.link, &totals, now);
    }

    /// Ends every connection and the input.
    pub fn end(mut self) -> Outcome {
        for place in 0..self.connections.len() {
            self.close(place, Ending::CaptureEnd);
        }
        let now = Moment { index: u64::MAX, ..self.moment() };
        self.parsers.flush(now);
        self.collect();
        Outcome { facts: self.facts, counters: self.parsers.counters(), wire: self.wire }
    }

    fn collect(&mut self) {
        self.facts.extend(self.parsers.take_facts().map(|(_, fact)| fact));
    }

    fn moment(&mut self) -> Moment {
        self.clock += MILLISECOND;
        self.index += 1;
        Moment { clock: Timestamp(self.clock), by_packet: true, index: self.index }
    }
}

impl Connection {
    /// The connection and the speaker's side, if it may still speak.
    fn speaker(&mut self, who: Who) -> Option<(&mut Self, Side)> {
        let side = if who == Who::Client { self.client } else { self.client.peer() };
        (self.stream.is_some() && !*self.finished.of(side)).then_some((self, side))
    }
}

fn endpoint(address: [u8; 4], port: u16) -> Endpoint {
    std::net::SocketAddr::from((address, port)).into()
}
