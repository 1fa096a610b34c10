//! `outfall evidence`, by the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use common::{Story, outfall, root};
use etherparse::{IpFragOffset, Ipv4Header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The alert of a story, as a replay gives it.
fn alert(story: &Story, more: &[&str]) -> Value {
    let records = story.replay(&[&["--json"], more].concat()).exits(0).records();
    records.into_iter().find(|record| record["event"]["dataset"] == "outfall.alert").unwrap()
}

struct Site {
    folder: tempfile::TempDir,
    capture: PathBuf,
    events: PathBuf,
    alert: Value,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let story = Story::named("ftp-staged-archive");
        let events = root().join("captures/ftp-staged-archive/endpoint.jsonl");
        Self { folder, capture: story.capture(), events, alert: alert(&story, &[]) }
    }

    fn id(&self) -> &str {
        self.alert["event"]["id"].as_str().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make(&self, id: &str, output: &Path, more: &[&Path]) -> common::Ran {
        let mut args =
            vec!["evidence".as_ref(), id.as_ref(), self.capture.as_os_str(), "-o".as_ref(), output.as_os_str()];
        args.extend(["--endpoint".as_ref(), self.events.as_os_str()]);
        args.extend(more.iter().map(|path| path.as_os_str()));
        outfall(args)
    }

    /// The slice, with the events and the configuration beside it, gives the alert to the last digit.
    fn replays_the_same(&self, folder: &Path) {
        let path = |name: &str| folder.join(name).into_os_string();
        let ran = outfall([
            "replay".into(),
            path("packets.pcapng"),
            "--endpoint".into(),
            path("events.jsonl"),
            "--config".into(),
            path("configuration.toml"),
            "--json".into(),
        ]);
        let records = ran.exits(0).records();
        let again = records.into_iter().find(|record| record["event"]["dataset"] == "outfall.alert").unwrap();
        assert_eq!(again, self.alert);
    }

    /// In a folder or a file of this name.
    fn made(&self, name: &str) -> PathBuf {
        let output = self.path(name);
        self.make(self.id(), &output, &[]).exits(0);
        output
    }
}

fn verify(path: &Path, more: &[&str]) -> common::Ran {
    let mut args = vec!["evidence".as_ref(), "verify".as_ref(), path.as_os_str()];
    args.extend(more.iter().map(|text| std::ffi::OsStr::new(*text)));
    outfall(args)
}

#[test]
fn the_evidence_of_an_alert_verifies_and_its_slice_replays_to_the_same_alert() {
    let site = Site::new();
    let folder = site.made("bundle");
    let text = verify(&folder, &[]).exits(0).text().to_owned();
    assert!(text.contains(": ok: ") && text.contains(site.id()), "{text}");
    site.replays_the_same(&folder);
    let comment = format!("Outfall: evidence of alert {}", site.id());
    let packets = std::fs::read(folder.join("packets.pcapng")).unwrap();
    assert!(packets.windows(comment.len()).any(|part| part == comment.as_bytes()));
    let text = std::fs::read(folder.join("alert.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), site.alert);
    let manifest = manifest(&folder);
    assert_eq!(manifest["alert"], site.id());
    assert!(manifest["clock"]["synchronised"].is_boolean() && manifest["packets"]["left_out"] == 0, "{manifest}");
}

#[test]
fn events_that_were_packed_are_written_in_the_form_of_the_helper() {
    let mut site = Site::new();
    let packed = site.path("events.jsonl.gz");
    let Ok(out) = std::process::Command::new("gzip").arg("-c").arg(&site.events).output() else {
        return common::skip("events_that_were_packed", "gzip is not there");
    };
    std::fs::write(&packed, out.stdout).unwrap();
    site.events = packed;
    site.replays_the_same(&site.made("bundle"));
}

#[test]
fn whatever_is_changed_removed_or_added_is_found() {
    let site = Site::new();
    let folder = site.made("bundle");
    for name in ["alert.json", "configuration.toml", "events.jsonl", "packets.pcapng"] {
        let path = folder.join(name);
        let kept = std::fs::read(&path).unwrap();
        let mut other = kept.clone();
        *other.last_mut().unwrap() ^= 1;
        std::fs::write(&path, other).unwrap();
        let said = verify(&folder, &[]).exits(1).text().to_owned();
        assert!(said.contains(&format!("{name}: was changed")) && said.contains("FAILED"), "{said}");
        std::fs::remove_file(&path).unwrap();
        let said = verify(&folder, &[]).exits(1).text().to_owned();
        assert!(said.contains(&format!("{name}: is missing")), "{said}");
        std::fs::write(&path, kept).unwrap();
        verify(&folder, &[]).exits(0);
    }
    std::fs::write(folder.join("more"), "").unwrap();
    assert!(verify(&folder, &[]).exits(1).text().contains("more: was added"));
    std::fs::remove_file(folder.join("more")).unwrap();
    #[cfg(unix)]
    {
        let odd: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"odd\xff");
        std::fs::write(folder.join(odd), "").unwrap();
        assert!(verify(&folder, &[]).exits(1).text().contains("was added"));
        std::fs::remove_file(folder.join(odd)).unwrap();
    }
    let said = verify(&folder, &[]).exits(0).text().to_owned();
    let hash = said.trim_end().rsplit(' ').next().unwrap().to_owned();
    verify(&folder, &["--sha256", &hash]).exits(0);
    // Somebody who makes up another manifest is found by who noted the first one's hash.
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text + " ").unwrap();
    verify(&folder, &[]).exits(0);
    assert!(verify(&folder, &["--sha256", &hash]).exits(1).text().contains("is not the one that was made"));
}

#[cfg(unix)]
#[test]
fn a_link_is_never_taken_for_a_file_and_nobody_else_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let folder = site.made("bundle");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("packets.pcapng"))), (0o700, 0o600));
    let (path, elsewhere) = (folder.join("alert.json"), site.path("elsewhere"));
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(verify(&folder, &[]).exits(1).text().contains("alert.json: was changed"));
    // What is there already is never written to.
    site.make(site.id(), &folder, &[]).refuses(&["is there already"]);
    let dangling = site.path("dangling");
    std::os::unix::fs::symlink(site.path("nowhere"), &dangling).unwrap();
    site.make(site.id(), &dangling, &[]).refuses(&["is there already"]);
}

