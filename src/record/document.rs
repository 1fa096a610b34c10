//! Records as ECS documents: nested JSON objects with the field names of the Elastic Common Schema.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::{Archive, Body, Connection, EventId, FileInfo, Flow, Ftp, Http, Protocol, Upload, Wrapping};
use crate::net::{Address, Endpoint, Timestamp, community_id};

/// The keys of a record's document itself, with those that the join and an alert add.
const TOP: usize = 16;

/// A JSON object that is filled by dotted paths, in the order in which they were set. Texts are borrowed from the record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document<'a>(Vec<(&'static str, Node<'a>)>);

/// What stands at a path. An object has few keys, so that they are found by looking at all of them. What has a text is
/// kept as it is until it is written, as most documents are written once.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A time, written in RFC 3339.
    Time(Timestamp),
    /// An address.
    Address(Address),
    /// An identifier.
    Id(EventId),
    /// A whole number.
    Number(u64),
    /// A number with a fraction.
    Fraction(f64),
    /// Yes or no.
    Flag(bool),
    /// An object.
    Object(Document<'a>),
    /// A list.
    List(Vec<Node<'a>>),
}

macro_rules! nodes {
    ($($from:ty: $value:ident => $node:expr;)*) => {$(
        impl<'a> From<$from> for Node<'a> {
            fn from($value: $from) -> Self {
                $node
            }
        }
    )*};
}

nodes! {
    &'a str: text => Self::Text(Cow::Borrowed(text));
    String: text => Self::Text(Cow::Owned(text));
    Timestamp: time => Self::Time(time);
    Address: address => Self::Address(address);
    EventId: id => Self::Id(id);
    u16: number => Self::Number(number.into());
    u32: number => Self::Number(number.into());
    u64: number => Self::Number(number);
    f64: number => Self::Fraction(number);
    bool: flag => Self::Flag(flag);
    Document<'a>: object => Self::Object(object);
}

impl<'a, T: Into<Node<'a>>> FromIterator<T> for Node<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// Of keys that are always there, and differ.
impl<'a, const KEYS: usize> From<[(&'static str, Node<'a>); KEYS]> for Document<'a> {
    fn from(keys: [(&'static str, Node<'a>); KEYS]) -> Self {
        // One that is there at times often follows.
        let mut document = Self::with_capacity(KEYS + 1);
        document.0.extend(keys);
        document
    }
}

impl<'a> Document<'a> {
    /// An empty document; most objects have few keys, and are not made to have none.
    pub fn new() -> Self {
        Self::with_capacity(4)
    }

    /// An empty document with room for so many keys.
    pub fn with_capacity(keys: usize) -> Self {
        Self(Vec::with_capacity(keys))
    }

    /// Sets what stands at a dotted path, making the objects on the way.
    pub fn set(&mut self, path: &'static str, what: impl Into<Node<'a>>) {
        self.put(path, what.into());
    }

    /// Sets it if there is something.
    pub fn set_some<T: Into<Node<'a>>>(&mut self, path: &'static str, what: Option<T>) {
        if let Some(what) = what {
            self.set(path, what);
        }
    }

    /// Sets a list.
    pub fn set_list<T: Into<Node<'a>>>(&mut self, path: &'static str, items: impl IntoIterator<Item = T>) {
        self.put(path, items.into_iter().collect());
    }

    fn put(&mut self, path: &'static str, node: Node<'a>) {
        let (key, rest) = first_key(path);
        // What is set together stands together, so that an object on the way is most often the last.
        let place = self.0.iter_mut().rev().find(|(known, _)| *known == key).map(|(_, node)| node);
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

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, node) in &self.0 {
            map.serialize_entry(*key, node)?;
        }
        map.end()
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Time(time) => serializer.collect_str(time),
            Self::Address(address) => address.ip().serialize(serializer),
            Self::Id(id) => serializer.collect_str(id),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Fraction(number) => serializer.serialize_f64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Object(object) => object.serialize(serializer),
            Self::List(items) => items.serialize(serializer),
        }
    }
}

impl std::fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match serde_json::to_string(self) {
            Ok(text) => f.write_str(&text),
            Err(_) => Err(std::fmt::Error),
        }
    }
}

fn event(dataset: &'static str, id: EventId, start: Timestamp, end: Timestamp) -> Document<'static> {
    Document::from([
        ("kind", "event".into()),
        ("dataset", dataset.into()),
        ("id", id.into()),
        ("start", start.into()),
        ("end", end.into()),
    ])
}

fn network(protocol: Protocol, connection: Connection, wrapping: &Wrapping) -> Document<'static> {
    let mut network = Document::from([
        ("transport", "tcp".into()),
        ("protocol", protocol.name().into()),
        ("community_id", community_id(connection.client, connection.server).into()),
    ]);
    // ECS has places for two VLAN tags; their identifiers are texts there.
    let mut vlans = wrapping.vlans.iter().map(u16::to_string);
    network.set_some("vlan.id", vlans.next());
    network.set_some("inner.vlan.id", vlans.next());
    network
}

fn tunnel_part(document: &mut Document<'_>, wrapping: &Wrapping) {
    if !wrapping.tunnels.is_empty() {
        document.set_list("outfall.tunnel", wrapping.tunnels.iter().copied());
    }
}

fn end(end: Endpoint, bytes: u64) -> Document<'static> {
    let Endpoint { address, port } = end;
    Document::from([("ip", address.into()), ("port", port.into()), ("bytes", bytes.into())])
}

