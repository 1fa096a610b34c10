//! The one connection to the sensor: everything in the spool, in order, until it is acknowledged.
//!
//! The first line is a `hello` with the stream's id. The sensor answers with the highest number that it has stored, and
//! says so again as it stores more. What is acknowledged goes from the spool; after a break the rest is sent again.

mod backoff;
mod tls;
mod wire;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::config;
use super::host;
use super::log::{Log, now};
use super::spool::Spool;
use super::stop::Stop;
use crate::endpoint::{Hello, HostDescription};
use backoff::Backoff;
pub use tls::TlsError;
use wire::Wire;

const CONNECT: Duration = Duration::from_secs(10);

/// How many bytes are taken from the spool at a time.
const BATCH: usize = 32 << 10;

/// How often the link looks for acknowledgements when there is nothing to send.
const IDLE: Duration = Duration::from_millis(250);

/// A longer line is none of the sensor's.
const MAX_LINE: usize = 64 << 10;

/// How often a failure that stays the same is logged again.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// The spool, as the gatherer and the link share it.
#[derive(Debug)]
pub struct Shared {
    spool: Mutex<Spool>,
    /// Whether something is to be read that was not, and who waits for it.
    fresh: AtomicBool,
    woken: Condvar,
}

impl Shared {
    /// Of a spool.
    pub fn new(spool: Spool) -> Self {
        Self { spool: Mutex::new(spool), fresh: AtomicBool::new(true), woken: Condvar::new() }
    }

    /// The spool.
    pub fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that there is something new in the spool.
    pub fn wake(&self) {
        // Whoever is about to wait holds the spool, and so does not miss it.
        let spool = self.spool();
        self.fresh.store(true, Ordering::SeqCst);
        drop(spool);
        self.woken.notify_all();
    }

    fn take_fresh(&self) -> bool {
        self.fresh.swap(false, Ordering::SeqCst)
    }

    fn wait(&self, most: Duration) {
        let spool = self.spool();
        if !self.fresh.load(Ordering::SeqCst) {
            drop(self.woken.wait_timeout(spool, most).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("no address is known for {0}")]
    NoAddress(String),
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the sensor closed the connection")]
    Closed,
    #[error("the sensor said goodbye: {0}")]
    Bye(String),
    #[error("the sensor has acknowledged nothing for {0} s")]
    Silent(u64),
    #[error("the sensor sent what is no answer: {0}")]
    NoAnswer(String),
    #[error("the spool: {0}")]
    Spool(io::Error),
}

/// A line of the sensor's.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Answer {
    Ack {
        #[serde(default)]
        stream: Option<String>,
        seq: u64,
    },
    Bye {
        #[serde(default)]
        reason: String,
    },
    #[serde(other)]
    Other,
}

/// The link.
#[derive(Debug)]
pub struct Uplink {
    config: config::Uplink,
    host: config::Host,
    tls: Option<Arc<rustls::ClientConfig>>,
    shared: Arc<Shared>,
    log: Arc<Log>,
    stop: Arc<Stop>,
}

impl Uplink {
    /// Reads the certificates.
    ///
    /// # Errors
    /// If they cannot be read or do not fit each other.
    pub fn new(config: &config::Config, shared: Arc<Shared>, log: Arc<Log>, stop: Arc<Stop>) -> Result<Self, TlsError> {
        let tls = if config.uplink.is_tls() { Some(tls::client(&config.uplink)?) } else { None };
        Ok(Self { config: config.uplink.clone(), host: config.host.clone(), tls, shared, log, stop })
    }

    /// Keeps the connection up until everything ends.
    pub fn run(&self) {
        let mut backoff = Backoff::new(self.config.retry_least, self.config.retry_most);
        let mut said: Option<(String, Instant)> = None;
        while !self.stop.is_set() {
            let mut acknowledged = false;
            let Err(error) = self.session(&mut acknowledged) else { return };
            if acknowledged {
                backoff.reset();
                said = None;
            }
            let text = error.to_string();
            let wait = backoff.next();
            if said.as_ref().is_none_or(|(before, at)| *before != text || at.elapsed() > SAY_AGAIN) {
                self.log.line(&format!("uplink: {text}; trying again in {:.1} s and then on", wait.as_secs_f64()));
                said = Some((text, Instant::now()));
            }
            self.stop.wait(wait);
        }
    }

