//! AVX2 and FMA: 6 rows of 2 vectors of 8 lanes fill the 16 registers.

use super::scalar::pack_lanes;
use super::{Micro, Rows, Source, Start, Tile};
use std::arch::x86_64::*;

const LANES: usize = 8;

/// The functions of this file.
pub static MICRO: Micro = Micro {
    lanes: LANES,
    tiles: &[
        &[
            tile::<1, 1>,
            tile::<2, 1>,
            tile::<3, 1>,
            tile::<4, 1>,
            tile::<5, 1>,
            tile::<6, 1>,
        ],
        &[
            tile::<1, 2>,
            tile::<2, 2>,
            tile::<3, 2>,
            tile::<4, 2>,
            tile::<5, 2>,
            tile::<6, 2>,
        ],
    ],
    near: &[
        &[near::<1, 1>, near::<2, 1>, near::<3, 1>, near::<4, 1>],
        &[near::<1, 2>, near::<2, 2>, near::<3, 2>, near::<4, 2>],
    ],
    dots: &[dots::<1>, dots::<2>],
    pack,
    sums,
    maxima,
};

/// Writes a tile's sums; no function, since sums whose address is taken leave their registers.
macro_rules! store {
    ($t:expr, $sums:expr) => {
        for (m, sums) in $sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let mask = first($t.columns.saturating_sub(v * LANES).min(LANES));
                let c = $t.c.wrapping_add(m * $t.ldc + v * LANES);
                let sum = match $t.start {
                    Start::Zero => sum,
                    Start::Bias(bias) => _mm256_add_ps(sum, _mm256_set1_ps(*bias.add(m))),
                    Start::Sum => _mm256_add_ps(sum, _mm256_maskload_ps(c, mask)),
                };
                _mm256_maskstore_ps(c, mask, sum);
            }
        }
    };
}

/// A mask of the first `n` lanes.
#[target_feature(enable = "avx2")]
fn first(n: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize, const V: usize>(t: &Tile) {
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    // SAFETY: the caller's pointers hold what `Tile` says; masked lanes are not touched.
    unsafe {
        for k in 0..t.depth {
            let b: [__m256; V] =
                std::array::from_fn(|v| _mm256_loadu_ps(t.b.add(k * t.ldb + v * LANES)));
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_set1_ps(*t.a.add(m * t.row + k * t.step));
                for (sum, &b) in sums.iter_mut().zip(&b) {
                    *sum = _mm256_fmadd_ps(a, b, *sum);
                }
            }
        }
        store!(t, sums);
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn near<const M: usize, const V: usize>(t: &Tile, offsets: &[usize]) {
    let mut sums = [[_mm256_setzero_ps(); V]; M];
    // SAFETY: the caller's pointers hold what `NearFn` says.
    unsafe {
        for (k, &offset) in offsets.iter().enumerate() {
            let b = t.b.add(offset);
            let b: [__m256; V] = std::array::from_fn(|v| _mm256_loadu_ps(b.add(v * LANES)));
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_set1_ps(*t.a.add(m * t.row + k * t.step));
                for (sum, &b) in sums.iter_mut().zip(&b) {
                    *sum = _mm256_fmadd_ps(a, b, *sum);
                }
            }
        }
        store!(t, sums);
    }
}

#[target_feature(enable = "avx2")]
fn total(v: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
}

#[target_feature(enable = "avx2,fma")]
unsafe fn dots<const N: usize>(t: &Tile, rows: usize) {
    for m in (0..rows).step_by(4) {
        // SAFETY: as asked of the caller.
        unsafe {
            match rows - m {
                1 => some_dots::<1, N>(t, m),
                2 => some_dots::<2, N>(t, m),
                3 => some_dots::<3, N>(t, m),
                _ => some_dots::<4, N>(t, m),
            }
        }
    }
}

/// Rows `first..first + M`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn some_dots<const M: usize, const N: usize>(t: &Tile, first_row: usize) {
    let mut sums = [[_mm256_setzero_ps(); N]; M];
    let a = t.a.wrapping_add(first_row * t.row);
    // SAFETY: the caller's pointers hold what `Tile` says; masked lanes are not touched.
    unsafe {
        for k in (0..t.depth).step_by(LANES) {
            let mask = first((t.depth - k).min(LANES));
            let columns: [__m256; N] =
                std::array::from_fn(|n| _mm256_maskload_ps(t.b.wrapping_add(n * t.ldb + k), mask));
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_maskload_ps(a.wrapping_add(m * t.row + k), mask);
                for (sum, &b) in sums.iter_mut().zip(&columns) {
                    *sum = _mm256_fmadd_ps(a, b, *sum);
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            for (n, &sum) in sums.iter().enumerate() {
                t.finish(first_row + m, n, total(sum));
            }
        }
    }
}

unsafe fn pack(to: *mut f32, width: usize, source: &Source) {
    // SAFETY: as asked of the caller.
    unsafe { pack_lanes::<LANES>(to, width, source) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn sums(r: &Rows) {
    // SAFETY: as asked of the caller.
    unsafe { plane::<false>(r) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn maxima(r: &Rows) {
    // SAFETY: as asked of the caller.
    unsafe { plane::<true>(r) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn plane<const MAX: bool>(r: &Rows) {
    let mut y = 0;
    while y < r.height {
        let rows = (r.height - y).min(8);
        // SAFETY: as asked of the caller.
        unsafe {
            match rows {
                1 => block::<1, MAX>(r, y),
                2 => block::<2, MAX>(r, y),
                3 => block::<3, MAX>(r, y),
                4 => block::<4, MAX>(r, y),
                5 => block::<5, MAX>(r, y),
                6 => block::<6, MAX>(r, y),
                7 => block::<7, MAX>(r, y),
                _ => block::<8, MAX>(r, y),
            }
        }
        y += rows;
    }
}

/// Rows `y..y + R`, one vector of columns after the other.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn block<const R: usize, const MAX: bool>(r: &Rows, y: usize) {
    let start = _mm256_set1_ps(if MAX { f32::NEG_INFINITY } else { r.start });
    for x in (0..r.width).step_by(LANES) {
        let mask = first((r.width - x).min(LANES));
        let mut results = [start; R];
        // SAFETY: the caller's pointers hold what `Rows` says; masked lanes are not touched.
        unsafe {
            for (t, &tap) in r.taps.iter().enumerate() {
                let from = r.planes.add(tap + y * r.row + x);
                let weight = _mm256_set1_ps(if MAX { 0.0 } else { *r.weight.add(t) });
                for (i, result) in results.iter_mut().enumerate() {
                    let pixel = _mm256_loadu_ps(from.add(i * r.row));
                    *result = if MAX {
                        larger(*result, pixel)
                    } else {
                        _mm256_fmadd_ps(weight, pixel, *result)
                    };
                }
            }
            for (i, &result) in results.iter().enumerate() {
                _mm256_maskstore_ps(r.to.add((y + i) * r.width + x), mask, result);
            }
        }
    }
}

/// NaN if either is.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn larger(a: __m256, b: __m256) -> __m256 {
    // The instruction returns its second operand if one is NaN.
    let larger = _mm256_max_ps(b, a);
    _mm256_blendv_ps(larger, b, _mm256_cmp_ps::<_CMP_UNORD_Q>(b, b))
}
