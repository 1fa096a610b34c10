//! Remote paths: the working directory and what commands do to it.

/// Joins a directory, if it is known, and an argument; `.` and `..` are resolved. Without a known
/// directory a relative argument stays as it is.
pub(super) fn join(directory: Option<&str>, argument: &str) -> String {
    if argument.starts_with('/') || is_windows_absolute(argument) {
        return normal(argument);
    }
    match directory {
        Some(directory) => normal(&format!("{}/{argument}", directory.trim_end_matches('/'))),
        None => argument.to_owned(),
    }
}

/// `C:\dir` or `\dir`, as servers on Windows take them.
fn is_windows_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.first() == Some(&b'\\') || (bytes.get(1) == Some(&b':') && bytes.first().is_some_and(u8::is_ascii_alphabetic))
}

fn normal(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The path in a 257 reply: `"/a ""quoted"" dir" is the current directory` (RFC 959 appendix II).
pub(super) fn quoted(text: &str) -> Option<String> {
    let rest = text.get(text.find('"')? + 1..)?;
    let mut path = String::new();
    let mut characters = rest.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if characters.peek() == Some(&'"') => {
                characters.next();
                path.push('"');
            }
            '"' => return Some(path),
            other => path.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_join_the_working_directory() {
        assert_eq!(join(Some("/in"), "a.zip"), "/in/a.zip");
        assert_eq!(join(Some("/in/x"), "../a.zip"), "/in/a.zip");
        assert_eq!(join(Some("/"), ".."), "/");
        assert_eq!(join(Some("/in"), "/etc//a"), "/etc/a");
        assert_eq!(join(None, "a/b.zip"), "a/b.zip");
        assert_eq!(join(Some("/in"), r"C:\a.zip"), r"C:\a.zip");
    }

    #[test]
    fn quotes_in_a_directory_name_are_doubled() {
        assert_eq!(quoted(r#""/a ""b"" c" is current"#).as_deref(), Some(r#"/a "b" c"#));
        assert_eq!(quoted("no quotes"), None);
    }
}
