//! Memory that a thread keeps between calls.

use crate::pool::{self, HUGE_PAGE};
use std::alloc::{Layout, handle_alloc_error};
use std::cell::Cell;

/// A cache line, and the widest vector.
const LINE: usize = 64;

thread_local! {
    static KEPT: Cell<Kept> = const { Cell::new(Kept::NOTHING) };
}

/// A block of the pool.
struct Kept {
    data: *mut u8,
    bytes: usize,
}

impl Kept {
    const NOTHING: Kept = Kept {
        data: std::ptr::null_mut(),
        bytes: 0,
    };

    /// Huge pages from a quarter of one on: kernels that read operands from the second cache lose 3 % to small ones.
    fn new(bytes: usize) -> Kept {
        let wanted = if bytes >= HUGE_PAGE / 4 {
            bytes.next_multiple_of(HUGE_PAGE)
        } else {
            bytes.max(pool::SMALLEST)
        };
        match pool::take(wanted) {
            Some((data, bytes)) => Kept { data, bytes },
            None => handle_alloc_error(Layout::array::<u8>(wanted).unwrap_or(Layout::new::<u8>())),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.bytes > 0 {
            pool::give(self.data, self.bytes);
        }
    }
}

/// Calls `f` with the start of each of these blocks, in bytes; their contents are undefined.
pub fn with<const N: usize, T>(bytes: [usize; N], f: impl FnOnce([*mut u8; N]) -> T) -> T {
    let rounded = bytes.map(|b| b.next_multiple_of(LINE));
    let mut kept = KEPT.replace(Kept::NOTHING);
    let total: usize = rounded.iter().sum();
    if kept.bytes < total {
        drop(kept);
        kept = Kept::new(total);
    }
    let mut at = kept.data;
    let starts = rounded.map(|bytes| {
        let start = at;
        at = at.wrapping_add(bytes);
        start
    });
    let result = f(starts);
    KEPT.set(kept);
    result
}
