//! The threads that accept connections and serve them, each with an event loop of its own.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Client, admitted, duration};
use super::reason::Reason;
use super::session::Peer;
use super::shared::Shared;
use super::sockets::Sockets;
use super::tls;
use crate::endpoint::Intake;
use crate::endpoint::authority::{Fingerprint, Roll, named_host};
use crate::net::ByteSize;

/// How often what is no connection is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often warnings about lines are written to the log.
const WARNINGS: Duration = Duration::from_secs(60);

/// How long connections may take to end when the sensor does.
const END: Duration = Duration::from_secs(3);

/// How long no connection is accepted after the system refused one, for want of descriptors for example.
const REFUSED: Duration = Duration::from_millis(100);

/// One of the threads.
pub(super) struct Thread {
    pub(super) number: usize,
    pub(super) sockets: Sockets,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) shared: Arc<Shared>,
    pub(super) state: PathBuf,
}

/// Connections of a thread that have not said who they are, from old to new.
type Waiting = Arc<Mutex<VecDeque<(u64, AbortHandle, String)>>>;

#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    intake: Arc<Mutex<Intake>>,
    waiting: Waiting,
}

impl Thread {
    /// Makes everything that needs rights, waits at the gate twice (when it is ready, and when it may begin), and serves
    /// until the listener stops.
    pub(super) fn run(self, gate: &Barrier) -> io::Result<()> {
        let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let made = made.and_then(|runtime| {
            let guard = runtime.enter();
            let Sockets { tls, tcp, unix } = self.sockets;
            let tls: Vec<_> = tls.into_iter().map(tokio::net::TcpListener::from_std).collect::<io::Result<_>>()?;
            let tcp: Vec<_> = tcp.into_iter().map(tokio::net::TcpListener::from_std).collect::<io::Result<_>>()?;
            let unix: Vec<_> = unix.into_iter().map(tokio::net::UnixListener::from_std).collect::<io::Result<_>>()?;
            drop(guard);
            Ok((runtime, tls, tcp, unix))
        });
        gate.wait();
        let (runtime, tls, tcp, unix) = made?;
        gate.wait();
        let shared = self.shared;
        let intake = Arc::new(Mutex::new(Intake::new(ByteSize(shared.settings.max_line.0.saturating_add(1)))));
        let context = Context { shared, intake, waiting: Waiting::default() };
        runtime.block_on(async {
            for socket in tls {
                if let Some(acceptor) = self.acceptor.clone() {
                    tokio::spawn(accept_tls(socket, acceptor, context.clone()));
                }
            }
            for socket in tcp {
                tokio::spawn(accept_tcp(socket, context.clone()));
            }
            for socket in unix {
                tokio::spawn(accept_unix(socket, context.clone()));
            }
            let mut roll = (self.number == 0).then(|| RollWatch::new(self.state));
            let mut said = Instant::now();
            while !context.shared.is_stopping() {
                tokio::time::sleep(TICK).await;
                if let Some(watch) = &mut roll {
                    watch.look(&context.shared);
                }
                context.publish(self.number, said.elapsed() >= WARNINGS);
                if said.elapsed() >= WARNINGS {
                    said = Instant::now();
                }
            }
            let end = Instant::now() + END;
            while context.shared.open.load(Ordering::Relaxed) > 0 && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            context.publish(self.number, true);
        });
        runtime.shutdown_background();
        Ok(())
    }
}

impl Context {
    fn publish(&self, thread: usize, warnings: bool) {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.publish_intake(thread, intake.counters());
        if warnings {
            for warning in intake.take_warnings() {
                self.shared.log(format!("warning: listener: {warning}"));
            }
        }
    }

