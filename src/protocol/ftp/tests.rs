//! What must hold of dialogues and their data connections together.

use std::net::SocketAddr;

use proptest::prelude::*;

use crate::config;
use crate::flow::{Application, Both, Data, Gap, Link, Moment, Side, Totals};
use crate::net::{ByteSize, Endpoint, Timestamp};
use crate::packet::Layers;
use crate::protocol::{Fact, Parsers, ProtocolCounters, Stream};
use crate::record::{Binding, Ending, NotHashed, Note, State, Upload};

const CLIENT: Side = Side::High;
const SERVER: Side = Side::Low;
const SECOND: u64 = 1_000_000_000;

/// Several connections of two hosts, given to the parsers as the flow table would.
struct Tap {
    parsers: Parsers,
    connections: Vec<Open>,
    clock: u64,
    index: u64,
    uploads: Vec<Upload>,
}

struct Open {
    link: Link,
    stream: Option<Stream>,
    bytes: Both<u64>,
    missing: Both<u64>,
}

impl Tap {
    fn new() -> Self {
        let limits = config::Protocol { running_report: ByteSize(1_000), ..config::Protocol::default() };
        let parsers = Parsers::new(&limits, &config::Files::default(), 1);
        Self { parsers, connections: Vec::new(), clock: 1_000 * SECOND, index: 0, uploads: Vec::new() }
    }

    fn now(&mut self) -> Moment {
        self.index += 1;
        self.clock += 1_000_000;
        Moment { clock: Timestamp(self.clock), by_packet: true, index: self.index }
    }

    fn wait(&mut self, seconds: u64) {
        self.clock += seconds * SECOND;
    }

    fn open(&mut self, client_port: u16, server_port: u16) -> usize {
        self.connect(client_port, server_port, true)
    }

    fn connect(&mut self, client_port: u16, server_port: u16, opening_seen: bool) -> usize {
        let end = |address: [u8; 4], port| Endpoint::from(SocketAddr::from((address, port)));
        let now = self.now();
        let mut link = Link {
            ends: Both::new(end([192, 0, 2, 9], server_port), end([10, 0, 0, 5], client_port)),
            client: CLIENT,
            client_known: opening_seen,
            mid_stream: !opening_seen,
            conflict: false,
            deaf: false,
            slot: self.connections.len() as u32,
            start: now.clock,
            first_index: now.index,
            layers: Layers::default(),
        };
        let stream = Some(self.parsers.open(&mut link, CLIENT, now));
        self.connections.push(Open { link, stream, bytes: Both::new(0, 0), missing: Both::new(0, 0) });
        self.connections.len() - 1
    }

    fn say(&mut self, n: usize, side: Side, bytes: &[u8]) {
        let now = self.now();
        let Open { link, stream, bytes: said, .. } = &mut self.connections[n];
        let data = Data { side, offset: *said.of(side), ts: now.clock, bytes };
        self.parsers.data(stream.as_mut().unwrap(), link, data, now);
        *said.of_mut(side) += bytes.len() as u64;
        self.collect();
    }

    fn lose(&mut self, n: usize, side: Side, length: u64) {
        let now = self.now();
        let Open { link, stream, bytes, missing } = &mut self.connections[n];
        let gap = Gap { side, offset: *bytes.of(side), ts: now.clock, length };
        self.parsers.gap(stream.as_mut().unwrap(), link, gap, now);
        *bytes.of_mut(side) += length;
        *missing.of_mut(side) += length;
        self.collect();
    }

    fn client(&mut self, n: usize, text: &str) {
        self.say(n, CLIENT, text.as_bytes());
    }

    fn server(&mut self, n: usize, text: &str) {
        self.say(n, SERVER, text.as_bytes());
    }

    fn close(&mut self, n: usize) {
        let now = self.now();
        let Open { link, stream, bytes, missing } = &mut self.connections[n];
        let Some(mut stream) = stream.take() else { return };
        for side in [CLIENT, SERVER] {
            self.parsers.finish(&mut stream, link, side, now);
        }
        let totals = Totals {
            bytes: *bytes,
            missing: *missing,
            packets: Both::new(9, 9),
            last_data: Both::new(now.clock, now.clock),
            end: now.clock,
            ending: Ending::Finished,
        };
        self.parsers.close(stream, link, &totals, now);
        self.collect();
    }

