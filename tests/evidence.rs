//! `outfall evidence`, by the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use common::{Story, outfall, root};
use serde_json::Value;

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
    let manifest: Value = serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["alert"], site.id());
    assert!(manifest["clock"].get("synchronised").is_some() && manifest["packets"]["left_out"] == 0, "{manifest}");
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
    assert!(!output.exists(), "nothing half done stays");
    assert_eq!(std::fs::read_dir(site.folder.path()).unwrap().count(), 0);
}
