//! Machine code for kernels in vectors of 512 bits, for processors with AVX-512 (F, BW, DQ, VL), and of 256, for those with AVX2.
//! What it does not cover is refused and left to Cranelift.

mod ahead;
mod alloc;
mod bf16;
mod compute;
mod emit;
mod encode;
mod evex;
mod fold;
mod functions;
mod lanes;
mod lir;
mod long;
mod loops;
mod lower;
mod masks;
mod memory;
mod narrow;
mod opcode;
mod squares;
mod sums;
mod target;
mod transpose;
mod vex;

use crate::kernel::Kernel;
pub use target::Target;
use thiserror::Error;

/// Why a kernel was left to the portable generator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The processor lacks the instructions.
    #[error("the processor has neither AVX-512 nor AVX2")]
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

/// Position-independent code of `fn(args, begin, end)` for the best instruction set of this processor, below the cap that
/// the environment sets.
pub fn compile(kernel: &Kernel) -> Result<Vec<u8>, Refused> {
    let target = Target::detect().ok_or(Refused::Processor)?;
    compile_for(kernel, target)
}

/// The same for an instruction set.
pub fn compile_for(kernel: &Kernel, target: Target) -> Result<Vec<u8>, Refused> {
    let mut function = lower::lower(&crate::math::expand_but(kernel, functions::is_own), target)?;
    fold::fold(&mut function);
    Ok(emit::emit(&function, &alloc::allocate(&function)))
}
