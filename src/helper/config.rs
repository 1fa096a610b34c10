//! The helper's configuration: one TOML file, every key with a default, unknown keys refused.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::pattern::Pattern;
use crate::net::{ByteSize, Span};

/// The default configuration with a comment for every key.
pub const DEFAULT_TEXT: &str = include_str!("default.toml");

/// A longer file is surely something else than a configuration.
const MAX_FILE: u64 = 1 << 20;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Read {
        /// The file's path.
        file: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Some of its text is refused.
    #[error("{file}:{line}:{column}: {message}")]
    Refused {
        /// The file's path.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// Values that do not go together, or that the key does not allow.
    #[error("{file}: {key}: {message}")]
    Unfit {
        /// The file's path.
        file: String,
        /// Section and key.
        key: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
}

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this host is.
    pub host: Host,
    /// The way to the sensor.
    pub uplink: Uplink,
    /// Where events wait for the sensor.
    pub spool: Spool,
    /// What watches.
    pub sources: Sources,
    /// Polling.
    pub poll: Poll,
    /// File events.
    pub files: Files,
    /// The helper's own log.
    pub log: Log,
}

/// Who this host is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Its identity; empty for the machine's own.
    pub id: String,
    /// Its name; empty for the machine's own.
    pub name: String,
}

/// The way to the sensor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uplink {
    /// `host:port`.
    pub sensor: String,
    /// The name that the sensor's certificate must hold; empty for the host of `sensor`.
    pub server_name: String,
    /// The authority's certificate: a file, or PEM text.
    pub authority: String,
    /// The helper's certificate: a file, or PEM text.
    pub certificate: String,
    /// The helper's key: a file, or PEM text.
    pub key: String,
    /// Time between heartbeats.
    #[serde(deserialize_with = "span")]
    pub heartbeat: Span,
    /// The first wait before trying again.
    #[serde(deserialize_with = "span")]
    pub retry_least: Span,
    /// The longest wait before trying again.
    #[serde(deserialize_with = "span")]
    pub retry_most: Span,
    /// How long the sensor may leave events unacknowledged.
    #[serde(deserialize_with = "span")]
    pub patience: Span,
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            sensor: "127.0.0.1:5515".to_owned(),
            server_name: String::new(),
            authority: String::new(),
            certificate: String::new(),
            key: String::new(),
            heartbeat: Span::seconds(30),
            retry_least: Span::seconds(1),
            retry_most: Span::seconds(60),
            patience: Span::seconds(60),
        }
    }
}

impl Uplink {
    /// Whether the link is TLS; plain connections stay on this machine.
    pub fn is_tls(&self) -> bool {
        !self.authority.is_empty()
    }

    /// The host of `sensor`, without brackets.
    pub fn sensor_host(&self) -> &str {
        let host = self.sensor.rsplit_once(':').map_or(self.sensor.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Where events wait for the sensor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// The folder.
    pub folder: PathBuf,
    /// The most bytes that it holds.
    #[serde(deserialize_with = "size")]
    pub size: ByteSize,
    /// How long an event may wait for others before it goes to the disk and to the sensor.
    #[serde(deserialize_with = "span")]
    pub delay: Span,
}

impl Default for Spool {
    fn default() -> Self {
        Self { folder: "spool".into(), size: ByteSize(64 << 20), delay: Span(500_000_000) }
    }
}

/// When polling runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// While ETW does not.
    #[default]
    Fallback,
    /// Beside it.
    Always,
    /// Never.
    Never,
}

/// What watches.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// Event Tracing for Windows.
    pub etw: bool,
    /// The Windows event logs of Sysmon and Security.
    pub eventlog: bool,
    /// Snapshots.
    pub poll: When,
    /// A file of events; empty for none.
    pub script: PathBuf,
    /// Events a second of the script; 0 for as fast as they go.
    pub script_rate: u32,
}

