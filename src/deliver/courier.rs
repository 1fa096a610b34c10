//! The thread that brings alerts to one place: at least once, and in order.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::place::Place;
use super::transport::Line;
use crate::config::Deliver;
use crate::store::{Store, StoreError, Waiting};

/// Alerts that are taken from the store at a time.
const BATCH: usize = 64;
/// How long it sleeps where nothing is to do, if nothing is stored.
const IDLE: Duration = Duration::from_secs(1);
/// How long while messages are not confirmed; a connection that broke is noticed within that time.
const WATCH: Duration = Duration::from_millis(100);
/// How long a socket of UDP is used: a collector's name may have got another address, and nothing tells.
const DATAGRAMS: Duration = Duration::from_secs(300);
/// How many times `deliver.confirm` is sent on a connection before it is seen whether all arrived.
const STRETCH: u32 = 4;
/// The most alerts that are sent before that.
const MOST: usize = 16_384;
/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What all threads see of a courier.
#[derive(Debug, Default)]
pub struct Board {
    pub sent: AtomicU64,
    pub retried: AtomicU64,
    pub dropped: AtomicU64,
    pub reduced: AtomicU64,
    pub waiting: AtomicU64,
    pub failures: AtomicU64,
}

/// What brings alerts to a place.
pub struct Courier {
    pub place: Place,
    pub store: Store,
    pub settings: Deliver,
    /// Something was stored; disconnected: the end is near.
    pub wake: Receiver<()>,
    pub board: Arc<Board>,
    pub log: Sender<String>,
}

/// Why a round ended early.
enum Trouble {
    Line(std::io::Error),
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A connection, and what was written on it.
#[derive(Default)]
struct Session {
    line: Option<Line>,
    /// When it was made.
    since: Option<Instant>,
    /// The last alert that was written.
    cursor: i64,
    /// Alerts that were written and may still be lost, with the time.
    unconfirmed: VecDeque<(Instant, i64)>,
    /// After the next failure.
    pause: Duration,
    /// The collector does not end its side of a connection.
    silent: bool,
    /// Nothing is sent until what was sent is confirmed.
    paused: bool,
    /// When all work ends, if that is near.
    end: Option<Instant>,
}

impl Session {
    /// Whether so much, or for so long, was sent that it is time to see whether it arrived.
    fn must_pause(&self, confirm: Duration) -> bool {
        let long = self.unconfirmed.front().is_some_and(|(when, _)| when.elapsed() >= confirm * STRETCH);
        !self.silent && (long || self.unconfirmed.len() >= MOST)
    }
}

impl Courier {
    /// Works until the end is near, and then at most for the time to drain.
    pub fn run(mut self) {
        let mut session = Session { pause: FIRST_PAUSE, ..Session::default() };
        let mut end: Option<Instant> = None;
        let drain = Duration::from_nanos(self.settings.drain.0);
        let mut down = false;
        self.count();
        loop {
            let round = self.round(&mut session);
            let wait = match &round {
                Ok(0) if session.unconfirmed.is_empty() => IDLE,
                Ok(0) => WATCH,
                Ok(_) => {
                    if std::mem::take(&mut down) {
                        self.say("delivers again".to_owned());
                    }
                    session.pause = FIRST_PAUSE;
                    Duration::ZERO
                }
                Err(trouble) => {
                    let reason = match trouble {
                        Trouble::Line(error) => error.to_string(),
                        Trouble::Store(error) => error.to_string(),
                    };
                    self.board.failures.fetch_add(1, Ordering::Relaxed);
                    self.again(&mut session);
                    if !std::mem::replace(&mut down, true) {
                        self.say(format!("cannot deliver, tries again: {reason}"));
                    }
                    let longest = Duration::from_nanos(self.settings.longest_pause.0);
                    let pause = jittered(session.pause.min(longest));
                    session.pause = (session.pause * 2).min(longest);
                    pause
                }
            };
            self.count();
            let quiet = matches!(round, Ok(0)) && session.unconfirmed.is_empty();
            if let Some(end) = end {
                let idle = matches!(round, Ok(0)) && !session.paused;
                if idle && let Some(line) = session.line.take() {
                    self.close(line, &session, end);
                    break;
                }
                if quiet || Instant::now() >= end {
                    break;
                }
                std::thread::sleep(wait.min(end.saturating_duration_since(Instant::now())));
            } else if self.sleep(wait, round.is_err()) {
                end = Some(Instant::now() + drain);
                session.end = end;
            }
        }
        self.count();
    }

    /// Sends what waits, and notes what has arrived. How many were sent.
    fn round(&mut self, session: &mut Session) -> Result<usize, Trouble> {
        let old = session.since.is_some_and(|since| since.elapsed() >= DATAGRAMS);
        if old && matches!(session.line, Some(Line::Udp(_))) {
            session.line = None;
        }
        if let Some(line) = &mut session.line {
            match line.check() {
                // It is idle: a new connection is made where there is something to send.
                Err(_) if line.is_stream() && session.unconfirmed.is_empty() => session.line = None,
                other => other.map_err(Trouble::Line)?,
            }
        }
        self.confirm(session)?;
        session.paused = session.must_pause(self.confirmation());
        if session.paused {
            return Ok(0);
        }
        let waiting = self.store.waiting(&self.place.name(), session.cursor, BATCH)?;
        let mut taken = None;
        let sent = self.send(session, waiting, &mut taken);
        // What was taken before one was not is done with.
        if let Some(number) = taken {
            if let Some(line) = &mut session.line {
                line.settle().map_err(Trouble::Line)?;
            }
            self.done(number)?;
        }
        sent
    }

