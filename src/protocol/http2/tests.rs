use crate::protocol::rig::*;
use crate::record::{NotHashed, Note, Protocol, State};
use sha2::{Digest, Sha256};

#[test]
fn the_data_of_each_stream_is_its_upload() {
    let mut client = Sender::client();
    client.put(1, "/a").put(3, "/b");
    client.frame(DATA, 0, 1, b"12345").frame(DATA, PADDED, 3, b"\x03abc\0\0\0").frame(DATA, END_STREAM, 1, b"67");
    client.headers(5, END_STREAM, &[(":method", "GET"), (":path", "/"), (":scheme", "http")]);
    client.frame(DATA, END_STREAM | PADDED, 3, b"\x02d\0\0");
    let mut server = Sender::server();
    server.headers(3, 0, &[(":status", "100")]).status(5, "200").status(1, "201").status(3, "403");
    let (uploads, flow, _) = play(&whole(&client.wire), &whole(&server.wire), [].into_iter());
    assert_eq!(flow.protocol, Protocol::Http2);
    let told: Vec<_> = uploads
        .iter()
        .map(|upload| {
            let http = upload.http.as_ref().unwrap();
            (http.url.as_str(), upload.bytes, http.status, upload.state, http.version.as_str(), upload.protocol)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/a", 7, Some(201), State::Complete, "2", Protocol::Http),
            ("/b", 4, Some(403), State::Complete, "2", Protocol::Http),
        ]
    );
    assert_eq!(uploads[0].domain.as_deref(), Some("drop.example"));
    assert_eq!(uploads[0].http.as_ref().unwrap().user_agent.as_deref(), Some("tool/1"));
}

#[test]
fn a_header_block_may_be_padded_prioritised_and_continued() {
    let mut client = Sender::client();
    let block = client.block(&[(":method", "POST"), (":path", "/x"), (":authority", "h.example")]);
    let (first, rest) = block.split_at(3);
    let head = [&[2, 0, 0, 0, 0, 16], first, &[0, 0]].concat();
    client.frame(HEADERS, PADDED | PRIORITY, 1, &head).frame(CONTINUATION, 0, 1, &rest[..1]);
    client.frame(CONTINUATION, END_HEADERS, 1, &rest[1..]).frame(DATA, 0, 1, b"abc");
    client.headers(1, END_STREAM, &[("checksum", "1")]);
    let (uploads, _, counters) = play(&whole(&client.wire), &whole(&Sender::server().wire), [].into_iter());
    assert_eq!((uploads[0].bytes, uploads[0].state, counters.http2_unparsed), (3, State::Complete, 0));
}

#[test]
fn a_multipart_body_shows_its_files() {
    let mut client = Sender::client();
    let fields = [(":method", "POST"), (":path", "/"), ("content-type", "multipart/form-data; boundary=Z")];
    client.headers(1, 0, &fields);
    client.frame(DATA, 0, 1, b"--Z\r\nContent-Disposition: form-data; name=\"f\"; file");
    client.frame(DATA, END_STREAM, 1, b"name=\"plan.pdf\"\r\n\r\n12345\r\n--Z--\r\n");
    let (uploads, ..) = play(&whole(&client.wire), &whole(&Sender::server().status(1, "200").wire), [].into_iter());
    assert_eq!(uploads[0].files.len(), 1);
    assert_eq!((uploads[0].files[0].name.as_deref(), uploads[0].files[0].size), (Some("plan.pdf"), Some(5)));
}

#[test]
fn a_stream_that_is_given_up_or_refused_is_partial() {
    let mut client = Sender::client();
    client.put(1, "/given-up").frame(DATA, 0, 1, b"123").frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    client.put(3, "/refused").frame(DATA, 0, 3, b"1234");
    let mut server = Sender::server();
    server.status(3, "413").frame(RST_STREAM, 0, 3, &[0; 4]);
    let (uploads, ..) = play(&whole(&client.wire), &whole(&server.wire), [].into_iter());
    assert_eq!(
        (uploads[0].bytes, uploads[0].state, uploads[0].notes.as_slice()),
        (3, State::Partial, &[Note::CutShort][..])
    );
    assert_eq!((uploads[1].bytes, uploads[1].state), (4, State::Partial));
    assert!(uploads[1].notes.contains(&Note::EarlyResponse));
}

#[test]
fn a_gap_within_data_is_passed_over() {
    let mut client = Sender::client();
    client.put(1, "/a").frame(DATA, END_STREAM, 1, &[7; 5000]);
    let at = client.wire.len();
    let pieces = [
        Piece::Bytes(client.wire[..at - 4000].to_vec()),
        Piece::Hole(3000),
        Piece::Bytes(client.wire[at - 1000..].to_vec()),
    ];
    let (uploads, _, counters) = play(&pieces, &whole(&Sender::server().status(1, "201").wire), [].into_iter());
    assert_eq!((uploads[0].bytes, uploads[0].missing, uploads[0].state), (5000, 3000, State::Partial));
    assert_eq!(counters.http2_lost, 0);
    // The end of the stream, too, may be in the gap: its frame told that it is the last one.
    let to_the_end = [pieces[0].clone(), Piece::Hole(4000)];
    let (uploads, ..) = play(&to_the_end, &[], [].into_iter());
    assert_eq!((uploads[0].bytes, uploads[0].missing, uploads[0].notes.as_slice()), (5000, 4000, &[Note::Gap][..]));
}

