//! What only system calls tell or do, and no library offers safely: fan-out, a ring's statistics, the state of an
//! interface, the settings of its driver, and whether the clock is kept right.
//!
//! Each function takes plain values, makes one system call on memory of its own, and gives plain values. This is the
//! only place of live capture with unsafe code.

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
    // SAFETY: every caller's `what` reads and writes one `ifreq`; where that holds a pointer, it is to memory of the
    // length that the command in it says, which lives until the call returns.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, std::ptr::from_mut(request)) })
}

fn set<T>(socket: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    let value = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: the pointer and the length are those of `value`, which the kernel only reads.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, value, size_of::<T>() as socklen_t) })
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
