//! The first bytes of a connection, kept until they tell what it speaks, with the holes between them.

use super::recognise::{self, Verdict};
use crate::flow::{Both, Data, Gap, Side};
use crate::net::Timestamp;

/// The most bytes of a side that are kept to recognise it.
const LONGEST: usize = 8192;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    pieces: Vec<Piece>,
    lengths: Both<usize>,
    beginnings: Both<Beginning>,
    /// Bytes of the pieces.
    held: usize,
}

/// A stretch of one side's stream, in the order of its coming.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) side: Side,
    pub(super) offset: u64,
    pub(super) ts: Timestamp,
    pub(super) held: Held,
}

/// What a stretch is.
#[derive(Debug)]
pub(super) enum Held {
    Bytes(Vec<u8>),
    /// This many bytes are lost.
    Hole(u64),
}

/// A side's first bytes up to the first hole; what follows that proves nothing by its start.
#[derive(Debug, Default)]
struct Beginning {
    bytes: Vec<u8>,
    over: bool,
}

impl Prefix {
    /// Keeps bytes.
    pub(super) fn take(&mut self, data: Data<'_>) {
        let Data { side, offset, ts, bytes } = data;
        self.pieces.push(Piece { side, offset, ts, held: Held::Bytes(bytes.to_vec()) });
        self.held += bytes.len();
        *self.lengths.of_mut(side) += bytes.len();
        let beginning = self.beginnings.of_mut(side);
        if !beginning.over {
            beginning.bytes.extend_from_slice(bytes);
        }
    }

    /// Keeps a hole. The line that it cuts counts as a whole one.
    pub(super) fn lose(&mut self, gap: Gap) {
        let Gap { side, offset, ts, length } = gap;
        self.pieces.push(Piece { side, offset, ts, held: Held::Hole(length) });
        let beginning = self.beginnings.of_mut(side);
        if !beginning.over {
            beginning.bytes.push(b'\n');
            beginning.over = true;
        }
    }

    /// Whether no more of this side should be kept.
    pub(super) fn is_full(&self, side: Side) -> bool {
        *self.lengths.of(side) >= LONGEST
    }

    /// Whether so many bytes of a side are as many as are kept.
    pub(super) fn would_be_full(length: usize) -> bool {
        length >= LONGEST
    }

    /// Whether bytes of either side are lost.
    pub(super) fn has_hole(&self) -> bool {
        self.beginnings.of(Side::Low).over || self.beginnings.of(Side::High).over
    }

    /// What the first bytes tell; `full` if they are all that will be kept.
    pub(super) fn verdict(&self, full: bool) -> Verdict {
        recognise::recognise(&self.beginnings.of(Side::Low).bytes, &self.beginnings.of(Side::High).bytes, full)
    }

    /// All stretches.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// All stretches, to be read.
    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        // A buffer of its own for each piece, and once more for what tells the protocol.
        let pieces = self.pieces.capacity() * size_of::<Piece>() + 8 * self.pieces.len();
        size_of::<Self>() + pieces + 3 * self.held
    }
}
