//! Which device a drive's letter stands for.
#![allow(unsafe_code)]

use windows_sys::Win32::Storage::FileSystem::{GetLogicalDrives, QueryDosDeviceW};

use super::text::{narrow, wide};

/// Pairs such as `\Device\HarddiskVolume3\` and `C:\`.
pub fn drives() -> Vec<(String, String)> {
    // SAFETY: a plain question.
    let mask = unsafe { GetLogicalDrives() };
    let letters = ('A'..='Z').enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, letter)| letter);
    letters.filter_map(|letter| Some((format!("{}\\", device(letter)?), format!("{letter}:\\")))).collect()
}

fn device(letter: char) -> Option<String> {
    let name = wide(format!("{letter}:"));
    let mut target = [0_u16; 1024];
    // SAFETY: the name ends in a NUL, and the buffer has the length that is given.
    let length = unsafe { QueryDosDeviceW(name.as_ptr(), target.as_mut_ptr(), target.len() as u32) };
    Some(narrow(&target)).filter(|device| length > 0 && !device.is_empty())
}