impl Default for Sources {
    fn default() -> Self {
        Self { etw: true, eventlog: true, poll: When::Fallback, script: PathBuf::new(), script_rate: 0 }
    }
}

/// Polling.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Poll {
    /// Time between two snapshots of processes and connections.
    #[serde(deserialize_with = "span")]
    pub period: Span,
    /// Time between two snapshots of open files.
    #[serde(deserialize_with = "span")]
    pub files_period: Span,
}

impl Default for Poll {
    fn default() -> Self {
        Self { period: Span(250_000_000), files_period: Span::seconds(1) }
    }
}

/// File events.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// How long a process leaves a file alone before what it did is reported.
    #[serde(deserialize_with = "span")]
    pub quiet: Span,
    /// After how long it is reported although it goes on.
    #[serde(deserialize_with = "span")]
    pub longest: Span,
    /// The most files that are gathered at a time.
    pub gathered: usize,
    /// Folders whose files always matter; polling watches them.
    pub folders: Vec<PathBuf>,
    /// Paths that are never reported.
    pub ignore_paths: Vec<Pattern>,
    /// Paths that are reported although `ignore_paths` names them.
    pub keep_paths: Vec<Pattern>,
    /// Programs whose file events are never reported.
    pub ignore_images: Vec<Pattern>,
    /// Names of archives.
    pub archives: Vec<Pattern>,
    /// Ports of protocols in the clear.
    pub cleartext_ports: Vec<u16>,
    /// The largest file that is hashed; 0 hashes none.
    #[serde(deserialize_with = "size")]
    pub hash_size: ByteSize,
    /// The most bytes that are hashed in a second.
    #[serde(deserialize_with = "size")]
    pub hash_rate: ByteSize,
}

impl Default for Files {
    fn default() -> Self {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        Self {
            quiet: Span::seconds(2),
            longest: Span::seconds(10),
            gathered: 20_000,
            folders: Vec::new(),
            ignore_paths: patterns(IGNORE_PATHS),
            keep_paths: patterns(KEEP_PATHS),
            ignore_images: patterns(IGNORE_IMAGES),
            archives: patterns(ARCHIVES),
            cleartext_ports: vec![20, 21, 80, 8000, 8008, 8080, 8888],
            hash_size: ByteSize(256 << 20),
            hash_rate: ByteSize(32 << 20),
        }
    }
}

const IGNORE_PATHS: &[&str] = &[
    r"?:\Windows\*",
    r"?:\Program Files\WindowsApps\*",
    r"?:\$*",
    r"?:\System Volume Information\*",
    r"?:\pagefile.sys",
    r"?:\swapfile.sys",
    r"?:\hiberfil.sys",
    r"?:\ProgramData\Microsoft\*",
    r"?:\ProgramData\Outfall\*",
    r"*\AppData\Local\Microsoft\*",
    r"*\AppData\Local\Packages\*",
    r"*\ntuser.dat*",
    r"*.dll",
    r"*.mui",
    r"*.nls",
    r"*.pf",
    r"\Device\NamedPipe*",
    r"\Device\Mup\*\PIPE\*",
];
const KEEP_PATHS: &[&str] =
    &[r"?:\$Recycle.Bin\*", r"?:\Windows\Temp\*", r"?:\Windows\Tasks\*", r"?:\Windows\System32\config\*"];
const IGNORE_IMAGES: &[&str] =
    &["System", "Registry", r"*\MsMpEng.exe", r"*\SearchIndexer.exe", r"*\SearchProtocolHost.exe", r"*\TiWorker.exe"];
const ARCHIVES: &[&str] = &[
    "*.7z", "*.arj", "*.bz2", "*.cab", "*.gz", "*.iso", "*.lzh", "*.rar", "*.tar", "*.tbz2", "*.tgz", "*.txz", "*.vhd",
    "*.vhdx", "*.wim", "*.xz", "*.zip", "*.zipx", "*.zst",
];

