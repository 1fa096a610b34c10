//! What `outfall replay` and `outfall run` print: ECS documents, one a line, or a table for people.

use std::io::{self, BufWriter, ErrorKind, Write};

use crate::alert::Alert;
use crate::endpoint::{printable, shortened};
use crate::join::{Attribution, write_attribution, write_files};
use crate::net::{ByteSize, Endpoint};
use crate::record::{Flow, State, Upload, flow_document, upload_document};
use crate::sensor::{JoinedUpload, Outcome};

/// The width that everything fits in, in columns.
const WIDTH: usize = 80;
/// The width of an endpoint in the table; longer ones are shortened in the address, never in the port.
const ENDPOINT: usize = 21;

/// Prints outcomes.
pub struct Output<W: Write> {
    to: BufWriter<W>,
    json: bool,
    flows: bool,
    heading: bool,
    alerts: bool,
    error: Option<io::Error>,
    /// The document that is being printed: its pieces are many and small.
    line: Vec<u8>,
}

impl<W: Write> Output<W> {
    /// To a writer; `json` for documents, `flows` to print flows too.
    pub fn new(to: W, json: bool, flows: bool) -> Self {
        Self {
            to: BufWriter::with_capacity(1 << 16, to),
            json,
            flows,
            heading: false,
            alerts: false,
            error: None,
            line: Vec::new(),
        }
    }

    /// Prints an outcome. An error is kept until [`Output::finish`].
    pub fn put(&mut self, outcome: &Outcome) {
        if self.json { self.document(outcome) } else { self.row(outcome) }
    }

    /// Whether anybody still reads.
    pub fn is_wanted(&self) -> bool {
        self.error.is_none()
    }

    /// Prints a text as it is.
    pub fn text(&mut self, text: &str) {
        self.write(|to| to.write_all(text.as_bytes()));
    }

    /// Writes out what is buffered, and goes on. An error is kept until [`Output::finish`].
    pub fn flush(&mut self) {
        self.write(BufWriter::flush);
    }

