//! Changes of a folder and everything below it.
#![allow(unsafe_code)]

use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_BACKUP_SEMANTICS, FILE_LIST_DIRECTORY, FILE_NOTIFY_CHANGE_FILE_NAME,
    FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SIZE, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    OPEN_EXISTING, ReadDirectoryChangesW,
};

use super::handle::Handle;
use super::text::wide;
use crate::helper::layout::{Change, changes};

/// An open folder.
#[derive(Debug)]
pub struct Watch {
    folder: Handle,
    buffer: Vec<u32>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        let path = wide(folder);
        // SAFETY: the path ends in a NUL; what is opened is ours to close.
        let folder = unsafe {
            CreateFileW(
                path.as_ptr(),
                FILE_LIST_DIRECTORY,
                FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                std::ptr::null(),
                OPEN_EXISTING,
                FILE_FLAG_BACKUP_SEMANTICS,
                std::ptr::null_mut(),
            )
        };
        let folder = Handle::new(folder).ok_or_else(std::io::Error::last_os_error)?;
        Ok(Self { folder, buffer: vec![0; 16 << 10] })
    }

    /// Waits for the next changes. None at all means that there were more than could be kept.
    ///
    /// # Errors
    /// If the folder is gone.
    pub fn next(&mut self) -> std::io::Result<Vec<(Change, String)>> {
        let mut length = 0;
        // SAFETY: the folder is open; the buffer has the size that is given, and is aligned as the function wants it;
        // without an overlapped structure the call returns when it is done with both.
        let done = unsafe {
            ReadDirectoryChangesW(
                self.folder.raw(),
                self.buffer.as_mut_ptr().cast(),
                (self.buffer.len() * 4) as u32,
                1,
                FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_SIZE | FILE_NOTIFY_CHANGE_LAST_WRITE,
                &mut length,
                std::ptr::null_mut(),
                None,
            )
        };
        if done == 0 {
            return Err(std::io::Error::last_os_error());
        }
        let bytes: Vec<u8> = self.buffer.iter().flat_map(|word| word.to_le_bytes()).take(length as usize).collect();
        Ok(changes(&bytes))
    }
}
