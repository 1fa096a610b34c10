use super::*;
use crate::config;
use crate::endpoint::{History, Intake};
use crate::net::{ByteSize, Endpoint, Span, Timestamp};
use crate::record::{Connection, Document, EventId, FileInfo, Ftp, Http, Protocol, State, Upload};

const HELLO: &str = r#"{"type":"hello","v":1,"host":{"id":"A","name":"WKS-1","ips":["10.0.0.5"]},"ts":1000}"#;

/// A joiner over these lines; times in them are in seconds.
fn joiner(lines: &[&str]) -> Joiner {
    let mut history = History::new(ByteSize(1 << 20));
    let mut intake = Intake::new(ByteSize(10_000));
    let text: Vec<String> = std::iter::once(&HELLO).chain(lines).map(|line| in_nanoseconds(line)).collect();
    intake.read("t", text.join("\n").as_bytes(), &mut |observation| history.insert(observation)).unwrap();
    assert_eq!(intake.take_warnings(), []);
    let config = config::Join {
        look_back: Span::seconds(600),
        connection_window: Span::seconds(10),
        grace: Span::seconds(5),
        size_overhead: 3,
        translators: vec!["198.51.100.1/32".parse().unwrap()],
        ..config::Join::default()
    };
    Joiner::new(&config, history)
}

fn in_nanoseconds(line: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
    for key in ["ts", "start", "parent_start"] {
        if let Some(seconds) = value.get(key).and_then(|time| time.as_f64()) {
            value[key] = ((seconds * 1e9) as u64).into();
        }
    }
    value.to_string()
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_parts(seconds, 0)
}

fn end(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

fn flow(client: &str, server: &str) -> Connection {
    Connection { client: end(client), server: end(server) }
}

const CLIENT: &str = "10.0.0.5:5000";
const SERVER: &str = "192.0.2.9:21";

fn seen(connection: Connection, start: u64, end: u64) -> FlowSeen {
    FlowSeen { connection, start: at(start), end: at(end), opening_seen: true }
}

fn seen_of(upload: &Upload) -> FlowSeen {
    FlowSeen { connection: upload.connection, start: upload.start, end: upload.end, opening_seen: true }
}

fn attribute(joiner: &Joiner, start: u64, end: u64) -> Attribution {
    joiner.attribute(seen(flow(CLIENT, SERVER), start, end))
}

fn why(attribution: &Attribution) -> &'static str {
    match attribution {
        Attribution::Unknown { why, .. } => why.name(),
        Attribution::Known { .. } => "known",
    }
}

fn known(attribution: &Attribution) -> (&str, Confidence) {
    match attribution {
        Attribution::Known { process, confidence, .. } => (process.name().unwrap_or("?"), *confidence),
        Attribution::Unknown { why, .. } => panic!("{why:?}"),
    }
}

const EXPLORER: &str = r#"{"type":"process_start","ts":900,"start":900,"pid":10,"image":"C:\\Windows\\explorer.exe"}"#;
const SHELL: &str =
    r#"{"type":"process_start","ts":1100,"start":1100,"pid":20,"ppid":10,"image":"C:\\Windows\\System32\\cmd.exe"}"#;
const FTP: &str = r#"{"type":"process_start","ts":1900,"start":1900,"pid":30,"ppid":20,"parent_start":1100,
    "image":"C:\\Windows\\System32\\ftp.exe","command_line":"ftp -s:C:\\x\\s.txt","user":"CORP\\ann","sid":"S-1"}"#;
const PACKER: &str =
    r#"{"type":"process_start","ts":1800,"start":1800,"pid":40,"ppid":20,"image":"C:\\Program Files\\7-Zip\\7z.exe"}"#;
const CONNECTION: &str = r#"{"type":"connection","ts":2000,"pid":30,"start":1900,"local":"10.0.0.5:5000",
    "remote":"192.0.2.9:21","initiated":true}"#;

