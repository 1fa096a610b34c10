//! What the program is built from: permissive licences only, as `deny.toml` lists them, and from the registry only.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::process::Command;

use common::{root, skip};
use serde_json::Value;

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = allowed();
    let packages = packages("licences");
    let refused: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or_default();
            let fits = satisfied(licence, &|name| allowed.iter().any(|allowed| allowed == name));
            (fits != Ok(true)).then(|| format!("{} {}: {licence:?}: {fits:?}", package["name"], package["version"]))
        })
        .collect();
    assert!(refused.is_empty(), "\n{}", refused.join("\n"));
}

#[test]
fn no_licence_that_binds_the_user_is_on_the_list() {
    let binding = ["GPL", "MPL", "EPL", "CDDL", "EUPL", "OSL", "SSPL", "BUSL", "CC-BY"];
    let listed: Vec<String> =
        allowed().into_iter().filter(|licence| binding.iter().any(|part| licence.contains(part))).collect();
    assert_eq!(listed, [""; 0]);
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let packages = packages("sources of dependencies");
    let elsewhere: Vec<&Value> = packages
        .iter()
        .filter(|package| package["source"].as_str() != Some("registry+https://github.com/rust-lang/crates.io-index"))
        .map(|package| &package["name"])
        .collect();
    // The package itself has no source.
    assert_eq!(elsewhere, ["outfall-sensor"]);
}

#[test]
fn a_licence_expression_is_satisfied_as_spdx_says() {
    let check =
        |expression: &str| satisfied(expression, &|name| matches!(name, "MIT" | "ISC" | "Zlib WITH X-exception"));
    for expression in ["MIT", "GPL-3.0-only OR MIT", "MIT AND ISC", "(GPL-2.0 OR MIT) AND ISC", "GPL-2.0/MIT"] {
        assert_eq!(check(expression), Ok(true), "{expression}");
    }
    // AND binds closer than OR, WITH closer than both.
    assert_eq!(check("MIT OR GPL-2.0 AND LGPL-2.1"), Ok(true));
    assert_eq!(check("ISC AND Zlib WITH X-exception"), Ok(true));
    for expression in ["GPL-3.0-only", "MIT AND GPL-2.0", "GPL-2.0 OR LGPL-2.1", "MIT WITH X-exception", "Zlib"] {
        assert_eq!(check(expression), Ok(false), "{expression}");
    }
    for expression in ["", "MIT OR", "(MIT", "MIT ISC", "AND MIT", "MIT WITH"] {
        assert!(check(expression).is_err(), "{expression}");
    }
}

fn allowed() -> Vec<String> {
    let file = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let deny: toml::Table = file.parse().unwrap();
    let list: Vec<String> = deny["licenses"]["allow"].clone().try_into().unwrap();
    assert!(!list.is_empty());
    list
}

/// All packages that the program is built from. Those that only other systems need are not always there to be looked
/// at without a network; then those of this system are.
fn packages(test: &str) -> Vec<Value> {
    let metadata = |options: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["metadata", "--offline", "--locked", "--format-version", "1", "--all-features"]);
        let output = command.args(options).current_dir(root()).output().expect("cargo runs");
        let failure = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            serde_json::from_slice::<Value>(&output.stdout).map_err(|_| failure)
        } else {
            Err(failure)
        }
    };
    let found = metadata(&[]).or_else(|reason| {
        let reason = reason.lines().find(|line| line.starts_with("error")).unwrap_or_default();
        skip(test, &format!("packages that only other systems need are not here ({reason})"));
        metadata(&["--filter-platform", &host()])
    });
    found.expect("cargo metadata")["packages"].as_array().unwrap().clone()
}

/// The system that the tests run on, as the compiler calls it.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc says its host").to_owned()
}

/// Whether a licence expression can be fulfilled by `allowed` licences alone.
///
/// # Errors
/// If it is no expression.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    // Old manifests write "MIT/Apache-2.0".
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let result = any_of(&mut words, allowed)?;
    words.next().map_or(Ok(result), |word| Err(format!("{word} is one too many")))
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// all_of OR all_of ...
fn any_of(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut result = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= all_of(words, allowed)?;
    }
    Ok(result)
}

/// one AND one ...
fn all_of(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut result = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words, allowed)?;
    }
    Ok(result)
}

/// NAME, NAME WITH EXCEPTION, or ( any_of )
fn one(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let name = |word: Option<&str>| match word {
        Some("AND" | "OR" | "WITH" | "(" | ")") | None => Err(format!("a name is missing before {word:?}")),
        Some(name) => Ok(name.to_owned()),
    };
    if words.next_if_eq(&"(").is_some() {
        let result = any_of(words, allowed)?;
        return words.next_if_eq(&")").map(|_| result).ok_or_else(|| "a ) is missing".to_owned());
    }
    let licence = name(words.next())?;
    if words.next_if_eq(&"WITH").is_none() {
        return Ok(allowed(&licence));
    }
    let exception = name(words.next())?;
    Ok(allowed(&format!("{licence} WITH {exception}")))
}
