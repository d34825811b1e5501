//! Gradients of losses.

use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::{BinaryOp as B, CmpOp, UnaryOp as U};
use ipex_runtime::DType;

/// The reduction's code for the mean.
const MEAN: i64 = 1;

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
    let target = over_classes(b, target, &kept);
    let is_target = b.compare(CmpOp::Eq, class, target);
    let ignored = b.full(DType::I64, &sizes, c.int(5)? as f64);
    let counts = b.compare(CmpOp::Ne, target, ignored);
    let is_target = b.binary(B::And, is_target, counts)?;
    let zero = b.full(wide, &sizes, 0.0);
    Ok(vec![b.select(is_target, value, zero)])
}
