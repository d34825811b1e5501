//! Reductions, softmax and norms, but for layer norm. Narrow floats accumulate in f32.

use super::pointwise::inverse;
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::strided::contiguous;
use crate::graph::{Op, ValueId};
use crate::passes::whole::part_of;
use ipex_jit::kernel::{BinaryOp as B, ReduceOp, UnaryOp as U};
use ipex_runtime::DType;

/// f32 for narrow floats.
fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// The operand; one without dimensions becomes a row of one element.
fn ranked(b: &mut Builder, c: &NodeCall) -> Result<ValueId, Refusal> {
    let v = c.tensor(0)?;
    if b.graph.values[v].numel() == 0 {
        return c.refuse("an empty operand");
    }
    Ok(if b.sizes(v).is_empty() {
        b.reshape(v, &[1])
    } else {
        v
    })
}

pub(super) fn float_input(b: &mut Builder, c: &NodeCall) -> Result<ValueId, Refusal> {
    let v = ranked(b, c)?;
    let dtype = b.dtype(v)?;
    if !dtype.is_float() {
        return c.refuse("integers");
    }
    b.convert(v, wide(dtype))
}

/// any and all
pub fn truth(b: &mut Builder, c: &NodeCall, op: ReduceOp) -> Result<Vec<ValueId>, Refusal> {
    let v = ranked(b, c)?;
    let dims = c.dims(1, b.sizes(v).len())?;
    let v = b.convert(v, DType::Bool)?;
    let v = b.reduce(op, v, &dims)?;
    Ok(vec![b.reshape(v, &c.output(0)?.sizes)])
}

/// argmax, argmin: the first of equals, or the first NaN.
pub fn position(b: &mut Builder, c: &NodeCall, op: ReduceOp) -> Result<Vec<ValueId>, Refusal> {
    let v = ranked(b, c)?;
    let dims = c.dims(1, b.sizes(v).len())?;
    let at = places(b, v, op, dims);
    Ok(vec![b.reshape(at, &c.output(0)?.sizes)])
}

/// `aten.max.dim` and `aten.min.dim`: extrema, and their places.
pub fn extremum(b: &mut Builder, c: &NodeCall, op: ReduceOp) -> Result<Vec<ValueId>, Refusal> {
    let v = ranked(b, c)?;
    let dims = vec![c.dim(1, b.sizes(v).len())?];
    let most = b.reduce(op, v, &dims)?;
    let at = places(b, v, op, dims);
    let most = b.reshape(most, &c.output(0)?.sizes);
    Ok(vec![most, b.reshape(at, &c.output(1)?.sizes)])
}

/// The first places of extrema.
fn places(b: &mut Builder, v: ValueId, op: ReduceOp, dims: Vec<usize>) -> ValueId {
    let sizes = b.sizes(v);
    let kept = |sizes: &[i64], dims: &[usize]| -> Vec<i64> {
        let kept = sizes.iter().enumerate().filter(|(d, _)| !dims.contains(d));
        kept.map(|(_, &n)| n).collect()
    };
    if dims.iter().all(|&d| sizes[d] == 1) {
        return b.full(DType::I64, &kept(&sizes, &dims), 0.0);
    }
    // Without a dim, the position is one in the flat tensor.
    let (v, sizes, dims) = if dims.len() > 1 {
        let numel = sizes.iter().product();
        (b.reshape(v, &[numel]), vec![numel], vec![0])
    } else {
        (v, sizes, dims)
    };
    let meta = b.meta(DType::I64, &kept(&sizes, &dims));
    b.push(Op::ArgReduce { op, dims }, &[v], meta)
}

/// `aten.var.correction(input, dim, *, correction, keepdim)` and `aten.std.correction`
pub fn var(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (v, _) = moments(b, c)?;
    Ok(vec![b.reshape(v, &c.output(0)?.sizes)])
}

/// `aten.var_mean.correction` and `aten.std_mean.correction`
pub fn var_mean(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (v, mean) = moments(b, c)?;
    let sizes = c.output(0)?.sizes.clone();
    Ok(vec![b.reshape(v, &sizes), b.reshape(mean, &sizes)])
}

