//! The thread that answers over HTTP, and the socket that it listens on.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle as Task;

use super::{Condition, Sample, exposition};
use crate::config;

/// The head of a request; hyper takes no less.
const HEAD: usize = 8 << 10;

/// Header fields of a request.
const FIELDS: usize = 64;

/// How long no connection is accepted after the system refused one, for want of descriptors for example.
const REFUSED: Duration = Duration::from_millis(100);

/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Why there are no metrics to ask for.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The socket.
    #[error("{address}: cannot be listened on (`metrics.listen`): {source}")]
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The thread.
    #[error("the thread for metrics could not be started")]
    Thread(#[source] io::Error),
}

/// A socket that is open. Nothing is answered yet.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Opens the socket that the configuration names; none if it names none.
    ///
    /// # Errors
    /// If the address cannot be listened on, as another program does for example.
    pub fn open(settings: &config::Metrics) -> Result<Option<Self>, MetricsError> {
        if settings.listen.is_empty() {
            return Ok(None);
        }
        let open = || {
            let socket = TcpListener::bind(&settings.listen)?;
            socket.set_nonblocking(true)?;
            Ok(Self { address: socket.local_addr()?, socket })
        };
        open().map(Some).map_err(|source| MetricsError::Bind { address: settings.listen.clone(), source })
    }

    /// The address, as the system gave it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What the endpoint counted of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCounters {
    /// Requests that were answered, by status code.
    pub answered: BTreeMap<u16, u64>,
    /// Connections that were dropped, by reason: there were too many, they took too long, or they spoke no HTTP or broke.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Default for ServerCounters {
    fn default() -> Self {
        Self {
            answered: [200, 404, 405, 503].map(|code| (code, 0)).into(),
            dropped: ["broken", "crowded-out", "timeout"].map(|reason| (reason, 0)).into(),
        }
    }
}

impl ServerCounters {
    /// Connections that were dropped, for any reason.
    pub fn all_dropped(&self) -> u64 {
        self.dropped.values().sum()
    }
}

/// What is known, and when it became so.
struct Known {
    sample: Arc<Sample>,
    since: Instant,
    /// The page of metrics, once it was asked for.
    page: Option<String>,
}

#[derive(Default)]
struct Shared {
    known: Mutex<Option<Known>>,
    counters: Mutex<ServerCounters>,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The endpoint at work.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    gate: Arc<Barrier>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts the thread, which answers nothing before [`Server::begin`], so that the process can still be locked up.
    ///
    /// # Errors
    /// If the thread cannot be started, or has no event loop.
    pub fn start(bound: Bound, settings: &config::Metrics) -> Result<Self, MetricsError> {
        let Bound { socket, address } = bound;
        let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = made.map_err(MetricsError::Thread)?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(socket).map_err(MetricsError::Thread)?
        };
        let shared = Arc::new(Shared::default());
        let gate = Arc::new(Barrier::new(2));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("metrics".to_owned());
        let thread = thread.spawn({
            let (shared, gate) = (Arc::clone(&shared), Arc::clone(&gate));
            let most = usize::try_from(settings.connections).unwrap_or(usize::MAX);
            let timeout = Duration::from_nanos(settings.timeout.0);
            move || {
                gate.wait();
                runtime.spawn(async move { accept(listener, most, timeout, &shared).await });
                // It resolves as well where the sender is gone.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            }
        });
        Ok(Self { shared, address, gate, stop, thread: thread.map_err(MetricsError::Thread)? })
    }

