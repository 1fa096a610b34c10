//! What an import or a renewal changes.

use std::collections::BTreeMap;
use std::fmt;

use super::file::format_when;
use super::{Exception, ExceptionId};

/// A difference between two lists of exceptions.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// It is new.
    Added(Exception),
    /// It says something else.
    Changed {
        /// What it will be.
        exception: Exception,
        /// Each part that changes, before and after.
        what: String,
    },
    /// It is there no longer.
    Removed(Exception),
}

impl Difference {
    /// What is added, changed or removed, without the identifier.
    pub fn what(&self) -> String {
        match self {
            Self::Added(exception) | Self::Removed(exception) => described(exception),
            Self::Changed { what, .. } => what.clone(),
        }
    }
}

/// `+ EX-0007 process ..., until ...`, `~ EX-0007 expires: ... -> ...` or `- EX-0007 ...`
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, id) = match self {
            Self::Added(exception) => ('+', exception.id),
            Self::Changed { exception, .. } => ('~', exception.id),
            Self::Removed(exception) => ('-', exception.id),
        };
        write!(f, "{sign} {id} {}", self.what())
    }
}

/// What turns `before` into `after`, in the order of the identifiers.
pub fn differences(before: &[Exception], after: &[Exception]) -> Vec<Difference> {
    let by_id = |list: &[Exception]| -> BTreeMap<ExceptionId, Exception> {
        list.iter().map(|exception| (exception.id, exception.clone())).collect()
    };
    let (mut before, after) = (by_id(before), by_id(after));
    let mut found: BTreeMap<ExceptionId, Difference> = BTreeMap::new();
    for (id, exception) in after {
        match before.remove(&id) {
            None => drop(found.insert(id, Difference::Added(exception))),
            Some(old) if old == exception => {}
            Some(old) => {
                let what = changes(&old, &exception);
                found.insert(id, Difference::Changed { exception, what });
            }
        }
    }
    found.extend(before.into_iter().map(|(id, exception)| (id, Difference::Removed(exception))));
    found.into_values().collect()
}

/// What an exception covers, for whom and until when, on one line.
pub fn described(exception: &Exception) -> String {
    let mut parts: Vec<String> =
        exception.scope.parts().into_iter().map(|(name, text)| format!("{name} {text}")).collect();
    if exception.broad {
        parts.push("broad".to_owned());
    }
    format!("{}, owner {}, until {}", parts.join(", "), exception.owner, format_when(exception.expires))
}

fn changes(before: &Exception, after: &Exception) -> String {
    let (before, after) = (values(before), values(after));
    let pairs = before.into_iter().zip(after).filter(|(before, after)| before != after);
    let texts: Vec<String> = pairs.map(|((name, before), (_, after))| format!("{name}: {before} -> {after}")).collect();
    texts.join("; ")
}

fn values(exception: &Exception) -> [(&'static str, String); 11] {
    let Exception { id: _, scope, broad, owner, justification, created, expires } = exception;
    let text = |part: Option<String>| part.unwrap_or_else(|| "any".to_owned());
    [
        ("process", text(scope.process.as_ref().map(ToString::to_string))),
        ("destination", text(scope.destination.as_ref().map(ToString::to_string))),
        ("host", text(scope.host.as_ref().map(ToString::to_string))),
        ("user", text(scope.user.as_ref().map(ToString::to_string))),
        ("protocol", text(scope.protocol.clone())),
        ("ceiling", scope.ceiling.map_or_else(|| "none".to_owned(), |bytes| format!("{} B a day", bytes.0))),
        ("broad", broad.to_string()),
        ("owner", owner.clone()),
        ("justification", justification.clone()),
        ("created", format_when(*created)),
        ("expires", format_when(*expires)),
    ]
}