    fn collect(&mut self) {
        for (_, fact) in self.parsers.take_facts() {
            if let Fact::Upload(upload) = fact {
                self.uploads.push(*upload);
            }
        }
    }

    /// The input is over: what was reported, and of that what was finished.
    fn end(mut self) -> (Vec<Upload>, ProtocolCounters) {
        for n in 0..self.connections.len() {
            self.close(n);
        }
        let now = self.now();
        self.parsers.flush(now);
        self.collect();
        (self.uploads, self.parsers.counters())
    }

    /// A control connection, logged in.
    fn dialogue(&mut self) -> usize {
        let n = self.open(40_000, 21);
        self.server(n, "220 FTP\r\n");
        self.ask(n, "USER u", "331 go on");
        self.ask(n, "PASS p", "230 in");
        self.ask(n, "TYPE I", "200 ok");
        n
    }

    fn ask(&mut self, n: usize, command: &str, reply: &str) {
        self.client(n, &format!("{command}\r\n"));
        self.server(n, &format!("{reply}\r\n"));
    }

    /// A passive port is announced.
    fn passive(&mut self, n: usize, port: u16) {
        let [high, low] = port.to_be_bytes();
        self.ask(n, "PASV", &format!("227 Entering Passive Mode (192,0,2,9,{high},{low})"));
    }

    /// A whole data connection.
    fn send(&mut self, client_port: u16, server_port: u16, length: usize) {
        let n = self.open(client_port, server_port);
        self.client(n, &"x".repeat(length));
        self.close(n);
    }
}

fn names(uploads: &[Upload]) -> Vec<(&str, u64, State, Option<u16>)> {
    let name = |upload: &Upload| upload.files.first().and_then(|file| file.name.clone()).unwrap_or_default();
    let mut all: Vec<_> = uploads
        .iter()
        .map(|u| (name(u).leak() as &str, u.bytes, u.state, u.ftp.as_ref().and_then(|ftp| ftp.reply_code)))
        .collect();
    all.sort_by_key(|(name, bytes, ..)| (*name, *bytes));
    all
}

fn finished(uploads: Vec<Upload>) -> Vec<Upload> {
    uploads.into_iter().filter(|upload| upload.state != State::Running).collect()
}

#[test]
fn of_several_connections_to_one_address_only_that_of_the_transfer_reports_it() {
    for first_ends_first in [true, false] {
        let mut t = Tap::new();
        let c = t.dialogue();
        t.passive(c, 51_210);
        t.ask(c, "STOR a", "150 ok");
        let (one, other) = (t.open(41_000, 51_210), t.open(41_001, 51_210));
        t.client(one, &"x".repeat(2_000));
        t.client(other, &"y".repeat(3_000));
        let order = if first_ends_first { [one, other] } else { [other, one] };
        order.into_iter().for_each(|n| t.close(n));
        t.server(c, "226 ok\r\n");
        let (uploads, _) = t.end();
        let running: Vec<_> = uploads.iter().filter(|u| u.state == State::Running).map(|u| u.id).collect();
        let over: Vec<_> = uploads.iter().filter(|u| u.state != State::Running).map(|u| (u.id, u.bytes)).collect();
        assert_eq!(over, [(running[0], 2_000)]);
        assert_eq!(running.len(), 1);
    }
}

#[test]
fn an_open_connection_keeps_the_transfer_that_it_reported_whatever_crowds_it_out() {
    let mut t = Tap::new();
    let c = t.dialogue();
    t.client(c, "PORT 10,0,0,5,195,80\r\n");
    t.server(c, "200 ok\r\n");
    t.ask(c, "STOR a", "150 ok");
    let data = t.open(50_000, 20);
    t.client(data, &"x".repeat(2_000));
    for n in 0..600 {
        t.ask(c, &format!("STOR {n}"), "150 ok");
        t.server(c, "226 ok\r\n");
    }
    for n in 0..600 {
        t.send(50_000, 30_000 + n, 10);
    }
    t.close(data);
    let (uploads, _) = t.end();
    let running: Vec<_> = uploads.iter().filter(|u| u.state == State::Running).map(|u| u.id).collect();
    let over = uploads.iter().filter(|u| u.state != State::Running && running.contains(&u.id)).count();
    assert_eq!((running.len(), over), (1, 1));
}