#[test]
fn a_zip_file_verifies_and_a_changed_one_does_not() {
    let site = Site::new();
    let file = site.made("bundle.zip");
    verify(&file, &[]).exits(0);
    let kept = std::fs::read(&file).unwrap();
    let mut noticed = 0;
    for at in (60..kept.len() - 600).step_by(kept.len() / 16) {
        let mut other = kept.clone();
        other[at] ^= 0x10;
        std::fs::write(&file, other).unwrap();
        noticed += u32::from(verify(&file, &[]).status != Some(0));
    }
    assert!(noticed >= 15, "{noticed}");
    std::fs::write(&file, "no zip file").unwrap();
    verify(&file, &[]).refuses(&["neither a folder nor a zip file"]);
}

/// What the manifest of a bundle says.
fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// The settings of a story with some more.
fn settings(site: &Site, story: &Story, more: &str) -> PathBuf {
    let context = story.context();
    let own =
        context.chunks(2).find(|pair| pair[0] == "--config").map(|pair| std::fs::read_to_string(&pair[1]).unwrap());
    let file = site.path("outfall.toml");
    std::fs::write(&file, format!("{}\n[evidence]\n{more}\n", own.unwrap_or_default())).unwrap();
    file
}

#[test]
fn uploaded_files_are_carved_where_the_policy_allows_it_and_are_what_their_hash_says() {
    let mut files = 0;
    let mut bodies = 0;
    for (n, story) in Story::all().into_iter().enumerate() {
        let records = story.replay(&["--json"]).exits(0).records();
        let Some(alert) = records.into_iter().find(|record| record["event"]["dataset"] == "outfall.alert") else {
            continue;
        };
        let events = story.context().chunks(2).find(|pair| pair[0] == "--endpoint").map(|pair| PathBuf::from(&pair[1]));
        let folder = tempfile::tempdir().unwrap();
        let site = Site { folder, capture: story.capture(), events: events.unwrap_or("/dev/null".into()), alert };
        let config = settings(&site, &story, "carve = true");
        let output = site.path(&format!("bundle{n}"));
        let text = site.make(site.id(), &output, &["--config".as_ref(), &config]).exits(0).text().to_owned();
        verify(&output, &[]).exits(0);
        let manifest = manifest(&output);
        let carved = manifest["uploaded_files"].as_array().unwrap();
        assert!(!carved.is_empty(), "{}: {manifest}", story.name);
        let mut hashes = Vec::new();
        for file in carved {
            let content = std::fs::read(output.join(file["name"].as_str().unwrap())).unwrap();
            assert_eq!(file["sha256"], format!("{:x}", Sha256::digest(&content)), "{}", story.name);
            hashes.push(file["sha256"].clone());
        }
        assert!(text.contains(&format!("{} uploaded files carved", carved.len())), "{text}");
        for file in site.alert["outfall"]["files"].as_array().into_iter().flatten() {
            assert!(hashes.contains(&file["hash"]["sha256"]), "{}: {file}: {manifest}", story.name);
            files += 1;
        }
        if site.alert["outfall"]["files"].is_null() {
            bodies += 1;
        }
        let named = site.alert["outfall"]["alert"]["story"]["named"].as_array().map_or(0, Vec::len);
        assert!(carved.len() >= named, "{}: {manifest}", story.name);
    }
    assert!(files >= 5 && bodies >= 2, "{files} files, {bodies} bodies");
}

