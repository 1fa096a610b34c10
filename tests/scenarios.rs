//! Weeks of an office, replayed day by day against one database: which alerts come, and which do not.
//!
//! Forty hosts learn for three weeks what is normal; each scenario goes on from there with a story of its own among the ordinary
//! traffic. The table that the README shows is printed by `cargo test --test scenarios -- --nocapture`.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "scenarios/world.rs"]
mod world;

use std::path::PathBuf;
use std::sync::OnceLock;

use common::outfall;
use serde_json::Value;
use world::{BROWSER, Day, Program, Sending, Site, Staged};

/// Hosts of the office.
const HOSTS: u8 = 40;

/// Days in which the office teaches what is normal, from a Monday on; the learning period is two weeks.
const TAUGHT: u64 = 21;

const UPDATER: Program = Program {
    image: r"C:\Program Files (x86)\Vendor\Update\1.3.36.372\update.exe",
    signer: Some("Vendor Inc."),
    sha256: None,
    parent: r"C:\Windows\System32\svchost.exe",
};
const ARCHIVER: Program = Program {
    image: r"C:\Program Files\7-Zip\7z.exe",
    signer: None,
    sha256: None,
    parent: r"C:\Windows\System32\cmd.exe",
};
const FTP: Program = Program {
    image: r"C:\Windows\System32\ftp.exe",
    signer: Some("Microsoft Windows"),
    sha256: Some("5f0c2a11d0b3e5a7c9e1f30517293b4d6f8192a3b4c5d6e7f8091a2b3c4d5e6f"),
    parent: r"C:\Windows\System32\cmd.exe",
};
const STAGER: Program =
    Program { image: r"C:\Users\Public\svc.exe", signer: None, sha256: None, parent: r"C:\Windows\explorer.exe" };

const fn site(name: &'static str, address: [u8; 4]) -> Site {
    Site { name: Some(name), address }
}

const MAIL: Site = site("mail.saas-one.com", [198, 51, 100, 10]);
const CRM: Site = site("app.saas-two.com", [198, 51, 100, 20]);
const WIKI: Site = site("notes.saas-three.com", [198, 51, 100, 30]);
const VENDOR: Site = site("telemetry.vendor-updates.com", [198, 51, 100, 40]);
const NEW_SAAS: Site = site("upload.fresh-saas.com", [192, 0, 2, 10]);
const PARTNER: Site = Site { name: None, address: [203, 0, 113, 21] };
const DROP: Site = Site { name: None, address: [203, 0, 113, 200] };

const POST: Sending = Sending {
    host: 1,
    user: "ann",
    program: BROWSER,
    site: MAIL,
    bytes: 1_000,
    staged: Staged::Nothing,
    ftp: false,
    helper: true,
};

