//! The directory that evidence is written to by itself: bounded in bytes, oldest first, and never the last of a disk.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::bundle::failed;
use super::{EvidenceError, MANIFEST};
use crate::config;

/// How a folder is called while a shelf writes it.
const UNDER_WAY: &str = ".shelf-";

/// Digits of an alert's identifier.
const ID: usize = 24;

/// Bundles in a directory.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
    max_disk: u64,
    min_free: u64,
    /// From old to new, with their bytes.
    bundles: VecDeque<(PathBuf, u64)>,
    used: u64,
    removed: u64,
}

/// The number among the bundles of its alert, if a folder of this name is one that a shelf wrote: an alert's identifier, and from the
/// second on the number. Whatever else somebody put there is left alone.
fn number_of(name: &str, wanted: Option<&str>) -> Option<u32> {
    let (id, number) = name.split_once('-').unwrap_or((name, "1"));
    let is_id = id.len() == ID && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let number = number.parse().ok()?;
    (is_id && wanted.is_none_or(|wanted| wanted == id)).then_some(number)
}

/// The bundles of an alert in a directory that a sensor writes to by itself, with their numbers, the newest last.
///
/// # Errors
/// If the directory cannot be read.
pub fn numbered(directory: &Path, id: &str) -> Result<Vec<(u32, PathBuf)>, EvidenceError> {
    let unread = || failed(directory, "the directory of evidence cannot be read");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unread())? {
        let entry = entry.map_err(unread())?;
        let number = number_of(&entry.file_name().to_string_lossy(), Some(id));
        if let Some(number) = number.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Regular files of a folder, unless there is anything else in it, and their bytes.
fn files(folder: &Path) -> io::Result<(Option<Vec<PathBuf>>, u64)> {
    let (mut files, mut bytes) = (Some(Vec::new()), 0);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if !metadata.is_file() {
            files = None;
            continue;
        }
        bytes += metadata.len();
        files.iter_mut().for_each(|files| files.push(entry.path()));
    }
    Ok((files, bytes))
}

/// Removes a folder with its files; what is gone already is as good.
fn remove(folder: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let Some(mut files) = (match files(folder) {
        Err(error) if gone(&error) => return Ok(()),
        found => found?.0,
    }) else {
        return Err(io::Error::other("there is something else in it"));
    };
    // The manifest goes last: what is left of a removal that was cut short is not taken for whole.
    files.sort_by_key(|path| path.ends_with(MANIFEST));
    for file in files {
        std::fs::remove_file(file)?;
    }
    std::fs::remove_dir(folder)
}

/// Bytes that are free, for who is not root, on the disk of a directory.
///
/// # Errors
/// If the system does not say.
pub fn free(directory: &Path) -> io::Result<u64> {
    let told = nix::sys::statvfs::statvfs(directory)?;
    Ok(told.blocks_available().saturating_mul(told.fragment_size()))
}

