//! The map of the modules, as DESIGN.md has it: a module uses only modules above it.
//!
//! Paths are read from the source text, in test code too; comments and strings do not count.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the top of the map to the bottom.
const MAP: &[&str] = &[
    "net", "config", "record", "capture", "packet", "flow", "protocol", "endpoint", "join", "detect", "alert", "store",
    "deliver", "evidence", "report", "metrics", "sensor", "helper", "cli",
];

/// What the binaries use of the library: they only parse and dispatch.
const DISPATCH: &[&str] = &["helper", "cli"];

/// The files that may hold unsafe code, each of which says why it is sound.
const UNSAFE: &[&str] = &[
    "capture/live/blocks.rs",
    "capture/live/bpf.rs",
    "capture/live/system.rs",
    "capture/near.rs",
    "helper/windows/console.rs",
    "helper/windows/drives.rs",
    "helper/windows/handle.rs",
    "helper/windows/handles.rs",
    "helper/windows/host.rs",
    "helper/windows/library.rs",
    "helper/windows/oplock.rs",
    "helper/windows/process.rs",
    "helper/windows/service.rs",
    "helper/windows/subscription.rs",
    "helper/windows/tcp.rs",
    "helper/windows/trace.rs",
    "helper/windows/watch.rs",
];

/// A longer file has more than one subject.
const MOST_LINES: usize = 700;

#[test]
fn a_module_uses_only_modules_above_it_in_the_map() {
    assert_none(sources().iter().flat_map(|(file, text)| misuses(file, text)));
}

#[test]
fn the_library_declares_its_modules_in_the_order_of_the_map() {
    let declared = declarations(&std::fs::read_to_string(source_folder().join("lib.rs")).unwrap());
    let places: Vec<Option<usize>> = declared.iter().map(|module| place(module)).collect();
    assert!(places.is_sorted() && !places.contains(&None), "src/lib.rs declares {declared:?}");
}

#[test]
fn every_part_of_the_source_is_in_the_map() {
    let allowed: BTreeSet<&str> = MAP.iter().copied().chain(["lib", "main", "bin", "resources"]).collect();
    assert_none(entries(&source_folder()).into_iter().filter_map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (!allowed.contains(name.as_str())).then(|| format!("{}: not in the map", path.display()))
    }));
}

#[test]
fn unsafe_code_is_only_in_files_that_are_listed() {
    let sources = sources();
    assert_none(sources.iter().filter(|(file, _)| !UNSAFE.contains(&file.as_str())).flat_map(|(file, text)| {
        unsafe_lines(text).into_iter().map(move |line| format!("src/{file}:{line}: unsafe code"))
    }));
    for listed in UNSAFE {
        let found = sources.iter().find(|(file, _)| file == listed);
        assert!(found.is_some_and(|(_, text)| !unsafe_lines(text).is_empty()), "{listed} need not be listed any more");
    }
}

#[test]
fn no_file_of_the_source_is_too_long() {
    assert_none(sources().into_iter().filter_map(|(file, text)| {
        let lines = text.lines().count();
        (lines > MOST_LINES).then(|| format!("src/{file}:{MOST_LINES}: has {lines} lines, at most {MOST_LINES}"))
    }));
}

#[test]
fn a_use_of_a_lower_module_is_found_however_it_is_written() {
    for (file, text) in [
        ("flow/table.rs", "use crate::protocol::Fact;"),
        ("flow/table.rs", "use crate::{net::Timestamp, protocol};"),
        ("flow/table.rs", "use {crate::net, crate::protocol::{self, Fact}};"),
        ("flow/table.rs", "fn f() -> crate::protocol::Fact { todo() }"),
        ("flow/table.rs", "fn f() { crate :: protocol :: g() }"),
        ("flow/table.rs", "use super::super::protocol;"),
        ("flow/table.rs", "use super::{half::Half, super::{protocol::Fact}};"),
        ("flow/table.rs", "use self::super::super::protocol;"),
        ("flow/table.rs", "mod tests { use super::super::super::protocol; }"),
        ("flow/table.rs", "pub use crate::protocol as p;"),
        ("flow/mod.rs", "use super::protocol;"),
        ("flow.rs", "use super::protocol;"),
        ("flow/deep/er.rs", "const Q: char = '\"'; use super::super::super::protocol; // \""),
        ("flow/mod.rs", "macro_rules! m { () => { $crate::protocol::f() } }"),
        ("flow/mod.rs", "fn f<'a>(x: &'a str) -> char { '\\'' } use crate::protocol;"),
        ("flow/mod.rs", "#[cfg(test)] mod tests { use crate::protocol::Fact; }"),
    ] {
        let found = misuses(file, text);
        assert_eq!(found, [format!("src/{file}:1: flow uses protocol, which is below it in the map")], "{text}");
    }
    assert_eq!(
        misuses("net/mod.rs", "//! Of the net.\n\nuse std::io;\nuse crate::cli;\n"),
        ["src/net/mod.rs:4: net uses cli, which is below it in the map"]
    );
}

