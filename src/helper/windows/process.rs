//! The list of processes, and what can be found out of one.
#![allow(unsafe_code)]

use std::mem::{offset_of, size_of, zeroed};
use std::sync::OnceLock;

use windows_sys::Wdk::System::Threading::{PROCESSINFOCLASS, ProcessBasicInformation};
use windows_sys::Win32::Foundation::{FILETIME, HANDLE, LocalFree, NTSTATUS, UNICODE_STRING};
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::{
    GetTokenInformation, LookupAccountSidW, SID_NAME_USE, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, OpenProcessToken, PEB, PROCESS_BASIC_INFORMATION, PROCESS_QUERY_INFORMATION,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_VM_READ, QueryFullProcessImageNameW, RTL_USER_PROCESS_PARAMETERS,
};

use super::handle::Handle;
use super::library;
use super::text::narrow;
use crate::endpoint::ProcessStart;
use crate::helper::layout::filetime;
use crate::helper::source::poll::Listed;
use crate::net::Timestamp;

/// A command line is at most this long.
const LONGEST: usize = 64 << 10;

/// `ProcessCommandLineInformation`, on Windows 8.1 and later.
const COMMAND_LINE: PROCESSINFOCLASS = 60;

/// All processes.
///
/// # Errors
/// If the system gives no list.
pub fn list() -> Result<Vec<Listed>, std::io::Error> {
    // SAFETY: a plain question, whose answer is ours to close.
    let snapshot = Handle::new(unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) });
    let snapshot = snapshot.ok_or_else(std::io::Error::last_os_error)?;
    // SAFETY: all zero is a value of this plain structure.
    let mut entry: PROCESSENTRY32W = unsafe { zeroed() };
    entry.dwSize = size_of::<PROCESSENTRY32W>() as u32;
    let mut all = Vec::new();
    // SAFETY: the snapshot is open, and the entry says how large it is.
    let mut more = unsafe { Process32FirstW(snapshot.raw(), &mut entry) };
    while more != 0 {
        // Process 0 is the idle time.
        if entry.th32ProcessID != 0 {
            all.push(Listed {
                pid: entry.th32ProcessID,
                ppid: entry.th32ParentProcessID,
                name: narrow(&entry.szExeFile),
            });
        }
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.raw(), &mut entry) };
    }
    Ok(all)
}

/// What can be found out of a process; what cannot stays empty.
pub fn details(pid: u32) -> ProcessStart {
    let mut event = ProcessStart { pid, ..ProcessStart::default() };
    // Reading its memory is only needed where the system does not say the command line.
    let Some(process) = open(pid, PROCESS_QUERY_LIMITED_INFORMATION) else { return event };
    event.start = start_of(&process);
    event.image = image(&process);
    (event.user, event.sid) = user(&process).unwrap_or_default();
    event.command_line = command_line(&process).or_else(|| {
        let process = open(pid, PROCESS_QUERY_INFORMATION | PROCESS_VM_READ)?;
        command_line_from_memory(&process)
    });
    event
}

/// When a process started.
pub fn start(pid: u32) -> Option<Timestamp> {
    open(pid, PROCESS_QUERY_LIMITED_INFORMATION).as_ref().and_then(start_of)
}

/// Opens a process.
pub fn open(pid: u32, access: u32) -> Option<Handle> {
    // SAFETY: a plain question, whose answer is ours to close.
    Handle::new(unsafe { OpenProcess(access, 0, pid) })
}

fn start_of(process: &Handle) -> Option<Timestamp> {
    const ZERO: FILETIME = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    let [mut start, mut exit, mut kernel, mut user] = [ZERO; 4];
    // SAFETY: the handle is open, and the times are ours.
    let done = unsafe { GetProcessTimes(process.raw(), &mut start, &mut exit, &mut kernel, &mut user) };
    let steps = u64::from(start.dwHighDateTime) << 32 | u64::from(start.dwLowDateTime);
    if done == 0 { None } else { filetime(steps) }
}

fn image(process: &Handle) -> Option<String> {
    let mut path = vec![0_u16; 32 << 10];
    let mut length = path.len() as u32;
    // SAFETY: the handle is open, and the buffer has the length that is given.
    let done = unsafe { QueryFullProcessImageNameW(process.raw(), 0, path.as_mut_ptr(), &mut length) };
    Some(narrow(&path)).filter(|path| done != 0 && !path.is_empty())
}