#[test]
fn the_five_tuple_names_the_process_its_user_and_its_ancestors() {
    let joiner = joiner(&[EXPLORER, SHELL, FTP, CONNECTION]);
    let attribution = attribute(&joiner, 2000, 2100);
    let process = attribution.process().unwrap();
    assert_eq!(known(&attribution), ("ftp.exe", Confidence::Certain));
    let above: Vec<&str> = process.ancestors.iter().filter_map(|ancestor| ancestor.name()).collect();
    assert_eq!(above, ["cmd.exe", "explorer.exe"]);

    let mut document = Document::new();
    write_attribution(&mut document, &attribution);
    for (path, value) in [
        ("process.name", "ftp.exe"),
        ("process.executable", "C:\\Windows\\System32\\ftp.exe"),
        ("process.start", "1970-01-01T00:31:40.000000000Z"),
        ("process.parent.name", "cmd.exe"),
        ("user.name", "ann"),
        ("user.domain", "CORP"),
        ("user.id", "S-1"),
        ("host.id", "A"),
        ("host.name", "WKS-1"),
        ("outfall.join.confidence", "certain"),
        ("outfall.join.rule", "five-tuple"),
    ] {
        assert_eq!(document.get(path), Some(value.into()), "{path}");
    }
}

#[test]
fn the_window_reaches_from_before_the_start_to_after_the_end() {
    let joiner = joiner(&[FTP, CONNECTION]);
    assert_eq!(why(&attribute(&joiner, 2010, 2010)), "known", "10 s before the start");
    assert_eq!(why(&attribute(&joiner, 1990, 1990)), "known", "10 s after the end");
    assert_eq!(why(&attribute(&joiner, 2011, 2050)), "outside-window");
    let late = attribute(&joiner, 1989, 1989);
    let Attribution::Unknown { why, host: Some(host) } = &late else { panic!("{late:?}") };
    assert_eq!((*why, host.name.as_deref()), (Why::OutsideWindow { off: Span::seconds(11) }, Some("WKS-1")));
}

#[test]
fn a_reused_five_tuple_is_told_apart_by_time() {
    let other = CONNECTION.replace("2000", "2008").replace("\"pid\":30,\"start\":1900", "\"pid\":40,\"start\":1800");
    let far = CONNECTION.replace("2000", "2500").replace("\"pid\":30,\"start\":1900", "\"pid\":40,\"start\":1800");
    let near = joiner(&[FTP, PACKER, CONNECTION, &other]);
    assert_eq!(known(&attribute(&near, 2001, 2003)), ("ftp.exe", Confidence::High), "two within the window");
    assert_eq!(known(&attribute(&near, 2007, 2009)), ("7z.exe", Confidence::High));
    assert_eq!(why(&attribute(&near, 2004, 2005)), "ambiguous", "neither is nearer");
    let apart = joiner(&[FTP, PACKER, CONNECTION, &far]);
    assert_eq!(known(&attribute(&apart, 2001, 2002)), ("ftp.exe", Confidence::Certain));
    assert_eq!(known(&attribute(&apart, 2501, 2502)), ("7z.exe", Confidence::Certain));
}

#[test]
fn a_reused_pid_is_told_apart_by_time() {
    let old = r#"{"type":"process_start","ts":1000,"start":1000,"pid":30,"image":"C:\\old.exe"}"#;
    let gone = r#"{"type":"process_end","ts":1500,"pid":30,"start":1000}"#;
    let by_pid = CONNECTION.replace("\"start\":1900,", "");
    let both = joiner(&[old, gone, FTP, &by_pid]);
    assert_eq!(known(&attribute(&both, 2000, 2001)), ("ftp.exe", Confidence::High));
    let only_old = joiner(&[old, gone, &by_pid]);
    assert_eq!(known(&attribute(&only_old, 2000, 2001)), ("?", Confidence::Medium), "the pid, and no wrong name");
}

