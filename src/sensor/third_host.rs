//! FTP data connections to a third host (FXP): a control connection announces an address, and the bytes pass between
//! two servers, on another lane.
//!
//! Transfers that found no data connection on their own lane come in, and connections of an unknown protocol; a transfer
//! goes out with the connection that was at its announced address at the right time.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::net::{Endpoint, Span};
use crate::record::{Binding, Ending, EventId, Flow, NotHashed, Note, Protocol, State, Upload};

/// How long before its command, and how long after it, a data connection may begin.
const AROUND: Span = Span::seconds(60);

/// Connections that may be wanted yet, by their two ends.
#[derive(Debug)]
pub(super) struct ThirdHosts {
    recent: LruCache<Endpoint, Box<Flow>>,
    /// Whether files are hashed at all.
    hash: bool,
    /// Files that were not hashed because their connection was known too late.
    pub(super) bound_late: u64,
}

impl ThirdHosts {
    /// Keeps at most so many ends of connections, the latest.
    pub(super) fn new(most: usize, hash: bool) -> Self {
        Self { recent: LruCache::new(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)), hash, bound_late: 0 }
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
        let text = matches!(ftp.data_type, Some('A' | 'E'));
        let converted = match ftp.mode {
            'S' => text.then_some(NotHashed::Text),
            _ => Some(NotHashed::Encoded),
        };
        if converted.is_some() {
            upload.notes.push(Note::Converted);
            upload.notes.sort_unstable();
        }
        let part = (ftp.restart > 0 || ftp.command == "APPE").then_some(NotHashed::Part);
        // What passes between two other hosts is an upload only in hindsight.
        let unseen = match (self.hash, flow.opening_seen) {
            (false, _) => NotHashed::Off,
            (true, _) if missing > 0 => NotHashed::Gap,
            (true, false) => NotHashed::MidStream,
            (true, true) if !whole => NotHashed::CutShort,
            (true, true) => NotHashed::BoundLate,
        };
        for file in &mut upload.files {
            let size = Some(bytes).filter(|_| converted.is_none());
            (file.size, file.missing) = (size, size.map_or(0, |_| missing));
            file.not_hashed = part.or(converted).or(Some(unseen));
        }
        if upload.files.is_empty() || part.or(converted).is_some() {
            upload.body.not_hashed = Some(unseen);
        }
        self.bound_late += u64::from(unseen == NotHashed::BoundLate);
        let (client, server) = (connection.client, connection.server);
        self.recent.pop(&client);
        self.recent.pop(&server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Timestamp;
    use crate::record::{Body, Connection, FileInfo, Ftp, Wrapping};

    fn end(text: &str) -> Endpoint {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    fn upload(ftp: Ftp) -> Upload {
        let connection = Connection { client: end("10.0.0.5:40000"), server: end("192.0.2.9:21") };
        let announced = Some(end("192.0.2.9:51210"));
        Upload {
            id: EventId::new("ftp", connection, Timestamp(1), 1),
            connection,
            wrapping: Wrapping::default(),
            protocol: Protocol::Ftp,
            opened: Timestamp(5),
            start: Timestamp(5),
            end: Timestamp(5),
            client_bytes: 0,
            server_bytes: 0,
            bytes: 0,
            missing: 0,
            state: State::Partial,
            domain: None,
            proxied_to: None,
            domain_source: Default::default(),
            http: None,
            ftp: Some(Box::new(Ftp { reply_code: Some(226), announced, binding: Binding::None, ..ftp })),
            files: vec![FileInfo { name: Some("a".to_owned()), ..FileInfo::default() }],
            body: Body::default(),
            notes: vec![Note::DataNotSeen],
        }
    }

    fn flow(missing: u64, ending: Ending) -> Flow {
        let connection = Connection { client: end("198.51.100.3:50000"), server: end("192.0.2.9:51210") };
        Flow {
            connection,
            wrapping: Wrapping::default(),
            opening_seen: true,
            protocol: Protocol::Unknown,
            encrypted: false,
            start: Timestamp(5),
            end: Timestamp(6),
            client_bytes: 500,
            server_bytes: 0,
            client_missing: missing,
            server_missing: 0,
            client_packets: 3,
            server_packets: 3,
            ending,
        }
    }

    #[test]
    fn the_end_of_a_connection_takes_no_more_than_its_setting_says() {
        // What an expectation takes beside it stays below 200 bytes.
        let entry = size_of::<Flow>() + size_of::<(Endpoint, Box<Flow>)>() + 4 * size_of::<usize>();
        assert!(entry + 2 * (size_of::<usize>() + 1) <= 1024 - 200, "{entry}");
    }

    #[test]
    fn a_file_between_two_other_hosts_says_why_it_has_no_hash() {
        let plain = || Ftp { command: "STOR".to_owned(), mode: 'S', data_type: Some('I'), ..Ftp::default() };
        for (ftp, missing, hash, why, size) in [
            (plain(), 0, true, NotHashed::BoundLate, Some(500)),
            (plain(), 0, false, NotHashed::Off, Some(500)),
            (plain(), 9, true, NotHashed::Gap, Some(500)),
            (Ftp { restart: 7, ..plain() }, 0, true, NotHashed::Part, Some(500)),
            (Ftp { mode: 'Z', ..plain() }, 0, true, NotHashed::Encoded, None),
            (Ftp { data_type: Some('A'), ..plain() }, 0, true, NotHashed::Text, None),
        ] {
            let mut hosts = ThirdHosts::new(9, hash);
            hosts.note(&flow(missing, Ending::Finished));
            let mut upload = upload(ftp);
            hosts.complete(&mut upload);
            assert_eq!((upload.bytes, upload.missing), (500, missing));
            assert_eq!((upload.files[0].not_hashed, upload.files[0].size), (Some(why), size));
            assert_eq!(upload.notes.contains(&Note::Converted), size.is_none());
            assert_eq!(
                hosts.bound_late > 0,
                upload.files[0].not_hashed == Some(NotHashed::BoundLate) || (hash && missing == 0)
            );
        }
    }
}
