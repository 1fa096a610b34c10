//! What is still known of a host, told anew as events of the schema: for whoever wants to check a join that was made of it.

use std::collections::BTreeMap;

use super::{HostHistory, Named};
use crate::endpoint::{
    ConnectionEvent, Event, FileEvent, Hello, HostDescription, Line, ProcessEnd, ProcessStart, Source, Transport,
};
use crate::net::Timestamp;

/// Kinds of events, in the order in which those of one moment are told.
const START: u8 = 0;
const CONNECTION: u8 = 1;
const FILE: u8 = 2;
const END: u8 = 3;

impl HostHistory {
    /// The host itself, its processes that ran at some time from `from` to `to` with their parents, and its connections and
    /// files of that time, in the order of time, at most `most` beside the host; and how many more there are. What is left out are
    /// the earliest files, then the earliest connections, then processes. Processes are named by pid and start, whatever the
    /// events named them by.
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
            told.push((process.start, START, line(Source::Unknown, Event::ProcessStart(start))));
            if let Some(end) = process.end.filter(|end| *end <= to) {
                let event = ProcessEnd { ts: end, pid, start: Some(process.start) };
                told.push((end, END, line(Source::Unknown, Event::ProcessEnd(event))));
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
            told.push((record.ts, CONNECTION, line(record.source, Event::Connection(event))));
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
            told.push((record.ts, FILE, line(Source::Unknown, Event::File(event))));
        }
        told.sort_by_key(|(ts, order, _)| (*ts, *order));
        let more = told.len().saturating_sub(most);
        let mut left_out = more;
        for kind in [FILE, CONNECTION, END, START] {
            told.retain(|(_, of, _)| {
                let goes = *of == kind && left_out > 0;
                left_out -= usize::from(goes);
                !goes
            });
        }
        let host = HostDescription {
            id: self.id().to_string(),
            name: self.name().map(|name| &**name).map(str::to_owned),
            domain: self.domain().map(|domain| &**domain).map(str::to_owned),
            ips: self.addresses.iter().map(|address| address.ip()).collect(),
        };
        let presented = self.presented.or(self.first_heard()).unwrap_or(from).min(from);
        let hello = Event::Hello(Hello { v: 1, host, boot: None, ts: presented, helper: None });
        let lines = told.into_iter().map(|(.., line)| line);
        (std::iter::once(line(Source::Unknown, hello)).chain(lines).collect(), more as u64)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{History, Intake};
    use crate::net::ByteSize;

    const EVENTS: &str = r#"{"type":"hello","v":1,"host":{"id":"A","name":"WKS-1","ips":["10.0.0.5"]},"ts":1000}
{"type":"process_start","ts":2000,"pid":1,"start":2000,"image":"C:\\explorer.exe"}
{"type":"process_start","ts":3000,"pid":2,"start":3000,"ppid":1,"parent_start":2000,"image":"C:\\ftp.exe","user":"CORP\\ann"}
{"type":"process_start","ts":3500,"pid":3,"start":3500,"image":"C:\\old.exe"}
{"type":"process_end","ts":4000,"pid":3,"start":3500}
{"type":"process_end","ts":4500,"pid":1,"start":2000}
{"type":"file","ts":5000,"pid":2,"start":3000,"op":"read","path":"C:\\early.txt"}
{"type":"file","ts":6000,"pid":2,"start":3000,"op":"read","path":"C:\\late.txt","size":7}
{"type":"connection","ts":7000,"pid":2,"start":3000,"local":"10.0.0.5:5000","remote":"192.0.2.9:21","initiated":true}
{"type":"file","ts":9000,"pid":2,"start":3000,"op":"read","path":"C:\\after.txt"}
"#;

    fn history(text: &str) -> History {
        let mut history = History::new(ByteSize(1 << 20));
        let mut intake = Intake::new(ByteSize(10_000));
        intake.read("t", text.as_bytes(), &mut |observation| history.insert(observation)).unwrap();
        history
    }

    fn told(history: &History, most: usize) -> (Vec<String>, u64) {
        let (lines, more) = history.host("A").unwrap().retell(Timestamp(4_600), Timestamp(8_000), most);
        (lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect(), more)
    }

    #[test]
    fn what_is_told_anew_is_the_same_history_of_that_time() {
        let history = self::history(EVENTS);
        let (lines, more) = told(&history, 100);
        let kinds: Vec<&str> = lines.iter().map(|line| line.split('"').nth(7).unwrap_or_default()).collect();
        assert_eq!((lines.len(), more), (7, 0), "{kinds:?} {lines:?}");
        let text = lines.join("\n");
        for part in ["explorer.exe", "ftp.exe", "early.txt", "late.txt", "192.0.2.9:21", "\"id\":\"A\""] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("old.exe") && !text.contains("after.txt"), "{text}");
        // Read again, it tells the same.
        let hello = format!("{}\n", lines[0]);
        let rest = lines[1..].iter().map(|line| line.replacen('{', r#"{"host":"A","#, 1) + "\n");
        let again = self::history(&(hello + &rest.collect::<String>()));
        assert_eq!(told(&again, 100), (lines, 0));
    }

    #[test]
    fn where_there_is_no_room_the_earliest_files_go_first_and_processes_last() {
        let history = self::history(EVENTS);
        let left = |most| {
            let (lines, more) = told(&history, most);
            assert_eq!(lines.len() - 1, most);
            (lines.join("\n"), more)
        };
        let (text, more) = left(5);
        assert!(!text.contains("early.txt") && text.contains("late.txt") && more == 1, "{text}");
        let (text, more) = left(3);
        assert!(
            !text.contains(".txt") && !text.contains("192.0.2.9") && text.contains("explorer.exe") && more == 3,
            "{text}"
        );
    }
}