#[test]
fn a_use_that_goes_round_the_map_is_found() {
    for text in ["use crate::*;", "use crate as root;", "use super::*;", "use crate::{self};", "use crate::VERSION;"] {
        assert_eq!(misuses("flow/mod.rs", text).len(), 1, "{text}");
    }
    assert_eq!(misuses("main.rs", "use outfall::sensor::Replay;").len(), 1);
    assert_eq!(misuses("main.rs", "use outfall::{cli, join};").len(), 1);
    assert_eq!(misuses("bin/outfall-helper.rs", "fn main() { outfall::flow::f() }").len(), 1);
}

#[test]
fn a_use_of_a_higher_module_or_of_the_own_one_is_no_offence() {
    for (file, text) in [
        ("flow/table.rs", "use crate::{config, net::{Endpoint, Timestamp}, record::*};"),
        ("flow/table.rs", "use super::{Link, half::Half}; use super::timer; use crate::flow::Moment;"),
        ("flow/table.rs", "mod tests { use super::super::*; use super::*; }"),
        ("flow/table.rs", "use crate::net::{Timestamp as Time, Endpoint as _};"),
        ("flow/table.rs", "//! [`Fact`](crate::protocol::Fact)\n/* crate::protocol /* crate::cli */ crate::join */"),
        ("flow/table.rs", "const A: &str = \"crate::protocol\"; const B: &str = r#\"\"crate::cli\"#;"),
        (
            "flow/table.rs",
            "pub(crate) fn f(self) { self.protocol(); other::protocol(); } pub(in crate::flow) fn g() {}",
        ),
        ("main.rs", "use outfall::cli; fn main() { outfall::cli::run(); crate::local() }"),
        ("cli/replay.rs", "use crate::sensor::Replay;"),
    ] {
        assert_eq!(misuses(file, text), [""; 0], "{text}");
    }
}

#[test]
fn unsafe_code_is_found_and_its_denial_is_not() {
    assert_eq!(unsafe_lines("//! unsafe\n#![allow(unsafe_code)]\nfn f() { unsafe { g() } }"), [2, 3]);
    assert_eq!(unsafe_lines("#[expect(dead_code, unsafe_code)]\nconst A: &str = \"unsafe\";"), [1]);
    assert_eq!(unsafe_lines("#![deny(unsafe_code)]\n#![forbid(unsafe_code)]"), [0; 0]);
}

/// Fails with every offence on a line of its own.
#[track_caller]
fn assert_none(offences: impl IntoIterator<Item = String>) {
    let offences: Vec<String> = offences.into_iter().collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// Each use of a module that the file has no right to.
fn misuses(file: &str, text: &str) -> Vec<String> {
    let path = module_path(file);
    let offence = |(line, module): (usize, String)| {
        let problem = match (path.first(), place(&module)) {
            (_, None) => format!("uses `{module}` of the crate's root, which is no module of the map"),
            (None, Some(_)) if DISPATCH.contains(&module.as_str()) => return None,
            (None, Some(_)) => format!("uses {module}, but a binary only parses and dispatches"),
            (Some(own), Some(below)) if place(own).is_some_and(|own| own < below) => {
                format!("{own} uses {module}, which is below it in the map")
            }
            (Some(_), Some(_)) => return None,
        };
        Some(format!("src/{file}:{line}: {problem}"))
    };
    let mut offences: Vec<String> = root_uses(text, &path).into_iter().filter_map(offence).collect();
    // Several names of one module on one line are one offence.
    offences.dedup();
    offences
}

fn place(module: &str) -> Option<usize> {
    MAP.iter().position(|known| *known == module)
}

/// The path of a file's module from the crate's root; empty for the root of the library or of a binary.
fn module_path(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if path.first().is_some_and(|first| first == "bin") || path == ["lib"] || path == ["main"] {
        return Vec::new();
    }
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

/// Line and first part of every path in the text that goes through the root of the library.
fn root_uses(text: &str, path: &[String]) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let at = |n: usize| tokens.get(n).map(|(_, token)| token);
    let word = |n: usize| at(n).and_then(Token::word);
    // A binary's own root is none of the library's business.
    let root = if path.is_empty() { "outfall" } else { "crate" };
    let mut leaves = Vec::new();
    // The names of the inline modules around this place, each with the depth of braces outside.
    let mut inline: Vec<(&str, usize)> = Vec::new();
    let (mut depth, mut n) = (0_usize, 0);
    while let Some(token) = at(n) {
        let begins = n == 0 || at(n - 1) != Some(&Token::Colons);
        let goes_on = at(n + 1) == Some(&Token::Colons);
        match token {
            Token::Mark('{') => {
                if n >= 2
                    && word(n - 2) == Some("mod")
                    && let Some(name) = word(n - 1)
                {
                    inline.push((name, depth));
                }
                depth += 1;
            }
            Token::Mark('}') => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|(_, outside)| *outside == depth);
            }
            Token::Word(start) if begins && start == root && (goes_on || word(n + 1) == Some("as")) => {
                n = read_tree(&tokens, n + 1, Vec::new(), &mut leaves);
                continue;
            }
            Token::Word(start) if begins && goes_on && !path.is_empty() && (start == "super" || start == "self") => {
                let here = path.iter().cloned().chain(inline.iter().map(|(name, _)| (*name).to_owned()));
                n = read_tree(&tokens, n, here.collect(), &mut leaves);
                continue;
            }
            _ => {}
        }
        n += 1;
    }
    leaves.into_iter().map(|(line, path)| (line, path.into_iter().next().unwrap_or_default())).collect()
}

