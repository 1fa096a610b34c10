//! Disks that are full, or that can only be read: real ones, in a mount namespace of the test's own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// Runs one of the tests below again as a process of its own, on a disk of 2 MiB.
fn on_its_own_disk(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let unshared = Command::new("unshare").args(["--mount", "true"]).output();
    if !unshared.is_ok_and(|output| output.status.success()) {
        println!("skipped: `unshare --mount` needs root");
        return;
    }
    let script = "mount -t tmpfs -o size=2m none \"$1\" && exec \"$2\" --exact \"store::tests::disks::$3\" --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env("OUTFALL_TEST_DISK", folder.path())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The disk of this process, if it was started by the function above.
fn disk() -> Option<PathBuf> {
    std::env::var_os("OUTFALL_TEST_DISK").map(PathBuf::from)
}

fn within_seconds(most: u64, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(most), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_disk_costs_what_is_counted_and_is_used_again_when_it_has_room() {
    let Some(disk) = disk() else {
        return on_its_own_disk("a_full_disk_costs_what_is_counted_and_is_used_again_when_it_has_room");
    };
    let ballast = disk.join("ballast");
    let path = disk.join("outfall.db");
    let writer = Writer::start(Store::open(&path).unwrap(), WIDE, 4, || ()).unwrap();
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let large = |n| Entry { document: "x".repeat(100 << 10), ..entry(n) };
    let mut put = 0;
    within_seconds(30, "the disk never was full", || {
        put += 1;
        let began = Instant::now();
        writer.put(large(put), to(&["a"]));
        assert!(began.elapsed() < Duration::from_millis(400), "waited for the disk");
        let upload = UploadRow { event_id: format!("u{put}"), ..UploadRow::default() };
        if writer.learn(vec![upload], Vec::new()).is_err() {
            writer.lost_uploads(1);
        }
        let counted = writer.counters();
        counted.refused > 1 && counted.failed > 0
    });
    let before = writer.counters();
    assert!(before.stored > 0, "{before:?}");
    std::fs::remove_file(&ballast).unwrap();
    within_seconds(10, "nothing was stored again", || writer.counters().stored > before.stored);
    let counted = writer.finish();
    assert_eq!(counted.stored + counted.queue_full + counted.failed, put, "{counted:?}");
    assert_eq!(counted.uploads + counted.uploads_lost, put, "{counted:?}");
    let store = Store::open(&path).unwrap();
    assert_eq!((store.check().unwrap(), store.size().unwrap().0), (None, counted.stored));
}

#[test]
fn a_disk_that_can_only_be_read_is_said_in_one_line() {
    let Some(disk) = disk() else { return on_its_own_disk("a_disk_that_can_only_be_read_is_said_in_one_line") };
    let path = disk.join("outfall.db");
    drop(Store::open(&path).unwrap());
    let mounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk).status().unwrap();
    assert!(mounted.success());
    assert!(refusal(&path).contains("it can only be read"), "{}", refusal(&path));
    let other = disk.join("other.db");
    assert!(refusal(&other).contains("see to its directory and its rights"), "{}", refusal(&other));
}
