//! The parts of a multipart body (RFC 2046 section 5.1, RFC 7578), found while the body streams by.
//!
//! Entity bytes come in; out go the files: each part's name, type and exact size. Nothing of a part's content
//! is kept beyond what could be the beginning of a delimiter.

use memchr::memmem::Finder;

use super::disposition;
use super::head::end_of_head;
use crate::net::Timestamp;
use crate::protocol::account::text;
use crate::protocol::content::{Content, Ending, Meter, Piece};
use crate::record::FileInfo;

/// The longest head of a part; a longer one loses the place.
const LONGEST_HEAD: usize = 16_384;
/// The longest boundary believed (RFC 2046 allows 70).
const LONGEST_BOUNDARY: usize = 256;

#[derive(Debug)]
enum Place {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter: its line's end, then the part's head.
    Head,
    /// Right behind a part's head: an empty part's delimiter may share the head's last line break.
    Opening,
    /// In a part's content.
    Content,
    /// Behind the last delimiter.
    Epilogue,
    /// Cannot be followed any more.
    Lost,
}

/// Follows one multipart body.
#[derive(Debug)]
pub(super) struct Multipart {
    /// Line feed, two dashes, the boundary; the carriage return before it is looked for apart, since some
    /// clients leave it out. Made once: to make it takes longer than to look through a segment.
    delimiter: Finder<'static>,
    place: Place,
    /// What may be the beginning of a delimiter, or an unfinished head.
    carry: Vec<u8>,
    current: Option<(FileInfo, Box<Content>)>,
    content: u64,
    missing: u64,
    pub(super) files: Vec<FileInfo>,
    max_files: usize,
    /// Bytes of the files' texts, the present one's included.
    texts: usize,
    /// Files that were not listed for want of room.
    pub(super) unlisted: u64,
}

impl Multipart {
    /// For a body with this Content-Type, if it is multipart with a boundary.
    pub(super) fn new(content_type: &str, max_files: usize) -> Option<Self> {
        if !content_type.get(..10)?.eq_ignore_ascii_case("multipart/") {
            return None;
        }
        let boundary = disposition::parameter(content_type, "boundary")?;
        if boundary.is_empty() || boundary.len() > LONGEST_BOUNDARY {
            return None;
        }
        Some(Self {
            delimiter: Finder::new(&[b"\n--", boundary.as_bytes()].concat()).into_owned(),
            place: Place::Preamble,
            // The first delimiter needs no line break before it; this stands in for one.
            carry: b"\n".to_vec(),
            current: None,
            content: 0,
            missing: 0,
            files: Vec::new(),
            max_files,
            texts: 0,
            unlisted: 0,
        })
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        let current = if self.current.is_some() { size_of::<FileInfo>() + Content::WEIGHT } else { 0 };
        let files = self.files.capacity() * size_of::<FileInfo>();
        size_of::<Self>() + self.delimiter.needle().len() + self.carry.capacity() + current + files + self.texts
    }

    /// Whether the place was lost before the closing delimiter.
    pub(super) fn lost(&self) -> bool {
        matches!(self.place, Place::Lost)
    }

    /// Takes entity bytes, or passes over lost ones.
    pub(super) fn take(&mut self, piece: Piece<'_>, now: Timestamp, meter: &mut Meter) {
        match piece {
            Piece::Bytes(bytes) => self.data(bytes, now, meter),
            Piece::Lost(length) => self.gap(length, now, meter),
        }
    }

    fn data(&mut self, bytes: &[u8], now: Timestamp, meter: &mut Meter) {
        if matches!(self.place, Place::Epilogue | Place::Lost) {
            return;
        }
        if self.carry.is_empty() {
            self.read(bytes, now, meter);
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(bytes);
            self.read(&joined, now, meter);
        }
    }

    /// Passes over entity bytes that are lost: within a part's content they are the part's, elsewhere the
    /// place is lost.
    fn gap(&mut self, length: u64, now: Timestamp, meter: &mut Meter) {
        match self.place {
            Place::Opening | Place::Content => {
                self.place = Place::Content;
                self.carried(now, meter);
                self.content(Piece::Lost(length), now, meter);
                self.missing += length;
            }
            Place::Epilogue => {}
            _ => self.place = Place::Lost,
        }
    }

    /// The body is over: the part that was open counts as far as it came.
    pub(super) fn end(&mut self, now: Timestamp, meter: &mut Meter) {
        if matches!(self.place, Place::Opening | Place::Content) {
            self.carried(now, meter);
            self.close_part(Ending::CutShort, meter);
            self.place = Place::Lost;
        }
    }

    /// What was carried over turned out to be content.
    fn carried(&mut self, now: Timestamp, meter: &mut Meter) {
        let carry = std::mem::take(&mut self.carry);
        self.content(Piece::Bytes(&carry), now, meter);
    }

