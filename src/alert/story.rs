//! Uploads that one alert stands for.

use crate::net::Timestamp;
use crate::record::{Connection, Document, EventId, Upload};

/// Uploads that are named; of further ones only the count is known.
const NAMED: usize = 16;

/// Uploads by the same process of the same host to the same destination, told as one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// How many there are.
    pub uploads: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first one began.
    pub first: Timestamp,
    /// When the last one ended.
    pub last: Timestamp,
    /// The first ones.
    pub named: Vec<Part>,
}

/// One of a story's uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its `event.id`.
    pub id: EventId,
    /// The connection that carried it.
    pub connection: Connection,
    /// FTP's control connection.
    pub control: Option<Connection>,
    /// Its bytes.
    pub bytes: u64,
    /// The name of its first file.
    pub file: Option<String>,
}

impl Story {
    /// Of one upload.
    pub fn of(upload: &Upload) -> Self {
        let mut story = Self { uploads: 0, bytes: 0, first: upload.start, last: upload.end, named: Vec::new() };
        story.add(upload);
        story
    }

    /// Adds an upload, or takes up what is new about one of those that are named; says whether it is another one.
    pub fn add(&mut self, upload: &Upload) -> bool {
        self.first = self.first.min(upload.start);
        self.last = self.last.max(upload.end);
        let file = upload.files.first().and_then(|file| file.name.clone());
        if let Some(part) = self.named.iter_mut().find(|part| part.id == upload.id) {
            self.bytes = self.bytes.saturating_sub(part.bytes).saturating_add(upload.bytes);
            (part.bytes, part.file) = (upload.bytes, file);
            return false;
        }
        self.uploads += 1;
        self.bytes = self.bytes.saturating_add(upload.bytes);
        if self.named.len() < NAMED {
            let ftp = upload.ftp.as_ref();
            let control = ftp.and_then(|ftp| ftp.control_client.zip(ftp.control_server));
            let control = control.map(|(client, server)| Connection { client, server });
            self.named.push(Part { id: upload.id, connection: upload.connection, control, bytes: upload.bytes, file });
        }
        true
    }

    pub(super) fn write<'a>(&'a self, document: &mut Document<'a>) {
        document.set("outfall.alert.story.uploads", self.uploads);
        document.set("outfall.alert.story.bytes", self.bytes);
        document.set("outfall.alert.story.first", self.first);
        document.set("outfall.alert.story.last", self.last);
        let named = self.named.iter().map(|part| {
            let mut object = Document::new();
            object.set("id", part.id);
            object.set("bytes", part.bytes);
            object.set_some("file.name", part.file.as_deref());
            let Connection { client, server } = part.connection;
            object.set("source.ip", client.address);
            object.set("source.port", client.port);
            object.set("destination.ip", server.address);
            object.set("destination.port", server.port);
            if let Some(Connection { client, server }) = part.control {
                object.set("control.client.ip", client.address);
                object.set("control.client.port", client.port);
                object.set("control.server.ip", server.address);
                object.set("control.server.port", server.port);
            }
            object
        });
        document.set_list("outfall.alert.story.named", named);
    }
}
