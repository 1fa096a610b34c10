//! What the kernel's trace events say: a pure decoder of their bytes, and what their order tells.
//!
//! The layouts are those of the manifests that Windows 10 and 11 register for the three providers, as the public
//! dictionaries of OSSEM list them field by field. A version that is newer than those known has the latest known layout:
//! new fields are added at the end.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::endpoint::{ConnectionEvent, FileEvent, Operation, ProcessEnd, ProcessStart, Transport};
use crate::helper::layout::{Fields, filetime};
use crate::helper::sighting::{Touch, What};
use crate::net::Timestamp;

/// The providers that are listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Microsoft-Windows-Kernel-Process.
    Process,
    /// Microsoft-Windows-Kernel-Network.
    Network,
    /// Microsoft-Windows-Kernel-File.
    File,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Process, Self::Network, Self::File];

    /// Its GUID, as a number.
    #[cfg(windows)]
    pub const fn guid(self) -> u128 {
        match self {
            Self::Process => 0x22fb2cd6_0e7b_422b_a0c7_2fad1fd0e716,
            Self::Network => 0x7dd42a49_5329_4832_8dfd_43d979153a88,
            Self::File => 0xedd08927_9cc4_4e65_b970_c2560fb5c289,
        }
    }

    /// The keywords of the events that are decoded.
    #[cfg(windows)]
    pub const fn keywords(self) -> u64 {
        match self {
            // Processes.
            Self::Process => 0x10,
            // IPv4 and IPv6.
            Self::Network => 0x30,
            // File I/O, create, read, write, delete path, rename path, create new file.
            Self::File => 0x20 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x1000,
        }
    }

    /// The events that are decoded.
    #[cfg(windows)]
    pub const fn ids(self) -> &'static [u16] {
        match self {
            Self::Process => &[1, 2, 15],
            Self::Network => &[12, 15, 28, 31],
            Self::File => &[12, 14, 15, 16, 26, 27, 30],
        }
    }
}

/// A decoded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// A process started, or was running when the trace began.
    ProcessStart {
        /// Its id.
        pid: u32,
        /// When it started.
        start: Option<Timestamp>,
        /// Its parent's id.
        ppid: u32,
        /// Its executable, as a device's path.
        image: String,
    },
    /// A process ended.
    ProcessEnd {
        /// Its id.
        pid: u32,
        /// When it started.
        start: Option<Timestamp>,
    },
    /// A connection was opened or accepted.
    Connection {
        /// Whose it is.
        pid: u32,
        /// This host's end.
        local: SocketAddr,
        /// The other end.
        remote: SocketAddr,
        /// Whether it was opened here.
        initiated: bool,
    },
    /// A file was opened.
    Open {
        /// The kernel's file object.
        object: u64,
        /// The file, as a device's path.
        path: String,
        /// Whether it was made.
        made: bool,
    },
    /// Bytes were read or written.
    Transfer {
        /// The file object.
        object: u64,
        /// How many.
        bytes: u64,
        /// Whether they were written.
        written: bool,
    },
    /// The file object is gone.
    Close {
        /// The file object.
        object: u64,
    },
    /// The file gets another name.
    Rename {
        /// The file object.
        object: u64,
        /// The new path.
        path: String,
    },
    /// The file is deleted.
    Delete {
        /// The file object.
        object: u64,
        /// Its path.
        path: String,
    },
}

/// The event that the bytes hold. Nothing if it is none of those that are looked for, or if it is cut short.
/// `pointer` is the size of a pointer in it, in bytes.
pub fn decode(provider: Provider, id: u16, version: u8, bytes: &[u8], pointer: usize) -> Option<Kernel> {
    let fields = &mut Fields(bytes);
    match (provider, id) {
        (Provider::Process, 1 | 15) => process_start(fields, id, version),
        (Provider::Process, 2) => process_end(fields, version),
        (Provider::Network, 12 | 15) => connection(fields, id == 12, Fields::v4),
        (Provider::Network, 28 | 31) => connection(fields, id == 28, Fields::v6),
        (Provider::File, 12 | 30) => open(fields, id == 30, version, pointer),
        (Provider::File, 14) => {
            let object = object(fields, version, pointer)?;
            Some(Kernel::Close { object })
        }
        (Provider::File, 15 | 16) => transfer(fields, id == 16, version, pointer),
        (Provider::File, 26 | 27) => named(fields, id == 27, version, pointer),
        _ => None,
    }
}

