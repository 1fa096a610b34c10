//! One direction of a control connection between text and TLS: where records begin (RFC 4217 section 4), how they
//! follow each other (RFC 8446 section 5.1), and where text comes back behind them (`CCC`, RFC 4217 section 6).
//!
//! A record's body is passed over by arithmetic, so what it holds, how it is cut and what of it is lost do not matter.

use super::{code_of, verb_of};

/// The most bytes that a record's body may have: 2^14, and 2048 for what protects them (RFC 5246 section 6.2.3).
const LONGEST_BODY: u16 = (1 << 14) + 2048;
const HEAD: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Framing {
    state: State,
    /// How often records began.
    pub(super) went: u32,
    /// How often text came back behind them.
    pub(super) returned: u32,
}

#[derive(Debug)]
enum State {
    Text {
        /// The next byte begins a line.
        fresh: bool,
    },
    /// A record's head as far as it came; `first` if text was before it.
    Head { bytes: [u8; HEAD], length: usize, first: bool },
    /// So many bytes of a record are still to come.
    Body(u64),
    /// Where the next record begins is not known.
    Lost,
}

impl Default for State {
    fn default() -> Self {
        Self::Text { fresh: true }
    }
}

/// What a stretch of a direction is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a [u8]),
    /// Text follows that was under TLS before.
    Back,
}

impl Framing {
    /// Takes bytes; calls `part` for what of them is text.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut part: impl FnMut(Part<'_>)) {
        if matches!(self.state, State::Lost) {
            if is_cleartext(bytes) {
                self.come_back(&mut part);
            } else if bytes.get(..HEAD).is_some_and(|head| is_head(head) == Some(true)) {
                self.state = State::HEAD;
            }
        }
        while let Some((byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Text { fresh: true } if is_head(&[*byte]).is_none() => {
                    self.state = State::Head { bytes: [0; HEAD], length: 0, first: true };
                }
                State::Text { fresh } => {
                    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                    let (line, rest) = bytes.split_at(end);
                    *fresh = line.ends_with(b"\n");
                    part(Part::Text(line));
                    bytes = rest;
                }
                State::Head { length: 0, first: false, .. } if is_head(&[*byte]).is_some() => {
                    // Only text can be told from noise without a look at what follows.
                    match byte.is_ascii_alphanumeric() {
                        true => self.come_back(&mut part),
                        false => self.state = State::Lost,
                    }
                }
                State::Head { bytes: head, length, first } => {
                    if let Some(place) = head.get_mut(*length) {
                        *place = *byte;
                    }
                    *length += 1;
                    bytes = rest;
                    let (head, first) = (*head, *first);
                    match is_head(head.get(..*length).unwrap_or(&head)) {
                        None => {}
                        Some(true) => {
                            self.went += u32::from(first);
                            self.state = State::body(&head);
                        }
                        Some(false) if first => {
                            let text = head;
                            let length = *length;
                            self.state = State::Text { fresh: *byte == b'\n' };
                            part(Part::Text(text.get(..length).unwrap_or(&text)));
                        }
                        Some(false) => self.state = State::Lost,
                    }
                }
                State::Body(left) => {
                    let here = (bytes.len() as u64).min(*left);
                    *left -= here;
                    bytes = bytes.get(usize::try_from(here).unwrap_or(usize::MAX)..).unwrap_or_default();
                    if *left == 0 {
                        self.state = State::HEAD;
                    }
                }
                State::Lost => return,
            }
        }
    }

    /// Bytes are lost; `under_tls` if they may be records although none was seen yet. False if no text is among them.
    pub(super) fn lose(&mut self, length: u64, under_tls: bool) -> bool {
        self.state = match self.state {
            State::Text { .. } if !under_tls => State::Text { fresh: true },
            State::Body(left) if length == left => State::HEAD,
            State::Body(left) if length < left => State::Body(left - length),
            _ => State::Lost,
        };
        matches!(self.state, State::Text { .. } | State::Lost)
    }

    fn come_back(&mut self, part: &mut impl FnMut(Part<'_>)) {
        self.returned += 1;
        self.state = State::default();
        part(Part::Back);
    }
}

impl State {
    const HEAD: Self = Self::Head { bytes: [0; HEAD], length: 0, first: false };

    fn body(head: &[u8; HEAD]) -> Self {
        let [.., high, low] = *head;
        match u16::from_be_bytes([high, low]) {
            0 => Self::HEAD,
            length => Self::Body(length.into()),
        }
    }
}

/// Whether bytes are the head of a record; `None` if they may become one.
fn is_head(bytes: &[u8]) -> Option<bool> {
    // Change of cipher, alert, handshake, application data, heartbeat; SSL 3.0 to TLS 1.3.
    let fits = match *bytes {
        [kind] => (20..=24).contains(&kind),
        [kind, major] => (20..=24).contains(&kind) && major == 3,
        [kind, major, minor] | [kind, major, minor, _] => (20..=24).contains(&kind) && major == 3 && minor <= 4,
        [kind, major, minor, high, low] => {
            let length = u16::from_be_bytes([high, low]);
            return Some((20..=24).contains(&kind) && major == 3 && minor <= 4 && length <= LONGEST_BODY);
        }
        _ => return Some(false),
    };
    if fits { None } else { Some(false) }
}

/// Whether a segment begins and ends as lines of text do.
fn is_cleartext(bytes: &[u8]) -> bool {
    if !bytes.ends_with(b"\n") || !bytes.first().is_some_and(u8::is_ascii_alphanumeric) {
        return false;
    }
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().is_some_and(|line| verb_of(line).is_some() || code_of(line).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(framing: &mut Framing, bytes: &[u8]) -> String {
        let mut text = String::new();
        framing.push(bytes, |part| match part {
            Part::Text(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
            Part::Back => text.push('<'),
        });
        text
    }

    #[test]
    fn records_are_passed_over_and_text_behind_them_is_found_whatever_the_segments() {
        let wire = b"AUTH TLS\r\n\x16\x03\x01\x00\x03abc\x14\x03\x03\x00\x01\n\x17\x03\x03\x00\x00\x15\x03\x03\x00\x02\r\nPWD\r\n";
        for size in 1..=wire.len() {
            let mut framing = Framing::default();
            let text: String = wire.chunks(size).map(|piece| read(&mut framing, piece)).collect();
            assert_eq!((text.as_str(), framing.went, framing.returned), ("AUTH TLS\r\n<PWD\r\n", 1, 1), "{size}");
        }
    }

    #[test]
    fn a_line_that_only_begins_like_a_record_is_text() {
        let mut framing = Framing::default();
        assert_eq!(read(&mut framing, b"\x16\x03USER u\r\nPWD\r\n"), "\x16\x03USER u\r\nPWD\r\n");
        assert_eq!((framing.went, framing.returned), (0, 0));
    }

    #[test]
    fn a_loss_within_a_record_is_passed_over_and_one_beyond_it_is_not() {
        let mut framing = Framing::default();
        read(&mut framing, b"\x17\x03\x03\x00\x0aab");
        assert!(!framing.lose(3, true));
        assert_eq!(read(&mut framing, b"PWD\r\nUSER u\r\n"), "<USER u\r\n");
        read(&mut framing, b"\x17\x03\x03\x00\x0aab");
        assert!(framing.lose(9, true));
        assert_eq!(read(&mut framing, b"\x80\x81ab\r\n"), "");
        // The beginning of a segment is that of a record as often as not.
        assert_eq!(read(&mut framing, b"\x17\x03\x03\x00\x02abNOOP\r\n"), "<NOOP\r\n");
    }
}
