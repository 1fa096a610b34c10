//! What a connection says to the listener, in pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::endpoint::listener::{Hosts, Lines, Peer, Pool, Reason, Session};
use outfall::endpoint::{Intake, Observation};
use outfall::net::{ByteSize, Timestamp};

const LONGEST: usize = 512;

/// What came of it all.
#[derive(Debug, Default, PartialEq)]
struct Said {
    events: Vec<Observation>,
    stored: Vec<u8>,
    seq: u64,
    end: Option<Reason>,
}

fn listen(input: &[u8], piece: usize, local: bool) -> Said {
    let pool = Pool::new(1 << 20);
    let mut lines = Lines::new(LONGEST, pool.clone());
    let (mut intake, hosts) = (Intake::new(ByteSize(LONGEST as u64 + 1)), Hosts::new(4));
    let peer = if local { Peer::Local } else { Peer::Certified("WKS-1".to_owned()) };
    let mut session = Session::new(peer, "here".to_owned(), 1, 20);
    let mut said = Said::default();
    for part in input.chunks(piece.max(1)) {
        let mut batch = session.batch(Timestamp(1));
        let cut = lines.cut(part, |line| session.line(line, &mut intake, &hosts, true, &mut batch));
        if let Some(entry) = session.entry(&mut batch) {
            assert!(entry.lines.is_empty() || entry.lines.ends_with(b"\n"));
            assert!(entry.seq >= said.seq, "numbers ascend");
            said.seq = entry.seq;
            said.stored.extend(entry.lines);
        }
        let events = std::mem::take(&mut batch.observations);
        session.commit(&batch, || said.events.extend(events)).expect("no other connection");
        assert!(pool.used() <= 1 << 20);
        if let Err(reason) = cut {
            said.end = Some(reason);
            break;
        }
    }
    if !local {
        assert!(said.events.iter().all(|event| event.host.as_ref() == "WKS-1"), "a helper speaks for its host");
        let numbers: Vec<u64> = said.events.iter().filter_map(|event| event.line.seq).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "each comes once");
    }
    drop(lines);
    assert_eq!(pool.used(), 0);
    said
}

fuzz_target!(|input: &[u8]| {
    let [piece, kind, rest @ ..] = input else { return };
    let local = kind & 1 == 1;
    let whole = listen(rest, rest.len(), local);
    let pieces = listen(rest, usize::from(*piece) + 1, local);
    // An end that comes with what stands before it in the same piece is the same end.
    assert_eq!(whole, pieces, "the pieces change nothing");
});
