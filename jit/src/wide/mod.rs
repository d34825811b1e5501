//! Machine code for kernels in vectors of 512 bits, for processors with AVX-512 (F, BW, DQ, VL).
//! What it does not cover is refused and left to Cranelift.

mod ahead;
mod alloc;
mod bf16;
mod compute;
mod emit;
mod encode;
mod functions;
mod lanes;
mod lir;
mod loops;
mod lower;
mod memory;
mod opcode;
mod transpose;

use crate::kernel::Kernel;
use thiserror::Error;

/// Why a kernel was left to the portable generator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The processor lacks the instructions.
    #[error("the processor has no AVX-512")]
    Processor,
    /// Sizes or strides beyond 32 bits.
    #[error("an extent or stride beyond 32 bits")]
    Extent,
    /// A reduction of truth values, or one with positions.
    #[error("a reduction of truth values or positions")]
    Reduction,
    /// Narrow elements that are not neighbours, or a scatter.
    #[error("narrow elements that are not neighbours in memory")]
    Stride,
    /// An instruction without a vector form.
    #[error("no vector instruction for {0}")]
    Inst(String),
}

/// Whether this processor runs the code.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("bmi2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether it rounds to bf16 in one instruction.
fn rounds_to_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Position-independent code of `fn(args, begin, end)`.
pub fn compile(kernel: &Kernel) -> Result<Vec<u8>, Refused> {
    compile_for(kernel, rounds_to_bf16())
}

/// The same for processors that round to bf16 in one instruction, or for those that do not.
pub fn compile_for(kernel: &Kernel, bf16: bool) -> Result<Vec<u8>, Refused> {
    if !available() || bf16 && !rounds_to_bf16() {
        return Err(Refused::Processor);
    }
    let function = lower::lower(&crate::math::expand_but(kernel, functions::is_own), bf16)?;
    Ok(emit::emit(&function, &alloc::allocate(&function)))
}
