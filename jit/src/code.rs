//! Executable memory: written once, then only executed.

use crate::CompileError;
use ipex_runtime::plan::{KernelCode, KernelFn};
use std::sync::Arc;

/// Pages that hold one function.
#[derive(Debug)]
pub struct Code {
    start: *mut libc::c_void,
    pages: usize,
    size: usize,
}

// SAFETY: the pages are never written after `new`.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Code {
    /// Copies a position-independent function that follows the C calling convention
    /// `fn(args, begin, end)`.
    pub fn new(bytes: &[u8]) -> Result<Code, CompileError> {
        let error = || CompileError::Memory(std::io::Error::last_os_error().to_string());
        let pages = bytes.len().next_multiple_of(4096);
        // SAFETY: a fresh anonymous mapping, written within its bounds before it turns executable.
        unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                pages,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                return Err(error());
            }
            let code = Code {
                start,
                pages,
                size: bytes.len(),
            };
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast(), bytes.len());
            if libc::mprotect(start, pages, libc::PROT_READ | libc::PROT_EXEC) != 0 {
                return Err(error());
            }
            Ok(code)
        }
    }

    /// The function.
    pub fn entry(&self) -> KernelFn {
        // SAFETY: `new` put a function of this type at `start`.
        unsafe { std::mem::transmute::<*mut libc::c_void, KernelFn>(self.start) }
    }

    /// Bytes of code.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody can call into it without owning `self`.
        unsafe { libc::munmap(self.start, self.pages) };
    }
}

/// A kernel's machine code.
#[derive(Clone, Debug)]
pub struct CompiledKernel {
    code: Arc<Code>,
}

impl CompiledKernel {
    /// Makes position-independent code of `fn(args, begin, end)` executable.
    pub fn new(bytes: &[u8]) -> Result<CompiledKernel, CompileError> {
        let code = Arc::new(Code::new(bytes)?);
        Ok(CompiledKernel { code })
    }

    /// The entry point; valid as long as `self` or its [`KernelCode`] lives.
    pub fn entry(&self) -> KernelFn {
        self.code.entry()
    }

    /// Bytes of machine code.
    pub fn size(&self) -> usize {
        self.code.size()
    }
}

impl From<CompiledKernel> for KernelCode {
    fn from(kernel: CompiledKernel) -> KernelCode {
        KernelCode {
            entry: kernel.entry(),
            code: kernel.code,
            device: Err("compiled for the CPU alone".into()),
        }
    }
}
