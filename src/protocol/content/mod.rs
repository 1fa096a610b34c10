//! What streams by as the content of a file or a body, and what that tells: SHA-256, type, archive, decoded size.
//!
//! Bytes and gaps come in, in the order of the content and in any segmentation; [`Facts`] go out at the end.
//! Content is never kept, but for its first bytes until they tell the type, and for the end of a 7z archive.
//! Once nothing more is to be learnt, bytes are passed over by arithmetic alone.

mod archive;
mod decode;
mod kind;
mod meter;

use std::ops::Range;

use sha2::{Digest, Sha256};

use self::archive::sevenzip;
use self::decode::{Coding, Decoder};
use self::kind::LEADING;
pub use self::meter::FileCounters;
pub(super) use self::meter::Meter;
use self::meter::{Carving, Share};
use crate::flow::{Both, Side};
use crate::net::Timestamp;
use crate::record::{Archive, Body, Carved, FileInfo, NotDecoded, NotHashed};

/// A stretch of content.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// So many bytes that the tap lost.
    Lost(u64),
}

impl Piece<'_> {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Lost(length) => *length,
        }
    }
}

/// How a content came to its end, for its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// From its first to its last byte, but for gaps.
    Whole,
    /// Its beginning may be missing.
    MidStream,
    /// Its end is missing.
    CutShort,
    /// It goes on.
    Running,
}

/// A content under way.
#[derive(Debug)]
pub(super) struct Content {
    /// How far it has come, in bytes; lost ones count.
    length: u64,
    hash: Result<Hash, NotHashed>,
    look: Look,
    decoder: Option<Box<Decoder>>,
    /// Asked for, but with a coding that cannot be read.
    unknown_coding: bool,
}

/// A hash under way, and what it is of where that is wanted.
#[derive(Debug)]
struct Hash {
    sha256: Sha256,
    copy: Option<Carving>,
}

impl Hash {
    fn new(meter: &Meter) -> Self {
        Self { sha256: Sha256::new(), copy: meter.copy() }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(copy) = &mut self.copy {
            copy.take(bytes);
        }
    }
}

/// What the leading bytes tell.
#[derive(Debug)]
enum Look {
    /// Not enough of them yet.
    Collecting(Vec<u8>),
    /// What they showed, and the end of the archive, if that must be seen too.
    Done { detected: Option<&'static str>, archive: Option<Archive>, tail: Option<Box<Tail>> },
    /// They show nothing, as they are encoded.
    Blind,
}

/// The end of an archive that is being waited for and then kept.
#[derive(Debug)]
struct Tail {
    /// Offsets in the content.
    range: Range<u64>,
    /// Where in the kept bytes the header begins.
    header: usize,
    bytes: Vec<u8>,
    _share: Share,
}

/// What a content told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Lower-case hexadecimal.
    sha256: Result<String, NotHashed>,
    /// The content itself, if it was asked for.
    carved: Option<Carved>,
    detected: Option<&'static str>,
    archive: Option<Archive>,
    decoded: Option<Result<u64, NotDecoded>>,
}

impl Content {
    /// The most bytes that one holds, beside what is taken of the meter's memory.
    pub(super) const WEIGHT: usize = size_of::<Self>() + 2 * LEADING;

    /// Content as it is; `announced` is its length in bytes, if that was announced.
    pub(super) fn plain(announced: Option<u64>, meter: &Meter) -> Self {
        let limit = meter.settings.hash_limit.0;
        let hash = if !meter.settings.hash {
            Err(NotHashed::Off)
        } else if meter.no_hashing {
            Err(NotHashed::Overload)
        } else if limit != 0 && announced.is_some_and(|length| length > limit) {
            Err(NotHashed::TooLarge)
        } else {
            Ok(Hash::new(meter))
        };
        Self { length: 0, hash, look: Look::Collecting(Vec::new()), decoder: None, unknown_coding: false }
    }

    /// Content under a coding that is not decoded, such as a part's base64.
    pub(super) fn opaque(meter: &Meter) -> Self {
        Self { hash: Err(NotHashed::Encoded), look: Look::Blind, ..Self::plain(None, meter) }
    }

    /// Content under a Content-Encoding, in lower case. The hash is that of the encoded bytes.
    pub(super) fn encoded(encoding: &str, announced: Option<u64>, meter: &Meter) -> Self {
        let mut content = Self { look: Look::Blind, ..Self::plain(announced, meter) };
        if meter.settings.decode {
            let limit = meter.settings.decode_limit.0;
            content.decoder = Coding::named(encoding).map(|coding| Box::new(Decoder::new(coding, limit)));
            content.unknown_coding = content.decoder.is_none();
        }
        content
    }