    /// Serves a connection that was accepted, unless there are too many. Who has not said who it is for longest gives way.
    fn admit<F: Future<Output = ()> + Send + 'static>(&self, address: &str, serve: impl FnOnce(Place) -> F) {
        let shared = &self.shared;
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        if shared.open.load(Ordering::Relaxed) as u64 >= shared.settings.connections {
            return shared.ended(Reason::Full, address, "");
        }
        let number = shared.number();
        let place = Place { context: self.clone(), number };
        shared.open.fetch_add(1, Ordering::Relaxed);
        let task = tokio::spawn(serve(place)).abort_handle();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if waiting.len() as u64 >= shared.settings.handshakes { waiting.pop_front() } else { None };
        waiting.push_back((number, task, address.to_owned()));
        // The place of a task that is dropped wants the same lock.
        drop(waiting);
        if let Some((_, task, address)) = oldest {
            task.abort();
            shared.ended(Reason::CrowdedOut, &address, "");
        }
    }

    async fn refused(&self, error: &io::Error) {
        if self.shared.accept_errors.fetch_add(1, Ordering::Relaxed) == 0 {
            self.shared.log(format!("warning: listener: a connection could not be accepted: {error}"));
        }
        tokio::time::sleep(REFUSED).await;
    }
}

/// A connection's place among all, which it leaves whatever ends it.
struct Place {
    context: Context,
    number: u64,
}

impl Place {
    /// It has said who it is.
    fn begun(&self) {
        let mut waiting = self.context.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(number, _, _)| *number != self.number);
    }

    fn deadline(&self) -> Instant {
        Instant::now() + duration(self.context.shared.settings.handshake_timeout)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.begun();
        self.context.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept_tls(socket: tokio::net::TcpListener, acceptor: TlsAcceptor, context: Context) {
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                let (address, acceptor) = (address.to_string(), acceptor.clone());
                // Acknowledgements are short and not to wait for each other. One that cannot be sent at once comes later.
                let _ = stream.set_nodelay(true);
                context.admit(&address.clone(), |place| serve_tls(stream, address, acceptor, place));
            }
            Err(error) => context.refused(&error).await,
        }
    }
}

async fn serve_tls(stream: tokio::net::TcpStream, address: String, acceptor: TlsAcceptor, place: Place) {
    let shared = Arc::clone(&place.context.shared);
    let deadline = place.deadline();
    let stream = match tokio::time::timeout_at(deadline, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return shared.ended(tls::reason(&error), &address, ""),
        Err(_) => return shared.ended(Reason::HandshakeTimeout, &address, ""),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let Some((certificate, host)) = certificate.and_then(|leaf| Some((Fingerprint::of(leaf), named_host(leaf)?)))
    else {
        return shared.ended(Reason::Foreign, &address, "");
    };
    if let Err(reason) = admitted(&shared, &certificate) {
        shared.ended(reason, &address, &host);
        return connection::refuse(stream, reason).await;
    }
    let client = Client { peer: Peer::Certified(host), certificate: Some(certificate), address, deadline };
    let intake = Arc::clone(&place.context.intake);
    connection::serve(stream, client, shared, intake, || place.begun()).await;
}

async fn accept_tcp(socket: tokio::net::TcpListener, context: Context) {
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                let address = address.to_string();
                context.admit(&address.clone(), |place| serve_local(stream, address, place));
            }
            Err(error) => context.refused(&error).await,
        }
    }
}

async fn accept_unix(socket: tokio::net::UnixListener, context: Context) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => context.admit("local", |place| serve_local(stream, "local".to_owned(), place)),
            Err(error) => context.refused(&error).await,
        }
    }
}

async fn serve_local<S>(stream: S, address: String, place: Place)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let deadline = place.deadline();
    let client = Client { peer: Peer::Local, certificate: None, address, deadline };
    let (shared, intake) = (Arc::clone(&place.context.shared), Arc::clone(&place.context.intake));
    connection::serve(stream, client, shared, intake, || place.begun()).await;
}

/// Reads the roll again when it has changed.
struct RollWatch {
    state: PathBuf,
    last: Option<(SystemTime, u64)>,
    failed: bool,
}

impl RollWatch {
    fn new(state: PathBuf) -> Self {
        Self { state, last: None, failed: false }
    }

    fn look(&mut self, shared: &Shared) {
        let seen = Roll::changed(&self.state);
        if seen.is_some() && seen == self.last {
            return;
        }
        match Roll::read(&self.state) {
            Ok(roll) => {
                *shared.roll.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roll);
                (self.last, self.failed) = (seen, false);
            }
            Err(error) if !self.failed => {
                self.failed = true;
                shared.log(format!("warning: listener: goes on with the old list of certificates: {error}"));
            }
            Err(_) => {}
        }
    }
}
