//! Bringing memory near before it is needed, so that the processor need not wait for it.
#![allow(unsafe_code)]

/// Asks for the first `LINES` cache lines of a value, and does not wait for them.
#[inline(always)]
pub fn fetch<const LINES: usize, T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..LINES {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = std::ptr::from_ref(value).cast::<i8>().wrapping_add(64 * line);
        // SAFETY: a prefetch changes nothing that the program could see and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
