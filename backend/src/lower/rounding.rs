//! Where results of bf16 and f16 are rounded.
//!
//! A kernel computes in f32. What has memory, because the kernel stores it or the graph returns it, is rounded, and what is
//! computed from it inside of the kernel takes the rounded number: so it does not matter whether a consumer is part of
//! the kernel or reads memory, and a backward sees what the forward has seen. What stays inside is not rounded, with
//! two exceptions: casts, which the model, a decomposition or an operator whose sums are f32 asks for, and operands of operators that decide
//! (comparisons, roundings to whole numbers, positions of extrema), where a number that differs from eager's in what
//! rounding drops would give another answer altogether: `x + y == z`, `scores == scores.max()`.

use crate::graph::{Graph, GraphOutput, Narrow, Op, ValueId};
use cranelift_entity::EntitySet;
use ipex_jit::kernel::{BinaryOp, UnaryOp};
use ipex_runtime::DType;

/// Whether numbers of this type are computed in f32.
pub fn is_narrow_float(dtype: Option<DType>) -> bool {
    matches!(dtype, Some(DType::BF16 | DType::F16))
}

/// The values that have memory: these roots, what the graph returns, and what they are views or copies of.
pub fn stored(graph: &Graph, roots: impl Iterator<Item = ValueId>) -> EntitySet<ValueId> {
    let mut found = EntitySet::new();
    let returned = graph.outputs.iter().filter_map(|o| match o {
        GraphOutput::Value(v) => Some(*v),
        _ => None,
    });
    for mut v in roots.chain(returned) {
        while found.insert(v) {
            let node = graph.producer(v);
            if !matches!(
                node.op,
                Op::View(_) | Op::Assign | Op::Convert { narrow: Narrow::No }
            ) {
                break;
            }
            v = node.operands[0];
        }
    }
    found
}

/// Whether an operator that computes `result` jumps where its operand passes a number.
pub fn decides(graph: &Graph, op: &Op, result: ValueId) -> bool {
    use BinaryOp as B;
    use UnaryOp as U;
    match op {
        Op::Compare(_) => true,
        Op::Unary(op) => matches!(op, U::Floor | U::Ceil | U::Trunc | U::Round | U::IsNan),
        Op::Binary(op) => matches!(op, B::FloorDiv | B::Rem | B::Fmod),
        Op::Convert { .. } => !graph.values[result].dtype().is_some_and(DType::is_float),
        _ => false,
    }
}
