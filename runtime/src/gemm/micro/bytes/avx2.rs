//! See [`super`]. Sums of as many rows and columns as the registers hold.

use super::{ByteDots, Dot};
use crate::DType;
use std::arch::x86_64::*;

const LANES: usize = 8;
/// Bytes of a cache line: of a column, so many are fetched at a time.
const LINE: usize = 64;

/// The kernels; the caller has checked the processor.
pub fn dots(signed: bool) -> ByteDots {
    ByteDots {
        a: DType::F32,
        rows: 4,
        dot: if signed { dot::<true> } else { dot::<false> },
    }
}

/// See [`ByteDots::dot`].
unsafe fn dot<const SIGNED: bool>(rows: usize, d: &Dot) {
    // SAFETY: by contract.
    unsafe { dots!((dot_of SIGNED), rows, d, 1 4, 2 4, 3 3, 4 2) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn dot_of<const M: usize, const R: usize, const SIGNED: bool>(d: &Dot) {
    let mut acc = [[_mm256_setzero_ps(); R]; M];
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
        let b: [_; R] = std::array::from_fn(|r| {
            // SAFETY: eight bytes of a column.
            widened::<SIGNED>(unsafe { _mm_loadl_epi64(d.b.add(r * d.b_stride + k).cast()) })
        });
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: a whole vector of a row.
            let a = unsafe { _mm256_loadu_ps(d.a.add(i * d.a_stride).cast::<f32>().add(k)) };
            for r in 0..R {
                acc[r] = _mm256_fmadd_ps(a, b[r], acc[r]);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (r, &acc) in acc.iter().enumerate() {
            let half = _mm_add_ps(_mm256_castps256_ps128(acc), _mm256_extractf128_ps::<1>(acc));
            let two = _mm_add_ps(half, _mm_movehl_ps(half, half));
            let mut sum = _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
            // SAFETY: elements of the row and the column, and one of the result.
            unsafe {
                for k in whole..d.k {
                    let b = d.b.add(r * d.b_stride + k);
                    let b = match SIGNED {
                        true => f32::from(b.cast::<i8>().read()),
                        false => f32::from(b.read()),
                    };
                    let a = d.a.add(i * d.a_stride).cast::<f32>().add(k);
                    sum = a.read_unaligned().mul_add(b, sum);
                }
                d.c.add(i * d.c_stride).cast::<f32>().add(r).write(sum);
            }
        }
    }
}

/// Eight bytes as f32.
#[inline]
#[target_feature(enable = "avx2")]
fn widened<const SIGNED: bool>(x: __m128i) -> __m256 {
    _mm256_cvtepi32_ps(match SIGNED {
        true => _mm256_cvtepi8_epi32(x),
        false => _mm256_cvtepu8_epi32(x),
    })
}
