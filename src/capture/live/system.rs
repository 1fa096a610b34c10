//! What only system calls tell or do, and no library offers safely: fan-out, a ring's statistics, the state of an
//! interface, the settings of its driver, and whether the clock is kept right.
//!
//! Each function takes plain values, makes one system call on memory of its own, and gives plain values. Beside
//! the mapped ring (`blocks.rs`), this is the only place of live capture with unsafe code.

#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::{c_int, c_void, sock_filter, sock_fprog, socklen_t};

/// Joins the socket to the fan-out group `group`, or to a new one with this program; gives the group.
pub(super) fn join_fanout(socket: BorrowedFd<'_>, group: Option<u16>, program: &mut [sock_filter]) -> io::Result<u16> {
    let flags = if group.is_none() { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
    let argument: u32 = u32::from(group.unwrap_or(0)) | (libc::PACKET_FANOUT_CBPF | flags) << 16;
    set(socket, libc::PACKET_FANOUT, &argument)?;
    if let Some(group) = group {
        return Ok(group);
    }
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The kernel copies the program and keeps no pointer.
    set(socket, libc::PACKET_FANOUT_DATA, &sock_fprog { len, filter: program.as_mut_ptr() })?;
    let joined: u32 = get(socket, libc::PACKET_FANOUT)?;
    Ok((joined & 0xffff) as u16)
}

/// Makes a ring (TPACKET_V3) of so many blocks of so many bytes. `room` bytes are left free before each frame; a block is
/// handed over at the latest after `timeout` milliseconds.
pub(super) fn make_ring(socket: BorrowedFd<'_>, room: u32, size: u32, blocks: u32, timeout: u32) -> io::Result<()> {
    set(socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as c_int))?;
    set(socket, libc::PACKET_RESERVE, &room)?;
    let request = libc::tpacket_req3 {
        tp_block_size: size,
        tp_block_nr: blocks,
        // Of no meaning in this version, but that the numbers must fit.
        tp_frame_size: size,
        tp_frame_nr: blocks,
        tp_retire_blk_tov: timeout,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    set(socket, libc::PACKET_RX_RING, &request)
}

/// Lets only packets through that the program lets through, cut to the length that it gives.
pub(super) fn attach_filter(socket: BorrowedFd<'_>, program: &mut [sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The kernel copies the program and keeps no pointer.
    let program = sock_fprog { len, filter: program.as_mut_ptr() };
    set_at(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// The same with a program of the extended BPF, which takes the place of any filter that is there.
pub(super) fn attach_program(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    set_at(socket, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program.as_raw_fd())
}

/// The kind of hardware (`ARPHRD_`) of an interface.
pub(super) fn hardware(socket: BorrowedFd<'_>, name: &str) -> io::Result<u16> {
    let mut request = request(name)?;
    ask(socket, libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: the call succeeded, so the kernel wrote this field of the union.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr }.sa_family)
}

/// Whether the adapter stamps every packet that it receives with a time of its own.
pub(super) fn stamps(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    // ETHTOOL_GET_TS_INFO, and struct ethtool_ts_info: command, what stamps there are, the number of the clock, two
    // masks with two reserved words behind each; the last is of what can be stamped on arrival.
    const GET_STAMPS: u32 = 0x41;
    const ALL: u32 = 1 << 1;
    let mut command = [0; 11];
    command[0] = GET_STAMPS;
    let [_, stamps, _, _, _, _, _, arriving, ..] = driver(socket, name, command)?;
    Ok(stamps & libc::SOF_TIMESTAMPING_RX_HARDWARE != 0 && arriving & ALL != 0)
}

/// What the kernel did with the packets of a ring since it was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RingStatistics {
    /// Packets that passed the filter, dropped ones included.
    pub(super) packets: u64,
    /// Packets for which the ring had no room.
    pub(super) drops: u64,
    /// Times that the ring was full and stood still.
    pub(super) freezes: u64,
}

/// Reads a ring's statistics (TPACKET_V3), which sets them back to zero.
pub(super) fn statistics(socket: BorrowedFd<'_>) -> io::Result<RingStatistics> {
    let counts: [u32; 3] = get(socket, libc::PACKET_STATISTICS)?;
    let [packets, drops, freezes] = counts.map(u64::from);
    Ok(RingStatistics { packets, drops, freezes })
}

/// Binds the socket to an interface, whatever it was bound to before.
pub(super) fn bind(socket: BorrowedFd<'_>, index: c_int) -> io::Result<()> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: all of the structure's fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all;
    address.sll_ifindex = index;
    // SAFETY: the pointer and the length are those of `address`, which lives until the call returns.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as socklen_t)
    };
    check(result)
}

