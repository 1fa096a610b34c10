//! One control connection's dialogue: commands matched with replies, and the transfers that they ask for.
//!
//! Commands and replies come in, in the order of each direction; out go announcements of data connections and
//! transfers. Where both directions are whole, the n-th command has the n-th final reply, so nothing depends on
//! how the tap interleaved the two. After a loss, or picked up in the middle, commands count when they come and
//! replies are matched by what they can answer.

use std::collections::VecDeque;

use super::address;
use super::path;
use crate::net::{Endpoint, Timestamp};
use crate::protocol::account::text;
use crate::record::Connection;

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Store,
    StoreUnique,
    Append,
    /// To the client: RETR, LIST and so on.
    Fetch,
}

impl Verb {
    fn of(verb: &str) -> Option<Self> {
        Some(match verb {
            "STOR" => Self::Store,
            "STOU" => Self::StoreUnique,
            "APPE" => Self::Append,
            "RETR" | "LIST" | "NLST" | "MLSD" => Self::Fetch,
            _ => return None,
        })
    }

    pub(super) fn is_upload(self) -> bool {
        self != Self::Fetch
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Store => "STOR",
            Self::StoreUnique => "STOU",
            Self::Append => "APPE",
            Self::Fetch => "RETR",
        }
    }
}

/// Where a data connection will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// As announced.
    pub(super) listener: Endpoint,
    /// The announced port at the control peer's own address, if that differs: the announced address may be
    /// behind a translator.
    pub(super) translated: Option<Endpoint>,
    /// The client listens (PORT, EPRT).
    pub(super) active: bool,
}

/// A transfer that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) verb: Verb,
    pub(super) path: Option<String>,
    pub(super) restart: u64,
    pub(super) allocated: Option<u64>,
    pub(super) mode: char,
    pub(super) announcement: Option<Announcement>,
    pub(super) asked: Timestamp,
    /// A 1xx reply was seen.
    pub(super) begun: bool,
    pub(super) reply: Option<u16>,
    /// The name that the server chose, from its reply to STOU.
    pub(super) server_name: Option<String>,
    /// Which of the control connection's transfers this is.
    pub(super) ordinal: u64,
}

/// What the dialogue tells the ledger.
#[derive(Debug)]
pub(super) enum Told {
    /// A data connection will come.
    Announced(Announcement),
    /// A transfer was asked for.
    Asked(Box<Transfer>),
    /// The server began the transfer with this ordinal, or named its file.
    Progress { ordinal: u64, server_name: Option<String> },
    /// The server finished the transfer with this ordinal.
    Answered { ordinal: u64, code: u16 },
    /// A command followed that does not belong to the transfers before it.
    WentOn,
    /// A file got another name.
    Renamed { from: String, to: String },
    /// From here on the control connection is TLS.
    Encrypted,
}

#[derive(Debug)]
struct Command {
    verb: String,
    argument: String,
    ts: Timestamp,
    /// The transfer that it became, once carried out.
    ordinal: Option<u64>,
    carried_out: bool,
}

/// Stands for a line that is no command. Most servers refuse it with a reply of its own, some pass over an empty one.
pub(super) const JUNK: &str = "?";

/// The most final replies kept that came before their command, for taps that deliver out of step.
const MOST_EARLY: usize = 64;

/// The longest working directory that is followed (PATH_MAX of Linux); a longer one counts as not known.
const LONGEST_DIRECTORY: usize = 4096;

/// One dialogue.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) user: Option<String>,
    directory: Option<String>,
    restart: u64,
    allocated: Option<u64>,
    mode: char,
    /// The argument of `RNFR`, as a path.
    rename_from: Option<String>,
    announcement: Option<Announcement>,
    /// Commands without their final reply.
    pending: VecDeque<Command>,
    /// Replies without their command: code, last line or not, text.
    early: VecDeque<(u16, bool, String)>,
    /// Inside a reply of several lines, its code.
    several: Option<u16>,
    /// Matching by order is not possible.
    loose: bool,
    /// Transfers asked for so far.
    asked: u64,
    /// In loose order: transfers without a final reply.
    open: VecDeque<u64>,
    max_pending: usize,
    pub(super) dropped: u64,
}

