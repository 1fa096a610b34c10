//! One direction of a connection in 32 bytes, as long as nothing out of the ordinary happens on it.
//!
//! Almost every stream arrives in order, whole and once. While it does, all that [`Half`] keeps follows from the few
//! numbers here; a segment that is ordinary itself is followed on them alone, and any other makes a [`Half`] of them
//! first. Both ways are exact: what a [`Brief`] cannot express stays a [`Half`].

use super::half::{Half, Origin, is_near};
use crate::net::Timestamp;

/// One direction's state. Offsets count payload bytes from the stream's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Brief {
    /// Offset of the next byte to deliver, in the upper 48 bits, and marks.
    place: u64,
    /// Time of the last packet from this side.
    last: Timestamp,
    /// Time of the last packet that brought new bytes; 0 before the first of them.
    last_data: Timestamp,
    /// Sequence number of offset zero.
    base: u32,
    packets: u32,
}

/// How many bits the marks take.
const MARKS: u32 = 16;

/// The longest stream that goes on in brief form, in bytes: 128 TiB. Twice as much fits.
const LONGEST: u64 = 1 << 47;

/// The stream is placed: by a SYN, or with [`PICKED`] by its first data.
const PLACED: u64 = 1;
const PICKED: u64 = 1 << 1;
/// The peer's SYN-ACK acknowledged the origin.
const ANSWERED: u64 = 1 << 2;
/// FIN was seen, after `next` bytes.
const FIN: u64 = 1 << 3;
/// The end was told of.
const TOLD: u64 = 1 << 4;
/// The receiver acknowledged that FIN.
const FIN_ACKED: u64 = 1 << 5;
/// The sender stands behind its FIN.
const PAST_FIN: u64 = 1 << 6;

impl Brief {
    /// The half in brief; nothing if there is more to it.
    pub(super) fn of(half: &Half) -> Option<Self> {
        let mut marks = match half.origin {
            Origin::Unknown => 0,
            Origin::Provisional => return None,
            Origin::Picked => PLACED | PICKED,
            Origin::Syn => PLACED,
        };
        let next = half.next;
        let mut mark = |mark: u64, set: bool| marks |= if set { mark } else { 0 };
        let at_end = |offset: u64| Some(next) == half.fin && offset == next.wrapping_add(1);
        let acked_end = at_end(half.acked);
        let past_end = at_end(half.sent);
        mark(ANSWERED, half.expected.is_some());
        mark(FIN, half.fin.is_some());
        mark(TOLD, half.finished.is_some());
        mark(FIN_ACKED, acked_end);
        mark(PAST_FIN, past_end);
        let ordinary = half.waiting.is_none()
            && half.candidate.is_none()
            && half.other.is_none()
            && half.doubt.is_none()
            && half.missing == 0
            && !half.disputed
            && half.expected.is_none_or(|first| first == half.base)
            && half.fin.is_none_or(|fin| fin == next)
            && (half.finished.is_none() || half.finished == half.fin)
            // At or before `next`, neither says anything that `next` does not.
            && (acked_end || half.acked <= next)
            && (past_end || half.sent <= next)
            && (half.origin != Origin::Unknown || (half.expected.is_none() && half.fin.is_none()));
        (ordinary && next < LONGEST).then_some(())?;
        Some(Self {
            place: next << MARKS | marks,
            last: half.last,
            // Before the first bytes, their time says nothing.
            last_data: if next == 0 { Timestamp::default() } else { half.last_data },
            base: half.base,
            packets: u32::try_from(half.packets).ok()?,
        })
    }

    /// Those of these marks that are set.
    #[inline]
    fn marks(&self, of: u64) -> u64 {
        self.place & of
    }

    /// The half that this is in brief. `acked_index` is the place in the input of the last acknowledgement that said
    /// something new.
    pub(super) fn half(&self, acked_index: u64) -> Half {
        let has = |mark| self.marks(mark) != 0;
        let behind = self.next() + 1;
        Half {
            base: self.base,
            origin: match (has(PLACED), has(PICKED)) {
                (false, _) => Origin::Unknown,
                (true, true) => Origin::Picked,
                (true, false) => Origin::Syn,
            },
            finished: has(TOLD).then_some(self.next()),
            fin: has(FIN).then_some(self.next()),
            next: self.next(),
            acked: if has(FIN_ACKED) { behind } else { 0 },
            acked_index,
            sent: if has(PAST_FIN) { behind } else { 0 },
            packets: u64::from(self.packets),
            last: self.last,
            last_data: self.last_data,
            expected: has(ANSWERED).then_some(self.base),
            ..Half::default()
        }
    }

