//! What became of segments and connections.

use crate::record::Ending;

/// What became of segments and connections, and what each bound cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Connections begun.
    pub opened: u64,
    /// Of them, without a SYN in the capture.
    pub mid_stream: u64,
    /// Connections ended, by [`Ending`] in its order.
    pub endings: [u64; 6],
    /// Payload bytes that came again.
    pub duplicate_bytes: u64,
    /// Segments that came before their turn.
    pub out_of_order: u64,
    /// Segments that overlapped earlier ones with different bytes.
    pub conflicts: u64,
    /// Segments further ahead than any window allows.
    pub out_of_window: u64,
    /// Stretches that the tap lost.
    pub gaps: u64,
    /// Bytes in them.
    pub gap_bytes: u64,
    /// Holes closed early because the stream's or the lane's reassembly memory was used up.
    pub memory_gaps: u64,
    /// Resets to connections that were never seen, and other stray packets without payload.
    pub strays: u64,
    /// Segments of connections that were not seen to open, for which there was no room in the table.
    pub refused: u64,
    /// The most connections open at once, summed over lanes.
    pub peak: u64,
}

impl FlowCounters {
    /// Adds another lane's counts.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.mid_stream += other.mid_stream;
        for (to, from) in self.endings.iter_mut().zip(other.endings) {
            *to += from;
        }
        self.duplicate_bytes += other.duplicate_bytes;
        self.out_of_order += other.out_of_order;
        self.conflicts += other.conflicts;
        self.out_of_window += other.out_of_window;
        self.gaps += other.gaps;
        self.gap_bytes += other.gap_bytes;
        self.memory_gaps += other.memory_gaps;
        self.strays += other.strays;
        self.refused += other.refused;
        self.peak += other.peak;
    }

    /// How many connections came to this end.
    pub fn ended(&self, ending: Ending) -> u64 {
        self.endings.get(ending as usize).copied().unwrap_or(0)
    }
}