/// The helper's own log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The file; empty for none.
    pub file: PathBuf,
    /// The size at which it becomes an old one.
    #[serde(deserialize_with = "size")]
    pub size: ByteSize,
    /// How many old ones are kept.
    pub keep: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { file: "outfall-helper.log".into(), size: ByteSize(1 << 20), keep: 3 }
    }
}

impl Config {
    /// Reads the configuration file at `path`. Its relative paths start at the file's folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let read = |reason| ConfigError::Read { file: file.clone(), reason };
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > MAX_FILE {
            let reason = format!("expected a configuration file, found more than {MAX_FILE} bytes");
            return Err(read(std::io::Error::other(reason)));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let mut config = Self::parse(&text, &file)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads a configuration from `text`; `file` is how errors call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| refused(&error, text, file))?;
        config.check(file)?;
        Ok(config)
    }

    /// Makes relative paths start at `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.spool.folder, &mut self.sources.script, &mut self.log.file] {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&*path);
            }
        }
        for text in [&mut self.uplink.authority, &mut self.uplink.certificate, &mut self.uplink.key] {
            if !text.is_empty() && !is_pem(text) {
                *text = folder.join(&*text).to_string_lossy().into_owned();
            }
        }
    }

    fn check(&self, file: &str) -> Result<(), ConfigError> {
        let unfit =
            |key, message: &str| Err(ConfigError::Unfit { file: file.to_owned(), key, message: message.to_owned() });
        let uplink = &self.uplink;
        if uplink.sensor.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            return unfit("uplink.sensor", "expected \"host:port\" or \"[v6]:port\"");
        }
        let given =
            [&uplink.authority, &uplink.certificate, &uplink.key].iter().filter(|text| !text.is_empty()).count();
        if given != 0 && given != 3 {
            return unfit("uplink", "`authority`, `certificate` and `key` go together: give all three");
        }
        if !uplink.is_tls() && !is_this_machine(uplink.sensor_host()) {
            return unfit("uplink.sensor", "a sensor on another machine needs `authority`, `certificate` and `key`");
        }
        for (key, span, least) in [
            ("uplink.heartbeat", uplink.heartbeat, Span::seconds(1)),
            ("uplink.retry_least", uplink.retry_least, Span(10_000_000)),
            ("uplink.retry_most", uplink.retry_most, uplink.retry_least),
            ("uplink.patience", uplink.patience, Span::seconds(1)),
            ("poll.period", self.poll.period, Span(10_000_000)),
            ("poll.files_period", self.poll.files_period, Span(100_000_000)),
            ("files.quiet", self.files.quiet, Span(10_000_000)),
            ("files.longest", self.files.longest, self.files.quiet),
        ] {
            if span < least {
                return unfit(key, &format!("expected at least {least}, found {span}"));
            }
        }
        for (key, size, least) in [
            ("spool.size", self.spool.size, 64 << 10),
            ("files.hash_rate", self.files.hash_rate, 64 << 10),
            ("log.size", self.log.size, 4 << 10),
        ] {
            if size.0 < least {
                return unfit(key, &format!("expected at least {least} bytes, found {}", size.0));
            }
        }
        if self.spool.delay > Span::seconds(5) {
            return unfit("spool.delay", &format!("expected at most 5 s, found {}", self.spool.delay));
        }
        if self.files.gathered == 0 {
            return unfit("files.gathered", "expected at least 1");
        }
        Ok(())
    }
}

/// Whether a text is PEM itself rather than a file's name.
pub fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

/// Whether a name means this machine alone. Names are not looked up, but for the one that every system has.
fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => {
            host.eq_ignore_ascii_case("localhost")
                && (host, 0).to_socket_addrs().is_ok_and(|mut all| all.all(|address| address.ip().is_loopback()))
        }
    }
}

