//! One alert, with all that its document says and an analyst asks first.

use maud::{Markup, html};
use serde_json::Value;

use crate::detect::Severity;
use crate::endpoint::printable;
use crate::net::ByteSize;
use crate::store::AlertRow;

/// Files and reasons that are listed of an alert; the rest is counted.
const LISTED: usize = 50;

/// Text that a stranger may have chosen: control characters and invisible ones are shown, not sent. The page escapes it.
pub(super) fn shown(text: &str) -> String {
    printable(text).into_owned()
}

/// RFC 3339 as people read it, to the second.
pub(super) fn clock(time: &str) -> String {
    let seconds = time.get(..19).filter(|_| time.ends_with('Z'));
    seconds.map_or_else(|| shown(time), |seconds| shown(&format!("{} UTC", seconds.replace('T', " "))))
}

struct Facts<'a>(&'a Value);

impl Facts<'_> {
    fn text(&self, pointer: &str) -> Option<String> {
        let value = self.0.pointer(pointer)?;
        let text = value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()))?;
        (!text.is_empty()).then(|| shown(&text))
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.0.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn size(&self, pointer: &str) -> Option<String> {
        Some(ByteSize(self.0.pointer(pointer)?.as_u64()?).to_string())
    }

    fn process(&self, at: &str) -> Option<String> {
        let name = self.text(&format!("{at}/executable")).or_else(|| self.text(&format!("{at}/name")))?;
        let pid = self.text(&format!("{at}/pid")).map(|pid| format!(" (pid {pid})"));
        Some(format!("{name}{}", pid.unwrap_or_default()))
    }

    fn user(&self) -> Option<String> {
        let name = self.text("/user/name")?;
        Some(self.text("/user/domain").map_or_else(|| name.clone(), |domain| format!("{domain}\\{name}")))
    }

    fn end(&self, side: &str) -> Option<String> {
        let address = self.text(&format!("/{side}/ip"))?;
        let port = self.text(&format!("/{side}/port")).unwrap_or_default();
        let name = self.text(&format!("/{side}/domain")).map(|name| format!("{name}, ")).unwrap_or_default();
        Some(if address.contains(':') {
            format!("{name}[{address}]:{port}")
        } else {
            format!("{name}{address}:{port}")
        })
    }
}

/// The alert as an article; `number` makes its anchors.
pub(super) fn article(number: usize, row: &AlertRow) -> Markup {
    let document = serde_json::from_str::<Value>(&row.document).unwrap_or(Value::Null);
    let facts = Facts(&document);
    let severity = Severity::of(row.severity).name();
    let heading = format!("alert-{number}");
    let join = facts.text("/outfall/join/rule").zip(facts.text("/outfall/join/confidence"));
    let why = facts.text("/outfall/join/why").or_else(|| facts.text("/outfall/join/text"));
    let known = [
        ("Time", Some(clock(&row.time))),
        ("From", facts.end("source")),
        ("Host", facts.text("/host/name")),
        ("To", facts.end("destination")),
        ("Protocol", facts.text("/network/protocol")),
        ("Sent", facts.size("/outfall/upload/bytes")),
        ("Process", facts.process("/process").or_else(|| why.map(|why| format!("not known: {why}")))),
        ("Linked by", join.map(|(rule, confidence)| format!("{rule}, {confidence}"))),
        ("Account", facts.user()),
        ("Command", facts.text("/process/command_line")),
        ("Parent", facts.process("/process/parent")),
        ("Alert", Some(shown(&row.event_id))),
    ];
    let title = facts.text("/message").unwrap_or_else(|| format!("{severity} alert {}", shown(&row.event_id)));
    let title = title.split_once(": ").map_or(title.clone(), |(head, _)| head.to_owned());
    let title = title.split_once(' ').map_or(title.clone(), |(_, rest)| rest.to_owned());
    let title = title.replacen(" -> ", " \u{2192} ", 1);
    html! {
        article.alert.(severity) aria-labelledby=(heading) {
            h3 id=(heading) {
                span.badge.(severity) { (severity) }
                " " (title)
            }
            @if let Some(exception) = &row.suppressed_by {
                p.note { "Covered by the exception " b { (shown(exception)) } ": it was kept, and not sent." }
            }
            dl {
                @for (name, value) in known {
                    @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
                }
            }
            @let reasons = facts.list("/outfall/reasons");
            @if !reasons.is_empty() {
                h4 { "Reasons" }
                ul {
                    @for reason in reasons.iter().take(LISTED) {
                        @let reason = Facts(reason);
                        li {
                            code { (reason.text("/id").unwrap_or_default()) }
                            " " (reason.text("/text").unwrap_or_default())
                        }
                    }
                    (more(reasons.len()))
                }
            }
            (files(&facts, number))
            @let playbook = facts.list("/outfall/alert/playbook");
            @if !playbook.is_empty() {
                h4 { "Playbook" }
                ol {
                    @for step in playbook.iter().take(LISTED) {
                        li { (step.as_str().map(shown).unwrap_or_default()) }
                    }
                    (more(playbook.len()))
                }
            }
        }
    }
}

fn more(count: usize) -> Markup {
    html! { @if count > LISTED { li { (count - LISTED) " more are not listed" } } }
}

fn files(facts: &Facts<'_>, number: usize) -> Markup {
    let (sent, touched) = (facts.list("/outfall/files"), facts.list("/outfall/join/files"));
    if sent.is_empty() && touched.is_empty() {
        return Markup::default();
    }
    let beyond = sent.len().saturating_sub(LISTED) + touched.len().saturating_sub(LISTED);
    html! {
        h4 id={ "files-" (number) } { "Files" }
        div.wide role="region" tabindex="0" aria-labelledby={ "files-" (number) } {
            table {
                caption { "What was sent, and what of it was found on the host" }
                thead { tr {
                    th scope="col" { "File" } th scope="col" { "How" } th.number scope="col" { "Size" }
                    th scope="col" { "Type, or program" } th scope="col" { "Link" } th scope="col" { "SHA-256" }
                } }
                tbody {
                    @for file in sent.iter().take(LISTED) {
                        @let file = Facts(file);
                        tr {
                            th scope="row" {
                                (file.text("/path").or_else(|| file.text("/name")).unwrap_or_else(|| "(no name)".to_owned()))
                            }
                            td { "sent" }
                            td.number { (file.size("/size").unwrap_or_default()) }
                            td { (file.text("/detected_type").unwrap_or_default()) }
                            td {}
                            td.hash { (file.text("/hash/sha256").unwrap_or_default()) }
                        }
                    }
                    @for file in touched.iter().take(LISTED) {
                        @let file = Facts(file);
                        tr {
                            th scope="row" { (file.text("/path").unwrap_or_default()) }
                            td { (file.text("/op").unwrap_or_default()) }
                            td.number { (file.size("/size").unwrap_or_default()) }
                            td { (file.text("/process/name").unwrap_or_default()) }
                            td {
                                (file.text("/rule").unwrap_or_default()) ", "
                                (file.text("/confidence").unwrap_or_default())
                            }
                            td.hash { (file.text("/hash/sha256").unwrap_or_default()) }
                        }
                    }
                }
            }
        }
        @if beyond > 0 { p.note { (beyond) " more files are not listed; the alert in the database has them." } }
    }
}
