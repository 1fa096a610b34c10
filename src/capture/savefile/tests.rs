//! The rules of reading captures, on captures built by hand.

use proptest::prelude::*;

use super::Order::{Big, Little};
use super::build::*;
use super::*;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

fn read(file: &[u8]) -> (Vec<Seen>, Counters) {
    read_files(&[file]).unwrap()
}

fn times(seen: &[Seen]) -> Vec<u64> {
    seen.iter().map(|packet| packet.ts).collect()
}

#[test]
fn pcap_is_read_in_both_byte_orders_and_resolutions() {
    for order in [Little, Big] {
        for (magic, nanoseconds) in [(0xa1b2_c3d4, 123_000), (0xa1b2_3c4d, 123)] {
            let mut file = pcap(order, magic, (2, 4), 113);
            file.extend(record(order, [7, 123, 3, 60], b"abc"));
            file.extend(record(order, [8, 0, 0, 0], b""));
            let (seen, counters) = read(&file);
            let first = Seen {
                index: 0,
                ts: 7 * SECOND + nanoseconds,
                clock: 7 * SECOND + nanoseconds,
                link: 113,
                wire: 60,
                bytes: b"abc".to_vec(),
            };
            assert_eq!(seen[0], first);
            assert_eq!((seen[1].index, seen[1].ts, seen[1].bytes.len()), (1, 8 * SECOND, 0));
            let expected = Counters { packets: 2, bytes: 3, wire_bytes: 60, snapped_packets: 1, ..Counters::default() };
            assert_eq!(counters, expected);
        }
    }
}

#[test]
fn the_modified_pcap_format_has_longer_records() {
    for order in [Little, Big] {
        let mut file = pcap(order, 0xa1b2_cd34, (2, 4), 1);
        file.extend(record(order, [7, 1, 3, 3], b"\0\0\0\0\0\0\0\0abc"));
        file.extend(record(order, [8, 1, 3, 3], b"\0\0\0\0\0\0\0\0def"));
        let (seen, _) = read(&file);
        assert_eq!(seen.iter().map(|p| p.bytes.as_slice()).collect::<Vec<_>>(), [b"abc", b"def"]);
    }
}

#[test]
fn early_pcap_versions_have_their_lengths_swapped() {
    for (version, words) in [((2, 2), [1, 0, 60, 3]), ((2, 3), [1, 0, 60, 3]), ((2, 3), [1, 0, 3, 60])] {
        let mut file = pcap(Little, 0xa1b2_c3d4, version, 1);
        file.extend(record(Little, words, b"abc"));
        let (seen, _) = read(&file);
        assert_eq!((seen[0].wire, seen[0].bytes.as_slice()), (60, b"abc".as_slice()));
    }
}

#[test]
fn the_upper_bits_of_the_link_type_are_masked_off() {
    let mut file = pcap(Little, 0xa1b2_c3d4, (2, 4), 0x5400_0001);
    file.extend(record(Little, [1, 0, 1, 1], b"a"));
    assert_eq!(read(&file).0[0].link, 1);
}

#[test]
fn a_wire_length_below_the_captured_one_is_raised_to_it() {
    let mut file = pcap(Little, 0xa1b2_c3d4, (2, 4), 1);
    file.extend(record(Little, [1, 0, 3, 0], b"abc"));
    let (seen, counters) = read(&file);
    assert_eq!((seen[0].wire, counters.snapped_packets), (3, 0));
}

#[test]
fn a_pcap_without_packets_is_fine() {
    assert_eq!(read(&simple_pcap(&[])), (Vec::new(), Counters::default()));
    assert_eq!(read(&section(Big)), (Vec::new(), Counters::default()));
    assert_eq!(read_files(&[]).unwrap(), (Vec::new(), Counters::default()));
}

#[test]
fn a_truncated_last_packet_ends_the_file_with_a_warning() {
    let whole = simple_pcap(&[(1, b"abc"), (2, b"def")]);
    for cut in [1, 3, 10, 18] {
        let (seen, counters) = read(&whole[..whole.len() - cut]);
        assert_eq!((seen.len(), counters.truncated_files, counters.malformed_blocks), (1, 1, 0));
        assert_eq!(counters.warnings.len(), 1);
        assert!(counters.warnings[0].contains("breaks off"), "{:?}", counters.warnings);
        assert!(counters.warnings[0].contains("at byte 43;"), "{:?}", counters.warnings);
    }
}

