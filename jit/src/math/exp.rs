//! exp, exp2, expm1 and sigmoid.
//!
//! All reduce to `2^k · e^r` with `|r| <= ln 2 / 2` (Cody and Waite) and evaluate
//! `e^r - 1 = r + r² P(r)`. How `2^k` is multiplied is the emitter's ([`Emit::scale`]).

use super::emit::{Emit, SHIFT};
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
/// ln 2 to 48 bits.
pub(super) const LN2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_2e-9];

/// e^x rounds to 0.
pub(super) const NOTHING: f32 = -104.5;

/// `e^x = 2^k · (1 + m)`.
struct Reduced<E: Emit> {
    /// e^r - 1
    m: E::F,
    k: Power<E>,
}

/// A whole `k` as a float, and its sum with [`SHIFT`].
struct Power<E: Emit> {
    k: E::F,
    shifted: E::F,
}

impl<E: Emit> Power<E> {
    /// `x/ln 2` rounded; `x·scale` must stay below 2^22.
    fn round(e: &mut E, x: E::F, scale: f32) -> Power<E> {
        let shift = e.f(SHIFT);
        let shifted = e.fmac(x, scale, shift);
        let k = e.sub(shifted, shift);
        Power { k, shifted }
    }

    /// `y·2^k` for a `y` in 0.5..4, where `k` is that of an `x` of `least` at least ([`Emit::scale_above`]).
    fn scale(self, e: &mut E, y: E::F, x: E::F, least: f32) -> E::F {
        e.scale_above(y, (self.k, self.shifted), x, least)
    }

    /// Half of `2^k`, if that is a normal number.
    fn half(self, e: &mut E) -> E::F {
        let bits = e.bits(self.shifted);
        let k = e.ic(BinaryOp::Sub, bits, SHIFT.to_bits().cast_signed() + 1);
        e.power(k)
    }
}

/// `e^r - 1`
fn small<E: Emit>(e: &mut E, r: E::F) -> E::F {
    let p = second_order(e, r);
    e.fma(p.0, p.1, r)
}

/// `e^r - 1 + more`
fn small_and<E: Emit>(e: &mut E, r: E::F, more: E::F) -> E::F {
    let p = second_order(e, r);
    let r = e.add(r, more);
    e.fma(p.0, p.1, r)
}

/// `r²`, and `(e^r - 1 - r)/r²`.
fn second_order<E: Emit>(e: &mut E, r: E::F) -> (E::F, E::F) {
    let r2 = e.mul(r, r);
    // In pairs: a processor has only so many vectors in flight, so that a long chain is a slow one.
    let [low, mid, high] = [0, 2, 4].map(|n| e.poly(&EXPM1[n..n + 2], r));
    let p = e.fma(r2, high, mid);
    (r2, e.fma(r2, p, low))
}

fn reduce<E: Emit>(e: &mut E, x: E::F) -> Reduced<E> {
    let k = Power::round(e, x, std::f32::consts::LOG2_E);
    let r = e.fmac(k.k, -LN2[0], x);
    let r = e.fmac(k.k, -LN2[1], r);
    let m = small(e, r);
    Reduced { m, k }
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
    let x = e.at_least(x, NOTHING);
    let Reduced { m, k } = reduce(e, x);
    let y = e.addc(m, 1.0);
    k.scale(e, y, x, NOTHING)
}

/// e^x for `-80 < x < 80`, where one factor scales.
pub(super) fn exp_mid<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let Reduced { m, k } = reduce(e, x);
    e.scale_near(m, k.k, k.shifted)
}

/// `e^(x + low)` for any `x` and a `low` so small that its square does not count; `low` is
/// ignored where `x` is out of range.
pub(super) fn exp_pair<E: Emit>(e: &mut E, x: E::F, low: E::F) -> E::F {
    /// Also with `low` e^x rounds to 0.
    const LESS: f32 = -105.0;
    let size = e.abs(x);
    let inside = e.fcmpc(CmpOp::Lt, size, 105.0);
    let zero = e.f(0.0);
    let low = e.fsel(inside, low, zero);
    let x = e.at_most(x, 90.0);
    let x = e.at_least(x, LESS);
    let Reduced { m, k } = reduce(e, x);
    let (high, lost) = split(e, m);
    let rest = e.fma(high, low, lost);
    let y = e.add(high, rest);
    k.scale(e, y, x, LESS)
}

/// 2^x.
pub fn exp2<E: Emit>(e: &mut E, x: E::F) -> E::F {
    /// 2^x rounds to 0.
    const LEAST: f32 = -151.0;
    let x = e.at_most(x, 129.0);
    let x = e.at_least(x, LEAST);
    let k = Power::round(e, x, 1.0);
    let r = e.sub(x, k.k);
    let r = e.mulc(r, std::f32::consts::LN_2);
    let m = small(e, r);
    let y = e.addc(m, 1.0);
    k.scale(e, y, x, LEAST)
}

/// e^x - 1.
pub fn expm1<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let c = e.at_most(x, 89.0);
    let c = e.at_least(c, -18.0);
    let Reduced { m, k } = reduce(e, c);
    // Half of the result, so that 2^128 does not occur.
    let by = k.half(e);
    let less = e.addc(by, -0.5);
    let y = e.fma(m, by, less);
    let y = e.add(y, y);
    // Keeps denormals and -0.
    let size = e.abs(x);
    let tiny = e.fcmpc(CmpOp::Lt, size, 1e-8);
    e.fsel(tiny, x, y)
}

/// `1 / (1 + e^-x)`, which with `e^-x = 2^-k · (1 + m)` is `2^k / (2^k + 1 + m)`: neither overflows, nor do they lose
/// anything but to the sum's rounding and the quotient's.
pub fn sigmoid<E: Emit>(e: &mut E, x: E::F) -> E::F {
    // 1 from 17.4 on.
    let x = e.at_most(x, 40.0);
    let x = e.at_least(x, NOTHING);
    let minus = e.neg(x);
    let shift = e.f(SHIFT);
    let shifted = e.fmac(minus, std::f32::consts::LOG2_E, shift);
    let k = e.sub(shift, shifted);
    let r = e.fmac(k, LN2[0], minus);
    let r = e.fmac(k, LN2[1], r);
    let power = e.power_below_64(shifted);
    let sum = e.addc(power, 1.0);
    // A power below 2^-23 is lost, which with the next sum's rounding would be too much.
    let kept = e.addc(sum, -1.0);
    let lost = e.sub(power, kept);
    let m = small_and(e, r, lost);
    let d = e.add(sum, m);
    e.div(power, d)
}
