//! The processes that work together: one session below the shell that the user or the system started it from.

use std::collections::BTreeSet;

use crate::endpoint::{FileRecord, HostHistory, Key, ProcessRecord, base_name};

/// Processes of one tree that are looked at; of a larger one, the nearest to its top.
const MAX_PROCESSES: usize = 4_096;

/// Steps from a process up to the top of its tree.
const MAX_HEIGHT: usize = 32;

/// Who starts everything: what stands below one of these is a session of its own.
const ROOTS: [&str; 16] = [
    "explorer.exe",
    "services.exe",
    "svchost.exe",
    "wininit.exe",
    "userinit.exe",
    "winlogon.exe",
    "system",
    "lsass.exe",
    "smss.exe",
    "csrss.exe",
    "sihost.exe",
    "taskeng.exe",
    "taskhostw.exe",
    "runtimebroker.exe",
    "wmiprvse.exe",
    "dllhost.exe",
];

/// Whether the executable is one of those who start everything.
pub(super) fn is_root(image: &str) -> bool {
    let name = base_name(image);
    ROOTS.iter().any(|root| root.eq_ignore_ascii_case(name))
}

/// A process and those that work with it: its ancestors below the session's root, and all their descendants. A root
/// itself stands alone, as what it starts has nothing else in common.
pub(super) struct Tree<'a> {
    host: &'a HostHistory,
    members: Vec<&'a ProcessRecord>,
    identities: BTreeSet<Key>,
}

impl<'a> Tree<'a> {
    pub(super) fn of(host: &'a HostHistory, process: &'a ProcessRecord) -> Self {
        let mut tree = Self { host, members: Vec::new(), identities: BTreeSet::new() };
        if process.image.as_deref().is_some_and(is_root) {
            tree.add(process);
            return tree;
        }
        let mut top = process;
        for _ in 0..MAX_HEIGHT {
            // A parent of unknown image may be a root.
            let parent = host.processes().parent(top);
            let Some(parent) = parent.filter(|parent| parent.image.as_deref().is_some_and(|image| !is_root(image)))
            else {
                break;
            };
            top = parent;
        }
        tree.add(top);
        let mut next = 0;
        while let Some(member) = tree.members.get(next).copied() {
            next += 1;
            for child in host.processes().children(member) {
                if tree.members.len() >= MAX_PROCESSES {
                    break;
                }
                tree.add(child);
            }
        }
        tree.add(process);
        tree
    }

    /// The processes, each once.
    pub(super) fn members(&self) -> &[&'a ProcessRecord] {
        &self.members
    }

    /// Whether one of the tree touched the file.
    pub(super) fn touched(&self, event: &FileRecord) -> bool {
        let process = self.host.processes().resolve(event.named(), event.ts);
        process.is_some_and(|process| self.identities.contains(&process.key()))
    }

    fn add(&mut self, process: &'a ProcessRecord) {
        if self.identities.insert(process.key()) {
            self.members.push(process);
        }
    }
}
