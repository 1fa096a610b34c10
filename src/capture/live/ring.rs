//! One interface's packets for one thread: a ring that the kernel fills (TPACKET_V3).
//!
//! libpcap says what an interface's packets are like, and makes its filter's program. Of an Ethernet interface the ring is
//! read block by block (`blocks.rs`); all others, and adapters that stamp packets themselves, are read through libpcap.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use libc::{IFF_RUNNING, IFF_UP, c_int, sock_filter};
use nix::sys::socket::{getsockopt, sockopt::SocketError};
use pcap::{Active, BpfProgram, Capture, Inactive, Precision, TimestampType};

use super::blocks::Blocks;
use super::group::{Group, Recipe, Successor};
use super::relief::Relief;
use super::system::{self, RingStatistics};
use super::{Condition, LiveError};
use crate::config;
use crate::net::Timestamp;

/// DLT_RAW as Linux numbers it, and its value in the `LINKTYPE_` registry.
const RAW: (i32, u16) = (12, 101);

/// A packet as libpcap gives it: its time, its length on the wire and what was captured of it.
pub(super) struct Raw<'a> {
    pub(super) ts: Timestamp,
    pub(super) wire_length: u32,
    pub(super) bytes: &'a [u8],
}

/// What takes packets of a ring.
pub(super) trait Take {
    /// Packets that lie side by side.
    fn take<'p>(&mut self, packets: impl Iterator<Item = Raw<'p>>);
}

/// An open ring.
pub(super) struct Ring {
    source: Source,
    pub(super) name: String,
    pub(super) link: u16,
    promiscuous: bool,
    /// Of a ring of our own.
    recipe: Option<Recipe>,
    /// What came earlier is passed over.
    pub(super) start: Timestamp,
    /// In a group of rings of this interface; such a socket cannot be bound anew.
    grouped: bool,
    /// The thread's place in that, where its ring may get a successor.
    share: Option<(usize, Arc<Mutex<Group>>)>,
    /// What takes this ring's place, once what is left in it was read.
    successor: Option<Successor>,
    condition: Condition,
}

enum Source {
    /// A ring of our own.
    Blocks(Blocks),
    /// libpcap's.
    Library(Capture<Active>),
}

/// ARPHRD_ETHER.
const ETHERNET_HARDWARE: u16 = 1;

/// No interface has this number.
const NONE: c_int = 0;

/// The machine's own, which is up where anything is.
const LOOPBACK: &str = "lo";

const NO_FILTER: &str = "refuses `capture.filter`";

