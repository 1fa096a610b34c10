//! Uploads that one alert stands for.

use crate::net::Timestamp;
use crate::record::{Document, EventId, Upload};

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
    /// The first ones, with their bytes and the name of their first file.
    pub named: Vec<(EventId, u64, Option<String>)>,
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
        if let Some((_, bytes, name)) = self.named.iter_mut().find(|(id, ..)| *id == upload.id) {
            self.bytes = self.bytes.saturating_sub(*bytes).saturating_add(upload.bytes);
            (*bytes, *name) = (upload.bytes, file);
            return false;
        }
        self.uploads += 1;
        self.bytes = self.bytes.saturating_add(upload.bytes);
        if self.named.len() < NAMED {
            self.named.push((upload.id, upload.bytes, file));
        }
        true
    }

    pub(super) fn write(&self, document: &mut Document) {
        document.set("outfall.alert.story.uploads", self.uploads);
        document.set("outfall.alert.story.bytes", self.bytes);
        document.set("outfall.alert.story.first", self.first.to_string());
        document.set("outfall.alert.story.last", self.last.to_string());
        let named = self.named.iter().map(|(id, bytes, file)| {
            let mut object = Document::new();
            object.set("id", id.to_string());
            object.set("bytes", *bytes);
            object.set_some("file.name", file.as_deref());
            object
        });
        document.set_list("outfall.alert.story.named", named.collect());
    }
}
