//! Hashes of what went over the wire, through the real program: they are those that the endpoint took of its files.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeSet;

use common::{Story, expect, outfall};
use serde_json::Value;

#[test]
fn every_file_that_the_endpoint_hashed_has_the_same_hash_on_the_wire() {
    let mut compared = 0;
    for story in Story::all() {
        let events = std::fs::read_to_string(story.capture().with_file_name("endpoint.jsonl")).unwrap_or_default();
        let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let hash = |event: Value| (event["type"] == "file").then(|| event["sha256"].as_str().map(str::to_owned))?;
        let wanted: BTreeSet<String> = events.filter_map(hash).collect();
        let ran = outfall(["replay".into(), "--json".into(), story.capture()]).exits(0);
        let found: BTreeSet<String> = ran.dataset("outfall.upload").iter().flat_map(hashes).collect();
        let missing: Vec<&String> = wanted.difference(&found).collect();
        assert!(missing.is_empty(), "{}: {missing:?} not among {found:?}", story.name);
        compared += wanted.len();
    }
    assert!(compared >= 9, "{compared} hashes compared");
}

fn hashes(upload: &Value) -> Vec<String> {
    let files = expect::at(upload, "outfall.files").and_then(Value::as_array).cloned().unwrap_or_default();
    let files = files.iter().map(|file| expect::at(file, "hash.sha256").cloned());
    let body = expect::at(upload, "outfall.upload.sha256").cloned();
    files.chain([body]).flatten().filter_map(|hash| hash.as_str().map(str::to_owned)).collect()
}
