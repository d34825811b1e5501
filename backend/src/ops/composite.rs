//! Elementwise operators that are a few primitives.

use super::pointwise::{copy, input, operand, round};
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::Op;
use crate::graph::builder::Builder;
use crate::graph::{Narrow, ValueId};
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
        return copy(b, c, v);
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

/// `aten.clamp`, `clamp_min`, `clamp_max`
pub fn clamp(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    let bounds = match c.target {
        "aten.clamp_min.default" | "aten.clamp_min.Tensor" => vec![(1, B::Max)],
        "aten.clamp_max.default" | "aten.clamp_max.Tensor" => vec![(1, B::Min)],
        _ => vec![(1, B::Max), (2, B::Min)],
    };
    let mut v = operand(b, c, 0, dtype, &sizes)?;
    for (n, op) in bounds {
        if matches!(c.arg(n), OpArg::None) {
            continue;
        }
        if !matches!(c.arg(n), OpArg::Tensor(_)) && c.number(n)?.is_nan() {
            return c.refuse("a bound that is NaN");
        }
        let bound = operand(b, c, n, dtype, &sizes)?;
        v = b.binary(op, v, bound)?;
    }
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

/// `aten.fmax`, `aten.fmin`: a NaN only if both are.
pub fn ignoring_nan(b: &mut Builder, c: &NodeCall, op: B) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    let (x, y) = (
        operand(b, c, 0, dtype, &sizes)?,
        operand(b, c, 1, dtype, &sizes)?,
    );
    let v = b.binary(op, x, y)?;
    if !dtype.is_float() {
        return Ok(vec![v]);
    }
    let (no_x, no_y) = (b.unary(U::IsNan, x)?, b.unary(U::IsNan, y)?);
    let v = b.select(no_y, x, v);
    Ok(vec![b.select(no_x, y, v)])
}

/// `aten.signbit`; also of -0 and NaN.
pub fn signbit(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let (dtype, sizes) = (b.dtype(v)?, b.sizes(v));
    let bits = match dtype {
        DType::Bool => return Ok(vec![b.full(DType::Bool, &sizes, 0.0)]),
        _ if dtype.is_float() => {
            let (from, to) = match dtype {
                DType::F64 => (DType::F64, DType::I64),
                _ => (DType::F32, DType::I32),
            };
            let v = b.convert(v, from)?;
            let meta = b.meta(to, &sizes);
            b.push(Op::Unary(U::Bitcast), &[v], meta)
        }
        _ => v,
    };
    Ok(vec![against(b, CmpOp::Lt, bits, 0.0)?])
}

/// `aten.round.decimals`, with a rounding after each step as in eager.
pub fn round_decimals(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    if !b.dtype(v)?.is_float() {
        return c.refuse("integers");
    }
    let decimals = i32::try_from(c.int(1)?).or_else(|_| c.refuse("so many decimals"))?;
    let (there, back) = if decimals < 0 {
        (B::Div, B::Mul)
    } else {
        (B::Mul, B::Div)
    };
    let power = 10f64.powi(decimals.abs());
    let v = b.with(there, v, power)?;
    let v = round(b, v)?;
    let v = b.unary(U::Round, v)?;
    let v = b.with(back, v, power)?;
    Ok(vec![round(b, v)?])
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
        crate::graph::Op::Convert { narrow: Narrow::No },
        &[flipped],
        meta,
    )])
}
