//! Tensors made of numbers alone.

use super::compare::range;
use super::pointwise::round;
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Narrow, Op, ValueId};
use ipex_jit::kernel::{BinaryOp, CmpOp};
use ipex_runtime::DType;

/// `aten.full`
pub fn full(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    filled(b, c, c.number(1)?)
}

/// `aten.scalar_tensor`
pub fn scalar_tensor(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    filled(b, c, c.number(0)?)
}

/// A result that holds one number everywhere.
pub fn filled(b: &mut Builder, c: &NodeCall, value: f64) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if !dtype.is_float() && dtype != DType::Bool {
        let fits = value.is_finite() && range(dtype).contains(&(value as i128));
        if !fits {
            return c.refuse("a number outside the dtype's range");
        }
    }
    let v = b.full(dtype, &sizes, value);
    // Eager rounds the number to the tensor's dtype.
    Ok(vec![round(b, v)?])
}

/// `aten.arange` in its three forms
pub fn arange(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (start, step) = match c.target {
        "aten.arange.default" => (&OpArg::Int(0), &OpArg::Int(1)),
        "aten.arange.start" => (c.arg(0), &OpArg::Int(1)),
        _ => (c.arg(0), c.arg(2)),
    };
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if let (&OpArg::Int(start), &OpArg::Int(step)) = (start, step) {
        let v = b.iota(&sizes, 0, start, step);
        return Ok(vec![b.convert(v, dtype)?]);
    }
    let number = |arg: &OpArg| match arg {
        OpArg::Int(i) => Ok(*i as f64),
        OpArg::Float(x) => Ok(*x),
        other => c.refuse(&format!("a range of {other:?}")),
    };
    let (start, step) = (number(start)?, number(step)?);
    if !dtype.is_float() {
        let whole = |x: f64| x.fract() == 0.0 && x.abs() < (1u64 << 53) as f64;
        if !(whole(start) && whole(step)) {
            return c.refuse("integers from fractions");
        }
        let v = b.iota(&sizes, 0, start as i64, step as i64);
        return Ok(vec![b.convert(v, dtype)?]);
    }
    let v = b.iota(&sizes, 0, 0, 1);
    let v = b.convert(v, DType::F64)?;
    let v = b.with(BinaryOp::Mul, v, step)?;
    let v = b.with(BinaryOp::Add, v, start)?;
    Ok(vec![b.convert(v, dtype)?])
}

/// `aten.eye`, `aten.eye.m`
pub fn eye(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    let (row, col) = (b.iota(&sizes, 0, 0, 1), b.iota(&sizes, 1, 0, 1));
    let v = b.compare(CmpOp::Eq, row, col);
    Ok(vec![b.convert(v, dtype)?])
}

/// `aten.fill` and `aten.copy`: the second operand in the first's place.
pub fn copy(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, out) = (c.output_dtype(0)?, c.output(0)?.clone());
    if let OpArg::Tensor(v) = *c.arg(1) {
        let v = super::pointwise::cast(b, v, dtype)?;
        let v = b.expand(v, &out.sizes);
        return Ok(vec![b.push(Op::Convert { narrow: Narrow::No }, &[v], out)]);
    }
    filled(b, c, c.number(1)?)
}

/// `aten.copy_` into an argument of the graph: AOTAutograd's form of what a function changes in place.
pub fn assign(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let target = c.tensor(0)?;
    let meta = b.graph.values[target].clone();
    let dtype = b.dtype(target)?;
    let mut nodes = b.graph.nodes.values();
    if !matches!(b.graph.producer(target).op, Op::Input(_))
        || nodes.any(|n| n.op == Op::Assign && n.operands[1] == target)
    {
        return c.refuse("no argument that is written once");
    }
    if meta.numel() == 0 || meta.overlaps() {
        return c.refuse("elements that overlap, or none");
    }
    let v = super::pointwise::cast(b, c.tensor(1)?, dtype)?;
    let v = b.expand(v, &meta.sizes);
    Ok(vec![b.push(Op::Assign, &[v, target], meta)])
}
