//! A listener as the helper expects it: stores lines, acknowledges them, and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// An authority and what it has signed.
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { authority }
    }

    pub fn authority_pem(&self) -> String {
        self.authority.pem()
    }

    /// Certificate and key of a host, as PEM.
    pub fn client(&self, host: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, host);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self) -> Arc<ServerConfig> {
        let params = CertificateParams::new(vec!["sensor.test".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

#[derive(Default)]
struct State {
    hellos: Vec<Value>,
    lines: Vec<Value>,
    stored: BTreeMap<String, u64>,
    cut_after: Option<usize>,
    bye: Option<String>,
}

/// The listener; it ends with the test.
pub struct Listener {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Listener {
    pub fn plain() -> Self {
        Self::start(None)
    }

    pub fn tls(pki: &Pki) -> Self {
        Self::start(Some(pki.server()))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let ends = Arc::new(AtomicBool::new(false));
        let (shared, over) = (state.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            for client in socket.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                // A helper that is killed or refused breaks off anywhere.
                let _ = match &tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config.clone()).unwrap();
                        serve(StreamOwned::new(connection, client), &shared)
                    }
                    None => serve(client, &shared),
                };
            }
        });
        Self { address, state, ends, thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Closes every connection after so many lines, of which half are acknowledged.
    pub fn cut_after(&self, lines: usize) {
        self.state.lock().unwrap().cut_after = Some(lines);
    }

    /// Says goodbye to whoever comes.
    pub fn say_bye(&self, reason: &str) {
        self.state.lock().unwrap().bye = Some(reason.to_owned());
    }

    pub fn hellos(&self) -> Vec<Value> {
        self.state.lock().unwrap().hellos.clone()
    }

    /// What was stored: each line once, in the order of its arrival.
    pub fn lines(&self) -> Vec<Value> {
        self.state.lock().unwrap().lines.clone()
    }

    pub fn wait_for(&self, lines: usize, most: Duration) {
        let end = Instant::now() + most;
        while self.state.lock().unwrap().lines.len() < lines {
            assert!(Instant::now() < end, "only {} lines came", self.lines().len());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let Ok(hello) = serde_json::from_str::<Value>(&line) else { return Ok(()) };
    let id = hello["stream"].as_str().unwrap_or_default().to_owned();
    let (mut stored, cut_after, bye) = {
        let mut state = state.lock().unwrap();
        state.hellos.push(hello);
        (state.stored.get(&id).copied().unwrap_or(0), state.cut_after, state.bye.clone())
    };
    if let Some(reason) = bye {
        writeln!(input.get_mut(), "{{\"type\":\"bye\",\"reason\":\"{reason}\"}}")?;
        return input.get_mut().flush();
    }
    acknowledge(input.get_mut(), &id, stored)?;
    let mut count = 0;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let value: Value = serde_json::from_str(&line).expect("the helper sends JSON");
        let seq = value["seq"].as_u64().expect("each line has its number");
        assert!(seq > stored, "{seq} after {stored}");
        stored = seq;
        {
            let mut state = state.lock().unwrap();
            state.lines.push(value);
            state.stored.insert(id.clone(), stored);
        }
        count += 1;
        if cut_after.is_some_and(|most| count >= most) {
            return Ok(());
        }
        // Rarely while they come fast, at once when nothing more is there.
        if cut_after.map_or(0, |most| most / 2) == count || input.buffer().is_empty() || count % 1000 == 0 {
            acknowledge(input.get_mut(), &id, stored)?;
        }
    }
}

fn acknowledge(output: &mut impl Write, stream: &str, seq: u64) -> std::io::Result<()> {
    writeln!(output, "{{\"type\":\"ack\",\"stream\":\"{stream}\",\"seq\":{seq}}}")?;
    output.flush()
}
