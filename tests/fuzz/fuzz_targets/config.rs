//! Configurations as TOML text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::config::{Config, ConfigError};
use outfall::detect::Detector;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::parse(text, "outfall.toml") {
        Ok(config) => {
            config.changes();
            Detector::new(&config);
        }
        Err(ConfigError::Refused { problems, .. }) => {
            assert!(!problems.is_empty());
            let lines = text.split('\n').count();
            for problem in problems {
                assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem}");
                let shown = problem.to_string();
                assert!(shown.chars().all(|c| !c.is_control()), "a problem is one line, safe to print: {shown:?}");
            }
        }
        Err(other) => panic!("{other}"),
    }
});
