//! From segments to two ordered byte streams per connection.
//!
//! [`Segment`](crate::packet::Segment)s come in; what goes out, by calls to an [`Application`], are stretches
//! of stream bytes in order, gaps of known length where the tap lost bytes, and the connection's end.
//!
//! Promises: a byte of the stream is delivered once, whatever is duplicated, retransmitted or reordered within the
//! bound, its SYN included; where segments overlap the first data wins; a hole is closed as a gap once the receiver
//! has acknowledged it and the tap had time to deliver it late, and a lost end only where both sides vouch for it or
//! the connection is over; a forged number far ahead hides and adds nothing; nothing depends on the wall clock, on
//! hash order or on how many lanes share the work; every table is bounded in bytes and counts what its bound cost.
//!
//! A retransmission of bytes that were delivered already is not compared with them: nothing is kept to do so.

mod assembler;
mod brief;
mod counters;
mod entries;
mod half;
mod index;
mod slab;
mod table;
mod timer;

use crate::net::{Endpoint, Timestamp};
use crate::packet::Layers;
use crate::record::{Connection, Ending, Wrapping};

pub use counters::FlowCounters;
pub use table::{Key, Needless, Tracker};

/// One end of a connection, named by the order of (address, port), so that both directions agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The lower of the two endpoints.
    Low = 0,
    /// The higher of the two endpoints.
    High = 1,
}

impl Side {
    /// The other end.
    #[inline]
    pub fn peer(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// Two things, one per side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both<T>([T; 2]);

impl<T> Both<T> {
    /// From the lower and the higher side's thing.
    pub fn new(low: T, high: T) -> Self {
        Self([low, high])
    }

    /// The side's thing.
    // By its place, as no branch can foresee who sends the next segment. There are as many places as sides.
    #[allow(clippy::indexing_slicing)]
    #[inline]
    pub fn of(&self, side: Side) -> &T {
        &self.0[side as usize]
    }

    /// The side's thing, to change.
    #[allow(clippy::indexing_slicing)]
    #[inline]
    pub fn of_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}

/// What an application may know of the connection that it reads, and the one thing that it may correct: which
/// side is the client.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Link {
    /// Time of the first packet.
    pub start: Timestamp,
    /// The two endpoints.
    pub ends: Both<Endpoint>,
    /// The side that opened, or the best guess so far.
    pub client: Side,
    /// Whether the opening was seen, so that `client` is known.
    pub client_known: bool,
    /// Whether a stream was picked up in the middle.
    pub mid_stream: bool,
    /// Segments overlapped with different bytes.
    pub conflict: bool,
    /// The application needs no more of this connection's bytes, and is not called with them.
    pub deaf: bool,
    /// What the first packet was wrapped in.
    pub layers: Layers,
    /// Place of the first packet in the input.
    pub first_index: u64,
    /// A number that no other open connection of the lane has.
    pub slot: u32,
}

impl Link {
    /// The two ends by role.
    pub fn connection(&self) -> Connection {
        Connection { client: *self.ends.of(self.client), server: *self.ends.of(self.client.peer()) }
    }

    /// What the first packet was wrapped in, for a record.
    pub fn wrapping(&self) -> Wrapping {
        Wrapping { vlans: self.layers.vlans().to_vec(), tunnels: self.layers.tunnels().map(|t| t.name()).collect() }
    }
}

/// A stretch of stream bytes, in order.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// Who sent it.
    pub side: Side,
    /// Offset of the first byte in the sender's stream.
    pub offset: u64,
    /// Time of the packet that carried it.
    pub ts: Timestamp,
    /// The bytes, never empty.
    pub bytes: &'a [u8],
}

/// A stretch of stream that the tap did not deliver.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Who sent it.
    pub side: Side,
    /// Offset of the first missing byte.
    pub offset: u64,
    /// Time of the packet that follows the gap, or of the last packet.
    pub ts: Timestamp,
    /// How many bytes are missing, at least one.
    pub length: u64,
}

/// What a connection amounted to.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Unique payload bytes sent by each side, missing ones included.
    pub bytes: Both<u64>,
    /// Of `bytes`, how many the tap did not deliver.
    pub missing: Both<u64>,
    /// Packets from each side, duplicates included.
    pub packets: Both<u64>,
    /// Time of the last packet from each side that brought new bytes, or of what followed a gap; where there is none
    /// it says nothing.
    pub last_data: Both<Timestamp>,
    /// Time of the last packet.
    pub end: Timestamp,
    /// How it ended.
    pub ending: Ending,
}

/// The moment at which something happens, for ordering what comes out: the same for the same input,
/// whatever the number of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The pipeline's clock.
    pub clock: Timestamp,
    /// False for what the clock's passing caused, which comes before what a packet of that time causes.
    pub by_packet: bool,
    /// The packet's place in the input, or that of the first packet of the flow concerned.
    pub index: u64,
}

/// How long a connection that is silent is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as is allowed at the time: nothing is cut if it is ended.
    Little,
    /// As long as the configuration says, whatever else is given up: something that is measured is under way.
    Usual,
    /// It is not over as long as another connection goes on.
    Endless,
}

/// Reads the streams of connections. One value serves all connections of a lane.
pub trait Application {
    /// What is kept per connection.
    type State;

    /// A connection begins. `opener` sent its first packet.
    fn open(&mut self, link: &mut Link, opener: Side, now: Moment) -> Self::State;
    /// Stream bytes, in order.
    fn data(&mut self, state: &mut Self::State, link: &mut Link, data: Data<'_>, now: Moment);
    /// Stream bytes that are lost for good.
    fn gap(&mut self, state: &mut Self::State, link: &mut Link, gap: Gap, now: Moment);
    /// A side has sent its last byte (FIN), and all before it was delivered or is a gap. A forged FIN is taken back by
    /// whatever comes behind it; the end is then told of once more, where it is.
    fn finish(&mut self, state: &mut Self::State, link: &mut Link, side: Side, now: Moment);
    /// The connection is over.
    fn close(&mut self, state: Self::State, link: &Link, totals: &Totals, now: Moment);
    /// A second of packet time has passed.
    fn tick(&mut self, now: Moment);

    /// How many of a side's next bytes the application only counts, whatever they are.
    fn passes_over(&self, _state: &Self::State, _side: Side) -> u64 {
        0
    }
    /// Whether a side is in the middle of what the application needs.
    fn awaits(&self, _state: &Self::State, _side: Side) -> bool {
        false
    }

    /// How long a connection that is silent is waited for.
    fn patience(&self, _state: &Self::State) -> Patience {
        Patience::Little
    }

    /// Where more is kept than may be: the [`Link::slot`] of a connection that may have to give way. Asked again after
    /// each [`Application::give_way`].
    #[inline]
    fn too_much(&mut self, _now: Moment) -> Option<u32> {
        None
    }
    /// Keeps nothing more of the connection, unless others were silent longer. `seen` is the time of its last packet.
    fn give_way(&mut self, _state: &mut Self::State, _link: &mut Link, _seen: Timestamp, _now: Moment) {}
}
