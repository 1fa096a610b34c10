//! What two snapshots tell of the time between them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;

use crate::endpoint::{ConnectionEvent, FileEvent, Operation, ProcessEnd, ProcessStart, Transport};
use crate::helper::layout::TcpRow;
use crate::helper::sighting::{Touch, What};
use crate::net::Timestamp;

/// What a list of processes says of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// The process id.
    pub pid: u32,
    /// The parent's.
    pub ppid: u32,
    /// The file name of its executable.
    pub name: String,
}

/// Finds out more of a process: everything but `ts`, `pid` and the parent.
pub trait Details {
    /// Of a process that was just listed; what cannot be found out stays empty.
    fn of(&mut self, listed: &Listed) -> ProcessStart;
}

#[derive(Debug)]
struct Known {
    listed: Listed,
    start: Option<Timestamp>,
    /// How often its image is still asked for: a process that is just starting may not have one yet.
    tries: u32,
}

/// Processes of the last snapshot.
#[derive(Debug, Default)]
pub struct Processes {
    known: HashMap<u32, Known>,
}

impl Processes {
    /// Compares with a new snapshot.
    pub fn compare(&mut self, listed: Vec<Listed>, now: Timestamp, details: &mut impl Details) -> Vec<What> {
        /// An executable that has no path after so many snapshots is reported by its name.
        const TRIES: u32 = 4;
        let mut sightings = Vec::new();
        let present: HashMap<u32, &Listed> = listed.iter().map(|listed| (listed.pid, listed)).collect();
        self.known.retain(|pid, known| {
            let stays = present.get(pid).is_some_and(|listed| **listed == known.listed);
            if !stays && known.tries == 0 {
                sightings.push(What::ProcessEnd(ProcessEnd { ts: now, pid: *pid, start: known.start }));
            }
            stays
        });
        for listed in listed {
            let tries = match self.known.get(&listed.pid) {
                Some(known) if known.tries == 0 => continue,
                Some(known) => known.tries - 1,
                None => TRIES,
            };
            let mut event = details.of(&listed);
            let done = tries == 0 || event.image.is_some();
            let (pid, start) = (listed.pid, event.start);
            if done {
                // A parent that started later is another process that has got the parent's id.
                let parent = self.known.get(&listed.ppid).and_then(|parent| parent.start);
                event.parent_start = parent.filter(|parent| start.is_none_or(|start| *parent <= start));
                event.ts = now;
                event.pid = pid;
                event.ppid = Some(listed.ppid);
                if event.image.is_none() {
                    event.image = Some(listed.name.clone());
                }
                sightings.push(What::ProcessStart(Box::new(event)));
            }
            self.known.insert(pid, Known { listed, start, tries: if done { 0 } else { tries } });
        }
        sightings
    }

    /// When a process of the last snapshot started.
    pub fn start(&self, pid: u32) -> Option<Timestamp> {
        self.known.get(&pid)?.start
    }
}

/// Connections of the last snapshot.
#[derive(Debug, Default)]
pub struct Connections {
    known: HashSet<(SocketAddr, SocketAddr, u32)>,
}

const LISTENS: u32 = 2;
/// Beginning to open, or over and without an owner.
const TIME_WAIT: u32 = 11;
const CLOSED: u32 = 1;

impl Connections {
    /// Compares with a new snapshot. A connection without an owner is waited for.
    pub fn compare(&mut self, rows: &[TcpRow], now: Timestamp, processes: &Processes) -> Vec<What> {
        let listens: HashSet<u16> =
            rows.iter().filter(|row| row.state == LISTENS).map(|row| row.local.port()).collect();
        let mut present = HashSet::new();
        let mut sightings = Vec::new();
        for row in rows.iter().filter(|row| row.pid != 0 && !matches!(row.state, LISTENS | TIME_WAIT | CLOSED)) {
            let key = (row.local, row.remote, row.pid);
            if present.insert(key) && !self.known.contains(&key) {
                sightings.push(What::Connection(Box::new(ConnectionEvent {
                    ts: now,
                    pid: row.pid,
                    start: processes.start(row.pid),
                    protocol: Transport::Tcp,
                    local: row.local.into(),
                    remote: row.remote.into(),
                    initiated: Some(!listens.contains(&row.local.port())),
                    image: None,
                    user: None,
                })));
            }
        }
        self.known = present;
        sightings
    }
}

