//! Passwords in URIs, taken out before anything can keep them.

use std::borrow::Cow;

/// What stands in a password's place.
const MASK: &str = "***";

/// The text with the password of every `scheme://user:password@host` in it replaced by `***` (RFC 3986 section 3.2.1).
/// Proxies are sent such targets, and command lines hold them.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://").map(|at| at + 3) {
        let (scheme, after) = rest.split_at(at);
        clean.push_str(scheme);
        // A quotation mark ends nothing here: a password may hold it, and behind the host it does no harm.
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace());
        let (authority, behind) = after.split_at(end.unwrap_or(after.len()));
        // The last `@` ends the user information, whatever stands in it.
        match authority.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
            Some((Some((user, _password)), host)) => clean.extend([user, ":", MASK, "@", host]),
            _ => clean.push_str(authority),
        }
        rest = behind;
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_uri_is_never_kept() {
        assert_eq!(without_passwords("ftp://u:s3cret@h.example/f"), "ftp://u:***@h.example/f");
        assert_eq!(without_passwords("ftp://u:p@ss:w@h.example/f@g"), "ftp://u:***@h.example/f@g");
        assert_eq!(without_passwords("http://h.example/a:b@c"), "http://h.example/a:b@c");
        assert_eq!(without_passwords("/plain?x=1"), "/plain?x=1");
        assert_eq!(without_passwords("ftp://u:it's@h.example/f"), "ftp://u:***@h.example/f");
        assert_eq!(without_passwords("'ftp://u:p\"q@h.example' x"), "'ftp://u:***@h.example' x");
        let line = r#"curl -T a "ftp://u:p@[2001:db8::1]/" http://v:q@x"#;
        assert_eq!(without_passwords(line), r#"curl -T a "ftp://u:***@[2001:db8::1]/" http://v:***@x"#);
    }
}
