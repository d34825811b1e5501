//! exp, exp2, expm1 and sigmoid.
//!
//! All reduce to `2^k · e^r` with `|r| <= ln 2 / 2` (Cody and Waite) and evaluate
//! `e^r - 1 = r + r² P(r)`. Adding and subtracting 1.5·2²³ rounds to an integer and leaves it in
//! the low bits, which saves the conversions.

use super::emit::Emit;
use crate::kernel::{BinaryOp, CmpOp};

/// `P`; the relative error of `r + r² P(r)` is below 2^-31.1 (`fit.py`).
const EXPM1: [f32; 6] = [
    0.5,
    0.16666666,
    0.041666493,
    0.008333548,
    0.0013932309,
    0.00019760191,
];
const MAGIC: f32 = 12_582_912.0;
/// ln 2 to 48 bits.
const LN2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_2e-9];

/// `e^x = 2^k · (1 + m)`.
struct Reduced<E: Emit> {
    /// e^r - 1
    m: E::F,
    /// k
    k: E::I,
}

/// `e^r - 1`
fn small<E: Emit>(e: &mut E, r: E::F) -> E::F {
    let p = e.poly(&EXPM1, r);
    let r2 = e.mul(r, r);
    e.fma(r2, p, r)
}

/// `x/ln 2` rounded, as a float and as an integer; `x·scale` must stay below 2^22.
fn round<E: Emit>(e: &mut E, x: E::F, scale: f32) -> (E::F, E::I) {
    let magic = e.f(MAGIC);
    let t = e.fmac(x, scale, magic);
    let k = e.sub(t, magic);
    let bits = e.bits(t);
    let ki = e.ic(BinaryOp::Sub, bits, MAGIC.to_bits().cast_signed());
    (k, ki)
}

fn reduce<E: Emit>(e: &mut E, x: E::F) -> Reduced<E> {
    let (kf, k) = round(e, x, std::f32::consts::LOG2_E);
    let r = e.fmac(kf, -LN2[0], x);
    let r = e.fmac(kf, -LN2[1], r);
    let m = small(e, r);
    Reduced { m, k }
}

/// `2^k` for `-127 < k < 128`.
fn power<E: Emit>(e: &mut E, k: E::I) -> E::F {
    let biased = e.ic(BinaryOp::Add, k, 127);
    let bits = e.ic(BinaryOp::Shl, biased, 23);
    e.as_float(bits)
}

/// Two factors whose product is `2^k`, for `|k| < 250`.
fn powers<E: Emit>(e: &mut E, k: E::I) -> [E::F; 2] {
    let half = e.ic(BinaryOp::Shr, k, 1);
    let other = e.ibinary(BinaryOp::Sub, k, half);
    [power(e, half), power(e, other)]
}

fn scaled<E: Emit>(e: &mut E, x: E::F, by: [E::F; 2]) -> E::F {
    let x = e.mul(x, by[0]);
    e.mul(x, by[1])
}

/// `1 + m` as the rounded sum and what rounding lost.
fn split<E: Emit>(e: &mut E, m: E::F) -> (E::F, E::F) {
    let high = e.addc(m, 1.0);
    let kept = e.addc(high, -1.0);
    (high, e.sub(m, kept))
}

/// e^x.
pub fn exp<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let x = e.at_most(x, 89.0);
    let x = e.at_least(x, -104.5);
    let Reduced { m, k } = reduce(e, x);
    let y = e.addc(m, 1.0);
    let by = powers(e, k);
    scaled(e, y, by)
}

/// e^x for `-80 < x < 80`, where one factor scales.
pub(super) fn exp_mid<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let Reduced { m, k } = reduce(e, x);
    let by = power(e, k);
    e.fma(m, by, by)
}

/// `e^(x + low)` for any `x` and a `low` so small that its square does not count; `low` is
/// ignored where `x` is out of range.
pub(super) fn exp_pair<E: Emit>(e: &mut E, x: E::F, low: E::F) -> E::F {
    let size = e.abs(x);
    let inside = e.fcmpc(CmpOp::Lt, size, 105.0);
    let zero = e.f(0.0);
    let low = e.fsel(inside, low, zero);
    let x = e.at_most(x, 90.0);
    let x = e.at_least(x, -105.0);
    let Reduced { m, k } = reduce(e, x);
    let (high, lost) = split(e, m);
    let rest = e.fma(high, low, lost);
    let y = e.add(high, rest);
    let by = powers(e, k);
    scaled(e, y, by)
}

/// 2^x.
pub fn exp2<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let x = e.at_most(x, 129.0);
    let x = e.at_least(x, -151.0);
    let (kf, k) = round(e, x, 1.0);
    let r = e.sub(x, kf);
    let r = e.mulc(r, std::f32::consts::LN_2);
    let m = small(e, r);
    let y = e.addc(m, 1.0);
    let by = powers(e, k);
    scaled(e, y, by)
}

/// e^x - 1.
pub fn expm1<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let c = e.at_most(x, 89.0);
    let c = e.at_least(c, -18.0);
    let Reduced { m, k } = reduce(e, c);
    // Half of the result, so that 2^128 does not occur.
    let k = e.ic(BinaryOp::Sub, k, 1);
    let by = power(e, k);
    let less = e.addc(by, -0.5);
    let y = e.fma(m, by, less);
    let y = e.add(y, y);
    // Keeps denormals and -0.
    let size = e.abs(x);
    let tiny = e.fcmpc(CmpOp::Lt, size, 1e-8);
    e.fsel(tiny, x, y)
}

/// `1 / (1 + e^-x)`, as `z/(1 + z)` or `1/(1 + z)` with `z = e^-|x|`, which does not overflow.
pub fn sigmoid<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let size = e.abs(x);
    let down = e.neg(size);
    let down = e.at_least(down, -104.5);
    let Reduced { m, k } = reduce(e, down);
    let [by, rest] = powers(e, k);
    let z = e.fma(m, by, by);
    let z = e.mul(z, rest);
    let d = e.addc(z, 1.0);
    let below = e.fcmpc(CmpOp::Lt, x, 0.0);
    let one = e.f(1.0);
    let n = e.fsel(below, z, one);
    let q = e.div(n, d);
    // What rounding d added, by the derivative -q/d; 1/d is 1 - q below 0, where that counts.
    let kept = e.addc(d, -1.0);
    let added = e.sub(kept, z);
    let rest = e.mul(q, added);
    let inverse = e.sub(one, q);
    e.fma(rest, inverse, q)
}
