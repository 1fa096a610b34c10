//! TLS 1.3 as it looks from outside: hellos in the clear, then sealed records.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::conversation::{CLIENT, Piece, SERVER, Step, length};
use super::random::Random;
use super::totals::Totals;

/// The most that a record carries, in bytes (RFC 8446 section 5.2).
const RECORD: u64 = 16_384;

/// A connection over which about `size` bytes pass, most of them to the client in nine of ten cases.
pub fn connection(
    ends: [SocketAddr; 2],
    host: &str,
    size: u64,
    random: &mut Random,
    totals: &mut Totals,
) -> VecDeque<Step> {
    let mut steps = VecDeque::from([Step::Open { connection: 0, ends }]);
    let mut bytes = 0;
    let mut send = |side: usize, pieces: VecDeque<Piece>| {
        bytes += length(&pieces);
        steps.push_back(Step::Send { connection: 0, side, pieces });
    };
    send(CLIENT, [Piece::Text(client_hello(host, random))].into());
    let mut flight = VecDeque::from([Piece::Text(server_hello(random))]);
    let certificate = random.between(1800, 3800);
    records(&mut flight, certificate, random);
    send(SERVER, flight);
    let mut finished = VecDeque::from([Piece::Text(CHANGE_CIPHER.to_vec())]);
    records(&mut finished, 74, random);
    send(CLIENT, finished);
    let to_client = random.percent(90);
    let turns = 1 + random.below(3).min(size / 12_000);
    for _ in 0..turns {
        let large = size / turns;
        let small = random.between(150, 900);
        let mut request = VecDeque::new();
        records(&mut request, if to_client { small } else { large }, random);
        send(CLIENT, request);
        let mut answer = VecDeque::new();
        records(&mut answer, if to_client { large } else { small }, random);
        send(SERVER, answer);
    }
    totals.tls.add(bytes);
    steps.push_back(if random.percent(5) {
        Step::Reset { connection: 0, side: CLIENT }
    } else {
        Step::Close { connection: 0, side: if random.percent(60) { CLIENT } else { SERVER } }
    });
    steps
}

const CHANGE_CIPHER: [u8; 6] = [0x14, 3, 3, 0, 1, 1];

/// Sealed records with `length` bytes in all, headers apart.
fn records(pieces: &mut VecDeque<Piece>, mut length: u64, random: &mut Random) {
    while length > 0 {
        let part = length.min(RECORD);
        length -= part;
        let [high, low] = (part as u16).to_be_bytes();
        pieces.push_back(Piece::Text(vec![0x17, 3, 3, high, low]));
        pieces.push_back(Piece::Noise { length: part, from: random.any() });
    }
}

fn client_hello(host: &str, random: &mut Random) -> Vec<u8> {
    let mut name = vec![0];
    sized(&mut name, host.as_bytes());
    let mut names = Vec::new();
    sized(&mut names, &name);
    let mut extensions = Vec::new();
    extension(&mut extensions, 0, &names);
    extension(&mut extensions, 10, &[0, 4, 0, 29, 0, 23]);
    extension(&mut extensions, 13, &[0, 8, 4, 3, 8, 4, 4, 1, 5, 3]);
    extension(&mut extensions, 16, b"\x00\x0c\x02h2\x08http/1.1");
    extension(&mut extensions, 43, &[4, 3, 4, 3, 3]);
    let mut share = vec![0, 36, 0, 29, 0, 32];
    share.extend(bytes::<32>(random));
    extension(&mut extensions, 51, &share);
    // Padded to the usual size (RFC 7685).
    let padding = 400_usize.saturating_sub(extensions.len() + 4);
    extension(&mut extensions, 21, &vec![0; padding]);
    let mut body = vec![3, 3];
    body.extend(bytes::<32>(random));
    body.push(32);
    body.extend(bytes::<32>(random));
    sized(&mut body, &[0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30]);
    body.extend([1, 0]);
    sized(&mut body, &extensions);
    handshake(1, &body)
}

fn server_hello(random: &mut Random) -> Vec<u8> {
    let mut extensions = Vec::new();
    extension(&mut extensions, 43, &[3, 4]);
    let mut share = vec![0, 29, 0, 32];
    share.extend(bytes::<32>(random));
    extension(&mut extensions, 51, &share);
    let mut body = vec![3, 3];
    body.extend(bytes::<32>(random));
    body.push(32);
    body.extend(bytes::<32>(random));
    body.extend([0x13, 1, 0]);
    sized(&mut body, &extensions);
    let mut records = handshake(2, &body);
    records.extend(CHANGE_CIPHER);
    records
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0];
    sized(&mut message, body);
    let mut record = vec![0x16, 3, 1];
    sized(&mut record, &message);
    record
}

fn extension(to: &mut Vec<u8>, kind: u16, body: &[u8]) {
    to.extend(kind.to_be_bytes());
    sized(to, body);
}

/// The bytes after their number, in two bytes.
fn sized(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend((bytes.len() as u16).to_be_bytes());
    to.extend(bytes);
}

fn bytes<const N: usize>(random: &mut Random) -> [u8; N] {
    std::array::from_fn(|_| random.any() as u8)
}
