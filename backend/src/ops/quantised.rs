//! Quantisation as `torch.ao` and torchao write it (`quantized_decomposed`), and products of weights that are bytes. Each
//! becomes the arithmetic that it stands for; products then find the bytes behind it ([`crate::passes::bytes`]).

use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::strided::contiguous;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::{BinaryOp as B, UnaryOp as U};
use ipex_runtime::DType;
use ipex_runtime::plan::{OfBytes, ProductStep, Route};

/// Scale or zero point, argument `n`, in this type and broadcast to these sizes: a number, a tensor of one element, or
/// one for each index of dimension `axis`.
fn factor(
    b: &mut Builder,
    c: &NodeCall,
    n: usize,
    axis: Option<usize>,
    (dtype, sizes): (DType, &[i64]),
) -> Result<ValueId, Refusal> {
    let OpArg::Tensor(v) = *c.arg(n) else {
        return Ok(b.full(dtype, sizes, c.number(n)?));
    };
    let mut ones = vec![1; sizes.len()];
    if let Some(axis) = axis {
        ones[axis] = sizes[axis];
    }
    let count: i64 = ones.iter().product();
    if b.graph.values[v].numel() != count {
        return c.refuse("so many scales or zero points");
    }
    let v = b.convert(v, dtype)?;
    let v = b.reshape(v, &ones);
    Ok(b.expand(v, sizes))
}

/// The dimension that scales belong to, and the place of the next argument.
fn axis(c: &NodeCall, rank: usize) -> Result<(Option<usize>, usize), Refusal> {
    match c.target.contains("per_channel") {
        true => Ok((Some(c.dim(3, rank)?), 4)),
        false => Ok((None, 3)),
    }
}

/// `quantized_decomposed.quantize_per_tensor` and `per_channel`: `clamp(round(x * (1 / scale)) + zero)`
pub fn quantize(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let x = c.tensor(0)?;
    let dtype = c.output_dtype(0)?;
    let floats = matches!(b.dtype(x)?, DType::F32 | DType::BF16 | DType::F16);
    if !floats || !matches!(dtype, DType::U8 | DType::I8 | DType::I16 | DType::I32) {
        return c.refuse("other types");
    }
    let sizes = b.sizes(x);
    let (axis, limits) = axis(c, sizes.len())?;
    let x = b.convert(x, DType::F32)?;
    let whole = (DType::F32, sizes.as_slice());
    let inverse = match c.arg(1) {
        OpArg::Tensor(_) => {
            // Of one scale, eager divides in f64.
            let wide = match axis {
                Some(_) => DType::F32,
                None => DType::F64,
            };
            let scale = factor(b, c, 1, axis, (wide, &sizes))?;
            let one = b.full(wide, &sizes, 1.0);
            let inverse = b.binary(B::Div, one, scale)?;
            b.convert(inverse, DType::F32)?
        }
        _ => b.full(DType::F32, &sizes, 1.0 / c.number(1)?),
    };
    let zero = factor(b, c, 2, axis, whole)?;
    let v = b.binary(B::Mul, x, inverse)?;
    let v = b.unary(U::Round, v)?;
    let v = b.binary(B::Add, v, zero)?;
    let [low, high] = [c.number(limits)?, c.number(limits + 1)?];
    let low = b.full(DType::F32, &sizes, low);
    let high = b.full(DType::F32, &sizes, high);
    let v = b.binary(B::Max, v, low)?;
    let v = b.binary(B::Min, v, high)?;
    Ok(vec![integers(b, v, dtype)?])
}

/// Floats that are integers of this type, as such. Vectors have no saturating conversion, which these do not need: of a float
/// between 2^23 and 2^24 the last bits are an integer.
fn integers(b: &mut Builder, v: ValueId, dtype: DType) -> Result<ValueId, Refusal> {
    const MIDDLE: f64 = 12_582_912.0;
    if !matches!(dtype, DType::U8 | DType::I8) {
        return b.convert(v, dtype);
    }
    let v = b.with(B::Add, v, MIDDLE)?;
    let meta = b.meta(DType::I32, &b.sizes(v));
    let bits = b.push(Op::Unary(U::Bitcast), &[v], meta);
    b.convert(bits, dtype)
}

/// `quantized_decomposed.dequantize_per_tensor` and `per_channel`: `(x - zero) * scale`
pub fn dequantize(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let x = c.tensor(0)?;
    let integers = matches!(b.dtype(x)?, DType::U8 | DType::I8 | DType::I16 | DType::I32);
    let out = c.output_dtype(0)?;
    if !integers || !matches!(out, DType::F32 | DType::BF16 | DType::F16) {
        return c.refuse("other types");
    }
    let sizes = b.sizes(x);
    let (axis, _) = axis(c, sizes.len())?;
    let whole = (DType::F32, sizes.as_slice());
    let mut v = b.convert(x, DType::F32)?;
    if !matches!(c.arg(2), OpArg::None) {
        let zero = factor(b, c, 2, axis, whole)?;
        v = b.binary(B::Sub, v, zero)?;
    }
    let scale = factor(b, c, 1, axis, whole)?;
    let v = b.binary(B::Mul, v, scale)?;
    Ok(vec![b.convert(v, out)?])
}

