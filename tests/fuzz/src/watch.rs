//! Stands between the flow table and the parsers, and checks what the one promises to the other.

use std::collections::HashMap;

use outfall::flow::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use outfall::net::{Endpoint, Timestamp};
use outfall::protocol::Parsers;

use crate::check::Wire;

/// The parsers, watched.
pub struct Watch {
    pub parsers: Parsers,
    pub wire: Wire,
    /// If the byte with sequence number `n` is always `pattern(n)`: every place at which a stream may begin.
    pub origins: Option<HashMap<(Endpoint, Endpoint), Vec<u32>>>,
    open: usize,
}

/// One connection's state.
pub struct Watched {
    stream: <Parsers as Application>::State,
    next: Both<u64>,
    missing: Both<u64>,
    finished: Both<Option<u64>>,
    /// Where the stream may begin, as far as its bytes tell.
    origins: Both<Option<Vec<u32>>>,
}

/// The byte with this sequence number.
pub fn pattern(seq: u32) -> u8 {
    (seq.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

impl Watch {
    pub fn new(parsers: Parsers, patterned: bool) -> Self {
        Self { parsers, wire: Wire::default(), origins: patterned.then(HashMap::new), open: 0 }
    }

    /// A packet names sequence numbers at which its sender's stream may begin.
    pub fn note(&mut self, from: Endpoint, to: Endpoint, places: [u32; 2]) {
        if let Some(origins) = &mut self.origins {
            origins.entry((from, to)).or_default().extend(places);
        }
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open
    }
}

impl Application for Watch {
    type State = Watched;

    fn open(&mut self, link: &mut Link, opener: Side, now: Moment) -> Watched {
        assert!(link.ends.of(Side::Low) <= link.ends.of(Side::High));
        self.open += 1;
        Watched {
            stream: self.parsers.open(link, opener, now),
            next: Both::default(),
            missing: Both::default(),
            finished: Both::default(),
            origins: Both::new(None, None),
        }
    }

    fn data(&mut self, state: &mut Watched, link: &mut Link, data: Data<'_>, now: Moment) {
        assert!(!data.bytes.is_empty());
        assert!(!link.deaf, "bytes for who is deaf");
        assert_eq!(data.offset, *state.next.of(data.side), "offsets are in order, with no hole and no repetition");
        *state.next.of_mut(data.side) += data.bytes.len() as u64;
        if let Some(all) = &self.origins {
            let ends = (*link.ends.of(data.side), *link.ends.of(data.side.peer()));
            let origins = state.origins.of_mut(data.side);
            let origins = origins.get_or_insert_with(|| all.get(&ends).cloned().unwrap_or_default());
            origins.retain(|origin| {
                let first = origin.wrapping_add(data.offset as u32);
                data.bytes.iter().enumerate().all(|(n, byte)| *byte == pattern(first.wrapping_add(n as u32)))
            });
            assert!(!origins.is_empty(), "bytes that do not belong at offset {}", data.offset);
            assert!(!link.conflict, "a conflict where no bytes differ");
        }
        self.parsers.data(&mut state.stream, link, data, now);
    }

    fn gap(&mut self, state: &mut Watched, link: &mut Link, gap: Gap, now: Moment) {
        assert!(gap.length > 0);
        assert_eq!(gap.offset, *state.next.of(gap.side));
        *state.next.of_mut(gap.side) += gap.length;
        *state.missing.of_mut(gap.side) += gap.length;
        self.parsers.gap(&mut state.stream, link, gap, now);
    }

    fn finish(&mut self, state: &mut Watched, link: &mut Link, side: Side, now: Moment) {
        let place = *state.next.of(side);
        assert_ne!(state.finished.of_mut(side).replace(place), Some(place), "a side finishes once at a place");
        self.parsers.finish(&mut state.stream, link, side, now);
    }

    fn close(&mut self, state: Watched, link: &Link, totals: &Totals, now: Moment) {
        self.open -= 1;
        if link.deaf {
            // It was not called with all of the bytes.
            self.wire.add(&link.ends, totals);
            self.parsers.close(state.stream, link, totals, now);
            return;
        }
        for side in [Side::Low, Side::High] {
            // The last byte of a gap may turn out to have been a FIN that the tap lost.
            let more = state.next.of(side) - totals.bytes.of(side);
            assert!(more <= 1, "bytes: {totals:?}");
            assert_eq!(state.missing.of(side) - totals.missing.of(side), more, "missing: {totals:?}");
        }
        self.wire.add(&link.ends, &Totals { bytes: state.next, missing: state.missing, ..*totals });
        self.parsers.close(state.stream, link, totals, now);
    }

    fn tick(&mut self, now: Moment) {
        self.parsers.tick(now);
    }

    fn too_much(&mut self, now: Moment) -> Option<u32> {
        self.parsers.too_much(now)
    }

    fn give_way(&mut self, state: &mut Watched, link: &mut Link, seen: Timestamp, now: Moment) {
        self.parsers.give_way(&mut state.stream, link, seen, now);
    }
}
