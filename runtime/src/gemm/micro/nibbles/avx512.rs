//! See [`super`].

use super::{NibbleDot, NibbleSums, RUN};
use crate::DType;
use std::arch::x86_64::*;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes by which fetching is ahead of the sums.
const AHEAD: usize = 2048;

/// Kernels for blocks of so many runs of bytes, and twice as many vectors of columns; the caller has checked the processor.
pub fn sums<const R: usize, const V: usize>() -> NibbleSums {
    NibbleSums {
        rows: 4,
        sums: of_rows::<R, V>,
    }
}

unsafe fn of_rows<const R: usize, const V: usize>(rows: usize, d: &NibbleDot) {
    // SAFETY: by contract.
    unsafe {
        match rows {
            1 => block::<1, R, V>(d),
            2 => block::<2, R, V>(d),
            3 => block::<3, R, V>(d),
            4 => block::<4, R, V>(d),
            _ => debug_assert!(false, "{rows} rows"),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn block<const M: usize, const R: usize, const V: usize>(d: &NibbleDot) {
    let numbers: [f32; 16] = std::array::from_fn(|q| q as f32 - 8.0);
    // SAFETY: a whole vector.
    let numbers = unsafe { _mm512_loadu_ps(numbers.as_ptr()) };
    let mut acc = [[_mm512_setzero_ps(); V]; M];
    let mut factors = [[_mm512_setzero_ps(); 2]; V];
    let mut next = 0;
    let mut from = d.factors;
    // One loop alone: nested ones move the sums between registers and the stack.
    for k in 0..d.dot.k {
        if k == next {
            for (v, factors) in factors.iter_mut().enumerate() {
                let at = from.wrapping_add(2 * v * RUN * d.dtype.size());
                // SAFETY: factors of as many columns.
                *factors = unsafe { pairs(d.dtype, at) };
            }
            from = from.wrapping_add(d.stride);
            // The next group's are in another page.
            for line in (0..2 * V * RUN * d.dtype.size()).step_by(LINE) {
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line).cast());
            }
            next += d.group;
        }
        let row = d.dot.b.wrapping_add(k * R * RUN);
        if (k * R * RUN).is_multiple_of(LINE) {
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(AHEAD).cast());
        }
        let bytes: [_; R] = std::array::from_fn(|r| {
            // SAFETY: a run of the block's row.
            _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(row.add(r * RUN).cast()) })
        });
        let b: [_; V] = std::array::from_fn(|v| {
            // The permutation sees the lower half alone.
            let index = match v < R {
                true => bytes[v],
                false => _mm512_srli_epi32::<4>(bytes[v - R]),
            };
            let [scale, zero] = factors[v];
            _mm512_fmadd_ps(_mm512_permutexvar_ps(index, numbers), scale, zero)
        });
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: an element of a row.
            let a = unsafe { *d.dot.a.add(i * d.dot.a_stride).cast::<f32>().add(k) };
            let a = _mm512_set1_ps(a);
            for v in 0..V {
                acc[v] = _mm512_fmadd_ps(a, b[v], acc[v]);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (v, &acc) in acc.iter().enumerate() {
            // SAFETY: a vector of the result's row.
            unsafe {
                let c = d.dot.c.add(i * d.dot.c_stride).cast::<f32>();
                _mm512_storeu_ps(c.add(v * RUN), acc);
            }
        }
    }
}

/// Scales and zero points of 16 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pairs(dtype: DType, from: *const u8) -> [__m512; 2] {
    // SAFETY: by contract.
    unsafe {
        if dtype == DType::F32 {
            let (a, b) = (
                _mm512_loadu_ps(from.cast()),
                _mm512_loadu_ps(from.add(64).cast()),
            );
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
            return [even, odd].map(|of| _mm512_permutex2var_ps(a, of, b));
        }
        let both = _mm512_loadu_epi32(from.cast());
        if dtype == DType::BF16 {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            let parts = [_mm512_slli_epi32::<16>(both), _mm512_and_si512(both, upper)];
            return parts.map(|x| _mm512_castsi512_ps(x));
        }
        let parts = [both, _mm512_srli_epi32::<16>(both)];
        parts.map(|x| _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)))
    }
}
