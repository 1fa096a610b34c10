//! `outfall enroll`: lets a host's helper in, ends it, or lists who is in.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use crate::config::Config;
use crate::endpoint::authority::{Authority, Enrolled, Roll, SENSOR_NAME, Standing, is_host_name, write_private};
use crate::endpoint::printable;
use crate::net::{Span, Timestamp};

/// What `outfall enroll` is told.
#[derive(Debug, clap::Args)]
pub struct EnrollArgs {
    /// The host; its helper may speak for no other
    #[arg(value_name = "HOST", required_unless_present = "list")]
    host: Option<String>,

    /// Configuration file of the sensor, for `listener.state` and `listener.tls`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the helper reaches the sensor, as host:port [default: the first address of `listener.tls`]
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["revoke", "list"])]
    sensor: Option<String>,

    /// Directory to make for the helper's files [default: outfall-helper-HOST]
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["revoke", "list"])]
    into: Option<PathBuf>,

    /// For how many days the certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = 1_095, value_parser = clap::value_parser!(u64).range(1..=18_000))]
    days: u64,

    /// End it: a running sensor drops the host's connection within seconds
    #[arg(long, conflicts_with = "list")]
    revoke: bool,

    /// List every certificate, and whether it is valid
    #[arg(long, conflicts_with = "host")]
    list: bool,
}

/// Does it, and says what came of it.
///
/// # Errors
/// If the state directory cannot be used, or the host is none.
pub fn run(args: &EnrollArgs) -> anyhow::Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let state = Path::new(&config.listener.state);
    let text = match &args.host {
        Some(host) if args.revoke => revoke(state, host)?,
        Some(host) => enroll(args, &config, state, host)?,
        None => list(&Roll::read(state)?, Timestamp::from_parts(jiff::Timestamp::now().as_second().max(0) as u64, 0)),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(ExitCode::SUCCESS)
}

fn revoke(state: &Path, host: &str) -> anyhow::Result<String> {
    ensure!(state.join("authority.key").exists(), "{}: no host was ever enrolled here", state.display());
    let count = Authority::open(state)?.revoke(host)?;
    let plural = if count == 1 { "certificate" } else { "certificates" };
    Ok(format!("{host}: {count} {plural} revoked; a running sensor refuses it within seconds\n"))
}

fn enroll(args: &EnrollArgs, config: &Config, state: &Path, host: &str) -> anyhow::Result<String> {
    ensure!(is_host_name(host), crate::endpoint::authority::AuthorityError::Name(host.to_owned()));
    let sensor = sensor(args, config)?;
    let folder = args.into.clone().unwrap_or_else(|| PathBuf::from(format!("outfall-helper-{host}")));
    private_directory(state).with_context(|| format!("{}: cannot be made", state.display()))?;
    let authority = Authority::open(state)?;
    // It holds a key: what is there stays, lest an enrolment that is in use is lost.
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("{}: cannot be made (--into names another directory)", folder.display()))?;
    let days = Span::seconds(24 * 3_600 * args.days);
    let now = Timestamp::from_parts(jiff::Timestamp::now().as_second().max(0) as u64, 0);
    let credentials = authority.enroll(host, now.after(days))?;
    let files = [
        ("authority.crt", credentials.authority.as_str()),
        ("helper.crt", &credentials.certificate),
        ("helper.key", &credentials.key),
        ("outfall-helper.toml", &helper_configuration(host, &sensor)),
    ];
    for (name, text) in files {
        write_private(&folder.join(name), text)?;
    }
    Ok(format!(
        "{host}: enrolled for {} days; install {} on it, and keep helper.key secret\n",
        args.days,
        folder.display()
    ))
}

/// The state directory, which is nobody else's.
pub(super) fn private_directory(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Where the helper is told to go.
fn sensor(args: &EnrollArgs, config: &Config) -> anyhow::Result<String> {
    const PORT: u16 = 5_515;
    let Some(address) = &args.sensor else {
        let first = config.listener.tls.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
        return match first.filter(|address| !address.ip().is_unspecified()).map(|address| address.to_string()).next() {
            Some(address) => Ok(address),
            None => bail!("where the helper reaches the sensor is not known: say --sensor HOST:PORT"),
        };
    };
    if address.parse::<SocketAddr>().is_ok() {
        return Ok(address.clone());
    }
    if let Ok(ip) = address.parse::<std::net::IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT).to_string());
    }
    let (name, port) = address.rsplit_once(':').unwrap_or((address, "5515"));
    ensure!(
        is_host_name(name) && port.parse::<u16>().is_ok_and(|port| port > 0),
        "--sensor: expected an address such as \"sensor.example:5515\", found \"{}\"",
        printable(address)
    );
    Ok(format!("{name}:{port}"))
}

fn helper_configuration(host: &str, sensor: &str) -> String {
    // Names and addresses are of letters that need no escape.
    format!(
        "# The helper of {host}. Relative paths start at the directory of this file.\n\n\
         [host]\nid = \"{host}\"\n\n\
         [uplink]\nsensor = \"{sensor}\"\nserver_name = \"{SENSOR_NAME}\"\n\
         authority = \"authority.crt\"\ncertificate = \"helper.crt\"\nkey = \"helper.key\"\n"
    )
}

fn list(roll: &Roll, now: Timestamp) -> String {
    let mut all: Vec<&Enrolled> = roll.certificates().collect();
    all.sort_by(|a, b| (&a.host, a.from, a.until).cmp(&(&b.host, b.from, b.until)));
    let mut text = String::new();
    for enrolled in all {
        let standing = match enrolled.standing(now) {
            Standing::Valid => "valid",
            Standing::Early => "not yet valid",
            Standing::Expired => "expired",
            Standing::Revoked | Standing::Unknown => "revoked",
        };
        let day = |at: Timestamp| at.to_string().chars().take(10).collect::<String>();
        let short: String = enrolled.certificate.to_string().chars().take(16).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<40} {standing:<13} from {} until {}  {short}",
            enrolled.host,
            day(enrolled.from),
            day(enrolled.until)
        );
    }
    if roll.damaged > 0 {
        let _ = writeln!(text, "{} damaged lines of the list were passed over", roll.damaged);
    }
    text
}
