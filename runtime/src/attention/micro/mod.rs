//! What is not a matrix product: scores into weights, and sums of few rows. One file for each instruction
//! set, with the same names.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use crate::DType;
use crate::cpu::Isa;

/// What a mask has for one row.
#[derive(Clone, Copy, Debug)]
pub enum RowMask {
    /// Nothing.
    None,
    /// Floats that are added.
    Add(*const f32),
    /// Bools: true adds 0, false -inf.
    Bool(*const u8),
    /// Bools: where one is false, the number stands for the score.
    Keep(*const u8, f32),
}

/// One row of a block of scores, which become weights in place.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// The first score.
    pub data: *mut f32,
    /// Scores.
    pub len: usize,
    /// Weights to write: those from `len` on are 0.
    pub fill: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// The mask of these `len` keys.
    pub mask: RowMask,
    /// The greatest score of the blocks before; -inf for none.
    pub max: f32,
    /// Whether weights are written as bf16, from the row's first byte on.
    pub narrow: bool,
}

impl Scores {
    /// No row.
    pub const NONE: Scores = Scores {
        data: std::ptr::null_mut(),
        len: 0,
        fill: 0,
        scale: 1.0,
        mask: RowMask::None,
        max: f32::NEG_INFINITY,
        narrow: false,
    };
}

/// What a row has summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    /// The greatest score, scaled and masked. One that is NaN may count or not: `sum` then is NaN.
    pub max: f32,
    /// Of the exponentials of the scores minus `max`.
    pub sum: f32,
}

impl Sums {
    /// Of no scores.
    pub const NONE: Sums = Sums {
        max: f32::NEG_INFINITY,
        sum: 0.0,
    };

    /// What the exponentials are taken relative to.
    pub fn base(max: f32) -> f32 {
        // -inf - -inf would be NaN where all scores are masked.
        if max == f32::NEG_INFINITY { 0.0 } else { max }
    }

    /// Factor for sums relative to `self.max` that become relative to `max`.
    pub fn rescale(&self, max: f32) -> f32 {
        if self.max == max {
            1.0
        } else {
            (self.max - Sums::base(max)).exp()
        }
    }
}

/// `out[r] += sum over keys of weights[r][key] * v[key]`. Strides in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Weigh {
    /// The first row's weights, f32.
    pub weights: *const f32,
    /// Between rows of weights.
    pub weights_stride: usize,
    /// The first key's value.
    pub v: *const u8,
    /// Between keys.
    pub v_stride: isize,
    /// Keys.
    pub keys: usize,
    /// The first row's sums, f32.
    pub out: *mut f32,
    /// Between rows of sums.
    pub out_stride: usize,
    /// Columns.
    pub width: usize,
}

impl Weigh {
    /// The same for columns from `column` on.
    fn from(&self, column: usize, size: usize) -> Weigh {
        Weigh {
            v: self.v.wrapping_add(column * size),
            out: self.out.wrapping_add(column),
            width: self.width - column,
            ..*self
        }
    }
}

/// The kernels of one instruction set.
pub struct Kernels {
    /// Scores of some rows into weights `exp(score - max)`, in error by less than 2 units in the last place for the
    /// argument as rounded; those below the least normal number are 0. Returns a row's sums for each.
    ///
    /// # Safety
    /// The processor has the instruction set, and the memory is valid. `fill` weights fit, and there are as many sums as rows.
    pub softmax: unsafe fn(&[Scores], &mut [Sums]),
    /// `to[i] = factor * from[i]` for so many numbers; both may be the same.
    ///
    /// # Safety
    /// As above.
    pub scale: unsafe fn(to: *mut f32, from: *const f32, len: usize, factor: f32),
    /// `to[i] = factor * from[i]` rounded to bf16; none where the processor has no instruction for that.
    ///
    /// # Safety
    /// As above.
    pub narrow: Option<unsafe fn(to: *mut u16, from: *const f32, len: usize, factor: f32)>,
    /// Two rows of so many bf16 side by side, as units of their columns; without a second row, zeros.
    ///
    /// # Safety
    /// As above.
    pub pairs: unsafe fn(to: *mut u32, rows: [*const u16; 2], len: usize),
    /// Of so many rows, at most [`ROWS`], for values of f32.
    ///
    /// # Safety
    /// As above.
    pub weigh_f32: unsafe fn(usize, &Weigh),
    /// For values of bf16.
    ///
    /// # Safety
    /// As above.
    pub weigh_bf16: unsafe fn(usize, &Weigh),
}

