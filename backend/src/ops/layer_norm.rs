//! Layer norm and its gradients. Narrow floats are computed in f32.

use super::reduce::{affine, float_input, mean_of, rsqrt};
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::{BinaryOp as B, ReduceOp};

/// `aten.native_layer_norm(input, normalized_shape, weight, bias, eps)` (Ba et al., 2016)
pub fn forward(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let v = float_input(b, c)?;
    let sizes = b.sizes(v);
    let first = sizes.len() - c.ints(1)?.len();
    let dims: Vec<usize> = (first..sizes.len()).collect();
    let mean = mean_of(b, v, &dims)?;
    let spread = b.spread(mean, &dims, &sizes);
    let centered = b.binary(B::Sub, v, spread)?;
    let square = b.binary(B::Mul, centered, centered)?;
    let var = mean_of(b, square, &dims)?;
    let rstd = rsqrt(b, var, c.number(4)?)?;
    let spread = b.spread(rstd, &dims, &sizes);
    let normed = b.binary(B::Mul, centered, spread)?;
    let out = affine(b, normed, c.optional_tensor(2)?, c.optional_tensor(3)?)?;
    let mean = b.reshape(mean, &c.output(1)?.sizes);
    let rstd = b.reshape(rstd, &c.output(2)?.sizes);
    Ok(vec![out, mean, rstd])
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

/// `rstd * (g - mean(g) - normed * mean(g * normed))` of `g = grad * weight`, with one multiply-add for each factor that differs
/// between rows.
fn of_input(b: &mut Builder, c: &NodeCall, of: &Backward) -> Result<ValueId, Refusal> {
    let (inner, sizes) = (&of.inner, &of.sizes);
    let g = affine(b, of.grad, c.optional_tensor(5)?, None)?;
    let n: i64 = inner.iter().map(|&d| sizes[d]).product();
    let sum = b.reduce(ReduceOp::Sum, g, inner)?;
    let aside = b.binary(B::Mul, g, of.centered)?;
    let aside = b.reduce(ReduceOp::Sum, aside, inner)?;
    let mut per_row = |sum: ValueId| -> Result<ValueId, Refusal> {
        let mean = b.with(B::Mul, sum, -1.0 / n as f64)?;
        b.binary(B::Mul, mean, of.rstd)
    };
    let (shift, mut slope) = (per_row(sum)?, per_row(aside)?);
    for _ in 0..2 {
        slope = b.binary(B::Mul, slope, of.rstd)?;
    }
    let [scale, slope, shift] = [of.rstd, slope, shift].map(|v| b.spread(v, inner, sizes));
    let meta = b.graph.values[g].clone();
    let rest = b.push(Op::Fma, &[of.centered, slope, shift], meta.clone());
    Ok(b.push(Op::Fma, &[g, scale, rest], meta))
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
