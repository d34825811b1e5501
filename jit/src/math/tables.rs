//! erf and tanh by tables of polynomials, for generators that look 16 numbers up in a register.
//!
//! The absolute value, up to where the function is 1, is a multiple of a step and a distance from it of half a step at most;
//! the multiple chooses the polynomial in the distance. About 20 instructions, half of what the expansions without tables take.

use super::emit::{Emit, SHIFT};

/// What emitters need for it.
pub trait LookUp: Emit {
    /// `table[at % 16]`
    fn look_up(&mut self, table: &[f32; 16], at: Self::I) -> Self::F;
    /// `k` and `m` with `x = m 2^k` and `m` in 0.75..1.5. Of 0 and infinity `k` is infinite and `m` 1 but for its sign, of NaN and
    /// what is below 0 `m` is NaN.
    fn parts(&mut self, x: Self::F) -> (Self::F, Self::F);
}

/// `erf(0.25 i + d)` in powers of `d` with a relative error below 2^-25 (`fit.py`).
#[rustfmt::skip]
pub const ERF: [[f32; 16]; 6] = [
    [0.0, 0.2763264, 0.5204999, 0.71115565, 0.8427008, 0.92290014, 0.96610516, 0.9866717, 0.9953223, 0.9985373, 0.999593, 0.9998994, 0.9999779, 0.9999957, 0.9999993, 0.9999999],
    [std::f32::consts::FRAC_2_SQRT_PI, 1.0600142, 0.87878263, 0.6429311, 0.4151075, 0.23652112, 0.11893029, 0.052774996, 0.020666987, 0.0071423193, 0.002178284, 0.0005862773, 0.00013925305, 2.9189026e-05, 5.3994268e-06, 1.0414321e-06],
    [1.566421e-07, -0.264999, -0.43938842, -0.48220462, -0.41510117, -0.29565987, -0.17840612, -0.09236494, -0.041345302, -0.016079366, -0.0054308125, -0.0016167997, -0.0004060065, -0.00010057717, -3.311373e-05, 9.716272e-06],
    [-0.37613758, -0.30919772, -0.14648038, 0.026774028, 0.13837107, 0.16753395, 0.13875219, 0.09015779, 0.04822297, 0.021724533, 0.008350069, 0.0027602997, 0.00078905345, 0.00019578837, 4.2288266e-05, 7.967616e-06],
    [0.00023715151, 0.1260929, 0.18212782, 0.1506707, 0.0688515, -0.0052869585, -0.043614633, -0.04740659, -0.033713587, -0.018544083, -0.009617725, -0.0029941548, -0.0018067497, 7.425079e-05, 0.00083920686, -0.00084600906],
    [0.111161135, 0.08113576, 0.008331102, -0.052080568, -0.069061585, -0.047002815, -0.014936881, 0.0065034484, 0.013033119, 0.010648183, 0.0061269845, 0.0027712137, 0.0010254784, 0.00031775088, 8.346872e-05, 1.8747787e-05],
];
/// What the first slope's rounding lost: near 0 that would be an error of its own. Elsewhere it is too small to count.
pub const ERF_SLOPE: f32 = -5.863_538e-8;
/// `tanh(0.625 i + d)` in powers of `d` with a relative error below 2^-24.7 (`fit.py`).
#[rustfmt::skip]
pub const TANH: [[f32; 16]; 8] = [
    [0.0, 0.5545997, 0.84828365, 0.95404524, 0.9866143, 0.99614656, 0.99889445, 0.99968314, 0.9999092, 0.999974, 0.99999255, 0.99999785, 0.9999994, 0.9999998, 0.99999994, 1.0],
    [1.0, 0.6924191, 0.28041488, 0.08979764, 0.026592227, 0.00769209, 0.0022098923, 0.00063364446, 0.00018158324, 5.2027837e-05, 1.4906502e-05, 4.270807e-06, 1.2236086e-06, 3.5056985e-07, 1.0043997e-07, 2.8776537e-08],
    [-1.7259464e-07, -0.38401258, -0.23787308, -0.085666485, -0.026234196, -0.0076677906, -0.0022093486, -0.0006360458, -0.00018485224, -5.6924582e-05, -1.5402606e-05, -2.365136e-06, -4.1217945e-06, 2.9847502e-07, 1.6255714e-06, -2.6750422e-06],
    [-0.33332297, -0.017827911, 0.108309776, 0.051801927, 0.017021036, 0.005068842, 0.0014683771, 0.0004220274, 0.000121021774, 3.4682347e-05, 9.937432e-06, 2.8471845e-06, 8.157315e-07, 2.337145e-07, 6.695958e-08, 1.9183984e-08],
    [-0.00020563636, 0.13784193, -0.012534006, -0.020991504, -0.008104529, -0.0023495273, -0.00067912776, -0.00013981044, 2.9063607e-05, 0.000116164025, 8.556571e-06, -5.3364176e-05, 7.8585086e-05, -1.7807204e-05, -4.7077614e-05, 7.2116985e-05],
    [0.1351739, -0.05518153, -0.019185316, 0.0046229004, 0.0028564115, 0.0009681927, 0.00028982933, 8.411166e-05, 2.4196295e-05, 6.9397156e-06, 1.9875379e-06, 5.693431e-07, 1.6328178e-07, 4.67143e-08, 1.3396092e-08, 3.8439376e-09],
    [-0.007937899, -0.024045357, 0.014711715, 0.0015748963, -0.00032781746, -0.0012962061, -0.00044874017, -0.0005116459, -0.0006185486, -0.0009123517, -9.286167e-05, 0.00035385994, -0.0005385077, 0.00012056996, 0.00032067028, -0.0004916497],
    [-0.039651204, 0.02903043, -0.004514081, -0.0011362889, 8.241994e-05, 6.59316e-05, 2.5809763e-05, 7.720708e-06, 2.186158e-06, 6.240774e-07, 1.8909661e-07, 5.5452787e-08, 1.4778423e-08, 4.6419246e-09, 1.2731e-09, 3.277662e-10],
];

