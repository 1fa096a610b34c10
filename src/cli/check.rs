//! `outfall check`: whether this machine is fit to capture live, and what to change.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Barrier};

use anyhow::Context as _;

use super::run::owner;
use crate::capture::live::{ANY, environment};
use crate::config::{Config, beside, is_interface};
use crate::endpoint::printable;
use crate::evidence::free;
use crate::net::ByteSize;
use crate::sensor::sandbox::{self, Duties, Files, Open};
use crate::store::{Reading, file_of};

/// What `outfall check` is told.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Interface to look at; may be given several times [default: `capture.interfaces`]
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,

    /// Configuration file; without it the defaults hold
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Lock this process up as `outfall run` does, and try what must not be possible then
    #[arg(long, hide = true)]
    sandbox: bool,

    /// Do so with this directory left open; what `--sandbox` starts, so that somebody is left to take it away
    #[arg(long, hide = true, value_name = "FOLDER")]
    sandbox_in: Option<PathBuf>,

    /// Do so as a sensor of this kind
    #[arg(long, hide = true, requires = "sandbox_in", value_name = "KIND", default_value = "listens")]
    duty: Duty,
}

/// The kinds of sensor that are locked up, each with more than the others lack.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Duty {
    /// It listens for helpers.
    Listens,
    /// It keeps a store, and delivers to nobody.
    Keeps,
    /// It keeps a store, and sends to collectors.
    Delivers,
    /// It writes evidence.
    Shelves,
}

/// What came of one look.
enum Finding {
    /// As it should be.
    Fine(String),
    /// It works, but not as well as it could.
    Change(String),
    /// It does not work.
    Fail(String),
}

use Finding::{Change, Fail, Fine};

/// Looks, and says what it found. Exit status 1 if something stands in the way of capturing.
///
/// # Errors
/// If the configuration cannot be read, or nothing can be looked at.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if let Some(state) = &args.sandbox_in {
        return try_sandbox(state, args.duty);
    }
    if args.sandbox {
        return sandbox_apart();
    }
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let interfaces = if args.interface.is_empty() { &config.capture.interfaces } else { &args.interface };
    let mut findings = vec![permission()];
    if interfaces.is_empty() {
        findings.push(Change("no interface: name one with --interface or `capture.interfaces`".to_owned()));
    }
    // Any socket will do to ask with.
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind("[::1]:0"));
    match socket {
        Ok(socket) => {
            interfaces.iter().for_each(|name| interface(&socket, name, config.capture.adapter_time, &mut findings))
        }
        Err(error) => findings.push(Fail(format!("interfaces cannot be asked about: no socket ({error})"))),
    }
    if config.capture.kernel_relief {
        findings.push(relief(config.capture.sandbox));
    }
    findings.extend(store(&config, args.config.as_deref()));
    findings.extend(evidence(&config, args.config.as_deref()));
    findings.push(memory(&config, interfaces.len()));
    findings.push(clock());
    say(&findings)
}