/// The number of the interface that the socket is bound to: zero is none, a negative one has gone.
pub(super) fn bound(socket: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: all of the structure's fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut length = size_of::<libc::sockaddr_ll>() as socklen_t;
    // SAFETY: the pointer and the length are those of `address`, which lives until the call returns.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    Ok(address.sll_ifindex)
}

/// Asks for all packets of an interface, for as long as the socket lives.
pub(super) fn promiscuous(socket: BorrowedFd<'_>, index: c_int) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// An interface's number and flags (`IFF_`), if there is one of this name.
pub(super) fn interface(socket: BorrowedFd<'_>, name: &str) -> io::Result<Option<(c_int, c_int)>> {
    let mut request = request(name)?;
    match ask(socket, libc::SIOCGIFINDEX, &mut request) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        result => result?,
    }
    // SAFETY: the call succeeded, so the kernel wrote this field of the union.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    match ask(socket, libc::SIOCGIFFLAGS, &mut request) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        result => result?,
    }
    // SAFETY: the call succeeded, so the kernel wrote this field of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(Some((index, c_int::from(flags))))
}

/// One value of an interface's driver (an `ETHTOOL_G` command that gives one number).
pub(super) fn driver_value(socket: impl AsFd, name: &str, command: u32) -> io::Result<u32> {
    let [_, value] = driver(socket.as_fd(), name, [command, 0])?;
    Ok(value)
}

/// The descriptors of the adapter's receive ring: how many there may be, and how many there are.
pub(super) fn descriptors(socket: impl AsFd, name: &str) -> io::Result<(u32, u32)> {
    const GET_RING: u32 = 0x10;
    let mut command = [0; 9];
    command[0] = GET_RING;
    // struct ethtool_ringparam: command, four maxima, four present values, receive first.
    let [_, most, _, _, _, present, ..] = driver(socket.as_fd(), name, command)?;
    Ok((most, present))
}

/// The names of what an interface's driver counts, in the order of [`driver_counts`].
pub(super) fn driver_names(socket: BorrowedFd<'_>, name: &str) -> io::Result<Vec<String>> {
    // ETHTOOL_GSTRINGS, and struct ethtool_gstrings: command, set, number, and names of 32 bytes each.
    const GET_STRINGS: u32 = 0x1b;
    const NAME: usize = 32;
    let count = driver_size(socket, name)?;
    let mut answer = vec![0_u32; 3 + ROOM * NAME / 4];
    if let [command, set, ..] = answer.as_mut_slice() {
        (*command, *set) = (GET_STRINGS, STATISTICS);
    }
    driver_answer(socket, name, &mut answer)?;
    let found = answer.get(2).map_or(0, |found| *found as usize).min(count);
    let bytes: Vec<u8> = answer.iter().skip(3).take(found * NAME / 4).flat_map(|word| word.to_ne_bytes()).collect();
    let text = |name: &[u8]| String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or(name)).into_owned();
    Ok(bytes.chunks_exact(NAME).map(text).collect())
}