    /// Lets connections in.
    pub fn begin(&self) {
        self.gate.wait();
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is known from now on.
    pub fn publish(&self, sample: Sample) {
        *held(&self.shared.known) = Some(Known { sample: Arc::new(sample), since: Instant::now(), page: None });
    }

    /// What was counted of the endpoint itself.
    pub fn counters(&self) -> ServerCounters {
        held(&self.shared.counters).clone()
    }

    /// Ends it. Connections that are open are closed. It must have begun.
    pub fn finish(self) -> ServerCounters {
        let _ = self.stop.send(());
        // A thread that panicked has ended the process.
        let _ = self.thread.join();
        held(&self.shared.counters).clone()
    }
}

async fn accept(listener: tokio::net::TcpListener, most: usize, timeout: Duration, shared: &Arc<Shared>) {
    let mut open: VecDeque<Task<()>> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(REFUSED).await;
            continue;
        };
        open.retain(|task| !task.is_finished());
        if open.len() >= most
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            shared.dropped("crowded-out");
        }
        open.push_back(tokio::spawn(serve(stream, timeout, Arc::clone(shared))));
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, timeout: Duration, shared: Arc<Shared>) {
    let answer = |request: Request<Incoming>| {
        let response = shared.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    };
    // One request is all that a connection is for, so that its time is bounded by the request's.
    let connection = http1::Builder::new()
        .keep_alive(false)
        // Who has said all, and says so, still gets an answer.
        .half_close(true)
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    match tokio::time::timeout(timeout, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => shared.dropped("broken"),
        Err(_) => shared.dropped("timeout"),
    }
}

/// What a client gets that sends these bytes, of an endpoint that knows this much, and what was counted of it; no socket is needed.
///
/// # Errors
/// If there can be no event loop.
pub fn answer_to(sent: &[u8], sample: Option<Sample>) -> io::Result<(Vec<u8>, ServerCounters)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let shared = Arc::new(Shared::default());
    *held(&shared.known) = sample.map(|sample| Known { sample: Arc::new(sample), since: Instant::now(), page: None });
    let (mut client, server) = tokio::io::duplex(2 * HEAD);
    let answered = runtime.block_on(async {
        let served = tokio::spawn(serve(server, Duration::from_secs(5), Arc::clone(&shared)));
        let mut answer = Vec::new();
        // Who is refused before all was said still gets an answer.
        let _ = client.write_all(sent).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut answer).await;
        let _ = served.await;
        answer
    });
    let counters = held(&shared.counters).clone();
    Ok((answered, counters))
}

impl Shared {
    fn dropped(&self, reason: &'static str) {
        *held(&self.counters).dropped.entry(reason).or_default() += 1;
    }

    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let (status, kind, text) = match path {
            "/metrics" | "/healthz" | "/readyz" if !reads => {
                (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned())
            }
            "/metrics" => match self.page() {
                Some(page) => (StatusCode::OK, METRICS, page),
                None => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "it starts: nothing is counted yet\n".to_owned()),
            },
            "/healthz" => said(self.condition().health()),
            "/readyz" => said(self.condition().readiness()),
            _ => (StatusCode::NOT_FOUND, PLAIN, "there are /metrics, /healthz and /readyz\n".to_owned()),
        };
        *held(&self.counters).answered.entry(status.as_u16()).or_default() += 1;
        let mut response = Response::new(text);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    fn condition(&self) -> Condition {
        match &*held(&self.known) {
            Some(known) => Condition::of(Some(&known.sample), known.since.elapsed()),
            None => Condition::of(None, Duration::ZERO),
        }
    }

    /// The page of metrics. It is not written while the lock is held: who publishes never waits for that.
    fn page(&self) -> Option<String> {
        let sample = match &*held(&self.known) {
            Some(Known { page: Some(page), .. }) => return Some(page.clone()),
            Some(known) => Arc::clone(&known.sample),
            None => return None,
        };
        let counters = held(&self.counters).clone();
        let text = exposition::text(&sample, &counters);
        if let Some(known) = &mut *held(&self.known)
            && Arc::ptr_eq(&known.sample, &sample)
        {
            known.page = Some(text.clone());
        }
        Some(text)
    }
}

fn said((fine, text): (bool, String)) -> (StatusCode, &'static str, String) {
    (if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, PLAIN, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_that_there_is_no_more_to_come_is_answered() {
        for (request, begins, code) in [
            ("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200", 200),
            ("HEAD /metrics HTTP/1.1\r\nHost: s\r\n\r\n", "HTTP/1.1 200", 200),
            ("POST /metrics HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405", 405),
        ] {
            let (answer, counters) = answer_to(request.as_bytes(), Some(Sample::default())).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(begins), "{request}: {answer}");
            assert_eq!((counters.answered[&code], counters.all_dropped()), (1, 0), "{request}");
        }
        let (answer, counters) = answer_to(b"GET /metr", None).unwrap();
        assert_eq!((answer.len(), counters.dropped["broken"]), (0, 1));
    }
}
