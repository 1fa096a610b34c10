use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;
use crate::config;
use crate::net::ByteSize;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn meter(change: impl FnOnce(&mut config::Files)) -> Meter {
    let mut settings = config::Files::default();
    change(&mut settings);
    Meter::new(&settings, 1)
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// What a content told after these pieces.
fn told(mut content: Content, pieces: &[Piece<'_>], meter: &mut Meter) -> Facts {
    for piece in pieces {
        content.take(*piece, NOW, meter);
    }
    content.end(meter);
    content.facts(Ending::Whole)
}

fn whole(bytes: &[u8]) -> Facts {
    let mut meter = meter(|_| {});
    told(Content::plain(None, &meter), &[Piece::Bytes(bytes)], &mut meter)
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<Piece<'a>> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, tail) = rest.split_at((*cut).min(rest.len()));
        pieces.push(Piece::Bytes(piece));
        rest = tail;
    }
    pieces.push(Piece::Bytes(rest));
    pieces
}

fn archive_of(facts: &Facts) -> (&'static str, Option<bool>) {
    facts.archive.map(|a| (a.format, a.encrypted)).unwrap()
}

const SEVEN: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/archives/files-many.7z"));

#[test]
fn a_gap_or_a_missing_end_leaves_no_hash_but_the_type_stays() {
    let mut meter = meter(|_| {});
    let bytes = [&b"%PDF-1.7 "[..], &[b'x'; 600]].concat();
    let facts = told(Content::plain(None, &meter), &[Piece::Bytes(&bytes), Piece::Lost(1)], &mut meter);
    assert_eq!((facts.sha256, facts.detected), (Err(NotHashed::Gap), Some("application/pdf")));
    let mut content = Content::plain(None, &meter);
    content.take(Piece::Bytes(&bytes), NOW, &mut meter);
    for (ending, why) in [
        (Ending::CutShort, NotHashed::CutShort),
        (Ending::Running, NotHashed::Running),
        (Ending::MidStream, NotHashed::MidStream),
    ] {
        assert_eq!(content.facts(ending).sha256, Err(why));
    }
    assert_eq!(content.facts(Ending::Whole).sha256, Ok(sha256(&bytes)));
}

#[test]
fn the_limits_of_hashing_are_kept_and_named() {
    let bytes = [7; 100];
    let facts = |meter: &mut Meter, announced| told(Content::plain(announced, meter), &[Piece::Bytes(&bytes)], meter);
    assert_eq!(facts(&mut meter(|s| s.hash = false), None).sha256, Err(NotHashed::Off));
    assert_eq!(facts(&mut meter(|s| s.hash_limit = ByteSize(99)), None).sha256, Err(NotHashed::TooLarge));
    let mut announced = meter(|s| s.hash_limit = ByteSize(99));
    assert_eq!(facts(&mut announced, Some(100)).sha256, Err(NotHashed::TooLarge));
    assert_eq!(announced.counters.hashed_bytes, 0);
    assert_eq!(facts(&mut meter(|s| s.hash_limit = ByteSize(100)), None).sha256, Ok(sha256(&bytes)));
    let mut slow = meter(|s| s.hash_rate = ByteSize(150));
    assert!(facts(&mut slow, None).sha256.is_ok());
    assert_eq!(facts(&mut slow, None).sha256, Err(NotHashed::Rate));
    assert!(slow.may_hash(150, Timestamp(NOW.0 + 1_000_000_000)), "the next second has its own budget");
}

#[test]
fn an_archives_end_is_seen_wherever_the_segments_fall_and_not_through_a_gap() {
    assert_eq!(archive_of(&whole(SEVEN)), ("7z", Some(true)));
    assert_eq!(archive_of(&whole(&SEVEN[..SEVEN.len() - 1])), ("7z", None));
    let mut poor = meter(|s| s.memory = ByteSize(10));
    let facts = told(Content::plain(None, &poor), &[Piece::Bytes(SEVEN)], &mut poor);
    assert_eq!((archive_of(&facts), poor.counters.archive_memory), (("7z", None), 1));
    let mut meter = meter(|_| {});
    let cut = SEVEN.len() - 20;
    let holey = [Piece::Bytes(&SEVEN[..cut]), Piece::Lost(10), Piece::Bytes(&SEVEN[cut + 10..])];
    assert_eq!(archive_of(&told(Content::plain(None, &meter), &holey, &mut meter)), ("7z", None));
    assert!(meter.take(meter.settings.memory.0).is_some(), "the memory is given back");
}

fn encoded(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let level = Compression::default();
    match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zlib" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn decoded(encoding: &str, pieces: &[Piece<'_>], change: impl FnOnce(&mut config::Files)) -> Facts {
    let mut meter = meter(|s| {
        s.decode = true;
        change(s);
    });
    told(Content::encoded(encoding, None, &meter), pieces, &mut meter)
}

/// `brotli -q 5` of "%PDF-1.7 " and 20,000 times "a".
const BROTLI: &[u8] = &[
    0x1b, 0x28, 0x4e, 0x00, 0xc4, 0x29, 0x47, 0x9a, 0x84, 0xb5, 0x45, 0x81, 0x7c, 0xe7, 0x83, 0x3e, 0x0e, 0x0c, 0x84,
    0xec, 0x22, 0x00, 0xde, 0xac, 0xe2, 0xe2, 0x01,
];

#[test]
fn a_decoded_body_tells_its_size_and_its_own_type() {
    let bytes = [&b"%PDF-1.7 "[..], &[b'a'; 20_000]].concat();
    let wires =
        [("gzip", encoded("gzip", &bytes)), ("deflate", encoded("zlib", &bytes)), ("deflate", encoded("raw", &bytes))];
    for (encoding, wire) in wires.into_iter().chain([("br", BROTLI.to_vec())]) {
        let facts = decoded(encoding, &[Piece::Bytes(&wire)], |_| {});
        assert_eq!((facts.decoded, facts.detected), (Some(Ok(20_009)), Some("application/pdf")), "{encoding}");
        assert_eq!(facts.sha256, Ok(sha256(&wire)), "the hash is that of the wire");
        let cut = decoded(encoding, &[Piece::Bytes(&wire[..wire.len() / 2]), Piece::Lost(3)], |_| {});
        assert_eq!(cut.decoded, Some(Err(NotDecoded::Gap)), "{encoding}");
        let small = decoded(encoding, &[Piece::Bytes(&wire)], |s| s.decode_limit = ByteSize(20_008));
        assert_eq!(small.decoded, Some(Err(NotDecoded::TooLarge)), "{encoding}");
        let poor = decoded(encoding, &[Piece::Bytes(&wire)], |s| s.memory = ByteSize(60_000));
        assert_eq!(poor.decoded, Some(Err(NotDecoded::Memory)), "{encoding}");
        let off = decoded(encoding, &[Piece::Bytes(&wire)], |s| s.decode = false);
        assert_eq!((off.decoded, off.detected), (None, None), "{encoding}");
    }
    assert_eq!(decoded("gzip, br", &[Piece::Bytes(b"x")], |_| {}).decoded, Some(Err(NotDecoded::Encoding)));
    assert_eq!(decoded("gzip", &[Piece::Bytes(b"no gzip at all")], |_| {}).decoded, Some(Err(NotDecoded::Broken)));
}

#[test]
fn a_bomb_is_given_up_at_the_limit() {
    let wire = encoded("gzip", &vec![0; 8 << 20]);
    let facts = decoded("gzip", &[Piece::Bytes(&wire)], |s| s.decode_limit = ByteSize(1 << 20));
    assert_eq!(facts.decoded, Some(Err(NotDecoded::TooLarge)));
}

proptest! {
    #[test]
    fn any_segmentation_tells_what_the_whole_tells(
        start in prop::sample::select(vec![&b""[..], b"PK\x03\x04", b"%PDF-1.4", SEVEN]),
        tail in prop::collection::vec(any::<u8>(), 0..1500),
        cuts in prop::collection::vec(0usize..200, 0..40)
    ) {
        let bytes = [start, &tail].concat();
        let mut meter = meter(|_| {});
        let facts = told(Content::plain(None, &meter), &pieces(&bytes, &cuts), &mut meter);
        prop_assert_eq!(facts.sha256.clone(), Ok(sha256(&bytes)));
        prop_assert_eq!(facts, whole(&bytes));
    }

    #[test]
    fn any_segmentation_of_an_encoded_body_decodes_alike(
        encoding in prop::sample::select(vec![("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "raw")]),
        bytes in prop::collection::vec(0u8..4, 0..4000),
        cuts in prop::collection::vec(0usize..40, 0..60)
    ) {
        let wire = encoded(encoding.1, &bytes);
        let facts = decoded(encoding.0, &pieces(&wire, &cuts), |_| {});
        prop_assert_eq!(facts.decoded, Some(Ok(bytes.len() as u64)));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(
        coding in prop::sample::select(vec!["gzip", "deflate", "br"]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(0usize..40, 0..20)
    ) {
        decoded(coding, &pieces(&bytes, &cuts), |_| {});
    }
}

// -- through the readers -----------------------------------------------------------------------------

/// The upload that a client's stream makes, cut into segments in any way, with a gap if one is given.
fn upload(wire: &[u8], cuts: &[usize], settings: &config::Files) -> crate::record::Upload {
    use crate::flow::{Application, Both, Data, Link, Moment, Side, Totals};
    use crate::net::Endpoint;
    use crate::packet::Layers;
    use crate::protocol::{Fact, Parsers};

    let [low, high] = ["10.0.0.5:40000", "192.0.2.9:80"].map(|end| {
        let address: std::net::SocketAddr = end.parse().unwrap();
        Endpoint::from(address)
    });
    let mut link = Link {
        ends: Both::new(low, high),
        client: Side::Low,
        client_known: true,
        mid_stream: false,
        conflict: false,
        deaf: false,
        start: NOW,
        first_index: 0,
        layers: Layers::default(),
        slot: 0,
    };
    let now = Moment { clock: NOW, by_packet: true, index: 0 };
    let mut parsers = Parsers::new(&config::Protocol::default(), settings, 1);
    let mut stream = parsers.open(&mut link, Side::Low, now);
    let mut offset = 0;
    for piece in pieces(wire, cuts) {
        let Piece::Bytes(bytes) = piece else { continue };
        if !bytes.is_empty() {
            parsers.data(&mut stream, &mut link, Data { side: Side::Low, offset, ts: NOW, bytes }, now);
        }
        offset += bytes.len() as u64;
    }
    let bytes = Both::new(offset, 0);
    let totals = Totals {
        bytes,
        missing: Both::default(),
        packets: Both::default(),
        last_data: Both::new(NOW, NOW),
        end: NOW,
        ending: crate::record::Ending::Finished,
    };
    parsers.close(stream, &link, &totals, now);
    let uploads = parsers.take_facts().filter_map(|(_, fact)| match fact {
        Fact::Upload(upload) => Some(*upload),
        _ => None,
    });
    let mut uploads: Vec<_> = uploads.collect();
    assert_eq!(uploads.len(), 1);
    assert_eq!(parsers.counters().files.hashed, 1);
    uploads.remove(0)
}

proptest! {
    #[test]
    fn any_segmentation_of_a_request_gives_the_hash_of_its_content(
        content in prop::collection::vec(prop::sample::select(b"\r\n-Bab\0".to_vec()), 1..300),
        form in 0..4,
        chunk in 1usize..60,
        cuts in prop::collection::vec(0usize..40, 0..60)
    ) {
        prop_assume!(!content.windows(4).any(|window| window == b"\n--B"));
        prop_assume!(!content.starts_with(b"--B"));
        let body = match form {
            2 => content.chunks(chunk).fold(Vec::new(), |wire, piece| {
                [&wire[..], format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
            }),
            3 => {
                let head = b"--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n\"\r\n\r\n";
                [&head[..], &content, b"\r\n--B--\r\n"].concat()
            }
            _ => content.clone(),
        };
        let length = body.len();
        let (fields, body) = match form {
            0 => (format!("Content-Length: {length}"), body),
            1 => (format!("Content-Disposition: attachment; filename=n\r\nContent-Length: {length}"), body),
            2 => ("Transfer-Encoding: chunked".to_owned(), [&body[..], b"0\r\n\r\n"].concat()),
            _ => (format!("Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {length}"), body),
        };
        let wire = [format!("PUT /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n").as_bytes(), &body].concat();
        let upload = upload(&wire, &cuts, &config::Files::default());
        let file = upload.files.first().and_then(|file| file.sha256.clone());
        prop_assert_eq!((file.is_some(), upload.body.sha256.is_some()), (form % 2 == 1, form % 2 == 0));
        prop_assert_eq!(file.or(upload.body.sha256), Some(sha256(&content)));
    }
}
