//! Records as ECS documents: nested JSON objects with the field names of the Elastic Common Schema.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Archive, Body, FileInfo, Flow, Ftp, Http, Upload, Wrapping};
use crate::net::{Endpoint, Timestamp, community_id};

/// A JSON object that is filled by dotted paths, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document(Vec<(&'static str, Node)>);

/// What stands at a path. An object has few keys, so that they are found by looking at all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A value.
    Value(Value),
    /// An object.
    Object(Document),
    /// A list of objects.
    List(Vec<Document>),
}

impl<T: Into<Value>> From<T> for Node {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl Document {
    /// An empty document.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value at a dotted path, making the objects on the way. Null is not written.
    pub fn set(&mut self, path: &'static str, value: impl Into<Node>) {
        let node = value.into();
        if node != Node::Value(Value::Null) {
            self.put(path, node);
        }
    }

    /// Sets the value if there is one.
    pub fn set_some<T: Into<Node>>(&mut self, path: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.set(path, value);
        }
    }

    /// Sets an object.
    pub fn set_object(&mut self, path: &'static str, object: Document) {
        self.put(path, Node::Object(object));
    }

    /// Sets the object if there is one.
    pub fn set_some_object(&mut self, path: &'static str, object: Option<Document>) {
        if let Some(object) = object {
            self.set_object(path, object);
        }
    }

    /// Sets a list of objects.
    pub fn set_list(&mut self, path: &'static str, list: Vec<Document>) {
        self.put(path, Node::List(list));
    }

    fn put(&mut self, path: &'static str, node: Node) {
        let (key, rest) = first_key(path);
        let place = self.0.iter_mut().find(|(known, _)| *known == key).map(|(_, node)| node);
        match (place, rest) {
            (Some(Node::Object(inner)), Some(rest)) => inner.put(rest, node),
            (place, rest) => {
                let node = match rest {
                    None => node,
                    Some(rest) => {
                        let mut inner = Self::new();
                        inner.put(rest, node);
                        Node::Object(inner)
                    }
                };
                match place {
                    Some(place) => *place = node,
                    None => self.0.push((key, node)),
                }
            }
        }
    }

    /// A copy of what stands at a dotted path.
    pub fn get(&self, path: &str) -> Option<Value> {
        let (key, rest) = first_key(path);
        match (self.0.iter().find(|(known, _)| *known == key)?, rest) {
            ((_, Node::Object(inner)), Some(rest)) => inner.get(rest),
            ((_, node), None) => serde_json::to_value(node).ok(),
            _ => None,
        }
    }
}

/// The first key of a dotted path, and the rest. Keys are short: a search that first has to be made ready takes longer.
fn first_key(path: &str) -> (&str, Option<&str>) {
    let dot = path.bytes().position(|byte| byte == b'.');
    match dot.and_then(|dot| Some((path.get(..dot)?, path.get(dot + 1..)?))) {
        Some((key, rest)) => (key, Some(rest)),
        None => (path, None),
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, node)| (key, node)))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Object(object) => object.serialize(serializer),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match serde_json::to_string(self) {
            Ok(text) => f.write_str(&text),
            Err(_) => Err(std::fmt::Error),
        }
    }
}

fn event(document: &mut Document, dataset: &str, kind: &str, id: &str, start: Timestamp, end: Timestamp) {
    let end = end.to_string();
    document.set("@timestamp", end.as_str());
    document.set("event.kind", kind);
    document.set("event.dataset", dataset);
    document.set("event.id", id);
    document.set("event.start", start.to_string());
    document.set("event.end", end);
}

fn end(document: &mut Document, side: &'static str, address: Endpoint, bytes: u64) {
    let mut object = endpoint(address);
    object.set("bytes", bytes);
    document.set_object(side, object);
}

/// ECS has places for two VLAN tags; their identifiers are texts there.
fn wrapping_part(document: &mut Document, wrapping: &Wrapping) {
    let mut vlans = wrapping.vlans.iter().map(u16::to_string);
    document.set_some("network.vlan.id", vlans.next());
    document.set_some("network.inner.vlan.id", vlans.next());
    if !wrapping.tunnels.is_empty() {
        document.set("outfall.tunnel", wrapping.tunnels.clone());
    }
}

fn endpoint(endpoint: Endpoint) -> Document {
    let mut object = Document::new();
    object.set("ip", endpoint.address.to_string());
    object.set("port", endpoint.port);
    object
}

fn file(info: &FileInfo) -> Document {
    let mut document = Document::new();
    document.set_some("name", info.name.as_deref());
    document.set_some("path", info.path.as_deref());
    document.set_some("size", info.size);
    document.set_some("hash.sha256", info.sha256.as_deref());
    document.set_some("mime_type", info.mime_type.as_deref());
    if info.missing > 0 {
        document.set("missing_bytes", info.missing);
    }
    document
}

/// A file of `outfall.files`: what `file` has, and what no field of the Elastic Common Schema says.
fn listed_file(info: &FileInfo) -> Document {
    let mut document = file(info);
    document.set_some("not_hashed", info.not_hashed.map(|why| why.name()));
    document.set_some("detected_type", info.detected_type);
    if info.type_mismatch {
        document.set("type_mismatch", true);
    }
    document.set_some_object("archive", info.archive.map(archive));
    document
}

fn archive(archive: Archive) -> Document {
    let mut document = Document::new();
    document.set("format", archive.format);
    document.set_some("encrypted", archive.encrypted);
    document
}

