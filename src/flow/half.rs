//! One direction of a connection: sequence numbers to stream offsets, and bytes into their order.

use super::assembler::Assembler;
use crate::net::Timestamp;

/// The largest window that TCP can offer (RFC 7323 section 2.3): no honest segment or acknowledgement is
/// further ahead.
const LARGEST_WINDOW: i64 = 1 << 30;
/// A hole larger than this that no acknowledgement vouches for, at the connection's end, is taken for a
/// forgery and not counted.
const PLAUSIBLE_HOLE: u64 = 16 << 20;
/// Where a stream that was picked up in the middle is provisionally placed, so that earlier bytes still
/// have room below.
const PROVISIONAL: u64 = 1 << 31;

/// Whether a reset so far from the next byte may be true (RFC 9293 section 3.10.7.4, leniently).
pub(super) fn is_near(distance: i32) -> bool {
    distance.unsigned_abs() < 1 << 20
}

/// How sure the stream's origin is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing was seen.
    #[default]
    Unknown,
    /// Data came without SYN: it is held until the tap had time to deliver what came before.
    Provisional,
    /// Taken from the first data seen.
    Picked,
    /// Taken from a SYN.
    Syn,
}

/// One direction's state. Offsets count payload bytes from the stream's origin.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Sequence number of offset zero.
    pub(super) base: u32,
    pub(super) origin: Origin,
    /// Where the end was told of. A FIN there was forged if bytes come behind it, and the end is told of again.
    pub(super) finished: Option<u64>,
    /// FIN was seen, after this many bytes.
    pub(super) fin: Option<u64>,
    /// Offset of the next byte to deliver.
    pub(super) next: u64,
    /// The highest offset that the receiver acknowledged, if that is past `next`.
    pub(super) acked: u64,
    /// Place in the input of that acknowledgement.
    pub(super) acked_index: u64,
    /// A lower acknowledgement came after it. A tap that reorders delivers such, but not for long; then the higher
    /// one was forged, or another connection's.
    pub(super) disputed: bool,
    /// Where the sender itself says that it stands, by the sequence number of a segment without payload.
    pub(super) sent: u64,
    /// Stretches that wait for their turn.
    pub(super) waiting: Option<Box<Assembler>>,
    /// Bytes closed as gaps.
    pub(super) missing: u64,
    pub(super) packets: u64,
    /// Time of the last packet from this side.
    pub(super) last: Timestamp,
    /// Time of the last packet that brought new bytes, or of what followed a gap.
    pub(super) last_data: Timestamp,
    /// An initial sequence number that may belong to a next connection on the same five-tuple.
    pub(super) candidate: Option<u32>,
    /// The origin that an earlier SYN offered. The first data or acknowledgement that fits it makes it the origin again.
    pub(super) other: Option<u32>,
    /// What the peer's SYN-ACK acknowledged: the origin, or what lies behind the data of a SYN (RFC 7413).
    pub(super) expected: Option<u32>,
    /// Where a gap ends that only an acknowledgement vouches for: its last byte may be a FIN that the tap lost.
    pub(super) doubt: Option<u64>,
}

/// What arrives.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) seq: u32,
    pub(super) bytes: &'a [u8],
    pub(super) cut: u32,
    pub(super) fin: bool,
    pub(super) ts: Timestamp,
    pub(super) index: u64,
}

/// What an arrival did to memory and order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effect {
    /// Bytes of memory newly held.
    pub(super) held: usize,
    pub(super) duplicate: u64,
    pub(super) conflict: bool,
    pub(super) out_of_window: bool,
}

/// What is next to deliver.
pub(super) enum Next {
    Data { offset: u64, bytes: Box<[u8]>, ts: Timestamp, freed: usize },
    Gap { offset: u64, length: u64, ts: Timestamp, freed: usize },
    Finish,
    Nothing,
}

impl Half {
    /// Whether any packet's sequence number placed this stream, if only for now.
    pub(super) fn placed(&self) -> bool {
        self.origin != Origin::Unknown || self.expected.is_some()
    }

    /// The sequence number of offset zero, as a SYN would have set it.
    pub(super) fn base(&self) -> u32 {
        self.base
    }

    /// Whether any payload was delivered or waits.
    pub(super) fn has_data(&self) -> bool {
        self.next > 0 || self.waiting.is_some() || self.origin == Origin::Provisional
    }

    /// All bytes are known up to the FIN.
    pub(super) fn fin_seen(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether a hole or an unplaced beginning keeps something waiting.
    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some() || (self.acked > self.next && self.fin != Some(self.next))
    }

