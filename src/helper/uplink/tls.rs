//! TLS 1.3 with a certificate on both sides.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::helper::config::{self, is_pem};

/// How long the other side may take for each step of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key cannot be read.
    #[error("uplink.{key}: {file}: {reason}")]
    Read {
        /// The key of the configuration.
        key: &'static str,
        /// The file, or that it is the configuration's own text.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificate and the key do not fit each other, or are of no use.
    #[error("uplink.certificate: {0}")]
    Unfit(rustls::Error),
    /// The name is none that a certificate can hold.
    #[error("uplink.server_name: \"{0}\" is neither a name nor an address")]
    Name(String),
    /// The other side is not the sensor, or does not take this host for one that it knows.
    #[error("no TLS with the sensor: {0}")]
    Handshake(String),
}

/// What every connection needs.
pub(super) fn client(config: &config::Uplink) -> Result<Arc<ClientConfig>, TlsError> {
    let certificates = |key: &'static str, text: &str| -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = pem(key, text)?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match all {
            Ok(all) if all.is_empty() => Err(unread(key, text, "there is no certificate in it")),
            Ok(all) => Ok(all),
            Err(reason) => Err(unread(key, text, &reason.to_string())),
        }
    };
    let mut roots = RootCertStore::empty();
    for root in certificates("authority", &config.authority)? {
        roots.add(root).map_err(|reason| unread("authority", &config.authority, &reason.to_string()))?;
    }
    let chain = certificates("certificate", &config.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem("key", &config.key)?)
        .map_err(|reason| unread("key", &config.key, &reason.to_string()))?;
    server_name(config)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unfit)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::Unfit)?;
    Ok(Arc::new(client))
}

/// Makes a connection TLS.
pub(super) fn connect(
    config: &config::Uplink,
    client: Arc<ClientConfig>,
    mut socket: TcpStream,
) -> Result<StreamOwned<ClientConnection, TcpStream>, TlsError> {
    let broken = |reason: io::Error| TlsError::Handshake(reason.to_string());
    let mut connection = ClientConnection::new(client, server_name(config)?).map_err(TlsError::Unfit)?;
    socket.set_read_timeout(Some(HANDSHAKE)).map_err(broken)?;
    socket.set_write_timeout(Some(HANDSHAKE)).map_err(broken)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(broken)?;
    }
    Ok(StreamOwned::new(connection, socket))
}

fn server_name(config: &config::Uplink) -> Result<ServerName<'static>, TlsError> {
    let name = if config.server_name.is_empty() { config.sensor_host() } else { &config.server_name };
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
}

fn pem(key: &'static str, text: &str) -> Result<Vec<u8>, TlsError> {
    if is_pem(text) {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(text).map_err(|reason| unread(key, text, &reason.to_string()))
}

fn unread(key: &'static str, text: &str, reason: &str) -> TlsError {
    let file = if is_pem(text) { "the text in the configuration" } else { text };
    TlsError::Read { key, file: file.to_owned(), reason: reason.to_owned() }
}
