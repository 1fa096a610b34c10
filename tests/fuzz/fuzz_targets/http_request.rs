//! HTTP requests and responses, in any pieces and with losses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::protocol::ProtocolCounters;
use outfall_fuzz::script::Step;
use outfall_fuzz::{check, conversation, script, tight};

fuzz_target!(|input: &[u8]| {
    let config = tight();
    let steps = script::read(input);
    let outcome = conversation::play(&config, 80, &steps);
    check::all(&outcome.facts, &outcome.wire);
    secrets(input);
    // Where the reader kept its place, how the bytes were cut into pieces changes nothing.
    if !script::has_gap(&steps) {
        let whole = conversation::play(&config, 80, &script::joined(&steps));
        check::all(&whole.facts, &whole.wire);
        let placed = |c: &ProtocolCounters| {
            let lost = c.http_unparsed + c.http_heads_too_long + c.http_bad_chunks + c.http_lost + c.http_abandoned;
            lost == 0 && c.http_requests > 0
        };
        // A body that may not come, and what a connection turns into, are told by who speaks when.
        let says = |word: &[u8]| input.windows(word.len()).any(|said| said.eq_ignore_ascii_case(word));
        let handed_over = says(b"expect") || says(b"connect ") || says(b"upgrade") || says(b" 101");
        // Picked up in the middle, a request is looked for where a segment begins.
        let middle = steps.iter().any(|step| matches!(step, Step::Open { kind, .. } if kind & 4 != 0));
        if placed(&outcome.counters) && placed(&whole.counters) && !handed_over && !middle {
            assert_eq!(sizes(&outcome.facts), sizes(&whole.facts));
        }
    }
});

/// What does not depend on time, nor on where in a segment an answer begins: the files and bytes of every finished
/// upload and what it asked.
fn sizes(facts: &[outfall::protocol::Fact]) -> Vec<String> {
    let upload = |fact: &outfall::protocol::Fact| match fact {
        outfall::protocol::Fact::Upload(u) if u.state != outfall::record::State::Running => {
            let asked = u.http.as_ref().map(|http| (&http.version, &http.method, &http.url, &http.user_agent));
            Some(format!("{} {} {:?} {:?} {asked:?}", u.bytes, u.client_bytes, u.state, u.files))
        }
        _ => None,
    };
    facts.iter().filter_map(upload).collect()
}

/// A password in a request's target is in no record.
fn secrets(input: &[u8]) {
    const SECRET: &str = "Zq7-secret";
    let rest: String = input.iter().take(64).map(|b| char::from(b'!' + b % 94)).collect();
    let (before, after) = rest.split_at(rest.len() / 2);
    // What would end the user's name or the password has to be encoded in a URI.
    let plain = |text: &str| text.replace(['/', '?', '#', ':', '@', '\\'], "");
    let (before, between) = before.split_at(before.len() / 2);
    let head = format!(
        "PUT ftp://{}:{}{SECRET}@host/{} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        plain(before),
        plain(between),
        after
    );
    let steps = script::read(head.as_bytes());
    let outcome = conversation::play(&tight(), 3128, &steps);
    assert!(!check::text(&outcome.facts).contains(SECRET), "{}", check::text(&outcome.facts));
}