/// Most elements of a part of a longer row: at least eight parts, whose errors are apart.
const PART: i64 = 1024;
/// Elements of a row up to which sums in f32, of 64 lanes or more, are as exact as their result can be.
pub(super) const SHORT: i64 = 8192;

/// Variance (or its root) and mean, in two passes over the data. Sums are f64, as eager's, but for short rows and parts of
/// longer ones.
fn moments(b: &mut Builder, c: &NodeCall) -> Result<(ValueId, ValueId), Refusal> {
    let v = float_input(b, c)?;
    let sizes = b.sizes(v);
    let dims = c.dims(1, sizes.len())?;
    let correction = if matches!(c.arg(2), OpArg::None) {
        1.0
    } else {
        c.number(2)?
    };
    let n: i64 = dims.iter().map(|&d| sizes[d]).product();
    let over = (n as f64 - correction).max(0.0);
    let is_row = b.dtype(v)? == DType::F32 && is_row(b, v, &dims);
    let inner = &sizes[sizes.len() - dims.len()..];
    let (mut v, mean) = match part_of(inner, PART).filter(|_| is_row) {
        _ if is_row && n <= SHORT => {
            let [sum, mean, off] = short_moments(b, v, &dims, n)?;
            (b.with(B::Div, sum, over)?, b.binary(B::Add, mean, off)?)
        }
        Some(part) => moments_of_parts(b, v, n, part, over)?,
        None => {
            let mean = double_mean(b, v, &dims, n as f64)?;
            let spread = b.spread(mean, &dims, &sizes);
            let centered = b.binary(B::Sub, v, spread)?;
            let square = b.binary(B::Mul, centered, centered)?;
            (double_mean(b, square, &dims, over)?, mean)
        }
    };
    if c.target.starts_with("aten.std") {
        v = b.unary(U::Sqrt, v)?;
    }
    Ok((v, mean))
}

/// The sum of squared distances from the mean, and the mean in two parts, of `n` elements at a time. The sum of the
/// distances corrects for the mean's rounding (Chan, Golub and LeVeque, 1983).
fn short_moments(
    b: &mut Builder,
    v: ValueId,
    dims: &[usize],
    n: i64,
) -> Result<[ValueId; 3], Refusal> {
    let sizes = b.sizes(v);
    let mean = mean_of(b, v, dims)?;
    let spread = b.spread(mean, dims, &sizes);
    let centered = b.binary(B::Sub, v, spread)?;
    let square = b.binary(B::Mul, centered, centered)?;
    let off = mean_of(b, centered, dims)?;
    let sum = b.reduce(ReduceOp::Sum, square, dims)?;
    let aside = b.binary(B::Mul, off, off)?;
    let aside = b.with(B::Mul, aside, n as f64)?;
    let sum = b.binary(B::Sub, sum, aside)?;
    Ok([sum, mean, off])
}

/// Variance and mean of rows of `n` elements by those of their parts, in one pass over memory: a part stays in cache. What
/// parts give is put together in f64.
fn moments_of_parts(
    b: &mut Builder,
    v: ValueId,
    n: i64,
    part: i64,
    over: f64,
) -> Result<(ValueId, ValueId), Refusal> {
    let rows = b.graph.values[v].numel() / n;
    let sizes = [rows, n / part];
    let v = b.reshape(v, &[rows, n / part, part]);
    let short = short_moments(b, v, &[2], part)?;
    let mut double = |v| b.convert(v, DType::F64);
    let [sum, mean, off] = [double(short[0])?, double(short[1])?, double(short[2])?];
    let part_mean = b.binary(B::Add, mean, off)?;
    let mean = mean_of(b, part_mean, &[1])?;
    let spread = b.spread(mean, &[1], &sizes);
    let off = b.binary(B::Sub, part_mean, spread)?;
    let aside = b.binary(B::Mul, off, off)?;
    let aside = b.with(B::Mul, aside, part as f64)?;
    let sum = b.binary(B::Add, sum, aside)?;
    let sum = b.reduce(ReduceOp::Sum, sum, &[1])?;
    let v = b.with(B::Div, sum, over)?;
    Ok((b.convert(v, DType::F32)?, b.convert(mean, DType::F32)?))
}

