//! A syslog collector that alerts go to, as the configuration names it.

use std::net::SocketAddr;

use super::problem::{Refusals, key_text};
use super::suggest;
use super::value::{Item, Node, Setting, Text, quote, read_text};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 5426.
    Udp,
    /// RFC 6587, with octet counting.
    Tcp,
    /// RFC 5425.
    Tls,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The ECS document.
    Ecs,
    /// A Detection Finding of OCSF.
    Ocsf,
    /// ArcSight's Common Event Format.
    Cef,
    /// One line of text.
    Text,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = FORMATS.iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// Where a collector listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// In numbers.
    Numbers(SocketAddr),
    /// A name that is looked up, and the port.
    Name(String, u16),
}

impl Address {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Numbers(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let address = match text.parse() {
            Ok(address) => Self::Numbers(address),
            Err(_) => {
                let (name, port) = text.rsplit_once(':')?;
                // What ends in a number is an address that is written wrong.
                let top = name.trim_end_matches('.').rsplit('.').next()?;
                let is_name = rustls::pki_types::DnsName::try_from(name).is_ok();
                if !is_name || top.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                Self::Name(name.to_ascii_lowercase(), port.parse().ok()?)
            }
        };
        Some(address).filter(|address| address.port() != 0)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numbers(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// A collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogCollector {
    /// Where it listens.
    pub address: Address,
    /// How messages travel.
    pub transport: Transport,
    /// What a message says.
    pub format: Format,
    /// Alerts with a smaller `event.severity` are not sent to it.
    pub minimum_severity: u64,
    /// RFC 5424's number of the facility.
    pub facility: u8,
    /// The most bytes of a message.
    pub max_bytes: u64,
    /// TLS: the file with the certificates that may sign the collector's, in PEM.
    pub ca: String,
    /// TLS: the name that its certificate must hold; empty for that of the address.
    pub server_name: String,
    /// TLS: the file with the certificate to show it, in PEM; empty for none.
    pub certificate: String,
    /// TLS: the file with that certificate's key, in PEM.
    pub key: String,
}

const TRANSPORTS: [(&str, Transport); 3] = [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];
pub(super) const FORMATS: [(&str, Format); 4] =
    [("ecs", Format::Ecs), ("ocsf", Format::Ocsf), ("cef", Format::Cef), ("text", Format::Text)];
pub(super) const SEVERITIES: [(&str, u64); 4] = [("low", 21), ("medium", 47), ("high", 73), ("critical", 99)];
/// RFC 5424, section 6.2.1.
const FACILITIES: [(&str, u8); 18] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("audit", 13),
    ("alert", 14),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
    ("syslog", 5),
    ("kern", 0),
    ("mail", 2),
    ("cron", 9),
];

const KEYS: [&str; 10] = [
    "address",
    "transport",
    "format",
    "minimum_severity",
    "facility",
    "max_bytes",
    "ca",
    "server_name",
    "certificate",
    "key",
];

const ADDRESS: &str = "an address or a name, and a port, such as \"192.0.2.7:6514\", \"[2001:db8::7]:6514\" or \"collector.example:6514\"";
const FILE: Text = Text {
    what: "the absolute path of a file in PEM, such as \"/etc/outfall/collector-ca.pem\"",
    fits: |text| text.starts_with('/') && !text.contains('\0'),
};
const NAME: Text = Text {
    what: "the name or address in the collector's certificate, such as \"collector.example\"",
    fits: |text| rustls::pki_types::ServerName::try_from(text).is_ok(),
};

impl SyslogCollector {
    /// What tells it from others in the store and in the log: `tls://192.0.2.7:6514`.
    pub fn name(&self) -> String {
        format!("{}://{}", named(&TRANSPORTS, &self.transport), self.address)
    }

