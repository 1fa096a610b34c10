//! Packets as they arrive: interfaces in, timestamped frames out, on as many threads as are asked for.
//!
//! [`open`] opens a ring for each interface and each thread; a [`Feed`] is what one thread reads. Thread `n` reads the
//! `n`-th ring of every interface, and the same program spreads the packets of each interface over its rings
//! (`fanout.rs`), so a pair of hosts stays on its thread even where a tap has an interface for each direction.
//!
//! Of one interface, packets are handed on where they lie in the ring. Of several, they are put in the order of their
//! times first, for which they are copied.
//!
//! Promises: what the kernel could not put into a ring is counted, never silent; an interface that goes down or
//! disappears ends nothing, is reported, and is taken up again when it is back. One that is down at the start is opened all the
//! same where its ring is one of ours.

mod blocks;
mod bpf;
mod driver;
mod fanout;
mod feed;
mod group;
mod interfaces;
mod relief;
mod relief_program;
mod ring;
mod system;

use std::io;
use std::sync::Arc;

pub use driver::DriverCounters;
pub use feed::{AT_ONCE, Feed, FeedCounters, LiveClock, Sink};
pub use interfaces::{InterfaceCounters, Interfaces};
pub use relief::{Needless, Relief, ReliefCounters, Relieved};

use crate::config;
use crate::net::Timestamp;
use ring::Ring;

/// The name that stands for all interfaces.
pub const ANY: &str = "any";

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Up.
    Up,
    /// Up, but nothing is at the other end.
    NoCarrier,
    /// Down.
    Down,
    /// There is none of this name.
    Gone,
    /// Another one of this name took its place, and is read from now on; how that one is, is said next.
    TakenUp,
    /// There is another one of this name, and it cannot be taken up any more.
    Replaced,
}

impl Condition {
    /// The end of a sentence that begins with the interface's name.
    pub fn text(self) -> &'static str {
        match self {
            Self::Up => "is up",
            Self::NoCarrier => "is up, but has no carrier",
            Self::Down => "is down",
            Self::Gone => "is gone",
            Self::TakenUp => "was replaced by another interface of its name: what came between was not read",
            Self::Replaced => "is back as another interface, and cannot be taken up: the sensor must be started anew",
        }
    }
}

