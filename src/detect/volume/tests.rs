use super::*;
use crate::join::tests::{attributed, upload};
use crate::net::Address;
use proptest::prelude::*;

const HOUR: u64 = 3_600;
const SITE: &str = "files.example";

fn sent(host: u8, hour: u64, bytes: u64) -> Upload {
    let mut upload = upload(bytes, &["a.txt"]);
    upload.connection.client.address = Address::v4([10, 0, 0, host]);
    upload.server_bytes = 100;
    upload.start = Timestamp::from_parts(hour * HOUR, 0);
    upload.end = upload.start;
    upload
}

fn process() -> Attribution {
    attributed("C:\\a.exe")
}

fn volumes() -> Volumes {
    Volumes::new(&Detect::default())
}

fn route(upload: &Upload, site: &str) -> Route {
    Route { host: upload.connection.client.address.to_string(), destination: site.into() }
}

fn count(volumes: &mut Volumes, upload: &Upload, attribution: &Attribution, site: &str, alert: bool) {
    volumes.count(upload, &route(upload, site), attribution, alert);
}

fn assess(volumes: &Volumes, upload: &Upload, attribution: &Attribution, site: &str, counted: bool) -> Findings {
    volumes.assess(upload, &route(upload, site), attribution, counted)
}

fn ordinary(volumes: &mut Volumes, days: u64) {
    for day in 0..days {
        for hour in 9..15 {
            let upload = sent(1, day * 24 + hour, 1_000 + 100 * (hour + day));
            count(volumes, &upload, &process(), SITE, false);
        }
    }
}

#[test]
fn small_uploads_to_one_destination_add_up_until_they_are_out_of_the_window() {
    let mut volumes = volumes();
    let window =
        |volumes: &Volumes, hour, site| assess(volumes, &sent(1, hour, 50_000), &process(), site, false).window;
    for n in 0..19 {
        assert_eq!(window(&volumes, n, SITE), None);
        count(&mut volumes, &sent(1, n, 50_000), &process(), SITE, true);
    }
    let reached = WindowReached { bytes: 1_000_000, uploads: 20, window: Span::seconds(7 * 86_400) };
    assert_eq!(window(&volumes, 19, SITE), Some(reached));
    assert_eq!(window(&volumes, 19, "other.example"), None, "another destination");
    let late = window(&volumes, 7 * 24 + 1, SITE);
    assert_eq!(late, None, "the first ones are out of it");
}

#[test]
fn one_upload_alone_is_no_window() {
    assert_eq!(assess(&volumes(), &sent(1, 1, 5_000_000), &process(), SITE, false).window, None);
}

#[test]
fn a_size_is_unusual_against_what_its_host_sends_once_that_is_known() {
    let mut volumes = volumes();
    ordinary(&mut volumes, 5);
    assert_eq!(assess(&volumes, &sent(1, 200, 900_000), &process(), SITE, false).size, None, "30 uploads are too few");
    ordinary(&mut volumes, 10);
    let large = assess(&volumes, &sent(1, 400, 900_000), &process(), SITE, false);
    let size = large.size.unwrap();
    assert!((3_000..4_000).contains(&size.usual) && size.samples == 90, "{size:?}");
    assert_eq!(assess(&volumes, &sent(1, 400, 99_999), &process(), SITE, false).size, None, "too small to matter");
    assert_eq!(
        assess(&volumes, &sent(2, 400, 900_000), &process(), "other.example", false).size,
        None,
        "nothing is known of that host"
    );
}

#[test]
fn what_is_usual_for_its_process_is_not_unusual() {
    let mut volumes = volumes();
    ordinary(&mut volumes, 10);
    for n in 0..60 {
        count(&mut volumes, &sent(9, n, 2_000_000), &attributed("C:\\backup.exe"), SITE, false);
    }
    let size = |image| assess(&volumes, &sent(1, 400, 900_000), &attributed(image), SITE, false).size.is_some();
    assert!(size("C:\\a.exe") && !size("C:\\backup.exe"));
}

#[test]
fn a_day_of_many_uploads_is_unusual() {
    let mut volumes = volumes();
    ordinary(&mut volumes, 12);
    for n in 0..10 {
        count(&mut volumes, &sent(1, 20 * 24 + n, 100_000), &process(), SITE, true);
    }
    let day = assess(&volumes, &sent(1, 20 * 24 + 11, 100_000), &process(), SITE, false).day.unwrap();
    assert_eq!((day.bytes, day.samples), (1_100_000, 11));
}

#[test]
fn an_hour_is_unusual_at_which_nothing_was_sent_on_many_days() {
    let mut volumes = volumes();
    ordinary(&mut volumes, 9);
    assert_eq!(
        assess(&volumes, &sent(1, 20 * 24 + 2, 10), &process(), SITE, false).hour,
        None,
        "nine days are too few"
    );
    ordinary(&mut volumes, 10);
    let at = |hour: u64| assess(&volumes, &sent(1, 20 * 24 + hour, 10), &process(), SITE, false).hour;
    assert_eq!(at(2), Some(UnusualHour { hour: 2, days: 10 }));
    assert_eq!((at(8), at(9), at(15)), (None, None, None), "beside an hour that is usual");
}

