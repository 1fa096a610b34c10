//! Work that is given up under overload: what is still known of connections and files then.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod segments;

use outfall::config::Config;
use outfall::net::Span;
use outfall::record::{Binding, Ending, NotHashed, State};
use segments::{ACK, Pair, reading, recording};

/// A TLS record of a client's hello, as far as it matters.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh";

#[test]
fn encrypted_connections_are_counted_by_their_sequence_numbers_alone() {
    let p = Pair::new("10.0.0.5:40000", "192.0.2.9:443");
    let mut tap = reading(&Config::default());
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, HELLO));
    tap.tracker.shed(None, true);
    let at = HELLO.len() as i64;
    // The second of three comes late, the last twice.
    tap.push(&p.client(at, 0, ACK, [0; 100]));
    tap.push(&p.client(at + 200, 0, ACK, [0; 100]));
    tap.push(&p.client(at + 100, 0, ACK, [0; 100]));
    tap.push(&p.client(at + 200, 0, ACK, [0; 100]));
    tap.push(&p.server(0, at + 300, ACK, []));
    // Put in order again from here on.
    tap.tracker.shed(None, false);
    tap.push(&p.client(at + 350, 0, ACK, [0; 50]));
    tap.push(&p.client(at + 300, 0, ACK, [0; 50]));
    tap.push_all(&p.close(at + 400, 0));
    let counters = tap.counters();
    let (_, flows) = tap.facts();
    assert_eq!((flows[0].client_bytes, flows[0].client_missing), (at as u64 + 400, 0));
    assert_eq!((counters.gaps, flows[0].ending), (0, Ending::Finished));
}

#[test]
fn what_can_be_read_is_put_in_order_all_the_same() {
    let p = Pair::new("10.0.0.5:40000", "192.0.2.9:80");
    let mut tap = reading(&Config::default());
    tap.tracker.shed(None, true);
    let head = "PUT /in HTTP/1.1\r\nHost: h.example\r\nContent-Length: 8\r\n\r\n";
    let at = head.len() as i64;
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, head));
    tap.push(&p.client(at + 4, 0, ACK, "EFGH"));
    tap.push(&p.client(at, 0, ACK, "abcd"));
    let upload = tap.upload();
    assert_eq!((upload.bytes, upload.missing), (8, 0));
}

#[test]
fn silent_connections_are_ended_early_also_those_that_were_to_be_looked_at_later() {
    let p = Pair::new("10.0.0.5:40000", "192.0.2.9:443");
    let mut tap = recording(&Config::default());
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, "abcd"));
    tap.silence(60);
    assert_eq!(tap.counters().ended(Ending::Idle), 0);
    tap.tracker.shed(Some(Span::seconds(30)), false);
    tap.silence(2);
    assert_eq!(tap.counters().ended(Ending::Idle), 1);
}

#[test]
fn an_upload_that_pauses_is_not_cut_when_silent_connections_are_given_up() {
    let p = Pair::new("10.0.0.5:40000", "192.0.2.9:80");
    let chunked = "PUT /in HTTP/1.1\r\nHost: h.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n";
    let plain = "PUT /in HTTP/1.1\r\nHost: h.example\r\nContent-Length: 8\r\n\r\n";
    // Where the pause lies: in the head, between two pieces of the body, before the answer.
    for (head, pause) in [(plain, 9), (plain, plain.len() + 4), (plain, plain.len() + 8), (chunked, chunked.len() + 2)]
    {
        let rest = if head == plain { "abcdefgh" } else { "abcd\r\n4\r\nefgh\r\n0\r\n\r\n" };
        let whole = format!("{head}{rest}");
        let (first, second) = whole.split_at(pause);
        let mut tap = reading(&Config::default());
        tap.tracker.shed(Some(Span::seconds(30)), false);
        tap.push_all(&p.handshake());
        tap.push(&p.client(0, 0, ACK, first));
        tap.silence(70);
        if !second.is_empty() {
            tap.push(&p.client(pause as i64, 0, ACK, second));
        }
        tap.push(&p.server(0, whole.len() as i64, ACK, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"));
        let upload = tap.upload();
        assert_eq!((upload.bytes, upload.state), (8, State::Complete), "{pause}: {upload:?}");
        assert_eq!(upload.http.unwrap().status, Some(201));
    }
}

#[test]
fn a_transfer_keeps_its_dialogue_however_long_it_takes() {
    // Silent connections are not given up, or after half a minute; and how long each of three pauses is.
    for (shed, pause) in [(None, 600), (Some(Span::seconds(30)), 40)] {
        transfer(shed, pause);
    }
}

#[track_caller]
fn transfer(shed: Option<Span>, pause: u64) {
    let (c, d) = (Pair::new("10.0.0.5:40000", "192.0.2.9:21"), Pair::new("10.0.0.5:40001", "192.0.2.9:5001"));
    let (mut asked, mut told) = (0, 0);
    let mut tap = reading(&Config::default());
    tap.tracker.shed(shed, false);
    tap.push_all(&c.handshake());
    let dialogue = [
        ("", "220 ready\r\n"),
        ("USER ann\r\n", "331 password\r\n"),
        ("PASS x\r\n", "230 in\r\n"),
        ("PASV\r\n", "227 Entering Passive Mode (192,0,2,9,19,137)\r\n"),
        ("STOR a.bin\r\n", "150 go on\r\n"),
    ];
    for (command, reply) in dialogue {
        if !command.is_empty() {
            tap.push(&c.client(asked, told, ACK, command));
            asked += command.len() as i64;
        }
        tap.push(&c.server(told, asked, ACK, reply));
        told += reply.len() as i64;
    }
    tap.push_all(&d.handshake());
    for at in [0, 4, 8] {
        tap.push(&d.client(at, 0, ACK, "abcd"));
        // The transfer itself goes on; nothing is said of it.
        tap.silence(pause);
    }
    tap.push_all(&d.close(12, 0));
    tap.push(&c.server(told, asked, ACK, "226 done\r\n"));
    // In the end it is over all the same.
    tap.silence(20 * 60);
    assert_eq!(tap.counters().ended(Ending::Idle), 1);
    let upload = tap.upload();
    assert_eq!((upload.bytes, upload.state), (12, State::Complete), "{upload:?}");
    let ftp = upload.ftp.unwrap();
    assert_eq!((ftp.user.as_deref(), ftp.reply_code, ftp.binding), (Some("ann"), Some(226), Binding::Announced));
}

#[test]
fn files_lose_their_hash_and_then_their_type_and_say_so() {
    let p = Pair::new("10.0.0.5:40000", "192.0.2.9:80");
    for (hashing, typing) in [(false, false), (true, false), (true, true)] {
        let mut tap = reading(&Config::default());
        let head = "PUT /in HTTP/1.1\r\nHost: h.example\r\nContent-Length: 2000\r\n\r\n";
        tap.push_all(&p.handshake());
        tap.push(&p.client(0, 0, ACK, head));
        // Given up while the body is under way.
        tap.tracker.app().shed(hashing, typing);
        tap.push(&p.client(head.len() as i64, 0, ACK, [b"%PDF-1.7\n".as_slice(), &[b' '; 991]].concat()));
        tap.push(&p.client(head.len() as i64 + 1000, 0, ACK, [b' '; 1000]));
        let body = tap.upload().body;
        assert_eq!(body.not_hashed, hashing.then_some(NotHashed::Overload));
        assert_eq!(body.sha256.is_some(), !hashing);
        assert_eq!(body.detected_type, (!typing).then_some("application/pdf"));
    }
}
