//! What the functions cost that every packet passes: `cargo bench --bench hot`.
//!
//! One packet, message or line is one item, so that the figures add up to what a capture costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod traffic;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use outfall::capture::Packet;
use outfall::config::Config;
use outfall::flow::{Application, Both, Data, Gap, Link, Moment, Side, Totals, Tracker};
use outfall::net::Timestamp;
use outfall::packet::{Decoder, Flags, Layers, Segment};
use outfall::protocol::{Parsers, Stream};
use traffic::frame::{ACK, Frame, TcpFields};
use traffic::random::Random;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The payload of a full segment with timestamps, in bytes.
const FULL: usize = 1448;
const START: Timestamp = Timestamp(1_767_603_600_000_000_000);

fn main() {
    divan::Divan::default().min_time(Duration::from_millis(300)).config_with_args().main();
}

// Taking packets apart.

#[derive(Clone, Copy)]
enum Wrapping {
    Plain,
    V6,
    Vlan,
    QinQ,
    RawIp,
    LinuxCooked,
    Vxlan,
    Gre,
    Dns,
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Ethernet, IPv4, TCP",
            Self::V6 => "Ethernet, IPv6, TCP",
            Self::Vlan => "one VLAN tag",
            Self::QinQ => "two VLAN tags",
            Self::RawIp => "raw IP",
            Self::LinuxCooked => "Linux cooked",
            Self::Vxlan => "VXLAN",
            Self::Gre => "GRE",
            Self::Dns => "Ethernet, IPv4, UDP",
        })
    }
}

impl Wrapping {
    const ALL: [Self; 9] = [
        Self::Plain,
        Self::V6,
        Self::Vlan,
        Self::QinQ,
        Self::RawIp,
        Self::LinuxCooked,
        Self::Vxlan,
        Self::Gre,
        Self::Dns,
    ];

    /// A packet, with the number of its link type.
    fn packet(self) -> (u16, Vec<u8>) {
        let v6 = matches!(self, Self::V6);
        let plain = tcp(v6);
        let ip = &plain[14..];
        match self {
            Self::Plain | Self::V6 => (1, plain),
            Self::Vlan => (1, [&plain[..12], &[0x81, 0, 0, 7], &plain[12..]].concat()),
            Self::QinQ => (1, [&plain[..12], &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7], &plain[12..]].concat()),
            Self::RawIp => (101, ip.to_vec()),
            Self::LinuxCooked => (113, [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0], ip].concat()),
            Self::Vxlan => (1, udp(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0], &plain[..]].concat())),
            Self::Gre => {
                let outer = tcp(false);
                let mut packet = outer[..34].to_vec();
                packet.extend([0, 0, 8, 0]);
                packet.extend(ip);
                let length = packet.len() as u16 - 14;
                packet[16..18].copy_from_slice(&length.to_be_bytes());
                packet[23] = 47;
                (1, packet)
            }
            Self::Dns => (1, udp(53, &[0; 100])),
        }
    }
}

fn ends(v6: bool) -> [SocketAddr; 2] {
    if v6 {
        ["[fd00::1]:40000".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()]
    } else {
        ["10.0.0.1:40000".parse().unwrap(), "192.0.2.1:443".parse().unwrap()]
    }
}

fn tcp(v6: bool) -> Vec<u8> {
    let mut frame = Frame::default();
    let [from, to] = ends(v6);
    let fields = TcpFields { seq: 1000, ack: 2000, flags: ACK, window: 502 };
    frame.begin_tcp(from, to, fields, &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    frame.bytes.extend_from_slice(&[0x17; 1000]);
    frame.seal(60);
    frame.bytes
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::default();
    let [from, mut to] = ends(false);
    to.set_port(port);
    frame.begin_udp(from, to);
    frame.bytes.extend_from_slice(payload);
    frame.seal(60);
    frame.bytes
}

#[divan::bench(args = Wrapping::ALL)]
fn decode(bencher: Bencher, wrapping: Wrapping) {
    let (link, bytes) = wrapping.packet();
    let packet =
        Packet { index: 0, ts: START, clock: START, link, wire_length: bytes.len() as u32, bytes: bytes.as_slice() };
    let mut decoder = Decoder::new();
    let mut found = 0_u64;
    decoder.decode(&packet, &mut |_| found += 1);
    assert_eq!(found, 1, "{wrapping}: {:?}", decoder.counters());
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        decoder.decode(black_box(&packet), &mut |decoded| {
            black_box(decoded);
        });
    });
}

// Flows.

/// Takes all and does nothing.
struct Nothing;

