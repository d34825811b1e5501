//! Kernels of a group: one, or for a concatenation or a padding one for each part of the result.

use super::kernel::{Lowered, Root, lower};
use crate::fusion::refusal::Refusal;
use crate::graph::{Graph, NodeId, Op, ValueId};
use cranelift_entity::EntitySet;

/// Lowers a group with these results.
pub fn lower_group(
    graph: &Graph,
    group: &EntitySet<NodeId>,
    roots: &[ValueId],
) -> Result<Vec<Lowered>, Refusal> {
    let is_assembly =
        |v: &ValueId| matches!(graph.producer(*v).op, Op::Cat { .. } | Op::Pad { .. });
    let Some(&whole) = roots.iter().find(|v| is_assembly(v)) else {
        let roots: Vec<Root> = roots.iter().map(|&v| Root::whole(graph, v)).collect();
        return Ok(vec![lower(graph, group, &roots)?]);
    };
    if roots.len() > 1 {
        return Err(Refusal::Assembly);
    }
    let node = graph.producer(whole);
    match &node.op {
        Op::Cat { dim } => {
            let mut start = vec![0; graph.values[whole].sizes.len()];
            let mut parts = Vec::with_capacity(node.operands.len());
            for &value in &node.operands {
                let root = Root {
                    value,
                    into: whole,
                    start: start.clone(),
                };
                parts.push(lower(graph, group, &[root])?);
                start[*dim] += graph.values[value].sizes[*dim];
            }
            Ok(parts)
        }
        Op::Pad { before, value, .. } => {
            let fill = super::kernel::fill(graph, whole, *value)?;
            let root = Root {
                value: node.operands[0],
                into: whole,
                start: before.clone(),
            };
            Ok(vec![fill, lower(graph, group, &[root])?])
        }
        _ => unreachable!("an assembly"),
    }
}