/// Whether dims are the last ones of what lies row by row.
fn is_row(b: &Builder, v: ValueId, dims: &[usize]) -> bool {
    let meta = &b.graph.values[v];
    let first = meta.sizes.len() - dims.len();
    dims.iter().copied().eq(first..meta.sizes.len()) && meta.strides == contiguous(&meta.sizes)
}

/// A sum in f64 over a number, in the operand's type.
fn double_mean(b: &mut Builder, v: ValueId, dims: &[usize], over: f64) -> Result<ValueId, Refusal> {
    let dtype = b.dtype(v)?;
    let v = b.convert(v, DType::F64)?;
    let sum = b.reduce(ReduceOp::Sum, v, dims)?;
    let mean = b.with(B::Div, sum, over)?;
    b.convert(mean, dtype)
}

/// sum, prod, amax, amin over dims
pub fn simple(b: &mut Builder, c: &NodeCall, op: ReduceOp) -> Result<Vec<ValueId>, Refusal> {
    let v = ranked(b, c)?;
    // Where these have an argument, it is a dtype.
    let n = match c.target {
        "aten.sum.default" | "aten.prod.default" | "aten.max.default" | "aten.min.default" => {
            usize::MAX
        }
        _ => 1,
    };
    let dims = c.dims(n, b.sizes(v).len())?;
    let out = c.output_dtype(0)?;
    let v = b.convert(v, wide(out))?;
    let v = b.reduce(op, v, &dims)?;
    Ok(vec![b.reshape(v, &c.output(0)?.sizes)])
}

/// `aten.linalg_vector_norm(input, ord, dim, keepdim, *, dtype)` for the usual orders of floats
pub fn vector_norm(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = float_input(b, c)?;
    let out = c.output_dtype(0)?;
    let v = b.convert(v, wide(out))?;
    let dims = c.dims(2, b.sizes(v).len())?;
    let order = c.number(1)?;
    let v = if order == 2.0 {
        let square = b.binary(B::Mul, v, v)?;
        let sum = b.reduce(ReduceOp::Sum, square, &dims)?;
        b.unary(U::Sqrt, sum)?
    } else {
        let op = match order {
            1.0 => ReduceOp::Sum,
            f64::INFINITY => ReduceOp::Max,
            f64::NEG_INFINITY => ReduceOp::Min,
            _ => return c.refuse("another order"),
        };
        let size = b.unary(U::Abs, v)?;
        b.reduce(op, size, &dims)?
    };
    Ok(vec![b.reshape(v, &c.output(0)?.sizes)])
}

pub(super) fn mean_of(b: &mut Builder, v: ValueId, dims: &[usize]) -> Result<ValueId, Refusal> {
    let sizes = b.sizes(v);
    let n: i64 = dims.iter().map(|&d| sizes[d]).product();
    let sum = b.reduce(ReduceOp::Sum, v, dims)?;
    b.with(B::Div, sum, n as f64)
}

/// `aten.mean`
pub fn mean(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = ranked(b, c)?;
    let v = b.convert(v, wide(c.output_dtype(0)?))?;
    let n = if c.target == "aten.mean.default" {
        usize::MAX
    } else {
        1
    };
    let dims = c.dims(n, b.sizes(v).len())?;
    let v = mean_of(b, v, &dims)?;
    Ok(vec![b.reshape(v, &c.output(0)?.sizes)])
}

/// `x - max` and its exponential's sum along one dim.
fn shifted(b: &mut Builder, c: &NodeCall) -> Result<(ValueId, ValueId, ValueId), Refusal> {
    let v = float_input(b, c)?;
    let sizes = b.sizes(v);
    let dims = [c.dim(1, sizes.len())?];
    let max = b.reduce(ReduceOp::Max, v, &dims)?;
    let max = b.spread(max, &dims, &sizes);
    let shifted = b.binary(B::Sub, v, max)?;
    let e = b.unary(U::Exp, shifted)?;
    let sum = b.reduce(ReduceOp::Sum, e, &dims)?;
    Ok((shifted, e, sum))
}

