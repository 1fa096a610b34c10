//! What a policy can name: destinations and expected processes.

use super::keys::{DESTINATIONS, PROTOCOLS};
use super::problem::{Refusals, key_text};
use super::suggest;
use super::value::{List, Node, Setting, read_text};
use globset::{GlobBuilder, GlobSet};
use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::IpAddr;

/// A network or a domain that an upload can go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Every address of the network; a single address is a network of one.
    Network(IpNet),
    /// The domain, lower-case and without a final dot, and every domain below it.
    Domain(String),
}

impl Destination {
    /// Whether an upload to `ip` (not known behind a proxy), known under the name `domain`, goes there.
    pub fn matches(&self, ip: Option<IpAddr>, domain: Option<&str>) -> bool {
        match self {
            Self::Network(network) => ip.is_some_and(|ip| network.contains(&ip.to_canonical())),
            Self::Domain(wanted) => domain.is_some_and(|domain| is_within(domain, wanted)),
        }
    }
}

fn is_within(domain: &str, wanted: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain).as_bytes();
    let Some(split) = domain.len().checked_sub(wanted.len()) else { return false };
    let (below, end) = domain.split_at(split);
    end.eq_ignore_ascii_case(wanted.as_bytes()) && (below.is_empty() || below.ends_with(b"."))
}

/// The forms that the configuration takes.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => network.addr().fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Domain(domain) => f.write_str(domain),
        }
    }
}

/// Why a text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {DESTINATION}, found \"{0}\"")]
pub struct DestinationError(pub String);

pub(super) const DESTINATION: &str =
    "an address, a network or a domain, such as \"198.51.100.0/24\" or \"partner.example\"";

impl std::str::FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let domain = || {
            let name = text.strip_suffix('.').unwrap_or(text);
            is_domain(name).then(|| Self::Domain(name.to_ascii_lowercase()))
        };
        parse_network(text).map(Self::Network).or_else(domain).ok_or_else(|| DestinationError(text.to_owned()))
    }
}

/// A last label of digits is refused, as it is a mistyped address rather than a name.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(is_label) && !name.rsplit('.').next().is_some_and(is_number)
}

/// A network, or an address as a network of one; host bits are cleared, and an IPv4-mapped form becomes IPv4.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip))).ok()?;
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let mapped = mapped.and_then(|(v4, prefix)| Ipv4Net::new(v4, prefix).ok());
    Some(mapped.map_or(network, IpNet::V4).trunc())
}

/// A pattern of full paths, in which `*` stands for any characters, also backslashes; upper and lower case are the same.
#[derive(Clone, Debug, Default)]
pub struct PathPattern {
    /// As it was written.
    pub text: String,
    matcher: GlobSet,
}

impl PathPattern {
    /// Of its text.
    ///
    /// # Errors
    /// If it cannot be compiled.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        // Longer than any sensible path; the compiled form takes memory that grows with it.
        const LONGEST: usize = 1_024;
        if text.len() > LONGEST {
            return Err(PatternError(format!("longer than {LONGEST} bytes")));
        }
        let error = |error: globset::Error| PatternError(error.kind().to_string());
        // The glob engine folds only ASCII letters; Windows folds all.
        let glob = GlobBuilder::new(&text.to_lowercase())
            .case_insensitive(true)
            .literal_separator(false)
            .backslash_escape(false)
            .build()
            .map_err(error)?;
        // A set of one, as a single matcher panics where the pattern compiles to too much.
        let matcher = GlobSet::builder().add(glob).build().map_err(error)?;
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// Whether a full path fits.
    pub fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path.to_lowercase())
    }
}

/// The compiled form follows from the text.
impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A process that is expected to upload, and what it is expected to use and to reach.
#[derive(Clone, Debug, Default)]
pub struct ExpectedProcess {
    /// The pattern of the full image path.
    pub image: String,
    /// The protocols that it may use; all, if empty.
    pub protocols: Vec<String>,
    /// The destinations that it may reach; all, if empty.
    pub destinations: Vec<Destination>,
    matcher: PathPattern,
}

impl ExpectedProcess {
    /// With a pattern in which `*` stands for any characters, also backslashes; upper and lower case are the same.
    pub fn new(image: &str, protocols: Vec<String>, destinations: Vec<Destination>) -> Result<Self, PatternError> {
        let matcher = PathPattern::new(image)?;
        Ok(Self { image: image.to_owned(), protocols, destinations, matcher })
    }

    /// Whether the full image path fits the pattern.
    pub fn matches_image(&self, image: &str) -> bool {
        self.matcher.matches(image)
    }

    const KEYS: [&str; 3] = ["image", "protocols", "destinations"];

