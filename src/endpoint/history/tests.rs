use super::*;
use crate::endpoint::{
    ConnectionEvent, FileEvent, HostDescription, Operation, ProcessEnd, ProcessStart, Source, Transport,
};
use crate::net::Endpoint;

fn observe(history: &mut History, host: &str, event: Event) {
    history.insert(Observation {
        host: host.into(),
        line: Line { seq: None, source: Source::Script, event },
        origin: None,
    });
}

fn hello(ts: u64, ips: &[&str]) -> Event {
    let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let host = HostDescription { ips, ..HostDescription::default() };
    Event::Hello(Hello { v: 1, host, boot: None, ts: Timestamp(ts), helper: None })
}

fn file(ts: u64, path: &str) -> Event {
    let path = path.to_owned();
    let op = Operation::Read;
    Event::File(FileEvent {
        ts: Timestamp(ts),
        pid: 4,
        start: None,
        op,
        path,
        new_path: None,
        size: None,
        sha256: None,
    })
}

fn end(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

fn connection(ts: u64, local: &str) -> Event {
    Event::Connection(ConnectionEvent {
        ts: Timestamp(ts),
        pid: 4,
        start: None,
        protocol: Transport::Tcp,
        local: end(local),
        remote: end("192.0.2.1:21"),
        initiated: Some(true),
        image: None,
        user: None,
    })
}

fn owner(history: &History, ip: &str, ts: u64) -> Vec<String> {
    let ip: IpAddr = ip.parse().unwrap();
    let hosts = history.owners(ip.into(), Timestamp(ts), Timestamp(ts));
    hosts.into_iter().map(|host| host.id().to_string()).collect()
}

#[test]
fn an_address_that_a_host_presents_no_more_is_free() {
    let mut history = History::new(ByteSize(1 << 20));
    observe(&mut history, "a", hello(10, &["10.0.0.5", "10.0.0.6"]));
    observe(&mut history, "a", hello(50, &["10.0.0.6"]));
    observe(&mut history, "a", hello(30, &["10.0.0.7"]));
    assert_eq!(owner(&history, "10.0.0.5", 49), ["a"]);
    assert_eq!(owner(&history, "10.0.0.5", 50), [""; 0]);
    assert_eq!(owner(&history, "10.0.0.6", 60), ["a"], "an old hello takes nothing away");
}

#[test]
fn a_connection_shows_whose_address_it_is() {
    let mut history = History::new(ByteSize(1 << 20));
    observe(&mut history, "a", hello(10, &["10.0.0.5"]));
    observe(&mut history, "b", connection(40, "10.0.0.5:1"));
    observe(&mut history, "b", connection(40, "127.0.0.1:1"));
    assert_eq!(owner(&history, "10.0.0.5", 41), ["b"]);
    assert_eq!(owner(&history, "127.0.0.1", 41), [""; 0]);
}

#[test]
fn memory_is_bounded_and_the_oldest_file_events_of_all_hosts_go_first() {
    let mut history = History::new(ByteSize(64 << 10));
    observe(&mut history, "a", connection(1, "10.0.0.5:1"));
    observe(&mut history, "a", Event::ProcessStart(ProcessStart { ts: Timestamp(1), pid: 4, ..Default::default() }));
    for n in 0..1_000 {
        let host = if n % 2 == 0 { "a" } else { "b" };
        observe(&mut history, host, file(10 + n, &format!("C:\\x\\{n}.txt")));
        assert!(history.memory() <= ByteSize(64 << 10));
    }
    let counters = history.counters();
    assert!(counters.files_forgotten > 700, "{counters:?}");
    assert_eq!((counters.connections_forgotten, counters.processes_forgotten), (0, 0));
    let kept: usize = history.hosts().iter().map(|host| host.files().len()).sum();
    assert_eq!(kept as u64, 1_000 - counters.files_forgotten);
    let window = (Timestamp(0), Timestamp(u64::MAX));
    let host = |name: &str| history.host(name).unwrap();
    assert_eq!(host("a").files().named("0.txt", window.0, window.1).count(), 0);
    assert_eq!(host("b").files().named("999.TXT", window.0, window.1).count(), 1);
    assert_eq!(host("a").connections().len(), 1);
}

#[test]
fn connections_and_processes_are_forgotten_when_no_file_event_is_left() {
    let mut history = History::new(ByteSize(32 << 10));
    for n in 0..500 {
        observe(&mut history, "a", connection(n, &format!("10.0.0.5:{n}")));
    }
    for n in 0..500 {
        let event = ProcessStart { ts: Timestamp(n), pid: n as u32, ..Default::default() };
        observe(&mut history, "a", Event::ProcessStart(event));
    }
    assert!(history.memory() <= ByteSize(32 << 10));
    let counters = history.counters();
    assert_eq!(counters.connections_forgotten, 500);
    assert!(counters.processes_forgotten > 300);
}

#[test]
fn more_hosts_than_there_is_room_for_are_refused_and_counted() {
    let mut history = History::new(ByteSize(64 << 10));
    for n in 0..100 {
        observe(&mut history, &format!("h{n}"), hello(1, &[&format!("10.0.0.{n}")]));
    }
    assert!(history.counters().hosts_refused > 80);
    assert!(history.memory() <= ByteSize(64 << 10));
    for ts in 0..20_000 {
        let host = if ts % 2 == 0 { "h0" } else { "h1" };
        let local = format!("10.1.{}.{}:1", ts / 256 % 256, ts % 256);
        observe(&mut history, host, connection(ts, &local));
    }
    assert!(history.counters().addresses_refused > 0);
    assert!(history.memory() <= ByteSize(64 << 10));
}

#[test]
fn a_busy_host_costs_no_other_its_events() {
    let mut history = History::new(ByteSize(1 << 20)).with_memory_per_host(ByteSize(32 << 10));
    observe(&mut history, "quiet", file(1, "C:\\x\\kept.txt"));
    for n in 0..1_000 {
        observe(&mut history, "busy", file(10 + n, &format!("C:\\x\\{n}.txt")));
        assert!(history.memory() <= ByteSize(40 << 10));
    }
    assert_eq!(history.host("quiet").unwrap().files().len(), 1);
    let kept = history.host("busy").unwrap().files().len() as u64;
    assert_eq!(kept, 1_000 - history.counters().files_forgotten);
}

#[test]
fn a_process_reported_by_two_sources_is_one() {
    let mut history = History::new(ByteSize(1 << 20));
    for image in [None, Some("C:\\a.exe".to_owned())] {
        let event = ProcessStart { ts: Timestamp(5), pid: 4, image, ..Default::default() };
        observe(&mut history, "a", Event::ProcessStart(event));
    }
    let processes = history.host("a").unwrap().processes();
    assert_eq!(processes.len(), 1);
    assert_eq!(processes.at(4, Timestamp(9)).unwrap().image.as_deref(), Some("C:\\a.exe"));
}

#[test]
fn what_is_old_is_forgotten_but_for_processes_that_run() {
    let mut history = History::new(ByteSize(1 << 20));
    let process = |pid, start| Event::ProcessStart(ProcessStart { ts: Timestamp(start), pid, ..Default::default() });
    for event in
        [process(1, 10), process(2, 10), file(20, "C:\\old"), file(90, "C:\\new"), connection(30, "10.0.0.5:1")]
    {
        observe(&mut history, "a", event);
    }
    let end = ProcessEnd { ts: Timestamp(40), pid: 2, start: Some(Timestamp(10)) };
    observe(&mut history, "b", file(10, "C:\\other"));
    observe(&mut history, "a", Event::ProcessEnd(end));
    history.forget_before(Timestamp(20));
    assert_eq!(history.counters().expired, 1, "the edge is kept");
    history.forget_before(Timestamp(50));
    let host = history.host("a").unwrap();
    assert_eq!((host.files().len(), host.connections().len(), host.processes().len()), (1, 0, 1));
    assert_eq!(history.counters().expired, 4);
    assert_eq!(history.counters().files_forgotten, 0);
}

#[test]
fn the_longest_lag_stays() {
    let mut history = History::new(ByteSize(1 << 20));
    observe(&mut history, "a", hello(1, &["10.0.0.5"]));
    for lag in [5, 9, 2] {
        history.lagged("a", Span(lag));
        history.lagged("nobody", Span(lag));
    }
    assert_eq!(history.host("a").unwrap().lag(), Some(Span(9)));
}