/// `erf(x)`; 1 from 3.87 on.
pub fn erf<E: LookUp>(e: &mut E, x: E::F) -> E::F {
    let t = e.abs(x);
    // The last number that is not rounded to the 16th multiple.
    let t = e.at_most(t, 3.875f32.next_down());
    // The sum's last bit is worth a quarter.
    let shifted = e.addc(t, SHIFT / 4.0);
    let at = e.addc(shifted, -SHIFT / 4.0);
    let d = e.sub(t, at);
    let (p, constant) = in_powers(e, &ERF, shifted, d);
    let constant = e.fmac(d, ERF_SLOPE, constant);
    let y = e.fma(p, d, constant);
    e.copysign(y, x)
}

/// `tanh(x)`; 1 from 9.02 on.
pub fn tanh<E: LookUp>(e: &mut E, x: E::F) -> E::F {
    let t = e.abs(x);
    let t = e.at_most(t, 9.6);
    let shift = e.f(SHIFT);
    let shifted = e.fmac(t, 1.6, shift);
    let at = e.sub(shifted, shift);
    let d = e.fmac(at, -0.625, t);
    let (p, constant) = in_powers(e, &TANH, shifted, d);
    let y = e.fma(p, d, constant);
    e.copysign(y, x)
}

/// The chosen polynomial without its constant, divided by `d`, and the constant.
fn in_powers<E: LookUp>(e: &mut E, table: &[[f32; 16]], shifted: E::F, d: E::F) -> (E::F, E::F) {
    let i = e.bits(shifted);
    let (constant, rest) = table.split_first().expect("coefficients");
    let (highest, rest) = rest.split_last().expect("a linear one");
    let mut p = e.look_up(highest, i);
    for column in rest.iter().rev() {
        let c = e.look_up(column, i);
        p = e.fma(p, d, c);
    }
    (p, e.look_up(constant, i))
}
