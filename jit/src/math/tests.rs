//! Accuracy over strided samples of all bit patterns, and that `expand` leaves nothing behind.

use super::*;
use crate::kernel::{Access, Index, Mem, Param, ParamId, Scratch, ScratchId, Var, VarId};
use cranelift_entity::PrimaryMap;
use ipex_runtime::DType;
use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};

/// The error of `got` in units of the last place of the f32 nearest `want`.
#[expect(clippy::cast_possible_truncation, reason = "rounds to f32")]
fn ulps(got: f32, want: f64) -> f64 {
    let near = want as f32;
    if near.is_nan() || got.is_nan() {
        return if near.is_nan() && got.is_nan() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    if got == near {
        let same = got != 0.0 || got.is_sign_negative() == near.is_sign_negative();
        // Correctly rounded zeros and infinities have no further error.
        if !same {
            return f64::INFINITY;
        }
        if got == 0.0 || got.is_infinite() {
            return 0.0;
        }
    }
    // An overflow on one side only is an error of units of the largest float.
    let cap = |x: f64| x.clamp(-(2f64.powi(128)), 2f64.powi(128));
    let exponent = (near.abs().min(f32::MAX).to_bits() >> 23)
        .max(1)
        .cast_signed()
        - 150;
    (cap(f64::from(got)) - cap(want)).abs() / 2f64.powi(exponent)
}

/// Runs over every 257th bit pattern and the neighbourhoods of `near`.
fn check(name: &str, bound: f64, near: &[f32], ours: fn(f32) -> f32, reference: fn(f64) -> f64) {
    let around = near
        .iter()
        .chain(&[0.0, 1e-8, 1.0, f32::MIN_POSITIVE, f32::MAX]);
    let around = around.flat_map(|x| [x.to_bits(), (-x).to_bits()]);
    let around = around.flat_map(|b| (0..4000).map(move |d| b.wrapping_add(d).wrapping_sub(2000)));
    let mut worst = (0.0, 0.0f32);
    for bits in (0..=u32::MAX).step_by(257).chain(around) {
        let x = f32::from_bits(bits);
        let got = ours(x);
        let error = ulps(got, reference(f64::from(x)));
        assert!(
            error <= bound,
            "{name}({x:e}, {bits:#x}) = {got:e}: {error} ULP"
        );
        if error > worst.0 {
            worst = (error, x);
        }
    }
    println!("{name}: {:.3} ULP at {:e}", worst.0, worst.1);
}

macro_rules! accuracy {
    ($($name:ident $ours:path, $reference:expr, $bound:expr, $near:expr;)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name), $bound, &$near, |x| $ours(&mut Plain, x), $reference);
        }
    )*};
}

fn exact_sigmoid(x: f64) -> f64 {
    let z = libm::exp(-x.abs());
    let larger = 1.0 / (1.0 + z);
    if x < 0.0 { z * larger } else { larger }
}

accuracy! {
    exp exp::exp, libm::exp, 2.0, [88.7, 87.3, 103.9, 104.5, 0.3466];
    exp2 exp::exp2, libm::exp2, 2.0, [128.0, 126.0, 149.0, 150.0, 0.5];
    expm1 exp::expm1, libm::expm1, 2.0, [88.7, 17.3, 18.0, 0.3466, 1.0397];
    sigmoid exp::sigmoid, exact_sigmoid, 2.0, [87.3, 103.9, 17.3, 0.3466];
    log log::log, libm::log, 2.0, [0.666_666_7, 1.333_333_4, 2.0];
    log_by_table log_table::log, libm::log, 2.0, [0.75, 1.5, 0.968_75, 1.0625, 2.0];
    log2 log::log2, libm::log2, 2.0, [0.666_666_7, 1.333_333_4, 2.0];
    log10 log::log10, libm::log10, 2.0, [0.666_666_7, 1.333_333_4, 10.0];
    log1p log::log1p, libm::log1p, 2.0, [0.333_333_34, 0.5, 3.0];
    tanh tanh::tanh, libm::tanh, 2.0, [0.6, 9.01, 9.5];
    erf erf::erf, libm::erf, 2.0, [0.935, 3.92, 4.0];
    tanh_by_table tables::tanh, libm::tanh, 2.0, [0.3125, 0.9375, 9.02, 9.0625, 9.6];
    erf_by_table tables::erf, libm::erf, 2.0, [0.125, 0.375, 0.625, 3.625, 3.875, 4.0];
    exp_by_table exp_table::exp, libm::exp, 2.0, [88.7, 87.3, 103.9, 104.5, 0.0217, 0.0433];
    exp2_by_table exp_table::exp2, libm::exp2, 2.0, [128.0, 126.0, 149.0, 150.0, 151.0, 0.03125];
    sigmoid_by_table exp_table::sigmoid, exact_sigmoid, 2.0, [87.3, 103.9, 104.5, 17.3, 0.0217];
    sin trig::sin, libm::sin, 2.0, [32768.0, FRAC_PI_4, PI, 6.283_185_5, 102_943.7];
    cos trig::cos, libm::cos, 2.0, [32768.0, FRAC_PI_4, FRAC_PI_2, 4.712_389, 102_943.7];
}