fn refused(error: &toml::de::Error, text: &str, file: &str) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
    ConfigError::Refused {
        file: file.to_owned(),
        line: before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1),
        column: before.get(line_start..).unwrap_or_default().chars().count().saturating_add(1),
        message: error.message().replace('\n', " ").replace("unknown field", "unknown key"),
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a size such as \"64 KiB\", \"1 MB\" or a number of bytes")]
    enum Form {
        Number(u64),
        Text(String),
    }
    match Form::deserialize(deserializer)? {
        Form::Number(number) => Ok(ByteSize(number)),
        Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Config::parse(text, "h.toml").unwrap_err().to_string()
    }

    #[test]
    fn the_default_file_is_the_default_and_names_every_key() {
        assert_eq!(Config::parse(DEFAULT_TEXT, "default").unwrap(), Config::default());
        for key in [
            "id",
            "name",
            "sensor",
            "server_name",
            "authority",
            "certificate",
            "key",
            "heartbeat",
            "retry_least",
            "retry_most",
            "patience",
            "folder",
            "size",
            "delay",
            "etw",
            "eventlog",
            "poll",
            "script",
            "script_rate",
            "period",
            "files_period",
            "quiet",
            "longest",
            "gathered",
            "folders",
            "ignore_paths",
            "keep_paths",
            "ignore_images",
            "archives",
            "cleartext_ports",
            "hash_size",
            "hash_rate",
            "file",
            "keep",
        ] {
            let stands = DEFAULT_TEXT.lines().any(|line| line.starts_with(&format!("{key} = ")));
            assert!(stands, "{key} does not stand in the default file");
        }
    }

    #[test]
    fn what_is_refused_is_refused_with_its_place() {
        assert_eq!(
            refusal("[uplink]\nsensr = \"a:1\"\n").split(',').next().unwrap(),
            "h.toml:2:1: unknown key `sensr`"
        );
        assert_eq!(
            refusal("[files]\nquiet = \"soon\"\n"),
            "h.toml:2:9: expected a length of time such as \"30 s\", \"5 min\", \"1 h\" or \"7 d\", found \"soon\""
        );
        assert!(refusal("[spool]\nsize = true\n").starts_with("h.toml:2:8: expected a size"));
        assert_eq!(
            refusal("[spool]\nsize = \"1 KiB\"\n"),
            "h.toml: spool.size: expected at least 65536 bytes, found 1024"
        );
        assert_eq!(refusal("[spool]\ndelay = \"6 s\"\n"), "h.toml: spool.delay: expected at most 5 s, found 6 s");
    }

    #[test]
    fn plain_text_does_not_leave_the_machine() {
        assert!(refusal("[uplink]\nsensor = \"192.0.2.1:5515\"\n").contains("needs `authority`"));
        assert!(refusal("[uplink]\nsensor = \"sensor.example:5515\"\n").contains("needs `authority`"));
        assert!(refusal("[uplink]\nkey = \"a\"\n").contains("go together"));
        assert!(refusal("[uplink]\nsensor = \"nowhere\"\n").contains("host:port"));
        for sensor in ["127.0.0.1:1", "[::1]:1"] {
            Config::parse(&format!("[uplink]\nsensor = \"{sensor}\"\n"), "h").unwrap();
        }
        let tls = "[uplink]\nsensor = \"192.0.2.1:1\"\nauthority = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n";
        assert!(Config::parse(tls, "h").unwrap().uplink.is_tls());
    }

    #[test]
    fn relative_paths_start_at_the_file_and_pem_text_stays() {
        let mut config = Config::default();
        config.uplink.key = "-----BEGIN PRIVATE KEY-----\n".to_owned();
        config.uplink.certificate = "host.pem".to_owned();
        config.resolve(Path::new("/etc/o"));
        assert_eq!(config.spool.folder, Path::new("/etc/o/spool"));
        assert_eq!(Path::new(&config.uplink.certificate), Path::new("/etc/o/host.pem"));
        assert!(is_pem(&config.uplink.key) && config.sources.script.as_os_str().is_empty());
    }
}
