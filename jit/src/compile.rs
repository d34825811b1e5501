//! The choice of a code generator.

use crate::code::CompiledKernel;
use crate::kernel::verify::Invalid;
use crate::kernel::{Kernel, verify};
use crate::{cranelift, wide};
use thiserror::Error;

/// Why a kernel was not compiled.
#[derive(Clone, Debug, Error)]
pub enum CompileError {
    /// Cranelift has no target for this machine.
    #[error("no code generator for this processor: {0}")]
    Target(String),
    /// Cranelift refused the function: a fault of ours.
    #[error("code generation failed: {0}")]
    Codegen(String),
    /// The kernel is not well-formed: a fault of ours.
    #[error("invalid kernel: {0}")]
    Invalid(#[from] Invalid),
    /// No executable memory.
    #[error("no executable memory: {0}")]
    Memory(String),
}

/// Compiles a kernel: in full vectors where the processor and the kernel allow, else by Cranelift.
pub fn compile(kernel: &Kernel) -> Result<CompiledKernel, CompileError> {
    verify(kernel)?;
    match wide::compile(kernel) {
        Ok(code) => CompiledKernel::new(&code),
        Err(_) => cranelift::compile(kernel),
    }
}
