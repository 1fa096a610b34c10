//! The rules of the configuration as a whole.

use super::*;
use crate::net::{ByteSize, Span};
use proptest::prelude::*;

fn refused(text: &str) -> String {
    Config::parse(text, "outfall.toml").unwrap_err().to_string()
}

#[test]
fn the_default_text_reads_as_the_default() {
    let config = Config::parse(&Config::default_text(), "default").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.changes(), []);
    assert_eq!(Config::parse("", "empty").unwrap(), config);
}

#[test]
fn the_default_text_documents_every_key() {
    let text = Config::default_text();
    let lines: Vec<&str> = text.lines().collect();
    for section in Config::default().sections() {
        assert!(lines.contains(&format!("[{}]", section.name).as_str()));
        assert!(!section.doc.is_empty());
        for entry in section.entries {
            assert!(!entry.doc.is_empty(), "{} has no documentation", entry.key);
            assert!(lines.iter().any(|line| line.starts_with(&format!("{} = ", entry.key))));
        }
    }
    assert!(lines.iter().all(|line| line.len() <= 120));
    let expected = "\n# How long a connection may be silent. Reached: it is ended, and its uploads are partial. FTP's control connection \
                    may\n# be silent for as long as one of its transfers goes on.\n\
                    # A length of time from 1 s to 7 d.\nidle_timeout = \"15 min\"\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn every_default_keeps_to_its_own_bounds() {
    for section in Config::default().sections() {
        for entry in section.entries {
            let text = format!("[{}]\n{} = {}\n", section.name, entry.key, entry.value);
            assert_eq!(Config::parse(&text, "key").unwrap(), Config::default());
        }
    }
}

#[test]
fn the_example_of_an_expected_process_can_be_copied() {
    let text = Config::default_text();
    let lines = text.lines().skip_while(|line| *line != "# expected_processes = [");
    let example: String =
        lines.take_while(|line| !line.starts_with("# A list")).map(|line| format!("{}\n", &line[2..])).collect();
    let config = Config::parse(&text.replace("expected_processes = []\n", &example), "example").unwrap();
    let [backup, sync] = config.detect.expected_processes.as_slice() else { panic!("two processes") };
    assert!(backup.matches_image(r"C:\Program Files\Backup\1.0\agent.exe"));
    assert!(sync.matches_image(r"C:\ProgramData\{5F0C}\sync.exe"));
}

