//! A client and its servers at work: a list of steps, carried out one packet at a time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::OnceLock;

use super::frame::{ACK, FIN, Frame, PSH, RST, SYN, TcpFields};
use super::random::Random;

pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

const MICROSECOND: u64 = 1000;
/// How long a link of 1 Gbit/s takes for a full frame.
const FULL_FRAME: u64 = 12 * MICROSECOND;
/// Segments that a sender puts out in one go.
const BURST: u32 = 10;
const WINDOW: u16 = 502;
/// Before its scale is agreed on.
const FIRST_WINDOW: u16 = 64_240;
/// The shortest frame that a network card hands on: padded, its checksum taken off.
const SHORTEST: usize = 60;

/// A part of what one side sends.
#[derive(Clone, Debug)]
pub enum Piece {
    Text(Vec<u8>),
    /// So many bytes that look like compressed ones; which, depends on `from`.
    Noise {
        length: u64,
        from: u64,
    },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Noise { length, .. } => *length,
        }
    }
}

/// How many bytes the pieces have.
pub fn length<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> u64 {
    pieces.into_iter().map(Piece::len).sum()
}

/// What happens next. A client has up to two connections at a time, numbered 0 and 1.
#[derive(Clone, Debug)]
pub enum Step {
    /// A handshake; the first end opens.
    Open {
        connection: usize,
        ends: [SocketAddr; 2],
    },
    Send {
        connection: usize,
        side: usize,
        pieces: VecDeque<Piece>,
    },
    Close {
        connection: usize,
        side: usize,
    },
    /// A connection is thrown away instead of closed.
    Reset {
        connection: usize,
        side: usize,
    },
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
}

/// Steps that are being carried out.
pub struct Conversation {
    steps: VecDeque<Step>,
    connections: [Option<Connection>; 2],
    /// How much of the first step is done, in packets.
    done: u32,
    /// How far sending has come within the first piece.
    offset: u64,
    /// Nanoseconds between the two hosts and back.
    round_trip: u64,
    /// Nanoseconds from a burst to the next.
    pace: u64,
    /// Acknowledgements that are on their way at any time.
    lag: usize,
    /// Half of all hosts put timestamps (RFC 7323) on their segments.
    stamps: bool,
    /// How many segments an acknowledgement is for; more than two where receivers merge them first.
    merged: u32,
    /// Whether answers come soon enough to carry the acknowledgement of the question.
    prompt: bool,
    random: Random,
}

struct Connection {
    ends: [SocketAddr; 2],
    next: [u32; 2],
    /// What each side has acknowledged to the other so far.
    acknowledged: [u32; 2],
    stamps: Option<[u32; 2]>,
    /// Acknowledgements that have not passed the tap yet.
    due: VecDeque<u32>,
    unacknowledged: u32,
}

impl Conversation {
    /// `rate` is what the client's line carries, in megabits per second.
    /// `round_trip` is in nanoseconds, `merged` the segments to one acknowledgement.
    pub fn new(steps: VecDeque<Step>, rate: u64, round_trip: u64, merged: u32, mut random: Random) -> Self {
        let pace = u64::from(BURST) * FULL_FRAME * 1000 / rate.clamp(1, 1000);
        let stamps = random.percent(50);
        let prompt = random.percent(75);
        let lag = (round_trip / 2 / MICROSECOND / 100).min(8) as usize;
        Self {
            steps,
            connections: [None, None],
            done: 0,
            offset: 0,
            round_trip,
            pace,
            lag,
            stamps,
            merged,
            prompt,
            random,
        }
    }

    /// Puts the next packet into `frame` and says after how many nanoseconds to ask again; nothing when all is done.
    pub fn next(&mut self, frame: &mut Frame, milliseconds: u32) -> Option<u64> {
        loop {
            match self.steps.front_mut()? {
                Step::Open { connection, ends } if self.done == 0 => {
                    let connection = *connection;
                    let opened = Connection::new(*ends, self.stamps, &mut self.random);
                    self.connections[connection] = Some(opened);
                }
                Step::Datagram { from, to, payload } => {
                    frame.begin_udp(*from, *to);
                    frame.bytes.extend_from_slice(payload);
                    frame.seal(SHORTEST);
                    return Some(self.finish_step());
                }
                _ => {}
            }
            if let Some(wait) = self.packet(frame, milliseconds) {
                return Some(wait);
            }
        }
    }

