//! What a service manager is told: that the sensor is ready, alive, or about to end (sd_notify).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The way to the service manager, if there is one. Its socket is opened once, as no other can be later.
pub struct Service {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that the sensor is alive.
    period: Option<Duration>,
    told: Instant,
}

impl Service {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| {
            let path = path.into_encoded_bytes();
            let address = match path.as_slice() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
                path => std::str::from_utf8(path).map_err(std::io::Error::other).and_then(SocketAddr::from_pathname),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect_addr(&address.ok()?).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        });
        let microseconds = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let ours = std::env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
        // Twice as often as it must, so that one late word does no harm.
        let period = microseconds.filter(|_| ours).map(|microseconds: u64| Duration::from_micros(microseconds) / 2);
        Self { socket, period, told: Instant::now() }
    }

    /// Says that packets are being captured.
    pub fn ready(&self) {
        self.tell(&format!("READY=1\nSTATUS=capturing\nMAINPID={}", std::process::id()));
    }

    /// Says that the sensor writes what it has and ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=writing what is open");
    }

    /// Says that the sensor is alive, as often as that is wanted.
    pub fn alive(&mut self) {
        if self.period.is_some_and(|period| self.told.elapsed() >= period) {
            self.told = Instant::now();
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket {
            // A manager that does not listen can be told nothing.
            let _ = socket.send(what.as_bytes());
        }
    }
}
