//! AMX for one thread: bf16 in two by three tile registers of sums (32 rows, 48 columns), which read 5 KiB for six
//! products where two by two read 4 KiB for four. Only for a core of one's own: where its other hardware thread
//! is busy too, six sums leave too few registers to load operands ahead (docs/products.md), so that products that
//! many threads share keep two by two.

use super::amx::{BF16, Bf16Alone, Form, LINE, Registers, SIDE, rounded, steps};
use super::{Kernels, Rounded, Tile};

/// Columns of a panel.
const COLS: usize = 3 * SIDE;
/// Columns that two by two registers take.
const LEFT: usize = 2 * SIDE;

/// The kernels; the caller has checked the processor.
pub static KERNELS: Kernels = Kernels {
    dot: BF16.dot,
    dot_rows: BF16.dot_rows,
    ..table::<Bf16Alone>()
};

/// Kernels without dot products.
pub(super) const fn table<T: Registers>() -> Kernels {
    Kernels {
        cols: COLS,
        tile: tile::<T>,
        side_by_side: None,
        rounded: Some(wide::<T>),
        tiled: true,
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

/// See [`Kernels::rounded`].
unsafe fn wide<T: Registers>(rows: usize, t: &Tile, out: &Rounded) {
    // SAFETY: by contract.
    unsafe { rounded::<T, TwoByThree, COLS>(rows, t, out) }
}

/// Registers 0 to 5 hold sums, 6 rows of A, 7 columns of B.
struct TwoByThree;

impl<T: Registers> Form<T> for TwoByThree {
    #[inline(always)]
    unsafe fn zero() {
        // SAFETY: by contract.
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
    unsafe fn load(from: usize, stride: usize) {
        let lower = from + SIDE * stride;
        // SAFETY: by contract.
        unsafe {
            T::load_passing::<0>(from, stride);
            T::load_passing::<1>(from + LINE, stride);
            T::load_passing::<2>(from + 2 * LINE, stride);
            T::load_passing::<3>(lower, stride);
            T::load_passing::<4>(lower + LINE, stride);
            T::load_passing::<5>(lower + 2 * LINE, stride);
        }
    }

    /// The lower half goes through B backwards, which saves a load.
    #[inline(always)]
    unsafe fn multiply([a, a_stride]: [usize; 2], [b, b_stride]: [usize; 2]) {
        // SAFETY: by contract.
        unsafe {
            T::load_a::<6>(a, a_stride);
            T::load_b::<7>(b, b_stride);
            T::multiply::<0, 6, 7>();
            T::load_b::<7>(b + LINE, b_stride);
            T::multiply::<1, 6, 7>();
            T::load_b::<7>(b + 2 * LINE, b_stride);
            T::multiply::<2, 6, 7>();
            T::load_a::<6>(a + SIDE * a_stride, a_stride);
            T::multiply::<5, 6, 7>();
            T::load_b::<7>(b + LINE, b_stride);
            T::multiply::<4, 6, 7>();
            T::load_b::<7>(b, b_stride);
            T::multiply::<3, 6, 7>();
            T::zero::<6>();
            T::zero::<7>();
        }
    }

    #[inline(always)]
    unsafe fn store(to: usize, stride: usize) {
        let lower = to + SIDE * stride;
        // SAFETY: by contract.
        unsafe {
            T::store::<0>(to, stride);
            T::store::<1>(to + LINE, stride);
            T::store::<2>(to + 2 * LINE, stride);
            T::store::<3>(lower, stride);
            T::store::<4>(lower + LINE, stride);
            T::store::<5>(lower + 2 * LINE, stride);
        }
    }
}