    fn finish_step(&mut self) -> u64 {
        self.steps.pop_front();
        self.done = 0;
        self.offset = 0;
        self.round_trip / 2 + self.random.below(self.round_trip / 4 + 1)
    }

    /// The next packet of a step on a connection; nothing if the step needs no more.
    fn packet(&mut self, frame: &mut Frame, milliseconds: u32) -> Option<u64> {
        let answered = self.is_answered();
        let done = self.done;
        self.done += 1;
        let step = self.steps.front_mut()?;
        let (Step::Open { connection, .. }
        | Step::Send { connection, .. }
        | Step::Close { connection, .. }
        | Step::Reset { connection, .. }) = step
        else {
            return None;
        };
        let tcp = self.connections[*connection].as_mut().expect("a connection is opened before it is used");
        let half = self.round_trip / 2;
        match step {
            Step::Open { .. } => {
                match done {
                    0 => tcp.control(frame, CLIENT, SYN, milliseconds),
                    1 => tcp.control(frame, SERVER, SYN | ACK, milliseconds),
                    _ => {
                        tcp.control(frame, CLIENT, ACK, milliseconds);
                        self.finish_step();
                        return Some(10 * MICROSECOND);
                    }
                }
                Some(half)
            }
            Step::Close { side, .. } => {
                let side = *side;
                match done {
                    0 => tcp.control(frame, side, FIN | ACK, milliseconds),
                    1 => tcp.control(frame, 1 - side, FIN | ACK, milliseconds),
                    _ => {
                        tcp.control(frame, side, ACK, milliseconds);
                        return Some(self.finish_step());
                    }
                }
                Some(half)
            }
            Step::Reset { side, .. } => {
                tcp.control(frame, *side, RST | ACK, milliseconds);
                Some(self.finish_step())
            }
            Step::Send { side, pieces, .. } => {
                let side = *side;
                let is_sent = pieces.is_empty();
                if tcp.due.len() > self.lag || is_sent && !tcp.due.is_empty() {
                    tcp.acknowledge(frame, 1 - side, milliseconds);
                    return Some(5 * MICROSECOND);
                }
                if is_sent {
                    self.finish_step();
                    return None;
                }
                let room = tcp.room();
                let is_last = fits(pieces, self.offset, room);
                tcp.begin(frame, side, if is_last { PSH | ACK } else { ACK }, milliseconds);
                let begin = frame.bytes.len();
                self.offset = fill(&mut frame.bytes, pieces, self.offset, room);
                let sent = (frame.bytes.len() - begin) as u32;
                tcp.sent(side, sent, self.merged, is_last, answered);
                frame.seal(SHORTEST);
                let ends_burst = done % (BURST + BURST / 2) == BURST;
                Some(if is_last {
                    half
                } else if ends_burst {
                    self.pace
                } else {
                    FULL_FRAME
                })
            }
            Step::Datagram { .. } => None,
        }
    }

    /// Whether what is being sent is answered at once, so that the answer carries the acknowledgement.
    fn is_answered(&self) -> bool {
        let mut steps = self.steps.iter();
        match (steps.next(), steps.next()) {
            (
                Some(Step::Send { connection, side, .. }),
                Some(Step::Send { connection: next_connection, side: next_side, .. }),
            ) => self.prompt && connection == next_connection && side != next_side,
            _ => false,
        }
    }
}

impl Connection {
    fn new(ends: [SocketAddr; 2], stamps: bool, random: &mut Random) -> Self {
        let next = [random.any() as u32, random.any() as u32];
        let stamps = stamps.then(|| [random.any() as u32, random.any() as u32]);
        Self { ends, next, acknowledged: [0; 2], stamps, due: VecDeque::new(), unacknowledged: 0 }
    }

    /// The most payload that a segment has.
    fn room(&self) -> usize {
        let v6 = if self.ends[0].is_ipv6() { 20 } else { 0 };
        1460 - v6 - if self.stamps.is_some() { 12 } else { 0 }
    }

