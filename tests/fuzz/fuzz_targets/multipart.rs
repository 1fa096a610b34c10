//! A multipart body: the boundary is the first line of the input, the rest is the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::protocol::Fact;
use outfall::record::{State, Upload};
use outfall_fuzz::conversation::{self, Outcome};
use outfall_fuzz::script::{self, Step, Who};
use outfall_fuzz::{check, tight};

fuzz_target!(|input: &[u8]| {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()).min(300);
    let (boundary, rest) = input.split_at(line);
    let steps = script::read(rest.get(1..).unwrap_or_default());
    let split = play(boundary, steps.clone());
    check(&split);
    if !script::has_gap(&steps) {
        let whole = play(boundary, script::joined(&steps));
        assert_eq!(files(&split), files(&whole), "the pieces change the files");
    }
});

/// Sends the client's part of the script as one body of known length.
fn play(boundary: &[u8], mut steps: Vec<Step>) -> Outcome {
    steps.retain(|step| matches!(step, Step::Say { who: Who::Client, .. } | Step::Gap { who: Who::Client, .. }));
    let lengths = steps.iter().map(|step| match step {
        Step::Say { bytes, .. } => bytes.len() as u64,
        Step::Gap { length, .. } => *length,
        _ => 0,
    });
    let length: u64 = lengths.sum();
    let mut head = b"POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=".to_vec();
    head.extend(boundary);
    head.extend(format!("\r\nContent-Length: {length}\r\n\r\n").bytes());
    let head = Step::Say { who: Who::Client, bytes: head, piece: usize::MAX };
    steps.insert(0, head);
    conversation::play(&tight(), 80, &steps)
}

fn finished(outcome: &Outcome) -> impl Iterator<Item = &Upload> {
    outcome.facts.iter().filter_map(|fact| match fact {
        Fact::Upload(upload) if upload.state != State::Running => Some(upload.as_ref()),
        _ => None,
    })
}

fn files(outcome: &Outcome) -> Vec<String> {
    finished(outcome).map(|upload| format!("{} {:?} {:?}", upload.bytes, upload.files, upload.notes)).collect()
}

fn check(outcome: &Outcome) {
    check::all(&outcome.facts, &outcome.wire);
    for upload in finished(outcome) {
        let parts: u64 = upload.files.iter().filter_map(|file| file.size).sum();
        let missing: u64 = upload.files.iter().map(|file| file.missing).sum();
        assert!(parts <= upload.bytes, "the files have {parts} bytes of {}", upload.bytes);
        assert!(missing <= upload.missing);
    }
}
