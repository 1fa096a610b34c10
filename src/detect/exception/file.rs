//! Exceptions as TOML, for version control.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{EXCEPTION_PROTOCOLS, Exception, ExceptionId, Scope};
use crate::net::{ByteSize, Span, Timestamp};

/// Problems that are listed; what comes after is counted.
const MOST: usize = 50;

const HEADER: &str = "\
# Exceptions of Outfall, for version control: `outfall exception export` writes this file, `outfall exception import` takes
# it up, all of it or nothing. A new exception has no `id`; `created` and `id` are Outfall's to give.
";

/// Why a file of exceptions was refused: one line for each problem, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionFileError {
    problems: Vec<String>,
    more: usize,
}

impl fmt::Display for ExceptionFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))?;
        if self.more > 0 { write!(f, "\n{} more problems", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for ExceptionFileError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(default)]
    exception: Vec<Spanned<Written>>,
}

#[derive(Serialize)]
struct File {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exception: Vec<Written>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ceiling: Option<Size>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    broad: bool,
    owner: String,
    justification: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<When>,
    expires: When,
}

/// A time as a text, or in TOML's own form, which has no quotes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum When {
    Text(String),
    Time(toml::value::Datetime),
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// A number of bytes, or a text such as `"5 MB"`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

/// A time as it is written: RFC 3339 in UTC, with no more digits than it needs.
pub fn format_when(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).map_or_else(|_| at.to_string(), |time| time.to_string())
}

/// Reads a time in RFC 3339, or a date, which stands for its beginning in UTC.
pub fn parse_when(text: &str) -> Option<Timestamp> {
    let day = || -> Option<jiff::Timestamp> {
        let date: jiff::civil::Date = text.parse().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    // A civil date and time without an offset is no point in time.
    let time = if text.len() > 10 { text.parse().ok() } else { day() };
    u64::try_from(time?.as_nanosecond()).ok().map(Timestamp)
}

/// The exceptions as a file, in the order of their identifiers: the same exceptions give the same file.
pub fn write_exceptions(exceptions: &[Exception]) -> String {
    let mut sorted: Vec<&Exception> = exceptions.iter().collect();
    sorted.sort_by_key(|exception| exception.id);
    let exception = sorted.into_iter().map(written).collect();
    // A table of texts and numbers can always be written.
    let body = toml::to_string(&File { exception }).unwrap_or_default();
    if body.is_empty() { HEADER.to_owned() } else { format!("{HEADER}\n{body}") }
}

fn written(exception: &Exception) -> Written {
    let Exception { id, scope, broad, owner, justification, created, expires } = exception;
    Written {
        id: Some(id.to_string()),
        process: scope.process.as_ref().map(ToString::to_string),
        destination: scope.destination.as_ref().map(ToString::to_string),
        host: scope.host.as_ref().map(ToString::to_string),
        user: scope.user.as_ref().map(ToString::to_string),
        protocol: scope.protocol.clone(),
        // TOML has no numbers beyond this.
        ceiling: scope.ceiling.map(|ceiling| match i64::try_from(ceiling.0) {
            Ok(_) => Size::Bytes(ceiling.0),
            Err(_) => Size::Text(format!("{} B", ceiling.0)),
        }),
        broad: *broad,
        owner: owner.clone(),
        justification: justification.clone(),
        created: Some(When::Text(format_when(*created))),
        expires: When::Text(format_when(*expires)),
    }
}

/// Reads a file of exceptions, which errors call `file`, as at `now`. New ones are given identifiers from `next` on. None may
/// hold for longer than `longest` from now; one that has expired is taken, and covers nothing.
///
/// # Errors
/// Everything that is wrong in the file; nothing of it counts then.
pub fn parse_exceptions(
    text: &str,
    file: &str,
    now: Timestamp,
    longest: Span,
    next: u32,
) -> Result<Vec<Exception>, ExceptionFileError> {
    let read: Read = toml::from_str(text).map_err(|error| {
        let at = place(text, error.span().map_or(0, |span| span.start));
        let message = error.message().replace('\n', ", ");
        ExceptionFileError { problems: vec![format!("{file}:{at}: {message}")], more: 0 }
    })?;
    let mut problems = Vec::new();
    let mut exceptions: Vec<Exception> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = next;
    let given = read.exception.iter().filter_map(|entry| entry.get_ref().id.as_ref()?.parse::<ExceptionId>().ok());
    if let Some(highest) = given.max() {
        next = next.max(highest.0.saturating_add(1));
    }
    for entry in read.exception {
        let at = place(text, entry.span().start);
        let known = entry.get_ref().id.clone();
        match exception(entry.into_inner(), now, &mut next) {
            Err(why) => problems.push((at, known, why)),
            Ok(exception) => {
                if !seen.insert(exception.id) {
                    problems.push((at, known, "stands in the file twice".to_owned()));
                } else if let Err(why) = exception.check(now, longest) {
                    problems.push((at, known, why.to_string()));
                } else {
                    exceptions.push(exception);
                }
            }
        }
    }
    if problems.is_empty() {
        return Ok(exceptions);
    }
    let more = problems.len().saturating_sub(MOST);
    let problems = problems.into_iter().take(MOST).map(|(at, id, why)| {
        let mut line = format!("{file}:{at}: ");
        if let Some(id) = id {
            let _ = write!(line, "{}: ", id.escape_debug());
        }
        line + &why
    });
    Err(ExceptionFileError { problems: problems.collect(), more })
}

fn exception(written: Written, now: Timestamp, next: &mut u32) -> Result<Exception, String> {
    fn read<T: std::str::FromStr>(name: &str, text: Option<String>) -> Result<Option<T>, String>
    where
        T::Err: fmt::Display,
    {
        text.map(|text| text.parse().map_err(|error| format!("{name}: {error}"))).transpose()
    }
    let time = |name: &str, text: &str| {
        parse_when(text).ok_or_else(|| {
            format!("{name}: expected a date or a time such as \"2027-03-31\", found \"{}\"", text.escape_debug())
        })
    };
    let ceiling = match written.ceiling {
        Some(Size::Bytes(bytes)) => Some(ByteSize(bytes)),
        Some(Size::Text(text)) => read("ceiling", Some(text))?,
        None => None,
    };
    let protocol = written.protocol.map(|name| protocol(&name)).transpose()?;
    let scope = Scope {
        process: read("process", written.process)?,
        destination: read("destination", written.destination)?,
        host: read("host", written.host)?,
        user: read("user", written.user)?,
        protocol,
        ceiling,
    };
    let created = written.created.map(|when| time("created", &when.to_string())).transpose()?.unwrap_or(now);
    let expires = time("expires", &written.expires.to_string())?;
    let id = match read("id", written.id)? {
        Some(id) => id,
        None => {
            let id = ExceptionId(*next);
            *next = next.saturating_add(1);
            id
        }
    };
    let Written { broad, owner, justification, .. } = written;
    Ok(Exception { id, scope, broad, owner, justification, created, expires })
}

/// A protocol that an exception can name.
fn protocol(name: &str) -> Result<String, String> {
    let known = EXCEPTION_PROTOCOLS.iter().find(|known| known.eq_ignore_ascii_case(name));
    let expected = || format!("protocol: expected one of {}, found \"{name}\"", EXCEPTION_PROTOCOLS.join(", "));
    known.map(|known| (*known).to_owned()).ok_or_else(expected)
}

/// Line and column of a byte, each from 1.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}
