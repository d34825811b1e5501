//! Elementwise operators that are a few primitives.

use super::pointwise::{input, operand, round};
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::ValueId;
use crate::graph::builder::Builder;
use ipex_jit::kernel::{BinaryOp as B, CmpOp, UnaryOp as U};
use ipex_runtime::DType;

/// `v op number`
fn against(b: &mut Builder, op: CmpOp, v: ValueId, number: f64) -> Result<ValueId, Refusal> {
    let (dtype, sizes) = (b.dtype(v)?, b.sizes(v));
    let c = b.full(dtype, &sizes, number);
    Ok(b.compare(op, v, c))
}

/// `aten.logical_not`, and `aten.bitwise_not`
pub fn not(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let dtype = b.dtype(v)?;
    if dtype == DType::Bool {
        return Ok(vec![b.unary(U::Not, v)?]);
    }
    if c.target == "aten.bitwise_not.default" {
        let v = b.unary(U::Not, v)?;
        return Ok(vec![round(b, v)?]);
    }
    Ok(vec![against(b, CmpOp::Eq, v, 0.0)?])
}

/// `aten.sign`: 0 for NaN.
pub fn sign(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    let dtype = b.dtype(v)?;
    if dtype == DType::Bool {
        return Ok(vec![v]);
    }
    let above = against(b, CmpOp::Gt, v, 0.0)?;
    let below = against(b, CmpOp::Lt, v, 0.0)?;
    let (above, below) = (b.convert(above, dtype)?, b.convert(below, dtype)?);
    Ok(vec![b.binary(B::Sub, above, below)?])
}

/// `aten.isnan`; integers never are.
pub fn isnan(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    if b.dtype(v)?.is_float() {
        return Ok(vec![b.unary(U::IsNan, v)?]);
    }
    let sizes = b.sizes(v);
    Ok(vec![b.full(DType::Bool, &sizes, 0.0)])
}

/// `aten.isinf`; integers never are.
pub fn isinf(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    if b.dtype(v)?.is_float() {
        let size = b.unary(U::Abs, v)?;
        return Ok(vec![against(b, CmpOp::Eq, size, f64::INFINITY)?]);
    }
    let sizes = b.sizes(v);
    Ok(vec![b.full(DType::Bool, &sizes, 0.0)])
}

/// `aten.logical_and`, `or` and `xor` of any dtypes.
pub fn logical(b: &mut Builder, c: &NodeCall, op: B) -> Result<Vec<ValueId>, Refusal> {
    let sizes = c.output(0)?.sizes.clone();
    let mut sides = [c.tensor(0)?, c.tensor(1)?];
    for v in &mut sides {
        if b.dtype(*v)? != DType::Bool {
            *v = against(b, CmpOp::Ne, *v, 0.0)?;
        }
        *v = b.expand(*v, &sizes);
    }
    Ok(vec![b.binary(op, sides[0], sides[1])?])
}

/// `aten.clamp`, `clamp_min`, `clamp_max` with numbers.
pub fn clamp(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    let bounds = match c.target {
        "aten.clamp_min.default" => vec![(1, B::Max)],
        "aten.clamp_max.default" => vec![(1, B::Min)],
        _ => vec![(1, B::Max), (2, B::Min)],
    };
    let mut v = operand(b, c, 0, dtype, &sizes)?;
    for (n, op) in bounds {
        if matches!(c.arg(n), OpArg::None) {
            continue;
        }
        if c.number(n)?.is_nan() {
            return c.refuse("a bound that is NaN");
        }
        let bound = operand(b, c, n, dtype, &sizes)?;
        v = b.binary(op, v, bound)?;
    }
    Ok(vec![round(b, v)?])
}

/// `aten.div.Tensor_mode` and `Scalar_mode`
pub fn div_mode(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if !dtype.is_float() {
        // Eager raises on a division by zero.
        return c.refuse("integers");
    }
    let (x, y) = (
        operand(b, c, 0, dtype, &sizes)?,
        operand(b, c, 1, dtype, &sizes)?,
    );
    let v = match c.arg(2) {
        OpArg::Str(mode) if mode == "floor" => b.binary(B::FloorDiv, x, y)?,
        OpArg::Str(mode) if mode == "trunc" => {
            let q = b.binary(B::Div, x, y)?;
            let q = round(b, q)?;
            b.unary(U::Trunc, q)?
        }
        _ => b.binary(B::Div, x, y)?,
    };
    Ok(vec![round(b, v)?])
}

/// Binary functions of floats; integers are left to ATen, where they may raise.
pub fn float_binary(b: &mut Builder, c: &NodeCall, op: B) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if !dtype.is_float() {
        return c.refuse("integers");
    }
    let (x, y) = (
        operand(b, c, 0, dtype, &sizes)?,
        operand(b, c, 1, dtype, &sizes)?,
    );
    let v = b.binary(op, x, y)?;
    Ok(vec![round(b, v)?])
}

/// `aten.full_like`, `zeros_like`, `ones_like`
pub fn full_like(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    let value = match c.target {
        "aten.zeros_like.default" => 0.0,
        "aten.ones_like.default" => 1.0,
        _ => c.number(1)?,
    };
    Ok(vec![b.full(dtype, &sizes, value)])
}

/// `aten.flip`
pub fn flip(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let sizes = b.sizes(v);
    if c.ints(1)?.is_empty() || sizes.is_empty() {
        return c.refuse("no dims");
    }
    let (mut start, mut step) = (vec![0; sizes.len()], vec![1; sizes.len()]);
    for d in c.dims(1, sizes.len())? {
        (start[d], step[d]) = (sizes[d] - 1, -1);
    }
    let meta = b.meta(b.dtype(v)?, &sizes);
    let flipped = b.push(
        crate::graph::Op::View(crate::graph::View::Slice { start, step }),
        &[v],
        meta.clone(),
    );
    Ok(vec![b.push(
        crate::graph::Op::Convert { narrow: false },
        &[flipped],
        meta,
    )])
}
