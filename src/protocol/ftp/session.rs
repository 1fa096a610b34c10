//! One control connection's dialogue: commands matched with replies, and the transfers that they ask for.
//!
//! Commands and replies come in, in the order of each direction; out go announcements of data connections and
//! transfers. Where both directions are whole, the n-th command has the n-th final reply, so nothing depends on
//! how the tap interleaved the two. That holds again behind a stretch under TLS, where both directions come back at
//! the same place of the dialogue. After a loss, or picked up in the middle, commands count when they come and replies
//! are matched by what they can answer.

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
    /// `A` text, `E` EBCDIC text, `I` image, `L` bytes of a local size (RFC 959 section 3.1.1), if that is known.
    pub(super) data_type: Option<char>,
    pub(super) announcement: Option<Announcement>,
    pub(super) asked: Timestamp,
    /// Commands before it may be lost, so that the announcement may be another transfer's.
    pub(super) doubtful: bool,
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

/// A reply that came before its command.
#[derive(Debug)]
enum Early {
    Reply {
        code: u16,
        last: bool,
        text: String,
    },
    /// A stretch of replies under TLS.
    Turn,
}

impl Early {
    /// Bytes of its text.
    fn weight(&self) -> usize {
        match self {
            Self::Reply { text, .. } => text.capacity(),
            Self::Turn => 0,
        }
    }
}

/// Stands for a line that is no command. Most servers refuse it with a reply of its own, some pass over an empty one.
pub(super) const JUNK: &str = "?";

/// Stands for a stretch of commands under TLS.
const TURN: &str = "<";

/// The most final replies kept that came before their command, for taps that deliver out of step.
const MOST_EARLY: usize = 64;

/// The longest working directory that is followed (PATH_MAX of Linux); a longer one counts as not known.
const LONGEST_DIRECTORY: usize = 4096;

/// The type where nothing was said (RFC 959 section 3.1.1.1).
const DEFAULT_TYPE: char = 'A';

impl Command {
    fn stand_in(verb: &str) -> Self {
        let (verb, argument) = (verb.to_owned(), String::new());
        Self { verb, argument, ts: Timestamp(0), ordinal: None, carried_out: false }
    }
}

/// One dialogue.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) user: Option<String>,
    directory: Option<String>,
    restart: u64,
    allocated: Option<u64>,
    mode: char,
    data_type: Option<char>,
    /// A `TYPE` was seen.
    typed: bool,
    /// The argument of `RNFR`, as a path.
    rename_from: Option<String>,
    announcement: Option<Announcement>,
    /// The first transfer that took the passive announcement, which serves the first that the server accepts.
    taken: Option<u64>,
    /// Commands without their final reply.
    pending: VecDeque<Command>,
    /// Replies without their command.
    early: VecDeque<Early>,
    /// Inside a reply of several lines, its code.
    several: Option<u16>,
    /// Matching by order is not possible.
    loose: bool,
    /// It was under TLS for a time, whose end a server can have placed wrongly by one reply.
    turned: bool,
    /// Transfers asked for so far.
    asked: u64,
    /// In loose order: transfers without a final reply, and whether the server began them.
    open: VecDeque<(u64, bool)>,
    max_pending: usize,
    pub(super) dropped: u64,
}

impl Session {
    pub(super) fn new(connection: Connection, mid_stream: bool, max_pending: usize) -> Self {
        let mut pending = VecDeque::new();
        if !mid_stream {
            // The greeting answers the connection itself.
            pending.push_back(Command { carried_out: true, ..Command::stand_in("") });
        }
        Self {
            connection,
            user: None,
            directory: None,
            restart: 0,
            allocated: None,
            mode: 'S',
            data_type: (!mid_stream).then_some(DEFAULT_TYPE),
            typed: false,
            rename_from: None,
            announcement: None,
            taken: None,
            pending,
            early: VecDeque::new(),
            several: None,
            loose: mid_stream,
            turned: false,
            asked: 0,
            open: VecDeque::new(),
            max_pending,
            dropped: 0,
        }
    }

