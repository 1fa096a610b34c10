//! The record of a transfer: what its dialogue and its data connection told of it.

use super::book::{Book, Entry};
use crate::protocol::http::last_part;
use crate::record::{Binding, Body, Ending, EventId, FileInfo, Ftp, NotHashed, Note, Protocol, State, Upload};

impl Book {
    /// The upload that a transfer was, if it was one.
    pub(super) fn upload(&self, entry: Entry) -> Option<Upload> {
        let stored = entry.path(&self.session);
        let (renamed_from, path) = match entry.renamed {
            Some((from, to)) => (Some(from), Some(to)),
            None => (None, stored),
        };
        let transfer = entry.transfer;
        if !transfer.verb.is_upload() {
            return None;
        }
        let refused = transfer.reply.is_some_and(|code| code >= 400);
        let mut notes = Vec::new();
        let (data, binding) = match entry.data {
            Some((data, binding)) => (Some(data), binding),
            None if refused || !(transfer.begun || transfer.reply.is_some()) => return None,
            None => (None, Binding::None),
        };
        if transfer.reply.is_none() {
            notes.push(Note::Unconfirmed);
        }
        let control = self.session.connection;
        let connection = data.as_ref().map_or(control, |d| d.connection);
        let ended =
            data.as_ref().is_some_and(|d| !d.retired && (d.ending == Ending::Finished || transfer.reply.is_some()));
        let missing = data.as_ref().map_or(0, |d| d.client_missing);
        let bytes = data.as_ref().map_or(0, |d| d.client_bytes);
        match &data {
            None => notes.push(Note::DataNotSeen),
            Some(data) => {
                if data.conflict {
                    notes.push(Note::ConflictingOverlap);
                }
                if data.encrypted {
                    notes.push(Note::Encrypted);
                }
                if data.retired {
                    notes.push(Note::Retired);
                }
                if data.mid_stream {
                    notes.push(Note::MidStream);
                }
                if missing > 0 {
                    notes.push(Note::Gap);
                }
                if refused || !ended {
                    notes.push(Note::CutShort);
                }
            }
        }
        let encoding = data.as_ref().and_then(|data| {
            let encoded = data.encrypted || transfer.mode != 'S';
            let text = matches!(transfer.data_type, Some('A' | 'E'));
            encoded.then_some(NotHashed::Encoded).or(text.then_some(NotHashed::Text))
        });
        if encoding.is_some() && !data.as_ref().is_some_and(|data| data.encrypted) {
            notes.push(Note::Converted);
        }
        let complete = data.is_some() && ended && !refused && missing == 0;
        notes.sort_unstable();
        notes.dedup();
        // The size on the wire is the file's only if its bytes went as they are.
        let size = data.as_ref().filter(|_| encoding.is_none()).map(|_| bytes);
        let mut file = path.map(|path| FileInfo {
            name: Some(last_part(&path).to_owned()),
            path: Some(path),
            size,
            missing: size.map_or(0, |_| missing),
            ..FileInfo::default()
        });
        let mut body = Body::default();
        if let Some(data) = &data {
            let mut content = data.content.clone();
            if !complete {
                content.cut_short();
            }
            // What is appended or resumed begins somewhere in the file, or at its start if there was none.
            let part = transfer.restart > 0 || transfer.verb.name() == "APPE";
            let differs = part.then_some(NotHashed::Part).or(encoding);
            // Text leaves the leading bytes as they are, nearly always.
            if differs.is_some_and(|why| why != NotHashed::Text) {
                content.blind();
            }
            match (&mut file, differs) {
                (Some(file), Some(why)) => content.describe_other(why, file, &mut body),
                (Some(file), None) => content.describe(file),
                (None, _) => content.describe_body(None, None, &mut body),
            }
        }
        let opened = data.as_ref().map_or(transfer.asked, |d| d.opened);
        let apart = match &data {
            Some(_) => 0,
            None => transfer.ordinal + 1,
        };
        Some(Upload {
            id: EventId::new("ftp", connection, opened, apart),
            connection,
            wrapping: data.as_ref().map_or_else(|| self.wrapping.clone(), |d| d.wrapping.clone()),
            protocol: Protocol::Ftp,
            opened,
            start: data.as_ref().map_or(transfer.asked, |d| d.start),
            end: data.as_ref().map_or(transfer.asked, |d| d.end),
            client_bytes: bytes,
            server_bytes: data.as_ref().map_or(0, |d| d.server_bytes),
            bytes,
            missing,
            state: if complete { State::Complete } else { State::Partial },
            domain: None,
            proxied_to: None,
            domain_source: Default::default(),
            http: None,
            ftp: Some(Box::new(Ftp {
                command: transfer.verb.name().to_owned(),
                reply_code: transfer.reply,
                user: self.session.user.clone(),
                control_client: Some(control.client),
                control_server: Some(control.server),
                control_opened: self.opened,
                restart: transfer.restart,
                allocated: transfer.allocated,
                mode: transfer.mode,
                data_type: transfer.data_type,
                renamed_from,
                announced: transfer.announcement.map(|a| a.listener),
                binding,
            })),
            files: file.into_iter().collect(),
            body,
            notes,
        })
    }
}
