//! HTTP/2 by prior knowledge: the client's preface, then frames of both sides.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall_fuzz::conversation::Conversation;
use outfall_fuzz::script::Who;
use outfall_fuzz::{check, script, tight};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fuzz_target!(|input: &[u8]| {
    let mut conversation = Conversation::new(&tight());
    conversation.open(0, 80);
    conversation.say(Who::Client, PREFACE);
    conversation.say(Who::Client, EMPTY_SETTINGS);
    for step in script::read(input) {
        conversation.step(&step);
    }
    let outcome = conversation.end();
    check::all(&outcome.facts, &outcome.wire);
});
