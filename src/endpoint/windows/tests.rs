//! One connection, one process start and one file event in every shape.

use super::*;
use crate::endpoint::{Counters, Intake, Operation};
use crate::net::ByteSize;

const GUID: &str = "{0a1b2c3d-5a00-69a5-0100-000000000400}";

fn read(text: &[u8]) -> (Vec<Observation>, Counters) {
    let mut intake = Intake::new(ByteSize(100_000));
    let mut seen = Vec::new();
    intake.read("log", text, &mut |observation| seen.push(observation)).unwrap();
    assert_eq!(intake.take_warnings(), []);
    (seen, intake.counters())
}

fn connection(observation: &Observation) -> (String, String, u32, Option<String>, Option<bool>) {
    let Event::Connection(event) = &observation.line.event else { panic!("{observation:?}") };
    let image = event.image.as_deref().map(|image| crate::endpoint::base_name(image).to_lowercase());
    (event.local.to_string(), event.remote.to_string(), event.pid, image, event.initiated)
}

fn expected(pid: u32) -> (String, String, u32, Option<String>, Option<bool>) {
    ("10.0.0.5:5000".to_owned(), "192.0.2.9:21".to_owned(), pid, Some("ftp.exe".to_owned()), Some(true))
}

fn sysmon_data() -> String {
    format!(
        r#""UtcTime":"2026-03-02 08:15:00.250","ProcessGuid":"{GUID}","ProcessId":"77","Image":"C:\\Windows\\System32\\ftp.exe","User":"CORP\\ann","Protocol":"tcp","Initiated":"true","SourceIp":"10.0.0.5","SourcePort":"5000","DestinationIp":"192.0.2.9","DestinationPort":"21""#
    )
}

fn xml(data: &str) -> String {
    format!(
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Microsoft-Windows-Sysmon'/>\
         <EventID>3</EventID><TimeCreated SystemTime='2026-03-02T08:15:01.5Z'/><Channel>Microsoft-Windows-Sysmon/Operational\
         </Channel><Computer>WKS-7.corp.example</Computer></System><EventData>{data}</EventData></Event>"
    )
}

fn xml_data() -> String {
    format!(
        "<Data Name='UtcTime'>2026-03-02 08:15:00.250</Data><Data Name='ProcessGuid'>{GUID}</Data><Data Name='ProcessId'>77</Data>\
         <Data Name='Image'>C:\\Windows\\System32\\ftp.exe</Data><Data Name='Protocol'>tcp</Data><Data Name='Initiated'>true</Data>\
         <Data Name='SourceIp'>10.0.0.5</Data><Data Name='SourcePort'>5000</Data><Data Name='DestinationIp'>192.0.2.9</Data>\
         <Data Name='DestinationPort'>21</Data>"
    )
}