    /// Takes the side's own SYN. `first` is the sequence number behind it, `early` the length of the data in it. Of
    /// several, the peer's answer tells which counts, else the last before any data.
    pub(super) fn open(&mut self, first: u32, early: u32) {
        let other = self.expected.is_some_and(|ack| ack != first && ack != first.wrapping_add(early));
        if !other && (!self.has_data() || self.origin == Origin::Provisional) {
            self.synchronise(first);
        }
    }

    /// Takes what the peer's SYN-ACK acknowledges. Alone it places nothing yet: the SYN itself may only be late.
    pub(super) fn answered(&mut self, ack: u32) {
        if self.origin == Origin::Syn && self.base != ack {
            if self.has_data() {
                return;
            }
            self.synchronise(ack);
        }
        self.expected = Some(ack);
        self.begin_at(ack);
    }

    /// Provisionally places a stream of which nothing was seen yet.
    fn begin_at(&mut self, seq: u32) {
        if self.origin == Origin::Unknown {
            self.base = seq.wrapping_sub(PROVISIONAL as u32);
            self.origin = Origin::Provisional;
        }
    }

    /// Sets the origin: offset zero has the sequence number `first`. False if what waits lies before it.
    fn synchronise(&mut self, first: u32) -> bool {
        if self.origin == Origin::Provisional {
            let below = self.base.wrapping_add(PROVISIONAL as u32).wrapping_sub(first) as i32;
            let shift = PROVISIONAL as i64 - i64::from(below);
            let start = self.waiting.as_ref().and_then(|w| w.first()).map(|s| s.start);
            let lowest = start.into_iter().chain(self.fin).min().unwrap_or(PROVISIONAL);
            if shift < 0 || (shift as u64) > lowest {
                return false;
            }
            self.shift(shift as u64);
        }
        if self.origin == Origin::Syn && self.base != first {
            self.other = Some(self.base);
        }
        self.base = first;
        self.origin = Origin::Syn;
        true
    }

    /// Goes back to the origin of an earlier SYN if that is the one that is spoken of, and nothing was said since.
    fn reconsider(&mut self, first: u32) {
        if self.other == Some(first) && !self.has_data() {
            self.base = first;
            self.other = None;
        }
    }

    /// Takes what the peer acknowledged as the origin, or else the lowest byte seen so far.
    pub(super) fn settle(&mut self) {
        if self.origin != Origin::Provisional || self.expected.is_some_and(|first| self.synchronise(first)) {
            return;
        }
        let lowest = self.waiting.as_ref().and_then(|w| w.first()).map_or(PROVISIONAL, |s| s.start);
        self.shift(lowest);
        self.base = self.base.wrapping_add(lowest as u32);
        self.origin = Origin::Picked;
    }

    fn shift(&mut self, by: u64) {
        if let Some(waiting) = &mut self.waiting {
            waiting.shift_down(by);
        }
        self.fin = self.fin.map(|fin| fin.saturating_sub(by));
        self.acked = self.acked.saturating_sub(by);
    }

    /// The stream offset of a sequence number, near the next expected byte; negative before the origin.
    fn offset(&self, seq: u32) -> i64 {
        let near = self.frontier();
        near as i64 + i64::from(seq.wrapping_sub(self.base.wrapping_add(near as u32)) as i32)
    }

    /// Where the stream stands: the next byte to deliver, or the place of the first segment while the origin is open.
    fn frontier(&self) -> u64 {
        if self.origin == Origin::Provisional { PROVISIONAL } else { self.next }
    }

    /// The sequence number of the next byte, and how many bytes may come there before what waits or the end; none before the
    /// stream is placed.
    pub(super) fn stands(&self) -> Option<(u32, u64)> {
        let placed = matches!(self.origin, Origin::Syn | Origin::Picked);
        let first = self.waiting.as_ref().and_then(|waiting| waiting.first()).map(|first| first.start);
        let room = first.into_iter().chain(self.fin).min().map_or(u64::MAX, |end| end.saturating_sub(self.next));
        placed.then(|| (self.base.wrapping_add(self.next as u32), room))
    }

    /// Whether an arrival is exactly what comes next, nothing waits and nothing has ended: the common case.
    #[inline]
    pub(super) fn is_next(&self, seq: u32) -> bool {
        matches!(self.origin, Origin::Syn | Origin::Picked)
            && self.waiting.is_none()
            && self.fin.is_none()
            && seq == self.base.wrapping_add(self.next as u32)
    }

    /// Counts bytes that the caller delivers itself, right after [`Half::is_next`].
    #[inline]
    pub(super) fn advance(&mut self, length: u64, ts: Timestamp) -> u64 {
        let offset = self.next;
        self.next += length;
        self.last_data = self.last_data.max(ts);
        offset
    }

