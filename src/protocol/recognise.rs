//! Recognising a protocol by its content, on any port.
//!
//! The first bytes of both sides come in; a decision goes out, or the wish for more bytes. A verb alone proves
//! nothing (a file sent over FTP may begin with `STOR`), so FTP needs its greeting, or both sides of the
//! dialogue, or several commands in a row.

use super::ftp;
use super::http::head::begins_request;
use super::http2::frame::begins_settings;
use crate::flow::Side;
use crate::record::Protocol;

/// What the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More bytes are needed.
    More,
    /// This protocol; the side that is its client, where the content tells.
    Is(Protocol, Option<Side>),
}

/// Looks at the first bytes of both sides.
pub(super) fn recognise(low: &[u8], high: &[u8], full: bool) -> Verdict {
    let mut more = false;
    for (side, bytes) in [(Side::Low, low), (Side::High, high)] {
        if bytes.is_empty() {
            continue;
        }
        match by_one_side(bytes) {
            Guess::Client(protocol) => return Verdict::Is(protocol, Some(side)),
            Guess::Server(protocol) => return Verdict::Is(protocol, Some(side.peer())),
            Guess::Either(protocol) => return Verdict::Is(protocol, None),
            Guess::More => more = true,
            Guess::None => {}
        }
    }
    match ftp_or_smtp(low, high) {
        Verdict::More => more = true,
        Verdict::Is(Protocol::Unknown, _) => {}
        known => return known,
    }
    if more && !full { Verdict::More } else { Verdict::Is(Protocol::Unknown, None) }
}

/// Looks at the first bytes of one side, where nothing of the other is known.
pub(super) fn by_first_bytes(side: Side, bytes: &[u8], full: bool) -> Verdict {
    match side {
        Side::Low => recognise(bytes, &[], full),
        Side::High => recognise(&[], bytes, full),
    }
}

enum Guess {
    Client(Protocol),
    Server(Protocol),
    Either(Protocol),
    More,
    None,
}

fn by_one_side(bytes: &[u8]) -> Guess {
    match bytes {
        // A TLS record of handshake type with a hello in it (RFC 8446 section 5.1).
        [0x16, 0x03, 0..=4, _, _, 0x01, ..] => return Guess::Client(Protocol::Tls),
        [0x16, 0x03, 0..=4, _, _, 0x02, ..] => return Guess::Server(Protocol::Tls),
        // Picked up later: alert, application data, change of cipher.
        [0x14 | 0x15 | 0x17, 0x03, 1..=4, ..] => return Guess::Either(Protocol::Tls),
        [0x16, 0x03] | [0x16, 0x03, 0..=4] | [0x16, 0x03, 0..=4, _] | [0x16, 0x03, 0..=4, _, _] => return Guess::More,
        [0x14..=0x17] | [0x14 | 0x15 | 0x17, 0x03] => return Guess::More,
        [0x00, _, _, _, 0xfd..=0xff, b'S', b'M', b'B', ..] => return Guess::Either(Protocol::Smb),
        _ => {}
    }
    let begins_smb = bytes.first() == Some(&0)
        && bytes.len() < 8
        && bytes.get(4).is_none_or(|b| *b >= 0xfd)
        && bytes.get(5..).is_none_or(|rest| b"SMB".starts_with(rest));
    let begins_word = [&b"SSH-"[..], b"PRI * HTTP/2.0\r\n", b"HTTP/1."]
        .iter()
        .any(|word| bytes.len() < word.len() && word.starts_with(bytes));
    if begins_smb || begins_word {
        return Guess::More;
    }
    if bytes.starts_with(b"SSH-") {
        return Guess::Either(Protocol::Ssh);
    }
    if bytes.starts_with(b"PRI * HTTP/2.0\r\n") {
        return Guess::Client(Protocol::Http2);
    }
    // A server that was sent HTTP/2 may be heard first; only the client's preface proves it.
    if begins_settings(bytes) != Some(false) {
        return Guess::More;
    }
    if bytes.starts_with(b"HTTP/1.") {
        return Guess::Server(Protocol::Http);
    }
    // Some clients send an empty line before the first request.
    let text = bytes.trim_ascii_start();
    match begins_request(text) {
        Some(true) => Guess::Client(Protocol::Http),
        None => Guess::More,
        Some(false) => Guess::None,
    }
}

/// How many of FTP's commands in a row prove it where no server is seen.
const COMMANDS_IN_A_ROW: usize = 3;

/// How much of a greeting is searched for a name: this is looked at again with every segment.
const LONGEST_GREETING: usize = 1024;