fn process_start(fields: &mut Fields<'_>, id: u16, version: u8) -> Option<Kernel> {
    // From these versions on, a process has a sequence number, and says what its token may do.
    let numbered = version >= if id == 1 { 3 } else { 1 };
    let flagged = id == 15 || version >= 1;
    let pid = fields.u32()?;
    if numbered {
        fields.u64()?;
    }
    let start = filetime(fields.u64()?);
    let ppid = fields.u32()?;
    if numbered {
        fields.u64()?;
    }
    let _session = fields.u32()?;
    if flagged {
        let _flags = fields.u32()?;
    }
    if numbered {
        let (_elevation_type, _is_elevated) = (fields.u32()?, fields.u32()?);
        sid(fields)?;
    }
    Some(Kernel::ProcessStart { pid, start, ppid, image: fields.text()? })
}

/// Passes over a security identifier: revision, count, authority, and as many numbers as the count says.
fn sid(fields: &mut Fields<'_>) -> Option<()> {
    let [_revision, count] = fields.bytes(2)? else { return None };
    fields.bytes(6 + usize::from(*count) * 4)?;
    Some(())
}

fn process_end(fields: &mut Fields<'_>, version: u8) -> Option<Kernel> {
    let pid = fields.u32()?;
    if version >= 2 {
        fields.u64()?;
    }
    Some(Kernel::ProcessEnd { pid, start: filetime(fields.u64()?) })
}

type Address<'a> = fn(&mut Fields<'a>) -> Option<std::net::IpAddr>;

fn connection<'a>(fields: &mut Fields<'a>, initiated: bool, address: Address<'a>) -> Option<Kernel> {
    let (pid, _size) = (fields.u32()?, fields.u32()?);
    // The destination is the other end, for connections that were accepted, too.
    let (remote, local) = (address(fields)?, address(fields)?);
    let (remote_port, local_port) = (fields.port()?, fields.port()?);
    let (local, remote) = (SocketAddr::new(local, local_port), SocketAddr::new(remote, remote_port));
    Some(Kernel::Connection { pid, local, remote, initiated })
}

/// Irp, in version 0 the thread, and the file object.
fn object(fields: &mut Fields<'_>, version: u8, pointer: usize) -> Option<u64> {
    fields.pointer(pointer)?;
    if version == 0 {
        fields.pointer(pointer)?;
    }
    fields.pointer(pointer)
}

fn open(fields: &mut Fields<'_>, made: bool, version: u8, pointer: usize) -> Option<Kernel> {
    let object = object(fields, version, pointer)?;
    if version >= 1 {
        let _thread = fields.u32()?;
    }
    let (_options, _attributes, _share) = (fields.u32()?, fields.u32()?, fields.u32()?);
    Some(Kernel::Open { object, path: fields.text()?, made })
}

fn transfer(fields: &mut Fields<'_>, written: bool, version: u8, pointer: usize) -> Option<Kernel> {
    let _offset = fields.u64()?;
    let object = object(fields, version, pointer)?;
    let _key = fields.pointer(pointer)?;
    if version >= 1 {
        let _thread = fields.u32()?;
    }
    Some(Kernel::Transfer { object, bytes: u64::from(fields.u32()?), written })
}

fn named(fields: &mut Fields<'_>, renamed: bool, version: u8, pointer: usize) -> Option<Kernel> {
    let object = object(fields, version, pointer)?;
    let (_key, _extra) = (fields.pointer(pointer)?, fields.pointer(pointer)?);
    if version >= 1 {
        let _thread = fields.u32()?;
    }
    let _class = fields.u32()?;
    let path = fields.text()?;
    Some(if renamed { Kernel::Rename { object, path } } else { Kernel::Delete { object, path } })
}

/// How many open files are remembered. Reached: the one that was opened the longest ago is forgotten.
const OPEN: usize = 65_536;

/// Makes sightings of events in their order: which file an object is, and when a process started.
#[derive(Debug, Default)]
pub struct Tracker {
    /// From a device's path to the drive's, both with their last separator, as in `\Device\HarddiskVolume3\`.
    drives: Vec<(String, String)>,
    objects: HashMap<u64, (String, u64)>,
    order: VecDeque<(u64, u64)>,
    opened: u64,
    starts: HashMap<u32, Timestamp>,
    unknown: u64,
}

