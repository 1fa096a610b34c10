//! What SHA-256 of so many bytes costs by itself: `sha_floor BYTES`.

use std::process::ExitCode;

use sha2::{Digest, Sha256};

/// As much as stays in the fastest cache, in bytes.
const PART: usize = 16_384;

fn main() -> ExitCode {
    // Cargo adds `--bench` for its own harness.
    let bytes = std::env::args().skip(1).find(|argument| argument != "--bench");
    let Some(mut left) = bytes.and_then(|bytes| bytes.parse::<usize>().ok()) else {
        eprintln!("usage: sha_floor BYTES");
        return ExitCode::from(2);
    };
    let part = [0x5a; PART];
    let mut hash = Sha256::new();
    while left > 0 {
        let now = left.min(PART);
        hash.update(part.get(..now).unwrap_or(&part));
        left -= now;
    }
    println!("{:x}", hash.finalize());
    ExitCode::SUCCESS
}
