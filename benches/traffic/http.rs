//! HTTP/1.1 as browsers, scripts and backup programs speak it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::conversation::{CLIENT, Piece, SERVER, Step, length};
use super::random::Random;
use super::totals::Totals;

/// The size of a chunk of a body whose length is not known in advance, in bytes.
const CHUNK: u64 = 16_384;

/// What leading bytes, media types and extensions uploads have.
const KINDS: [(&[u8], &str, &str); 5] = [
    (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "application/zip", "zip"),
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf", "pdf"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01", "image/jpeg", "jpg"),
    (b"7z\xbc\xaf\x27\x1c\x00\x04", "application/x-7z-compressed", "7z"),
    (b"SQLite format 3\x00\x10\x00", "application/octet-stream", "db"),
];

/// How a request's body is framed.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Multipart,
    Chunked,
}

/// A connection over which requests upload `sizes` bytes each, one after the other.
pub fn upload(
    ends: [SocketAddr; 2],
    host: &str,
    sizes: &[u64],
    random: &mut Random,
    totals: &mut Totals,
) -> VecDeque<Step> {
    let mut steps = VecDeque::from([Step::Open { connection: 0, ends }]);
    for &size in sizes {
        let framing = match random.below(10) {
            0 => Framing::Chunked,
            1 | 2 => Framing::Multipart,
            _ => Framing::Length,
        };
        let (request, bytes) = request(framing, host, size, random);
        totals.http_uploads.add(bytes);
        let said = format!("{{\"id\":\"{:016x}\",\"ok\":true}}", random.any());
        let answer = format!(
            "HTTP/1.1 201 Created\r\nServer: nginx\r\nDate: Mon, 05 Jan 2026 09:00:00 GMT\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: keep-alive\r\n\r\n{said}",
            said.len()
        );
        steps.push_back(Step::Send { connection: 0, side: CLIENT, pieces: request });
        steps.push_back(Step::Send { connection: 0, side: SERVER, pieces: [Piece::Text(answer.into_bytes())].into() });
    }
    steps.push_back(Step::Close { connection: 0, side: CLIENT });
    steps
}

/// A request with a body of about `size` bytes, and how many entity bytes that has exactly.
fn request(framing: Framing, host: &str, size: u64, random: &mut Random) -> (VecDeque<Piece>, u64) {
    let (magic, media, extension) = KINDS[random.below(KINDS.len() as u64) as usize];
    let name = format!("report-{:06}.{extension}", random.below(1_000_000));
    let file = [
        Piece::Text(magic.to_vec()),
        Piece::Noise { length: size.saturating_sub(magic.len() as u64).max(1), from: random.any() },
    ];
    let mut pieces = VecDeque::new();
    let head = |method: &str, path: &str, fields: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) \
             AppleWebKit/537.36\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n{fields}\r\n"
        )
    };
    let bytes;
    match framing {
        Framing::Length => {
            bytes = length(&file);
            let fields = format!("Content-Type: {media}\r\nContent-Length: {bytes}\r\n");
            pieces.push_back(Piece::Text(head("PUT", &format!("/files/{name}"), &fields).into_bytes()));
            pieces.extend(file);
        }
        Framing::Multipart => {
            let boundary = format!("----WebKitFormBoundary{:016x}", random.any());
            let mut body = VecDeque::new();
            let text = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"folder\"\r\n\r\nshared\r\n--{boundary}\r\n\
                 Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {media}\r\n\r\n"
            );
            body.push_back(Piece::Text(text.into_bytes()));
            body.extend(file);
            body.push_back(Piece::Text(format!("\r\n--{boundary}--\r\n").into_bytes()));
            bytes = length(&body);
            let fields =
                format!("Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {bytes}\r\n");
            pieces.push_back(Piece::Text(head("POST", "/upload", &fields).into_bytes()));
            pieces.extend(body);
        }
        Framing::Chunked => {
            bytes = size.max(1);
            let fields = format!("Content-Type: {media}\r\nTransfer-Encoding: chunked\r\n");
            pieces.push_back(Piece::Text(head("PUT", &format!("/files/{name}"), &fields).into_bytes()));
            let mut left = bytes;
            while left > 0 {
                let part = left.min(CHUNK);
                left -= part;
                pieces.push_back(Piece::Text(format!("{part:x}\r\n").into_bytes()));
                pieces.push_back(Piece::Noise { length: part, from: random.any() });
                pieces.push_back(Piece::Text(b"\r\n".to_vec()));
            }
            pieces.push_back(Piece::Text(b"0\r\n\r\n".to_vec()));
        }
    }
    (pieces, bytes)
}

/// A connection over which pages and files of `sizes` bytes are fetched.
pub fn download(
    ends: [SocketAddr; 2],
    host: &str,
    sizes: &[u64],
    random: &mut Random,
    totals: &mut Totals,
) -> VecDeque<Step> {
    let mut steps = VecDeque::from([Step::Open { connection: 0, ends }]);
    for &size in sizes {
        let size = size.max(1);
        totals.downloads.add(size);
        let request = format!(
            "GET /assets/{:012x}.bin?v={} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; \
             x64) AppleWebKit/537.36\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nAccept-Language: en\r\n\
             Cookie: session={:032x}\r\nReferer: http://{host}/index.html\r\n\r\n",
            random.below(1 << 48),
            random.below(100),
            random.any(),
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 05 Jan 2026 09:00:00 GMT\r\nContent-Type: \
             application/octet-stream\r\nContent-Length: {size}\r\nLast-Modified: Sun, 04 Jan 2026 10:00:00 GMT\r\n\
             ETag: \"{:016x}\"\r\nAccept-Ranges: bytes\r\n\r\n",
            random.any()
        );
        let body = Piece::Noise { length: size, from: random.any() };
        steps.push_back(Step::Send { connection: 0, side: CLIENT, pieces: [Piece::Text(request.into_bytes())].into() });
        steps.push_back(Step::Send {
            connection: 0,
            side: SERVER,
            pieces: [Piece::Text(answer.into_bytes()), body].into(),
        });
    }
    steps.push_back(Step::Close { connection: 0, side: SERVER });
    steps
}
