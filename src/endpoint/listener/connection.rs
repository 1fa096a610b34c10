//! One connection, from its first line to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::commit::Request;
use super::lines::{BASE, Lines};
use super::reason::Reason;
use super::session::{Batch, Peer, Session};
use super::shared::Shared;
use crate::endpoint::Intake;
use crate::endpoint::authority::{Fingerprint, Standing, now};
use crate::net::Span;

/// How often it is looked at what is no line: time that passes, certificates that are revoked.
const TICK: Duration = Duration::from_millis(500);

/// How long a client that is dropped may take to be told.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often what waits for room looks up.
const PATIENCE: Duration = Duration::from_millis(100);

/// What came, and whether it got in.
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) certificate: Option<Fingerprint>,
    pub(super) address: String,
    /// Until when it must have said who it is.
    pub(super) deadline: Instant,
}

struct Connection<S> {
    stream: S,
    session: Session,
    lines: Lines,
    certificate: Option<Fingerprint>,
    deadline: Instant,
    shared: Arc<Shared>,
    intake: Arc<Mutex<Intake>>,
    /// The disk did not take what it said: what follows is not stored either, as the order would be lost.
    unstored: bool,
    /// When the last whole line came.
    heard: Instant,
    tick: Instant,
    acknowledged: Option<u64>,
    tell: Instant,
    /// From when on it may be read again.
    ready: Instant,
}

pub(super) fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}

/// Serves it to its end; `begun` is called when it has said who it is.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: Client,
    shared: Arc<Shared>,
    intake: Arc<Mutex<Intake>>,
    begun: impl FnOnce(),
) {
    let Client { peer, certificate, address, deadline } = client;
    let settings = &shared.settings;
    let session = Session::new(peer, address.clone(), shared.number(), settings.malformed);
    let max = usize::try_from(settings.max_line.0).unwrap_or(usize::MAX);
    let mut connection = Connection {
        stream,
        session,
        lines: Lines::new(max, Arc::clone(&shared.pool)),
        certificate,
        deadline,
        shared: Arc::clone(&shared),
        intake,
        unstored: false,
        heard: Instant::now(),
        tick: Instant::now(),
        acknowledged: None,
        tell: Instant::now(),
        ready: Instant::now(),
    };
    let Err(reason) = connection.run(begun).await;
    shared.ended(reason, &address, connection.session.name());
    if !matches!(reason, Reason::Closed | Reason::Broken | Reason::NotReading) {
        connection.part(reason).await;
    }
}

