//! Capture files: pcap, pcapng, compressed or not, whole or damaged; then all that is in them.

#![no_main]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outfall::capture::{Batch, Reader};
use outfall::packet::Decoder;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("outfall-fuzz-{}", std::process::id()))
});

fuzz_target!(|input: &[u8]| {
    let mapped = read(input);
    // A compressed file is read as a stream; it holds the same. What is compressed itself would be so twice.
    let compressed = input.starts_with(&[0x1f, 0x8b]) || input.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let skippable = matches!(input, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if !compressed && !skippable {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gzip.write_all(input).and_then(|()| gzip.try_finish()).expect("memory takes it");
        let streamed = read(gzip.get_ref());
        assert_eq!(mapped.is_some(), streamed.is_some());
        assert_eq!(mapped, streamed, "a file and a stream hold the same packets");
    }
});

/// The packets, or nothing if it is no capture.
fn read(input: &[u8]) -> Option<Vec<String>> {
    std::fs::write(&*FILE, input).expect("room for a small file");
    let opened = Reader::open(std::slice::from_ref(&*FILE));
    let mut packets = Vec::new();
    let found = opened.as_ref().is_ok();
    if let Ok(mut reader) = opened {
        let mut batch = Batch::default();
        let mut decoder = Decoder::new();
        let (mut clock, mut bytes) = (0, 0);
        while reader.fill(&mut batch).is_ok_and(|more| more) {
            for packet in batch.packets() {
                assert_eq!(packet.index, packets.len() as u64);
                assert!(packet.clock.0 >= clock, "the clock never goes back");
                assert!(packet.wire_length as usize >= packet.bytes.len());
                clock = packet.clock.0;
                bytes += packet.bytes.len() as u64;
                decoder.decode(&packet, &mut |_| {});
                packets.push(format!(
                    "{:?}",
                    (packet.ts, packet.clock, packet.link, packet.wire_length, sum(packet.bytes))
                ));
            }
            assert_eq!(batch.next_index(), packets.len() as u64);
            assert_eq!(batch.clock().0, clock);
        }
        let counters = reader.counters();
        assert_eq!((counters.packets, counters.bytes), (packets.len() as u64, bytes));
    }
    found.then_some(packets)
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte))
}