/// Reads the path that goes on at token `n` from the module `path`, with all branches in braces, and adds the full
/// path of each leaf with its line. Gives the place of the token after it.
fn read_tree(
    tokens: &[(usize, Token)],
    mut n: usize,
    mut path: Vec<String>,
    leaves: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let line = tokens.get(n).map_or(0, |(line, _)| *line);
    loop {
        match tokens.get(n).map(|(_, token)| token) {
            Some(Token::Colons) => {}
            Some(Token::Word(word)) if word == "super" => drop(path.pop()),
            Some(Token::Word(word)) if word == "self" => {}
            Some(Token::Word(word)) if word == "as" => {
                leaves.push((line, path));
                return n;
            }
            Some(Token::Word(word)) => path.push(word.clone()),
            Some(Token::Mark('*')) => path.push("*".to_owned()),
            Some(Token::Mark('{')) => {
                n += 1;
                loop {
                    match tokens.get(n).map(|(_, token)| token) {
                        None => return n,
                        Some(Token::Mark('}')) => return n + 1,
                        // A leaf's other name: `Ending as End`.
                        Some(Token::Word(word)) if word == "as" => n += 2,
                        Some(Token::Word(_) | Token::Mark('*' | '{')) => {
                            n = read_tree(tokens, n, path.clone(), leaves);
                        }
                        Some(_) => n += 1,
                    }
                }
            }
            _ => {}
        }
        n += 1;
        // A part is followed by colons or ends the path; colons are followed by a part.
        let ends = |token: &Token| *token != Token::Colons && tokens.get(n - 1).is_some_and(|t| t.1 != Token::Colons);
        if tokens.get(n).is_none_or(|(_, token)| ends(token)) {
            leaves.push((line, path));
            return n;
        }
    }
}

/// The modules that a library's root declares, in order.
fn declarations(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let names = tokens.windows(3).filter(|three| three[0].1.word() == Some("mod") && three[2].1 == Token::Mark(';'));
    names.filter_map(|three| three[1].1.word().map(str::to_owned)).collect()
}

/// The lines on which unsafe code stands or is allowed.
fn unsafe_lines(text: &str) -> Vec<usize> {
    let tokens = tokens(text);
    let denied = |n: usize| n >= 2 && matches!(tokens[n - 2].1.word(), Some("deny" | "forbid"));
    let mut lines: Vec<usize> = (0..tokens.len())
        .filter(|n| match tokens[*n].1.word() {
            Some("unsafe") => true,
            Some("unsafe_code") => !denied(*n),
            _ => false,
        })
        .map(|n| tokens[n].0)
        .collect();
    lines.dedup();
    lines
}

/// What the scanner sees of Rust: names, `::`, and all other marks one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Colons,
    Mark(char),
}

impl Token {
    fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The tokens with their lines, from 1; without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let word = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        let length = match rest {
            ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => quoted(rest, '"'),
            ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
            ['\'', ..] => 1 + rest[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
            [':', ':', ..] => {
                tokens.push((line, Token::Colons));
                2
            }
            _ if word > 0 => {
                let name: String = rest[..word].iter().collect();
                match raw_string(&name, &rest[word..]) {
                    Some(length) => word + length,
                    None => {
                        tokens.push((line, Token::Word(name)));
                        word
                    }
                }
            }
            [mark, ..] => {
                if !mark.is_whitespace() {
                    tokens.push((line, Token::Mark(*mark)));
                }
                1
            }
            [] => 1,
        };
        let end = (at + length).min(chars.len());
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn block_comment(text: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(text: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of what follows the prefix of a raw string.
fn raw_string(prefix: &str, text: &[char]) -> Option<usize> {
    let hashes = text.iter().take_while(|c| **c == '#').count();
    if !matches!(prefix, "r" | "br" | "cr") || text.get(hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = &text[hashes + 1..];
    let length = body.windows(end.len()).position(|window| window == end).unwrap_or(body.len());
    Some(hashes + 1 + length + end.len())
}

/// Every source file by its path below `src/`, with its text.
fn sources() -> Vec<(String, String)> {
    fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
        for path in entries(folder) {
            if path.is_dir() {
                gather(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let folder = source_folder();
    let mut files = Vec::new();
    gather(&folder, &mut files);
    let name = |file: &Path| file.strip_prefix(&folder).unwrap().to_string_lossy().replace('\\', "/");
    let sources: Vec<_> = files.iter().map(|file| (name(file), std::fs::read_to_string(file).unwrap())).collect();
    assert!(sources.iter().any(|(file, _)| file == "lib.rs"), "{} has no lib.rs", folder.display());
    sources
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
