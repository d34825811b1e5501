//! AVX-512: 24 sums in 32 registers of 16 lanes.

use super::{Micro, NearFn, Rows, Source, Start, Tile, TileFn};
use std::arch::x86_64::*;

const LANES: usize = 16;

macro_rules! tiles {
    ($v:literal: $($m:literal)*) => { &[$(tile::<$m, $v> as TileFn),*] };
}
macro_rules! near {
    ($v:literal: $($m:literal)*) => { &[$(near::<$m, $v> as NearFn),*] };
}

/// The functions of this file.
pub static MICRO: Micro = Micro {
    lanes: LANES,
    tiles: &[
        tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
        tiles!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
        tiles!(3: 1 2 3 4 5 6 7 8),
        tiles!(4: 1 2 3 4 5 6),
    ],
    near: &[
        near!(1: 1 2 3 4 5 6 7 8),
        near!(2: 1 2 3 4 5 6 7 8),
        near!(3: 1 2 3 4 5 6 7 8),
    ],
    dots: &[dots::<1>, dots::<2>, dots::<3>, dots::<4>],
    pack,
    sums,
    maxima,
};

/// Writes a tile's sums; no function, since sums whose address is taken leave their registers.
macro_rules! store {
    ($t:expr, $sums:expr) => {
        for (m, sums) in $sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let mask = first($t.columns.saturating_sub(v * LANES));
                let c = $t.c.wrapping_add(m * $t.ldc + v * LANES);
                let sum = match $t.start {
                    Start::Zero => sum,
                    Start::Bias(bias) => _mm512_add_ps(sum, _mm512_set1_ps(*bias.add(m))),
                    Start::Sum => _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c)),
                };
                _mm512_mask_storeu_ps(c, mask, sum);
            }
        }
    };
}

/// A mask of the first `n` lanes.
fn first(n: usize) -> __mmask16 {
    ((1u32 << n.min(LANES)) - 1) as __mmask16
}

#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize, const V: usize>(t: &Tile) {
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    let (mut a, mut b) = (t.a, t.b);
    // SAFETY: the caller's pointers hold what `Tile` says; masked lanes are not touched, and a
    // prefetch may go anywhere.
    unsafe {
        let mut k = 0;
        while k < t.depth {
            // One line of each row of the next tile below, while this one is computed.
            for m in 0..M {
                _mm_prefetch::<_MM_HINT_T0>(a.wrapping_add((M + m) * t.row).cast());
            }
            for _ in 0..LANES.min(t.depth - k) {
                let vectors: [__m512; V] =
                    std::array::from_fn(|v| _mm512_loadu_ps(b.add(v * LANES)));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(*a.add(m * t.row));
                    for (sum, &b) in sums.iter_mut().zip(&vectors) {
                        *sum = _mm512_fmadd_ps(a, b, *sum);
                    }
                }
                a = a.wrapping_add(t.step);
                b = b.wrapping_add(t.ldb);
            }
            k += LANES;
        }
        store!(t, sums);
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn near<const M: usize, const V: usize>(t: &Tile, offsets: &[usize]) {
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    let mut a = t.a;
    // SAFETY: the caller's pointers hold what `NearFn` says.
    unsafe {
        for &offset in offsets {
            let b = t.b.add(offset);
            let vectors: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(b.add(v * LANES)));
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(m * t.row));
                for (sum, &b) in sums.iter_mut().zip(&vectors) {
                    *sum = _mm512_fmadd_ps(a, b, *sum);
                }
            }
            a = a.wrapping_add(t.step);
        }
        store!(t, sums);
    }
}

/// The segments of one vector as masks, and offsets of lane 0.
type Masked<const S: usize> = [(__mmask16, isize); S];

