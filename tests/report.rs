//! The report as a file: its numbers are the database's, it is always the same, and a browser has nothing to say about it.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{outfall, root, run, skip};
use rusqlite::Connection;
use rusqlite::types::Value;

/// Captures of several protocols, with and without endpoint events.
const CAPTURES: [&str; 4] = ["ftp-staged-archive", "http-multipart", "no-endpoint", "office-spawns-ftp"];

fn capture(name: &str) -> Vec<String> {
    let folder = root().join("captures").join(name);
    let endpoint = folder.join("endpoint.jsonl");
    let mut args = vec![folder.join("capture.pcap").display().to_string()];
    if endpoint.exists() {
        args.extend(["--endpoint".to_owned(), endpoint.display().to_string()]);
    }
    args
}

/// A database of all the captures.
fn database(folder: &Path) -> PathBuf {
    let path = folder.join("outfall.db");
    for name in CAPTURES {
        let mut args = vec!["replay".to_owned()];
        args.extend(capture(name));
        args.extend(["--state".to_owned(), path.display().to_string()]);
        outfall(args).exits(0);
    }
    path
}

fn report(arguments: &[&str], folder: &Path) -> String {
    let file = folder.join("report.html");
    let mut args = vec!["report", "-o", file.to_str().unwrap()];
    args.extend(arguments);
    outfall(args).exits(0);
    std::fs::read_to_string(file).unwrap()
}

/// The rows of a table: the text of each cell, or its bytes where it has them.
fn table(page: &str, id: &str) -> Vec<Vec<String>> {
    let (_, table) = page.split_once(&format!("<table id=\"{id}\">")).unwrap_or_else(|| panic!("no table {id}"));
    let (_, body) = table.split_once("<tbody>").unwrap();
    let (body, _) = body.split_once("</tbody>").unwrap();
    let cell = |cell: &str| {
        let (tag, rest) = cell.split_once('>').unwrap();
        let bytes = tag.split_once("data-bytes=\"").map(|(_, rest)| rest.split_once('"').unwrap().0.to_owned());
        let text = rest.split('<').next().unwrap().replace("&amp;", "&").replace("&quot;", "\"");
        bytes.unwrap_or(text)
    };
    let rows = body.split("<tr>").skip(1);
    rows.map(|row| row.replace("<th ", "<td ").split("<td").skip(1).map(cell).collect()).collect()
}

fn sql(database: &Path, query: &str) -> Vec<Vec<String>> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection.prepare(query).unwrap();
    let columns = statement.column_count();
    let cell = |row: &rusqlite::Row<'_>, n| match row.get_unwrap::<_, Value>(n) {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        _ => "(not known)".to_owned(),
    };
    let rows = statement.query_map([], |row| Ok((0..columns).map(|n| cell(row, n)).collect()));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn its_numbers_are_those_of_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(folder.path());
    let page = report(&["--state", database.to_str().unwrap(), "--top", "100"], folder.path());
    for (id, column) in [("processes", "process"), ("destinations", "destination")] {
        let wanted = sql(
            &database,
            &format!(
                "SELECT {column}, count(DISTINCT coalesce(host, source)), count(*), sum(bytes) FROM uploads
                 WHERE outbound GROUP BY {column} ORDER BY 4 DESC, 3 DESC, 1"
            ),
        );
        let found: Vec<Vec<String>> = table(&page, id).into_iter().map(|row| row[..4].to_vec()).collect();
        assert!(!wanted.is_empty());
        assert_eq!(found, wanted, "{id}");
    }
    let hosts = "SELECT coalesce(host, source), count(*), sum(bytes) FROM uploads WHERE outbound GROUP BY 1
                 ORDER BY 3 DESC, 2 DESC, 1";
    let found: Vec<Vec<String>> = table(&page, "hosts").into_iter().map(|row| row[..3].to_vec()).collect();
    assert_eq!(found, sql(&database, hosts));
    let pairs = "SELECT process, destination, count(*), sum(bytes) FROM uploads WHERE outbound GROUP BY 1, 2
                 ORDER BY 4 DESC, 3 DESC, 1, 2";
    assert_eq!(table(&page, "map-table"), sql(&database, pairs));
    let whole = sql(&database, "SELECT count(*), sum(bytes) FROM uploads WHERE outbound");
    for id in ["timeline-table", "attribution"] {
        let sum = |n: usize| table(&page, id).iter().map(|row| row[n].parse::<u64>().unwrap()).sum::<u64>().to_string();
        let first = if id == "attribution" { 1 } else { 2 };
        assert_eq!([sum(first), sum(first + 1)].as_slice(), whole[0], "{id}");
    }
    let alerts = sql(&database, "SELECT count(DISTINCT event_id) FROM alerts WHERE kind = 'outfall.alert'");
    assert_eq!(page.matches("<article").count().to_string(), alerts[0][0]);
    for row in sql(&database, "SELECT event_id FROM alerts WHERE kind = 'outfall.alert'") {
        assert!(page.contains(&row[0]), "alert {}", row[0]);
    }
}

#[test]
fn what_is_left_out_is_counted_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(folder.path());
    let page = report(&["--state", database.to_str().unwrap(), "--alerts", "0", "--top", "1"], folder.path());
    assert_eq!(page.matches("<article").count(), 0);
    assert!(page.contains("id=\"alerts-left-out\"") && page.contains("more are not listed"));
    assert!(page.contains("more pairs, with fewer bytes, are not drawn"));
}

