//! What must hold of every protocol that takes over a connection: upgrades, tunnels, and streams side by side.

use super::rig::*;
use super::websocket::tests::frame as websocket_frame;
use crate::record::{NotHashed, Note, Protocol, State, Upload};
use proptest::prelude::*;

/// `Upgrade: h2c` on a request with a body, then a second request in HTTP/2.
fn upgrade() -> (Vec<u8>, Vec<u8>) {
    let mut client = b"POST /first HTTP/1.1\r\nHost: up.example\r\nConnection: Upgrade, HTTP2-Settings\r\n\
        Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 4\r\n\r\nbody"
        .to_vec();
    client.extend(&Sender::client().put(3, "/second").frame(DATA, END_STREAM, 3, b"12345").wire);
    let mut server = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec();
    server.extend(&Sender::server().status(1, "201").status(3, "202").wire);
    (client, server)
}

/// A refused upgrade and HEAD, then a WebSocket whose first message is not yet the last.
fn websocket() -> (Vec<u8>, Vec<u8>) {
    let get = "GET /live HTTP/1.1\r\nHost: ws.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = [get, "HEAD / HTTP/1.1\r\nHost: ws.example\r\n\r\n", get].concat().into_bytes();
    for (first, length) in [(0x01, 3), (0x89, 4), (0x80, 200), (0x82, 70_000)] {
        client.extend(websocket_frame(first, &vec![b'P'; length]));
    }
    client.extend(websocket_frame(0x88, &[3, 0xe8]));
    let server = b"HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nno.HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n\
        HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x02hi\x88\x00";
    (client, server.to_vec())
}

/// A CONNECT that is refused, one that is granted, and an upload inside.
fn connect() -> (Vec<u8>, Vec<u8>) {
    let client = b"CONNECT inner.example:80 HTTP/1.1\r\nHost: inner.example:80\r\n\r\n\
        CONNECT inner.example:80 HTTP/1.1\r\nHost: inner.example:80\r\nProxy-Authorization: Basic eDp5\r\n\r\n\
        PUT /in HTTP/1.1\r\nHost: 192.0.2.9\r\nContent-Length: 6\r\n\r\nsecret";
    let server = b"HTTP/1.1 407 Who\r\nContent-Length: 2\r\n\r\n??HTTP/1.1 200 Connection established\r\n\r\n\
        HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    (client.to_vec(), server.to_vec())
}

/// HTTP/2 by prior knowledge inside a tunnel.
fn connect_http2() -> (Vec<u8>, Vec<u8>) {
    let mut client = b"CONNECT inner.example:80 HTTP/1.1\r\n\r\n".to_vec();
    client.extend(&Sender::client().put(1, "/in").frame(DATA, END_STREAM, 1, b"1234567").wire);
    let mut server = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
    server.extend(&Sender::server().status(1, "201").wire);
    (client, server)
}

/// Streams side by side, one without its end, one reset by the server.
fn streams() -> (Vec<u8>, Vec<u8>) {
    let mut client = Sender::client();
    client.put(1, "/a").put(3, "/b").frame(DATA, 0, 3, &[1; 300]).put(5, "/c");
    client.frame(DATA, END_STREAM | PADDED, 1, &[5; 40]).frame(DATA, END_STREAM, 5, &[2; 99]).put(7, "/d");
    client.frame(DATA, END_STREAM, 7, &[3; 10]);
    let mut server = Sender::server();
    server.headers(1, 0, &[(":status", "103")]).status(1, "200").frame(RST_STREAM, 0, 3, &[0; 4]);
    server.status(7, "200").frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]);
    (client.wire, server.wire)
}

type Told<'a> = (&'a str, &'a str, u64, Option<u16>, State, Protocol, Option<&'a str>);

fn told(uploads: &[Upload]) -> Vec<Told<'_>> {
    uploads
        .iter()
        .map(|u| {
            let http = u.http.as_ref().unwrap();
            let (method, url) = (http.method.as_str(), http.url.as_str());
            (method, url, u.bytes, http.status, u.state, u.protocol, u.domain.as_deref())
        })
        .collect()
}

#[test]
fn an_upgrade_to_http2_keeps_the_request_that_asked_for_it() {
    let (client, server) = upgrade();
    let (uploads, flow, _) = play(&whole(&client), &whole(&server), [].into_iter());
    assert_eq!(
        told(&uploads),
        [
            ("PUT", "/second", 5, Some(202), State::Complete, Protocol::Http, Some("drop.example")),
            ("POST", "/first", 4, Some(201), State::Complete, Protocol::Http, Some("up.example")),
        ]
    );
    assert_eq!(flow.protocol, Protocol::Http2);
}

