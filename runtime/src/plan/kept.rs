//! Memory that the first call fills for all later ones.

use super::arena::Line;
use super::{Buffer, Plan};
use crate::Error;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The memory of a plan's kept buffers.
pub struct Kept {
    /// Only `fill` writes, and only before `filled` is set.
    lines: Mutex<Vec<Line>>,
    start: *mut u8,
    /// First byte of each buffer, from `start`.
    offsets: Vec<usize>,
    bytes: usize,
    filled: AtomicBool,
}

// SAFETY: the memory is written under the lock, and read after it was.
unsafe impl Send for Kept {}
// SAFETY: as above.
unsafe impl Sync for Kept {}

impl Kept {
    /// Memory for a plan's kept buffers.
    pub fn new(plan: &Plan) -> Kept {
        let mut bytes = 0;
        let offsets = plan.buffers.iter().map(|buffer| {
            let at = bytes;
            if let Buffer::Kept { bytes: size } = buffer {
                bytes += (*size as usize).next_multiple_of(64);
            }
            at
        });
        let offsets = offsets.collect();
        let mut lines = vec![Line([0; 64]); bytes / 64];
        Kept {
            start: lines.as_mut_ptr().cast(),
            lines: Mutex::new(lines),
            offsets,
            bytes,
            filled: AtomicBool::new(plan.once.is_empty()),
        }
    }

    /// First byte of the n-th buffer, if that is a kept one.
    pub fn data(&self, n: usize) -> *mut u8 {
        self.start.wrapping_add(self.offsets[n])
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The addresses of all buffers.
    pub fn range(&self) -> Range<*const u8> {
        self.start.cast_const()..self.start.wrapping_add(self.bytes).cast_const()
    }

    /// Calls `write` unless an earlier call succeeded. Other threads wait.
    pub fn fill(&self, write: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        if self.filled.load(Ordering::Acquire) {
            return Ok(());
        }
        // What a failed call left behind is written again.
        let _lines = self.lines.lock().unwrap_or_else(|e| e.into_inner());
        if !self.filled.load(Ordering::Acquire) {
            write()?;
            self.filled.store(true, Ordering::Release);
        }
        Ok(())
    }
}