impl Ring {
    pub(super) fn open(name: &str, settings: &config::Capture) -> Result<Self, LiveError> {
        let refused = |what: &'static str| {
            let interface = name.to_owned();
            move |source| LiveError::Open { interface, what, source }
        };
        let prepared = || Self::prepare(name, settings).map_err(refused("cannot be opened"));
        let asking = UnixDatagram::unbound().map_err(|error| refused("cannot be asked about")(error.into()))?;
        let found = condition(asking.as_fd(), name);
        if let (Some(index), Condition::Down) = found {
            return Self::open_down(asking.as_fd(), name, index, settings);
        }
        // A small one, to ask.
        let library = match prepared()?.promisc(false).buffer_size(1).open() {
            // libpcap reads some things that are no interfaces, so it was asked first.
            Err(_) if name != super::ANY && found.0.is_none() => {
                return Err(LiveError::Missing { interface: name.to_owned() });
            }
            opened => opened.map_err(refused("cannot be opened"))?,
        };
        let program = match settings.filter.as_str() {
            "" => None,
            filter => Some(library.compile(filter, true).map_err(refused(NO_FILTER))?),
        };
        let (index, condition) = match condition(library.as_fd(), name) {
            (Some(index), condition) => (index, condition),
            (None, condition) => (NONE, condition),
        };
        let link = match library.get_datalink().0 {
            link if link == RAW.0 => RAW.1,
            link => u16::try_from(link).unwrap_or(u16::MAX),
        };
        let plain = link == super::ETHERNET && is_plain(library.as_fd(), name, settings.adapter_time);
        drop(library);
        // What the kernel refuses us, for want of memory for one, libpcap may still get in smaller pieces.
        let recipe = if plain { Self::recipe(program.as_ref(), settings) } else { None };
        let blocks = recipe.and_then(|recipe| Some((recipe.ring(recipe.socket().ok()?, index).ok()?, recipe)));
        let (source, recipe) = match blocks {
            Some((blocks, recipe)) => (Source::Blocks(blocks), Some(recipe)),
            None => {
                let mut capture = prepared()?.open().map_err(refused("cannot be opened"))?;
                if !settings.filter.is_empty() {
                    capture.filter(&settings.filter, true).map_err(refused(NO_FILTER))?;
                }
                (Source::Library(capture.setnonblock().map_err(refused("cannot be read without waiting"))?), None)
            }
        };
        let promiscuous = settings.promiscuous;
        Ok(Self { link, recipe, ..Self::new(source, name, promiscuous, condition) })
    }

    /// Opens an interface that is down, which libpcap refuses.
    fn open_down(
        asking: BorrowedFd<'_>,
        name: &str,
        index: c_int,
        settings: &config::Capture,
    ) -> Result<Self, LiveError> {
        let refused = |source| LiveError::Down { interface: name.to_owned(), source };
        if !is_plain(asking, name, settings.adapter_time) {
            return Err(refused(io::Error::other("no Ethernet, or its adapter stamps packets: libpcap reads it")));
        }
        let program = match settings.filter.as_str() {
            "" => None,
            filter => {
                let refused = |what| {
                    let interface = name.to_owned();
                    move |source| LiveError::Open { interface, what, source }
                };
                // A filter may ask for what the kernel keeps beside a packet; libpcap knows how only of an interface that is up.
                let up = Self::prepare(LOOPBACK, settings).and_then(|up| up.promisc(false).buffer_size(1).open());
                let up = up.map_err(refused("is down, and so is `lo`, by which `capture.filter` would be made"))?;
                Some(up.compile(filter, true).map_err(refused(NO_FILTER))?)
            }
        };
        let unknown =
            || refused(io::Error::other("libpcap makes a program of `capture.filter` that is not understood"));
        let recipe = Self::recipe(program.as_ref(), settings).ok_or_else(unknown)?;
        let blocks = recipe.socket().and_then(|socket| recipe.ring(socket, index)).map_err(refused)?;
        // It may have come up since.
        let (_, condition) = condition(blocks.socket(), name);
        let ring = Self::new(Source::Blocks(blocks), name, settings.promiscuous, condition);
        Ok(Self { recipe: Some(recipe), ..ring })
    }

    fn new(source: Source, name: &str, promiscuous: bool, condition: Condition) -> Self {
        Self {
            source,
            name: name.to_owned(),
            link: super::ETHERNET,
            promiscuous,
            recipe: None,
            start: Timestamp(0),
            grouped: false,
            share: None,
            successor: None,
            condition,
        }
    }

    fn prepare(name: &str, settings: &config::Capture) -> Result<Capture<Inactive>, pcap::Error> {
        // Sizes are bounded far below the type's end by the configuration.
        let number = |size: u64| i32::try_from(size).unwrap_or(i32::MAX);
        let capture = Capture::from_device(name)?
            .snaplen(number(settings.snap_length.0))
            .promisc(settings.promiscuous && name != super::ANY)
            .buffer_size(number(settings.ring.0))
            .timeout(number(settings.block_timeout.0.div_ceil(1_000_000)))
            .precision(Precision::Nano);
        // Where the adapter does not offer it, libpcap keeps to the system's time.
        Ok(if settings.adapter_time { capture.tstamp_type(TimestampType::Adapter) } else { capture })
    }

    fn recipe(program: Option<&BpfProgram>, settings: &config::Capture) -> Option<Recipe> {
        let filter = match program {
            Some(program) => instructions(program)?,
            None => vec![instruction(libc::BPF_RET | libc::BPF_K, 0, 0, settings.snap_length.0 as u32)],
        };
        Some(Recipe::new(filter, settings))
    }

    /// Lets the kernel drop what this relieves the thread of.
    pub(super) fn relieve(&self, relief: &Relief) -> Result<(), LiveError> {
        let attached = match (&self.source, &self.share) {
            (Source::Blocks(_), None) => system::attach_program(self.socket(), relief.program()),
            (Source::Blocks(_), Some((thread, group))) => system::attach_program(self.socket(), relief.program())
                .and_then(|()| lock(group).relieve(*thread, relief.program())),
            (Source::Library(_), _) => Err(io::Error::other("only of Ethernet interfaces")),
        };
        attached.map_err(|source| LiveError::Relief { interface: self.name.clone(), source })
    }

    /// Joins the rings of this interface among which packets are spread; the first has none to join.
    pub(super) fn join(&mut self, group: Option<u16>) -> Result<u16, LiveError> {
        let mut program = super::fanout::program(self.link == super::ETHERNET);
        self.grouped = true;
        system::join_fanout(self.socket(), group, &mut program)
            .map_err(|source| LiveError::Fanout { interface: self.name.clone(), source })
    }

    /// Whether its interface is down, and the rings of a group can be made when it is up.
    pub(super) fn may_wait(&self) -> bool {
        self.condition == Condition::Down && self.recipe.is_some()
    }

    /// Gives its place in a group up until the interface, which is down, is up: older kernels let no socket join one before.
    /// Then the group makes the rings, as for an interface that comes back as another one.
    pub(super) fn wait_for_group(&mut self) -> Result<(), LiveError> {
        let idle = self.recipe.as_ref().map(Recipe::idle).transpose();
        let idle = idle.map_err(|source| LiveError::Down { interface: self.name.clone(), source })?;
        if let Some(idle) = idle {
            (self.source, self.condition) = (Source::Blocks(idle), Condition::Down);
        }
        self.grouped = true;
        Ok(())
    }

    /// Hands on what is there, about `most` packets.
    pub(super) fn take(&mut self, most: usize, into: &mut impl Take) {
        match &mut self.source {
            Source::Blocks(blocks) => {
                let mut taken = 0;
                while taken < most
                    && let Some(mut block) = blocks.block()
                {
                    let packets = block.packets();
                    taken += packets.left();
                    into.take(packets);
                }
            }
            Source::Library(capture) => {
                // An interface that is gone gives an error; `look` says so.
                let _ = capture.dispatch(Some(most), |packet| {
                    let header = packet.header;
                    // With the precision that was asked for, the fraction is in nanoseconds.
                    let (seconds, fraction) = (header.ts.tv_sec as u64, header.ts.tv_usec as u64);
                    let ts = Timestamp::from_parts(seconds, fraction);
                    let wire_length = header.len.max(header.caplen);
                    into.take(std::iter::once(Raw { ts, wire_length, bytes: packet.data }));
                });
            }
        }
    }

    /// Passes over what came before this time by the system's clock, which an adapter that stamps packets may know nothing of.
    pub(super) fn pass_over(&mut self, before: Timestamp) {
        if matches!(self.source, Source::Blocks(_)) {
            self.start = before;
        }
    }

    /// Takes an error off the socket, of an interface that went down: as long as it is there, waiting ends at once.
    pub(super) fn clear_error(&self) {
        if let Source::Blocks(blocks) = &self.source {
            // Reading it is all that is wanted.
            let _ = getsockopt(&blocks.socket(), SocketError);
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Blocks(blocks) => blocks.socket(),
            Source::Library(capture) => capture.as_fd(),
        }
    }

    /// What the kernel did since this was last asked.
    pub(super) fn statistics(&self) -> RingStatistics {
        // A socket that was opened answers; if it did not, nothing more could be known than that.
        system::statistics(self.socket()).unwrap_or_default()
    }

    /// Packets that are in the ring; not known of libpcap's.
    pub(super) fn waiting(&self) -> Option<u64> {
        match &self.source {
            Source::Blocks(blocks) => Some(blocks.waiting()),
            Source::Library(_) => None,
        }
    }

    /// What the rings of its interface have in common, for this one, which is the first of them; none for rings that are not of
    /// our own.
    pub(super) fn group(&self, settings: &config::Capture) -> Result<Option<Arc<Mutex<Group>>>, LiveError> {
        let threads = usize::try_from(settings.threads).unwrap_or(1);
        // Those that make its first rings are none to spare.
        let times = settings.spare_sockets + u64::from(self.bound() == NONE);
        let group = self.recipe.as_ref().map(|recipe| Group::new(recipe, threads, times)).transpose();
        let group = group.map_err(|source| LiveError::Fanout { interface: self.name.clone(), source })?;
        Ok(group.map(|group| Arc::new(Mutex::new(group))))
    }

    /// From now on, this thread's ring gets a successor where its interface comes back as another one.
    pub(super) fn share(&mut self, thread: usize, group: Arc<Mutex<Group>>) {
        self.share = Some((thread, group));
    }

    /// Looks at the interface; says what has changed, in its order, and takes it up again if it came back. `read`: what was taken
    /// from the ring was handed on.
    pub(super) fn look(&mut self, read: bool) -> [Option<Condition>; 2] {
        if self.name == super::ANY {
            return [None; 2];
        }
        let (index, mut now) = condition(self.socket(), &self.name);
        let (bound, mut other) = (self.bound(), false);
        if let Some(index) = index
            && index != bound
        {
            // Another interface of the same name, or the same that was away: the socket's own is gone for good.
            now = self.take_up(index, now, read);
            other = bound != NONE && self.bound() == index;
        }
        let changed = other || now != self.condition;
        self.condition = now;
        [other.then_some(Condition::TakenUp), changed.then_some(now)]
    }

    /// The number of the interface that is read.
    fn bound(&self) -> c_int {
        // A socket that was opened answers.
        system::bound(self.socket()).unwrap_or(NONE)
    }

    /// Takes up another interface, which is in this condition; what comes of it.
    fn take_up(&mut self, index: c_int, now: Condition, read: bool) -> Condition {
        if !self.grouped {
            return match self.bind(index) {
                Ok(()) => now,
                // It went away as fast as it came.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Condition::Gone,
                Err(_) => Condition::Replaced,
            };
        }
        let waited = self.bound() == NONE;
        let Some((thread, group)) = &self.share else { return Condition::Replaced };
        let emptied = read && matches!(&self.source, Source::Blocks(blocks) if blocks.is_empty());
        match self.successor.take().filter(|successor| successor.index == index) {
            Some(Successor { blocks, start, .. }) if emptied => {
                (self.source, self.start) = (Source::Blocks(blocks), start);
                now
            }
            Some(successor) => {
                self.successor = Some(successor);
                Condition::Gone
            }
            // None joins a group before its interface is up.
            None if now == Condition::Down => now,
            None => {
                let mut group = lock(group);
                match group.ring(*thread, index) {
                    Ok(Successor { blocks, start, .. }) if waited => {
                        (self.source, self.start) = (Source::Blocks(blocks), start);
                        return now;
                    }
                    // Until the next look there is time to read what the old one got last; this one is filled meanwhile.
                    Ok(successor) => self.successor = Some(successor),
                    Err(_) if group.may_go_on(*thread) => {}
                    Err(_) => return Condition::Replaced,
                }
                if waited { Condition::Down } else { Condition::Gone }
            }
        }
    }

    fn bind(&self, index: c_int) -> io::Result<()> {
        let socket = self.socket();
        system::bind(socket, index)?;
        if self.promiscuous {
            system::promiscuous(socket, index)?;
        }
        Ok(())
    }

    pub(super) fn condition(&self) -> Condition {
        self.condition
    }
}

