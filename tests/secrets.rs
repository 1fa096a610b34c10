//! Secrets in a capture and in the events of its hosts never reach what the program prints.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::net::SocketAddrV4;

use common::outfall;
use common::pcap::Capture;

/// Every secret of the capture holds it, and nothing else does.
const SECRET: &str = "hunter2";

fn end(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// Requests with secrets wherever HTTP has a place for them.
fn http(capture: &mut Capture) {
    let targets = [
        "ftp://user:hunter2@files.example/a",
        "http://user:hun/hunter2@files.example/a",
        "ftp://user:hun?hunter2@files.example/a",
        "ftp://user:hun#hunter2@files.example/a",
        "ftp://user:99/hunter2@files.example/a",
        "ftp://user:p@hunter2/x@files.example/a",
        "/fetch?from=ftp://user:hunter2@files.example/a",
        "/plain",
    ];
    for (n, target) in targets.iter().enumerate() {
        let client = SocketAddrV4::new([10, 0, 0, 5].into(), 40_000 + n as u16);
        let form = "--Z\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nhunter2\r\n\
                    --Z\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\nplain hunter2\r\n--Z--\r\n";
        let host = if n % 2 == 0 { "user:hunter2@files.example" } else { "files.example" };
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tool (ftp://user:hunter2@files.example/)\r\n\
             Referer: http://user:hunter2@files.example/\r\nAuthorization: Basic hunter2\r\n\
             Proxy-Authorization: Bearer hunter2\r\nCookie: session=hunter2\r\nX-Api-Key: hunter2\r\n\
             Content-Type: multipart/form-data; boundary=Z\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        capture
            .connect(client, end("203.0.113.9:8080"))
            .client(request)
            .server(
                "HTTP/1.1 302 Found\r\nLocation: http://user:hunter2@files.example/\r\nSet-Cookie: session=hunter2\r\n\
                 Content-Length: 0\r\n\r\n",
            )
            .close();
    }
    // What is not read as it should be: broken heads and a body that is no form.
    for (n, request) in [
        "POST / HTTP/1.1\r\nAuthorization hunter2\r\n\r\n",
        "PUT /a HTTP/1.1\r\nAuthorization: Basic hunter2\r\nContent-Length: x\r\n\r\nhunter2",
        "PUT /a HTTP/1.1\r\nCookie: a=1\r\n hunter2\r\nContent-Length: 7\r\n\r\nhunter2",
        "CONNECT user:hunter2@files.example:443 HTTP/1.1\r\nProxy-Authorization: Basic hunter2\r\n\r\n",
    ]
    .iter()
    .enumerate()
    {
        let client = SocketAddrV4::new([10, 0, 0, 5].into(), 41_000 + n as u16);
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        capture.connect(client, end("203.0.113.9:80")).client(request).server(answer).close();
    }
}

/// A dialogue with its passwords, on a port where data connections are looked for.
fn ftp(capture: &mut Capture) {
    let (control, data) = (end("10.0.0.5:42000"), end("10.0.0.5:42001"));
    capture
        .connect(control, end("203.0.113.9:21"))
        .server("220 ready\r\n")
        .client("USER user\r\n")
        .server("331 go on\r\n")
        .client("PASS hunter2\r\n")
        .server("332 hunter2?\r\n")
        .client("acct hunter2\r\n")
        .server("230 in\r\n")
        .client("hunter2\r\n")
        .server("500 hunter2 not understood\r\n")
        .client("PASV\r\n")
        .server("227 Entering Passive Mode (203,0,113,9,200,10)\r\n")
        .client("STOR a.txt\r\n")
        .server("150 go\r\n");
    capture.connect(data, end("203.0.113.9:51210")).client("plain").close();
}

#[test]
fn no_secret_is_printed_whatever_is_asked_for() {
    let mut capture = Capture::default();
    http(&mut capture);
    ftp(&mut capture);
    let folder = tempfile::tempdir().unwrap();
    let (pcap, events) = (folder.path().join("a.pcap"), folder.path().join("events.jsonl"));
    std::fs::write(&pcap, capture.file()).unwrap();
    let process = |n: u32, command_line: &str| {
        format!(
            "{{\"type\":\"process_start\",\"source\":\"etw\",\"ts\":1699999999000000000,\"pid\":{n},\
             \"start\":1699999999000000000,\"ppid\":4,\"image\":\"C:\\\\x\\\\curl.exe\",\"command_line\":\"{command_line}\",\
             \"user\":\"CORP\\\\user\"}}\n{{\"type\":\"connection\",\"source\":\"etw\",\"ts\":1700000000000000000,\
             \"pid\":{n},\"start\":1699999999000000000,\"protocol\":\"tcp\",\"local\":\"10.0.0.5:{n}\",\
             \"remote\":\"203.0.113.9:8080\",\"initiated\":true}}\n"
        )
    };
    let events_text = [
        "{\"type\":\"hello\",\"source\":\"etw\",\"ts\":1699999990000000000,\"v\":1,\"host\":{\"id\":\"h\",\
         \"name\":\"PC\",\"ips\":[\"10.0.0.5\"]}}\n"
            .to_owned(),
        process(40_000, "curl -T a ftp://user:hunter2@files.example/"),
        process(40_001, "curl -T a ftp://user:hun/hunter2@files.example/"),
        process(40_002, "curl -T a 'ftp://user:hun?hunter2@files.example/' http://v:hun#hunter2@x"),
        "{\"type\":\"process_start\",\"command_line\":\"ftp://user:hunter2@files.example/\"\n".to_owned(),
        "{\"type\":\"process_start\",\"ts\":\"hunter2\",\"command_line\":\"ftp://user:hunter2@x/\"}\n".to_owned(),
    ];
    std::fs::write(&events, events_text.concat()).unwrap();
    let paths = [pcap.to_str().unwrap(), "--endpoint", events.to_str().unwrap()];
    for options in [&["--json", "--flows"][..], &["--flows"], &[]] {
        let ran = outfall([&["replay"], options, &paths].concat()).exits(0);
        let (printed, said) = (ran.text().to_owned(), ran.stderr.clone());
        assert!(printed.contains("a.txt"), "{printed}");
        for text in [&printed, &said] {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(SECRET)).collect();
            assert!(lines.is_empty(), "{options:?}: {lines:#?}");
        }
    }
    let json = outfall([&["replay", "--json"][..], &paths].concat()).exits(0).text().to_owned();
    assert_eq!(json.lines().filter(|line| line.contains("outfall.upload")).count(), 10, "{json}");
    assert!(json.contains("ftp://user:***@files.example/a"), "{json}");
}