impl Tracker {
    /// With the drives of this machine.
    pub fn new(drives: Vec<(String, String)>) -> Self {
        Self { drives, ..Self::default() }
    }

    /// Operations on files that were opened before the trace began, or whose opening was lost.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Takes in when a process started that was there before.
    pub fn found(&mut self, pid: u32, start: Timestamp) {
        self.starts.insert(pid, start);
    }

    /// What an event of process `pid` tells.
    pub fn see(&mut self, event: Kernel, pid: u32, ts: Timestamp) -> Option<What> {
        match event {
            Kernel::ProcessStart { pid, start, ppid, image } => {
                let start = start.unwrap_or(ts);
                let parent_start = self.starts.get(&ppid).copied().filter(|parent| *parent <= start);
                self.starts.insert(pid, start);
                Some(What::ProcessStart(Box::new(ProcessStart {
                    ts,
                    pid,
                    start: Some(start),
                    ppid: Some(ppid),
                    parent_start,
                    image: Some(self.drive_path(image)).filter(|image| !image.is_empty()),
                    ..ProcessStart::default()
                })))
            }
            Kernel::ProcessEnd { pid, start } => {
                let known = self.starts.remove(&pid);
                Some(What::ProcessEnd(ProcessEnd { ts, pid, start: start.or(known) }))
            }
            Kernel::Connection { pid, local, remote, initiated } => Some(What::Connection(Box::new(ConnectionEvent {
                ts,
                pid,
                start: self.starts.get(&pid).copied(),
                protocol: Transport::Tcp,
                local: local.into(),
                remote: remote.into(),
                initiated: Some(initiated),
                image: None,
                user: None,
            }))),
            Kernel::Open { object, path, made } => {
                let path = self.drive_path(path);
                let touch = made.then(|| self.touch(Operation::Create, pid, ts, path.clone(), None, 0));
                self.remember(object, path);
                touch
            }
            Kernel::Transfer { object, bytes, written } => {
                let path = self.path(object)?;
                let op = if written { Operation::Write } else { Operation::Read };
                Some(self.touch(op, pid, ts, path, None, bytes))
            }
            Kernel::Close { object } => {
                self.objects.remove(&object);
                None
            }
            Kernel::Rename { object, path } => {
                let old = self.path(object)?;
                let path = self.drive_path(path);
                self.remember(object, path.clone());
                Some(self.touch(Operation::Rename, pid, ts, old, Some(path), 0))
            }
            Kernel::Delete { object: _, path } => {
                let path = self.drive_path(path);
                Some(self.touch(Operation::Delete, pid, ts, path, None, 0))
            }
        }
    }

    fn touch(
        &self,
        op: Operation,
        pid: u32,
        ts: Timestamp,
        path: String,
        new_path: Option<String>,
        bytes: u64,
    ) -> What {
        let start = self.starts.get(&pid).copied();
        let event = FileEvent { ts, pid, start, op, path, new_path, size: None, sha256: None };
        What::Touch(Box::new(Touch { event, bytes }))
    }

    fn path(&mut self, object: u64) -> Option<String> {
        let path = self.objects.get(&object).map(|(path, _)| path.clone());
        self.unknown += u64::from(path.is_none());
        path
    }

    fn remember(&mut self, object: u64, path: String) {
        self.opened += 1;
        self.objects.insert(object, (path, self.opened));
        self.order.push_back((object, self.opened));
        while self.order.len() > OPEN {
            let Some((oldest, opened)) = self.order.pop_front() else { break };
            // It may have been opened again since.
            if self.objects.get(&oldest).is_some_and(|(_, last)| *last == opened) {
                self.objects.remove(&oldest);
            }
        }
    }

    /// A path with its drive's letter; one of no drive stays as it is.
    fn drive_path(&self, path: String) -> String {
        let drive = self.drives.iter().find_map(|(device, drive)| {
            let rest = path.get(device.len()..)?;
            path.get(..device.len())?.eq_ignore_ascii_case(device).then(|| format!("{drive}{rest}"))
        });
        drive.unwrap_or(path)
    }
}

#[cfg(test)]
#[path = "etw_tests.rs"]
mod tests;
