//! Operators on lists of tensors (optimizers): the operator of one tensor, on each.

use super::pointwise::{operand, round};
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::ValueId;
use crate::graph::builder::Builder;
use ipex_jit::kernel::BinaryOp as B;
use ipex_runtime::DType;

/// `_foreach_add.List` and so on, and the operator that takes one element of each list in the same order.
#[rustfmt::skip]
pub static EACH: &[(&str, &str)] = &[
    ("aten._foreach_add.List", "aten.add.Tensor"), ("aten._foreach_add.Tensor", "aten.add.Tensor"),
    ("aten._foreach_add.Scalar", "aten.add.Scalar"), ("aten._foreach_add.ScalarList", "aten.add.Scalar"),
    ("aten._foreach_sub.List", "aten.sub.Tensor"), ("aten._foreach_sub.Scalar", "aten.sub.Scalar"),
    ("aten._foreach_sub.ScalarList", "aten.sub.Scalar"),
    ("aten._foreach_mul.List", "aten.mul.Tensor"), ("aten._foreach_mul.Tensor", "aten.mul.Tensor"),
    ("aten._foreach_mul.Scalar", "aten.mul.Scalar"), ("aten._foreach_mul.ScalarList", "aten.mul.Scalar"),
    ("aten._foreach_div.List", "aten.div.Tensor"), ("aten._foreach_div.Tensor", "aten.div.Tensor"),
    ("aten._foreach_div.Scalar", "aten.div.Scalar"), ("aten._foreach_div.ScalarList", "aten.div.Scalar"),
    ("aten._foreach_pow.List", "aten.pow.Tensor_Tensor"), ("aten._foreach_pow.Scalar", "aten.pow.Tensor_Scalar"),
    ("aten._foreach_pow.ScalarList", "aten.pow.Tensor_Scalar"), ("aten._foreach_pow.ScalarAndTensor", "aten.pow.Scalar"),
    ("aten._foreach_maximum.List", "aten.maximum.default"), ("aten._foreach_maximum.Scalar", "aten.clamp_min.default"),
    ("aten._foreach_minimum.List", "aten.minimum.default"), ("aten._foreach_minimum.Scalar", "aten.clamp_max.default"),
    ("aten._foreach_clamp_min.Scalar", "aten.clamp_min.default"),
    ("aten._foreach_clamp_max.Scalar", "aten.clamp_max.default"),
    ("aten._foreach_lerp.List", "aten.lerp.Tensor"), ("aten._foreach_lerp.Scalar", "aten.lerp.Scalar"),
    ("aten._foreach_lerp.ScalarList", "aten.lerp.Scalar"),
    ("aten._foreach_addcmul.Scalar", "aten.addcmul.default"), ("aten._foreach_addcmul.ScalarList", "aten.addcmul.default"),
    ("aten._foreach_addcdiv.Scalar", "aten.addcdiv.default"), ("aten._foreach_addcdiv.ScalarList", "aten.addcdiv.default"),
    ("aten._foreach_abs.default", "aten.abs.default"), ("aten._foreach_neg.default", "aten.neg.default"),
    ("aten._foreach_sqrt.default", "aten.sqrt.default"), ("aten._foreach_rsqrt.default", "aten.rsqrt.default"),
    ("aten._foreach_reciprocal.default", "aten.reciprocal.default"), ("aten._foreach_exp.default", "aten.exp.default"),
    (NORM, "aten.linalg_vector_norm.default"), ("aten._foreach_sign.default", "aten.sign.default"), ("aten._foreach_clone.default", "aten.clone.default"),
];

/// Its norms are of whole tensors: there are no dims among its arguments.
const NORM: &str = "aten._foreach_norm.Scalar";

/// Translates a call of one of [`EACH`] by `rule`, the other operator's.
pub fn each(
    b: &mut Builder,
    c: &NodeCall,
    target: &str,
    rule: super::table::Rule,
) -> Result<Vec<ValueId>, Refusal> {
    let mut results = Vec::with_capacity(c.outputs.len());
    for k in 0..c.outputs.len() {
        let args = c.args.iter().map(|arg| element(arg, k));
        let args: Option<Vec<OpArg>> = args.collect();
        let Some(mut args) = args else {
            return c.refuse("lists of different lengths");
        };
        if c.target == NORM {
            args.splice(2..2, [OpArg::None, OpArg::Bool(false)]);
        }
        let call = NodeCall {
            target,
            args: &args,
            outputs: &c.outputs[k..=k],
            used: &c.used[k..=k],
            callable: c.callable,
        };
        results.extend(rule(b, &call)?);
    }
    Ok(results)
}

/// The `k`-th element of a list; what is none is the same for all.
fn element(arg: &OpArg, k: usize) -> Option<OpArg> {
    Some(match arg {
        OpArg::Tensors(list) => OpArg::Tensor((*list.get(k)?)?),
        OpArg::Ints(list) => OpArg::Int(*list.get(k)?),
        OpArg::Floats(list) => OpArg::Float(*list.get(k)?),
        OpArg::Bools(list) => OpArg::Bool(*list.get(k)?),
        other => other.clone(),
    })
}

/// `aten.lerp`, from the nearer end, as eager computes it.
pub fn lerp(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if !dtype.is_float() {
        return c.refuse("integers");
    }
    let start = operand(b, c, 0, dtype, &sizes)?;
    let end = operand(b, c, 1, dtype, &sizes)?;
    let weight = operand(b, c, 2, dtype, &sizes)?;
    let way = b.binary(B::Sub, end, start)?;
    let from_start = |b: &mut Builder| {
        let part = b.binary(B::Mul, weight, way)?;
        b.binary(B::Add, start, part)
    };
    let from_end = |b: &mut Builder| {
        let one = b.full(dtype, &sizes, 1.0);
        let rest = b.binary(B::Sub, one, weight)?;
        let part = b.binary(B::Mul, way, rest)?;
        b.binary(B::Sub, end, part)
    };
    let v = match c.arg(2) {
        OpArg::Tensor(_) => {
            let size = b.unary(ipex_jit::kernel::UnaryOp::Abs, weight)?;
            let half = b.full(dtype, &sizes, 0.5);
            let near = b.compare(ipex_jit::kernel::CmpOp::Lt, size, half);
            let (x, y) = (from_start(b)?, from_end(b)?);
            b.select(near, x, y)
        }
        _ if c.number(2)?.abs() < 0.5 => from_start(b)?,
        _ => from_end(b)?,
    };
    Ok(vec![round(b, v)?])
}

/// `aten.addcmul` and `aten.addcdiv`: `self + value * tensor1 op tensor2`, rounded once.
pub fn with_product(b: &mut Builder, c: &NodeCall, op: B) -> Result<Vec<ValueId>, Refusal> {
    let (dtype, sizes) = (c.output_dtype(0)?, c.output(0)?.sizes.clone());
    if dtype == DType::Bool || op == B::Div && !dtype.is_float() {
        return c.refuse("integers");
    }
    let v = operand(b, c, 0, dtype, &sizes)?;
    let (x, y) = (
        operand(b, c, 1, dtype, &sizes)?,
        operand(b, c, 2, dtype, &sizes)?,
    );
    let value = c.number(3)?;
    if !dtype.is_float() && value.fract() != 0.0 {
        return c.refuse("a fraction beside integers");
    }
    let x = if value == 1.0 {
        x
    } else {
        b.with(B::Mul, x, value)?
    };
    let part = b.binary(op, x, y)?;
    let v = b.binary(B::Add, v, part)?;
    Ok(vec![round(b, v)?])
}
