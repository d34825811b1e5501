//! Elementary functions of f32 as straight-line kernel IR, so that any generator runs them in
//! lanes without calling a library.
//!
//! Every function stays within 2 ULP over the whole range, with NaN, infinities, -0 and denormals
//! as PyTorch has them. `tests.rs` measures this against f64 (every 257th bit pattern, and sine
//! from 2^15 on at every one): exp 0.97, exp2 0.99, expm1 1.41, log 0.92, log2 1.32, log10 1.48,
//! log1p 1.52, tanh 1.34, erf 1.06, sin 1.54, cos 1.54, sigmoid 1.60; [`pow::pow`] stays within
//! 1.5 on its sample. The polynomials come from `fit.py`. [`tables`], [`pow_table`], [`exp_table`] and [`log_table`] have second forms for the
//! generator that can look numbers up in registers: erf 1.38, tanh 1.20, powers 1.15, log 1.69 and, at every argument that matters, exp 1.00, exp2 0.99 and sigmoid 1.85.
//! Their results differ from the first by such errors.

pub mod emit;
pub mod erf;
pub mod exp;
pub mod exp_table;
pub mod log;
pub mod log_table;
pub mod pow;
pub mod pow_table;
pub mod tables;
pub mod tanh;
#[cfg(test)]
mod tests;
pub mod trig;

pub use emit::{Emit, Ir, Plain};

use crate::kernel::{BinaryOp, Const, Inst, Kernel, Loop, Stmt, Type, UnaryOp, ValueId};
use std::collections::HashMap;

/// Evaluates `op` at `x` if this module knows it.
pub fn unary<E: Emit>(e: &mut E, op: UnaryOp, x: E::F) -> Option<E::F> {
    Some(match op {
        UnaryOp::Exp => exp::exp(e, x),
        UnaryOp::Exp2 => exp::exp2(e, x),
        UnaryOp::Expm1 => exp::expm1(e, x),
        UnaryOp::Log => log::log(e, x),
        UnaryOp::Log2 => log::log2(e, x),
        UnaryOp::Log10 => log::log10(e, x),
        UnaryOp::Log1p => log::log1p(e, x),
        UnaryOp::Tanh => tanh::tanh(e, x),
        UnaryOp::Erf => erf::erf(e, x),
        UnaryOp::Sin => trig::sin(e, x),
        UnaryOp::Cos => trig::cos(e, x),
        UnaryOp::Sigmoid => exp::sigmoid(e, x),
        _ => return None,
    })
}

/// Replaces every f32 operation that this module knows by simpler instructions; everything else,
/// f64 included, stays as it is.
pub fn expand(kernel: &Kernel) -> Kernel {
    expand_but(kernel, |_| false)
}

/// The same without the functions that the generator computes by itself.
pub fn expand_but(kernel: &Kernel, kept: fn(&Inst) -> bool) -> Kernel {
    let mut out = kernel.clone();
    let body = std::mem::take(&mut out.root.body);
    out.root.body = expand_body(&mut out, body, kept);
    out
}

fn expand_body(kernel: &mut Kernel, body: Vec<Stmt>, kept: fn(&Inst) -> bool) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(body.len());
    let mut consts = HashMap::new();
    for stmt in body {
        match stmt {
            Stmt::Let { value, inst } => {
                let keep = kept(&inst);
                if keep || !expand_let(kernel, &mut out, &mut consts, value, &inst) {
                    out.push(Stmt::Let { value, inst });
                }
            }
            Stmt::Loop(Loop {
                var,
                vector,
                body,
                carries,
            }) => out.push(Stmt::Loop(Loop {
                var,
                vector,
                body: expand_body(kernel, body, kept),
                carries,
            })),
            store @ Stmt::Store { .. } => out.push(store),
        }
    }
    out
}

/// Defines `value` by an expansion of `inst`, if there is one.
fn expand_let(
    kernel: &mut Kernel,
    out: &mut Vec<Stmt>,
    consts: &mut HashMap<Const, ValueId>,
    value: ValueId,
    inst: &Inst,
) -> bool {
    if kernel.values[value] != Type::F32 {
        return false;
    }
    let mut ir = Ir::new(kernel, out, consts);
    let result = match *inst {
        Inst::Unary { op, arg } => unary(&mut ir, op, arg),
        Inst::Binary {
            op: BinaryOp::Pow,
            args: [a, b],
        } => Some(pow::pow(&mut ir, a, b)),
        _ => None,
    };
    let Some(result) = result else {
        return false;
    };
    // The expansion ends in its result, which nothing else names yet.
    match out.last_mut() {
        Some(Stmt::Let { value: last, .. }) if *last == result => *last = value,
        _ => unreachable!("an expansion ends in its result"),
    }
    true
}
