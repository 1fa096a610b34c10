//! The playbook: what is to be done about an alert, with its own facts.

use std::borrow::Cow;

use super::Alert;
use crate::config::{self, Part, Placeholder, parts};
use crate::endpoint::{printable, shortened};
use crate::join::Process;
use crate::net::ByteSize;

/// A fact in a sentence is cut to this many characters.
const SHOWN: usize = 160;
/// A fact in a command is not cut, as another command would come of it; a longer one is left out.
const LONGEST_WORD: usize = 1_024;

/// The steps of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Playbook {
    steps: Vec<String>,
}

impl Playbook {
    /// Of the configuration.
    pub fn new(config: &config::Playbook) -> Self {
        Self { steps: config.steps.0.clone() }
    }

    /// The steps with the alert's facts. Hostile texts are escaped; in a command, each is one word of a POSIX shell.
    pub fn render(&self, alert: &Alert) -> Vec<String> {
        self.steps.iter().map(|step| rendered(step, alert)).collect()
    }
}

fn rendered(step: &str, alert: &Alert) -> String {
    // The configuration has taken it apart before.
    let Ok(parts) = parts(step) else { return step.to_owned() };
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Fact { which: Placeholder::ExceptionCommand, .. } => text.push_str(&exception_command(alert)),
            Part::Fact { which, in_command } => match fact(which, alert) {
                Some(fact) if in_command => text.push_str(&word(&fact)),
                Some(fact) => text.push_str(&shortened(&fact, SHOWN)),
                None => text.push_str(if in_command { "'(not known)'" } else { unknown(which) }),
            },
        }
    }
    text
}

fn fact(which: Placeholder, alert: &Alert) -> Option<Cow<'_, str>> {
    let upload = &alert.upload;
    let process = alert.attribution.process();
    let of = |text: &dyn Fn(&Process) -> Option<String>| process.and_then(text).map(Cow::Owned);
    match which {
        Placeholder::Host => Some(host(alert).into()),
        Placeholder::Address => Some(upload.connection.client.address.to_string().into()),
        Placeholder::Process => of(&|process| process.image.as_deref().map(str::to_owned)),
        Placeholder::Pid => of(&|process| process.pid.map(|pid| pid.to_string())),
        Placeholder::User => of(&|process| process.user.as_deref().map(str::to_owned)),
        Placeholder::Destination => Some(destination(alert).into()),
        Placeholder::File => {
            let sent = || upload.files.first().and_then(|file| file.path.as_deref().or(file.name.as_deref()));
            alert.links.first().map(|link| link.path.as_ref()).or_else(sent).map(Cow::Borrowed)
        }
        Placeholder::Sha256 => {
            let file = upload.files.first().and_then(|file| file.sha256.as_deref());
            file.or(upload.body.sha256.as_deref()).map(Cow::Borrowed)
        }
        Placeholder::AlertId => Some(alert.id.to_string().into()),
        Placeholder::Severity => Some(alert.verdict.severity.name().into()),
        Placeholder::Protocol => Some(upload.protocol.name().into()),
        Placeholder::Bytes => Some(ByteSize(upload.bytes).to_string().into()),
        Placeholder::ExceptionCommand => None,
    }
}

/// What stands in a sentence for a fact that is not known.
fn unknown(which: Placeholder) -> &'static str {
    match which {
        Placeholder::Process => "the process",
        Placeholder::User => "the user",
        Placeholder::File => "the file",
        _ => "not known",
    }
}

fn host(alert: &Alert) -> String {
    let named = alert.attribution.host().map(|host| host.name.as_ref().unwrap_or(&host.id).to_string());
    named.unwrap_or_else(|| alert.upload.connection.client.address.to_string())
}

fn destination(alert: &Alert) -> String {
    let upload = &alert.upload;
    let name = upload.domain.as_deref().or(upload.proxied_to.as_deref());
    name.map_or_else(|| upload.connection.server.address.to_string(), str::to_owned)
}

/// One word for a shell, whatever is in it.
fn word(text: &str) -> String {
    let safe = printable(text);
    if safe.len() > LONGEST_WORD {
        return "'(too long)'".to_owned();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '/' | '@' | '+' | ',' | '-');
    if safe.chars().all(plain) && !safe.is_empty() && !safe.starts_with('-') {
        return safe.into_owned();
    }
    // Single quotes, as paths are full of backslashes; control characters are escaped by now.
    format!("'{}'", safe.replace('\'', r"'\''"))
}

/// `outfall exception add --process ... --destination ...`, as narrow as the alert's facts allow.
fn exception_command(alert: &Alert) -> String {
    let mut command = "outfall exception add".to_owned();
    let mut option = |name: &str, value: Option<String>| {
        // A bracket in a path is no pattern.
        if let Some(value) = value.filter(|value| !value.is_empty() && value.len() <= LONGEST_WORD) {
            command.push_str(&format!(" --{name} {}", word(&value)));
        }
    };
    let process = alert.attribution.process();
    let image = process.and_then(|process| process.image.as_deref());
    option("process", image.map(literal));
    option("destination", Some(destination(alert)));
    option("host", Some(literal(&host(alert))));
    command.push_str(" --owner NAME --justification WHY --expires 90d");
    command
}

/// A pattern that fits this text alone.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' => pattern.extend(['[', c, ']']),
            c => pattern.push(c),
        }
    }
    pattern
}