impl Session {
    pub(super) fn new(connection: Connection, mid_stream: bool, max_pending: usize) -> Self {
        let mut pending = VecDeque::new();
        if !mid_stream {
            // The greeting answers the connection itself.
            pending.push_back(Command {
                verb: String::new(),
                argument: String::new(),
                ts: Timestamp(0),
                ordinal: None,
                carried_out: true,
            });
        }
        Self {
            connection,
            user: None,
            directory: None,
            restart: 0,
            allocated: None,
            mode: 'S',
            rename_from: None,
            announcement: None,
            pending,
            early: VecDeque::new(),
            several: None,
            loose: mid_stream,
            asked: 0,
            open: VecDeque::new(),
            max_pending,
            dropped: 0,
        }
    }

    /// The dialogue can be read again after a time under TLS: what was missed is unknown.
    pub(super) fn resume(&mut self) {
        self.loose = true;
        self.pending.clear();
        self.early.clear();
        self.several = None;
    }

    /// Bytes that are held beside itself.
    pub(super) fn weight(&self) -> usize {
        let texts = text(&self.user) + text(&self.directory) + text(&self.rename_from);
        let pending: usize = self.pending.iter().map(|c| c.verb.capacity() + c.argument.capacity()).sum();
        let early: usize = self.early.iter().map(|(_, _, text)| text.capacity()).sum();
        let tables = self.pending.capacity() * size_of::<Command>()
            + self.early.capacity() * size_of::<(u16, bool, String)>()
            + self.open.capacity() * size_of::<u64>();
        texts + pending + early + tables
    }

    /// Bytes of the dialogue are lost: from here on order proves nothing.
    pub(super) fn lose(&mut self, told: &mut Vec<Told>) {
        self.give_up_order(told);
        self.several = None;
    }

    /// Carries out what is pending without its reply: none will come.
    pub(super) fn close(&mut self, told: &mut Vec<Told>) {
        self.give_up_order(told);
    }

    fn give_up_order(&mut self, told: &mut Vec<Told>) {
        self.loose = true;
        self.early.clear();
        while let Some(mut command) = self.pending.pop_front() {
            if !command.carried_out {
                self.carry_out(&mut command, None, told);
            }
        }
    }

    /// Takes a command. What listens for the server must be known at once, before the reply.
    pub(super) fn command(&mut self, verb: String, argument: &str, ts: Timestamp, told: &mut Vec<Told>) {
        // A password is dropped before anything can keep it.
        let argument = if verb == "PASS" || verb == "ACCT" { String::new() } else { argument.to_owned() };
        if let Some(announcement) = self.active_announcement(&verb, &argument) {
            told.push(Told::Announced(announcement));
        }
        let mut command = Command { verb, argument, ts, ordinal: None, carried_out: false };
        if self.loose {
            self.carry_out(&mut command, None, told);
            return;
        }
        self.pending.push_back(command);
        if self.pending.len() > self.max_pending {
            self.dropped += 1;
            self.give_up_order(told);
            return;
        }
        while let Some((code, last, text)) = self.early.pop_front() {
            if !self.match_reply(code, last, &text, told) {
                self.early.push_front((code, last, text));
                break;
            }
        }
    }

    fn active_announcement(&self, verb: &str, argument: &str) -> Option<Announcement> {
        let listener = match verb {
            "PORT" => address::host_port(argument)?,
            "EPRT" => address::extended_port(argument)?,
            _ => return None,
        };
        let at_peer = Endpoint { address: self.connection.client.address, port: listener.port };
        Some(Announcement { listener, translated: (at_peer != listener).then_some(at_peer), active: true })
    }

