//! Groups that follow from frozen arguments alone: the first call runs them for all later ones.

use crate::fusion::cluster::Group;
use crate::graph::{Graph, GraphOutput, Op, ValueId};
use cranelift_entity::EntitySet;

/// Which groups do, by group. A result that the caller gets is none: the caller may change it.
pub fn constant(graph: &Graph, groups: &[Group], frozen: &[u32]) -> Vec<bool> {
    let mut kept = EntitySet::new();
    let mut returned = EntitySet::new();
    for output in &graph.outputs {
        if let GraphOutput::Value(v) = output {
            returned.insert(graph.owner(*v));
        }
    }
    let mut found = Vec::with_capacity(groups.len());
    for group in groups {
        let fixed = |&v: &ValueId| {
            let v = graph.owner(v);
            let is_frozen = matches!(graph.producer(v).op, Op::Input(n) if frozen.contains(&n));
            is_frozen || kept.contains(v) || group.roots.contains(&v)
        };
        let mut tensors = group.kernels.iter().flat_map(|k| &k.tensors);
        let is_constant = is_kernels(graph, group)
            && tensors.all(fixed)
            && !group.roots.iter().any(|&r| returned.contains(r));
        if is_constant {
            group.roots.iter().for_each(|&r| {
                kept.insert(r);
            });
        }
        found.push(is_constant);
    }
    found
}

/// Whether kernels alone compute a group, with no check of an index and into no argument.
fn is_kernels(graph: &Graph, group: &Group) -> bool {
    let ops = group.nodes.iter().map(|&n| &graph.nodes[n].op);
    let other = |op: &Op| op.gathers() || op.mutates() || matches!(op, Op::External { .. });
    !group.kernels.is_empty() && !ops.into_iter().any(other)
}
