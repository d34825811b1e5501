//! The error function.

use super::emit::Emit;
use super::exp::exp_mid;
use crate::kernel::CmpOp;

/// erf x = x + x P(x²) up to 0.95 with a relative error below 2^-30 (`fit.py`).
const SMALL: [f32; 7] = [
    0.12837917,
    -0.3761263,
    0.11283626,
    -0.02685574,
    0.0051924605,
    -0.0008050804,
    8.002775e-05,
];
/// log(1 - erf x) = P(x) on 0.92..4 with an error below 2^-29.2 relative to erf (`fit.py`).
const LARGE: [f32; 7] = [
    -0.00019567541,
    -1.1276757,
    -0.6371822,
    -0.103931665,
    0.022226946,
    -0.0030432197,
    0.00019593681,
];

/// `erf(x)`: the polynomial up to 0.935, `1 - e^P` above; 1 from 3.93 on.
pub fn erf<E: Emit>(e: &mut E, x: E::F) -> E::F {
    let t = e.abs(x);
    let t2 = e.mul(t, t);
    let p = e.poly(&SMALL, t2);
    let near = e.fma(p, t, t);

    let c = e.at_most(t, 4.0);
    let p = e.poly(&LARGE, c);
    let z = exp_mid(e, p);
    let one = e.f(1.0);
    let far = e.sub(one, z);

    let is_near = e.fcmpc(CmpOp::Lt, t, 0.935);
    let y = e.fsel(is_near, near, far);
    e.copysign(y, x)
}
