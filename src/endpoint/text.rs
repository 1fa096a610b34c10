//! Text that strangers wrote: shown safely, and its file names taken apart.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character that could move a terminal's cursor, hide or reorder text written as an escape.
///
/// Escaped are control characters, line and paragraph separators, and the invisible and bidirectional format
/// characters; a backslash stays as it is, as Windows paths are full of them.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if is_hidden(c) => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// The printable form, cut to at most `limit` characters of which the last then is an ellipsis.
pub fn shortened(text: &str, limit: usize) -> String {
    let safe = printable(text);
    if safe.chars().count() <= limit {
        return safe.into_owned();
    }
    let mut cut: String = safe.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The last part of a Windows or Unix path; empty if the path ends in a separator.
pub fn base_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_drive_a_terminal_is_escaped() {
        assert_eq!(printable("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(printable("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        let text = "C:\\Users\\Jörg\\日本.7z";
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn shortening_counts_characters_not_bytes() {
        assert_eq!(shortened("äöüäöü", 4), "äöü…");
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("abc", 0), "…");
    }

    #[test]
    fn a_base_name_is_found_in_both_kinds_of_path() {
        assert_eq!(base_name("C:\\a\\b.txt"), "b.txt");
        assert_eq!(base_name("/srv/up/b.txt"), "b.txt");
        assert_eq!(base_name("b.txt"), "b.txt");
        assert_eq!(base_name("a/"), "");
    }
}
