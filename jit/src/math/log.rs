//! log, log2, log10 and log1p.
//!
//! The argument is `2^k · (1 + f)` with `1 + f` in `[2/3, 4/3)`, and
//! `c·log(1 + f) = c·f + f² P(f)` with a polynomial for each base.

use super::emit::Emit;
use crate::kernel::{BinaryOp, CmpOp};

/// Relative error of `f + f² P(f)` below 2^-27.6 (`fit.py`).
const LN: [f32; 9] = [
    -0.5,
    0.33333215,
    -0.24999805,
    0.20010436,
    -0.16680221,
    0.14005543,
    -0.12187453,
    0.13985594,
    -0.12879293,
];
/// Relative error below 2^-27.6 (`fit.py`).
const LOG2: [f32; 9] = [
    -0.7213475,
    0.4808967,
    -0.36067152,
    0.2886865,
    -0.24063246,
    0.20209832,
    -0.17593874,
    0.20159517,
    -0.18544655,
];
/// Relative error below 2^-27.7 (`fit.py`).
const LOG10: [f32; 9] = [
    -0.21714725,
    0.14476429,
    -0.10857241,
    0.086905375,
    -0.07244995,
    0.060808953,
    -0.052845128,
    0.060810406,
    -0.056223035,
];
const LOG2_E: [f32; 2] = [std::f32::consts::LOG2_E, 1.925_963e-8];
const LOG10_E: [f32; 2] = [std::f32::consts::LOG10_E, -1.010_305e-8];
/// ln 2, the high part with 16 bits so that its product with an exponent is exact.
pub(super) const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
/// log10 2, split likewise.
const LOG10_2: [f32; 2] = [0.301_033_02, -3.024_355_5e-6];
const TWO_THIRDS: f32 = 2.0 / 3.0;
pub(super) const EXPONENT: i32 = 0xff80_0000_u32.cast_signed();

/// `x = 2^k · m` with `m` in `[2/3, 4/3)`, for positive finite `x`; `k` as a float.
pub(super) fn decompose<E: Emit>(e: &mut E, x: E::F) -> (E::F, E::F) {
    let denormal = e.fcmpc(CmpOp::Lt, x, f32::MIN_POSITIVE);
    let up = e.mulc(x, 8_388_608.0);
    let x = e.fsel(denormal, up, x);
    let (less, zero) = (e.f(-23.0), e.f(0.0));
    let bias = e.fsel(denormal, less, zero);
    let bits = e.bits(x);
    let shift = exponent(e, bits);
    let m = e.ibinary(BinaryOp::Sub, bits, shift);
    let m = e.as_float(m);
    let k = e.to_float(shift);
    let k = e.fmac(k, 1.0 / 8_388_608.0, bias);
    (m, k)
}

/// The exponent field that takes a number's bits into `[2/3, 4/3)` when subtracted.
fn exponent<E: Emit>(e: &mut E, bits: E::I) -> E::I {
    let over = e.ic(BinaryOp::Sub, bits, TWO_THIRDS.to_bits().cast_signed());
    e.ic(BinaryOp::And, over, EXPONENT)
}

/// The values outside `(at, inf)`: -inf at `at`, NaN below and for NaN, inf at inf.
fn edges<E: Emit>(e: &mut E, x: E::F, at: f32, y: E::F) -> E::F {
    let (inf, down, nan) = (e.f(f32::INFINITY), e.f(f32::NEG_INFINITY), e.f(f32::NAN));
    let is_inf = e.fcmp(CmpOp::Eq, x, inf);
    let y = e.fsel(is_inf, inf, y);
    let is_at = e.fcmpc(CmpOp::Eq, x, at);
    let outside = e.fsel(is_at, down, nan);
    let above = e.fcmpc(CmpOp::Gt, x, at);
    e.fsel(above, y, outside)
}

/// `f + f² P(f)`
fn ln_small<E: Emit>(e: &mut E, f: E::F) -> E::F {
    let p = e.poly(&LN, f);
    let f2 = e.mul(f, f);
    e.fma(f2, p, f)
}

/// `k·c + y` with `c` in two parts.
fn plus<E: Emit>(e: &mut E, k: E::F, c: [f32; 2], y: E::F) -> E::F {
    let y = e.fmac(k, c[1], y);
    e.fmac(k, c[0], y)
}

/// Natural logarithm.
pub fn log<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let (m, k) = decompose(e, x);
    let f = e.addc(m, -1.0);
    let y = ln_small(e, f);
    let y = plus(e, k, LN_2, y);
    edges(e, x, 0.0, y)
}

/// `c·f + f² P(f)` with `c` in two parts.
fn based<E: Emit>(e: &mut E, m: E::F, p: &[f32], c: [f32; 2]) -> E::F {
    let f = e.addc(m, -1.0);
    let p = e.poly(p, f);
    let f2 = e.mul(f, f);
    let low = e.mulc(f, c[1]);
    let low = e.fma(f2, p, low);
    e.fmac(f, c[0], low)
}

/// Logarithm to base 2.
pub fn log2<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let (m, k) = decompose(e, x);
    let y = based(e, m, &LOG2, LOG2_E);
    let y = e.add(k, y);
    edges(e, x, 0.0, y)
}

/// Logarithm to base 10.
pub fn log10<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let (m, k) = decompose(e, x);
    let y = based(e, m, &LOG10, LOG10_E);
    let y = plus(e, k, LOG10_2, y);
    edges(e, x, 0.0, y)
}

/// `log(1 + x)`: the exponent comes from the rounded sum, the fraction from `x` and `2^-k`
/// scaled apart, so that nothing of `x` is lost.
pub fn log1p<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let sum = e.addc(x, 1.0);
    let bits = e.bits(sum);
    let shift = exponent(e, bits);
    let xb = e.bits(x);
    let scaled = e.ibinary(BinaryOp::Sub, xb, shift);
    let scaled = e.as_float(scaled);
    // 4 · 2^-k, so that k = 128 stays normal.
    let four = e.i(4.0f32.to_bits().cast_signed());
    let down = e.ibinary(BinaryOp::Sub, four, shift);
    let down = e.as_float(down);
    let minus = e.f(-1.0);
    let rest = e.fmac(down, 0.25, minus);
    let f = e.add(scaled, rest);
    let y = ln_small(e, f);
    let k = e.to_float(shift);
    let k = e.mulc(k, 1.0 / 8_388_608.0);
    let y = plus(e, k, LN_2, y);
    let y = edges(e, x, -1.0, y);
    // Keeps denormals and -0.
    let size = e.abs(x);
    let tiny = e.fcmpc(CmpOp::Lt, size, 1e-8);
    e.fsel(tiny, x, y)
}