    pub(super) fn read(node: &Node<'_>, expected: &'static str, key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            refused.expected(node, key, expected);
            return None;
        };
        for name in table.keys().filter(|name| !Self::KEYS.contains(&name.get_ref().as_ref())) {
            let path = format!("{key}.{}", key_text(name.get_ref()));
            refused.add(name.span().start, Some(path), suggest::unknown_name(name.get_ref(), &Self::KEYS));
        }
        let path = |name: &str| format!("{key}.{name}");
        let protocols = read_list(table.get("protocols"), &PROTOCOLS, &path("protocols"), refused);
        let destinations = read_list(table.get("destinations"), &DESTINATIONS, &path("destinations"), refused);
        let Some(image) = table.get("image") else {
            refused.add(node.span().start, Some(path("image")), format!("expected {IMAGE}, found none"));
            return None;
        };
        let pattern = read_text(image, IMAGE, &path("image"), refused, |text| {
            (!text.trim().is_empty()).then(|| text.to_owned())
        })?;
        let process = Self::new(&pattern, protocols?, destinations?);
        process.map_err(|error| refused.expected(image, &path("image"), &format!("{IMAGE} ({error})"))).ok()
    }
}

const IMAGE: &str = "a pattern of the full image path such as 'C:\\Program Files\\Backup\\*.exe'";

/// As in any table, what is left out has its default: here, none, which stands for all.
fn read_list<T>(node: Option<&Node<'_>>, rule: &List<T>, key: &str, refused: &mut Refusals<'_>) -> Option<Vec<T>>
where
    Vec<T>: Setting<Rule = List<T>>,
{
    let Some(node) = node else { return Some(Vec::new()) };
    let empty_is_all = List { item: rule.item, may_be_empty: true, read: rule.read };
    Setting::read(node, &empty_is_all, key, refused)
}

/// The compiled form follows from the pattern, so it needs no comparison.
impl PartialEq for ExpectedProcess {
    fn eq(&self, other: &Self) -> bool {
        (&self.image, &self.protocols, &self.destinations) == (&other.image, &other.protocols, &other.destinations)
    }
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    fn goes(destination: &str, ip: &str, domain: Option<&str>) -> bool {
        destination.parse::<Destination>().unwrap().matches(Some(ip.parse().unwrap()), domain)
    }

    #[test]
    fn a_network_matches_its_addresses_in_either_form() {
        assert!(goes("203.0.113.40", "203.0.113.40", None));
        assert!(goes("203.0.113.40", "::ffff:203.0.113.40", None));
        assert!(!goes("203.0.113.40", "203.0.113.41", None));
        assert!(goes("198.51.100.7/24", "198.51.100.200", Some("any.example")));
        assert!(goes("::ffff:198.51.100.0/120", "198.51.100.200", None));
        assert!(goes("2001:db8::/32", "2001:db8:1::1", None));
        assert!(!goes("2001:db8::/32", "198.51.100.1", None));
        assert!(goes("0.0.0.0/0", "198.51.100.1", None) && !goes("0.0.0.0/0", "2001:db8::1", None));
    }

    #[test]
    fn a_domain_matches_itself_and_what_lies_below_it() {
        let at = |domain| goes("Partner.Example.", "192.0.2.1", domain);
        assert!(at(Some("partner.example")) && at(Some("ftp.PARTNER.example.")) && at(Some("a.b.partner.example")));
        assert!(!at(Some("evilpartner.example")) && !at(Some("partner.example.net")) && !at(Some("example")));
        assert!(!at(Some("")) && !at(None) && !at(Some("\u{e9}artner.example")));
    }

    #[test]
    fn what_is_neither_address_nor_network_nor_domain_is_refused() {
        for text in
            ["", ".", "a..b", "203.0.113.400", "10.0.0.0/33", "*.partner.example", "http://x", "a b", "m\u{fc}n.de"]
        {
            assert_eq!(text.parse::<Destination>(), Err(DestinationError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_destination_prints_as_it_is_read() {
        for text in ["203.0.113.40", "198.51.100.0/24", "2001:db8::/32", "2001:db8::1", "partner.example"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_image_pattern_crosses_backslashes_and_ignores_case() {
        let process = |image| ExpectedProcess::new(image, Vec::new(), Vec::new()).unwrap();
        let backup = process(r"C:\Program Files (x86)\*\backup.exe");
        assert!(backup.matches_image(r"c:\program files (X86)\Vendor\1.2\BACKUP.EXE"));
        assert!(!backup.matches_image(r"C:\Users\x\backup.exe"));
        assert!(!backup.matches_image(r"D:\C:\Program Files (x86)\a\backup.exe.exe"));
        assert!(process("*\\\u{c4}rger.exe").matches_image("C:\\Users\\\u{e4}RGER.EXE"));
        assert!(process(r"C:\[{]1[}]\a.exe").matches_image(r"C:\{1}\a.exe"));
        assert!(process(r"C:\n?.exe").matches_image(r"C:\nc.exe"));
        assert!(!ExpectedProcess::default().matches_image(""));
    }

    #[test]
    fn a_pattern_that_cannot_be_compiled_is_refused() {
        let long = "*a".repeat(100_000);
        let deep = format!("{}a{}", "{".repeat(300), "}".repeat(300));
        for pattern in ["C:\\[a", "C:\\{a", &long, &deep] {
            let error = ExpectedProcess::new(pattern, Vec::new(), Vec::new()).unwrap_err();
            assert!(!error.to_string().contains('\n') && error.to_string().len() < 200, "{error}");
        }
    }
}
