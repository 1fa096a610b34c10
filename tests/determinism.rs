//! The same input gives the same output, byte for byte, whatever the number of workers.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use common::pcap::Capture;
use common::{Ran, Story, check_all, files_of, outfall, root, skip};

#[test]
fn stories_give_the_same_records_whatever_the_number_of_workers() {
    check_all(&Story::all(), |story| {
        let ran = same_for_any_workers(story.capture(), &story.context())?;
        match ran.status {
            Some(0) if !ran.stdout.is_empty() => Ok(()),
            status => Err(format!("{}: status {status:?}: {}", story.name, ran.stderr)),
        }
    });
}

#[test]
fn corpus_captures_give_the_same_records_whatever_the_number_of_workers() {
    let corpus = root().join("../shared/corpus");
    if !corpus.exists() {
        return skip("determinism over the corpus", "../shared/corpus is not there");
    }
    let captures = [files_of(&corpus.join("captures")), files_of(&corpus.join("hostile"))].concat();
    check_all(&captures, |capture| match same_for_any_workers(capture.clone(), &[])?.status {
        // What is damaged may be refused, but in words.
        Some(0 | 2) => Ok(()),
        status => Err(format!("{}: status {status:?}", capture.display())),
    });
}

fn same_for_any_workers(capture: PathBuf, context: &[OsString]) -> Result<Ran, String> {
    let run = |workers: &str| {
        let mut args: Vec<OsString> = ["replay", "--json", "--flows", "--workers", workers].map(OsString::from).into();
        args.push(capture.clone().into());
        args.extend_from_slice(context);
        outfall(args)
    };
    let one = run("1");
    for workers in ["2", "5"] {
        let more = run(workers);
        if more.status != one.status {
            let (one, more) = (one.status, more.status);
            return Err(format!("{}: status {one:?} with 1 worker, {more:?} with {workers}", capture.display()));
        }
        if let Some(difference) = first_difference(&one.stdout, &more.stdout) {
            return Err(format!("{}: --workers 1 and --workers {workers} differ: {difference}", capture.display()));
        }
    }
    Ok(one)
}

/// Where two outputs part, if they do.
fn first_difference(one: &[u8], other: &[u8]) -> Option<String> {
    if one == other {
        return None;
    }
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (lines(one), lines(other));
    let at = (0..).find(|n| one.get(*n) != other.get(*n) || *n >= one.len()).unwrap_or_default();
    let shown = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "the end".to_owned());
    Some(format!("line {}\n  {}\n  {}", at + 1, shown(&one), shown(&other)))
}

#[test]
fn who_gives_way_for_want_of_memory_does_not_depend_on_the_number_of_workers() {
    let mut capture = Capture::default();
    for n in 0..400u16 {
        let client = SocketAddrV4::new([10, 0, (n >> 8) as u8, n as u8].into(), 40_000);
        let request = format!("PUT /{n} HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc");
        capture.connect(client, "192.0.2.9:80".parse().unwrap()).client(request);
        let head = format!("GET /{n} HTTP/1.1\r\nX: {}", "x".repeat(9000));
        let client = SocketAddrV4::new(*client.ip(), 40_001);
        capture.connect(client, "192.0.2.9:80".parse().unwrap()).client(head);
    }
    let folder = tempfile::tempdir().unwrap();
    let (pcap, toml) = (folder.path().join("a.pcap"), folder.path().join("a.toml"));
    std::fs::write(&pcap, capture.file()).unwrap();
    std::fs::write(&toml, "[protocol]\nmemory = \"1 MiB\"\n").unwrap();
    let config = ["--config".into(), toml.clone().into_os_string()];
    same_for_any_workers(pcap.clone(), &config).unwrap();
    let told = outfall(["replay".into(), pcap.into_os_string(), "--config".into(), toml.into()]).exits(0);
    assert!(told.text().contains("connections no longer read, parser memory used up"), "{}", told.text());
}
