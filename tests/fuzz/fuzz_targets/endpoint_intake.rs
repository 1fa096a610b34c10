//! Event lines of endpoints, and the history that is made of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outfall::endpoint::{History, Intake, MAX_WARNINGS};
use outfall::net::{ByteSize, Timestamp};

/// The least that the configuration takes.
const MEMORY: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let mut intake = Intake::new(ByteSize(1 << 12));
    let mut history = History::new(ByteSize(MEMORY));
    let mut events = 0;
    let outcome = intake.read("events", input, &mut |observation| {
        events += 1;
        history.insert(observation);
        assert!(history.memory().0 <= MEMORY, "the bound holds");
    });
    let counters = intake.counters();
    assert_eq!(counters.events(), events);
    let refused = counters.malformed + counters.unknown_type + counters.oversized + counters.before_hello;
    assert_eq!(counters.lines, events + counters.unused + refused, "every record is counted once");
    assert!(counters.kinds.iter().sum::<u64>() <= events);
    assert_eq!(outcome.is_err(), counters.read_errors > 0);
    let warnings = intake.take_warnings();
    assert!(warnings.len() <= MAX_WARNINGS && warnings.len() as u64 <= counters.warnings);
    for warning in warnings {
        let text = warning.to_string();
        assert!(text.chars().all(|c| !c.is_control()), "a warning is safe to print: {text:?}");
    }
    for host in history.hosts() {
        assert!(history.host(host.id()).is_some());
        host.heard(Timestamp(0), Timestamp(u64::MAX));
    }
    let address = std::net::IpAddr::from([10, 20, 0, 101]).into();
    history.owners(address, Timestamp(0), Timestamp(u64::MAX));
});
