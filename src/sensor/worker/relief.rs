//! What is not needed any more of connections: what that is, and what was counted of it elsewhere.

use super::{Key, Parsers, Placed, Segment, Tracker, Worker, collect, lane_of};
use crate::capture::live::{Needless, Relieved};
use crate::flow;
use crate::net::{ByteSize, Timestamp};
use crate::packet::{Flags, Layers};

/// More are not told at a time; those that are left out are told with their next packet.
const MOST: usize = 1024;

/// Stands for bytes that nobody looks at.
static UNREAD: [u8; 1 << 16] = [0; 1 << 16];

/// Connections of which nothing more is needed, or nothing for a while.
pub(super) struct Spared {
    noted: Vec<Needless>,
    /// Those that have carried fewer bytes are not noted, nor those of which fewer are not needed.
    after: u64,
}

/// Notes what is not needed any more of the segment's connection, if that is something.
#[cold]
pub(super) fn note(spared: &mut Spared, tracker: &Tracker<Parsers>, segment: &Segment<'_>, key: &Key) {
    // What is in a tunnel is known to the kernel by other addresses.
    let plain = segment.layers.tunnels().next().is_none() && segment.flags.goes_on();
    if !plain || segment.payload.is_empty() || spared.noted.len() >= MOST {
        return;
    }
    let before = match tracker.needless(key, segment, spared.after) {
        None => return,
        Some(flow::Needless::All) => None,
        Some(flow::Needless::Before { sender, peer }) => Some((sender, peer)),
    };
    spared.noted.push(Needless { source: segment.source, destination: segment.destination, before });
}

impl Worker {
    /// From now on, notes what is not needed any more of connections that have carried so many bytes.
    pub(in crate::sensor) fn note_needless(&mut self, after: ByteSize) {
        self.spared = Some(Spared { noted: Vec::new(), after: after.0 });
    }

    /// What was noted since this was last asked.
    pub(in crate::sensor) fn take_needless(&mut self) -> Vec<Needless> {
        self.spared.as_mut().map(|spared| std::mem::take(&mut spared.noted)).unwrap_or_default()
    }

    /// Counts packets of such a connection that were only counted elsewhere, as if they had been followed. One that is not
    /// there any more gets nothing.
    pub(in crate::sensor) fn relieved(
        &mut self,
        relieved: &Relieved,
        clock: Timestamp,
        index: u64,
        out: &mut Vec<Placed>,
    ) {
        let &Relieved { source, destination, packets, next } = relieved;
        let lane = lane_of(source.address, destination.address);
        let Some(Some(tracker)) = self.lanes.get_mut(lane) else { return };
        tracker.advance(clock);
        let (mut counted, mut before) = (0_u64, None);
        loop {
            let (flags, layers, ts) = (Flags::default(), Layers::default(), clock);
            let mut segment = Segment {
                index,
                ts,
                clock,
                source,
                destination,
                seq: next,
                ack: 0,
                flags,
                payload: &[],
                cut: 0,
                layers,
            };
            let key = tracker.key(&segment);
            // From where the stream stands, whatever was lost or sent again while the kernel counted: what waits behind a hole
            // stays as it came.
            let Some((seq, room)) = tracker.stands(&key, &segment) else { break };
            let left = u64::from(u32::try_from(next.wrapping_sub(seq) as i32).unwrap_or(0));
            segment.seq = seq;
            segment.payload = UNREAD.get(..left.min(room) as usize).unwrap_or(&UNREAD);
            // A stream that has ended takes no more: what comes behind its FIN has a number higher by one.
            let stuck = before.replace(seq) == Some(seq);
            if (left == 0 && counted > 0) || stuck || !tracker.passes_over(&key, &segment) {
                tracker.recount(&key, &segment, packets, counted);
                break;
            }
            tracker.push_keyed(&segment, &key);
            counted += 1;
        }
        collect(tracker, lane, out);
    }
}
