//! The addresses that FTP announces for data connections (RFC 959 section 4.1.2, RFC 2428).

use crate::net::{Address, Endpoint};

/// `h1,h2,h3,h4,p1,p2`, in a PORT command or anywhere in a 227 reply.
pub(super) fn host_port(text: &str) -> Option<Endpoint> {
    // The reply's wording is free: the six numbers may stand in brackets or bare.
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
        if digit(at) && !(at > 0 && digit(at - 1)) {
            let numbers = text.get(at..)?;
            let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ').unwrap_or(numbers.len());
            let parts: Vec<Option<u8>> =
                numbers.get(..end)?.trim_end_matches([' ', ',']).split(',').map(|n| n.trim().parse().ok()).collect();
            if let [Some(a), Some(b), Some(c), Some(d), Some(high), Some(low)] = parts[..] {
                return endpoint(Address::v4([a, b, c, d]), u16::from_be_bytes([high, low]));
            }
        }
        at += 1;
    }
    None
}

/// `|1|192.0.2.1|6275|` or `|2|2001:db8::1|5282|`, the argument of EPRT; the delimiter is free.
pub(super) fn extended_port(text: &str) -> Option<Endpoint> {
    let text = text.trim();
    let delimiter = text.chars().next()?;
    let mut parts = text.get(delimiter.len_utf8()..)?.split(delimiter);
    let (_family, address, port) = (parts.next()?, parts.next()?, parts.next()?);
    let address: std::net::IpAddr = address.parse().ok()?;
    endpoint(address.into(), port.parse().ok()?)
}

/// The port in a 229 reply: `Entering Extended Passive Mode (|||6446|)`. The address is the control
/// connection's; some servers write it out.
pub(super) fn extended_passive(text: &str) -> Option<u16> {
    let open = text.find('(')?;
    let inner = text.get(open + 1..)?;
    let delimiter = inner.chars().next()?;
    let mut parts = inner.split(delimiter);
    let (_, _, _, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    port.parse().ok().filter(|port| *port != 0)
}

fn endpoint(address: Address, port: u16) -> Option<Endpoint> {
    (port != 0).then_some(Endpoint { address, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(endpoint: Option<Endpoint>) -> String {
        endpoint.map_or("-".to_owned(), |e| e.to_string())
    }

    #[test]
    fn announcements_are_read_in_their_odd_forms() {
        assert_eq!(shown(host_port("10,0,0,1,4,1")), "10.0.0.1:1025");
        assert_eq!(shown(host_port("Entering Passive Mode (192,0,2,9,200,10).")), "192.0.2.9:51210");
        assert_eq!(shown(host_port("=192,0,2,9,200,10")), "192.0.2.9:51210");
        assert_eq!(shown(host_port("10,0,0,1,4")), "-");
        assert_eq!(shown(host_port("10,0,0,1,400,1")), "-");
        assert_eq!(shown(host_port("10,0,0,1,0,0")), "-");
        assert_eq!(shown(extended_port("|2|2001:db8::1|5282|")), "[2001:db8::1]:5282");
        assert_eq!(shown(extended_port("!1!192.0.2.1!6275!")), "192.0.2.1:6275");
        assert_eq!(extended_passive("Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(extended_passive("Entering Extended Passive Mode"), None);
    }
}