    /// Counts bytes without putting them in order: all before their end counts as delivered. Gives the memory freed.
    pub(super) fn count(&mut self, seq: u32, length: u64) -> usize {
        if !matches!(self.origin, Origin::Syn | Origin::Picked) || self.fin.is_some() {
            return 0;
        }
        let end = self.offset(seq) + length as i64;
        if end <= self.next as i64 || end - self.next as i64 > LARGEST_WINDOW {
            return 0;
        }
        let freed = self.held();
        self.waiting = None;
        self.next = end as u64;
        freed
    }

    /// Takes in bytes that are not simply next. The caller drains with [`Half::pop`] afterwards.
    pub(super) fn arrive(&mut self, arrival: Arrival<'_>) -> Effect {
        let mut effect = Effect::default();
        self.begin_at(arrival.seq);
        self.reconsider(arrival.seq);
        let start = self.offset(arrival.seq);
        if start - self.frontier() as i64 > LARGEST_WINDOW {
            effect.out_of_window = true;
            return effect;
        }
        let floor = if self.origin == Origin::Provisional { 0 } else { self.next as i64 };
        let ceiling = self.ceiling().unwrap_or(i64::MAX);
        let whole = start + arrival.bytes.len() as i64 + i64::from(arrival.cut);
        if whole > ceiling {
            effect.out_of_window = true;
        }
        let end = whole.min(ceiling);
        let data_end = (start + arrival.bytes.len() as i64).min(ceiling);
        self.take_fin(arrival.fin && whole == end, end, floor);
        if start < floor {
            effect.duplicate += (data_end.min(floor) - start).max(0) as u64;
        }
        if data_end > floor {
            let skip = (floor - start).max(0);
            let from = start + skip;
            let bytes = arrival.bytes.get(skip as usize..(data_end - start) as usize).unwrap_or_default();
            if !bytes.is_empty() {
                let put = self.buffer().put(from as u64, bytes, arrival.ts, arrival.index);
                effect.add(put);
            }
        }
        if arrival.cut > 0 && end > floor.max(data_end) {
            let from = data_end.max(floor);
            let put = self.buffer().put_lost(from as u64, (end - from) as u64, arrival.ts, arrival.index);
            effect.add(put);
        }
        effect
    }

    /// Where the stream has ended for good: at a FIN that the receiver has acknowledged.
    fn ceiling(&self) -> Option<i64> {
        self.fin.filter(|fin| self.acked == fin + 1).map(|fin| fin as i64)
    }

    /// Notes a FIN at `end`, or that bytes come up to there behind an earlier one: the receiver has not acknowledged
    /// that, so it was forged or did not arrive.
    fn take_fin(&mut self, is_fin: bool, end: i64, floor: i64) {
        if self.fin.is_some_and(|fin| end > fin as i64) {
            self.fin = None;
        }
        if !is_fin || self.fin.is_some() {
            return;
        }
        if self.end_is_doubtful() && end + 1 == floor {
            // Only late: what was counted as the last byte was this.
            self.next -= 1;
            self.missing -= 1;
            self.fin = Some(self.next);
        } else if end >= floor {
            self.fin = Some(end as u64);
        }
    }

    fn buffer(&mut self) -> &mut Assembler {
        self.waiting.get_or_insert_default()
    }

    /// Notes an acknowledgement by the receiver.
    #[inline]
    pub(super) fn acknowledge(&mut self, ack: u32, index: u64, patience: u64) {
        if self.origin == Origin::Unknown {
            return;
        }
        if self.other.is_some() {
            self.reconsider(ack);
        }
        let offset = self.offset(ack);
        if offset <= self.next as i64 && self.acked <= self.next {
            return;
        }
        if offset < self.acked as i64 {
            self.disputed = true;
            if index.saturating_sub(self.acked_index) >= patience {
                self.acked = offset.max(0) as u64;
            }
            return;
        }
        if offset - self.frontier() as i64 > LARGEST_WINDOW {
            return;
        }
        let offset = offset as u64;
        if self.fin.is_some_and(|fin| offset > fin + 1) {
            // The receiver took more: that FIN was none.
            self.fin = None;
        }
        if offset > self.acked {
            self.acked = offset;
            self.acked_index = index;
            self.disputed = false;
        }
    }

    /// Whether the last acknowledgement is `age` packets old.
    fn acked_before(&self, index: u64, age: u64) -> bool {
        index.saturating_sub(self.acked_index) >= age
    }

    /// Notes where the sender says that it stands, in a segment without payload.
    #[inline]
    pub(super) fn stands_at(&mut self, seq: u32) {
        if matches!(self.origin, Origin::Syn | Origin::Picked) {
            self.sent = self.offset(seq).max(0) as u64;
        }
    }