/// Why packets cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// libpcap refuses the interface or its settings.
    #[error("{interface}: {what}")]
    Open {
        /// The interface.
        interface: String,
        /// What cannot be done.
        what: &'static str,
        /// What libpcap says.
        source: pcap::Error,
    },
    /// There is no such interface.
    #[error("{interface}: no such interface: see `ip link`")]
    Missing {
        /// The interface.
        interface: String,
    },
    /// An interface that is down cannot be opened before it is up.
    #[error("{interface}: is down, and cannot be opened before it is up: `ip link set {interface} up`")]
    Down {
        /// The interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refuses to spread packets over threads.
    #[error("{interface}: cannot spread packets over several threads")]
    Fanout {
        /// The interface.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel cannot drop packets for us.
    #[error("{interface}: `capture.kernel_relief` cannot be had; leave it off")]
    Relief {
        /// The interface.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
    /// Both at once.
    #[error("`capture.kernel_relief` and `capture.filter` each are the one filter of a socket: leave one of them out")]
    FilterAndRelief,
}

/// The commands of the system call `bpf` that relief goes on to use.
pub const RELIEF_COMMANDS: [u32; 4] = bpf::ASKED;

/// Opens a ring for each interface and thread; gives what each thread reads.
///
/// # Errors
/// If an interface cannot be opened.
pub fn open(interfaces: &[String], settings: &config::Capture) -> Result<Vec<Feed>, LiveError> {
    if settings.kernel_relief && !settings.filter.is_empty() {
        return Err(LiveError::FilterAndRelief);
    }
    let threads = usize::try_from(settings.threads).unwrap_or(1).max(1);
    let mut rings: Vec<Vec<Ring>> = (0..threads).map(|_| Vec::new()).collect();
    for interface in interfaces {
        let (mut joined, mut group, mut waits) = (None, None, false);
        for (thread, rings) in rings.iter_mut().enumerate() {
            let mut ring = Ring::open(interface, settings)?;
            if threads > 1 {
                waits |= thread == 0 && ring.may_wait();
                if waits {
                    ring.wait_for_group()?;
                } else {
                    joined = Some(ring.join(joined)?);
                }
                if thread == 0 {
                    group = ring.group(settings)?;
                }
                group.iter().for_each(|group| ring.share(thread, Arc::clone(group)));
            }
            rings.push(ring);
        }
    }
    // Until the last ring had joined its group, some packets went to several rings, or to the wrong one.
    let start = if threads > 1 { ring::system_time() } else { Timestamp(0) };
    let feed = |mut rings: Vec<Ring>| {
        rings.iter_mut().for_each(|ring| ring.start = start);
        let relief = if settings.kernel_relief { Some(relieve(&rings, settings)?) } else { None };
        Ok(Feed::new(rings, relief, settings))
    };
    rings.into_iter().map(feed).collect()
}

fn relieve(rings: &[Ring], settings: &config::Capture) -> Result<Relief, LiveError> {
    let snap_length = u32::try_from(settings.snap_length.0).unwrap_or(u32::MAX);
    let interface = rings.first().map(|ring| ring.name.clone()).unwrap_or_default();
    let relief = Relief::new(settings.relief_flows, snap_length);
    let relief = relief.map_err(|source| LiveError::Relief { interface, source })?;
    rings.iter().try_for_each(|ring| ring.relieve(&relief))?;
    Ok(relief)
}

/// The time by which packets are stamped, where no adapter does.
pub fn now() -> Timestamp {
    ring::system_time()
}

/// What the environment of live capture is like, for those who want to know before they start.
pub mod environment {
    use std::io;
    use std::os::fd::AsFd;

    use super::{driver, system};

    const GET_GRO: u32 = 0x2b;
    const GET_FLAGS: u32 = 0x25;
    /// ETH_FLAG_LRO.
    const LRO: u32 = 1 << 15;

    /// Whether the kernel or the adapter merges packets of `interface` as they arrive (GRO, LRO).
    ///
    /// # Errors
    /// If the driver does not say, or there is no such interface.
    pub fn merges(socket: impl AsFd, interface: &str) -> io::Result<(bool, bool)> {
        let gro = system::driver_value(socket.as_fd(), interface, GET_GRO)? != 0;
        let flags = system::driver_value(socket, interface, GET_FLAGS).unwrap_or(0);
        Ok((gro, flags & LRO != 0))
    }

    /// The descriptors of the adapter's receive ring: how many there may be, and how many there are.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn descriptors(socket: impl AsFd, interface: &str) -> io::Result<(u32, u32)> {
        system::descriptors(socket, interface)
    }

    /// Why `capture.kernel_relief` is not possible.
    #[derive(Debug, thiserror::Error)]
    pub enum NoRelief {
        /// The program or its table.
        #[error("the kernel does not take the program ({0})")]
        Program(#[source] io::Error),
        /// What a running sensor does with the table.
        #[error(
            "the kernel refuses a sensor that has given its capabilities up the use of the table ({0}), as those before 5.19 do \
             unless `kernel.unprivileged_bpf_disabled` is 0"
        )]
        Table(#[source] io::Error),
    }

    /// Whether the kernel takes the program and the table of `capture.kernel_relief`, and goes on to when this thread has given up
    /// what a running sensor gives up.
    ///
    /// # Errors
    /// If it does not.
    pub fn relief(give_up: impl FnOnce() -> io::Result<()>) -> Result<(), NoRelief> {
        let relief = super::Relief::new(2, 1).map_err(NoRelief::Program)?;
        give_up().and_then(|()| relief.try_out()).map_err(NoRelief::Table)
    }

    /// How many kinds of loss the interface's driver counts beyond the system's table (`ethtool -S`).
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn kinds_of_loss(socket: impl AsFd, interface: &str) -> io::Result<usize> {
        driver::kinds(socket, interface)
    }

    /// Whether there is such an interface, and whether it is up and has a carrier.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn interface(socket: impl AsFd, interface: &str) -> io::Result<Option<(bool, bool)>> {
        let found = system::interface(socket.as_fd(), interface)?;
        Ok(found.map(|(_, flags)| (flags & libc::IFF_UP != 0, flags & libc::IFF_RUNNING != 0)))
    }

    /// Whether an interface that is down can be opened all the same, to be read once it is up. `adapter_time`: as in the configuration.
    pub fn opens_down(socket: impl AsFd, interface: &str, adapter_time: bool) -> bool {
        super::ring::is_plain(socket.as_fd(), interface, adapter_time)
    }

    /// Whether the system's clock is held to be right, and by how many microseconds it may be wrong.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn clock() -> io::Result<(bool, i64)> {
        system::clock()
    }
}
