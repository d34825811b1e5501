//! Runs machine code.

use ipex_jit::CompiledKernel;

/// Runs a kernel in two parts: iterations `0..cut` and `cut..extent`.
pub fn execute(code: &CompiledKernel, memory: &mut [Vec<u8>], extent: u64, cut: u64) {
    let args: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
    // SAFETY: every parameter has the elements that the kernel addresses.
    unsafe {
        (code.entry())(args.as_ptr(), 0, cut as i64);
        (code.entry())(args.as_ptr(), cut as i64, extent as i64);
    }
}
