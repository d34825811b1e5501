//! Memory that will be needed soon comes closer.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for memory that will be read soon, in the second cache; any address.
pub fn read(from: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch of any address does no harm.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(at).cast()) };
    }
    let _ = (from, bytes);
}

/// Asks for memory that will be written soon, so that no other core has it; any address.
pub fn write(to: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch of any address does no harm.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(to.wrapping_add(at).cast()) };
    }
    let _ = (to, bytes);
}
