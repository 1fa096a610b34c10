//! Texts as Windows takes and gives them.

use std::ffi::OsStr;
use std::os::windows::ffi::OsStrExt as _;

/// UTF-16 with a NUL at its end. The pointer to it is good as long as the vector is.
pub fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// The text up to the first NUL.
pub fn narrow(wide: &[u16]) -> String {
    String::from_utf16_lossy(wide.split(|unit| *unit == 0).next().unwrap_or_default())
}
