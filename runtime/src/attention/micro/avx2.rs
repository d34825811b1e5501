//! 8 scores at a time.

use super::{EXPM1, Kernels, LEAST, LN2, ROWS, RowMask, Scores, Sums, Weigh, pairs_loop};
use crate::gemm::round_to_bf16;
use std::arch::x86_64::*;

const LANES: usize = 8;

pub static KERNELS: Kernels = Kernels {
    softmax,
    scale,
    narrow: None,
    pairs,
    weigh_f32,
    weigh_bf16,
};

/// The first `n` lanes.
#[target_feature(enable = "avx2")]
fn first(n: usize) -> __m256i {
    let n = _mm256_set1_epi32(n.min(LANES) as i32);
    _mm256_cmpgt_epi32(n, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// e^x; 0 where it is below the least normal number.
#[target_feature(enable = "avx2,fma")]
fn exp(x: __m256) -> __m256 {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    // NaN is not less.
    let normal = _mm256_cmp_ps::<_CMP_NLT_UQ>(x, _mm256_set1_ps(LEAST));
    let k = _mm256_mul_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E));
    let k = _mm256_round_ps::<NEAREST>(k);
    let r = _mm256_fnmadd_ps(k, _mm256_set1_ps(LN2[0]), x);
    let r = _mm256_fnmadd_ps(k, _mm256_set1_ps(LN2[1]), r);
    let mut p = _mm256_set1_ps(EXPM1[5]);
    for c in EXPM1[..5].iter().rev() {
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(*c));
    }
    let m = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
    let e = _mm256_add_ps(m, _mm256_set1_ps(1.0));
    let k = _mm256_add_epi32(_mm256_cvtps_epi32(k), _mm256_set1_epi32(127));
    let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(k));
    _mm256_and_ps(normal, _mm256_mul_ps(e, power))
}

/// Eight bools as lanes of ones where they are true.
#[target_feature(enable = "avx2")]
unsafe fn bools(mask: *const u8, len: usize) -> __m256i {
    let mut bytes = [0u8; LANES];
    // SAFETY: `len` bytes at most are read.
    unsafe { std::ptr::copy_nonoverlapping(mask, bytes.as_mut_ptr(), len.min(LANES)) };
    let wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(bytes)));
    _mm256_cmpgt_epi32(wide, _mm256_setzero_si256())
}

