//! The network's own nouns: addresses, endpoints, host pairs, byte sizes and time.
//!
//! Everything here is a plain value. Nothing reads a clock, and nothing allocates but the
//! textual forms.

#[cfg(feature = "sensor")]
mod community_id;
mod secret;
mod size;
mod time;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::Serialize as _;

#[cfg(feature = "sensor")]
pub use community_id::community_id;
pub use secret::{host_and_port, without_passwords};
pub use size::{ByteSize, SizeError, group_digits};
pub use time::{DurationError, Span, Timestamp};

/// An IPv4 or IPv6 address in one fixed-size form: IPv4 is kept IPv4-mapped (RFC 4291 section 2.5.5.2).
///
/// Ordering is numeric, so the lower of two addresses is the same on every machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
// Bytes, least significant first, and no `u128`: its alignment would double the size of what holds two ends.
pub struct Address([u8; 16]);

const MAPPED: u128 = 0xffff << 32;

impl Address {
    /// The address with the given four octets.
    #[inline]
    pub fn v4(octets: [u8; 4]) -> Self {
        Self((MAPPED | u128::from(u32::from_be_bytes(octets))).to_le_bytes())
    }

    /// The address with the given sixteen octets.
    #[inline]
    pub fn v6(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets).to_le_bytes())
    }

    /// The standard library's form; an IPv4-mapped address comes back as IPv4.
    pub fn ip(self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.bits());
        match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(v6),
        }
    }

    /// The number behind the address, for hashing.
    #[inline]
    pub fn bits(self) -> u128 {
        u128::from_le_bytes(self.0)
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(self) -> bool {
        self.bits() >> 32 == 0xffff
    }
}

impl Ord for Address {
    #[inline]
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bits().cmp(&other.bits())
    }
}

impl PartialOrd for Address {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same text as the standard library's, which takes more than twice as long to write an IPv4 address.
        self.ip().serialize(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// One end of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The host's address.
    pub address: Address,
    /// The TCP or UDP port.
    pub port: u16,
}

impl Endpoint {
    /// All of an end with an IPv4 address in one number, in the order of the ends.
    #[inline]
    pub fn v4_bits(self) -> Option<u64> {
        self.address.is_v4().then(|| (self.address.bits() as u64) << 16 | u64::from(self.port))
    }

    /// The standard library's form.
    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(socket: SocketAddr) -> Self {
        Self { address: socket.ip().into(), port: socket.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

/// A 64-bit mix of the unordered pair of host addresses, the same on every machine and in every run:
/// what spreads packets over workers, so that an FTP control connection and its data meet.
#[inline]
pub fn host_pair_hash(a: Address, b: Address) -> u64 {
    let fold = |x: u128| (x as u64) ^ ((x >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xa076_1d64_78bd_642f;
    // A product does not ask for the order of its factors.
    let mixed = u128::from(fold(a.bits())).wrapping_mul(u128::from(fold(b.bits())));
    (mixed as u64) ^ ((mixed >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_keeps_its_text_form() {
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(Address::from(ip).to_string(), "192.0.2.7");
        assert!(Address::from(ip).is_v4());
    }

    #[test]
    fn an_address_is_written_as_the_standard_library_writes_it() {
        for text in ["0.0.0.0", "10.20.130.255", "255.255.255.255", "::", "2001:db8::1:0:0:9", "fe80::1", "::1.2.3.4"] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(address.to_string(), ip.to_string());
            assert_eq!(format!("{address:>40}|{address:<5}|"), format!("{ip:>40}|{ip:<5}|"));
        }
    }

    #[test]
    fn the_number_of_an_ipv4_end_keeps_the_order_of_the_ends() {
        let end = |ip: [u8; 4], port| Endpoint { address: Address::v4(ip), port };
        let ends = [end([9, 0, 0, 1], 80), end([10, 0, 0, 1], 79), end([10, 0, 0, 1], 80), end([200, 0, 0, 0], 1)];
        assert!(ends.is_sorted());
        assert!(ends.is_sorted_by_key(|end| end.v4_bits().unwrap()));
        assert_eq!(Endpoint { address: Address::v6([1; 16]), port: 1 }.v4_bits(), None);
    }

    #[test]
    fn the_host_pair_hash_does_not_depend_on_order() {
        let a = Address::v4([10, 0, 0, 1]);
        let b = Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(host_pair_hash(a, b), host_pair_hash(b, a));
        assert_ne!(host_pair_hash(a, b), host_pair_hash(a, a));
    }
}
