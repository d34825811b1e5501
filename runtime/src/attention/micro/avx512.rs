//! 16 scores at a time.

use super::{Kernels, LEAST, LN2, ROWS, RowMask, Scores, Sums, Weigh, pairs_loop};
use crate::gemm::round_to_bf16;
use std::arch::x86_64::*;

const LANES: usize = 16;

pub static KERNELS: Kernels = Kernels {
    softmax,
    scale,
    narrow: None,
    pairs,
    weigh_f32,
    weigh_bf16,
};

/// With bf16 weights.
pub static KERNELS_BF16: Kernels = Kernels {
    softmax: softmax_bf16,
    narrow: Some(narrow),
    ..KERNELS
};

/// The first `n` lanes.
fn first(n: usize) -> __mmask16 {
    if n >= LANES { !0 } else { (1 << n) - 1 }
}

/// A float that is added to it is rounded to a multiple of 1/16, whose last four bits are the sum's.
const SIXTEENTHS: f32 = 786_432.0;
/// `2^(i/16)`
#[rustfmt::skip]
const EXP2: [f32; 16] = [1.0, 1.0442737, 1.0905077, 1.1387886, 1.1892071, 1.2418578, 1.2968396, 1.3542556, std::f32::consts::SQRT_2, 1.4768262, 1.5422108, 1.6104903, 1.6817929, 1.7562522, 1.8340081, 1.9152066];
/// `e^d = 1 + d + d^2 P(d)` for `|d| <= ln 2 / 32`, in error by less than 2^-29.
const P: [f32; 2] = [0.500_016_15, 0.166_667_18];

/// e^x; 0 where it is below the least normal number. As in `jit/src/math/exp_table.rs`.
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    // NaN is not less. Whatever comes of what is far below is not looked at.
    let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(LEAST));
    let shift = _mm512_set1_ps(SIXTEENTHS);
    let shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E), shift);
    let k = _mm512_sub_ps(shifted, shift);
    let d = _mm512_fnmadd_ps(k, _mm512_set1_ps(LN2[0]), x);
    let d = _mm512_fnmadd_ps(k, _mm512_set1_ps(LN2[1]), d);
    // SAFETY: 16 elements.
    let table = unsafe { _mm512_loadu_ps(EXP2.as_ptr()) };
    let t = _mm512_permutexvar_ps(_mm512_castps_si512(shifted), table);
    let p = _mm512_fmadd_ps(_mm512_set1_ps(P[1]), d, _mm512_set1_ps(P[0]));
    let p = _mm512_fmadd_ps(p, d, _mm512_set1_ps(1.0));
    let y = _mm512_fmadd_ps(_mm512_mul_ps(d, t), p, t);
    // By the power below k.
    _mm512_maskz_scalef_ps(normal, y, k)
}

/// 16 bools of which those within `lanes` are true.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn bools(mask: *const u8, lanes: __mmask16) -> __mmask16 {
    // SAFETY: masked lanes touch no memory.
    let bytes = unsafe { _mm_maskz_loadu_epi8(lanes, mask.cast()) };
    _mm_test_epi8_mask(bytes, bytes)
}

/// Scales and masks the scores in place; the greatest.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn masked(s: &Scores) -> f32 {
    let least = _mm512_set1_ps(f32::NEG_INFINITY);
    let scale = _mm512_set1_ps(s.scale);
    let mut max = least;
    for j in (0..s.len).step_by(LANES) {
        let lanes = first(s.len - j);
        // SAFETY: masked lanes touch no memory.
        unsafe {
            let x = _mm512_maskz_loadu_ps(lanes, s.data.add(j));
            let x = match s.mask {
                RowMask::None => _mm512_mul_ps(x, scale),
                RowMask::Add(mask) => {
                    let mask = _mm512_maskz_loadu_ps(lanes, mask.add(j));
                    _mm512_fmadd_ps(x, scale, mask)
                }
                RowMask::Bool(mask) => {
                    let x = _mm512_mul_ps(x, scale);
                    _mm512_mask_add_ps(x, !bools(mask.add(j), lanes), x, least)
                }
                RowMask::Keep(mask, other) => {
                    let keep = bools(mask.add(j), lanes);
                    _mm512_mask_mul_ps(_mm512_set1_ps(other), keep, x, scale)
                }
            };
            max = _mm512_mask_max_ps(max, lanes, max, x);
            _mm512_mask_storeu_ps(s.data.add(j), lanes, x);
        }
    }
    _mm512_reduce_max_ps(max)
}