fn say(findings: &[Finding]) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for finding in findings {
        let (word, text) = match finding {
            Fine(text) => ("ok", text),
            Change(text) => ("change", text),
            Fail(text) => ("FAIL", text),
        };
        writeln!(out, "{word:<6} {}", printable(text)).context("cannot write the output")?;
    }
    let failed = findings.iter().any(|finding| matches!(finding, Fail(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn permission() -> Finding {
    if sandbox::holds_net_raw() {
        Fine("permission: CAP_NET_RAW is there".to_owned())
    } else {
        Fail(
            "permission: CAP_NET_RAW is missing: run as root, or as a service with AmbientCapabilities=CAP_NET_RAW \
             (see `outfall config service`)"
                .to_owned(),
        )
    }
}

fn interface(socket: &UdpSocket, name: &str, adapter_time: bool, findings: &mut Vec<Finding>) {
    if name == ANY {
        return findings.push(Change(format!(
            "{name}: what this machine itself sends and receives is captured, too; on a tap, name its interface"
        )));
    }
    if !is_interface(name) {
        return findings.push(Fail(format!("{name}: not the name of an interface")));
    }
    let condition = match environment::interface(socket, name) {
        Ok(Some((true, true))) => Fine(format!("{name}: is up")),
        Ok(Some((true, false))) => {
            Change(format!("{name}: is up, but has no carrier: look at the cable or the mirror port"))
        }
        Ok(Some((false, _))) if environment::opens_down(socket, name, adapter_time) => {
            Change(format!("{name}: is down, and will be read when it is up: ip link set {name} up"))
        }
        Ok(Some((false, _))) => Fail(format!(
            "{name}: is down, and the sensor does not start before it is up, as libpcap reads it: ip link set {name} up"
        )),
        Ok(None) => return findings.push(Fail(format!("{name}: no such interface: see `ip link`"))),
        Err(error) => return findings.push(Fail(format!("{name}: cannot be asked about ({error})"))),
    };
    findings.push(condition);
    findings.push(match environment::merges(socket, name) {
        Ok((false, false)) => Fine(format!("{name}: packets are not merged as they arrive (GRO and LRO are off)")),
        Ok((gro, lro)) => {
            let both = [(gro, "gro"), (lro, "lro")];
            let on: Vec<&str> = both.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
            let off: Vec<String> = on.iter().map(|name| format!("{name} off")).collect();
            Change(format!(
                "{name}: packets are merged as they arrive ({}), so their number, times and order are not those of the \
                 wire: ethtool -K {name} {}",
                on.join(", "),
                off.join(" ")
            ))
        }
        Err(_) => Fine(format!("{name}: the driver does not tell whether it merges packets")),
    });
    findings.push(match environment::descriptors(socket, name) {
        Ok((most, present)) if present < most => Change(format!(
            "{name}: the adapter's queue holds {present} packets and could hold {most}: ethtool -G {name} rx {most}"
        )),
        Ok((_, present)) => Fine(format!("{name}: the adapter's queue is as long as it can be ({present} packets)")),
        Err(_) => Fine(format!("{name}: the adapter has no queue of its own to lengthen")),
    });
    findings.push(Fine(match environment::kinds_of_loss(socket, name) {
        Ok(1) => format!("{name}: the driver counts one kind of loss of its own (ethtool -S)"),
        Ok(kinds) => format!("{name}: the driver counts {kinds} kinds of loss of its own (ethtool -S)"),
        Err(_) => format!("{name}: the driver counts no losses of its own (ethtool -S)"),
    }));
}

/// Whether the kernel can relieve a sensor of packets, on a thread that is as those of a running one.
fn relief(sandbox: bool) -> Finding {
    let give_up = move || match sandbox {
        true => sandbox::give_up_capabilities().map_err(std::io::Error::other),
        false => Ok(()),
    };
    match std::thread::spawn(move || environment::relief(give_up)).join() {
        Ok(Ok(())) => Fine("relief: the kernel takes the program and its table".to_owned()),
        Ok(Err(error)) => Fail(format!("relief: {error}: leave `capture.kernel_relief` off")),
        Err(_) => Fail("relief: the thread that was to try it ended early".to_owned()),
    }
}

/// Whether the store can be used.
fn store(config: &Config, file: Option<&Path>) -> Option<Finding> {
    let path = file_of(config, file)?;
    let name = path.display();
    let folder = path.parent()?;
    if !path.exists() {
        if !folder.exists() {
            return Some(Change(format!("store: {name}: its directory is not there: the start makes it, if it can")));
        }
    } else if let Err(error) = Reading::open(&path) {
        return Some(Fail(format!("store: {error}")));
    }
    if let Err(why) = writable(folder, owner(config)) {
        return Some(Fail(format!(
            "store: {name}: its directory cannot be written ({why}): name another with `store.path`"
        )));
    }
    let beside = file.and_then(|file| std::path::absolute(file).ok()).is_some_and(|file| file.parent() == Some(folder));
    Some(if beside && config.capture.sandbox {
        Change(format!(
            "store: {name} lies beside the configuration, so the confined sensor can write in that directory: name one of its \
             own with `store.path`"
        ))
    } else {
        Fine(format!("store: {name} can be used"))
    })
}

/// Whether evidence can be written by itself, if it is to be.
fn evidence(config: &Config, file: Option<&Path>) -> Option<Finding> {
    let settings = &config.evidence;
    if settings.directory.is_empty() {
        return None;
    }
    let Some(directory) = beside(&settings.directory, file) else {
        return Some(Fail("evidence: `evidence.directory` is relative, and there is no configuration file".to_owned()));
    };
    let name = directory.display();
    // A folder that is not there is made by the start, one above it is not.
    let there =
        if directory.exists() { Some(directory.as_path()) } else { directory.parent().filter(|above| above.exists()) };
    let Some(there) = there else {
        return Some(Fail(format!("evidence: {name}: the directory that it is to be made in is not there")));
    };
    let becomes = if there == directory { owner(config) } else { None };
    if let Err(why) = writable(there, becomes) {
        return Some(Fail(format!("evidence: {name}: cannot be written ({why}): name another `evidence.directory`")));
    }
    Some(match free(there) {
        Err(error) => Change(format!("evidence: {name}: what is free on its disk is not known ({error})")),
        Ok(free) if free <= settings.min_free.0 => Change(format!(
            "evidence: {name}: only {} are free, and `evidence.min_free` ({}) stays free: none is written",
            ByteSize(free),
            settings.min_free
        )),
        Ok(_) => Fine(format!("evidence: {name}: can be written")),
    })
}

/// Whether this process may write in a directory or, if it becomes another user, that one.
fn writable(folder: &Path, becomes: Option<(u32, u32)>) -> Result<(), String> {
    let Some((user, group)) = becomes else {
        return nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).map_err(|error| error.to_string());
    };
    let found = folder.metadata().map_err(|error| error.to_string())?;
    // Groups beside its own are given up.
    let mine = if found.uid() == user {
        0o200
    } else if found.gid() == group {
        0o020
    } else {
        0o002
    };
    if user == 0 || found.mode() & mine != 0 { Ok(()) } else { Err("`capture.user` may not".to_owned()) }
}

/// Rings and tables against the memory that is free.
fn memory(config: &Config, interfaces: usize) -> Finding {
    let rings = config.capture.ring.0.saturating_mul(config.capture.threads).saturating_mul(interfaces.max(1) as u64);
    let tables = [
        &config.packet.fragment_memory,
        &config.flow.table_memory,
        &config.flow.reassembly_memory,
        &config.protocol.memory,
        &config.files.memory,
        &config.endpoint.memory,
    ];
    let listener = &config.listener;
    // Without addresses there is no listener; its queue is one for the join, and one for the journal.
    let listener = if listener.tls.is_empty() && listener.local.is_empty() {
        0
    } else {
        listener.memory.0.saturating_add(listener.queue.0.saturating_mul(2))
    };
    let evidence = if config.evidence.directory.is_empty() { 0 } else { config.evidence.memory.0 };
    let all = tables
        .iter()
        .fold(rings.saturating_add(listener).saturating_add(evidence), |sum, size| sum.saturating_add(size.0));
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let (rings, all) = (ByteSize(rings), ByteSize(all));
    match available {
        None => Change(format!("memory: rings take {rings}; how much is free the system does not tell")),
        Some(free) if rings.0 > free => Fail(format!(
            "memory: rings take {rings}, and {} is free: lower `capture.ring` or `capture.threads`",
            ByteSize(free)
        )),
        Some(free) if all.0 > free => Change(format!(
            "memory: rings take {rings} and all bounds together allow {all}, and {} is free: lower the bounds in the \
             configuration",
            ByteSize(free)
        )),
        Some(free) => {
            Fine(format!("memory: rings take {rings}, all bounds together allow {all}, {} is free", ByteSize(free)))
        }
    }
}

fn clock() -> Finding {
    match environment::clock() {
        Ok((true, most)) => Fine(format!("clock: is synchronised, wrong by at most {} ms", most / 1000)),
        Ok((false, _)) => Change(
            "clock: is not synchronised, so packets and endpoint events may not meet: start chrony or systemd-timesyncd"
                .to_owned(),
        ),
        Err(error) => Change(format!("clock: the system does not tell whether it is synchronised ({error})")),
    }
}

/// Has processes of their own locked up: one for each kind of sensor. Their directory is made here and taken away when they have ended, which a process that is locked up cannot.
fn sandbox_apart() -> anyhow::Result<ExitCode> {
    let state = std::env::temp_dir().join(format!("outfall-check-{}", std::process::id()));
    std::fs::create_dir(&state).with_context(|| format!("{}: cannot be made", state.display()))?;
    let ended = ["listens", "keeps", "delivers", "shelves"].map(|duty| {
        let program = std::env::current_exe()?;
        Command::new(program).args(["check", "--duty", duty, "--sandbox-in"]).arg(&state).status()
    });
    let removed = std::fs::remove_dir_all(&state);
    let mut all = true;
    for ended in ended {
        all &= ended.context("the process that is to be locked up cannot be started")?.success();
    }
    removed.with_context(|| format!("{}: cannot be removed", state.display()))?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Locks this process up as the sensor does, and tries what must not be possible any more, on two threads.
fn try_sandbox(state: &Path, duty: Duty) -> anyhow::Result<ExitCode> {
    let outside = std::env::temp_dir();
    let listening = TcpListener::bind(("127.0.0.1", 0)).context("no socket to accept on")?;
    let address = listening.local_addr().context("no socket to accept on")?;
    // One for each thread to accept.
    let clients = [0, 1].map(|_| TcpStream::connect(address));
    let (listens, delivers) = (matches!(duty, Duty::Listens), matches!(duty, Duty::Delivers));
    let (keeps, shelves) = (delivers || matches!(duty, Duty::Keeps), matches!(duty, Duty::Shelves));
    let duties = Duties { listens, keeps, delivers, shelves, ..Duties::default() };
    let connect = if delivers { vec![address.port()] } else { Vec::new() };
    let (keep, shelve) =
        if shelves { (Vec::new(), vec![state.to_owned()]) } else { (vec![state.to_owned()], Vec::new()) };
    let open = Open { keep, shelve, connect, ..Open::default() };
    let mut findings = vec![match sandbox::confine(&open)? {
        Files::Confined => Fine("Landlock holds, with all of its rules".to_owned()),
        Files::Partly => Fine("Landlock holds; this kernel does not know all of its rules".to_owned()),
        Files::Free => Fail("this kernel has no Landlock".to_owned()),
    }];
    findings.push(if sandbox::holds_net_raw() {
        Fail("CAP_NET_RAW is still there".to_owned())
    } else {
        Fine("no capability is left".to_owned())
    });
    let gate = Arc::new(Barrier::new(2));
    let other = {
        let (gate, state, outside) = (Arc::clone(&gate), state.to_owned(), outside.clone());
        let listening = listening.try_clone().context("no socket to accept on")?;
        // It is there before the list of system calls holds, as the capture threads are.
        std::thread::spawn(move || {
            gate.wait();
            sandbox::try_out(duties, &state, &outside, &listening, address.port())
        })
    };
    sandbox::lock(duties)?;
    gate.wait();
    let others = other.join().map_err(|_| anyhow::anyhow!("the second thread ended early"))?;
    let here = sandbox::try_out(duties, state, &outside, &listening, address.port());
    drop(clients);
    let duty = match duty {
        Duty::Listens => "listening",
        Duty::Keeps => "keeping a store",
        Duty::Delivers => "delivering",
        Duty::Shelves => "writing evidence",
    };
    for (thread, attempts) in [("thread 1", here), ("thread 2", others)] {
        for attempt in attempts {
            let result = attempt.refused.as_ref().map_or("done".to_owned(), |why| format!("refused: {why}"));
            let text = format!("{duty}, {thread}: {}: {result}", attempt.what);
            findings.push(if attempt.is_right() { Fine(text) } else { Fail(text) });
        }
    }
    say(&findings)
}