/// What an interface's driver has counted.
pub(super) fn driver_counts(socket: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u64>> {
    // ETHTOOL_GSTATS, and struct ethtool_stats: command, number, and counts of 8 bytes each.
    const GET_STATISTICS: u32 = 0x1d;
    let count = driver_size(socket, name)?;
    let mut answer = vec![0_u32; 2 + ROOM * 2];
    if let [command, ..] = answer.as_mut_slice() {
        *command = GET_STATISTICS;
    }
    driver_answer(socket, name, &mut answer)?;
    let found = answer.get(1).map_or(0, |found| *found as usize).min(count);
    let words = answer.get(2..2 + 2 * found).unwrap_or_default();
    let count = |pair: &[u32]| {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(pair.iter().flat_map(|word| word.to_ne_bytes())).for_each(|(to, from)| *to = from);
        u64::from_ne_bytes(bytes)
    };
    Ok(words.chunks_exact(2).map(count).collect())
}

/// ETH_SS_STATS.
const STATISTICS: u32 = 1;
/// A driver with more counters is not asked for them.
const MOST: usize = 1 << 14;
/// How many counters an answer has room for. The kernel writes as many as the driver has by then, whatever number it was
/// asked about before, and a change of the adapter's queues may come between.
const ROOM: usize = 4 * MOST;

/// How many counters the driver has.
fn driver_size(socket: BorrowedFd<'_>, name: &str) -> io::Result<usize> {
    // ETHTOOL_GSSET_INFO, and struct ethtool_sset_info: command, nothing, a mask of 64 bits, the size of each set in it.
    const GET_SIZES: u32 = 0x37;
    // The mask's lower half is its first word on a little-endian machine, and its second on another.
    let (low, high) = if cfg!(target_endian = "little") { (1 << STATISTICS, 0) } else { (0, 1 << STATISTICS) };
    let [_, _, low, high, count] = driver(socket, name, [GET_SIZES, 0, low, high, 0])?;
    match count as usize {
        _ if (low, high) == (0, 0) => Err(io::ErrorKind::Unsupported.into()),
        0 => Err(io::ErrorKind::Unsupported.into()),
        count if count > MOST => Err(io::ErrorKind::OutOfMemory.into()),
        count => Ok(count),
    }
}

/// Whether the kernel holds the system's clock to be in step with a better one, and by how many microseconds it may be
/// wrong.
pub(super) fn clock() -> io::Result<(bool, i64)> {
    // SAFETY: all of the structure's fields are integers, for which zero is a value; with no mode set the call only reads.
    let mut state: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the pointer is to a structure of the type that the call fills.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0, state.maxerror))
}

fn driver<const N: usize>(socket: BorrowedFd<'_>, name: &str, mut command: [u32; N]) -> io::Result<[u32; N]> {
    const { assert!(N >= 2) };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut command).cast();
    ask(socket, libc::SIOCETHTOOL, &mut request)?;
    Ok(command)
}

/// Asks the driver for what is longer than a few words. `answer` begins with the question.
fn driver_answer(socket: BorrowedFd<'_>, name: &str, answer: &mut [u32]) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = answer.as_mut_ptr().cast();
    ask(socket, libc::SIOCETHTOOL, &mut request)
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: the structure holds integers and a pointer, for all of which zero is a value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ask(socket: BorrowedFd<'_>, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: every caller's `what` reads and writes one `ifreq`; where that holds a pointer, it is to memory that
    // lives until the call returns and is as long as the answer to the command in it: of a fixed length, or with room for
    // several times as many counters as the driver has just said that it has.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, std::ptr::from_mut(request)) })
}

fn set<T>(socket: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::SOL_PACKET, option, value)
}

fn set_at<T>(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let value = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: the pointer and the length are those of `value`, which the kernel only reads; a program that it points to
    // is borrowed by the caller until the call returns.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, size_of::<T>() as socklen_t) })
}

/// Only for types that any bytes make a value of.
fn get<T: Copy + Default>(socket: BorrowedFd<'_>, option: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the pointer and the length are those of `value`; every caller's type is of integers only, so whatever
    // part of it the kernel writes, it stays a value.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw mut value).cast::<c_void>(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