    /// One connection. Ends well only when everything ends.
    fn session(&self, acknowledged: &mut bool) -> Result<(), LinkError> {
        let mut wire = self.connect()?;
        let patience = Duration::from_nanos(self.config.patience.0);
        let stream = self.shared.spool().stream().to_owned();
        let mut sending = self.hello(&stream, &wire)?;
        let mut sent = 0;
        let mut received = Vec::new();
        let mut welcome = false;
        // Whether the spool may hold more than was read of it.
        let mut more = true;
        let mut progress = Instant::now();
        loop {
            let mut busy = false;
            if wire.receive(&mut received)? {
                busy = true;
                for answer in answers(&mut received)? {
                    let seq = match answer {
                        Answer::Ack { stream: of, seq } if of.as_ref().is_none_or(|of| *of == stream) => seq,
                        Answer::Ack { .. } => return Err(LinkError::NoAnswer("an ack of another stream".to_owned())),
                        Answer::Bye { reason } => return Err(LinkError::Bye(reason)),
                        Answer::Other => continue,
                    };
                    let mut spool = self.shared.spool();
                    spool.acknowledge(seq).map_err(LinkError::Spool)?;
                    if !welcome {
                        spool.rewind();
                        welcome = true;
                        *acknowledged = true;
                        drop(spool);
                        let kind = if self.tls.is_some() { "TLS" } else { "plain" };
                        self.log
                            .line(&format!("uplink: connected to {} ({kind}), stored up to {seq}", self.config.sensor));
                    }
                    progress = Instant::now();
                }
            }
            // Reading brings to the disk what waits for it: only when that is due, or each look would be a write.
            if sent >= sending.len() && welcome && (self.shared.take_fresh() || more) {
                sending.clear();
                sent = 0;
                self.shared.spool().read(BATCH, &mut sending).map_err(LinkError::Spool)?;
                more = sending.len() >= BATCH;
            }
            let written = wire.send(sending.get(sent..).unwrap_or_default())?;
            sent += written;
            busy |= written > 0;
            if self.stop.is_set() {
                return Ok(());
            }
            let owed = !welcome || sent < sending.len() || self.shared.spool().is_waiting();
            if !owed {
                progress = Instant::now();
            }
            if progress.elapsed() > patience {
                return Err(LinkError::Silent(patience.as_secs()));
            }
            if !busy {
                // While the sensor takes no more, new events need not wake the link.
                if sent < sending.len() || !welcome {
                    self.stop.wait(Duration::from_millis(10));
                } else {
                    self.shared.wait(IDLE);
                }
            }
        }
    }

    fn connect(&self) -> Result<Wire, LinkError> {
        let sensor = &self.config.sensor;
        let addresses = sensor.to_socket_addrs().map_err(|reason| LinkError::Connect(sensor.clone(), reason))?;
        let mut result = Err(LinkError::NoAddress(sensor.clone()));
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    return Ok(match &self.tls {
                        Some(config) => Wire::tls(tls::connect(&self.config, config.clone(), socket)?)?,
                        None => Wire::plain(socket)?,
                    });
                }
                Err(reason) => result = Err(LinkError::Connect(sensor.clone(), reason)),
            }
        }
        result
    }

    fn hello(&self, stream: &str, wire: &Wire) -> Result<Vec<u8>, LinkError> {
        let HostDescription { id, name, domain, mut ips } = host::describe(&self.host);
        if let Some(own) = wire.local_ip().filter(|ip: &IpAddr| host::is_address(ip) && !ips.contains(ip)) {
            ips.push(own);
        }
        let hello = Hello {
            v: 1,
            host: HostDescription { id, name, domain, ips },
            boot: host::boot(),
            ts: now(),
            helper: Some(env!("CARGO_PKG_VERSION").to_owned()),
        };
        let mut line = format!("{{\"type\":\"hello\",\"stream\":\"{stream}\",").into_bytes();
        let body = serde_json::to_vec(&hello).map_err(io::Error::from)?;
        line.extend_from_slice(body.get(1..).unwrap_or_default());
        line.push(b'\n');
        Ok(line)
    }
}

/// Reads the certificates, and says in words what the link is.
///
/// # Errors
/// If they cannot be read or do not fit each other.
pub fn check(config: &config::Uplink) -> Result<&'static str, TlsError> {
    if !config.is_tls() {
        return Ok("plain, on this machine only");
    }
    tls::client(config)?;
    Ok("TLS 1.3 with a certificate on both sides")
}

/// Takes the whole lines out of what was received.
fn answers(received: &mut Vec<u8>) -> Result<Vec<Answer>, LinkError> {
    let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let lines: Vec<u8> = received.drain(..whole).collect();
    if received.len() > MAX_LINE {
        return Err(LinkError::NoAnswer("a line without an end".to_owned()));
    }
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|reason| LinkError::NoAnswer(reason.to_string()))).collect()
}

impl Wire {
    /// Reads what is there. Whether there was anything.
    fn receive(&mut self, received: &mut Vec<u8>) -> Result<bool, LinkError> {
        let mut chunk = [0; 4096];
        let mut any = false;
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return if any { Ok(true) } else { Err(LinkError::Closed) },
                Ok(length) => received.extend_from_slice(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return if any { Ok(true) } else { Err(error.into()) },
            }
            any = true;
            if received.len() > MAX_LINE {
                return Ok(true);
            }
        }
    }

    /// Sends as much as fits now; gives how much that was.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, LinkError> {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.write(rest) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(sent),
        }
    }
}
