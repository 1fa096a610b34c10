//! `outfall enroll`: what it writes, who may read it, and what it refuses.

#![cfg(all(feature = "sensor", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use common::{Ran, outfall};

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new(settings: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        let state = site.path("state");
        let text = format!("[listener]\nstate = \"{}\"\n{settings}", state.display());
        std::fs::write(site.path("outfall.toml"), text).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn enroll(&self, args: &[&str]) -> Ran {
        let config = self.path("outfall.toml").display().to_string();
        outfall([&["enroll"], args, &["--config", &config]].concat())
    }
}

#[test]
fn a_host_gets_everything_that_its_helper_needs() {
    let site = Site::new("");
    let into = site.path("pack").display().to_string();
    site.enroll(&["WKS-0142", "--sensor", "sensor.example", "--into", &into]).exits(0);
    for (name, begins) in [
        ("authority.crt", "-----BEGIN CERTIFICATE"),
        ("helper.crt", "-----BEGIN CERTIFICATE"),
        ("helper.key", "-----BEGIN PRIVATE KEY"),
    ] {
        let file = site.path("pack").join(name);
        assert!(std::fs::read_to_string(&file).unwrap().starts_with(begins), "{name}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(site.path("pack")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(site.path("state")).unwrap().permissions().mode() & 0o777, 0o700);
    let text = std::fs::read_to_string(site.path("pack/outfall-helper.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["host"]["id"].as_str(), Some("WKS-0142"));
    assert_eq!(table["uplink"]["sensor"].as_str(), Some("sensor.example:5515"));
    assert_eq!(table["uplink"]["key"].as_str(), Some("helper.key"));
}

#[test]
fn the_list_says_who_is_in_and_who_was_revoked() {
    let site = Site::new("tls = [\"192.0.2.7:5515\"]\n");
    for host in ["a", "b"] {
        site.enroll(&[host, "--into", &site.path(host).display().to_string()]).exits(0);
    }
    let helper = std::fs::read_to_string(site.path("a/outfall-helper.toml")).unwrap();
    assert!(helper.contains("sensor = \"192.0.2.7:5515\""), "{helper}");
    site.enroll(&["a", "--revoke"]).exits(0);
    let listed = site.enroll(&["--list"]).exits(0);
    let standings: Vec<Vec<&str>> =
        listed.text().lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(standings, [["a", "revoked"], ["b", "valid"]]);
}

#[test]
fn what_cannot_be_enrolled_or_revoked_is_refused_in_a_line() {
    let site = Site::new("");
    let into = site.path("pack").display().to_string();
    site.enroll(&["a", "--revoke"]).refuses(&["no host was ever enrolled"]);
    site.enroll(&["../etc", "--sensor", "192.0.2.7"]).refuses(&["not the name of a host"]);
    site.enroll(&["a", "--into", &into]).refuses(&["--sensor HOST:PORT"]);
    site.enroll(&["a", "--into", &into, "--sensor", "a b:1"]).refuses(&["--sensor", "expected an address"]);
    site.enroll(&["a", "--into", &into, "--sensor", "192.0.2.7"]).exits(0);
    // A key that is in use is not overwritten.
    site.enroll(&["a", "--into", &into, "--sensor", "192.0.2.7"]).refuses(&["cannot be made", "--into"]);
    site.enroll(&["b", "--revoke"]).refuses(&["b: has no certificate"]);
}