    fn content(&mut self, piece: Piece<'_>, now: Timestamp, meter: &mut Meter) {
        self.content += piece.length();
        if let Some((_, content)) = &mut self.current {
            content.take(piece, now, meter);
        }
    }

    fn read(&mut self, bytes: &[u8], now: Timestamp, meter: &mut Meter) {
        let mut rest = bytes;
        loop {
            match self.place {
                Place::Preamble | Place::Content => match self.delimiter.find(rest) {
                    Some(at) => {
                        if matches!(self.place, Place::Content) {
                            let content = rest.get(..at).unwrap_or_default();
                            let content = content.strip_suffix(b"\r").unwrap_or(content);
                            self.content(Piece::Bytes(content), now, meter);
                            self.close_part(Ending::Whole, meter);
                        }
                        self.place = Place::Head;
                        rest = rest.get(at + self.delimiter.needle().len()..).unwrap_or_default();
                    }
                    None => {
                        let kept = self.delimiter_prefix_at_end(rest);
                        let (content, tail) = rest.split_at(rest.len() - kept);
                        if matches!(self.place, Place::Content) {
                            self.content(Piece::Bytes(content), now, meter);
                        }
                        self.carry = tail.to_vec();
                        return;
                    }
                },
                Place::Head => {
                    if rest.starts_with(b"--") {
                        self.place = Place::Epilogue;
                        return;
                    }
                    // The delimiter's own line end counts as part of the head, so that a part without any
                    // field ends at once.
                    match end_of_head(rest, 0) {
                        Some(end) => {
                            let (head, content) = rest.split_at(end);
                            self.open_part(head, meter);
                            self.place = Place::Opening;
                            rest = content;
                        }
                        None if rest.len() > LONGEST_HEAD => {
                            self.place = Place::Lost;
                            return;
                        }
                        None => {
                            self.carry = rest.to_vec();
                            return;
                        }
                    }
                }
                Place::Opening => {
                    let shared = self.delimiter.needle().get(1..).unwrap_or_default();
                    if rest.starts_with(shared) {
                        rest = rest.get(shared.len()..).unwrap_or_default();
                        self.close_part(Ending::Whole, meter);
                        self.place = Place::Head;
                    } else if shared.starts_with(rest) {
                        self.carry = rest.to_vec();
                        return;
                    } else {
                        self.place = Place::Content;
                    }
                }
                Place::Epilogue | Place::Lost => return,
            }
        }
    }

    /// How many bytes at the end could be the beginning of a delimiter.
    fn delimiter_prefix_at_end(&self, bytes: &[u8]) -> usize {
        let window = bytes.len().min(self.delimiter.needle().len());
        let tail = bytes.get(bytes.len() - window..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', tail) {
            let candidate = tail.get(at..).unwrap_or_default();
            if self.delimiter.needle().starts_with(candidate) {
                let before = bytes.get(..bytes.len() - candidate.len()).unwrap_or_default();
                return candidate.len() + usize::from(before.last() == Some(&b'\r'));
            }
        }
        usize::from(tail.last() == Some(&b'\r'))
    }

    fn open_part(&mut self, head: &[u8], meter: &Meter) {
        let text = String::from_utf8_lossy(head);
        let unfolded = text.replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut file = FileInfo::default();
        let mut is_file = false;
        let mut encoded = false;
        for line in unfolded.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                file.name = disposition::file_name(value);
                is_file = file.name.is_some();
            } else if name.trim().eq_ignore_ascii_case("content-type") {
                file.mime_type = Some(value.trim().to_owned());
            } else if name.trim().eq_ignore_ascii_case("content-transfer-encoding") {
                encoded = ["base64", "quoted-printable"].iter().any(|coding| value.trim().eq_ignore_ascii_case(coding));
            }
        }
        if is_file {
            self.texts += text_weight(&file);
        }
        self.current = is_file.then(|| {
            let content = if encoded { Content::opaque(meter) } else { Content::plain(None, meter) };
            (file, Box::new(content))
        });
        self.content = 0;
        self.missing = 0;
    }

    fn close_part(&mut self, ending: Ending, meter: &mut Meter) {
        if let Some((mut file, mut content)) = self.current.take() {
            file.size = Some(self.content);
            file.missing = self.missing;
            content.end(meter);
            content.facts(ending).describe(&mut file);
            if self.files.len() < self.max_files {
                self.files.push(file);
            } else {
                self.texts = self.texts.saturating_sub(text_weight(&file));
                self.unlisted += 1;
            }
        }
        self.content = 0;
        self.missing = 0;
    }
}

/// Bytes of a file's texts, with its hash.
fn text_weight(file: &FileInfo) -> usize {
    text(&file.name) + text(&file.mime_type) + 64
}

#[cfg(test)]
mod tests {
    use memchr::memmem;

    use super::*;
    use crate::config;
    use crate::record::NotHashed;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn meter() -> Meter {
        Meter::new(&config::Files::default(), 1)
    }

