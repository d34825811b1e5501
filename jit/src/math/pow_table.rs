//! Powers by tables of logarithms and of powers of two, for generators that look 16 numbers up in a register.
//!
//! `a = 2^k · m`; the leading bits of `m` choose a `c` near `1/m` of so few bits that `r = c·m - 1` is exact, and
//! `log2 a = k - log2 c + log2(1 + r)`, where the sum of the first two, rounded to 15 bits behind the point, is exact too.
//! Near 1 both are 0, so that the error stays in proportion to the logarithm. About 45 instructions and no division.

use super::emit::SHIFT;
use super::log::EXPONENT;
use super::pow::special_values;
use super::tables::LookUp;
use crate::kernel::{BinaryOp, CmpOp};
use std::f32::consts::LOG2_E;

/// `c`: a multiple of 1/64 near `16/(16 + i)`, of 1/32 where `r` reaches that.
#[rustfmt::skip]
const INVERSE: [f32; 16] = [1.0, 0.9375, 0.890625, 0.84375, 0.796875, 0.765625, 0.71875, 0.6875, 0.671875, 0.640625, 0.609375, 0.59375, 0.578125, 0.546875, 0.53125, 0.515625];
/// `log2 c` rounded to a multiple of `2^-15`.
#[rustfmt::skip]
const LOG2: [f32; 16] = [0.0, -0.09310913, -0.16711426, -0.24511719, -0.32757568, -0.38528442, -0.47644043, -0.54055786, -0.57373047, -0.64245605, -0.7145996, -0.7520752, -0.79055786, -0.87072754, -0.9125366, -0.9555969];
/// What rounding lost: `-log2 c` is `LOG2_LOW - LOG2`.
#[rustfmt::skip]
const LOG2_LOW: [f32; 16] = [0.0, 2.735321e-07, -4.271977e-06, -4.6896635e-06, -1.0255652e-06, 5.7320567e-06, -2.3857444e-06, 1.0520034e-05, 4.776548e-06, -8.059305e-06, -1.8282373e-06, -2.708756e-06, -1.1226957e-05, -1.05560075e-05, 5.376559e-07, 8.956814e-06];
/// `log2(1 + r) = (r - r²/2)/ln 2 + r³ P(r)` for the table's `r` with an error below 2^-37 of the whole logarithm (`fit.py`).
const P: [f32; 4] = [0.480_898_26, -0.360_673, 0.288_826_5, -0.241_662_28];
/// `1/ln 2 - LOG2_E`
const LOG2_E_LOW: f32 = 1.925_963e-8;
/// `2^(i/16)`
#[rustfmt::skip]
pub const EXP2: [f32; 16] = [1.0, 1.0442737, 1.0905077, 1.1387886, 1.1892071, 1.2418578, 1.2968396, 1.3542556, std::f32::consts::SQRT_2, 1.4768262, 1.5422108, 1.6104903, 1.6817929, 1.7562522, 1.8340081, 1.9152066];
/// `2^d = 1 + d Q(d)` for `|d| <= 1/32` with an error below 2^-29 (`fit.py`).
pub(super) const Q: [f32; 3] = [std::f32::consts::LN_2, 0.240_234_27, 0.055_503_365];

/// A float that is added to it is rounded to a multiple of 1/16, whose last four bits are the sum's.
pub const SIXTEENTHS: f32 = SHIFT / 16.0;

