//! The folder or zip file of an alert's evidence: written once, and checked against its manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::EvidenceError;

/// The file that names all others.
pub const MANIFEST: &str = "manifest.json";

/// A longer manifest is nobody's.
const MOST: u64 = 16 << 20;

/// A bundle that is being written: a folder that is its owner's alone.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    files: BTreeSet<String>,
}

pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> EvidenceError {
    let path = path.to_owned();
    move |source| EvidenceError::File { path, what, source }
}

/// Makes a file that was not there, and follows no link.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path)
}

fn digest(mut from: impl Read) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut from, &mut hash)?;
    Ok((bytes, format!("{:x}", hash.finalize())))
}

impl Bundle {
    /// In a folder that is there and empty.
    pub fn within(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: BTreeSet::new() }
    }

    /// Makes a file in it. Its name is never one that was on the wire.
    ///
    /// # Errors
    /// If it is there, or cannot be made.
    pub fn file(&mut self, name: &str) -> Result<(PathBuf, File), EvidenceError> {
        let path = self.folder.join(name);
        let file = create(&path).map_err(failed(&path, "cannot be made"))?;
        self.files.insert(name.to_owned());
        Ok((path, file))
    }

    /// Writes a file in it.
    ///
    /// # Errors
    /// If it is there, or cannot be written.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), EvidenceError> {
        let (path, mut file) = self.file(name)?;
        file.write_all(bytes).map_err(failed(&path, "cannot be written"))
    }

    /// Ends it with its manifest, which says `facts` and names every file. Gives the manifest's SHA-256.
    ///
    /// # Errors
    /// If a file cannot be read, or the manifest not be written.
    pub fn finish(self, facts: Value) -> Result<String, EvidenceError> {
        let mut manifest = facts;
        let mut files = Vec::new();
        for name in &self.files {
            let path = self.folder.join(name);
            let read = File::open(&path).and_then(|file| {
                file.sync_all()?;
                digest(file)
            });
            let (bytes, sha256) = read.map_err(failed(&path, "cannot be read"))?;
            files.push(json!({ "name": name, "bytes": bytes, "sha256": sha256 }));
        }
        if let Some(object) = manifest.as_object_mut() {
            object.insert("files".to_owned(), Value::Array(files));
        }
        let text = format!("{manifest:#}\n");
        let path = self.folder.join(MANIFEST);
        let written = create(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(failed(&path, "cannot be written"))?;
        Ok(format!("{:x}", Sha256::digest(text.as_bytes())))
    }

    /// Packs a folder that was ended into a zip file, which must not be there; the same files give the same bytes.
    ///
    /// # Errors
    /// If a file cannot be read or written; nothing stays then.
    pub fn pack(folder: &Path, to: &Path) -> Result<(), EvidenceError> {
        let file = create(to).map_err(failed(to, "cannot be made"))?;
        let packed = fill(folder, to, file);
        if packed.is_err() {
            // What could not be written whole may be as hard to remove; the error says that it failed.
            let _ = std::fs::remove_file(to);
        }
        packed
    }
}

/// Copies the files of a folder that was ended into another, which is there and empty.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy(folder: &Path, to: &Path) -> Result<(), EvidenceError> {
    for (name, from) in names(folder)? {
        let path = to.join(&name);
        let copied = File::open(&from).and_then(|mut from| {
            let mut file = create(&path)?;
            io::copy(&mut from, &mut file)?;
            file.sync_all()
        });
        copied.map_err(failed(&from, "cannot be copied"))?;
    }
    Ok(())
}

fn fill(folder: &Path, to: &Path, file: File) -> Result<(), EvidenceError> {
    let wrong = |error: zip::result::ZipError| EvidenceError::Zip { path: to.to_owned(), reason: error.to_string() };
    let mut zip = zip::ZipWriter::new(file);
    // Without a time, it is that of the format's beginning.
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .large_file(true)
        .unix_permissions(0o600);
    for (name, path) in names(folder)? {
        zip.start_file(name, options).map_err(wrong)?;
        let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut zip));
        copied.map_err(failed(&path, "cannot be packed"))?;
    }
    let file = zip.finish().map_err(wrong)?;
    file.sync_all().map_err(failed(to, "cannot be written"))
}

/// The files of a folder; what is no file is named too, and is never what a manifest names.
fn names(folder: &Path) -> Result<BTreeMap<String, PathBuf>, EvidenceError> {
    let listed = std::fs::read_dir(folder).and_then(|entries| {
        let named = entries.map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
        });
        named.collect::<io::Result<_>>()
    });
    listed.map_err(failed(folder, "cannot be read"))
}

