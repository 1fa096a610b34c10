//! A place that alerts go to, a collector or a file, made ready while files can be opened.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::file::Lines;
use super::form::Form;
use super::names::Names;
use super::syslog::{Formatter, Message};
use super::transport::{Line, Tls};
use crate::alert::json::Object;
use crate::config::{Address, AlertFile, Deliver, SyslogCollector, Transport};
use crate::store::Entry;

/// A place, and what alerts look like there.
#[derive(Debug)]
pub enum Place {
    /// A syslog collector.
    Collector(Box<Collector>),
    /// A file.
    File(AlertFile, Form),
}

/// A collector, and what it takes to reach it.
#[derive(Debug)]
pub struct Collector {
    settings: SyslogCollector,
    tls: Option<Tls>,
    /// Where its address is a name.
    names: Option<Names>,
    formatter: Formatter,
}

impl Place {
    /// A collector; `sensor` is the name of this sensor.
    ///
    /// # Errors
    /// One line, if a file of TLS cannot be used.
    pub fn collector(collector: &SyslogCollector, settings: &Deliver, sensor: &str) -> Result<Self, String> {
        let tls = (collector.transport == Transport::Tls).then(|| Tls::read(collector)).transpose()?;
        let names = match &collector.address {
            Address::Name(name, _) => Some(Names::new(name)),
            Address::Numbers(_) => None,
        };
        let formatter = Formatter::new(collector, settings, sensor, std::process::id());
        Ok(Self::Collector(Box::new(Collector { settings: collector.clone(), tls, names, formatter })))
    }

    /// A file; `sensor` is the name of this sensor.
    pub fn file(file: &AlertFile, sensor: &str) -> Self {
        Self::File(file.clone(), Form::new(file.format, sensor))
    }

    /// What tells it from others in the store and in the log.
    pub fn name(&self) -> String {
        match self {
            Self::Collector(collector) => collector.settings.name(),
            Self::File(file, _) => file.name(),
        }
    }

    /// Alerts with a smaller `event.severity` do not go there.
    pub fn minimum_severity(&self) -> u64 {
        match self {
            Self::Collector(collector) => collector.settings.minimum_severity,
            Self::File(file, _) => file.minimum_severity,
        }
    }

    /// The port to which connections are made over TCP.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Collector(collector) if collector.settings.transport != Transport::Udp => {
                Some(collector.settings.address.port())
            }
            _ => None,
        }
    }

    /// The directory in which files are made.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Collector(_) => None,
            Self::File(file, _) => Path::new(&file.path).parent(),
        }
    }

    /// What goes there for an alert; none if it fits in nothing.
    pub fn message(&self, entry: &Entry) -> Option<Message> {
        match self {
            Self::Collector(collector) => collector.formatter.message(entry),
            Self::File(_, form) => {
                let document: Object = serde_json::from_str(&entry.document).ok()?;
                let (text, reduced) = form.body(document, |_| true)?;
                Some(Message { bytes: text.into_bytes(), reduced })
            }
        }
    }

    /// Connects to it, or opens it.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub fn open(&mut self, timeout: Duration) -> io::Result<Line> {
        match self {
            Self::Collector(collector) => collector.open(timeout),
            Self::File(file, _) => Ok(Line::File(Lines::open(file)?)),
        }
    }
}

impl Collector {
    fn open(&mut self, timeout: Duration) -> io::Result<Line> {
        let addresses: Vec<SocketAddr> = match (&self.settings.address, &mut self.names) {
            (Address::Numbers(address), _) => vec![*address],
            (Address::Name(_, port), Some(names)) => {
                names.look_up()?.iter().map(|address| SocketAddr::new(*address, *port)).collect()
            }
            (Address::Name(..), None) => Vec::new(),
        };
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match Line::open(address, self.settings.transport, self.tls.as_ref(), timeout) {
                Ok(line) => return Ok(line),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}
