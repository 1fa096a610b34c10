//! The captures that are made to measure with: Outfall finds in them what their generator put there, to the byte.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "../benches/traffic/mod.rs"]
mod traffic;

use std::collections::BTreeMap;

use common::outfall;
use traffic::totals::Tally;
use traffic::{Capture, Scale};

#[test]
fn every_generated_byte_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    for capture in Capture::ALL {
        let (bytes, totals) = generate(capture);
        let path = folder.path().join(format!("{capture}.pcap"));
        std::fs::write(&path, bytes).unwrap();
        // Of an upload that was reported while it ran, the last record counts.
        let mut uploads = BTreeMap::new();
        let mut flows = 0;
        for record in outfall(["replay", "--json", "--flows", path.to_str().unwrap()]).exits(0).records() {
            match record["event"]["dataset"].as_str() {
                Some("outfall.upload") => {
                    let protocol = record["network"]["protocol"].as_str().unwrap().to_owned();
                    let upload = &record["outfall"]["upload"];
                    assert!(upload["missing_bytes"].as_u64().is_none_or(|missing| missing == 0), "{record}");
                    let id = record["event"]["id"].as_str().unwrap().to_owned();
                    uploads.insert(id, (protocol, upload["bytes"].as_u64().unwrap()));
                }
                Some("outfall.flow") => flows += 1,
                _ => {}
            }
        }
        let tally = |protocol: &str| {
            let mut tally = Tally::default();
            uploads.values().filter(|(of, _)| of == protocol).for_each(|(_, bytes)| tally.add(*bytes));
            tally
        };
        assert_eq!(tally("http"), totals.http_uploads, "{capture}");
        assert_eq!(tally("ftp"), totals.ftp_uploads, "{capture}");
        assert_eq!(flows, totals.connections, "{capture}");
    }
}

#[test]
fn the_same_capture_is_made_every_time() {
    for capture in Capture::ALL {
        let (first, second) = (generate(capture), generate(capture));
        assert!(first == second, "{capture}");
        assert_eq!(first.1.packets as usize, packets(&first.0), "{capture}");
    }
}

fn generate(capture: Capture) -> (Vec<u8>, traffic::totals::Totals) {
    let mut bytes = Vec::new();
    let totals = capture.write("1/200".parse::<Scale>().unwrap(), &mut bytes).unwrap();
    (bytes, totals)
}

fn packets(file: &[u8]) -> usize {
    common::pcap::parse(file).1.len()
}
