//! The sensor's own authority: it names the sensor and every helper that may speak to it, and nobody else.
//!
//! In a state directory lie the authority's key and certificate, the sensor's, and the [`Roll`] of every certificate that
//! was issued. A helper gets in with a certificate that the authority signed, that is on the roll, not revoked and not
//! expired; its name in it is the host that it may speak for.

mod roll;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;

use crate::net::{Span, Timestamp};
pub use roll::{Enrolled, Fingerprint, Roll, Standing};

/// The name in the sensor's certificate, whatever its address.
pub const SENSOR_NAME: &str = "outfall-sensor";

/// Nobody but this sensor's helpers trusts the authority, so that nothing is gained by its end.
const YEARS: Span = Span::seconds(50 * 366 * 24 * 3_600);

/// A clock that is a little behind must not refuse a certificate that was just made.
const EARLIER: Span = Span::seconds(24 * 3_600);

const AUTHORITY: &str = "authority";
const SENSOR: &str = "sensor";
const ROLL: &str = "enrolled.jsonl";

/// A key or certificate is far shorter.
const MAX_FILE: u64 = 64 << 10;

/// Why the authority could not do something.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the state directory.
    #[error("{}: {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was wanted of it.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the state directory holds something else.
    #[error("{}: is damaged ({why}); put it back from a copy, or remove the directory and enroll every host anew", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The text cannot be the name of a host.
    #[error("\"{0}\": not the name of a host: letters, digits, `-`, `_` and `.`, not a number alone")]
    Name(String),
    /// There is nothing to revoke.
    #[error("{0}: has no certificate that is still valid (see `outfall enroll --list`)")]
    NotEnrolled(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Issue(#[from] rcgen::Error),
}

/// What a host needs to get in.
#[derive(Clone)]
pub struct Credentials {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The host's certificate, PEM.
    pub certificate: String,
    /// Its key, PEM. A secret.
    pub key: String,
}

/// What the sensor shows to helpers, and what it asks of them.
pub struct Server {
    /// The authority's certificate.
    pub authority: CertificateDer<'static>,
    /// The sensor's certificate.
    pub certificate: CertificateDer<'static>,
    /// The sensor's key.
    pub key: PrivateKeyDer<'static>,
}

/// Whether a host can be enrolled under this name: what a certificate can hold, so that it can be compared.
pub fn is_host_name(name: &str) -> bool {
    matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))) && !name.ends_with('.')
}

/// The authority in a state directory.
pub struct Authority {
    folder: PathBuf,
    key: KeyPair,
    certificate: String,
}

impl Authority {
    /// Takes up the authority in a directory, or makes it there, with everything that the sensor needs. The files belong
    /// to the owner of the directory, who alone may read them.
    ///
    /// # Errors
    /// If the directory cannot be written, or holds something else.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let (key, certificate) = pair(folder, AUTHORITY, |key| Ok(authority().self_signed(key)?.pem()))?;
        let issuer = Issuer::new(authority(), &key);
        pair(folder, SENSOR, |key| {
            let mut params = leaf(SENSOR_NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
            (params.not_before, params.not_after) = (moment(now().before(EARLIER)), moment(now().after(YEARS)));
            Ok(params.signed_by(key, &issuer)?.pem())
        })?;
        Ok(Self { folder: folder.to_owned(), key, certificate })
    }

