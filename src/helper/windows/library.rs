//! Functions that not every Windows has, looked up by name.
#![allow(unsafe_code)]

use std::ffi::CStr;

use windows_sys::Win32::Foundation::FARPROC;
use windows_sys::Win32::System::LibraryLoader::{GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW};

use super::text::wide;

/// The function of a library of the system, if it is there. The library stays loaded.
pub fn function(library: &str, name: &CStr) -> FARPROC {
    let library = wide(library);
    // SAFETY: the name ends in a NUL; only the system's own folder is searched; the reserved handle is null.
    let module = unsafe { LoadLibraryExW(library.as_ptr(), std::ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
    if module.is_null() {
        return None;
    }
    // SAFETY: the module is loaded, and the name ends in a NUL.
    unsafe { GetProcAddress(module, name.as_ptr().cast()) }
}
