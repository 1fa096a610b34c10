//! The sockets that are listened on, opened before the sensor gives up the right to.

use std::io::{Error, ErrorKind, Result};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::ListenerError;
use crate::config;

/// A local socket is for its owner and its group.
const MODE: u32 = 0o660;

/// What is listened on.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) tls: Vec<TcpListener>,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) unix: Vec<UnixListener>,
}

impl Sockets {
    pub(super) fn bind(settings: &config::Listener) -> std::result::Result<Self, ListenerError> {
        let mut sockets = Self::default();
        for place in &settings.tls {
            sockets.tls.push(tcp(place).map_err(|source| refused(place, source))?);
        }
        for place in &settings.local {
            if place.starts_with('/') {
                sockets.unix.push(unix(Path::new(place)).map_err(|source| refused(place, source))?);
            } else {
                sockets.tcp.push(tcp(place).map_err(|source| refused(place, source))?);
            }
        }
        Ok(sockets)
    }

    /// The same sockets for another thread.
    pub(super) fn another(&self) -> Result<Self> {
        Ok(Self {
            tls: self.tls.iter().map(TcpListener::try_clone).collect::<Result<_>>()?,
            tcp: self.tcp.iter().map(TcpListener::try_clone).collect::<Result<_>>()?,
            unix: self.unix.iter().map(UnixListener::try_clone).collect::<Result<_>>()?,
        })
    }

    /// The addresses that TLS is listened on, as the system gave them.
    pub(super) fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.tls.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// The loopback addresses.
    pub(super) fn local_addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

fn refused(place: &str, source: Error) -> ListenerError {
    ListenerError::Bind { place: place.to_owned(), source }
}

fn tcp(place: &str) -> Result<TcpListener> {
    let address: SocketAddr = place.parse().map_err(Error::other)?;
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn unix(path: &Path) -> Result<UnixListener> {
    // What a run that ended left behind; one that is listened on stays, and is refused below.
    let stale = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if stale {
        std::fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