    /// Takes a reply's line.
    pub(super) fn reply(&mut self, line: &str, told: &mut Vec<Told>) {
        let (code, last, text) = match (self.several, super::line::reply(line)) {
            // Inside a reply of several lines only its own code with a space ends it.
            (Some(code), Some((this, false, text))) if this == code => (code, true, text),
            (Some(code), _) => {
                (code, false, line.get(4..).filter(|_| line.starts_with(char::is_numeric)).unwrap_or(line))
            }
            (None, Some((code, more, text))) => (code, !more, text),
            (None, None) => return,
        };
        self.several = (!last).then_some(code);
        if self.loose {
            self.loose_reply(code, last, text, told);
        } else if !self.match_reply(code, last, text, told) && code != 421 && self.early.len() < MOST_EARLY {
            self.early.push_back((code, last, text.to_owned()));
        }
    }

    /// Matches a reply by order; false if no command is there for it yet.
    fn match_reply(&mut self, code: u16, last: bool, text: &str, told: &mut Vec<Told>) -> bool {
        // STAT and NOOP are answered while a transfer runs (RFC 959 section 4.1.3).
        while self.pending.front().is_some_and(|c| c.verb == JUNK) && !(500..=503).contains(&code) {
            self.pending.pop_front();
        }
        let place = match code {
            211..=213 => self.pending.iter().position(|c| c.verb == "STAT").unwrap_or(0),
            _ => 0,
        };
        let Some(mut command) = self.pending.remove(place) else { return false };
        if !command.carried_out && (last || code < 200) {
            self.carry_out(&mut command, Some((code, text)), told);
        }
        if let Some(ordinal) = command.ordinal {
            self.transfer_reply(ordinal, code, last, text, told);
        }
        if code < 200 || !last {
            self.pending.insert(place, command);
        }
        true
    }

    fn transfer_reply(&mut self, ordinal: u64, code: u16, last: bool, text: &str, told: &mut Vec<Told>) {
        let server_name = unique_name(text);
        if code < 200 || server_name.is_some() {
            told.push(Told::Progress { ordinal, server_name });
        }
        if code >= 200 && last {
            told.push(Told::Answered { ordinal, code });
        }
    }

    /// Matches a reply by what it can answer.
    fn loose_reply(&mut self, code: u16, last: bool, text: &str, told: &mut Vec<Told>) {
        match code {
            227 | 229 => self.passive(code, text, told),
            257 if last => self.directory = path::quoted(text).or(self.directory.take()),
            125 | 150 => {
                if let Some(ordinal) = self.open.front() {
                    self.transfer_reply(*ordinal, code, last, text, told);
                }
            }
            226 | 250 | 425 | 426 | 450..=452 | 550..=553 => {
                if let Some(ordinal) = self.open.front().copied() {
                    self.transfer_reply(ordinal, code, last, text, told);
                    if last {
                        self.open.pop_front();
                    }
                }
            }
            234 => told.push(Told::Encrypted),
            _ => {}
        }
    }

    /// Does what a command means, given its reply if there is one.
    fn carry_out(&mut self, command: &mut Command, reply: Option<(u16, &str)>, told: &mut Vec<Told>) {
        command.carried_out = true;
        let done = reply.is_none_or(|(code, _)| (200..300).contains(&code));
        if !matches!(command.verb.as_str(), "" | JUNK | "RNFR" | "RNTO" | "ABOR" | "NOOP" | "STAT") {
            told.push(Told::WentOn);
        }
        match command.verb.as_str() {
            "USER" => self.user = Some(command.argument.trim().to_owned()),
            "CWD" | "XCWD" if done => {
                let directory = path::join(self.directory.as_deref(), &command.argument);
                self.directory = Some(directory).filter(|directory| directory.len() <= LONGEST_DIRECTORY);
            }
            "CDUP" | "XCUP" if done => {
                self.directory = self.directory.take().map(|d| path::join(Some(&d), ".."));
            }
            "PWD" | "XPWD" => {
                if let Some((257, text)) = reply {
                    self.directory = path::quoted(text).or(self.directory.take());
                }
            }
            "RNFR" => self.rename_from = Some(path::join(self.directory.as_deref(), &command.argument)),
            "RNTO" => {
                let to = path::join(self.directory.as_deref(), &command.argument);
                if let Some(from) = self.rename_from.take().filter(|_| done) {
                    told.push(Told::Renamed { from, to });
                }
                told.push(Told::WentOn);
            }
            "ALLO" => {
                let size = command.argument.split_whitespace().next();
                self.allocated = size.and_then(|size| size.parse().ok());
            }
            "MODE" if done => {
                let mode = command.argument.trim().chars().next();
                self.mode = mode.filter(char::is_ascii_alphabetic).unwrap_or('S').to_ascii_uppercase();
            }
            "REST" => self.restart = command.argument.trim().parse().unwrap_or(0),
            "PORT" | "EPRT" => {
                if done {
                    self.announcement = self.active_announcement(&command.verb, &command.argument);
                }
            }
            "PASV" | "EPSV" | "SPSV" => {
                self.announcement = None;
                if let Some((code, text)) = reply {
                    self.passive(code, text, told);
                }
            }
            "REIN" if done => (self.user, self.directory, self.announcement) = (None, None, None),
            "AUTH" if done && reply.is_some() => told.push(Told::Encrypted),
            verb => {
                if let Some(verb) = Verb::of(verb) {
                    self.ask(verb, command, told);
                }
            }
        }
    }

