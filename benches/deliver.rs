//! The table of deliveries: alerts with hostile names to rsyslog and to syslog-ng by UDP, TCP and TLS, while each is killed
//! and started again. `tests/collectors` first, then `cargo bench --profile dev --bench deliver [-- ALERTS [A-SECOND]]`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[cfg(target_os = "linux")]
#[path = "../tests/deliver/daemon.rs"]
mod daemon;

#[cfg(target_os = "linux")]
fn main() {
    use daemon::{Collector, Kind};
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let (alerts, a_second) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(2_000));
    println!("| collector | transport | sent | killed at | received | lost | duplicated | seconds |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut failed = false;
    for kind in [Kind::Rsyslog, Kind::SyslogNg] {
        for transport in ["udp", "tcp", "tls"] {
            let Some(mut collector) = Collector::new(kind, transport) else {
                eprintln!("skipped: {} by {transport}: it is not there, see tests/collectors", kind.name());
                continue;
            };
            let outcome = daemon::send(&mut collector, alerts, a_second, std::time::Duration::from_millis(1_500));
            println!("{}", outcome.row(kind, transport));
            eprintln!("{:?}", outcome.counted);
            failed |= outcome.lost() > 0 && transport != "udp";
        }
    }
    assert!(!failed, "alerts were lost over TCP or TLS");
}

#[cfg(not(target_os = "linux"))]
fn main() {}
