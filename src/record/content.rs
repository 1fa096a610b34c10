//! What the bytes of a file or body themselves say: hash, type, archive, decoded size.

use std::sync::Arc;

/// Why a file or body has no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotHashed {
    /// The configuration says so.
    Off,
    /// The tap lost bytes of it.
    Gap,
    /// The connection was picked up in the middle, so that its beginning may be missing.
    MidStream,
    /// It was cut short, so that its end is missing.
    CutShort,
    /// Larger than the limit.
    TooLarge,
    /// More bytes per second than the limit.
    Rate,
    /// The sensor had more to do than it could.
    Overload,
    /// Only when its bytes had passed was it known to be an upload.
    BoundLate,
    /// It is the continuation of a file whose beginning was sent at another time.
    Part,
    /// Its bytes on the wire are not the file's: compressed, in blocks, or encrypted for the journey.
    Encoded,
    /// It was sent as text, so that its line ends may have been converted (`TYPE A`).
    Text,
    /// Not over yet.
    Running,
}

impl NotHashed {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 12] = [
        Self::Off,
        Self::Gap,
        Self::MidStream,
        Self::CutShort,
        Self::TooLarge,
        Self::Rate,
        Self::Overload,
        Self::BoundLate,
        Self::Part,
        Self::Encoded,
        Self::Text,
        Self::Running,
    ];

    /// The value of `not_hashed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Gap => "gap",
            Self::MidStream => "mid-stream",
            Self::CutShort => "cut-short",
            Self::TooLarge => "too-large",
            Self::Rate => "rate",
            Self::Overload => "overload",
            Self::BoundLate => "bound-late",
            Self::Part => "part",
            Self::Encoded => "encoded",
            Self::Text => "text",
            Self::Running => "running",
        }
    }
}

/// Why a body with a Content-Encoding has no decoded size, although one was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotDecoded {
    /// An encoding that is not read, or several.
    Encoding,
    /// It decodes to more than the limit.
    TooLarge,
    /// It breaks the encoding's rules.
    Broken,
    /// The tap lost bytes of it.
    Gap,
    /// It was cut short.
    CutShort,
    /// The memory for decoding was used up.
    Memory,
    /// Not over yet.
    Running,
}

impl NotDecoded {
    /// The value of `outfall.upload.not_decoded`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::TooLarge => "too-large",
            Self::Broken => "broken",
            Self::Gap => "gap",
            Self::CutShort => "cut-short",
            Self::Memory => "memory",
            Self::Running => "running",
        }
    }
}

/// An archive, or another wrapping of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Archive {
    /// `zip`, `7z`, `rar`, `tar`, `gzip`, `bzip2`, `xz`, `zstd`, `openpgp` or `age`.
    pub format: &'static str,
    /// Whether its first file, or its table of contents, is encrypted; absent where the bytes that passed do not tell.
    pub encrypted: Option<bool>,
}

/// Content that was carved out of its packets.
#[derive(Clone, PartialEq, Eq)]
pub struct Carved(pub Arc<[u8]>);

impl std::fmt::Debug for Carved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Carved({} bytes)", self.0.len())
    }
}

/// What is known of a transfer's content as a whole. Hash, type and archive stand here only where the content is no
/// file's, or is only a part of a file's or in another form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// SHA-256 of the bytes on the wire (after de-chunking, before content decoding), in lower-case hexadecimal.
    pub sha256: Option<String>,
    /// Why there is no hash.
    pub not_hashed: Option<NotHashed>,
    /// The body itself, where it was asked for and has a hash; no part of its document.
    pub carved: Option<Carved>,
    /// The media type that the leading bytes show.
    pub detected_type: Option<&'static str>,
    /// The leading bytes contradict the declared type or, of a PUT, the extension in the path.
    pub type_mismatch: bool,
    /// Set for an archive, a compressed or an encrypted body.
    pub archive: Option<Archive>,
    /// The Content-Encoding, in lower case, unless it is `identity`.
    pub content_encoding: Option<String>,
    /// Bytes of the body after content decoding.
    pub decoded_bytes: Option<u64>,
    /// Why there is no decoded size, if one was asked for.
    pub not_decoded: Option<NotDecoded>,
}
