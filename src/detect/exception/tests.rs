use proptest::prelude::*;

use super::*;
use crate::detect::{Legs, Presence, Reason, Severity, Sureness, Verdict};
use crate::join::tests::{attributed, upload};
use crate::record::{EventId, Upload};

const DAY: u64 = 86_400_000_000_000;

fn verdict() -> Verdict {
    let legs = Legs {
        data_access: Presence::Missing,
        outbound_cleartext: Presence::Present,
        unexpected_process: Presence::Missing,
        rare_destination: Presence::Present,
    };
    Verdict { severity: Severity::High, sureness: Sureness::Low, reasons: Vec::new(), legs, held: false, place: None }
}

fn scope(pairs: &[(&str, &str)]) -> Scope {
    let mut scope = Scope::default();
    for (name, value) in pairs {
        match *name {
            "process" => scope.process = Some(value.parse().unwrap()),
            "destination" => scope.destination = Some(value.parse().unwrap()),
            "host" => scope.host = Some(value.parse().unwrap()),
            "user" => scope.user = Some(value.parse().unwrap()),
            "protocol" => scope.protocol = Some((*value).to_owned()),
            "ceiling" => scope.ceiling = Some(value.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    scope
}

fn exception(id: u32, pairs: &[(&str, &str)]) -> Exception {
    Exception {
        id: ExceptionId(id),
        scope: scope(pairs),
        broad: false,
        owner: "Ann".into(),
        justification: "The partner takes no other".into(),
        created: Timestamp(0),
        expires: Timestamp(100 * DAY),
    }
}

/// The `n`-th upload, of so many bytes, that ends at that time.
fn sent(n: u64, bytes: u64, end: u64) -> Upload {
    let mut upload = upload(bytes, &["a.7z"]);
    upload.end = Timestamp(end);
    upload.id = EventId::new("upload", upload.connection, upload.start, n);
    upload
}

const IMAGE: &str = r"C:\Program Files\Backup\agent.exe";

fn rule(exceptions: &mut Exceptions, upload: &Upload) -> (Option<u32>, Vec<&'static str>) {
    let mut verdict = verdict();
    let id = exceptions.rule(upload, &attributed(IMAGE), &mut verdict);
    (id.map(|id| id.0), verdict.reasons.iter().map(Reason::id).collect())
}

#[test]
fn every_part_that_is_given_must_fit() {
    let upload = sent(1, 100, DAY);
    let attribution = attributed(IMAGE);
    let client = upload.connection.client.address.to_string();
    let server = upload.connection.server.address.to_string();
    let covers = |pairs: &[(&str, &str)]| scope(pairs).covers(&upload, &attribution);
    assert!(covers(&[("process", r"c:\program files\*\AGENT.exe")]));
    assert!(covers(&[("host", &client)]) && covers(&[("destination", &server), ("protocol", "ftp")]));
    assert!(covers(&[("destination", &server), ("process", r"*\agent.exe"), ("host", &client)]));
    assert!(!covers(&[("destination", &server), ("process", r"*\other.exe")]));
    assert!(!covers(&[("destination", "198.18.0.1")]) && !covers(&[("host", "198.18.0.0/24")]));
    assert!(!covers(&[("destination", &server), ("protocol", "http")]));
    assert!(!covers(&[("destination", "partner.example")]), "its name is not known");
    let unknown = Attribution::Unknown { why: crate::join::Why::NoEndpoint, host: None };
    assert!(!scope(&[("process", "*agent*")]).covers(&upload, &unknown), "what is not known fits no pattern");
    assert!(scope(&[("host", &client)]).covers(&upload, &unknown));
}

#[test]
fn an_account_fits_by_its_name_alone_or_with_its_domain() {
    let pattern = |text: &str| text.parse::<Pattern>().unwrap();
    assert!(
        pattern("svc-backup").matches_account(r"CORP\SVC-backup")
            && pattern(r"corp\svc*").matches_account(r"CORP\svc-x")
    );
    assert!(!pattern(r"corp\svc*").matches_account("svc-x") && !pattern("svc").matches_account(r"CORP\svc-x"));
}

#[test]
fn an_exception_holds_until_it_expires_by_packet_time() {
    let mut exceptions = Exceptions::new(vec![exception(1, &[("process", "*agent*")])]);
    assert_eq!(rule(&mut exceptions, &sent(1, 10, 100 * DAY - 1)).0, Some(1));
    assert_eq!(rule(&mut exceptions, &sent(2, 10, 100 * DAY)).0, None);
    assert_eq!(exceptions.counters().suppressed, 1);
}

#[test]
fn above_its_ceiling_an_exception_covers_nothing_more_that_day_and_the_alert_says_so() {
    let mut exceptions = Exceptions::new(vec![exception(1, &[("process", "*agent*"), ("ceiling", "100")])]);
    assert_eq!(rule(&mut exceptions, &sent(1, 60, DAY)).0, Some(1));
    assert_eq!(rule(&mut exceptions, &sent(2, 41, DAY + 1)), (None, vec!["exception-ceiling"]));
    assert_eq!(rule(&mut exceptions, &sent(3, 40, DAY + 2)), (Some(1), vec![]), "what did not pass does not count");
    assert_eq!(rule(&mut exceptions, &sent(4, 1, 2 * DAY - 1)), (None, vec!["exception-ceiling"]));
    assert_eq!(rule(&mut exceptions, &sent(5, 100, 2 * DAY)), (Some(1), vec![]), "the next day");
    assert_eq!(exceptions.used(ExceptionId(1), Timestamp(DAY)), ByteSize(100));
    let counted = ExceptionCounters { suppressed: 3, bytes: 200, exceptions: 1, above_ceiling: 2 };
    assert_eq!(*exceptions.counters(), counted);
}

#[test]
fn an_upload_that_is_judged_again_counts_once() {
    let mut exceptions = Exceptions::new(vec![exception(1, &[("process", "*agent*"), ("ceiling", "100")])]);
    for bytes in [40, 70, 100] {
        assert_eq!(rule(&mut exceptions, &sent(1, bytes, DAY)).0, Some(1));
    }
    assert_eq!((exceptions.counters().suppressed, exceptions.counters().bytes), (1, 100));
    assert_eq!(rule(&mut exceptions, &sent(1, 101, DAY)), (None, vec!["exception-ceiling"]));
    assert_eq!(exceptions.counters().suppressed, 0, "it became an alert");
}

#[test]
fn what_passed_counts_across_a_restart_and_a_change_of_the_list() {
    let list = vec![exception(1, &[("process", "*agent*"), ("ceiling", "100")])];
    let mut exceptions = Exceptions::new(list.clone());
    exceptions.restore(ExceptionId(1), Timestamp(DAY + 5), 90);
    assert_eq!(rule(&mut exceptions, &sent(1, 11, DAY)).0, None);
    exceptions.replace(list);
    assert_eq!(rule(&mut exceptions, &sent(2, 11, DAY)).0, None);
    assert_eq!(rule(&mut exceptions, &sent(3, 10, DAY)).0, Some(1));
}

#[test]
fn the_narrowest_comes_first_then_the_lower_identifier() {
    let server = sent(1, 1, 1).connection.server.address.to_string();
    let list = vec![
        exception(1, &[("destination", &format!("{server}/24"))]),
        exception(2, &[("destination", &server)]),
        exception(9, &[("destination", &server), ("protocol", "ftp"), ("ceiling", "50")]),
        exception(5, &[("destination", &server)]),
    ];
    let mut exceptions = Exceptions::new(list.clone());
    assert_eq!(rule(&mut exceptions, &sent(1, 50, DAY)).0, Some(9));
    assert_eq!(rule(&mut exceptions, &sent(2, 50, DAY)), (Some(2), vec![]), "the next one covers what is above");
    let mut backwards = Exceptions::new(list.into_iter().rev().collect());
    assert_eq!(rule(&mut backwards, &sent(1, 50, DAY)).0, Some(9));
    assert_eq!(rule(&mut backwards, &sent(2, 50, DAY)).0, Some(2));
}

#[test]
fn what_covers_too_much_is_refused_unless_it_is_meant() {
    let broad: &[&[(&str, &str)]] = &[
        &[("protocol", "ftp")],
        &[("ceiling", "5 MB")],
        &[("destination", "198.0.0.0/8")],
        &[("destination", "2001:db8::/28")],
        &[("destination", "com")],
        &[("destination", "co.uk")],
        &[("destination", "github.io")],
        &[("process", "*")],
        &[("process", r"C:\*")],
        &[("process", r"*\*.exe")],
        &[("process", r"*\a*.exe")],
        &[("process", "*.exe"), ("destination", "partner.example")],
        &[("host", "10.0.0.0/8")],
        &[("host", "*")],
        &[("user", r"CORP\*")],
    ];
    for pairs in broad {
        let mut exception = exception(1, pairs);
        let refused = exception.check(Timestamp(0), Span(365 * DAY)).unwrap_err().to_string();
        assert!(
            !refused.contains('\n') && refused.contains("give at least") || refused.contains("too broad"),
            "{refused}"
        );
        exception.broad = true;
        assert_eq!(exception.check(Timestamp(0), Span(365 * DAY)), Ok(()), "{pairs:?}");
    }
    let narrow: &[&[(&str, &str)]] = &[
        &[("destination", "partner.example")],
        &[("destination", "ftp.partner.co.uk")],
        &[("destination", "ann.github.io")],
        &[("destination", "198.51.0.0/16")],
        &[("destination", "2001:db8::/32")],
        &[("process", r"C:\Program Files\Backup\*")],
        &[("process", r"*\agent.exe")],
        &[("process", r"*\7z.exe")],
        &[("host", "WKS-*")],
        &[("user", "svc-backup")],
    ];
    for pairs in narrow {
        assert_eq!(exception(1, pairs).check(Timestamp(0), Span(365 * DAY)), Ok(()), "{pairs:?}");
    }
}

#[test]
fn an_exception_needs_an_owner_a_justification_and_an_end() {
    let good = exception(1, &[("process", "*agent*")]);
    let refused = |exception: &Exception, longest: u64| {
        exception.check(Timestamp(0), Span(longest * DAY)).map_err(|error| error.to_string())
    };
    assert_eq!(refused(&good, 100), Ok(()));
    assert!(refused(&good, 99).unwrap_err().contains("detect.longest_exception"));
    for owner in ["", " ", "a\nb", &"x".repeat(201)] {
        assert!(refused(&Exception { owner: owner.into(), ..good.clone() }, 100).unwrap_err().starts_with("owner"));
    }
    let unjustified = Exception { justification: String::new(), ..good };
    assert!(refused(&unjustified, 100).unwrap_err().starts_with("justification"));
}

#[test]
fn a_review_says_what_an_owner_has_to_look_at() {
    let bounds = ReviewBounds { now: Timestamp(95 * DAY), soon: Span(30 * DAY), unused: Span(20 * DAY), wide: 3 };
    let ids = |exception: &Exception, usage: &Usage| -> Vec<&'static str> {
        review(exception, usage, &bounds).iter().map(Finding::id).collect()
    };
    let fine = Exception { expires: Timestamp(200 * DAY), ..exception(1, &[("process", "*agent*")]) };
    let used = Usage { hits: 1, last: Some(Timestamp(90 * DAY)), ..Usage::default() };
    assert_eq!(ids(&fine, &used), [""; 0]);
    assert_eq!(ids(&fine, &Usage::default()), ["never-matched"]);
    assert_eq!(ids(&exception(1, &[("process", "*agent*")]), &used), ["expires-soon"]);
    let old = Usage { last: Some(Timestamp(70 * DAY)), ..used.clone() };
    let expired = Exception { expires: Timestamp(95 * DAY), ..fine.clone() };
    assert_eq!(ids(&expired, &old), ["expired", "unused"]);
    let hidden = |name: &str| Hidden { name: name.into(), hits: 1, bytes: 1, first: Timestamp(1), last: Timestamp(1) };
    let wide = Usage { hosts: vec![hidden("a"), hidden("b")], unnamed: [0, 0, 7], ..used.clone() };
    assert_eq!(ids(&fine, &wide), ["wide-in-use"]);
    assert_eq!(ids(&Exception { scope: scope(&[("protocol", "ftp")]), ..fine }, &used), ["too-broad"]);
}

fn parsed(text: &str) -> Result<Vec<Exception>, String> {
    let parsed = parse_exceptions(text, "x.toml", Timestamp(DAY), Span(365 * DAY), 7);
    parsed.map_err(|error| error.to_string())
}

const GOOD: &str =
    "[[exception]]\nprocess = '*\\agent.exe'\nowner = 'Ann'\njustification = 'y'\nexpires = '1970-03-01'\n";

#[test]
fn a_new_exception_of_a_file_gets_the_next_identifier_that_nothing_has() {
    let ids = |text: &str| -> Vec<u32> { parsed(text).unwrap().iter().map(|exception| exception.id.0).collect() };
    assert_eq!(ids(&format!("{GOOD}{GOOD}")), [7, 8]);
    let numbered = GOOD.replace("owner", "id = 'EX-0041'\nowner");
    assert_eq!(ids(&format!("{GOOD}{numbered}")), [42, 41]);
    let exception = &parsed(GOOD).unwrap()[0];
    assert_eq!((exception.created, exception.expires), (Timestamp(DAY), Timestamp(59 * DAY)));
    assert_eq!(parsed("").unwrap(), []);
    let unquoted = parsed(&GOOD.replace("'1970-03-01'", "1970-03-01")).unwrap();
    assert_eq!(unquoted[0].expires, exception.expires, "a date of TOML");
    let time = parsed(&GOOD.replace("'1970-03-01'", "1970-03-01T00:00:00Z")).unwrap();
    assert_eq!(time[0].expires, exception.expires, "a time of TOML");
}

#[test]
fn every_bad_entry_of_a_file_is_refused_with_its_place() {
    let bad = |from: &str, to: &str| GOOD.replace(from, to);
    for (text, why) in [
        (bad("'*\\agent.exe'", "'*'"), "too broad"),
        (bad("1970-03-01", "1971-03-01"), "longest_exception"),
        (bad("1970-03-01", "soon"), "expires: expected a date"),
        (bad("1970-03-01", "1970-03-01T00:00:00"), "expires: expected a date"),
        (bad("owner = 'Ann'", "owner = ''"), "owner"),
        (bad("owner", "id = '7'\nowner"), "EX-0007"),
        (bad("owner", "protocol = 'tls'\nowner"), "expected one of ftp"),
        (bad("owner", "destination = 'a b'\nowner"), "destination: expected an address"),
        (bad("owner", "host = '10.0.0.999'\nowner"), "host: expected an address"),
        (bad("owner", "ceiling = 'much'\nowner"), "ceiling"),
    ] {
        let refused = parsed(&format!("{GOOD}\n{text}")).unwrap_err();
        assert!(refused.starts_with("x.toml:7:1: ") && refused.contains(why), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
    let twice = GOOD.replace("owner", "id = 'EX-0001'\nowner");
    assert!(parsed(&format!("{twice}{twice}")).unwrap_err().contains("twice"));
    assert!(parsed(&GOOD.replace("owner", "ownr")).unwrap_err().contains("unknown field `ownr`"));
    assert!(parsed("[[exception").unwrap_err().starts_with("x.toml:1:"));
    let both = parsed(&format!("{}{}", bad("'Ann'", "''"), bad("'y'", "''"))).unwrap_err();
    assert_eq!(both.lines().count(), 2, "{both}");
}

#[test]
fn identifiers_read_as_they_are_written() {
    for (text, number) in
        [("EX-0007", Some(7)), ("ex-12345", Some(12_345)), ("EX-", None), ("EX-0", None), ("EX-+7", None)]
    {
        assert_eq!(text.parse::<ExceptionId>().ok().map(|id| id.0), number, "{text}");
    }
    assert_eq!(ExceptionId(7).to_string(), "EX-0007");
    assert!("\u{e9}\u{e9}X".parse::<ExceptionId>().is_err());
}

prop_compose! {
    fn any_exception()(
        id in 1..u32::MAX,
        process in proptest::option::of(r#"[a-zA-Z:\\."' ü*?#=]{3,40}abc"#),
        destination in proptest::option::of(prop_oneof!["[a-z]{1,9}\\.example", Just("198.51.100.0/24".to_owned()), Just("2001:db8::1".to_owned())]),
        host in proptest::option::of(prop_oneof!["[A-Z*-]{1,9}X", Just("10.1.2.0/24".to_owned())]),
        user in "[A-Za-z\\\\'\"$-]{1,12}u",
        protocol in proptest::option::of(proptest::sample::select(&EXCEPTION_PROTOCOLS[..])),
        ceiling in proptest::option::of(any::<u64>()),
        broad in any::<bool>(),
        owner in "[^\\p{C}\\p{Z}]{1,40}",
        justification in "[^\\p{C}\\p{Z}][^\\p{C}]{0,80}",
        created in 0..8_000_000_000_000_000_000_u64,
        expires in 0..8_000_000_000_000_000_000_u64,
    ) -> Exception {
        let scope = Scope {
            process: process.map(|text| text.parse().unwrap()),
            destination: destination.map(|text| text.parse().unwrap()),
            host: host.map(|text| text.parse().unwrap()),
            user: Some(user.parse().unwrap()),
            protocol: protocol.map(str::to_owned),
            ceiling: ceiling.map(ByteSize),
        };
        let (created, expires) = (Timestamp(created), Timestamp(expires));
        let broad = broad || is_too_broad(&scope).is_some();
        Exception { id: ExceptionId(id), scope, broad, owner, justification, created, expires }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_and_written_the_same(list in proptest::collection::vec(any_exception(), 0..6)) {
        let mut list = list;
        list.sort_by_key(|exception| exception.id);
        list.dedup_by_key(|exception| exception.id);
        let text = write_exceptions(&list);
        let read = parse_exceptions(&text, "x.toml", Timestamp(0), Span(u64::MAX), 1);
        prop_assert_eq!(read.as_deref(), Ok(list.as_slice()), "{}", text);
        prop_assert_eq!(write_exceptions(&list), text);
    }
}
