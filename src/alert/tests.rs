use super::*;
use crate::detect::{Legs, Presence, Reason, Severity};
use crate::endpoint::Operation;
use crate::join::{Ancestor, Confidence, FileKind, FileRule, HostName, Process};
use crate::net::{Endpoint, Timestamp};
use crate::record::{Connection, FileInfo, Protocol, State};

fn end(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

fn process(image: &str) -> Process {
    let ancestor = Ancestor { pid: Some(3), start: None, image: Some("C:\\cmd.exe".into()), command_line: None };
    Process {
        host: HostName { id: "A".into(), name: Some("WKS-1".into()), domain: None },
        pid: Some(7),
        key: None,
        start: Some(Timestamp(5)),
        image: Some(image.into()),
        command_line: Some("ftp\n-s:x".into()),
        user: Some("CORP\\ann".into()),
        sid: None,
        sha256: None,
        signer: None,
        ancestors: vec![ancestor],
    }
}

fn alert(name: &str) -> Alert {
    let connection = Connection { client: end("10.0.0.5:5000"), server: end("192.0.2.9:21") };
    let file = FileInfo { name: Some(name.into()), ..FileInfo::default() };
    let upload = Upload {
        id: EventId::new("upload", connection, Timestamp(1), 0),
        connection,
        wrapping: Default::default(),
        protocol: Protocol::Ftp,
        opened: Timestamp(0),
        start: Timestamp(1),
        end: Timestamp(2),
        client_bytes: 1_500,
        server_bytes: 0,
        bytes: 1_500,
        missing: 0,
        state: State::Complete,
        domain: None,
        proxied_to: None,
        domain_source: Default::default(),
        http: None,
        ftp: None,
        files: vec![file],
        body: crate::record::Body::default(),
        notes: Vec::new(),
    };
    let link = FileLink {
        path: "C:\\x\\old.7z".into(),
        size: Some(1_500),
        op: Operation::Write,
        ts: Timestamp(1),
        staged_by: process("C:\\7z.exe"),
        rule: FileRule::NameAndSize,
        confidence: Confidence::High,
        kind: FileKind::Archive,
    };
    let verdict = Verdict {
        severity: Severity::High,
        sureness: crate::detect::Sureness::High,
        held: false,
        place: None,
        reasons: vec![Reason::ProcessUnexpected { image: "C:\\ftp.exe".into(), protocol: "ftp", days: 0, hosts: 0 }],
        legs: Legs {
            data_access: Presence::Present,
            outbound_cleartext: Presence::Present,
            unexpected_process: Presence::Present,
            rare_destination: Presence::Absent,
        },
    };
    let process = Box::new(process("C:\\ftp.exe"));
    let attribution = Attribution::Known { process, rule: "five-tuple", confidence: Confidence::Certain, offset: None };
    Alert::new(upload, attribution, vec![link], verdict)
}

#[test]
fn the_document_is_the_uploads_with_the_alerts_part() {
    let alert = alert("old.7z");
    let document = alert.document();
    for (path, value) in [
        ("event.kind", "alert"),
        ("event.dataset", "outfall.alert"),
        ("rule.id", "AN0423"),
        ("threat.framework", "MITRE ATT&CK"),
        ("threat.technique.id", "T1048.003"),
        ("source.ip", "10.0.0.5"),
        ("process.name", "ftp.exe"),
        ("process.parent.name", "cmd.exe"),
        ("file.name", "old.7z"),
        ("outfall.alert.severity", "high"),
        ("outfall.upload.state", "complete"),
    ] {
        assert_eq!(document.get(path), Some(value.into()), "{path}");
    }
    assert_eq!(document.get("event.severity"), Some(73.into()));
    assert_eq!(document.get("event.id"), Some(alert.id.to_string().into()));
    assert_eq!(document.get("outfall.upload.id"), Some(alert.upload.id.to_string().into()));
    assert_ne!(alert.id, alert.upload.id);
    let legs = serde_json::json!({
        "present": ["data-access", "outbound-cleartext", "unexpected-process"], "absent": ["rare-destination"], "missing": [],
    });
    assert_eq!(document.get("outfall.alert.legs"), Some(legs));
    let reasons = document.get("outfall.reasons").unwrap();
    assert_eq!(reasons[0]["id"], "process-unexpected");
    assert_eq!(document.get("outfall.join.files").unwrap()[0]["process"]["name"], "7z.exe");
}

#[test]
fn an_early_alert_and_its_completion_share_their_id() {
    let complete = alert("old.7z");
    let mut upload = complete.upload.clone();
    upload.state = State::Running;
    upload.bytes = 7;
    let early = Alert::new(upload, complete.attribution.clone(), Vec::new(), complete.verdict.clone());
    assert_eq!(early.id, complete.id);
    assert!(early.line().contains("7 B so far"));
}

#[test]
fn the_line_says_who_sent_what_where_and_why() {
    let expected = "HIGH 10.0.0.5 -> 192.0.2.9:21 ftp 1.50 kB old.7z by ftp.exe on WKS-1: process-unexpected";
    assert_eq!(alert("old.7z").line(), expected);
}

#[test]
fn the_text_names_process_files_and_reasons() {
    let expected = "\
HIGH 10.0.0.5 -> 192.0.2.9:21 ftp 1.50 kB old.7z by ftp.exe on WKS-1: process-unexpected
  time     1970-01-01T00:00:00.000000001Z
  process  C:\\ftp.exe pid 7 as CORP\\ann (five-tuple, certain)
  command  ftp\\n-s:x
  parents  cmd.exe
  file     C:\\x\\old.7z 1.50 kB, write by 7z.exe (name-and-size, high)
  reason   C:\\ftp.exe is not expected to send ftp there";
    assert_eq!(alert("old.7z").text(), expected);
}

#[test]
fn hostile_names_cannot_drive_a_terminal() {
    let mut alert = alert("\u{1b}]0;x\u{7}\u{202e}a\nHIGH fake\u{200b}");
    alert.upload.domain = Some("\u{1b}[2J.example".into());
    let reason =
        Reason::DestinationRare { destination: "\u{1b}[2J.example".into(), hosts: 1, below: 3, users: 0, age: None };
    alert.verdict.reasons.push(reason);
    assert_eq!(alert.line().lines().count(), 1);
    let text = alert.text();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{200b}'));
}

fn rendered(steps: &[&str], alert: &Alert) -> Vec<String> {
    let steps = steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join(", ");
    let config = crate::config::Config::parse(&format!("[playbook]\nsteps = [{steps}]\n"), "t.toml").unwrap();
    Playbook::new(&config.playbook).render(alert)
}

#[test]
fn the_playbook_has_the_alerts_own_facts() {
    let alert = alert("old.7z");
    let steps =
        ["{host} {address} {process} {pid} {user}", "{destination} {file} {sha256} {severity} {protocol} {bytes}"];
    let expected = ["WKS-1 10.0.0.5 C:\\ftp.exe 7 CORP\\ann", "192.0.2.9 C:\\x\\old.7z not known high ftp 1.50 kB"];
    assert_eq!(rendered(&steps, &alert), expected);
    let command = rendered(&["{exception_command}"], &alert);
    let expected = "outfall exception add --process 'C:\\ftp.exe' --destination 192.0.2.9 --host WKS-1 \
                    --owner NAME --justification WHY --expires 90d";
    assert_eq!(command, [expected]);
    let default = Playbook::new(&Default::default()).render(&alert);
    assert_eq!(default.len(), 3);
    let alert = Alert { playbook: default.clone(), ..alert };
    let document = alert.document();
    assert_eq!(document.get("outfall.alert.playbook"), Some(serde_json::json!(default)));
}

#[test]
fn hostile_facts_in_a_playbook_stay_one_word_of_a_command() {
    let mut alert = alert("x");
    let hostile = "a'; rm -rf / #\n$(id) `id` \u{1b}[2J\u{202e}\"&|";
    alert.upload.domain = Some(hostile.into());
    let steps = rendered(&["block `fw add {destination} {pid}` now", "{destination}", "{exception_command}"], &alert);
    for step in &steps {
        assert!(!step.chars().any(|c| c.is_control() || c == '\u{202e}'), "{step:?}");
    }
    let (_, command) = steps[0].split_once('`').unwrap();
    let words = shlex::split(command.strip_suffix("` now").unwrap()).unwrap();
    assert_eq!(words, ["fw", "add", "a'; rm -rf / #\\n$(id) `id` \\u{1b}[2J\\u{202e}\"&|", "7"]);
    let words = shlex::split(&steps[2]).unwrap();
    assert_eq!((words.len(), words[6].as_str()), (15, "a'; rm -rf / #\\n$(id) `id` \\u{1b}[2J\\u{202e}\"&|"));
    alert.upload.domain = Some("x".repeat(5_000));
    let steps = rendered(&["`fw add {destination}`", "{destination}"], &alert);
    assert_eq!(steps[0], "`fw add '(too long)'`");
    assert_eq!(steps[1].chars().count(), 160);
}

#[test]
fn the_command_of_a_playbook_covers_what_it_stands_for() {
    for image in ["C:\\a[1]\\{x}\\ftp*?.exe", "C:\\Program Files (x86)\\a]b.exe"] {
        let mut alert = alert("x");
        alert.attribution = crate::join::tests::attributed(image);
        let words = shlex::split(&rendered(&["{exception_command}"], &alert)[0]).unwrap();
        let pattern: crate::detect::Pattern = words[4].parse().unwrap();
        assert!(pattern.matches(image) && !pattern.matches("C:\\a1\\x\\ftpx.exe"), "{pattern}");
    }
}

#[test]
fn a_suppressed_alert_says_by_what() {
    let alert = Alert { suppressed: Some("EX-0007".into()), ..alert("x") };
    assert_eq!(alert.document().get("outfall.alert.suppressed_by"), Some("EX-0007".into()));
}
