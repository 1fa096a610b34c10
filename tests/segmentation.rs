//! However a stream's bytes are cut, ordered (within the bound), repeated and overlapped: the upload is the same.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod segments;

use outfall::config::Config;
use outfall::net::Timestamp;
use outfall::record::{Body, EventId, FileInfo, NotHashed, Upload};
use proptest::prelude::*;
use segments::{ACK, FIN, Pair, Piece, reading};

/// What is said, in the order of the wire: on which connection, by whom, what.
#[derive(Clone, Debug)]
enum Turn {
    Open(usize),
    Client(usize, Vec<u8>),
    Server(usize, Vec<u8>),
    Close(usize),
}

/// How a script becomes segments.
#[derive(Clone, Debug)]
struct Cutting {
    /// Lengths of segments, used in turn.
    lengths: Vec<usize>,
    /// By how much a segment reaches back into the one before it, used in turn.
    overlaps: Vec<usize>,
    /// After how many places a segment comes again, used in turn; none at zero.
    repeats: Vec<usize>,
    /// By how many places a segment is late, used in turn.
    delays: Vec<usize>,
}

/// By how many places a packet may be displaced.
const DISPLACEMENT: usize = 50;

fn cutting() -> impl Strategy<Value = Cutting> {
    let list = |range: std::ops::Range<usize>| prop::collection::vec(range, 1..40);
    let lengths = prop_oneof![list(1..4), list(1..40), list(1..2000)];
    (lengths, list(0..30), list(0..DISPLACEMENT), list(0..DISPLACEMENT + 1))
        .prop_map(|(lengths, overlaps, repeats, delays)| Cutting { lengths, overlaps, repeats, delays })
}

/// The segments of a script, one for each turn, in order.
fn plain(pairs: &[Pair], script: &[Turn]) -> Vec<Piece> {
    segments_of(pairs, script, |bytes| vec![(0, bytes.len())])
}

/// The segments of a script, cut and displaced.
fn cut(pairs: &[Pair], script: &[Turn], cutting: &Cutting) -> Vec<Piece> {
    let (mut lengths, mut overlaps) = (cutting.lengths.iter().cycle(), cutting.overlaps.iter().cycle());
    let pieces = segments_of(pairs, script, |bytes| {
        let (mut ranges, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let end = (at + lengths.next().unwrap()).min(bytes.len());
            ranges.push((at.saturating_sub(*overlaps.next().unwrap()), end));
            at = end;
        }
        ranges
    });
    let (mut repeats, mut delays) = (cutting.repeats.iter().cycle(), cutting.delays.iter().cycle());
    let mut placed: Vec<(usize, usize, Piece)> = Vec::new();
    for (n, piece) in pieces.into_iter().enumerate() {
        let (delay, repeat) = (*delays.next().unwrap(), *repeats.next().unwrap());
        // Every other repeat counts; places count twice as many as there are packets then.
        if repeat % 2 == 1 {
            placed.push((2 * n + (delay + repeat).min(DISPLACEMENT), placed.len(), piece.clone()));
        }
        placed.push((2 * n + delay, placed.len(), piece));
    }
    placed.sort_by_key(|(place, order, _)| (*place, *order));
    placed.into_iter().map(|(.., piece)| piece).collect()
}

fn segments_of(pairs: &[Pair], script: &[Turn], mut cut: impl FnMut(&[u8]) -> Vec<(usize, usize)>) -> Vec<Piece> {
    let mut said = vec![(0i64, 0i64); pairs.len()];
    let mut pieces = Vec::new();
    for turn in script {
        match turn {
            Turn::Open(n) => pieces.extend(pairs[*n].handshake()),
            Turn::Client(n, bytes) => {
                let (client, server) = &mut said[*n];
                for (from, to) in cut(bytes) {
                    pieces.push(pairs[*n].client(*client + from as i64, *server, ACK, &bytes[from..to]));
                }
                *client += bytes.len() as i64;
                pieces.push(pairs[*n].server(*server, *client, ACK, []));
            }
            Turn::Server(n, bytes) => {
                let (client, server) = &mut said[*n];
                for (from, to) in cut(bytes) {
                    pieces.push(pairs[*n].server(*server + from as i64, *client, ACK, &bytes[from..to]));
                }
                *server += bytes.len() as i64;
                pieces.push(pairs[*n].client(*client, *server, ACK, []));
            }
            Turn::Close(n) => {
                let (client, server) = said[*n];
                pieces.push(pairs[*n].client(client, server, FIN | ACK, []));
                pieces.push(pairs[*n].server(server, client + 1, FIN | ACK, []));
                pieces.push(pairs[*n].client(client + 1, server + 1, ACK, []));
            }
        }
    }
    pieces
}

/// The uploads, without what the order of packets decides: times, and with them identifiers.
fn uploads(pieces: &[Piece]) -> Vec<String> {
    let mut tap = reading(&Config::default());
    tap.push_all(pieces);
    let (uploads, _) = tap.facts();
    let mut shown: Vec<String> = uploads.into_iter().map(timeless).collect();
    shown.sort();
    shown
}

fn timeless(mut upload: Upload) -> String {
    let never = Timestamp(0);
    upload.id = EventId::new("", upload.connection, never, 0);
    (upload.opened, upload.start, upload.end) = (never, never, never);
    if let Some(ftp) = &mut upload.ftp {
        ftp.control_opened = never;
        // Data that came before its announcement is not hashed, and says so; every other field stands.
        upload.files.iter_mut().for_each(|file| *file = bare(file));
        upload.body = Body::default();
    }
    format!("{upload:?}")
}

