//! Request targets (RFC 9112 section 3.2): the host in them, and no secret.

/// The target with any user information's password replaced: `ftp://user:secret@host/` becomes
/// `ftp://user:***@host/`. Proxies are sent such targets.
pub(super) fn redact(target: &str) -> String {
    let Some(authority) = target.find("://").map(|at| at + 3) else { return target.to_owned() };
    let rest = target.get(authority..).unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // The last `@` ends the user information, whatever it holds.
    let Some(at) = rest.get(..end).and_then(|a| a.rfind('@')) else { return target.to_owned() };
    let user = rest.get(..at).unwrap_or_default();
    let Some((name, _secret)) = user.split_once(':') else { return target.to_owned() };
    format!("{}{name}:***{}", target.get(..authority).unwrap_or_default(), rest.get(at..).unwrap_or_default())
}

/// The host that a request is for: the target's own in absolute form, else the Host field's; without port.
/// `None` for a bare address.
pub(in crate::protocol) fn domain(target: &str, host: Option<&str>) -> Option<String> {
    let authority = target.split_once("://").map(|(_, rest)| {
        let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        rest.rsplit('@').next().unwrap_or(rest)
    });
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
    fn a_password_in_a_target_is_never_kept() {
        assert_eq!(redact("ftp://u:s3cret@h.example/f"), "ftp://u:***@h.example/f");
        assert_eq!(redact("ftp://u:p@ss:w@h.example/f@g"), "ftp://u:***@h.example/f@g");
        assert_eq!(redact("http://h.example/a:b@c"), "http://h.example/a:b@c");
        assert_eq!(redact("/plain?x=1"), "/plain?x=1");
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
