//! See [`super`]. Sums of as many rows and columns as the registers hold.

use super::{ByteDots, Dot};
use crate::DType;
use std::arch::x86_64::*;

const LANES: usize = 16;
/// Bytes of a cache line: of a column, so many are fetched at a time.
const LINE: usize = 64;

/// The kernels; the caller has checked the processor.
pub fn dots(signed: bool) -> ByteDots {
    ByteDots {
        a: DType::F32,
        rows: 8,
        dot: if signed { dot::<true> } else { dot::<false> },
    }
}

/// See [`ByteDots::dot`].
unsafe fn dot<const SIGNED: bool>(rows: usize, d: &Dot) {
    // SAFETY: by contract.
    unsafe { dots!((dot_of SIGNED), rows, d, 1 4, 2 4, 3 4, 4 4, 5 4, 6 4, 7 3, 8 3) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn dot_of<const M: usize, const R: usize, const SIGNED: bool>(d: &Dot) {
    let mut acc = [[_mm512_setzero_ps(); R]; M];
    let whole = d.k / LANES * LANES;
    // One loop alone: nested ones move the sums between registers and the stack.
    for k in (0..whole).step_by(LANES) {
        // What comes after these columns: the processor's own prefetching ends at pages.
        if k.is_multiple_of(LINE) {
            for r in R..2 * R {
                let line = d.b.wrapping_add(r * d.b_stride + k);
                _mm_prefetch::<_MM_HINT_T0>(line.cast());
            }
        }
        // SAFETY: whole vectors of each row and column.
        unsafe {
            let load = |column: *const u8| _mm_loadu_si128(column.add(k).cast());
            step::<M, R, SIGNED>(d, &mut acc, load, |row| _mm512_loadu_ps(row.add(k)));
        }
    }
    if whole < d.k {
        let keep = (1u16 << (d.k - whole)) - 1;
        // SAFETY: masked lanes touch no memory.
        unsafe {
            let load = |column: *const u8| _mm_maskz_loadu_epi8(keep, column.add(whole).cast());
            step::<M, R, SIGNED>(d, &mut acc, load, |row| {
                _mm512_maskz_loadu_ps(keep, row.add(whole))
            });
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (r, &acc) in acc.iter().enumerate() {
            // SAFETY: an element of the result.
            unsafe {
                let c = d.c.add(i * d.c_stride).cast::<f32>().add(r);
                c.write(_mm512_reduce_add_ps(acc));
            }
        }
    }
}

/// Adds the products of one vector of each row and column.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn step<const M: usize, const R: usize, const SIGNED: bool>(
    d: &Dot,
    acc: &mut [[__m512; R]; M],
    bytes: impl Fn(*const u8) -> __m128i,
    floats: impl Fn(*const f32) -> __m512,
) {
    let b: [_; R] = std::array::from_fn(|r| {
        let x = bytes(d.b.wrapping_add(r * d.b_stride));
        _mm512_cvtepi32_ps(match SIGNED {
            true => _mm512_cvtepi8_epi32(x),
            false => _mm512_cvtepu8_epi32(x),
        })
    });
    for (i, acc) in acc.iter_mut().enumerate() {
        let a = floats(d.a.wrapping_add(i * d.a_stride).cast());
        for r in 0..R {
            acc[r] = _mm512_fmadd_ps(a, b[r], acc[r]);
        }
    }
}