#[test]
fn a_replay_gives_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let args = capture("ftp-staged-archive");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let first = report(&args, folder.path());
    let workers = [args.as_slice(), &["--workers", "4"]].concat();
    assert_eq!(first, report(&args, folder.path()));
    assert_eq!(first, report(&workers, folder.path()));
    for part in ["old.7z", "data-staged", "contain: take WKS-0142", "Nothing was lost"] {
        assert!(first.contains(part), "{part}");
    }
}

#[test]
fn what_it_cannot_report_on_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let refused = |args: &[&str]| outfall([&["report", "-o", file.to_str().unwrap()], args].concat()).exits(2).stderr;
    assert!(refused(&[]).contains("Name captures, --state or --config"));
    assert!(refused(&["--state", "/nonexistent/outfall.db"]).contains("there is no such file"));
    assert!(!file.exists());
}

/// What Chromium says about a page.
fn console(page: &Path, profile: &Path) -> String {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    command.args(["--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg("--dump-dom").arg(format!("file://{}", page.display()));
    let ran = run(command, &[]).exits(0);
    assert!(ran.text().contains("</html>"));
    ran.stderr.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_browser_has_nothing_to_say_about_it() {
    if !common::available("chromium") {
        skip("a_browser_has_nothing_to_say_about_it", "chromium is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = database(folder.path());
    let page = report(&["--state", database.to_str().unwrap()], folder.path());
    let (good, bad) = (folder.path().join("report.html"), folder.path().join("bad.html"));
    assert_eq!(console(&good, &folder.path().join("good")), "");
    // A style that is not the one of the policy is refused, and that is heard.
    std::fs::write(&bad, page.replacen("<style>", "<style> ", 1)).unwrap();
    assert_ne!(console(&bad, &folder.path().join("bad")), "");
}

/// What a live sensor lost is in the database, and in the report of it, as its closing summary said it.
#[cfg(target_os = "linux")]
#[test]
fn what_a_live_sensor_lost_is_in_the_report_of_its_database() {
    use common::lab::{self, Lab};
    let Ok(lab) = Lab::new("reported", 1).map_err(|reason| skip("reported", &reason)) else { return };
    let config = lab.file("outfall.toml", "");
    let sensor = lab.sensor(&["--config".into(), config.clone().into()]);
    let (frames, _) = lab::frames(&common::Story::named("http-multipart").capture());
    // Without one in the middle of the body.
    let missing = frames.iter().enumerate().filter(|(_, (_, frame))| frame.len() > 1_000).nth(5).unwrap().0;
    let sent: Vec<_> =
        frames.into_iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, timed)| (0, timed)).collect();
    lab.send(std::time::Instant::now(), &sent);
    let (_, said) = sensor.ends();
    let database = config.with_file_name("outfall.db");
    let page = report(&["--state", database.to_str().unwrap()], lab.folder.path());
    let losses = table(&page, "losses");
    let plain: Vec<Vec<String>> = losses.iter().map(|row| vec![row[0].clone(), row[1].replace(',', "")]).collect();
    assert_eq!(plain, sql(&database, "SELECT what, count FROM losses WHERE what != '' ORDER BY rowid"));
    assert!(losses.iter().any(|row| row[0] == "gaps in streams that the tap lost" && row[1] == "1"), "{losses:?}");
    for row in &losses {
        assert!(said.contains(&format!("{} {}", row[1], row[0])), "{row:?}: {said}");
    }
    assert!(page.contains("by all that 1 run of the sensor counted"));
}

/// The tags of a page with this name, each from its name to its end.
fn tags<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
    let begins = format!("<{name}");
    let rest = page.split(begins.as_str()).skip(1).filter(|rest| rest.starts_with([' ', '>']));
    rest.map(|rest| rest.split('>').next().unwrap_or_default()).collect()
}

fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    tag.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

#[test]
fn who_uses_a_keyboard_or_a_screen_reader_finds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(folder.path());
    let page = report(&["--state", database.to_str().unwrap()], folder.path());
    assert!(tags(&page, "html").iter().all(|tag| attribute(tag, "lang") == Some("en")));
    let first = tags(&page, "a")[0];
    assert_eq!(attribute(first, "href"), Some("#main"), "one can skip to what it is about");
    let there = |id: &str| page.contains(&format!("id=\"{id}\""));
    for link in tags(&page, "a") {
        assert!(attribute(link, "href").is_some_and(|to| to.strip_prefix('#').is_some_and(there)), "{link}");
    }
    let sections = tags(&page, "section");
    assert!(sections.len() >= 7 && sections.iter().all(|tag| attribute(tag, "aria-labelledby").is_some_and(there)));
    for picture in tags(&page, "svg") {
        let hidden = attribute(picture, "aria-hidden") == Some("true");
        let named = attribute(picture, "aria-labelledby").is_some_and(there);
        assert!(hidden || attribute(picture, "role") == Some("img") && named, "{picture}");
    }
    for table in page.split("<table").skip(1) {
        let table = table.split("</table>").next().unwrap();
        assert!(table.contains("<caption"), "{table}");
        assert!(tags(table, "th").iter().all(|cell| attribute(cell, "scope").is_some()), "{table}");
    }
    for place in ["div", "figure", "pre"].iter().flat_map(|name| tags(&page, name)) {
        // What scrolls can be reached and says what it is; nothing comes out of its turn.
        let turn = attribute(place, "tabindex");
        let named = attribute(place, "aria-label").is_some() || attribute(place, "aria-labelledby").is_some_and(there);
        assert!(turn.is_none_or(|turn| turn == "0" && named), "{place}");
    }
    let levels: Vec<u8> = page.match_indices("<h").filter_map(|(at, _)| page.as_bytes().get(at + 2).copied()).collect();
    let levels: Vec<u8> = levels.into_iter().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
    assert!(levels[0] == 1 && levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    // Where the reader's system asks for it.
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("@media print"));
}