#[test]
fn tables_end_in_exact_ones() {
    for x in [3.9, 5.0, 1e30, f32::INFINITY] {
        for x in [x, -x] {
            assert_eq!(tables::erf(&mut Plain, x), x.signum());
            assert_eq!(tables::tanh(&mut Plain, 2.5 * x), x.signum());
        }
    }
    for f in [tables::erf, tables::tanh] {
        let zeros = [0.0f32, -0.0].map(|x| f(&mut Plain, x).to_bits());
        assert_eq!(zeros, [0, 1 << 31]);
        assert!(f(&mut Plain, f32::NAN).is_nan());
    }
}

#[test]
#[ignore = "minutes: every bit pattern"]
fn every_sine() {
    let mut worst = (0.0, 0.0);
    for bits in 32768f32.to_bits()..f32::INFINITY.to_bits() {
        let x = f32::from_bits(bits);
        let error = ulps(trig::sin(&mut Plain, x), libm::sin(f64::from(x)));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    println!("{worst:?}");
    assert!(worst.0 <= 2.0);
}

#[test]
#[ignore = "minutes: every bit pattern that matters"]
fn every_exponential() {
    type Form = (fn(&mut Plain, f32) -> f32, fn(f64) -> f64);
    let forms: [Form; 3] = [
        (exp_table::exp, libm::exp),
        (exp_table::exp2, libm::exp2),
        (exp_table::sigmoid, exact_sigmoid),
    ];
    for (form, exact) in forms {
        let mut worst = (0.0, 0.0);
        for bits in 1e-9f32.to_bits()..152f32.to_bits() {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let error = ulps(form(&mut Plain, x), exact(f64::from(x)));
                if error > worst.0 {
                    worst = (error, x);
                }
            }
        }
        println!("{worst:?}");
        assert!(worst.0 <= 2.0);
    }
}

#[test]
fn pow() {
    check_pow(1.5, super::pow::pow);
}

#[test]
fn pow_by_table() {
    check_pow(2.0, super::pow_table::pow);
}

/// Special values, samples of all bit patterns, dense ones around 1 and the edges of tables, numbers below the least normal one, and results of every size.
fn check_pow(bound: f64, ours: fn(&mut Plain, f32, f32) -> f32) {
    let special = [
        0.0,
        1.0,
        2.0,
        3.0,
        0.5,
        1.5,
        2.5,
        0.1,
        1e-45,
        1e-40,
        1.2e-38,
        3e38,
        8_388_609.0,
        16_777_215.0,
        16_777_216.0,
        1e10,
        1.000_000_1,
        0.999_999_94,
        f32::INFINITY,
        f32::NAN,
    ];
    let special = special.iter().flat_map(|&x| [x, -x]);
    let mut worst = (0.0, 0.0, 0.0);
    let mut one = |a: f32, b: f32| {
        let got = ours(&mut Plain, a, b);
        let error = ulps(got, libm::pow(f64::from(a), f64::from(b)));
        assert!(error <= bound, "pow({a:e}, {b:e}) = {got:e}: {error} ULP");
        if error > worst.0 {
            worst = (error, a, b);
        }
    };
    for a in special.clone() {
        for b in special.clone() {
            one(a, b);
        }
        for bits in (0..=u32::MAX).step_by(100_003) {
            one(a, f32::from_bits(bits));
            one(f32::from_bits(bits), a);
        }
    }
    // Pairs whose result is finite: spread the exponent evenly over the range.
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    for _ in 0..4_000_000 {
        let a = libm::exp2(next() * 4.0f64.powf(next() * 4.0) - 1.0) as f32;
        let b = (next() * 2.0 - 1.0) * 105.0 / libm::log(f64::from(a)).abs();
        one(a, b as f32);
    }
    // Large exponents of numbers near 1, where the logarithm's error counts most: each number next to it, then every 41st, and
    // both sides of what tables end at; and small ones of numbers below the least normal one.
    let edge = |i: u32| (1.0 + (f64::from(i) + 0.5) / 16.0) as f32;
    let edges = (0..16).flat_map(|i| (0..800).map(move |d| edge(i).to_bits() - 400 + d));
    let beside = (0..40_000).map(|d| 1f32.to_bits() - 20_000 + d);
    let around = (0.5f32.to_bits()..2f32.to_bits()).step_by(41);
    let least = (1..0x0080_0000).step_by(997);
    for bits in beside.chain(edges).chain(around).chain(least) {
        let a = f32::from_bits(bits);
        let size = 1.0 / libm::log2(f64::from(a)).abs();
        let sign = if bits % 2 == 0 { 1.0 } else { -1.0 };
        for t in [100.0 + 50.0 * next(), 20.0 * next(), 124.0 + 3.0 * next()] {
            one(a, (sign * t * size) as f32);
        }
    }
    println!("pow: {worst:?}");
}