/// A file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Whose handle.
    pub pid: u32,
    /// When that process started.
    pub start: Option<Timestamp>,
    /// The file.
    pub path: String,
    /// Whether the handle may read its content.
    pub reads: bool,
    /// Whether the handle may write its content.
    pub writes: bool,
    /// Its size.
    pub size: u64,
}

/// How many files are remembered with who had them open last.
const OWNERS: usize = 4096;

/// Files that processes have open, and who had them open.
#[derive(Debug, Default)]
pub struct Files {
    known: HashMap<(u32, String, bool), u64>,
    owners: HashMap<String, (u32, Option<Timestamp>)>,
    order: VecDeque<String>,
}

impl Files {
    /// Compares with a new snapshot. Files in watched folders are also remembered with their owner.
    pub fn compare(&mut self, open: Vec<Open>, now: Timestamp) -> Vec<What> {
        let mut present = HashMap::new();
        let mut sightings = Vec::new();
        for file in open {
            self.remember(&file);
            for (op, holds) in [(Operation::Read, file.reads && !file.writes), (Operation::Write, file.writes)] {
                if !holds {
                    continue;
                }
                let key = (file.pid, file.path.clone(), op == Operation::Write);
                let before = self.known.get(&key).copied();
                let grown = before.is_some_and(|before| before != file.size) && op == Operation::Write;
                if !present.contains_key(&key) && (before.is_none() || grown) {
                    let bytes = before.map_or(0, |before| file.size.saturating_sub(before));
                    let event = FileEvent {
                        ts: now,
                        pid: file.pid,
                        start: file.start,
                        op,
                        path: file.path.clone(),
                        new_path: None,
                        size: Some(file.size),
                        sha256: None,
                    };
                    sightings.push(What::Touch(Box::new(Touch { event, bytes })));
                }
                present.insert(key, file.size);
            }
        }
        self.known = present;
        sightings
    }

    /// A file event of a watched folder, if it is known whose doing it is.
    pub fn attribute(&mut self, op: Operation, path: &str, new_path: Option<&str>, now: Timestamp) -> Option<What> {
        let (pid, start) = *self.owners.get(&path.to_lowercase())?;
        if let Some(new_path) = new_path {
            self.own(new_path.to_lowercase(), (pid, start));
        }
        let size = std::fs::metadata(new_path.unwrap_or(path)).ok().map(|metadata| metadata.len());
        let new_path = new_path.map(str::to_owned);
        let event = FileEvent { ts: now, pid, start, op, path: path.to_owned(), new_path, size, sha256: None };
        Some(What::Touch(Box::new(Touch { event, bytes: 0 })))
    }

    fn remember(&mut self, file: &Open) {
        let key = file.path.to_lowercase();
        // Who writes a file owns it, whoever reads it beside.
        if file.writes || !self.owners.contains_key(&key) {
            self.own(key, (file.pid, file.start));
        }
    }

