//! The events of an XML document or of lines of XML, one after the other, in bounded memory.

use std::io::{BufRead, ErrorKind};

use memchr::memmem;

/// What reading came to.
pub(super) enum XmlRead<'a> {
    /// An event, from its first tag to its last.
    Event(&'a [u8]),
    /// An event longer than the bound, passed over.
    TooLong,
    /// No more events.
    End,
}

const OPEN: &[u8] = b"<Event";
const CLOSE: &[u8] = b"</Event>";

/// Reads `<Event>` elements, whatever stands between them.
pub(super) struct XmlEvents<R> {
    input: R,
    max: usize,
    pending: Vec<u8>,
    /// Bytes of `pending` that have been handed out or passed over.
    used: usize,
    /// From where on the end of the event has not been looked for.
    looked: usize,
    /// The end of an event that is too long is looked for.
    skipping: bool,
    line: u64,
}

impl<R: BufRead> XmlEvents<R> {
    /// Events of at most `max` bytes.
    pub(super) fn new(input: R, max: usize) -> Self {
        Self { input, max, pending: Vec::new(), used: 0, looked: 0, skipping: false, line: 1 }
    }

    /// The line in which the last event ended.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next event.
    ///
    /// # Errors
    /// If the input cannot be read.
    pub(super) fn next(&mut self) -> std::io::Result<XmlRead<'_>> {
        loop {
            let rest = self.pending.get(self.used..).unwrap_or_default();
            let open = if self.skipping { Some(0) } else { opening(rest) };
            match open {
                Some(open) => {
                    let from = self.used + open;
                    let look = self.looked.max(from);
                    let end = memmem::find(self.pending.get(look..).unwrap_or_default(), CLOSE);
                    if let Some(end) = end.map(|end| look + end + CLOSE.len()) {
                        self.pass(end);
                        if std::mem::take(&mut self.skipping) {
                            continue;
                        }
                        if end - from > self.max {
                            return Ok(XmlRead::TooLong);
                        }
                        return Ok(XmlRead::Event(self.pending.get(from..end).unwrap_or_default()));
                    }
                    self.looked = self.pending.len().saturating_sub(CLOSE.len()).max(self.used);
                    if self.pending.len() - from > self.max {
                        self.pass(self.looked);
                        if !std::mem::replace(&mut self.skipping, true) {
                            return Ok(XmlRead::TooLong);
                        }
                    }
                }
                // The beginning of a tag may be at the end.
                None => self.pass(self.pending.len().saturating_sub(OPEN.len()).max(self.used)),
            }
            if !self.fill()? {
                let open = !self.skipping && opening(self.pending.get(self.used..).unwrap_or_default()).is_some();
                let all = self.pending.len();
                let from = self.used;
                self.pass(all);
                // An event without its end is handed out as it is, and will not be understood.
                return Ok(if open {
                    XmlRead::Event(self.pending.get(from..).unwrap_or_default())
                } else {
                    XmlRead::End
                });
            }
        }
    }

    fn pass(&mut self, to: usize) {
        let passed = self.pending.get(self.used..to).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.used = self.used.max(to);
        self.looked = self.looked.max(to);
    }

    /// Takes more of the input; false at its end.
    fn fill(&mut self) -> std::io::Result<bool> {
        self.pending.drain(..self.used.min(self.pending.len()));
        self.looked = self.looked.saturating_sub(self.used);
        self.used = 0;
        loop {
            match self.input.fill_buf() {
                Ok([]) => return Ok(false),
                Ok(chunk) => {
                    let taken = chunk.len();
                    self.pending.extend_from_slice(chunk);
                    self.input.consume(taken);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Where an event begins: `<Event>` or `<Event `, not `<EventData>` or `<Events>`.
fn opening(text: &[u8]) -> Option<usize> {
    memmem::find_iter(text, OPEN).find(|at| {
        let next = text.get(at + OPEN.len());
        next.is_some_and(|next| *next == b'>' || next.is_ascii_whitespace())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn events(text: &str, max: usize, buffer: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut events = XmlEvents::new(BufReader::with_capacity(buffer, text.as_bytes()), max);
        loop {
            match events.next().unwrap() {
                XmlRead::End => return all,
                XmlRead::TooLong => all.push("too long".to_owned()),
                XmlRead::Event(event) => all.push(String::from_utf8(event.to_vec()).unwrap()),
            }
        }
    }

    #[test]
    fn events_are_found_in_a_document_and_line_by_line() {
        let document =
            "<?xml version='1.0'?>\n<Events><Event xmlns='x'>\n<EventData/></Event><Event>b</Event>\n</Events>";
        for buffer in [1, 3, 7, 1000] {
            let expected = ["<Event xmlns='x'>\n<EventData/></Event>", "<Event>b</Event>"];
            assert_eq!(events(document, 100, buffer), expected, "buffer of {buffer}");
        }
    }

    #[test]
    fn an_event_that_is_too_long_is_passed_over_and_the_next_is_whole() {
        let text = format!("<Event>{}</Event><Event>b</Event>", "x".repeat(500));
        for buffer in [1, 64, 1000] {
            assert_eq!(events(&text, 40, buffer), ["too long", "<Event>b</Event>"], "buffer of {buffer}");
        }
    }

    #[test]
    fn what_is_broken_off_is_handed_out_once() {
        assert_eq!(events("<Event>a", 40, 3), ["<Event>a"]);
        assert_eq!(events("<Events>\n", 40, 3), [""; 0]);
        assert_eq!(events("", 40, 3), [""; 0]);
    }
}