#[test]
fn a_process_whose_start_was_not_reported_is_named_as_far_as_the_event_goes() {
    let named = CONNECTION.replace("\"pid\"", "\"image\":\"C:\\\\late.exe\",\"pid\"");
    assert_eq!(known(&attribute(&joiner(&[&named]), 2000, 2001)), ("late.exe", Confidence::High));
    let attribution = attribute(&joiner(&[CONNECTION]), 2000, 2001);
    assert_eq!(known(&attribution), ("?", Confidence::Medium));
    assert_eq!(attribution.process().unwrap().pid, Some(30));
}

#[test]
fn what_the_servers_host_reports_never_names_the_clients_process() {
    let server = HELLO.replace("\"A\"", "\"B\"").replace("10.0.0.5", "10.0.0.9");
    let system = r#"{"type":"process_start","ts":900,"start":900,"pid":4,"image":"System"}"#;
    let accepted = r#"{"type":"connection","ts":2000,"pid":4,"start":900,"local":"10.0.0.9:21","remote":"10.0.0.5:5000",
        "initiated":false}"#;
    let beat = r#"{"type":"heartbeat","ts":2000,"host":"A"}"#;
    let inside = flow(CLIENT, "10.0.0.9:21");
    let only_server = joiner(&[beat, &server, system, accepted]);
    assert_eq!(why(&only_server.attribute(seen(inside, 2000, 2001))), "no-connection");
    let client = CONNECTION.replace("192.0.2.9", "10.0.0.9");
    let both = joiner(&[FTP, &client, &server, system, accepted]);
    assert_eq!(known(&both.attribute(seen(inside, 2000, 2001))).0, "ftp.exe");
}

#[test]
fn a_client_that_accepts_is_named_all_the_same() {
    let active = CONNECTION.replace(":21", ":20").replace("true", "false");
    let joiner = joiner(&[FTP, &active]);
    let data = flow(CLIENT, "192.0.2.9:20");
    assert_eq!(known(&joiner.attribute(seen(data, 2000, 2001))), ("ftp.exe", Confidence::Certain));
}

