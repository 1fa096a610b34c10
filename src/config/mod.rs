//! The one typed configuration.
//!
//! TOML text comes in, a [`Config`] goes out, or a [`ConfigError`] that names every refused key with its
//! file, line and column, and says what was expected. A key exists once, in `keys.rs`: its field,
//! documentation, default and bounds are one definition, and the commented default file is written from it.

mod file;
mod keys;
mod known;
mod playbook;
mod policy;
mod problem;
mod settings;
mod suggest;
mod syslog;
#[cfg(test)]
mod tests;
mod value;

use std::io::Read as _;
use std::path::Path;

pub use file::AlertFile;
pub use keys::{
    Capture, Config, Deliver, Detect, Endpoint, Evidence, Files, Flow, Join, Listener, Metrics, Network, Packet,
    Playbook, Protocol, Replay, Store, is_interface,
};
pub use playbook::{Part, Placeholder, Steps, parts};
pub use policy::{Destination, DestinationError, ExpectedProcess, PathPattern, PatternError};
pub use problem::{ConfigError, Problem};
pub use settings::Change;
pub use syslog::{Address, Format, SyslogCollector, Transport};

use problem::{Refusals, key_text};
use toml::de::DeTable;
use value::Node;

/// A longer file is surely something else than a configuration, such as a device or a capture.
const MAX_FILE: u64 = 1 << 20;

/// A path of a configuration: if it is relative, then to the directory of the configuration's own file. None for an empty one, and for
/// one that is relative to nothing.
pub fn beside(path: &str, file: Option<&Path>) -> Option<std::path::PathBuf> {
    let own = Path::new(path);
    if path.is_empty() || own.is_absolute() {
        return (!path.is_empty()).then(|| own.to_owned());
    }
    let file = std::path::absolute(file?).ok()?;
    Some(file.parent()?.join(own))
}

impl Evidence {
    /// The least `event.severity` of alerts whose evidence is written by itself.
    pub fn least(&self) -> u64 {
        syslog::SEVERITIES.iter().find(|(name, _)| *name == self.minimum_severity).map_or(0, |(_, least)| *least)
    }
}

impl Config {
    /// Reads the configuration file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let read = || -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = match read() {
            Ok(bytes) if bytes.len() as u64 > MAX_FILE => return Err(ConfigError::TooLong { file, limit: MAX_FILE }),
            Ok(bytes) => bytes,
            Err(reason) => return Err(ConfigError::Read { file, reason }),
        };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &file),
            Err(error) => {
                let valid = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
                let mut refused = Refusals::new(&file, &valid);
                refused.add(valid.len(), None, "expected UTF-8 text".to_owned());
                refused.none_or(Self::default())
            }
        }
    }

    /// Reads a configuration from `text`; `file` is how errors call it. What the text does not name keeps its default.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let mut refused = Refusals::new(file, text);
        let mut config = Self::default();
        match DeTable::parse(text) {
            Ok(table) => {
                for (name, node) in table.get_ref() {
                    config.read_section(name.get_ref(), name.span().start, node, &mut refused);
                }
            }
            Err(error) => {
                refused.syntax(error.span().unwrap_or(text.len()..text.len()), error.message());
            }
        }
        refused.none_or(config)
    }

    fn read_section(&mut self, name: &str, offset: usize, node: &Node<'_>, refused: &mut Refusals<'_>) {
        let table = node.get_ref().as_table();
        let Some(section) = self.section_mut(name) else {
            let message = suggest::unknown_section(name, table.is_some());
            return refused.add(offset, Some(key_text(name)), message);
        };
        let Some(table) = table else {
            return refused.expected(node, name, &format!("a section [{name}]"));
        };
        for (key, value) in table {
            let path = format!("{name}.{}", key_text(key.get_ref()));
            if !section.set(key.get_ref(), value, &path, refused) {
                let message = suggest::unknown_key(name, key.get_ref());
                refused.add(key.span().start, Some(path), message);
            }
        }
    }
}
