//! Giving up what the sensor does not need once its interfaces and files are open.
//!
//! [`confine`] is called while the process has one thread: it becomes another user if asked to, gives up every
//! capability, and by Landlock the right to open files outside of the given directories, all of which later threads
//! inherit. [`lock`] is called once all threads are there: seccomp then refuses, on every thread, each system call that
//! is not on a short list, so no socket is opened (but of IP, where there are collectors), no program or thread started,
//! and no process traced any more.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::unistd::{Uid, User};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Why the process could not give something up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no such user.
    #[error("there is no user \"{0}\" (`capture.user`)")]
    NoUser(String),
    /// It could not become the user.
    #[error("cannot become the user \"{user}\"")]
    User {
        /// The user.
        user: String,
        /// What the system said.
        source: nix::Error,
    },
    /// Capabilities, or the promise to gain none.
    #[error("cannot give up capabilities")]
    Capabilities(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A directory that is to stay open is not there.
    #[error("{}: cannot be kept open to the sandbox", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: landlock::PathFdError,
    },
    /// Landlock.
    #[error("cannot give up the right to open files (Landlock)")]
    Files(#[from] landlock::RulesetError),
    /// seccomp.
    #[error("cannot give up system calls (seccomp)")]
    Calls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What stays open.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// Directories in which files may be read, written and deleted.
    pub keep: Vec<PathBuf>,
    /// The user to become, if the process is root; empty for none.
    pub user: String,
    /// Directories in which that may be done, and folders made and removed.
    pub shelve: Vec<PathBuf>,
    /// Directories in which files may be read and written.
    pub write: Vec<PathBuf>,
    /// Directories in which files may be read.
    pub read: Vec<PathBuf>,
    /// Ports to which connections may be made over TCP.
    pub connect: Vec<u16>,
}

/// How far the system took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Nothing outside can be opened.
    Confined,
    /// This kernel knows only some of the rules.
    Partly,
    /// This kernel has no Landlock; the user's rights and the list of system calls are all that holds.
    Free,
}

/// Gives up the user, the capabilities and the files. For a process of one thread.
///
/// # Errors
/// If something cannot be given up; what was before stays given up.
pub fn confine(open: &Open) -> Result<Files, SandboxError> {
    drop_bounding();
    if !open.user.is_empty() && Uid::effective().is_root() {
        become_user(&open.user)?;
    }
    give_up_capabilities()?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| SandboxError::Capabilities(Box::new(error)))?;
    files(open)
}

/// Gives up every capability of this thread, and of those that it starts.
///
/// # Errors
/// If the system does not take one.
pub fn give_up_capabilities() -> Result<(), SandboxError> {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|error| SandboxError::Capabilities(Box::new(error)))?;
    }
    Ok(())
}

/// What could be gained by starting a program with capabilities of its own; only who has CAP_SETPCAP can give it up.
fn drop_bounding() {
    for capability in caps::read(None, CapSet::Bounding).unwrap_or_default() {
        // Without it, the promise not to gain any holds as well.
        let _ = caps::drop(None, CapSet::Bounding, capability);
    }
}

fn become_user(name: &str) -> Result<(), SandboxError> {
    let refused = |source| SandboxError::User { user: name.to_owned(), source };
    let user = User::from_name(name).map_err(refused)?.ok_or_else(|| SandboxError::NoUser(name.to_owned()))?;
    nix::unistd::setgroups(&[]).map_err(refused)?;
    nix::unistd::setgid(user.gid).map_err(refused)?;
    nix::unistd::setuid(user.uid).map_err(refused)
}

fn files(open: &Open) -> Result<Files, SandboxError> {
    const KNOWN: ABI = ABI::V6;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    let keep = write | AccessFs::RemoveFile;
    let shelve = keep | AccessFs::MakeDir | AccessFs::RemoveDir;
    for (paths, access) in [(&open.read, read), (&open.write, write), (&open.keep, keep), (&open.shelve, shelve)] {
        for path in paths {
            let directory =
                PathFd::new(path).map_err(|source| SandboxError::Directory { path: path.clone(), source })?;
            rules = rules.add_rule(PathBeneath::new(directory, access))?;
        }
    }
    for port in &open.connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Files::Confined,
        RulesetStatus::PartiallyEnforced => Files::Partly,
        _ => Files::Free,
    })
}

/// What a process still does once it is locked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Duties<'a> {
    /// It accepts connections on sockets that are there, and keeps a journal.
    pub listens: bool,
    /// It accepts connections on sockets that are there, and answers on them.
    pub answers: bool,
    /// It keeps a store, and files of alerts.
    pub keeps: bool,
    /// It sends to collectors on new sockets of IP.
    pub delivers: bool,
    /// It writes the evidence of alerts.
    pub shelves: bool,
    /// The commands of `bpf` that it needs.
    pub relief: &'a [u32],
}

