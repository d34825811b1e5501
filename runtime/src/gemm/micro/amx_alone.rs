//! AMX for one thread: bf16 in two by three tile registers of sums (32 rows, 48 columns), which read 5 KiB for six
//! products where two by two read 4 KiB for four. Only for a core of one's own: where its other hardware thread
//! is busy too, six sums leave too few registers to load operands ahead (docs/products.md), so that products that
//! many threads share keep two by two.

use super::amx::{BF16, CONFIGURATIONS, HEIGHT, LINE, Registers, SIDE, Soon, steps};
use super::{Kernels, Rounded, Tile};
use crate::gemm::bf16::round_row;

/// Columns of a panel.
const COLS: usize = 3 * SIDE;
/// Columns that two by two registers take.
const LEFT: usize = 2 * SIDE;

/// The kernels; the caller has checked the processor.
pub static KERNELS: Kernels = Kernels {
    dot: BF16.dot,
    dot_rows: BF16.dot_rows,
    ..table::<super::amx::Bf16>()
};

/// Kernels without dot products.
pub(super) const fn table<T: Registers>() -> Kernels {
    Kernels {
        cols: COLS,
        tile: tile::<T>,
        side_by_side: None,
        rounded: Some(rounded::<T>),
        ..super::amx::table::<T>()
    }
}

/// See [`Kernels::tile`]: two by two registers, and then what is right of them.
unsafe fn tile<T: Registers>(rows: usize, t: &Tile) {
    let mut configured = 0;
    let left = Tile {
        cols: t.cols.min(LEFT),
        ..*t
    };
    // SAFETY: by contract; then nothing is left in the registers.
    unsafe {
        steps::<T>(rows, &left, &mut configured);
        if t.cols > LEFT {
            let right = |p: *const u8| p.wrapping_add(4 * LEFT);
            let right = Tile {
                b: right(t.b),
                c: t.c.wrapping_add(4 * LEFT),
                init: if t.init.is_null() {
                    t.init
                } else {
                    right(t.init)
                },
                cols: t.cols - LEFT,
                next_step: 0,
                ..*t
            };
            steps::<T>(rows, &right, &mut configured);
        }
        T::release();
    }
}

/// Sums of 32 rows, on their way from tile registers to the result.
#[repr(C, align(64))]
struct Sums([[f32; COLS]; HEIGHT]);

/// See [`Kernels::rounded`]. The sums of 32 rows are rounded while those of the next are computed.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn rounded<T: Registers>(rows: usize, t: &Tile, out: &Rounded) {
    debug_assert!(rows.is_multiple_of(HEIGHT) && t.k.is_multiple_of(SIDE) && t.cols == COLS);
    let mut sums = [const { Sums([[0.0; COLS]; HEIGHT]) }; 2];
    let steps = t.k / SIDE;
    let each = HEIGHT.div_ceil(steps.max(1));
    let mut soon = Soon::of(t);
    // SAFETY: by contract.
    unsafe {
        T::configure(&CONFIGURATIONS[HEIGHT - 1]);
        for (n, first) in (0..rows).step_by(HEIGHT).enumerate() {
            let [sums, before] = &mut sums;
            let (sums, before) = match n % 2 {
                0 => (sums, &*before),
                _ => (before, &*sums),
            };
            let mut rounding = if n == 0 { HEIGHT..HEIGHT } else { 0..HEIGHT };
            let (mut a, mut b) = (t.a as usize + first * t.a_stride, t.b as usize);
            zero::<T>();
            for _ in 0..steps {
                multiply::<T>([a, t.a_stride], [b, t.b_stride]);
                soon.fetch();
                for row in rounding.by_ref().take(each) {
                    round_row(&before.0[row], out, first - HEIGHT + row);
                }
                a += LINE;
                b += SIDE * t.b_stride;
            }
            store::<T>(sums.0.as_mut_ptr() as usize, 4 * COLS);
        }
        T::release();
        let last = &sums[(rows / HEIGHT + 1) % 2];
        for (row, sums) in last.0.iter().enumerate() {
            round_row(sums, out, rows - HEIGHT + row);
        }
    }
}

#[inline(always)]
unsafe fn zero<T: Registers>() {
    // SAFETY: by the caller's contract.
    unsafe {
        T::zero::<0>();
        T::zero::<1>();
        T::zero::<2>();
        T::zero::<3>();
        T::zero::<4>();
        T::zero::<5>();
    }
}

#[inline(always)]
unsafe fn store<T: Registers>(to: usize, stride: usize) {
    let lower = to + SIDE * stride;
    // SAFETY: by the caller's contract.
    unsafe {
        T::store::<0>(to, stride);
        T::store::<1>(to + LINE, stride);
        T::store::<2>(to + 2 * LINE, stride);
        T::store::<3>(lower, stride);
        T::store::<4>(lower + LINE, stride);
        T::store::<5>(lower + 2 * LINE, stride);
    }
}

/// Adds the products of 16 units. A (register 6) and B (7): address and stride. The lower half goes through B backwards, which
/// saves a load.
#[inline(always)]
unsafe fn multiply<T: Registers>([a, a_stride]: [usize; 2], [b, b_stride]: [usize; 2]) {
    // SAFETY: by the caller's contract.
    unsafe {
        T::load::<6>(a, a_stride);
        T::load::<7>(b, b_stride);
        T::multiply::<0, 6, 7>();
        T::load::<7>(b + LINE, b_stride);
        T::multiply::<1, 6, 7>();
        T::load::<7>(b + 2 * LINE, b_stride);
        T::multiply::<2, 6, 7>();
        T::load::<6>(a + SIDE * a_stride, a_stride);
        T::multiply::<5, 6, 7>();
        T::load::<7>(b + LINE, b_stride);
        T::multiply::<4, 6, 7>();
        T::load::<7>(b, b_stride);
        T::multiply::<3, 6, 7>();
        T::zero::<6>();
        T::zero::<7>();
    }
}