/// Nothing is told of a connection but why it ended.
enum Never {}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Runs until there is a reason to end.
    async fn run(&mut self, begun: impl FnOnce()) -> Result<Never, Reason> {
        let mut begun = Some(begun);
        let mut buffer = vec![0; BASE];
        loop {
            let wake = self.wake();
            let now = Instant::now();
            if self.ready > now {
                self.shared.paced.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep_until(self.ready.min(wake)).await;
            } else {
                match timeout_at(wake, self.stream.read(&mut buffer)).await {
                    Ok(Ok(0)) => return Err(Reason::Closed),
                    Ok(Ok(count)) => self.take(buffer.get(..count).unwrap_or_default()).await?,
                    // Who ends without a farewell of TLS ends all the same.
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(Reason::Closed),
                    Ok(Err(_)) => return Err(Reason::Broken),
                    Err(_) => {}
                }
                if self.session.has_begun()
                    && let Some(begun) = begun.take()
                {
                    begun();
                }
            }
            self.look()?;
            self.acknowledge().await?;
        }
    }

    /// When there is something to do where nothing comes.
    fn wake(&self) -> Instant {
        if self.session.queued() > self.acknowledged.unwrap_or(0) { self.tick.min(self.tell) } else { self.tick }
    }

    /// Takes what came.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.unstored |= !self.shared.disk.is_fine();
        let mut batch = self.session.batch(now());
        let oversized = self.lines.oversized;
        let cut = {
            let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
            let (session, hosts, store) = (&mut self.session, &self.shared.hosts, !self.unstored);
            self.lines.cut(bytes, |line| session.line(line, &mut intake, hosts, store, &mut batch))
        };
        let add = |to: &std::sync::atomic::AtomicU64, count: u64| {
            to.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        };
        add(&self.shared.tally.oversized, self.lines.oversized - oversized);
        // Reading goes on when what came in this second is less than a second's worth.
        let weight = batch.count.max(bytes.len() as u64 / 1_024);
        let worth = Duration::from_secs_f64(weight as f64 / self.shared.settings.rate as f64);
        let allowed = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or(self.ready);
        self.ready = self.ready.max(allowed) + worth;
        // What came before a line that ends the connection counts.
        if batch.count > 0 {
            self.heard = Instant::now();
            self.deliver(batch).await?;
        }
        cut
    }

    /// Hands a batch on, as soon as there is room for it.
    async fn deliver(&mut self, mut batch: Batch) -> Result<(), Reason> {
        let mut request = None;
        if let Some(entry) = self.session.entry(&mut batch) {
            match self.room_in_journal(entry.size()).await? {
                Some(room) => request = Some((room, Request { entry, host: self.session.host().cloned() })),
                None => {
                    self.unstored = true;
                    self.session.unstore(&mut batch);
                }
            }
        }
        let observations = std::mem::take(&mut batch.observations);
        let mut events = None;
        if !observations.is_empty() {
            let room = loop {
                match self.shared.events.reserve(batch.bytes, PATIENCE).await {
                    Some(room) => break room,
                    None => self.wait()?,
                }
            };
            events = Some((room, observations));
        }
        let shared = &self.shared;
        let (tally, sums) = (&batch.tally, &shared.tally);
        for (sum, count) in [
            (&sums.events, tally.events),
            (&sums.missing, tally.missing),
            (&sums.repeated, tally.repeated),
            (&sums.refused, tally.refused),
        ] {
            sum.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        }
        self.session.commit(&batch, || {
            if let Some((room, request)) = request {
                shared.requests.put(room, request);
            }
            if let Some((room, observations)) = events {
                shared.events.put(room, observations);
            }
        })
    }

    /// Room in the journal's queue; none where the disk takes too long.
    async fn room_in_journal(&mut self, bytes: usize) -> Result<Option<super::queue::Room>, Reason> {
        loop {
            if let Some(room) = self.shared.requests.reserve(bytes, PATIENCE).await {
                return Ok(Some(room));
            }
            if !self.shared.disk.is_fine() {
                return Ok(None);
            }
            self.wait()?;
        }
    }

    /// Waits for the sensor, which is not the client's silence.
    fn wait(&mut self) -> Result<(), Reason> {
        self.heard = Instant::now();
        self.look()
    }

    /// Looks, now and then, whether it may go on.
    fn look(&mut self) -> Result<(), Reason> {
        let now = Instant::now();
        if now < self.tick {
            return Ok(());
        }
        self.tick = now + TICK;
        let (shared, settings) = (&self.shared, &self.shared.settings);
        if shared.is_stopping() {
            return Err(Reason::Stopping);
        }
        if let Some(certificate) = &self.certificate {
            admitted(shared, certificate)?;
        }
        if self.session.host().is_some_and(|host| !host.is_current(self.session.number())) {
            return Err(Reason::Replaced);
        }
        if !self.session.has_begun() && now >= self.deadline {
            return Err(Reason::HandshakeTimeout);
        }
        // Where it is made to wait, it is not its own fault.
        if now - self.heard >= duration(settings.idle_timeout) && self.ready <= now {
            return Err(if self.lines.is_open() { Reason::Slow } else { Reason::Silent });
        }
        if self.unstored && shared.disk.is_fine() {
            if self.session.host().is_some() {
                return Err(Reason::Storage);
            }
            self.unstored = false;
        }
        Ok(())
    }

    /// Tells a helper what is stored: at once after its hello, then as often as it is worth it.
    async fn acknowledge(&mut self) -> Result<(), Reason> {
        let Some(host) = self.session.host() else { return Ok(()) };
        let now = Instant::now();
        if self.acknowledged.is_some() && now < self.tell {
            return Ok(());
        }
        let stored = host.stored();
        if self.acknowledged.is_some_and(|told| stored <= told) {
            self.tell = now + PATIENCE;
            return Ok(());
        }
        self.tell = now + duration(self.shared.settings.acknowledge);
        self.acknowledged = Some(stored);
        match self.session.acknowledgement(stored) {
            Some(line) => self.write(&line, duration(self.shared.settings.write_timeout)).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, line: &str, wait: Duration) -> Result<(), Reason> {
        let write = async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.flush().await
        };
        match timeout(wait, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Reason::Broken),
            Err(_) => Err(Reason::NotReading),
        }
    }

    /// Says why it ends.
    async fn part(&mut self, reason: Reason) {
        if self.write(&farewell(reason), FAREWELL).await.is_ok() {
            // It is over, whether the other end hears of it or not.
            let _ = timeout(FAREWELL, self.stream.shutdown()).await;
        }
    }
}

/// Tells a client why it is not served.
pub(super) async fn refuse(mut stream: impl AsyncWrite + Unpin, reason: Reason) {
    let line = farewell(reason);
    let tell = async {
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await
    };
    // It is over, whether the other end hears of it or not.
    let _ = timeout(FAREWELL, tell).await;
}

fn farewell(reason: Reason) -> String {
    format!("{{\"type\":\"bye\",\"reason\":\"{}\"}}\n", reason.name())
}

/// Whether a certificate lets its host in now.
pub(super) fn admitted(shared: &Shared, certificate: &Fingerprint) -> Result<(), Reason> {
    match shared.roll().standing(certificate, now()) {
        Standing::Valid => Ok(()),
        Standing::Early | Standing::Expired => Err(Reason::Expired),
        Standing::Revoked => Err(Reason::Revoked),
        Standing::Unknown => Err(Reason::Unlisted),
    }
}
