//! Elements of rows into those that the tiles multiply, and sums into those of the result.

use super::micro::Math;
use crate::cpu::Isa;
use crate::dtype::DType;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// The element type that arithmetic reads.
pub fn element(math: Math, source: DType) -> DType {
    match math {
        Math::F32 => DType::F32,
        Math::Bf16 | Math::Bf16x2 | Math::Bf16x3 => DType::BF16,
        Math::F16 => DType::F16,
        Math::I16 => DType::I16,
        Math::I8 | Math::S8 => source,
    }
}

/// Neighbouring or strided elements, and where they go.
#[derive(Clone, Copy)]
pub struct Row {
    /// The first element.
    pub from: *const u8,
    /// Its type.
    pub dtype: DType,
    /// Elements from one to the next.
    pub stride: isize,
    /// Number of elements.
    pub len: usize,
    /// Receives them as neighbours.
    pub to: *mut u8,
    /// Their new type.
    pub into: DType,
}

/// Copies a row, converting its elements. Both types are of the same kind, or bytes become i16, f32 or bf16, all exactly.
///
/// # Safety
/// The processor has `isa`; the row's memory is valid and its two ends do not overlap.
pub unsafe fn convert(isa: Isa, row: &Row) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512(row: &Row) {
            // SAFETY: by contract.
            unsafe { convert_row(row) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(row: &Row) {
            // SAFETY: by contract.
            unsafe { convert_row(row) }
        }
        let rounds = row.dtype == DType::F32 && row.into == DType::BF16 && row.stride == 1;
        if rounds && isa >= Isa::Avx512Bf16 {
            // SAFETY: by contract.
            return unsafe { super::bf16::round(row.from.cast(), row.to.cast(), row.len) };
        }
        if isa >= Isa::Avx512 {
            // SAFETY: by contract.
            return unsafe { avx512(row) };
        }
        if isa == Isa::Avx2 {
            // SAFETY: by contract.
            return unsafe { avx2(row) };
        }
    }
    let _ = isa;
    // SAFETY: by contract.
    unsafe { convert_row(row) }
}

/// One row of a panel, `N` units wide, from the `per_unit` rows of its elements, `stride` bytes apart.
/// Fetches what follows in the rows, which is the next panel's.
///
/// # Safety
/// The processor has `isa`; the rows' memory and the panel's are valid.
pub unsafe fn interleave<const N: usize>(
    isa: Isa,
    per_unit: usize,
    from: *const u8,
    stride: isize,
    to: *mut u8,
) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512<const N: usize>(n: usize, from: *const u8, stride: isize, to: *mut u8) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            let bytes = 4 * N / n;
            for p in 0..n {
                let next = from
                    .wrapping_offset(p as isize * stride)
                    .wrapping_add(bytes);
                for line in (0..bytes).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(line).cast());
                }
            }
            // SAFETY: by contract.
            unsafe { interleave_rows::<N>(n, from, stride, to) }
        }
        if isa >= Isa::Avx512 {
            // SAFETY: by contract.
            return unsafe { avx512::<N>(per_unit, from, stride, to) };
        }
    }
    let _ = isa;
    // SAFETY: by contract.
    unsafe { interleave_rows::<N>(per_unit, from, stride, to) }
}

#[inline(always)]
unsafe fn interleave_rows<const N: usize>(
    per_unit: usize,
    from: *const u8,
    stride: isize,
    to: *mut u8,
) {
    let row = |p: isize| from.wrapping_offset(p * stride);
    let to = to.cast::<[u32; N]>();
    // SAFETY: by contract.
    unsafe {
        match per_unit {
            1 => to.write_unaligned(row(0).cast::<[u32; N]>().read_unaligned()),
            2 => {
                let rows = [0, 1].map(|p| row(p).cast::<[u16; N]>().read_unaligned());
                let unit = |j| u32::from(rows[0][j]) | u32::from(rows[1][j]) << 16;
                to.write_unaligned(std::array::from_fn(unit));
            }
            _ => {
                let rows = [0, 1, 2, 3].map(|p| row(p).cast::<[u8; N]>().read_unaligned());
                let unit = |j| u32::from_le_bytes([0, 1, 2, 3].map(|p: usize| rows[p][j]));
                to.write_unaligned(std::array::from_fn(unit));
            }
        }
    }
}

/// Applies `f` to each element.
#[inline(always)]
unsafe fn map<S: Copy, D>(row: &Row, f: impl Fn(S) -> D) {
    let (from, to) = (row.from.cast::<S>(), row.to.cast::<D>());
    if row.stride == 1 {
        for i in 0..row.len {
            // SAFETY: by contract.
            unsafe { to.add(i).write_unaligned(f(from.add(i).read_unaligned())) };
        }
    } else {
        for i in 0..row.len {
            // SAFETY: by contract.
            unsafe {
                let x = from.offset(i as isize * row.stride).read_unaligned();
                to.add(i).write_unaligned(f(x));
            }
        }
    }
}

#[inline(always)]
unsafe fn convert_row(row: &Row) {
    use DType::{BF16, F16, F32, I8, I16, I32, U8};
    // SAFETY: by contract.
    unsafe {
        match (row.dtype, row.into) {
            (F16, F32) if row.stride == 1 => {
                let from = std::slice::from_raw_parts(row.from.cast::<f16>(), row.len);
                let to = std::slice::from_raw_parts_mut(row.to.cast::<f32>(), row.len);
                from.convert_to_f32_slice(to);
            }
            (F16, F32) => map(row, |x: f16| x.to_f32()),
            (F32, F16) => {
                let from = std::slice::from_raw_parts(row.from.cast::<f32>(), row.len);
                let to = std::slice::from_raw_parts_mut(row.to.cast::<f16>(), row.len);
                to.convert_from_f32_slice(from);
            }
            (BF16, F32) => map(row, |x: u16| u32::from(x) << 16),
            (F32, BF16) => map(row, round_to_bf16),
            (U8, I16) => map(row, |x: u8| i16::from(x)),
            (I8, I16) => map(row, |x: i8| i16::from(x)),
            (U8, F32) => map(row, |x: u8| f32::from(x)),
            (I8, F32) => map(row, |x: i8| f32::from(x)),
            (U8, BF16) => map(row, |x: u8| (f32::from(x).to_bits() >> 16) as u16),
            (I8, BF16) => map(row, |x: i8| (f32::from(x).to_bits() >> 16) as u16),
            (F32 | I32, F32 | I32) => map(row, |x: u32| x),
            (BF16, BF16) | (F16, F16) => map(row, |x: u16| x),
            (U8, U8) | (I8, I8) => map(row, |x: u8| x),
            (from, to) => debug_assert!(false, "{from} to {to}"),
        }
    }
}

/// To the nearest, ties to even; a NaN stays one.
#[inline(always)]
pub fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}
