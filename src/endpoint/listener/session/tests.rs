use super::*;
use crate::net::ByteSize;

struct Talk {
    session: Session,
    intake: Intake,
    hosts: Hosts,
    /// What reached the history and the journal: sequence numbers, or zero where there is none.
    seen: Vec<u64>,
    stored: Vec<Entry>,
    tally: Tally,
}

fn hello(host: &str, stream: u64) -> String {
    format!(r#"{{"type":"hello","v":1,"host":{{"id":"{host}"}},"ts":1000,"helper":"1.0","stream":"{stream:016x}"}}"#)
}

fn end(seq: u64) -> String {
    format!(r#"{{"type":"process_end","seq":{seq},"ts":{},"pid":4}}"#, 2_000 + seq)
}

impl Talk {
    fn new(peer: Peer) -> Self {
        Self::with(peer, Hosts::new(10), 1)
    }

    fn with(peer: Peer, hosts: Hosts, number: u64) -> Self {
        Self {
            session: Session::new(peer, "here".to_owned(), number, 3),
            intake: Intake::new(ByteSize(1_000)),
            hosts,
            seen: Vec::new(),
            stored: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn certified() -> Self {
        Self::new(Peer::Certified("WKS-1".to_owned()))
    }

    /// The next connection of the same host.
    fn again(self, number: u64) -> Self {
        Self::with(self.session.peer.clone(), self.hosts, number)
    }

    fn say(&mut self, lines: &[String]) -> Result<(), Reason> {
        self.says(lines, true)
    }

    fn says(&mut self, lines: &[String], store: bool) -> Result<(), Reason> {
        let mut batch = self.session.batch(Timestamp(5_000));
        for line in lines {
            let line = format!("{line}\n");
            self.session.line(line.as_bytes(), &mut self.intake, &self.hosts, store, &mut batch)?;
        }
        self.stored.extend(self.session.entry(&mut batch));
        let observations = std::mem::take(&mut batch.observations);
        self.session.commit(&batch, || {
            self.seen.extend(observations.iter().map(|observation| observation.line.seq.unwrap_or(0)));
        })?;
        self.tally = batch.tally;
        Ok(())
    }
}

#[test]
fn a_helper_says_hello_and_everything_new_is_taken_once() {
    let mut talk = Talk::certified();
    talk.say(&[hello("wks-1", 7), end(1), end(2)]).unwrap();
    talk.say(&[end(2), end(5)]).unwrap();
    assert_eq!(talk.seen, [0, 1, 2, 5]);
    assert_eq!((talk.tally.repeated, talk.tally.missing), (1, 2));
    let stored: Vec<(u64, u64)> = talk.stored.iter().map(|entry| (entry.stream, entry.seq)).collect();
    assert_eq!(stored, [(7, 2), (7, 5)]);
    assert!(!String::from_utf8_lossy(&talk.stored[1].lines).contains("\"seq\":2"));
    assert_eq!(talk.stored[0].host.as_ref(), "WKS-1");
    let told = talk.session.acknowledgement(2).unwrap();
    assert_eq!(told, "{\"type\":\"ack\",\"stream\":\"0000000000000007\",\"seq\":2}\n");
}

#[test]
fn a_helper_speaks_only_for_the_host_of_its_certificate() {
    assert_eq!(Talk::certified().say(&[hello("WKS-2", 7)]), Err(Reason::WrongHost));
    let mut talk = Talk::certified();
    let foreign = r#"{"type":"process_end","seq":2,"ts":1,"pid":4,"host":"WKS-2"}"#.to_owned();
    talk.say(&[hello("WKS-1", 7), end(1), foreign, hello("WKS-2", 7), end(3)]).unwrap();
    // What follows a hello of another host is that host's.
    assert_eq!((talk.seen, talk.tally.refused), (vec![0, 1], 3));
    // It has its place in the sequence, so that it is not sent for ever.
    assert_eq!(talk.stored[0].seq, 3);
    assert!(!String::from_utf8_lossy(&talk.stored[0].lines).contains("WKS-2"));
}

#[test]
fn who_does_not_begin_with_a_hello_and_a_stream_is_no_helper() {
    let unfit = r#"{"type":"hello","v":1,"host":{"id":"WKS-1"},"ts":1000,"stream":"7"}"#.to_owned();
    for line in [end(1), "x".to_owned(), unfit, hello("WKS-1", 7).replace("\"v\":1", "\"v\":2")] {
        assert_eq!(Talk::certified().say(std::slice::from_ref(&line)), Err(Reason::NoHello), "{line}");
    }
}

#[test]
fn a_log_shipper_of_this_machine_needs_no_hello_and_is_told_nothing() {
    let mut talk = Talk::new(Peer::Local);
    let line = r#"{"type":"process_end","ts":1,"pid":4,"host":"SRV-1"}"#.to_owned();
    talk.say(&[line.clone(), line]).unwrap();
    assert_eq!((talk.seen.len(), talk.stored[0].kind, talk.session.acknowledgement(1)), (2, Kind::Plain, None));
    // And a helper of this machine may be any host.
    let mut talk = Talk::new(Peer::Local);
    talk.say(&[hello("ANY", 9), end(1)]).unwrap();
    assert!(talk.session.acknowledgement(1).is_some());
}

#[test]
fn too_many_lines_that_are_no_events_end_it() {
    let mut talk = Talk::certified();
    talk.say(&[hello("WKS-1", 7), "{}".to_owned(), "no".to_owned()]).unwrap();
    assert_eq!(talk.say(&["{".to_owned()]), Err(Reason::Malformed));
    // An unknown type is none of them, and has its place in the sequence.
    let mut talk = Talk::certified();
    let unknown = |seq: u64| format!(r#"{{"type":"new","seq":{seq}}}"#);
    talk.say(&[hello("WKS-1", 7), unknown(1), unknown(2), unknown(3), unknown(4)]).unwrap();
    assert_eq!(talk.session.queued(), 4);
}

#[test]
fn a_later_connection_of_a_host_ends_the_earlier_one_and_goes_on_where_it_was() {
    let mut first = Talk::certified();
    first.say(&[hello("WKS-1", 7), end(1), end(2)]).unwrap();
    let host = first.hosts.named("wks-1");
    host.claim(99, 7, "there");
    assert_eq!(first.say(&[end(3)]), Err(Reason::Replaced));
    assert_eq!(first.seen, [0, 1, 2]);
    let mut second = first.again(2);
    second.say(&[hello("WKS-1", 7), end(2), end(3)]).unwrap();
    assert_eq!(second.seen, [0, 3]);
    // A spool that was made anew counts from the beginning.
    let mut third = second.again(3);
    third.say(&[hello("WKS-1", 8), end(1)]).unwrap();
    assert_eq!(third.seen, [0, 1]);
}

#[test]
fn what_the_disk_did_not_take_comes_again_for_the_disk_alone() {
    let mut talk = Talk::certified();
    talk.say(&[hello("WKS-1", 7), end(1)]).unwrap();
    talk.says(&[end(2), end(3)], false).unwrap();
    assert_eq!((talk.seen.as_slice(), talk.stored.len(), talk.session.queued()), (&[0, 1, 2, 3][..], 1, 1));
    let mut talk = talk.again(2);
    talk.say(&[hello("WKS-1", 7), end(2), end(3), end(4)]).unwrap();
    assert_eq!((talk.seen.as_slice(), talk.tally.repeated), (&[0, 4][..], 0));
    let text = String::from_utf8_lossy(&talk.stored[0].lines).into_owned();
    assert!((2..=4).all(|seq| text.contains(&format!("\"seq\":{seq}"))), "{text}");
}

#[test]
fn the_fastest_of_hello_and_heartbeats_tells_the_clocks_offset() {
    let mut talk = Talk::certified();
    let beat = |seq: u64, ts: u64| format!(r#"{{"type":"heartbeat","seq":{seq},"ts":{ts},"sent":9,"dropped":2}}"#);
    talk.say(&[hello("WKS-1", 7), beat(1, 4_400), beat(2, 4_000), end(3)]).unwrap();
    let status = talk.hosts.statuses().remove(0);
    assert_eq!((status.offset, status.sent, status.dropped), (Some(600), 9, 2));
    assert_eq!((status.lag, status.version.as_deref()), (crate::net::Span(5_000 - 2_003 - 600), Some("1.0")));
    assert!(status.connected);
    drop(talk.session);
    assert!(!talk.hosts.statuses()[0].connected);
}
