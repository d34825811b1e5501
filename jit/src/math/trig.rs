//! sin and cos over the whole range.
//!
//! `|x| = n·π/2 + r` by Cody and Waite with π/2 in three parts below 2^15, and by Payne and Hanek
//! above: a 24-bit significand times a 96-bit window of 2/π, modulo 2^96, all in 32-bit integers.
//! A generator may jump over the second where no lane wants it.

use super::emit::{Emit, SHIFT};
use crate::kernel::{BinaryOp, CmpOp};

/// sin r = r + r³ P(r²) up to π/4, relative error below 2^-27.8 (`fit.py`).
const SIN: [f32; 3] = [-0.16666655, 0.008332187, -0.00019517895];
/// cos r = 1 - r²/2 + r⁴ P(r²) up to π/4, relative error below 2^-32.9 (`fit.py`).
const COS: [f32; 3] = [0.041666646, -0.001388731, 2.443233e-05];
/// π/2 in three parts, the first of 20 bits: `x - n·PIO2[0]` is exact below 2^15.
const PIO2: [f32; 3] = [1.570_797, -6.397_579e-7, 6.223_372e-14];
/// π/2 in two parts.
const PIO2_PAIR: [f32; 2] = [std::f32::consts::FRAC_PI_2, -4.371_139e-8];
/// The bits of 2/π after the binary point, behind ten zero bits.
const TWO_OVER_PI: [u32; 7] = [
    0x0028_be60,
    0xdb93_9105,
    0x4a7f_09d5,
    0xf47d_4d37,
    0x7036_d8a5,
    0x664f_10e4,
    0x107f_9458,
];

/// The high and the low half of the product of an unsigned 24-bit `m` and an unsigned `w`.
fn wide<E: Emit>(e: &mut E, m: E::I, w: E::I) -> (E::I, E::I) {
    use BinaryOp::{Add, And, Mul};
    let low = e.ibinary(Mul, m, w);
    let m1 = e.ic(BinaryOp::Shr, m, 16);
    let m0 = e.ic(And, m, 0xffff);
    let w1 = e.lshr(w, 16);
    let w0 = e.ic(And, w, 0xffff);
    let t = e.ibinary(Mul, m0, w0);
    let t = e.lshr(t, 16);
    let u = e.ibinary(Mul, m1, w0);
    let u = e.ibinary(Add, u, t);
    let v = e.ibinary(Mul, m0, w1);
    let u0 = e.ic(And, u, 0xffff);
    let v = e.ibinary(Add, v, u0);
    let v = e.lshr(v, 16);
    let u1 = e.lshr(u, 16);
    let high = e.ibinary(Mul, m1, w1);
    let high = e.ibinary(Add, high, u1);
    (e.ibinary(Add, high, v), low)
}