    fn passive(&mut self, code: u16, text: &str, told: &mut Vec<Told>) {
        let server = self.connection.server.address;
        let announcement = match code {
            227 => address::host_port(text).map(|listener| {
                let at_peer = Endpoint { address: server, port: listener.port };
                Announcement { listener, translated: (at_peer != listener).then_some(at_peer), active: false }
            }),
            229 => address::extended_passive(text).map(|port| Announcement {
                listener: Endpoint { address: server, port },
                translated: None,
                active: false,
            }),
            _ => None,
        };
        if let Some(announcement) = announcement {
            self.announcement = Some(announcement);
            told.push(Told::Announced(announcement));
        }
    }

    fn ask(&mut self, verb: Verb, command: &mut Command, told: &mut Vec<Told>) {
        let ordinal = self.asked;
        self.asked += 1;
        command.ordinal = Some(ordinal);
        let argument = command.argument.trim_end_matches(['\r', '\n']).to_owned();
        let path = (!argument.is_empty()).then(|| path::join(self.directory.as_deref(), &argument));
        let announcement = match self.announcement {
            // A passive address serves one transfer; an active one stands until the next.
            Some(a) if !a.active => self.announcement.take(),
            other => other,
        };
        let restart = std::mem::take(&mut self.restart);
        let allocated = self.allocated.take();
        if self.loose {
            self.open.push_back(ordinal);
            if self.open.len() > self.max_pending {
                self.open.pop_front();
            }
        }
        told.push(Told::Asked(Box::new(Transfer {
            verb,
            path,
            restart,
            allocated,
            mode: self.mode,
            announcement,
            asked: command.ts,
            begun: false,
            reply: None,
            server_name: None,
            ordinal,
        })));
    }

    /// The full path of a name that the server chose.
    pub(super) fn path_of(&self, name: &str) -> String {
        path::join(self.directory.as_deref(), name)
    }
}