/// The greatest scores of rows of the same length.
#[target_feature(enable = "avx512f")]
unsafe fn greatest<const N: usize>(rows: &[Scores; N]) -> [f32; N] {
    let mut max = [_mm512_set1_ps(f32::NEG_INFINITY); N];
    for j in (0..rows[0].len).step_by(LANES) {
        let lanes = first(rows[0].len - j);
        for (s, max) in rows.iter().zip(&mut max) {
            // SAFETY: masked lanes touch no memory.
            let x = unsafe { _mm512_maskz_loadu_ps(lanes, s.data.add(j)) };
            *max = _mm512_mask_max_ps(*max, lanes, *max, x);
        }
    }
    max.map(|m| _mm512_reduce_max_ps(m))
}

/// Whether scores are only scaled.
fn is_plain(s: &Scores) -> bool {
    matches!(s.mask, RowMask::None) && s.scale >= 0.0
}

/// Rows at a time, whose chains of instructions overlap.
const TOGETHER: usize = 4;

macro_rules! softmax {
    ($name:ident, $features:literal, $narrow:expr) => {
        /// See [`Kernels::softmax`].
        unsafe fn $name(rows: &[Scores], sums: &mut [Sums]) {
            /// Rows of the same length; more than one are plain.
            #[target_feature(enable = $features)]
            unsafe fn run<const N: usize>(rows: &[Scores; N]) -> [Sums; N] {
                // SAFETY: by contract. A narrow weight is written over scores that have been read.
                unsafe {
                    let one = &rows[0];
                    let (max, scale) = if is_plain(one) {
                        (greatest(rows).map(|max| max * one.scale), one.scale)
                    } else {
                        ([masked(one); N], 1.0)
                    };
                    let max: [f32; N] = std::array::from_fn(|r| rows[r].max.max(max[r]));
                    let base = max.map(|max| _mm512_set1_ps(-Sums::base(max)));
                    let scale = _mm512_set1_ps(scale);
                    let mut sums = [_mm512_setzero_ps(); N];
                    for j in (0..one.fill).step_by(LANES) {
                        let (lanes, written) =
                            (first(one.len.saturating_sub(j)), first(one.fill - j));
                        for (r, s) in rows.iter().enumerate() {
                            let x = _mm512_maskz_loadu_ps(lanes, s.data.add(j));
                            let x = exp(_mm512_fmadd_ps(x, scale, base[r]));
                            let x = _mm512_maskz_mov_ps(lanes, x);
                            sums[r] = _mm512_add_ps(sums[r], x);
                            if s.narrow {
                                let to = s.data.cast::<u16>().add(j).cast();
                                _mm256_mask_storeu_epi16(to, written, ($narrow)(x));
                            } else {
                                _mm512_mask_storeu_ps(s.data.add(j), written, x);
                            }
                        }
                    }
                    std::array::from_fn(|r| Sums {
                        max: max[r],
                        sum: _mm512_reduce_add_ps(sums[r]),
                    })
                }
            }
            let (together, rest) = rows.as_chunks::<TOGETHER>();
            let (to_together, to_rest) = sums.split_at_mut(rows.len() - rest.len());
            let one = |s: &Scores, to: &mut Sums| {
                // SAFETY: by contract.
                [*to] = unsafe { run(&[*s]) };
            };
            for (rows, to) in together.iter().zip(to_together.chunks_exact_mut(TOGETHER)) {
                let alike = |s: &Scores| {
                    let like = &rows[0];
                    is_plain(s) && [s.len, s.fill] == [like.len, like.fill] && s.scale == like.scale
                };
                if rows.iter().all(alike) {
                    // SAFETY: by contract.
                    to.copy_from_slice(&unsafe { run(rows) });
                } else {
                    rows.iter().zip(to).for_each(|(s, to)| one(s, to));
                }
            }
            rest.iter().zip(to_rest).for_each(|(s, to)| one(s, to));
        }
    };
}

