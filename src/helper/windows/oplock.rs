//! A wish to be told when somebody else wants a file that is being read.
#![allow(unsafe_code)]

use std::mem::size_of;
use std::path::Path;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, GENERIC_READ, GetLastError, WAIT_OBJECT_0};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_EXISTING,
};
use windows_sys::Win32::System::IO::{CancelIoEx, DeviceIoControl, OVERLAPPED};
use windows_sys::Win32::System::Ioctl::{
    FSCTL_REQUEST_OPLOCK, OPLOCK_LEVEL_CACHE_HANDLE, OPLOCK_LEVEL_CACHE_READ, REQUEST_OPLOCK_CURRENT_VERSION,
    REQUEST_OPLOCK_INPUT_BUFFER, REQUEST_OPLOCK_INPUT_FLAG_REQUEST, REQUEST_OPLOCK_OUTPUT_BUFFER,
};
use windows_sys::Win32::System::Threading::{CreateEventW, WaitForSingleObject};

use super::handle::Handle;
use super::text::wide;

/// How long the system may take to give up a request that is cancelled, in milliseconds.
const CANCELLED: u32 = 1000;

/// An opportunistic lock that caches reading and the handle: whoever opens the file in a way that another handle stands
/// against waits until this is dropped, instead of being refused.
pub struct Oplock {
    file: Handle,
    broken: Handle,
    /// What the system writes to until the request is done; given away for good if it is never done.
    request: Option<Box<Request>>,
}

struct Request {
    overlapped: OVERLAPPED,
    input: REQUEST_OPLOCK_INPUT_BUFFER,
    output: REQUEST_OPLOCK_OUTPUT_BUFFER,
}

impl Oplock {
    /// Of a file; nothing where the system or the file system grants none.
    pub fn request(path: &Path) -> Option<Self> {
        let path = wide(path);
        // SAFETY: the path ends in a NUL; what is opened is ours to close.
        let file = unsafe {
            CreateFileW(
                path.as_ptr(),
                GENERIC_READ,
                FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED,
                null_mut(),
            )
        };
        let file = Handle::new(file)?;
        // SAFETY: nothing is passed; a manual event, not set, is ours to close.
        let broken = Handle::new(unsafe { CreateEventW(null(), 1, 0, null()) })?;
        let mut request = Box::new(Request {
            overlapped: OVERLAPPED { hEvent: broken.raw(), ..Default::default() },
            input: REQUEST_OPLOCK_INPUT_BUFFER {
                StructureVersion: REQUEST_OPLOCK_CURRENT_VERSION as u16,
                StructureLength: size_of::<REQUEST_OPLOCK_INPUT_BUFFER>() as u16,
                RequestedOplockLevel: OPLOCK_LEVEL_CACHE_READ | OPLOCK_LEVEL_CACHE_HANDLE,
                Flags: REQUEST_OPLOCK_INPUT_FLAG_REQUEST,
            },
            output: REQUEST_OPLOCK_OUTPUT_BUFFER::default(),
        });
        // SAFETY: the file and the event are open; the three structures stay in their box, which is not moved out of and
        // not freed before the event says that the system is done with them.
        let (done, error) = unsafe {
            let done = DeviceIoControl(
                file.raw(),
                FSCTL_REQUEST_OPLOCK,
                (&raw const request.input).cast(),
                size_of::<REQUEST_OPLOCK_INPUT_BUFFER>() as u32,
                (&raw mut request.output).cast(),
                size_of::<REQUEST_OPLOCK_OUTPUT_BUFFER>() as u32,
                null_mut(),
                &raw mut request.overlapped,
            );
            (done, GetLastError())
        };
        // A granted lock is a request that is not done until it is broken.
        (done == 0 && error == ERROR_IO_PENDING).then_some(Self { file, broken, request: Some(request) })
    }

    /// Whether somebody waits for the file. Dropping this, after every other handle to it, lets him have it.
    pub fn is_broken(&self) -> bool {
        self.waits(0)
    }

    fn waits(&self, milliseconds: u32) -> bool {
        // SAFETY: the event is open.
        unsafe { WaitForSingleObject(self.broken.raw(), milliseconds) == WAIT_OBJECT_0 }
    }
}

impl Drop for Oplock {
    fn drop(&mut self) {
        if self.is_broken() {
            return;
        }
        let Some(request) = self.request.take() else { return };
        // SAFETY: the file is open, and the request is this one's.
        unsafe { CancelIoEx(self.file.raw(), &raw const request.overlapped) };
        if !self.waits(CANCELLED) {
            // The system may yet write to it.
            Box::leak(request);
        }
    }
}
