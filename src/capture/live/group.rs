//! The rings of one interface among which the kernel spreads packets, and those that take their place where another
//! interface has taken its name, or where it was down when they were opened.
//!
//! The kernel lets no socket leave its group or be bound anew, and a process that is locked up can open no other: spare
//! ones are opened at the start. The thread that sees the other interface first makes the rings of all threads, in their
//! order, so that a pair of hosts stays on its thread whichever interface it comes from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{c_int, sock_filter};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::blocks::Blocks;
use super::{fanout, ring, system};
use crate::config;
use crate::net::Timestamp;

/// How the rings of an Ethernet interface are made.
#[derive(Clone)]
pub(super) struct Recipe {
    filter: Vec<sock_filter>,
    bytes: usize,
    /// In milliseconds.
    block_timeout: u32,
    promiscuous: bool,
}

impl Recipe {
    /// With the filter that lets through what is to be read.
    pub(super) fn new(filter: Vec<sock_filter>, settings: &config::Capture) -> Self {
        Self {
            filter,
            bytes: usize::try_from(settings.ring.0).unwrap_or(usize::MAX),
            block_timeout: settings.block_timeout.0.div_ceil(1_000_000) as u32,
            promiscuous: settings.promiscuous,
        }
    }

    /// A socket of no protocol, so that nothing comes before it is bound.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        system::attach_filter(socket.as_fd(), &mut self.filter.clone())?;
        Ok(socket)
    }

    /// A small ring for no interface, which gets nothing.
    pub(super) fn idle(&self) -> io::Result<Blocks> {
        Blocks::new(self.socket()?, 1, self.block_timeout)
    }

    /// Makes a ring on the socket, for this interface.
    pub(super) fn ring(&self, socket: OwnedFd, index: c_int) -> io::Result<Blocks> {
        let blocks = Blocks::new(socket, self.bytes, self.block_timeout)?;
        if self.promiscuous {
            system::promiscuous(blocks.socket(), index)?;
        }
        system::bind(blocks.socket(), index)?;
        Ok(blocks)
    }
}

/// What the threads that share an interface have in common.
pub(super) struct Group {
    recipe: Recipe,
    /// Sockets that are bound to nothing, by thread.
    spare: Vec<Vec<OwnedFd>>,
    made: Option<Made>,
}

/// Rings for an interface, by thread, as long as their threads have not fetched them.
struct Made {
    index: c_int,
    rings: Vec<Option<Blocks>>,
    start: Timestamp,
}

/// A ring that takes another's place.
pub(super) struct Successor {
    pub(super) index: c_int,
    pub(super) blocks: Blocks,
    /// What came earlier may have gone to several rings, or to the wrong one.
    pub(super) start: Timestamp,
}

impl Group {
    /// With as many sockets for each thread as its interface may become another one.
    ///
    /// # Errors
    /// If the system gives no more sockets.
    pub(super) fn new(recipe: &Recipe, threads: usize, times: u64) -> io::Result<Self> {
        let sockets = |_| (0..times).map(|_| recipe.socket()).collect::<io::Result<Vec<_>>>();
        let spare = (0..threads).map(sockets).collect::<io::Result<_>>()?;
        Ok(Self { recipe: recipe.clone(), spare, made: None })
    }

    /// Lets the kernel drop what this program relieves a thread of, whatever its interface is.
    pub(super) fn relieve(&self, thread: usize, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut spare = self.spare.get(thread).into_iter().flatten();
        spare.try_for_each(|socket| system::attach_program(socket.as_fd(), program))
    }

    /// Whether there is a ring for the thread, or may be one.
    pub(super) fn may_go_on(&self, thread: usize) -> bool {
        let waits = self.made.as_ref().and_then(|made| made.rings.get(thread)).is_some_and(Option::is_some);
        waits || self.spare.iter().all(|sockets| !sockets.is_empty())
    }

    /// The thread's ring for the interface of this number, which is up.
    ///
    /// # Errors
    /// If there are no sockets left, or the interface is no longer what it was just now.
    pub(super) fn ring(&mut self, thread: usize, index: c_int) -> io::Result<Successor> {
        let made = self.made.as_ref().filter(|made| made.index == index);
        // A thread that has had its ring and asks again lost it: the interface was away, and is back with its number.
        if made.and_then(|made| made.rings.get(thread)).is_none_or(Option::is_none) {
            self.made = Some(self.make(index)?);
        }
        let made = self.made.as_mut();
        let ring = made.and_then(|made| Some((made.rings.get_mut(thread)?.take()?, made.start)));
        let (blocks, start) = ring.ok_or(io::ErrorKind::NotFound)?;
        Ok(Successor { index, blocks, start })
    }

    fn make(&mut self, index: c_int) -> io::Result<Made> {
        let sockets: Option<Vec<OwnedFd>> = self.spare.iter_mut().map(Vec::pop).collect();
        let sockets = sockets.ok_or(io::ErrorKind::Unsupported)?;
        let rings = sockets.into_iter().map(|socket| self.recipe.ring(socket, index));
        let rings = rings.collect::<io::Result<Vec<Blocks>>>()?;
        let mut program = fanout::program(true);
        let mut group = None;
        for ring in &rings {
            group = Some(system::join_fanout(ring.socket(), group, &mut program)?);
        }
        Ok(Made { index, rings: rings.into_iter().map(Some).collect(), start: ring::system_time() })
    }
}
