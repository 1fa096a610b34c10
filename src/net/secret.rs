//! Passwords in URIs, taken out before anything can keep them.

use std::borrow::Cow;

/// What stands in a password's place.
const MASK: &str = "***";

/// What ends a URI's authority (RFC 3986 section 3.2), if it keeps to the rules.
const DELIMITERS: [char; 3] = ['/', '?', '#'];

/// The text with the password of every `scheme://user:password@host` in it replaced by `***` (RFC 3986 section 3.2.1).
/// Proxies are sent such targets, and command lines hold them.
///
/// People also write passwords with a `/`, `?` or `#` that they should have escaped. Where it is doubtful whether such
/// a text is a password or a path, it is masked.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://").map(|at| at + 3) {
        let (scheme, after) = rest.split_at(at);
        clean.push_str(scheme);
        rest = after;
        let Some(end) = end_of_user(after) else { continue };
        let (user, host) = (after.get(..end).unwrap_or_default(), after.get(end..).unwrap_or_default());
        if let Some((user, _password)) = user.split_once(':') {
            clean.extend([user, ":", MASK]);
            rest = host;
        }
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// The `host:port` of what follows a URI's `://`.
pub fn host_and_port(after_scheme: &str) -> &str {
    let host = match end_of_user(after_scheme) {
        Some(end) => after_scheme.get(end + 1..).unwrap_or_default(),
        None => after_scheme,
    };
    host.split(DELIMITERS).next().unwrap_or(host)
}

/// Where the `@` is that ends the user information of what follows a `://`, if there is any.
fn end_of_user(after: &str) -> Option<usize> {
    // A quotation mark ends nothing here: a password may hold it, and behind the host it does no harm.
    let run = after.split(char::is_whitespace).next().unwrap_or(after);
    let end = run.find(DELIMITERS).unwrap_or(run.len());
    let (authority, path) = run.split_at(end);
    // Behind the first delimiter a URI of its own may begin.
    let own = path.find("://").and_then(|at| path.get(..at)).unwrap_or(path);
    let last_at = |text: &str, holds: &dyn Fn(&str, &str) -> bool| {
        text.rmatch_indices('@').map(|(at, _)| at).find(|at| match text.split_at_checked(*at) {
            Some((before, from)) => holds(before, from.get(1..).unwrap_or_default()),
            None => false,
        })
    };
    let inside = authority.rfind('@');
    let colon = authority.find(':').filter(|colon| inside.is_none_or(|at| *colon < at));
    let Some(colon) = colon else { return inside };
    let further = match inside {
        // The last `@` before the path ends the user information, but for a password that holds both `@` and `/`.
        Some(at) => {
            let whole = authority.get(at + 1..).is_some_and(is_full_host);
            last_at(own, &|_, host| is_full_host(host) || (!whole && is_host(host)))
        }
        None if authority.starts_with('[') => None,
        None => {
            let (host, port) = (authority.get(..colon)?, authority.get(colon + 1..)?);
            let is_port = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
            match is_port {
                // What cannot be a host and its port is a user and the beginning of a password.
                false => last_at(path, &|_, _| true),
                // `files.example:8080/a@b` is a host with its port.
                true if is_full_host(host) => None,
                // `intranet:8080/@team` is one, too; a password seldom ends in a slash.
                true => last_at(own, &|before, host| is_full_host(host) || (!before.ends_with('/') && is_host(host))),
            }
        }
    };
    further.map(|at| end + at).or(inside)
}

fn host_at(text: &str) -> &str {
    text.split(['/', '?', '#', ':']).next().unwrap_or(text)
}

/// Whether a text begins with what may be a host.
fn is_host(text: &str) -> bool {
    let host = host_at(text);
    text.starts_with('[') || (!host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)))
}

/// Whether a text begins with what is most likely a host: a name of several parts, or an address.
fn is_full_host(text: &str) -> bool {
    text.starts_with('[') || (is_host(text) && host_at(text).trim_matches('.').contains('.'))
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

    #[test]
    fn a_password_with_what_should_have_been_escaped_is_masked_whole() {
        for password in
            ["se/cret", "se?cret", "se#cret", "/secret", "12/secret", "se//c@ret", "p@se/cret", "a://secret"]
        {
            let text = format!("put ftp://user:{password}@host.example/f ftp://v:{password}@intranet:21");
            assert_eq!(
                without_passwords(&text),
                "put ftp://user:***@host.example/f ftp://v:***@intranet:21",
                "{password}"
            );
            assert_eq!(host_and_port(&format!("user:{password}@host.example:21/f")), "host.example:21", "{password}");
        }
    }

    #[test]
    fn what_is_no_password_stays() {
        for text in [
            "http://h.example:8080/a@b",
            "http://h.example:8080/?mail=x@mail.example",
            "http://192.0.2.1:80/a/b@c.d",
            "http://npm:4873/@scope/name",
            "http://[2001:db8::1]:80/a@b",
            "http://user@h.example:80/a@b",
            "http://h.example/?to=http://g.example/a@b",
        ] {
            assert_eq!(without_passwords(text), text);
        }
        let nested = "http://u:p@a.example/?to=ftp://v:q@b.example/x";
        assert_eq!(without_passwords(nested), "http://u:***@a.example/?to=ftp://v:***@b.example/x");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "(a://)?[a:@/?#.\\[é0 ]{0,12}(://)?[a:@/?#.0 ]{0,12}") {
            let clean = without_passwords(&text).into_owned();
            let again = without_passwords(&clean).into_owned();
            proptest::prop_assert_eq!(without_passwords(&again).into_owned(), again.clone());
        }
    }
}
