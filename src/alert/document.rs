//! An alert as an ECS document.

use super::Alert;
use crate::detect::{Presence, Reason};
use crate::join::{write_attribution, write_files};
use crate::record::{Document, upload_document};

/// The analytic, as MITRE ATT&CK numbers it.
const ANALYTIC: &str = "AN0423";
const STRATEGY: &str = "DET0149";
const TECHNIQUE: (&str, &str) = ("T1048.003", "Exfiltration Over Unencrypted Non-C2 Protocol");
const TACTIC: (&str, &str) = ("TA0010", "Exfiltration");

pub(super) fn document(alert: &Alert) -> Document<'_> {
    let mut document = upload_document(&alert.upload);
    document.set("event.kind", "alert");
    document.set("event.dataset", "outfall.alert");
    document.set("event.id", alert.id);
    document.set("event.severity", alert.verdict.severity.number());
    document.set("message", alert.line());
    document.set("outfall.upload.id", alert.upload.id);
    write_attribution(&mut document, &alert.attribution);
    write_files(&mut document, &alert.links);
    document.set("rule.id", ANALYTIC);
    document.set("rule.name", TECHNIQUE.1);
    document.set("rule.ruleset", STRATEGY);
    document.set("threat.framework", "MITRE ATT&CK");
    document.set("threat.tactic.id", TACTIC.0);
    document.set("threat.tactic.name", TACTIC.1);
    document.set("threat.technique.id", TECHNIQUE.0);
    document.set("threat.technique.name", TECHNIQUE.1);
    document.set("outfall.alert.severity", alert.verdict.severity.name());
    document.set("outfall.alert.confidence", alert.verdict.sureness.name());
    if alert.verdict.held {
        document.set("outfall.alert.learning", true);
    }
    if let Some(place) = &alert.verdict.place {
        document.set_some("destination.as.number", place.system.map(u64::from));
        document.set_some("destination.as.organization.name", place.organization.as_deref());
        document.set_some("destination.geo.country_iso_code", place.country.as_deref());
    }
    if alert.told > 1 {
        document.set("outfall.alert.told", alert.told);
    }
    if let Some(story) = &alert.story {
        story.write(&mut document);
    }
    document.set_some("outfall.alert.suppressed_by", alert.suppressed.as_deref());
    for (presence, path) in [
        (Presence::Present, "outfall.alert.legs.present"),
        (Presence::Absent, "outfall.alert.legs.absent"),
        (Presence::Missing, "outfall.alert.legs.missing"),
    ] {
        document.set_list(path, alert.verdict.legs.of(presence).into_iter().map(|leg| leg.name()));
    }
    let notes = [alert.loss.map(|_| "sensor-loss"), alert.gaps.map(|_| "tap-gaps")];
    let notes: Vec<&str> = notes.into_iter().flatten().collect();
    if !notes.is_empty() {
        document.set_list("outfall.alert.notes", notes);
    }
    if let Some(gaps) = alert.gaps {
        document.set("outfall.alert.tap_gaps.missing_bytes", gaps.lost);
        document.set("outfall.alert.tap_gaps.per_million", gaps.per_million());
    }
    if let Some(loss) = alert.loss {
        document.set("outfall.alert.sensor_loss.lost_packets", loss.lost);
        document.set("outfall.alert.sensor_loss.per_million", loss.per_million());
    }
    document.set_list("outfall.reasons", alert.verdict.reasons.iter().map(Reason::document));
    if !alert.playbook.is_empty() {
        document.set_list("outfall.alert.playbook", alert.playbook.iter().map(String::as_str));
    }
    document
}
