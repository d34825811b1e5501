//! Sums of few rows of f32 by columns of four bits, as `aten._convert_weight_to_int4pack_for_cpu` lays them out: blocks of 64
//! columns (32 where PyTorch runs on AVX2), in which each element of K has a row of bytes. The lower halves of 16 bytes are
//! neighbouring columns, and the upper ones are those half of a block further on.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::Dot;
use crate::DType;
use crate::cpu::Isa;

/// Columns whose lower or upper halves are neighbours.
pub const RUN: usize = 16;

/// The work of one call of [`NibbleSums::sums`]: `c[i, j] = sum_k a[i, k] * ((b[k, j] - 8) * scale + zero)` for a block of
/// columns. A is f32.
#[derive(Clone, Copy, Debug)]
pub struct NibbleDot {
    /// The rest of it: `b` is the block, `b_stride` its bytes for an element of K, `cols` its columns. K is whole groups.
    pub dot: Dot,
    /// Elements of a group.
    pub group: usize,
    /// Scale and zero point of each column in turn, for the first group.
    pub factors: *const u8,
    /// Their type: f32, bf16 or f16.
    pub dtype: DType,
    /// Bytes between groups of them.
    pub stride: usize,
}

/// Kernels for few rows.
#[derive(Clone, Copy)]
pub struct NibbleSums {
    /// Most rows of a call of `sums`.
    pub rows: usize,
    /// Computes `1..=rows` rows.
    ///
    /// # Safety
    /// The processor has the instruction set, and the pointers and strides address memory that is valid for what the
    /// fields say.
    pub sums: unsafe fn(rows: usize, dot: &NibbleDot),
}

/// The kernels for blocks of so many columns; none if the instruction set has none.
pub fn nibble_sums(isa: Isa, columns: usize) -> Option<NibbleSums> {
    #[cfg(target_arch = "x86_64")]
    {
        match (isa, columns) {
            (Isa::Scalar, _) => None,
            (Isa::Avx2, 32 | 64) => Some(avx2::SUMS),
            (_, 32) => Some(avx512::sums::<1, 2>()),
            (_, 64) => Some(avx512::sums::<2, 4>()),
            _ => None,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, columns);
        None
    }
}
