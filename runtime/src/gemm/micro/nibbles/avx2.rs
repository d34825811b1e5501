//! See [`super`].

use super::{NibbleDot, NibbleSums, RUN};
use crate::gemm::micro::groups::Factors;
use std::arch::x86_64::*;

/// The kernels; the caller has checked the processor.
pub const SUMS: NibbleSums = NibbleSums {
    rows: 2,
    sums: of_rows,
};

unsafe fn of_rows(rows: usize, d: &NibbleDot) {
    for run in 0..d.dot.b_stride / RUN {
        // SAFETY: by contract.
        unsafe {
            match rows {
                1 => columns::<1>(d, run),
                2 => columns::<2>(d, run),
                _ => debug_assert!(false, "{rows} rows"),
            }
        }
    }
}

/// The columns of a run of bytes: those of the lower halves, and of the upper ones.
#[target_feature(enable = "avx2,fma")]
unsafe fn columns<const M: usize>(d: &NibbleDot, run: usize) {
    let half = d.dot.cols / 2;
    let first = [run * RUN, half + run * RUN];
    let mut acc = [[_mm256_setzero_ps(); 4]; M];
    let mut factors = [[[0f32; RUN]; 2]; 2];
    let low = _mm256_set1_epi32(15);
    let (mut group, mut next) = (0, 0);
    for k in 0..d.dot.k {
        if k == next {
            let of = Factors {
                data: d.factors.wrapping_add(group * d.stride),
                dtype: d.dtype,
                strides: [2, 1],
            };
            for (factors, first) in factors.iter_mut().zip(first) {
                let [scales, added] = factors;
                for (j, (s, a)) in scales.iter_mut().zip(added).enumerate() {
                    // SAFETY: by contract.
                    let [scale, zero] = [0, 1].map(|n| unsafe { of.read(first + j, n) });
                    (*s, *a) = (scale, zero - 8.0 * scale);
                }
            }
            group += 1;
            next += d.group;
        }
        let row = d.dot.b.wrapping_add(k * d.dot.b_stride + run * RUN);
        for v in 0..4 {
            let (half, at) = (v / 2, v % 2 * 8);
            // SAFETY: eight bytes of the run, and the factors of as many columns.
            let b = unsafe {
                let x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(row.add(at).cast()));
                let x = match half {
                    0 => _mm256_and_si256(x, low),
                    _ => _mm256_srli_epi32::<4>(x),
                };
                let [scales, added] = &factors[half];
                let scale = _mm256_loadu_ps(scales.as_ptr().add(at));
                let add = _mm256_loadu_ps(added.as_ptr().add(at));
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), scale, add)
            };
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: an element of a row.
                let a = unsafe { *d.dot.a.add(i * d.dot.a_stride).cast::<f32>().add(k) };
                acc[v] = _mm256_fmadd_ps(_mm256_set1_ps(a), b, acc[v]);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (v, &acc) in acc.iter().enumerate() {
            let at = first[v / 2] + v % 2 * 8;
            // SAFETY: a vector of the result's row.
            unsafe {
                let c = d.dot.c.add(i * d.dot.c_stride).cast::<f32>();
                _mm256_storeu_ps(c.add(at), acc);
            }
        }
    }
}