/// Gives up all system calls but those that reading rings, writing results, ending and its duties need, on all threads.
///
/// # Errors
/// If this kernel has no seccomp, or a thread does not take part.
pub fn lock(duties: Duties<'_>) -> Result<(), SandboxError> {
    let refused = |error: Box<dyn std::error::Error + Send + Sync>| SandboxError::Calls(error);
    let program = program(duties).map_err(|error| refused(Box::new(error)))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| refused(Box::new(error)))
}

fn program(duties: Duties<'_>) -> Result<BpfProgram, seccompiler::Error> {
    let Duties { listens, answers, keeps, delivers, shelves, relief } = duties;
    let accepts = if listens || answers { ACCEPTING } else { &[] };
    let more = if listens { LISTENING } else { &[] };
    let store = if keeps { KEEPING } else { &[] };
    let collectors = if delivers { DELIVERING } else { &[] };
    let folders = if shelves { SHELVING } else { &[] };
    let calls = CALLS.iter().chain(accepts).chain(more).chain(store).chain(collectors).chain(folders);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    if keeps {
        rules.extend(
            [libc::SYS_access, libc::SYS_lstat, libc::SYS_readlink, libc::SYS_rename, libc::SYS_stat, libc::SYS_unlink]
                .map(|call| (call, Vec::new())),
        );
    }
    #[cfg(target_arch = "x86_64")]
    if shelves {
        rules.extend(
            [libc::SYS_mkdir, libc::SYS_rename, libc::SYS_rmdir, libc::SYS_unlink].map(|call| (call, Vec::new())),
        );
    }
    #[cfg(target_arch = "x86_64")]
    if listens || answers {
        rules.insert(libc::SYS_epoll_wait, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    if listens {
        rules.insert(libc::SYS_unlink, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_poll, libc::SYS_time].map(|call| (call, Vec::new())));
    let one = |argument: u8, operator: SeccompCmpOp, value: u64| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    if delivers {
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                let equal = |argument, mask, value: i32| {
                    let operator = SeccompCmpOp::MaskedEq(mask);
                    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
                };
                // The other bits of the kind are flags.
                sockets.push(SeccompRule::new(vec![equal(0, u64::from(u32::MAX), family)?, equal(1, 0xf, kind)?])?);
            }
        }
        rules.insert(libc::SYS_socket, sockets);
    }
    // Memory that can be written is never run.
    let runs = libc::PROT_EXEC as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![one(2, SeccompCmpOp::MaskedEq(runs), 0)?]);
    }
    let asked = REQUESTS.map(|request| one(1, SeccompCmpOp::Eq, request));
    rules.insert(libc::SYS_ioctl, asked.into_iter().collect::<Result<_, _>>()?);
    if !relief.is_empty() {
        let asked = relief.iter().map(|command| one(0, SeccompCmpOp::Eq, u64::from(*command)));
        rules.insert(libc::SYS_bpf, asked.collect::<Result<_, _>>()?);
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let program: BpfProgram = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?.try_into()?;
    Ok(program)
}

/// The state of an interface, its driver's counters (to set anything takes a capability that is given up), and what the
/// standard library asks of a file.
const REQUESTS: [u64; 5] = [libc::SIOCGIFINDEX, libc::SIOCGIFFLAGS, libc::SIOCETHTOOL, libc::TCGETS, libc::FIONBIO];

/// System calls that stay, whatever their arguments.
const CALLS: &[i64] = &[
    // Files and sockets that are open; `openat` is Landlock's to judge.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // A half line of the output is taken back.
    libc::SYS_ftruncate,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // An interface that comes back is bound to again.
    libc::SYS_getsockname,
    libc::SYS_bind,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Time, threads that are there, signals, and the end.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What answering needs besides: connections of sockets that listen already, and their events.
const ACCEPTING: &[i64] = &[libc::SYS_accept4, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_shutdown];

/// What a listener needs besides that: its journal.
const LISTENING: &[i64] = &[
    libc::SYS_pwrite64,
    // Landlock says where a file may be deleted.
    libc::SYS_unlinkat,
];

/// What collectors need besides: connections, to ports that are Landlock's to judge.
const DELIVERING: &[i64] = &[libc::SYS_connect, libc::SYS_shutdown];

/// What a store needs besides: what SQLite does with its files, and putting files of alerts aside; where is Landlock's to judge.
const KEEPING: &[i64] = &[
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_geteuid,
];

/// What evidence needs besides: folders, what lies in them and what is free; where they may be is Landlock's to judge.
const SHELVING: &[i64] = &[
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_getdents64,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_copy_file_range,
    // To look at the clock's state; to set it takes a capability that is given up.
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
];

/// Whether this process holds a capability; for those who want to know before they start.
pub fn holds_net_raw() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap_or(false)
}

/// What [`try_out`] tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What it was.
    pub what: String,
    /// Whether it must succeed, or must not.
    pub wanted: bool,
    /// What the system said, where it did not succeed.
    pub refused: Option<String>,
}

