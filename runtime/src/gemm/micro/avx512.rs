//! Tiles of 14 rows and 32 columns in 28 of the 32 registers. AVX512-BF16 and VNNI take the same form.
//! The loop over K is not unrolled: LLVM would move the loads of several steps together and spill.

use super::{Dot, Kernels, Math, Tile, Transpose, no_dot};
use std::arch::x86_64::*;

const ROWS: usize = 14;
const LANES: usize = 16;
const COLS: usize = 2 * LANES;
pub(super) const DOT_ROWS: usize = 8;

/// The kernels for this arithmetic; the caller has checked the processor.
pub fn kernels(math: Math) -> Option<&'static Kernels> {
    match math {
        Math::F32 => Some(&F32),
        Math::Bf16 => Some(&BF16),
        Math::I16 => Some(&I16),
        Math::I8 => Some(&I8),
        Math::S8 => Some(&S8),
        Math::F16 | Math::Bf16x2 | Math::Bf16x3 => None,
    }
}

macro_rules! table {
    ($name:ident, $tile:ident, $dot:ident, $dot_rows:expr) => {
        static $name: Kernels = Kernels {
            rows: ROWS,
            height: ROWS,
            block: 224,
            alignment: 1,
            cols: COLS,
            fetch: [0, 0],
            tile: $tile,
            side_by_side: None,
            rounded: None,
            tiled: false,
            transpose,
            dot: $dot,
            dot_rows: $dot_rows,
        };
    };
}

table!(F32, f32_tile, f32_dot, DOT_ROWS);
table!(BF16, bf16_tile, bf16_dot, DOT_ROWS);
table!(I16, i16_tile, no_dot, 0);
table!(I8, i8_tile, no_dot, 0);
table!(S8, s8_tile, no_dot, 0);

/// The first `n` lanes.
fn mask(n: usize) -> __mmask16 {
    if n >= LANES { !0 } else { (1 << n) - 1 }
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
    ($entry:ident, $tile:ident, $features:literal, $start:expr, $fma:expr, $add:expr, $bits:expr) => {
        /// See [`Kernels::tile`].
        unsafe fn $entry(rows: usize, t: &Tile) {
            // SAFETY: by contract.
            unsafe { by_rows!($tile, rows, t, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
        }

        #[target_feature(enable = $features)]
        unsafe fn $tile<const M: usize, const V: usize>(t: &Tile) {
            let mut acc: [_; M] = std::array::from_fn(|i| {
                let row = t.a.wrapping_add(i * t.a_stride);
                // SAFETY: a row of the tile.
                [unsafe { ($start)(row, t.k) }; V]
            });
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
                            std::array::from_fn(|v| _mm512_loadu_epi32(b.add(64 * v).cast()));
                        for (i, acc) in acc.iter_mut().enumerate() {
                            let x = a.add(i * t.a_stride).cast::<i32>().read_unaligned();
                            for v in 0..V {
                                acc[v] = ($fma)(acc[v], _mm512_set1_epi32(x), columns[v]);
                            }
                        }
                    }
                    a = a.wrapping_add(4);
                    b = b.wrapping_add(t.b_stride);
                    next = next.wrapping_add(t.next_step);
                }
                next = next.wrapping_add(t.next_jump);
            }
            let masks: [__mmask16; V] = std::array::from_fn(|v| mask(t.cols - v * LANES));
            for (i, acc) in acc.iter_mut().enumerate() {
                for v in 0..V {
                    // SAFETY: masked lanes touch no memory.
                    unsafe {
                        if !t.init.is_null() {
                            let init = t.init.add(i * t.init_stride + 64 * v);
                            let init = _mm512_maskz_loadu_epi32(masks[v], init.cast());
                            acc[v] = ($add)(acc[v], init);
                        }
                        let c = t.c.add(i * t.c_stride + 64 * v);
                        _mm512_mask_storeu_epi32(c.cast(), masks[v], ($bits)(acc[v]));
                    }
                }
            }
        }
    };
}

tile!(
    f32_tile,
    f32_tile_of,
    "avx512f",
    zero_floats,
    |acc, x, b| _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(b), acc),
    |acc, init| _mm512_add_ps(acc, _mm512_castsi512_ps(init)),
    |acc| _mm512_castps_si512(acc)
);
tile!(
    bf16_tile,
    bf16_tile_of,
    "avx512f,avx512bw,avx512bf16",
    zero_floats,
    // SAFETY: both are 512 bits.
    |acc, x: __m512i, b: __m512i| _mm512_dpbf16_ps(
        acc,
        std::mem::transmute::<__m512i, __m512bh>(x),
        std::mem::transmute::<__m512i, __m512bh>(b)
    ),
    |acc, init| _mm512_add_ps(acc, _mm512_castsi512_ps(init)),
    |acc| _mm512_castps_si512(acc)
);
tile!(
    i16_tile,
    i16_tile_of,
    "avx512f,avx512bw",
    zero_integers,
    |acc, x, b| _mm512_add_epi32(acc, _mm512_madd_epi16(x, b)),
    |acc, init| _mm512_add_epi32(acc, init),
    |acc| acc
);
tile!(
    i8_tile,
    i8_tile_of,
    "avx512f,avx512bw,avx512vnni",
    zero_integers,
    |acc, x, b| _mm512_dpbusd_epi32(acc, x, b),
    |acc, init| _mm512_add_epi32(acc, init),
    |acc| acc
);
// Of i8 by i8, B's are made unsigned by adding 128, which adds 128 times the sum of A's row.
tile!(
    s8_tile,
    s8_tile_of,
    "avx512f,avx512bw,avx512vnni",
    less_row_sum,
    |acc, x, b| _mm512_dpbusd_epi32(acc, _mm512_xor_si512(b, _mm512_set1_epi8(-128)), x),
    |acc, init| _mm512_add_epi32(acc, init),
    |acc| acc
);