#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
unsafe fn some_dots<const M: usize, const N: usize>(t: &Tile, first_row: usize) {
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    let a = t.a.wrapping_add(first_row * t.row);
    // SAFETY: the caller's pointers hold what `Tile` says; masked lanes are not touched.
    unsafe {
        for k in (0..t.depth).step_by(LANES) {
            let mask = first(t.depth - k);
            let columns: [__m512; N] = std::array::from_fn(|n| {
                _mm512_maskz_loadu_ps(mask, t.b.wrapping_add(n * t.ldb + k))
            });
            for (m, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_maskz_loadu_ps(mask, a.wrapping_add(m * t.row + k));
                for (sum, &b) in sums.iter_mut().zip(&columns) {
                    *sum = _mm512_fmadd_ps(a, b, *sum);
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            for (n, &sum) in sums.iter().enumerate() {
                t.finish(first_row + m, n, _mm512_reduce_add_ps(sum));
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn pack(to: *mut f32, width: usize, source: &Source) {
    // SAFETY: as asked of the caller.
    unsafe {
        match source.segments.len() {
            0..=1 => pack_segments::<1>(to, width, source),
            2 => pack_segments::<2>(to, width, source),
            3 => pack_segments::<3>(to, width, source),
            4 => pack_segments::<4>(to, width, source),
            _ => pack_segments::<16>(to, width, source),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn pack_segments<const S: usize>(to: *mut f32, width: usize, source: &Source) {
    let mut masked: Masked<S> = [(0, 0); S];
    for (slot, s) in masked.iter_mut().zip(source.segments) {
        *slot = (first(s.len) << s.lane, s.source as isize - s.lane as isize);
    }
    let mut to = to;
    for channel in 0..source.channels {
        let plane = source.planes.wrapping_add(channel * source.plane);
        for &tap in source.taps {
            let from = plane.wrapping_add(tap);
            // SAFETY: the caller's pointers hold what `Source` says; masked lanes are not touched.
            unsafe {
                let (mask, offset) = masked[0];
                let mut v = _mm512_maskz_loadu_ps(mask, from.wrapping_offset(offset));
                for &(mask, offset) in &masked[1..] {
                    v = _mm512_mask_loadu_ps(v, mask, from.wrapping_offset(offset));
                }
                _mm512_storeu_ps(to, v);
            }
            to = to.wrapping_add(width);
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn sums(r: &Rows) {
    // SAFETY: as asked of the caller.
    unsafe { plane::<false>(r) }
}

#[target_feature(enable = "avx512f")]
unsafe fn maxima(r: &Rows) {
    // SAFETY: as asked of the caller.
    unsafe { plane::<true>(r) }
}

#[inline]
#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
unsafe fn block<const R: usize, const MAX: bool>(r: &Rows, y: usize) {
    let start = _mm512_set1_ps(if MAX { f32::NEG_INFINITY } else { r.start });
    for x in (0..r.width).step_by(LANES) {
        let mask = first(r.width - x);
        let mut results = [start; R];
        // SAFETY: the caller's pointers hold what `Rows` says; masked lanes are not touched.
        unsafe {
            for (t, &tap) in r.taps.iter().enumerate() {
                let from = r.planes.add(tap + y * r.row + x);
                let weight = _mm512_set1_ps(if MAX { 0.0 } else { *r.weight.add(t) });
                for (i, result) in results.iter_mut().enumerate() {
                    let pixel = _mm512_loadu_ps(from.add(i * r.row));
                    *result = if MAX {
                        larger(*result, pixel)
                    } else {
                        _mm512_fmadd_ps(weight, pixel, *result)
                    };
                }
            }
            for (i, &result) in results.iter().enumerate() {
                _mm512_mask_storeu_ps(r.to.add((y + i) * r.width + x), mask, result);
            }
        }
    }
}

/// NaN if either is.
#[inline]
#[target_feature(enable = "avx512f")]
fn larger(a: __m512, b: __m512) -> __m512 {
    // The instruction returns its second operand if one is NaN.
    let larger = _mm512_max_ps(b, a);
    _mm512_mask_mov_ps(larger, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(b, b), b)
}
