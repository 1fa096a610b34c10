//! Heads of HTTP/1.x messages: `POST /path HTTP/1.1` or `HTTP/1.1 200 OK`, then `Name: value` lines, then an
//! empty line (RFC 9112 sections 2 to 5).
//!
//! `httparse` reads what keeps to the rules; what does not (bare LF, folded lines, odd bytes) is read line
//! by line, as servers out there do.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use crate::protocol::account::text as text_weight;

/// What a request line ends with. Made once: to make it takes longer than to look through a line.
static VERSION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" HTTP/1."));

/// The most header lines that are read; later ones are ignored.
const MAX_HEADERS: usize = 128;

/// What a request's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct RequestHead {
    pub(in crate::protocol) method: String,
    pub(in crate::protocol) target: String,
    pub(in crate::protocol) version: String,
    pub(in crate::protocol) fields: Fields,
}

/// What a response's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct ResponseHead {
    pub(in crate::protocol) status: u16,
    pub(in crate::protocol) fields: Fields,
}

/// The header fields that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct Fields {
    pub(in crate::protocol) host: Option<String>,
    pub(in crate::protocol) user_agent: Option<String>,
    pub(in crate::protocol) content_type: Option<String>,
    pub(in crate::protocol) content_encoding: Option<String>,
    pub(in crate::protocol) content_disposition: Option<String>,
    pub(in crate::protocol) slug: Option<String>,
    /// The first Content-Length that is a number.
    pub(in crate::protocol) length: Option<u64>,
    /// There were several, and they differ.
    pub(in crate::protocol) several_lengths: bool,
    /// One was no number.
    pub(in crate::protocol) bad_length: bool,
    /// Transfer-Encoding ends in `chunked`.
    pub(in crate::protocol) chunked: bool,
    pub(in crate::protocol) expects_continue: bool,
    pub(in crate::protocol) upgrade: Option<String>,
}

/// Where the head ends (just behind the empty line), if it does. `from` is where to look from, for a caller
/// that has looked before.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    let mut at = start;
    while let Some(found) = memchr::memchr(b'\n', bytes.get(at..)?) {
        let after = at + found + 1;
        match bytes.get(after..)? {
            [b'\n', ..] => return Some(after + 1),
            [b'\r', b'\n', ..] => return Some(after + 2),
            _ => at = after,
        }
    }
    None
}

/// A message's head, once it is whole, of what was collected and what comes next; its bytes are gone from `bytes` then. As long
/// as it is not, all is collected. One that comes in one piece is not copied.
pub(super) fn take_head<'h, 'b: 'h>(collected: &'h mut Vec<u8>, bytes: &mut &'b [u8]) -> Option<&'h [u8]> {
    let before = collected.len();
    if before == 0
        && let Some((head, rest)) = end_of_head(bytes, 0).and_then(|end| bytes.split_at_checked(end))
    {
        *bytes = rest;
        return Some(head);
    }
    collected.extend_from_slice(bytes);
    let end = if before == 0 { None } else { end_of_head(collected, before) };
    let used = end.map_or(bytes.len(), |end| end.saturating_sub(before));
    *bytes = bytes.get(used..).unwrap_or_default();
    collected.get(..end?)
}

/// Reads a request's head, which ends with its empty line.
pub(super) fn request(bytes: &[u8]) -> Option<RequestHead> {
    // Not made ready before they are needed: that would take longer than to read most heads.
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    if let Ok(httparse::Status::Complete(_)) = parsed.parse_with_uninit_headers(bytes, &mut headers) {
        let mut fields = Fields::default();
        for header in parsed.headers.iter() {
            fields.add(header.name.as_bytes(), header.value);
        }
        return Some(RequestHead {
            method: parsed.method?.to_owned(),
            target: parsed.path?.to_owned(),
            version: if parsed.version? == 0 { "1.0" } else { "1.1" }.to_owned(),
            fields,
        });
    }
    let (line, rest) = first_line(bytes);
    let (method, line) = split_at_space(line)?;
    let (target, version) = match memmem::rfind(line, b" HTTP/") {
        Some(at) => (line.get(..at)?, line.get(at + 6..)?),
        None => return None,
    };
    if method.is_empty() || !method.iter().all(|b| b.is_ascii_graphic()) || !version.starts_with(b"1.") {
        return None;
    }
    Some(RequestHead {
        method: text(method),
        target: text(target.trim_ascii()),
        version: text(version.trim_ascii()),
        fields: Fields::read(rest),
    })
}