/// `b·log2(a)` and what rounding added, for a finite positive `a` that is `2^bias` of what is asked.
fn exponent<E: LookUp>(e: &mut E, a: E::F, bias: Option<E::F>, b: E::F) -> (E::F, E::F) {
    use BinaryOp::{And, Sub};
    // The nearest sixteenth, of numbers from 1 - 1/64 to 2 - 1/32.
    let bits = e.bits(a);
    let moved = e.ic(Sub, bits, 1f32.to_bits().cast_signed() - (1 << 18));
    let shift = e.ic(And, moved, EXPONENT);
    let m = e.ibinary(Sub, bits, shift);
    let m = e.as_float(m);
    let at = e.lshr(moved, 19);
    let (c, log, low) = (
        e.look_up(&INVERSE, at),
        e.look_up(&LOG2, at),
        e.look_up(&LOG2_LOW, at),
    );
    let minus = e.f(-1.0);
    let r = e.fma(m, c, minus);
    // All of the following is -log2, which saves the negations.
    let whole = e.to_float(shift);
    let whole = e.fmac(whole, -1.0 / 8_388_608.0, log);
    let whole = match bias {
        Some(bias) => e.sub(whole, bias),
        None => whole,
    };

    // u = r - r²/2 and what its rounding lost, exactly.
    let half = e.mulc(r, -0.5);
    let u = e.fma(r, half, r);
    let lost = e.sub(r, u);
    let u_low = e.fma(r, half, lost);
    let v = e.mulc(u, -LOG2_E);
    let v_low = e.fmac(u, LOG2_E, v);
    let square = e.mul(r, r);
    let p = e.poly(&P, r);
    let less = e.f(LOG2_E_LOW);
    let p = e.fma(square, p, less);
    let rest = e.fmac(u_low, LOG2_E, low);
    let rest = e.add(rest, v_low);
    let rest = e.fma(r, p, rest);

    let sum = e.add(whole, v);
    let kept = e.sub(sum, whole);
    let lost = e.sub(kept, v);
    let rest = e.add(rest, lost);
    let less = e.neg(b);
    let t = e.mul(less, sum);
    let more = e.fma(b, sum, t);
    (t, e.fma(less, rest, more))
}

/// `2^(t - more)` as `y·2^⌊k⌋` with `k`, and the sum that rounded it.
fn power_of_two<E: LookUp>(e: &mut E, t: E::F, more: E::F) -> (E::F, E::F, E::F) {
    let sum = e.sub(t, more);
    let shifted = e.addc(sum, SIXTEENTHS);
    let k = e.addc(shifted, -SIXTEENTHS);
    let d = e.sub(t, k);
    let d = e.sub(d, more);
    let at = e.bits(shifted);
    let y = e.look_up(&EXP2, at);
    let q = e.poly(&Q, d);
    let d = e.mul(d, y);
    (e.fma(d, q, y), k, shifted)
}

/// `a` to the power `b`, with the special values of C's `pow`.
pub fn pow<E: LookUp>(e: &mut E, a: E::F, b: E::F) -> E::F {
    use BinaryOp::And;
    let (t, more) = exponent(e, a, None, b);
    let (y, k, shifted) = power_of_two(e, t, more);
    let y = e.scale_sixteenths_near(y, k, shifted);

    // Where `a` is normal and positive and the result normal, that is all. Also for NaN it isn't.
    let normal = e.fcmpc(CmpOp::Ge, a, f32::MIN_POSITIVE);
    let finite = e.fcmpc(CmpOp::Lt, a, f32::INFINITY);
    let plain = e.bbinary(And, normal, finite);
    let size = e.abs(t);
    let inside = e.fcmpc(CmpOp::Lt, size, 125.5);
    let plain = e.bbinary(And, plain, inside);
    let special = e.not(plain);
    let usual = (e.bits(y), y);
    let all = e.rarely(special, usual, |e| {
        let y = anywhere(e, a, b);
        (e.bits(y), y)
    });
    all.1
}

/// `a^b` for all numbers.
fn anywhere<E: LookUp>(e: &mut E, a: E::F, b: E::F) -> E::F {
    /// 2^t rounds to 0.
    const LEAST: f32 = -152.0;
    let size = e.abs(a);
    let (up, less, zero) = (e.mulc(size, 8_388_608.0), e.f(-23.0), e.f(0.0));
    let tiny = e.fcmpc(CmpOp::Lt, size, f32::MIN_POSITIVE);
    let size = e.fsel(tiny, up, size);
    let bias = e.fsel(tiny, less, zero);
    let (t, more) = exponent(e, size, Some(bias), b);
    let distance = e.abs(t);
    let inside = e.fcmpc(CmpOp::Lt, distance, -LEAST);
    let more = e.fsel(inside, more, zero);
    let t = e.at_most(t, 130.0);
    let t = e.at_least(t, LEAST);
    let (y, k, shifted) = power_of_two(e, t, more);
    let y = e.scale_sixteenths(y, k, shifted);
    special_values(e, a, b, y)
}
