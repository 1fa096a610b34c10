//! What must hold of every record, whatever the input was.

use std::collections::{BTreeMap, BTreeSet};

use outfall::flow::{Both, Side, Totals};
use outfall::net::Endpoint;
use outfall::protocol::Fact;
use outfall::record::{Flow, Note, State, Upload, flow_document, upload_document};
use serde_json::Value;

/// What each endpoint sent to which other: bytes, and of them how many were lost.
#[derive(Debug, Default)]
pub struct Wire {
    sent: BTreeMap<(Endpoint, Endpoint), (u64, u64)>,
    connections: usize,
}

impl Wire {
    /// Adds a finished connection.
    pub fn add(&mut self, ends: &Both<Endpoint>, totals: &Totals) {
        for side in [Side::Low, Side::High] {
            let sent = self.sent.entry((*ends.of(side), *ends.of(side.peer()))).or_default();
            sent.0 += totals.bytes.of(side);
            sent.1 += totals.missing.of(side);
        }
        self.connections += 1;
    }

    fn sent(&self, from: Endpoint, to: Endpoint) -> (u64, u64) {
        self.sent.get(&(from, to)).copied().unwrap_or_default()
    }
}

/// Checks all records of an input whose connections are all over.
pub fn all(facts: &[Fact], wire: &Wire) {
    let mut uploaded: BTreeMap<(Endpoint, Endpoint), (u64, u64)> = BTreeMap::new();
    let mut running = BTreeMap::new();
    let mut finished = BTreeSet::new();
    let mut flows = 0;
    for fact in facts {
        match fact {
            Fact::Upload(upload) => {
                one(upload);
                if upload.state == State::Running {
                    let before = running.insert(upload.id, upload.bytes);
                    assert!(before.is_none(), "reported twice while it runs: {}", document(upload));
                    continue;
                }
                assert!(finished.insert(upload.id), "two uploads with one id: {}", document(upload));
                if let Some(bytes) = running.remove(&upload.id) {
                    assert!(bytes <= upload.bytes, "shrank from {bytes}: {}", document(upload));
                }
                let ends = (upload.connection.client, upload.connection.server);
                let total = uploaded.entry(ends).or_default();
                total.0 += upload.bytes;
                total.1 += upload.missing;
                let (sent, missing) = wire.sent(ends.0, ends.1);
                assert!(total.0 <= sent, "more than the {sent} bytes sent: {}", document(upload));
                assert!(total.1 <= missing, "more than the {missing} bytes lost: {}", document(upload));
                assert!(upload.client_bytes <= sent, "client bytes of {sent}: {}", document(upload));
                let answered = wire.sent(ends.1, ends.0).0;
                assert!(upload.server_bytes <= answered, "server bytes of {answered}: {}", document(upload));
            }
            Fact::Name(_) => {}
            Fact::Flow(flow) => {
                flows += 1;
                one_flow(flow);
                let ends = (flow.connection.client, flow.connection.server);
                assert!(flow.client_bytes <= wire.sent(ends.0, ends.1).0);
                assert!(flow.server_bytes <= wire.sent(ends.1, ends.0).0);
            }
        }
    }
    assert_eq!(flows, wire.connections, "one flow record for each connection");
    assert!(running.is_empty(), "running and never finished: {running:?} of\n{}", text(facts));
}

/// Checks one upload by itself.
pub fn one(upload: &Upload) {
    let shown = document(upload);
    let json: Value = serde_json::from_str(&shown).expect("a record is JSON");
    assert_eq!(json.pointer("/outfall/upload/bytes"), Some(&upload.bytes.into()), "{shown}");
    assert!(upload.missing <= upload.bytes, "{shown}");
    assert!(upload.opened <= upload.start && upload.start <= upload.end, "{shown}");
    assert!(upload.notes.windows(2).all(|pair| pair[0] < pair[1]), "notes are sorted, each once: {shown}");
    assert_eq!(upload.state == State::Complete && upload.missing > 0, false, "{shown}");
    assert!(upload.missing == 0 || upload.notes.contains(&Note::Gap), "{shown}");
    for file in &upload.files {
        assert!(file.size.unwrap_or(0) <= upload.bytes, "{shown}");
        assert!(file.missing <= file.size.unwrap_or(0), "{shown}");
        assert!(file.sha256.is_none() || file.missing == 0, "{shown}");
    }
}

/// Checks one flow by itself.
pub fn one_flow(flow: &Flow) {
    let shown = flow_document(flow).to_string();
    let _: Value = serde_json::from_str(&shown).expect("a record is JSON");
    assert!(flow.client_missing <= flow.client_bytes && flow.server_missing <= flow.server_bytes, "{shown}");
    assert!(flow.start <= flow.end, "{shown}");
}

/// All records as text.
pub fn text(facts: &[Fact]) -> String {
    let lines = facts.iter().filter_map(|fact| match fact {
        Fact::Upload(upload) => Some(document(upload)),
        Fact::Flow(flow) => Some(flow_document(flow).to_string()),
        Fact::Name(_) => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn document(upload: &Upload) -> String {
    upload_document(upload).to_string()
}