fn lock(group: &Mutex<Group>) -> std::sync::MutexGuard<'_, Group> {
    // A thread that died while it made rings made none.
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a ring of our own is as good as libpcap's.
pub(super) fn is_plain(socket: BorrowedFd<'_>, name: &str, adapter_time: bool) -> bool {
    system::hardware(socket, name).is_ok_and(|kind| kind == ETHERNET_HARDWARE)
        && !(adapter_time && system::stamps(socket, name).unwrap_or(false))
}

fn condition(socket: BorrowedFd<'_>, name: &str) -> (Option<c_int>, Condition) {
    match system::interface(socket, name) {
        Ok(Some((index, flags))) if flags & IFF_UP == 0 => (Some(index), Condition::Down),
        Ok(Some((index, flags))) if flags & IFF_RUNNING == 0 => (Some(index), Condition::NoCarrier),
        Ok(Some((index, _))) => (Some(index), Condition::Up),
        Ok(None) | Err(_) => (None, Condition::Gone),
    }
}

/// The program as the kernel takes it. libpcap made it for this snap length.
fn instructions(program: &BpfProgram) -> Option<Vec<sock_filter>> {
    let one = |text: String| {
        let mut numbers = text.split(' ').map(|number| number.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        let (code, jt, jf, k) = (next()?, next()?, next()?, next()?);
        Some(instruction(code, u8::try_from(jt).ok()?, u8::try_from(jf).ok()?, k))
    };
    program.get_instructions().iter().map(|instruction| one(instruction.to_string())).collect()
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// The system's time.
pub(super) fn system_time() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