#[test]
fn an_absurd_captured_length_ends_the_file_without_memory_for_it() {
    let mut file = simple_pcap(&[(1, b"abc")]);
    file.extend(record(Little, [1, 0, 0xffff_fff0, 60], b"rest"));
    for (seen, counters) in [read(&file), read_streams(&[&file], 7, false).unwrap()] {
        assert_eq!((seen.len(), counters.malformed_blocks, counters.truncated_files), (1, 1, 0));
    }
}

#[test]
fn what_is_no_capture_is_refused_by_name() {
    let says = |bytes: &[u8]| {
        let (directory, paths) = directory(&[bytes]);
        let message = Reader::open(&paths).err().unwrap().to_string();
        let name = directory.path().join("0").display().to_string();
        message.strip_prefix(&format!("{name}: ")).unwrap().to_owned()
    };
    assert_eq!(says(b"\x0a\x0bhello"), "not a pcap or pcapng capture (starts with 0a 0b 68 65)");
    assert_eq!(says(b""), "not a pcap or pcapng capture (it is empty)");
    assert_eq!(says(&gzip(b"")), "not a pcap or pcapng capture (it is empty)");
    assert_eq!(
        says(&simple_pcap(&[])[..9]),
        "not a pcap or pcapng capture (starts like a pcap file but has only 9 bytes)"
    );
    assert_eq!(says(&pcap(Big, 0xa1b2_c3d4, (3, 1), 1)), "pcap version 3.1 is not supported");
    let mut other = section(Little);
    other[12] = 2;
    assert_eq!(says(&other), "pcapng version 2.0 is not supported");
    assert!(says(&gzip(&simple_pcap(&[]))[..9]).starts_with("cannot be read"));
}

#[test]
fn a_missing_file_and_a_directory_are_named() {
    let (directory, _) = directory(&[]);
    let missing = directory.path().join("none.pcap");
    let message = Reader::open(std::slice::from_ref(&missing)).err().unwrap().to_string();
    assert!(message.starts_with(&format!("{}: cannot be opened", missing.display())), "{message}");
    let message = Reader::open(&[directory.path().to_owned()]).err().unwrap().to_string();
    assert!(message.contains("cannot be opened"), "{message}");
}

/// Two interfaces that agree in nothing, in each byte order.
fn mixed(order: Order) -> Vec<u8> {
    let mut file = section(order);
    file.extend(interface(order, 1, 0, &[(2, b"eth0"), (0, b"")]));
    file.extend(interface(order, 113, 4, &[(9, &[9]), (14, &order.put64(10)), (0, b"")]));
    file.extend(enhanced(order, 0, 5_000_000, 60, b"abc"));
    file.extend(block(order, 0x0bad, b"a vendor's own"));
    file.extend(enhanced(order, 1, 7, 4, b"defg"));
    // interface:u16 drops:u16 high low captured wire data
    let mut body = order.put16(1).to_vec();
    body.extend(order.put16(9));
    for word in [1, 0, 2, 2] {
        body.extend(order.put32(word));
    }
    body.extend(b"hi");
    file.extend(block(order, 2, &body));
    file
}

#[test]
fn pcapng_interfaces_keep_their_own_link_type_and_clock() {
    for order in [Little, Big] {
        let (seen, counters) = read(&mixed(order));
        let packets: Vec<_> = seen.iter().map(|p| (p.ts, p.link, p.wire, p.bytes.as_slice())).collect();
        let expected: [(u64, u16, u32, &[u8]); 3] =
            [(5 * SECOND, 1, 60, b"abc"), (10 * SECOND + 7, 113, 4, b"defg"), (10 * SECOND + (1 << 32), 113, 2, b"hi")];
        assert_eq!(packets, expected);
        assert_eq!((counters.skipped_blocks, counters.malformed_blocks), (1, 0));
    }
}

#[test]
fn a_new_section_brings_its_own_byte_order_and_interfaces() {
    let mut file = mixed(Little);
    file.extend(section(Big));
    file.extend(enhanced(Big, 0, 1, 1, b"x"));
    file.extend(interface(Big, 101, 0, &[]));
    file.extend(enhanced(Big, 0, 20_000_000, 1, b"x"));
    let (seen, counters) = read(&file);
    assert_eq!((seen.len(), seen[3].link, seen[3].ts), (4, 101, 20 * SECOND));
    assert_eq!(counters.malformed_blocks, 1, "the packet came before its interface");
    assert!(counters.warnings[0].contains("unknown interface"), "{:?}", counters.warnings);
}

