//! Public captures with the event logs of the hosts in them: how many flows get their process, and that none gets a wrong one.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::process::Command;

use common::expect::at;
use common::{available, binary, outfall, root, skip};

#[test]
fn every_http_flow_gets_its_process_and_none_a_wrong_one() {
    let Some(joined) = check("truth") else { return };
    assert!(joined.wanted > 0 && joined.right == joined.wanted, "{}", joined.output);
    assert_eq!((joined.wrong, joined.spurious), (0, 0), "{}", joined.output);
}

#[test]
fn nearly_every_tcp_flow_gets_its_process_and_none_a_wrong_one() {
    let Some(joined) = check("truth_alltcp") else { return };
    assert!(joined.wanted > 0 && joined.right * 108 >= joined.wanted * 105, "{}", joined.output);
    assert_eq!((joined.wrong, joined.spurious), (0, 0), "{}", joined.output);
}

#[test]
fn windows_event_logs_are_read_as_windows_writes_them() {
    let folder = root().join("../shared/evtx");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return skip("windows_event_logs_are_read_as_windows_writes_them", "../shared/evtx is not there");
    };
    let capture = root().join("captures/no-endpoint/capture.pcap");
    let logs =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|ext| ext == "evtx"));
    for log in logs {
        let args =
            ["coverage".as_ref(), capture.as_os_str(), "--json".as_ref(), "--endpoint".as_ref(), log.as_os_str()];
        let ran = outfall(args).exits(0);
        let report = ran.records().remove(0);
        let count = |path: &str| at(&report, path).and_then(|value| value.as_u64()).unwrap();
        assert!(count("intake.events") > 0, "{}: {report}", log.display());
        assert_eq!(count("intake.malformed"), 0, "{}: {report}", log.display());
    }
}

struct Joined {
    right: u64,
    wanted: u64,
    wrong: u64,
    spurious: u64,
    output: String,
}

/// What the recordings' own check says of the program; nothing where it cannot run.
fn check(truth: &str) -> Option<Joined> {
    let folder = root().join("../shared/paired");
    if !folder.join("check_join.py").exists() {
        skip("paired", "../shared/paired is not there");
        return None;
    }
    if !available("python3") {
        skip("paired", "python3 is not installed");
        return None;
    }
    let binary = binary().display().to_string();
    let mut command = Command::new("python3");
    command.arg(folder.join("check_join.py")).arg(&folder);
    let quoted = binary.replace('\'', r"'\''");
    command.arg(format!("'{quoted}' replay --json --flows --endpoint {{events}} {{capture}}"));
    let output = command.args(["--truth", truth]).output().expect("python3 runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // joined 18/18 right, 0 wrong, 0 missing
    let numbers = |start: &str| -> Vec<u64> {
        let line = output.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{output}"));
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let (joined, spurious) = (numbers("joined "), numbers("spurious "));
    let [right, wanted, wrong, ..] = joined.as_slice() else { panic!("not understood: {output}") };
    let (right, wanted, wrong) = (*right, *wanted, *wrong);
    Some(Joined { right, wanted, wrong, spurious: spurious[0], output })
}