/// The greatest of eight.
#[target_feature(enable = "avx2")]
fn reduce_max(x: __m256) -> f32 {
    let half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_max_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

/// The sum of eight.
#[target_feature(enable = "avx2")]
fn reduce_add(x: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Scales and masks the scores in place; the greatest.
#[target_feature(enable = "avx2,fma")]
unsafe fn masked(s: &Scores) -> f32 {
    let least = _mm256_set1_ps(f32::NEG_INFINITY);
    let scale = _mm256_set1_ps(s.scale);
    let mut max = least;
    for j in (0..s.len).step_by(LANES) {
        let lanes = first(s.len - j);
        // SAFETY: masked lanes touch no memory.
        unsafe {
            let x = _mm256_maskload_ps(s.data.add(j), lanes);
            let scaled = _mm256_mul_ps(x, scale);
            let x = match s.mask {
                RowMask::None => scaled,
                RowMask::Add(mask) => {
                    let mask = _mm256_maskload_ps(mask.add(j), lanes);
                    _mm256_fmadd_ps(x, scale, mask)
                }
                RowMask::Bool(mask) => {
                    let keep = _mm256_castsi256_ps(bools(mask.add(j), s.len - j));
                    _mm256_add_ps(scaled, _mm256_andnot_ps(keep, least))
                }
                RowMask::Keep(mask, other) => {
                    let keep = _mm256_castsi256_ps(bools(mask.add(j), s.len - j));
                    _mm256_blendv_ps(_mm256_set1_ps(other), scaled, keep)
                }
            };
            let counted = _mm256_blendv_ps(least, x, _mm256_castsi256_ps(lanes));
            max = _mm256_max_ps(max, counted);
            _mm256_maskstore_ps(s.data.add(j), lanes, x);
        }
    }
    reduce_max(max)
}

/// See [`Kernels::softmax`].
unsafe fn softmax(rows: &[Scores], sums: &mut [Sums]) {
    for (s, to) in rows.iter().zip(sums) {
        // SAFETY: by contract.
        *to = unsafe { row(s) };
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn row(s: &Scores) -> Sums {
    // SAFETY: by contract. A narrow weight is written over scores that have been read.
    unsafe {
        let max = s.max.max(masked(s));
        let base = _mm256_set1_ps(Sums::base(max));
        let mut sum = _mm256_setzero_ps();
        for j in (0..s.fill).step_by(LANES) {
            let lanes = first(s.len.saturating_sub(j));
            let x = _mm256_maskload_ps(s.data.add(j), lanes);
            let x = exp(_mm256_sub_ps(x, base));
            let x = _mm256_and_ps(x, _mm256_castsi256_ps(lanes));
            sum = _mm256_add_ps(sum, x);
            if s.narrow {
                let x: [f32; LANES] = std::mem::transmute(x);
                let to = s.data.cast::<u16>().add(j);
                for (n, x) in x.into_iter().enumerate().take(s.fill - j) {
                    to.add(n).write(round_to_bf16(x));
                }
            } else {
                _mm256_maskstore_ps(s.data.add(j), first(s.fill - j), x);
            }
        }
        Sums {
            max,
            sum: reduce_add(sum),
        }
    }
}

/// See [`Kernels::scale`].
#[target_feature(enable = "avx2")]
unsafe fn scale(to: *mut f32, from: *const f32, len: usize, factor: f32) {
    let factor = _mm256_set1_ps(factor);
    for j in (0..len).step_by(LANES) {
        let lanes = first(len - j);
        // SAFETY: masked lanes touch no memory.
        unsafe {
            let x = _mm256_maskload_ps(from.add(j), lanes);
            _mm256_maskstore_ps(to.add(j), lanes, _mm256_mul_ps(x, factor));
        }
    }
}

/// See [`Kernels::pairs`].
#[target_feature(enable = "avx2")]
unsafe fn pairs(to: *mut u32, rows: [*const u16; 2], len: usize) {
    // SAFETY: by contract.
    unsafe { pairs_loop(to, rows, len) }
}

/// Calls `$weigh::<rows, vectors>` for as many columns at a time as registers hold.
macro_rules! by_rows {
    ($weigh:ident, $rows:expr, $w:expr, $size:expr, $($n:literal $v:literal),*) => {
        match $rows {
            $($n => {
                let mut column = 0;
                while $w.width - column > ($v - 1) * LANES {
                    $weigh::<$n, $v>(&$w.from(column, $size));
                    column = $w.width.min(column + $v * LANES);
                }
                while column < $w.width {
                    $weigh::<$n, 1>(&$w.from(column, $size));
                    column += LANES;
                }
            })*
            _ => debug_assert!($rows <= ROWS, "{} rows", $rows),
        }
    };
}

macro_rules! weigh {
    ($entry:ident, $weigh:ident, $size:literal, $load:expr) => {
        /// See [`Kernels`].
        unsafe fn $entry(rows: usize, w: &Weigh) {
            // SAFETY: by contract.
            unsafe { by_rows!($weigh, rows, w, $size, 1 8, 2 4, 3 4, 4 2, 5 2, 6 1, 7 1, 8 1) }
        }

        /// The first `LANES * V` columns at most.
        #[target_feature(enable = "avx2,fma")]
        unsafe fn $weigh<const M: usize, const V: usize>(w: &Weigh) {
            let lanes: [__m256i; V] =
                std::array::from_fn(|v| first(w.width.saturating_sub(v * LANES)));
            let mut acc = [[_mm256_setzero_ps(); V]; M];
            let mut row = w.v;
            for key in 0..w.keys {
                // SAFETY: masked lanes touch no memory.
                unsafe {
                    let v: [__m256; V] = std::array::from_fn(|v| {
                        ($load)(row, v * LANES, w.width - v * LANES, lanes[v])
                    });
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let weights = w.weights.byte_add(r * w.weights_stride);
                        let weight = _mm256_set1_ps(weights.add(key).read());
                        for n in 0..V {
                            acc[n] = _mm256_fmadd_ps(weight, v[n], acc[n]);
                        }
                    }
                }
                row = row.wrapping_offset(w.v_stride);
            }
            for (r, acc) in acc.iter().enumerate() {
                for n in 0..V {
                    // SAFETY: masked lanes touch no memory.
                    unsafe {
                        let out = w.out.wrapping_byte_add(r * w.out_stride).wrapping_add(n * LANES);
                        let sum = _mm256_maskload_ps(out, lanes[n]);
                        _mm256_maskstore_ps(out, lanes[n], _mm256_add_ps(sum, acc[n]));
                    }
                }
            }
        }
    };
}

weigh!(
    weigh_f32,
    weigh_f32_of,
    4,
    |row: *const u8, at, _, lanes| _mm256_maskload_ps(row.cast::<f32>().add(at), lanes)
);
weigh!(
    weigh_bf16,
    weigh_bf16_of,
    2,
    |row: *const u8, at, left: usize, _| {
        let from = row.cast::<u16>().add(at);
        let x = if left >= LANES {
            _mm_loadu_si128(from.cast())
        } else {
            let mut x = [0u16; LANES];
            std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), left);
            _mm_loadu_si128(x.as_ptr().cast())
        };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x)))
    }
);
