//! Sums into the result: scaled, added to the input, rounded.

use super::convert::{Row, convert};
use super::shape::Product;
use crate::DType;
use crate::cpu::Isa;
use std::ops::Range;

const CHUNK: usize = 256;

/// What the tiles write, and what is left to do when K is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Nothing: tiles write the result, and add the input as it is.
    InPlace,
    /// Tiles write the result (f32), which is then scaled and added to the input.
    Update,
    /// Tiles write sums elsewhere, since the result is of another type.
    Copy,
    /// As `Copy`, since the columns of the result are what lies together.
    Turned,
}

impl Finish {
    /// What this product needs.
    pub fn of(p: &Product) -> Finish {
        if p.c.strides[1] != 1 && p.n > 1 {
            return Finish::Turned;
        }
        if !matches!(p.c.dtype, DType::F32 | DType::I32) {
            return Finish::Copy;
        }
        let rows = |i: super::Matrix| i.strides[1] == 1 && i.strides[0] >= 0;
        let plain = p.beta == 0.0 || (p.beta == 1.0 && p.input.is_none_or(rows));
        if p.alpha == 1.0 && plain {
            Finish::InPlace
        } else {
            Finish::Update
        }
    }
}

/// Adds sums of a row to others of it (f32, or i32 where the result is).
///
/// # Safety
/// Both are valid memory for all columns, and apart; the processor has `isa`.
pub unsafe fn add(p: &Product, isa: Isa, to: *mut u8, from: *const u8) {
    #[inline(always)]
    unsafe fn run(p: &Product, to: *mut u8, from: *const u8) {
        // SAFETY: by contract.
        let (to, from) = unsafe {
            let to = std::slice::from_raw_parts_mut(to.cast::<u32>(), p.n);
            (to, std::slice::from_raw_parts(from.cast::<u32>(), p.n))
        };
        if p.c.dtype == DType::I32 {
            to.iter_mut()
                .zip(from)
                .for_each(|(x, &y)| *x = x.wrapping_add(y));
        } else {
            let sum = |x: u32, y: u32| (f32::from_bits(x) + f32::from_bits(y)).to_bits();
            to.iter_mut().zip(from).for_each(|(x, &y)| *x = sum(*x, y));
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn wide(p: &Product, to: *mut u8, from: *const u8) {
        // SAFETY: by contract.
        unsafe { run(p, to, from) }
    }
    // SAFETY: by contract.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if isa >= Isa::Avx512 {
            return wide(p, to, from);
        }
        run(p, to, from);
    }
}

/// `C[rows, cols] = alpha * sums + beta * input`. `sums` points at those of `rows.start, cols.start`, rows
/// `stride` bytes apart, and may be C itself.
///
/// # Safety
/// The memory of the product and the sums is valid; the processor has `isa`.
pub unsafe fn finish(
    p: &Product,
    isa: Isa,
    rows: Range<usize>,
    cols: Range<usize>,
    sums: *const u8,
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512Bf16 && super::bf16::applies(p) {
        // SAFETY: by contract.
        return unsafe { super::bf16::finish(p, rows, cols, sums, stride) };
    }
    for (n, i) in rows.enumerate() {
        for j in cols.clone().step_by(CHUNK) {
            let len = CHUNK.min(cols.end - j);
            let from = sums.wrapping_add(n * stride + 4 * (j - cols.start));
            // SAFETY: by contract.
            unsafe {
                if p.c.dtype == DType::I32 {
                    integers(p, i, j, from.cast(), len);
                } else {
                    floats(p, isa, i, j, from.cast(), len);
                }
            }
        }
    }
}

unsafe fn floats(p: &Product, isa: Isa, i: usize, j: usize, from: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512(p: &Product, isa: Isa, at: [usize; 2], from: *const f32, len: usize) {
            // SAFETY: by contract.
            unsafe { chunk(p, isa, at, from, len) }
        }
        if isa >= Isa::Avx512 {
            // SAFETY: by contract.
            return unsafe { avx512(p, isa, [i, j], from, len) };
        }
    }
    // SAFETY: by contract.
    unsafe { chunk(p, isa, [i, j], from, len) }
}

#[inline(always)]
unsafe fn chunk(p: &Product, isa: Isa, [i, j]: [usize; 2], from: *const f32, len: usize) {
    let c = p.c.at(i, j).cast_mut();
    if p.c.dtype == DType::F32 && p.alpha == 1.0 && (p.c.strides[1] == 1 || p.n == 1) {
        let rows = p
            .input
            .filter(|m| m.dtype == DType::F32 && m.strides[1] == 1);
        if let Some(input) = rows.filter(|_| p.beta != 0.0) {
            let (added, c) = (input.at(i, j).cast::<f32>(), c.cast::<f32>());
            for n in 0..len {
                // SAFETY: by contract.
                unsafe {
                    let x = from.add(n).read_unaligned();
                    let y = added.add(n).read_unaligned();
                    c.add(n).write_unaligned(x + p.beta * y);
                }
            }
            return;
        }
    }
    let (mut sum, mut added) = ([0.0f32; CHUNK], [0.0f32; CHUNK]);
    let row = |m: &super::Matrix, to: *mut f32| Row {
        from: m.at(i, j),
        dtype: m.dtype,
        stride: m.strides[1],
        len,
        to: to.cast(),
        into: DType::F32,
    };
    // SAFETY: by contract.
    unsafe { std::ptr::copy_nonoverlapping(from, sum.as_mut_ptr(), len) };
    if p.alpha != 1.0 {
        sum.iter_mut().for_each(|x| *x *= p.alpha);
    }
    if let Some(input) = p.input.filter(|_| p.beta != 0.0) {
        // SAFETY: by contract.
        unsafe { convert(isa, &row(&input, added.as_mut_ptr())) };
        for (x, y) in sum.iter_mut().zip(&added) {
            *x += p.beta * y;
        }
    }
    let result = Row {
        from: sum.as_ptr().cast(),
        dtype: DType::F32,
        stride: 1,
        len,
        to: c,
        into: p.c.dtype,
    };
    // SAFETY: by contract.
    unsafe { convert(isa, &result) };
}

unsafe fn integers(p: &Product, i: usize, j: usize, from: *const i32, len: usize) {
    for n in 0..len {
        let input = p.input.filter(|_| p.beta != 0.0);
        let added = input.map_or(std::ptr::null(), |m| m.at(i, j + n).cast::<i32>());
        // SAFETY: by contract.
        unsafe {
            let added = if added.is_null() { 0 } else { added.read() };
            let c = p.c.at(i, j + n).cast_mut().cast::<i32>();
            c.write(from.add(n).read().wrapping_add(added));
        }
    }
}
