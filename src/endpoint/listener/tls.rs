//! TLS 1.3 with a certificate on both sides, and what a handshake that failed says about the client.

use std::path::Path;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};

use super::ListenerError;
use super::reason::Reason;
use crate::endpoint::authority;

/// What the sensor shows and asks of helpers, as the state directory has it.
pub(super) fn configuration(state: &Path) -> Result<Arc<ServerConfig>, ListenerError> {
    let unfit = |error: &dyn std::error::Error| ListenerError::Tls(error.to_string());
    let server = authority::server(state)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(server.authority).map_err(|error| unfit(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unfit(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unfit(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.certificate], server.key)
        .map_err(|error| unfit(&error))?;
    // A session that is taken up again would not be asked for its certificate.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Why a handshake failed.
pub(super) fn reason(error: &std::io::Error) -> Reason {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return Reason::Handshake;
    };
    match error {
        rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::Expired,
            _ => Reason::Foreign,
        },
        _ => Reason::Handshake,
    }
}
