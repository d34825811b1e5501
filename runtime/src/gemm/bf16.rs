//! f32 to bf16 and back with AVX512-BF16: sums into results, and rows into operands.

use super::micro::Rounded;
use super::shape::Product;
use super::split::Runs;
use crate::DType;
use std::arch::x86_64::*;
use std::ops::Range;

/// Elements at a time.
const STEP: usize = 32;

/// Whether [`finish`] can write this product's result.
pub fn applies(p: &Product) -> bool {
    let input = p.input.filter(|_| p.beta != 0.0);
    p.c.dtype == DType::BF16
        && (p.c.strides[1] == 1 || p.n == 1)
        && input.is_none_or(|i| i.dtype == DType::BF16 && i.strides[1] == 1)
}

/// The first `n` of 32 elements.
fn mask(n: usize) -> u32 {
    if n >= STEP { !0 } else { (1 << n) - 1 }
}

/// As [`super::finish::finish`].
///
/// # Safety
/// As there; the processor has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn finish(
    p: &Product,
    rows: Range<usize>,
    cols: Range<usize>,
    sums: *const u8,
    stride: usize,
) {
    let input = p.input.filter(|_| p.beta != 0.0);
    let (alpha, beta) = (_mm512_set1_ps(p.alpha), _mm512_set1_ps(p.beta));
    for (n, i) in rows.enumerate() {
        let from = sums.wrapping_add(n * stride).cast::<f32>();
        let to = p.c.at(i, cols.start).cast_mut().cast::<i16>();
        let added = input.map(|m| m.at(i, cols.start).cast::<i16>());
        for j in (0..cols.len()).step_by(STEP) {
            let keep = mask(cols.len() - j);
            // SAFETY: masked elements are not touched.
            unsafe {
                let mut low = _mm512_maskz_loadu_ps(keep as u16, from.wrapping_add(j));
                let high = from.wrapping_add(j + STEP / 2);
                let mut high = _mm512_maskz_loadu_ps((keep >> 16) as u16, high);
                if p.alpha != 1.0 {
                    (low, high) = (_mm512_mul_ps(low, alpha), _mm512_mul_ps(high, alpha));
                }
                if let Some(added) = added {
                    let x = _mm512_maskz_loadu_epi16(keep, added.wrapping_add(j));
                    let [x, y] = widen(x);
                    low = _mm512_fmadd_ps(beta, x, low);
                    high = _mm512_fmadd_ps(beta, y, high);
                }
                let rounded = _mm512_cvtne2ps_pbh(high, low);
                let rounded = std::mem::transmute::<__m512bh, __m512i>(rounded);
                _mm512_mask_storeu_epi16(to.wrapping_add(j), keep, rounded);
            }
        }
    }
}

/// Rounds the sums of so many columns, a multiple of 16, into a row of the result.
///
/// # Safety
/// The row is valid memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn round_row<const N: usize>(sums: &[f32; N], out: &Rounded, row: usize) {
    const HALF: usize = STEP / 2;
    const { assert!(N.is_multiple_of(HALF)) };
    let to = out.to.wrapping_add(row * out.stride).cast::<i16>();
    let added = out.added.wrapping_add(row * out.added_stride).cast::<i16>();
    // SAFETY: whole registers of the sums; the row by contract.
    unsafe {
        if N.is_multiple_of(STEP) {
            for j in (0..N).step_by(STEP) {
                let mut low = _mm512_loadu_ps(sums.as_ptr().add(j));
                let mut high = _mm512_loadu_ps(sums.as_ptr().add(j + HALF));
                if !out.added.is_null() {
                    let [x, y] = widen(_mm512_loadu_si512(added.add(j).cast()));
                    (low, high) = (_mm512_add_ps(low, x), _mm512_add_ps(high, y));
                }
                let x = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(to.add(j).cast(), x);
            }
            return;
        }
        // Every other panel begins in the middle of a cache line: no store may cross one.
        for j in (0..N).step_by(HALF) {
            let mut x = _mm512_loadu_ps(sums.as_ptr().add(j));
            if !out.added.is_null() {
                let added = _mm256_loadu_si256(added.add(j).cast());
                let [added, _] = widen(_mm512_castsi256_si512(added));
                x = _mm512_add_ps(x, added);
            }
            let x = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            _mm256_storeu_si256(to.add(j).cast(), x);
        }
    }
}

/// bf16 as f32, the first 16 elements and the others.
#[target_feature(enable = "avx512f")]
fn widen(x: __m512i) -> [__m512; 2] {
    let half = |x: __m256i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)));
    [
        half(_mm512_castsi512_si256(x)),
        half(_mm512_extracti64x4_epi64::<1>(x)),
    ]
}

/// Rounds neighbouring f32 to bf16.
///
/// # Safety
/// Both are valid memory for `len` elements; the processor has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn round(from: *const f32, to: *mut i16, len: usize) {
    for j in (0..len).step_by(STEP) {
        let keep = mask(len - j);
        // SAFETY: masked elements are not touched.
        unsafe {
            let low = _mm512_maskz_loadu_ps(keep as u16, from.wrapping_add(j));
            let high = from.wrapping_add(j + STEP / 2);
            let high = _mm512_maskz_loadu_ps((keep >> 16) as u16, high);
            let rounded = _mm512_cvtne2ps_pbh(high, low);
            let rounded = std::mem::transmute::<__m512bh, __m512i>(rounded);
            _mm512_mask_storeu_epi16(to.wrapping_add(j), keep, rounded);
        }
    }
}

/// See [`super::split`]: neighbouring f32. Returns the largest magnitude, as bits.
///
/// # Safety
/// Both are valid memory for `len` elements; the processor has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn split(from: *const f32, len: usize, runs: Runs) -> u32 {
    const LANES: usize = STEP / 2;
    let magnitude = _mm512_set1_epi32(i32::MAX);
    let mut largest = _mm512_setzero_si512();
    for j in (0..len).step_by(LANES) {
        let keep = mask(len - j) as u16;
        // SAFETY: masked elements are not touched.
        unsafe {
            let mut rest = _mm512_maskz_loadu_ps(keep, from.wrapping_add(j));
            let bits = _mm512_and_si512(_mm512_castps_si512(rest), magnitude);
            largest = _mm512_max_epu32(largest, bits);
            for part in 0..runs.parts {
                let x = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(rest));
                let to = runs.to.wrapping_add(part * runs.stride).cast::<i16>();
                _mm256_mask_storeu_epi16(to.wrapping_add(j), keep, x);
                rest = _mm512_sub_ps(rest, widen(_mm512_castsi256_si512(x))[0]);
            }
        }
    }
    _mm512_reduce_max_epu32(largest)
}