    fn body(parts: &[(Option<&str>, Vec<u8>)], boundary: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        for (name, content) in parts {
            wire.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"f\"").as_bytes());
            if let Some(name) = name {
                wire.extend_from_slice(format!("; filename=\"{name}\"").as_bytes());
            }
            wire.extend_from_slice(b"\r\nContent-Type: text/plain\r\n\r\n");
            wire.extend_from_slice(content);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        wire
    }

    fn sizes(multipart: &Multipart) -> Vec<(String, u64)> {
        multipart.files.iter().map(|f| (f.name.clone().unwrap_or_default(), f.size.unwrap_or(0))).collect()
    }

    #[test]
    fn a_gap_inside_a_part_counts_to_the_part() {
        let wire = body(&[(Some("a"), vec![b'x'; 100]), (Some("b"), vec![b'y'; 7])], "Z");
        let mut m = Multipart::new("multipart/form-data; boundary=Z", 8).unwrap();
        let content = memmem::find(&wire, b"\r\n\r\n").unwrap() + 4;
        let (now, meter) = (Timestamp(0), &mut meter());
        m.take(Piece::Bytes(&wire[..content + 10]), now, meter);
        m.take(Piece::Lost(50), now, meter);
        m.take(Piece::Bytes(&wire[content + 60..]), now, meter);
        assert_eq!(sizes(&m), [("a".into(), 100), ("b".into(), 7)]);
        assert_eq!(m.files[0].missing, 50);
        assert_eq!((m.files[0].not_hashed, m.files[1].not_hashed), (Some(NotHashed::Gap), None));
    }

    #[test]
    fn lines_that_end_in_a_bare_line_feed_are_followed() {
        let wire = String::from_utf8(body(&[(Some("a"), b"x\r".to_vec()), (Some("b"), vec![])], "Z")).unwrap();
        let mut m = Multipart::new("multipart/form-data; boundary=Z", 8).unwrap();
        let wire = wire.replace("\r\n", "\n").replace('\r', "");
        m.take(Piece::Bytes(wire.as_bytes()), Timestamp(0), &mut meter());
        assert_eq!(sizes(&m), [("a".into(), 1), ("b".into(), 0)]);
    }

    #[test]
    fn an_empty_part_without_a_line_break_of_its_own_is_found_in_any_segmentation() {
        let wire = b"--Z\r\nContent-Disposition: form-data; filename=a\r\n\r\n--Z--\r\n";
        for size in 1..wire.len() {
            let mut m = Multipart::new("multipart/form-data; boundary=Z", 8).unwrap();
            wire.chunks(size).for_each(|piece| m.take(Piece::Bytes(piece), Timestamp(0), &mut meter()));
            assert_eq!(sizes(&m), [("a".into(), 0)], "in pieces of {size} bytes");
        }
    }

    #[test]
    fn a_boundary_in_quotes_and_a_body_cut_short_are_followed() {
        let wire = body(&[(Some("a"), vec![b'x'; 100])], "a b");
        let mut m = Multipart::new("Multipart/Mixed; boundary=\"a b\"", 8).unwrap();
        let (now, meter) = (Timestamp(0), &mut meter());
        m.take(Piece::Bytes(&wire[..wire.len() - 40]), now, meter);
        m.end(now, meter);
        assert!(m.lost());
        assert_eq!(m.files.len(), 1);
        assert_eq!(m.files[0].not_hashed, Some(NotHashed::CutShort));
    }

    proptest! {
        #[test]
        fn any_segmentation_gives_every_file_and_its_size(
            contents in prop::collection::vec(prop::collection::vec(prop::sample::select(b"\r\n-Zab".to_vec()), 0..40), 1..5),
            cuts in prop::collection::vec(1usize..9, 0..200)
        ) {
            // A content that holds the delimiter is another body.
            prop_assume!(contents.iter().all(|c| {
                let framed = [&b"\r\n"[..], c, b"\r\n"].concat();
                memmem::find(&framed, b"\n--ZZ").is_none()
            }));
            let parts: Vec<_> = contents.iter().map(|c| (Some("n"), c.clone())).collect();
            let wire = body(&parts, "ZZ");
            let mut m = Multipart::new("multipart/form-data; boundary=ZZ", 100).unwrap();
            let (now, meter) = (Timestamp(0), &mut meter());
            let mut rest = &wire[..];
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                m.take(Piece::Bytes(piece), now, meter);
                rest = tail;
            }
            m.take(Piece::Bytes(rest), now, meter);
            let want: Vec<_> = contents.iter().map(|c| ("n".to_owned(), c.len() as u64)).collect();
            prop_assert_eq!(sizes(&m), want);
            prop_assert!(!m.lost());
            let hashes: Vec<_> = m.files.iter().map(|file| file.sha256.clone()).collect();
            let want: Vec<_> = contents.iter().map(|c| Some(format!("{:x}", Sha256::digest(c)))).collect();
            prop_assert_eq!(hashes, want);
        }
    }
}
