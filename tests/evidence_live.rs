//! The evidence that a live sensor writes by itself.

#![cfg(all(feature = "sensor", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::lab::{self, Lab, Prepared};
use common::{Story, check_all, outfall, skip};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The network, unless this machine does not allow any.
fn lab(test: &str) -> Option<Lab> {
    Lab::new(test, 1).map_err(|reason| skip(test, &reason)).ok()
}

/// Sends a story to a sensor with these settings; its records, what it said, and where its evidence is.
fn live(lab: &Lab, story: &Story, settings: &str, store: &str) -> (Vec<Value>, String, PathBuf) {
    let settings = format!("[store]\npath = \"{store}\"\n[evidence]\ndirectory = \"evidence\"\n{settings}");
    let Prepared { frames, start, args, config } = lab.prepare(story, &settings);
    let sensor = lab.sensor(&args);
    let frames: Vec<(usize, lab::Timed)> = frames.into_iter().map(|timed| (0, timed)).collect();
    lab.send(start, &frames);
    let (records, said) = sensor.ends();
    (records, said, config.with_file_name("evidence"))
}

fn alerts(records: &[Value]) -> Vec<&Value> {
    let told = records.iter().filter(|record| record["event"]["dataset"] == "outfall.alert");
    told.filter(|record| record["outfall"]["upload"].is_object()).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Names of folders, in order.
fn folders(directory: &Path) -> Vec<String> {
    let named = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = named.collect();
    names.sort();
    names
}

fn verify(folder: &Path) {
    let ran = outfall(["evidence".as_ref(), "verify".as_ref(), folder.as_os_str()]);
    let text = ran.exits(0).text().to_owned();
    assert!(text.contains(": ok: "), "{text}");
}

/// The alert that a replay of a bundle gives.
fn replayed(folder: &Path, id: &str) -> Value {
    let path = |name: &str| folder.join(name).into_os_string();
    let mut args: Vec<OsString> =
        vec!["replay".into(), path("packets.pcapng"), "--config".into(), path("configuration.toml"), "--json".into()];
    if folder.join("events.jsonl").exists() {
        args.extend(["--endpoint".into(), path("events.jsonl")]);
    }
    let records = outfall(args).exits(0).records();
    alerts(&records).into_iter().find(|alert| alert["event"]["id"] == id).cloned().unwrap_or_default()
}

#[test]
fn each_alert_has_its_packets_from_the_first_one_on_and_its_file() {
    let Some(lab) = lab("shelf") else { return };
    let story = Story::named("ftp-staged-archive");
    let (records, said, directory) = live(&lab, &story, "carve = true", "outfall.db");
    let alert = alerts(&records).last().copied().cloned().unwrap();
    let id = alert["event"]["id"].as_str().unwrap();
    let names = folders(&directory);
    let last = names.last().unwrap_or_else(|| panic!("no evidence:\n{said}"));
    assert!(last == id || last.starts_with(&format!("{id}-")), "{names:?}, {id}");
    let folder = directory.join(last);
    verify(&folder);
    assert_eq!(read(&folder.join("alert.json")), alert);
    let again = replayed(&folder, id);
    for path in SAME.into_iter().chain(["/outfall/reasons", "/outfall/join"]) {
        assert_eq!(again.pointer(path), alert.pointer(path), "{path}\n{said}");
    }
    let manifest = read(&folder.join("manifest.json"));
    assert_eq!((&manifest["packets"]["gone"], &manifest["packets"]["left_out"]), (&0.into(), &0.into()), "{manifest}");
    assert!(manifest["endpoint_events"].as_u64().unwrap() > 3, "{manifest}");
    assert_eq!(manifest["baseline"], "as the database had it when this was made, after the verdict");
    assert!(manifest["clock"]["synchronised"].is_boolean(), "a confined sensor may ask, too: {manifest}");
    assert!(read(&folder.join("baseline.json")).as_array().is_some());
    // Handed out as one file, too.
    let config = directory.with_file_name("outfall.toml");
    let output = directory.with_file_name("case.zip");
    let take = |id: &str| {
        let args = [
            "evidence".as_ref(),
            id.as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
            "-o".as_ref(),
            output.as_os_str(),
        ];
        outfall(args.map(std::ffi::OsStr::to_owned))
    };
    take("0123").refuses(&["has no evidence of 0123"]);
    let text = take(id).exits(0).text().to_owned();
    assert!(text.contains("as the sensor wrote it"), "{text}");
    verify(&output);
    // The file itself.
    let carved = manifest["uploaded_files"].as_array().unwrap();
    let [file] = carved.as_slice() else { panic!("{manifest}") };
    assert_eq!(file["file"], alert["file"]["name"]);
    assert_eq!(file["sha256"], alert["file"]["hash"]["sha256"]);
    let content = std::fs::read(folder.join(file["name"].as_str().unwrap())).unwrap();
    assert_eq!(format!("{:x}", Sha256::digest(&content)), alert["file"]["hash"]["sha256"].as_str().unwrap());
    assert!(said.contains(&format!("evidence of alert {id}: ")), "{said}");
}

/// What a replay gives again of an alert, whatever its uploads are counted with.
const SAME: [&str; 12] = [
    "/event/id",
    "/event/start",
    "/event/end",
    "/process",
    "/user",
    "/file",
    "/outfall/upload",
    "/outfall/files",
    "/outfall/ftp",
    "/source",
    "/destination",
    "/network",
];

#[test]
fn the_evidence_of_every_story_verifies_and_replays_to_its_alert() {
    if lab("every").is_none() {
        return;
    }
    let raises = |story: &Story| !alerts(&story.replay(&["--json"]).exits(0).records()).is_empty();
    let stories: Vec<(usize, Story)> = Story::all().into_iter().filter(raises).enumerate().collect();
    let checked = AtomicUsize::new(0);
    check_all(&stories, |(n, story)| {
        let lab = Lab::new(&format!("every{n}"), 1)?;
        let (records, said, directory) = live(&lab, story, "", "");
        let mut ids: Vec<String> = alerts(&records).iter().map(|alert| alert["event"]["id"].to_string()).collect();
        let names = folders(&directory);
        if names.len() != ids.len() {
            return Err(format!("{}: {names:?} for {ids:?}\n{said}", story.name));
        }
        ids.dedup();
        let told = |id: &str| alerts(&records).into_iter().rfind(|alert| alert["event"]["id"] == id).cloned();
        for name in names {
            let folder = directory.join(&name);
            verify(&folder);
            let alert = read(&folder.join("alert.json"));
            let id = alert["event"]["id"].as_str().unwrap();
            let last = told(id).unwrap();
            if last != alert {
                continue;
            }
            let again = replayed(&folder, id);
            for path in SAME {
                if again.pointer(path) != alert.pointer(path) {
                    return Err(format!("{}: {path}: {again:#}\nwas {alert:#}\n{said}", story.name));
                }
            }
            checked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    let checked = checked.into_inner();
    assert!(checked >= 6, "{checked}");
}

#[test]
fn where_the_disk_has_no_room_nothing_is_written_and_that_is_said() {
    let Some(lab) = lab("full") else { return };
    let story = Story::named("ftp-staged-archive");
    let (records, said, directory) = live(&lab, &story, "min_free = \"1 TiB\"", "");
    assert!(!alerts(&records).is_empty() && folders(&directory).is_empty(), "{said}");
    assert!(said.contains("is not written: no room within `evidence.max_disk` and `evidence.min_free`"), "{said}");
    assert!(said.contains("alerts without evidence, no room on the disk"), "{said}");
}

#[test]
fn without_carving_no_file_is_in_it_and_less_severe_alerts_have_none() {
    let Some(lab) = lab("shelf2") else { return };
    let story = Story::named("ftp-staged-archive");
    let (_, _, directory) = live(&lab, &story, "", "");
    let names = folders(&directory);
    let folder = directory.join(names.last().unwrap());
    let files = folders(&folder);
    assert_eq!(files, ["alert.json", "configuration.toml", "events.jsonl", "manifest.json", "packets.pcapng"]);
    let manifest = read(&folder.join("manifest.json"));
    assert_eq!(manifest["uploaded_files"], "not carved: `evidence.carve` is off");
    assert_eq!(manifest["baseline"], "none was kept");
    // This story's alert is not that severe.
    let story = Story::named("no-endpoint");
    let lab = Lab::new("shelf3", 1).unwrap();
    let (records, _, directory) = live(&lab, &story, "minimum_severity = \"critical\"", "");
    let severe = alerts(&records).iter().filter(|alert| alert["event"]["severity"].as_u64() >= Some(99)).count();
    assert!(alerts(&records).len() > severe);
    assert_eq!(folders(&directory).len(), severe);
}