/// The name in a reply to STOU: `FILE: name` (RFC 1123 section 4.1.2.9), or `unique file name:name`.
fn unique_name(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    for mark in ["file: ", "file name:", "filename:"] {
        if let Some(at) = lower.find(mark) {
            let name = text.get(at + mark.len()..)?.trim().trim_end_matches(['.', ')']).trim_matches(['"', '\'']);
            if !name.is_empty() {
                return Some(name.to_owned());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn session(mid_stream: bool) -> Session {
        let client: SocketAddr = "10.0.0.5:40000".parse().unwrap();
        let server: SocketAddr = "192.0.2.9:21".parse().unwrap();
        Session::new(Connection { client: client.into(), server: server.into() }, mid_stream, 64)
    }

    fn asked(told: &[Told]) -> Vec<&Transfer> {
        told.iter().filter_map(|t| if let Told::Asked(t) = t { Some(t.as_ref()) } else { None }).collect()
    }

    const CLIENT: &[(&str, &str)] =
        &[("USER", "u"), ("PASS", "secret"), ("CWD", "/in"), ("PASV", ""), ("STOR", "a.zip"), ("QUIT", "")];
    const SERVER: &[&str] = &[
        "220-hello",
        " there",
        "220 ready",
        "331 go on",
        "230 in",
        "250 ok",
        "227 Entering Passive Mode (192,0,2,9,200,10)",
        "150 ok",
        "226 done",
        "221 bye",
    ];

    #[test]
    fn the_dialogue_means_the_same_whichever_direction_comes_first() {
        for server_first in [false, true] {
            let mut s = session(false);
            let mut told = Vec::new();
            for half in [server_first, !server_first] {
                if half {
                    SERVER.iter().for_each(|line| s.reply(line, &mut told));
                } else {
                    CLIENT.iter().for_each(|(v, a)| s.command((*v).to_owned(), a, Timestamp(1), &mut told));
                }
            }
            let transfers = asked(&told);
            assert_eq!(transfers.len(), 1);
            assert_eq!(transfers[0].path.as_deref(), Some("/in/a.zip"));
            let listener = transfers[0].announcement.unwrap().listener;
            assert_eq!(listener.to_string(), "192.0.2.9:51210");
            assert!(told.iter().any(|t| matches!(t, Told::Answered { ordinal: 0, code: 226 })));
            assert!(!format!("{s:?}{told:?}").contains("secret"));
        }
    }

    #[test]
    fn a_line_that_is_no_command_leaves_the_order_whole_whether_it_is_answered_or_not() {
        for answered in [true, false] {
            let mut s = session(false);
            let mut told = Vec::new();
            s.reply("220 x", &mut told);
            s.command(JUNK.into(), "", Timestamp(1), &mut told);
            s.command("PASV".into(), "", Timestamp(1), &mut told);
            s.command("STOR".into(), "a", Timestamp(1), &mut told);
            if answered {
                s.reply("500 what", &mut told);
            }
            for line in ["227 (192,0,2,9,4,1)", "150 ok", "226 ok"] {
                s.reply(line, &mut told);
            }
            assert!(asked(&told)[0].announcement.is_some());
            assert!(told.iter().any(|t| matches!(t, Told::Answered { ordinal: 0, code: 226 })));
        }
    }

    #[test]
    fn an_aborted_transfer_gets_its_own_reply_and_abor_another() {
        let mut s = session(false);
        let mut told = Vec::new();
        s.reply("220 x", &mut told);
        for (verb, argument) in [("STOR", "a"), ("ABOR", "")] {
            s.command(verb.into(), argument, Timestamp(1), &mut told);
        }
        for line in ["150 ok", "426 aborted", "226 abort done"] {
            s.reply(line, &mut told);
        }
        let answers: Vec<u16> =
            told.iter().filter_map(|t| if let Told::Answered { code, .. } = t { Some(*code) } else { None }).collect();
        assert_eq!(answers, [426]);
    }

    #[test]
    fn a_working_directory_does_not_grow_without_bound() {
        let mut s = session(false);
        let mut told = Vec::new();
        s.reply("220 x", &mut told);
        for _ in 0..10_000 {
            s.command("CWD".into(), "deeper", Timestamp(1), &mut told);
            s.reply("250 ok", &mut told);
            assert!(s.directory.as_ref().is_none_or(|directory| directory.len() <= LONGEST_DIRECTORY));
        }
    }

    #[test]
    fn the_servers_own_name_is_found_in_the_reply() {
        assert_eq!(unique_name("FILE: ftpd.lk2m3y98").as_deref(), Some("ftpd.lk2m3y98"));
        assert_eq!(unique_name("Transfer complete (unique file name:abc.1).").as_deref(), Some("abc.1"));
        assert_eq!(unique_name("Ok to send data"), None);
    }

    #[test]
    fn after_a_loss_replies_are_matched_by_what_they_answer() {
        let mut s = session(true);
        let mut told = Vec::new();
        s.reply("227 (192,0,2,9,4,1)", &mut told);
        s.command("STOR".into(), "b", Timestamp(1), &mut told);
        s.reply("150 ok", &mut told);
        s.reply("226 ok", &mut told);
        assert!(asked(&told)[0].announcement.is_some());
        assert!(told.iter().any(|t| matches!(t, Told::Answered { code: 226, .. })));
    }
}
