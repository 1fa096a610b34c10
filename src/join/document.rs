//! The join's part of a record's document.

use super::{Attribution, FileLink, Process};
use crate::record::Document;

/// Writes the process, the user and the host, and how they were found or why not.
pub fn write_attribution<'a>(document: &mut Document<'a>, attribution: &'a Attribution) {
    if let Some(host) = attribution.host() {
        document.set("host.id", host.id.as_ref());
        document.set_some("host.name", host.name.as_deref());
        document.set_some("host.domain", host.domain.as_deref());
    }
    match attribution {
        Attribution::Known { process, rule, confidence, offset } => {
            write_process(document, process);
            document.set("outfall.join.rule", *rule);
            document.set("outfall.join.confidence", confidence.name());
            if let Some(offset) = offset {
                document.set("outfall.join.clock.field", offset.clock.name());
                document.set("outfall.join.clock.offset", offset.ahead as f64 / 1e9);
                document.set("outfall.join.clock.flows", offset.flows as u64);
            }
        }
        Attribution::Unknown { why, .. } => {
            document.set(
                "outfall.join",
                Document::from([("why", why.name().into()), ("why_text", why.to_string().into())]),
            );
        }
    }
}

/// Writes the linked files, if there are any.
pub fn write_files<'a>(document: &mut Document<'a>, links: &'a [FileLink]) {
    if !links.is_empty() {
        document.set_list("outfall.join.files", links.iter().map(link));
    }
}

fn write_process<'a>(document: &mut Document<'a>, process: &'a Process) {
    document.set_some("process.name", process.name());
    document.set_some("process.executable", process.image.as_deref());
    document.set_some("process.pid", process.pid);
    document.set_some("process.start", process.start);
    document.set_some("process.command_line", process.command_line.as_deref());
    document.set_some("process.hash.sha256", process.sha256.as_deref());
    document.set_some("process.code_signature.subject_name", process.signer.as_deref());
    if let Some(parent) = process.ancestors.first() {
        document.set_some("process.parent.name", parent.name());
        document.set_some("process.parent.executable", parent.image.as_deref());
        document.set_some("process.parent.pid", parent.pid);
        document.set_some("process.parent.start", parent.start);
        document.set_some("process.parent.command_line", parent.command_line.as_deref());
    }
    if let Some(user) = process.user.as_deref() {
        // ECS keeps the account's domain apart.
        let (domain, name) = user.split_once('\\').map_or((None, user), |(domain, name)| (Some(domain), name));
        document.set_some("user.domain", domain);
        document.set("user.name", name);
    }
    document.set_some("user.id", process.sid.as_deref());
}

fn link(link: &FileLink) -> Document<'_> {
    let mut document = Document::new();
    document.set("path", link.path.as_ref());
    document.set("name", link.name());
    document.set_some("size", link.size);
    document.set("op", link.op.name());
    document.set("time", link.ts);
    document.set("rule", link.rule.name());
    document.set("confidence", link.confidence.name());
    document.set_some("process.name", link.staged_by.name());
    document.set_some("process.pid", link.staged_by.pid);
    document.set_some("process.executable", link.staged_by.image.as_deref());
    document.set_some("process.command_line", link.staged_by.command_line.as_deref());
    document
}
