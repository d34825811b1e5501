//! Layer norm and its gradients. Narrow floats are computed in f32.

use super::reduce::{SHORT, affine, float_input, mean_of, rsqrt};
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Op, ValueId, View};
use ipex_jit::kernel::{BinaryOp as B, CmpOp, ReduceOp, UnaryOp as U};

/// `aten.native_layer_norm(input, normalized_shape, weight, bias, eps)` (Ba et al., 2016): one loop over a row adds up the
/// distances from an element and their squares, from which come the mean and the variance (Chan, Golub and LeVeque, 1983).
pub fn forward(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = float_input(b, c)?;
    let (dtype, sizes) = (b.dtype(v)?, b.sizes(v));
    let first = sizes.len().checked_sub(c.ints(1)?.len());
    let Some(first) = first else {
        return c.refuse("more normalized dims than the input has");
    };
    let dims: Vec<usize> = (first..sizes.len()).collect();
    let n: i64 = sizes[first..].iter().product();
    // A GPU's threads have a row among them, and its products' epilogues no elements of other columns. What is lost where the
    // element is far from the mean grows with the row.
    let near = match b.graph.gpu || n > SHORT {
        true => mean_of(b, v, &dims)?,
        false => near_mean(b, v, first),
    };
    let spread = b.spread(near, &dims, &sizes);
    let distance = b.binary(B::Sub, v, spread)?;
    let square = b.binary(B::Mul, distance, distance)?;
    let off = mean_of(b, distance, &dims)?;
    let square = mean_of(b, square, &dims)?;
    let aside = b.binary(B::Mul, off, off)?;
    let var = b.binary(B::Sub, square, aside)?;
    let var = b.with(B::Max, var, 0.0)?;
    let rstd = rsqrt(b, var, c.number(4)?)?;

    // (v - mean) * rstd
    let shift = b.binary(B::Mul, off, rstd)?;
    let shift = b.unary(U::Neg, shift)?;
    let [scale, shift] = [rstd, shift].map(|row| b.spread(row, &dims, &sizes));
    let meta = b.meta(dtype, &sizes);
    let normed = b.push(Op::Fma, &[distance, scale, shift], meta.clone());
    let out = match (c.optional_tensor(2)?, c.optional_tensor(3)?) {
        (Some(weight), Some(bias)) => {
            let mut spread = |v: ValueId| -> Result<ValueId, Refusal> {
                let v = b.convert(v, dtype)?;
                Ok(b.expand(v, &sizes))
            };
            let (weight, bias) = (spread(weight)?, spread(bias)?);
            b.push(Op::Fma, &[normed, weight, bias], meta)
        }
        (weight, bias) => affine(b, normed, weight, bias)?,
    };
    let mean = b.binary(B::Add, near, off)?;
    let mean = b.reshape(mean, &c.output(1)?.sizes);
    let rstd = b.reshape(rstd, &c.output(2)?.sizes);
    Ok(vec![out, mean, rstd])
}

/// A number near the mean of what follows the first dims: the median of five elements, so that two that are far from all others
/// (transformers norm such) are not taken. The further it is from the mean, the more of the variance cancels.
fn near_mean(b: &mut Builder, v: ValueId, first: usize) -> ValueId {
    let meta = b.graph.values[v].clone();
    let mut at = |tenths: i64| {
        let mut start = vec![0; first];
        start.extend(meta.sizes[first..].iter().map(|n| n * tenths / 10));
        let step = vec![1; meta.sizes.len()];
        let mut one = meta.clone();
        one.sizes[first..].fill(1);
        let one = b.push(Op::View(View::Slice { start, step }), &[v], one);
        b.reshape(one, &meta.sizes[..first])
    };
    let [v, w, x, y, z] = [1, 3, 5, 7, 9].map(&mut at);
    let (first, second) = (in_order(b, v, w), in_order(b, x, y));
    let (_, low) = in_order(b, first.0, second.0);
    let (high, _) = in_order(b, first.1, second.1);
    let (low, high) = in_order(b, low, high);
    let (middle, _) = in_order(b, high, z);
    in_order(b, low, middle).1
}

/// The smaller and the larger of two numbers (of a NaN either; all of its row becomes NaN).
fn in_order(b: &mut Builder, x: ValueId, y: ValueId) -> (ValueId, ValueId) {
    let less = b.compare(CmpOp::Lt, x, y);
    (b.select(less, x, y), b.select(less, y, x))
}

