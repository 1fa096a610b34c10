//! All that belongs to one alert, written as a bundle.

use std::path::Path;

use serde_json::{Value, json};

use super::bundle::failed;
use super::carve::carve;
use super::{Bundle, Cut, Cutter, EvidenceError, Wanted};
use crate::config::Config;
use crate::net::ByteSize;

/// What belongs to an alert beside its packets.
#[derive(Clone, Debug)]
pub struct Case<'c> {
    /// Its document.
    pub alert: &'c Value,
    /// What of packets belongs to it.
    pub wanted: &'c Wanted,
    /// The configuration in force.
    pub config: &'c Config,
    /// What was normal: rows of the baseline, or why there are none.
    pub baseline: Result<Value, NoBaseline>,
    /// Events of its host, one JSON object a line, and how many these are.
    pub events: (Vec<u8>, u64),
    /// Where these and the packets are from, for the manifest.
    pub origin: Vec<(&'static str, Value)>,
}

/// Why nothing is told of what was normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBaseline {
    /// There is no database.
    NotKept,
    /// It could not be read.
    Unread,
}

/// What is known to be missing of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Packets that were there once.
    pub gone: u64,
    /// Connections that were forgotten, at least for a time.
    pub forgotten: u64,
    /// Captures that end inside a packet.
    pub cut_captures: u64,
}

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// SHA-256 of its manifest.
    pub manifest: String,
    /// Its packets.
    pub cut: Cut,
    /// Uploaded files in it.
    pub carved: usize,
}

impl Case<'_> {
    /// Writes it into a folder that is there and empty. `packets` gives the packets to choose from, and says what
    /// is missing; of those chosen at most `most` bytes are written.
    ///
    /// # Errors
    /// If a file cannot be written, or `packets` fails.
    pub fn write<E: From<EvidenceError>>(
        self,
        folder: &Path,
        most: ByteSize,
        packets: impl FnOnce(&mut Cutter) -> Result<Missing, E>,
    ) -> Result<Made, E> {
        let Self { alert, wanted, config, baseline, events: (events, told), origin } = self;
        let mut bundle = Bundle::within(folder);
        bundle.put("alert.json", format!("{alert:#}\n").as_bytes())?;
        bundle.put("configuration.toml", in_force(config).as_bytes())?;
        if let Ok(facts) = &baseline {
            bundle.put("baseline.json", format!("{facts:#}\n").as_bytes())?;
        }
        if told > 0 {
            bundle.put("events.jsonl", &events)?;
        }
        let (path, file) = bundle.file("packets.pcapng")?;
        let unwritten = || failed(&path, "cannot be written");
        let mut cutter = Cutter::new(wanted.clone(), file, most.0).map_err(unwritten())?;
        let missing = packets(&mut cutter)?;
        let cut = cutter.finish().map_err(unwritten())?;
        let (files, carved) = uploaded(&mut bundle, &path, wanted, config)?;
        let mut facts = json!({
            "alert": wanted.id,
            "made_by": format!("outfall {}", env!("CARGO_PKG_VERSION")),
            "made_at": jiff::Timestamp::now().to_string(),
            "clock": clock(),
            "packets": { "count": cut.packets, "bytes": cut.bytes, "left_out": cut.left_out, "gone": missing.gone,
                         "connections_forgotten": missing.forgotten, "captures_cut_off": missing.cut_captures },
            "endpoint_events": told,
            "baseline": match baseline {
                Ok(_) => "as the database had it when this was made, after the verdict",
                Err(NoBaseline::NotKept) => "none was kept",
                Err(NoBaseline::Unread) => "the database could not be read",
            },
            "uploaded_files": files,
        });
        if let Some(facts) = facts.as_object_mut() {
            facts.extend(origin.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Made { manifest: bundle.finish(facts)?, cut, carved })
    }
}

/// Puts the uploaded files into the bundle, if the policy allows it; what the manifest says of them, and how many there are.
fn uploaded(
    bundle: &mut Bundle,
    packets: &Path,
    wanted: &Wanted,
    config: &Config,
) -> Result<(Value, usize), EvidenceError> {
    if !config.evidence.carve {
        return Ok(("not carved: `evidence.carve` is off".into(), 0));
    }
    let (mut said, mut carved) = (Vec::new(), 0);
    for found in carve(packets, &wanted.uploads, config)? {
        let (upload, file) = (found.upload, found.name);
        let entry = match found.content {
            Ok((sha256, content)) => {
                carved += 1;
                let name = format!("upload-{carved:03}.bin");
                bundle.put(&name, &content.0)?;
                json!({ "upload": upload, "file": file, "name": name, "sha256": sha256 })
            }
            Err(why) => json!({ "upload": upload, "file": file, "not_carved": why }),
        };
        said.push(entry);
    }
    Ok((said.into(), carved))
}

/// The configuration, as a file that reads the same.
fn in_force(config: &Config) -> String {
    let changes = config.changes();
    let mut text = format!("# Of outfall {}; what is not here has its default.\n", env!("CARGO_PKG_VERSION"));
    changes.iter().for_each(|change| text.push_str(&format!("{} = {}\n", change.key, change.value)));
    text
}

fn clock() -> Value {
    #[cfg(target_os = "linux")]
    if let Ok((synchronised, most)) = crate::capture::live::environment::clock() {
        return json!({ "synchronised": synchronised, "largest_error_microseconds": most });
    }
    json!({ "synchronised": null })
}