#[test]
fn data_goes_to_the_transfer_that_was_accepted_not_to_one_that_was_refused_before() {
    let mut t = Tap::new();
    let c = t.dialogue();
    t.passive(c, 51_210);
    t.ask(c, "STOR refused", "553 no");
    t.ask(c, "STOR taken", "150 ok");
    t.send(41_000, 51_210, 500);
    t.server(c, "226 ok\r\n");
    let (uploads, _) = t.end();
    assert_eq!(names(&uploads), [("taken", 500, State::Complete, Some(226))]);
    assert_eq!(uploads[0].ftp.as_ref().unwrap().binding, Binding::Announced);
}

#[test]
fn data_goes_to_the_accepted_transfer_though_the_replies_come_only_after_it() {
    for opening_seen in [true, false] {
        for refused_last in [false, true] {
            let mut t = Tap::new();
            let c = t.connect(40_000, 21, opening_seen);
            if opening_seen {
                t.server(c, "220 FTP\r\n");
            }
            t.ask(c, "USER u", "230 ok");
            t.passive(c, 51_210);
            t.client(c, "STOR one\r\nSTOR two\r\n");
            t.send(41_000, 51_210, 500);
            match refused_last {
                false => t.server(c, "553 no\r\n150 ok\r\n226 ok\r\n"),
                true => t.server(c, "150 ok\r\n226 ok\r\n425 no\r\n"),
            }
            t.ask(c, "NOOP", "200 ok");
            let (uploads, _) = t.end();
            let taken = if refused_last { "one" } else { "two" };
            assert_eq!(names(&uploads), [(taken, 500, State::Complete, Some(226))], "{opening_seen} {refused_last}");
        }
    }
}

#[test]
fn what_was_sent_for_a_refused_transfer_has_left_all_the_same() {
    let mut t = Tap::new();
    let c = t.dialogue();
    t.passive(c, 51_210);
    t.client(c, "STOR refused\r\n");
    t.send(41_000, 51_210, 500);
    t.server(c, "553 no\r\n");
    t.ask(c, "NOOP", "200 ok");
    let (uploads, _) = t.end();
    assert_eq!(names(&uploads), [("refused", 500, State::Partial, Some(553))]);
}

#[test]
fn a_loss_binds_no_transfer_to_data_that_was_over_before_it() {
    let mut t = Tap::new();
    let c = t.dialogue();
    t.passive(c, 51_210);
    // STOR first, its replies, PASV and 227 are lost.
    t.lose(c, CLIENT, 12);
    t.send(41_000, 51_210, 500);
    t.lose(c, SERVER, 20);
    t.wait(20);
    t.ask(c, "STOR second", "150 ok");
    t.server(c, "226 ok\r\n");
    let (uploads, counters) = t.end();
    assert_eq!(names(&uploads), [("second", 0, State::Partial, Some(226))]);
    assert!(uploads[0].notes.contains(&Note::DataNotSeen));
    assert_eq!(counters.ftp.unbound, 1);
}

#[test]
fn time_alone_binds_only_data_that_was_open_while_its_transfer_was_going_on() {
    let mut t = Tap::new();
    let c = t.dialogue();
    // The announcements were not seen, and neither was the data of the first.
    t.lose(c, SERVER, 50);
    t.ask(c, "STOR first", "150 ok");
    t.server(c, "226 ok\r\n");
    t.wait(20);
    t.ask(c, "STOR second", "150 ok");
    t.send(41_000, 51_210, 500);
    t.server(c, "226 ok\r\n");
    t.wait(60);
    let (uploads, _) = t.end();
    let want = [("first", 0, State::Partial, Some(226)), ("second", 500, State::Complete, Some(226))];
    assert_eq!(names(&uploads), want);
}

