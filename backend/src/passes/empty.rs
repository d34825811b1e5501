//! Values without elements.

use crate::graph::{Graph, Op};
use ipex_jit::kernel::{ReduceOp, identity};

/// Makes constants of values that have no elements, and of reductions over none, so that every
/// loop of a kernel runs: what is loaded in front of an inner loop exists.
pub fn empty(graph: &mut Graph) {
    let Graph { nodes, values, .. } = graph;
    for node in nodes.values_mut() {
        let constant = match node.op {
            Op::Input(_) | Op::Assign | Op::External { .. } | Op::Full(_) => continue,
            _ if values[node.results[0]].numel() == 0 => ReduceOp::Sum,
            Op::Reduce { op, .. } if values[node.operands[0]].numel() == 0 => op,
            _ => continue,
        };
        if let Some(ty) = values[node.results[0]].ty() {
            node.op = Op::Full(identity(constant, ty));
            node.operands.clear();
        }
    }
}