    pub(super) fn read(node: &Node<'_>, expected: &'static str, key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            refused.expected(node, key, expected);
            return None;
        };
        for name in table.keys().filter(|name| !KEYS.contains(&name.get_ref().as_ref())) {
            let path = format!("{key}.{}", key_text(name.get_ref()));
            refused.add(name.span().start, Some(path), suggest::unknown_name(name.get_ref(), &KEYS));
        }
        let path = |name: &str| format!("{key}.{name}");
        let text = |name: &str, rule: &Text, refused: &mut Refusals<'_>| match table.get(name) {
            Some(node) => String::read(node, rule, &path(name), refused),
            None => Some(String::new()),
        };
        let transport = choice(table.get("transport"), &TRANSPORTS, Transport::Tls, &path("transport"), refused);
        let format = choice(table.get("format"), &FORMATS, Format::Ecs, &path("format"), refused);
        let severity = table.get("minimum_severity");
        let minimum_severity = choice(severity, &SEVERITIES, 0, &path("minimum_severity"), refused);
        let facility = choice(table.get("facility"), &FACILITIES, 16, &path("facility"), refused);
        let max_bytes = match table.get("max_bytes") {
            Some(node) => u64::read(node, &(480..=65_000), &path("max_bytes"), refused),
            None => Some(8_192),
        };
        let (ca, server_name) = (text("ca", &FILE, refused), text("server_name", &NAME, refused));
        let (certificate, secret) = (text("certificate", &FILE, refused), text("key", &FILE, refused));
        let Some(address) = table.get("address") else {
            refused.add(node.span().start, Some(path("address")), format!("expected {ADDRESS}, found none"));
            return None;
        };
        let address = read_text(address, ADDRESS, &path("address"), refused, Address::parse)?;
        let collector = Self {
            address,
            transport: transport?,
            format: format?,
            minimum_severity: minimum_severity?,
            facility: facility?,
            max_bytes: max_bytes?,
            ca: ca?,
            server_name: server_name?,
            certificate: certificate?,
            key: secret?,
        };
        collector.agrees(node, key, refused).then_some(collector)
    }

    /// Whether the keys of TLS are there together.
    fn agrees(&self, node: &Node<'_>, key: &str, refused: &mut Refusals<'_>) -> bool {
        let mut problem = |name: &str, text: &str| {
            refused.add(node.span().start, Some(format!("{key}.{name}")), text.to_owned());
            false
        };
        if self.transport == Transport::Tls && self.ca.is_empty() {
            return problem("ca", "transport \"tls\" needs the file of the certificates that may sign the collector's");
        }
        if self.certificate.is_empty() != self.key.is_empty() {
            return problem("key", "`certificate` and `key` are needed together");
        }
        let files = [&self.ca, &self.server_name, &self.certificate];
        if self.transport != Transport::Tls && files.iter().any(|file| !file.is_empty()) {
            return problem("transport", "`ca`, `server_name`, `certificate` and `key` are for transport \"tls\"");
        }
        true
    }
}

impl Item for SyslogCollector {
    fn toml(&self) -> String {
        let mut text = format!(
            "{{ address = \"{}\", transport = \"{}\", format = \"{}\", facility = \"{}\", max_bytes = {}",
            self.address,
            named(&TRANSPORTS, &self.transport),
            named(&FORMATS, &self.format),
            named(&FACILITIES, &self.facility),
            self.max_bytes
        );
        if self.minimum_severity > 0 {
            text.push_str(&format!(", minimum_severity = \"{}\"", named(&SEVERITIES, &self.minimum_severity)));
        }
        let files = [
            ("ca", &self.ca),
            ("server_name", &self.server_name),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ];
        for (name, value) in files.into_iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&format!(", {name} = {}", quote(value)));
        }
        text + " }"
    }
}

pub(super) fn named<T: PartialEq>(names: &[(&'static str, T)], wanted: &T) -> &'static str {
    names.iter().find(|(_, value)| value == wanted).map_or("", |(name, _)| name)
}

pub(super) fn choice<T: Copy>(
    node: Option<&Node<'_>>,
    names: &[(&'static str, T)],
    default: T,
    key: &str,
    refused: &mut Refusals<'_>,
) -> Option<T> {
    let Some(node) = node else { return Some(default) };
    let all: Vec<String> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let expected = format!("one of {}", all.join(", "));
    read_text(node, &expected, key, refused, |text| {
        names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse(text, "f").map_err(|error| error.to_string())
    }

    #[test]
    fn a_collector_is_written_as_it_is_read() {
        let text = "[[deliver.syslog]]\naddress = \"[2001:db8::7]:6514\"\nca = \"/a\"\ncertificate = \"/b\"\nkey = \"/c\"\n\
                    server_name = \"c.example\"\nminimum_severity = \"high\"\nfacility = \"local4\"\nmax_bytes = 480\n\
                    [[deliver.syslog]]\naddress = \"192.0.2.7:514\"\ntransport = \"udp\"\nformat = \"text\"\n\
                    [[deliver.syslog]]\naddress = \"Collector.example:514\"\ntransport = \"tcp\"\n";
        let config = read(text).unwrap();
        assert_eq!(config.deliver.syslog.len(), 3);
        assert_eq!(config.deliver.syslog[2].name(), "tcp://collector.example:514");
        assert_eq!(config.deliver.syslog[1].name(), "udp://192.0.2.7:514");
        let again = read(&format!("[deliver]\nsyslog = {}\n", config.changes()[0].value)).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn a_collector_that_makes_no_sense_is_refused_in_a_line() {
        for (text, said) in [
            ("transport = \"tcp\"", "address"),
            ("address = \"collector example:514\"", "an address or a name"),
            ("address = \"192.0.2.777:514\"", "an address or a name"),
            ("address = \"collector.example\"", "an address or a name"),
            ("address = \"192.0.2.7:6514\"", "needs the file"),
            ("address = \"192.0.2.7:6514\"\ntransport = \"relp\"", "\"udp\", \"tcp\", \"tls\""),
            ("address = \"192.0.2.7:514\"\ntransport = \"udp\"\nmax_bytes = 479", "at least 480"),
            ("address = \"192.0.2.7:514\"\ntransport = \"tcp\"\nca = \"/a\"", "are for transport"),
            ("address = \"192.0.2.7:514\"\nca = \"/a\"\nkey = \"/a\"", "needed together"),
            ("address = \"192.0.2.7:514\"\ntransport = \"udp\"\nfacilty = \"user\"", "facility"),
        ] {
            let error = read(&format!("[[deliver.syslog]]\n{text}\n")).unwrap_err();
            assert!(error.contains(said) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