    fn own(&mut self, key: String, owner: (u32, Option<Timestamp>)) {
        if self.owners.insert(key.clone(), owner).is_none() {
            self.order.push_back(key);
            if self.order.len() > OWNERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.owners.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Facts(HashMap<u32, (u64, Option<&'static str>)>);

    impl Details for Facts {
        fn of(&mut self, listed: &Listed) -> ProcessStart {
            let (start, image) = self.0[&listed.pid];
            ProcessStart { start: Some(Timestamp(start)), image: image.map(str::to_owned), ..Default::default() }
        }
    }

    fn listed(pid: u32, ppid: u32, name: &str) -> Listed {
        Listed { pid, ppid, name: name.to_owned() }
    }

    fn said(sightings: &[What]) -> Vec<String> {
        let said = sightings.iter().map(|what| match what {
            What::ProcessStart(event) => {
                let parent = event.parent_start.map(|start| start.0);
                format!("+{} {} {parent:?}", event.pid, event.image.as_deref().unwrap_or_default())
            }
            What::ProcessEnd(event) => format!("-{} {:?}", event.pid, event.start.map(|start| start.0)),
            What::Connection(event) => format!("{} {} {:?}", event.pid, event.remote, event.initiated),
            What::Touch(touch) => {
                let event = &touch.event;
                format!("{} {} {} {:?} {}", event.pid, event.op.name(), event.path, event.size, touch.bytes)
            }
            What::Record { .. } => "record".to_owned(),
        });
        said.collect()
    }

    #[test]
    fn processes_start_and_end_and_an_image_is_waited_for() {
        let mut facts =
            Facts(HashMap::from([(1, (10, Some("C:\\a.exe"))), (2, (20, None)), (3, (5, Some("C:\\c.exe")))]));
        let mut processes = Processes::default();
        let all = || vec![listed(1, 0, "a.exe"), listed(2, 1, "b.exe"), listed(3, 1, "c.exe")];
        // The third started before what now has its parent's id.
        let first = processes.compare(all(), Timestamp(100), &mut facts);
        assert_eq!(said(&first), ["+1 C:\\a.exe None", "+3 C:\\c.exe None"]);
        facts.0.insert(2, (20, Some("C:\\b.exe")));
        assert_eq!(said(&processes.compare(all(), Timestamp(101), &mut facts)), ["+2 C:\\b.exe Some(10)"]);
        assert_eq!(said(&processes.compare(all(), Timestamp(102), &mut facts)), [""; 0]);
        facts.0.insert(2, (30, None));
        let reused = vec![listed(1, 0, "a.exe"), listed(2, 1, "other.exe")];
        let mut ends = said(&processes.compare(reused.clone(), Timestamp(103), &mut facts));
        ends.sort();
        assert_eq!(ends, ["-2 Some(20)", "-3 Some(5)"]);
        for _ in 0..3 {
            assert_eq!(said(&processes.compare(reused.clone(), Timestamp(104), &mut facts)), [""; 0]);
        }
        assert_eq!(said(&processes.compare(reused, Timestamp(105), &mut facts)), ["+2 other.exe Some(10)"]);
        assert_eq!(processes.start(2), Some(Timestamp(30)));
    }

    #[test]
    fn a_connection_is_seen_once_and_told_from_an_accepted_one() {
        let row = |state, local: &str, remote: &str, pid| TcpRow {
            state,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            pid,
        };
        let mut connections = Connections::default();
        let rows = [
            row(2, "0.0.0.0:80", "0.0.0.0:0", 4),
            row(5, "192.0.2.1:80", "192.0.2.9:5000", 4),
            row(5, "192.0.2.1:5001", "198.51.100.1:21", 0),
            row(11, "192.0.2.1:5002", "198.51.100.1:21", 9),
        ];
        let processes = Processes::default();
        assert_eq!(said(&connections.compare(&rows, Timestamp(1), &processes)), ["4 192.0.2.9:5000 Some(false)"]);
        let owned = row(5, "192.0.2.1:5001", "198.51.100.1:21", 7);
        let sightings = connections.compare(&[rows[1], owned, owned], Timestamp(2), &processes);
        assert_eq!(said(&sightings), ["7 198.51.100.1:21 Some(true)"]);
        assert_eq!(connections.compare(&[owned], Timestamp(3), &processes), []);
    }

    #[test]
    fn open_files_are_seen_when_they_are_opened_and_as_they_grow() {
        let open = |pid, path: &str, writes, size| Open {
            pid,
            start: Some(Timestamp(1)),
            path: path.to_owned(),
            reads: true,
            writes,
            size,
        };
        let mut files = Files::default();
        let first = files.compare(vec![open(1, r"C:\S\a.7z", true, 0), open(2, r"C:\d.doc", false, 9)], Timestamp(1));
        assert_eq!(said(&first), [r"1 write C:\S\a.7z Some(0) 0", r"2 read C:\d.doc Some(9) 0"]);
        let second = files.compare(vec![open(1, r"C:\S\a.7z", true, 50), open(2, r"C:\d.doc", false, 9)], Timestamp(2));
        assert_eq!(said(&second), [r"1 write C:\S\a.7z Some(50) 50"]);
        // A reader takes nothing from the writer.
        files.compare(vec![open(3, r"C:\S\a.7z", false, 50)], Timestamp(3));
        let renamed = files.attribute(Operation::Rename, r"c:\s\A.7Z", Some(r"C:\S\b.dat"), Timestamp(4)).unwrap();
        assert!(said(&[renamed])[0].starts_with(r"1 rename c:\s\A.7Z"));
        assert!(files.attribute(Operation::Delete, r"C:\S\b.dat", None, Timestamp(5)).is_some());
        assert!(files.attribute(Operation::Delete, r"C:\S\never.dat", None, Timestamp(5)).is_none());
    }
}
