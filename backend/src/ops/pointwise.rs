//! Elementwise operators. Results of narrow dtypes are rounded after each operator, as in eager.

use super::composite::float_binary;
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Narrow, Op, ValueId};
use ipex_jit::kernel::{BinaryOp, CmpOp, UnaryOp};
use ipex_runtime::DType;

/// Argument `n`, a tensor or a number, in this dtype and broadcast to these sizes.
pub fn operand(
    b: &mut Builder,
    c: &NodeCall,
    n: usize,
    dtype: DType,
    sizes: &[i64],
) -> Result<ValueId, Refusal> {
    if let OpArg::Tensor(v) = *c.arg(n) {
        let v = b.convert(v, dtype)?;
        return Ok(b.expand(v, sizes));
    }
    let x = c.number(n)?;
    if !dtype.is_float() && x.fract() != 0.0 {
        return c.refuse("a fraction beside integers");
    }
    Ok(b.full(dtype, sizes, x))
}

/// Rounds to the storage dtype.
pub fn round(b: &mut Builder, v: ValueId) -> Result<ValueId, Refusal> {
    let dtype = b.dtype(v)?;
    if matches!(
        dtype,
        DType::F32 | DType::F64 | DType::I32 | DType::I64 | DType::Bool
    ) {
        return Ok(v);
    }
    let meta = b.graph.values[v].clone();
    Ok(b.push(
        Op::Convert {
            narrow: Narrow::Result,
        },
        &[v],
        meta,
    ))
}

/// The only operand, in the result's dtype.
pub fn input(b: &mut Builder, c: &NodeCall) -> Result<ValueId, Refusal> {
    b.convert(c.tensor(0)?, c.output_dtype(0)?)
}

/// A function of one operand; integers become floats for those that are real functions.
pub fn unary(b: &mut Builder, c: &NodeCall, op: UnaryOp) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    if !b.dtype(v)?.is_float() {
        match op {
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round => {
                return copy(b, c, v);
            }
            UnaryOp::Abs if b.dtype(v)? == DType::U8 => return copy(b, c, v),
            UnaryOp::Neg | UnaryOp::Abs if b.dtype(v)? != DType::Bool => {}
            _ => return c.refuse("integers"),
        }
    }
    let v = b.unary(op, v)?;
    Ok(vec![round(b, v)?])
}

/// Arithmetic on two operands; `add` and `sub` have an alpha.
pub fn binary(b: &mut Builder, c: &NodeCall, op: BinaryOp) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    let op = match (dtype, op) {
        (DType::Bool, BinaryOp::Add) if c.args.len() < 3 || c.number(2)? == 1.0 => BinaryOp::Or,
        (DType::Bool, BinaryOp::Mul) => BinaryOp::And,
        (DType::Bool, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Div) => {
            return c.refuse("truth values");
        }
        _ => op,
    };
    let x = operand(b, c, 0, dtype, &sizes)?;
    let mut y = operand(b, c, 1, dtype, &sizes)?;
    if matches!(op, BinaryOp::Add | BinaryOp::Sub) && c.args.len() > 2 && c.number(2)? != 1.0 {
        let alpha = c.number(2)?;
        if !dtype.is_float() && alpha.fract() != 0.0 {
            return c.refuse("a fraction beside integers");
        }
        y = b.with(BinaryOp::Mul, y, alpha)?;
    }
    let v = b.binary(op, x, y)?;
    Ok(vec![round(b, v)?])
}

/// `aten.where.self`
pub fn where_self(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    let cond = operand(b, c, 0, DType::Bool, &sizes)?;
    let (x, y) = (
        operand(b, c, 1, dtype, &sizes)?,
        operand(b, c, 2, dtype, &sizes)?,
    );
    Ok(vec![b.select(cond, x, y)])
}

/// `aten.rsqrt`
pub fn rsqrt(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    let root = b.unary(UnaryOp::Sqrt, v)?;
    let v = inverse(b, root)?;
    Ok(vec![round(b, v)?])
}

/// `aten.reciprocal`
pub fn reciprocal(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    let v = inverse(b, v)?;
    Ok(vec![round(b, v)?])
}

/// `1 / v`
pub fn inverse(b: &mut Builder, v: ValueId) -> Result<ValueId, Refusal> {
    let (dtype, sizes) = (b.dtype(v)?, b.sizes(v));
    let one = b.full(dtype, &sizes, 1.0);
    b.binary(BinaryOp::Div, one, v)
}

