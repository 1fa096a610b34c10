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
pub(super) struct Deaf {
    noted: Vec<Needless>,
    /// Those that have carried fewer bytes are not noted, nor those of which fewer are not needed.
    after: u64,
}

/// Notes what is not needed any more of the segment's connection, if that is something.
#[cold]
pub(super) fn note(deaf: &mut Deaf, tracker: &Tracker<Parsers>, segment: &Segment<'_>, key: &Key) {
    // What is in a tunnel is known to the kernel by other addresses.
    let plain = segment.layers.tunnels().next().is_none() && segment.flags.goes_on();
    if !plain || segment.payload.is_empty() || deaf.noted.len() >= MOST {
        return;
    }
    let before = match tracker.needless(key, segment, deaf.after) {
        None => return,
        Some(flow::Needless::All) => None,
        Some(flow::Needless::Before { sender, peer }) => Some((sender, peer)),
    };
    deaf.noted.push(Needless { source: segment.source, destination: segment.destination, before });
}

impl Worker {
    /// From now on, notes what is not needed any more of connections that have carried so many bytes.
    pub(in crate::sensor) fn note_deaf(&mut self, after: ByteSize) {
        self.deaf = Some(Deaf { noted: Vec::new(), after: after.0 });
    }

    /// What was noted since this was last asked.
    pub(in crate::sensor) fn take_deaf(&mut self) -> Vec<Needless> {
        self.deaf.as_mut().map(|deaf| std::mem::take(&mut deaf.noted)).unwrap_or_default()
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
        let &Relieved { source, destination, mut packets, mut seq, payload } = relieved;
        let lane = lane_of(source.address, destination.address);
        let Some(Some(tracker)) = self.lanes.get_mut(lane) else { return };
        tracker.advance(clock);
        let mut left = payload as usize;
        while packets > 0 || left > 0 {
            // As few and as large as can be: only their sums count.
            let length = left.min(UNREAD.len());
            let payload = UNREAD.get(..length).unwrap_or_default();
            let (flags, layers) = (Flags::default(), Layers::default());
            let ts = clock;
            let segment =
                Segment { index, ts, clock, source, destination, seq, ack: 0, flags, payload, cut: 0, layers };
            let key = tracker.key(&segment);
            if !tracker.passes_over(&key, &segment) {
                break;
            }
            tracker.push_keyed(&segment, &key);
            seq = seq.wrapping_add(length as u32);
            (packets, left) = (packets.saturating_sub(1), left.saturating_sub(length));
            if left == 0 {
                tracker.count(&key, &segment, std::mem::take(&mut packets));
            }
        }
        collect(tracker, lane, out);
    }
}