/// The operands of the gradients.
struct Backward {
    grad: ValueId,
    /// Distances from the mean.
    centered: ValueId,
    rstd: ValueId,
    sizes: Vec<i64>,
    /// The normalized dims.
    inner: Vec<usize>,
    /// The others.
    outer: Vec<usize>,
}

/// `aten.native_layer_norm_backward(grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask)`: gradients of
/// the input, the weight and the bias.
pub fn backward(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let OpArg::Bools(wanted) = c.arg(7) else {
        return c.refuse("no mask of results");
    };
    let grad = float_input(b, c)?;
    let (dtype, sizes) = (b.dtype(grad)?, b.sizes(grad));
    let mut wide = |v: ValueId| b.convert(v, dtype);
    let [x, mean, rstd] = [
        wide(c.tensor(1)?)?,
        wide(c.tensor(3)?)?,
        wide(c.tensor(4)?)?,
    ];
    let first = match sizes.len().checked_sub(c.ints(2)?.len()) {
        Some(first) if b.sizes(x) == sizes => first,
        _ => return c.refuse("operands of other shapes"),
    };
    let inner: Vec<usize> = (first..sizes.len()).collect();
    let spread = b.spread(mean, &inner, &sizes);
    let rows = &sizes[..first];
    let of = Backward {
        grad,
        centered: b.binary(B::Sub, x, spread)?,
        rstd: b.reshape(rstd, rows),
        inner,
        outer: (0..first).collect(),
        sizes,
    };
    // Results that are not wanted are none.
    let gradients = [of_input, of_weight, of_bias].into_iter().zip(wanted);
    let gradients: Vec<_> = gradients.filter(|(_, wanted)| **wanted).collect();
    if gradients.len() != c.outputs.len() {
        return c.refuse("a result that is no tensor");
    }
    let results = gradients
        .into_iter()
        .map(|(gradient, _)| gradient(b, c, &of));
    results.collect()
}

/// `rstd * (g - mean(g) - normed * mean(g * normed))` of `g = grad * weight`. The first difference is rounded before it is
/// multiplied: where all of a row's `g` are equal, as in a row of one element, it is 0, however large `rstd` is.
fn of_input(b: &mut Builder, c: &NodeCall, of: &Backward) -> Result<ValueId, Refusal> {
    let (inner, sizes) = (&of.inner, &of.sizes);
    let g = affine(b, of.grad, c.optional_tensor(5)?, None)?;
    let n: i64 = inner.iter().map(|&d| sizes[d]).product();
    let sum = b.reduce(ReduceOp::Sum, g, inner)?;
    let aside = b.binary(B::Mul, g, of.centered)?;
    let aside = b.reduce(ReduceOp::Sum, aside, inner)?;
    let mean = b.with(B::Div, sum, n as f64)?;
    let mut slope = b.with(B::Div, aside, -n as f64)?;
    for _ in 0..2 {
        slope = b.binary(B::Mul, slope, of.rstd)?;
    }
    let [scale, slope, mean] = [of.rstd, slope, mean].map(|v| b.spread(v, inner, sizes));
    let apart = b.binary(B::Sub, g, mean)?;
    let meta = b.graph.values[g].clone();
    let rest = b.push(Op::Fma, &[of.centered, slope, apart], meta);
    b.binary(B::Mul, rest, scale)
}

fn of_weight(b: &mut Builder, _: &NodeCall, of: &Backward) -> Result<ValueId, Refusal> {
    let scale = b.spread(of.rstd, &of.inner, &of.sizes);
    let normed = b.binary(B::Mul, of.centered, scale)?;
    let product = b.binary(B::Mul, of.grad, normed)?;
    over_rows(b, product, of)
}

fn of_bias(b: &mut Builder, _: &NodeCall, of: &Backward) -> Result<ValueId, Refusal> {
    over_rows(b, of.grad, of)
}

/// The sum over what is not normalized.
fn over_rows(b: &mut Builder, v: ValueId, of: &Backward) -> Result<ValueId, Refusal> {
    match of.outer.is_empty() {
        true => Ok(v),
        false => b.reduce(ReduceOp::Sum, v, &of.outer),
    }
}
