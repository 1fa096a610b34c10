use super::*;
use crate::config::{Config, Destination, ExpectedProcess};
use crate::endpoint::Operation;
use crate::join::{Ancestor, Attribution, Confidence, FileKind, FileLink, FileRule, HostName, Process, Why};
use crate::net::{ByteSize, Endpoint, Span, Timestamp};
use crate::record::{Connection, EventId, Protocol, State, Upload};

fn end(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

fn upload(bytes: u64) -> Upload {
    between("10.0.0.5:5000", "192.0.2.9:21", bytes)
}

fn between(client: &str, server: &str, bytes: u64) -> Upload {
    let connection = Connection { client: end(client), server: end(server) };
    Upload {
        id: EventId::new("upload", connection, Timestamp(1), 0),
        connection,
        wrapping: Default::default(),
        protocol: Protocol::Ftp,
        opened: Timestamp(0),
        start: Timestamp(1),
        end: Timestamp(2),
        client_bytes: bytes,
        server_bytes: 0,
        bytes,
        missing: 0,
        state: State::Complete,
        domain: None,
        proxied_to: None,
        domain_source: Default::default(),
        http: None,
        ftp: None,
        files: Vec::new(),
        body: crate::record::Body::default(),
        notes: Vec::new(),
    }
}

fn process(image: Option<&str>, ancestors: &[&str]) -> Process {
    let ancestor =
        |image: &&str| Ancestor { pid: Some(9), start: None, image: Some((*image).into()), command_line: None };
    Process {
        host: HostName { id: "A".into(), name: None, domain: None },
        pid: Some(7),
        key: None,
        start: None,
        image: image.map(Into::into),
        command_line: None,
        user: None,
        sid: None,
        sha256: None,
        signer: None,
        ancestors: ancestors.iter().map(ancestor).collect(),
    }
}

fn known(image: &str, ancestors: &[&str]) -> Attribution {
    let process = Box::new(process(Some(image), ancestors));
    Attribution::Known { process, rule: "five-tuple", confidence: Confidence::Certain, offset: None }
}

fn unknown(why: Why) -> Attribution {
    Attribution::Unknown { why, host: None }
}

fn link(rule: FileRule, confidence: Confidence, kind: FileKind, op: Operation) -> FileLink {
    let staged_by = process(Some("C:\\7z.exe"), &[]);
    FileLink { path: "C:\\x\\old.7z".into(), size: None, op, ts: Timestamp(1), staged_by, rule, confidence, kind }
}

fn archive() -> Vec<FileLink> {
    vec![link(FileRule::NameAndSize, Confidence::High, FileKind::Archive, Operation::Write)]
}

const FTP: &str = "C:\\Windows\\System32\\ftp.exe";
const AGENT: &str = "C:\\Program Files\\Backup\\agent.exe";
const WORD: &str = "C:\\Program Files\\Office\\WINWORD.EXE";

fn detector() -> Detector {
    let mut config = Config::default();
    config.detect.data_transfer_size_threshold = ByteSize(1_000);
    config.detect.rare_below_hosts = 3;
    config.detect.dual_use_programs = vec!["certutil.exe".into()];
    config.detect.archive_tools = Vec::new();
    config.detect.parent_process_denylist = vec!["winword.exe".into()];
    let there: Destination = "192.0.2.0/24".parse().unwrap();
    let agent = ExpectedProcess::new("*\\backup\\agent.exe", vec!["ftp".into()], vec![there]).unwrap();
    config.detect.expected_processes = vec![agent];
    config.detect.approved_destinations = vec!["198.51.100.7".parse().unwrap()];
    Detector::new(&config)
}

/// A detector for which 192.0.2.9 is not rare.
fn popular() -> Detector {
    let mut detector = detector();
    for host in 1..=3 {
        let there = between(&format!("10.0.0.{host}:1"), "192.0.2.9:21", 1);
        settle(&mut detector, &there, &unknown(Why::NoEndpoint), false);
    }
    detector
}

fn judge(detector: &Detector, upload: &Upload, attribution: &Attribution, links: &[FileLink]) -> Option<Verdict> {
    detector.judge(upload, &detector.route(upload)?, attribution, links)
}

fn settle(detector: &mut Detector, upload: &Upload, attribution: &Attribution, alert: bool) {
    let route = detector.route(upload).unwrap();
    detector.settle(upload, &route, attribution, alert);
}

fn told(verdict: Option<Verdict>) -> (u64, Vec<&'static str>) {
    verdict.map_or((0, Vec::new()), |verdict| {
        (verdict.severity.number(), verdict.reasons.iter().map(Reason::id).collect())
    })
}

#[test]
fn staged_and_unexpected_or_rare_is_high() {
    let rare = judge(&detector(), &upload(10), &known(AGENT, &[]), &archive());
    assert_eq!(told(rare), (73, vec!["data-staged", "destination-rare"]));
    let unexpected = judge(&popular(), &upload(10), &known(FTP, &["C:\\cmd.exe"]), &archive());
    assert_eq!(told(unexpected), (73, vec!["data-staged", "process-unexpected"]));
    let both = judge(&detector(), &upload(1_000), &known(FTP, &[]), &archive());
    assert_eq!(told(both), (73, vec!["data-staged", "process-unexpected", "destination-rare", "volume"]));
}

#[test]
fn a_denied_parent_two_levels_up_makes_it_critical() {
    let verdict = judge(&detector(), &upload(10), &known(FTP, &["C:\\cmd.exe", WORD]), &archive()).unwrap();
    assert_eq!(verdict.severity, Severity::Critical);
    let denied = Reason::ParentDenied { parent: "WINWORD.EXE".into(), pid: Some(9), levels: 2 };
    assert!(verdict.reasons.contains(&denied));
    let ids: Vec<&str> = verdict.reasons.iter().map(Reason::id).collect();
    assert_eq!(ids, ["data-staged", "process-unexpected", "destination-rare", "parent-denied"]);
}

#[test]
fn a_denied_parent_without_staged_data_is_high() {
    let verdict = judge(&popular(), &upload(10), &known(FTP, &[WORD]), &[]);
    assert_eq!(told(verdict), (73, vec!["process-unexpected", "parent-denied", "no-data-access"]));
}

#[test]
fn a_denied_parent_of_an_expected_process_at_a_known_destination_is_none() {
    assert_eq!(judge(&popular(), &upload(5_000), &known(AGENT, &[WORD]), &archive()), None);
}

#[test]
fn a_large_upload_with_a_leg_missing_is_medium_and_says_which() {
    let no_helper = judge(&detector(), &upload(1_000), &unknown(Why::NoEndpoint), &[]).unwrap();
    assert_eq!(no_helper.legs.of(Presence::Missing), [Leg::DataAccess, Leg::UnexpectedProcess]);
    assert_eq!(no_helper.legs.of(Presence::Present), [Leg::OutboundCleartext, Leg::RareDestination]);
    assert_eq!(told(Some(no_helper)), (47, vec!["destination-rare", "volume", "no-endpoint-context"]));
    let silent = judge(&detector(), &upload(1_000), &unknown(Why::HostSilent { since: None }), &[]);
    assert_eq!(told(silent), (47, vec!["destination-rare", "volume", "process-unknown"]));
    let no_data = judge(&popular(), &upload(1_000), &known(FTP, &[]), &[]).unwrap();
    assert_eq!(no_data.legs.of(Presence::Absent), [Leg::RareDestination]);
    assert_eq!(told(Some(no_data)), (47, vec!["process-unexpected", "volume", "no-data-access"]));
}

#[test]
fn a_small_upload_without_staged_data_is_none() {
    assert_eq!(judge(&detector(), &upload(999), &known(FTP, &[]), &[]), None);
    assert_eq!(judge(&detector(), &upload(999), &unknown(Why::NoEndpoint), &[]), None);
}

#[test]
fn an_expected_process_at_a_known_destination_is_none_whatever_it_sends() {
    assert_eq!(judge(&popular(), &upload(5_000), &known(AGENT, &[]), &archive()), None);
    assert_eq!(judge(&popular(), &upload(5_000), &unknown(Why::NoEndpoint), &archive()), None);
}

#[test]
fn a_file_linked_without_a_process_is_high_and_says_that_the_process_is_not_known() {
    let off = Span::seconds(90);
    let verdict = judge(&detector(), &upload(10), &unknown(Why::OutsideWindow { off }), &archive()).unwrap();
    assert!(verdict.reasons.iter().any(|reason| reason.text().contains("90.0 s away")));
    assert_eq!(told(Some(verdict)), (73, vec!["data-staged", "destination-rare", "process-unknown"]));
}

#[test]
fn a_process_known_by_its_pid_alone_is_not_called_unexpected() {
    let process = Box::new(process(None, &[]));
    let attribution = Attribution::Known { process, rule: "five-tuple", confidence: Confidence::Medium, offset: None };
    assert_eq!(judge(&popular(), &upload(5_000), &attribution, &archive()), None);
    let rare = judge(&detector(), &upload(5_000), &attribution, &archive());
    assert_eq!(told(rare), (73, vec!["data-staged", "destination-rare", "volume", "process-unknown"]));
}

#[test]
fn an_expectation_holds_for_its_protocol_and_destination_only() {
    let mut http = upload(10);
    http.protocol = Protocol::Http;
    assert!(told(judge(&popular(), &http, &known(AGENT, &[]), &archive())).1.contains(&"process-unexpected"));
    let elsewhere = between("10.0.0.5:1", "203.0.113.1:21", 10);
    assert!(told(judge(&popular(), &elsewhere, &known(AGENT, &[]), &archive())).1.contains(&"process-unexpected"));
}

#[test]
fn an_approved_destination_is_never_rare() {
    let approved = between("10.0.0.5:1", "198.51.100.7:21", 10);
    assert_eq!(
        told(judge(&detector(), &approved, &known(FTP, &[]), &archive())).1,
        ["data-staged", "process-unexpected"]
    );
}

#[test]
fn only_outbound_uploads_over_listed_protocols_are_judged() {
    let attribution = known(FTP, &[]);
    for (client, server) in
        [("10.0.0.5:1", "10.0.0.9:21"), ("192.0.2.9:1", "10.0.0.5:21"), ("192.0.2.9:1", "192.0.2.8:21")]
    {
        assert_eq!(judge(&detector(), &between(client, server, 5_000), &attribution, &archive()), None);
    }
    let mut other = upload(5_000);
    other.protocol = Protocol::Smtp;
    assert_eq!(judge(&detector(), &other, &attribution, &archive()), None);
    other.protocol = Protocol::FtpData;
    assert!(judge(&detector(), &other, &attribution, &archive()).is_some());
}

#[test]
fn weak_tree_links_do_not_make_a_small_upload_an_alert() {
    use FileRule::ProcessTree;
    let judge = |bytes, links: &[FileLink]| told(judge(&detector(), &upload(bytes), &known(FTP, &[]), links));
    let low = [link(ProcessTree, Confidence::Low, FileKind::UserData, Operation::Read)];
    assert_eq!(judge(999, &low).0, 0);
    assert!(judge(1_000, &low).1.contains(&"data-staged"));
    let medium = [link(ProcessTree, Confidence::Medium, FileKind::Archive, Operation::Read)];
    assert_eq!(judge(999, &medium).0, 73);
    for (kind, op) in [
        (FileKind::Other, Operation::Read),
        (FileKind::Script, Operation::Read),
        (FileKind::UserData, Operation::Write),
    ] {
        let (severity, reasons) = judge(1_000, &[link(ProcessTree, Confidence::Low, kind, op)]);
        assert_eq!((severity, reasons.last()), (47, Some(&"no-data-access")), "{kind:?} {op:?}");
    }
}

#[test]
fn the_strongest_rule_and_confidence_are_stated() {
    let mut links = archive();
    links.push(link(FileRule::ProcessTree, Confidence::Low, FileKind::UserData, Operation::Read));
    let verdict = judge(&detector(), &upload(10), &known(FTP, &[]), &links).unwrap();
    let staged = Reason::DataStaged { files: 2, rule: FileRule::NameAndSize, confidence: Confidence::High };
    assert_eq!(verdict.reasons.first(), Some(&staged));
    let value = serde_json::to_value(staged.document()).unwrap();
    assert_eq!((value["id"].as_str(), value["files"].as_u64()), (Some("data-staged"), Some(2)));
}

#[test]
fn a_destination_is_rare_below_the_configured_number_of_hosts() {
    let mut detector = detector();
    let mut upload = upload(10);
    upload.domain = Some("Files.Example.".into());
    for (host, expected) in [(1, 1), (1, 1), (2, 2)] {
        let mut seen = between(&format!("10.0.0.{host}:1"), "192.0.2.77:80", 1);
        seen.domain = Some("files.example".into());
        detector.note(&seen, &detector.route(&seen).unwrap(), Span::seconds(1));
        let verdict = judge(&detector, &upload, &known(FTP, &[]), &archive()).unwrap();
        let (users, age) = (0, None);
        let destination = "files.example".into();
        let rare = Reason::DestinationRare { destination, hosts: expected, below: 3, users, age };
        assert!(verdict.reasons.contains(&rare), "{verdict:?}");
    }
    let mut third = between("10.0.0.3:1", "192.0.2.77:80", 1);
    third.domain = Some("FILES.example".into());
    detector.note(&third, &detector.route(&third).unwrap(), Span::seconds(1));
    assert_eq!(told(judge(&detector, &upload, &known(FTP, &[]), &archive())).1, ["data-staged", "process-unexpected"]);
}

#[test]
fn a_proxy_at_home_is_looked_through() {
    let detector = Detector::new(&Config::default());
    let through = |host: &str| Upload {
        proxied_to: Some(host.to_owned()),
        domain: host.parse::<std::net::IpAddr>().is_err().then(|| host.to_owned()),
        ..between("10.0.0.5:40000", "10.0.0.1:3128", 5_000_000)
    };
    assert!(detector.is_outbound(&through("files.example")));
    assert!(detector.is_outbound(&through("203.0.113.9")));
    assert!(!detector.is_outbound(&through("10.9.9.9")));
    assert!(!detector.is_outbound(&through("wiki")));
    assert!(!detector.is_outbound(&through("wiki.internal")));
}

#[test]
fn a_server_outside_is_outside_whatever_host_the_request_names() {
    let detector = Detector::new(&Config::default());
    for host in ["intranet", "files.local", "10.1.1.5"] {
        let upload = Upload { proxied_to: Some(host.to_owned()), ..between("10.1.1.1:40000", "203.0.113.9:80", 5_000) };
        assert!(detector.is_outbound(&upload), "{host}");
    }
}

const CERTUTIL: &str = "C:\\Windows\\System32\\certutil.exe";
const SYNC: &str = "C:\\Tools\\sync.exe";

/// An upload of that day of packet time.
fn on_day(day: u64, host: u8, bytes: u64) -> Upload {
    let start = Timestamp::from_parts(day * 86_400 + 3_600, 0);
    Upload { start, end: start, ..between(&format!("10.0.0.{host}:5000"), "192.0.2.9:21", bytes) }
}

/// A baseline that is kept, in which this process uploaded from three hosts on each of these days.
fn taught(image: &str, parents: &[&str], days: std::ops::Range<u64>) -> Detector {
    let mut detector = detector();
    detector.restore([]);
    for day in days {
        for host in 1..=3 {
            settle(&mut detector, &on_day(day, host, 10), &known(image, parents), false);
        }
    }
    detector
}

#[test]
fn what_a_process_did_on_enough_days_and_hosts_is_expected() {
    let judge = |days: u64| {
        let detector = taught(SYNC, &["C:\\run.exe"], 0..days);
        told(judge(&detector, &on_day(20, 1, 5_000), &known(SYNC, &["C:\\run.exe"]), &archive())).1
    };
    assert_eq!(judge(4), ["data-staged", "process-unexpected", "volume"]);
    assert!(judge(5).is_empty());
}

#[test]
fn one_host_alone_teaches_a_process_only_its_destination() {
    let mut detector = detector();
    for day in 0..5 {
        settle(&mut detector, &on_day(day, 1, 10), &known(SYNC, &[]), false);
    }
    let reasons = told(judge(&detector, &on_day(20, 1, 10), &known(SYNC, &[]), &archive())).1;
    assert_eq!(reasons, ["data-staged", "destination-rare"]);
    let elsewhere =
        Upload { start: Timestamp::from_parts(20 * 86_400, 0), ..between("10.0.0.1:1", "203.0.113.1:21", 10) };
    let verdict = judge(&detector, &elsewhere, &known(SYNC, &[]), &archive()).unwrap();
    let seen = verdict.reasons.iter().find_map(|reason| match reason {
        Reason::ProcessUnexpected { days, hosts, .. } => Some((*days, *hosts)),
        _ => None,
    });
    assert_eq!(seen, Some((5, 1)), "{verdict:?}");
}

#[test]
fn what_was_an_alert_teaches_nothing_however_often() {
    let mut detector = detector();
    for day in 0..60 {
        let upload = on_day(day, 1, 10);
        let verdict = judge(&detector, &upload, &known(SYNC, &[]), &archive());
        assert_eq!(told(verdict).1, ["data-staged", "process-unexpected", "destination-rare"], "day {day}");
        settle(&mut detector, &upload, &known(SYNC, &[]), true);
    }
}

#[test]
fn a_destination_is_rare_no_longer_once_it_is_old() {
    let mut detector = detector();
    settle(&mut detector, &on_day(1, 1, 10), &unknown(Why::NoEndpoint), false);
    let reasons_on = |day| told(judge(&detector, &on_day(day, 1, 5_000), &unknown(Why::NoEndpoint), &[])).1;
    assert_eq!(reasons_on(30), ["destination-rare", "volume", "no-endpoint-context"]);
    assert!(reasons_on(31).is_empty());
    let mut config = Config::default();
    config.detect.approved_only = true;
    detector.configure(&config);
    let verdict = judge(&detector, &on_day(31, 1, 5_000_000), &unknown(Why::NoEndpoint), &[]);
    assert_eq!(told(verdict).1, ["destination-rare", "volume", "no-endpoint-context"]);
}

#[test]
fn a_program_that_is_often_misused_is_held_to_a_stricter_rule() {
    let small = judge(&detector(), &upload(10), &known(CERTUTIL, &[]), &[]);
    assert_eq!(told(small), (47, vec!["process-unexpected", "dual-use-program", "destination-rare", "no-data-access"]));
    let common = judge(&popular(), &upload(10), &known(CERTUTIL, &[]), &[]);
    assert_eq!(told(common).0, 0, "small, and not to a rare destination");
    let other_parent = taught(CERTUTIL, &["C:\\job.exe"], 0..9);
    let judge =
        |parent: &str| told(judge(&other_parent, &on_day(20, 1, 10), &known(CERTUTIL, &[parent]), &archive())).1;
    assert!(judge("C:\\job.exe").is_empty(), "the same job, to the same place");
    assert_eq!(judge("C:\\cmd.exe"), ["data-staged", "process-unexpected", "dual-use-program"]);
}

#[test]
fn a_renamed_program_is_known_by_its_content() {
    let mut detector = popular();
    let with_hash = |image: &str| {
        let process = Process { sha256: Some("cd".repeat(32).into()), ..process(Some(image), &[]) };
        let confidence = Confidence::Certain;
        Attribution::Known { process: Box::new(process), rule: "five-tuple", confidence, offset: None }
    };
    settle(&mut detector, &upload(10), &with_hash(CERTUTIL), true);
    let verdict = judge(&detector, &upload(10), &with_hash("C:\\Users\\Public\\svchost.exe"), &archive()).unwrap();
    let renamed = Reason::DualUse { program: "svchost.exe".into(), known_as: Some("certutil.exe".into()) };
    assert!(verdict.reasons.contains(&renamed), "{verdict:?}");
}

#[test]
fn the_child_of_a_denied_parent_is_never_learned() {
    let detector = taught(SYNC, &[WORD], 0..9);
    let verdict = judge(&detector, &on_day(20, 1, 10), &known(SYNC, &[WORD]), &[]);
    assert_eq!(told(verdict), (73, vec!["process-unexpected", "parent-denied", "no-data-access"]));
}

#[test]
fn while_it_learns_what_rests_on_it_is_held_and_hard_rules_are_not() {
    let mut detector = detector();
    detector.restore([]);
    settle(&mut detector, &on_day(0, 9, 1), &unknown(Why::NoEndpoint), false);
    let judge = |day, attribution: &Attribution, links: &[FileLink]| {
        let verdict = judge(&detector, &on_day(day, 1, 1_000), attribution, links).unwrap();
        (verdict.severity.number(), verdict.held, verdict.reasons.iter().any(|reason| reason.id() == "learning"))
    };
    assert_eq!(judge(13, &unknown(Why::NoEndpoint), &[]), (21, true, true));
    assert_eq!(judge(15, &unknown(Why::NoEndpoint), &[]), (47, false, false));
    assert_eq!(judge(1, &known(SYNC, &[]), &archive()), (73, false, false), "a file linked by name and size");
    assert_eq!(judge(1, &known(SYNC, &[WORD]), &[]), (73, false, false), "a denied parent");
    let read = [link(FileRule::ProcessTree, Confidence::Low, FileKind::UserData, Operation::Read)];
    assert_eq!(judge(1, &known(SYNC, &[]), &read), (21, true, true));
    assert_eq!(judge(1, &known(CERTUTIL, &[]), &read), (73, false, false), "a stricter rule");
}

#[test]
fn a_verdict_is_as_sure_as_what_it_rests_on() {
    let sure = |attribution: &Attribution, links: &[FileLink]| {
        judge(&detector(), &upload(1_000), attribution, links).unwrap().sureness
    };
    assert_eq!(sure(&known(FTP, &[]), &archive()), Sureness::High);
    assert_eq!(sure(&known(FTP, &[]), &[]), Sureness::Medium);
    assert_eq!(sure(&unknown(Why::NoEndpoint), &archive()), Sureness::Medium);
    assert_eq!(sure(&unknown(Why::NoEndpoint), &[]), Sureness::Low);
}

#[test]
fn what_was_done_to_the_files_is_said_and_what_is_grave_makes_it_critical() {
    let mut config = Config::default();
    config.detect.dual_use_programs = Vec::new();
    let detector = Detector::new(&config);
    let packed = judge(&detector, &upload(10), &known(SYNC, &[]), &archive());
    assert_eq!(told(packed), (73, vec!["data-staged", "archive-created", "process-unexpected", "destination-rare"]));
    let mut links = archive();
    links.push(FileLink {
        path: "C:\\Users\\x\\.ssh\\id_rsa".into(),
        ..link(FileRule::Name, Confidence::Medium, FileKind::UserData, Operation::Read)
    });
    let (severity, reasons) = told(judge(&detector, &upload(10), &known(SYNC, &[]), &links));
    assert_eq!((severity, reasons.get(1)), (99, Some(&"sensitive-path")));
}

#[test]
fn small_uploads_that_add_up_are_as_one_large_one() {
    let mut detector = detector();
    let drop = |day| on_day(day, 1, 400);
    for day in 0..2 {
        assert_eq!(judge(&detector, &drop(day), &known(SYNC, &[]), &[]), None, "day {day}");
        settle(&mut detector, &drop(day), &known(SYNC, &[]), false);
    }
    let verdict = judge(&detector, &drop(2), &known(SYNC, &[]), &[]);
    assert_eq!(
        told(verdict),
        (47, vec!["process-unexpected", "destination-rare", "volume-window", "producer-ratio", "no-data-access"])
    );
}

#[test]
fn who_is_known_and_sends_to_whom_is_known_is_still_noticed_when_two_habits_break() {
    let mut detector = taught(SYNC, &[], 0..20);
    for day in 0..20 {
        for n in 0..3 {
            let upload = Upload { end: Timestamp::from_parts(day * 86_400 + 36_000 + n, 0), ..on_day(day, 1, 2_000) };
            settle(&mut detector, &upload, &known(SYNC, &[]), false);
        }
    }
    let at_night = |bytes| Upload { end: Timestamp::from_parts(21 * 86_400 + 82_000, 0), ..on_day(21, 1, bytes) };
    let (severity, reasons) = told(judge(&detector, &at_night(900_000), &known(SYNC, &[]), &archive()));
    assert_eq!(severity, 47);
    assert!(reasons.contains(&"volume-unusual") && reasons.contains(&"hour-unusual"), "{reasons:?}");
    assert_eq!(judge(&detector, &at_night(900), &known(SYNC, &[]), &archive()), None, "one habit alone");
    assert_eq!(judge(&detector, &at_night(900_000), &known(SYNC, &[]), &[]), None, "no data is known to be staged");
}