    /// One direction can be read again after a time under TLS.
    pub(super) fn turn(&mut self, of_client: bool, told: &mut Vec<Told>) {
        if !of_client {
            self.several = None;
        }
        match (self.loose, of_client) {
            (true, true) => self.forget(),
            (true, false) => {}
            (false, true) => self.pending.push_back(Command::stand_in(TURN)),
            (false, false) => self.early.push_back(Early::Turn),
        }
        let command = self.pending.iter().position(|command| command.verb == TURN);
        let reply = self.early.iter().position(|early| matches!(early, Early::Turn));
        if let (Some(command), Some(reply)) = (command, reply) {
            // What is left of before has no counterpart.
            for _ in 0..=command {
                if let Some(mut command) = self.pending.pop_front() {
                    self.carry_out_unanswered(&mut command, told);
                }
            }
            self.early.drain(..=reply);
            self.turned = true;
            self.catch_up(told);
        }
    }

    /// What was said is not known: neither is what it changed.
    fn forget(&mut self) {
        (self.directory, self.rename_from, self.announcement, self.taken) = (None, None, None, None);
        (self.restart, self.allocated, self.data_type) = (0, None, None);
    }

    /// Bytes that are held beside itself.
    pub(super) fn weight(&self) -> usize {
        let texts = text(&self.user) + text(&self.directory) + text(&self.rename_from);
        let pending: usize = self.pending.iter().map(|c| c.verb.capacity() + c.argument.capacity()).sum();
        let early: usize = self.early.iter().map(Early::weight).sum();
        let tables = self.pending.capacity() * size_of::<Command>()
            + self.early.capacity() * size_of::<(u16, bool, String)>()
            + self.open.capacity() * size_of::<u64>();
        texts + pending + early + tables
    }

    /// Bytes of the dialogue are lost: from here on order proves nothing.
    pub(super) fn lose(&mut self, told: &mut Vec<Told>) {
        self.give_up_order(told);
        self.several = None;
        if self.taken.take().is_some() {
            self.announcement = None;
        }
        if !self.typed {
            self.data_type = None;
        }
    }

    /// Carries out what is pending without its reply: none will come.
    pub(super) fn close(&mut self, told: &mut Vec<Told>) {
        self.give_up_order(told);
    }

    fn give_up_order(&mut self, told: &mut Vec<Told>) {
        self.loose = true;
        self.early.clear();
        while let Some(mut command) = self.pending.pop_front() {
            match command.ordinal {
                Some(ordinal) if command.carried_out => self.open.push_back((ordinal, true)),
                _ => self.carry_out_unanswered(&mut command, told),
            }
        }
    }

