//! A handle that is closed when it is dropped.
#![allow(unsafe_code)]

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE};

/// An open handle of this process.
#[derive(Debug)]
pub struct Handle(HANDLE);

// SAFETY: a handle is a number that every thread of the process may use; it points to no memory of ours.
unsafe impl Send for Handle {}

impl Handle {
    /// Takes over what a function has opened; nothing if that failed.
    ///
    /// The caller owns the handle and closes it nowhere else.
    pub fn new(raw: HANDLE) -> Option<Self> {
        (!raw.is_null() && raw != INVALID_HANDLE_VALUE).then_some(Self(raw))
    }

    /// For a call that only uses it.
    pub fn raw(&self) -> HANDLE {
        self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is open and ours, and is not used after this.
        unsafe { CloseHandle(self.0) };
    }
}
