//! The whole story: a Windows program stages an archive and uploads it to real servers, the helper reports over TLS, and the
//! sensor that captures says which program sent which file.
//!
//! It needs a network of its own, which `tests/windows/run` makes (`OUTFALL_OWN_NETWORK`), as loopback addresses tell no host.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Running, programs, wait_until, windows_path};

/// The host, and the server outside, on one loopback interface.
const HOST: &str = "10.77.0.5";
const SERVER: &str = "203.0.113.9";

fn start(program: &str, args: &[&str], log: &Path) -> Running {
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")))
}

fn does(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

fn listens(port: u16) {
    wait_until("a server that listens", 20, || std::net::TcpStream::connect((SERVER, port)).is_ok());
}

fn vsftpd(folder: &Path) -> Running {
    let home = folder.join("ftp");
    std::fs::create_dir_all(home.join("in")).unwrap();
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    does("chown", &["ftp", home.join("in").to_str().unwrap()]);
    let settings = format!(
        "background=NO\nlisten=YES\nlisten_address={SERVER}\nanonymous_enable=YES\nlocal_enable=NO\nwrite_enable=YES\n\
         anon_upload_enable=YES\nno_anon_password=YES\nseccomp_sandbox=NO\nxferlog_enable=NO\n\
         anon_umask=022\nanon_root={}\nsecure_chroot_dir={}\n",
        home.display(),
        folder.join("empty").display()
    );
    let config = folder.join("vsftpd.conf");
    std::fs::write(&config, settings).unwrap();
    let server = start("vsftpd", &[config.to_str().unwrap()], &folder.join("vsftpd.log"));
    listens(21);
    server
}

fn nginx(folder: &Path) -> Running {
    let root = folder.join("www");
    std::fs::create_dir_all(root.join("upload")).unwrap();
    let here = folder.display();
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {here}/tmp;"));
    let settings = format!(
        "user root; worker_processes 1; daemon off; pid {here}/nginx.pid; error_log {here}/nginx.log;\n\
         events {{ worker_connections 64; }}\nhttp {{ access_log off; client_max_body_size 16m; {}\n\
         server {{ listen {SERVER}:80; root {}; location / {{ dav_methods PUT; }} }} }}\n",
        temporary.concat(),
        root.display()
    );
    let config = folder.join("nginx.conf");
    std::fs::write(&config, settings).unwrap();
    let (config, log) = (config.display().to_string(), folder.join("nginx.log").display().to_string());
    let server = start("nginx", &["-c", &config, "-e", &log], &folder.join("nginx.out"));
    listens(80);
    server
}

/// Lets a program end by itself, as an operator would.
fn terminate(child: &mut Child) {
    does("kill", &["-TERM", &child.id().to_string()]);
    wait_until("its end", 60, || child.try_wait().unwrap().is_some());
}

#[test]
fn the_sensor_names_the_program_and_the_file_of_an_upload_under_wine() {
    let test = "the sensor and the helper under Wine";
    let Some(programs) = programs(test) else { return };
    if std::env::var_os("OUTFALL_OWN_NETWORK").is_none() {
        return println!("skipped: {test}: tests/windows/run makes the network for it, as root");
    }
    for server in ["vsftpd", "nginx", "ip"] {
        if Command::new("sh").args(["-c", &format!("command -v {server}")]).output().unwrap().stdout.is_empty() {
            return println!("skipped: {test}: {server} is not installed");
        }
    }
    does("ip", &["address", "replace", &format!("{HOST}/32"), "dev", "lo"]);
    does("ip", &["route", "replace", "local", SERVER, "dev", "lo", "src", HOST, "table", "local"]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    does("chmod", &["755", folder.to_str().unwrap()]);
    let _servers = (vsftpd(folder), nginx(folder));

    let config = folder.join("outfall.toml");
    let settings = format!(
        "[network]\nhome = [\"10.77.0.0/16\"]\n[detect]\nstory = \"0 s\"\n[listener]\ntls = [\"{HOST}:5515\"]\nstate = \"{}\"\n",
        folder.join("state").display()
    );
    std::fs::write(&config, settings).unwrap();
    let (config, pack) = (config.display().to_string(), folder.join("pack"));
    let outfall = env!("CARGO_BIN_EXE_outfall");
    does(outfall, &["enroll", "WINE-1", "--into", pack.to_str().unwrap(), "--config", &config]);
    let stage = folder.join("stage");
    std::fs::create_dir_all(&stage).unwrap();
    let file = pack.join("outfall-helper.toml");
    let enrolled = std::fs::read_to_string(&file).unwrap();
    let stage_folder = windows_path(&stage);
    let polling =
        format!("\n[poll]\nperiod = \"100 ms\"\nfiles_period = \"250 ms\"\n[files]\nfolders = ['{stage_folder}']\n");
    std::fs::write(&file, enrolled + &polling).unwrap();

    let (output, log) = (folder.join("alerts.jsonl"), folder.join("outfall.log"));
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut sensor = start(
        outfall,
        &["run", "--interface", "lo", "--config", &config, "--json", "--flows", "--output", output.to_str().unwrap()],
        &log,
    );
    wait_until("the sensor's listener", 30, || said().contains("listening on"));
    let helper = programs.command(&programs.helper).args(["run", "--config", &windows_path(&file)]).spawn().unwrap();
    let _helper = Running(helper);
    let log_of_helper = pack.join("outfall-helper.log");
    wait_until("the helper's connection", 60, || {
        std::fs::read_to_string(&log_of_helper).is_ok_and(|text| text.contains("uplink: connected to"))
    });
    std::thread::sleep(Duration::from_secs(2));

    let archive = stage.join("quarter.7z");
    let uploaded = programs
        .command(&programs.stager)
        .arg(windows_path(&archive))
        .args([format!("ftp={SERVER}:21"), format!("put={SERVER}:80"), format!("socket={SERVER}:80")])
        .output()
        .unwrap();
    assert!(uploaded.status.success(), "{uploaded:?}");
    let content = std::fs::read(&archive).unwrap();
    for copy in ["ftp/in/quarter.7z", "www/upload/quarter.7z", "www/upload/socket-quarter.7z"] {
        assert!(std::fs::read(folder.join(copy)).unwrap_or_default() == content, "{copy}");
    }

    let records = || -> Vec<Value> {
        let text = std::fs::read_to_string(&output).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let alerts = || -> Vec<Value> {
        records().into_iter().filter(|record| record["event"]["dataset"] == "outfall.alert").collect()
    };
    wait_until("three alerts with their program", 40, || {
        alerts().iter().filter(|alert| alert["process"]["name"] == "stager.exe").count() >= 3
    });
    terminate(&mut sensor.0);
    let (alerts, sha256) = (alerts(), format!("{:x}", Sha256::digest(&content)));
    for (way, method) in [("ftp-data", "STOR"), ("http", "/upload/quarter.7z"), ("http", "/upload/socket-quarter.7z")] {
        let of_way = |alert: &&Value| {
            let target = alert["url"]["original"].as_str().unwrap_or_default();
            match way {
                "http" => target.ends_with(method),
                _ => alert["outfall"]["ftp"]["command"] == method,
            }
        };
        // One that was told before its process was known comes again with it.
        let alert = alerts.iter().rfind(of_way).unwrap_or_else(|| panic!("no alert of {method}: {alerts:#?}"));
        let shown = format!("{alert:#}\n{}", said());
        assert_eq!(alert["process"]["name"], "stager.exe", "{shown}");
        assert!(alert["process"]["executable"].as_str().unwrap().ends_with("\\stager.exe"), "{shown}");
        assert_eq!(alert["host"]["id"], "WINE-1", "{shown}");
        assert_eq!(alert["outfall"]["upload"]["bytes"].as_u64(), Some(content.len() as u64), "{shown}");
        let files = alert["outfall"]["join"]["files"].as_array().expect(&shown);
        let named = files.iter().find(|file| file["path"].as_str().is_some_and(|path| path.ends_with("\\quarter.7z")));
        assert_eq!(named.expect(&shown)["rule"], "sha256", "{shown}");
        let hash = &alert["file"]["hash"]["sha256"];
        assert!(hash.is_null() || *hash == sha256.as_str(), "{shown}");
        let reasons = alert["outfall"]["reasons"].to_string();
        assert!(reasons.contains("data-staged") && reasons.contains("process-unexpected"), "{shown}");
    }
}