#[test]
fn what_is_not_known_says_why() {
    let joiner = joiner(&[r#"{"type":"heartbeat","ts":2000}"#]);
    assert_eq!(why(&attribute(&joiner, 2000, 2001)), "no-connection");
    assert_eq!(why(&attribute(&joiner, 9000, 9001)), "host-silent");
    let elsewhere = joiner.attribute(seen(flow("10.0.0.77:5000", SERVER), 2000, 2001));
    assert_eq!(why(&elsewhere), "no-endpoint");
    let mut document = Document::new();
    write_attribution(&mut document, &elsewhere);
    assert_eq!(
        document.to_string(),
        r#"{"outfall":{"join":{"why":"no-endpoint","why_text":"no helper on this host"}}}"#
    );
}

#[test]
fn an_address_that_moved_is_asked_at_the_host_that_has_it() {
    let other = HELLO.replace("\"A\"", "\"B\"").replace("1000", "1950");
    let process = FTP.replace("ftp.exe", "curl.exe");
    let joiner = joiner(&[FTP, &other, &process, CONNECTION]);
    let attribution = attribute(&joiner, 2000, 2001);
    assert_eq!((known(&attribution).0, attribution.host().unwrap().id.as_ref()), ("curl.exe", "B"));
}

#[test]
fn ftp_data_without_its_own_event_takes_the_control_connections_process() {
    let joiner = joiner(&[EXPLORER, SHELL, FTP, CONNECTION]);
    let seen = |client, server, start| seen(flow(client, server), start, start + 1);
    let (data, control) = (seen("10.0.0.5:5001", "192.0.2.9:4000", 2030), seen(CLIENT, SERVER, 2000));
    let joined = joiner.attribute_ftp(data, Some(control));
    assert_eq!(known(&joined), ("ftp.exe", Confidence::Medium));
    assert!(matches!(joined, Attribution::Known { rule: "control-connection", .. }));
    assert_eq!(why(&joiner.attribute_ftp(data, None)), "no-connection");
    assert!(matches!(joiner.attribute_ftp(control, Some(data)), Attribution::Known { rule: "five-tuple", .. }));
    assert_eq!(why(&joiner.attribute_ftp(data, Some(data))), "no-connection");
}

#[test]
fn an_offset_of_days_is_learnt_from_other_connections_and_said() {
    let at = |port: u16, ts: u64| CONNECTION.replace("5000", &port.to_string()).replace("2000", &ts.to_string());
    // The clock is 500,000 s ahead; one connection had the same ends months ago.
    let lines = [at(5000, 502_000), at(5001, 502_010), at(5002, 502_020), at(5003, 9_000_000)];
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.push(FTP);
    let mut joiner = joiner(&lines);
    let flows = [("10.0.0.5:5000", 2000), ("10.0.0.5:5001", 2010), ("10.0.0.5:5002", 2020), ("10.0.0.5:5003", 2030)];
    let seen = |(client, start): (&str, u64)| seen(flow(client, SERVER), start, start + 1);
    assert_eq!(why(&joiner.attribute(seen(flows[0]))), "outside-window", "nothing is learnt yet");
    flows.iter().for_each(|flow| joiner.learn(seen(*flow)));
    let Attribution::Known { offset: Some(offset), .. } = joiner.attribute(seen(flows[0])) else { panic!() };
    assert_eq!((offset.ahead / 1_000_000_000, offset.flows), (500_000, 2));
    assert_eq!(why(&joiner.attribute(seen(flows[3]))), "outside-window", "another connection with the same ends");
}

#[test]
fn what_is_zones_away_is_believed_but_less() {
    let shifted = CONNECTION.replace("2000", "30803");
    let joiner = joiner(&[FTP, &shifted]);
    assert_eq!(known(&attribute(&joiner, 2000, 2001)), ("ftp.exe", Confidence::High), "8 hours and 3 seconds");
    let odd = CONNECTION.replace("2000", "2453");
    let joiner = super::tests::joiner(&[FTP, &odd]);
    assert_eq!(why(&attribute(&joiner, 2000, 2001)), "outside-window");
}

#[test]
fn behind_a_translator_the_only_process_that_went_there_is_named_with_low_confidence() {
    let outside = flow("198.51.100.1:40000", SERVER);
    let joiner = joiner(&[FTP, CONNECTION]);
    let joined = joiner.attribute(seen(outside, 2001, 2002));
    assert_eq!(known(&joined), ("ftp.exe", Confidence::Low));
    assert!(matches!(joined, Attribution::Known { rule: "translated", .. }));
    assert_eq!(why(&joiner.attribute(seen(outside, 2100, 2102))), "translated", "at another time");
    let elsewhere = flow("198.51.100.2:40000", SERVER);
    assert_eq!(why(&joiner.attribute(seen(elsewhere, 2001, 2002))), "no-endpoint", "not a translator");
    let other = CONNECTION.replace("5000", "5009").replace("\"pid\":30,\"start\":1900", "\"pid\":40,\"start\":1800");
    let two = super::tests::joiner(&[FTP, PACKER, CONNECTION, &other]);
    assert_eq!(why(&two.attribute(seen(outside, 2001, 2002))), "translated", "two went there");
}

#[test]
fn each_reason_for_not_knowing_has_its_name() {
    let joiner = joiner(&[
        r#"{"type":"heartbeat","ts":1000,"dropped":0}"#,
        r#"{"type":"heartbeat","ts":2000,"dropped":0}"#,
        r#"{"type":"heartbeat","ts":2100,"dropped":7}"#,
    ]);
    assert_eq!(why(&attribute(&joiner, 500, 501)), "before-log");
    assert_eq!(why(&attribute(&joiner, 2050, 2051)), "events-lost");
    assert_eq!(why(&attribute(&joiner, 2200, 2201)), "no-connection");
    let silent = attribute(&joiner, 9000, 9001);
    let Attribution::Unknown { why: reason, .. } = &silent else { panic!() };
    assert!(reason.to_string().contains("silent since 1970-01-01T00:35:00"), "{reason}");
    let mid = FlowSeen { opening_seen: false, ..seen(flow(CLIENT, SERVER), 2200, 2300) };
    assert_eq!(why(&joiner.attribute(mid)), "opened-before");
}

// -- files -------------------------------------------------------------------------------------------

pub(crate) fn process_of(image: &str) -> Process {
    let host = HostName { id: "A".into(), name: None, domain: None };
    let (pid, key, start) = (Some(7), None, None);
    let (command_line, user, sid, sha256, signer) = (None, None, None, None, None);
    let image = Some(image.into());
    Process { host, pid, key, start, image, command_line, user, sid, sha256, signer, ancestors: Vec::new() }
}

pub(crate) fn attributed(image: &str) -> Attribution {
    let process = Box::new(process_of(image));
    Attribution::Known { process, rule: "five-tuple", confidence: Confidence::Certain, offset: None }
}

pub(crate) fn upload(bytes: u64, names: &[&str]) -> Upload {
    let connection = flow(CLIENT, SERVER);
    let single = names.len() == 1;
    let file =
        |name: &&str| FileInfo { name: Some((*name).to_owned()), size: single.then_some(bytes), ..FileInfo::default() };
    Upload {
        id: EventId::new("upload", connection, at(2000), 0),
        connection,
        wrapping: Default::default(),
        protocol: Protocol::Ftp,
        opened: Timestamp(0),
        start: at(2000),
        end: at(2001),
        client_bytes: bytes,
        server_bytes: 0,
        bytes,
        missing: 0,
        state: State::Complete,
        domain: None,
        proxied_to: None,
        domain_source: Default::default(),
        http: None,
        ftp: Some(Box::default()),
        files: names.iter().map(file).collect(),
        body: crate::record::Body::default(),
        notes: Vec::new(),
    }
}

fn put(bytes: u64, url: &str) -> Upload {
    let http = Http { method: "PUT".into(), url: url.into(), ..Http::default() };
    Upload { http: Some(http), ftp: None, protocol: Protocol::Http, ..upload(bytes, &[]) }
}

fn links(joiner: &Joiner, upload: &Upload) -> Vec<(String, &'static str, &'static str, String)> {
    let attribution = joiner.attribute(seen_of(upload));
    let links = joiner.files(upload, &attribution);
    let told = |link: FileLink| {
        let by = link.staged_by.name().unwrap_or("?").to_owned();
        (link.path.to_string(), link.rule.name(), link.confidence.name(), by)
    };
    links.into_iter().map(told).collect()
}

fn link(
    path: &str,
    rule: &'static str,
    confidence: &'static str,
    by: &str,
) -> (String, &'static str, &'static str, String) {
    (path.to_owned(), rule, confidence, by.to_owned())
}

fn file(ts: u64, process: (u32, u64), op: &str, path: &str, more: &str) -> String {
    let (pid, start) = process;
    let path = path.replace('\\', "\\\\");
    format!(r#"{{"type":"file","ts":{ts},"pid":{pid},"start":{start},"op":"{op}","path":"{path}"{more}}}"#)
}

const SEVENZIP: (u32, u64) = (40, 1800);
const UPLOADER: (u32, u64) = (30, 1900);
const CMD: (u32, u64) = (20, 1100);

fn story(events: &[String]) -> Joiner {
    let mut lines = vec![EXPLORER, SHELL, PACKER, FTP, CONNECTION];
    lines.extend(events.iter().map(String::as_str));
    joiner(&lines)
}

#[test]
fn an_archive_is_linked_by_name_and_size_and_its_packer_is_named() {
    let joiner = story(&[
        file(1810, SEVENZIP, "create", "C:\\$Recycle.Bin\\old.7z", ""),
        file(1820, SEVENZIP, "write", "C:\\$Recycle.Bin\\OLD.7z", r#","size":5000"#),
        file(1999, UPLOADER, "read", "C:\\$Recycle.Bin\\old.7z", r#","size":5000"#),
    ]);
    let found = links(&joiner, &upload(5000, &["old.7Z"]));
    assert_eq!(found, [link("C:\\$Recycle.Bin\\old.7z", "name-and-size", "high", "7z.exe")]);
}

#[test]
fn a_file_that_was_renamed_keeps_its_maker() {
    let joiner = story(&[
        file(1810, SEVENZIP, "create", "C:\\t\\old.7z.tmp", ""),
        file(1815, SEVENZIP, "write", "C:\\t\\old.7z.tmp", r#","size":5000"#),
        file(1820, CMD, "rename", "C:\\t\\old.7z.tmp", r#","new_path":"C:\\t\\pic.jpg""#),
    ]);
    let found = links(&joiner, &upload(5000, &["pic.jpg"]));
    assert_eq!(found, [link("C:\\t\\pic.jpg", "name-and-size", "high", "7z.exe")]);
}

#[test]
fn equal_content_is_stronger_than_any_name() {
    let joiner = story(&[
        file(1820, SEVENZIP, "write", "C:\\t\\a.bin", r#","size":5000,"sha256":"ABCD""#),
        file(1830, CMD, "write", "C:\\t\\old.7z", r#","size":5000"#),
    ]);
    let mut upload = upload(5000, &["old.7z"]);
    upload.files[0].sha256 = Some("abcd".into());
    assert_eq!(links(&joiner, &upload)[0], link("C:\\t\\a.bin", "sha256", "certain", "7z.exe"));
}

#[test]
fn the_look_back_window_has_edges() {
    let before = |ts| story(&[file(ts, (99, 1000), "write", "C:\\t\\old.7z", r#","size":5000"#)]);
    let upload = upload(5000, &["old.7z"]);
    assert_eq!(links(&before(1400), &upload).len(), 1, "600 s before the start");
    assert_eq!(links(&before(1399), &upload), []);
    assert_eq!(links(&before(2006), &upload).len(), 1, "5 s after the end");
    assert_eq!(links(&before(2007), &upload), []);
}

#[test]
fn the_copy_that_the_process_itself_had_in_hand_is_preferred() {
    let joiner = story(&[
        file(1700, CMD, "read", "C:\\Users\\ann\\Documents\\q3.docx", r#","size":5000"#),
        file(1710, CMD, "write", "C:\\t\\q3.docx", r#","size":5000"#),
        file(1999, UPLOADER, "read", "C:\\t\\q3.docx", r#","size":5000"#),
    ]);
    assert_eq!(
        links(&joiner, &upload(5000, &["q3.docx"]))[0],
        link("C:\\t\\q3.docx", "name-and-size", "high", "cmd.exe")
    );
}

#[test]
fn a_webdav_upload_names_the_packer_and_not_the_service() {
    let service =
        r#"{"type":"process_start","ts":900,"start":900,"pid":5,"image":"C:\\Windows\\System32\\svchost.exe"}"#;
    let dav = CONNECTION.replace("\"pid\":30,\"start\":1900", "\"pid\":5,\"start\":900");
    let svchost = (5, 900);
    let joiner = joiner(&[
        EXPLORER,
        SHELL,
        PACKER,
        service,
        &dav,
        &file(1820, SEVENZIP, "write", "C:\\Users\\ann\\AppData\\Roaming\\my work.zip", r#","size":5000"#),
        &file(1990, CMD, "write", "\\\\192.0.2.9@80\\DavWWWRoot\\up\\my work.zip", r#","size":5000"#),
        &file(1995, svchost, "write", "C:\\Windows\\Temp\\TfsStore\\Tfs_DAV\\my work.zip", r#","size":5000"#),
    ]);
    let upload = put(5000, "/up/my%20work.zip?v=1");
    let expected = link("C:\\Users\\ann\\AppData\\Roaming\\my work.zip", "name-and-size", "high", "7z.exe");
    assert_eq!(links(&joiner, &upload), [expected]);
}

#[test]
fn a_nameless_or_renamed_upload_is_linked_by_its_size() {
    let joiner = story(&[
        file(1820, SEVENZIP, "write", "C:\\t\\old.7z", r#","size":100000"#),
        file(1820, (99, 1), "write", "C:\\t\\other.7z", r#","size":101000"#),
    ]);
    let plain = link("C:\\t\\old.7z", "size-within-overhead", "medium", "7z.exe");
    assert_eq!(links(&joiner, &put(101_000, "/")), std::slice::from_ref(&plain));
    assert_eq!(links(&joiner, &put(100_000, "/in.dat")), [plain]);
    let base64 = link("C:\\t\\old.7z", "size-within-overhead", "low", "7z.exe");
    assert_eq!(links(&joiner, &put(133_400, "/"))[0], base64);
    assert_eq!(links(&joiner, &put(99_999, "/"))[0].1, "process-tree");
    assert_eq!(links(&joiner, &put(104_025, "/"))[0].1, "process-tree");
}

#[test]
fn a_name_alone_is_weaker_and_a_size_against_it_weaker_still() {
    let touched = story(&[file(1820, SEVENZIP, "write", "C:\\t\\a.txt", "")]);
    assert_eq!(links(&touched, &upload(5000, &["a.txt"])), [link("C:\\t\\a.txt", "name", "medium", "7z.exe")]);
    let against = story(&[file(1820, SEVENZIP, "write", "C:\\t\\a.txt", r#","size":70"#)]);
    assert_eq!(links(&against, &upload(5000, &["a.txt"])), [link("C:\\t\\a.txt", "name", "low", "7z.exe")]);
    let stranger = story(&[file(1820, (99, 1), "write", "C:\\t\\a.txt", "")]);
    assert_eq!(links(&stranger, &upload(5000, &["a.txt"])), [link("C:\\t\\a.txt", "name", "low", "?")]);
}

#[test]
fn without_a_process_name_and_size_still_link_a_step_lower() {
    let event = file(1820, SEVENZIP, "write", "C:\\t\\old.7z", r#","size":5000"#);
    let joiner = joiner(&[PACKER, &event]);
    let expected = link("C:\\t\\old.7z", "name-and-size", "medium", "7z.exe");
    assert_eq!(links(&joiner, &upload(5000, &["old.7z"])), [expected]);
    let elsewhere = Upload { connection: flow("10.0.0.77:1", SERVER), ..upload(5000, &["old.7z"]) };
    assert_eq!(links(&joiner, &elsewhere), [], "not on another host");
}

#[test]
fn of_namesakes_that_no_process_of_the_tree_touched_the_users_own_is_taken() {
    let start = |pid: u32, user: &str| {
        format!(
            r#"{{"type":"process_start","ts":1000,"start":1000,"pid":{pid},"image":"C:\\p{pid}.exe","user":"{user}"}}"#
        )
    };
    let events = [
        start(70, "CORP\\\\Ann"),
        start(71, "CORP\\\\bob"),
        file(1900, (70, 1000), "write", "C:\\one\\a.txt", ""),
        file(1950, (71, 1000), "write", "C:\\two\\a.txt", ""),
    ];
    let joiner = story(&events);
    assert_eq!(links(&joiner, &upload(5000, &["a.txt"])), [link("C:\\one\\a.txt", "name", "low", "p70.exe")]);
}

#[test]
fn the_process_tree_ends_below_the_session_and_leaves_noise_out() {
    let neighbour = r#"{"type":"process_start","ts":1000,"start":1000,"pid":70,"ppid":10,"image":"C:\\winword.exe"}"#;
    let events = [
        file(1750, (70, 1000), "read", "C:\\Users\\ann\\Documents\\private.docx", ""),
        file(1820, SEVENZIP, "read", "C:\\Users\\ann\\Documents\\a.docx", r#","size":9"#),
        file(1821, SEVENZIP, "read", "C:\\Program Files\\7-Zip\\7z.dll", ""),
        file(1822, SEVENZIP, "read", "C:\\Windows\\System32\\drivers\\etc\\hosts", ""),
        file(1823, SEVENZIP, "delete", "C:\\Users\\ann\\Documents\\b.docx", ""),
        file(1950, UPLOADER, "read", "C:\\x\\s.txt", ""),
        file(1960, CMD, "write", "C:\\t\\all.zip", r#","size":4000"#),
        file(1970, UPLOADER, "read", "C:\\t\\all.zip", r#","size":4000"#),
    ];
    let mut lines = vec![EXPLORER, SHELL, PACKER, FTP, CONNECTION, neighbour];
    lines.extend(events.iter().map(String::as_str));
    let joiner = joiner(&lines);
    let upload = upload(900_000, &["stream"]);
    let attribution = joiner.attribute(seen_of(&upload));
    let expected = [
        link("C:\\t\\all.zip", "process-tree", "medium", "cmd.exe"),
        link("C:\\Users\\ann\\Documents\\a.docx", "process-tree", "low", "7z.exe"),
        link("C:\\x\\s.txt", "process-tree", "low", "ftp.exe"),
    ];
    assert_eq!(links(&joiner, &upload), expected);
    let kinds: Vec<FileKind> = joiner.files(&upload, &attribution).iter().map(|link| link.kind).collect();
    assert_eq!(kinds, [FileKind::Archive, FileKind::UserData, FileKind::Script]);
}

#[test]
fn tree_links_are_bounded_and_no_path_comes_twice() {
    let mut events: Vec<String> =
        (0..100).map(|n| file(1820, SEVENZIP, "read", &format!("C:\\Users\\a\\{n:03}.txt"), "")).collect();
    events.push(file(1825, SEVENZIP, "write", "C:\\t\\old.7z", r#","size":5000"#));
    let joiner = story(&events);
    let found = links(&joiner, &upload(5000, &["old.7z", "OLD.7z"]));
    assert_eq!(found.len(), 1 + MAX_TREE_LINKS);
    assert_eq!(found.iter().filter(|link| link.0.ends_with("old.7z")).count(), 1);
    assert_eq!(found, links(&joiner, &upload(5000, &["old.7z", "OLD.7z"])));
}

#[test]
fn links_are_written_with_their_process() {
    let joiner = story(&[file(1820, SEVENZIP, "write", "C:\\t\\old.7z", r#","size":5000"#)]);
    let upload = upload(5000, &["old.7z"]);
    let attribution = joiner.attribute(seen_of(&upload));
    let links = joiner.files(&upload, &attribution);
    let mut document = Document::new();
    write_files(&mut document, &links);
    let expected = serde_json::json!([{
        "path": "C:\\t\\old.7z", "name": "old.7z", "size": 5000, "op": "write", "time": "1970-01-01T00:30:20.000000000Z",
        "rule": "name-and-size", "confidence": "high",
        "process": { "name": "7z.exe", "pid": 40, "executable": "C:\\Program Files\\7-Zip\\7z.exe" },
    }]);
    assert_eq!(document.get("outfall.join.files"), Some(expected));
}

#[test]
fn a_resumed_transfer_is_compared_by_its_whole_size() {
    let joiner = story(&[file(1820, SEVENZIP, "write", "C:\\t\\old.7z", r#","size":5000"#)]);
    let mut upload = upload(2000, &["old.7z"]);
    upload.ftp = Some(Box::new(Ftp { restart: 3000, ..Ftp::default() }));
    assert_eq!(links(&joiner, &upload)[0].1, "name-and-size");
}