fn body_part(document: &mut Document, body: &Body) {
    document.set_some("outfall.upload.sha256", body.sha256.as_deref());
    document.set_some("outfall.upload.not_hashed", body.not_hashed.map(|why| why.name()));
    document.set_some("outfall.upload.detected_type", body.detected_type);
    if body.type_mismatch {
        document.set("outfall.upload.type_mismatch", true);
    }
    document.set_some_object("outfall.upload.archive", body.archive.map(archive));
    document.set_some("outfall.upload.content_encoding", body.content_encoding.as_deref());
    document.set_some("outfall.upload.decoded_bytes", body.decoded_bytes);
    document.set_some("outfall.upload.not_decoded", body.not_decoded.map(|why| why.name()));
}

fn http_part(document: &mut Document, http: &Http) {
    document.set("http.version", http.version.as_str());
    document.set("http.request.method", http.method.as_str());
    document.set_some("http.response.status_code", http.status);
    document.set("url.original", http.url.as_str());
    document.set_some("user_agent.original", http.user_agent.as_deref());
}

fn ftp_part(document: &mut Document, ftp: &Ftp) {
    document.set("outfall.ftp.command", ftp.command.as_str());
    document.set_some("outfall.ftp.reply_code", ftp.reply_code);
    document.set_some("outfall.ftp.user", ftp.user.as_deref());
    document.set("outfall.ftp.binding", ftp.binding.name());
    document.set_some("outfall.ftp.allocated", ftp.allocated);
    document.set_some("outfall.ftp.renamed_from", ftp.renamed_from.as_deref());
    document.set_some_object("outfall.ftp.announced", ftp.announced.map(endpoint));
    if !matches!(ftp.mode, 'S' | '\0') {
        document.set("outfall.ftp.mode", ftp.mode.to_string());
    }
    if let Some(text @ ('A' | 'E')) = ftp.data_type {
        document.set("outfall.ftp.type", text.to_string());
    }
    if ftp.restart > 0 {
        document.set("outfall.ftp.restart", ftp.restart);
    }
    document.set_some_object("outfall.ftp.control.client", ftp.control_client.map(endpoint));
    document.set_some_object("outfall.ftp.control.server", ftp.control_server.map(endpoint));
}

/// The upload's document, without what only the endpoint knows.
pub fn upload_document(upload: &Upload) -> Document {
    let mut document = Document::new();
    event(&mut document, "outfall.upload", "event", &upload.id.to_string(), upload.start, upload.end);
    document.set("network.transport", "tcp");
    document.set("network.protocol", upload.protocol.name());
    document.set("network.community_id", community_id(upload.connection.client, upload.connection.server));
    wrapping_part(&mut document, &upload.wrapping);
    end(&mut document, "source", upload.connection.client, upload.client_bytes);
    end(&mut document, "destination", upload.connection.server, upload.server_bytes);
    document.set_some("destination.domain", upload.domain.as_deref());
    if let Some(http) = &upload.http {
        http_part(&mut document, http);
    }
    if let Some(ftp) = &upload.ftp {
        ftp_part(&mut document, ftp);
    }
    if let Some(first) = upload.files.first() {
        document.set_object("file", file(first));
        document.set_list("outfall.files", upload.files.iter().map(listed_file).collect());
    }
    document.set_some("outfall.upload.proxied_to", upload.proxied_to.as_deref());
    if upload.domain.is_some() {
        document.set("outfall.upload.domain_source", upload.domain_source.name());
    }
    document.set("outfall.upload.bytes", upload.bytes);
    document.set("outfall.upload.missing_bytes", upload.missing);
    document.set("outfall.upload.state", upload.state.name());
    body_part(&mut document, &upload.body);
    if !upload.notes.is_empty() {
        let notes: Vec<&str> = upload.notes.iter().map(|note| note.name()).collect();
        document.set("outfall.upload.notes", notes);
    }
    document
}

/// The flow's document, without what only the endpoint knows.
pub fn flow_document(flow: &Flow) -> Document {
    let mut document = Document::new();
    event(&mut document, "outfall.flow", "event", &flow.id().to_string(), flow.start, flow.end);
    document.set("network.transport", "tcp");
    document.set("network.protocol", flow.protocol.name());
    document.set("network.community_id", community_id(flow.connection.client, flow.connection.server));
    wrapping_part(&mut document, &flow.wrapping);
    end(&mut document, "source", flow.connection.client, flow.client_bytes);
    document.set("source.packets", flow.client_packets);
    end(&mut document, "destination", flow.connection.server, flow.server_bytes);
    document.set("destination.packets", flow.server_packets);
    document.set("outfall.flow.ending", flow.ending.name());
    document.set("outfall.flow.opening_seen", flow.opening_seen);
    if flow.encrypted {
        document.set("outfall.flow.encrypted", true);
    }
    if flow.client_missing > 0 || flow.server_missing > 0 {
        document.set("outfall.flow.source_missing_bytes", flow.client_missing);
        document.set("outfall.flow.destination_missing_bytes", flow.server_missing);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_paths_make_nested_objects() {
        let mut document = Document::new();
        document.set("a.b.c", 1);
        document.set("a.b.d", "x");
        document.set_some("a.e", None::<u64>);
        assert_eq!(document.to_string(), r#"{"a":{"b":{"c":1,"d":"x"}}}"#);
        assert_eq!(document.get("a.b.c"), Some(1.into()));
    }
}