const USERS: [&str; 40] = {
    let mut users = ["user"; 40];
    users[0] = "ann";
    users[1] = "ben";
    users[2] = "cem";
    users
};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// What an office does on a working day, with the times.
fn ordinary(day: u64) -> Vec<(u64, Sending)> {
    if day % 7 >= 5 {
        return Vec::new();
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (day + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    let mut all = Vec::new();
    for host in 1..=HOSTS {
        let user = USERS[usize::from(host) - 1];
        // Every fourth host has no helper.
        let helper = host % 4 != 0;
        for _ in 0..3 {
            let site = [MAIL, CRM, WIKI][dice.roll(3) as usize];
            let bytes = 300 + dice.roll(4_000) as usize;
            all.push((8 * 3_600 + dice.roll(10 * 3_600), Sending { host, user, site, bytes, helper, ..POST }));
        }
        let bytes = 900;
        all.push((
            9 * 3_600 + dice.roll(3_600),
            Sending { host, user, site: VENDOR, program: UPDATER, bytes, helper, ..POST },
        ));
        if dice.roll(10) == 0 {
            // A document, which its helper saw written, goes where everybody's go.
            let staged = Staged::Written { by: BROWSER, path: r"C:\Users\user\Documents\offer.docx" };
            let bytes = 20_000 + dice.roll(100_000) as usize;
            let document = Sending { host, user, site: CRM, bytes, staged, helper, ..POST };
            all.push((8 * 3_600 + dice.roll(9 * 3_600), document));
        }
    }
    all
}

/// An office and its sensor.
struct Office {
    folder: tempfile::TempDir,
    state: PathBuf,
    next: u64,
}

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("outfall.db");
        Self { folder, state, next: 0 }
    }

    /// One that has learned.
    fn taught() -> Self {
        static TAUGHT_STATE: OnceLock<(Vec<u8>, Vec<Value>)> = OnceLock::new();
        let (state, _) = TAUGHT_STATE.get_or_init(|| {
            let mut office = Self::new();
            let alerts: Vec<Value> = (0..TAUGHT).flat_map(|_| office.day(Vec::new())).collect();
            (std::fs::read(&office.state).unwrap(), alerts)
        });
        let office = Self::new();
        std::fs::write(&office.state, state).unwrap();
        Self { next: TAUGHT, ..office }
    }

    /// The next day, with what else is sent on it; gives the alerts that are no held ones.
    fn day(&mut self, more: Vec<(u64, Sending)>) -> Vec<Value> {
        self.day_with_all(more).into_iter().filter(|alert| alert["outfall"]["alert"]["learning"] != true).collect()
    }

    fn day_with_all(&mut self, more: Vec<(u64, Sending)>) -> Vec<Value> {
        let mut all = ordinary(self.next);
        all.extend(more);
        all.sort_by_key(|(second, _)| *second);
        let mut day = Day::new(self.next);
        self.next += 1;
        all.into_iter().for_each(|(second, sending)| day.send(second, sending));
        let [capture, events] = day.write(self.folder.path());
        let files = [capture, events, self.state.clone()].map(|path| path.to_str().unwrap().to_owned());
        let [capture, events, state] = &files;
        let run = outfall(["replay", "--json", "--state", state, capture, "--endpoint", events]).exits(0);
        run.dataset("outfall.alert")
            .into_iter()
            .filter(|alert| alert["outfall"]["alert"]["suppressed_by"].is_null())
            .collect()
    }

    /// Days on which nothing but the ordinary happens.
    fn days(&mut self, count: u64) -> Vec<Value> {
        (0..count).flat_map(|_| self.day(Vec::new())).collect()
    }

    fn outfall(&self, args: &[&str]) -> common::Ran {
        let state = self.state.to_str().unwrap();
        outfall(args.iter().copied().chain(["--state", state]))
    }
}

fn reasons(alert: &Value) -> Vec<&str> {
    alert["outfall"]["reasons"].as_array().unwrap().iter().map(|reason| reason["id"].as_str().unwrap()).collect()
}

fn severities(alerts: &[Value]) -> Vec<u64> {
    alerts.iter().map(|alert| alert["event"]["severity"].as_u64().unwrap()).collect()
}

/// Requires alerts of these severities, and prints a line of the README's table.
fn expect(scenario: &str, alerts: &[Value], expected: &[u64]) {
    eprintln!("scenario | {scenario} | {} alerts", alerts.len());
    let told: Vec<String> = alerts.iter().map(|alert| alert["message"].to_string()).collect();
    assert_eq!(severities(alerts), expected, "{scenario}: {told:#?}");
}

#[test]
fn an_ordinary_month_after_learning_stays_within_the_budget_of_false_alerts() {
    let mut office = Office::taught();
    let alerts = office.days(30);
    // At most one per hundred hosts and day.
    let budget = 30 * usize::from(HOSTS) / 100;
    eprintln!("scenario | a month of ordinary traffic, {HOSTS} hosts | {} alerts, {budget} allowed", alerts.len());
    let told: Vec<String> = alerts.iter().map(|alert| alert["message"].to_string()).collect();
    assert!(alerts.len() <= budget, "{told:#?}");
}