    /// Makes a key and a certificate for a host, valid until then, and puts it on the roll.
    ///
    /// # Errors
    /// If the name is none, or the roll cannot be written.
    pub fn enroll(&self, host: &str, until: Timestamp) -> Result<Credentials, AuthorityError> {
        if !is_host_name(host) {
            return Err(AuthorityError::Name(host.to_owned()));
        }
        let from = now().min(until).before(EARLIER);
        let key = KeyPair::generate()?;
        let mut params = leaf(host, ExtendedKeyUsagePurpose::ClientAuth)?;
        (params.not_before, params.not_after) = (moment(from), moment(until));
        let certificate = params.signed_by(&key, &Issuer::new(authority(), &self.key))?;
        let enrolled = Enrolled {
            host: host.to_owned(),
            certificate: Fingerprint::of(certificate.der()),
            from,
            until,
            revoked: None,
        };
        self.append(&roll::enrolment(&enrolled))?;
        Ok(Credentials {
            authority: self.certificate.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Takes a host off the roll: none of its certificates is valid any more. Gives how many there were.
    ///
    /// # Errors
    /// If it has none, or the roll cannot be read or written.
    pub fn revoke(&self, host: &str) -> Result<usize, AuthorityError> {
        let roll = Roll::read(&self.folder)?;
        let lines: Vec<String> = roll
            .certificates()
            .filter(|enrolled| enrolled.host.eq_ignore_ascii_case(host) && enrolled.revoked.is_none())
            .map(|enrolled| roll::revocation(enrolled, now()))
            .collect();
        if lines.is_empty() {
            return Err(AuthorityError::NotEnrolled(host.to_owned()));
        }
        self.append(&lines.concat())?;
        Ok(lines.len())
    }

    fn append(&self, lines: &str) -> Result<(), AuthorityError> {
        let path = self.folder.join(ROLL);
        let failed = |source| AuthorityError::File { path: path.clone(), what: "cannot be written", source };
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
        own(&self.folder, &file).map_err(failed)?;
        // A line that was cut short must not swallow this one; an empty one is no offence.
        file.write_all(format!("\n{lines}").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }
}

/// What the sensor needs to listen.
///
/// # Errors
/// If a file is missing or damaged.
pub fn server(folder: &Path) -> Result<Server, AuthorityError> {
    let certificate = |name: &str| {
        let path = folder.join(name).with_extension("crt");
        let text = read(&path)?;
        CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|error| AuthorityError::Damaged { path, why: error.to_string() })
    };
    let path = folder.join(SENSOR).with_extension("key");
    let key = PrivateKeyDer::from_pem_slice(read(&path)?.as_bytes())
        .map_err(|error| AuthorityError::Damaged { path, why: error.to_string() })?;
    Ok(Server { authority: certificate(AUTHORITY)?, certificate: certificate(SENSOR)?, key })
}

/// The host that a certificate names.
pub fn named_host(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(str::to_owned)
}

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_parts(since.as_secs(), u64::from(since.subsec_nanos()))
}

fn moment(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.0 / 1_000_000_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Outfall sensor authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (params.not_before, params.not_after) = (moment(now().before(EARLIER)), moment(now().after(YEARS)));
    params
}

fn leaf(host: &str, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(host);
    params.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// A key and its certificate, made where they are not there yet. A start that was cut short is taken up where it ended.
fn pair(
    folder: &Path,
    name: &str,
    issue: impl FnOnce(&KeyPair) -> Result<String, AuthorityError>,
) -> Result<(KeyPair, String), AuthorityError> {
    let (key_file, file) = (folder.join(name).with_extension("key"), folder.join(name).with_extension("crt"));
    let key = match read(&key_file) {
        Ok(text) => KeyPair::from_pem(&text)
            .map_err(|error| AuthorityError::Damaged { path: key_file, why: error.to_string() })?,
        // A key that was put away is not replaced: the certificates that it signed would be worth nothing.
        Err(AuthorityError::File { source, .. }) if source.kind() == ErrorKind::NotFound && !file.exists() => {
            let key = KeyPair::generate()?;
            write_private(&key_file, &key.serialize_pem())?;
            key
        }
        Err(error) => return Err(error),
    };
    let certificate = match read(&file) {
        Err(AuthorityError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let text = issue(&key)?;
            write_private(&file, &text)?;
            text
        }
        read => read?,
    };
    Ok((key, certificate))
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    let failed = |source| AuthorityError::File { path: path.to_owned(), what: "cannot be read", source };
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Writes a file that only its owner may read, whole or not at all. It belongs to the owner of its directory.
///
/// # Errors
/// If it cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), AuthorityError> {
    let failed = |source| AuthorityError::File { path: path.to_owned(), what: "cannot be written", source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // One that was left behind may be open to others.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        own(folder, &file)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(failed)
}

/// What root makes in somebody's directory is theirs, lest they cannot read it.
fn own(folder: &Path, file: &File) -> std::io::Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    // The folder of a bare file name is empty.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let owner = std::fs::metadata(folder)?;
    std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests;