    /// Begins a segment of `side`'s, with the options that hosts use.
    fn begin(&mut self, frame: &mut Frame, side: usize, flags: u8, milliseconds: u32) {
        if flags & ACK != 0 {
            self.acknowledged[side] = self.next[1 - side];
        }
        let window = if flags & SYN != 0 { FIRST_WINDOW } else { WINDOW };
        let fields = TcpFields { seq: self.next[side], ack: self.acknowledged[side], flags, window };
        let [high, low] = if self.ends[0].is_ipv6() { 1440_u16 } else { 1460 }.to_be_bytes();
        let mut options = [2, 4, high, low, 1, 3, 3, 8, 1, 1, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut length = if flags & SYN != 0 { 12 } else { 0 };
        if let Some(bases) = self.stamps {
            // In a SYN the two bytes that align the timestamp are those of the permission for selective ones.
            if length == 0 {
                options[..2].copy_from_slice(&[1, 1]);
                length = 2;
            } else {
                options[8..10].copy_from_slice(&[4, 2]);
                length = 10;
            }
            let echo = if flags & ACK == 0 { 0 } else { bases[1 - side].wrapping_add(milliseconds) };
            let value = bases[side].wrapping_add(milliseconds);
            options[length..length + 2].copy_from_slice(&[8, 10]);
            options[length + 2..length + 6].copy_from_slice(&value.to_be_bytes());
            options[length + 6..length + 10].copy_from_slice(&echo.to_be_bytes());
            length += 10;
        }
        frame.begin_tcp(self.ends[side], self.ends[1 - side], fields, &options[..length]);
    }

    /// A segment without data.
    fn control(&mut self, frame: &mut Frame, side: usize, flags: u8, milliseconds: u32) {
        self.begin(frame, side, flags, milliseconds);
        frame.seal(SHORTEST);
        self.next[side] = self.next[side].wrapping_add(u32::from(flags & (SYN | FIN) != 0));
    }

    /// The oldest acknowledgement that is due.
    fn acknowledge(&mut self, frame: &mut Frame, side: usize, milliseconds: u32) {
        let newest = self.next[1 - side];
        if let Some(due) = self.due.pop_front() {
            self.next[1 - side] = due;
        }
        self.begin(frame, side, ACK, milliseconds);
        frame.seal(SHORTEST);
        self.next[1 - side] = newest;
    }

    /// `side` has sent so much: every so many segments are acknowledged, and the last one unless an answer does that.
    fn sent(&mut self, side: usize, length: u32, merged: u32, is_last: bool, is_answered: bool) {
        self.next[side] = self.next[side].wrapping_add(length);
        self.unacknowledged += 1;
        if self.unacknowledged == merged || is_last {
            self.unacknowledged = 0;
            if !(is_last && is_answered) {
                self.due.push_back(self.next[side]);
            }
        }
    }
}

/// Whether all that is left of the pieces goes into `room` bytes.
fn fits(pieces: &VecDeque<Piece>, offset: u64, room: usize) -> bool {
    let mut left = offset + room as u64;
    pieces.iter().all(|piece| {
        let fits = piece.len() <= left;
        left = left.saturating_sub(piece.len());
        fits
    })
}

/// Moves up to `room` bytes out of the pieces; says how far into the first of the rest that came.
fn fill(bytes: &mut Vec<u8>, pieces: &mut VecDeque<Piece>, mut offset: u64, mut room: usize) -> u64 {
    while let Some(piece) = pieces.front().filter(|_| room > 0) {
        let part = room.min((piece.len() - offset) as usize);
        match piece {
            Piece::Text(text) => bytes.extend_from_slice(&text[offset as usize..offset as usize + part]),
            Piece::Noise { from, .. } => {
                let noise = noise();
                let at = (from.wrapping_add(offset) % NOISE) as usize;
                bytes.extend_from_slice(&noise[at..at + part]);
            }
        }
        room -= part;
        offset += part as u64;
        if offset == piece.len() {
            pieces.pop_front();
            offset = 0;
        }
    }
    offset
}

/// After so many bytes noise repeats: a prime, so that no two bodies are likely to be equal.
const NOISE: u64 = 1_048_573;

fn noise() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut random = Random::new(7);
        let length = NOISE + 2048;
        (0..length.div_ceil(8)).flat_map(|_| random.any().to_le_bytes()).collect()
    })
}
