//! The reference for every processor: plain loops, written so that LLVM vectorises over columns.

use super::{Kernels, Math, Tile, Transpose, no_dot};
use half::{bf16, f16};
use std::num::Wrapping;

const ROWS: usize = 4;
const COLS: usize = 16;

/// The kernels for this arithmetic.
pub fn kernels(math: Math) -> Option<&'static Kernels> {
    Some(match math {
        Math::F32 => &F32,
        Math::Bf16 => &BF16,
        Math::F16 => &F16,
        Math::I16 => &I16,
        Math::I8 => &I8,
        Math::S8 => &S8,
        Math::Bf16x2 => &BF16X2,
        Math::Bf16x3 => &BF16X3,
    })
}

macro_rules! table {
    ($name:ident, $acc:ty, $parts:literal, $multiply:expr) => {
        static $name: Kernels = {
            unsafe fn entry(rows: usize, t: &Tile) {
                // SAFETY: by contract.
                unsafe { tile::<$acc, $parts>(rows, t, $multiply) }
            }
            Kernels {
                rows: ROWS,
                height: ROWS,
                block: 224,
                alignment: 1,
                cols: COLS,
                fetch: [0, 0],
                tile: entry,
                side_by_side: None,
                rounded: None,
                tiled: false,
                transpose,
                dot: no_dot,
                dot_rows: 0,
            }
        };
    };
}

table!(F32, f32, 1, |acc, a, b| acc
    + f32::from_bits(a) * f32::from_bits(b));
table!(BF16, f32, 1, multiply_bf16);
table!(F16, f32, 1, |acc, a, b| {
    let [a, b] = [a, b].map(|u| [u as u16, (u >> 16) as u16].map(|x| f16::from_bits(x).to_f32()));
    acc + a[0] * b[0] + a[1] * b[1]
});
table!(BF16X2, f32, 2, multiply_bf16);
table!(BF16X3, f32, 3, multiply_bf16);
table!(I16, Wrapping<i32>, 1, |acc, a, b| {
    let [a, b] = [a, b].map(|u| [u as i16, (u >> 16) as i16].map(i32::from));
    acc + Wrapping(a[0] * b[0]) + Wrapping(a[1] * b[1])
});
table!(I8, Wrapping<i32>, 1, |acc, a, b| {
    let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    products.fold(acc, |acc, (a, b)| {
        acc + Wrapping(i32::from(a) * i32::from(b as i8))
    })
});
table!(S8, Wrapping<i32>, 1, |acc, a, b| {
    let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    products.fold(acc, |acc, (a, b)| {
        acc + Wrapping(i32::from(a as i8) * i32::from(b as i8))
    })
});

fn multiply_bf16(acc: f32, a: u32, b: u32) -> f32 {
    let [a, b] = [a, b].map(|u| [u as u16, (u >> 16) as u16].map(|x| bf16::from_bits(x).to_f32()));
    acc + a[0] * b[0] + a[1] * b[1]
}

/// See [`Kernels::tile`]; `multiply(acc, a, b)` adds the products of two units. Of parts of elements those products
/// count that are not smaller than the last part of one by the first of the other.
unsafe fn tile<T: Copy + Default + std::ops::Add<Output = T>, const PARTS: usize>(
    rows: usize,
    t: &Tile,
    multiply: impl Fn(T, u32, u32) -> T,
) {
    let mut acc = [[T::default(); COLS]; ROWS];
    for k in 0..t.k {
        for (pa, pb) in (0..PARTS).flat_map(|a| (0..PARTS - a).map(move |b| (a, b))) {
            // SAFETY: a row of the panel, and the row's `k`-th unit.
            unsafe {
                let b = t.b.add(k * t.b_stride + pb * (t.b_stride / PARTS));
                let b = b.cast::<[u32; COLS]>().read_unaligned();
                for (i, acc) in acc.iter_mut().enumerate().take(rows) {
                    let a = t.a.add(i * t.a_stride + pa * (t.a_stride / PARTS) + 4 * k);
                    let a = a.cast::<u32>().read_unaligned();
                    for (acc, b) in acc.iter_mut().zip(b) {
                        *acc = multiply(*acc, a, b);
                    }
                }
            }
        }
    }
    for (i, acc) in acc.iter().enumerate().take(rows) {
        for (j, &sum) in acc.iter().enumerate().take(t.cols) {
            // SAFETY: elements of the result and of `init`.
            unsafe {
                let c = t.c.add(i * t.c_stride).cast::<T>().add(j);
                let init = t
                    .init
                    .wrapping_add(i * t.init_stride)
                    .cast::<T>()
                    .wrapping_add(j);
                c.write(if t.init.is_null() {
                    sum
                } else {
                    sum + init.read()
                });
            }
        }
    }
}

/// See [`Kernels::transpose`].
unsafe fn transpose(t: &Transpose) {
    for u in 0..t.units {
        for c in 0..t.fill {
            // SAFETY: a unit of a row, and one of the panel.
            unsafe {
                let row = t
                    .rows
                    .offset(c as isize * t.row_stride * isize::from(c < t.cols));
                let unit = row.cast::<u32>().add(u).read_unaligned();
                let unit = if c < t.cols { unit } else { 0 };
                t.panel.add(u * t.panel_stride + c).write_unaligned(unit);
            }
        }
    }
}