impl Application for Nothing {
    type State = ();

    fn open(&mut self, _: &mut Link, _: Side, _: Moment) {}
    fn data(&mut self, _: &mut (), _: &mut Link, data: Data<'_>, _: Moment) {
        black_box(data);
    }
    fn gap(&mut self, _: &mut (), _: &mut Link, _: Gap, _: Moment) {}
    fn finish(&mut self, _: &mut (), _: &mut Link, _: Side, _: Moment) {}
    fn close(&mut self, _: (), _: &Link, _: &Totals, _: Moment) {}
    fn tick(&mut self, _: Moment) {}
}

fn segment(number: u64, side: usize, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Segment<'_> {
    let [a, b, c, d] = (number as u32).to_be_bytes();
    let ends = [
        SocketAddr::from(([10, b, c, d], 40_000 + u16::from(a))).into(),
        SocketAddr::from(([192, 0, 2, 1], 443)).into(),
    ];
    Segment {
        index: number,
        ts: START,
        clock: START,
        source: ends[side],
        destination: ends[1 - side],
        seq,
        ack,
        flags: Flags(flags),
        payload,
        cut: 0,
        layers: Layers::default(),
    }
}

fn tracker(flows: u64) -> Tracker<Nothing> {
    let mut tracker = Tracker::new(&Config::default().flow, 1, 7, Nothing);
    for number in 0..flows {
        tracker.push(&segment(number, 0, 2, 1000, 0, &[]));
        tracker.push(&segment(number, 1, 18, 5000, 1001, &[]));
        tracker.push(&segment(number, 0, 16, 1001, 5001, &[]));
    }
    tracker
}

/// Acknowledgements of connections picked at random: finding the flow is the work.
#[divan::bench(args = [100, 10_000, 200_000])]
fn flow_lookup(bencher: Bencher, flows: u64) {
    let mut tracker = tracker(flows);
    let mut random = Random::new(1);
    let order: Vec<u64> = (0..1 << 20).map(|_| random.below(flows)).collect();
    let mut place = 0;
    bencher.counter(ItemsCount::new(64_u32)).bench_local(|| {
        for _ in 0..64 {
            place = (place + 1) % order.len();
            tracker.push(&segment(order[place], 0, 16, 1001, 5001, &[]));
        }
    });
}

/// Full segments of one connection, in order, each second one acknowledged.
#[divan::bench]
fn stream_in_order(bencher: Bencher) {
    let mut tracker = tracker(1);
    let payload = [0x17; FULL];
    let mut seq = 1001_u32;
    bencher.counter(ItemsCount::new(3_u32)).counter(BytesCount::new(2 * FULL)).bench_local(|| {
        for _ in 0..2 {
            tracker.push(&segment(0, 0, 16, seq, 5001, &payload));
            seq = seq.wrapping_add(FULL as u32);
        }
        tracker.push(&segment(0, 1, 16, 5001, seq, &[]));
    });
}

/// The same, where each two segments have changed places.
#[divan::bench]
fn stream_reordered(bencher: Bencher) {
    let mut tracker = tracker(1);
    let payload = [0x17; FULL];
    let mut seq = 1001_u32;
    bencher.counter(ItemsCount::new(3_u32)).counter(BytesCount::new(2 * FULL)).bench_local(|| {
        let middle = seq.wrapping_add(FULL as u32);
        tracker.push(&segment(0, 0, 16, middle, 5001, &payload));
        tracker.push(&segment(0, 0, 16, seq, 5001, &payload));
        seq = middle.wrapping_add(FULL as u32);
        tracker.push(&segment(0, 1, 16, 5001, seq, &[]));
    });
}

// Protocols.

/// One connection to the parsers, bytes in order.
struct Conversation {
    parsers: Parsers,
    stream: Stream,
    link: Link,
    sent: [u64; 2],
    packets: u64,
}

const CLIENT: Side = Side::Low;
const SERVER: Side = Side::High;

impl Conversation {
    fn new(port: u16) -> Self {
        let mut config = Config::default();
        config.files.hash = false;
        let mut parsers = Parsers::new(&config.protocol, &config.files, 1);
        let client = SocketAddr::from(([10, 0, 0, 1], 40_000)).into();
        let server = SocketAddr::from(([192, 0, 2, 1], port)).into();
        let mut link = Link {
            ends: Both::new(client, server),
            client: CLIENT,
            client_known: true,
            mid_stream: false,
            conflict: false,
            deaf: false,
            start: START,
            first_index: 0,
            layers: Layers::default(),
            slot: 0,
        };
        let now = Moment { clock: START, by_packet: true, index: 0 };
        let stream = parsers.open(&mut link, CLIENT, now);
        Self { parsers, stream, link, sent: [0; 2], packets: 0 }
    }

