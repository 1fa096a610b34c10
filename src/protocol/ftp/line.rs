//! Lines of an FTP control connection: `STOR name CRLF` one way, `150 text CRLF` the other.
//!
//! Telnet sequences (RFC 854) are taken out; a line that is longer than the bound is cut, not lost.

const IAC: u8 = 255;
/// The lowest of Telnet's commands (RFC 854).
const SE: u8 = 240;

/// Collects one direction's lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Inside a Telnet sequence: how many of its bytes are still to come, or that the command byte is next.
    telnet: Telnet,
    /// Lines that were longer than the bound.
    pub(super) cut: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Telnet {
    #[default]
    None,
    Command,
    Option,
}

impl Lines {
    /// Takes bytes; calls `line` for each that is finished, without its line end.
    pub(super) fn push(&mut self, bytes: &[u8], longest: u64, mut line: impl FnMut(&str)) {
        for byte in bytes {
            // A line end is one wherever it stands: a line that swallowed it would show the next one as its own.
            match std::mem::take(&mut self.telnet) {
                // WILL, WONT, DO, DONT name an option.
                Telnet::Command if (251..=254).contains(byte) => {
                    self.telnet = Telnet::Option;
                    continue;
                }
                Telnet::Command if (SE..=250).contains(byte) => continue,
                // IAC itself.
                Telnet::Command if *byte == IAC => {
                    self.take(*byte, longest);
                    continue;
                }
                Telnet::Option if *byte != b'\n' => continue,
                Telnet::Command | Telnet::Option | Telnet::None => {}
            }
            match *byte {
                IAC => self.telnet = Telnet::Command,
                b'\n' => {
                    let text = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
                    line(&String::from_utf8_lossy(text));
                    self.buffer.clear();
                }
                byte => self.take(byte, longest),
            }
        }
    }

    /// Adds a byte to the line, if it is not too long already.
    fn take(&mut self, byte: u8, longest: u64) {
        match self.buffer.len() as u64 {
            length if length < longest => self.buffer.push(byte),
            length if length == longest => {
                self.cut += 1;
                // One more, so that a line is counted once.
                self.buffer.push(b' ');
            }
            _ => {}
        }
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        self.buffer.capacity()
    }

    /// Forgets the line begun: bytes of it are lost.
    pub(super) fn lose(&mut self) {
        self.buffer.clear();
        self.telnet = Telnet::None;
    }
}

/// A reply line: its code, whether more lines follow, its text.
pub(super) fn reply(line: &str) -> Option<(u16, bool, &str)> {
    let code = line.get(..3)?;
    if !code.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let code = code.parse().ok().filter(|code| (100..=659).contains(code))?;
    match line.as_bytes().get(3) {
        Some(b'-') => Some((code, true, line.get(4..)?)),
        Some(b' ') => Some((code, false, line.get(4..)?)),
        None => Some((code, false, "")),
        Some(_) => None,
    }
}

/// A command line: its verb in upper case, its argument.
pub(super) fn command(line: &str) -> Option<(String, &str)> {
    let line = line.trim_start();
    let (verb, argument) = match line.find(' ') {
        Some(at) => (line.get(..at)?, line.get(at + 1..)?),
        None => (line, ""),
    };
    let verb = verb.trim_end();
    if verb.is_empty() || verb.len() > 8 || !verb.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    Some((verb.to_ascii_uppercase(), argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in pieces {
            lines.push(piece, 16, |line| got.push(line.to_owned()));
        }
        got
    }

    #[test]
    fn no_telnet_sequence_swallows_the_end_of_a_line() {
        for wire in [&b"USER a\xff\nPASS b\n"[..], b"USER a\xff\xfb\nPASS b\n"] {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            lines.push(wire, 99, |line| got.push(line.to_owned()));
            assert_eq!(got, ["USER a", "PASS b"]);
        }
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        lines.push(b"\xff\xf4\xff\xf2ABOR\r\nNOOP \xff\xffx\n", 99, |line| got.push(line.to_owned()));
        assert_eq!(got, ["ABOR", "NOOP \u{fffd}x"]);
    }

    #[test]
    fn lines_come_whole_whatever_the_segments() {
        assert_eq!(lines(&[b"US", b"ER a\r", b"\nPASS b\r\nPW", b"D\n"]), ["USER a", "PASS b", "PWD"]);
    }

    #[test]
    fn telnet_sequences_are_taken_out() {
        assert_eq!(lines(&[&[255, 244, 255], &[242], b"ABOR\r\n"]), ["ABOR"]);
        assert_eq!(lines(&[&[255, 251, 1], b"NOOP\r\n"]), ["NOOP"]);
    }

    #[test]
    fn an_absurd_line_is_cut_and_counted_once() {
        let mut l = Lines::default();
        let mut got = Vec::new();
        l.push(&[b'x'; 1000], 16, |line| got.push(line.to_owned()));
        l.push(b"\r\nNOOP\r\n", 16, |line| got.push(line.to_owned()));
        assert_eq!(l.cut, 1);
        assert_eq!(got.len(), 2);
        assert_eq!(got[1], "NOOP");
    }

    #[test]
    fn replies_and_commands_are_told_apart_from_other_text() {
        assert_eq!(reply("150-FILE: a"), Some((150, true, "FILE: a")));
        assert_eq!(reply("226"), Some((226, false, "")));
        assert_eq!(reply("22 x"), None);
        assert_eq!(reply("2261"), None);
        assert_eq!(command("stor a b"), Some(("STOR".into(), "a b")));
        assert_eq!(command("\u{1b}[A"), None);
    }
}
