//! Where a body ends: by length, by chunks (RFC 9112 section 7.1), or with the connection.
//!
//! Stream bytes come in; entity bytes go out. Bytes of a body whose length is known are passed on as whole
//! slices, never looked at.

/// How a body is delimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes are left.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Up to the end of the stream.
    UntilClose,
}

/// Where in the chunked coding the decoder stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In `size [;extension] CRLF`: the size so far, how many digits, whether digits are over, line length.
    Size { size: u64, digits: u8, done: bool, seen: u32 },
    /// In the data of a chunk, this many bytes left.
    Data(u64),
    /// At the CRLF behind a chunk's data.
    DataEnd,
    /// In the trailer section; how long the current line is.
    Trailer { line: u32 },
}

impl Chunk {
    pub(super) const START: Self = Self::Size { size: 0, digits: 0, done: false, seen: 0 };
}

/// The longest line of a chunk size with its extensions, or of a trailer field.
const LONGEST_LINE: u32 = 16_384;

/// What a step through the body yields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Entity bytes.
    Entity(&'a [u8]),
    /// Framing only.
    Framing,
    /// The body ends here.
    End,
    /// The chunked coding is broken.
    Broken,
}

impl Framing {
    /// Takes one step; the bytes that were used are gone from `bytes` afterwards.
    pub(super) fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> Step<'a> {
        match self {
            Self::Length(0) => Step::End,
            Self::Length(left) => {
                let entity = take(bytes, *left);
                *left -= entity.len() as u64;
                Step::Entity(entity)
            }
            Self::UntilClose => Step::Entity(take(bytes, u64::MAX)),
            Self::Chunked(chunk) => chunk.step(bytes),
        }
    }

    /// Passes over a gap of the stream: how many of its bytes were entity bytes, and how many bytes of the
    /// gap lie behind the body. `None` if the place is lost.
    pub(super) fn skip(&mut self, length: u64) -> Option<(u64, u64)> {
        match self {
            Self::Length(left) => {
                let entity = length.min(*left);
                *left -= entity;
                Some((entity, length - entity))
            }
            Self::UntilClose => Some((length, 0)),
            Self::Chunked(Chunk::Data(left)) if length <= *left => {
                *left -= length;
                if *left == 0 {
                    *self = Self::Chunked(Chunk::DataEnd);
                }
                Some((length, 0))
            }
            Self::Chunked(_) => None,
        }
    }

    /// Of a gap in which the place is lost, how many bytes are certainly the entity's.
    pub(super) fn certain(&self, length: u64) -> u64 {
        match self {
            Self::Chunked(Chunk::Data(left)) => length.min(*left),
            Self::Chunked(_) => 0,
            _ => length,
        }
    }

    /// How many of the next bytes are the entity's, whatever they are.
    pub(super) fn left(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunked(Chunk::Data(left)) => *left,
            Self::Chunked(_) => 0,
            Self::UntilClose => u64::MAX,
        }
    }

    /// Whether more than this many bytes are still to come.
    pub(super) fn exceeds(&self, length: u64) -> bool {
        !matches!(self, Self::Length(left) if *left <= length)
    }

    /// Whether the body is at its end, with no bytes needed to tell.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0))
    }
}

impl Chunk {
    fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> Step<'a> {
        match self {
            Self::Data(left) => {
                let entity = take(bytes, *left);
                *left -= entity.len() as u64;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                Step::Entity(entity)
            }
            Self::DataEnd => match take_byte(bytes) {
                Some(b'\r') => Step::Framing,
                Some(b'\n') => {
                    *self = Self::START;
                    Step::Framing
                }
                Some(_) => Step::Broken,
                None => Step::Framing,
            },
            Self::Size { size, digits, done, seen } => {
                while let Some(byte) = take_byte(bytes) {
                    *seen += 1;
                    if *seen > LONGEST_LINE {
                        return Step::Broken;
                    }
                    match byte {
                        b'\n' if *digits == 0 => return Step::Broken,
                        b'\n' => {
                            *self = if *size == 0 { Self::Trailer { line: 0 } } else { Self::Data(*size) };
                            return Step::Framing;
                        }
                        _ if *done => {}
                        b';' | b'\r' | b' ' | b'\t' if *digits > 0 => *done = true,
                        _ => {
                            let Some(digit) = (byte as char).to_digit(16) else { return Step::Broken };
                            let Some(next) = size.checked_mul(16).and_then(|s| s.checked_add(u64::from(digit))) else {
                                return Step::Broken;
                            };
                            *size = next;
                            *digits = digits.saturating_add(1);
                        }
                    }
                }
                Step::Framing
            }
            Self::Trailer { line } => {
                while let Some(byte) = take_byte(bytes) {
                    match byte {
                        b'\n' if *line == 0 => return Step::End,
                        b'\n' => *line = 0,
                        b'\r' => {}
                        _ => {
                            *line += 1;
                            if *line > LONGEST_LINE {
                                return Step::Broken;
                            }
                        }
                    }
                }
                Step::Framing
            }
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads pieces with the decoder: the entity, whether it ended, and what was left.
    fn read(framing: &mut Framing, pieces: &[&[u8]]) -> (Vec<u8>, bool, usize) {
        let mut entity = Vec::new();
        for piece in pieces {
            let mut bytes = *piece;
            while !bytes.is_empty() {
                match framing.step(&mut bytes) {
                    Step::Entity(e) => entity.extend_from_slice(e),
                    Step::Framing => {}
                    Step::End => return (entity, true, bytes.len()),
                    Step::Broken => return (entity, false, usize::MAX),
                }
            }
        }
        (entity, false, 0)
    }

    #[test]
    fn extensions_and_trailers_are_not_entity() {
        let wire = b"3;a=b\r\nabc\r\n2 \r\nde\r\n0\r\nX: y\r\n\r\nnext";
        let got = read(&mut Framing::Chunked(Chunk::START), &[wire]);
        assert_eq!(got, (b"abcde".to_vec(), true, 4));
    }

    #[test]
    fn a_size_beyond_sixty_four_bits_is_broken() {
        let got = read(&mut Framing::Chunked(Chunk::START), &[b"10000000000000000\r\nab"]);
        assert_eq!(got.2, usize::MAX);
    }

    #[test]
    fn a_gap_within_a_chunk_is_passed_over() {
        let mut framing = Framing::Chunked(Chunk::Data(10));
        assert_eq!(framing.skip(4), Some((4, 0)));
        assert_eq!(framing.skip(7), None);
    }

    proptest! {
        #[test]
        fn chunks_in_any_segmentation_give_the_entity(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(1usize..12, 0..64)
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x};x=\"y\"\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nTrailer: 1\r\n\r\n");
            let mut pieces = Vec::new();
            let mut rest = &wire[..];
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                if !piece.is_empty() { pieces.push(piece); }
                rest = tail;
            }
            if !rest.is_empty() { pieces.push(rest); }
            let got = read(&mut Framing::Chunked(Chunk::START), &pieces);
            prop_assert_eq!(got, (chunks.concat(), true, 0));
        }
    }
}