/// `aten._softmax`
pub fn softmax(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (_, e, sum) = shifted(b, c)?;
    let sizes = b.sizes(e);
    let scale = inverse(b, sum)?;
    let scale = b.spread(scale, &[c.dim(1, sizes.len())?], &sizes);
    Ok(vec![b.binary(B::Mul, e, scale)?])
}

/// `aten._log_softmax`
pub fn log_softmax(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (shifted, _, sum) = shifted(b, c)?;
    let sizes = b.sizes(shifted);
    let log = b.unary(U::Log, sum)?;
    let log = b.spread(log, &[c.dim(1, sizes.len())?], &sizes);
    Ok(vec![b.binary(B::Sub, shifted, log)?])
}

/// Scales by an optional weight and shifts by an optional bias, broadcast from the right.
pub(super) fn affine(
    b: &mut Builder,
    v: ValueId,
    weight: Option<ValueId>,
    bias: Option<ValueId>,
) -> Result<ValueId, Refusal> {
    let (dtype, sizes) = (b.dtype(v)?, b.sizes(v));
    let mut v = v;
    for (op, operand) in [(B::Mul, weight), (B::Add, bias)] {
        if let Some(operand) = operand {
            let operand = b.convert(operand, dtype)?;
            let operand = b.expand(operand, &sizes);
            v = b.binary(op, v, operand)?;
        }
    }
    Ok(v)
}

pub(super) fn rsqrt(b: &mut Builder, v: ValueId, eps: f64) -> Result<ValueId, Refusal> {
    let v = b.with(B::Add, v, eps)?;
    let root = b.unary(U::Sqrt, v)?;
    inverse(b, root)
}

/// `aten._fused_rms_norm(input, normalized_shape, weight, eps)` (Zhang and Sennrich, 2019)
pub fn rms_norm(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = float_input(b, c)?;
    let sizes = b.sizes(v);
    let first = sizes.len() - c.ints(1)?.len();
    let dims: Vec<usize> = (first..sizes.len()).collect();
    let square = b.binary(B::Mul, v, v)?;
    let mean = mean_of(b, square, &dims)?;
    let rstd = rsqrt(b, mean, c.number(3)?)?;
    let spread = b.spread(rstd, &dims, &sizes);
    let normed = b.binary(B::Mul, v, spread)?;
    let out = affine(b, normed, c.optional_tensor(2)?, None)?;
    let rstd = b.reshape(rstd, &c.output(1)?.sizes);
    Ok(vec![out, rstd])
}

/// `aten._native_batch_norm_legit_no_training(input, weight, bias, mean, var, momentum, eps)`: only
/// the first result is not empty (Ioffe and Szegedy, 2015).
pub fn batch_norm(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = float_input(b, c)?;
    let (dtype, sizes) = (b.dtype(v)?, b.sizes(v));
    let channels = |b: &mut Builder, t: ValueId| -> Result<ValueId, Refusal> {
        let t = b.convert(t, dtype)?;
        let mut shape = vec![1; sizes.len()];
        shape[1] = sizes[1];
        Ok(b.reshape(t, &shape))
    };
    let var = channels(b, c.tensor(4)?)?;
    let mut scale = rsqrt(b, var, c.number(6)?)?;
    if let Some(weight) = c.optional_tensor(1)? {
        let weight = channels(b, weight)?;
        scale = b.binary(B::Mul, scale, weight)?;
    }
    // As eager: x * scale + shift, both of one number for each channel.
    let mean = channels(b, c.tensor(3)?)?;
    let mut shift = b.binary(B::Mul, mean, scale)?;
    shift = b.unary(U::Neg, shift)?;
    if let Some(bias) = c.optional_tensor(2)? {
        let bias = channels(b, bias)?;
        shift = b.binary(B::Add, bias, shift)?;
    }
    let scale = b.expand(scale, &sizes);
    let shift = b.expand(shift, &sizes);
    let scaled = b.binary(B::Mul, v, scale)?;
    let out = b.binary(B::Add, scaled, shift)?;
    let empty = b.full(dtype, &[0], 0.0);
    Ok(vec![out, empty, empty])
}