#[test]
fn a_simple_packet_has_the_time_before_it_and_no_padding() {
    let simple = |wire: u32, data: &[u8]| block(Little, 3, &[&wire.to_le_bytes(), data].concat());
    let mut file = [section(Little), interface(Little, 1, 6, &[])].concat();
    file.extend(simple(5, b"abcde"));
    file.extend(enhanced(Little, 0, 3_000_000, 1, b"x"));
    file.extend(simple(99, b"abcdef"));
    file.extend(simple(99, b"abc"));
    let (seen, counters) = read(&file);
    let packets: Vec<_> = seen.iter().map(|p| (p.ts, p.wire, p.bytes.as_slice())).collect();
    assert_eq!(packets[0], (0, 5, b"abcde".as_slice()));
    assert_eq!(packets[2], (3 * SECOND, 99, b"abcdef".as_slice()));
    assert_eq!(packets[3], (3 * SECOND, 99, b"abc\0".as_slice()));
    assert_eq!(counters.malformed_blocks, 0);
}

#[test]
fn a_block_whose_content_is_wrong_is_skipped_and_one_whose_length_is_wrong_ends_the_file() {
    let mut file = [section(Little), interface(Little, 1, 0, &[])].concat();
    let mut long = enhanced(Little, 0, 1, 1, b"x");
    long[20] = 200;
    file.extend(long);
    file.extend(block(Little, 6, b"short"));
    file.extend(enhanced(Little, 0, 1, 1, b"y"));
    let good = file.len();
    for (at, value) in [(4, 1), (4, 2), (7, 0x7f), (32, 9)] {
        let mut damaged = enhanced(Little, 0, 1, 1, b"z");
        damaged[at] ^= value;
        file.truncate(good);
        file.extend(damaged);
        let (seen, counters) = read(&file);
        assert_eq!((seen.len(), counters.malformed_blocks, counters.truncated_files), (1, 3, 0));
        assert_eq!(counters.warnings.len(), 2);
    }
    file.truncate(good - 1);
    let (seen, counters) = read(&file);
    assert_eq!((seen.len(), counters.malformed_blocks, counters.truncated_files), (0, 2, 1));
}

#[test]
fn compressed_captures_are_known_by_their_content() {
    let file = simple_pcap(&[(1, b"abc"), (2, b"def"), (3, b"ghi")]);
    let plain = read(&file);
    let (front, back) = file.split_at(50);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &zstandard(&file)].concat();
    for packed in [
        gzip(&file),
        zstandard(&file),
        [gzip(front), gzip(back)].concat(),
        [zstandard(front), zstandard(back)].concat(),
        skippable,
    ] {
        assert_eq!(read(&packed), plain);
        assert_eq!(read_streams(&[&packed], 3, true).unwrap(), plain);
    }
    assert_eq!(read(&gzip(&mixed(Big))), read(&mixed(Big)));
}

