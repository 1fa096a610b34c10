//! Evidence that a sensor wrote by itself, handed out.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{EvidenceArgs, Output};
use crate::config::{Config, beside};
use crate::endpoint::printable;
use crate::evidence::{MANIFEST, Verified, copy, numbered, verify};
use crate::net::group_digits;

/// Checks what the sensor wrote by itself of the alert, copies it, and says what it is.
///
/// # Errors
/// If there is none, it is not what was written, or the output cannot be written.
pub(super) fn hand_out(args: &EvidenceArgs, id: &str, config: &Config, output: Output) -> anyhow::Result<String> {
    let directory = beside(&config.evidence.directory, args.config.as_deref());
    let directory = directory.context(
        "name the captures of that time, or the --config of a sensor that writes evidence by itself (`evidence.directory`)",
    )?;
    ensure!(
        args.endpoint.is_empty() && args.state.is_none(),
        "without captures, what the sensor wrote is handed out as it is: leave out --endpoint and --state"
    );
    let all = numbered(&directory, id)?;
    // Told again much later, an alert may have no packets any more: then an earlier word on it tells more.
    let counted = |path: &PathBuf| packets_of(path) > 0;
    let best = all.iter().rev().map(|(_, path)| path).find(|path| counted(path)).or(all.last().map(|(_, path)| path));
    let found = best.with_context(|| {
        format!("{}: has no evidence of {}; name the captures of that time", directory.display(), printable(id))
    })?;
    let Verified { manifest, faults, .. } = verify(found)?;
    ensure!(
        faults.is_empty(),
        "{}: is not what was written: see `outfall evidence verify`",
        printable(&found.display().to_string())
    );
    output.room(config, bytes_of(found)?)?;
    let place = output.begin()?;
    copy(found, place.path())?;
    output.put(place)?;
    Ok(format!(
        "{}: alert {}, as the sensor wrote it: {} packets; one of {} that are there\nmanifest SHA-256 {manifest}\n",
        output.shown,
        printable(id),
        group_digits(packets_of(found)),
        all.len()
    ))
}

/// Packets of a bundle, as its manifest says.
fn packets_of(bundle: &Path) -> u64 {
    let text = std::fs::read(bundle.join(MANIFEST)).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&text).unwrap_or_default();
    manifest.pointer("/packets/count").and_then(Value::as_u64).unwrap_or(0)
}

/// Bytes of a bundle's files.
fn bytes_of(bundle: &Path) -> anyhow::Result<u64> {
    let sizes = std::fs::read_dir(bundle).and_then(|entries| entries.map(|entry| Ok(entry?.metadata()?.len())).sum());
    sizes.with_context(|| format!("{}: cannot be read", bundle.display()))
}