    /// Whether the stream has come to its end.
    #[inline]
    pub(super) fn fin_seen(&self) -> bool {
        self.marks(FIN) != 0
    }

    /// Offset of the next byte to deliver.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.place >> MARKS
    }

    /// The sequence number behind so many more bytes.
    pub(super) fn seq_behind(&self, more: u64) -> u32 {
        self.base.wrapping_add(self.next().wrapping_add(more) as u32)
    }

    /// Packets from this side.
    pub(super) fn packets(&self) -> u64 {
        u64::from(self.packets)
    }

    /// Time of the last packet from this side.
    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    /// Time of the last packet that brought new bytes; before the first of them it says nothing.
    pub(super) fn last_data(&self) -> Timestamp {
        self.last_data
    }

    /// Whether any packet's sequence number placed this stream.
    pub(super) fn placed(&self) -> bool {
        self.marks(PLACED) != 0
    }

    /// Whether nothing waits to be told at the connection's end.
    pub(super) fn is_settled(&self) -> bool {
        self.marks(FIN | TOLD) != FIN
    }

    /// Whether a SYN would place this stream: nothing else did.
    pub(super) fn is_fresh(&self) -> bool {
        self.place == 0 && self.packets < u32::MAX
    }

    /// Places the stream by its SYN: `first` is the sequence number behind it.
    #[inline]
    pub(super) fn place(&mut self, first: u32) {
        self.base = first;
        self.place |= PLACED;
    }

    /// Whether this side has sent its SYN and nothing more, and `ack` is the answer to that.
    pub(super) fn awaits_answer(&self, ack: u32) -> bool {
        self.place == PLACED && self.base == ack
    }

    /// Notes the answer to the SYN.
    pub(super) fn answer(&mut self) {
        self.place |= ANSWERED;
    }

    /// Whether a reset with this number lies where a true one must.
    pub(super) fn is_near(&self, seq: u32) -> bool {
        self.packets < u32::MAX && (!self.placed() || is_near(self.ahead(seq)))
    }

    /// Whether a FIN in a segment that begins with `seq` comes in order.
    pub(super) fn may_end(&self, seq: u32) -> bool {
        self.has_room() && self.marks(PLACED | FIN | TOLD | FIN_ACKED | PAST_FIN) == PLACED && self.ahead(seq) == 0
    }

    /// Notes that the stream ends here, and that this was told.
    pub(super) fn end(&mut self) {
        self.place |= FIN | TOLD;
    }

    /// Whether an acknowledgement is the first of this stream's end.
    pub(super) fn has_end_acked_by(&self, ack: u32) -> bool {
        self.marks(PLACED | FIN | TOLD | FIN_ACKED) == PLACED | FIN | TOLD && self.ahead(ack) == 1
    }

    /// Whether the receiver has acknowledged the end.
    pub(super) fn end_acked(&self) -> bool {
        self.marks(FIN_ACKED) != 0
    }

    /// Notes that the receiver acknowledged the end.
    pub(super) fn acknowledge_end(&mut self) {
        self.place |= FIN_ACKED;
    }

    /// Whether a segment without payload is the first in which the sender stands behind its end.
    pub(super) fn stands_behind_end(&self, seq: u32) -> bool {
        self.has_room() && self.marks(PLACED | FIN | TOLD | PAST_FIN) == PLACED | FIN | TOLD && self.ahead(seq) == 1
    }

    /// Notes that the sender stands behind its end.
    pub(super) fn pass_end(&mut self) {
        self.place |= PAST_FIN;
    }

    /// How far a sequence number lies behind the next byte to deliver.
    #[inline]
    fn ahead(&self, seq: u32) -> i32 {
        seq.wrapping_sub(self.base.wrapping_add(self.next() as u32)) as i32
    }

    /// Whether another packet still fits, with as many bytes as it may have.
    #[inline]
    fn has_room(&self) -> bool {
        self.packets < u32::MAX && self.next() < LONGEST
    }

    /// Whether an acknowledgement of this stream says nothing new.
    #[inline]
    pub(super) fn is_acked(&self, ack: u32) -> bool {
        match self.marks(PLACED | FIN_ACKED) {
            PLACED => self.ahead(ack) <= 0,
            0 => true,
            _ => self.ahead(ack) == 1,
        }
    }

    /// Whether a segment with `length` bytes of payload, without SYN, FIN and RST, is what comes next, or has none and
    /// says nothing new.
    #[inline]
    pub(super) fn is_ordinary(&self, seq: u32, length: usize) -> bool {
        if !self.has_room() {
            return false;
        }
        let (ahead, silent) = (self.ahead(seq), length == 0);
        match self.marks(PLACED | FIN | PAST_FIN) {
            PLACED => ahead == 0 || (silent && ahead < 0),
            0 => silent,
            marks if marks == PLACED | FIN => silent && ahead <= 0,
            marks if marks == PLACED | FIN | PAST_FIN => silent && ahead == 1,
            _ => false,
        }
    }

    /// Takes a segment that [`Brief::is_ordinary`]; the offset of its payload.
    #[inline(always)]
    pub(super) fn take(&mut self, length: usize, ts: Timestamp) -> u64 {
        let offset = self.next();
        self.packets += 1;
        self.last = self.last.max(ts);
        if length > 0 {
            self.place += (length as u64) << MARKS;
            self.last_data = self.last_data.max(ts);
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brief_half_is_the_same_half_again() {
        for marks in 0..128 {
            let (last, last_data) = (Timestamp(9), Timestamp(8));
            let brief = Brief { place: 7 << MARKS | marks, last, last_data, base: 5, packets: 3 };
            let Some(again) = Brief::of(&brief.half(4)) else { continue };
            assert_eq!(Brief::of(&again.half(4)), Some(again), "{marks:b}");
        }
        let fresh = Half::default();
        assert_eq!(Brief::of(&fresh), Some(Brief::default()));
    }

    #[test]
    fn the_time_of_the_last_new_bytes_is_kept_through_packets_without_any() {
        let half = Half { origin: Origin::Syn, packets: 1, last: Timestamp(1), ..Half::default() };
        let mut brief = Brief::of(&half).unwrap();
        brief.take(5, Timestamp(10_000_000_000));
        brief.take(0, Timestamp(90_000_000_000_000));
        brief.take(0, Timestamp(80_000_000_000_000));
        assert_eq!(brief.half(0).last_data, Timestamp(10_000_000_000));
        assert_eq!(Brief::of(&brief.half(0)), Some(brief));
        brief.take(5, Timestamp(20_000_000_000));
        assert_eq!(brief.half(0).last_data, Timestamp(20_000_000_000));
        assert!(brief.is_ordinary(10, 0));
    }

    #[test]
    fn a_stream_of_more_bytes_than_fit_is_not_brief() {
        let half = Half { origin: Origin::Syn, next: LONGEST - 1, ..Half::default() };
        let mut brief = Brief::of(&half).unwrap();
        let seq = brief.base.wrapping_add(brief.next() as u32);
        assert!(brief.is_ordinary(seq, 2) && brief.may_end(seq));
        assert_eq!(brief.take(2, Timestamp(1)), LONGEST - 1);
        let seq = seq.wrapping_add(2);
        assert_eq!((brief.next(), brief.marks(u64::MAX >> 48)), (LONGEST + 1, PLACED));
        assert!(!brief.is_ordinary(seq, 2) && !brief.is_ordinary(seq, 0) && !brief.may_end(seq));
        assert_eq!(brief.half(0).next, LONGEST + 1);
        assert_eq!(Brief::of(&brief.half(0)), None);
    }

    #[test]
    fn a_handshake_is_ordinary_whatever_the_year() {
        let year_2026 = Timestamp(1_780_000_000_000_000_000);
        let mut brief = Brief::default();
        brief.place(10);
        brief.take(0, year_2026);
        brief.answer();
        assert!(brief.is_ordinary(10, 0));
        assert_eq!(brief.take(0, Timestamp(year_2026.0 + 5)), 0);
        assert!(brief.is_ordinary(10, 4));
        assert!(brief.may_end(10));
        // The first bytes may come with an earlier time than what was before them.
        brief.take(4, Timestamp(year_2026.0 + 3));
        assert_eq!((brief.last_data().0, brief.last().0), (year_2026.0 + 3, year_2026.0 + 5));
        assert_eq!(Brief::of(&brief.half(0)), Some(brief));
    }

    #[test]
    fn what_a_loss_left_behind_is_not_brief() {
        assert!(Brief::of(&Half { origin: Origin::Syn, next: 4, missing: 1, ..Half::default() }).is_none());
        assert!(Brief::of(&Half { origin: Origin::Syn, next: 4, acked: 5, ..Half::default() }).is_none());
        assert!(Brief::of(&Half { origin: Origin::Syn, next: 4, acked: 4, ..Half::default() }).is_some());
    }
}
