//! exp, exp2 and sigmoid by a table of sixteenths' powers of two, for generators that look 16 numbers up in a register.
//!
//! `e^x = 2^⌊k⌋ · T · e^d`, where `k` is the multiple of 1/16 next to `x/ln 2`, whose last four bits choose `T`. With
//! `|d| <= ln 2 / 32` three coefficients do, where [`super::exp`] takes six and a square.

use super::emit::Emit;
use super::exp::{LN2, NOTHING};
use super::pow_table::{EXP2, Q, SIXTEENTHS};
use super::tables::LookUp;
use std::f32::consts::LOG2_E;

/// `e^d = 1 + d P(d)` for `|d| <= ln 2 / 32` with an error below 2^-29.2 (`fit.py`).
pub const P: [f32; 3] = [1.0, 0.500_016_15, 0.166_667_18];
/// `2^(-i/16 mod 1) - 1`
#[rustfmt::skip]
const INVERSE_LESS_1: [f32; 16] = [0.0, 0.91520655, 0.8340081, 0.75625217, 0.68179286, 0.6104903, 0.5422108, 0.47682613, 0.41421357, 0.35425556, 0.29683957, 0.24185781, 0.18920712, 0.13878864, 0.09050773, 0.044273783];

/// A multiple of 1/16, and its sum with [`SIXTEENTHS`].
struct Power<E: Emit> {
    k: E::F,
    shifted: E::F,
}

impl<E: LookUp> Power<E> {
    /// `x/ln 2` rounded.
    fn round(e: &mut E, x: E::F) -> Power<E> {
        let shift = e.f(SIXTEENTHS);
        let shifted = e.fmac(x, LOG2_E, shift);
        let k = e.sub(shifted, shift);
        Power { k, shifted }
    }

    /// `x - k ln 2`
    fn rest(&self, e: &mut E, x: E::F) -> E::F {
        let d = e.fmac(self.k, -LN2[0], x);
        e.fmac(self.k, -LN2[1], d)
    }

    /// `2^k · (1 + d p(d))`
    fn times(self, e: &mut E, d: E::F, p: &[f32]) -> E::F {
        let at = e.bits(self.shifted);
        let t = e.look_up(&EXP2, at);
        let p = e.poly(p, d);
        let d = e.mul(d, t);
        let y = e.fma(d, p, t);
        e.scale_sixteenths(y, self.k, self.shifted)
    }
}

/// e^x.
pub fn exp<E: LookUp>(e: &mut E, x: E::F) -> E::F {
    // What is far below needs no bound: whatever comes of it is not looked at.
    let above = e.is_above(x, NOTHING);
    let x = e.at_most(x, 89.0);
    let power = Power::round(e, x);
    let d = power.rest(e, x);
    let y = power.times(e, d, &P);
    e.only(above, y)
}

/// 2^x.
pub fn exp2<E: LookUp>(e: &mut E, x: E::F) -> E::F {
    let above = e.is_above(x, -151.0);
    let x = e.at_most(x, 129.0);
    let shifted = e.addc(x, SIXTEENTHS);
    let k = e.addc(shifted, -SIXTEENTHS);
    let d = e.sub(x, k);
    let y = Power { k, shifted }.times(e, d, &Q);
    e.only(above, y)
}

/// `1 / (1 + e^-x)`, which with `e^-x = 2^-k · (1 + m)` is `2^k / (2^k + 1 + m)` for a whole `k`: neither overflows, nor do they
/// lose anything but to the sum's rounding and the quotient's.
pub fn sigmoid<E: LookUp>(e: &mut E, x: E::F) -> E::F {
    let above = e.is_above(x, NOTHING);
    // 1 from 17.4 on.
    let x = e.at_most(x, 40.0);
    let sixteenths = Power::round(e, x);
    let d = sixteenths.rest(e, x);
    let at = e.bits(sixteenths.shifted);
    let t = e.look_up(&INVERSE_LESS_1, at);
    let one = e.f(1.0);
    let power = e.scale_sixteenths_up(one, sixteenths.shifted);
    let power = e.only(above, power);
    let sum = e.addc(power, 1.0);
    // A power below 2^-23 is lost, which with the next sum's rounding would be too much.
    let kept = e.addc(sum, -1.0);
    let lost = e.sub(power, kept);
    let p = e.poly(&[-P[0], P[1], -P[2]], d);
    let d = e.fma(d, t, d);
    let rest = e.add(t, lost);
    let m = e.fma(d, p, rest);
    let sum = e.add(sum, m);
    let y = e.div(power, sum);
    e.only(above, y)
}