    /// Takes what follows.
    pub(super) fn take(&mut self, piece: Piece<'_>, now: Timestamp, meter: &mut Meter) {
        let from = self.length;
        self.length += piece.length();
        match piece {
            Piece::Bytes(bytes) => {
                self.hash(bytes, now, meter);
                self.look(bytes, from, meter);
                if let Some(decoder) = &mut self.decoder {
                    decoder.data(bytes, meter);
                }
            }
            Piece::Lost(0) => {}
            Piece::Lost(length) => {
                if self.hash.is_ok() {
                    self.hash = Err(NotHashed::Gap);
                }
                self.conclude(meter);
                if let Look::Done { tail, .. } = &mut self.look
                    && tail.as_ref().is_some_and(|t| t.range.start < from.saturating_add(length) && from < t.range.end)
                {
                    *tail = None;
                }
                if let Some(decoder) = &mut self.decoder {
                    decoder.fail(NotDecoded::Gap);
                }
            }
        }
    }

    fn hash(&mut self, bytes: &[u8], now: Timestamp, meter: &mut Meter) {
        let Ok(hash) = &mut self.hash else { return };
        let limit = meter.settings.hash_limit.0;
        if limit != 0 && self.length > limit {
            self.hash = Err(NotHashed::TooLarge);
        } else if meter.no_hashing {
            self.hash = Err(NotHashed::Overload);
        } else if meter.may_hash(bytes.len() as u64, now) {
            meter.counters.hashed_bytes += bytes.len() as u64;
            hash.update(bytes);
        } else {
            self.hash = Err(NotHashed::Rate);
        }
    }

    fn look(&mut self, bytes: &[u8], from: u64, meter: &mut Meter) {
        match &mut self.look {
            Look::Blind | Look::Done { tail: None, .. } => {}
            Look::Collecting(_) if meter.no_typing => self.look = Look::Blind,
            Look::Done { tail: Some(tail), .. } => tail.take(bytes, from),
            Look::Collecting(head) => {
                let room = (LEADING - head.len().min(LEADING)).min(bytes.len());
                let (more, rest) = bytes.split_at(room);
                head.extend_from_slice(more);
                if head.len() >= LEADING {
                    self.conclude(meter);
                    self.look(rest, from + room as u64, meter);
                }
            }
        }
    }

    /// No more leading bytes come: what do they tell?
    fn conclude(&mut self, meter: &mut Meter) {
        let Look::Collecting(head) = &self.look else { return };
        let archive = archive::leading(head);
        let mut tail = None;
        if let Some((range, header)) = sevenzip::end(head) {
            match meter.take(range.end - range.start) {
                Some(share) => {
                    let mut waiting = Tail { range, header, bytes: Vec::new(), _share: share };
                    waiting.take(head, 0);
                    tail = Some(Box::new(waiting));
                }
                None => meter.counters.archive_memory += 1,
            }
        }
        self.look = Look::Done { detected: kind::detect(head), archive, tail };
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, meter: &mut Meter) {
        self.conclude(meter);
        if let Some(decoder) = &mut self.decoder {
            decoder.end();
        }
    }

    /// What it told, so far.
    pub(super) fn facts(&self, ending: Ending) -> Facts {
        let sha256 = match (&self.hash, ending) {
            (Err(why), _) => Err(*why),
            (Ok(_), Ending::MidStream) => Err(NotHashed::MidStream),
            (Ok(_), Ending::CutShort) => Err(NotHashed::CutShort),
            (Ok(_), Ending::Running) => Err(NotHashed::Running),
            (Ok(hash), Ending::Whole) => Ok(format!("{:x}", hash.sha256.clone().finalize())),
        };
        let carved = self.hash.as_ref().ok().filter(|_| sha256.is_ok()).and_then(|hash| hash.copy.as_ref()?.whole());
        let (detected, archive) = match (&self.look, &self.decoder) {
            // What the first bytes of something in the middle look like means nothing.
            _ if ending == Ending::MidStream => (None, None),
            (Look::Done { detected, archive, tail }, _) => {
                let encrypted = tail.as_ref().and_then(|tail| tail.encrypted());
                let archive = archive.map(|a| Archive { encrypted: a.encrypted.or(encrypted), ..a });
                (*detected, archive)
            }
            (Look::Blind, Some(decoder)) => (kind::detect(decoder.head()), archive::leading(decoder.head())),
            _ => (None, None),
        };
        let decoded = match (&self.decoder, ending) {
            (Some(_), Ending::Running) => Some(Err(NotDecoded::Running)),
            (Some(decoder), Ending::Whole) => Some(decoder.decoded()),
            (Some(decoder), _) => Some(decoder.decoded().and(Err(NotDecoded::CutShort))),
            (None, _) => self.unknown_coding.then_some(Err(NotDecoded::Encoding)),
        };
        Facts { sha256, carved, detected, archive, decoded }
    }
}