/// See [`Kernels::pairs`]; inlined into a function for each instruction set.
#[inline(always)]
unsafe fn pairs_loop(to: *mut u32, [p, q]: [*const u16; 2], len: usize) {
    for j in 0..len {
        // SAFETY: by contract.
        unsafe {
            let second = if q.is_null() { 0 } else { q.add(j).read() };
            let first = p.add(j).read();
            to.add(j).write(u32::from(first) | u32::from(second) << 16);
        }
    }
}

/// Rows that `weigh` takes at most.
pub const ROWS: usize = 8;

/// The fastest kernels.
pub fn kernels(isa: Isa) -> &'static Kernels {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Scalar => {}
        Isa::Avx2 => return &avx2::KERNELS,
        Isa::Avx512 | Isa::Avx512Vnni => return &avx512::KERNELS,
        _ => return &avx512::KERNELS_BF16,
    }
    let _ = isa;
    &scalar::KERNELS
}

impl Kernels {
    /// [`Weigh`] for values of this type, if there is one.
    pub fn weigh(&self, dtype: DType) -> Option<unsafe fn(usize, &Weigh)> {
        match dtype {
            DType::F32 => Some(self.weigh_f32),
            DType::BF16 => Some(self.weigh_bf16),
            _ => None,
        }
    }
}

/// `e^r - 1 = r + r^2 P(r)` for `|r| <= ln 2 / 2`, in error by less than 2^-31.
const EXPM1: [f32; 6] = [
    0.5,
    0.166_666_66,
    0.041_666_493,
    0.008_333_548,
    0.001_393_230_9,
    0.000_197_601_91,
];
/// ln 2 to 48 bits.
const LN2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_2e-9];
/// Below it, e^x is not normal.
const LEAST: f32 = -87.336_54;

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of scores as they are.
    fn unmasked(x: &mut [f32]) -> Scores {
        Scores {
            data: x.as_mut_ptr(),
            len: x.len(),
            fill: x.len(),
            scale: 1.0,
            mask: RowMask::None,
            max: 0.0,
            narrow: false,
        }
    }

    /// Units in the last place between the exponentials of all floats in steps and those of f64.
    #[test]
    fn exponentials_are_within_two_units() {
        for isa in Isa::available() {
            let mut worst: f64 = 0.0;
            let mut bits = 0u32;
            while f32::from_bits(bits) < 87.3 {
                let mut x: Vec<f32> = (0..40).map(|n| -f32::from_bits(bits + 977 * n)).collect();
                let arguments = x.clone();
                let scores = unmasked(&mut x);
                // SAFETY: a row of 40.
                unsafe { (kernels(isa).softmax)(&[scores], &mut [Sums::NONE]) };
                for (x, e) in arguments.iter().zip(&x) {
                    let want = f64::from(*x).exp();
                    let unit = f64::from((want as f32).next_up()) - f64::from(want as f32);
                    if want > 1.2e-38 {
                        worst = worst.max((f64::from(*e) - want).abs() / unit);
                    }
                }
                bits += 977 * 40;
            }
            assert!(worst < 2.0, "{isa:?}: {worst}");
        }
    }

    /// However far below the largest score.
    #[test]
    fn exponentials_below_the_least_normal_number_are_zero() {
        let far = [-87.4, -1e3, -3e5, -1e9, -3e38, f32::NEG_INFINITY];
        for isa in Isa::available() {
            let mut x: Vec<f32> = [0.0].iter().chain(&far).copied().cycle().take(35).collect();
            let scores = unmasked(&mut x);
            let mut sums = [Sums::NONE];
            // SAFETY: a row of 35.
            unsafe { (kernels(isa).softmax)(&[scores], &mut sums) };
            let ones = |n: usize| if n.is_multiple_of(7) { 1.0 } else { 0.0 };
            let want: Vec<f32> = (0..x.len()).map(ones).collect();
            assert_eq!((x, sums[0].sum), (want, 5.0), "{isa:?}");
        }
    }
}
