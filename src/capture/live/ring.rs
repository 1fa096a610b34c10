//! One interface's packets for one thread: libpcap on a ring that the kernel fills (TPACKET_V3).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use libc::{IFF_RUNNING, IFF_UP, c_int};
use pcap::{Active, Capture, Precision, TimestampType};

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

/// An open ring.
pub(super) struct Ring {
    capture: Capture<Active>,
    pub(super) name: String,
    pub(super) link: u16,
    /// The interface's number, as the socket is bound to it.
    index: c_int,
    promiscuous: bool,
    /// In a group of rings of this interface; such a socket cannot be bound anew.
    grouped: bool,
    condition: Condition,
}

impl Ring {
    pub(super) fn open(name: &str, settings: &config::Capture) -> Result<Self, LiveError> {
        let refused = |what: &'static str| {
            let interface = name.to_owned();
            move |source| LiveError::Open { interface, what, source }
        };
        // Sizes are bounded far below the type's end by the configuration.
        let number = |size: u64| i32::try_from(size).unwrap_or(i32::MAX);
        let mut capture = Capture::from_device(name)
            .map_err(refused("cannot be opened"))?
            .snaplen(number(settings.snap_length.0))
            .promisc(settings.promiscuous && name != super::ANY)
            .buffer_size(number(settings.ring.0))
            .timeout(number(settings.block_timeout.0.div_ceil(1_000_000)))
            .precision(Precision::Nano);
        if settings.adapter_time {
            // Where the adapter does not offer it, libpcap keeps to the system's time.
            capture = capture.tstamp_type(TimestampType::Adapter);
        }
        let mut capture = capture.open().map_err(refused("cannot be opened"))?;
        if !settings.filter.is_empty() {
            capture.filter(&settings.filter, true).map_err(refused("refuses `capture.filter`"))?;
        }
        let capture = capture.setnonblock().map_err(refused("cannot be read without waiting"))?;
        let link = match capture.get_datalink().0 {
            link if link == RAW.0 => RAW.1,
            link => u16::try_from(link).unwrap_or(u16::MAX),
        };
        let (index, condition) = match condition(capture.as_fd(), name) {
            (Some(index), condition) => (index, condition),
            (None, condition) => (0, condition),
        };
        let (name, promiscuous) = (name.to_owned(), settings.promiscuous);
        Ok(Self { capture, name, link, index, promiscuous, grouped: false, condition })
    }

    /// Joins the rings of this interface among which packets are spread; the first has none to join.
    pub(super) fn join(&mut self, group: Option<u16>) -> Result<u16, LiveError> {
        let mut program = super::fanout::program(self.link == super::ETHERNET);
        self.grouped = true;
        system::join_fanout(self.capture.as_fd(), group, &mut program)
            .map_err(|source| LiveError::Fanout { interface: self.name.clone(), source })
    }

    /// Hands on what is there, about `most` packets; gives their number.
    ///
    /// # Errors
    /// If the interface is gone; packets of before may still come.
    pub(super) fn take(&mut self, most: usize, mut each: impl FnMut(Raw<'_>)) -> Result<usize, pcap::Error> {
        self.capture.dispatch(Some(most), |packet| {
            let header = packet.header;
            // With the precision that was asked for, the fraction is in nanoseconds.
            let (seconds, fraction) = (header.ts.tv_sec as u64, header.ts.tv_usec as u64);
            let ts = Timestamp::from_parts(seconds, fraction);
            each(Raw { ts, wire_length: header.len.max(header.caplen), bytes: packet.data });
        })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }

    /// What the kernel did since this was last asked.
    pub(super) fn statistics(&self) -> RingStatistics {
        // A socket that was opened answers; if it did not, nothing more could be known than that.
        system::statistics(self.capture.as_fd()).unwrap_or_default()
    }

    /// Looks at the interface; gives its condition where that has changed, and takes it up again if it came back.
    pub(super) fn look(&mut self) -> Option<Condition> {
        if self.name == super::ANY {
            return None;
        }
        let (index, mut now) = condition(self.capture.as_fd(), &self.name);
        if let Some(index) = index
            && index != self.index
        {
            // Another interface of the same name: the socket's own is gone for good.
            match self.take_up(index) {
                Ok(()) => self.index = index,
                Err(_) => now = Condition::Replaced,
            }
        }
        let changed = now != self.condition;
        self.condition = now;
        changed.then_some(now)
    }

    fn take_up(&self, index: c_int) -> std::io::Result<()> {
        if self.grouped {
            return Err(std::io::ErrorKind::Unsupported.into());
        }
        let socket = self.capture.as_fd();
        system::bind(socket, index)?;
        if self.promiscuous { system::promiscuous(socket, index) } else { Ok(()) }
    }

    pub(super) fn condition(&self) -> Condition {
        self.condition
    }
}

fn condition(socket: BorrowedFd<'_>, name: &str) -> (Option<c_int>, Condition) {
    match system::interface(socket, name) {
        Ok(Some((index, flags))) if flags & IFF_UP == 0 => (Some(index), Condition::Down),
        Ok(Some((index, flags))) if flags & IFF_RUNNING == 0 => (Some(index), Condition::NoCarrier),
        Ok(Some((index, _))) => (Some(index), Condition::Up),
        Ok(None) | Err(_) => (None, Condition::Gone),
    }
}

/// The system's time.
pub(super) fn system_time() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
