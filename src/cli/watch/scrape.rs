//! The sensor's metrics, as they are told over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A longer answer is no sensor's.
const MOST: u64 = 8 << 20;

/// How long the sensor may take in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// A sample's name with its labels, as they were told.
type Name = (String, String);

/// Every sample of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples(BTreeMap<Name, f64>);

/// Asks the sensor.
pub(super) fn scrape(address: SocketAddr) -> Result<Samples, String> {
    let failed = |error: ureq::Error| format!("{address}: {error}");
    let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None).build().new_agent();
    let mut answer = agent.get(format!("http://{address}/metrics")).call().map_err(failed)?;
    let text = answer.body_mut().with_config().limit(MOST).read_to_string().map_err(failed)?;
    let samples = Samples::read(&text);
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

    /// The sample of a family with exactly these labels.
    pub(super) fn one(&self, family: &str, labels: &str) -> Option<f64> {
        self.0.get(&(family.to_owned(), labels.to_owned())).copied()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Instant;

    #[test]
    fn a_peer_that_never_comes_to_an_end_is_left_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(b"#\n").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let begun = Instant::now();
        let why = scrape(address).unwrap_err();
        assert!(begun.elapsed() < PATIENCE * 3 && why.contains("timeout"), "{why}");
        peer.join().unwrap();
    }

    #[test]
    fn what_is_no_sensor_is_said_to_be_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nup 1").unwrap();
            // It is read before the connection goes.
            let _ = std::io::Read::read(&mut stream, &mut [0; 1_024]);
        });
        assert!(scrape(address).unwrap_err().contains("no sensor of Outfall"));
        peer.join().unwrap();
    }
}