softmax!(softmax, "avx512f,avx512bw,avx512vl", |x: __m512| {
    let x: [f32; LANES] = std::mem::transmute(x);
    std::mem::transmute::<[u16; LANES], __m256i>(x.map(round_to_bf16))
});
softmax!(
    softmax_bf16,
    "avx512f,avx512bw,avx512vl,avx512bf16",
    |x: __m512| std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))
);

/// See [`Kernels::scale`].
#[target_feature(enable = "avx512f")]
unsafe fn scale(to: *mut f32, from: *const f32, len: usize, factor: f32) {
    let factor = _mm512_set1_ps(factor);
    for j in (0..len).step_by(LANES) {
        let lanes = first(len - j);
        // SAFETY: masked lanes touch no memory.
        unsafe {
            let x = _mm512_maskz_loadu_ps(lanes, from.add(j));
            _mm512_mask_storeu_ps(to.add(j), lanes, _mm512_mul_ps(x, factor));
        }
    }
}

/// See [`Kernels::narrow`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn narrow(to: *mut u16, from: *const f32, len: usize, factor: f32) {
    let factor = _mm512_set1_ps(factor);
    for j in (0..len).step_by(LANES) {
        let lanes = first(len - j);
        // SAFETY: masked lanes touch no memory.
        unsafe {
            let x = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, from.add(j)), factor);
            let x = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            _mm256_mask_storeu_epi16(to.add(j).cast(), lanes, x);
        }
    }
}

/// See [`Kernels::pairs`].
#[target_feature(enable = "avx512f,avx512bw")]
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
            unsafe { by_rows!($weigh, rows, w, $size, 1 8, 2 8, 3 4, 4 4, 5 4, 6 4, 7 2, 8 2) }
        }

        /// The first `LANES * V` columns at most.
        #[target_feature(enable = "avx512f,avx512bw")]
        unsafe fn $weigh<const M: usize, const V: usize>(w: &Weigh) {
            let lanes: [__mmask16; V] =
                std::array::from_fn(|v| first(w.width.saturating_sub(v * LANES)));
            let mut acc = [[_mm512_setzero_ps(); V]; M];
            let mut row = w.v;
            for key in 0..w.keys {
                // SAFETY: masked lanes touch no memory.
                unsafe {
                    let v: [__m512; V] =
                        std::array::from_fn(|v| ($load)(row, v * LANES, lanes[v]));
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let weights = w.weights.byte_add(r * w.weights_stride);
                        let weight = _mm512_set1_ps(weights.add(key).read());
                        for n in 0..V {
                            acc[n] = _mm512_fmadd_ps(weight, v[n], acc[n]);
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
                        let sum = _mm512_maskz_loadu_ps(lanes[n], out);
                        _mm512_mask_storeu_ps(out, lanes[n], _mm512_add_ps(sum, acc[n]));
                    }
                }
            }
        }
    };
}

weigh!(weigh_f32, weigh_f32_of, 4, |row: *const u8, at, lanes| {
    _mm512_maskz_loadu_ps(lanes, row.cast::<f32>().add(at))
});
weigh!(
    weigh_bf16,
    weigh_bf16_of,
    2,
    |row: *const u8, at, lanes: __mmask16| {
        let x = _mm512_maskz_loadu_epi16(u32::from(lanes), row.cast::<i16>().add(at));
        let x = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(x));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x))
    }
);