#[test]
fn the_ratio_is_said_beside_another_finding_only() {
    let mut volumes = volumes();
    ordinary(&mut volumes, 10);
    let at = 20 * 24 + 2;
    assert!(assess(&volumes, &sent(1, at, 10_000), &process(), SITE, false).ratio.unwrap() > 0.99);
    volumes.count_flow(Address::v4([10, 0, 0, 1]), Timestamp::from_parts((at - 1) * HOUR, 0), 0, 1_000_000);
    assert_eq!(assess(&volumes, &sent(1, at, 10_000), &process(), SITE, false).ratio, None);
}

#[test]
fn an_upload_that_is_judged_again_is_not_counted_twice() {
    let mut volumes = volumes();
    ordinary(&mut volumes, 12);
    let again = sent(1, 20 * 24 + 2, 600_000);
    let before = assess(&volumes, &again, &process(), SITE, false);
    count(&mut volumes, &again, &process(), SITE, false);
    let after = assess(&volumes, &again, &process(), SITE, true);
    assert_eq!(after.window, before.window);
    assert_eq!(after.day.map(|day| day.bytes), before.day.map(|day| day.bytes));
    assert_eq!(after.hour.map(|hour| hour.hour), Some(2));
}

#[test]
fn a_time_far_ahead_does_not_end_the_counting() {
    let mut volumes = volumes();
    count(&mut volumes, &sent(1, 24 * 40_000, 10), &process(), SITE, false);
    ordinary(&mut volumes, 12);
    let hour = assess(&volumes, &sent(1, 20 * 24 + 2, 10), &process(), SITE, false).hour;
    assert!(hour.is_some_and(|hour| hour.days >= 12), "{hour:?}");
}

#[test]
fn what_comes_late_counts_where_it_belongs() {
    let mut volumes = volumes();
    for hour in [100, 98, 99, 98] {
        count(&mut volumes, &sent(1, hour, 10), &process(), SITE, true);
    }
    let total =
        volumes.pairs.get("10.0.0.1", SITE).unwrap().total(Timestamp::from_parts(99 * HOUR, 0), Span::seconds(HOUR));
    assert_eq!((total.sent, total.uploads), (30, 3));
}

#[test]
fn tables_are_bounded_and_what_is_forgotten_is_counted() {
    let mut volumes = Volumes::new(&Detect { volumes: 2, ..Detect::default() });
    for host in 0..5 {
        volumes.count_flow(Address::v4([10, 0, 0, host]), Timestamp(1), 1, 1);
        volumes.add_flows();
    }
    assert_eq!(volumes.forgotten(), 3);
}

proptest! {
    #[test]
    fn one_that_was_stopped_and_goes_on_finds_what_one_finds_that_was_not(
        uploads in proptest::collection::vec((0u8..3, 0u64..900, 1u64..3_000_000, any::<bool>()), 1..80),
        stop in 0usize..80,
    ) {
        let (mut through, mut stopped) = (volumes(), volumes());
        through.keep();
        stopped.keep();
        let mut rows = std::collections::BTreeMap::new();
        for (n, (host, hour, bytes, alert)) in uploads.iter().enumerate() {
            if n == stop {
                let mut changes = Vec::new();
                stopped.changes(&mut changes);
                for change in changes {
                    if let Change::Put(row) = change {
                        rows.insert(row.key.clone(), row);
                    }
                }
                stopped = volumes();
                for row in rows.values() {
                    prop_assert!(stopped.restore(row));
                }
                prop_assert_eq!(stopped.unread(), 0);
            }
            let upload = sent(*host, *hour, *bytes);
            for volumes in [&mut through, &mut stopped] {
                count(volumes, &upload, &process(), SITE, *alert);
            }
        }
        for (host, hour, bytes, _) in &uploads {
            let upload = sent(*host, *hour, *bytes);
            prop_assert_eq!(
                assess(&through, &upload, &process(), SITE, false), assess(&stopped, &upload, &process(), SITE, false)
            );
        }
    }
}

#[test]
fn the_day_of_a_destination_is_unusual_though_each_of_its_hosts_is_new() {
    let mut volumes = volumes();
    ordinary(&mut volumes, 20);
    let program = attributed("C:\\b.exe");
    let day = |volumes: &Volumes| assess(volumes, &sent(9, 20 * 24 + 11, 60_000), &program, SITE, false).day;
    assert_eq!(day(&volumes), None);
    for host in 2..6 {
        count(&mut volumes, &sent(host, 20 * 24 + 10, 60_000), &program, SITE, true);
    }
    let found = day(&volumes).unwrap();
    assert_eq!((found.of, found.bytes, found.samples), (Subject::Destination, 300_000, 19));
}