    /// Notes what has arrived.
    ///
    /// That a connection holds says only that the collector's kernel took what was sent. Where nothing was sent for a while,
    /// it is ended from here: a collector that then ends it as well has read it to its end, and one that is killed before
    /// breaks it. The while is for what a collector has read and not written yet.
    fn confirm(&self, session: &mut Session) -> Result<(), Trouble> {
        let confirm = self.confirmation();
        let Some((newest, last)) = session.unconfirmed.back().copied() else { return Ok(()) };
        if session.silent {
            let mut arrived = None;
            while let Some((when, number)) = session.unconfirmed.front().copied()
                && when.elapsed() >= confirm
            {
                arrived = Some(number);
                session.unconfirmed.pop_front();
            }
            return Ok(arrived.map_or(Ok(()), |number| self.done(number))?);
        }
        if newest.elapsed() >= confirm
            && let Some(line) = session.line.take()
        {
            let patience = Instant::now() + Duration::from_nanos(self.settings.timeout.0);
            let ended = line.close(session.end.map_or(patience, |end| end.min(patience))).map_err(Trouble::Line)?;
            self.done(last)?;
            session.unconfirmed.clear();
            if !ended && session.end.is_none() {
                session.silent = true;
                self.say("does not end a connection that is ended: goes by the time alone".to_owned());
            }
        }
        Ok(())
    }

    fn confirmation(&self) -> Duration {
        Duration::from_nanos(self.settings.confirm.0)
    }

    /// Sends these, one after the other; `taken` is the last of those that no later trouble can lose. How many were sent.
    fn send(
        &mut self,
        session: &mut Session,
        waiting: Vec<Waiting>,
        taken: &mut Option<i64>,
    ) -> Result<usize, Trouble> {
        let mut sent = 0;
        for Waiting { number, entry } in waiting {
            let message = self.place.message(&entry);
            let line = match &mut session.line {
                Some(line) => line,
                none => {
                    let timeout = Duration::from_nanos(self.settings.timeout.0);
                    let line = self.place.open(timeout).map_err(Trouble::Line)?;
                    session.since = Some(Instant::now());
                    none.insert(line)
                }
            };
            if let Some(message) = message {
                line.send(&message.bytes).map_err(Trouble::Line)?;
                sent += 1;
                self.board.sent.fetch_add(1, Ordering::Relaxed);
                self.board.reduced.fetch_add(u64::from(message.reduced), Ordering::Relaxed);
            } else {
                // It is done with, but only after those before it.
                self.board.dropped.fetch_add(1, Ordering::Relaxed);
            }
            session.cursor = number;
            if line.is_stream() {
                session.unconfirmed.push_back((Instant::now(), number));
            } else {
                *taken = Some(number);
            }
        }
        Ok(sent)
    }

    /// What was written lately on a connection that broke is written again.
    fn again(&self, session: &mut Session) {
        session.line = None;
        session.silent = false;
        self.board.retried.fetch_add(session.unconfirmed.len() as u64, Ordering::Relaxed);
        if let Some((_, last)) = session.unconfirmed.back() {
            // The count of attempts is for people; what is sent does not depend on it.
            let _ = self.store.attempted(&self.place.name(), *last);
        }
        session.unconfirmed.clear();
        session.cursor = 0;
    }

    /// Ends a connection on which all was written. A collector that has read to the end ends it, too.
    fn close(&self, line: Line, session: &Session, end: Instant) {
        let Some((when, last)) = session.unconfirmed.back().copied() else { return };
        let confirmed = when + Duration::from_nanos(self.settings.confirm.0);
        if line.close(confirmed.min(end)).is_ok_and(|ended| ended || Instant::now() >= confirmed) {
            // What cannot be noted is sent again after the next start.
            let _ = self.done(last);
        }
    }

    fn done(&self, up_to: i64) -> Result<(), StoreError> {
        self.store.delivered(&self.place.name(), up_to)
    }

    fn count(&self) {
        if let Ok(waiting) = self.store.count_waiting(&self.place.name()) {
            self.board.waiting.store(waiting, Ordering::Relaxed);
        }
    }

    /// Sleeps; `through`, also if something is stored. Whether the end is near.
    fn sleep(&self, wait: Duration, through: bool) -> bool {
        let end = Instant::now() + wait;
        loop {
            match self.wake.recv_deadline(end) {
                Ok(()) if through => {}
                Ok(()) | Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    fn say(&self, what: String) {
        // A log that is full has said enough.
        let _ = self.log.try_send(format!("{}: {what}", self.place.name()));
    }
}

/// Between half of it and all of it, so that many sensors do not come at once.
fn jittered(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().hash_one(0_u8);
    pause / 2 + pause.mul_f64((random % 1_000) as f64 / 2_000.0)
}