impl Shelf {
    /// Takes up what is in the directory, which has to be there. What an earlier end left half-written is removed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(directory: &Path, settings: &config::Evidence) -> Result<Self, EvidenceError> {
        let unread = || failed(directory, "the directory of evidence cannot be read");
        let mut found: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(unread())? {
            let entry = entry.map_err(unread())?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if name.starts_with(UNDER_WAY) {
                // It takes up room that nobody accounts for; where it cannot be removed, it stays so.
                let _ = remove(&path);
            } else if number_of(&name, None).is_some()
                && let Ok(made) = path.join(MANIFEST).metadata().and_then(|manifest| manifest.modified())
                && let Ok((_, bytes)) = files(&path)
            {
                found.push((made, path, bytes));
            }
        }
        found.sort();
        let used = found.iter().map(|(.., bytes)| bytes).sum();
        let bundles = found.into_iter().map(|(_, path, bytes)| (path, bytes)).collect();
        let (max_disk, min_free) = (settings.max_disk.0, settings.min_free.0);
        Ok(Self { directory: directory.to_owned(), max_disk, min_free, bundles, used, removed: 0 })
    }

    /// Makes room for so many bytes, at the cost of the oldest bundles; says whether there is.
    ///
    /// # Errors
    /// If the system does not say what is free.
    pub fn make_room(&mut self, bytes: u64) -> Result<bool, EvidenceError> {
        // What would not be enough is not given up.
        let free_now = free(&self.directory).map_err(failed(&self.directory, "the free space is not known"))?;
        let removable: u64 = self.bundles.iter().map(|(_, size)| size).sum();
        let kept = self.used.saturating_sub(removable);
        let possible = free_now.saturating_add(removable).saturating_sub(bytes) >= self.min_free;
        if bytes.saturating_add(kept) > self.max_disk || !possible {
            return Ok(false);
        }
        loop {
            let free = free(&self.directory).map_err(failed(&self.directory, "the free space is not known"))?;
            let fits = self.used.saturating_add(bytes) <= self.max_disk;
            if fits && free.saturating_sub(bytes) >= self.min_free {
                return Ok(true);
            }
            let Some((oldest, size)) = self.bundles.pop_front() else { return Ok(false) };
            // One that cannot be removed goes on to take its room, and is not tried again.
            if remove(&oldest).is_ok() {
                self.used = self.used.saturating_sub(size);
                self.removed += 1;
            }
        }
    }

    /// A new folder to write into, to be put on the shelf; it goes if it is not.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn begin(&self) -> Result<tempfile::TempDir, EvidenceError> {
        folder(&self.directory, UNDER_WAY)
    }

    /// Puts a folder that was written on the shelf: under the alert's identifier, with a number if that is there already. Gives its
    /// path.
    ///
    /// # Errors
    /// If it cannot be put there.
    pub fn put(&mut self, folder: tempfile::TempDir, id: &str) -> Result<PathBuf, EvidenceError> {
        let (last, _) = numbered(&self.directory, id)?.pop().unwrap_or_default();
        let mut number = last;
        // The number of one that was removed is not given again while a later one is there.
        let place = loop {
            number += 1;
            let place = self.directory.join(if number == 1 { id.to_owned() } else { format!("{id}-{number}") });
            if place.symlink_metadata().is_err() {
                break place;
            }
        };
        let unput = || failed(&place, "cannot be made");
        let (_, bytes) = files(folder.path()).map_err(unput())?;
        std::fs::rename(folder.path(), &place).map_err(unput())?;
        // There is nothing left to remove.
        let _ = folder.keep();
        self.used = self.used.saturating_add(bytes);
        self.bundles.push_back((place.clone(), bytes));
        Ok(place)
    }

    /// Bundles, their bytes, and how many were removed to make room.
    pub fn holds(&self) -> (u64, u64, u64) {
        (self.bundles.len() as u64, self.used, self.removed)
    }
}

/// A new folder in a directory, its owner's alone, which goes if it is not kept.
///
/// # Errors
/// If it cannot be made.
pub fn folder_in(directory: &Path) -> Result<tempfile::TempDir, EvidenceError> {
    folder(directory, ".evidence-")
}

