//! Kernels of a group: one, or for a padding, and a concatenation whose parts have nothing in common, one for each part of
//! the result.

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
            let mut roots = Vec::with_capacity(node.operands.len());
            for &value in &node.operands {
                roots.push(Root {
                    value,
                    into: whole,
                    start: start.clone(),
                });
                start[*dim] += graph.values[value].sizes[*dim];
            }
            let parts = roots
                .iter()
                .map(|r| lower(graph, group, std::slice::from_ref(r)));
            let parts: Vec<Lowered> = parts.collect::<Result<_, _>>()?;
            let together = share_a_tensor(&parts, whole) && same_sizes(graph, &roots);
            if !together {
                return Ok(parts);
            }
            Ok(lower(graph, group, &roots).map_or(parts, |one| vec![one]))
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

/// Whether each part reads something that the first one reads too.
fn share_a_tensor(parts: &[Lowered], whole: ValueId) -> bool {
    let [first, others @ ..] = parts else {
        return false;
    };
    let read = |v: &&ValueId| **v != whole;
    let shared = |v: &ValueId| first.tensors.iter().filter(read).any(|w| w == v);
    let shares = |p: &Lowered| p.tensors.iter().any(shared);
    !others.is_empty() && others.iter().all(shares)
}

fn same_sizes(graph: &Graph, roots: &[Root]) -> bool {
    let mut sizes = roots.iter().map(|r| &graph.values[r.value].sizes);
    let first = sizes.next();
    sizes.all(|s| Some(s) == first)
}
