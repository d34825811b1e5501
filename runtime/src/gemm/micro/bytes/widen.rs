//! Panels of floats from bytes that lie along K: columns are first transposed as units of four bytes, of which each becomes four
//! f32, or two pairs of bf16, of the same column.

use super::super::Math;
use crate::DType;
use crate::cpu::Isa;

/// The work of a call of [`widener`]'s kernel.
#[derive(Clone, Copy, Debug)]
pub struct Widen {
    /// Rows of units of four bytes, `cols` side by side.
    pub from: *const u32,
    /// So many rows.
    pub rows: usize,
    /// Columns of both, a multiple of 16.
    pub cols: usize,
    /// Receives rows of units of f32 (four for each of `from`) or of pairs of bf16 (two).
    pub to: *mut u32,
}

/// The kernel that makes panels of this arithmetic from bytes of this type; none if it is not of floats, or the instruction set
/// has none.
///
/// The kernel is safe to call on memory that holds what the fields say, if the processor has the instruction set.
pub fn widener(isa: Isa, math: Math, b: DType) -> Option<unsafe fn(&Widen)> {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        return match (math, b) {
            (Math::F32, DType::I8) => Some(avx512::floats::<true>),
            (Math::F32, DType::U8) => Some(avx512::floats::<false>),
            (Math::Bf16, DType::I8) => Some(avx512::pairs::<true>),
            (Math::Bf16, DType::U8) => Some(avx512::pairs::<false>),
            _ => None,
        };
    }
    let _ = (isa, math, b);
    None
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Widen;
    use std::arch::x86_64::*;

    const LANES: usize = 16;

    /// A byte of each unit as f32, the one that this shift makes the last.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn float<const SIGNED: bool, const LEFT: u32>(units: __m512i) -> __m512 {
        let high = _mm512_slli_epi32::<LEFT>(units);
        _mm512_cvtepi32_ps(match SIGNED {
            true => _mm512_srai_epi32::<24>(high),
            false => _mm512_srli_epi32::<24>(high),
        })
    }

    /// All bytes of the units, in order.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn four<const SIGNED: bool>(units: __m512i) -> [__m512; 4] {
        [
            float::<SIGNED, 24>(units),
            float::<SIGNED, 16>(units),
            float::<SIGNED, 8>(units),
            float::<SIGNED, 0>(units),
        ]
    }

    #[target_feature(enable = "avx512f")]
    pub unsafe fn floats<const SIGNED: bool>(w: &Widen) {
        for row in 0..w.rows {
            for first in (0..w.cols).step_by(LANES) {
                // SAFETY: whole vectors of both, by contract.
                unsafe {
                    let units = _mm512_loadu_epi32(w.from.add(row * w.cols + first).cast());
                    for (n, x) in four::<SIGNED>(units).into_iter().enumerate() {
                        let to = w.to.add((4 * row + n) * w.cols + first);
                        _mm512_storeu_ps(to.cast(), x);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn pairs<const SIGNED: bool>(w: &Widen) {
        /// The upper half of each unit.
        const UPPER: __mmask32 = 0xaaaa_aaaa;
        for row in 0..w.rows {
            for first in (0..w.cols).step_by(LANES) {
                // SAFETY: whole vectors of both, by contract.
                unsafe {
                    let units = _mm512_loadu_epi32(w.from.add(row * w.cols + first).cast());
                    let [a, b, c, d] = four::<SIGNED>(units).map(|x| _mm512_castps_si512(x));
                    // Bytes have no more bits than bf16: the lower half of each is zero.
                    for (n, (x, y)) in [(a, b), (c, d)].into_iter().enumerate() {
                        let pair = _mm512_mask_blend_epi16(UPPER, _mm512_srli_epi32::<16>(x), y);
                        let to = w.to.add((2 * row + n) * w.cols + first);
                        _mm512_storeu_epi32(to.cast(), pair);
                    }
                }
            }
        }
    }
}
