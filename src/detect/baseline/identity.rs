//! What counts as the same destination, and as the same process.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::endpoint::base_name;
use crate::join::{Ancestor, Process};
use crate::record::Upload;

/// A longer name is no domain name (RFC 1035 section 2.3.4).
const MAX_DOMAIN: usize = 253;

/// A longer path of a program is cut; no two programs differ only behind it.
const MAX_PATH: usize = 512;

/// Providers and sites have networks of these sizes; single addresses of theirs come and go.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 48;

/// Hexadecimal digits of a hash that tell one program from another.
const HASH_DIGITS: usize = 16;

/// Who uploads where, as what is normal here is known by: looked up once, as much is asked by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The address of the host.
    pub host: String,
    /// The destination that the upload counts for.
    pub destination: Arc<str>,
}

impl Route {
    pub(in super::super) fn of(upload: &Upload) -> Self {
        let host = upload.connection.client.address.to_string();
        Self { host, destination: destination_of(upload).into() }
    }
}

/// The destination that an upload counts for: the registrable part of its domain name (by the public suffix list), in lower
/// case, if a name is known; else the network of its address, a /24 or a /48.
pub fn destination_of(upload: &Upload) -> String {
    let domain = upload.domain.as_deref().map(|name| name.strip_suffix('.').unwrap_or(name));
    match domain.filter(|name| !name.is_empty() && name.len() <= MAX_DOMAIN) {
        Some(name) => of_name(name),
        None => match &upload.proxied_to {
            Some(host) => host.parse().map_or_else(|_| of_name(host), of_address),
            None => of_address(upload.connection.server.address.ip()),
        },
    }
}

fn of_name(name: &str) -> String {
    let name = name.to_lowercase();
    if let Ok(address) = name.parse() {
        return of_address(address);
    }
    // A name without a registrable part (a single label, a public suffix itself) stands for itself.
    let registrable = psl::domain_str(&name).map(str::to_owned);
    registrable.unwrap_or(name)
}

fn of_address(address: IpAddr) -> String {
    let network = match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Net::new(v4, PREFIX_V4).map(IpNet::V4),
        IpAddr::V6(v6) => Ipv6Net::new(v6, PREFIX_V6).map(IpNet::V6),
    };
    network.map_or_else(|_| address.to_string(), |network| network.trunc().to_string())
}

/// A program as the baseline knows it: the pattern of its path, with its signer; with its hash where it has no signer, so
/// that another program in its place is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramId {
    /// The whole identity, as it is kept.
    pub id: String,
    /// The pattern of its path, lower-case.
    pub pattern: String,
}

/// The identity of the program behind a process, if its path is known.
pub fn program_of(process: &Process) -> Option<ProgramId> {
    let pattern = path_pattern(process.image.as_deref()?);
    let signer = process.signer.as_deref().filter(|signer| !signer.trim().is_empty());
    let hash = process.sha256.as_deref().filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    let id = match (signer, hash) {
        (Some(signer), _) => format!("{pattern} signed {}", cut(signer.trim(), MAX_PATH)),
        (None, Some(hash)) => format!("{pattern} sha256 {}", cut(&hash.to_lowercase(), HASH_DIGITS)),
        (None, None) => pattern.clone(),
    };
    Some(ProgramId { id, pattern })
}

/// The identity of a parent: the pattern of its path, as no more is known of it.
pub fn parent_of(ancestors: &[Ancestor]) -> Option<String> {
    ancestors.first().and_then(|parent| parent.image.as_deref()).map(path_pattern)
}

/// A path with what differs from user to user and from version to version replaced by `*`, in lower case.
fn path_pattern(path: &str) -> String {
    let path = cut(path.trim(), MAX_PATH).to_lowercase().replace('/', "\\");
    let name = base_name(&path).to_owned();
    let folders = path.strip_suffix(&name).unwrap_or_default();
    let mut pattern = String::with_capacity(path.len());
    let mut before = "";
    for folder in folders.split_terminator('\\') {
        let is_user = matches!(before, "users" | "documents and settings") && folder != "public" && folder != "default";
        pattern.push_str(if is_user || is_version(folder) || is_guid(folder) { "*" } else { folder });
        pattern.push('\\');
        before = folder;
    }
    pattern.push_str(&name);
    pattern
}

/// Such as `1.2.3`, `app-4.35.1` or `v12.0.1_x64`: two numbers with a dot between them.
fn is_version(folder: &str) -> bool {
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = folder.as_bytes();
    let dotted = |n: usize| bytes.get(n) == Some(&b'.') && digit(bytes.get(n + 1)) && n > 0 && digit(bytes.get(n - 1));
    (0..bytes.len()).any(dotted)
}

fn is_guid(folder: &str) -> bool {
    let inner = folder.trim_start_matches('{').trim_end_matches('}');
    inner.len() == 36 && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_by_their_registrable_part() {
        for (name, expected) in [
            ("uploads.eu.files.example.co.uk", "example.co.uk"),
            ("Files.Example.COM", "example.com"),
            ("bucket.s3.amazonaws.com", "bucket.s3.amazonaws.com"),
            ("localhost", "localhost"),
            ("203.0.113.77", "203.0.113.0/24"),
        ] {
            assert_eq!(of_name(name), expected, "{name}");
        }
    }

    #[test]
    fn bare_addresses_count_by_their_network() {
        assert_eq!(of_address("203.0.113.77".parse().unwrap()), "203.0.113.0/24");
        assert_eq!(of_address("::ffff:203.0.113.77".parse().unwrap()), "203.0.113.0/24");
        assert_eq!(of_address("2001:db8:1:2::3".parse().unwrap()), "2001:db8:1::/48");
    }

    #[test]
    fn a_path_counts_without_its_user_and_its_version() {
        for (path, expected) in [
            (r"C:\Users\Ann\AppData\Local\Zoom\zoom.exe", r"c:\users\*\appdata\local\zoom\zoom.exe"),
            (r"C:\Users\Public\x.exe", r"c:\users\public\x.exe"),
            (r"C:\Program Files\Chrome\131.0.6778.86\chrome.exe", r"c:\program files\chrome\*\chrome.exe"),
            (r"C:\ProgramData\{5F0C2A11-1111-2222-3333-444455556666}\a.exe", r"c:\programdata\*\a.exe"),
            ("ftp.exe", "ftp.exe"),
            (r"C:\v1.2.exe", r"c:\v1.2.exe"),
            ("", ""),
        ] {
            assert_eq!(path_pattern(path), expected, "{path}");
        }
        assert!(path_pattern(&"\u{e9}".repeat(600)).len() <= MAX_PATH);
    }

    #[test]
    fn a_signed_program_is_known_by_its_signer_and_an_unsigned_one_by_its_content() {
        let hash = |digit: &str| digit.repeat(64);
        let of = |signer: Option<&str>, hash: Option<String>| {
            let mut process = crate::join::tests::process_of("C:\\a.exe");
            process.signer = signer.map(Into::into);
            process.sha256 = hash.map(Into::into);
            program_of(&process).map(|program| program.id)
        };
        assert_eq!(of(Some("CN=Vendor"), Some(hash("a"))), of(Some("CN=Vendor"), Some(hash("b"))));
        assert_ne!(of(None, Some(hash("a"))), of(None, Some(hash("b"))));
        assert_ne!(of(None, None), of(Some("CN=Vendor"), None));
    }
}