    /// What can be delivered now. A hole is closed if it was acknowledged and its lateness is more than
    /// `patience` packets at `index`; `force` closes it whatever its age.
    pub(super) fn pop(&mut self, index: u64, patience: u64, force: bool) -> Next {
        if self.origin == Origin::Provisional {
            let first = self.waiting.as_ref().and_then(|w| w.first()).map_or(index, |s| s.index);
            if !force && index.saturating_sub(first) < patience {
                return Next::Nothing;
            }
            self.settle();
        }
        let first = self.waiting.as_ref().and_then(|w| w.first()).map(|s| (s.start, s.index, s.ts));
        match first {
            Some((start, ..)) if start <= self.next => self.pop_first(),
            Some((start, since, ts)) => {
                let old = index.saturating_sub(since) >= patience;
                let sure = self.acked >= start && (!self.disputed || self.acked_before(index, 2 * patience));
                if force || (old && sure) { self.close_hole(start, ts) } else { Next::Nothing }
            }
            None => {
                let late = self.acked_before(index, if self.disputed { 2 * patience } else { patience });
                let end = self.tail(late, index == u64::MAX, force);
                if end > self.next {
                    self.doubt = self.fin.is_none().then_some(end);
                    return self.close_hole(end, self.last);
                }
                if self.fin == Some(self.next) && self.finished != self.fin {
                    self.finished = self.fin;
                    return Next::Finish;
                }
                Next::Nothing
            }
        }
    }

    /// Up to where the bytes behind what was seen are given up: to the FIN, or to what the receiver acknowledged.
    /// While more may come (not `force`), both sides must vouch for them: the receiver by its acknowledgement, the
    /// sender by its FIN or, after a long silence, by the number in its own segments.
    fn tail(&self, late: bool, overdue: bool, force: bool) -> u64 {
        match self.fin {
            Some(fin) if force || (late && self.acked >= fin) => fin,
            Some(_) => self.next,
            // One past what was seen may be the acknowledgement of a FIN that the tap lost.
            None if self.acked <= self.next + 1 => self.next,
            None if force || (overdue && self.sent >= self.acked) => self.acked,
            None => self.next,
        }
    }

    /// Whether the stream's last byte may be a FIN that the tap lost.
    pub(super) fn end_is_doubtful(&self) -> bool {
        self.fin.is_none() && self.doubt == Some(self.next)
    }

    fn close_hole(&mut self, end: u64, ts: Timestamp) -> Next {
        let (offset, length) = (self.next, end - self.next);
        self.next = end;
        self.missing += length;
        self.last_data = self.last_data.max(ts);
        Next::Gap { offset, length, ts, freed: 0 }
    }

    fn pop_first(&mut self) -> Next {
        let Some(waiting) = &mut self.waiting else { return Next::Nothing };
        let before = waiting.cost();
        let Some(stretch) = waiting.pop() else { return Next::Nothing };
        let freed = before - waiting.cost();
        if waiting.first().is_none() {
            self.waiting = None;
        }
        let offset = self.next;
        self.next = stretch.end;
        self.last_data = self.last_data.max(stretch.ts);
        if stretch.bytes.is_empty() {
            let length = stretch.end - offset;
            self.missing += length;
            return Next::Gap { offset, length, ts: stretch.ts, freed };
        }
        Next::Data { offset, bytes: stretch.bytes, ts: stretch.ts, freed }
    }

    /// Forgets what lies behind a hole that is not to be believed: a large one that no acknowledgement vouches for,
    /// though the receiver was seen. The memory freed.
    pub(super) fn forget_implausible(&mut self, receiver_seen: bool) -> usize {
        if !receiver_seen || self.origin == Origin::Provisional {
            return 0;
        }
        let before = self.held();
        let mut end = self.next;
        if let Some(waiting) = &mut self.waiting {
            end = waiting.forget_behind_hole(end, PLAUSIBLE_HOLE, self.acked);
            if waiting.first().is_none() {
                self.waiting = None;
            }
        }
        let far = |offset: u64| offset.saturating_sub(end) > PLAUSIBLE_HOLE;
        if self.fin.is_some_and(|fin| far(fin) && self.acked < fin) {
            self.fin = None;
        }
        if far(self.acked) && self.sent < self.acked && self.fin.is_none() {
            self.acked = 0;
        }
        before - self.held()
    }

    /// Bytes of memory held.
    pub(super) fn held(&self) -> usize {
        self.waiting.as_ref().map_or(0, |w| w.cost())
    }
}

impl Effect {
    fn add(&mut self, put: super::assembler::Put) {
        self.held += put.cost;
        self.duplicate += put.duplicate;
        self.conflict |= put.conflict;
    }
}