#[test]
fn what_a_client_sends_over_a_websocket_is_one_upload() {
    let (client, server) = websocket();
    let (uploads, flow, _) = play(&whole(&client), &whole(&server), [].into_iter());
    let want = ("GET", "/live", 70_203, Some(101), State::Complete, Protocol::WebSocket, Some("ws.example"));
    assert_eq!(told(&uploads), [want]);
    assert_eq!(flow.protocol, Protocol::WebSocket);
    // Its bytes on the wire are masked, and are no file's.
    let body = &uploads[0].body;
    assert_eq!((&body.sha256, body.not_hashed, body.detected_type), (&None, Some(NotHashed::Encoded), None));
}

#[test]
fn a_websocket_passes_over_a_gap_in_a_payload_and_ends_with_the_connection() {
    let mut client = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
    client.extend(websocket_frame(0x82, &[9; 60_000]));
    let pieces = [Piece::Bytes(client[..1000].to_vec()), Piece::Hole(5000), Piece::Bytes(client[6000..].to_vec())];
    let (uploads, _, counters) = play(&pieces, &[], [].into_iter());
    assert_eq!((uploads[0].bytes, uploads[0].missing, counters.websocket_lost), (60_000, 5000, 0));
    let over_the_end = [Piece::Bytes(client[..59_000].to_vec()), Piece::Hole(9_000)];
    let (uploads, _, counters) = play(&over_the_end, &[], [].into_iter());
    assert_eq!((uploads[0].bytes, uploads[0].state, counters.websocket_lost), (60_000, State::Partial, 1));
}

#[test]
fn what_follows_a_refused_websocket_is_no_upload() {
    let mut client = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
    client.extend(websocket_frame(0x82, &[9; 60]));
    let (uploads, ..) = play(&whole(&client), &whole(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), [].into_iter());
    assert!(uploads.is_empty());
}

#[test]
fn a_websocket_that_is_refused_after_it_was_reported_is_reported_again_as_partial() {
    let mut client = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
    client.extend(websocket_frame(0x82, &[9; 10_000_000]));
    let (uploads, ..) = play(&whole(&client), &whole(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), [].into_iter());
    let states: Vec<_> = uploads.iter().map(|upload| (upload.id, upload.state, upload.bytes)).collect();
    let id = uploads[0].id;
    assert_eq!(states, [(id, State::Running, 10_000_000), (id, State::Partial, 10_000_000)]);
    assert_eq!(uploads[1].notes, [Note::PlaceLost]);
}

#[test]
fn of_too_many_requests_without_an_answer_each_ends_where_it_ends_however_it_is_cut() {
    let client = b"PUT /n HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".repeat(300);
    let ends = |pieces: &[Piece]| {
        let (uploads, _, counters) = play(pieces, &[], [].into_iter());
        assert!(counters.http_pending_dropped > 0);
        uploads.iter().map(|upload| upload.client_bytes).collect::<Vec<_>>()
    };
    assert_eq!(ends(&whole(&client)), ends(&cut(&client, &[13; 950])));
}

#[test]
fn an_upload_inside_a_tunnel_goes_to_the_host_of_the_connect() {
    let (client, server) = connect();
    let (uploads, flow, _) = play(&whole(&client), &whole(&server), [].into_iter());
    let want = ("PUT", "/in", 6, Some(201), State::Complete, Protocol::Http, Some("inner.example"));
    assert_eq!(told(&uploads), [want]);
    assert_eq!(uploads[0].proxied_to.as_deref(), Some("inner.example"));
    assert_eq!((flow.protocol, flow.encrypted), (Protocol::Http, false));
    let (client, server) = connect_http2();
    let (uploads, flow, _) = play(&whole(&client), &whole(&server), [].into_iter());
    let want = ("PUT", "/in", 7, Some(201), State::Complete, Protocol::Http, Some("inner.example"));
    assert_eq!(told(&uploads), [want]);
    assert_eq!(flow.protocol, Protocol::Http2);
}

