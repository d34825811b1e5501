//! Large blocks that survive the tensors in them. A fresh block costs a page fault for every 4 KiB,
//! more than most kernels take to fill it, and the system gets it back at every free otherwise.

use std::collections::HashMap;
use std::sync::Mutex;

/// Smaller blocks are left to ATen's allocator.
pub const SMALLEST: usize = 128 << 10;
/// Most bytes that wait to be used again.
const KEPT: usize = 1 << 30;
/// Bytes of a huge page; blocks of so many and more lie in them.
pub const HUGE_PAGE: usize = 2 << 20;

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<usize>>,
    kept: usize,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// Blocks come in sizes that waste an eighth at most.
fn class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(4096);
    bytes.next_multiple_of(step)
}

/// A block of at least this size, and its size; none if the block would be small or there is no
/// memory. Its contents are undefined.
pub fn take(bytes: usize) -> Option<(*mut u8, usize)> {
    if bytes < SMALLEST {
        return None;
    }
    let size = class(bytes);
    if let Ok(mut pool) = POOL.lock()
        && let Some(pool) = pool.as_mut()
        && let Some(block) = pool.free.get_mut(&size).and_then(Vec::pop)
    {
        pool.kept -= size;
        return Some((block as *mut u8, size));
    }
    map(size).map(|block| (block, size))
}

/// Takes a block back, from any thread.
pub fn give(block: *mut u8, size: usize) {
    if let Ok(mut pool) = POOL.lock() {
        let pool = pool.get_or_insert_default();
        if pool.kept + size <= KEPT {
            pool.kept += size;
            pool.free.entry(size).or_default().push(block as usize);
            return;
        }
    }
    unmap(block, size);
}

/// Bytes of address space behind a block: huge pages need an aligned start.
fn mapped(size: usize) -> usize {
    if size >= HUGE_PAGE {
        size.next_multiple_of(HUGE_PAGE)
    } else {
        size
    }
}

fn map(size: usize) -> Option<*mut u8> {
    let wanted = mapped(size);
    let slack = if size >= HUGE_PAGE { HUGE_PAGE } else { 0 };
    // SAFETY: fresh anonymous memory; what lies outside the aligned block is given back.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            wanted + slack,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if start == libc::MAP_FAILED {
            return None;
        }
        if slack == 0 {
            return Some(start.cast());
        }
        let before = start.align_offset(HUGE_PAGE);
        let block = start.byte_add(before);
        if before > 0 {
            libc::munmap(start, before);
        }
        if slack > before {
            libc::munmap(block.byte_add(wanted), slack - before);
        }
        #[cfg(target_os = "linux")]
        libc::madvise(block, wanted, libc::MADV_HUGEPAGE);
        Some(block.cast())
    }
}

fn unmap(block: *mut u8, size: usize) {
    // SAFETY: `map` made the block with this size, and nobody uses it any more.
    unsafe { libc::munmap(block.cast(), mapped(size)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again() {
        assert!(take(1000).is_none());
        for bytes in [200_000, 3 << 20, (5 << 20) + 12] {
            let (block, size) = take(bytes).unwrap();
            assert!(size >= bytes && size - bytes <= bytes / 4 + 4096);
            // SAFETY: the block holds `size` bytes.
            unsafe { block.write_bytes(7, size) };
            give(block, size);
            assert_eq!(take(bytes).unwrap(), (block, size));
            give(block, size);
        }
    }

    /// Page faults of this thread.
    #[cfg(target_os = "linux")]
    fn faults() -> i64 {
        // SAFETY: the system fills the structure.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &mut usage), 0);
            usage.ru_minflt
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn fresh_blocks_belong_to_whoever_writes_first() {
        let bytes = (48 << 20) + 4096;
        let before = faults();
        let (block, size) = take(bytes).unwrap();
        // The pool's own list may take some.
        assert!(faults() - before < 8, "taking a block touches it");
        let half = size / 2;
        let writer = |begin: usize| {
            let start = block as usize + begin;
            let write = move || {
                let before = faults();
                // SAFETY: a half of the block, of this thread alone.
                unsafe { (start as *mut u8).write_bytes(1, half) };
                faults() - before
            };
            std::thread::spawn(write).join().unwrap()
        };
        assert!(writer(0) >= 8 && writer(half) >= 8);
        let before = faults();
        // SAFETY: the threads have ended.
        unsafe { block.write_bytes(2, size) };
        assert!(faults() - before < 8, "the pages are there");
        give(block, size);
    }
}
