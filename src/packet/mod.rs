//! From link-layer bytes to a borrowed TCP segment.
//!
//! A captured packet comes in; what goes out is the innermost TCP [`Segment`] or UDP [`Datagram`], borrowing
//! the packet's bytes. Link headers, VLAN tags, tunnels and fragments are taken off on the way, to a
//! bounded depth. Whatever cannot be read is counted under a name, never dropped in silence.
//!
//! The IP length is the truth about where a packet ends: Ethernet padding and tap trailers are cut off, and
//! bytes that the snap length cut are known by number.

mod fast;
mod fragment;
mod link;
mod network;
mod transport;
mod tunnel;

use crate::capture::Packet;
use crate::config;
use crate::net::{Address, Endpoint, Timestamp};

pub use fast::Plain;
pub use fragment::FragmentCounters;

/// TCP flags (RFC 9293 section 3.1), the low eight bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// The sender has finished sending.
    pub fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }
    /// None of those that begin or end a connection.
    #[inline]
    pub fn goes_on(self) -> bool {
        self.0 & 0x07 == 0
    }
    /// Synchronise sequence numbers.
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }
    /// Reset the connection.
    pub fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }
    /// The acknowledgement number is valid.
    pub fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

/// How many VLAN tags and tunnels are remembered; more are still taken off.
const REMEMBERED: usize = 4;

/// What a packet was wrapped in, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    vlans: [u16; REMEMBERED],
    tunnels: [Option<Tunnel>; REMEMBERED],
    vlan_count: u8,
    tunnel_count: u8,
}

impl Layers {
    fn push_vlan(&mut self, id: u16) {
        if let Some(place) = self.vlans.get_mut(usize::from(self.vlan_count)) {
            *place = id;
            self.vlan_count += 1;
        }
    }

    fn push_tunnel(&mut self, tunnel: Tunnel) {
        if let Some(place) = self.tunnels.get_mut(usize::from(self.tunnel_count)) {
            *place = Some(tunnel);
            self.tunnel_count += 1;
        }
    }

    /// VLAN identifiers, outermost first, four at most.
    pub fn vlans(&self) -> &[u16] {
        self.vlans.get(..usize::from(self.vlan_count)).unwrap_or_default()
    }

    /// Tunnels, outermost first, four at most.
    pub fn tunnels(&self) -> impl Iterator<Item = Tunnel> + '_ {
        self.tunnels.iter().flatten().copied()
    }
}

/// A kind of encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// RFC 3032, and pseudo-wires inside (RFC 4448).
    Mpls,
    /// RFC 2516.
    Pppoe,
    /// IPv4 or IPv6 directly in IP (RFC 2003, RFC 4213, RFC 2473).
    IpInIp,
    /// RFC 2784, RFC 2890.
    Gre,
    /// Cisco's remote mirror, types I to III.
    Erspan,
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// 3GPP TS 29.281.
    GtpU,
    /// RFC 4380.
    Teredo,
    /// RFC 8300.
    Nsh,
}

impl Tunnel {
    /// The value in `outfall.tunnel`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mpls => "mpls",
            Self::Pppoe => "pppoe",
            Self::IpInIp => "ipip",
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::GtpU => "gtp-u",
            Self::Teredo => "teredo",
            Self::Nsh => "nsh",
        }
    }
}

/// One TCP segment of the innermost connection.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The packet's place in the input.
    pub index: u64,
    /// The packet's own time.
    pub ts: Timestamp,
    /// The pipeline's clock at this packet; never goes back.
    pub clock: Timestamp,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// Sequence number of the first payload byte (of SYN, if SYN is set).
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: Flags,
    /// The payload that was captured.
    pub payload: &'a [u8],
    /// How many further payload bytes the snap length cut off; at most 65,535, or what the frame's
    /// own length allows for offloaded segments.
    pub cut: u32,
    /// What the packet was wrapped in.
    pub layers: Layers,
}