/// What is wrong with a bundle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A file is not what it was.
    Changed(String),
    /// A file is not there.
    Missing(String),
    /// A file was not there.
    Added(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, what) = match self {
            Self::Changed(name) => (name, "was changed"),
            Self::Missing(name) => (name, "is missing"),
            Self::Added(name) => (name, "was added"),
        };
        write!(f, "{}: {what}", crate::endpoint::printable(name))
    }
}

/// What a look at a bundle gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The alert, as the manifest says.
    pub alert: String,
    /// Files that the manifest names.
    pub files: usize,
    /// SHA-256 of the manifest itself. Whoever noted it when the bundle was made knows that the manifest is the same.
    pub manifest: String,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Checks a folder or a zip file against its manifest.
///
/// # Errors
/// If it cannot be read, or has no manifest.
pub fn verify(path: &Path) -> Result<Verified, EvidenceError> {
    let is_folder = path.symlink_metadata().map_err(failed(path, "cannot be read"))?.is_dir();
    let (manifest, found) = if is_folder { look_at_folder(path)? } else { look_at_zip(path)? };
    let foreign = |reason: &str| EvidenceError::Foreign { path: path.to_owned(), reason: reason.to_owned() };
    let text = manifest.ok_or_else(|| foreign("it has no manifest.json"))?;
    let manifest: Value = serde_json::from_slice(&text).map_err(|error| foreign(&format!("manifest.json: {error}")))?;
    let files =
        manifest.get("files").and_then(Value::as_array).ok_or_else(|| foreign("its manifest names no files"))?;
    let (mut faults, mut named) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let part = |name: &str| file.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, sha256, bytes) = (part("name"), part("sha256"), file.get("bytes").and_then(Value::as_u64));
        match found.get(&name) {
            None => _ = faults.insert(Fault::Missing(name.clone())),
            Some(Some((size, hash))) if Some(*size) == bytes && *hash == sha256 => {}
            Some(_) => _ = faults.insert(Fault::Changed(name.clone())),
        }
        named.insert(name);
    }
    faults.extend(found.into_keys().filter(|name| !named.contains(name)).map(Fault::Added));
    let alert = manifest.get("alert").and_then(Value::as_str).unwrap_or_default().to_owned();
    if alert.is_empty() || !named.contains("alert.json") {
        return Err(foreign("its manifest names no alert"));
    }
    let hash = format!("{:x}", Sha256::digest(&text));
    Ok(Verified { alert, files: named.len(), manifest: hash, faults: faults.into_iter().collect() })
}

/// The manifest, and of each file its length and SHA-256; none of what is no file.
type Looked = (Option<Vec<u8>>, BTreeMap<String, Option<(u64, String)>>);

fn look_at_folder(folder: &Path) -> Result<Looked, EvidenceError> {
    let (mut manifest, mut found) = (None, BTreeMap::new());
    for (name, path) in names(folder)? {
        let unread = || failed(&path, "cannot be read");
        // A link leads elsewhere.
        let is_file = path.symlink_metadata().map_err(unread())?.is_file();
        if !is_file {
            found.insert(name, None);
            continue;
        }
        let mut file = File::open(&path).map_err(unread())?;
        if name == MANIFEST {
            let mut text = Vec::new();
            file.take(MOST).read_to_end(&mut text).map_err(unread())?;
            manifest = Some(text);
        } else {
            let read = digest(&mut file).map_err(unread())?;
            found.insert(name, Some(read));
        }
    }
    Ok((manifest, found))
}

fn look_at_zip(path: &Path) -> Result<Looked, EvidenceError> {
    let wrong = |reason: String| EvidenceError::Zip { path: path.to_owned(), reason };
    let file = File::open(path).map_err(failed(path, "cannot be read"))?;
    let mut zip =
        zip::ZipArchive::new(file).map_err(|error| wrong(format!("is neither a folder nor a zip file: {error}")))?;
    let (mut manifest, mut found) = (None, BTreeMap::new());
    for n in 0..zip.len() {
        let mut entry = zip.by_index(n).map_err(|error| wrong(error.to_string()))?;
        let name = entry.name().map_err(|error| wrong(error.to_string()))?.into_owned();
        if name == MANIFEST && manifest.is_none() {
            let mut text = Vec::new();
            entry.take(MOST).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
            manifest = Some(text);
        } else {
            // What does not unpack is not what it was, and neither is what is there twice.
            let read = digest(&mut entry).ok();
            if found.insert(name.clone(), read).is_some() {
                found.insert(name, None);
            }
        }
    }
    Ok((manifest, found))
}
