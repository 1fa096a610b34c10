//! Small captures made in a test: pcap files apart and together, and TCP conversations between two hosts.

use std::net::SocketAddrV4;

/// A packet with the header that stands before it in the file.
#[derive(Clone, Debug)]
pub struct Record {
    header: [u8; 16],
    bytes: Vec<u8>,
}

impl Record {
    /// Seconds and their fraction, as the file has them.
    pub fn time(&self) -> [u8; 8] {
        self.header[..8].try_into().unwrap()
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Another packet of that time.
    pub fn replaced(&self, bytes: Vec<u8>) -> Self {
        let mut header = self.header;
        let length = (bytes.len() as u32).to_le_bytes();
        header[8..12].copy_from_slice(&length);
        header[12..].copy_from_slice(&length);
        Self { header, bytes }
    }
}

/// The header and the packets of a little-endian pcap file.
pub fn parse(file: &[u8]) -> (Vec<u8>, Vec<Record>) {
    let (header, mut rest) = file.split_at(24);
    assert!(matches!(header[0], 0xd4 | 0x4d), "a little-endian pcap file");
    let mut records = Vec::new();
    while !rest.is_empty() {
        let header: [u8; 16] = rest[..16].try_into().unwrap();
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        records.push(Record { header, bytes: rest[16..16 + length].to_vec() });
        rest = &rest[16 + length..];
    }
    (header.to_vec(), records)
}

/// A pcap file of `records`.
pub fn build<'a>(header: &[u8], records: impl IntoIterator<Item = &'a Record>) -> Vec<u8> {
    let mut file = header.to_vec();
    for record in records {
        file.extend_from_slice(&record.header);
        file.extend_from_slice(&record.bytes);
    }
    file
}

/// An Ethernet capture that grows by a packet every millisecond, from a time on that can be set.
pub struct Capture {
    records: Vec<Record>,
    milliseconds: u64,
}

impl Default for Capture {
    fn default() -> Self {
        Self { records: Vec::new(), milliseconds: 1_700_000_000_000 }
    }
}

impl Capture {
    /// The file.
    pub fn file(&self) -> Vec<u8> {
        let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1];
        build(&header.map(u32::to_le_bytes).concat(), &self.records)
    }

    /// Opens a TCP connection from `client` to `server`.
    pub fn connect(&mut self, client: SocketAddrV4, server: SocketAddrV4) -> Conversation<'_> {
        let mut conversation = Conversation { capture: self, ends: [client, server], next: [1000, 5000] };
        conversation.segment(0, SYN, &[]);
        conversation.segment(1, SYN | ACK, &[]);
        conversation.segment(0, ACK, &[]);
        conversation
    }

    /// The next packet comes at this time, in seconds since 1970, or later if time has gone on further.
    #[allow(dead_code)]
    pub fn at(&mut self, seconds: u64) {
        self.milliseconds = self.milliseconds.max(seconds * 1000);
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Vec<u8>) {
        let length = frame.len() as u32;
        let fields = [(self.milliseconds / 1000) as u32, (self.milliseconds % 1000 * 1000) as u32, length, length];
        self.milliseconds += 1;
        self.records.push(Record { header: fields.map(u32::to_le_bytes).concat().try_into().unwrap(), bytes: frame });
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A TCP connection, while its packets are added to a capture.
pub struct Conversation<'a> {
    capture: &'a mut Capture,
    ends: [SocketAddrV4; 2],
    next: [u32; 2],
}

impl<'a> Conversation<'a> {
    /// Others go on in the meantime.
    #[allow(dead_code)]
    pub fn pause(self) -> ([SocketAddrV4; 2], [u32; 2]) {
        (self.ends, self.next)
    }

    /// Goes on where it was paused.
    #[allow(dead_code)]
    pub fn go_on(capture: &'a mut Capture, (ends, next): ([SocketAddrV4; 2], [u32; 2])) -> Self {
        Self { capture, ends, next }
    }

    /// The client says.
    pub fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.say(0, bytes.as_ref())
    }

    /// The server says.
    pub fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.say(1, bytes.as_ref())
    }

    /// Both ends close.
    pub fn close(&mut self) {
        self.segment(0, FIN | ACK, &[]);
        self.segment(1, FIN | ACK, &[]);
        self.segment(0, ACK, &[]);
    }

    fn say(&mut self, side: usize, bytes: &[u8]) -> &mut Self {
        for part in bytes.chunks(1400) {
            self.segment(side, ACK, part);
        }
        self.segment(1 - side, ACK, &[]);
        self
    }

    fn segment(&mut self, side: usize, flags: u8, payload: &[u8]) {
        let (from, to) = (self.ends[side], self.ends[1 - side]);
        let acknowledged = if flags & ACK == 0 { 0 } else { self.next[1 - side] };
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&from.port().to_be_bytes());
        tcp.extend_from_slice(&to.port().to_be_bytes());
        tcp.extend_from_slice(&self.next[side].to_be_bytes());
        tcp.extend_from_slice(&acknowledged.to_be_bytes());
        tcp.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend_from_slice(payload);
        let addresses = [from.ip().octets(), to.ip().octets()].concat();
        let pseudo = [&addresses[..], &[0, 6], &(tcp.len() as u16).to_be_bytes(), &tcp].concat();
        tcp[16..18].copy_from_slice(&checksum(&pseudo));
        let mut ip = vec![0x45, 0];
        ip.extend_from_slice(&(20 + tcp.len() as u16).to_be_bytes());
        ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend_from_slice(&addresses);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum);
        let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        self.capture.push([&ethernet[..], &ip, &tcp].concat());
        self.next[side] += payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
