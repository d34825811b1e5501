//! AVX2 and FMA: 6 rows of 2 vectors of 8 lanes fill the 16 registers.

use super::scalar::pack_lanes;
use super::{Micro, Source, Start, Tile};
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
    pack,
};

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
        for (m, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let mask = first(t.columns.saturating_sub(v * LANES).min(LANES));
                let c = t.c.wrapping_add(m * t.ldc + v * LANES);
                let sum = match t.start {
                    Start::Zero => sum,
                    Start::Bias(bias) => _mm256_add_ps(sum, _mm256_set1_ps(*bias.add(m))),
                    Start::Sum => _mm256_add_ps(sum, _mm256_maskload_ps(c, mask)),
                };
                _mm256_maskstore_ps(c, mask, sum);
            }
        }
    }
}

unsafe fn pack(to: *mut f32, width: usize, source: &Source) {
    // SAFETY: as asked of the caller.
    unsafe { pack_lanes::<LANES>(to, width, source) }
}