fn ftp_or_smtp(low: &[u8], high: &[u8]) -> Verdict {
    // Neither a command, white space of any alphabet before it, nor a reply begins otherwise.
    let text = |first: &u8| first.is_ascii_alphanumeric() || matches!(first, 9..=13 | b' ' | 0xc2 | 0xe1..=0xe3);
    if ![low, high].iter().any(|bytes| bytes.first().is_some_and(text)) {
        return Verdict::Is(Protocol::Unknown, None);
    }
    for (client_side, client, server) in [(Side::Low, low, high), (Side::High, high, low)] {
        let lines = finished_lines(client).take(COMMANDS_IN_A_ROW);
        let verbs: Vec<String> = lines.map_while(|line| ftp::verb_of(&line)).collect();
        let first = finished_lines(client).next().map(|line| line.to_ascii_uppercase());
        let smtp = first.as_deref().is_some_and(|line| line.starts_with("EHLO") || line.starts_with("HELO"));
        let code = finished_lines(server).next().and_then(|line| ftp::code_of(&line));
        let ftp = Verdict::Is(Protocol::Ftp, Some(client_side));
        match code {
            Some(_) if smtp => return Verdict::Is(Protocol::Smtp, Some(client_side)),
            Some(_) if !verbs.is_empty() => return ftp,
            Some(220) => {
                let greeting = server.get(..LONGEST_GREETING).unwrap_or(server);
                let greeting = String::from_utf8_lossy(greeting).to_ascii_lowercase();
                if greeting.contains("smtp") || greeting.contains("esmtp") {
                    return Verdict::Is(Protocol::Smtp, Some(client_side));
                }
                if greeting.contains("ftp") {
                    return ftp;
                }
                return Verdict::More;
            }
            Some(120 | 227 | 229) => return ftp,
            Some(_) => return Verdict::More,
            None if server.is_empty() && verbs.len() >= COMMANDS_IN_A_ROW => return ftp,
            None if !server.is_empty() && begins_reply(server) => return Verdict::More,
            None if !client.is_empty() && begins_command(client) => return Verdict::More,
            None => {}
        }
    }
    Verdict::Is(Protocol::Unknown, None)
}

fn finished_lines(bytes: &[u8]) -> impl Iterator<Item = String> {
    let end = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    bytes
        .get(..end)
        .unwrap_or_default()
        .split_inclusive(|b| *b == b'\n')
        .map(|line| String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
}

/// Whether bytes can be the beginning of a reply: `220 text` or `220-text`, as far as they go.
fn begins_reply(bytes: &[u8]) -> bool {
    bytes.iter().take(3).all(u8::is_ascii_digit) && bytes.get(3).is_none_or(|b| *b == b' ' || *b == b'-')
}

/// Whether bytes can be the beginning of a command line, as far as they go.
fn begins_command(bytes: &[u8]) -> bool {
    let word = bytes.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    match bytes.get(word) {
        None => word <= 4,
        Some(b' ' | b'\r' | b'\n') => {
            let verb = String::from_utf8_lossy(bytes.get(..word).unwrap_or_default()).to_ascii_uppercase();
            ftp::is_verb(&verb)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(low: &[u8], high: &[u8]) -> Verdict {
        recognise(low, high, false)
    }

    #[test]
    fn protocols_are_told_by_content() {
        use Protocol::*;
        let client = |p| Verdict::Is(p, Some(Side::Low));
        assert_eq!(told(b"POST /a HTTP/1.1\r\n", b""), client(Http));
        assert_eq!(told(b"", b"HTTP/1.1 200 OK\r\n"), client(Http));
        assert_eq!(told(b"\x16\x03\x01\x02\x00\x01\x00", b""), client(Tls));
        assert_eq!(told(b"", b"SSH-2.0-x\r\n"), Verdict::Is(Ssh, None));
        assert_eq!(told(b"", b"220 ProFTPD ready\r\n"), client(Ftp));
        assert_eq!(told(b"USER a\r\n", b"220 ready\r\n"), client(Ftp));
        assert_eq!(told(b"EHLO a\r\n", b"220 ready\r\n"), client(Smtp));
        assert_eq!(told(b"", b"220 ready\r\n"), Verdict::More);
        assert_eq!(told(b"TYPE I\r\nPASV\r\nSTOR a\r\n", b""), client(Ftp));
        assert_eq!(told(b"\x00\x01binary", b""), Verdict::Is(Unknown, None));
    }

    #[test]
    fn a_beginning_that_is_cut_anywhere_is_not_mistaken_for_another() {
        for whole in [
            &b"POST /a HTTP/1.1\r\n"[..],
            b"HTTP/1.1 200 OK\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01",
            b"\x16\x03\x03\x02\x00\x02\x00\x01",
            b"\x17\x03\x03\x00\x20abc",
            b"SSH-2.0-x\r\n",
            b"\x00\x00\x00\x45\xfeSMB@\x00",
            b"220 ProFTPD ready\r\n",
        ] {
            let verdict = told(whole, b"");
            assert!(matches!(verdict, Verdict::Is(protocol, _) if protocol != Protocol::Unknown), "{whole:?}");
            for end in 1..whole.len() {
                let begun = told(&whole[..end], b"");
                assert!(begun == Verdict::More || begun == verdict, "{:?} of {whole:?}: {begun:?}", &whole[..end]);
            }
        }
    }

    #[test]
    fn what_the_first_bytes_may_yet_become_is_waited_for() {
        for beginning in [&b"HTT"[..], b"HTTP/", b"\x16", b"\0\0\x12\x04\0", b"\0\0\x12\x04\0\0\0\0\0", b"PRI * HTT"] {
            assert_eq!(told(b"", beginning), Verdict::More, "{beginning:?}");
        }
    }

    #[test]
    fn a_file_that_begins_with_a_verb_is_not_ftp() {
        assert_eq!(told(b"STOR payload of a file\r\nmore text\r\n", b""), Verdict::More);
        assert_eq!(
            recognise(b"STOR payload of a file\r\nmore text\r\n", b"", true),
            Verdict::Is(Protocol::Unknown, None)
        );
    }
}
