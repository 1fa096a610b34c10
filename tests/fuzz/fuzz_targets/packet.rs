//! Packets of any link type: two bytes of link type, one of what the snap length cut, the frame. Several are divided by
//! `ff fe`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::capture::Packet;
use outfall::flow::{Moment, Tracker};
use outfall::net::Timestamp;
use outfall::packet::{Decoded, Decoder, Plain, hosts};
use outfall::protocol::Parsers;
use outfall_fuzz::watch::Watch;
use outfall_fuzz::{Bytes, check, tight};

const ETHERNET: u16 = 1;
const LINUX_SLL: u16 = 113;

fuzz_target!(|input: &[u8]| {
    let config = tight();
    let mut decoder = Decoder::new();
    let mut tracker =
        Tracker::new(&config.flow, 1, 7, Watch::new(Parsers::new(&config.protocol, &config.files, 1), false));
    let mut index = 0;
    let mut clock = Timestamp(1_700_000_000_000_000_000);
    for frame in frames(input) {
        let mut numbers = Bytes(frame);
        let (link, cut) = (numbers.u16(), numbers.u8());
        let bytes = numbers.0;
        let wire_length = bytes.len() as u32 + (u32::from(cut) << (cut & 7));
        clock = Timestamp(clock.0 + 10_000_000);
        let packet = Packet { index, ts: clock, clock, link, wire_length, bytes };
        let mut yielded = 0;
        tracker.advance(clock);
        decoder.decode(&packet, &mut |decoded| {
            yielded += 1;
            let (from, to) = match &decoded {
                Decoded::Tcp(segment) => (segment.source.address, segment.destination.address),
                Decoded::Udp(datagram) => (datagram.source.address, datagram.destination.address),
            };
            assert!(hosts(&packet).is_none_or(|seen| seen == (from, to)), "other hosts than were seen at a glance");
            match &decoded {
                Decoded::Tcp(segment) => tracker.push(segment),
                Decoded::Udp(datagram) => {
                    let now = Moment { clock, by_packet: true, index };
                    tracker.app().parsers.datagram(datagram, now);
                }
            }
        });
        assert!(yielded <= 1, "a packet is at most one segment or datagram");
        same_by_both_paths(&packet);
        index += 1;
    }
    let counters = decoder.counters();
    let all = counters.tcp
        + counters.udp
        + counters.other_ip
        + counters.not_ip
        + counters.unknown_link
        + counters.fragments
        + counters.malformed
        + counters.too_deep;
    assert_eq!(all, index, "every packet is counted once: {counters:?}");
    tracker.finish(clock);
    let app = tracker.app();
    app.parsers.flush(Moment { clock, by_packet: true, index: u64::MAX });
    let facts: Vec<_> = app.parsers.take_facts().map(|(_, fact)| fact).collect();
    check::all(&facts, &app.wire);
});

fn frames(input: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = input;
    while let Some(end) = rest.windows(2).position(|pair| pair == [0xff, 0xfe]) {
        frames.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    frames.push(rest);
    frames
}

/// Common Ethernet frames have a path of their own; what is in them is the same as in another link layer.
fn same_by_both_paths(packet: &Packet<'_>) {
    let kind = packet.bytes.get(12..14).map(|kind| u16::from_be_bytes([kind[0], kind[1]]));
    if packet.link != ETHERNET || kind.is_none_or(|kind| kind < 0x0600) {
        return;
    }
    let mut bytes = vec![0; 14];
    bytes.extend(&packet.bytes[12..]);
    let other = Packet { link: LINUX_SLL, wire_length: packet.wire_length + 2, bytes: &bytes, ..*packet };
    let general = shown(&other);
    assert_eq!(shown(packet), general);
    // What was read of a usual packet's headers is all of it, whoever goes on from there.
    if let Some(plain) = Plain::of(packet) {
        assert_eq!(Some(format!("{:?}", Decoded::Tcp(Decoder::new().plain(&plain, packet)))), general);
    }
}

fn shown(packet: &Packet<'_>) -> Option<String> {
    let mut shown = None;
    Decoder::new().decode(packet, &mut |decoded| shown = Some(format!("{decoded:?}")));
    shown
}
