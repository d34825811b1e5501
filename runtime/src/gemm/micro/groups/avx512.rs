//! See [`super`]. Sums of as many rows and columns as the registers hold beside the columns' factors.

use super::{GroupDot, GroupDots};
use std::arch::x86_64::*;

const LANES: usize = 16;
/// Bytes of a cache line: of a column, so many are fetched at a time.
const LINE: usize = 64;

/// The kernels; the caller has checked the processor.
pub fn dots(signed: bool) -> GroupDots {
    GroupDots {
        rows: 8,
        bytes: if signed { dot::<true> } else { dot::<false> },
    }
}

/// See [`GroupDots::bytes`].
unsafe fn dot<const SIGNED: bool>(rows: usize, d: &GroupDot) {
    // SAFETY: by contract.
    unsafe { dots!((dot_of SIGNED), rows, d, 1 4, 2 4, 3 4, 4 4, 5 3, 6 3, 7 2, 8 2) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn dot_of<const M: usize, const R: usize, const SIGNED: bool>(d: &GroupDot) {
    let mut acc = [[_mm512_setzero_ps(); R]; M];
    let mut scales = [_mm512_setzero_ps(); R];
    let mut added = scales;
    let (mut group, mut next) = (0, 0);
    // One loop alone: nested ones move the sums between registers and the stack.
    for k in (0..d.k).step_by(LANES) {
        if k == next {
            for r in 0..R {
                // SAFETY: by contract.
                let [scale, add] = unsafe { d.factors(r, group) };
                (scales[r], added[r]) = (_mm512_set1_ps(scale), _mm512_set1_ps(add));
            }
            group += 1;
            next += d.group;
        }
        // What comes after these columns: the processor's own prefetching ends at pages.
        if k.is_multiple_of(LINE) {
            for r in R..2 * R {
                let line = d.b.wrapping_add(r * d.b_stride + k);
                _mm_prefetch::<_MM_HINT_T0>(line.cast());
            }
        }
        let b: [_; R] = std::array::from_fn(|r| {
            // SAFETY: sixteen bytes of a column.
            let x = unsafe { _mm_loadu_si128(d.b.add(r * d.b_stride + k).cast()) };
            let x = _mm512_cvtepi32_ps(match SIGNED {
                true => _mm512_cvtepi8_epi32(x),
                false => _mm512_cvtepu8_epi32(x),
            });
            _mm512_fmadd_ps(x, scales[r], added[r])
        });
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: a whole vector of a row.
            let a = unsafe { _mm512_loadu_ps(d.a.add(i * d.a_stride).cast::<f32>().add(k)) };
            for r in 0..R {
                acc[r] = _mm512_fmadd_ps(a, b[r], acc[r]);
            }
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
