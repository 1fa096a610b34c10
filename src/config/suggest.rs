//! What someone meant who wrote an unknown name.

use super::Config;

/// The message for a name that is no section.
pub fn unknown_section(name: &str, is_table: bool) -> String {
    let keys = all_keys();
    let sections: Vec<&str> = Config::default().sections().iter().map(|section| section.name).collect();
    let words = sections.iter().map(|section| (*section, *section));
    let meant = nearest(name, words.chain(keys.iter().map(|(_, key, path)| (*key, path.as_str()))));
    let kind = if is_table { "section" } else { "key" };
    match meant {
        Some(meant) => format!("unknown {kind}, did you mean \"{meant}\"?"),
        None => format!("unknown {kind}, known sections are {}", sections.join(", ")),
    }
}

/// The message for a name that is no key of `section`.
pub fn unknown_key(section: &str, name: &str) -> String {
    let keys = all_keys();
    let (here, elsewhere): (Vec<_>, Vec<_>) = keys.iter().partition(|(of, _, _)| *of == section);
    let known: Vec<&str> = here.iter().map(|(_, key, _)| *key).collect();
    // Of two keys that are equally near, the one of the same section comes first.
    let words = here.iter().chain(&elsewhere).map(|(_, key, path)| (*key, path.as_str()));
    unknown(nearest(name, words), &known)
}

/// The message for a name that is none of `known`.
pub fn unknown_name(name: &str, known: &[&str]) -> String {
    unknown(nearest(name, known.iter().map(|known| (*known, *known))), known)
}

fn unknown(meant: Option<&str>, known: &[&str]) -> String {
    match meant {
        Some(meant) => format!("unknown key, did you mean \"{meant}\"?"),
        None => format!("unknown key, known keys are {}", known.join(", ")),
    }
}

/// Every key as its section, its name and the path of both.
fn all_keys() -> Vec<(&'static str, &'static str, String)> {
    let config = Config::default();
    let keys = config.sections().into_iter().flat_map(|section| {
        section.entries.into_iter().map(move |entry| {
            let path = format!("{}.{}", section.name, entry.key);
            (section.name, entry.key, path)
        })
    });
    keys.collect()
}

/// Of pairs of a word and what to call it: the word nearest to `name`, if it may be a slip of it.
fn nearest<'a>(name: &str, words: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    // No known name is near that length, and the distance takes time that grows with it.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase().replace('-', "_");
    words
        .map(|(word, called)| (distance(&name, word), word, called))
        .filter(|(distance, word, _)| *distance <= (word.len() / 2).clamp(2, 4))
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, called)| called)
}

/// Levenshtein distance: how many characters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (above_left, ca) in a.chars().enumerate() {
        let (mut diagonal, mut left) = (above_left, above_left + 1);
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = left;
        }
        for (cell, cb) in cells.zip(b.chars()) {
            let above = *cell;
            left = (diagonal + usize::from(ca != cb)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_word_that_is_nothing_like_any_other_has_no_nearest() {
        let nearest = |name: &str| nearest(name, [("idle_timeout", "flow.idle_timeout")].into_iter());
        assert_eq!(nearest("Idle-Timeuot"), Some("flow.idle_timeout"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"x".repeat(100_000)), None);
    }
}