/// Reads a response's head, which ends with its empty line.
pub(super) fn response(bytes: &[u8]) -> Option<ResponseHead> {
    let (line, rest) = first_line(bytes);
    if !line.starts_with(b"HTTP/1.") {
        return None;
    }
    let (_, after) = split_at_space(line)?;
    let code = after.trim_ascii_start().get(..3)?;
    let status = std::str::from_utf8(code).ok()?.parse().ok()?;
    Some(ResponseHead { status, fields: Fields::read(rest) })
}

fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(at) => {
            let (line, rest) = bytes.split_at(at + 1);
            (line.trim_ascii_end(), rest)
        }
        None => (bytes, &[]),
    }
}

fn split_at_space(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr2(b' ', b'\t', line)?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Fields {
    /// Bytes of all texts.
    pub(super) fn weight(&self) -> usize {
        [
            &self.host,
            &self.user_agent,
            &self.content_type,
            &self.content_encoding,
            &self.content_disposition,
            &self.slug,
            &self.upgrade,
        ]
        .into_iter()
        .map(text_weight)
        .sum()
    }

    /// Reads header lines one by one; a line that starts with white space continues the one before
    /// (obs-fold, RFC 9112 section 5.2).
    fn read(bytes: &[u8]) -> Self {
        let mut fields = Self::default();
        let mut pending: Option<(&[u8], Cow<'_, [u8]>)> = None;
        let mut rest = bytes;
        for _ in 0..MAX_HEADERS * 2 {
            if rest.is_empty() {
                break;
            }
            let (line, behind) = rest.split_at(memchr::memchr(b'\n', rest).unwrap_or(rest.len()));
            rest = behind.get(1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.first().is_some_and(|b| *b == b' ' || *b == b'\t') {
                if let Some((_, value)) = &mut pending {
                    let value = value.to_mut();
                    value.push(b' ');
                    value.extend_from_slice(line.trim_ascii());
                }
                continue;
            }
            if let Some((name, value)) = pending.take() {
                fields.add(name, &value);
            }
            if let Some(colon) = memchr::memchr(b':', line) {
                let (name, value) = line.split_at(colon);
                pending = Some((name.trim_ascii(), Cow::Borrowed(value.get(1..).unwrap_or_default())));
            }
        }
        if let Some((name, value)) = pending {
            fields.add(name, &value);
        }
        fields
    }

    /// Takes a field that matters.
    pub(in crate::protocol) fn add(&mut self, name: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        let keep = |place: &mut Option<String>| {
            place.get_or_insert_with(|| text(value));
        };
        // Most are told apart by their length.
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => keep(&mut self.host),
            4 if is(b"slug") => keep(&mut self.slug),
            6 if is(b"expect") => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            7 if is(b"upgrade") => keep(&mut self.upgrade),
            10 if is(b"user-agent") => keep(&mut self.user_agent),
            12 if is(b"content-type") => keep(&mut self.content_type),
            14 if is(b"content-length") => self.add_length(value),
            16 if is(b"content-encoding") => keep(&mut self.content_encoding),
            17 if is(b"transfer-encoding") => {
                let last = value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
                self.chunked |= last.eq_ignore_ascii_case(b"chunked");
            }
            19 if is(b"content-disposition") => keep(&mut self.content_disposition),
            _ => {}
        }
    }

    /// `Content-Length: 42`, or a list of equal values (RFC 9112 section 6.3).
    fn add_length(&mut self, value: &[u8]) {
        for part in value.split(|b| *b == b',') {
            let part = part.trim_ascii();
            let number = match part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
                true => None,
                // More digits than a number can hold is a length beyond anything that will be sent.
                false => Some(std::str::from_utf8(part).ok().and_then(|s| s.parse().ok()).unwrap_or(u64::MAX)),
            };
            match (number, self.length) {
                (None, _) => self.bad_length = true,
                (Some(number), None) => self.length = Some(number),
                (Some(number), Some(first)) => self.several_lengths |= number != first,
            }
        }
    }
}

/// Whether bytes can be the beginning of a request: `TOKEN SP target`, as far as they go. `None` means that
/// more bytes are needed to tell.
pub(crate) fn begins_request(bytes: &[u8]) -> Option<bool> {
    /// The longest method that is believed.
    const LONGEST: usize = 24;
    let method_length = bytes.iter().take(LONGEST + 1).position(|b| !is_method_byte(*b));
    match method_length {
        None if bytes.len() > LONGEST => Some(false),
        None => None,
        Some(length) if length < 3 => Some(false),
        Some(length) => match bytes.get(length..) {
            Some([b' ']) => None,
            Some([b' ', first, rest @ ..]) => {
                // Origin and asterisk form; authority form (CONNECT) and absolute form.
                let direct = *first == b'/' || *first == b'*';
                if !direct && !first.is_ascii_alphanumeric() && *first != b'[' {
                    return Some(false);
                }
                match memchr::memchr(b'\n', rest) {
                    Some(end) => Some(VERSION.find(rest.get(..end)?).is_some()),
                    None if direct && rest.len() > 64 => Some(true),
                    None if rest.len() > 4096 => Some(VERSION.find(rest).is_some()),
                    None => None,
                }
            }
            _ => Some(false),
        },
    }
}

/// Method names are tokens; all in use are upper-case letters, digits, `-` and `_`.
fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_empty_line_with_or_without_cr() {
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest", 0), Some(24));
        assert_eq!(end_of_head(b"GET / HTTP/1.1\nA: b\n\nrest", 0), Some(21));
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r", 0), None);
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r\n", 17), Some(18));
    }

    #[test]
    fn a_folded_transfer_encoding_counts() {
        let head = request(b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n").unwrap();
        assert!(head.fields.chunked);
    }

    #[test]
    fn every_field_that_matters_is_taken_however_its_name_is_written() {
        let head = b"POST / HTTP/1.1\r\nHOST: h\r\nSlug: s\r\nexpect: 100-Continue\r\nUpgrade: u\r\nUser-Agent: a\r\n\
            Content-type: t/t\r\ncontent-Length: 7\r\nContent-Encoding: e\r\nTransfer-Encoding: gzip, Chunked\r\n\
            Content-Disposition: d\r\nSlu: x\r\nHosts: x\r\n\r\n";
        let expected = Fields {
            host: Some("h".to_owned()),
            user_agent: Some("a".to_owned()),
            content_type: Some("t/t".to_owned()),
            content_encoding: Some("e".to_owned()),
            content_disposition: Some("d".to_owned()),
            slug: Some("s".to_owned()),
            upgrade: Some("u".to_owned()),
            length: Some(7),
            chunked: true,
            expects_continue: true,
            ..Fields::default()
        };
        assert_eq!(request(head).unwrap().fields, expected);
        // The same line by line.
        let behind = head.iter().position(|b| *b == b'\n').unwrap() + 1;
        assert_eq!(Fields::read(&head[behind..]), expected);
    }

    #[test]
    fn lengths_are_numbers_or_noted() {
        let head = request(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n").unwrap();
        assert_eq!(head.fields.length, Some(5));
        assert!(head.fields.several_lengths);
        let head = request(b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n").unwrap();
        assert!(head.fields.bad_length);
        let head = request(b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n").unwrap();
        assert_eq!(head.fields.length, Some(u64::MAX));
        let head = request(b"POST / HTTP/1.1\r\nContent-Length: 0005, 5\r\n\r\n").unwrap();
        assert_eq!((head.fields.length, head.fields.several_lengths), (Some(5), false));
    }

    #[test]
    fn a_target_with_spaces_is_still_read() {
        let head = request(b"POST /a b HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!((head.target.as_str(), head.version.as_str()), ("/a b", "1.1"));
    }

    #[test]
    fn a_request_is_told_by_its_first_bytes() {
        assert_eq!(begins_request(b"POST / HTTP/1.1\r\n"), Some(true));
        assert_eq!(begins_request(b"M-SEARCH * HTTP/1.1\n"), Some(true));
        assert_eq!(begins_request(b"PO"), None);
        assert_eq!(begins_request(b"STOR file\r\n"), Some(false));
        assert_eq!(begins_request(b"CONNECT a:1 HTTP/1.1\r\n"), Some(true));
        assert_eq!(begins_request(b"\x16\x03\x01"), Some(false));
    }
}
