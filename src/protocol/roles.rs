//! Tests of who is taken for the client.

use std::net::SocketAddr;

use super::*;
use crate::flow::Tracker;
use crate::net::Endpoint;
use crate::packet::{Flags, Layers, Segment};

/// What is said on one connection that the lower side opened, and the records of it.
fn records(said: &[(Side, &[u8])]) -> Vec<Fact> {
    let mut parsers = Parsers::new(&config::Protocol::default(), &config::Files::default(), 1);
    let end = |text: &str| Endpoint::from(text.parse::<SocketAddr>().unwrap());
    let mut link = Link {
        ends: Both::new(end("10.0.0.1:40000"), end("192.0.2.1:80")),
        client: Side::Low,
        client_known: true,
        mid_stream: false,
        conflict: false,
        deaf: false,
        start: Timestamp(1),
        first_index: 0,
        layers: Layers::default(),
        slot: 0,
    };
    let now = Moment::default();
    let mut stream = parsers.open(&mut link, Side::Low, now);
    let mut bytes: Both<u64> = Both::default();
    for (side, said) in said {
        let offset = *bytes.of(*side);
        *bytes.of_mut(*side) += said.len() as u64;
        parsers.data(&mut stream, &mut link, Data { side: *side, offset, ts: Timestamp(1), bytes: said }, now);
    }
    let ending = crate::record::Ending::Finished;
    let totals = Totals {
        bytes,
        missing: Both::default(),
        packets: Both::new(1, 1),
        last_data: Both::default(),
        end: Timestamp(1),
        ending,
    };
    parsers.close(stream, &link, &totals, now);
    parsers.take_facts().map(|(_, fact)| fact).collect()
}

#[test]
fn who_asks_is_the_client_whoever_opened_the_connection() {
    let request = b"PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
    let facts = records(&[(Side::High, request), (Side::Low, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]);
    let [Fact::Upload(upload), Fact::Flow(flow)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!(upload.connection.client.to_string(), "192.0.2.1:80");
    assert_eq!(upload.client_bytes, request.len() as u64);
    assert_eq!(flow.connection, upload.connection);
    assert_eq!(flow.client_bytes, request.len() as u64);
}

#[test]
fn first_bytes_that_come_one_by_one_are_read_like_any_others() {
    let request = b"PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
    let said: Vec<(Side, &[u8])> = request.chunks(1).map(|byte| (Side::Low, byte)).collect();
    let facts = records(&said);
    let [Fact::Upload(upload), Fact::Flow(_)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((upload.bytes, upload.client_bytes), (2, request.len() as u64));
}

#[test]
fn an_opening_that_comes_behind_what_was_read_changes_no_roles() {
    let config = config::Config::default();
    let flow = config::Flow { reorder_packets: 0, ..config.flow };
    let mut tracker = Tracker::new(&flow, 1, 0, Parsers::new(&config.protocol, &config.files, 1));
    let [low, high] = ["10.0.0.1:40000", "192.0.2.1:80"].map(|e| Endpoint::from(e.parse::<SocketAddr>().unwrap()));
    let request = b"PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
    for (index, source, destination, seq, flags, payload) in
        [(0, high, low, 1_000, 0x18, &request[..]), (1, low, high, 7_000, 0x02, b"")]
    {
        let (ts, clock) = (Timestamp(1), Timestamp(1));
        let (flags, layers) = (Flags(flags), Layers::default());
        tracker.push(&Segment { index, ts, clock, source, destination, seq, ack: 1, flags, payload, cut: 0, layers });
    }
    tracker.finish(Timestamp(1));
    let facts: Vec<Fact> = tracker.app().take_facts().map(|(_, fact)| fact).collect();
    let [Fact::Upload(upload), Fact::Flow(flow)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((upload.connection.client, flow.connection.client), (high, high));
    assert_eq!(upload.client_bytes, flow.client_bytes);
}
