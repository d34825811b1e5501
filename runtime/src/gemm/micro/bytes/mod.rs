//! Dot products of few rows of floats by a B of bytes whose columns lie along K, as `nn.Linear` has its weight: the bytes
//! come from memory as bytes, and become floats in registers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod widen;

pub use widen::{Widen, widener};

use super::Dot;
use crate::DType;
use crate::cpu::Isa;

/// As [`super::Kernels::dot`], of floats by bytes.
#[derive(Clone, Copy)]
pub struct ByteDots {
    /// The type of A's elements.
    pub a: DType,
    /// Most rows of a call of `dot`.
    pub rows: usize,
    /// Computes `1..=rows` rows of dot products.
    ///
    /// # Safety
    /// The processor has the instruction set, and the pointers and strides address memory that is valid for what the
    /// fields say.
    pub dot: unsafe fn(rows: usize, dot: &Dot),
}

/// The fastest kernels for bytes of this type, by an A of this type or one that becomes [`ByteDots::a`]; none if the instruction
/// set has none.
pub fn byte_dots(isa: Isa, a: DType, b: DType) -> Option<ByteDots> {
    #[cfg(target_arch = "x86_64")]
    {
        let signed = match b {
            DType::I8 => true,
            DType::U8 => false,
            _ => return None,
        };
        match isa {
            Isa::Scalar => None,
            Isa::Avx2 => Some(avx2::dots(signed)),
            _ if a == DType::BF16 && isa >= Isa::Avx512Bf16 => Some(pairs::dots(signed)),
            _ => Some(avx512::dots(signed)),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, a, b);
        None
    }
}
