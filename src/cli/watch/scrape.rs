//! The sensor's metrics, as they are told over HTTP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A longer answer is no sensor's.
const MOST: u64 = 8 << 20;

/// How long the sensor may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A sample's name with its labels, as they were told.
type Name = (String, String);

/// Every sample of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples(BTreeMap<Name, f64>);

/// Asks the sensor.
pub(super) fn scrape(address: SocketAddr) -> Result<Samples, String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{address}: does not speak HTTP"))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("{address}: answers {:?}", head.lines().next().unwrap_or_default()));
    }
    let samples = Samples::read(body);
    if samples.sum("outfall_build_info") == 0.0 {
        return Err(format!("{address}: is no sensor of Outfall"));
    }
    Ok(samples)
}

impl Samples {
    /// Reads the text format of Prometheus; what is no sample is passed over.
    pub(super) fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.trim_end().rsplit_once(' ')?;
            let (name, labels) = match name.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}')?),
                None => (name, ""),
            };
            let value: f64 = value.parse().ok()?;
            value.is_finite().then(|| ((name.to_owned(), labels.to_owned()), value))
        });
        Self(samples.collect())
    }

    /// All of a family together.
    pub(super) fn sum(&self, family: &str) -> f64 {
        self.of(family).map(|(_, value)| value).sum()
    }

    /// One label's value of a family, all others together.
    pub(super) fn labelled(&self, family: &str, label: &str) -> f64 {
        self.of(family).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }

    /// A family, by its labels.
    pub(super) fn of(&self, family: &str) -> impl Iterator<Item = (&str, f64)> {
        let same = self.0.range((family.to_owned(), String::new())..).take_while(move |((name, _), _)| name == family);
        same.map(|((_, labels), value)| (labels.as_str(), *value)).collect::<Vec<_>>().into_iter()
    }

    /// The names of all families, each once.
    pub(super) fn families(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names
    }
}