/// One UDP datagram that is no tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The packet's place in the input.
    pub index: u64,
    /// The packet's own time.
    pub ts: Timestamp,
    /// The pipeline's clock at this packet.
    pub clock: Timestamp,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// The payload that was captured.
    pub payload: &'a [u8],
}

/// What a packet turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Decoded<'a> {
    /// TCP.
    Tcp(Segment<'a>),
    /// UDP, no tunnel.
    Udp(Datagram<'a>),
}

/// What became of the packets; every packet is in exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketCounters {
    /// Delivered as a TCP segment.
    pub tcp: u64,
    /// Delivered as a UDP datagram.
    pub udp: u64,
    /// IP, but neither TCP nor UDP nor a known tunnel.
    pub other_ip: u64,
    /// Not IP (ARP, spanning tree and so on).
    pub not_ip: u64,
    /// A link type that Outfall does not read.
    pub unknown_link: u64,
    /// A fragment that waits for the rest, or one that never became whole.
    pub fragments: u64,
    /// A header that contradicts itself or ends early.
    pub malformed: u64,
    /// Encapsulated deeper than the configured depth.
    pub too_deep: u64,
    /// Of `tcp`, how many the snap length had cut.
    pub snapped: u64,
}

impl PacketCounters {
    /// Adds the counts of another decoder.
    pub fn add(&mut self, other: &Self) {
        self.tcp += other.tcp;
        self.udp += other.udp;
        self.other_ip += other.other_ip;
        self.not_ip += other.not_ip;
        self.unknown_link += other.unknown_link;
        self.fragments += other.fragments;
        self.malformed += other.malformed;
        self.too_deep += other.too_deep;
        self.snapped += other.snapped;
    }
}

/// Why a packet yields nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    OtherIp,
    NotIp,
    UnknownLink,
    Fragment,
    Malformed,
    TooDeep,
}

/// Takes packets apart. Holds the fragments that wait for their rest.
#[derive(Debug)]
pub struct Decoder {
    fragments: fragment::Fragments,
    own: PacketCounters,
    common: PacketCounters,
    depth: u8,
}

/// Who is given a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// This decoder alone.
    One,
    /// Every decoder.
    All,
}

/// The two hosts between which everything goes that a packet holds; nothing where only taking it apart tells, as with
/// tunnels and fragments.
#[inline]
pub fn hosts(packet: &Packet<'_>) -> Option<(Address, Address)> {
    if packet.link == link::ETHERNET { fast::hosts(packet) } else { None }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limits(&config::Packet::default())
    }
}

impl Decoder {
    /// A decoder with no fragments waiting and the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder with no fragments waiting.
    pub fn with_limits(limits: &config::Packet) -> Self {
        Self {
            fragments: fragment::Fragments::new(limits),
            own: PacketCounters::default(),
            common: PacketCounters::default(),
            depth: u8::try_from(limits.tunnel_depth).unwrap_or(u8::MAX),
        }
    }

