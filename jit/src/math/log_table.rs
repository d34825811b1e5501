//! log by a table of logarithms, for generators that take a number's exponent and mantissa apart in one instruction each.
//!
//! `x = 2^k m` with `m` in 0.75..1.5, whose leading four bits choose a `c` near `1/m` of so few bits that `r = c m - 1` is exact;
//! `log x = k ln 2 - log c + log(1 + r)`. Around 1 the first two are 0, so that the error stays in proportion to the logarithm.

use super::tables::LookUp;

/// `c`: a multiple of 1/128 near 1 over the middle of what chooses it.
#[rustfmt::skip]
const INVERSE: [f32; 16] = [1.0, 0.9140625, 0.8671875, 0.8203125, 0.78125, 0.7421875, 0.7109375, 0.6796875, 1.3046875, 1.2578125, 1.2109375, 1.1640625, 1.125, 1.0859375, 1.046875, 1.0];
/// `-log c`
#[rustfmt::skip]
const LOG: [f32; 16] = [-0.0, 0.08985633, 0.14250006, 0.19806992, 0.24686007, 0.29815337, 0.34117076, 0.38612214, -0.26596355, -0.2293741, -0.19139485, -0.15191604, -0.11778303, -0.08244367, -0.045809537, -0.0];
/// `log(1 + r) = r + r^2 P(r)` for `|r| <= 1/16` with an error below 2^-31.4 of it (`fit.py`).
const P: [f32; 5] = [-0.5, 0.3333324, -0.24999912, 0.20077941, -0.16737053];

/// The natural logarithm.
pub fn log<E: LookUp>(e: &mut E, x: E::F) -> E::F {
    let (k, m) = e.parts(x);
    let at = e.bits(m);
    let at = e.lshr(at, 19);
    let (c, whole) = (e.look_up(&INVERSE, at), e.look_up(&LOG, at));
    let minus = e.f(-1.0);
    let r = e.fma(m, c, minus);
    let whole = e.fmac(k, std::f32::consts::LN_2, whole);
    let square = e.mul(r, r);
    let p = e.poly(&P, r);
    let rest = e.fma(square, p, r);
    e.add(whole, rest)
}
