//! Common subexpression elimination.

use crate::graph::{Graph, NodeId, Op, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};
use std::collections::HashMap;

/// Keeps the first of nodes that compute the same op on the same operands with the same metadata.
/// External calls never merge: they may draw random numbers.
pub fn cse(graph: &Graph) -> Graph {
    let mut subst: SecondaryMap<ValueId, Option<ValueId>> = SecondaryMap::new();
    let mut dropped: EntitySet<NodeId> = EntitySet::new();
    let mut seen: HashMap<String, ValueId> = HashMap::new();
    for (id, node) in graph.nodes.iter() {
        let &[result] = node.results.as_slice() else {
            continue;
        };
        if matches!(node.op, Op::External { .. }) {
            continue;
        }
        let operands: Vec<ValueId> = node
            .operands
            .iter()
            .map(|&v| subst[v].unwrap_or(v))
            .collect();
        // `Op` has no `Hash` (external calls hold floats); its text is exact for all other ops.
        let key = format!("{:?} {operands:?} {:?}", node.op, graph.values[result]);
        if let Some(&first) = seen.get(&key) {
            subst[result] = Some(first);
            dropped.insert(id);
        } else {
            seen.insert(key, result);
        }
    }
    super::rebuild(graph, |id| !dropped.contains(id), &subst)
}