#[test]
fn the_work_per_segment_does_not_grow_with_what_waits() {
    let mut t = Tap::new();
    let c = t.dialogue();
    for n in 0..256u16 {
        // The one at its address did not come, and others came that were not announced.
        t.passive(c, 50_000 + n);
        t.ask(c, &format!("STOR {n}"), "150 ok\r\n226 ok");
        t.send(30_000 + n, 60_000 - n, 10);
    }
    let before = t.parsers.desk.ledger.looked();
    for _ in 0..1_000 {
        t.ask(c, "CWD /", "250 ok");
    }
    let each = (t.parsers.desk.ledger.looked() - before) / 2_000;
    assert!(each <= 4, "{each} entries were looked at per segment");
}

#[test]
fn bytes_that_are_not_the_files_give_it_neither_size_nor_hash() {
    for (commands, why) in [
        (&["TYPE I"][..], None),
        (&["TYPE I", "MODE Z"], Some(NotHashed::Encoded)),
        (&["TYPE A"], Some(NotHashed::Text)),
        (&["TYPE A N"], Some(NotHashed::Text)),
        (&["TYPE I", "type a"], Some(NotHashed::Text)),
        // The type is ASCII where nothing else was said (RFC 959 section 3.1.1.1).
        (&["REIN"], Some(NotHashed::Text)),
    ] {
        let mut t = Tap::new();
        let c = t.dialogue();
        commands.iter().for_each(|command| t.ask(c, command, "200 ok"));
        t.passive(c, 51_210);
        t.ask(c, "STOR a", "150 ok");
        t.send(41_000, 51_210, 500);
        t.server(c, "226 ok\r\n");
        let (uploads, _) = t.end();
        let (upload, file) = (&uploads[0], &uploads[0].files[0]);
        assert_eq!((upload.bytes, file.not_hashed), (500, why), "{commands:?}");
        assert_eq!((file.size, file.sha256.is_some()), (why.is_none().then_some(500), why.is_none()), "{commands:?}");
        assert_eq!(upload.notes.contains(&Note::Converted), why.is_some(), "{commands:?}");
        assert_eq!(upload.body.sha256.is_some(), why.is_some(), "{commands:?}");
    }
}

/// A TLS record with a body that looks like a dialogue.
fn record(kind: u8, length: usize) -> Vec<u8> {
    let body = b"STOR fake\r\n227 (192,0,2,9,1,1)\r\n".iter().copied().cycle().take(length);
    [kind, 3, 3].into_iter().chain((length as u16).to_be_bytes()).chain(body).collect()
}

/// Both sides of a dialogue that goes over to TLS and comes back.
fn back_from_tls() -> (Vec<u8>, Vec<u8>) {
    let mut client = b"AUTH TLS\r\n".to_vec();
    [(22, 200), (22, 70), (20, 1), (22, 40), (23, 33), (23, 11), (23, 330), (21, 26)]
        .iter()
        .for_each(|(kind, length)| client.extend(record(*kind, *length)));
    client.extend(b"TYPE I\r\nPASV\r\nSTOR tape.img\r\n");
    let mut server = b"220 FTP\r\n234 go\r\n".to_vec();
    [(22, 90), (22, 2_300), (20, 1), (22, 40), (23, 44), (23, 22), (21, 26)]
        .iter()
        .for_each(|(kind, length)| server.extend(record(*kind, *length)));
    server.extend(b"200 ok\r\n227 Entering Passive Mode (192,0,2,9,200,10)\r\n150 ok\r\n226 done\r\n");
    (client, server)
}