fn kernel(dtype: DType, body: impl Fn(&mut PrimaryMap<ValueId, Type>, &mut Vec<Stmt>)) -> Kernel {
    let mut params: PrimaryMap<ParamId, Param> = PrimaryMap::new();
    params.push(Param {
        dtype,
        access: Access::In,
    });
    let mut vars: PrimaryMap<VarId, Var> = PrimaryMap::new();
    let outer = vars.push(Var { extent: 4 });
    let inner = vars.push(Var { extent: 8 });
    let scratch: PrimaryMap<ScratchId, Scratch> = PrimaryMap::new();
    let mut values = PrimaryMap::new();
    let mut stmts = Vec::new();
    body(&mut values, &mut stmts);
    let inner = Loop {
        var: inner,
        vector: true,
        body: stmts,
        carries: vec![],
    };
    let root = Loop {
        var: outer,
        vector: false,
        body: vec![Stmt::Loop(inner)],
        carries: vec![],
    };
    Kernel {
        params,
        scratch,
        vars,
        values,
        root,
    }
}

const OPS: [UnaryOp; 12] = [
    UnaryOp::Exp,
    UnaryOp::Exp2,
    UnaryOp::Expm1,
    UnaryOp::Log,
    UnaryOp::Log2,
    UnaryOp::Log10,
    UnaryOp::Log1p,
    UnaryOp::Tanh,
    UnaryOp::Erf,
    UnaryOp::Sin,
    UnaryOp::Cos,
    UnaryOp::Sigmoid,
];

/// One load, every op of it, and a power.
fn all_ops(dtype: DType) -> Kernel {
    let ty = Type::of(dtype);
    kernel(dtype, |values, body| {
        let arg = values.push(ty);
        let mem = Mem::Param(ParamId::from_u32(0));
        let index = Index::default();
        body.push(Stmt::Let {
            value: arg,
            inst: Inst::Load { mem, index },
        });
        for op in OPS {
            let value = values.push(ty);
            body.push(Stmt::Let {
                value,
                inst: Inst::Unary { op, arg },
            });
        }
        let value = values.push(ty);
        let inst = Inst::Binary {
            op: BinaryOp::Pow,
            args: [arg, arg],
        };
        body.push(Stmt::Let { value, inst });
    })
}

fn lets(kernel: &Kernel) -> Vec<(ValueId, Inst)> {
    let [Stmt::Loop(inner)] = &kernel.root.body[..] else {
        panic!("one inner loop")
    };
    let one = |stmt: &Stmt| match stmt {
        Stmt::Let { value, inst } => (*value, inst.clone()),
        _ => panic!("only lets"),
    };
    inner.body.iter().map(one).collect()
}

#[test]
fn expand_leaves_no_known_op() {
    for dtype in [DType::F32, DType::F16] {
        let before = all_ops(dtype);
        let after = expand(&before);
        let mut defined = std::collections::HashSet::new();
        for (value, inst) in lets(&after) {
            assert!(defined.insert(value), "{value:?} is defined twice");
            match inst {
                Inst::Unary { op, .. } => assert!(!OPS.contains(&op), "{op:?}"),
                Inst::Binary { op, .. } => assert_ne!(op, BinaryOp::Pow),
                _ => {}
            }
        }
        assert!(
            lets(&before)
                .iter()
                .all(|(value, _)| defined.contains(value))
        );
    }
}

#[test]
fn expand_keeps_f64() {
    let before = all_ops(DType::F64);
    assert_eq!(expand(&before), before);
}