    fn carry_out_unanswered(&mut self, command: &mut Command, told: &mut Vec<Told>) {
        if !command.carried_out {
            self.carry_out(command, None, told);
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
        self.catch_up(told);
    }

    /// Matches the replies that came early, as far as there are commands for them.
    fn catch_up(&mut self, told: &mut Vec<Told>) {
        while let Some(Early::Reply { .. }) = self.early.front() {
            let Some(Early::Reply { code, last, text }) = self.early.pop_front() else { return };
            if !self.match_reply(code, last, &text, told) {
                self.early.push_front(Early::Reply { code, last, text });
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
        } else if !self.match_reply(code, last, text, told) && code != 421 {
            if self.early.len() < MOST_EARLY {
                self.early.push_back(Early::Reply { code, last, text: text.to_owned() });
            } else {
                self.dropped += 1;
                self.give_up_order(told);
            }
        }
    }

    /// Matches a reply by order; false if no command is there for it yet.
    fn match_reply(&mut self, code: u16, last: bool, text: &str, told: &mut Vec<Told>) -> bool {
        // STAT and NOOP are answered while a transfer runs (RFC 959 section 4.1.3).
        while self.pending.front().is_some_and(|c| c.verb == JUNK) && !(500..=503).contains(&code) {
            self.pending.pop_front();
        }
        let place = match code {
            211..=213 => {
                let before = self.pending.iter().take_while(|c| c.verb != TURN);
                before.into_iter().position(|c| c.verb == "STAT").unwrap_or(0)
            }
            _ => 0,
        };
        let Some(mut command) = self.pending.remove(place) else { return false };
        if command.verb == TURN {
            self.pending.insert(place, command);
            return false;
        }
        let passive = matches!(command.verb.as_str(), "PASV" | "EPSV");
        if self.turned && passive && (200..300).contains(&code) && !(227..=229).contains(&code) {
            // The answer to `CCC` itself came in the clear: every reply is that of the command before.
            self.pending.insert(place, command);
            self.give_up_order(told);
            self.loose_reply(code, last, text, told);
            return true;
        }
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
        if code < 400 && self.taken.is_some_and(|first| first <= ordinal) {
            (self.announcement, self.taken) = (None, None);
        }
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
                // A transfer begins when the one before it is over, though the answer to that is lost.
                while self.open.len() > 1 && self.open.front().is_some_and(|(_, begun)| *begun) {
                    self.open.pop_front();
                }
                if let Some((ordinal, begun)) = self.open.front_mut() {
                    *begun = true;
                    let ordinal = *ordinal;
                    self.transfer_reply(ordinal, code, last, text, told);
                }
            }
            226 | 250 | 425 | 426 | 450..=452 | 550..=553 => {
                if let Some((ordinal, _)) = self.open.front().copied() {
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
        if !stays(&command.verb) {
            told.push(Told::WentOn);
        }
        match command.verb.as_str() {
            TURN => self.forget(),
            // What follows a lone CR or NUL may be another command, with a password.
            "USER" => self.user = command.argument.trim().split(char::is_control).next().map(str::to_owned),
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
            "TYPE" if done => {
                let data_type = command.argument.trim().chars().next();
                self.data_type = data_type.filter(char::is_ascii_alphabetic).map(|t| t.to_ascii_uppercase());
                self.typed = true;
            }
            "REST" => self.restart = command.argument.trim().parse().unwrap_or(0),
            "PORT" | "EPRT" => {
                if done {
                    self.announcement = self.active_announcement(&command.verb, &command.argument);
                    self.taken = None;
                }
            }
            "PASV" | "EPSV" | "SPSV" => {
                (self.announcement, self.taken) = (None, None);
                if let Some((code, text)) = reply {
                    self.passive(code, text, told);
                }
            }
            "REIN" if done => {
                self.forget();
                (self.user, self.mode, self.data_type) = (None, 'S', Some(DEFAULT_TYPE));
            }
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
            (self.announcement, self.taken) = (Some(announcement), None);
            told.push(Told::Announced(announcement));
        }
    }

    fn ask(&mut self, verb: Verb, command: &mut Command, told: &mut Vec<Told>) {
        let ordinal = self.asked;
        self.asked += 1;
        command.ordinal = Some(ordinal);
        let argument = command.argument.trim_end_matches(['\r', '\n']).to_owned();
        let path = (!argument.is_empty()).then(|| path::join(self.directory.as_deref(), &argument));
        // A passive address serves one transfer, an active one stands until the next.
        if self.announcement.is_some_and(|announcement| !announcement.active) {
            self.taken.get_or_insert(ordinal);
        }
        let restart = std::mem::take(&mut self.restart);
        let allocated = self.allocated.take();
        if self.loose {
            self.open.push_back((ordinal, false));
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
            data_type: self.data_type,
            announcement: self.announcement,
            asked: command.ts,
            doubtful: self.loose,
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

/// Whether a command may stand between a transfer and the new name of its file: those that look at the file or set its
/// time and rights, as clients do before they rename it.
fn stays(verb: &str) -> bool {
    const STAYING: &[&str] = &[
        "", JUNK, TURN, "RNFR", "RNTO", "ABOR", "NOOP", "STAT", "SITE", "SIZE", "MDTM", "MFMT", "MFCT", "MFF", "MLST",
        "HASH", "XCRC", "XMD5", "XSHA1", "XSHA256",
    ];
    STAYING.contains(&verb)
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
mod tests;