#[test]
fn a_request_behind_a_refused_connect_is_in_no_tunnel() {
    let client =
        b"CONNECT other.example:25 HTTP/1.1\r\n\r\nPUT /x HTTP/1.1\r\nHost: here.example\r\nContent-Length: 1\r\n\r\nx";
    let server = b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n";
    let (uploads, ..) = play(&whole(client), &whole(server), [].into_iter());
    assert_eq!(uploads[0].domain.as_deref(), Some("here.example"));
}

#[test]
fn tls_inside_a_tunnel_is_not_read() {
    let client =
        [b"CONNECT a.example:443 HTTP/1.1\r\n\r\n".as_slice(), b"\x16\x03\x01\x02\x00\x01POST / HTTP/1.1\r\n"].concat();
    let (uploads, flow, _) = play(&whole(&client), &whole(b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03\0\0"), [].into_iter());
    assert!(uploads.is_empty());
    assert_eq!((flow.protocol, flow.encrypted), (Protocol::Http, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_segmentation_and_interleaving_gives_the_same_uploads(
        which in 0usize..5,
        client_cuts in prop::collection::vec(prop_oneof![1usize..12, 1usize..2000], 0..60),
        server_cuts in prop::collection::vec(prop_oneof![1usize..12, 1usize..200], 0..60),
        order in prop::collection::vec(any::<bool>(), 0..120)
    ) {
        let (client, server) = [upgrade, websocket, connect, connect_http2, streams][which]();
        let (want, flow, _) = play(&whole(&client), &whole(&server), [].into_iter());
        let (got, other, _) = play(&cut(&client, &client_cuts), &cut(&server, &server_cuts), order.into_iter());
        prop_assert!(!want.is_empty());
        prop_assert_eq!(essence(&got), essence(&want));
        prop_assert_eq!(format!("{other:?}"), format!("{flow:?}"));
    }

    #[test]
    fn nothing_panics_whatever_is_changed_or_lost(
        which in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        holes in prop::collection::vec((1usize..300, 0u64..400), 0..12),
        order in prop::collection::vec(any::<bool>(), 0..40)
    ) {
        let (mut client, mut server) = [upgrade, websocket, connect, connect_http2, streams][which]();
        for (n, (place, byte)) in changes.iter().enumerate() {
            let wire = if n % 2 == 0 { &mut client } else { &mut server };
            let place = place.index(wire.len());
            wire[place] = *byte;
        }
        let pieces = |wire: &[u8]| {
            let mut pieces = Vec::new();
            let mut rest = wire;
            for (bytes, hole) in &holes {
                let (piece, tail) = rest.split_at((*bytes).min(rest.len()));
                if !piece.is_empty() {
                    pieces.push(Piece::Bytes(piece.to_vec()));
                }
                let lost = (*hole as usize).min(tail.len());
                if lost > 0 {
                    pieces.push(Piece::Hole(lost as u64));
                }
                rest = &tail[lost..];
            }
            if !rest.is_empty() {
                pieces.push(Piece::Bytes(rest.to_vec()));
            }
            pieces
        };
        let (uploads, ..) = play(&pieces(&client), &pieces(&server), order.into_iter());
        for upload in &uploads {
            prop_assert!(upload.missing <= upload.bytes);
            prop_assert!(upload.bytes <= client.len() as u64);
        }
    }

    #[test]
    fn lost_bytes_are_never_invented(
        holes in prop::collection::vec((1usize..300, 0u64..60), 0..8)
    ) {
        let (client, server) = streams();
        let (whole_uploads, ..) = play(&whole(&client), &whole(&server), [].into_iter());
        let mut pieces = Vec::new();
        let mut rest = &client[..];
        for (bytes, hole) in &holes {
            let (piece, tail) = rest.split_at((*bytes).min(rest.len()));
            if !piece.is_empty() { pieces.push(Piece::Bytes(piece.to_vec())); }
            let lost = (*hole as usize).min(tail.len());
            if lost > 0 { pieces.push(Piece::Hole(lost as u64)); }
            rest = &tail[lost..];
        }
        if !rest.is_empty() { pieces.push(Piece::Bytes(rest.to_vec())); }
        let (uploads, ..) = play(&pieces, &whole(&server), [].into_iter());
        for upload in &uploads {
            let url = &upload.http.as_ref().unwrap().url;
            let want = whole_uploads.iter().find(|u| u.http.as_ref().unwrap().url == *url);
            prop_assert!(want.is_some_and(|want| upload.bytes <= want.bytes), "{url}");
        }
    }
}
