//! Tiles of 6 rows and 16 columns in 12 of the 16 registers. bf16 and bytes have no products of their
//! own here: the caller widens them.

use super::{Dot, Kernels, Math, Tile, Transpose, no_dot};
use std::arch::x86_64::*;

const ROWS: usize = 6;
const LANES: usize = 8;
const COLS: usize = 2 * LANES;
const DOT_ROWS: usize = 4;

/// The kernels for this arithmetic; the caller has checked the processor.
pub fn kernels(math: Math) -> Option<&'static Kernels> {
    match math {
        Math::F32 => Some(&F32),
        Math::I16 => Some(&I16),
        _ => None,
    }
}

static F32: Kernels = Kernels {
    rows: ROWS,
    height: ROWS,
    block: 224,
    alignment: 1,
    cols: COLS,
    fetch: [0, 0],
    tile: f32_tile,
    side_by_side: None,
    rounded: None,
    tiled: false,
    transpose,
    dot: f32_dot,
    dot_rows: DOT_ROWS,
};

static I16: Kernels = Kernels {
    rows: ROWS,
    height: ROWS,
    block: 224,
    alignment: 1,
    cols: COLS,
    fetch: [0, 0],
    tile: i16_tile,
    side_by_side: None,
    rounded: None,
    tiled: false,
    transpose,
    dot: no_dot,
    dot_rows: 0,
};

