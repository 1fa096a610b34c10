//! A helper for tests: it speaks the listener's protocol, or breaks it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outfall::endpoint::authority::{Credentials, SENSOR_NAME};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// What can be read and written.
pub trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// The files of `outfall enroll`.
pub fn credentials(folder: &Path) -> Credentials {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    Credentials { authority: read("authority.crt"), certificate: read("helper.crt"), key: read("helper.key") }
}

/// TLS with a sensor whose authority is `authority`, with the certificate of `own` or without any.
pub fn tls(socket: TcpStream, authority: &str, own: Option<&Credentials>) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some(own) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from(SENSOR_NAME).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A connection to the sensor.
pub struct Helper {
    wire: BufReader<Box<dyn Wire>>,
    line: String,
    /// The highest number that was acknowledged.
    pub acknowledged: u64,
    /// What the sensor said when it ended the connection.
    pub bye: Option<String>,
}

impl Helper {
    pub fn new(wire: impl Wire + 'static) -> Self {
        Self { wire: BufReader::new(Box::new(wire)), line: String::new(), acknowledged: 0, bye: None }
    }

    /// Says something; false if the connection is over.
    pub fn say(&mut self, text: &str) -> bool {
        let until = Instant::now() + LIMIT;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            assert!(Instant::now() < until, "the sensor takes nothing");
            match self.wire.get_mut().write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return false,
            }
        }
        self.wire.get_mut().flush().is_ok()
    }

    /// Says hello and waits for what is stored.
    #[track_caller]
    pub fn hello(&mut self, host: &str, stream: u64) -> u64 {
        assert!(self.say(&hello(host, stream)));
        let first = self.answer(LIMIT).expect("the sensor does not answer");
        assert_eq!((&first["type"], &first["stream"]), (&"ack".into(), &format!("{stream:016x}").into()), "{first}");
        self.acknowledged
    }

    /// The next line of the sensor's, if one comes in time; none at the end either.
    pub fn answer(&mut self, wait: Duration) -> Option<Value> {
        let until = Instant::now() + wait;
        loop {
            match self.wire.read_line(&mut self.line) {
                Ok(0) => {
                    self.bye.get_or_insert_default();
                    return None;
                }
                Ok(_) if self.line.ends_with('\n') => {
                    let answer: Value = serde_json::from_str(&std::mem::take(&mut self.line)).unwrap();
                    match answer["type"].as_str() {
                        Some("ack") => self.acknowledged = answer["seq"].as_u64().unwrap(),
                        Some("bye") => self.bye = Some(answer["reason"].as_str().unwrap().to_owned()),
                        other => panic!("an answer of type {other:?}"),
                    }
                    return Some(answer);
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= until {
                        return None;
                    }
                }
                Err(_) => {
                    self.bye.get_or_insert_default();
                    return None;
                }
            }
        }
    }

    /// Waits until that much is stored.
    #[track_caller]
    pub fn stored(&mut self, seq: u64) {
        let until = Instant::now() + LIMIT;
        while self.acknowledged < seq {
            assert!(Instant::now() < until && self.bye.is_none(), "{} of {seq}, {:?}", self.acknowledged, self.bye);
            self.answer(Duration::from_millis(100));
        }
    }

    /// Waits for the end: what the sensor said, empty if it said nothing.
    #[track_caller]
    pub fn ended(&mut self) -> String {
        let until = Instant::now() + LIMIT;
        while self.bye.is_none() {
            assert!(Instant::now() < until, "the sensor does not end the connection");
            self.answer(Duration::from_millis(100));
        }
        self.bye.clone().unwrap()
    }
}

pub fn hello(host: &str, stream: u64) -> String {
    let ts = super::lab::now();
    format!(
        "{{\"type\":\"hello\",\"v\":1,\"host\":{{\"id\":\"{host}\",\"name\":\"{host}\",\"ips\":[\"10.20.0.42\"]}},\
         \"ts\":{ts},\"helper\":\"test\",\"source\":\"script\",\"stream\":\"{stream:016x}\"}}\n"
    )
}

/// A process that ended, as the event with this number.
pub fn event(seq: u64) -> String {
    let ts = super::lab::now();
    format!("{{\"type\":\"process_end\",\"source\":\"script\",\"seq\":{seq},\"ts\":{ts},\"pid\":{}}}\n", seq % 60_000)
}

pub fn events(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(event).collect()
}