fn bare(file: &FileInfo) -> FileInfo {
    assert!(matches!(file.not_hashed, None | Some(NotHashed::BoundLate)) || file.sha256.is_none());
    FileInfo {
        sha256: None,
        not_hashed: None,
        detected_type: None,
        type_mismatch: false,
        archive: None,
        ..file.clone()
    }
}

#[track_caller]
fn same(pairs: &[Pair], script: &[Turn], cutting: &Cutting, count: usize) -> Result<(), TestCaseError> {
    let wanted = uploads(&plain(pairs, script));
    prop_assert_eq!(wanted.len(), count);
    prop_assert_eq!(uploads(&cut(pairs, script, cutting)), wanted);
    Ok(())
}

fn web() -> Vec<Pair> {
    vec![Pair::new("10.0.0.5:40000", "192.0.2.9:8080").again(0xffff_fff0, 7)]
}

fn dialogue(requests: &[Vec<u8>]) -> Vec<Turn> {
    let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
    let mut script = vec![Turn::Open(0)];
    for request in requests {
        script.push(Turn::Client(0, request.clone()));
        script.push(Turn::Server(0, answer.to_vec()));
    }
    script.push(Turn::Close(0));
    script
}

fn head(fields: &str) -> Vec<u8> {
    format!("POST /in HTTP/1.1\r\nHost: files.example\r\n{fields}\r\n").into_bytes()
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    // Bytes that look like framing, so that a cut within it matters.
    prop::collection::vec(prop::sample::select(b"\r\n-Z0aPOST /".to_vec()), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn posts_with_a_length(bodies in prop::collection::vec(body(), 1..4), cutting in cutting()) {
        let requests: Vec<Vec<u8>> = bodies
            .iter()
            .map(|body| [head(&format!("Content-Length: {}\r\n", body.len())), body.clone()].concat())
            .collect();
        same(&web(), &dialogue(&requests), &cutting, bodies.len())?;
    }

    #[test]
    fn posts_in_chunks(chunks in prop::collection::vec(body(), 1..6), cutting in cutting()) {
        let mut request = head("Transfer-Encoding: chunked\r\n");
        for chunk in &chunks {
            request.extend(format!("{:x};name=\"value\"\r\n", chunk.len()).bytes());
            request.extend_from_slice(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\nTrailer: x\r\n\r\n");
        let next = [head("Content-Length: 3\r\n"), b"end".to_vec()].concat();
        same(&web(), &dialogue(&[request, next]), &cutting, 2)?;
    }

    #[test]
    fn posts_of_several_files(contents in prop::collection::vec(body(), 1..4), cutting in cutting()) {
        let mut entity = Vec::new();
        for (n, content) in contents.iter().enumerate() {
            entity.extend(format!(
                "--ZZZZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{n}.bin\"\r\n\r\n"
            ).bytes());
            entity.extend_from_slice(content);
            entity.extend(b"\r\n");
        }
        entity.extend(b"--ZZZZ--\r\n");
        let fields = format!(
            "Content-Type: multipart/form-data; boundary=ZZZZ\r\nContent-Length: {}\r\n", entity.len()
        );
        same(&web(), &dialogue(&[[head(&fields), entity].concat()]), &cutting, 1)?;
    }

    #[test]
    fn a_refused_expectation_and_the_request_sent_again(tail in body(), cutting in cutting()) {
        // Of a body that is shorter than a request line nobody can tell which of the two its bytes are.
        let content = [vec![b'x'; 20], tail].concat();
        let length = format!("Content-Length: {}\r\n", content.len());
        let script = [
            Turn::Open(0),
            Turn::Client(0, head(&format!("{length}Expect: 100-continue\r\n"))),
            Turn::Server(0, b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n".to_vec()),
            Turn::Client(0, [head(&length), content].concat()),
            Turn::Server(0, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
            Turn::Close(0),
        ];
        same(&web(), &script, &cutting, 1)?;
    }

    #[test]
    fn ftp_passive_and_active(content in body(), active in any::<bool>(), cutting in cutting()) {
        let control = Pair::new("10.0.0.5:40001", "192.0.2.9:21");
        let data = if active {
            // The server opens.
            Pair::new("192.0.2.9:20", "10.0.0.5:1025")
        } else {
            Pair::new("10.0.0.5:40002", "192.0.2.9:51210")
        };
        let client = |text: &str| Turn::Client(0, text.as_bytes().to_vec());
        let server = |text: &str| Turn::Server(0, text.as_bytes().to_vec());
        let sent = if active { Turn::Server(1, content) } else { Turn::Client(1, content) };
        let script = [
            Turn::Open(0),
            server("220-welcome\r\n to FTP\r\n220 ready\r\n"),
            client("USER alice\r\n"),
            server("331 go on\r\n"),
            client("PASS secret\r\n"),
            server("230 in\r\n"),
            client("CWD /drop\r\n"),
            server("250 there\r\n"),
            client(if active { "PORT 10,0,0,5,4,1\r\n" } else { "PASV\r\n" }),
            server(if active { "200 ok\r\n" } else { "227 Entering Passive Mode (192,0,2,9,200,10)\r\n" }),
            client("STOR a.bin\r\n"),
            server("150 ok\r\n"),
            Turn::Open(1),
            sent,
            Turn::Close(1),
            server("226 done\r\n"),
            client("QUIT\r\n"),
            server("221 bye\r\n"),
            Turn::Close(0),
        ];
        same(&[control, data], &script, &cutting, 1)?;
    }
}
