//! What is still known of a host, told anew as events of the schema: for whoever wants to check a join that was made of it.

use std::collections::BTreeMap;

use super::{HostHistory, Named};
use crate::endpoint::{
    ConnectionEvent, Event, FileEvent, Hello, HostDescription, Line, ProcessEnd, ProcessStart, Source, Transport,
};
use crate::net::Timestamp;

impl HostHistory {
    /// The host itself, its processes that ran at some time from `from` to `to` with their parents, and its connections and
    /// files of that time; the first `most` in the order of time, and how many more there are. Processes are named by pid and start,
    /// whatever the events named them by.
    pub fn retell(&self, from: Timestamp, to: Timestamp, most: usize) -> (Vec<Line>, u64) {
        let mut told: Vec<(Timestamp, u8, Line)> = Vec::new();
        let mut running = BTreeMap::new();
        for process in self.processes().during(from, to) {
            // A parent may be over by then.
            let mut next = Some(process);
            while let Some(process) = next.filter(|process| running.insert(process.key(), *process).is_none()) {
                next = self.processes().parent(process);
            }
        }
        for process in running.into_values() {
            let Some(pid) = process.pid else { continue };
            let own = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
            let start = ProcessStart {
                ts: process.start,
                pid,
                start: Some(process.start),
                ppid: process.parent_pid,
                parent_start: process.parent_start.or_else(|| Some(self.processes().parent(process)?.start)),
                image: own(&process.image),
                command_line: own(&process.command_line),
                user: own(&process.user),
                sid: own(&process.sid),
                sha256: own(&process.sha256),
                signer: own(&process.signer),
            };
            told.push((process.start, 0, line(Source::Unknown, Event::ProcessStart(start))));
            if let Some(end) = process.end.filter(|end| *end <= to) {
                let event = ProcessEnd { ts: end, pid, start: Some(process.start) };
                told.push((end, 3, line(Source::Unknown, Event::ProcessEnd(event))));
            }
        }
        for ((local, remote), record) in self.connections().during(from, to) {
            let Some((pid, start)) = self.who(record.named(), record.ts) else { continue };
            let event = ConnectionEvent {
                ts: record.ts,
                pid,
                start,
                protocol: Transport::Tcp,
                local,
                remote,
                initiated: record.initiated,
                image: record.image.as_deref().map(str::to_owned),
                user: record.user.as_deref().map(str::to_owned),
            };
            told.push((record.ts, 1, line(record.source, Event::Connection(event))));
        }
        for record in self.files().during(from, to) {
            let Some((pid, start)) = self.who(record.named(), record.ts) else { continue };
            let event = FileEvent {
                ts: record.ts,
                pid,
                start,
                op: record.op,
                path: record.path.to_string(),
                new_path: record.new_path.as_deref().map(str::to_owned),
                size: record.size,
                sha256: record.sha256.as_deref().map(str::to_owned),
            };
            told.push((record.ts, 2, line(Source::Unknown, Event::File(event))));
        }
        told.sort_by_key(|(ts, order, _)| (*ts, *order));
        let more = told.len().saturating_sub(most) as u64;
        let host = HostDescription {
            id: self.id().to_string(),
            name: self.name().map(|name| &**name).map(str::to_owned),
            domain: self.domain().map(|domain| &**domain).map(str::to_owned),
            ips: self.addresses.iter().map(|address| address.ip()).collect(),
        };
        let presented = self.presented.or(self.first_heard()).unwrap_or(from).min(from);
        let hello = Event::Hello(Hello { v: 1, host, boot: None, ts: presented, helper: None });
        let lines = told.into_iter().take(most).map(|(.., line)| line);
        (std::iter::once(line(Source::Unknown, hello)).chain(lines).collect(), more)
    }

    /// The pid, and the start where that is known, of the process that an event names.
    fn who(&self, named: Named<'_>, at: Timestamp) -> Option<(u32, Option<Timestamp>)> {
        let process = self.processes().resolve(named, at);
        let pid = process.and_then(|process| process.pid).or(named.pid)?;
        Some((pid, process.map(|process| process.start).or(named.start)))
    }
}

fn line(source: Source, event: Event) -> Line {
    Line { seq: None, source, event }
}