/// `aten.pow.Tensor_Scalar` for the exponents that eager also treats apart.
pub fn pow_scalar(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = input(b, c)?;
    let exponent = c.number(1)?;
    let dtype = b.dtype(v)?;
    if dtype == DType::Bool || !dtype.is_float() && (exponent < 0.0 || exponent.fract() != 0.0) {
        return c.refuse("an integer power that may raise");
    }
    let square = b.binary(BinaryOp::Mul, v, v)?;
    let result = if exponent == 2.0 {
        square
    } else if exponent == 3.0 {
        b.binary(BinaryOp::Mul, square, v)?
    } else if exponent == 1.0 {
        v
    } else if exponent == 0.5 {
        b.unary(UnaryOp::Sqrt, v)?
    } else if exponent == -1.0 {
        inverse(b, v)?
    } else {
        b.with(BinaryOp::Pow, v, exponent)?
    };
    Ok(vec![round(b, result)?])
}

/// `aten.pow.Scalar`: of f32 `2^(x·log2 base)` with the product as a pair of floats, since the logarithm of a constant is known.
pub fn scalar_pow(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, base) = (c.output_dtype(0)?, c.number(0)? as f32);
    // Any power of 1 is 1, also those by infinities.
    let usual = base > 0.0 && base.is_finite() && base != 1.0;
    if dtype != DType::F32 || !usual {
        return float_binary(b, c, BinaryOp::Pow);
    }
    let sizes = c.output(0)?.sizes.clone();
    let x = operand(b, c, 1, dtype, &sizes)?;
    let log = f64::from(base).log2();
    let high = b.full(dtype, &sizes, log);
    let low = b.full(dtype, &sizes, log - f64::from(log as f32));
    let t = b.binary(BinaryOp::Mul, x, high)?;
    let y = b.unary(UnaryOp::Exp2, t)?;

    // What the product's rounding has cost; it is as large as its factors, or NaN, where the result is infinite or 0.
    let minus = b.unary(UnaryOp::Neg, t)?;
    let meta = b.meta(dtype, &sizes);
    let rest = b.push(Op::Fma, &[x, high, minus], meta.clone());
    let rest = b.push(Op::Fma, &[x, low, rest], meta.clone());
    let (most, least) = (b.full(dtype, &sizes, 128.0), b.full(dtype, &sizes, -150.0));
    let below = b.compare(CmpOp::Lt, t, most);
    let above = b.compare(CmpOp::Gt, t, least);
    let finite = b.binary(BinaryOp::And, below, above)?;
    let zero = b.full(dtype, &sizes, 0.0);
    let rest = b.select(finite, rest, zero);
    let slope = b.with(BinaryOp::Mul, y, std::f64::consts::LN_2)?;
    let corrected = b.push(Op::Fma, &[slope, rest, y], meta);
    let y = b.select(finite, corrected, y);
    Ok(vec![round(b, y)?])
}

/// `prims.fma`: `a·b + c`, rounded once (of narrow floats as f32, and then again).
pub fn fma(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if !dtype.is_float() {
        return c.refuse("integers");
    }
    let mut operands = Vec::with_capacity(3);
    for n in 0..3 {
        operands.push(operand(b, c, n, dtype, &sizes)?);
    }
    let meta = b.meta(dtype, &sizes);
    let v = b.push(Op::Fma, &operands, meta);
    Ok(vec![round(b, v)?])
}

/// A float as an integer: truncated, then wrapped to a narrow dtype.
pub fn cast(b: &mut Builder, v: ValueId, to: DType) -> Result<ValueId, Refusal> {
    let from = b.dtype(v)?;
    let wraps = from.is_float() && matches!(to, DType::U8 | DType::I8 | DType::I16);
    let v = if wraps { b.convert(v, DType::I64)? } else { v };
    b.convert(v, to)
}

/// `aten._to_copy`, `prims.convert_element_type`, `aten.clone`, `aten.lift_fresh_copy`: memory of its own, since the result or
/// the operand may be changed in place by whoever gets it. Within a kernel a copy costs nothing.
pub fn to_copy(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = c.tensor(0)?;
    let (from, to) = (b.dtype(v)?, c.output_dtype(0)?);
    if from == to {
        return copy(b, c, v);
    }
    Ok(vec![cast(b, v, to)?])
}

/// The elements of `v` as a result in memory of its own.
pub fn copy(b: &mut Builder, c: &NodeCall, v: ValueId) -> Result<Vec<ValueId>, Refusal> {
    let out = c.output(0)?.clone();
    Ok(vec![b.push(Op::Convert { narrow: Narrow::No }, &[v], out)])
}
