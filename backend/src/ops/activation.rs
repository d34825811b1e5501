//! Activations. Narrow floats compute in f32 and round once, as eager's kernels do.

use super::pointwise::round;
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::ValueId;
use crate::graph::builder::Builder;
use ipex_jit::kernel::{BinaryOp as B, UnaryOp as U};

fn input(b: &mut Builder, c: &NodeCall) -> Result<ValueId, Refusal> {
    let v = c.tensor(0)?;
    if !b.dtype(v)?.is_float() {
        return c.refuse("integers");
    }
    Ok(v)
}

fn clamp(b: &mut Builder, v: ValueId, low: f64, high: f64) -> Result<ValueId, Refusal> {
    let v = b.with(B::Max, v, low)?;
    b.with(B::Min, v, high)
}

/// `aten.relu`
pub fn relu(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    Ok(vec![b.with(B::Max, v, 0.0)?])
}

/// `aten.hardtanh`
pub fn hardtanh(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let whole = |n: usize| -> Result<bool, Refusal> { Ok(c.number(n)?.fract() == 0.0) };
    if !(b.dtype(v)?.is_float() || whole(1)? && whole(2)?) {
        return c.refuse("a fraction beside integers");
    }
    let v = clamp(b, v, c.number(1)?, c.number(2)?)?;
    Ok(vec![round(b, v)?])
}

/// `aten.silu`: x * sigmoid(x)
pub fn silu(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    let s = b.unary(U::Sigmoid, v)?;
    let v = b.binary(B::Mul, v, s)?;
    Ok(vec![round(b, v)?])
}

/// clamp(x + 3, 0, 6) / 6
fn hard_gate(b: &mut Builder, v: ValueId) -> Result<ValueId, Refusal> {
    let v = b.with(B::Add, v, 3.0)?;
    let v = clamp(b, v, 0.0, 6.0)?;
    b.with(B::Mul, v, 1.0 / 6.0)
}

/// `aten.hardsigmoid`
pub fn hardsigmoid(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    let v = hard_gate(b, v)?;
    Ok(vec![round(b, v)?])
}

/// `aten.hardswish`
pub fn hardswish(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let x = input(b, c)?;
    let gate = hard_gate(b, x)?;
    let v = b.binary(B::Mul, x, gate)?;
    Ok(vec![round(b, v)?])
}

/// `aten.gelu` in both forms (Hendrycks and Gimpel, 2016).
pub fn gelu(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let x = input(b, c)?;
    let half = b.with(B::Mul, x, 0.5)?;
    let inner = if matches!(c.arg(1), OpArg::Str(s) if s == "tanh") {
        let cube = b.binary(B::Mul, x, x)?;
        let cube = b.binary(B::Mul, cube, x)?;
        let cube = b.with(B::Mul, cube, 0.044715)?;
        let sum = b.binary(B::Add, x, cube)?;
        let sum = b.with(B::Mul, sum, (2.0 / std::f64::consts::PI).sqrt())?;
        b.unary(U::Tanh, sum)?
    } else {
        let scaled = b.with(B::Mul, x, std::f64::consts::FRAC_1_SQRT_2)?;
        b.unary(U::Erf, scaled)?
    };
    let one = b.with(B::Add, inner, 1.0)?;
    let v = b.binary(B::Mul, half, one)?;
    Ok(vec![round(b, v)?])
}