    /// The place that it writes to; what is buffered comes after.
    #[cfg(target_os = "linux")]
    pub fn target(&mut self) -> &mut W {
        self.to.get_mut()
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The first error there was; a reader that went away is none.
    pub fn finish(mut self) -> io::Result<()> {
        let result = match self.error.take() {
            Some(error) => Err(error),
            None => self.to.flush(),
        };
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn document(&mut self, outcome: &Outcome) {
        let document = match outcome {
            Outcome::Upload(joined) => {
                let JoinedUpload { upload, attribution, links, corrected, .. } = joined.as_ref();
                let mut document = upload_document(upload);
                write_attribution(&mut document, attribution);
                write_files(&mut document, links);
                if *corrected {
                    document.set("outfall.join.corrected", true);
                }
                document
            }
            Outcome::Flow(..) if !self.flows => return,
            Outcome::Flow(flow, attribution) => {
                let mut document = flow_document(flow);
                write_attribution(&mut document, attribution);
                document
            }
            Outcome::Alert(alert) => alert.document(),
            Outcome::Health(health) => health.document(),
        };
        let Self { to, line, error, .. } = self;
        line.clear();
        let made = serde_json::to_writer(&mut *line, &document).map_err(io::Error::from);
        line.push(b'\n');
        *error = error.take().or_else(|| made.and_then(|()| to.write_all(line)).err());
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<W>) -> io::Result<()>) {
        if self.error.is_none() {
            self.error = write(&mut self.to).err();
        }
    }

    fn row(&mut self, outcome: &Outcome) {
        match outcome {
            // The completed record follows.
            Outcome::Upload(joined) if joined.upload.state == State::Running => {}
            Outcome::Upload(joined) => {
                self.heading();
                self.text(&upload_row(&joined.upload, &joined.attribution));
            }
            Outcome::Flow(flow, attribution) if self.flows => {
                self.heading();
                self.text(&flow_row(flow, attribution));
            }
            Outcome::Flow(..) => {}
            // The summary counts it.
            Outcome::Alert(alert) if alert.suppressed.is_some() => {}
            Outcome::Alert(alert) => {
                if !self.alerts {
                    self.alerts = true;
                    self.text("\nALERTS of AN0423, data leaving in the clear (MITRE ATT&CK T1048.003)\n");
                }
                self.text(&alert_block(alert));
            }
            Outcome::Health(health) => self.text(&format!("{}\n", printable(&health.line()))),
        }
    }

    fn heading(&mut self) {
        if !self.heading {
            self.heading = true;
            let heading = row("TIME", "PROTO", "CLIENT", "SERVER", "SENT", "STATE");
            self.text(&heading);
        }
    }
}

fn row(time: &str, protocol: &str, client: &str, server: &str, bytes: &str, state: &str) -> String {
    let line = format!("{time:<8} {protocol:<9} {client:<ENDPOINT$} {server:<ENDPOINT$} {bytes:>7} {state}");
    format!("{}\n", line.trim_end())
}

fn upload_row(upload: &Upload, attribution: &Attribution) -> String {
    let connection = upload.connection;
    let first = row(
        &clock(&upload.start.to_string()),
        upload.protocol.name(),
        &endpoint(connection.client),
        &endpoint(connection.server),
        &ByteSize(upload.bytes).to_string(),
        upload.state.name(),
    );
    let what = match (&upload.http, &upload.ftp) {
        (Some(http), _) => {
            let host = upload.domain.as_deref().unwrap_or_default();
            let target = if http.url.starts_with('/') { format!("{host}{}", http.url) } else { http.url.clone() };
            format!("{} {target}", http.method)
        }
        (None, Some(ftp)) => {
            let file = upload.files.first();
            let path = file.and_then(|f| f.path.as_deref().or(f.name.as_deref())).unwrap_or_default();
            format!("{} {path}", ftp.command)
        }
        (None, None) => String::new(),
    };
    let mut text = first;
    let names: Vec<&str> = upload.files.iter().filter_map(|file| file.name.as_deref()).collect();
    detail(&mut text, &what);
    if upload.http.is_some() && !names.is_empty() {
        detail(&mut text, &format!("file {}", names.join(", ")));
    }
    if upload.missing > 0 {
        detail(&mut text, &format!("{} of it not seen by the tap", ByteSize(upload.missing)));
    }
    detail(&mut text, &process(attribution));
    text
}

fn flow_row(flow: &Flow, attribution: &Attribution) -> String {
    let mut text = row(
        &clock(&flow.start.to_string()),
        flow.protocol.name(),
        &endpoint(flow.connection.client),
        &endpoint(flow.connection.server),
        &ByteSize(flow.client_bytes).to_string(),
        "flow",
    );
    if attribution.process().is_some() {
        detail(&mut text, &process(attribution));
    }
    text
}

/// An indented line of a row, cut to the width.
fn detail(text: &mut String, what: &str) {
    let what = what.trim();
    if !what.is_empty() {
        text.push_str(&format!("         {}\n", shortened(what, WIDTH - 9)));
    }
}

fn process(attribution: &Attribution) -> String {
    match attribution {
        Attribution::Known { process, confidence, .. } => {
            let name = process.name().unwrap_or("process");
            let host = process.host.name.as_ref().unwrap_or(&process.host.id);
            let pid = process.pid.map_or("pid not told".to_owned(), |pid| format!("pid {pid}"));
            format!("by {name} ({pid}) on {host}, {}", confidence.name())
        }
        Attribution::Unknown { why, .. } => format!("process not known: {why}"),
    }
}

fn alert_block(alert: &Alert) -> String {
    let text = alert.text();
    let mut block = String::new();
    for (n, line) in text.lines().enumerate() {
        let indent = if n == 0 { "    " } else { "             " };
        let options = textwrap::Options::new(WIDTH)
            .subsequent_indent(indent)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
            .break_words(true);
        for wrapped in textwrap::wrap(&printable(line), options) {
            block.push_str(wrapped.trim_end());
            block.push('\n');
        }
    }
    block
}

/// The time of day of an RFC 3339 time.
fn clock(time: &str) -> String {
    time.get(11..19).unwrap_or(time).to_owned()
}

/// `address:port`, with the middle of a long address left out.
fn endpoint(endpoint: Endpoint) -> String {
    let text = endpoint.to_string();
    if text.len() <= ENDPOINT {
        return text;
    }
    let (address, port) = text.rsplit_once(':').unwrap_or((&text, ""));
    let room = ENDPOINT.saturating_sub(port.len() + 2);
    let (head, tail) = (room / 2, room - room / 2);
    let start = address.get(..head).unwrap_or_default();
    let end = address.get(address.len().saturating_sub(tail)..).unwrap_or_default();
    format!("{start}…{end}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn a_long_address_is_shortened_and_its_port_is_kept() {
        let socket: SocketAddr = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535".parse().unwrap();
        let text = endpoint(socket.into());
        assert_eq!(text.chars().count(), ENDPOINT);
        assert!(text.starts_with("[2001:d") && text.ends_with("5678]:65535"), "{text}");
        let socket: SocketAddr = "255.255.255.255:65535".parse().unwrap();
        assert_eq!(endpoint(socket.into()), "255.255.255.255:65535");
    }
}