fn folder(directory: &Path, prefix: &str) -> Result<tempfile::TempDir, EvidenceError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir_in(directory).map_err(failed(directory, "no folder can be made in it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ByteSize;

    fn settings(max_disk: u64, min_free: u64) -> config::Evidence {
        config::Evidence { max_disk: ByteSize(max_disk), min_free: ByteSize(min_free), ..Default::default() }
    }

    fn put(shelf: &mut Shelf, id: &str, bytes: usize) -> String {
        let folder = shelf.begin().unwrap();
        std::fs::write(folder.path().join(MANIFEST), vec![b'x'; bytes]).unwrap();
        let place = shelf.put(folder, id).unwrap();
        place.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go_first_and_what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir_all(path.join("abc/deeper")).unwrap();
        std::fs::create_dir(path.join("notes")).unwrap();
        // Evidence that somebody put there, and a folder that he is just making.
        for name in ["case17", "evidence-a10000000000000000000001", ".evidence-x"] {
            std::fs::create_dir(path.join(name)).unwrap();
            std::fs::write(path.join(name).join(MANIFEST), vec![b'x'; 900]).unwrap();
        }
        std::fs::write(path.join("letter"), "x").unwrap();
        std::fs::create_dir(path.join(".shelf-torn")).unwrap();
        std::fs::write(path.join(".shelf-torn/packets.pcapng"), "x").unwrap();
        let mut shelf = Shelf::open(path, &settings(1_000, 0)).unwrap();
        assert_eq!(
            names(path),
            [".evidence-x", "abc", "case17", "evidence-a10000000000000000000001", "letter", "notes"]
        );
        assert_eq!(put(&mut shelf, "a10000000000000000000001", 400), "a10000000000000000000001");
        assert_eq!(put(&mut shelf, "a10000000000000000000001", 400), "a10000000000000000000001-2");
        for n in 3..=10 {
            put(&mut shelf, "a10000000000000000000002", n);
        }
        let all = numbered(path, "a10000000000000000000002").unwrap();
        assert!(all.len() == 8 && all[7].1.ends_with("a10000000000000000000002-8"), "by number, not by name: {all:?}");
        assert!(numbered(path, "a10000000000000000000003").unwrap().is_empty());
        for bundle in shelf.bundles.drain(2..) {
            shelf.used -= bundle.1;
            remove(&bundle.0).unwrap();
        }
        assert!(shelf.make_room(200).unwrap());
        assert_eq!(shelf.holds(), (2, 800, 0));
        assert!(shelf.make_room(201).unwrap());
        assert_eq!(shelf.holds(), (1, 400, 1));
        assert_eq!(
            names(path),
            [
                ".evidence-x",
                "a10000000000000000000001-2",
                "abc",
                "case17",
                "evidence-a10000000000000000000001",
                "letter",
                "notes",
            ]
        );
        // Another start finds the same.
        let mut shelf = Shelf::open(path, &settings(1_000, 0)).unwrap();
        assert_eq!(shelf.holds(), (1, 400, 0));
        assert!(!shelf.make_room(1_001).unwrap(), "it never fits");
        assert_eq!(shelf.holds(), (1, 400, 0), "and so costs nothing");
        // Somebody took it away.
        std::fs::remove_dir_all(path.join("a10000000000000000000001-2")).unwrap();
        assert!(shelf.make_room(900).unwrap());
        assert_eq!(
            names(path),
            [".evidence-x", "abc", "case17", "evidence-a10000000000000000000001", "letter", "notes"]
        );
    }

    #[test]
    fn what_stays_free_on_the_disk_is_never_used() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(directory.path(), &settings(1 << 40, u64::MAX)).unwrap();
        put(&mut shelf, "a10000000000000000000001", 400);
        assert!(!shelf.make_room(1).unwrap());
        assert_eq!(shelf.holds(), (1, 400, 0), "what would not be enough is not given up");
    }

    #[test]
    fn what_cannot_be_removed_counts_and_numbers_are_not_given_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(directory.path(), &settings(1_000, 0)).unwrap();
        let id = "a10000000000000000000001";
        for bytes in [300, 301, 302] {
            put(&mut shelf, id, bytes);
        }
        std::fs::create_dir(directory.path().join(format!("{id}-2/notes"))).unwrap();
        assert!(shelf.make_room(690).unwrap());
        assert_eq!(shelf.holds(), (0, 301, 2), "the second stays");
        assert_eq!(put(&mut shelf, id, 10), format!("{id}-3"), "later than the one that is there");
        let again = Shelf::open(directory.path(), &settings(1_000, 0)).unwrap();
        assert_eq!(again.holds().1, 311);
        assert!(!shelf.make_room(800).unwrap(), "it never fits beside what stays");
    }
}