/// Account and SID.
fn user(process: &Handle) -> Option<(Option<String>, Option<String>)> {
    let mut token: HANDLE = std::ptr::null_mut();
    // SAFETY: the handle is open, and what is opened is ours to close.
    let done = unsafe { OpenProcessToken(process.raw(), TOKEN_QUERY, &mut token) };
    let token = Handle::new(token).filter(|_| done != 0)?;
    // Words, so that the structure in it is aligned. A SID has at most 68 bytes.
    let mut buffer = [0_u64; 32];
    let mut length = 0;
    // SAFETY: the token is open, and the buffer has the size that is given.
    let done = unsafe {
        GetTokenInformation(
            token.raw(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &mut length,
        )
    };
    if done == 0 {
        return None;
    }
    // SAFETY: the call has put the structure there, and its SID into the same buffer.
    let sid = unsafe { (*buffer.as_ptr().cast::<TOKEN_USER>()).User.Sid };
    let mut text = std::ptr::null_mut();
    // SAFETY: the SID is whole; the text is copied up to its NUL, and freed once, as the function wants it.
    let sid_text = unsafe {
        if ConvertSidToStringSidW(sid, &mut text) == 0 {
            None
        } else {
            let length = (0..256).take_while(|at| *text.add(*at) != 0).count();
            let copy = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
            LocalFree(text.cast());
            Some(copy)
        }
    };
    let (mut name, mut domain) = ([0_u16; 256], [0_u16; 256]);
    let (mut name_length, mut domain_length) = (name.len() as u32, domain.len() as u32);
    let mut kind: SID_NAME_USE = 0;
    // SAFETY: the SID is whole, and both buffers have the lengths that are given.
    let done = unsafe {
        LookupAccountSidW(
            std::ptr::null(),
            sid,
            name.as_mut_ptr(),
            &mut name_length,
            domain.as_mut_ptr(),
            &mut domain_length,
            &mut kind,
        )
    };
    let account = (done != 0).then(|| match narrow(&domain) {
        domain if domain.is_empty() => narrow(&name),
        domain => format!("{domain}\\{}", narrow(&name)),
    });
    Some((account, sid_text))
}

type NtQueryInformationProcess =
    unsafe extern "system" fn(HANDLE, PROCESSINFOCLASS, *mut core::ffi::c_void, u32, *mut u32) -> NTSTATUS;

fn query() -> Option<NtQueryInformationProcess> {
    static FUNCTION: OnceLock<Option<NtQueryInformationProcess>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        let found = library::function("ntdll.dll", c"NtQueryInformationProcess")?;
        // SAFETY: this is the type of the function with this name.
        Some(unsafe { std::mem::transmute::<unsafe extern "system" fn() -> isize, NtQueryInformationProcess>(found) })
    })
}

fn command_line(process: &Handle) -> Option<String> {
    let mut buffer = vec![0_u64; LONGEST / 8 + 16];
    let size = (buffer.len() * 8) as u32;
    let mut length = 0;
    // SAFETY: the handle is open, and the buffer has the size that is given.
    let status = unsafe { query()?(process.raw(), COMMAND_LINE, buffer.as_mut_ptr().cast(), size, &mut length) };
    if status < 0 {
        return None;
    }
    // SAFETY: the call has put the structure there; the buffer is aligned for it.
    let text = unsafe { &*buffer.as_ptr().cast::<UNICODE_STRING>() };
    let begin = (text.Buffer as usize).checked_sub(buffer.as_ptr() as usize)?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let units = bytes.get(begin..begin.checked_add(usize::from(text.Length))?)?;
    Some(utf16(units)).filter(|text| !text.is_empty())
}

/// The way of old: from the process environment block of the process.
fn command_line_from_memory(process: &Handle) -> Option<String> {
    // SAFETY: all zero is a value of this plain structure.
    let mut basic: PROCESS_BASIC_INFORMATION = unsafe { zeroed() };
    let mut length = 0;
    // SAFETY: the handle is open, and the structure has the size that is given.
    let status = unsafe {
        query()?(
            process.raw(),
            ProcessBasicInformation,
            (&raw mut basic).cast(),
            size_of::<PROCESS_BASIC_INFORMATION>() as u32,
            &mut length,
        )
    };
    if status < 0 {
        return None;
    }
    let parameters = read_usize(process, basic.PebBaseAddress as usize + offset_of!(PEB, ProcessParameters))?;
    let at = parameters.checked_add(offset_of!(RTL_USER_PROCESS_PARAMETERS, CommandLine))?;
    let mut head = [0_u8; 2];
    read(process, at, &mut head)?;
    let buffer = read_usize(process, at.checked_add(offset_of!(UNICODE_STRING, Buffer))?)?;
    let mut bytes = vec![0_u8; usize::from(u16::from_le_bytes(head))];
    read(process, buffer, &mut bytes)?;
    Some(utf16(&bytes)).filter(|text| !text.is_empty())
}

fn read_usize(process: &Handle, at: usize) -> Option<usize> {
    let mut bytes = [0; size_of::<usize>()];
    read(process, at, &mut bytes)?;
    Some(usize::from_le_bytes(bytes))
}

/// Reads another process's memory, if all of it is there.
fn read(process: &Handle, at: usize, bytes: &mut [u8]) -> Option<()> {
    let mut length = 0;
    // SAFETY: the handle is open, and the buffer has the size that is given; the address is the other process's, and
    // the system checks it.
    let done = unsafe {
        ReadProcessMemory(
            process.raw(),
            std::ptr::without_provenance(at),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            &mut length,
        )
    };
    (done != 0 && length == bytes.len()).then_some(())
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> =
        bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_le_bytes).collect();
    narrow(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_listed_with_all_that_can_be_known_of_it() {
        let pid = std::process::id();
        assert!(list().unwrap().iter().any(|listed| listed.pid == pid && listed.name.ends_with(".exe")));
        let event = details(pid);
        let image = event.image.unwrap();
        assert!(image.eq_ignore_ascii_case(&std::env::current_exe().unwrap().display().to_string()), "{image}");
        let line = event.command_line.unwrap();
        assert!(line.contains(".exe"), "{line}");
        assert!(event.sid.unwrap().starts_with("S-1-") && event.user.is_some());
        assert_eq!(event.start, start(pid));
        let age = crate::helper::log::now().since(event.start.unwrap()).as_seconds();
        assert!((0.0..600.0).contains(&age), "{age}");
    }

    #[test]
    fn a_process_that_is_not_there_says_nothing() {
        assert_eq!(details(0xffff_fff0), ProcessStart { pid: 0xffff_fff0, ..ProcessStart::default() });
    }
}