    /// Takes one packet apart and hands what is inside to `sink`, at most once.
    #[inline]
    pub fn decode(&mut self, packet: &Packet<'_>, sink: &mut impl FnMut(Decoded<'_>)) {
        match self.common(packet) {
            Some(segment) => sink(Decoded::Tcp(segment)),
            None => self.uncommon(packet, Audience::One, sink),
        }
    }

    /// The first half of [`Decoder::decode`]: the segment in a packet of the common shape, which borrows nothing but
    /// the packet, so that several can be looked at together. A packet that yields none goes to [`Decoder::uncommon`].
    #[inline]
    pub fn common<'p>(&mut self, packet: &Packet<'p>) -> Option<Segment<'p>> {
        if packet.link != link::ETHERNET {
            return None;
        }
        let segment = fast::segment(packet)?;
        self.count_common(&segment);
        Some(segment)
    }

    /// [`Decoder::common`] for a packet whose headers were read already.
    #[inline(always)]
    pub fn plain<'p>(&mut self, plain: &Plain, packet: &Packet<'p>) -> Segment<'p> {
        let segment = plain.segment(packet);
        self.count_common(&segment);
        segment
    }

    #[inline(always)]
    fn count_common(&mut self, segment: &Segment<'_>) {
        self.own.tcp += 1;
        if segment.cut > 0 {
            self.own.snapped += 1;
        }
    }

    /// The second half of [`Decoder::decode`]: packets of any shape.
    pub fn uncommon(&mut self, packet: &Packet<'_>, audience: Audience, sink: &mut impl FnMut(Decoded<'_>)) {
        self.fragments.part_of = None;
        if packet.link == link::ETHERNET
            && let Some(datagram) = fast::datagram(packet)
        {
            self.counters_of(audience).udp += 1;
            sink(Decoded::Udp(datagram));
        } else {
            self.general(packet, audience, sink);
        }
    }

    fn counters_of(&mut self, audience: Audience) -> &mut PacketCounters {
        match audience {
            Audience::One => &mut self.own,
            Audience::All => &mut self.common,
        }
    }

    /// Takes a packet apart header by header.
    fn general(&mut self, packet: &Packet<'_>, audience: Audience, sink: &mut impl FnMut(Decoded<'_>)) {
        let mut walk =
            network::Walk { packet, layers: Layers::default(), depth: self.depth, fragments: &mut self.fragments };
        let mut found = None;
        let outcome = link::enter(&mut walk, &mut |decoded| {
            found = Some(match &decoded {
                Decoded::Tcp(segment) => (true, segment.cut > 0),
                Decoded::Udp(_) => (false, false),
            });
            sink(decoded);
        });
        let counters = self.counters_of(audience);
        match (found, outcome) {
            (Some((true, snapped)), _) => {
                counters.tcp += 1;
                counters.snapped += u64::from(snapped);
            }
            (Some((false, _)), _) => counters.udp += 1,
            (None, Err(Skip::NotIp)) => counters.not_ip += 1,
            (None, Err(Skip::UnknownLink)) => counters.unknown_link += 1,
            (None, Err(Skip::Fragment)) => counters.fragments += 1,
            (None, Err(Skip::TooDeep)) => counters.too_deep += 1,
            (None, Err(Skip::OtherIp)) => counters.other_ip += 1,
            (None, Err(Skip::Malformed) | Ok(())) => counters.malformed += 1,
        }
    }

    /// If the packet that [`Decoder::uncommon`] took apart last is a fragment: a number that it shares with the other fragments of the
    /// same datagram, and hardly with those of another.
    pub fn part_of(&self) -> Option<u64> {
        self.fragments.part_of
    }

    /// The input is over: counts the fragments whose rest never came.
    pub fn finish(&mut self) {
        self.fragments.finish();
    }

    /// What became of the packets that this decoder alone was given, so far.
    pub fn counters(&self) -> &PacketCounters {
        &self.own
    }

    /// What became of the packets that every decoder was given, so far: the same in all of them.
    pub fn common_counters(&self) -> &PacketCounters {
        &self.common
    }

    /// Bytes of fragments that wait for their rest.
    pub fn fragment_memory(&self) -> u64 {
        self.fragments.held()
    }

    /// What became of the fragments so far.
    pub fn fragment_counters(&self) -> &FragmentCounters {
        self.fragments.counters()
    }
}

/// The two bytes at `at`, big-endian.
fn be16(bytes: &[u8], at: usize) -> Result<u16, Skip> {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => Ok(u16::from_be_bytes([a, b])),
        _ => Err(Skip::Malformed),
    }
}

/// The four bytes at `at`, big-endian.
fn be32(bytes: &[u8], at: usize) -> Result<u32, Skip> {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(Skip::Malformed),
    }
}

/// The byte at `at`.
fn byte(bytes: &[u8], at: usize) -> Result<u8, Skip> {
    bytes.get(at).copied().ok_or(Skip::Malformed)
}

/// What follows the first `length` bytes.
fn rest(bytes: &[u8], length: usize) -> Result<&[u8], Skip> {
    bytes.get(length..).ok_or(Skip::Malformed)
}

#[cfg(test)]
mod tests;
