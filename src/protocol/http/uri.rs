//! Request targets (RFC 9112 section 3.2): the host in them.

use crate::net::host_and_port;

/// The host in a target of absolute form, which only proxies are sent: a name in lower case, or an address.
pub(super) fn proxied_to(target: &str) -> Option<String> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    host_of(host_and_port(rest))
}

/// The host in `host:port`: a name in lower case, or an address.
pub(super) fn host_of(authority: &str) -> Option<String> {
    let host = strip_port(authority);
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let is_host = |text: &str| text.parse::<std::net::IpAddr>().is_ok() || text.chars().all(is_name_character);
    (!host.is_empty() && is_host(host)).then(|| host.to_ascii_lowercase())
}

/// The host that a request is for: the target's own in absolute form, else the Host field's; without port.
/// `None` for a bare address.
pub(super) fn domain(target: &str, host: Option<&str>) -> Option<String> {
    let authority = target.split_once("://").map(|(_, rest)| host_and_port(rest));
    let name = strip_port(authority.or(host)?.trim());
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || bare.parse::<std::net::IpAddr>().is_ok() || !name.chars().all(is_name_character) {
        return None;
    }
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn strip_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_the_host_by_the_target() {
        assert_eq!(proxied_to("http://Files.example:81/a").as_deref(), Some("files.example"));
        assert_eq!(proxied_to("ftp://u:p@203.0.113.9/a").as_deref(), Some("203.0.113.9"));
        assert_eq!(proxied_to("http://[2001:db8::1]:80/").as_deref(), Some("2001:db8::1"));
        assert_eq!(proxied_to("/a?u=http://x/"), None);
        assert_eq!(proxied_to("http:///a"), None);
    }

    #[test]
    fn a_tunnel_leads_to_a_name_or_an_address() {
        assert_eq!(host_of("Files.example:443").as_deref(), Some("files.example"));
        assert_eq!(host_of("[2001:db8::1]:80").as_deref(), Some("2001:db8::1"));
        assert_eq!(host_of("a b:1"), None);
    }

    #[test]
    fn the_domain_is_a_name_without_port() {
        assert_eq!(domain("/", Some("Files.Example.:8080")).as_deref(), Some("files.example"));
        assert_eq!(domain("http://a.example/x", Some("proxy")).as_deref(), Some("a.example"));
        assert_eq!(domain("ftp://u:p@a.example/x", None).as_deref(), Some("a.example"));
        assert_eq!(domain("/", Some("192.0.2.1:80")), None);
        assert_eq!(domain("/", Some("[2001:db8::1]:80")), None);
        assert_eq!(domain("/", Some("a b\u{1b}")), None);
    }
}
