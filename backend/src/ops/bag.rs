//! Bags of embeddings.

use super::NodeCall;
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::strided::contiguous;
use crate::graph::{Op, ValueId};
use ipex_runtime::DType;
use ipex_runtime::bag::Reduction;
use ipex_runtime::plan::{BagRule, Route};

/// `aten._embedding_bag(weight, indices, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights,
/// include_last_offset, padding_idx)` whose first result alone is read: the others are for gradients.
pub fn bag(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (table, indices, offsets) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let (weights, out) = (c.optional_tensor(6)?, c.output(0)?.clone());
    let reduction = match c.int(4)? {
        0 => Reduction::Sum,
        1 => Reduction::Mean,
        2 => Reduction::Max,
        _ => return c.refuse("an unknown mode"),
    };
    let integers = matches!(b.dtype(indices)?, DType::I32 | DType::I64);
    let typed = integers && b.dtype(offsets)? == b.dtype(indices)? && b.dtype(table)?.is_float();
    let ranks = [table, indices, offsets].map(|v| b.sizes(v).len());
    let weighted = match weights {
        Some(w) => reduction == Reduction::Sum && b.dtype(w)? == b.dtype(table)?,
        None => true,
    };
    let fits = typed && weighted && ranks == [2, 1, 1] && out.strides == contiguous(&out.sizes);
    if !fits || c.used.iter().skip(1).any(|&used| used) {
        return c.refuse("results for gradients, or other types or layouts");
    }
    let rule = BagRule {
        reduction,
        ends: c.flag(7),
        padding: c.int(8)?,
    };
    let operands = [Some(table), Some(indices), Some(offsets), weights];
    let operands: Vec<ValueId> = operands.into_iter().flatten().collect();
    let op = Op::External {
        name: c.target.into(),
        route: Route::Bag(rule, c.callable.clone()),
        args: b.graph.tensor_arguments(&operands),
    };
    Ok(vec![b.push(op, &operands, out)])
}