#[test]
fn a_connection_reads_the_same_in_every_shape() {
    let data = sysmon_data();
    let text = format!("{{{data}}}");
    let (quoted, markup) = (serde_json::to_string(&text).unwrap(), serde_json::to_string(&xml_data()).unwrap());
    let syslog = serde_json::to_string(&format!("<13>sysmon: {}", xml(&xml_data()))).unwrap();
    let channel = "Microsoft-Windows-Sysmon/Operational";
    for (shape, line) in [
        (
            "nxlog",
            format!(
                r#"{{"EventID":3,"Channel":"{channel}","Hostname":"WKS-7.corp.example","EventTime":"2026-03-02 04:15:01","EventReceivedTime":"2026-03-02 04:15:03","@timestamp":"2026-03-02T08:15:03.1Z","ExecutionProcessID":999,{data}}}"#
            ),
        ),
        (
            "PowerShell",
            format!(
                r#"{{"EventID":3,"Channel":"{channel}","Hostname":"WKS-7.corp.example","TimeCreated":"2026-03-02T08:15:01.5Z",{data}}}"#
            ),
        ),
        (
            "Azure WindowsEvent",
            format!(
                r#"{{"EventID":3,"Type":"WindowsEvent","Channel":"{channel}","Computer":"WKS-7.corp.example","TimeGenerated":"2026-03-02T08:15:01.5Z","EventData":{quoted}}}"#
            ),
        ),
        (
            "Azure Event",
            format!(
                r#"{{"EventID":3,"EventLog":"{channel}","Computer":"WKS-7.corp.example","TimeGenerated":"2026-03-02T08:15:01.5Z","EventData":{markup}}}"#
            ),
        ),
        ("Azure Syslog", format!(r#"{{"Facility":"user","SyslogMessage":{syslog}}}"#)),
        (
            "Winlogbeat",
            format!(
                r#"{{"@timestamp":"2026-03-02T08:15:01.5Z","event":{{"code":"3"}},"winlog":{{"channel":"{channel}","computer_name":"WKS-7.corp.example","event_id":"3","event_data":{{{data}}}}}}}"#
            ),
        ),
        (
            "Elastic Agent, moved to ECS",
            format!(
                r#"{{"@timestamp":"2026-03-02T08:15:01.5Z","event":{{"code":"3"}},"winlog":{{"channel":"{channel}","computer_name":"WKS-7.corp.example"}},"process":{{"entity_id":"{GUID}","pid":77,"executable":"C:\\Windows\\System32\\ftp.exe"}},"source":{{"ip":"10.0.0.5","port":5000}},"destination":{{"ip":"192.0.2.9","port":21}},"network":{{"transport":"tcp"}}}}"#
            ),
        ),
        (
            "tree",
            format!(
                r##"{{"Event":{{"#attributes":{{}},"System":{{"EventID":{{"#text":3}},"Channel":"{channel}","Computer":"WKS-7.corp.example","TimeCreated":{{"#attributes":{{"SystemTime":"2026-03-02T08:15:01.5Z"}}}}}},"EventData":{{{data}}}}}}}"##
            ),
        ),
        ("XML", xml(&xml_data())),
    ] {
        let (seen, counters) = read(line.as_bytes());
        assert_eq!(seen.iter().map(connection).collect::<Vec<_>>(), [expected(77)], "{shape}");
        let origin = seen[0].origin.as_deref().unwrap();
        assert_eq!((origin.clock, origin.guid), (Clock::SysmonRecord, GUID.parse().ok()), "{shape}");
        assert_eq!(seen[0].line.event.ts().to_string().get(..18), Some("2026-03-02T08:15:0"), "{shape}");
        assert_eq!(seen[0].host.as_ref(), "WKS-7.corp.example", "{shape}");
        assert_eq!((counters.lines, counters.kinds[1]), (1, 1), "{shape}");
    }
}

#[test]
fn a_document_of_xml_is_read_event_by_event() {
    let document =
        format!("\u{feff}<?xml version='1.0'?>\r\n<Events>\n{}\n{}</Events>", xml(&xml_data()), xml(&xml_data()));
    let (seen, counters) = read(document.as_bytes());
    assert_eq!((seen.len(), counters.lines), (2, 2));
}

fn security(id: u32, data: &str) -> String {
    format!(
        r#"{{"EventID":{id},"Channel":"security","Hostname":"WKS-7","EventTime":"2026-03-02 08:15:01","EventReceivedTime":"2026-03-02 08:15:01","@timestamp":"2026-03-02T08:15:01Z",{data}}}"#
    )
}

#[test]
fn the_security_log_tells_processes_files_and_connections() {
    let lines = [
        security(
            5156,
            r#""Application":"\\device\\harddiskvolume2\\windows\\system32\\ftp.exe","ProcessId":"77","Direction":"%%14593","SourceAddress":"10.0.0.5","SourcePort":"5000","DestAddress":"192.0.2.9","DestPort":"21","Protocol":"6""#,
        ),
        security(
            4688,
            r#""NewProcessId":"0x4d","NewProcessName":"C:\\ftp.exe","ProcessId":"0x10","ParentProcessName":"C:\\cmd.exe","SubjectUserName":"ann","SubjectDomainName":"CORP","TargetUserName":"-""#,
        ),
        security(
            4663,
            r#""ObjectType":"File","ObjectName":"C:\\a.zip","ProcessId":"0x4d","AccessMask":"0x1","ProcessName":"C:\\ftp.exe""#,
        ),
        security(
            4663,
            r#""ObjectType":"File","ObjectName":"C:\\a.zip","ProcessId":"0x4d","AccessList":"%%4417 %%4418""#,
        ),
        security(
            4663,
            r#""ObjectType":"Key","ObjectName":"\\REGISTRY\\MACHINE","ProcessId":"0x4d","AccessMask":"0x1""#,
        ),
        security(4689, r#""ProcessId":"0x4d","ProcessName":"C:\\ftp.exe""#),
        security(4624, r#""TargetUserName":"ann""#),
    ];
    let (seen, counters) = read(lines.join("\r\n").as_bytes());
    assert_eq!((seen.len(), counters.unused), (5, 2));
    assert_eq!(connection(&seen[0]), expected(77));
    let Event::ProcessStart(start) = &seen[1].line.event else { panic!() };
    assert_eq!((start.pid, start.ppid, start.user.as_deref()), (77, Some(16), Some("CORP\\ann")));
    let ops: Vec<Operation> = seen
        .iter()
        .filter_map(|observation| match &observation.line.event {
            Event::File(file) => Some(file.op),
            _ => None,
        })
        .collect();
    assert_eq!(ops, [Operation::Read, Operation::Write]);
    assert!(matches!(&seen[4].line.event, Event::ProcessEnd(end) if end.pid == 77));
}

#[test]
fn what_came_in_is_turned_so_that_this_host_is_local() {
    let line = security(
        5156,
        r#""Application":"System","ProcessId":"4","Direction":"%%14592","SourceAddress":"2001:0db8:0000:0000:0000:0000:0000:0001","SourcePort":"5000","DestAddress":"2001:0db8:0000:0000:0000:0000:0000:0002","DestPort":"445","Protocol":"6""#,
    );
    let (seen, _) = read(line.as_bytes());
    let (local, remote, ..) = connection(&seen[0]);
    assert_eq!((local.as_str(), remote.as_str()), ("[2001:db8::2]:445", "[2001:db8::1]:5000"));
}

#[test]
fn a_false_zone_is_told_by_what_sysmon_stamps_itself_and_holds_for_what_came_before() {
    let record = |id, channel: &str, data: &str| {
        format!(
            r#"{{"EventID":{id},"Channel":"{channel}","Hostname":"WKS-7","TimeCreated":"2026-03-02T01:15:01.500Z",{data}}}"#
        )
    };
    let end = record(4689, "Security", r#""ProcessId":"0x4d""#);
    let stop = record(
        5,
        "Microsoft-Windows-Sysmon/Operational",
        &format!(r#""UtcTime":"2026-03-02 08:15:01.2","ProcessGuid":"{GUID}""#),
    );
    let (seen, _) = read(format!("{end}\n{stop}\n{end}").as_bytes());
    let times: Vec<String> = seen.iter().map(|observation| observation.line.event.ts().to_string()).collect();
    assert_eq!(
        times,
        ["2026-03-02T08:15:01.500000000Z", "2026-03-02T08:15:01.200000000Z", "2026-03-02T08:15:01.500000000Z"]
    );
    let (seen, _) = read(end.as_bytes());
    assert_eq!(seen[0].line.event.ts().to_string(), "2026-03-02T01:15:01.500000000Z", "nobody tells: as it stands");
}

#[test]
fn an_unknown_process_has_no_image_and_bad_records_are_counted() {
    for unknown in ["<unknown process>", "&lt;unknown process&gt;"] {
        let data = sysmon_data().replace(r"C:\\Windows\\System32\\ftp.exe", unknown);
        let line = format!(
            r#"{{"EventID":3,"Channel":"Microsoft-Windows-Sysmon/Operational","Hostname":"W","TimeCreated":"2026-03-02T08:15:01Z",{data}}}"#
        );
        assert_eq!(connection(&read(line.as_bytes()).0[0]).3, None);
    }
    let mut intake = Intake::new(ByteSize(100_000));
    let text = [
        security(5156, r#""SourceAddress":"10.0.0.999""#),
        security(4688, r#""x":1"#),
        r#"{"EventID":3,"Channel":"Sysmon"}"#.to_owned(),
        "<Event>".to_owned(),
    ];
    intake.read("log", text.join("\n").as_bytes(), &mut |_| {}).unwrap();
    let warnings: Vec<String> = intake.take_warnings().iter().map(ToString::to_string).collect();
    assert_eq!((intake.counters().malformed, warnings.len()), (4, 4), "{warnings:?}");
    assert!(warnings[0].starts_with("log:1: not an event: `SourceAddress` is no address"), "{warnings:?}");
}
