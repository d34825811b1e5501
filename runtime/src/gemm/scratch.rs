//! Memory that a thread keeps between calls.

use std::cell::RefCell;

/// 64 bytes: a cache line, and the widest vector.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "only its size counts")] [u8; 64]);

thread_local! {
    static KEPT: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with the start of each of these blocks, in bytes; their contents are undefined.
pub fn with<const N: usize, T>(bytes: [usize; N], f: impl FnOnce([*mut u8; N]) -> T) -> T {
    let lines = bytes.map(|b| b.div_ceil(64));
    let mut kept = KEPT.take();
    let total: usize = lines.iter().sum();
    if kept.len() < total {
        kept.resize(total, Line([0; 64]));
    }
    let mut at = kept.as_mut_ptr();
    let starts = lines.map(|n| {
        let start = at;
        at = at.wrapping_add(n);
        start.cast()
    });
    let result = f(starts);
    KEPT.set(kept);
    result
}