/// `quantized_decomposed.dequantize_per_channel_group`: `(x - zero) * scale`, of as many neighbours in a row.
pub fn dequantize_groups(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let x = c.tensor(0)?;
    let out = c.output_dtype(0)?;
    let sizes = b.sizes(x);
    let size = c.int(6)?;
    let types = matches!(b.dtype(x)?, DType::U8 | DType::I8);
    let floats = matches!(out, DType::F32 | DType::BF16 | DType::F16);
    let &[n, k] = sizes.as_slice() else {
        return c.refuse("other than a matrix");
    };
    if !types || !floats || size < 1 || k % size != 0 {
        return c.refuse("other types or groups");
    }
    let groups = [n, k / size, 1];
    let whole = [n, k / size, size];
    let v = b.reshape(x, &whole);
    let mut v = b.convert(v, DType::F32)?;
    for (argument, op) in [(2, B::Sub), (1, B::Mul)] {
        if matches!(c.arg(argument), OpArg::None) {
            continue;
        }
        let by = c.tensor(argument)?;
        if b.graph.values[by].numel() != n * (k / size) {
            return c.refuse("so many scales or zero points");
        }
        let by = b.convert(by, DType::F32)?;
        let by = b.reshape(by, &groups);
        let by = b.expand(by, &whole);
        v = b.binary(op, v, by)?;
    }
    let v = b.reshape(v, &sizes);
    Ok(vec![b.convert(v, out)?])
}

/// `aten._weight_int8pack_mm`: `x @ w.t() * scales`
pub fn weight_int8pack_mm(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let [x, w, scales] = [c.tensor(0)?, c.tensor(1)?, c.tensor(2)?];
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if b.dtype(w)? != DType::I8 || b.dtype(x)? != dtype || sizes.len() != 2 {
        return c.refuse("other types or sizes");
    }
    let w = b.convert(w, dtype)?;
    let w = b.permute(w, &[1, 0]);
    let call = Op::External {
        name: "aten.mm.default".into(),
        route: Route::OutFunction {
            symbol: "aoti_torch_cpu_mm_out",
        },
        args: b.graph.tensor_arguments(&[x, w]),
    };
    let meta = b.meta(dtype, &sizes);
    let v = b.push(call, &[x, w], meta);
    let scales = b.convert(scales, dtype)?;
    let scales = b.expand(scales, &sizes);
    let v = b.binary(B::Mul, v, scales)?;
    Ok(vec![super::pointwise::round(b, v)?])
}

/// `aten._weight_int4pack_mm_for_cpu`: a weight of four bits as PyTorch packs it, scales and zero points of groups.
pub fn weight_int4pack_mm(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let [x, w, factors] = [c.tensor(0)?, c.tensor(1)?, c.tensor(3)?];
    let (dtype, size) = (c.output_dtype(0)?, c.int(2)?);
    let Some(columns) = b.graph.nibble_columns.filter(|_| !b.graph.gpu) else {
        return c.refuse("another layout of the weight");
    };
    let (&[m, k], &[n, half]) = (b.sizes(x).as_slice(), b.sizes(w).as_slice()) else {
        return c.refuse("other sizes");
    };
    let types = b.dtype(x)? == dtype && b.dtype(w)? == DType::U8 && b.dtype(factors)? == dtype;
    let dense = [w, factors].iter().all(|&v| {
        let meta = &b.graph.values[v];
        meta.strides == contiguous(&meta.sizes)
    });
    // Of other groups eager makes an error.
    let sizes =
        2 * half == k && [32, 64, 128, 256].contains(&size) && b.sizes(factors) == [k / size, n, 2];
    if !types || !dense || !sizes || !ProductStep::takes_nibbles(dtype, [m, n, k], columns, size) {
        return c.refuse("no kernel of ours for it");
    }
    let size = size as usize;
    let call = Op::External {
        name: crate::passes::bytes::NAME.into(),
        route: Route::Bytes(OfBytes::Nibbles { columns, size }),
        args: b.graph.tensor_arguments(&[x, w, factors]),
    };
    let meta = b.meta(DType::F32, &[m, n]);
    let v = b.push(call, &[x, w, factors], meta);
    b.graph.of_bytes.push(b.origin);
    Ok(vec![b.convert(v, dtype)?])
}
