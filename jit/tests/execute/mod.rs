//! Runs machine code.

use ipex_jit::CompiledKernel;

const PAGE: usize = 4096;

/// Bytes that start a page, or end right before one that cannot be touched.
struct Placed {
    pages: *mut u8,
    mapped: usize,
    start: usize,
}

impl Placed {
    fn new(bytes: &[u8], at_end: bool) -> Placed {
        let room = bytes.len().next_multiple_of(PAGE);
        let mapped = room + PAGE;
        let start = if at_end { room - bytes.len() } else { 0 };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping whose last page is closed; `start` leaves room for the bytes in front of it.
        let pages = unsafe {
            let pages = libc::mmap(std::ptr::null_mut(), mapped, access, kind, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            let pages = pages.cast::<u8>();
            assert_eq!(
                libc::mprotect(pages.add(room).cast(), PAGE, libc::PROT_NONE),
                0
            );
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), pages.add(start), bytes.len());
            pages
        };
        Placed {
            pages,
            mapped,
            start,
        }
    }

    fn start(&self) -> *mut u8 {
        self.pages.wrapping_add(self.start)
    }

    fn take(&self, bytes: &mut [u8]) {
        // SAFETY: the pages hold all bytes behind `start`.
        unsafe { std::ptr::copy_nonoverlapping(self.start(), bytes.as_mut_ptr(), bytes.len()) };
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours.
        unsafe { libc::munmap(self.pages.cast(), self.mapped) };
    }
}

/// Runs a kernel in two parts: iterations `0..cut` and `cut..extent`. Every third parameter ends where memory does.
pub fn execute(code: &CompiledKernel, memory: &mut [Vec<u8>], extent: u64, cut: u64) {
    let placed = memory.iter().enumerate();
    let placed: Vec<Placed> = placed.map(|(k, m)| Placed::new(m, k % 3 == 2)).collect();
    let args: Vec<*mut u8> = placed.iter().map(Placed::start).collect();
    // SAFETY: every parameter has the elements that the kernel addresses.
    unsafe {
        (code.entry())(args.as_ptr(), 0, cut as i64);
        (code.entry())(args.as_ptr(), cut as i64, extent as i64);
    }
    for (placed, bytes) in placed.iter().zip(memory) {
        placed.take(bytes);
    }
}
