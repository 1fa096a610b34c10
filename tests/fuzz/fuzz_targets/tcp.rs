//! TCP segments of up to 32 connections, through the flow table to the parsers.
//!
//! A segment is six bytes: flags (bit 6: cut by the snap length, bit 7: it repeats), direction and how its numbers are
//! told, a difference of two bytes, its length, and which connection and how much later.

#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use outfall::flow::Tracker;
use outfall::net::{Endpoint, Timestamp};
use outfall::packet::{Flags, Layers, Segment};
use outfall::protocol::Parsers;
use outfall_fuzz::watch::{Watch, pattern};
use outfall_fuzz::{Bytes, check, tight};

fuzz_target!(|input: &[u8]| {
    let mut input = Bytes(input);
    let mode = input.u8();
    let config = tight();
    // Either every byte tells its sequence number, or the payload is the input's own.
    let patterned = mode & 1 == 1;
    let first: u32 = if mode & 2 == 0 { 1_000 } else { u32::MAX - 600 };
    let watch = Watch::new(Parsers::new(&config.protocol, &config.files, 1), patterned);
    let mut tracker = Tracker::new(&config.flow, 1, 7, watch);
    let mut next: HashMap<(Endpoint, Endpoint), u32> = HashMap::new();
    let (mut ts, mut clock) = (1_700_000_000_000_000_000u64, 0);
    let mut sent = 0;
    for index in 0..400 {
        if input.is_empty() {
            break;
        }
        let (bits, how, difference, length, which) = (input.u8(), input.u8(), input.u16(), input.u8(), input.u8());
        ts = match which & 7 {
            6 => ts.saturating_sub(u64::from(difference) * 1_000_000),
            7 => ts + u64::from(difference) * 1_000_000_000,
            steps => ts + u64::from(steps) * 500_000,
        };
        clock = ts.max(clock);
        let client = end([10, 0, 0, 1], 40_000 + u16::from(which >> 3));
        let server = end([192, 0, 2, 1], 80);
        let (from, to) = if how & 1 == 0 { (client, server) } else { (server, client) };
        let flags = Flags(bits & 0x3f);
        let length = usize::from(length);
        let own = *next.get(&(from, to)).unwrap_or(&first);
        let peer = *next.get(&(to, from)).unwrap_or(&first);
        let seq = number(own, how >> 1, difference);
        let ack = number(peer, how >> 3, difference);
        let payload: Vec<u8> = if patterned {
            let start = seq.wrapping_add(u32::from(flags.syn()));
            (0..length as u32).map(|n| pattern(start.wrapping_add(n))).collect()
        } else {
            input.take(length).to_vec()
        };
        let cut = if bits & 0x40 == 0 { 0 } else { u32::from(difference) };
        if bits & 0x80 == 0 {
            let used = payload.len() as u32 + cut + u32::from(flags.syn()) + u32::from(flags.fin());
            next.insert((from, to), seq.wrapping_add(used));
        }
        sent += payload.len() as u64;
        tracker.app().note(from, to, [seq, seq.wrapping_add(1)]);
        tracker.app().note(to, from, [ack, ack.wrapping_add(1)]);
        let (ts, clock) = (Timestamp(ts), Timestamp(clock));
        tracker.advance(clock);
        tracker.push(&Segment {
            index,
            ts,
            clock,
            source: from,
            destination: to,
            seq,
            ack,
            flags,
            payload: &payload,
            cut,
            layers: Layers::default(),
        });
    }
    tracker.finish(Timestamp(clock));
    assert_eq!(tracker.app().open(), 0, "every connection is over");
    let now = outfall::flow::Moment { clock: Timestamp(clock), by_packet: true, index: u64::MAX };
    let app = tracker.app();
    app.parsers.flush(now);
    let facts: Vec<_> = app.parsers.take_facts().map(|(_, fact)| fact).collect();
    check::all(&facts, &app.wire);
    let _ = sent;
});

fn end(address: [u8; 4], port: u16) -> Endpoint {
    std::net::SocketAddr::from((address, port)).into()
}

/// A sequence number near `next`: exactly, ahead of it, behind it, or far away.
fn number(next: u32, how: u8, difference: u16) -> u32 {
    match how & 3 {
        0 => next,
        1 => next.wrapping_add(u32::from(difference)),
        2 => next.wrapping_sub(u32::from(difference)),
        _ => next.wrapping_add(u32::from(difference) << 16),
    }
}