#[test]
fn what_is_more_than_may_be_carved_is_said_to_be_missing() {
    let site = Site::new();
    let config = settings(&site, &Story::named("ftp-staged-archive"), "carve = true\nmax_carved = \"100 KiB\"");
    let output = site.path("bundle");
    site.make(site.id(), &output, &["--config".as_ref(), &config]).exits(0);
    let said = manifest(&output)["uploaded_files"].clone();
    assert_eq!(said[0]["not_carved"], "more than `evidence.max_carved`", "{said}");
    assert_eq!(said[0]["file"], site.alert["file"]["name"]);
    assert!(said[0].get("name").is_none() && said.as_array().unwrap().len() == 1);
}

#[test]
fn every_upload_of_a_story_has_its_packets() {
    // Without its policy, which expects it.
    let story = Story::named("backup-agent");
    let events = root().join("captures/backup-agent/endpoint.jsonl");
    let args =
        ["replay".as_ref(), story.capture().as_os_str(), "--json".as_ref(), "--endpoint".as_ref(), events.as_os_str()]
            .map(OsStr::to_owned);
    let records = outfall(args).exits(0).records();
    let alert = records.into_iter().find(|record| record["event"]["dataset"] == "outfall.alert").unwrap();
    assert_eq!(alert["outfall"]["alert"]["story"]["uploads"], 2);
    let site = Site { folder: tempfile::tempdir().unwrap(), capture: story.capture(), events, alert };
    let output = site.made("bundle");
    site.replays_the_same(&output);
}

#[test]
fn every_dialogue_of_a_story_of_ftp_is_there() {
    let story = Story::named("ftp-lftp-parallel");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("small.toml");
    std::fs::write(&config, "[detect]\ndata_transfer_size_threshold = \"1 kB\"\n").unwrap();
    let replay = |capture: &Path| {
        let args = ["replay".as_ref(), capture.as_os_str(), "--json".as_ref(), "--config".as_ref(), config.as_os_str()];
        let records = outfall(args.map(OsStr::to_owned)).exits(0).records();
        records.into_iter().find(|record| record["event"]["dataset"] == "outfall.alert").unwrap()
    };
    let alert = replay(&story.capture());
    assert_eq!(alert["outfall"]["alert"]["story"]["uploads"], 6);
    let site = Site { folder, capture: story.capture(), events: "/dev/null".into(), alert };
    let output = site.path("bundle");
    site.make(site.id(), &output, &["--config".as_ref(), &config]).exits(0);
    assert_eq!(replay(&output.join("packets.pcapng")), site.alert);
}

