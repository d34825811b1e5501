//! Memory of a thread that survives a call.

use std::cell::Cell;
use std::thread::LocalKey;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[expect(dead_code, reason = "read as floats")]
pub struct Line([f32; 16]);

type Slot = LocalKey<Cell<Vec<Line>>>;

thread_local! {
    /// Padded planes of all channels.
    pub static PLANES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Packed columns.
    pub static COLUMNS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Calls `f` with `len` floats of any value, aligned to 64 bytes. A call within `f` that uses the same
/// slot gets memory of its own.
pub fn with<R>(slot: &'static Slot, len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut lines = slot.take();
    let needed = len.div_ceil(16);
    if lines.len() < needed {
        lines.resize(needed, Line([0.0; 16]));
    }
    // SAFETY: a line is 16 floats.
    let floats = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) };
    let result = f(floats);
    slot.set(lines);
    result
}