/// The first `n` lanes.
#[target_feature(enable = "avx2")]
fn mask(n: usize) -> __m256i {
    let n = _mm256_set1_epi32(n.min(LANES) as i32);
    _mm256_cmpgt_epi32(n, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// Calls `$tile::<rows, vectors>`.
macro_rules! by_rows {
    ($tile:ident, $rows:expr, $t:expr, $($n:literal)*) => {
        match ($rows, $t.cols > LANES) {
            $(($n, false) => $tile::<$n, 1>($t), ($n, true) => $tile::<$n, 2>($t),)*
            _ => debug_assert!(false, "{} rows", $rows),
        }
    };
}

macro_rules! tile {
    ($entry:ident, $tile:ident, $zero:expr, $fma:expr, $add:expr, $bits:expr) => {
        /// See [`Kernels::tile`].
        unsafe fn $entry(rows: usize, t: &Tile) {
            // SAFETY: by contract.
            unsafe { by_rows!($tile, rows, t, 1 2 3 4 5 6) }
        }

        #[target_feature(enable = "avx2,fma")]
        unsafe fn $tile<const M: usize, const V: usize>(t: &Tile) {
            let mut acc = [[$zero; V]; M];
            let (mut a, mut b, mut next) = (t.a, t.b, t.next);
            let mut left = t.k;
            while left > 0 {
                let run = left.min(t.next_run);
                left -= run;
                for _ in 0..run {
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    // SAFETY: `a` and `b` stay within the `k` units of the tile.
                    unsafe {
                        let columns: [_; V] =
                            std::array::from_fn(|v| _mm256_loadu_si256(b.add(32 * v).cast()));
                        for (i, acc) in acc.iter_mut().enumerate() {
                            let x = a.add(i * t.a_stride).cast::<i32>().read_unaligned();
                            for v in 0..V {
                                acc[v] = ($fma)(acc[v], _mm256_set1_epi32(x), columns[v]);
                            }
                        }
                    }
                    a = a.wrapping_add(4);
                    b = b.wrapping_add(t.b_stride);
                    next = next.wrapping_add(t.next_step);
                }
                next = next.wrapping_add(t.next_jump);
            }
            let whole = t.cols == V * LANES;
            let masks: [__m256i; V] = std::array::from_fn(|v| mask(t.cols - v * LANES));
            for (i, acc) in acc.iter_mut().enumerate() {
                for v in 0..V {
                    // Masked stores take many times as long as whole ones on some processors.
                    if whole {
                        // SAFETY: all columns are the tile's.
                        unsafe {
                            if !t.init.is_null() {
                                let init = t.init.add(i * t.init_stride + 32 * v);
                                acc[v] = ($add)(acc[v], _mm256_loadu_si256(init.cast()));
                            }
                            let c = t.c.add(i * t.c_stride + 32 * v);
                            _mm256_storeu_si256(c.cast(), ($bits)(acc[v]));
                        }
                        continue;
                    }
                    // SAFETY: masked lanes touch no memory.
                    unsafe {
                        if !t.init.is_null() {
                            let init = t.init.add(i * t.init_stride + 32 * v);
                            acc[v] = ($add)(acc[v], _mm256_maskload_epi32(init.cast(), masks[v]));
                        }
                        let c = t.c.add(i * t.c_stride + 32 * v);
                        _mm256_maskstore_epi32(c.cast(), masks[v], ($bits)(acc[v]));
                    }
                }
            }
        }
    };
}

tile!(
    f32_tile,
    f32_tile_of,
    _mm256_setzero_ps(),
    |acc, x, b| _mm256_fmadd_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(b), acc),
    |acc, init| _mm256_add_ps(acc, _mm256_castsi256_ps(init)),
    |acc| _mm256_castps_si256(acc)
);
tile!(
    i16_tile,
    i16_tile_of,
    _mm256_setzero_si256(),
    |acc, x, b| _mm256_add_epi32(acc, _mm256_madd_epi16(x, b)),
    |acc, init| _mm256_add_epi32(acc, init),
    |acc| acc
);

/// See [`Kernels::transpose`].
#[target_feature(enable = "avx2")]
unsafe fn transpose(t: &Transpose) {
    for first in (0..t.fill).step_by(LANES) {
        let cols = t.cols.saturating_sub(first).min(LANES);
        for unit in (0..t.units).step_by(LANES) {
            let units = (t.units - unit).min(LANES);
            let keep = mask(units);
            let mut r = [_mm256_setzero_si256(); LANES];
            for (c, r) in r.iter_mut().enumerate().take(cols) {
                let row = t.rows.wrapping_offset((first + c) as isize * t.row_stride);
                // SAFETY: masked lanes touch no memory.
                *r = unsafe { _mm256_maskload_epi32(row.add(4 * unit).cast(), keep) };
            }
            let r = transpose_square(r);
            let fill = t.fill - first;
            for (u, &r) in r.iter().enumerate().take(units) {
                let row = t.panel.wrapping_add((unit + u) * t.panel_stride + first);
                // SAFETY: the panel has `fill` columns.
                unsafe {
                    match fill >= LANES {
                        true => _mm256_storeu_si256(row.cast(), r),
                        false => _mm256_maskstore_epi32(row.cast(), mask(fill), r),
                    }
                }
            }
        }
    }
}

/// Transposes 8 rows of 8.
#[target_feature(enable = "avx2")]
fn transpose_square(r: [__m256i; LANES]) -> [__m256i; LANES] {
    let mut s = r;
    for i in (0..LANES).step_by(2) {
        s[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    // q[i + j] holds columns j and 4 + j of rows i..i+4 in its two halves.
    let mut q = s;
    for i in (0..LANES).step_by(4) {
        q[i] = _mm256_unpacklo_epi64(s[i], s[i + 2]);
        q[i + 1] = _mm256_unpackhi_epi64(s[i], s[i + 2]);
        q[i + 2] = _mm256_unpacklo_epi64(s[i + 1], s[i + 3]);
        q[i + 3] = _mm256_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    let mut out = q;
    for j in 0..4 {
        out[j] = _mm256_permute2x128_si256::<0x20>(q[j], q[4 + j]);
        out[4 + j] = _mm256_permute2x128_si256::<0x31>(q[j], q[4 + j]);
    }
    out
}

/// See [`Kernels::dot`]: as many rows of B at a time as registers hold.
unsafe fn f32_dot(rows: usize, d: &Dot) {
    // SAFETY: by contract.
    unsafe { dots!(f32_dot_of, rows, d, 1 4, 2 4, 3 3, 4 2) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn f32_dot_of<const M: usize, const R: usize>(d: &Dot) {
    let mut acc = [[_mm256_setzero_ps(); R]; M];
    let whole = d.k / LANES * LANES;
    for k in (0..whole).step_by(LANES) {
        // What comes after these columns: the processor's own prefetching ends at pages.
        if k.is_multiple_of(2 * LANES) {
            for r in R..2 * R {
                let line = d.b.wrapping_add(r * d.b_stride + 4 * k);
                _mm_prefetch::<_MM_HINT_T0>(line.cast());
            }
        }
        // SAFETY: whole vectors of each row.
        unsafe { dot_step(d, &mut acc, |row| _mm256_loadu_ps(row.add(k))) };
    }
    if whole < d.k {
        let keep = mask(d.k - whole);
        // SAFETY: masked lanes touch no memory.
        unsafe { dot_step(d, &mut acc, |row| _mm256_maskload_ps(row.add(whole), keep)) };
    }
    for (i, acc) in acc.iter().enumerate() {
        for (r, &acc) in acc.iter().enumerate() {
            let half = _mm_add_ps(_mm256_castps256_ps128(acc), _mm256_extractf128_ps::<1>(acc));
            let two = _mm_add_ps(half, _mm_movehl_ps(half, half));
            let sum = _mm_add_ss(two, _mm_movehdup_ps(two));
            // SAFETY: an element of the result.
            unsafe {
                let c = d.c.add(i * d.c_stride).cast::<f32>().add(r);
                c.write(_mm_cvtss_f32(sum));
            }
        }
    }
}

/// Adds the products of one vector of each row.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_step<const M: usize, const R: usize>(
    d: &Dot,
    acc: &mut [[__m256; R]; M],
    load: impl Fn(*const f32) -> __m256,
) {
    let b: [_; R] = std::array::from_fn(|r| load(d.b.wrapping_add(r * d.b_stride).cast()));
    for (i, acc) in acc.iter_mut().enumerate() {
        let a = load(d.a.wrapping_add(i * d.a_stride).cast());
        for r in 0..R {
            acc[r] = _mm256_fmadd_ps(a, b[r], acc[r]);
        }
    }
}