impl Attempt {
    /// Whether it came out as it must.
    pub fn is_right(&self) -> bool {
        self.wanted == self.refused.is_none()
    }
}

/// Tries what a confined and locked process with these duties must not be able to do, and the little that it must: nothing
/// that succeeds does any harm. `state` is a directory that stays open; `listening` is a socket to which somebody has
/// connected; `port` is its own, to which a process that delivers may connect.
pub fn try_out(duties: Duties<'_>, state: &Path, outside: &Path, listening: &TcpListener, port: u16) -> Vec<Attempt> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    use std::fs::{self, File};
    use std::io;

    fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<String> {
        result.err().map(|error| error.to_string())
    }
    let Duties { listens, keeps, delivers, shelves, .. } = duties;
    let inside = state.join("outfall-check");
    let only = |wanted: bool, what: &str, refused: Option<String>| Attempt { what: what.to_owned(), wanted, refused };
    let never = |what: &str, refused: Option<String>| Attempt { what: what.to_owned(), wanted: false, refused };
    let raw = |family, kind, protocol| told(socket(family, kind, SockFlag::empty(), protocol));
    let socket_of = |family| told(socket(family, SockType::Datagram, SockFlag::empty(), None));
    let written = fs::write(&inside, b"x").and_then(|()| fs::read(&inside)).and_then(|_| fs::remove_file(&inside));
    let aside = state.join("outfall-check.1");
    let renamed = fs::write(&inside, b"x").and_then(|()| fs::rename(&inside, &aside));
    // Whichever of them is there.
    let _ = fs::remove_file(&inside).or_else(|_| fs::remove_file(&aside));
    let carried = fs::write(&inside, b"x").and_then(|()| fs::rename(&inside, outside.join("outfall-check")));
    let _ = fs::remove_file(&inside);
    let folder = state.join("outfall-check-folder");
    let made = fs::create_dir(&folder).and_then(|()| fs::read_dir(&folder)).and_then(|_| fs::remove_dir(&folder));
    let accepted = listening.accept().and_then(|(mut client, _)| io::Write::write_all(&mut client, b"x"));
    let connected = std::net::TcpStream::connect(("127.0.0.1", port));
    let program = std::process::Command::new("/bin/true").status();
    let replaced: io::Error = std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("/bin/true"));
    let thread = std::thread::Builder::new().spawn(|| ());
    vec![
        Attempt {
            what: "write, read and delete a file in the state directory".to_owned(),
            wanted: true,
            refused: told(written),
        },
        only(listens, "accept a connection on a socket that listens", told(accepted)),
        only(delivers, "connect to the port of a collector", told(connected)),
        only(keeps || shelves, "put a file in the state directory aside", told(renamed)),
        only(shelves, "make, list and remove a folder in the state directory", told(made)),
        never("put a file outside of the state directory", told(carried)),
        never("listen on a new socket", told(TcpListener::bind(("127.0.0.1", 0)))),
        never("read /etc/passwd", told(File::open("/etc/passwd"))),
        never("read /proc/self/environ", told(File::open("/proc/self/environ"))),
        never("list /", told(fs::read_dir("/").map(Iterator::count))),
        never("write outside of the state directory", told(File::create(outside.join("outfall-check")))),
        never(
            "make a folder outside of the state directory",
            told(fs::create_dir(outside.join("outfall-check-folder"))),
        ),
        only(delivers, "open a socket of IPv4", told(std::net::UdpSocket::bind(("127.0.0.1", 0)))),
        only(delivers, "open a socket of IPv6", socket_of(AddressFamily::Inet6)),
        never("open a TCP connection to another port", told(std::net::TcpStream::connect(("127.0.0.1", 9)))),
        never("open a local socket", told(std::os::unix::net::UnixDatagram::unbound())),
        never("open a packet socket", raw(AddressFamily::Packet, SockType::Raw, None)),
        never("open a netlink socket", raw(AddressFamily::Netlink, SockType::Raw, Some(SockProtocol::NetlinkRoute))),
        never("start a program", told(program)),
        never("become another program", Some(replaced.to_string())),
        never("start a thread", told(thread)),
        never("trace a process", told(nix::sys::ptrace::traceme())),
        never("become root", told(nix::unistd::setuid(Uid::from_raw(0)))),
        never("leave the network namespace", told(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET))),
        never("change the root directory", told(nix::unistd::chroot("/"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_calls_makes_a_program() {
        let length = |duties| program(duties).unwrap().len();
        let plain = length(Duties::default());
        assert!(length(Duties { listens: true, ..Duties::default() }) > plain);
        assert!(length(Duties { keeps: true, ..Duties::default() }) > plain);
        assert!(length(Duties { delivers: true, ..Duties::default() }) > plain);
        assert!(length(Duties { shelves: true, ..Duties::default() }) > plain);
        assert!(length(Duties { relief: &[1], ..Duties::default() }) > plain);
    }
}