impl Tail {
    fn take(&mut self, bytes: &[u8], from: u64) {
        let to = from + bytes.len() as u64;
        let (start, end) = (self.range.start.max(from), self.range.end.min(to));
        if start < end {
            let place = |offset: u64| usize::try_from(offset - from).unwrap_or(usize::MAX);
            self.bytes.extend_from_slice(bytes.get(place(start)..place(end)).unwrap_or_default());
        }
    }

    fn encrypted(&self) -> Option<bool> {
        let whole = self.bytes.len() as u64 == self.range.end - self.range.start;
        if whole { sevenzip::encrypted(&self.bytes, self.header) } else { None }
    }
}

/// Both directions of a connection that may turn out to be a file's, once it is known whose.
#[derive(Debug)]
pub(super) struct Candidate(Both<Content>);

impl Candidate {
    pub(super) fn new(meter: &Meter) -> Self {
        Self(Both::new(Content::plain(None, meter), Content::plain(None, meter)))
    }

    /// Takes what follows from one side.
    pub(super) fn take(&mut self, side: Side, piece: Piece<'_>, now: Timestamp, meter: &mut Meter) {
        self.0.of_mut(side).take(piece, now, meter);
    }

    /// Nothing more comes from either side.
    pub(super) fn end(&mut self, meter: &mut Meter) {
        self.0.of_mut(Side::Low).end(meter);
        self.0.of_mut(Side::High).end(meter);
    }

    /// What one side's content told.
    pub(super) fn facts(&self, side: Side, ending: Ending) -> Facts {
        self.0.of(side).facts(ending)
    }
}

impl Facts {
    /// Of a content that was not known to be one while it passed.
    pub(super) fn bound_late() -> Self {
        Self { sha256: Err(NotHashed::BoundLate), carved: None, detected: None, archive: None, decoded: None }
    }

    /// The transfer turned out to be cut short.
    pub(super) fn cut_short(&mut self) {
        if self.sha256.is_ok() {
            self.sha256 = Err(NotHashed::CutShort);
            self.carved = None;
        }
    }

    /// The leading bytes turned out to be no file's beginning.
    pub(super) fn blind(&mut self) {
        (self.detected, self.archive) = (None, None);
    }

    /// Enters the facts of a file, whose name and declared type are in place.
    pub(super) fn describe(self, file: &mut FileInfo) {
        file.type_mismatch = self.mismatch(file.name.as_deref(), file.mime_type.as_deref());
        file.detected_type = self.detected;
        file.archive = self.archive;
        file.carved = self.carved;
        match self.sha256 {
            Ok(sha256) => file.sha256 = Some(sha256),
            Err(why) => file.not_hashed = Some(why),
        }
    }

    /// Enters the facts of a content whose bytes are not those of the file, for the reason given: the hash is the
    /// transfer's alone.
    pub(super) fn describe_other(self, why: NotHashed, file: &mut FileInfo, body: &mut Body) {
        file.not_hashed = Some(why);
        // Where it was decoded, type and archive are those of the file itself.
        file.type_mismatch = self.mismatch(file.name.as_deref(), file.mime_type.as_deref());
        file.detected_type = self.detected;
        file.archive = self.archive;
        self.hash_of_body(body);
    }

    fn mismatch(&self, name: Option<&str>, declared: Option<&str>) -> bool {
        self.detected.is_some_and(|detected| kind::contradicts(detected, name, declared))
    }

    /// Enters the facts of a content that is no file's; `name` is one whose extension means something.
    pub(super) fn describe_body(self, name: Option<&str>, declared: Option<&str>, body: &mut Body) {
        body.type_mismatch = self.mismatch(name, declared);
        body.detected_type = self.detected;
        body.archive = self.archive;
        self.hash_of_body(body);
    }

    /// Enters what became of the decoding, which is asked of bodies only.
    pub(super) fn describe_decoding(&self, body: &mut Body) {
        match self.decoded {
            Some(Ok(bytes)) => body.decoded_bytes = Some(bytes),
            Some(Err(why)) => body.not_decoded = Some(why),
            None => {}
        }
    }

    fn hash_of_body(self, body: &mut Body) {
        body.carved = self.carved;
        match self.sha256 {
            Ok(sha256) => body.sha256 = Some(sha256),
            Err(why) => body.not_hashed = Some(why),
        }
    }
}

#[cfg(test)]
mod tests;
