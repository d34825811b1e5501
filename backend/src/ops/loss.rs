//! Losses and their gradients.

use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::{BinaryOp as B, CmpOp, ReduceOp, UnaryOp as U};
use ipex_runtime::DType;
use ipex_runtime::plan::IndexRule;

/// The reductions' codes.
const EACH: i64 = 0;
const MEAN: i64 = 1;

/// `aten.nll_loss_forward(input, target, weight, reduction, ignore_index)` of a batch of scores: the negative
/// score of each row's class, which the kernel of the softmax in front of it picks while it is at the row; and
/// the sum of the classes' weights.
pub fn nll_forward(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (input, target) = (c.tensor(0)?, c.tensor(1)?);
    let (dtype, sizes) = (b.dtype(input)?, b.sizes(input));
    let wanted = dtype.is_float() && b.dtype(target)? == DType::I64;
    let &[rows, _] = sizes.as_slice() else {
        return c.refuse("not a batch of scores");
    };
    if !wanted || b.graph.values[input].numel() == 0 {
        return c.refuse("no targets of i64, or no scores");
    }
    let wide = match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };

    // What is ignored may be no class.
    let ignored = b.full(DType::I64, &[rows], c.int(4)? as f64);
    let counts = b.compare(CmpOp::Ne, target, ignored);
    let first = b.full(DType::I64, &[rows], 0.0);
    let class = b.select(counts, target, first);
    let index = b.reshape(class, &[rows, 1]);
    let meta = b.meta(dtype, &[rows, 1]);
    let rule = IndexRule::Class;
    let score = b.push(Op::Gather { dim: 1, rule }, &[input, index], meta);
    let score = b.reshape(score, &[rows]);
    let score = b.convert(score, wide)?;
    let mut value = b.unary(U::Neg, score)?;
    let mut weight = b.full(wide, &[rows], 1.0);
    if let Some(of_class) = c.optional_tensor(2)? {
        let meta = b.meta(b.dtype(of_class)?, &[rows]);
        let dims = vec![0];
        let picked = b.push(Op::IndexSelect { dims, rule }, &[of_class, class], meta);
        weight = b.convert(picked, wide)?;
        value = b.binary(B::Mul, value, weight)?;
    }
    let zero = b.full(wide, &[rows], 0.0);
    value = b.select(counts, value, zero);
    if c.int(3)? == EACH {
        return Ok(vec![value, b.full(wide, &[], 0.0)]);
    }
    weight = b.select(counts, weight, zero);
    let weights = b.reduce(ReduceOp::Sum, weight, &[0])?;
    let mut total = b.reduce(ReduceOp::Sum, value, &[0])?;
    if c.int(3)? == MEAN {
        total = b.binary(B::Div, total, weights)?;
    }
    Ok(vec![total, weights])
}

/// `aten.nll_loss_backward(grad, input, target, weight, reduction, ignore_index, total_weight)` and
/// `aten.nll_loss2d_backward`: `-grad * weight[c] / total` where class `c` is the target, else 0.
/// It is no scatter, so that the backward of the softmax in front of it reads it in the same kernel.
pub fn nll_backward(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (grad, input, target) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let (dtype, sizes) = (b.dtype(input)?, b.sizes(input));
    if !dtype.is_float() || b.dtype(target)? != DType::I64 || sizes.len() < 2 {
        return c.refuse("not a batch of scores with targets of i64");
    }
    let wide = if dtype == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let mut kept = sizes.clone();
    kept[1] = 1;
    let over_classes = |b: &mut Builder, v: ValueId, shape: &[i64]| {
        let v = b.reshape(v, shape);
        b.expand(v, &sizes)
    };

    let mut value = b.convert(grad, wide)?;
    if c.int(4)? == MEAN {
        let total = b.convert(c.tensor(6)?, wide)?;
        value = b.binary(B::Div, value, total)?;
    }
    value = b.unary(U::Neg, value)?;
    value = match b.sizes(value).len() {
        0 => b.expand(value, &sizes),
        _ => over_classes(b, value, &kept),
    };
    if !matches!(c.arg(3), OpArg::None) {
        let mut shape = vec![1; sizes.len()];
        shape[1] = sizes[1];
        let weight = b.convert(c.tensor(3)?, wide)?;
        let weight = over_classes(b, weight, &shape);
        value = b.binary(B::Mul, value, weight)?;
    }

    let meta = b.meta(DType::I64, &sizes);
    let class = Op::Iota {
        dim: 1,
        start: 0,
        step: 1,
    };
    let class = b.push(class, &[], meta);
    let ignored = b.full(DType::I64, &b.sizes(target), c.int(5)? as f64);
    let counts = b.compare(CmpOp::Ne, target, ignored);
    let counts = over_classes(b, counts, &kept);
    // 32 bits are enough for a class, and twice as many fit in a vector.
    let class = b.convert(class, DType::I32)?;
    let target = b.convert(target, DType::I32)?;
    let target = over_classes(b, target, &kept);
    let is_target = b.compare(CmpOp::Eq, class, target);
    let is_target = b.binary(B::And, is_target, counts)?;
    let zero = b.full(wide, &sizes, 0.0);
    Ok(vec![b.select(is_target, value, zero)])
}
