//! The source that compares snapshots.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use super::handles::Handles;
use super::watch::Watch;
use super::{process, tcp};
use crate::endpoint::{self, Operation, ProcessStart};
use crate::helper::config::Config;
use crate::helper::layout::Change;
use crate::helper::log::now;
use crate::helper::sighting::What;
use crate::helper::source::poll::{Connections, Details, Files, Listed, Processes};
use crate::helper::source::{Sink, Source, SourceError};
use crate::helper::stop::Stop;

/// How many changes of watched folders wait; further ones are counted as lost.
const WAITING: usize = 4096;

/// Between two snapshots of open files that changes ask for.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Polling: processes and connections on one thread, files on another.
#[derive(Debug)]
pub struct Poll {
    period: Duration,
    files_period: Duration,
    folders: Vec<PathBuf>,
}

impl Poll {
    /// As the configuration says.
    pub fn new(config: &Config) -> Self {
        Self {
            period: Duration::from_nanos(config.poll.period.0),
            files_period: Duration::from_nanos(config.poll.files_period.0),
            folders: config.files.folders.clone(),
        }
    }
}

struct System;

impl Details for System {
    fn of(&mut self, listed: &Listed) -> ProcessStart {
        process::details(listed.pid)
    }
}

impl Source for Poll {
    fn kind(&self) -> endpoint::Source {
        endpoint::Source::Poll
    }

    fn run(&mut self, sink: &Sink, stop: &Stop) -> Result<(), SourceError> {
        process::list().map_err(|error| SourceError(format!("no list of processes: {error}")))?;
        sink.set_state("running");
        std::thread::scope(|scope| {
            let (changes, receiver) = sync_channel(WAITING);
            for folder in self.folders.clone() {
                let (changes, sink) = (changes.clone(), sink.clone());
                // A watch waits in the system and cannot be woken: it ends with the program.
                std::thread::spawn(move || watch(&folder, &changes, &sink));
            }
            drop(changes);
            let period = self.files_period;
            scope.spawn(move || files(period, &receiver, sink, stop));
            self.processes(sink, stop);
        });
        Ok(())
    }
}

impl Poll {
    fn processes(&self, sink: &Sink, stop: &Stop) {
        let (mut processes, mut connections) = (Processes::default(), Connections::default());
        let mut buffer = Vec::new();
        while !stop.is_set() {
            let begin = Instant::now();
            // Connections are read first: who holds one is then surely in the list.
            let rows = tcp::connections(&mut buffer).unwrap_or_default();
            if let Ok(listed) = process::list() {
                processes.compare(listed, now(), &mut System).into_iter().for_each(|what| sink.see(what));
            }
            connections.compare(&rows, now(), &processes).into_iter().for_each(|what| sink.see(what));
            stop.wait(self.period.saturating_sub(begin.elapsed()));
        }
    }
}

fn files(period: Duration, changes: &Receiver<(Change, String)>, sink: &Sink, stop: &Stop) {
    let (mut handles, mut files) = (Handles::default(), Files::default());
    let mut said = false;
    while !stop.is_set() {
        let begin = Instant::now();
        match handles.open_files() {
            Ok(open) => files.compare(open, now()).into_iter().for_each(|what| sink.see(what)),
            Err(reason) if !said => {
                said = true;
                sink.set_state(&format!("running, without open files: {reason}"));
            }
            Err(_) => {}
        }
        let mut old_name = None;
        let mut next = changes.recv_timeout(period.saturating_sub(begin.elapsed()).max(Duration::from_millis(1)));
        if matches!(next, Err(RecvTimeoutError::Disconnected)) {
            stop.wait(period.saturating_sub(begin.elapsed()));
        } else if next.is_ok() {
            // Whoever has just begun to write is still there: look at once.
            stop.wait(AT_ONCE.saturating_sub(begin.elapsed()));
            if let Ok(open) = handles.open_files() {
                files.compare(open, now()).into_iter().for_each(|what| sink.see(what));
            }
        }
        while let Ok((change, path)) = next {
            match attribute(&mut files, change, &path, &mut old_name) {
                Some(what) => sink.see(what),
                None if change == Change::OldName => {}
                None => sink.lost(1),
            }
            next = changes.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
    }
}

fn attribute(files: &mut Files, change: Change, path: &str, old_name: &mut Option<String>) -> Option<What> {
    match change {
        Change::Added => files.attribute(Operation::Create, path, None, now()),
        Change::Modified => files.attribute(Operation::Write, path, None, now()),
        Change::Removed => files.attribute(Operation::Delete, path, None, now()),
        Change::OldName => {
            *old_name = Some(path.to_owned());
            None
        }
        Change::NewName => files.attribute(Operation::Rename, &old_name.take()?, Some(path), now()),
    }
}

fn watch(folder: &std::path::Path, changes: &SyncSender<(Change, String)>, sink: &Sink) {
    loop {
        let Ok(mut watch) = Watch::open(folder) else {
            sink.set_state(&format!("running, without {}", folder.display()));
            return;
        };
        while let Ok(some) = watch.next() {
            if some.is_empty() {
                // More than the system has kept; it does not say how many.
                sink.lost(1);
            }
            for (change, name) in some {
                let path = folder.join(name).to_string_lossy().into_owned();
                match changes.try_send((change, path)) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => sink.lost(1),
                    Err(TrySendError::Disconnected(_)) => return,
                }
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
