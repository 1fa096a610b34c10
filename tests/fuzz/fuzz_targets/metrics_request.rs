//! What a client says to the endpoint of metrics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::metrics::{Sample, answer_to};

const CODES: [&str; 8] = ["200", "400", "404", "405", "413", "414", "431", "503"];

fuzz_target!(|input: &[u8]| {
    let [known, rest @ ..] = input else { return };
    let sample = (known & 1 == 1).then(Sample::default);
    let (answer, counters) = answer_to(rest, sample).expect("an event loop");
    let answered: u64 = counters.answered.values().sum();
    assert!(answered <= 1, "one request is all that a connection is for");
    assert!(counters.dropped.get("timeout") == Some(&0), "who has said all is not waited for");
    if answer.is_empty() {
        assert_eq!(answered, 0, "what is counted as answered was answered");
        return;
    }
    let text = String::from_utf8(answer).expect("text");
    let (version, rest) = text.split_at(9.min(text.len()));
    assert!(version == "HTTP/1.1 " || version == "HTTP/1.0 ", "{text:?}");
    assert!(CODES.contains(&rest.get(..3).unwrap_or_default()), "{text:?}");
});
