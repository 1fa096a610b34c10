//! Fixtures are put together field by field after the manifests' layouts (OSSEM's dictionaries of the three providers,
//! one page for each event and version). None was recorded on a machine.

use proptest::prelude::*;

use super::*;

const SINCE: u64 = 116_444_736_000_000_000;

fn text(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Steps of 100 ns for so many seconds after 1970.
fn time(seconds: u64) -> [u8; 8] {
    (SINCE + seconds * 10_000_000).to_le_bytes()
}

fn int(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn long(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// S-1-16-8192, medium integrity.
const LABEL: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 16, 0, 0x20, 0, 0];

/// ProcessStart (1) and ProcessRundown (15).
fn start_bytes(numbered: bool, flagged: bool, tail: bool) -> Vec<u8> {
    let mut bytes = int(4321).to_vec();
    if numbered {
        bytes.extend(long(77));
    }
    bytes.extend(time(100));
    bytes.extend(int(900));
    if numbered {
        bytes.extend(long(66));
    }
    bytes.extend(int(1));
    if flagged {
        bytes.extend(int(0));
    }
    if numbered {
        bytes.extend([int(3), int(0)].concat());
        bytes.extend(LABEL);
    }
    bytes.extend(text(r"\Device\HarddiskVolume3\Tools\7z.exe"));
    if tail {
        bytes.extend([int(0x1234), int(0x5678)].concat());
        bytes.extend([text(""), text("")].concat());
    }
    bytes
}

#[test]
fn a_process_start_of_every_version_is_decoded() {
    let expected = Kernel::ProcessStart {
        pid: 4321,
        start: Some(Timestamp(100_000_000_000)),
        ppid: 900,
        image: r"\Device\HarddiskVolume3\Tools\7z.exe".to_owned(),
    };
    for (id, version, numbered, flagged, tail) in [
        (1, 0, false, false, false),
        (1, 1, false, true, false),
        (1, 2, false, true, true),
        (1, 3, true, true, true),
        (1, 4, true, true, true),
        (15, 0, false, true, true),
        (15, 1, true, true, true),
    ] {
        let bytes = start_bytes(numbered, flagged, tail);
        assert_eq!(decode(Provider::Process, id, version, &bytes, 8), Some(expected.clone()), "{id} version {version}");
    }
}

#[test]
fn a_process_stop_of_every_version_is_decoded() {
    for version in 0..=2 {
        let mut bytes = int(4321).to_vec();
        if version == 2 {
            bytes.extend(long(77));
        }
        bytes.extend([time(100), time(160)].concat());
        bytes.extend([int(0), int(3), int(50)].concat());
        bytes.extend([long(1 << 20), long(1 << 21)].concat());
        if version > 0 {
            bytes.extend(long(99));
            bytes.extend([int(1), int(2), int(3), int(4), int(5)].concat());
        }
        bytes.extend(b"7z.exe\0");
        let expected = Kernel::ProcessEnd { pid: 4321, start: Some(Timestamp(100_000_000_000)) };
        assert_eq!(decode(Provider::Process, 2, version, &bytes, 8), Some(expected), "version {version}");
    }
}

/// What follows the ports of a connection: mss, sackopt, tsopt, wsopt, rcvwin, both scales, seqnum, connid.
const OPTIONS: [u8; 24] = [0xb4, 5, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn connections_opened_and_accepted_are_decoded() {
    let mut v4 = [int(4321), int(0)].concat();
    v4.extend([198, 51, 100, 7, 192, 0, 2, 1]);
    v4.extend([0, 21, 0xc0, 0x01]);
    v4.extend(OPTIONS);
    let mut v6 = [int(4321), int(0)].concat();
    for last in [7, 1] {
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    v6.extend([0, 21, 0xc0, 0x01]);
    v6.extend(OPTIONS);
    for (id, bytes, local, remote) in [
        (12, &v4, "192.0.2.1:49153", "198.51.100.7:21"),
        (15, &v4, "192.0.2.1:49153", "198.51.100.7:21"),
        (28, &v6, "[2001:db8::1]:49153", "[2001:db8::7]:21"),
        (31, &v6, "[2001:db8::1]:49153", "[2001:db8::7]:21"),
    ] {
        let expected = Kernel::Connection {
            pid: 4321,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            initiated: matches!(id, 12 | 28),
        };
        assert_eq!(decode(Provider::Network, id, 0, bytes, 8), Some(expected), "{id}");
    }
}

const OBJECT: u64 = 0xa000_1000;

/// Pointers of one size.
fn pointers(size: usize, values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect()
}

/// Irp, in version 0 the thread, object; and further pointers.
fn head(version: u8, size: usize, more: &[u64]) -> Vec<u8> {
    let thread: &[u64] = if version == 0 { &[8] } else { &[] };
    pointers(size, &[&[7], thread, &[OBJECT], more].concat())
}

#[test]
fn file_events_of_both_versions_and_pointer_sizes_are_decoded() {
    let path = r"\Device\HarddiskVolume3\s\a.7z";
    for (version, size) in [(0, 8), (1, 8), (0, 4), (1, 4)] {
        let thread = if version == 0 { Vec::new() } else { int(8).to_vec() };
        let decoded = |id, bytes: &[u8]| decode(Provider::File, id, version, bytes, size);

        let open =
            [head(version, size, &[]), thread.clone(), [int(0), int(0x80), int(1)].concat(), text(path)].concat();
        for (id, made) in [(12, false), (30, true)] {
            assert_eq!(decoded(id, &open), Some(Kernel::Open { object: OBJECT, path: path.to_owned(), made }));
        }
        let close = [head(version, size, &[9]), thread.clone()].concat();
        assert_eq!(decoded(14, &close), Some(Kernel::Close { object: OBJECT }));

        let flags = if version == 0 { int(0).to_vec() } else { [int(0), int(0)].concat() };
        let moved = [long(4096).to_vec(), head(version, size, &[9]), thread.clone(), int(512).to_vec(), flags].concat();
        for (id, written) in [(15, false), (16, true)] {
            assert_eq!(decoded(id, &moved), Some(Kernel::Transfer { object: OBJECT, bytes: 512, written }));
        }

        let named = [head(version, size, &[9, 10]), thread, int(10).to_vec(), text(path)].concat();
        assert_eq!(decoded(26, &named), Some(Kernel::Delete { object: OBJECT, path: path.to_owned() }));
        assert_eq!(decoded(27, &named), Some(Kernel::Rename { object: OBJECT, path: path.to_owned() }));
    }
}

#[test]
fn what_is_not_looked_for_is_nothing() {
    assert_eq!(decode(Provider::Process, 5, 0, &[0; 200], 8), None);
    assert_eq!(decode(Provider::Network, 10, 0, &[0; 200], 8), None);
    assert_eq!(decode(Provider::File, 10, 0, &[0; 200], 8), None);
}

fn said(what: Option<What>) -> String {
    match what {
        None => String::new(),
        Some(What::Touch(touch)) => {
            let event = &touch.event;
            let to = event.new_path.as_deref().map(|path| format!(" -> {path}")).unwrap_or_default();
            format!("{} {} {}{to} {}", event.pid, event.op.name(), event.path, touch.bytes)
        }
        Some(What::ProcessStart(event)) => {
            format!("{} {:?} {:?}", event.pid, event.image.as_deref().unwrap_or_default(), event.parent_start)
        }
        Some(other) => format!("{other:?}"),
    }
}

#[test]
fn file_objects_become_files_with_the_letter_of_their_drive() {
    let mut tracker = Tracker::new(vec![(r"\Device\HarddiskVolume3\".to_owned(), r"C:\".to_owned())]);
    let mut see = |event| said(tracker.see(event, 44, Timestamp(5)));
    let open = |path: &str, made| Kernel::Open { object: 1, path: path.to_owned(), made };
    let moved = |written| Kernel::Transfer { object: 1, bytes: 9, written };
    assert_eq!(see(moved(true)), "");
    assert_eq!(see(open(r"\device\harddiskvolume3\s\a", true)), r"44 create C:\s\a 0");
    assert_eq!(see(moved(true)), r"44 write C:\s\a 9");
    let rename = Kernel::Rename { object: 1, path: r"\Device\HarddiskVolume3\s\b".to_owned() };
    assert_eq!(see(rename), r"44 rename C:\s\a -> C:\s\b 0");
    assert_eq!(see(moved(false)), r"44 read C:\s\b 9");
    assert_eq!(see(Kernel::Close { object: 1 }), "");
    assert_eq!(see(moved(false)), "");
    // The address is used again for another file.
    assert_eq!(see(open(r"\Device\Mup\server\share\x", false)), "");
    assert_eq!(see(moved(false)), r"44 read \Device\Mup\server\share\x 9");
    assert_eq!(tracker.unknown(), 2);
}

#[test]
fn open_files_are_bounded() {
    let mut tracker = Tracker::default();
    for object in 0..OPEN as u64 + 10 {
        tracker.see(Kernel::Open { object, path: "x".to_owned(), made: false }, 1, Timestamp(1));
    }
    assert_eq!((tracker.objects.len(), tracker.order.len()), (OPEN, OPEN));
    assert!(!tracker.objects.contains_key(&9) && tracker.objects.contains_key(&10));
}

#[test]
fn a_parent_that_started_later_is_no_parent() {
    let mut tracker = Tracker::default();
    tracker.found(900, Timestamp(50));
    let start = |at| Kernel::ProcessStart { pid: 1, start: Some(Timestamp(at)), ppid: 900, image: "a".to_owned() };
    assert!(said(tracker.see(start(60), 0, Timestamp(60))).ends_with(&format!("{:?}", Some(Timestamp(50)))));
    assert!(said(tracker.see(start(40), 0, Timestamp(60))).ends_with("None"));
}

proptest! {
    #[test]
    fn nothing_panics(id in 0_u16..40, version in 0_u8..6, bytes: Vec<u8>, four: bool) {
        for provider in Provider::ALL {
            decode(provider, id, version, &bytes, if four { 4 } else { 8 });
        }
    }

    #[test]
    fn what_is_cut_short_is_no_event_or_the_same_but_for_its_text(cut in 0_usize..100) {
        let whole = start_bytes(true, true, true);
        let decoded = decode(Provider::Process, 1, 3, &whole[..cut.min(whole.len())], 8);
        if let Some(Kernel::ProcessStart { pid, ppid, image, .. }) = decoded {
            prop_assert_eq!((pid, ppid), (4321, 900));
            prop_assert!(r"\Device\HarddiskVolume3\Tools\7z.exe".starts_with(&image));
        }
    }
}
