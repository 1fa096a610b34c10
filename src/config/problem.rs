//! What is wrong with a configuration, and where: one line each.

use super::value::Node;
use std::fmt;
use std::ops::Range;
use toml::de::DeValue;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Read {
        /// The file's path.
        file: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{file}: expected a configuration file, found more than {limit} bytes")]
    TooLong {
        /// The file's path.
        file: String,
        /// The longest file that is read, in bytes.
        limit: u64,
    },
    /// Some of its text is refused.
    #[error("{}", lines(.problems, *.more))]
    Refused {
        /// The first problems in the order of the file, never none.
        problems: Vec<Problem>,
        /// How many there are besides.
        more: usize,
    },
}

fn lines(problems: &[Problem], more: usize) -> String {
    let mut lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    if let Some(problem) = problems.first().filter(|_| more > 0) {
        lines.push(format!("{}: {more} more problems", problem.file));
    }
    lines.join("\n")
}

/// One refused place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's path.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Section and key, unless the syntax is broken.
    pub key: Option<String>,
    /// What is wrong, on one line.
    pub message: String,
}

/// `outfall.toml:12:24: flow.idle_timeout: expected at least 1 s, found "0 s"`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Gathers the problems of one text.
pub struct Refusals<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Found>,
}

/// A problem whose place is still a byte offset.
struct Found {
    offset: usize,
    key: Option<String>,
    message: String,
}

impl<'a> Refusals<'a> {
    /// For the text of `file`.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// The value does not fit `key`: says what would, and quotes the value.
    pub fn expected(&mut self, node: &Node<'_>, key: &str, expected: &str) {
        let found = match node.get_ref() {
            DeValue::Array(items) if items.is_empty() => "an empty list".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            _ => excerpt(self.text.get(node.span()).unwrap_or_default()),
        };
        self.add(node.span().start, Some(key.to_owned()), format!("expected {expected}, found {found}"));
    }

    /// The text at `span` is no TOML.
    pub fn syntax(&mut self, span: Range<usize>, message: &str) {
        let at = match self.text.get(span.clone()).map(str::trim) {
            None | Some("") => String::new(),
            Some(at) => format!(" at `{}`", excerpt(at)),
        };
        self.add(span.start, None, format!("syntax error{at}: {message}"));
    }

    /// Adds the problem at a byte offset of the text.
    pub fn add(&mut self, offset: usize, key: Option<String>, message: String) {
        self.found.push(Found { offset, key, message: message.replace('\n', " ") });
    }

    /// The value, if nothing was refused.
    pub fn none_or<T>(mut self, value: T) -> Result<T, ConfigError> {
        // Enough to mend at one sitting; each costs a walk through the text to find its line.
        const MOST: usize = 50;
        if self.found.is_empty() {
            return Ok(value);
        }
        let more = self.found.len().saturating_sub(MOST);
        self.found.sort_by_key(|found| found.offset);
        self.found.truncate(MOST);
        let problems = self.found.into_iter().map(|found| problem(self.file, self.text, found)).collect();
        Err(ConfigError::Refused { problems, more })
    }
}

fn problem(file: &str, text: &str, found: Found) -> Problem {
    let before = text.get(..found.offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().trim_start_matches('\u{feff}').chars().count() + 1;
    Problem { file: file.to_owned(), line, column, key: found.key, message: found.message }
}

/// A key as the file would write it, so that an odd one cannot break the line or the terminal.
pub fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { excerpt(key) } else { format!("{:?}", excerpt(key)) }
}

fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}