/// Plays the two sides in pieces; true is a client's turn. A hole leaves out bytes.
fn play(pieces: [Vec<(Vec<u8>, bool)>; 2], order: &[bool]) -> (Vec<Upload>, ProtocolCounters) {
    let mut t = Tap::new();
    let c = t.open(40_000, 21);
    let [mut client, mut server] = pieces.map(Vec::into_iter);
    for from_client in order.iter().copied().chain([false; 6_000]).chain([true; 6_000]) {
        let (side, piece) = if from_client { (CLIENT, client.next()) } else { (SERVER, server.next()) };
        match piece {
            Some((bytes, false)) => t.say(c, side, &bytes),
            Some((bytes, true)) => t.lose(c, side, bytes.len() as u64),
            None => {}
        }
    }
    t.send(41_000, 51_210, 500);
    let (uploads, counters) = t.end();
    (finished(uploads), counters)
}

fn pieces(mut bytes: &[u8], cuts: &[usize]) -> Vec<(Vec<u8>, bool)> {
    let mut pieces = Vec::new();
    for length in cuts.iter().chain([&usize::MAX]) {
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        if !piece.is_empty() {
            pieces.push((piece.to_vec(), false));
        }
        bytes = rest;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_dialogue_that_comes_back_from_tls_is_read_however_it_is_cut(
        client_cuts in prop::collection::vec(prop_oneof![1usize..6, 1usize..400], 0..200),
        server_cuts in prop::collection::vec(prop_oneof![1usize..6, 1usize..400], 0..200),
        order in prop::collection::vec(any::<bool>(), 0..300),
    ) {
        let (client, server) = back_from_tls();
        let (uploads, counters) = play([pieces(&client, &client_cuts), pieces(&server, &server_cuts)], &order);
        prop_assert_eq!(names(&uploads), [("tape.img", 500, State::Complete, Some(226))]);
        prop_assert_eq!(uploads[0].ftp.as_ref().unwrap().binding, Binding::Announced);
        prop_assert_eq!((counters.ftp.encrypted, counters.ftp.returned), (1, 1));
    }

    #[test]
    fn a_loss_within_tls_records_does_not_hide_the_way_back(
        from in 40usize..2_300, length in 1usize..60, order in prop::collection::vec(any::<bool>(), 0..30),
    ) {
        let (client, server) = back_from_tls();
        // Within the server's second record.
        let from = 17 + 95 + 5 + from % 2_200;
        let hole = vec![
            (server[..from].to_vec(), false),
            (server[from..from + length].to_vec(), true),
            (server[from + length..].to_vec(), false),
        ];
        let (uploads, counters) = play([pieces(&client, &[]), hole], &order);
        prop_assert_eq!(names(&uploads), [("tape.img", 500, State::Complete, Some(226))]);
        prop_assert_eq!(counters.ftp.returned, 1);
    }
}

#[test]
fn a_loss_that_hides_a_records_end_leaves_whole_lines_to_come_back_by() {
    let (client, server) = back_from_tls();
    let text = client.len() - b"TYPE I\r\nPASV\r\nSTOR tape.img\r\n".len();
    let hole = vec![
        (client[..100].to_vec(), false),
        (client[100..text - 40].to_vec(), true),
        (client[text - 40..text].to_vec(), false),
        (client[text..].to_vec(), false),
    ];
    let before =
        server.len() - b"200 ok\r\n227 Entering Passive Mode (192,0,2,9,200,10)\r\n150 ok\r\n226 done\r\n".len();
    let order = [false, true, true, true, true, false];
    let (uploads, counters) = play([hole, pieces(&server, &[before])], &order);
    assert_eq!(names(&uploads), [("tape.img", 500, State::Complete, Some(226))]);
    assert_eq!((counters.ftp.encrypted, counters.ftp.returned), (1, 1));
}

#[test]
fn a_dialogue_that_stays_under_tls_is_lost_and_says_so() {
    let mut t = Tap::new();
    let c = t.open(40_000, 21);
    t.server(c, "220 FTP\r\n");
    t.ask(c, "AUTH TLS", "234 go");
    for _ in 0..9 {
        t.say(c, CLIENT, &record(23, 300));
        t.say(c, SERVER, &record(23, 300));
    }
    t.send(41_000, 51_210, 500);
    let (uploads, counters) = t.end();
    assert_eq!((uploads.len(), counters.ftp.encrypted, counters.ftp.returned), (0, 1, 0));
}
