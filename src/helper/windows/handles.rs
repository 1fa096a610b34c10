//! Which process has which file open.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::OnceLock;

use windows_sys::Wdk::System::SystemInformation::SYSTEM_INFORMATION_CLASS;
use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, NTSTATUS};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_APPEND_DATA, FILE_READ_DATA, FILE_TYPE_DISK, FILE_WRITE_DATA,
    GetFileInformationByHandle, GetFileType, GetFinalPathNameByHandleW,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, PROCESS_DUP_HANDLE};

use super::handle::Handle;
use super::{library, process};
use crate::helper::layout::{HandleRow, handle_table};
use crate::helper::source::poll::Open;
use crate::net::Timestamp;

/// `SystemExtendedHandleInformation`.
const HANDLES: SYSTEM_INFORMATION_CLASS = 64;
const STATUS_INFO_LENGTH_MISMATCH: NTSTATUS = 0xC000_0004_u32 as NTSTATUS;
const FILE_ATTRIBUTE_DIRECTORY: u32 = 0x10;

/// The table of a machine with millions of handles.
const MOST: usize = 256 << 20;

/// Handles with these rights are mostly ends of pipes, at which every question waits until the pipe is read.
const PIPES: [u32; 4] = [0x0012_019f, 0x0012_008d, 0x0012_0189, 0x001a_019f];

/// The table of handles, asked for again and again.
#[derive(Debug, Default)]
pub struct Handles {
    buffer: Vec<u8>,
    /// The kind of object that a file is.
    kind: Option<u16>,
    /// What a handle was found to be: nothing but a disk file has a path.
    known: HashMap<HandleRow, Option<String>>,
}

impl Handles {
    /// All open disk files of all processes but this one.
    ///
    /// # Errors
    /// The system's status if it gives no table.
    pub fn open_files(&mut self) -> Result<Vec<Open>, String> {
        let rows = self.table()?;
        if self.kind.is_none() {
            self.kind = own_file_kind(|| handle_table(self.raw_table().unwrap_or_default()));
        }
        let own = std::process::id();
        let holds = |row: &HandleRow| row.access & (FILE_READ_DATA | FILE_WRITE_DATA | FILE_APPEND_DATA) != 0;
        let rows: Vec<HandleRow> = rows
            .into_iter()
            .filter(|row| row.pid != own && holds(row) && self.kind.is_none_or(|kind| kind == row.kind))
            .collect();
        let mut processes: HashMap<u32, Option<(Handle, Option<Timestamp>)>> = HashMap::new();
        let mut known = std::mem::take(&mut self.known);
        let mut open = Vec::new();
        for row in rows {
            // Without the object's address a number can have become another file's.
            let before = if row.object == 0 { None } else { known.remove(&row) };
            let may_write = row.access & (FILE_WRITE_DATA | FILE_APPEND_DATA) != 0;
            if before == Some(None) || (before.is_none() && PIPES.contains(&row.access) && row.object != 0) {
                self.known.insert(row, None);
                continue;
            }
            let process = processes.entry(row.pid).or_insert_with(|| {
                let handle = process::open(row.pid, PROCESS_DUP_HANDLE)?;
                Some((handle, process::start(row.pid)))
            });
            let Some((handle, start)) = process else { continue };
            let found = duplicate(handle, row.handle).and_then(|file| file_of(&file, before.flatten()));
            self.known.insert(row, found.as_ref().map(|(path, _)| path.clone()));
            if let Some((path, size)) = found {
                let reads = row.access & FILE_READ_DATA != 0;
                open.push(Open { pid: row.pid, start: *start, path, reads, writes: may_write, size });
            }
        }
        Ok(open)
    }

    fn table(&mut self) -> Result<Vec<HandleRow>, String> {
        self.raw_table().map(handle_table)
    }

