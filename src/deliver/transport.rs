//! A connection to a syslog collector: UDP (RFC 5426), TCP with octet counting (RFC 6587), TLS (RFC 5425); or a file.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::file::Lines;
use crate::config::{Address, SyslogCollector, Transport};

/// What TLS needs, read while files can still be opened.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// One line: the file, and what is wrong with it.
    pub fn read(collector: &SyslogCollector) -> Result<Self, String> {
        let ca = &collector.ca;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| format!("{ca}: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let own = &collector.certificate;
        let config = if own.is_empty() {
            builder.with_no_client_auth()
        } else {
            let key = PrivateKeyDer::from_pem_file(&collector.key);
            let key = key.map_err(|error| format!("{}: cannot be read as a key: {error}", collector.key))?;
            builder.with_client_auth_cert(certificates(own)?, key).map_err(|error| format!("{own}: {error}"))?
        };
        let named = |name: &str| ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"));
        let name = match (collector.server_name.as_str(), &collector.address) {
            ("", Address::Numbers(address)) => ServerName::from(address.ip()),
            ("", Address::Name(name, _)) => named(name)?,
            (name, _) => named(name)?,
        };
        Ok(Self { config: Arc::new(config), name })
    }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let unread = |error: rustls::pki_types::pem::Error| format!("{path}: cannot be read as certificates: {error}");
    let read: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(unread)?.collect::<Result<_, _>>().map_err(unread)?;
    if read.is_empty() { Err(format!("{path}: holds no certificate in PEM")) } else { Ok(read) }
}

/// A connection.
#[derive(Debug)]
pub enum Line {
    /// Datagrams.
    Udp(UdpSocket),
    /// A stream.
    Tcp(TcpStream),
    /// A stream, encrypted.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Lines on the disk.
    File(Lines),
}

impl Line {
    /// Connects; with TLS, the collector has shown who it is.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub fn open(address: SocketAddr, transport: Transport, tls: Option<&Tls>, timeout: Duration) -> io::Result<Self> {
        if transport == Transport::Udp {
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
            socket.connect(address)?;
            return Ok(Self::Udp(socket));
        }
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let Some(tls) = tls else { return Ok(Self::Tcp(stream)) };
        let client = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, stream);
        let end = Instant::now() + timeout;
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
            if Instant::now() >= end {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Sends a message, framed as the transport asks.
    ///
    /// # Errors
    /// If it was not taken.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message).map(|_| ()),
            Self::Tcp(stream) => stream.write_all(&framed(message)),
            Self::Tls(stream) => {
                stream.write_all(&framed(message))?;
                stream.flush()
            }
            Self::File(lines) => lines.write(message),
        }
    }

    /// Has what was sent so far where it cannot get lost any more, as far as that can be known now.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::File(lines) => lines.settle(),
            _ => Ok(()),
        }
    }

    /// Whether what was sent is known only later to have arrived: streams break, datagrams do not tell, and what is in a file is there.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Tls(_))
    }

    /// Looks whether the collector still holds its end, without waiting.
    ///
    /// # Errors
    /// If it closed or broke the connection.
    pub fn check(&mut self) -> io::Result<()> {
        let closed = || io::Error::new(ErrorKind::UnexpectedEof, "the collector closed the connection");
        let waits = |result: io::Result<usize>| match result {
            // A collector has nothing to say; what it says all the same is passed over.
            Ok(0) => Err(closed()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        };
        let mut bytes = [0; 512];
        match self {
            Self::Udp(_) => Ok(()),
            Self::File(lines) => lines.check(),
            Self::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                let read = waits(stream.read(&mut bytes));
                stream.set_nonblocking(false)?;
                read
            }
            Self::Tls(stream) => {
                stream.sock.set_nonblocking(true)?;
                let read = waits(stream.read(&mut bytes));
                stream.sock.set_nonblocking(false)?;
                read
            }
        }
    }

    /// Ends it, and waits until the collector has read all and ends it too, at most until `end`. Whether it did by then.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn close(self, end: Instant) -> io::Result<bool> {
        let mut stream = match self {
            Self::Udp(_) | Self::File(_) => return Ok(true),
            Self::Tcp(stream) => stream,
            Self::Tls(mut stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock
            }
        };
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = [0; 512];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut bytes) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

/// `LENGTH SP MESSAGE`, RFC 6587, section 3.4.1.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = format!("{} ", message.len()).into_bytes();
    frame.extend_from_slice(message);
    frame
}
