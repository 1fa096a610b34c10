//! The capture of the smallest packets: many connections that chat, one packet each at random.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::Scale;
use super::frame::{ACK, FIN, Frame, PSH, SYN, TcpFields};
use super::random::Random;
use super::savefile::Savefile;
use super::scene::{home, outside};
use super::totals::Totals;

/// Every frame has so many bytes.
const FRAME: usize = 64;
/// What that leaves for the payload of a TCP segment without options.
const TCP_PAYLOAD: usize = 10;
const UDP_PAYLOAD: usize = 22;
const FLOWS: u64 = 200_000;
/// In a hundred flows, so many are UDP.
const UDP_SHARE: u64 = 8;
/// In a hundred flows, so many are uploads over HTTP that trickle.
const UPLOAD_SHARE: u64 = 1;
/// Packets of a flow: from here up to, not including, there.
const PACKETS: (u64, u64) = (7, 46);

/// A connection, as small as it can be kept: all of them are open at once.
#[derive(Clone, Copy)]
struct Flow {
    number: u32,
    next: [u32; 2],
    kind: Kind,
    done: u8,
    packets: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Upload,
    Udp,
}

const UPLOADED: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

fn upload_text() -> Vec<u8> {
    let head = format!("POST /t HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n", UPLOADED.len());
    [head.as_bytes(), UPLOADED].concat()
}

const ANSWER: &[u8] = b"HTTP/1.1 204 OK\r\n\r\n";

/// Writes it.
pub fn write<W: Write>(scale: Scale, file: &mut Savefile<W>) -> io::Result<()> {
    let mut random = Random::new(4);
    let request = upload_text();
    let count = scale.of(FLOWS);
    let mut flows: Vec<Flow> = (0..count).map(|n| begin(n, &request, &mut random, &mut file.totals)).collect();
    let mut frame = Frame::default();
    while !flows.is_empty() {
        let place = random.below(flows.len() as u64) as usize;
        let flow = &mut flows[place];
        flow.packet(&mut frame, &request, &mut random);
        frame.seal(FRAME);
        file.write(&frame.bytes)?;
        if flow.done == flow.packets {
            flows.swap_remove(place);
        }
    }
    Ok(())
}

fn begin(number: u64, request: &[u8], random: &mut Random, totals: &mut Totals) -> Flow {
    let kind = match random.below(100) {
        draw if draw < UDP_SHARE => Kind::Udp,
        draw if draw < UDP_SHARE + UPLOAD_SHARE => Kind::Upload,
        _ => Kind::Chat,
    };
    let mut packets = random.between(PACKETS.0, PACKETS.1) as u8;
    match kind {
        Kind::Udp => {
            totals.datagrams.count += u64::from(packets);
            totals.datagrams.bytes += u64::from(packets) * UDP_PAYLOAD as u64;
        }
        Kind::Chat => totals.connections += 1,
        Kind::Upload => {
            totals.connections += 1;
            totals.http_uploads.add(UPLOADED.len() as u64);
            let (requests, answers) = (request.len().div_ceil(TCP_PAYLOAD), ANSWER.len().div_ceil(TCP_PAYLOAD));
            packets = (3 + requests + answers + 3) as u8;
        }
    }
    Flow { number: number as u32, next: [random.any() as u32, random.any() as u32], kind, done: 0, packets }
}

impl Flow {
    fn ends(&self) -> [SocketAddr; 2] {
        let number = u64::from(self.number);
        // Twenty thousand hosts, each with its connections to neighbouring servers.
        let port = 1024 + (number.wrapping_mul(7919) % 60_000) as u16;
        let service = [23, 5060, 8443, 3389][(number % 4) as usize];
        [
            SocketAddr::new(home(number % 20_000, false), port),
            SocketAddr::new(outside(number / 20_000 * 7 + number % 5_003, false), service),
        ]
    }

    /// The next packet, not yet sealed.
    fn packet(&mut self, frame: &mut Frame, request: &[u8], random: &mut Random) {
        let at = usize::from(self.done);
        let left = usize::from(self.packets) - at;
        self.done += 1;
        if self.kind == Kind::Udp {
            let ends = self.ends();
            let side = at % 2;
            frame.begin_udp(ends[side], ends[1 - side]);
            frame.bytes.extend_from_slice(&noise::<UDP_PAYLOAD>(random));
            return;
        }
        match (at, left) {
            (0, _) => self.segment(frame, 0, SYN, &[]),
            (1, _) => self.segment(frame, 1, SYN | ACK, &[]),
            (2, _) => self.segment(frame, 0, ACK, &[]),
            (_, 3) => self.segment(frame, 0, FIN | ACK, &[]),
            (_, 2) => self.segment(frame, 1, FIN | ACK, &[]),
            (_, 1) => self.segment(frame, 0, ACK, &[]),
            _ if self.kind == Kind::Upload => {
                let part = at - 3;
                let requests = request.len().div_ceil(TCP_PAYLOAD);
                let (side, text, part) =
                    if part < requests { (0, request, part) } else { (1, ANSWER, part - requests) };
                let from = part * TCP_PAYLOAD;
                self.segment(frame, side, PSH | ACK, &text[from..text.len().min(from + TCP_PAYLOAD)]);
            }
            _ => match (at - 3) % 4 {
                0 => self.segment(frame, 0, PSH | ACK, &noise::<TCP_PAYLOAD>(random)),
                2 => self.segment(frame, 1, PSH | ACK, &noise::<TCP_PAYLOAD>(random)),
                1 => self.segment(frame, 1, ACK, &[]),
                _ => self.segment(frame, 0, ACK, &[]),
            },
        }
    }

    fn segment(&mut self, frame: &mut Frame, side: usize, flags: u8, payload: &[u8]) {
        let ends = self.ends();
        let ack = if flags & ACK == 0 { 0 } else { self.next[1 - side] };
        let fields = TcpFields { seq: self.next[side], ack, flags, window: 8_192 };
        frame.begin_tcp(ends[side], ends[1 - side], fields, &[]);
        frame.bytes.extend_from_slice(payload);
        let length = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[side] = self.next[side].wrapping_add(length);
    }
}

fn noise<const N: usize>(random: &mut Random) -> [u8; N] {
    let words = [random.any(), random.any(), random.any()].map(u64::to_le_bytes);
    // No protocol begins with this byte.
    std::array::from_fn(|n| if n == 0 { 0x80 } else { words[n / 8][n % 8] })
}
