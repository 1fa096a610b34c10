//! FTP data connections to a third host (FXP): a control connection announces an address, and the bytes pass between
//! two servers, on another lane.
//!
//! Transfers that found no data connection on their own lane come in, and connections of an unknown protocol; a transfer
//! goes out with the connection that was at its announced address at the right time.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::net::{Endpoint, Span};
use crate::record::{Binding, Ending, EventId, Flow, Note, Protocol, State, Upload};

/// How long before its command, and how long after it, a data connection may begin.
const AROUND: Span = Span::seconds(60);

/// Connections that may be wanted yet, by their two ends.
#[derive(Debug)]
pub(super) struct ThirdHosts {
    recent: LruCache<Endpoint, Box<Flow>>,
}

impl ThirdHosts {
    /// Keeps at most so many ends of connections, the latest.
    pub(super) fn new(most: usize) -> Self {
        Self { recent: LruCache::new(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)) }
    }

    /// A connection that may be wanted.
    pub(super) fn note(&mut self, flow: &Flow) {
        let one_way = (flow.client_bytes == 0) != (flow.server_bytes == 0);
        if flow.protocol == Protocol::Unknown && one_way {
            self.recent.push(flow.connection.client, Box::new(flow.clone()));
            self.recent.push(flow.connection.server, Box::new(flow.clone()));
        }
    }

    /// Completes a transfer that found no data connection, if one was at its announced address.
    pub(super) fn complete(&mut self, upload: &mut Upload) {
        let Some(ftp) = &mut upload.ftp else { return };
        if ftp.binding != Binding::None {
            return;
        }
        let Some(listener) = ftp.announced else { return };
        let Some(flow) = self.recent.peek(&listener) else { return };
        let near =
            flow.start.distance(upload.start) <= AROUND || (flow.start <= upload.start && upload.start <= flow.end);
        if !near {
            return;
        }
        // Who sent the bytes is the client of this upload, whoever opened the connection.
        let mut connection = flow.connection;
        let (mut bytes, mut missing) = (flow.client_bytes, flow.client_missing);
        if bytes == 0 {
            std::mem::swap(&mut connection.client, &mut connection.server);
            (bytes, missing) = (flow.server_bytes, flow.server_missing);
        }
        ftp.binding = Binding::ThirdHost;
        upload.id = EventId::new("ftp", connection, flow.start, 0);
        upload.connection = connection;
        upload.wrapping = flow.wrapping.clone();
        (upload.opened, upload.start, upload.end) = (flow.start, flow.start, flow.end);
        (upload.bytes, upload.missing, upload.client_bytes, upload.server_bytes) = (bytes, missing, bytes, 0);
        upload.notes.retain(|note| *note != Note::DataNotSeen);
        if missing > 0 {
            upload.notes.push(Note::Gap);
            upload.notes.sort_unstable();
        }
        let confirmed = ftp.reply_code.is_some_and(|code| code < 400);
        let whole = missing == 0 && (confirmed || flow.ending == Ending::Finished);
        upload.state = if whole { State::Complete } else { State::Partial };
        for file in &mut upload.files {
            (file.size, file.missing) = (Some(bytes), missing);
        }
        let (client, server) = (connection.client, connection.server);
        self.recent.pop(&client);
        self.recent.pop(&server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_connection_takes_no_more_than_its_setting_says() {
        // What an expectation takes beside it stays below 200 bytes.
        let entry = size_of::<Flow>() + size_of::<(Endpoint, Box<Flow>)>() + 4 * size_of::<usize>();
        assert!(entry + 2 * (size_of::<usize>() + 1) <= 1024 - 200, "{entry}");
    }
}
