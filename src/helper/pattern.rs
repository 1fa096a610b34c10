//! Patterns of Windows paths and names.

use serde::{Deserialize, Deserializer};

/// A text with `*` for any text and `?` for one character; upper and lower case are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl Pattern {
    /// From its text. Every text is a pattern.
    pub fn new(text: &str) -> Self {
        let mut chars: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        // A run of stars means what one means, and would only take time.
        chars.dedup_by(|a, b| *a == '*' && *b == '*');
        Self(chars)
    }

    /// Whether the whole of `text`, already folded by [`folded`], matches. Takes time in proportion to the product of
    /// both lengths at most.
    pub fn matches(&self, text: &[char]) -> bool {
        // Most texts differ from a pattern such as `*.dll` in their last characters.
        let ends = self.0.iter().rev().zip(text.iter().rev()).take_while(|(p, _)| **p != '*');
        if ends.into_iter().any(|(p, c)| *p != '?' && p != c) {
            return false;
        }
        let (mut at, mut place) = (0, 0);
        // Where the last star stands, and what it has swallowed so far.
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = text.get(at) {
            match self.0.get(place) {
                Some('*') => {
                    star = Some((place, at));
                    place += 1;
                }
                Some(p) if *p == '?' || p == c => {
                    at += 1;
                    place += 1;
                }
                _ => match &mut star {
                    None => return false,
                    Some((back, swallowed)) => {
                        *swallowed += 1;
                        at = *swallowed;
                        place = *back + 1;
                    }
                },
            }
        }
        self.0.get(place..).is_none_or(|rest| rest.iter().all(|c| *c == '*'))
    }
}

/// A text as [`Pattern::matches`] takes it.
pub fn folded(text: &str) -> Vec<char> {
    // What nearly all paths are made of, at a tenth of the time.
    if text.is_ascii() {
        return text.bytes().map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    }
    text.chars().flat_map(char::to_lowercase).collect()
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).matches(&folded(text))
    }

    #[test]
    fn stars_and_question_marks_match_and_case_does_not_matter() {
        assert!(matches(r"?:\Windows\*", r"c:\WINDOWS\System32\a.dll"));
        assert!(!matches(r"?:\Windows\*", r"C:\Users\Windows\a"));
        assert!(matches("*.7z", "A.7Z") && !matches("*.7z", "a.7z.txt"));
        assert!(matches("*", "") && matches("", "") && !matches("", "a") && !matches("?", ""));
        assert!(matches(r"*\Jörg\*", r"C:\Users\JÖRG\x"));
    }

    /// The obvious matcher, which takes exponential time.
    fn simple(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => simple(rest, text) || text.split_first().is_some_and(|(_, t)| simple(pattern, t)),
            (Some((p, rest)), Some((c, tail))) if *p == '?' || p == c => simple(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_as_the_obvious_matcher_does(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches(&pattern, &text), simple(&folded(&pattern), &folded(&text)));
        }
    }
}
