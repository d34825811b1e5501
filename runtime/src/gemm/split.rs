//! f32 as sums of bf16 ([`Math::Bf16x3`](super::Math), [`Math::Bf16x2`](super::Math)): the parts of rows.
//!
//! A number's first part is the number rounded to bf16, the second one what is left, rounded, and so on: three hold all of its 24
//! bits, as long as the last part is not below the least normal number, which the processor's products take for 0. So a row
//! takes part whose largest number is neither so small that this would count, nor so large that products overflow where f32's
//! do not; infinities and NaN would make NaN of their products with parts that are 0.

use super::convert::{Row, convert, round_to_bf16};
use super::parallel::Parallel;
use super::scratch;
use super::shape::Matrix;
use crate::cpu::Isa;
use crate::{DType, Error, pool};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

const LINE: usize = 64;
/// Rows that are worth a task of their own.
const ROWS_PER_TASK: usize = 8;

/// Magnitudes of a row's largest number, as bits: from 2^-50 to below 2^60.
const FITS: Range<u32> = 77 << 23..187 << 23;

/// Whether a row with this largest magnitude (bits) can be split.
fn fits(largest: u32) -> bool {
    largest == 0 || FITS.contains(&largest)
}

/// Where a row's elements go: `parts` runs of bf16, `stride` bytes apart.
#[derive(Clone, Copy)]
pub struct Runs {
    pub to: *mut u8,
    pub stride: usize,
    pub parts: usize,
}

/// Splits a row of f32. Whether it can be.
///
/// # Safety
/// The row's elements and the runs are valid memory; the processor has `isa`.
pub unsafe fn split(isa: Isa, from: *const u8, stride: isize, len: usize, runs: Runs) -> bool {
    if stride == 1 || len <= 1 {
        // SAFETY: by contract.
        return fits(unsafe { neighbours(isa, from.cast(), len, runs) });
    }
    scratch::with([4 * len], |[copy]| {
        let row = Row {
            from,
            dtype: DType::F32,
            stride,
            len,
            to: copy,
            into: DType::F32,
        };
        // SAFETY: by contract; the copy holds the row.
        fits(unsafe {
            convert(isa, &row);
            neighbours(isa, copy.cast(), len, runs)
        })
    })
}

/// The largest magnitude, as bits.
unsafe fn neighbours(isa: Isa, from: *const f32, len: usize, runs: Runs) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512Bf16 {
        // SAFETY: by contract.
        return unsafe { super::bf16::split(from, len, runs) };
    }
    let _ = isa;
    let mut largest = 0;
    for i in 0..len {
        // SAFETY: by contract.
        unsafe {
            let mut rest = from.add(i).read_unaligned();
            largest = largest.max(rest.abs().to_bits());
            for part in 0..runs.parts {
                let bits = round_to_bf16(rest);
                let to = runs.to.add(part * runs.stride).cast::<u16>().add(i);
                to.write_unaligned(bits);
                rest -= f32::from_bits(u32::from(bits) << 16);
            }
        }
    }
    largest
}

/// The rows of a matrix, split: each has its first parts, then its second ones, from cache line to cache line.
pub struct Split {
    data: *mut u8,
    bytes: usize,
    /// Bytes of a row.
    stride: usize,
}

// SAFETY: the block is ours, and nobody writes it after `new`.
unsafe impl Sync for Split {}

impl Drop for Split {
    fn drop(&mut self) {
        pool::give(self.data, self.bytes);
    }
}

impl Split {
    /// Splits `[m, k]`, a multiple of 32 columns; none if a row can't be. It is an error if there is no memory.
    ///
    /// # Safety
    /// The matrix is valid memory of f32, and the processor has `isa`.
    pub unsafe fn new(
        a: &Matrix,
        [m, k]: [usize; 2],
        parts: usize,
        isa: Isa,
        threads: &dyn Parallel,
    ) -> Result<Option<Split>, Error> {
        // An odd number of cache lines spreads rows and parts over all sets.
        let part = ((2 * k).div_ceil(LINE) | 1) * LINE;
        let stride = part * parts;
        let (data, bytes) = pool::take((m * stride).max(pool::SMALLEST))
            .ok_or_else(|| Error::Plan("no memory for the parts of a matrix".into()))?;
        let split = Split {
            data,
            bytes,
            stride,
        };
        let tasks = m.div_ceil(ROWS_PER_TASK).min(threads.threads()).max(1);
        let all_fit = AtomicBool::new(true);
        let task = |n: usize| {
            let split = &split;
            for i in super::part(m, tasks, n) {
                let runs = Runs {
                    to: split.data.wrapping_add(i * stride),
                    stride: part,
                    parts,
                };
                // SAFETY: by contract; each task has rows of its own.
                if !unsafe { self::split(isa, a.at(i, 0), a.strides[1], k, runs) } {
                    all_fit.store(false, Ordering::Relaxed);
                }
            }
        };
        threads.run(tasks, &task)?;
        Ok(all_fit.into_inner().then_some(split))
    }

    /// What the kernels read.
    pub fn matrix(&self) -> Matrix {
        Matrix {
            data: self.data,
            dtype: DType::BF16,
            strides: [(self.stride / 2) as isize, 1],
        }
    }
}
