//! Public captures with known uploads: how many are found byte-exact, and that none is invented.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::process::Command;

use common::{available, binary, root, skip};

#[test]
fn uploads_of_the_corpus_are_byte_exact_and_none_is_invented() {
    let Some(output) = check(&[]) else { return };
    // uploads 187/187 exact, 0 invented
    let summary = output.lines().find(|line| line.starts_with("uploads ")).expect(&output);
    let numbers = numbers(summary);
    let &[exact, wanted, invented] = numbers.as_slice() else { panic!("not understood: {summary}") };
    assert!(wanted > 0 && exact == wanted && invented == 0, "{output}");
    let problems = output.lines().find(|line| line.contains("runs with a problem")).expect(&output);
    assert!(problems.ends_with("runs with a problem 0"), "{output}");
}

#[test]
fn no_hostile_capture_makes_the_program_crash_or_hang() {
    let Some(output) = check(&["--hostile"]) else { return };
    // hostile 116 captures, 0 crashed or hung
    let summary = output.lines().find(|line| line.starts_with("hostile ")).expect(&output);
    let numbers = numbers(summary);
    assert!(matches!(numbers.as_slice(), [1..=u64::MAX, 0]), "{output}");
}

/// What the corpus's own check says of the program; nothing where it cannot run.
fn check(options: &[&str]) -> Option<String> {
    let corpus = root().join("../shared/corpus");
    if !corpus.join("check.py").exists() {
        skip("corpus", "../shared/corpus is not there");
        return None;
    }
    if !available("python3") {
        skip("corpus", "python3 is not installed");
        return None;
    }
    let binary = binary().display().to_string();
    let mut command = Command::new("python3");
    command.arg(corpus.join("check.py")).arg(&corpus);
    command.arg(format!("'{}' replay --json {{capture}}", binary.replace('\'', r"'\''")));
    let output = command.arg("--quiet").args(options).output().expect("python3 runs");
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