#[test]
fn every_kind_of_value_is_read() {
    let text = r#"
        network.home = ["203.0.113.0/24", "2001:db8::1"]
        [flow]
        table_memory = 0x10_0000
        closed_linger = "0 s"
        [join]
        size_overhead = 0
        [detect]
        unencrypted_protocols = ["HTTP"]
        data_transfer_size_threshold = "5 MB"
        expected_processes = [{ image = '*\sync.exe', destinations = ["partner.example"] }]
    "#;
    let config = Config::parse(text, "outfall.toml").unwrap();
    assert!(config.network.is_home("203.0.113.9".parse().unwrap()));
    assert!(config.network.is_home("::ffff:203.0.113.9".parse().unwrap()));
    assert!(!config.network.is_home("10.0.0.1".parse().unwrap()));
    assert_eq!(config.flow.table_memory, ByteSize(1 << 20));
    assert_eq!(config.flow.closed_linger, Span(0));
    assert_eq!(config.detect.unencrypted_protocols, ["http"]);
    let [process] = config.detect.expected_processes.as_slice() else { panic!("one process") };
    assert!(process.matches_image(r"C:\Tools\SYNC.exe"));
    assert_eq!(process.destinations, ["partner.example".parse().unwrap()]);

    let changes: Vec<String> = config.changes().iter().map(Change::to_string).collect();
    assert_eq!(changes.len(), 7);
    assert_eq!(changes[1], r#"flow.table_memory = "1 MiB" (default "256 MiB")"#);
    assert_eq!(
        changes[6],
        r#"detect.expected_processes = [{ image = '*\sync.exe', destinations = ["partner.example"] }] (default [])"#
    );
}

#[test]
fn home_is_private_and_link_local_by_default() {
    let network = Network::default();
    for ip in ["10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.9.9", "fd00::1", "fe80::1"] {
        assert!(network.is_home(ip.parse().unwrap()), "{ip}");
    }
    for ip in ["172.32.0.1", "192.169.0.1", "8.8.8.8", "2001:db8::1"] {
        assert!(!network.is_home(ip.parse().unwrap()), "{ip}");
    }
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_known_one() {
    for (text, line) in [
        ("[flow]\ntabel_memory = 1", r#"2:1: flow.tabel_memory: unknown key, did you mean "flow.table_memory"?"#),
        ("[flow]\nlook-back = 1", r#"2:1: flow.look-back: unknown key, did you mean "join.look_back"?"#),
        ("[replay]\nspeed = 1", "2:1: replay.speed: unknown key, known keys are workers"),
        ("[replay]\n\"a\\nb\" = 1", r#"2:1: replay."a b": unknown key, known keys are workers"#),
        ("[Detection]", r#"1:2: Detection: unknown section, did you mean "detect"?"#),
        ("home = []", r#"1:1: home: unknown key, did you mean "network.home"?"#),
        (
            "[colour]",
            "1:2: colour: unknown section, known sections are network, packet, flow, protocol, files, endpoint, listener, join, detect, playbook, store, evidence, deliver, metrics, capture, replay",
        ),
        (
            "[[detect.expected_processes]]\nimage = \"a\"\ndestination = []",
            r#"3:1: detect.expected_processes.destination: unknown key, did you mean "destinations"?"#,
        ),
    ] {
        assert_eq!(refused(text), format!("outfall.toml:{line}"));
    }
}

#[test]
fn a_bad_value_is_refused_with_what_was_expected_and_found() {
    for (text, line) in [
        (
            "[detect]\n\n  data_transfer_size_threshold = \"lots\"",
            r#"3:34: detect.data_transfer_size_threshold: expected a size such as "64 KiB", "1 MB" or a number of bytes, found "lots""#,
        ),
        (
            "[flow]\nidle_timeout = 12",
            r#"2:16: flow.idle_timeout: expected a length of time such as "30 s", "5 min", "1 h" or "7 d", found 12"#,
        ),
        ("[flow]\nidle_timeout = \"0 s\"", r#"2:16: flow.idle_timeout: expected at least 1 s, found "0 s""#),
        ("[flow]\ntable_memory = 0", "2:16: flow.table_memory: expected at least 1 MiB, found 0"),
        ("[join]\nsize_overhead = 101", "2:17: join.size_overhead: expected at most 100, found 101"),
        ("[join]\nsize_overhead = -1", "2:17: join.size_overhead: expected a whole number, found -1"),
        ("[replay]\nworkers = 1.5", "2:11: replay.workers: expected a whole number, found 1.5"),
        ("[replay]\nworkers = [1]", "2:11: replay.workers: expected a whole number, found a list"),
        ("replay = 3", "1:10: replay: expected a section [replay], found 3"),
        ("[[replay]]\nworkers = 3", "1:1: replay: expected a section [replay], found a list"),
        (
            "[network]\nhome = \"10.0.0.0/8\"",
            r#"2:8: network.home: expected a list, each item a network such as "10.0.0.0/8", found "10.0.0.0/8""#,
        ),
        ("[network]\nhome = []", "2:8: network.home: expected at least one item, found an empty list"),
        (
            "[network]\nhome = [\"10.0.0.0/8\", \"10/8\"]",
            r#"2:23: network.home: expected a network such as "10.0.0.0/8", found "10/8""#,
        ),
        (
            "[detect]\nunencrypted_protocols = [\"smtp\"]",
            r#"2:26: detect.unencrypted_protocols: expected "ftp", "http" or "websocket", found "smtp""#,
        ),
        (
            "[detect]\nparent_process_denylist = ['C:\\a.exe']",
            r#"2:28: detect.parent_process_denylist: expected the file name of a program such as "winword.exe", found 'C:\a.exe'"#,
        ),
        (
            "[detect]\napproved_destinations = [\"a b\"]",
            r#"2:26: detect.approved_destinations: expected an address, a network or a domain, such as "198.51.100.0/24" or "partner.example", found "a b""#,
        ),
        (
            "[detect]\nexpected_processes = [\"a.exe\"]",
            r#"2:23: detect.expected_processes: expected a table with an `image`, found "a.exe""#,
        ),
        (
            "[[detect.expected_processes]]\nprotocols = [\"ftp\"]",
            r"1:1: detect.expected_processes.image: expected a pattern of the full image path such as 'C:\Program Files\Backup\*.exe', found none",
        ),
        (
            "[[detect.expected_processes]]\nimage = '[a'",
            r"2:9: detect.expected_processes.image: expected a pattern of the full image path such as 'C:\Program Files\Backup\*.exe' (unclosed character class; missing ']'), found '[a'",
        ),
    ] {
        assert_eq!(refused(text), format!("outfall.toml:{line}"));
    }
}

#[test]
fn broken_syntax_is_refused_with_its_place() {
    for (text, line) in [
        ("[flow]\nidle_timeout = \n", "2:16: syntax error: string values must be quoted, expected literal string"),
        ("[flow]\nidle_timeout = \"1 s", "2:20: syntax error: invalid basic string, expected `\"`"),
        ("[flow]\nmax = 1\nmax = 2", "3:1: syntax error at `max`: duplicate key"),
        (&"[".repeat(100_000), "1:3: syntax error: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`"),
    ] {
        assert_eq!(refused(text), format!("outfall.toml:{line}"));
    }
}

#[test]
fn every_problem_has_a_line_in_the_order_of_the_file() {
    let text = "[replay]\nworkers = 0\n[flow]\nreorder_packets = -1\nx = 1\n[network]\nhome = [\"a\", \"b\"]\n";
    let lines = refused(text);
    let places: Vec<&str> = lines.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["2:11", "4:19", "5:1", "7:9", "7:14"].map(|place| format!("outfall.toml:{place}")));

    let many: String = (0..60).map(|n| format!("k{n} = 1\n")).collect();
    let lines = refused(&many);
    assert_eq!(lines.lines().count(), 51);
    assert_eq!(lines.lines().last(), Some("outfall.toml: 10 more problems"));
}

#[test]
fn columns_count_characters() {
    let line = "replay = { workers = 0, \"\u{fc}\u{fc}\" = 1 } # x";
    assert!(refused(line).starts_with("outfall.toml:1:22: replay.workers: "));
    assert!(refused(&format!("\u{feff}{line}")).starts_with("outfall.toml:1:22: replay.workers: "));
    assert!(refused(&format!("a.\"\u{fc}\" = 1\r\n{line}")).contains("\noutfall.toml:2:22: replay.workers: "));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("outfall.toml");
    let said = || Config::load(&file).unwrap_err().to_string().replace(&file.display().to_string(), "outfall.toml");
    assert!(said().starts_with("outfall.toml: "));
    std::fs::write(&file, b"[flow]\n# caf\xe9").unwrap();
    assert_eq!(said(), "outfall.toml:2:6: expected UTF-8 text");
    std::fs::write(&file, vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert_eq!(said(), "outfall.toml: expected a configuration file, found more than 1048576 bytes");
}

#[test]
fn a_size_is_written_exactly() {
    for bytes in [0, 1, 999, 1_000, 1_024, 1_500, 65_536, 1_000_001, 10_000_000, 1u64 << 40] {
        let text = format!("[detect]\ndata_transfer_size_threshold = {bytes}");
        let config = Config::parse(&text, "size").unwrap();
        for change in config.changes() {
            let again = format!("[detect]\ndata_transfer_size_threshold = {}", change.value);
            assert_eq!(Config::parse(&again, "size").unwrap(), config);
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*") {
        let _ = Config::parse(&text, "outfall.toml");
    }

    #[test]
    fn no_pattern_panics(pattern in "[a{}\\[\\]!,*?\\\\/-]{0,60}|.*", image in ".*") {
        if let Ok(process) = ExpectedProcess::new(&pattern, Vec::new(), Vec::new()) {
            process.matches_image(&image);
        }
    }

    #[test]
    fn no_mutation_of_the_default_panics_and_errors_stay_on_their_lines(
        at in any::<prop::sample::Index>(),
        cut in 0usize..40,
        insert in "[\\[\\]{}=\"'#\\\\.,0-9a-z \n\u{0}\u{fc}]{0,12}",
    ) {
        let text = Config::default_text();
        let start = at.index(text.len());
        let end = (start + cut).min(text.len());
        let mutated = format!("{}{insert}{}", &text[..start], &text[end..]);
        if let Err(ConfigError::Refused { problems, .. }) = Config::parse(&mutated, "outfall.toml") {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(!problem.to_string().contains('\n'));
                prop_assert!(problem.line <= mutated.split('\n').count());
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(image in "[^*?\\[\\]{}]{1,20}", workers in 1u64..17) {
        prop_assume!(!image.trim().is_empty());
        let mut config = Config::default();
        config.replay.workers = workers;
        config.detect.expected_processes =
            vec![ExpectedProcess::new(&image, vec!["ftp".into()], vec!["192.0.2.1".parse().unwrap()]).unwrap()];
        let written: String = config
            .changes()
            .iter()
            .map(|change| format!("{} = {}\n", change.key, change.value))
            .collect();
        prop_assert_eq!(Config::parse(&written, "outfall.toml").unwrap(), config);
    }
}

#[test]
fn every_pattern_of_the_defaults_can_be_compiled() {
    let detect = Config::default().detect;
    assert_eq!((detect.staging_paths.len(), detect.sensitive_paths.len()), (8, 9));
    assert!(detect.staging_paths.iter().any(|pattern| pattern.matches(r"C:\$Recycle.Bin\old.7z")));
    assert!(detect.sensitive_paths.iter().any(|pattern| pattern.matches(r"C:\Users\x\.ssh\id_ed25519")));
}