#[test]
fn a_new_service_that_many_adopt_alerts_only_while_it_is_new() {
    let mut office = Office::taught();
    let to =
        |host: u8, bytes: usize| Sending { host, user: USERS[usize::from(host) - 1], site: NEW_SAAS, bytes, ..POST };
    let first = office.day(vec![(36_000, to(1, 2_000)), (37_000, to(1, 1_500_000))]);
    expect("a new service, its first large upload", &first, &[47]);
    let mut later = office.day((2..=6).map(|host| (36_000 + u64::from(host) * 60, to(host, 3_000))).collect());
    for _ in 0..5 {
        later.extend(office.day((1..=20).map(|host| (36_000 + u64::from(host) * 60, to(host, 1_200_000))).collect()));
    }
    expect("the same service, once others use it", &later, &[]);
}

#[test]
fn a_partner_transfer_alerts_until_it_is_justified_and_again_when_that_expires() {
    let mut office = Office::taught();
    let job = Sending {
        host: 7,
        user: "svc-edi",
        program: FTP,
        site: PARTNER,
        bytes: 60_000,
        staged: Staged::Written { by: ARCHIVER, path: r"D:\edi\orders.7z" },
        ftp: true,
        ..POST
    };
    let night = vec![(3 * 3_600, job)];
    let before: Vec<Value> = (0..3).flat_map(|_| office.day(night.clone())).collect();
    expect("a partner transfer, not justified, 3 nights", &before, &[73, 73, 73]);
    let expires = jiff_date(office.next + 10);
    let exception = format!(
        "[[exception]]\nid = 'EX-0001'\nprocess = '*\\ftp.exe'\ndestination = '203.0.113.21'\nowner = 'edi@corp.example'\n\
         justification = 'orders to the partner, contract 17'\ncreated = '{}'\nexpires = '{expires}'\n",
        jiff_date(office.next)
    );
    let file = office.folder.path().join("exceptions.toml");
    std::fs::write(&file, exception).unwrap();
    office.outfall(&["exception", "import", file.to_str().unwrap(), "--keep"]).exits(0);
    let during: Vec<Value> = (0..9).flat_map(|_| office.day(night.clone())).collect();
    expect("the same, with an exception, 9 nights", &during, &[]);
    let other = Sending { site: DROP, ..job };
    expect("the same job to another destination", &office.day(vec![(3 * 3_600, other)]), &[73]);
    office.days(2);
    expect("the same, after the exception expired", &office.day(night), &[73]);
    let review = office.outfall(&["exception", "review"]).exits(0);
    assert!(review.text().contains("expired"), "{}", review.text());
}

/// A date, YYYY-MM-DD, of a day of the office.
fn jiff_date(day: u64) -> String {
    let days = Day::midnight(day) / 86_400;
    // Days from 1 March 2026, all of it within that year.
    let mut left = days - 20_513;
    for (month, length) in [(3, 31), (4, 30), (5, 31), (6, 30), (7, 31)] {
        if left < length {
            return format!("2026-{month:02}-{:02}", left + 1);
        }
        left -= length;
    }
    unreachable!("the scenarios are shorter")
}

#[test]
fn software_updates_do_not_alert() {
    let mut office = Office::taught();
    // The next version, in another folder, sends a little more, from all hosts.
    let updater = Program { image: r"C:\Program Files (x86)\Vendor\Update\1.3.40.1\update.exe", ..UPDATER };
    let all: Vec<(u64, Sending)> = (1..=HOSTS)
        .map(|host| (40_000 + u64::from(host), Sending { host, site: VENDOR, program: updater, bytes: 9_000, ..POST }))
        .collect();
    let alerts: Vec<Value> = (0..5).flat_map(|_| office.day(all.clone())).collect();
    expect("software updates, 40 hosts, 5 days", &alerts, &[]);
}