#[test]
fn a_compressed_capture_that_breaks_off_gives_what_came_before() {
    let noise: Vec<u8> = (0..40_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let file = simple_pcap(&noise.chunks(1_000).map(|chunk| (1, chunk)).collect::<Vec<_>>());
    for packed in [gzip(&file), zstandard(&file)] {
        let (seen, counters) = read(&packed[..packed.len() - 1_000]);
        assert!(!seen.is_empty() && seen.len() < 160);
        assert_eq!((counters.truncated_files, counters.malformed_blocks), (1, 0));

        let (seen, counters) = read(&[packed, b"rubbish".to_vec()].concat());
        assert_eq!(seen.len(), 160);
        assert_eq!(counters.warnings.len(), 1, "{:?}", counters.warnings);
    }
}

#[test]
fn captures_are_merged_by_time_and_ties_by_order() {
    let one = simple_pcap(&[(10, b"a"), (30, b"b"), (30, b"c"), (20, b"d"), (50, b"e")]);
    let two = simple_pcap(&[(10, b"A"), (30, b"B"), (40, b"C")]);
    let (seen, counters) = read_files(&[&one, &mixed(Big), &gzip(&two)]).unwrap();
    let order: Vec<_> = seen.iter().map(|p| p.bytes.as_slice()).collect();
    let expected: [&[u8]; 11] = [b"a", b"A", b"b", b"c", b"d", b"B", b"C", b"e", b"abc", b"defg", b"hi"];
    assert_eq!(order, expected);
    assert!(seen.iter().zip(0..).all(|(packet, index)| packet.index == index));
    assert_eq!((counters.packets, counters.backward_timestamps), (11, 1));
}

#[test]
fn a_wild_timestamp_does_not_hold_back_its_capture_and_a_long_pause_is_kept() {
    let wild = simple_pcap(&[(1, b"a"), (90 * DAY, b"w"), (3, b"b"), (9 * DAY, b"c"), (9 * DAY + 1, b"d")]);
    let other = simple_pcap(&[(2, b"A"), (4, b"B"), (5 * DAY, b"C"), (5 * DAY + 1, b"D")]);
    for (seen, _) in [read_files(&[&wild, &other]).unwrap(), read_streams(&[&wild, &other], 50, true).unwrap()] {
        assert_eq!(seen.iter().map(|p| p.bytes[0]).collect::<Vec<_>>(), b"awAbBCDcd");
        let clocks: Vec<_> = seen.iter().map(|p| p.clock).collect();
        assert_eq!(clocks, [1, 1, 2, 3, 4, 4, 5 * DAY + 1, 5 * DAY + 1, 9 * DAY + 1]);
    }
}

#[test]
fn merging_many_packets_loses_none_and_keeps_each_capture_in_order() {
    let packets = |offset: u64| (0..3_000).map(|n| (n * 3 + offset, b"x".as_slice())).collect::<Vec<_>>();
    let files: Vec<_> = (0..3).map(|offset| simple_pcap(&packets(offset))).collect();
    let packed = zstandard(&files[1]);
    let (seen, counters) = read_files(&[&files[0], &packed, &files[2]]).unwrap();
    assert_eq!(times(&seen), (0..9_000).collect::<Vec<_>>());
    assert_eq!((counters.packets, counters.backward_timestamps), (9_000, 0));
}

#[test]
fn a_batch_outlives_its_reader() {
    let packets: Vec<_> = (0..1_500).map(|n| (n, b"abc".as_slice())).collect();
    let (_directory, paths) = directory(&[&simple_pcap(&packets)]);
    let mut reader = Reader::open(&paths).unwrap();
    let mut batch = Batch::default();
    assert!(reader.fill(&mut batch).unwrap());
    drop(reader);
    let sum = std::thread::spawn(move || batch.packets().filter(|p| p.bytes == b"abc").count()).join().unwrap();
    assert_eq!(sum, BATCH);
}

#[test]
fn what_is_at_hand_in_a_pipe_is_delivered_before_waiting_for_more() {
    struct Stalled(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Stalled {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("nothing yet")),
                count => Ok(count),
            }
        }
    }
    let raw = Stalled(std::io::Cursor::new(simple_pcap(&[(1, b"a"), (2, b"b"), (3, b"c")])));
    let source = source::Source::streamed("pipe".to_owned(), None, Box::new(raw), true, 1).unwrap();
    let mut reader = Reader::of(vec![source]);
    let mut batch = Batch::default();
    assert!(reader.fill(&mut batch).unwrap());
    assert_eq!((batch.len(), reader.total()), (3, None));
    assert_eq!(reader.fill(&mut batch).unwrap_err().to_string(), "pipe: cannot be read");
    assert!(!reader.fill(&mut batch).unwrap());
}

/// Captures with a few bytes changed, which go further than random bytes do.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let seeds = prop_oneof![
        Just(simple_pcap(&[(1, b"abc"), (9 * DAY, b"defgh"), (3, b"")])),
        Just(mixed(Little)),
        Just([mixed(Big), mixed(Little)].concat()),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (seeds, changes, any::<prop::sample::Index>()).prop_map(|(mut file, changes, cut)| {
        if !file.is_empty() {
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            if cut.index(3) == 0 {
                file.truncate(cut.index(file.len() + 1));
            }
        }
        file
    })
}

proptest! {
    #[test]
    fn any_bytes_read_the_same_from_a_map_and_from_a_stream(
        first in damaged(),
        second in damaged(),
        step in 1usize..300,
        interactive in any::<bool>(),
    ) {
        for files in [vec![first.as_slice()], vec![first.as_slice(), second.as_slice()]] {
            match (read_files(&files), read_streams(&files, step, interactive)) {
                (Ok((seen, mut counters)), Ok((streamed, mut others))) => {
                    prop_assert_eq!(seen, streamed);
                    prop_assert_eq!(counters.warnings.len(), others.warnings.len());
                    counters.warnings.clear();
                    others.warnings.clear();
                    prop_assert_eq!(counters, others);
                }
                (Err(_), Err(_)) => {}
                (mapped, streamed) => prop_assert!(false, "{mapped:?} but {streamed:?}"),
            }
        }
    }

    #[test]
    fn any_compressed_bytes_are_survived(file in damaged(), at in any::<prop::sample::Index>(), value: u8) {
        for mut packed in [gzip(&file), zstandard(&file)] {
            let at = at.index(packed.len());
            packed[at] = value;
            let _ = read_streams(&[&packed], 11, false);
        }
    }
}
