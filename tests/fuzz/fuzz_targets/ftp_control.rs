//! FTP: control connections with the data connections that they announce.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::net::Endpoint;
use outfall::protocol::Fact;
use outfall_fuzz::conversation::{self, Outcome};
use outfall_fuzz::script::{self, Step, Who};
use outfall_fuzz::{check, tight};

fuzz_target!(|input: &[u8]| {
    let steps = script::read(input);
    let outcome = play(&steps);
    check::all(&outcome.facts, &outcome.wire);
    // A record does not depend on a password: another one of the same length changes nothing.
    if let Some(other) = other_passwords(&steps) {
        let changed = play(&other);
        if dialogue(&outcome) && dialogue(&changed) {
            assert_eq!(check::text(&outcome.facts), check::text(&changed.facts), "a password reaches a record");
        }
    }
});

fn play(steps: &[Step]) -> Outcome {
    conversation::play(&tight(), 21, steps)
}

/// Whether the script's client was taken for the client of one control connection, all of it in the clear: what looks
/// like a password among records of TLS is a part of them.
fn dialogue(outcome: &Outcome) -> bool {
    let client = Endpoint::from(std::net::SocketAddr::from(([10, 0, 0, 1], 40_000)));
    outcome.counters.ftp.sessions == 1
        && outcome.counters.ftp.encrypted == 0
        && outcome.facts.iter().any(|fact| match fact {
            Fact::Flow(flow) => flow.protocol == outfall::record::Protocol::Ftp && flow.connection.client == client,
            Fact::Upload(_) | Fact::Name(_) => false,
        })
}

/// The script with other passwords, if it has some and is one connection without a loss.
fn other_passwords(steps: &[Step]) -> Option<Vec<Step>> {
    let simple = |step: &Step| matches!(step, Step::Say { .. } | Step::Wait { .. } | Step::Finish(_));
    if !steps.iter().all(simple) {
        return None;
    }
    let mut other = steps.to_vec();
    let mut line = Vec::new();
    let mut found = false;
    for step in &mut other {
        let Step::Say { who: Who::Client, bytes, .. } = step else { continue };
        for byte in bytes {
            if *byte == b'\n' {
                line.clear();
                continue;
            }
            let verb = line.get(..5).map(<[u8]>::to_ascii_uppercase);
            if matches!(verb.as_deref(), Some(b"PASS " | b"ACCT ")) && byte.is_ascii_alphanumeric() {
                found |= *byte != b'x';
                *byte = b'x';
            }
            line.push(*byte);
        }
    }
    found.then_some(other)
}
