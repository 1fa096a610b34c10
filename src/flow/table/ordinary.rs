//! Segments that are what one expects of a connection, followed on its brief form alone.
//!
//! Almost all are: a handshake, bytes in order, acknowledgements of them, an end. Nothing else than
//! [`Tracker::take`] on the full form would do is done here, only with less of the connection's memory. Whatever is
//! out of the ordinary in any way is left to that, untouched.

use super::super::{Application, Data, Moment, Side};
use super::Tracker;
use crate::packet::Segment;

impl<A: Application> Tracker<A> {
    /// Takes a segment that neither begins nor ends anything and is ordinary in every way, on an ordinary connection;
    /// false if it is not, or not of this connection, and nothing has happened.
    #[inline(always)]
    pub(super) fn goes_on(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) -> bool {
        let Some(hot) = self.entries.hot_mut(handle) else { return false };
        if !hot.is_of(side, segment) || !hot.is_plain(segment) || !segment.flags.goes_on() {
            return false;
        }
        let (mine, peer) = (hot.halves.of(side), hot.halves.of(side.peer()));
        let length = segment.payload.len();
        if !mine.is_ordinary(segment.seq, length) || (segment.flags.ack() && !peer.is_acked(segment.ack)) {
            return false;
        }
        hot.seen = now.clock;
        let offset = hot.halves.of_mut(side).take(length, segment.ts);
        if length > 0 && !hot.deaf {
            self.deliver(handle, side, offset, segment, now);
            self.make_room(now);
        }
        true
    }

    /// The first segment of a new connection; false if it is more than a SYN.
    #[inline]
    pub(super) fn begins(&mut self, handle: u32, side: Side, segment: &Segment<'_>) -> bool {
        let flags = segment.flags;
        let plain = flags.syn() && !flags.ack() && !flags.rst() && !flags.fin();
        let Some(hot) =
            self.entries.hot_mut(handle).filter(|_| plain && segment.payload.is_empty() && segment.cut == 0)
        else {
            return false;
        };
        hot.halves.of_mut(side).place(segment.seq.wrapping_add(1));
        hot.halves.of_mut(side).take(0, segment.ts);
        true
    }

    /// Takes a segment by which an ordinary connection is answered, ends or is reset, and what follows its end; false
    /// if it is something else, and nothing has happened.
    pub(super) fn turns(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) -> bool {
        if !self.entries.hot(handle).is_some_and(|hot| hot.is_plain(segment)) {
            return false;
        }
        let flags = segment.flags;
        match (flags.syn(), flags.rst(), flags.fin()) {
            (true, false, false) => self.answers(handle, side, segment, now),
            (false, true, false) => self.resets(handle, side, segment, now),
            (false, false, _) => self.ends(handle, side, segment, now),
            _ => false,
        }
    }

    /// The SYN-ACK to the SYN.
    fn answers(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) -> bool {
        let Some(hot) = self.entries.hot_mut(handle) else { return false };
        let plain = segment.flags.ack() && segment.payload.is_empty();
        let expected = hot.halves.of(side).is_fresh() && hot.halves.of(side.peer()).awaits_answer(segment.ack);
        if plain && expected {
            hot.seen = now.clock;
            hot.halves.of_mut(side).place(segment.seq.wrapping_add(1));
            hot.halves.of_mut(side).take(0, segment.ts);
            hot.halves.of_mut(side.peer()).answer();
        }
        plain && expected
    }

    /// A reset where a true one must lie.
    fn resets(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) -> bool {
        let Some(hot) = self.entries.hot_mut(handle) else { return false };
        if !segment.payload.is_empty() || !hot.halves.of(side).is_near(segment.seq) {
            return false;
        }
        hot.seen = now.clock;
        hot.halves.of_mut(side).take(0, segment.ts);
        hot.reset = Some(side);
        self.look_by(handle, now.clock.after(self.limits.linger));
        true
    }

    /// The last segment of a side, with or without bytes, its acknowledgement, and what its sender says behind it.
    fn ends(&mut self, handle: u32, side: Side, segment: &Segment<'_>, now: Moment) -> bool {
        let Some(hot) = self.entries.hot_mut(handle) else { return false };
        let (mine, peer) = (hot.halves.of(side), hot.halves.of(side.peer()));
        let length = segment.payload.len();
        let (fin, ack) = (segment.flags.fin(), segment.flags.ack());
        let acks_end = ack && peer.has_end_acked_by(segment.ack);
        let past_end = !fin && length == 0 && mine.stands_behind_end(segment.seq);
        let in_order = if fin { mine.may_end(segment.seq) } else { past_end || mine.is_ordinary(segment.seq, length) };
        if !in_order || !(!ack || acks_end || peer.is_acked(segment.ack)) {
            return false;
        }
        hot.seen = now.clock;
        let offset = hot.halves.of_mut(side).take(length, segment.ts);
        if past_end {
            hot.halves.of_mut(side).pass_end();
        }
        let heard = !hot.deaf;
        // The rest of the connection is looked at only where it is needed: it is seldom near.
        if acks_end {
            hot.halves.of_mut(side.peer()).acknowledge_end();
            if let Some((_, cold)) = self.entries.both(handle) {
                *cold.acked_index.of_mut(side.peer()) = segment.index;
            }
        }
        if length > 0 && heard {
            self.deliver(handle, side, offset, segment, now);
        }
        if fin && let Some(hot) = self.entries.hot_mut(handle) {
            hot.halves.of_mut(side).end();
            let (heard, closed) = (!hot.deaf, hot.closed());
            if heard && let Some((hot, cold)) = self.entries.both(handle) {
                self.app.finish(&mut cold.state, &mut cold.link, side, now);
                hot.deaf = cold.link.deaf;
            }
            if closed {
                // By then it will be known whether this end, too, was acknowledged.
                self.look_by(handle, now.clock.after(self.limits.settled_linger));
            }
        }
        self.make_room(now);
        true
    }

    #[inline(never)]
    fn deliver(&mut self, handle: u32, side: Side, offset: u64, segment: &Segment<'_>, now: Moment) {
        let Some((hot, cold)) = self.entries.both(handle) else { return };
        let data = Data { side, offset, ts: segment.ts, bytes: segment.payload };
        self.app.data(&mut cold.state, &mut cold.link, data, now);
        hot.deaf = cold.link.deaf;
    }
}