/// Payne and Hanek for `t >= 2^15`: the quadrant (its low two bits) and the remainder.
fn reduce_large<E: Emit>(e: &mut E, t: E::F) -> (E::I, E::F) {
    use BinaryOp::{Add, And, Or, Shl, Shr, Sub, Xor};
    let bits = e.bits(t);
    let m = e.ic(And, bits, 0x007f_ffff);
    let m = e.ic(Or, m, 0x0080_0000);
    let exponent = e.ic(Shr, bits, 23);
    // Bit offset of the window in the table: 0..=112.
    let at = e.ic(Sub, exponent, 127 + 15);
    let limits = [32, 64, 96].map(|n| {
        let n = e.i(n);
        e.icmp(CmpOp::Lt, at, n)
    });
    let words: [E::I; 4] = std::array::from_fn(|j| {
        let mut word = e.i(TWO_OVER_PI[j + 3].cast_signed());
        for g in (0..3).rev() {
            let c = e.i(TWO_OVER_PI[j + g].cast_signed());
            word = e.isel(limits[g], c, word);
        }
        word
    });
    let left = e.ic(And, at, 31);
    let right = e.ic(Xor, left, 31);
    let window: [E::I; 3] = std::array::from_fn(|j| {
        let high = e.ibinary(Shl, words[j], left);
        let low = e.lshr(words[j + 1], 1);
        let low = e.ibinary(Shr, low, right);
        e.ibinary(Or, high, low)
    });

    // top:mid = t·2/π modulo 4, the point behind the top two bits.
    let top = e.ibinary(BinaryOp::Mul, m, window[0]);
    let (carried, low) = wide(e, m, window[1]);
    let top = e.ibinary(Add, top, carried);
    let (below, _) = wide(e, m, window[2]);
    let mid = e.ibinary(Add, low, below);
    let a = e.ic(Xor, mid, i32::MIN);
    let b = e.ic(Xor, low, i32::MIN);
    let carry = e.icmp(CmpOp::Lt, a, b);
    let (zero, one) = (e.i(0), e.i(1));
    let carry = e.isel(carry, one, zero);
    let top = e.ibinary(Add, top, carry);

    let n = e.ic(Add, top, 1 << 29);
    let n = e.ic(Shr, n, 30);
    let whole = e.ic(Shl, n, 30);
    let frac = e.ibinary(Sub, top, whole);
    // Three exact floats: multiples of 2^-24, 2^-48 and 2^-62.
    let head = e.ic(Add, frac, 32);
    let head = e.ic(And, head, !63);
    let rest = e.ibinary(Sub, frac, head);
    let rest = e.ic(Shl, rest, 18);
    let next = e.lshr(mid, 14);
    let rest = e.ibinary(Or, rest, next);
    let tail = e.ic(And, mid, 0x3fff);
    let (head, rest, tail) = (e.to_float(head), e.to_float(rest), e.to_float(tail));
    let tail = e.mulc(tail, f32::from_bits((127 - 62) << 23));
    let low = e.fmac(rest, f32::from_bits((127 - 48) << 23), tail);
    let head = e.mulc(head, f32::from_bits((127 - 30) << 23));
    let sum = e.add(head, low);
    let kept = e.sub(sum, head);
    let lost = e.sub(low, kept);

    let r = e.mulc(lost, PIO2_PAIR[0]);
    let r = e.fmac(sum, PIO2_PAIR[1], r);
    (n, e.fmac(sum, PIO2_PAIR[0], r))
}

/// Cody and Waite for `t < 2^15`.
fn reduce_small<E: Emit>(e: &mut E, t: E::F) -> (E::I, E::F) {
    let magic = e.f(SHIFT);
    let shifted = e.fmac(t, std::f32::consts::FRAC_2_PI, magic);
    let n = e.sub(shifted, magic);
    let r = e.fmac(n, -PIO2[0], t);
    let r = e.fmac(n, -PIO2[1], r);
    let r = e.fmac(n, -PIO2[2], r);
    (e.bits(shifted), r)
}

/// The sine of `t + quarter·π/2` for `t = |x|`, with the sign of `flip` reversed into it.
fn sine<E: Emit>(e: &mut E, t: E::F, quarter: i32, flip: Option<E::F>) -> E::F {
    let large = e.fcmpc(CmpOp::Ge, t, 32768.0);
    let small = reduce_small(e, t);
    let (n, r) = e.rarely(large, small, |e| {
        let (n, r) = reduce_large(e, t);
        let nan = e.f(f32::NAN);
        let is_finite = e.fcmpc(CmpOp::Lt, t, f32::INFINITY);
        (n, e.fsel(is_finite, r, nan))
    });
    let n = match quarter {
        0 => n,
        _ => e.ic(BinaryOp::Add, n, quarter),
    };

    let r2 = e.mul(r, r);
    let p = e.poly(&SIN, r2);
    let p = e.mul(r2, p);
    let sin = e.fma(p, r, r);
    let p = e.poly(&COS, r2);
    let half = e.f(-0.5);
    let p = e.fma(p, r2, half);
    let one = e.f(1.0);
    let cos = e.fma(p, r2, one);

    let odd = e.any_bit(n, 1);
    let y = e.fsel(odd, cos, sin);
    let mut sign = e.ic(BinaryOp::Shl, n, 30);
    if let Some(x) = flip {
        let x = e.bits(x);
        sign = e.ibinary(BinaryOp::Xor, sign, x);
    }
    let sign = e.ic(BinaryOp::And, sign, i32::MIN);
    let y = e.bits(y);
    let y = e.ibinary(BinaryOp::Xor, y, sign);
    e.as_float(y)
}

/// Sine.
pub fn sin<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let t = e.abs(x);
    sine(e, t, 0, Some(x))
}

/// Cosine.
pub fn cos<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let t = e.abs(x);
    sine(e, t, 1, None)
}
