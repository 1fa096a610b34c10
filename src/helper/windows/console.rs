//! Ctrl-C and the closing of the console.
#![allow(unsafe_code)]

use std::sync::{Arc, OnceLock};

use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;

use crate::helper::stop::Stop;

static STOP: OnceLock<Arc<Stop>> = OnceLock::new();

/// Sets `stop` when the user breaks the program off.
pub fn on_break(stop: Arc<Stop>) {
    if STOP.set(stop).is_ok() {
        // SAFETY: the handler is a function of this program, which may be called from any thread and at any time.
        unsafe { SetConsoleCtrlHandler(Some(handler), 1) };
    }
}

extern "system" fn handler(_kind: u32) -> i32 {
    if let Some(stop) = STOP.get() {
        stop.set();
    }
    1
}