#[test]
fn a_gap_over_a_frame_head_leaves_what_is_certain() {
    let mut client = Sender::client();
    client.put(1, "/a").frame(DATA, 0, 1, &[7; 500]);
    let cut = client.wire.len() - 100;
    client.frame(DATA, END_STREAM, 1, &[8; 500]);
    let pieces =
        [Piece::Bytes(client.wire[..cut].to_vec()), Piece::Hole(150), Piece::Bytes(client.wire[cut + 150..].to_vec())];
    let (uploads, _, counters) = play(&pieces, &whole(&Sender::server().wire), [].into_iter());
    assert_eq!((uploads[0].bytes, uploads[0].missing, uploads[0].state), (500, 100, State::Partial));
    assert_eq!(counters.http2_lost, 1);
}

#[test]
fn a_lost_header_block_ends_new_requests_but_not_bodies_under_way() {
    let mut client = Sender::client();
    client.put(1, "/a").frame(DATA, 0, 1, b"123");
    let before = client.wire.len();
    client.put(3, "/lost").frame(DATA, END_STREAM, 3, b"xx").frame(DATA, END_STREAM, 1, b"45");
    let hole = [
        Piece::Bytes(client.wire[..before + 12].to_vec()),
        Piece::Hole(2),
        Piece::Bytes(client.wire[before + 14..].to_vec()),
    ];
    let (uploads, _, counters) = play(&hole, &whole(&Sender::server().wire), [].into_iter());
    assert_eq!((uploads.len(), uploads[0].bytes, uploads[0].state), (1, 5, State::Complete));
    assert_eq!(counters.http2_lost, 1);
}

#[test]
fn an_answer_that_is_no_http2_is_counted() {
    let mut client = Sender::client();
    client.put(1, "/a").frame(DATA, END_STREAM, 1, b"123");
    let (uploads, _, counters) = play(&whole(&client.wire), &whole(b"HTTP/1.1 400 Bad\r\n\r\n"), [].into_iter());
    assert_eq!((uploads[0].bytes, counters.http2_unparsed), (3, 1));
}

#[test]
fn a_gap_over_a_frame_head_is_told_on_the_uploads_that_were_open() {
    let mut client = Sender::client();
    client.put(1, "/a").put(3, "/b").frame(DATA, 0, 1, &[7; 500]).frame(DATA, END_STREAM, 3, b"whole");
    let cut = client.wire.len();
    client.frame(DATA, END_STREAM, 1, &[8; 500]);
    let pieces =
        [Piece::Bytes(client.wire[..cut].to_vec()), Piece::Hole(50), Piece::Bytes(client.wire[cut + 50..].to_vec())];
    let (uploads, _, counters) = play(&pieces, &whole(&Sender::server().wire), [].into_iter());
    let [open, ended] = &uploads[..] else { panic!("{uploads:?}") };
    assert_eq!((open.bytes, open.state, open.notes.as_slice()), (500, State::Partial, &[Note::PlaceLost][..]));
    assert_eq!((ended.bytes, ended.state, ended.notes.len()), (5, State::Complete, 0));
    assert_eq!(counters.http2_lost, 1);
}

#[test]
fn a_body_is_hashed_and_its_type_is_told_unless_bytes_of_it_are_lost() {
    let archive = [&b"PK\x03\x04\x14\0\0\0\x08\0"[..], &[7; 2000]].concat();
    let mut client = Sender::client();
    client.put(1, "/a.txt");
    for part in archive.chunks(700) {
        client.frame(DATA, PADDED, 1, &[&[3], part, &[0; 3]].concat());
    }
    client.frame(DATA, END_STREAM, 1, &[]);
    let (uploads, ..) = play(&whole(&client.wire), &whole(&Sender::server().status(1, "201").wire), [].into_iter());
    let body = &uploads[0].body;
    assert_eq!(body.sha256, Some(format!("{:x}", Sha256::digest(&archive))));
    assert_eq!((body.detected_type, body.type_mismatch), (Some("application/zip"), true));

    let at = client.wire.len() - 100;
    let pieces =
        [Piece::Bytes(client.wire[..at].to_vec()), Piece::Hole(10), Piece::Bytes(client.wire[at + 10..].to_vec())];
    let (uploads, ..) = play(&pieces, &whole(&Sender::server().status(1, "201").wire), [].into_iter());
    let body = &uploads[0].body;
    assert_eq!((&body.sha256, body.not_hashed), (&None, Some(NotHashed::Gap)));
    assert_eq!((uploads[0].bytes, uploads[0].missing), (2010, 10));
}
