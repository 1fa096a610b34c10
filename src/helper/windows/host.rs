//! Names, addresses and clock of this machine.
#![allow(unsafe_code)]

use std::net::IpAddr;

use windows_sys::Win32::NetworkManagement::IpHelper::{
    GAA_FLAG_SKIP_ANYCAST, GAA_FLAG_SKIP_DNS_SERVER, GAA_FLAG_SKIP_MULTICAST, GetAdaptersAddresses,
    IP_ADAPTER_ADDRESSES_LH,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6, AF_UNSPEC, SOCKADDR_IN, SOCKADDR_IN6};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RRF_SUBKEY_WOW6464KEY, RegGetValueW};
use windows_sys::Win32::System::SystemInformation::{
    COMPUTER_NAME_FORMAT, ComputerNameDnsDomain, ComputerNameDnsHostname, GetComputerNameExW, GetTickCount64,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, SetThreadPriority, THREAD_MODE_BACKGROUND_BEGIN, THREAD_PRIORITY_LOWEST,
};

use super::text::{narrow, wide};
use crate::helper::host::is_address;
use crate::helper::log::now;
use crate::net::{Span, Timestamp};

/// The host's name.
pub fn name() -> Option<String> {
    computer_name(ComputerNameDnsHostname)
}

/// The domain that it is a member of.
pub fn domain() -> Option<String> {
    computer_name(ComputerNameDnsDomain)
}

fn computer_name(format: COMPUTER_NAME_FORMAT) -> Option<String> {
    let mut name = [0_u16; 512];
    let mut length = name.len() as u32;
    // SAFETY: the buffer has the length that is given.
    let done = unsafe { GetComputerNameExW(format, name.as_mut_ptr(), &mut length) };
    Some(narrow(&name)).filter(|name| done != 0 && !name.is_empty())
}

/// The identity that Windows made for itself when it was installed.
pub fn id() -> Option<String> {
    let (key, value) = (wide(r"SOFTWARE\Microsoft\Cryptography"), wide("MachineGuid"));
    let mut text = [0_u16; 64];
    let mut bytes = size_of_val(&text) as u32;
    // SAFETY: both names end in a NUL, and the buffer has the size in bytes that is given.
    let error = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key.as_ptr(),
            value.as_ptr(),
            RRF_RT_REG_SZ | RRF_SUBKEY_WOW6464KEY,
            std::ptr::null_mut(),
            text.as_mut_ptr().cast(),
            &mut bytes,
        )
    };
    Some(narrow(&text).trim().to_lowercase()).filter(|id| error == 0 && !id.is_empty())
}

/// The addresses of all adapters.
pub fn addresses() -> Vec<IpAddr> {
    const FLAGS: u32 = GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST | GAA_FLAG_SKIP_DNS_SERVER;
    // Words, so that the structures in it are aligned.
    let mut buffer = vec![0_u64; 4096];
    for _ in 0..3 {
        let mut bytes = (buffer.len() * 8) as u32;
        let first: *mut IP_ADAPTER_ADDRESSES_LH = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer has the size that is given, and is aligned for the structure.
        let error = unsafe { GetAdaptersAddresses(u32::from(AF_UNSPEC), FLAGS, std::ptr::null(), first, &mut bytes) };
        if error == 0 {
            // SAFETY: the call has succeeded, so the buffer holds the list, and outlives the walk.
            return unsafe { walk(first) };
        }
        buffer.resize((bytes as usize / 8).saturating_add(64).min(1 << 20), 0);
    }
    Vec::new()
}

/// Collects the addresses of a list of adapters.
///
/// # Safety
/// The list comes from `GetAdaptersAddresses`, and its buffer is still there.
unsafe fn walk(mut adapter: *const IP_ADAPTER_ADDRESSES_LH) -> Vec<IpAddr> {
    let mut all = Vec::new();
    // SAFETY: every pointer of the list is null or points into its buffer, at a structure that the call has filled in;
    // an address's family says of which type it is.
    while let Some(here) = unsafe { adapter.as_ref() } {
        let mut entry = here.FirstUnicastAddress;
        while let Some(address) = unsafe { entry.as_ref() } {
            let socket = address.Address.lpSockaddr;
            let family = unsafe { socket.as_ref() }.map(|socket| socket.sa_family);
            let ip = match family {
                Some(AF_INET) => {
                    let v4 = unsafe { &*socket.cast::<SOCKADDR_IN>() };
                    Some(IpAddr::from(unsafe { v4.sin_addr.S_un.S_addr }.to_ne_bytes()))
                }
                Some(AF_INET6) => {
                    let v6 = unsafe { &*socket.cast::<SOCKADDR_IN6>() };
                    Some(IpAddr::from(unsafe { v6.sin6_addr.u.Byte }))
                }
                _ => None,
            };
            all.extend(ip.filter(is_address));
            entry = address.Next;
        }
        adapter = here.Next;
    }
    all
}

/// When the machine started.
pub fn boot() -> Option<Timestamp> {
    // SAFETY: a plain question.
    let milliseconds = unsafe { GetTickCount64() };
    Some(now().before(Span(milliseconds.saturating_mul(1_000_000))))
}

/// Lets everything else go before the calling thread, also at the disk.
pub fn lower_priority() {
    // SAFETY: the pseudo handle of the calling thread is always good.
    unsafe {
        if SetThreadPriority(GetCurrentThread(), THREAD_MODE_BACKGROUND_BEGIN) == 0 {
            SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_LOWEST);
        }
    }
}
