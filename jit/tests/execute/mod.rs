//! Runs machine code.

use ipex_jit::CompiledKernel;

/// A line of a cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that start 16 bytes behind the start of a line, or at it.
struct Placed {
    lines: Vec<Line>,
    start: usize,
}

impl Placed {
    fn new(bytes: &[u8], behind: bool) -> Placed {
        let start = if behind { 16 } else { 0 };
        let lines = vec![Line([0; 64]); (start + bytes.len()).div_ceil(64)];
        let mut placed = Placed { lines, start };
        let at = placed.start();
        // SAFETY: the lines hold all bytes behind `start`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        placed
    }

    fn start(&mut self) -> *mut u8 {
        self.lines
            .as_mut_ptr()
            .cast::<u8>()
            .wrapping_add(self.start)
    }

    fn take(&mut self, bytes: &mut [u8]) {
        let at = self.start();
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), bytes.len()) };
    }
}

/// Runs a kernel in two parts: iterations `0..cut` and `cut..extent`. Every third parameter is not at the start of a line.
pub fn execute(code: &CompiledKernel, memory: &mut [Vec<u8>], extent: u64, cut: u64) {
    let placed = memory.iter().enumerate();
    let mut placed: Vec<Placed> = placed.map(|(k, m)| Placed::new(m, k % 3 == 2)).collect();
    let args: Vec<*mut u8> = placed.iter_mut().map(Placed::start).collect();
    // SAFETY: every parameter has the elements that the kernel addresses.
    unsafe {
        (code.entry())(args.as_ptr(), 0, cut as i64);
        (code.entry())(args.as_ptr(), cut as i64, extent as i64);
    }
    for (placed, bytes) in placed.iter_mut().zip(memory) {
        placed.take(bytes);
    }
}