/// An IPv4 packet in Ethernet, in fragments.
fn fragments(frame: &[u8]) -> Vec<Vec<u8>> {
    let (header, rest) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    let size = (rest.len() / 3).next_multiple_of(8);
    let fragment = |(n, part): (usize, &[u8])| {
        let mut header = header.clone();
        header.dont_fragment = false;
        header.more_fragments = (n + 1) * size < rest.len();
        header.fragment_offset = IpFragOffset::try_new((n * size / 8) as u16).unwrap();
        header.set_payload_len(part.len()).unwrap();
        let mut bytes = frame[..14].to_vec();
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(part);
        bytes
    };
    rest.chunks(size).enumerate().map(fragment).collect()
}

#[test]
fn a_packet_in_fragments_is_in_the_slice_with_all_of_them() {
    let mut site = Site::new();
    let (header, records) = common::pcap::parse(&std::fs::read(&site.capture).unwrap());
    let whole = records.len();
    let split = records.into_iter().flat_map(|record| {
        let pieces =
            if record.bytes().len() > 1_000 { fragments(record.bytes()) } else { vec![record.bytes().to_vec()] };
        pieces.into_iter().map(move |bytes| record.replaced(bytes))
    });
    let split: Vec<_> = split.collect();
    assert!(split.len() > whole + 20, "{whole} {}", split.len());
    site.capture = site.path("fragments.pcap");
    std::fs::write(&site.capture, common::pcap::build(&header, &split)).unwrap();
    let folder = site.made("bundle");
    site.replays_the_same(&folder);
    let packets = manifest(&folder)["packets"]["count"].as_u64().unwrap() as usize;
    assert!(packets > whole, "{packets} of {}", split.len());
}

#[test]
fn a_disk_keeps_what_is_to_stay_free() {
    let site = Site::new();
    let config = settings(&site, &Story::named("ftp-staged-archive"), "min_free = \"1 TiB\"");
    let output = site.path("bundle");
    let ran = site.make(site.id(), &output, &["--config".as_ref(), &config]);
    ran.refuses(&["less than `evidence.min_free` would stay free there"]);
    assert!(!output.exists());
}

#[test]
fn a_stored_alert_comes_with_what_was_normal() {
    let site = Site::new();
    let store = site.path("outfall.db");
    let alert = alert(&Story::named("ftp-staged-archive"), &["--state", store.to_str().unwrap()]);
    let id = alert["event"]["id"].as_str().unwrap();
    let output = site.path("bundle");
    site.make(id, &output, &[Path::new("--state"), &store]).exits(0);
    verify(&output, &[]).exits(0);
    let facts: Value = serde_json::from_slice(&std::fs::read(output.join("baseline.json")).unwrap()).unwrap();
    let kinds: Vec<&str> = facts.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    for kind in ["whole", "destination", "process", "host-volume"] {
        assert!(kinds.contains(&kind), "{kind}: {facts}");
    }
}

#[test]
fn wrong_inputs_get_one_line_that_says_what_to_do() {
    let site = Site::new();
    let output = site.path("bundle");
    site.make("0123", &output, &[]).refuses(&["raise no such alert, but", site.id()]);
    site.make("../x", &output, &[]).refuses(&["raise no such alert"]);
    let store = site.path("none.db");
    site.make(site.id(), &output, &[Path::new("--state"), &store]).refuses(&["none.db"]);
    let other = Site { capture: Story::named("http-multipart").capture(), ..Site::new() };
    other.make(site.id(), &output, &[]).refuses(&["raise no alert"]);
    verify(&site.path("nothing"), &[]).refuses(&["nothing", "cannot be read"]);
    verify(site.folder.path(), &[]).refuses(&["no manifest.json"]);
    let emptied = tempfile::tempdir().unwrap();
    std::fs::write(emptied.path().join("manifest.json"), r#"{"files":[]}"#).unwrap();
    verify(emptied.path(), &[]).refuses(&["names no alert"]);
    assert!(!output.exists(), "nothing half done stays");
    assert_eq!(std::fs::read_dir(site.folder.path()).unwrap().count(), 0);
}