#[test]
fn a_slow_drip_adds_up() {
    let mut office = Office::taught();
    let drip = Sending { host: 4, user: "cem", site: DROP, bytes: 50_000, helper: false, ..POST };
    // Every two hours of the working day: 250 kB a day.
    let mut day = || office.day((0..5).map(|n| (9 * 3_600 + n * 7_200, drip)).collect());
    let week: Vec<Vec<Value>> = (0..7).map(|_| day()).collect();
    let first = week.iter().position(|alerts| !alerts.is_empty());
    assert!(first.is_some_and(|day| (2..=4).contains(&day)), "{first:?}: a megabyte is reached on the fourth day");
    let alert = week.iter().flatten().next().unwrap();
    assert!(reasons(alert).contains(&"volume-window"), "{alert}");
    eprintln!("scenario | a slow drip, 50 kB every two hours | first alert on day {}", first.unwrap() + 1);
}

#[test]
fn an_insider_at_night_is_noticed_though_process_and_destination_are_common() {
    let mut office = Office::taught();
    let archive = Sending {
        host: 5,
        user: "user",
        site: CRM,
        bytes: 3_000_000,
        staged: Staged::Written { by: ARCHIVER, path: r"C:\Users\user\Documents\customers.7z" },
        ..POST
    };
    let alerts = office.day(vec![(2 * 3_600 + 600, archive)]);
    expect("an insider at night, by browser to a common service", &alerts, &[47]);
    assert!(reasons(&alerts[0]).contains(&"hour-unusual"), "{}", alerts[0]);
}

#[test]
fn a_renamed_ftp_client_is_recognised() {
    let mut office = Office::taught();
    let known = Sending { host: 9, program: FTP, site: PARTNER, bytes: 5_000, ftp: true, ..POST };
    office.day(vec![(36_000, known)]);
    let renamed = Program { image: r"C:\Users\Public\svchost.exe", parent: r"C:\Windows\System32\cmd.exe", ..FTP };
    let sending = Sending { host: 10, program: renamed, site: DROP, bytes: 5_000, ftp: true, ..POST };
    let alerts = office.day(vec![(36_000, sending)]);
    expect("a renamed ftp.exe, a small file", &alerts, &[47]);
    assert!(reasons(&alerts[0]).contains(&"dual-use-program"), "{}", alerts[0]);
}

#[test]
fn a_parent_on_the_denylist_is_never_normal() {
    let mut office = Office::taught();
    let word = Program { parent: r"C:\Program Files\Microsoft Office\root\Office16\WINWORD.EXE", ..STAGER };
    let sending = Sending { host: 11, program: word, site: DROP, bytes: 4_000, ..POST };
    let alerts: Vec<Value> = (0..6).flat_map(|_| office.day(vec![(36_000, sending)])).collect();
    expect("the child of a denied parent, 6 days", &alerts, &[73; 6]);
}

#[test]
fn a_staged_archive_by_an_unknown_program_alerts_even_while_the_baseline_learns() {
    let mut office = Office::new();
    let staged = Staged::Written { by: ARCHIVER, path: r"C:\Users\Public\old.7z" };
    let sending = Sending { host: 12, program: STAGER, site: DROP, bytes: 40_000, staged, ..POST };
    office.days(2);
    expect("a staged archive in the first week", &office.day(vec![(36_000, sending)]), &[73]);
}

#[test]
fn what_is_large_and_new_is_held_while_the_baseline_learns() {
    let mut office = Office::new();
    office.days(2);
    let large = Sending { host: 12, site: NEW_SAAS, bytes: 1_500_000, helper: false, ..POST };
    let all = office.day_with_all(vec![(36_000, large)]);
    assert!(all.iter().all(|alert| alert["event"]["severity"] == 21), "{all:#?}");
    let there = |alert: &Value| alert["destination"]["ip"] == "192.0.2.10";
    let alerts: Vec<Value> = all.into_iter().filter(there).collect();
    assert_eq!(severities(&alerts), [21]);
    assert!(reasons(&alerts[0]).contains(&"learning"));
}
