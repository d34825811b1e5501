//! `torch.pow` of floats: `e^(b·log|a|)` with the logarithm and the product in pairs of floats.

use super::emit::Emit;
use super::exp::exp_pair;
use super::log::{LN_2, decompose};
use crate::kernel::{BinaryOp, CmpOp, UnaryOp};

/// log((1 + s)/(1 - s)) = 2s + s³ P(s²) for |s| <= 0.2, relative error below 2^-35.1 (`fit.py`).
const ATANH: [f32; 4] = [0.6666666, 0.40000933, 0.2850352, 0.24151453];

/// The logarithm of a positive finite number as a pair.
fn log_pair<E: Emit>(e: &mut E, x: E::F) -> (E::F, E::F) {
    let (m, k) = decompose(e, x);
    // s = (m - 1)/(m + 1); 1/(m + 1) = (1 - s)/2.
    let f = e.addc(m, -1.0);
    let d = e.addc(m, 1.0);
    let kept = e.addc(d, -1.0);
    let d_low = e.sub(m, kept);
    let s = e.div(f, d);
    let minus = e.neg(s);
    let rest = e.fma(minus, d, f);
    let rest = e.fma(minus, d_low, rest);
    let half = e.f(0.5);
    let inverse = e.fma(minus, half, half);
    let s_low = e.mul(rest, inverse);

    let w = e.mul(s, s);
    let w_low = e.fms(s, s, w);
    let twice = e.add(s, s);
    let w_low = e.fma(twice, s_low, w_low);
    let q = e.poly(&ATANH[1..], w);
    let c = e.f(ATANH[0]);
    let p = e.fma(w, q, c);
    let p_low = e.sub(c, p);
    let p_low = e.fma(w, q, p_low);
    let t = e.mul(s, w);
    let t_low = e.fms(s, w, t);
    let t_low = e.fma(s, w_low, t_low);
    let t_low = e.fma(s_low, w, t_low);
    let u = e.mul(t, p);
    let u_low = e.fms(t, p, u);
    let u_low = e.fma(t, p_low, u_low);
    let u_low = e.fma(t_low, p, u_low);

    let high = e.add(twice, u);
    let kept = e.sub(high, twice);
    let low = e.sub(u, kept);
    let low_s = e.add(s_low, s_low);
    let low_s = e.add(low_s, u_low);
    let low = e.add(low, low_s);

    let a = e.mulc(k, LN_2[0]);
    let sum = e.add(a, high);
    let kept = e.sub(sum, a);
    let lost = e.sub(high, kept);
    let low = e.add(low, lost);
    let low = e.fmac(k, LN_2[1], low);
    // k times the low part of ln 2 is no rounding error: normalise.
    let high = e.add(sum, low);
    let kept = e.sub(high, sum);
    (high, e.sub(low, kept))
}

/// `a` to the power `b`, with the special values of C's `pow`.
pub fn pow<E: Emit>(e: &mut E, a: E::F, b: E::F) -> E::F {
    use BinaryOp::And;
    let (inf, zero) = (e.f(f32::INFINITY), e.f(0.0));
    let size = e.abs(a);
    let (l, l_low) = log_pair(e, size);
    let t = e.mul(b, l);
    let t_low = e.fms(b, l, t);
    let t_low = e.fma(b, l_low, t_low);
    let y = exp_pair(e, t, t_low);

    // Where both are finite and `a` above 0 that is all: also for 1 and to the power 0 the result is exact.
    let above = e.fcmp(CmpOp::Gt, a, zero);
    let below_inf = e.fcmp(CmpOp::Lt, a, inf);
    let plain = e.bbinary(And, above, below_inf);
    let b_size = e.abs(b);
    let b_finite = e.fcmp(CmpOp::Lt, b_size, inf);
    let plain = e.bbinary(And, plain, b_finite);
    let special = e.not(plain);
    let usual = (e.bits(y), y);
    let all = e.rarely(special, usual, |e| {
        let y = special_values(e, a, b, y);
        (e.bits(y), y)
    });
    all.1
}

/// `a^b` where one of both is not finite or `a` is not above 0; `y` is what `|a|` gives if that is finite.
pub(super) fn special_values<E: Emit>(e: &mut E, a: E::F, b: E::F, y: E::F) -> E::F {
    use BinaryOp::{And, Or};
    let (inf, nan) = (e.f(f32::INFINITY), e.f(f32::NAN));
    let (zero, one) = (e.f(0.0), e.f(1.0));
    let size = e.abs(a);

    // |a| of 0, inf and 1.
    let down = e.fcmp(CmpOp::Lt, b, zero);
    let is_inf = e.fcmp(CmpOp::Eq, size, inf);
    let is_zero = e.fcmp(CmpOp::Eq, size, zero);
    let at_inf = e.fsel(down, zero, inf);
    let at_zero = e.fsel(down, inf, zero);
    let y = e.fsel(is_inf, at_inf, y);
    let y = e.fsel(is_zero, at_zero, y);
    let is_one = e.fcmp(CmpOp::Eq, size, one);
    let b_size = e.abs(b);
    let b_inf = e.fcmp(CmpOp::Eq, b_size, inf);
    let both = e.bbinary(And, is_one, b_inf);
    let y = e.fsel(both, one, y);

    // Negative a.
    let whole = e.funary(UnaryOp::Trunc, b);
    let fraction = e.fcmp(CmpOp::Ne, whole, b);
    let half = e.mulc(b, 0.5);
    let half_whole = e.funary(UnaryOp::Trunc, half);
    let half_fraction = e.fcmp(CmpOp::Ne, half_whole, half);
    let minus = e.copysign(y, a);
    let signed = e.fsel(half_fraction, minus, y);
    let y = e.fsel(fraction, y, signed);
    let negative = e.fcmp(CmpOp::Lt, a, zero);
    let below_inf = e.fcmp(CmpOp::Lt, size, inf);
    let bad = e.bbinary(And, negative, fraction);
    let bad = e.bbinary(And, bad, below_inf);
    let a_nan = e.fcmp(CmpOp::Ne, a, a);
    let b_nan = e.fcmp(CmpOp::Ne, b, b);
    let bad = e.bbinary(Or, bad, a_nan);
    let bad = e.bbinary(Or, bad, b_nan);
    let y = e.fsel(bad, nan, y);

    let a_one = e.fcmp(CmpOp::Eq, a, one);
    let b_zero = e.fcmp(CmpOp::Eq, b, zero);
    let unit = e.bbinary(Or, a_one, b_zero);
    e.fsel(unit, one, y)
}