fn endpoint(endpoint: Endpoint) -> Document<'static> {
    Document::from([("ip", endpoint.address.into()), ("port", endpoint.port.into())])
}

fn file(info: &FileInfo) -> Document<'_> {
    let mut document = Document::with_capacity(8);
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
fn listed_file(info: &FileInfo) -> Document<'_> {
    let mut document = file(info);
    document.set_some("not_hashed", info.not_hashed.map(|why| why.name()));
    document.set_some("detected_type", info.detected_type);
    if info.type_mismatch {
        document.set("type_mismatch", true);
    }
    document.set_some("archive", info.archive.map(archive));
    document
}

fn archive(archive: Archive) -> Document<'static> {
    let mut document = Document::new();
    document.set("format", archive.format);
    document.set_some("encrypted", archive.encrypted);
    document
}

fn body_part<'a>(upload: &mut Document<'a>, body: &'a Body) {
    upload.set_some("sha256", body.sha256.as_deref());
    upload.set_some("not_hashed", body.not_hashed.map(|why| why.name()));
    upload.set_some("detected_type", body.detected_type);
    if body.type_mismatch {
        upload.set("type_mismatch", true);
    }
    upload.set_some("archive", body.archive.map(archive));
    upload.set_some("content_encoding", body.content_encoding.as_deref());
    upload.set_some("decoded_bytes", body.decoded_bytes);
    upload.set_some("not_decoded", body.not_decoded.map(|why| why.name()));
}

fn http_part<'a>(document: &mut Document<'a>, http: &'a Http) {
    let request = Document::from([("method", http.method.as_str().into())]);
    document.set("http", Document::from([("version", http.version.as_str().into()), ("request", request.into())]));
    document.set_some("http.response.status_code", http.status);
    document.set("url.original", http.url.as_str());
    document.set_some("user_agent.original", http.user_agent.as_deref());
}

fn ftp_part(ftp: &Ftp) -> Document<'_> {
    let mut document = Document::with_capacity(8);
    document.set("command", ftp.command.as_str());
    document.set_some("reply_code", ftp.reply_code);
    document.set_some("user", ftp.user.as_deref());
    document.set("binding", ftp.binding.name());
    document.set_some("allocated", ftp.allocated);
    document.set_some("renamed_from", ftp.renamed_from.as_deref());
    document.set_some("announced", ftp.announced.map(endpoint));
    if !matches!(ftp.mode, 'S' | '\0') {
        document.set("mode", ftp.mode.to_string());
    }
    if let Some(text @ ('A' | 'E')) = ftp.data_type {
        document.set("type", text.to_string());
    }
    if ftp.restart > 0 {
        document.set("restart", ftp.restart);
    }
    document.set_some("control.client", ftp.control_client.map(endpoint));
    document.set_some("control.server", ftp.control_server.map(endpoint));
    document
}

fn upload_part(upload: &Upload) -> Document<'_> {
    let mut document = Document::with_capacity(8);
    document.set_some("proxied_to", upload.proxied_to.as_deref());
    if upload.domain.is_some() {
        document.set("domain_source", upload.domain_source.name());
    }
    document.set("bytes", upload.bytes);
    document.set("missing_bytes", upload.missing);
    document.set("state", upload.state.name());
    body_part(&mut document, &upload.body);
    if !upload.notes.is_empty() {
        document.set_list("notes", upload.notes.iter().map(|note| note.name()));
    }
    document
}

/// The upload's document, without what only the endpoint knows.
pub fn upload_document(upload: &Upload) -> Document<'_> {
    let mut document = Document::with_capacity(TOP);
    document.set("@timestamp", upload.end);
    document.set("event", event("outfall.upload", upload.id, upload.start, upload.end));
    document.set("network", network(upload.protocol, upload.connection, &upload.wrapping));
    tunnel_part(&mut document, &upload.wrapping);
    document.set("source", end(upload.connection.client, upload.client_bytes));
    document.set("destination", end(upload.connection.server, upload.server_bytes));
    document.set_some("destination.domain", upload.domain.as_deref());
    if let Some(http) = &upload.http {
        http_part(&mut document, http);
    }
    document.set_some("outfall.ftp", upload.ftp.as_deref().map(ftp_part));
    if let Some(first) = upload.files.first() {
        document.set("file", file(first));
        document.set_list("outfall.files", upload.files.iter().map(listed_file));
    }
    document.set("outfall.upload", upload_part(upload));
    document
}

/// The flow's document, without what only the endpoint knows.
pub fn flow_document(flow: &Flow) -> Document<'static> {
    let mut document = Document::with_capacity(TOP);
    document.set("@timestamp", flow.end);
    document.set("event", event("outfall.flow", flow.id(), flow.start, flow.end));
    document.set("network", network(flow.protocol, flow.connection, &flow.wrapping));
    tunnel_part(&mut document, &flow.wrapping);
    document.set("source", end(flow.connection.client, flow.client_bytes));
    document.set("source.packets", flow.client_packets);
    document.set("destination", end(flow.connection.server, flow.server_bytes));
    document.set("destination.packets", flow.server_packets);
    let ending = flow.ending.name().into();
    document.set("outfall.flow", Document::from([("ending", ending), ("opening_seen", flow.opening_seen.into())]));
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
        document.set("a.b.c", 1_u64);
        document.set("a.b.d", "x");
        document.set_some("a.e", None::<u64>);
        assert_eq!(document.to_string(), r#"{"a":{"b":{"c":1,"d":"x"}}}"#);
        assert_eq!(document.get("a.b.c"), Some(1.into()));
    }
}
