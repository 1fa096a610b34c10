//! The steps of a playbook: texts with placeholders.

use super::problem::Refusals;
use super::value::{List, Node, Setting, Shown, read_text};

/// Bytes of a step.
const LONGEST: usize = 400;
/// Placeholders in a step.
const MOST_PLACEHOLDERS: usize = 8;
/// Steps.
const MOST_STEPS: usize = 20;

/// A fact of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The host's name, or its address.
    Host,
    /// The host's address.
    Address,
    /// The image path of the process.
    Process,
    /// Its number.
    Pid,
    /// The account.
    User,
    /// Where it went.
    Destination,
    /// The path of the file, or its name.
    File,
    /// The file's hash.
    Sha256,
    /// `event.id`.
    AlertId,
    /// `low`, `medium`, `high` or `critical`.
    Severity,
    /// The protocol.
    Protocol,
    /// How much.
    Bytes,
    /// The command that would make an exception of it; a command by itself.
    ExceptionCommand,
}

impl Placeholder {
    /// All of them, each with its name.
    pub const ALL: [(&'static str, Self); 13] = [
        ("host", Self::Host),
        ("address", Self::Address),
        ("process", Self::Process),
        ("pid", Self::Pid),
        ("user", Self::User),
        ("destination", Self::Destination),
        ("file", Self::File),
        ("sha256", Self::Sha256),
        ("alert_id", Self::AlertId),
        ("severity", Self::Severity),
        ("protocol", Self::Protocol),
        ("bytes", Self::Bytes),
        ("exception_command", Self::ExceptionCommand),
    ];
}

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// Stands as it is.
    Text(&'t str),
    /// A fact; within backticks, it is a word of a command.
    Fact {
        /// Which.
        which: Placeholder,
        /// It stands within backticks.
        in_command: bool,
    },
}

/// Takes a step apart; says what is wrong with it.
///
/// # Errors
/// A placeholder that there is not, a brace or a backtick without its partner.
pub fn parts(step: &str) -> Result<Vec<Part<'_>>, String> {
    let (mut parts, mut rest, mut in_command) = (Vec::new(), step, false);
    while let Some(at) = rest.find(['{', '}', '`']) {
        let (before, from) = rest.split_at(at);
        parts.push(Part::Text(before));
        let doubled = ["{{", "}}"].into_iter().find(|doubled| from.starts_with(doubled));
        rest = if let Some(doubled) = doubled {
            parts.push(Part::Text(doubled.get(..1).unwrap_or_default()));
            from.get(2..).unwrap_or_default()
        } else if let Some(after) = from.strip_prefix('`') {
            in_command = !in_command;
            parts.push(Part::Text("`"));
            after
        } else {
            let inside = from.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let Some((name, after)) = inside else { return Err("a brace has no partner".to_owned()) };
            let known = Placeholder::ALL.into_iter().find(|(known, _)| *known == name);
            let Some((_, which)) = known else { return Err(format!("{{{name}}} is no placeholder")) };
            // It would undo the quote that the fact begins with.
            if in_command && before.ends_with(['\\', '$']) {
                return Err(format!("{{{name}}} in a command follows a backslash or a dollar sign"));
            }
            if which == Placeholder::ExceptionCommand && in_command {
                return Err("{exception_command} is a command by itself, and stands outside of backticks".to_owned());
            }
            parts.push(Part::Fact { which, in_command });
            after
        };
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    if in_command {
        return Err("a backtick has no partner".to_owned());
    }
    // Facts bring their own quotes; others around them would undo these.
    let mut commands = parts.split(|part| *part == Part::Text("`")).skip(1).step_by(2);
    let quotes = |part: &Part<'_>| matches!(part, Part::Text(text) if text.contains(['\'', '"']));
    let facts = |part: &Part<'_>| matches!(part, Part::Fact { .. });
    if commands.any(|command| command.iter().any(quotes) && command.iter().any(facts)) {
        return Err("a command with placeholders has quotes of its own".to_owned());
    }
    Ok(parts)
}

fn fault(step: &str) -> Option<String> {
    if step.trim().is_empty() || step.len() > LONGEST || step.chars().any(char::is_control) {
        return Some(format!("of 1 to {LONGEST} bytes on one line"));
    }
    match parts(step) {
        Err(why) => {
            let names: Vec<&str> = Placeholder::ALL.iter().map(|(name, _)| *name).collect();
            Some(format!("with placeholders among {} ({why})", names.join(", ")))
        }
        Ok(parts) => {
            let facts = parts.iter().filter(|part| matches!(part, Part::Fact { .. })).count();
            (facts > MOST_PLACEHOLDERS).then(|| format!("of {MOST_PLACEHOLDERS} placeholders at most"))
        }
    }
}

const STEP_LIST: List<String> = List {
    item: "a step such as \"contain: take {host} off the network\"",
    may_be_empty: true,
    read: |node, expected, key, refused| {
        let text = read_text(node, expected, key, refused, |text| Some(text.to_owned()))?;
        if let Some(fault) = fault(&text) {
            refused.expected(node, key, &format!("a step {fault}"));
            return None;
        }
        Some(text)
    },
};

/// The steps, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(pub Vec<String>);

impl Setting for Steps {
    type Rule = ();

    fn read(node: &Node<'_>, _rule: &(), key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        let steps = Vec::<String>::read(node, &STEP_LIST, key, refused)?;
        if steps.len() > MOST_STEPS {
            refused.expected(node, key, &format!("at most {MOST_STEPS} steps"));
            return None;
        }
        Some(Self(steps))
    }

    fn rule_text(_rule: &()) -> String {
        Vec::<String>::rule_text(&STEP_LIST)
    }

    fn shown(&self) -> Shown {
        self.0.shown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_apart_into_text_and_facts() {
        let fact = |which, in_command| Part::Fact { which, in_command };
        let found = parts("end {pid}: `kill {pid}` {{x}}").unwrap();
        let expected = [
            Part::Text("end "),
            fact(Placeholder::Pid, false),
            Part::Text(": "),
            Part::Text("`"),
            Part::Text("kill "),
            fact(Placeholder::Pid, true),
            Part::Text("`"),
            Part::Text(" "),
            Part::Text("{"),
            Part::Text("x"),
            Part::Text("}"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_placeholder_is_refused_with_its_place() {
        for (step, why) in [
            ("end {proces}", "{proces} is no placeholder"),
            ("end {pid", "no partner"),
            ("end pid}", "no partner"),
            ("`kill {pid}", "backtick"),
            ("`{exception_command}`", "by itself"),
            ("", "1 to 400 bytes"),
            ("`kill '{pid}'`", "quotes of its own"),
            ("`kill ${pid}`", "dollar sign"),
            ("`kill \\\\{pid}`", "backslash"),
            ("{pid}{pid}{pid}{pid}{pid}{pid}{pid}{pid}{pid}", "8 placeholders"),
        ] {
            let text = format!("[playbook]\nsteps = [\n  \"contain {{host}}\",\n  \"{step}\",\n]\n");
            let refused = crate::config::Config::parse(&text, "t.toml").unwrap_err().to_string();
            assert!(refused.starts_with("t.toml:4:3: playbook.steps: ") && refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn there_may_be_only_so_many_steps() {
        let steps = |count| format!("[playbook]\nsteps = [{}]\n", vec!["\"a\""; count].join(", "));
        assert!(crate::config::Config::parse(&steps(20), "t.toml").is_ok());
        let refused = crate::config::Config::parse(&steps(21), "t.toml").unwrap_err().to_string();
        assert!(refused.contains("at most 20"), "{refused}");
    }
}
