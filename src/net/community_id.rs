//! Community ID flow hashing, version 1 (the specification of the Corelight `community-id-spec`).

use super::Endpoint;
use base64::Engine as _;
use sha1::{Digest, Sha1};

/// The Community ID (version 1, seed 0) of a TCP connection, the same whichever end is named first.
pub fn community_id(a: Endpoint, b: Endpoint) -> String {
    use std::net::IpAddr;

    const TCP: u8 = 6;
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    let mut hash = Sha1::new();
    hash.update(0u16.to_be_bytes());
    for end in [low, high] {
        match end.address.ip() {
            IpAddr::V4(v4) => hash.update(v4.octets()),
            IpAddr::V6(v6) => hash.update(v6.octets()),
        }
    }
    hash.update([TCP, 0]);
    hash.update(low.port.to_be_bytes());
    hash.update(high.port.to_be_bytes());
    let mut id = "1:".to_owned();
    base64::engine::general_purpose::STANDARD.encode_string(hash.finalize(), &mut id);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// The value that the specification's own baseline gives for this connection.
    #[test]
    fn the_id_matches_the_specification_both_ways_round() {
        let a: SocketAddr = "128.232.110.120:34855".parse().unwrap();
        let b: SocketAddr = "66.35.250.204:80".parse().unwrap();
        let expected = "1:LQU9qZlK+B5F3KDmev6m5PMibrg=";
        assert_eq!(community_id(a.into(), b.into()), expected);
        assert_eq!(community_id(b.into(), a.into()), expected);
    }
}