    fn raw_table(&mut self) -> Result<&[u8], String> {
        let query = query().ok_or("NtQuerySystemInformation is not there")?;
        if self.buffer.is_empty() {
            self.buffer.resize(1 << 20, 0);
        }
        loop {
            let mut length = 0;
            // SAFETY: the buffer has the size that is given; it is read as bytes alone.
            let status =
                unsafe { query(HANDLES, self.buffer.as_mut_ptr().cast(), self.buffer.len() as u32, &mut length) };
            match status {
                STATUS_INFO_LENGTH_MISMATCH if self.buffer.len() < MOST => {
                    let size = self.buffer.len().saturating_mul(2);
                    self.buffer.resize(size, 0);
                }
                status if status < 0 => return Err(format!("the table of handles: status {status:#010x}")),
                _ => return Ok(&self.buffer),
            }
        }
    }
}

type NtQuerySystemInformation =
    unsafe extern "system" fn(SYSTEM_INFORMATION_CLASS, *mut core::ffi::c_void, u32, *mut u32) -> NTSTATUS;

fn query() -> Option<NtQuerySystemInformation> {
    static FUNCTION: OnceLock<Option<NtQuerySystemInformation>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        let found = library::function("ntdll.dll", c"NtQuerySystemInformation")?;
        // SAFETY: this is the type of the function with this name.
        Some(unsafe { std::mem::transmute::<unsafe extern "system" fn() -> isize, NtQuerySystemInformation>(found) })
    })
}

/// Finds out which kind a file is: the kind of the handle that this process has after it has opened one.
fn own_file_kind(table: impl FnOnce() -> Vec<HandleRow>) -> Option<u16> {
    use std::os::windows::io::AsRawHandle as _;
    let file = std::fs::File::open(std::env::current_exe().ok()?).ok()?;
    let (own, handle) = (std::process::id(), file.as_raw_handle() as u64);
    table().into_iter().find(|row| row.pid == own && row.handle == handle).map(|row| row.kind)
}

fn duplicate(process: &Handle, handle: u64) -> Option<Handle> {
    let mut copy: HANDLE = std::ptr::null_mut();
    // SAFETY: the process is open, the number is only looked up there, and the copy is ours to close.
    let done = unsafe {
        DuplicateHandle(
            process.raw(),
            std::ptr::without_provenance_mut(handle as usize),
            GetCurrentProcess(),
            &mut copy,
            0,
            0,
            DUPLICATE_SAME_ACCESS,
        )
    };
    Handle::new(copy).filter(|_| done != 0)
}

/// Path and size of a disk file.
fn file_of(file: &Handle, known: Option<String>) -> Option<(String, u64)> {
    // SAFETY: all zero is a value of this plain structure; the handle is open.
    let (kind, information) = unsafe {
        let kind = GetFileType(file.raw());
        let mut information: BY_HANDLE_FILE_INFORMATION = std::mem::zeroed();
        let done = kind == FILE_TYPE_DISK && GetFileInformationByHandle(file.raw(), &mut information) != 0;
        (done.then_some(kind), information)
    };
    kind?;
    if information.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY != 0 {
        return None;
    }
    let size = u64::from(information.nFileSizeHigh) << 32 | u64::from(information.nFileSizeLow);
    let path = match known {
        Some(path) => path,
        None => {
            let mut path = vec![0_u16; 32 << 10];
            // SAFETY: the handle is open, and the buffer has the length that is given.
            let length =
                unsafe { GetFinalPathNameByHandleW(file.raw(), path.as_mut_ptr(), path.len() as u32, 0) } as usize;
            let path = String::from_utf16_lossy(path.get(..length).filter(|path| !path.is_empty())?);
            path.strip_prefix(r"\\?\UNC\")
                .map(|rest| format!(r"\\{rest}"))
                .unwrap_or_else(|| path.strip_prefix(r"\\?\").map(str::to_owned).unwrap_or(path))
        }
    };
    Some((path, size))
}