/// Where sums of a row begin, from its address and its units.
#[target_feature(enable = "avx512f")]
unsafe fn zero_floats(_: *const u8, _: usize) -> __m512 {
    _mm512_setzero_ps()
}

#[target_feature(enable = "avx512f")]
unsafe fn zero_integers(_: *const u8, _: usize) -> __m512i {
    _mm512_setzero_si512()
}

/// -128 times the sum of a row of i8.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn less_row_sum(row: *const u8, k: usize) -> __m512i {
    let mut sum = _mm512_setzero_si512();
    for unit in (0..k).step_by(LANES) {
        // SAFETY: masked lanes touch no memory.
        let x = unsafe { _mm512_maskz_loadu_epi32(mask(k - unit), row.add(4 * unit).cast()) };
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), x);
    }
    _mm512_set1_epi32(_mm512_reduce_add_epi32(sum).wrapping_mul(-128))
}

/// See [`Kernels::transpose`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose(t: &Transpose) {
    for first in (0..t.fill).step_by(LANES) {
        let cols = t.cols.saturating_sub(first).min(LANES);
        for unit in (0..t.units).step_by(LANES) {
            let units = (t.units - unit).min(LANES);
            let keep = mask(units);
            let mut r = [_mm512_setzero_si512(); LANES];
            for (c, r) in r.iter_mut().enumerate().take(cols) {
                let row = t.rows.wrapping_offset((first + c) as isize * t.row_stride);
                // SAFETY: masked lanes touch no memory.
                *r = unsafe { _mm512_maskz_loadu_epi32(keep, row.add(4 * unit).cast()) };
            }
            let r = transpose_square(r);
            for (u, &r) in r.iter().enumerate().take(units) {
                let row = t.panel.wrapping_add((unit + u) * t.panel_stride + first);
                // SAFETY: the panel has `fill` columns.
                unsafe { _mm512_mask_storeu_epi32(row.cast(), mask(t.fill - first), r) };
            }
        }
    }
}

/// Transposes 16 rows of 16.
#[target_feature(enable = "avx512f")]
fn transpose_square(r: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut s = r;
    for i in (0..LANES).step_by(2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    // Now s[4q + j], after 64-bit unpacking, holds column 4*lane + j of rows 4q..4q+4 in each lane.
    let mut q = s;
    for i in (0..LANES).step_by(4) {
        q[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        q[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        q[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        q[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    let mut out = q;
    for j in 0..4 {
        let (a, b, c, d) = (q[j], q[4 + j], q[8 + j], q[12 + j]);
        let ab_low = _mm512_shuffle_i32x4::<0x88>(a, b); // lanes a0 a2 b0 b2
        let ab_high = _mm512_shuffle_i32x4::<0xdd>(a, b); // lanes a1 a3 b1 b3
        let cd_low = _mm512_shuffle_i32x4::<0x88>(c, d);
        let cd_high = _mm512_shuffle_i32x4::<0xdd>(c, d);
        out[j] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
        out[4 + j] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        out[8 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
        out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
    out
}

macro_rules! dot {
    ($entry:ident, $dot:ident, $features:literal, $elements:literal, $load:expr, $fma:expr) => {
        /// See [`Kernels::dot`].
        pub(super) unsafe fn $entry(rows: usize, d: &Dot) {
            // SAFETY: by contract.
            unsafe { dots!($dot, rows, d, 1 4, 2 4, 3 4, 4 4, 5 4, 6 4, 7 3, 8 3) }
        }

        #[target_feature(enable = $features)]
        unsafe fn $dot<const M: usize, const R: usize>(d: &Dot) {
            let mut acc = [[_mm512_setzero_ps(); R]; M];
            for k in (0..d.k).step_by($elements) {
                let left = d.k - k;
                // What comes after these columns: the processor's own prefetching ends at pages.
                for r in R..2 * R {
                    let line = d.b.wrapping_add(r * d.b_stride + 64 * (k / $elements));
                    _mm_prefetch::<_MM_HINT_T0>(line.cast());
                }
                // SAFETY: masked lanes touch no memory.
                unsafe {
                    let b: [_; R] =
                        std::array::from_fn(|r| ($load)(d.b.add(r * d.b_stride), k, left));
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let a = ($load)(d.a.add(i * d.a_stride), k, left);
                        for r in 0..R {
                            acc[r] = ($fma)(a, b[r], acc[r]);
                        }
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
    };
}

dot!(
    f32_dot,
    f32_dot_of,
    "avx512f",
    16,
    |row: *const u8, k, left| _mm512_maskz_loadu_ps(mask(left), row.cast::<f32>().add(k)),
    |a, b, acc| _mm512_fmadd_ps(a, b, acc)
);
dot!(
    bf16_dot,
    bf16_dot_of,
    "avx512f,avx512bw,avx512bf16",
    32,
    |row: *const u8, k, left: usize| {
        let keep = if left >= 32 { !0 } else { (1u32 << left) - 1 };
        let x = _mm512_maskz_loadu_epi16(keep, row.cast::<i16>().add(k));
        std::mem::transmute::<__m512i, __m512bh>(x)
    },
    |a, b, acc| _mm512_dpbf16_ps(acc, a, b)
);