    fn say(&mut self, side: Side, bytes: &[u8]) {
        let offset = &mut self.sent[side as usize];
        let data = Data { side, offset: *offset, ts: START, bytes };
        *offset += bytes.len() as u64;
        self.packets += 1;
        let now = Moment { clock: START, by_packet: true, index: self.packets };
        self.parsers.data(&mut self.stream, &mut self.link, data, now);
        if self.parsers.has_facts() {
            black_box(self.parsers.take_facts().count());
        }
    }
}

const GET: &[u8] =
    b"GET /assets/app.js?v=17 HTTP/1.1\r\nHost: www.site.example\r\nUser-Agent: Mozilla/5.0 (Windows NT \
    10.0; Win64; x64) AppleWebKit/537.36\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nAccept-Language: en\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\nReferer: http://www.site.example/index.html\r\n\r\n";
const NOT_MODIFIED: &[u8] = b"HTTP/1.1 304 Not Modified\r\nServer: nginx\r\nDate: Mon, 05 Jan 2026 09:00:00 GMT\r\n\
    ETag: \"0123456789abcdef\"\r\n\r\n";
const POST: &[u8] =
    b"POST /in HTTP/1.1\r\nHost: www.site.example\r\nContent-Type: application/json\r\nContent-Length: \
    16\r\n\r\n{\"alive\": true }";
const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

/// Two heads: a request without a body and its answer.
#[divan::bench]
fn http_heads(bencher: Bencher) {
    let mut conversation = Conversation::new(80);
    bencher.counter(ItemsCount::new(2_u32)).bench_local(|| {
        conversation.say(CLIENT, GET);
        conversation.say(SERVER, NOT_MODIFIED);
    });
    assert!(conversation.parsers.counters().http_requests > 0);
}

/// A small upload, its answer, its record.
#[divan::bench]
fn http_small_upload(bencher: Bencher) {
    let mut conversation = Conversation::new(80);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        conversation.say(CLIENT, POST);
        conversation.say(SERVER, CREATED);
    });
    assert!(conversation.parsers.counters().http_requests > 0);
}

/// Full segments of a body without end.
fn body(bencher: Bencher, head: &str, unit: &[u8]) {
    let mut conversation = Conversation::new(80);
    conversation.say(CLIENT, head.as_bytes());
    let segments: Vec<&[u8]> = unit.chunks(FULL).collect();
    bencher.counter(ItemsCount::new(segments.len())).counter(BytesCount::new(unit.len())).bench_local(|| {
        for segment in &segments {
            conversation.say(CLIENT, segment);
        }
    });
    assert_eq!(conversation.parsers.counters().http_bad_chunks, 0);
}

const CHUNK: usize = 16_384;

#[divan::bench]
fn http_body_of_known_length(bencher: Bencher) {
    let head = format!("PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", u64::MAX / 4);
    body(bencher, &head, &[0x5a; CHUNK]);
}

#[divan::bench]
fn http_body_in_chunks(bencher: Bencher) {
    let chunk = [&b"4000\r\n"[..], &[0x5a; CHUNK], b"\r\n"].concat();
    body(bencher, "PUT /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk);
}

#[divan::bench]
fn http_multipart_body(bencher: Bencher) {
    let mut random = Random::new(1);
    let noise: Vec<u8> = (0..CHUNK).map(|_| random.any() as u8).collect();
    let length = u64::MAX / 4;
    let head = format!(
        "POST /f HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=----WebKitFormBoundary01234567\r\n\
         Content-Length: {length}\r\n\r\n------WebKitFormBoundary01234567\r\nContent-Disposition: form-data; \
         name=\"f\"; filename=\"a.bin\"\r\n\r\n"
    );
    body(bencher, &head, &noise);
}

/// A command and its reply.
#[divan::bench]
fn ftp_lines(bencher: Bencher) {
    let mut conversation = Conversation::new(21);
    conversation.say(SERVER, b"220 FTP ready\r\n");
    conversation.say(CLIENT, b"USER a\r\n");
    conversation.say(SERVER, b"331 Password\r\n");
    bencher.counter(ItemsCount::new(2_u32)).bench_local(|| {
        conversation.say(CLIENT, b"SIZE incoming/report.zip\r\n");
        conversation.say(SERVER, b"213 1048576\r\n");
    });
}
